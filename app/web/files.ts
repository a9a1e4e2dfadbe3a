/** The built page, read whole at start: what is served afterwards is a lookup in a map, never a path made from a request. */
import { readdirSync, readFileSync } from "node:fs";
import { extname, join } from "node:path";
import { ProblemError } from "../contract/index.ts";

export interface StaticFile {
  readonly type: string;
  readonly body: Buffer;
}

/** Files of any other kind are not part of the page and are not served. */
const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".woff2": "font/woff2",
};
/** Ten times the size of today's page. */
const MAX_PAGE_BYTES = 16 * 1_048_576;

/** URL path → file. `index.html` is also `/`. */
export function readPage(uiDir: string): ReadonlyMap<string, StaticFile> {
  const files = new Map<string, StaticFile>();
  let total = 0;
  const read = (directory: string, url: string) => {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      const path = join(directory, entry.name);
      if (entry.isDirectory()) read(path, `${url}${entry.name}/`);
      const type = TYPES[extname(entry.name)];
      if (!entry.isFile() || type === undefined || !/^[\w.-]+$/.test(entry.name)) continue;
      const body = readFileSync(path);
      total += body.length;
      if (total > MAX_PAGE_BYTES) throw new Error(`it holds more than ${MAX_PAGE_BYTES} bytes`);
      files.set(`${url}${entry.name}`, { type, body });
    }
  };
  let evidence = "there is no index.html in it";
  try {
    read(uiDir, "/");
  } catch (error) {
    evidence = (error as Error).message;
    files.clear();
  }
  const index = files.get("/index.html");
  if (index) return files.set("/", index);
  throw new ProblemError({
    code: "components.missing",
    message: "The built page is not where it should be, so the web host was not started.",
    evidence: `${uiDir}: ${evidence}`,
    next: ["Run `npm start` in the repository: it builds what is missing."],
  });
}
