/** How `cloche run` ends when changes wait, on a terminal and without one: the real command line, with a keeper without machines. */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type KeeperDouble, startKeeperDouble } from "../../test/doubles/keeper.ts";
import { endpoint } from "../contract/node/index.ts";

const SCRIPT = "/usr/bin/script";
const cli = resolve(import.meta.dirname, "main.ts");
let directory: string;
let env: Record<string, string>;
let keeper: KeeperDouble;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "run-end-"));
  mkdirSync(join(directory, "notes"));
  const none = "/nonexistent";
  const app = { cli, keeper: none, web: none, proxy: none, ui: none };
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
  env = {
    PATH: "/usr/bin:/bin",
    HOME: directory,
    TERM: "xterm",
    CLOCHE_HOME: join(directory, "home"),
    CLOCHE_COMPONENTS: join(directory, "components.json"),
  };
  mkdirSync(env.CLOCHE_HOME ?? "");
  keeper = await startKeeperDouble(endpoint(env), 1);
});
afterEach(() => {
  keeper.close();
  rmSync(directory, { recursive: true, force: true });
});

// each test starts real programs, which on a busy machine takes seconds
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const run = ["run", "--name", "once", "--share", "notes", "-T", "--", "exit"];

/** Runs on a terminal of its own; each answer is typed when the question stands there for the next time. */
function onTerminal(answers: readonly string[]): Promise<{ shown: string; status: number | null }> {
  const command = [process.execPath, cli, ...run].map((word) => `'${word}'`).join(" ");
  const child = spawn(SCRIPT, ["-qec", command, "/dev/null"], { cwd: directory, env, stdio: "pipe" });
  let shown = "";
  let asked = 0;
  child.stdout.on("data", (chunk: Buffer) => {
    shown += chunk.toString("utf8");
    while (asked < answers.length && shown.split("later (Enter)? ").length - 1 > asked) child.stdin.write(`${answers[asked++]}\r`);
  });
  return new Promise((done) => child.once("close", (status) => done({ shown, status })));
}

describe("the end of a run whose changes wait", () => {
  it("without a terminal says how many wait and the commands that go on; the status stays the command's", async () => {
    const child = spawn(process.execPath, [cli, ...run], { cwd: directory, env, stdio: ["ignore", "pipe", "pipe"] });
    let stderr = "";
    child.stderr.on("data", (chunk: Buffer) => {
      stderr += chunk.toString("utf8");
    });
    expect(await new Promise((done) => child.once("close", done))).toBe(0);
    expect(stderr).toContain("12 changes wait in notes. Your folders are as they were.");
    for (const command of ["changes", "diff", "apply", "discard"]) expect(stderr).toContain(`cloche ${command} once`);
    expect(keeper.called).not.toContain("changes.apply");
  });

  it.runIf(existsSync(SCRIPT))("on a terminal asks: look shows them, apply writes what was listed and tells what was not", async () => {
    const { shown, status } = await onTerminal(["what?", "l", "a"]);
    expect(status).toBe(0);
    expect(shown).toContain("type a, l, or only Enter");
    expect(shown).toContain("letter.txt → letter (final).txt");
    expect(shown).toContain("branch main: +2 commits");
    expect(shown).toContain("8 changes applied");
    expect(shown).toContain("not done: .vscode/tasks.json");
    expect(shown, "a name cannot drive the terminal").not.toContain("\x1b[31m\xff");
    expect(keeper.called.filter((method) => method === "changes.apply")).toHaveLength(1);
  });

  it.runIf(existsSync(SCRIPT))("on a terminal Enter leaves them waiting", async () => {
    const { shown } = await onTerminal([""]);
    expect(shown).toContain("they wait: `cloche changes once`");
    expect(keeper.called).not.toContain("changes.apply");
  });

  it("a terminal can be had for these tests", () => {
    if (!existsSync(SCRIPT)) console.warn("IGNORED: script(1) is not installed, so the question on a terminal was not asked");
  });
});
