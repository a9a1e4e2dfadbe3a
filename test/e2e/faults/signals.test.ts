/** Ctrl-C and SIGTERM to a client, wherever a run is: the shell's status for it, and nothing left on the host. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { startStep } from "../../../app/contract/index.ts";
import { Cloche } from "../../harness/index.ts";
import { eventsOnDisk, historyIsWhole, noMachineLeft, until } from "./support.ts";

const cloche = new Cloche();
const folder = cloche.folder("work");
afterAll(() => cloche.end());

async function nothingLeft() {
  await noMachineLeft(cloche, 0);
  expect((await cloche.run(["ls", "-q"])).stdout).toBe("");
  const tasks = join(cloche.home, "tasks");
  expect(readdirSync(tasks).filter((id) => existsSync(join(tasks, id, "disk.raw")))).toEqual([]);
}

describe("Ctrl-C", () => {
  it.each(startStep.options)("as the step `%s` begins: 130, and nothing is left", async (step) => {
    const ids = new Set(eventsOnDisk(cloche).map((event) => event.id));
    const fresh = () => eventsOnDisk(cloche).filter((event) => !ids.has(event.id));
    const going = cloche.start(["run", "--share", `${folder}:rw`, "--allow", "example.org", "--", "sh", "-c", "echo ran; sleep 1000"]);
    await until(`the step ${step}`, () =>
      fresh().some((event) => event.kind === "task.step" && event.data.step === step && event.data.phase === "began"),
    );
    going.process.kill("SIGINT");
    const ended = await going.finished;
    expect({ status: ended.status, stdout: ended.stdout.replace("ran\n", "") }, ended.stderr).toEqual({ status: 130, stdout: "" });
    // a stop that was asked for is no failure
    expect(ended.stderr.trimEnd().split("\n")).toEqual([expect.stringMatching(/^cloche: This task can /)]);
    expect(fresh().filter((event) => event.kind === "task.failed")).toEqual([]);
    expect(
      fresh().filter((event) => event.kind === "task.stopped"),
      cloche.diagnosis(),
    ).toHaveLength(1);
    await nothingLeft();
  });

  it("before the keeper has answered: 130 or the signal itself, and nothing is left", async () => {
    for (const waitMs of [0, 30, 80, 150]) {
      const going = cloche.start(["run", "--", "sleep", "1000"]);
      await new Promise((resolve) => setTimeout(resolve, waitMs));
      going.process.kill("SIGINT");
      const { status, signal, stderr } = await going.finished;
      expect(status === 130 || signal === "SIGINT", `${status} ${signal} ${stderr}`).toBe(true);
    }
    await noMachineLeft(cloche, 5_000);
    await nothingLeft();
  });

  it("during the workload: it gets the signal first, as in a shell, and its own status counts", async () => {
    const script = "trap 'echo got INT; exit 7' INT; echo here; while :; do sleep 0.1; done";
    const going = cloche.start(["run", "--share", `${folder}:rw`, "--", "bash", "-c", script]);
    await going.saw("here");
    going.process.kill("SIGINT");
    const ended = await going.finished;
    expect({ status: ended.status, stdout: ended.stdout }, ended.stderr).toEqual({ status: 7, stdout: "here\ngot INT\n" });
    await nothingLeft();
  });

  it("during a workload that has no handler: 130", async () => {
    const going = cloche.start(["run", "--", "sh", "-c", "echo here; exec sleep 1000"]);
    await going.saw("here");
    going.process.kill("SIGINT");
    expect((await going.finished).status).toBe(130);
    await nothingLeft();
  });

  it("during a workload that ignores it: the machine is stopped under it, 130, bounded", async () => {
    const going = cloche.start(["run", "--", "bash", "-c", "trap '' INT TERM HUP; echo here; while :; do sleep 1; done"]);
    await going.saw("here");
    const asked = performance.now();
    going.process.kill("SIGINT");
    expect((await going.finished).status).toBe(130);
    expect(performance.now() - asked).toBeLessThan(15_000);
    await nothingLeft();
  });
});

it("SIGTERM to `run` during the workload: 143, and nothing is left", async () => {
  const going = cloche.start(["run", "--share", `${folder}:rw`, "--", "sh", "-c", "echo kept > kept; echo here; exec sleep 1000"]);
  await going.saw("here");
  going.process.kill("SIGTERM");
  expect((await going.finished).status).toBe(143);
  expect(readFileSync(join(folder, "kept"), "utf8")).toBe("kept\n");
  await nothingLeft();
  historyIsWhole(cloche);
});

it("SIGHUP to `run` during the workload, as when its terminal closes: 129, and nothing is left", async () => {
  const going = cloche.start(["run", "--", "sh", "-c", "echo here; exec sleep 1000"]);
  await going.saw("here");
  going.process.kill("SIGHUP");
  expect((await going.finished).status).toBe(129);
  await nothingLeft();
});

it("Ctrl-C to `start`: 130, and it is said that the start goes on, and what ends it", async () => {
  await cloche.ok(["new", "goes-on"]);
  const ids = new Set(eventsOnDisk(cloche).map((event) => event.id));
  const going = cloche.start(["start", "goes-on"]);
  await until("the step boot", () =>
    eventsOnDisk(cloche).some((event) => !ids.has(event.id) && event.kind === "task.step" && event.data.step === "boot"),
  );
  going.process.kill("SIGINT");
  const { status, stderr } = await going.finished;
  expect({ status, last: stderr.trimEnd().split("\n").at(-1) }).toEqual({
    status: 130,
    last: "cloche: goes-on goes on starting; `cloche stop goes-on` stops it.",
  });
  await until("the task runs", async () => (await cloche.task("goes-on")).state.at === "running");
  await cloche.ok(["stop", "goes-on"]);
  await cloche.ok(["rm", "goes-on"]);
  await nothingLeft();
});

it("Ctrl-C to a client of a started task ends the command and leaves the task", async () => {
  await cloche.ok(["new", "stays"]);
  await cloche.ok(["start", "stays"]);
  const going = cloche.start(["exec", "stays", "--", "sh", "-c", "echo here; exec sleep 1000"]);
  await going.saw("here");
  going.process.kill("SIGINT");
  expect((await going.finished).status).toBe(130);
  await until("the command's end", async () => (await cloche.task("stays")).running === 0);
  expect((await cloche.ok(["exec", "stays", "--", "echo", "on"])).stdout).toBe("on\n");
  await cloche.ok(["rm", "stays"]);
  await nothingLeft();
});
