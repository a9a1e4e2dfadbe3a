/** The keeper's entry. What V8 compiles of the program is kept beside it, where only a new build can be: that is an eighth of a keeper's start. */
import { enableCompileCache } from "node:module";
import { join } from "node:path";

enableCompileCache(join(import.meta.dirname, "compiled"));
await import("./process.ts");
