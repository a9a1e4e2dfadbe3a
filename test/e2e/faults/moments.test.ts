/** Hung guests, hung hypervisors, requests that cross each other, and time that jumps. */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Cloche } from "../../harness/index.ts";
import {
  eventsOnDisk,
  historyIsWhole,
  isStopped,
  keeperEnds,
  machineProcesses,
  noMachineLeft,
  pidOf,
  refusedWith,
  running,
  until,
} from "./support.ts";

const cloche = new Cloche();
const folder = cloche.folder("work");
const STOP_BOUND_MS = 20_000;

beforeAll(async () => {
  await cloche.ok(["new", "t", "--share", `${folder}:rw`]);
});
afterAll(() => cloche.end());

async function stopIsBounded(...how: string[]) {
  const { ms } = await cloche.ok(["stop", "t", ...how]);
  expect(ms).toBeLessThan(STOP_BOUND_MS);
  await noMachineLeft(cloche);
  await isStopped(cloche, "t");
}

describe("stop works", () => {
  it("on a guest whose root starves everything else with a real-time loop", async () => {
    await cloche.ok(["start", "t"]);
    const loop = cloche.start([
      "exec",
      "t",
      "--",
      "sudo",
      "sh",
      "-c",
      "echo -1 > /proc/sys/kernel/sched_rt_runtime_us; echo here; exec chrt -f 99 sh -c 'while :; do :; done'",
    ]);
    await loop.saw("here");
    await stopIsBounded();
    // the agent may get its turn between two ticks and end the loop by TERM, or by KILL after its grace; else the machine is ended under it
    const ended = await loop.finished;
    if (ended.status !== 143 && ended.status !== 137) refusedWith(ended, "machine.stopped");
  });

  it("on a stopped hypervisor, with a command under way, and twice at once", async () => {
    await cloche.ok(["start", "t"]);
    const going = cloche.start(["exec", "t", "--", "sh", "-c", "echo here; exec sleep 1000"]);
    await going.saw("here");
    process.kill(pidOf(cloche, "qemu-system"), "SIGSTOP");
    const [one, two] = await Promise.all([cloche.run(["stop", "t"]), cloche.run(["stop", "t"])]);
    expect([one.status, two.status], one.stderr + two.stderr).toEqual([0, 0]);
    expect(Math.max(one.ms, two.ms)).toBeLessThan(STOP_BOUND_MS);
    await noMachineLeft(cloche);
    refusedWith(await going.finished, "machine.stopped");
    await cloche.ok(["stop", "t"]); // of what is stopped: nothing to do
  });

  it("on a stopped helper, on a stopped share server and with --now", async () => {
    await cloche.ok(["start", "t"]);
    process.kill(pidOf(cloche, "cloche-helper"), "SIGSTOP");
    await stopIsBounded("--now");
    await cloche.ok(["start", "t"]);
    for (const line of running(cloche, "cloche-share")) process.kill(Number.parseInt(line, 10), "SIGSTOP");
    await stopIsBounded("--now");
  });

  it("on a guest with a fork bomb", async () => {
    await cloche.ok(["start", "t"]);
    const bomb = cloche.start(["exec", "t", "--", "bash", "-c", "echo here; b() { b | b & }; b; sleep 1000"]);
    await bomb.saw("here");
    await new Promise((resolve) => setTimeout(resolve, 1_500)); // it grows
    await stopIsBounded();
    await bomb.finished;
  });

  it("on a paused task, and keeps what it had written but not yet on its disk", async () => {
    await cloche.ok(["start", "t"]);
    await cloche.ok(["exec", "t", "--", "sh", "-c", "echo late > ~/late; echo late > late"]);
    await cloche.ok(["pause", "t"]);
    await stopIsBounded();
    expect(readFileSync(join(folder, "late"), "utf8")).toBe("late\n");
    await cloche.ok(["start", "t"]);
    expect((await cloche.ok(["exec", "t", "--", "sh", "-c", "cat ~/late"])).stdout).toBe("late\n");
    await cloche.ok(["stop", "t"]);
  });
});

describe("a guest that hangs", () => {
  /** beside the command's own time: two starts of a program on a busy host, and the grace between TERM, KILL and the end of waiting */
  const BESIDE_MS = 10_000;

  // one without a limit is told of it after a minute: test/long
  it("ends no command late that has a limit, answers copies as one that is silent, and runs the next when it goes on", async () => {
    await cloche.ok(["start", "t"]);
    const going = cloche.start(["exec", "t", "--timeout", "5s", "--", "sh", "-c", "echo here; exec sleep 1000"]);
    await going.saw("here");
    const hypervisor = pidOf(cloche, "qemu-system");
    process.kill(hypervisor, "SIGSTOP");
    try {
      const [limited, copied] = await Promise.all([
        cloche.run(["exec", "t", "--timeout", "5s", "--", "touch", "/home/you/asked-of-a-hung-guest"]),
        cloche.run(["cp", "t:/etc/hostname", join(cloche.directory, "copied")]),
      ]);
      expect(limited.status, limited.stderr).toBe(143);
      expect(limited.stderr).toContain("[exec.timeout]");
      expect(limited.ms).toBeLessThan(5_000 + BESIDE_MS);
      expect(limited.ms).toBeGreaterThan(5_000);

      const ended = await going.finished;
      expect(ended.status, ended.stderr).toBe(137);
      expect(ended.stderr).toContain("[exec.timeout]");
      expect(ended.ms).toBeLessThan(5_000 + BESIDE_MS);

      refusedWith(copied, "guest.silent");
      expect(copied.stderr).toContain("cloche stop");
      expect((await cloche.task("t")).running, "nothing is left of them in the keeper").toBe(0);
    } finally {
      process.kill(hypervisor, "SIGCONT");
    }
    // asked over the same connection after those that were given up, so it is answered after them
    expect(
      (await cloche.ok(["exec", "t", "--", "sh", "-c", "test ! -e ~/asked-of-a-hung-guest || echo it ran; pgrep -x sleep || echo none"]))
        .stdout,
    ).toBe("none\n");
    await cloche.ok(["stop", "t"]);
  }, 400_000);
});

describe("a pause", () => {
  it("while the task writes into its folder without a break and the host is busy: it goes on and answers, six times", async () => {
    await cloche.ok(["start", "t"]);
    const busy = spawn("sh", ["-c", "while :; do :; done"]);
    try {
      const writes = cloche.start([
        "exec",
        "t",
        "--",
        "sh",
        "-c",
        "echo 0 > counter; echo here; n=0; while :; do n=$((n + 1)); echo $n > counter; head -c 200000 /dev/zero > large$((n % 10)); done",
      ]);
      await writes.saw("here");
      const counted = () => Number(readFileSync(join(folder, "counter"), "utf8"));
      for (let n = 0; n < 6; n++) {
        await until("its next files", () => counted() > 0, 20_000);
        await cloche.ok(["pause", "t"]);
        const before = readFileSync(join(folder, "counter"), "utf8");
        await new Promise((resolve) => setTimeout(resolve, 200));
        expect(readFileSync(join(folder, "counter"), "utf8"), "paused, it writes nothing").toBe(before);
        await cloche.ok(["resume", "t"]);
        const { ms } = await cloche.ok(["exec", "t", "--", "sh", "-c", ": > counter"]);
        expect(ms).toBeLessThan(15_000);
      }
      await cloche.ok(["stop", "t"]);
      await writes.finished;
    } finally {
      busy.kill("SIGKILL");
    }
  });
});

describe("requests that cross", () => {
  it("two starts at once: both succeed, there is one machine", async () => {
    const both = await Promise.all([cloche.run(["start", "t"]), cloche.run(["start", "t"]), cloche.run(["start", "t"])]);
    expect(both.map((ended) => ended.status)).toEqual([0, 0, 0]);
    expect(running(cloche, "qemu-system")).toHaveLength(1);
    expect(eventsOnDisk(cloche).filter((event) => event.kind === "task.running").length).toBe(
      new Set(
        eventsOnDisk(cloche)
          .filter((event) => event.kind === "task.running")
          .map((event) => event.id),
      ).size,
    );
    await cloche.ok(["start", "t"]);
    await cloche.ok(["stop", "t"]);
  });

  it("several tasks of one name at once: one is made, the others are told", async () => {
    const many = await Promise.all([1, 2, 3, 4].map(() => cloche.run(["new", "same"])));
    const refused = many.filter((ended) => ended.status !== 0);
    for (const ended of refused) refusedWith(ended, "task.exists");
    expect(refused).toHaveLength(3);
    await cloche.ok(["rm", "same"]);
  });

  it("the first two commands of all at once: one keeper", async () => {
    await keeperEnds(cloche);
    const many = await Promise.all([1, 2, 3, 4].map(() => cloche.run(["ls", "-q"])));
    expect(many.map((ended) => [ended.status, ended.stdout, ended.stderr])).toEqual(Array(4).fill([0, "t\n", ""]));
    // those that came second say so and end
    await until("one keeper alone", () => running(cloche, "cloche").filter((line) => line.includes("keeper")).length === 1, 5_000);
  });

  it.each(["disk", "boot", "agent", "ready"])(
    "stop as the step `%s` of a start begins: the start is told, nothing is left",
    async (step) => {
      const seen = new Set(eventsOnDisk(cloche).map((event) => event.id));
      const starting = cloche.start(["start", "t"]);
      await until(`the step ${step}`, () =>
        eventsOnDisk(cloche).some((event) => !seen.has(event.id) && event.kind === "task.step" && event.data.step === step),
      );
      await cloche.ok(["stop", "t"]);
      const started = await starting.finished;
      // the stop may come when the start is through
      if (started.status !== 0) refusedWith(started, "machine.stopped");
      await noMachineLeft(cloche);
      await isStopped(cloche, "t");
    },
  );

  it("rm while it starts, exec while it is stopped, start while it stops: one clear answer each", async () => {
    refusedWith(await cloche.run(["exec", "t", "--", "true"]), "task.state");
    refusedWith(await cloche.run(["pause", "t"]), "task.state");
    refusedWith(await cloche.run(["exec", "nobody", "--", "true"]), "task.unknown");
    refusedWith(await cloche.run(["new", "t"]), "task.exists");
    await cloche.ok(["new", "t-two"]);
    await cloche.ok(["new", "t-three"]);
    refusedWith(await cloche.run(["start", "t-t"]), "task.ambiguous");
    await cloche.ok(["rm", "t-three"]);
    const starting = cloche.start(["start", "t-two"]);
    await until("a machine", () => machineProcesses(cloche).length > 0);
    await cloche.ok(["rm", "t-two"]);
    refusedWith(await starting.finished, "machine.stopped");
    await noMachineLeft(cloche);
    refusedWith(await cloche.run(["show", "t-two"]), "task.unknown");
  });
});

describe("time jumps (the guest slept; the host's own clock is not set by a test, and libfaketime is not installed)", () => {
  const offsetMs = async () => {
    const before = Date.now();
    const guest = Number((await cloche.ok(["exec", "t", "--", "date", "+%s%3N"])).stdout);
    const after = Date.now();
    return guest < before ? guest - before : guest > after ? guest - after : 0;
  };

  it("after a pause the guest's clock is the host's; a command that ran goes on", async () => {
    await cloche.ok(["start", "t"]);
    expect(Math.abs(await offsetMs())).toBeLessThan(2_000);
    const going = cloche.start(["exec", "t", "--", "sh", "-c", "echo here; read line; echo got $line"]);
    await going.saw("here");
    await cloche.ok(["pause", "t"]);
    refusedWith(await cloche.run(["exec", "t", "--", "true"]), "task.state");
    await new Promise((resolve) => setTimeout(resolve, 4_000));
    await cloche.ok(["resume", "t"]);
    expect(Math.abs(await offsetMs())).toBeLessThan(2_000);
    going.process.stdin.end("on\n");
    expect(await going.finished).toMatchObject({ status: 0, stdout: "here\ngot on\n" });
  });

  it("a guest whose root set the clock back by a year is set right at the next push, and it is told", async () => {
    await cloche.ok(["exec", "t", "--", "sudo", "date", "-s", "2020-01-01"]);
    await cloche.ok(["pause", "t"]);
    await cloche.ok(["resume", "t"]);
    expect(Math.abs(await offsetMs())).toBeLessThan(2_000);
    const told = eventsOnDisk(cloche)
      .filter((event) => event.kind === "guest.clock")
      .at(-1);
    expect(Number(told?.data.steppedMs)).toBeGreaterThan(365 * 86_400_000);
    await cloche.ok(["stop", "t"]);
    historyIsWhole(cloche);
  });
});
