/**
 * H07: what a guest says is kept as what it said. It prints events, results and words of Cloche's own wherever it can, and its root
 * takes the agent's stream over and sends them there: no event of the host's comes of it, and no record of the log is changed.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { EventEnvelope } from "../../app/contract/index.ts";
import { Cloche } from "../harness/index.ts";
import { WHO } from "./folders-support.ts";
import { random } from "./keys-support.ts";

const mark = `forged-${random()}`;
/** Events and words that would mean something if the host said them. */
const forged = [
  {
    version: 1,
    id: 1,
    time: "2030-01-01T00:00:00.000Z",
    kind: "policy.added",
    source: "host",
    actor: { kind: "user", via: "cli" },
    data: { mark },
    chain: "0".repeat(64),
  },
  {
    version: 1,
    id: 999_999,
    time: "2030-01-01T00:00:00.000Z",
    kind: "changes.applied",
    source: "host",
    actor: { kind: "user" },
    data: { mark },
    chain: "f".repeat(64),
  },
].map((event) => JSON.stringify(event));
const words = [`cloche: ${mark} 3 changes were applied.`, JSON.stringify({ version: 1, task: "liar", status: 0, mark }), ...forged];

/** Says them on every way that leaves a guest but its own agent's. */
const SAY = `
import json, os, sys
words = json.loads(sys.argv[1])
for line in words:
    print(line); print(line, file=sys.stderr)
    for path in ("/dev/console", "/dev/kmsg", "/proc/1/fd/1", "/proc/1/fd/2"):
        try:
            with open(path, "w") as f: f.write("\\n" + line + "\\n")
        except OSError: pass
`;
/** Finds the agent's stream to the host, and says them in its name: as its log, as notifications, and as the host's own answers. */
const SPEAK = `
import ctypes, json, os, socket, sys, time
words = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
process = libc.syscall(434, 1, 0)
for n in os.listdir("/proc/1/fd"):
    try: stream = socket.socket(fileno=libc.syscall(438, process, int(n), 0))
    except OSError: continue
    try: peer = stream.getpeername()
    except OSError: continue
    if stream.family != 40 or peer[0] != 2: continue
    stream.setblocking(True)
    def say(method, params): stream.sendall(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode() + b"\\n")
    for line in words:
        say("log", {"level": "info", "message": line})
        say("log", {"level": "info", "message": "x\\n" + line + "\\r\\n\\x1b[1A" + line})
    print("spoken", flush=True)
    break
`;

const cloche = new Cloche();
beforeAll(async () => {
  await cloche.ok(["new", "liar"]);
  await cloche.ok(["start", "liar"]);
});
afterAll(() => cloche.end());

/** The records as they stand on disk, and no reader's view of them. */
async function records(): Promise<EventEnvelope[]> {
  const { id } = await cloche.task("liar");
  const text = readFileSync(join(cloche.home, "tasks", id, "audit.jsonl"), "utf8");
  return text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as EventEnvelope);
}
/** Those that speak of the forged ones, but for the commands that this suite itself ran as the user. */
const touched = (all: readonly EventEnvelope[]) =>
  all.filter((event) => event.kind !== "exec.started" && JSON.stringify(event).includes(mark));

describe("what a guest claims", () => {
  it.each(WHO)("is its output and its console's, however it is worded, when its %s prints it", async (who) => {
    const before = await records();
    const sudo = who === "root" ? ["sudo"] : [];
    const { stdout, stderr } = await cloche.ok(["exec", "liar", "--", ...sudo, "python3", "-c", SAY, JSON.stringify(words)]);
    for (const line of words) expect([stdout.includes(line), stderr.includes(line)]).toEqual([true, true]);
    const after = await records();
    expect(after.slice(0, before.length)).toEqual(before);
    expect(new Set(after.slice(before.length).map(({ kind }) => kind))).toEqual(new Set(["exec.started", "exec.ended"]));
    expect(touched(after)).toEqual([]);
    expect((await cloche.ok(["logs", "liar"])).stdout, "what it printed is told as its output").toContain(forged[0]);
    if (who === "root") expect((await cloche.ok(["logs", "liar", "--console"])).stdout).toContain(mark);
  });

  it("is told as the guest's word when its root says it in the agent's name", async () => {
    const before = await records();
    const spoken = await cloche.run(["exec", "liar", "--", "sudo", "python3", "-c", SPEAK, JSON.stringify(words)]);
    expect(spoken.stdout).toBe("spoken\n");
    await expect.poll(async () => touched(await records()).length, { timeout: 30_000 }).toBe(words.length * 2);
    const after = await records();
    expect(after.slice(0, before.length)).toEqual(before);
    for (const { kind, source, actor, data } of touched(after)) {
      expect({ kind, source, actor: actor.kind }).toEqual({ kind: "guest.log", source: "guest", actor: "guest" });
      expect(Object.keys(data).sort()).toEqual(["level", "message"]);
    }
    const lines = (await cloche.ok(["events", "liar"])).stdout
      .split("\n")
      .filter((line) => line.includes(mark) && !line.includes("exec.started"));
    expect(lines).toHaveLength(words.length * 2);
    for (const line of lines) expect(line).toMatch(/^\S+ \S+ {2}liar {2}guest\.log \(the guest says\) /);
    expect((await cloche.task("liar")).state.at).toBe("running");
  });

  it("changed nothing of the log: it verifies, ids count up, and nothing that happened is missing", async () => {
    expect((await cloche.ok(["events", "verify"])).stdout).toContain("nothing was changed");
    const all = await records();
    expect(all.map(({ id }) => id)).toEqual(all.map(({ id }) => id).sort((a, b) => a - b));
    const kinds = all.map(({ kind }) => kind);
    expect(kinds.filter((kind) => kind === "exec.started")).toHaveLength(kinds.filter((kind) => kind === "exec.ended").length);
    expect(kinds).not.toContain("policy.added");
    expect(kinds).not.toContain("changes.applied");
  });
});
