/** What a slip on the command line costs: a line that says what to write instead, and nothing made. The keeper has no machines. */
import { mkdirSync } from "node:fs";
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
