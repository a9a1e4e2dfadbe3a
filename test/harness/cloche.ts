/** A Cloche for one suite: the built command line with a home of its own, run as a user runs it. */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { EventEnvelope, Problem, TaskView } from "../../app/contract/index.ts";
import { componentsPath, endpoint, readComponents } from "../../app/contract/node/index.ts";
import { type HostState, hostState } from "./host-state.ts";

const repository = resolve(import.meta.dirname, "../..");
const bundle = join(repository, ".build/app/cli.mjs");

export interface Finished {
  readonly status: number;
  readonly signal: string | null;
  readonly stdout: string;
  readonly bytes: Buffer;
  readonly stderr: string;
  readonly ms: number;
}

export interface Going {
  readonly process: ChildProcessWithoutNullStreams;
  readonly finished: Promise<Finished>;
  /** resolves when standard output or standard error has shown the text */
  saw(text: string): Promise<void>;
}

export interface RunOptions {
  readonly input?: string | Buffer;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

export class Cloche {
  /** everything of this suite's, removed at the end */
  readonly directory = mkdtempSync(join(tmpdir(), "cloche-test-"));
  readonly home = join(this.directory, "home");
  readonly components = readComponents(componentsPath(bundle));
  readonly #env: Record<string, string>;

  readonly #inside: (file: string, args: readonly string[]) => { file: string; args: readonly string[] };

  /** `inside`: the command line that runs a program where all of this Cloche runs, such as an `Internet`'s */
  constructor(options: { components?: string; inside?: (file: string, args: readonly string[]) => { file: string; args: string[] } } = {}) {
    this.#inside = options.inside ?? ((file, args) => ({ file, args }));
    this.#env = {
      PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
      HOME: this.directory,
      LANG: "C.UTF-8",
      TERM: "xterm",
      CLOCHE_HOME: this.home,
      CLOCHE_COMPONENTS: options.components ?? componentsPath(bundle),
    };
  }

  get runtime(): string {
    return endpoint(this.#env).runtime;
  }
  get env(): Readonly<Record<string, string>> {
    return this.#env;
  }

  /** A folder beside the home, to be shared. */
  folder(name: string): string {
    const path = join(this.directory, name);
    mkdirSync(path, { recursive: true });
    return path;
  }

  /** `cloche ARGS…`, still going. Arguments may be bytes only through a shell; see `shell`. */
  start(args: readonly string[], options: RunOptions = {}): Going {
    return this.#spawn(this.components.node, [bundle, ...args], options);
  }

  /** A bash script in which `cloche` is this Cloche. */
  shell(script: string, options: RunOptions = {}): Promise<Finished> {
    const prelude = `cloche() { '${this.components.node}' '${bundle}' "$@"; }\n`;
    const going = this.#spawn("/bin/bash", ["-c", prelude + script], options);
    going.process.stdin.end(options.input ?? "");
    return going.finished;
  }

  /** Runs to the end; standard input is `input` and then ends. */
  run(args: readonly string[], options: RunOptions = {}): Promise<Finished> {
    const going = this.start(args, options);
    going.process.stdin.end(options.input ?? "");
    return going.finished;
  }

  /** Runs and expects status 0. */
  async ok(args: readonly string[], options: RunOptions = {}): Promise<Finished> {
    const finished = await this.run(args, options);
    if (finished.status !== 0)
      // what it said comes last, as logs are cut from the front
      throw new Error(
        `a command failed${this.diagnosis()}\n--- standard output:\n${finished.stdout.slice(-3000)}\n--- standard error:\n${finished.stderr.slice(-3000)}\n--- cloche ${args.join(" ")} ended with ${finished.status}`,
      );
    return finished;
  }

  async json<T>(args: readonly string[]): Promise<T> {
    return JSON.parse((await this.ok([...args, "--json"])).stdout) as T;
  }
  task(name: string): Promise<TaskView> {
    return this.json<TaskView>(["show", name]);
  }
  async events(...args: string[]): Promise<EventEnvelope[]> {
    return (await this.json<{ events: EventEnvelope[] }>(["events", ...args])).events;
  }
  /** Problems that tasks failed with, as the events tell. */
  async problems(): Promise<Problem[]> {
    return (await this.events()).filter((event) => event.kind === "task.failed").map((event) => event.data.problem as Problem);
  }

  #spawn(file: string, args: readonly string[], options: RunOptions): Going {
    const began = performance.now();
    const command = this.#inside(file, args);
    const child = spawn(command.file, command.args, {
      cwd: options.cwd ?? this.directory,
      env: { ...this.#env, ...options.env },
      stdio: "pipe",
    });
    child.stdin.on("error", () => {}); // a command that ends before it has read its input
    const out: Buffer[] = [];
    let text = "";
    const waiting: { text: string; resolve: () => void }[] = [];
    const look = (chunk: Buffer) => {
      text += chunk.toString("utf8");
      for (const wait of waiting) if (text.includes(wait.text)) wait.resolve();
    };
    let stderr = "";
    child.stdout.on("data", (chunk: Buffer) => {
      out.push(chunk);
      look(chunk);
    });
    child.stderr.on("data", (chunk: Buffer) => {
      stderr += chunk.toString("utf8");
      look(chunk);
    });
    const finished = new Promise<Finished>((resolve) =>
      child.once("close", (status, signal) => {
        const bytes = Buffer.concat(out);
        resolve({ status: status ?? -1, signal, stdout: bytes.toString("utf8"), bytes, stderr, ms: performance.now() - began });
      }),
    );
    const saw = (wanted: string) =>
      new Promise<void>((resolve, reject) => {
        if (text.includes(wanted)) return resolve();
        waiting.push({ text: wanted, resolve });
        void finished.then(({ status }) =>
          reject(new Error(`ended with ${status} before it showed ${JSON.stringify(wanted)}:\n${text}${this.diagnosis()}`)),
        );
      });
    return { process: child, finished, saw };
  }

  /** What is on the host of this Cloche. */
  hostState(): HostState {
    return hostState([this.home, this.runtime]);
  }

  /** Waits until no process of this Cloche is left but those named; answers with what is left when the time is up. */
  async quiet(withinMs: number, except: readonly number[] = []): Promise<string[]> {
    const until = performance.now() + withinMs;
    for (;;) {
      const left = this.hostState().processes.filter((line) => !except.includes(Number.parseInt(line, 10)));
      if (left.length === 0 || performance.now() >= until) return left;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Logs that explain a failure: the keeper's, and each task's console and host log. */
  diagnosis(): string {
    const tail = (path: string) => (existsSync(path) ? `\n--- ${path}\n${readFileSync(path, "utf8").slice(-3000)}` : "");
    const tasks = join(this.home, "tasks");
    const ids = existsSync(tasks) ? readdirSync(tasks) : [];
    return (
      tail(join(this.home, "keeper.log")) +
      ids.map((id) => tail(join(tasks, id, "host.log")) + tail(join(tasks, id, "console.log"))).join("")
    );
  }

  /** Consoles in which a kernel complained: a green run over a broken guest must be noticed. */
  guestComplaints(): string[] {
    const tasks = join(this.home, "tasks");
    if (!existsSync(tasks)) return [];
    return readdirSync(tasks).flatMap((id) => {
      const path = join(tasks, id, "console.log");
      const text = existsSync(path) ? readFileSync(path, "utf8") : "";
      return text.split("\n").filter((line) => /Kernel panic|BUG:|Oops|WARNING: CPU|hung task|rcu.*stall/.test(line));
    });
  }

  /** Ends the keeper, which stops what runs, in order; waits until nothing is left, and removes everything. */
  async end(): Promise<void> {
    try {
      const keeper = this.#keeper();
      if (keeper !== undefined) process.kill(keeper, "SIGTERM");
    } catch {
      // it ended in between
    }
    const left = await this.quiet(15_000);
    for (const line of left) process.kill(Number.parseInt(line, 10), "SIGKILL");
    rmSync(this.directory, { recursive: true, force: true });
    rmSync(this.runtime, { recursive: true, force: true });
    if (left.length > 0) throw new Error(`left behind:\n${left.join("\n")}`);
  }

  /** The keeper that holds the lock, if it lives: a number in a file alone may be another process's by now. */
  #keeper(): number | undefined {
    const lock = join(this.runtime, "keeper.lock");
    const pid = existsSync(lock) ? Number.parseInt(readFileSync(lock, "utf8"), 10) : undefined;
    return this.hostState().processes.some((line) => Number.parseInt(line, 10) === pid) ? pid : undefined;
  }
}
