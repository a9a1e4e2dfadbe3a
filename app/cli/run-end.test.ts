/** How `cloche run` ends when changes wait, on a terminal and without one: the real command line, with a keeper without machines. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type CommandLine, startCommandLine, terminals } from "../../test/doubles/command-line.ts";

let line: CommandLine;

beforeEach(async () => {
  line = await startCommandLine();
  mkdirSync(join(line.directory, "notes"));
});
afterEach(() => line.close());

// each test starts real programs, which on a busy machine takes seconds
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const run = ["run", "--name", "once", "--share", "notes", "-T", "--", "exit"];

const onTerminal = (answers: readonly string[]) =>
  line.onTerminal(
    run,
    answers.map((answer) => ({ question: "later (Enter)? ", answer })),
  );

describe("the end of a run whose changes wait", () => {
  it("without a terminal says how many wait and the commands that go on; the status stays the command's", async () => {
    const { status, stderr } = await line.cloche(run);
    expect(status).toBe(0);
    expect(stderr).toContain("12 changes wait in notes. Your folders are as they were.");
    for (const command of ["changes", "diff", "apply", "discard"]) expect(stderr).toContain(`cloche ${command} once`);
    expect(line.keeper.called).not.toContain("changes.apply");
  });

  it.runIf(terminals)("on a terminal asks: look shows them, apply writes what was listed and tells what was not", async () => {
    const { shown, status } = await onTerminal(["what?", "l", "a"]);
    expect(status).toBe(0);
    expect(shown).toContain("type a, l, or only Enter");
    expect(shown).toContain("letter.txt → letter (final).txt");
    expect(shown).toContain("branch main: +2 commits");
    expect(shown).toContain("8 changes applied");
    expect(shown).toContain("not done: .vscode/tasks.json");
    expect(shown, "a name cannot drive the terminal").not.toContain("\x1b[31m\xff");
    expect(line.keeper.called.filter((method) => method === "changes.apply")).toHaveLength(1);
  });

  it.runIf(terminals)("on a terminal Enter leaves them waiting", async () => {
    const { shown } = await onTerminal([""]);
    expect(shown).toContain("they wait: `cloche changes once`");
    expect(line.keeper.called).not.toContain("changes.apply");
  });

  it("a terminal can be had for these tests", () => {
    if (!terminals) console.warn("IGNORED: script(1) is not installed, so the question on a terminal was not asked");
  });
});

describe("a shell", () => {
  const begun = async () => {
    const { events } = JSON.parse((await line.here(["events", "--json"])).stdout);
    return events
      .filter(({ kind }: { kind: string }) => kind === "exec.started")
      .map(({ data }: { data: { terminal: boolean } }) => data.terminal);
  };
  beforeEach(async () => {
    await line.here(["new", "once"]);
    await line.here(["start", "once"]);
  });

  it("whose input is a file or a pipe has no terminal, so that it ends with its input", async () => {
    expect((await line.cloche(["shell", "once"], "")).status).toBe(0);
    expect(await begun()).toEqual([false]);
  });

  it.runIf(terminals)("on a terminal has one", async () => {
    expect((await line.onTerminal(["shell", "once"], [{ question: "$ ", answer: "exit" }])).status).toBe(0);
    expect(await begun()).toEqual([true]);
  });
});
