import { expect, test } from "vitest";
import type { EgressEntry, EgressRequest, Rule } from "../../contract/index.ts";
import { MAX_ROWS, MAX_SITES, NOTHING, rulesAbout, withEntries } from "./network.ts";

const request = (host: string, path = "/"): EgressRequest => ({ scheme: "https", host, port: 443, method: "GET", path, upgrade: false });
let next = 1;
const decided = (host: string, decision: "allow" | "deny", path = "/"): EgressEntry => ({
  id: next++,
  at: next * 1000,
  what: "decided",
  request: request(host, path),
  decision,
  rule: decision === "allow" ? "r1" : "default",
  reason: "because",
});
const domains = (reached: typeof NOTHING) => reached.sites.map(({ domain }) => domain);

test("requests that are alike are one row with their number; names of one registrable domain stand together", () => {
  const { sites } = withEntries(NOTHING, [
    decided("a.example.co.uk", "deny"),
    decided("a.example.co.uk", "deny"),
    decided("b.example.co.uk", "allow"),
    decided("other.co.uk", "deny"),
  ]);
  expect(sites.map(({ domain, allowed, refused }) => [domain, allowed, refused])).toEqual([
    ["other.co.uk", 0, 1],
    ["example.co.uk", 1, 2],
  ]);
  expect(sites[1]?.rows.map(({ request: { host }, count }) => [host, count])).toEqual([
    ["b.example.co.uk", 1],
    ["a.example.co.uk", 2],
  ]);
});

test("E27: ten thousand names stay bounded, whether under one domain or under as many, and say how many were left out", () => {
  const names = Array.from({ length: 10_000 }, (_, at) => at);
  const under = withEntries(
    NOTHING,
    names.map((at) => decided(`n${at}.example.com`, "deny")),
  );
  expect(domains(under)).toEqual(["example.com"]);
  expect(under.sites[0]?.rows).toHaveLength(MAX_ROWS);
  expect(under.sites[0]).toMatchObject({ refused: 10_000, forgotten: 10_000 - MAX_ROWS });
  const apart = withEntries(
    NOTHING,
    names.map((at) => decided(`n${at}.com`, "deny")),
  );
  expect(apart.sites).toHaveLength(MAX_SITES);
  expect(apart.forgotten).toBe(10_000 - MAX_SITES);
});

test("E27: a flood of refused names does not push out where something went, in one batch or in many", () => {
  const flood = Array.from({ length: 2_000 }, (_, at) => decided(`n${at}.com`, "deny"));
  const sameDomain = Array.from({ length: 100 }, (_, at) => decided("sent.example.com", "deny", `/${at}`));
  const start = withEntries(NOTHING, [decided("sent.example.com", "allow", "/secret")]);
  let inMany = withEntries(start, sameDomain);
  for (let at = 0; at < flood.length; at += 50) inMany = withEntries(inMany, flood.slice(at, at + 50));
  for (const reached of [withEntries(start, [...sameDomain, ...flood]), inMany]) {
    const site = reached.sites.find(({ domain }) => domain === "example.com");
    expect(site?.rows.some(({ decision, request: { path } }) => decision === "allow" && path === "/secret")).toBe(true);
    expect(reached.sites).toHaveLength(MAX_SITES);
  }
});

test("a row keeps its place when it is asked for again, so that a click lands where it was aimed", () => {
  const before = withEntries(NOTHING, [decided("a.com", "deny"), decided("b.com", "deny"), decided("b.com", "deny", "/2")]);
  const after = withEntries(before, [decided("a.com", "deny"), decided("b.com", "deny")]);
  expect(domains(after)).toEqual(domains(before));
  expect(after.sites[0]?.rows.map(({ key }) => key)).toEqual(before.sites[0]?.rows.map(({ key }) => key));
});

test("how an allowed request ended stands at its row; an end that fits none changes nothing", () => {
  const before = withEntries(NOTHING, [decided("a.com", "allow"), decided("a.com", "deny", "/no")]);
  const ended: EgressEntry = {
    id: 1,
    at: 5,
    what: "ended",
    request: request("a.com"),
    rule: "r1",
    status: 204,
    sentBytes: 3,
    receivedBytes: 4,
  };
  const after = withEntries(before, [ended, ended]);
  expect(after.sites[0]?.rows.find(({ decision }) => decision === "allow")).toMatchObject({ status: 204, sentBytes: 6, receivedBytes: 8 });
  expect(
    withEntries(before, [
      { ...ended, request: request("a.com", "/no") },
      { ...ended, request: request("z.com") },
    ]),
  ).toEqual(before);
});

test("beside a row stand the rules that decided it or were made of it, and no others", () => {
  const { sites } = withEntries(NOTHING, [decided("a.com", "allow", "/was"), decided("a.com", "deny", "/x")]);
  const made = (id: string, more: Partial<Rule>): Rule => ({ id, scope: "task", from: "user", decision: "allow", host: "a.com", ...more });
  const own = [
    made("r1", { host: "*.com" }),
    made("r2", { methods: ["GET"], paths: ["/x"] }),
    made("r3", { methods: ["POST"], paths: ["/x"] }),
    made("r4", { paths: ["/y"] }),
    made("r5", { host: "b.com" }),
    made("r6", { opaque: true }),
    made("r7", { port: 8443 }),
  ];
  const about = (path: string) => sites[0]?.rows.filter(({ request }) => request.path === path).flatMap((row) => rulesAbout(row, own));
  expect(about("/was")?.map(({ id }) => id)).toEqual(["r1"]);
  expect(about("/x")?.map(({ id }) => id)).toEqual(["r2"]);
});
