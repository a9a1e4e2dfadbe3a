import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createConnection, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Gateway } from "./gateway.ts";
import { PROXY_PROTOCOL } from "./protocol.ts";

/**
 * A proxy that does as it is told in `mode`: `echo` answers with what it reads, first of all with its pid; `mute` takes no word of the
 * keeper's; `dies` ends at its first stream; `never` ends at its start; `journals N` writes N decisions down at a stream, and tells of the first.
 */
const PROGRAM = `
import { readFileSync, readdirSync, appendFileSync } from "node:fs";
import { createInterface } from "node:readline";
const mode = readFileSync("PLACE/mode", "utf8");
appendFileSync("PLACE/starts", process.pid + "\\n");
if (mode === "never") process.exit(3);
createInterface({ input: process.stdin }).on("line", (line) => {
  const { id, method } = JSON.parse(line);
  if (mode !== "mute" && id !== undefined) process.stdout.write(JSON.stringify({ jsonrpc: "2.0", id, result: method === "hello" ? { protocol: VERSION } : {} }) + "\\n");
}).on("close", () => process.exit(0));
process.on("message", (_, stream) => {
  if (mode.startsWith("journals")) {
    const request = { scheme: "https", host: "a.example", port: 443, method: "GET", path: "/", upgrade: false };
    const entries = [1, 2, 3].slice(0, Number(mode.split(" ")[1])).map((id) => ({ id, at: 1, what: "decided", request }));
    const [file] = readdirSync("PLACE/journals");
    for (const entry of entries) appendFileSync("PLACE/journals/" + file, JSON.stringify({ seq: entry.id, entry }) + "\\n");
    process.stdout.write(JSON.stringify({ jsonrpc: "2.0", method: "activity", params: { batch: 1, entries: entries.slice(0, 1), journaled: 1 } }) + "\\n");
  }
  if (mode === "dies") process.kill(process.pid, "SIGKILL");
  stream.on("error", () => {});
  stream.write(process.pid + ":");
  stream.on("data", (chunk) => stream.write(chunk));
  stream.resume();
});
`;

let directory: string;
let gateway: Gateway;
const died: string[] = [];
const decided: number[] = [];
let written = Promise.resolve();
const streams: Socket[] = [];
const mode = (text: string) => writeFileSync(join(directory, "mode"), text);
const starts = () =>
  existsSync(join(directory, "starts")) ? readFileSync(join(directory, "starts"), "utf8").trim().split("\n").map(Number) : [];

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "cloche-gateway-"));
  died.length = 0;
  decided.length = 0;
  written = Promise.resolve();
  mode("echo");
  writeFileSync(join(directory, "proxy.mjs"), PROGRAM.replaceAll("PLACE", directory).replace("VERSION", String(PROXY_PROTOCOL)));
  gateway = await Gateway.listen(join(directory, "v_1"), {
    programs: { node: process.execPath, proxy: join(directory, "proxy.mjs") },
    log: join(directory, "log"),
    journals: join(directory, "journals"),
    task: "t",
    authority: { certificate: "c", key: "k" },
    trusted: [],
    policy: () => ({ rules: [], answering: false }),
    secrets: () => [],
    events: {
      onDecided: (entries) => {
        decided.push(...entries.map(({ id }) => id));
        return written;
      },
      onEnded: async () => {},
      onAsked: () => {},
      onUnasked: () => {},
      onUnanswered: () => {},
      onDied: (why) => died.push(why),
      onLost: () => {},
    },
  });
});
afterEach(async () => {
  for (const stream of streams.splice(0)) stream.destroy();
  await gateway.end();
  rmSync(directory, { recursive: true, force: true });
});

/** A guest's stream. */
async function stream(bytes = ""): Promise<{ socket: Socket; said: () => string; closed: Promise<unknown> }> {
  const socket = createConnection(join(directory, "v_1"));
  let text = "";
  socket.on("error", () => {});
  socket.on("data", (chunk) => {
    text += chunk;
  });
  streams.push(socket);
  const closed = new Promise((resolve) => socket.once("close", resolve));
  await once(socket, "connect");
  socket.write(bytes);
  return { socket, said: () => text, closed };
}

describe("a machine's way out", () => {
  it("has no proxy before the first stream, and then one for all; no byte of a stream is the keeper's", async () => {
    expect([starts(), gateway.processes]).toEqual([[], []]);
    const [one, two] = [await stream("connect a 1\n\x00\xff"), await stream("connect b 2\n")];
    await expect.poll(one.said).toMatch(/^\d+:connect a 1\n/);
    await expect.poll(two.said).toMatch(/^\d+:connect b 2\n/);
    expect(starts()).toHaveLength(1);
    expect(gateway.processes).toEqual([{ role: "proxy", pid: starts()[0] }]);
  });

  it("L05: a killed proxy takes its streams along and is told of once; the next stream has another one, with nothing of the first", async () => {
    const cut = await stream("one");
    await expect.poll(cut.said).toContain("one");
    process.kill(starts()[0] ?? 0, "SIGKILL");
    await cut.closed;
    await expect.poll(() => died).toEqual(["SIGKILL"]);
    const next = await stream("two");
    await expect.poll(next.said).toMatch(/^\d+:two$/);
    expect(next.said()).toBe(`${starts()[1]}:two`);
    expect(died).toHaveLength(1);
  });

  it.each([
    ["is killed", () => process.kill(starts()[0] ?? 0, "SIGKILL")],
    ["ends with its machine", () => gateway.end()],
  ])("P4: what a proxy wrote down and had not told when it %s is told, once; its journal is gone", async (_, end) => {
    mode("journals 3");
    await stream("x");
    await expect.poll(() => decided).toEqual([1]);
    const journals = join(directory, "journals");
    expect(readdirSync(journals)).toHaveLength(1);
    await end();
    await expect.poll(() => decided).toEqual([1, 2, 3]);
    await expect.poll(() => readdirSync(journals)).toEqual([]);
  });

  it("P4: what a killed proxy told last stays in its journal until it is in the log, also where nothing else is left to tell", async () => {
    mode("journals 1");
    let write = () => {};
    written = new Promise((resolve) => {
      write = resolve;
    });
    const cut = await stream("x");
    await expect.poll(() => decided).toEqual([1]);
    process.kill(starts()[0] ?? 0, "SIGKILL");
    await cut.closed;
    await expect.poll(() => died).toEqual(["SIGKILL"]);
    mode("echo");
    const next = await stream("y");
    await expect.poll(next.said).toMatch(/y$/); // by another proxy, with a journal of its own
    const journals = join(directory, "journals");
    expect(readdirSync(journals)).toHaveLength(2);
    write();
    await expect.poll(() => readdirSync(journals)).toHaveLength(1);
    expect(decided).toEqual([1]);
  });

  it.each([
    ["dies", 5],
    ["never", 1],
  ])(
    "E22: what ends it gains nothing by doing it again: it is left off, which is told once; streams are closed, also those on their way (%s)",
    async (how, told) => {
      mode(how);
      for (let round = 0; round < 10; round++) {
        const together = await Promise.all(Array.from({ length: 20 }, () => stream("x")));
        await Promise.all(together.map(({ closed }) => closed));
        expect(together.map(({ said }) => said()).join("")).toBe("");
      }
      expect(starts().length).toBeLessThanOrEqual(6);
      expect(died).toHaveLength(told);
      expect(died.filter((why) => why.includes("nothing leaves the task for a minute"))).toEqual([died.at(-1)]);
    },
  );

  it("without a proxy nothing passes: streams wait, bounded, and are closed when none can be started", async () => {
    mode("mute");
    const waiting: Awaited<ReturnType<typeof stream>>[] = [];
    while (waiting.length < 600) waiting.push(await stream("x"));
    await expect.poll(() => waiting.filter(({ socket }) => socket.destroyed).length, { timeout: 10_000 }).toBe(600 - 512);
    expect(waiting.map(({ said }) => said()).join("")).toBe("");
    process.kill(starts()[0] ?? 0, "SIGKILL");
    mode("never");
    await Promise.all(waiting.map(({ closed }) => closed));
    expect(waiting.map(({ said }) => said()).join("")).toBe("");
  });

  it("ends with its machine: the socket is gone, and so is the proxy, also one that does not listen", async () => {
    mode("mute");
    const waiting = await stream("x");
    await expect.poll(() => starts().length).toBe(1);
    await gateway.end();
    await waiting.closed;
    expect(existsSync(join(directory, "v_1"))).toBe(false);
    expect(() => process.kill(starts()[0] ?? 0, 0)).toThrow();
  });
});
