/** The real command line with the keeper's double and a home of its own: what its user sees and gets. */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { runVerb } from "../../app/cli/program.ts";
import { forTypedTasks } from "../../app/cli/session.ts";
import { connectKeeper, endpoint, readComponents } from "../../app/contract/node/index.ts";
import { type KeeperDouble, startKeeperDouble } from "./keeper.ts";

const SCRIPT = "/usr/bin/script";
const cli = resolve(import.meta.dirname, "../../app/cli/main.ts");

export interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Turn {
  readonly question: string;
  readonly answer: string;
}

export interface CommandLine {
  /** where commands run; tests put folders there */
  readonly directory: string;
  readonly keeper: KeeperDouble;
  /** `cloche ARGS…` in this process, for verbs that read no input: most of a program's time is its start */
  here(args: readonly string[]): Promise<Ended>;
  /** `cloche ARGS…` as a program without a terminal; standard input is `input` and then ends */
  cloche(args: readonly string[], input?: string): Promise<Ended>;
  /** The same on a terminal of its own; each answer is typed once its question stands there, behind the one before. */
  onTerminal(args: readonly string[], dialogue: readonly Turn[]): Promise<{ shown: string; status: number | null }>;
  close(): void;
}

/** Whether this system has what `onTerminal` needs. */
export const terminals = existsSync(SCRIPT);

export async function startCommandLine(): Promise<CommandLine> {
  const directory = mkdtempSync(join(tmpdir(), "command-line-"));
  const none = "/nonexistent";
  const app = { cli, keeper: none, proxy: none, web: none, ui: none };
  const programs = {
    version: 1,
    node: process.execPath,
    helper: none,
    shareServer: none,
    vsockDevice: none,
    qemu: none,
    imageDir: none,
    app,
  };
  writeFileSync(join(directory, "components.json"), JSON.stringify(programs));
  const env = {
    PATH: "/usr/bin:/bin",
    HOME: directory,
    TERM: "xterm",
    CLOCHE_HOME: join(directory, "home"),
    CLOCHE_COMPONENTS: join(directory, "components.json"),
    // the sources, read and stripped of their types once: most of a program's start otherwise
    NODE_COMPILE_CACHE: resolve(import.meta.dirname, "../../node_modules/.cache/doubles"),
  };
  mkdirSync(env.CLOCHE_HOME);
  const keeper = await startKeeperDouble(endpoint(env), 1);
  const client = forTypedTasks(await connectKeeper("cli", { node: none, entry: none }, keeper.at));
  const session = {
    components: readComponents(env.CLOCHE_COMPONENTS),
    keeper: async () => client,
    close: () => {},
  };
  return {
    directory,
    keeper,
    async here(args) {
      const out = capture(process.stdout);
      const err = capture(process.stderr);
      try {
        const status = await runVerb(
          session,
          args.map((word) => Buffer.from(word)),
        );
        return { status, stdout: out.text(), stderr: err.text() };
      } finally {
        out.end();
        err.end();
      }
    },
    cloche(args, input = "") {
      // no controlling terminal, as in CI, so that nothing is asked on the one that runs the tests
      const child = spawn(process.execPath, [cli, ...args], { cwd: directory, env, stdio: "pipe", detached: true });
      let stdout = "";
      let stderr = "";
      child.stdout.on("data", (chunk: Buffer) => {
        stdout += chunk.toString("utf8");
      });
      child.stderr.on("data", (chunk: Buffer) => {
        stderr += chunk.toString("utf8");
      });
      child.stdin.on("error", () => {}).end(input);
      return new Promise((done) => child.once("close", (status) => done({ status, stdout, stderr })));
    },
    onTerminal(args, dialogue) {
      const command = [process.execPath, cli, ...args].map((word) => `'${word}'`).join(" ");
      const child = spawn(SCRIPT, ["-qec", command, "/dev/null"], { cwd: directory, env, stdio: "pipe" });
      let shown = "";
      let turn = 0;
      let from = 0;
      child.stdout.on("data", (chunk: Buffer) => {
        shown += chunk.toString("utf8");
        for (let next = dialogue[turn]; next && shown.includes(next.question, from); next = dialogue[++turn]) {
          from = shown.indexOf(next.question, from) + next.question.length;
          child.stdin.write(`${next.answer}\r`);
        }
      });
      return new Promise((done) => child.once("close", (status) => done({ shown, status })));
    },
    close() {
      client.close();
      keeper.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** What is written to a stream of this process until the end, instead of there. */
function capture(stream: NodeJS.WriteStream): { text(): string; end(): void } {
  const { write } = stream;
  let text = "";
  stream.write = ((chunk: string | Uint8Array, ...rest: unknown[]) => {
    text += typeof chunk === "string" ? chunk : Buffer.from(chunk).toString("utf8");
    const done = rest.find((one) => typeof one === "function");
    if (done) queueMicrotask(done as () => void);
    return true;
  }) as typeof write;
  return {
    text: () => text,
    end: () => {
      stream.write = write;
    },
  };
}
