/** What a slip on the command line costs: a line that says what to write instead, and nothing made. The keeper has no machines. */
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type CommandLine, startCommandLine } from "../../test/doubles/command-line.ts";

let line: CommandLine;

beforeEach(async () => {
  line = await startCommandLine();
  mkdirSync(join(line.directory, "notes"));
});
afterEach(() => line.close());

// each test starts real programs, which on a busy machine takes seconds
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const made = () => line.keeper.called.filter((method) => ["grants.create", "tasks.create", "tasks.start", "tasks.exec"].includes(method));

describe("a run whose options cannot be used makes no task", () => {
  it.each([
    ["a time limit of nothing", ["--timeout", "0"], "--timeout takes a time such as 30s"],
    ["a time limit that is none", ["--timeout", "x"], '--timeout takes a time such as 30s, 5m or 2h, not "x"'],
    ["a terminal and none", ["-t", "-T"], "-t and -T exclude each other"],
    ["a variable without a name", ["--env", "=x"], "--env takes NAME=VALUE"],
    ["a number of processors that is none", ["--cpus", "two"], "--cpus takes a whole number"],
  ])("%s", async (_, options, message) => {
    const { status, stderr } = await line.here(["run", ...options, "--share", join(line.directory, "notes"), "--", "true"]);
    expect(stderr).toContain(message);
    expect(stderr).toContain("[usage]");
    expect(status).toBe(125);
    expect(made()).toEqual([]);
  });

  it("and one whose options can be used runs its command", async () => {
    const { status, stdout } = await line.cloche(["run", "--timeout", "1m", "-T", "--", "echo", "done"]);
    expect({ status, stdout: stdout.trim() }).toEqual({ status: 0, stdout: "done" });
    expect(made()).toEqual(["tasks.create", "tasks.start", "tasks.exec"]);
  });
});

describe("a result that cannot be written", () => {
  const run = (result: string, ...command: string[]) => ["run", "--result", result, "-T", "--", ...command];

  it.each([
    ["in a directory that is not there", "missing/result"],
    ["at a directory", "notes"],
    ["without a name", "notes/"],
    ["below a file", "components.json/result"],
    ["with a name that is too long", "x".repeat(250)],
    ["with a name that is longer than any", "x".repeat(300)],
  ])("%s is refused before the start", async (_, name) => {
    for (const args of [run(name, "true"), ["exec", "--result", name, "once", "--", "true"]]) {
      const { status, stderr } = await line.cloche(args);
      expect(stderr).toContain(`--result ${JSON.stringify(name)} cannot be written, so nothing was started. [usage]`);
      expect(status).toBe(125);
    }
    expect(made()).toEqual([]);
  });

  it("because its directory went meanwhile is told, and the command's status stays", async () => {
    mkdirSync(join(line.directory, "gone"));
    const { status, stdout, stderr } = await line.cloche(run("gone/result", "echo", "done;", "rmdir", join(line.directory, "gone")));
    expect(stderr).toContain("The result could not be written to gone/result; the exit status is the same as with it. [result.unwritten]");
    expect(stderr).not.toContain("[bug]");
    expect({ status, stdout: stdout.trim() }).toEqual({ status: 0, stdout: "done" });
  });

  it("and one that can is there, alone", async () => {
    const { status } = await line.cloche(run("notes/result", "true"));
    expect({ status, written: readdirSync(join(line.directory, "notes")) }).toEqual({ status: 0, written: ["result"] });
    expect(JSON.parse(readFileSync(join(line.directory, "notes", "result"), "utf8"))).toMatchObject({ version: 1, status: 0 });
  });
});
