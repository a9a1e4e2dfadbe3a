import { describe, expect, it } from "vitest";
import type { EgressRequest } from "../../contract/index.ts";
import { Asks } from "./asks.ts";

const task = { id: "0123456789abcdef", name: "receipts" };
const other = { id: "00000000000000aa", name: "other" };
const to = (host: string, path = "/"): { request: EgressRequest; rule: string; reason: string } => ({
  request: { scheme: "https", host, port: 443, method: "GET", path, upgrade: false },
  rule: "default",
  reason: "No rule allows it.",
});

describe("what users are asked", () => {
  it("requests to one host are one ask; a neighbour's is another, with its own line, and so is another task's", async () => {
    const asks = new Asks();
    const first = asks.add(task, { ...to("a.example.com"), held: 1 });
    const again = asks.add(task, { ...to("a.example.com", "/more"), held: 2 });
    const neighbour = asks.add(task, { ...to("b.example.com"), held: 3 });
    asks.add(other, to("a.example.com"));
    expect([first.opened, again.opened, again.id, neighbour.opened]).toEqual([true, false, first.id, true]);
    const { asks: listed } = await asks.list({ waitMs: 0 });
    expect(listed.map((ask) => [ask.task, ask.offer.host, ask.domain, ask.count, ask.state])).toEqual([
      ["receipts", "b.example.com", "example.com", 1, "pending"],
      ["receipts", "a.example.com", "example.com", 2, "pending"],
      ["other", "a.example.com", "example.com", 1, "refused"],
    ]);
    expect(asks.take(first.id).map(({ held, request }) => [held, request.path])).toEqual([
      [1, "/"],
      [2, "/more"],
    ]);
    expect(asks.take(neighbour.id).map(({ held }) => held)).toEqual([3]);
  });

  it("E27: ten thousand names under one domain are a few asks: the first ones stay as they were, the last has the others", async () => {
    const asks = new Asks();
    for (let n = 0; n < 10_000; n++) asks.add(task, to(`n${n}.example.com`));
    const { asks: listed } = await asks.list({ waitMs: 0 });
    expect(listed.map(({ request: { host }, count }) => [host, count])).toEqual([
      ["n9999.example.com", 9996],
      ["n3.example.com", 1],
      ["n2.example.com", 1],
      ["n1.example.com", 1],
      ["n0.example.com", 1],
    ]);
  });

  it("E27: ten thousand names of one task are a bounded list, and what waits is kept", async () => {
    const asks = new Asks();
    const waits = asks.add(task, { ...to("wanted.example.com"), held: 1 });
    const others = asks.add(other, to("other.example.com"));
    for (let n = 0; n < 10_000; n++) asks.add(task, to(`flood${n}.com`));
    const { asks: listed } = await asks.list({ waitMs: 0 });
    expect(asks.count(task.id)).toBeLessThanOrEqual(100);
    expect(listed[0]?.id).toBe(waits.id);
    expect(listed.some(({ id }) => id === others.id)).toBe(true);
  });

  it("the offer is the narrowest rule under which the newest request passes", () => {
    const asks = new Asks();
    expect(asks.add(task, to("api.example.com", "/v1/things")).offer).toMatchObject({
      decision: "allow",
      host: "api.example.com",
      methods: ["GET"],
    });
  });

  it("an ask whose requests are all let go stays in the list as refused", async () => {
    const asks = new Asks();
    const { id } = asks.add(task, { ...to("a.example.com"), held: 1 });
    asks.letGo(task.id, 1);
    expect((await asks.list({ waitMs: 0 })).asks).toMatchObject([{ id, state: "refused" }]);
  });

  it("who follows the list is woken by a change, and answered at once when it has an older one", async () => {
    const asks = new Asks();
    const { revision } = await asks.list({ waitMs: 0 });
    const woken = asks.list({ revision, waitMs: 30_000 });
    asks.add(task, to("a.example.com"));
    expect((await woken).asks).toHaveLength(1);
    expect((await asks.list({ revision, waitMs: 30_000 })).asks).toHaveLength(1);
  });

  it("an ask that is answered is open no more", () => {
    const asks = new Asks();
    const { id } = asks.add(task, to("a.example.com"));
    asks.take(id);
    expect(() => asks.get(id)).toThrow("no open question");
  });
});
