/** The keeper's entry. */
import { keepCompiled } from "../contract/node/compiled.ts";

// looks at folders share these threads with all else that is read and written: those that stand still hold up nothing (core/share/looks.ts)
process.env.UV_THREADPOOL_SIZE = "16";
keepCompiled(import.meta);
await import("./process.ts");
