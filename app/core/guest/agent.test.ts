import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createConnection, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { AGENT_PROTOCOL, agent, helper, share } from "../../../helpers/contract/protocol.ts";
import { keeperProtocol } from "../../contract/index.ts";
import { proxyProtocol } from "../egress/protocol.ts";
import { Agent } from "./agent.ts";

/** G05, G06: the guest's end of the control stream in the hands of somebody who is no agent of ours. */
const IMAGE = "a".repeat(64);
const HELLO = { protocol: AGENT_PROTOCOL, version: "0", image: IMAGE, kernel: "6.12", bootMs: 1 };
const line = (message: object) => `${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`;
const hello = line({ method: "hello", params: HELLO });

const open: Socket[] = [];
afterEach(() => {
  for (const socket of open.splice(0)) socket.destroy();
});

/** Both ends of a control stream; `theirs` is the guest's. */
async function stream(): Promise<{ ours: Socket; theirs: Socket }> {
  const directory = mkdtempSync(join(tmpdir(), "cloche-agent-"));
  const server = createServer();
  server.listen(join(directory, "s"));
  await once(server, "listening");
  const accepted = once(server, "connection") as Promise<[Socket]>;
  const theirs = createConnection(join(directory, "s"));
  const [ours] = await accepted;
  server.close();
  rmSync(directory, { recursive: true, force: true });
  for (const socket of [ours, theirs]) open.push(socket.on("error", () => {}));
  return { ours, theirs };
}

/** What comes of bytes that follow a proper hello: why the connection ended, what was logged, what was answered. */
async function comesOf(...bytes: (string | Buffer)[]): Promise<{ reason: string; logged: number; answered: string }> {
  const { ours, theirs } = await stream();
  let logged = 0;
  let answered = "";
  theirs.on("data", (chunk) => {
    answered += chunk;
  });
  const ended = Promise.withResolvers<string>();
  const greeted = Agent.greet(ours, { image: IMAGE }, { onLog: () => void logged++, onClose: ended.resolve });
  theirs.write(hello);
  await greeted;
  for (const part of bytes) theirs.write(part);
  const reason = await ended.promise;
  if (!ours.destroyed) await once(ours, "close");
  return { reason, logged, answered };
}

const METHODS = [keeperProtocol, helper, share, agent, proxyProtocol].flatMap(({ requests, notifications }) => [
  ...Object.keys(requests),
  ...Object.keys(notifications),
]);

describe("a guest on its control stream", () => {
  it("C08: has no power: whatever method of ours it calls ends the connection, unanswered", async () => {
    expect(METHODS.length).toBeGreaterThan(100);
    for (const method of [...new Set(METHODS)]) {
      const { reason, answered } = await comesOf(line({ id: 1, method, params: {} }));
      expect([method, reason]).toEqual([method, expect.stringContaining("may not ask")]);
      expect(answered).toBe("");
    }
  });

  it("tells nothing but what an agent tells: another notification ends the connection", async () => {
    const told = Object.keys(agent.notifications);
    for (const method of [...new Set(METHODS), "__proto__", "constructor", "toString"].filter((name) => !told.includes(name)))
      expect([method, (await comesOf(line({ method, params: {} }))).reason]).toEqual([
        method,
        expect.stringContaining("unknown notification"),
      ]);
  });

  it("says hello once, and an answer is to what was asked", async () => {
    expect((await comesOf(hello)).reason).toContain("hello twice");
    expect((await comesOf(line({ id: 1, result: {} }))).reason).toContain("not open");
    expect((await comesOf(line({ id: 1, error: { code: 1, message: "x" } }))).reason).toContain("not open");
  });

  it.each<[string, string | Buffer]>([
    ["no JSON", "{\n"],
    ["no object", "[]\n"],
    ["nothing", "\n"],
    ["no UTF-8", Buffer.from([0xff, 0xfe, 0x0a])],
    ["a NUL", Buffer.from([0, 0x0a])],
    ["a line without an end", Buffer.alloc(3 << 20, "x")],
    ["deep", `${"[".repeat(500_000)}\n`],
    ["another version", '{"jsonrpc":"1.0","method":"log","params":{}}\n'],
    ["a field that is not known", line({ method: "log", params: { level: "info", message: "x" }, more: 1 })],
    ["a field that is not known, below", line({ method: "log", params: { level: "info", message: "x", more: 1 } })],
    ["a number for a text", line({ method: "log", params: { level: "info", message: 1 } })],
    ["a message that is too long", line({ method: "log", params: { level: "info", message: "x".repeat(100_000) } })],
    ["another level", line({ method: "log", params: { level: "root", message: "x" } })],
  ])("ends it with %s, and what came before holds", async (_, bytes) => {
    const { reason, logged } = await comesOf(line({ method: "log", params: { level: "info", message: "before" } }), bytes, hello);
    expect(reason).not.toContain("hello");
    expect(logged).toBe(1);
  });

  it("is not taken for the agent without a proper hello of this image", async () => {
    for (const claim of [
      { ...HELLO, image: "b".repeat(64) },
      { ...HELLO, protocol: AGENT_PROTOCOL + 1 },
      { ...HELLO, more: 1 },
    ]) {
      const { ours, theirs } = await stream();
      const greeted = Agent.greet(ours, { image: IMAGE }, { onLog: () => {}, onClose: () => {} });
      theirs.write(line({ method: "hello", params: claim }));
      await expect(greeted).rejects.toMatchObject({ problem: { code: "guest.protocol" } });
    }
  });

  it("that is silent holds nobody longer than the call's time", async () => {
    const { ours, theirs } = await stream();
    const greeted = Agent.greet(ours, { image: IMAGE }, { onLog: () => {}, onClose: () => {} });
    theirs.write(hello);
    await expect((await greeted).call("stats", {}, 50)).rejects.toMatchObject({ problem: { code: "guest.silent" } });
  });
});
