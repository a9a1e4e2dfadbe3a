/** The keeper's entry. */
import { keepCompiled } from "../contract/node/compiled.ts";

keepCompiled(import.meta);
await import("./process.ts");
