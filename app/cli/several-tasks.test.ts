/** Commands that take several tasks, or all of them. The keeper has no machines. */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type CommandLine, startCommandLine } from "../../test/doubles/command-line.ts";

let line: CommandLine;

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

beforeEach(async () => {
  line = await startCommandLine();
  for (const name of ["one", "two", "three"]) await line.here(["new", name]);
});
afterEach(() => line.close());

const states = async () => {
  const { tasks } = JSON.parse((await line.here(["ls", "--json"])).stdout);
  return Object.fromEntries(tasks.map(({ name, state }: { name: string; state: { at: string } }) => [name, state.at]));
};

describe("start", () => {
  it("starts each task that is named, and no other", async () => {
    const { status, stderr } = await line.here(["start", "one", "two"]);
    expect(status, stderr).toBe(0);
    expect(await states()).toMatchObject({ one: "running", two: "running", three: "stopped" });
  });

  it("goes on after one that cannot be started, says which, and ends with 125", async () => {
    const { status, stdout, stderr } = await line.here(["start", "--json", "none", "two"]);
    expect(status).toBe(125);
    expect(stderr).toContain("none");
    expect(JSON.parse(stdout).tasks.map(({ name }: { name: string }) => name)).toEqual(["two"]);
    expect(await states()).toMatchObject({ one: "stopped", two: "running" });
  });

  it("prints one task by itself", async () => {
    expect(JSON.parse((await line.here(["start", "--json", "one"])).stdout).name).toBe("one");
  });
});

describe("--json", () => {
  const json = async (...args: string[]) => JSON.parse((await line.here(args)).stdout);

  it("is one object of what each command did", async () => {
    await line.here(["start", "one", "two"]);
    expect(await json("pause", "--json", "one")).toMatchObject({ name: "one", state: { at: "paused" } });
    expect(await json("resume", "--json", "one")).toMatchObject({ name: "one" });
    expect(await json("stop", "--json", "one")).toMatchObject({ name: "one", state: { at: "stopped" } });
    expect(await json("stop", "--json", "one", "two")).toMatchObject({ tasks: [{ name: "one" }, { name: "two" }] });
    expect(await json("rm", "--json", "one", "none", "two")).toEqual({ removed: ["one", "two"] });
    expect(Object.keys(await json("ls", "--json"))).toEqual(["tasks"]); // control
  });
});

describe("ssh-config", () => {
  const hosts = (text: string) => [...text.matchAll(/^Host (.*)$/gm)].map(([, host]) => host);

  it("without a task is that of all that run", async () => {
    await line.here(["start", "one", "three"]);
    const { status, stdout, stderr } = await line.here(["ssh-config"]);
    expect({ status, hosts: hosts(stdout) }).toEqual({ status: 0, hosts: ["cloche-one", "cloche-three"] });
    expect(stderr).toContain("an editor that you attach lets the task act in it");
  });

  it("says so where none runs, and takes no more than one", async () => {
    expect(await line.here(["ssh-config"])).toMatchObject({ status: 0, stdout: "", stderr: expect.stringContaining("no task runs") });
    expect(await line.here(["ssh-config", "one", "two"])).toMatchObject({ status: 125, stderr: expect.stringContaining("[TASK]") });
  });
});
