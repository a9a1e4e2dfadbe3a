/**
 * G05, G08: guest root takes the agent's control stream over (it may: everything in the guest is hostile) and sends what it likes.
 * What happens then happens to its own task: the keeper, the other tasks and the host's disk do not notice.
 */
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Cloche } from "../harness/index.ts";

const cloche = new Cloche();
let probes: string;

/** Finds the agent's stream to the host, stops the agent (it would end its machine) and sends `lines` of bytes. */
const TAKE_OVER = `
import ctypes, os, socket, sys, time
libc = ctypes.CDLL(None, use_errno=True)
process = libc.syscall(434, 1, 0)
if "stopped" in sys.argv: libc.ptrace(16, 1, 0, 0); time.sleep(0.3)
for n in os.listdir("/proc/1/fd"):
    try: stream = socket.socket(fileno=libc.syscall(438, process, int(n), 0))
    except OSError: continue
    try: peer = stream.getpeername()
    except OSError: continue
    if stream.family != 40 or peer[0] != 2: continue
    print("taken over", flush=True)
    stream.setblocking(True)
    if sys.argv[1] == "long-field":
        stream.sendall(b'{"jsonrpc":"2.0","method":"log","params":{"level":"info","message":"x","' + b"A" * 20000 + b'":1}}\\n')
        time.sleep(60)
    until = time.time() + 3
    while time.time() < until: stream.sendall(b'{"jsonrpc":"2.0","method":"log","params":{"level":"info","message":"' + b"x" * 4000 + b'"}}\\n')
    print("sent", flush=True)
    break
`;

beforeAll(async () => {
  probes = cloche.folder("probes");
  writeFileSync(join(probes, "take-over.py"), TAKE_OVER);
  await cloche.ok(["new", "bystander"]);
  await cloche.ok(["start", "bystander"]);
});
afterAll(() => cloche.end());

const stillThere = async () => {
  expect((await cloche.task("bystander")).state.at, cloche.diagnosis()).toBe("running");
  expect((await cloche.ok(["exec", "bystander", "--", "echo", "here"])).stdout).toBe("here\n");
};
const hostile = (...args: string[]) =>
  cloche.run(["run", "--name", args[0] ?? "", "--share", `${probes}:ro`, "--", "sudo", "python3", "take-over.py", ...args]);

describe("a guest that breaks its control stream", () => {
  it("ends its own machine only, however long what it sends", async () => {
    const ended = await hostile("long-field", "stopped");
    // the stopped agent also carries the probe's own output, so that it took the stream over is told by what the host saw
    expect(ended.status).toBe(125);
    expect(ended.stderr, cloche.diagnosis()).toContain("[guest.protocol]");
    await stillThere();
  });

  it("does not fill the host's disk by talking", async () => {
    const ended = await hostile("flood");
    expect(ended).toMatchObject({ status: 0, stdout: "taken over\nsent\n" });
    const events = (await cloche.events()).filter((event) => event.kind === "guest.log");
    expect(events.length, "what an ordinary guest says is kept").toBeGreaterThan(10);
    const id = events.at(-1)?.task ?? "";
    const file = join(cloche.home, "tasks", id, "audit.jsonl");
    expect(existsSync(file) && statSync(file).size).toBeLessThan(2_000_000);
    expect(readFileSync(join(cloche.home, "keeper.log"), { encoding: "utf8", flag: "a+" })).not.toContain("mistake");
    await stillThere();
  });
});
