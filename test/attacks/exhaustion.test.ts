/**
 * G08: a guest that takes all there is of one thing, as its user, and as a root who has lifted what the guest bounds him by. It gets what
 * its machine was given and no more: the host, its keeper and the other tasks work on, `stop` ends it within 5 s, nothing is left, and the
 * task starts again.
 */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { pidOf, running, until } from "../e2e/faults/support.ts";
import { Cloche } from "../harness/index.ts";
import { probe, WHO } from "./folders-support.ts";

const cloche = new Cloche();
const exhaust = probe("exhaust.py");
const MEMORY_MIB = 512;
const DISK_GIB = 16;
/** what QEMU needs besides the guest's memory: its translation cache of 128 MiB, its code and tables */
const OWN_MIB = 320;
/** QEMU's own bound for the threads that wait for the disk is 64 */
const MAX_THREADS = 80;
const ANSWER_MS = 10_000;
const STOP_MS = 5_000;
/** 400 MB of a disk are written at an emulated processor's pace */
const TAKE_MS = 120_000;

interface Hosts {
  readonly processes: string[];
  readonly sockets: string[];
  readonly directories: string[];
}
/** What the host has of machines, without pids. */
const onHost = (): Hosts => ({
  processes: running(cloche, "qemu-system", "vhost-device-vsock", "cloche-helper", "cloche-share").map((line) => line.split(" ")[1] ?? ""),
  sockets: cloche.hostState().sockets.sort(),
  directories: readdirSync(cloche.runtime).sort(),
});

const statusOf = (pid: number, field: string) =>
  Number.parseInt(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? "", 10);
const alive = (pid: number) => existsSync(`/proc/${pid}/status`);
const cpuTicks = (pid: number) => {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return Number(fields[11]) + Number(fields[12]);
};

let alone: Hosts;
let bystander: number;
/** the hypervisor of the task that is not the bystander */
const hypervisor = () => {
  const [line] = running(cloche, "qemu-system").filter((each) => Number.parseInt(each, 10) !== bystander);
  if (line === undefined) throw new Error("the hostile task has no hypervisor");
  return Number.parseInt(line, 10);
};

beforeAll(async () => {
  await cloche.ok(["new", "bystander"]);
  await cloche.ok(["start", "bystander"]);
  bystander = pidOf(cloche, "qemu-system");
  alone = onHost();
});
afterEach(async () => {
  const others = (await cloche.json<{ tasks: { name: string }[] }>(["ls"])).tasks
    .map(({ name }) => name)
    .filter((name) => name !== "bystander");
  if (others.length === 0) return;
  await cloche.run(["stop", "--now", ...others]);
  await cloche.run(["rm", ...others]);
});
afterAll(() => cloche.end());

/** A fact of the host's that shows that the guest has what it wanted. */
const TAKEN: Record<string, (pid: number, disk: string) => boolean | Promise<boolean>> = {
  processes: async (pid) => (await busy(pid)) > 0.4,
  cpu: async (pid) => (await busy(pid)) > 0.4,
  // a kernel that has given up for want of memory has been taken all of it
  memory: (pid) => !alive(pid) || statusOf(pid, "RssShmem") > 0.8 * MEMORY_MIB * 1024,
  disk: (_pid, disk) => statSync(disk).blocks * 512 > 300 << 20, // what it writes; the rest it has reserved
};
/** the share of one CPU that a process uses in half a second */
async function busy(pid: number): Promise<number> {
  const [ticks, began] = [cpuTicks(pid), performance.now()];
  await new Promise((resolve) => setTimeout(resolve, 500));
  return ((cpuTicks(pid) - ticks) * 10) / (performance.now() - began);
}

async function hostIsUsable(): Promise<void> {
  const listed = await cloche.ok(["ls"]);
  const other = await cloche.ok(["exec", "bystander", "--", "echo", "here"]);
  expect(other.stdout).toBe("here\n");
  expect(Math.max(listed.ms, other.ms), "the keeper and the other task answer").toBeLessThan(ANSWER_MS);
}

describe.each(WHO)("guest %s takes", (who) => {
  it.each(["processes", "cpu", "memory", "disk"])("all of its machine's %s, and no more", async (kind) => {
    const name = `${who}-${kind}`;
    await cloche.ok(["new", name, "--cpus", "2", "--memory", `${MEMORY_MIB}m`, "--disk", `${DISK_GIB}g`]);
    await cloche.ok(["start", name]);
    const disk = join(cloche.home, "tasks", (await cloche.task(name)).id, "disk.raw");
    const before = hypervisor();
    // control: the guest works, and the host has its machine
    expect((await cloche.ok(["exec", name, "--", "echo", "here"])).stdout).toBe("here\n");
    const machine = onHost();
    expect(machine.processes.length).toBeGreaterThan(alone.processes.length);

    const sudo = who === "root" ? ["sudo"] : [];
    const attack = cloche.start(["exec", name, "--", "sh", "-c", 'cd /; exec "$@"', "sh", ...sudo, "python3", "-c", exhaust, kind]);
    await attack.saw("ready");
    attack.process.stdin.end("go\n");
    await until(`${kind} to be taken`, () => TAKEN[kind]?.(before, disk), TAKE_MS);

    await hostIsUsable();
    const now = onHost();
    for (const kind of ["processes", "sockets", "directories"] as const) {
      // less of it where the guest's own kernel gave up; never more
      expect(
        now[kind].filter((each) => !machine[kind].includes(each)),
        `no new ${kind}`,
      ).toEqual([]);
      expect(now[kind].length).toBeLessThanOrEqual(machine[kind].length);
    }
    if (alive(before)) {
      expect(statusOf(before, "Threads")).toBeLessThan(MAX_THREADS);
      expect(statusOf(before, "VmRSS")).toBeLessThan((MEMORY_MIB + OWN_MIB) * 1024);
    }
    expect(statSync(disk).size, "the disk does not grow").toBe(DISK_GIB * 2 ** 30);

    await cloche.ok(["stop", name]);
    expect(running(cloche, "qemu-system"), "stop says so when the machine is gone").toHaveLength(1);
    await attack.finished;
    await until("its last socket", () => JSON.stringify(onHost()) === JSON.stringify(alone), STOP_MS);
    // From the moment that the keeper has the request: the command's own start is not the guest's doing, and costs what the host's load makes it.
    const events = await cloche.events(name);
    const at = (kind: string) => Date.parse(events.findLast((event) => event.kind === kind)?.time ?? "");
    const took = at("task.stopped") - at("task.stopping");
    // a guest whose own kernel gave up had ended before
    if (Number.isNaN(took)) expect(events.map(({ kind }) => kind)).toContain("task.failed");
    else expect(took, "from the request to the machine's end").toBeLessThan(STOP_MS);
    process.stderr.write(`G08: ${who}, ${kind}: ${Number.isNaN(took) ? "ended by itself" : `stopped within ${took} ms`}\n`);
    await hostIsUsable();

    await cloche.ok(["start", name]);
    expect((await cloche.ok(["exec", name, "--", "echo", "again"])).stdout).toBe("again\n");
    await cloche.ok(["stop", name]);
    await cloche.ok(["rm", name]);
  });
});
