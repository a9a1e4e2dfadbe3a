import { describe, expect, it } from "vitest";
import { egressEntries, egressEntry, fitAtFirstLook } from "./egress.ts";
import { keeperProtocol } from "./methods.ts";
import { pageKeeperRequests } from "./web.ts";

const shown = { decision: "allow", host: "api.example.com", methods: ["GET"], paths: ["/v1/things"] };

for (const [who, { params }] of [
  ["the keeper", keeperProtocol.requests["asks.answer"]],
  ["the web host", pageKeeperRequests["asks.answer"]],
] as const) {
  it(`an answer has the rule that was shown: without one ${who} refuses it, as the guest could choose the rule; with one it is taken`, () => {
    for (const answer of ["allow", "deny"]) {
      expect(params.safeParse({ ask: "a1", answer, scope: "task" }).success, answer).toBe(false);
      expect(params.safeParse({ ask: "a1", answer, scope: "task", rule: {} }).success, answer).toBe(false);
      expect(params.parse({ ask: "a1", answer, scope: "task", rule: shown }), answer).toMatchObject({ answer, rule: shown });
    }
  });
}

describe("entries of the record", () => {
  const request = { scheme: "https", host: "api.example.com", port: 443, method: "GET", path: "/v1", upgrade: false };
  const decided = {
    id: 1,
    at: 2,
    what: "decided",
    request,
    decision: "allow",
    rule: "r1",
    reason: "said so",
    resolution: "host",
    secret: "k",
  };
  const ended = {
    id: 1,
    at: 3,
    what: "ended",
    request,
    rule: "r1",
    sentBytes: 0,
    receivedBytes: 9,
    ms: 4,
    address: "192.0.2.1",
    status: 200,
    fault: "x",
  };

  it("of the proxy's own are taken as they are", () => {
    expect(fitAtFirstLook([decided, ended])).toBe(true);
    expect(egressEntries.parse([decided, ended])).toEqual([decided, ended]);
  });

  it("that a first look takes, the schema takes as they are; what it does not, the schema decides, and says why", () => {
    const odd = [
      ...[
        undefined,
        null,
        true,
        "",
        "a",
        "allow",
        "x".repeat(65),
        "x".repeat(257),
        "x".repeat(1025),
        "x".repeat(2049),
        "../k",
        -1,
        0,
        1,
        1000,
      ],
      ...[65_536, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, [], {}, new Date(0), request],
    ];
    let [taken, refused] = [0, 0];
    const check = (entry: unknown) => {
      const schema = egressEntry.safeParse(entry);
      if (fitAtFirstLook([entry])) {
        taken++;
        expect(schema.data, JSON.stringify(entry)).toEqual(entry);
      } else refused++;
      const all = egressEntries.safeParse([decided, entry]);
      expect(all.success, JSON.stringify(entry)).toBe(schema.success);
      if (!schema.success) expect(all.error?.issues[0]?.path.slice(0, 1)).toEqual([1]);
    };
    for (const entry of [decided, ended]) {
      for (const name of [...Object.keys({ ...decided, ...ended }), "unknown", "toString", "__proto__"]) {
        const { [name as never]: _, ...without } = entry;
        check(without);
        for (const value of odd) check(Object.fromEntries([...Object.entries(without), [name, value]]));
      }
      for (const name of [...Object.keys(request), "unknown", "__proto__"]) {
        const { [name as never]: _, ...without } = request;
        check({ ...entry, request: without });
        for (const value of odd) check({ ...entry, request: Object.fromEntries([...Object.entries(without), [name, value]]) });
      }
    }
    for (const entry of odd) check(entry);
    expect(taken).toBeGreaterThan(50);
    expect(refused).toBeGreaterThan(500);
  });

  it.each([
    ["none", 0, false],
    ["as many as fit a record", 200, true],
    ["one more", 201, false],
  ])("%s", (_, count, fits) => {
    const entries = Array.from({ length: count }, () => decided);
    expect(fitAtFirstLook(entries)).toBe(fits);
    expect(egressEntries.safeParse(entries).success).toBe(fits);
  });
});
