import { describe, expect, it } from "vitest";
import { z } from "zod";
import { type LineTransport, MAX_OPEN_REQUESTS, RpcClosed, RpcError, RpcPeer } from "./rpc.ts";

const nothing = z.strictObject({});
const protocol = {
  requests: { double: { params: z.strictObject({ n: z.int() }), result: z.strictObject({ n: z.int() }) } },
  notifications: { tick: z.strictObject({ n: z.int() }) },
} as const;

/** A transport whose other end is the test. */
function wire() {
  const sent: unknown[] = [];
  let handlers: Parameters<LineTransport["start"]>[0] = { onLine: () => {}, onClose: () => {} };
  let closed = false;
  const transport: LineTransport = {
    send: (line) => void sent.push(JSON.parse(line)),
    close: () => {
      closed = true;
    },
    start: (given) => {
      handlers = given;
    },
  };
  return {
    transport,
    sent,
    line: (value: unknown) => handlers.onLine(typeof value === "string" ? value : JSON.stringify(value)),
    isClosed: () => closed,
  };
}

describe("a caller of a hostile side", () => {
  it("gets the answer that fits", async () => {
    const side = wire();
    const peer = new RpcPeer({ transport: side.transport, remote: protocol, notified: { tick: () => {} } });
    const answer = peer.call("double", { n: 2 });
    expect(side.sent).toEqual([{ jsonrpc: "2.0", id: 1, method: "double", params: { n: 2 } }]);
    side.line({ jsonrpc: "2.0", id: 1, result: { n: 4 } });
    expect(await answer).toEqual({ n: 4 });
  });

  it("gets a refusal as an error with its data, and can go on", async () => {
    const side = wire();
    const peer = new RpcPeer({ transport: side.transport, remote: protocol, notified: { tick: () => {} } });
    const answer = peer.call("double", { n: 2 });
    side.line({ jsonrpc: "2.0", id: 1, error: { code: -32000, message: "no", data: { code: "x" } } });
    await expect(answer).rejects.toEqual(new RpcError(-32000, "no", { code: "x" }));
    const again = peer.call("double", { n: 1 });
    side.line({ jsonrpc: "2.0", id: 2, result: { n: 2 } });
    expect(await again).toEqual({ n: 2 });
  });

  it.each([
    ["text that is no JSON", "{"],
    ["an array", "[]"],
    ["an unknown field", { jsonrpc: "2.0", id: 1, result: { n: 4 }, extra: 1 }],
    ["an answer that does not fit its schema", { jsonrpc: "2.0", id: 1, result: { n: "4" } }],
    ["an answer with a field too many", { jsonrpc: "2.0", id: 1, result: { n: 4, m: 1 } }],
    ["an answer to nothing", { jsonrpc: "2.0", id: 7, result: {} }],
    ["an unknown notification", { jsonrpc: "2.0", method: "toString", params: {} }],
    ["a notification that does not fit", { jsonrpc: "2.0", method: "tick", params: { n: "x" } }],
    ["a request, from a side that may not ask", { jsonrpc: "2.0", id: 1, method: "double", params: { n: 1 } }],
    ["a list of requests", [{ jsonrpc: "2.0", method: "tick", params: { n: 1 } }]],
  ])("ends the connection on %s, with every open call rejected", async (_, line) => {
    const side = wire();
    const peer = new RpcPeer({ transport: side.transport, remote: protocol, notified: { tick: () => {} } });
    const answer = peer.call("double", { n: 2 });
    side.line(line);
    await expect(answer).rejects.toBeInstanceOf(RpcClosed);
    expect(side.isClosed()).toBe(true);
    await expect(peer.call("double", { n: 1 })).rejects.toBeInstanceOf(RpcClosed);
  });

  it("why it ended is told in a few words, however long the field that did not fit", () => {
    const side = wire();
    let reason = "";
    const onClose = (why: string) => {
      reason = why;
    };
    new RpcPeer({ transport: side.transport, remote: protocol, notified: { tick: () => {} }, onClose });
    side.line({ jsonrpc: "2.0", method: "tick", params: { n: 1, ["A".repeat(900_000)]: 1 } });
    expect(reason).toMatch(/^the other side broke the protocol: tick: /);
    expect(reason.length).toBeLessThan(400);
  });

  it("a mistake in taking a notification ends this connection and goes no further", () => {
    const side = wire();
    const tick = () => {
      throw new Error("the disk is full");
    };
    new RpcPeer({ transport: side.transport, remote: protocol, notified: { tick } });
    expect(() => side.line({ jsonrpc: "2.0", method: "tick", params: { n: 1 } })).not.toThrow();
    expect(side.isClosed()).toBe(true);
  });

  it("delivers a notification that fits", () => {
    const side = wire();
    const ticks: number[] = [];
    new RpcPeer({ transport: side.transport, remote: protocol, notified: { tick: ({ n }) => ticks.push(n) } });
    side.line({ jsonrpc: "2.0", method: "tick", params: { n: 3 } });
    expect(ticks).toEqual([3]);
  });
});

describe("an answerer", () => {
  const serve = () => {
    const side = wire();
    const waiting: (() => void)[] = [];
    new RpcPeer({
      transport: side.transport,
      remote: { requests: {}, notifications: {} },
      local: {
        protocol: { requests: { ...protocol.requests, wait: { params: nothing, result: nothing } }, notifications: {} },
        handlers: {
          double: async ({ n }) => ({ n: n * 2 }),
          wait: () => new Promise<Record<string, never>>((resolve) => waiting.push(() => resolve({}))),
        },
        toError: (error) => new RpcError(-32000, (error as Error).message),
      },
    });
    return { side, waiting };
  };

  it.each([
    ["an unknown method", "nope", {}, -32601],
    ["a method of every object", "toString", {}, -32601],
    ["an unknown field", "double", { n: 1, m: 2 }, -32602],
    ["a missing field", "double", {}, -32602],
  ])("refuses %s, and answers the next request", async (_, method, params, code) => {
    const { side } = serve();
    side.line({ jsonrpc: "2.0", id: 1, method, params });
    side.line({ jsonrpc: "2.0", id: 2, method: "double", params: { n: 4 } });
    await expect
      .poll(() => side.sent)
      .toMatchObject([
        { id: 1, error: { code } },
        { id: 2, result: { n: 8 } },
      ]);
  });

  it("ends the connection when too many requests are open", () => {
    const { side } = serve();
    for (let id = 1; id <= MAX_OPEN_REQUESTS; id++) side.line({ jsonrpc: "2.0", id, method: "wait", params: {} });
    expect(side.isClosed()).toBe(false);
    side.line({ jsonrpc: "2.0", id: 99, method: "wait", params: {} });
    expect(side.isClosed()).toBe(true);
  });
});
