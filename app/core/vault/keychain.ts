/**
 * The system's keychain, through one library on all systems: Keychain on macOS, Credential Manager on Windows, the Secret Service on
 * Linux.
 *
 * The library runs in a process of its own, started at the first use and ended when it is not used. Its calls hold up whatever thread
 * they are made on (a session bus that accepts and never answers holds one for ever), and native code that fails ends its process: the
 * keeper must have neither, as its end is the end of every machine. What does not answer in time is ended with its process.
 */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { statSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import type { Paths } from "../paths.ts";
import { KEYCHAIN_PROGRAM, SERVICE } from "./keychain-program.ts";

/** A port: what Cloche needs of a keychain. Every call may reject with an Error whose message is what the system says. */
export interface Keychain {
  /** undefined: it has no such entry */
  get(name: string): Promise<string | undefined>;
  set(name: string, value: string): Promise<void>;
  /** What is not there is deleted already. */
  delete(name: string): Promise<void>;
}

/** Within this a keychain says that it is there. One that has to ask its user to be unlocked says so by asking. */
const PRESENT_MS = 1_000;
/** Within this its user has unlocked it. */
const ANSWER_MS = 30_000;
/** Loading Node and the library on a busy machine. */
const START_MS = 15_000;
const IDLE_MS = 5_000;

type Request = { readonly op: "get" | "set" | "delete"; readonly name: string; readonly value?: string };
type Waiting = { resolve: (value: string | undefined) => void; reject: (error: Error) => void; timer: NodeJS.Timeout };

class SystemKeychain implements Keychain {
  /** entries of one home are apart from those of another */
  readonly #home: string;
  readonly #waiting = new Map<number, Waiting>();
  #child: ChildProcessByStdio<Writable, Readable, null> | undefined;
  #started: Promise<void> | undefined;
  #idle: NodeJS.Timeout | undefined;
  #lastId = 0;
  /** it has answered in this process's life */
  #present = false;

  constructor(home: string) {
    this.#home = createHash("sha256").update(home).digest("hex").slice(0, 12);
  }

  get(name: string): Promise<string | undefined> {
    return this.#ask({ op: "get", name });
  }
  async set(name: string, value: string): Promise<void> {
    await this.#ask({ op: "set", name, value });
  }
  async delete(name: string): Promise<void> {
    await this.#ask({ op: "delete", name });
  }

  async #ask(request: Request): Promise<string | undefined> {
    // a look for an entry that is not there needs no unlocking, so it must be answered at once
    if (!this.#present) await this.#send({ op: "get", name: `present-${randomBytes(8).toString("hex")}` }, PRESENT_MS);
    this.#present = true;
    return this.#send(request, ANSWER_MS);
  }

  async #send(request: Request, ms: number): Promise<string | undefined> {
    clearTimeout(this.#idle);
    this.#started ??= this.#start();
    await this.#started;
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#end(`it did not answer within ${ms / 1000} s`), ms);
      this.#waiting.set(id, { resolve, reject, timer });
      this.#child?.stdin.write(`${JSON.stringify({ id, ...request, name: `${this.#home}/${request.name}` })}\n`);
    });
  }

  async #start(): Promise<void> {
    const bus = sessionBus();
    const library = createRequire(import.meta.url).resolve("@napi-rs/keyring");
    const child = spawn(process.execPath, ["-e", KEYCHAIN_PROGRAM, library, SERVICE], {
      stdio: ["pipe", "pipe", "ignore"],
      env: { ...process.env, ...bus },
      cwd: "/",
      windowsHide: true,
    });
    this.#child = child;
    const ended = () => {
      if (this.#child === child) this.#end("its process ended");
    };
    child.once("error", ended);
    child.once("exit", ended);
    child.stdin.on("error", () => {}); // its exit follows
    // nothing of it keeps the keeper from ending; while an answer is waited for, the deadline's timer does
    child.unref();
    (child.stdin as Writable & { unref?: () => void }).unref?.();
    (child.stdout as Readable & { unref?: () => void }).unref?.();
    const lines = createInterface({ input: child.stdout });
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => this.#end("its process did not start"), START_MS);
      this.#waiting.set(0, { resolve: () => resolve(), reject, timer });
      lines.on("line", (line) => {
        const { id, value, error } = JSON.parse(line) as { id: number; value?: string | null; error?: string };
        const waiting = this.#waiting.get(id);
        if (!waiting) return;
        this.#waiting.delete(id);
        clearTimeout(waiting.timer);
        if (error === undefined) waiting.resolve(value ?? undefined);
        else waiting.reject(new Error(error.slice(0, 512)));
        if (this.#waiting.size === 0) this.#idle = setTimeout(() => this.#end("it was not used"), IDLE_MS).unref();
      });
    });
  }

  /** Ends the process; what waits for it is rejected. */
  #end(why: string): void {
    clearTimeout(this.#idle);
    const child = this.#child;
    this.#child = undefined;
    this.#started = undefined;
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(new Error(why));
    }
    this.#waiting.clear();
    child?.kill("SIGKILL");
  }
}

/** The system's keychain for one home. Nothing is started or loaded before its first use. */
export function systemKeychain(paths: Paths): Keychain {
  return new SystemKeychain(paths.home);
}

/** Where the Secret Service is to be found. Without a session's bus there is none, and none is started. */
function sessionBus(): { DBUS_SESSION_BUS_ADDRESS?: string } {
  if (process.platform !== "linux" || process.env.DBUS_SESSION_BUS_ADDRESS) return {};
  // a login's bus stands there also for those who came by ssh
  const socket = process.env.XDG_RUNTIME_DIR ? join(process.env.XDG_RUNTIME_DIR, "bus") : undefined;
  if (socket && statSync(socket, { throwIfNoEntry: false })?.isSocket()) return { DBUS_SESSION_BUS_ADDRESS: `unix:path=${socket}` };
  throw new Error("the keeper was started outside of a desktop session, where there is no Secret Service");
}

/** Whether the keychain keeps what it is given: a random entry is written, read and removed. */
export async function probe(keychain: Keychain): Promise<{ usable: boolean; text: string }> {
  const name = `probe-${randomBytes(8).toString("hex")}`;
  const value = randomBytes(16).toString("hex");
  try {
    await keychain.set(name, value);
    const read = await keychain.get(name);
    await keychain.delete(name);
    if (read !== value) throw new Error("it gave another value than it was given");
    return { usable: true, text: "The system's keychain keeps keys." };
  } catch (error) {
    const why = (error as Error).message.slice(0, 256);
    return {
      usable: false,
      text: `The system's keychain cannot be used (${why}), so keys are read where they are, or kept for as long as the keeper runs.`,
    };
  }
}
