/** The entry of a task's proxy process. */
import { keepCompiled } from "../../../contract/node/compiled.ts";

keepCompiled(import.meta);
await import("./process.ts");
