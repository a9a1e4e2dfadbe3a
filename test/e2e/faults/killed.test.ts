/**
 * Each part of a running machine dies once. Every time: the command that ran is told, the task has failed with one problem, nothing of
 * the machine is on the host, the folder and the history are whole, and the same task starts again (which is each next test's first line).
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Cloche, type Going } from "../../harness/index.ts";
import { type Code, failedWith, historyIsWhole, noMachineLeft, pidOf, refusedWith, until } from "./support.ts";

const cloche = new Cloche();
const folder = cloche.folder("notes");

beforeAll(async () => {
  await cloche.ok(["new", "victim", "--share", `${folder}:rw`]);
});
afterAll(() => cloche.end());

/** A started machine with a command that has written into the folder and waits. */
async function working(mark: string): Promise<Going> {
  await cloche.ok(["start", "victim"]);
  const going = cloche.start(["exec", "victim", "--", "sh", "-c", `echo ${mark} > ${mark}; sync ${mark}; echo here; exec cat`]);
  await going.saw("here");
  return going;
}

async function sawTheEnd(going: Going | undefined, mark: string, code: Code) {
  if (going) refusedWith(await going.finished, code);
  const problem = await failedWith(cloche, "victim", code);
  await noMachineLeft(cloche);
  expect(readFileSync(join(folder, mark), "utf8")).toBe(`${mark}\n`);
  const events = historyIsWhole(cloche);
  expect(events.at(-1)?.kind === "task.failed" || events.some((event) => event.kind === "task.failed")).toBe(true);
  refusedWith(await cloche.run(["exec", "victim", "--", "true"]), code);
  return problem;
}

describe("a part of a running machine is killed from outside", () => {
  it.each([
    ["QEMU", "qemu-system", "machine.died", "hypervisor ended unasked"],
    ["the vsock device", "vhost-device-vsock", "machine.died", "connection to the host broke"],
    ["the helper", "cloche-helper", "machine.helper", "helper, which runs the machine, ended"],
  ] as const)("%s", async (_, program, code, says) => {
    const going = await working(program);
    process.kill(pidOf(cloche, program), "SIGKILL");
    const problem = await sawTheEnd(going, program, code);
    expect(problem.message).toContain(says);
  });
});

/** Guest root makes PID 1 fail: its own code is overwritten, so that no handler of it can help. */
const CRASH_PID_1 = `
import os, re, signal
for line in open("/proc/1/maps"):
    m = re.match(r"([0-9a-f]+)-([0-9a-f]+) r-xp .*/", line)
    if m:
        low, high = int(m[1], 16), int(m[2], 16)
        with open("/proc/1/mem", "r+b", buffering=0) as mem:
            mem.seek(low)
            mem.write(b"\\x0f\\x0b" * ((high - low) // 2))
os.kill(1, signal.SIGTERM)  # it sleeps, and crashes when it wakes
`;
/** Guest root takes the agent's stream to the host and shuts it. */
const CUT_CONTROL = `
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
pidfd = libc.syscall(434, 1, 0)
for name in os.listdir("/proc/1/fd"):
    if not os.readlink("/proc/1/fd/" + name).startswith("socket:"): continue
    fd = libc.syscall(438, pidfd, int(name), 0)
    s = socket.socket(fileno=fd)
    try:
        if s.family == socket.AF_VSOCK and s.getpeername()[0] == 2: s.shutdown(socket.SHUT_RDWR)
    except OSError: pass
`;

describe("the guest ends by itself", () => {
  it("its kernel panics, because guest root made PID 1 crash", async () => {
    const going = await working("panic");
    const crash = cloche.start(["exec", "victim", "--", "sudo", "python3", "-c", CRASH_PID_1]);
    const problem = await sawTheEnd(going, "panic", "machine.panic");
    expect(problem.evidence).toContain("Kernel panic - not syncing: Attempted to kill init!");
    refusedWith(await crash.finished, "machine.panic");
  });

  it("its agent's connection is cut by guest root", async () => {
    const going = await working("cut");
    const cut = cloche.start(["exec", "victim", "--", "sudo", "python3", "-c", CUT_CONTROL]);
    // the agent ends what runs before it ends the machine, so the command may be told of the signal first
    const ended = await going.finished;
    if (ended.status !== 143) refusedWith(ended, "machine.died");
    await until("the task's failure", async () => (await cloche.task("victim")).state.at === "failed");
    const problem = await sawTheEnd(undefined, "cut", "machine.died");
    expect(problem.evidence).toContain("the host has left");
    expect([125, 143]).toContain((await cut.finished).status);
  });

  it("its user switches it off", async () => {
    const going = await working("off");
    const off = cloche.start(["exec", "victim", "--", "sudo", "python3", "-c", "import ctypes; ctypes.CDLL(None).reboot(0x1234567)"]);
    const problem = await sawTheEnd(going, "off", "machine.died");
    expect(problem.message).toContain("switched itself off");
    refusedWith(await off.finished, "machine.died");
  });

  it("kill -9 of PID 1 by guest root changes nothing", async () => {
    const going = await working("one");
    await cloche.ok(["exec", "victim", "--", "sudo", "kill", "-9", "1"]);
    await cloche.ok(["exec", "victim", "--", "sudo", "kill", "-SEGV", "1"]);
    await cloche.ok(["exec", "victim", "--", "sudo", "kill", "-TERM", "1"]);
    going.process.stdin.end("still here\n");
    expect((await going.finished).stdout).toBe("here\nstill here\n");
    await cloche.ok(["stop", "victim"]);
    await noMachineLeft(cloche);
    expect((await cloche.task("victim")).state.at).toBe("stopped");
  });
});
