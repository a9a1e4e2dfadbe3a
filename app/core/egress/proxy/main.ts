/** The entry of a task's proxy process. */
import { keepCompiled } from "../../../contract/node/compiled.ts";

// name look-ups share these threads with the signing of leaves: slow name servers of one host hold up no other
process.env.UV_THREADPOOL_SIZE = "32";
keepCompiled(import.meta);
await import("./process.ts");
