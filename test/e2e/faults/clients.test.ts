/** Clients and the keeper are killed: a `run` goes with its client, a started task stays, and nothing outlives the keeper. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { Problem } from "../../../app/contract/index.ts";
import { Cloche } from "../../harness/index.ts";
import { failedWith, historyIsWhole, keeperPid, machineProcesses, noMachineLeft, refusedWith, until, wellFormed } from "./support.ts";

const cloche = new Cloche();
const folder = cloche.folder("work");
afterAll(() => cloche.end());

const disks = () => readdirSync(join(cloche.home, "tasks")).filter((id) => existsSync(join(cloche.home, "tasks", id, "disk.raw")));

describe("kill -9", () => {
  it("of the client of `run`: its machine is gone within 5 s, its folder and history stay", async () => {
    const going = cloche.start(["run", "--share", `${folder}:rw`, "--", "sh", "-c", "echo one > one; echo here; exec sleep 1000"]);
    await going.saw("here");
    expect(machineProcesses(cloche)).toHaveLength(4 + 1); // the share server runs behind its launcher
    going.process.kill("SIGKILL");
    await noMachineLeft(cloche, 5_000);
    expect((await going.finished).signal).toBe("SIGKILL");
    expect(readFileSync(join(folder, "one"), "utf8")).toBe("one\n");
    expect((await cloche.run(["ls", "-q"])).stdout).toBe("");
    expect(disks()).toEqual([]);
    const events = historyIsWhole(cloche);
    expect(events.some((event) => event.kind === "task.stopped")).toBe(true);
    expect(events.some((event) => event.kind === "exec.ended")).toBe(true);
  });

  it("of clients of a started task: their commands end, the task stays and works on", async () => {
    await cloche.ok(["new", "stays", "--share", `${folder}:rw`]);
    const starter = cloche.start(["start", "stays"]);
    // not any process: a share server also runs for a moment to look at the folder
    await until("the hypervisor", () => machineProcesses(cloche).some((line) => line.includes("-nodefaults")));
    starter.process.kill("SIGKILL"); // while it waits: the start goes on, for the keeper holds it
    await until("running", async () => (await cloche.task("stays")).state.at === "running");

    const going = cloche.start(["exec", "stays", "--", "sh", "-c", "echo $$ > pid; echo here; exec sleep 1000"]);
    await going.saw("here");
    going.process.kill("SIGKILL");
    const pid = readFileSync(join(folder, "pid"), "utf8").trim();
    await until("the end of the command that nobody reads", async () => {
      const { status } = await cloche.run(["exec", "stays", "--", "test", "-d", `/proc/${pid}`]);
      return status === 1;
    });
    expect((await cloche.ok(["exec", "stays", "--", "echo", "works"])).stdout).toBe("works\n");
    expect((await cloche.task("stays")).running).toBe(0);
  });

  it("of the keeper: machines end within 5 s; the next command sweeps and tells of it; history is whole; both start again", async () => {
    const run = cloche.start(["run", "--name", "once", "--share", `${folder}:rw`, "--", "sh", "-c", "echo two > two; echo here; exec cat"]);
    await run.saw("here");
    const exec = cloche.start(["exec", "stays", "--", "sh", "-c", "echo three > three; echo here; exec cat"]);
    await exec.saw("here");
    const before = historyIsWhole(cloche);
    process.kill(keeperPid(cloche), "SIGKILL");
    const killed = performance.now();
    await until("the machines' end", () => machineProcesses(cloche).length === 0, 5_000);
    expect(performance.now() - killed).toBeLessThan(5_000);
    refusedWith(await run.finished, "keeper.lost");
    refusedWith(await exec.finished, "keeper.lost");
    expect(readFileSync(join(folder, "two"), "utf8") + readFileSync(join(folder, "three"), "utf8")).toBe("two\nthree\n");

    // the next command, whichever it is
    expect((await cloche.run(["ls", "-q"])).stdout).toBe("stays\n");
    await noMachineLeft(cloche, 0);
    expect(disks()).toHaveLength(1);
    const problem = await failedWith(cloche, "stays", "task.interrupted");
    expect(problem.next).toEqual(["Start it again with `cloche start stays`."]);
    refusedWith(await cloche.run(["exec", "stays", "--", "true"]), "task.interrupted");
    const after = historyIsWhole(cloche);
    for (const event of before) expect(after).toContainEqual(event);
    const interrupted = after
      .filter((event) => event.kind === "task.failed")
      .map((event) => wellFormed(event.data.problem as Problem, "task.interrupted"));
    expect(interrupted.map((told) => told.next[0]).sort()).toEqual(["Run the command again.", "Start it again with `cloche start stays`."]);
    expect((await cloche.run(["events"])).stderr).toBe("");

    await cloche.ok(["start", "stays"]);
    expect((await cloche.ok(["exec", "stays", "--", "cat", "three"])).stdout).toBe("three\n");
    await cloche.ok(["stop", "stays"]);
    expect((await cloche.task("stays")).state.at).toBe("stopped");
  });

  it("of the keeper while a machine starts: nothing is left, and the start's client is told", async () => {
    const going = cloche.start(["run", "--", "true"]);
    await until("the hypervisor", () => machineProcesses(cloche).some((line) => line.includes("-nodefaults")));
    process.kill(keeperPid(cloche), "SIGKILL");
    await until("the machine's end", () => machineProcesses(cloche).length === 0, 5_000);
    refusedWith(await going.finished, "keeper.lost");
    expect((await cloche.run(["ls", "-q"])).stdout).toBe("stays\n");
    await noMachineLeft(cloche, 0);
    expect(disks()).toHaveLength(1);
    historyIsWhole(cloche);
    await cloche.ok(["run", "--", "true"]);
  });

  it("SIGTERM to the keeper: it stops its tasks in order and says why", async () => {
    await cloche.ok(["start", "stays"]);
    const exec = cloche.start([
      "exec",
      "stays",
      "--",
      "sh",
      "-c",
      "trap 'echo asked; exit 0' TERM; echo here; while :; do sleep 0.1; done",
    ]);
    await exec.saw("here");
    const keeper = keeperPid(cloche);
    process.kill(keeper, "SIGTERM");
    await exec.finished;
    expect(await cloche.quiet(15_000)).toEqual([]);
    expect(cloche.hostState().sockets).toEqual([]);
    expect((await cloche.task("stays")).state.at).toBe("stopped");
    expect(historyIsWhole(cloche).find((event) => event.kind === "task.stopped" && event.data.reason === "got SIGTERM")).toBeDefined();
  });
});
