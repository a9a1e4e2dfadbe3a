/** Values of keys that are kept elsewhere, read at each use and never written down here. */
import { spawn } from "node:child_process";
import { accessSync, constants, statSync } from "node:fs";
import { open } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import type { SecretSource } from "../../contract/index.ts";

const MAX_VALUE_BYTES = 16_384;
const COMMAND_MS = 10_000;
/** Where a program named without its folder is looked for; the keeper's own PATH is whatever its first client's was. */
const PROGRAM_FOLDERS = process.platform === "win32" ? [] : ["/usr/local/bin", "/usr/bin", "/bin", "/opt/homebrew/bin"];

/** The value, without the line's end that files and programs put after it. Rejects with why it cannot be had. */
export async function readReference(source: SecretSource): Promise<string> {
  switch (source.kind) {
    case "env": {
      const value = process.env[source.name];
      if (value === undefined)
        throw new Error(`the variable ${source.name} is not set in the keeper, which has the variables of the command that started it`);
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

/** The source with its program's absolute path, so that no folder before it can take its place later. Throws where there is no such program. */
export function settled(source: SecretSource): SecretSource {
  if (source.kind === "file" && !isAbsolute(source.path)) throw new Error("its path is not absolute");
  if (source.kind !== "command") return source;
  const [program = "", ...args] = source.argv;
  if (isAbsolute(program)) return source;
  if (/[/\\]/.test(program)) throw new Error(`${JSON.stringify(program)} is not an absolute path`);
  const file = PROGRAM_FOLDERS.map((folder) => join(folder, program)).find(isProgram);
  if (file === undefined)
    throw new Error(`there is no ${JSON.stringify(program)} in ${PROGRAM_FOLDERS.join(", ")}; give its absolute path`);
  return { kind: "command", argv: [file, ...args] };
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

async function readFile(path: string): Promise<string> {
  // a FIFO in its place must not hold the keeper up
  await using handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  const stat = await handle.stat();
  if (!stat.isFile()) throw new Error("it is no regular file");
  if (process.getuid && stat.uid !== process.getuid()) throw new Error("it belongs to another user");
  const bytes = Buffer.alloc(MAX_VALUE_BYTES + 1);
  let length = 0;
  for (let read = -1; read !== 0 && length < bytes.length; length += read) {
    read = (await handle.read(bytes, length, bytes.length - length)).bytesRead;
  }
  if (length > MAX_VALUE_BYTES) throw new Error(`it is longer than ${MAX_VALUE_BYTES} bytes`);
  return text(bytes.subarray(0, length));
}

/** No shell, no input, the keeper's environment. What it says for a failure is not told, as it may hold the key. */
function run(argv: readonly string[]): Promise<string> {
  const [file = "", ...args] = argv;
  const named = JSON.stringify(file);
  return new Promise((resolve, reject) => {
    // a process group of its own, so that what it starts ends with it
    const child = spawn(file, args, {
      stdio: ["ignore", "pipe", "ignore"],
      cwd: "/",
      windowsHide: true,
      detached: process.platform !== "win32",
    });
    const parts: Buffer[] = [];
    let length = 0;
    const fail = (why: string) => {
      clearTimeout(timer);
      endGroup(child.pid);
      child.stdout.destroy();
      reject(new Error(`${named} ${why}`));
    };
    const timer = setTimeout(() => fail(`did not end within ${COMMAND_MS / 1000} s`), COMMAND_MS);
    child.once("error", (error) => fail(`cannot be run: ${error.message}`));
    child.stdout.on("data", (part: Buffer) => {
      length += part.length;
      if (length > MAX_VALUE_BYTES) fail(`writes more than ${MAX_VALUE_BYTES} bytes`);
      else parts.push(part);
    });
    // its output is whole when it is closed, by the program and by what it started
    child.once("close", (status, signal) => {
      if (status !== 0) return fail(`ended with ${signal ?? `status ${status}`}`);
      clearTimeout(timer);
      try {
        resolve(text(Buffer.concat(parts)));
      } catch (error) {
        reject(error as Error);
      }
    });
  });
}

function endGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(process.platform === "win32" ? pid : -pid, "SIGKILL");
  } catch {
    // it has ended with all that it started, or took another user's rights; nobody waits for it
  }
}

function text(bytes: Buffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Error("it is not text");
  }
}

const trimmed = (value: string) => value.replace(/\r?\n$/, "");
