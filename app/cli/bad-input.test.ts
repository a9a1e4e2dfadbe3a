/** What a slip on the command line costs: a line that says what to write instead, and nothing made. The keeper has no machines. */
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import packageJson from "../../package.json" with { type: "json" };
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

describe("what is beyond a bound is refused with the bound", () => {
  const shares = (count: number) => Array.from({ length: count }, () => ["--share", join(line.directory, "notes")]).flat();

  it.each([
    ["new", "My-Task"],
    ["new", "X"],
    ["new", "a_b"],
    ["new", ""],
    ["new", "a".repeat(49)],
    ["run", "--name", "X", "--", "true"],
  ])("%s %s: a name that no task can have", async (...args) => {
    const { status, stderr } = await line.here(args);
    expect(stderr).toContain("cannot be a task's name: it is made of a-z, 0-9 and -");
    expect(stderr).toContain("at most 48 characters. [task.name]\n  → Choose another name.");
    expect({ status, made: made() }).toEqual({ status: 125, made: [] });
  });

  it.each([
    ["--cpus", "0", '--cpus takes a whole number from 1 to 64, not "0".'],
    ["--cpus", "99", '--cpus takes a whole number from 1 to 64, not "99".'],
    ["--memory", "1", '--memory takes a size from 256m to 256g, not "1".'],
    ["--memory", "900g", '--memory takes a size from 256m to 256g, not "900g".'],
    ["--disk", "0", '--disk takes a size from 1g to 4096g, not "0".'],
    ["--disk", "99999g", '--disk takes a size from 1g to 4096g, not "99999g".'],
    ["--env", `BIG=${"x".repeat(40_000)}`, "--env BIG: a value has 32768 characters at most, not 40000."],
  ])("%s (%#)", async (option, value, message) => {
    const { status, stderr } = await line.here(["new", option, value]);
    expect(stderr).toContain(`cloche: ${message} [usage]\n  → `);
    expect({ status, made: made() }).toEqual({ status: 125, made: [] });
  });

  it("one folder too many", async () => {
    const { status, stderr } = await line.here(["new", ...shares(17)]);
    expect(stderr).toContain("A task takes --share 16 times at most, not 17 times. [usage]");
    expect({ status, made: made() }).toEqual({ status: 125, made: [] });
  });

  it("a time limit of more than a year", async () => {
    const { status, stderr } = await line.here(["exec", "--timeout", "999999999d", "once", "--", "true"]);
    expect(stderr).toContain('--timeout takes a time of 365d at most, not "999999999d". [usage]');
    expect(status).toBe(125);
  });

  it.each([
    ["longer than any name", ["show", "x".repeat(70)]],
    ["empty", ["exec", "", "--", "true"]],
    ["empty, among others to stop", ["stop", ""]],
  ])("a task that is %s is one that is not there", async (_, args) => {
    const { status, stderr } = await line.here(args);
    expect(stderr).toMatch(/There is no task named "x*"\. \[task\.unknown\]\n {2}→ Run `cloche ls`/);
    expect(status).toBe(125);
  });

  it("what only the keeper's schema refuses is told with its field, as something that may have been typed", async () => {
    const { status, stderr } = await line.here(["new", "--secret", "a b"]);
    expect(stderr).toContain(
      "secrets.0: a key's name is made of letters, digits, dots, - and _ [contract.params]\n  → If you typed what it names",
    );
    expect(status).toBe(125);
  });

  it("and the bounds themselves are taken", async () => {
    const bounds = ["--cpus", "64", "--memory", "256m", "--disk", "4096g", "--env", `BIG=${"x".repeat(32_768)}`];
    const { status, stderr } = await line.here(["new", "a".repeat(48), ...bounds, ...shares(16)]);
    expect({ status, made: made().at(-1), problem: stderr.includes("[") }).toEqual({ status: 0, made: "tasks.create", problem: false });
    expect((await line.here(["new", "--cpus", "1", "--memory", "256g", "--disk", "500m"])).status).toBe(0);
  });
});

describe("words that a command does not take are refused", () => {
  it.each([
    [["image", "verify", "extra"]],
    [["image", "ls", "extra"]],
    [["doctor", "extra"]],
    [["prove", "extra"]],
    [["help", "anything"]],
    [["--version", "extra"]],
  ])("%j", async (args) => {
    const { status, stdout, stderr } = await line.here(args);
    expect(stderr).toMatch(/^cloche: `cloche [a-z -]+` takes .*\[usage\]\n {2}→ /);
    expect({ status, stdout, asked: line.keeper.called.filter((method) => method !== "hello") }).toEqual({
      status: 125,
      stdout: "",
      asked: [],
    });
  });

  it("and without them the command answers", async () => {
    expect(await line.here(["image", "ls"])).toMatchObject({ status: 0, stdout: expect.stringContaining("IMAGE") });
  });
});

describe("what every program is asked", () => {
  it.each([[["help"]], [["--help"]], [["run", "--help"]], [["exec", "--help"]], [["image", "-h"]], [["web", "--help"]]])(
    "%j prints the help",
    async (args) => {
      const { status, stdout, stderr } = await line.here(args);
      expect(stdout).toContain("options of run and exec:");
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    },
  );

  it("--version prints the version", async () => {
    expect(await line.here(["--version"])).toEqual({ status: 0, stdout: `cloche ${packageJson.version}\n`, stderr: "" });
  });

  it("and behind the workload's first word both are the workload's", async () => {
    for (const word of ["--help", "--version"]) expect((await line.cloche(["run", "-T", "echo", word])).stdout.trim()).toBe(word);
  });
});
