/**
 * G08: a guest that takes all there is of one thing, as its user, and as a root who has lifted what the guest bounds him by. It gets what
 * its machine was given and no more: the host, its keeper and the other tasks work on, `stop` ends it within 5 s, nothing is left, and the
 * task starts again.
 */
import { closeSync, existsSync, fstatSync, openSync, readdirSync, readFileSync, readSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { pidOf, running, until } from "../e2e/faults/support.ts";
import { BareGuest, Cloche } from "../harness/index.ts";
import { probe, WHO } from "./folders-support.ts";

/** Root prints without end, as the kernel and on the console's own line, each line with its number. */
const FLOOD = `
import os
for path, text in (("/proc/sys/kernel/printk_devkmsg", "on\\n"), ("/proc/sys/kernel/printk", "8 8 8 8\\n")):
    with open(path, "w") as file: file.write(text)
def flood(path, line):
    out, n = os.open(path, os.O_WRONLY | os.O_NOCTTY), 0
    while True:
        n += 1
        try: os.write(out, line % (n, b"x" * 800))
        except OSError: pass
print("ready", flush=True)
flood(*(("/dev/kmsg", b"<1>kernel-flood %08d %s") if os.fork() == 0 else ("/dev/console", b"console-flood %08d %s\\n")))
`;

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

/** A file's last bytes. */
function end(path: string): string {
  const file = openSync(path, "r");
  try {
    const bytes = Buffer.alloc(16_384);
    return bytes.toString("latin1", 0, readSync(file, bytes, 0, bytes.length, Math.max(0, fstatSync(file).size - bytes.length)));
  } finally {
    closeSync(file);
  }
}

/** The number of the last line of each kind that a console shows. */
function printed(log: string): { kernel: number; console: number } {
  const last = { kernel: 0, console: 0 };
  for (const [, what, number] of end(log).matchAll(/(kernel|console)-flood (\d{8})/g)) last[what as keyof typeof last] = Number(number);
  return last;
}

describe("guest root prints without end, as its kernel and on its console:", () => {
  it("the host keeps the newest of it, within its bound", async () => {
    const limit = 65_536;
    const guest = await BareGuest.boot({ consoleLimitBytes: limit });
    try {
      const log = join(guest.directory, "console.log");
      void guest.run(`sudo python3 -c '${FLOOD}'`).catch(() => {});
      const sizes: number[] = [];
      const most = { kernel: 0, console: 0 };
      await until(
        "several times as much to be printed as is kept",
        () => {
          sizes.push(statSync(log).size);
          for (const [what, number] of Object.entries(printed(log)))
            most[what as keyof typeof most] = Math.max(number, most[what as keyof typeof most]);
          return most.kernel > 0 && most.console > 0 && (most.kernel + most.console) * 800 > 4 * limit;
        },
        TAKE_MS,
      );
      expect(Math.max(...sizes)).toBeLessThanOrEqual(limit);
      expect(Math.max(...sizes), "some of it is kept").toBeGreaterThan(limit / 4);
    } finally {
      await guest.end();
    }
  });

  // the last of these tests: the guest that stood by is the one that floods, so that none is booted for it
  it("the keeper answers, and stop works", async () => {
    const log = join(cloche.home, "tasks", (await cloche.task("bystander")).id, "console.log");
    const going = cloche.start(["exec", "bystander", "--", "sudo", "python3", "-c", FLOOD]);
    await until("its flood", () => printed(log).kernel > 50, TAKE_MS);
    expect((await cloche.ok(["ls"])).ms, "the keeper answers").toBeLessThan(ANSWER_MS);
    const { kernel } = printed(log);
    await until("more of it", () => printed(log).kernel > kernel, TAKE_MS);

    await cloche.ok(["stop", "bystander"]);
    expect(running(cloche, "qemu-system"), "stop says so when the machine is gone").toEqual([]);
    await going.finished;
    const events = await cloche.events("bystander");
    const at = (kind: string) => Date.parse(events.findLast((event) => event.kind === kind)?.time ?? "");
    const took = at("task.stopped") - at("task.stopping");
    expect(took, "from the request to the machine's end").toBeLessThan(STOP_MS);
    process.stderr.write(`G08: root, console: stopped within ${took} ms\n`);
  });
});
