/**
 * A Python process that takes one step after another: in the guest through `cloche exec`, or on the host. Two of them, or one on each
 * side, show what one process sees while another one's file, lock or mapping is still open.
 */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Cloche } from "./cloche.ts";

/** What is imported stands to each step; `result` is its answer, bytes as latin-1. */
const program = `
import ctypes, errno, fcntl, hashlib, json, mmap, os, select, shutil, signal, socket, sqlite3, stat, struct, subprocess, sys, tempfile, threading, time, traceback
step_names = globals()
def plain(x):
    if isinstance(x, (bytes, bytearray)): return bytes(x).decode("latin-1")
    if isinstance(x, (list, tuple)): return [plain(v) for v in x]
    if isinstance(x, dict): return {k: plain(v) for k, v in x.items()}
    return x
def refused(f):
    try: f()
    except OSError as e: return errno.errorcode[e.errno]
    return "no error"
def read(path):
    with open(path, "rb") as f: return f.read()
def write(path, data, mode="wb"):
    with open(path, mode) as f: f.write(data)
for line in sys.stdin:
    try:
        step_names["result"] = None
        exec(compile(json.loads(line), "<step>", "exec"), step_names)
        out = {"result": plain(step_names["result"])}
    except OSError as e: out = {"errno": errno.errorcode.get(e.errno, str(e)), "text": traceback.format_exc()}
    except BaseException: out = {"text": traceback.format_exc()}
    print(json.dumps(out), flush=True)
`;

interface Answer {
  readonly result?: unknown;
  readonly errno?: string;
  readonly text?: string;
}

export class Steps {
  readonly #process: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;
  #stderr = "";
  #busy: Promise<unknown> = Promise.resolve();

  private constructor(process: ChildProcessWithoutNullStreams) {
    this.#process = process;
    this.#lines = createInterface({ input: process.stdout })[Symbol.asyncIterator]();
    process.stderr.on("data", (chunk: Buffer) => {
      this.#stderr += chunk.toString("utf8");
    });
  }

  /** In the guest, as its user or as its root. */
  static inGuest(cloche: Cloche, task: string, as: "you" | "root" = "you"): Steps {
    const sudo = as === "root" ? ["sudo", "-n"] : [];
    // nothing of it stands in a shared folder, so that each can be unmounted
    const command = ["bash", "-c", 'cd /; exec "$@"', "bash", ...sudo, "python3", "-u", "-c", program];
    return new Steps(cloche.start(["exec", task, "--", ...command]).process);
  }

  static onHost(cwd: string): Steps {
    return new Steps(spawn("python3", ["-u", "-c", program], { cwd, stdio: "pipe" }));
  }

  /** Runs one step and gives its `result`. */
  async do<T = unknown>(code: string): Promise<T> {
    const answer = await this.#ask(code);
    if (answer.text !== undefined) throw new Error(`a step failed:\n${code}\n${answer.text}`);
    return answer.result as T;
  }

  /** Runs one step that must fail, and gives its errno's name. */
  async fails(code: string): Promise<string> {
    const answer = await this.#ask(code);
    return answer.errno ?? (answer.text === undefined ? "no error" : answer.text);
  }

  #ask(code: string): Promise<Answer> {
    const mine = this.#busy.then(async () => {
      this.#process.stdin.write(`${JSON.stringify(code)}\n`);
      const line = await this.#lines.next();
      if (line.done) throw new Error(`the process that takes steps has ended: ${this.#stderr}\n${code}`);
      return JSON.parse(line.value) as Answer;
    });
    this.#busy = mine.catch(() => {});
    return mine;
  }

  end(): void {
    this.#process.stdin.end();
    this.#process.kill("SIGTERM");
  }
}
