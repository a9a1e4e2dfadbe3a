/**
 * The keeper's entry. What V8 compiles of the bundle is kept beside it, where only a new build can be: that is an eighth of a keeper's
 * start. Run from the sources it keeps nothing.
 */
import { enableCompileCache } from "node:module";
import { join } from "node:path";

if (import.meta.filename.endsWith(".mjs")) enableCompileCache(join(import.meta.dirname, "compiled"));
await import("./process.ts");
