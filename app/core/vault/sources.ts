/** Values of keys that are kept elsewhere, read at each use and never written down here. */
import { execFile } from "node:child_process";
import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { isAbsolute } from "node:path";
import type { SecretSource } from "../../contract/index.ts";

const MAX_VALUE_BYTES = 16_384;
const COMMAND_MS = 10_000;

/** The value, without the line's end that files and programs put after it. Rejects with why it cannot be had. */
export async function readReference(source: SecretSource): Promise<string> {
  switch (source.kind) {
    case "env": {
      const value = process.env[source.name];
      if (value === undefined) throw new Error(`the variable ${source.name} was not set where the keeper was started`);
      return value;
    }
    case "file":
      return trimmed(await readFile(source.path));
    case "command":
      return trimmed(await run(source.argv));
    default:
      throw new Error("it is not kept elsewhere");
  }
}

async function readFile(path: string): Promise<string> {
  if (!isAbsolute(path)) throw new Error("its path is not absolute");
  // a FIFO in its place must not hold the keeper up
  await using handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  if (!(await handle.stat()).isFile()) throw new Error("it is no regular file");
  const bytes = Buffer.alloc(MAX_VALUE_BYTES + 1);
  const { bytesRead } = await handle.read(bytes, 0, bytes.length, 0);
  if (bytesRead > MAX_VALUE_BYTES) throw new Error(`it is longer than ${MAX_VALUE_BYTES} bytes`);
  return bytes.toString("utf8", 0, bytesRead);
}

/** No shell, no input; only the program's own words for a failure, never its output. */
function run(argv: readonly string[]): Promise<string> {
  const [file = "", ...args] = argv;
  return new Promise((resolve, reject) => {
    if (!isAbsolute(file)) return reject(new Error(`${JSON.stringify(file)} is not an absolute path of a program`));
    const child = execFile(
      file,
      args,
      { timeout: COMMAND_MS, maxBuffer: MAX_VALUE_BYTES, encoding: "utf8", windowsHide: true },
      (error, stdout) => {
        if (!error) return resolve(stdout);
        const { code, signal } = error as { code?: string | number; signal?: string };
        reject(new Error(`${JSON.stringify(file)} ended with ${signal ?? code ?? "an error"}`));
      },
    );
    child.stdin?.end();
  });
}

const trimmed = (text: string) => text.replace(/\r?\n$/, "");
