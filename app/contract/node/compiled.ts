/** What V8 compiles of a program. */
import { enableCompileCache } from "node:module";
import { join } from "node:path";

/**
 * Keeps it beside a bundle, where only a new build can be: an eighth of a keeper's start. A program that runs from its sources keeps
 * nothing. Only what is imported after this counts.
 */
export function keepCompiled({ filename, dirname }: Pick<ImportMeta, "filename" | "dirname">): void {
  if (filename.endsWith(".mjs")) enableCompileCache(join(dirname, "compiled"));
}
