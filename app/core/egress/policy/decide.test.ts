import { describe, expect, it } from "vitest";
import type { EgressRequest, NetworkPreset, Rule, RuleDraft } from "../../../contract/index.ts";
import { allowLine, checkDraft, decide, narrowestRule, opaqueRule, presetRules } from "./index.ts";

const NOW = new Date("2026-11-25T12:00:00Z");
let made = 0;
const rule = (draft: Partial<RuleDraft> & { host: string }): Rule => ({
  id: `r${++made}`,
  scope: "task",
  from: "user",
  decision: "allow",
  ...draft,
});
const request = (over: Partial<EgressRequest> = {}): EgressRequest => ({
  scheme: "https",
  host: "api.example.com",
  port: 443,
  method: "GET",
  path: "/v1/x",
  upgrade: false,
  ...over,
});
const opaque = (over: Partial<EgressRequest> = {}) => request({ scheme: "opaque", method: "", path: "", ...over });
const verdict = (over: Partial<EgressRequest>, ...rules: Rule[]) => decide(request(over), rules, NOW).decision;

describe("an empty or broken policy allows nothing", () => {
  it("an empty one asks by default, with a sentence", () => {
    expect(decide(request({ method: "POST" }), [], NOW)).toEqual({
      decision: "ask",
      rule: "default",
      reason: "No rule of this task allows POST to api.example.com:443/v1/x.",
    });
  });

  const allow = rule({ host: "api.example.com" });
  it.each([
    ["a rule without a host", [allow, { ...allow, host: "" }]],
    ["a rule with a host that cannot be", [allow, { ...allow, host: "*" }]],
    ["a rule with a decision that is not known", [allow, { ...allow, decision: "permit" }]],
    ["a rule with a field that is not known", [allow, { ...allow, ports: [443] }]],
    ["a rule that ends at no time", [allow, { ...allow, until: "soon" }]],
    ["a rule that is none", [allow, null]],
    ["no list", { 0: allow, length: 1 }],
    ["nothing", undefined],
    ["too many", new Array(1025).fill(allow)],
  ])("%s: everything is refused", (_, rules) => {
    expect(decide(request(), rules as Rule[], NOW)).toMatchObject({ decision: "deny", rule: "broken" });
  });
  it("control: the whole one allows", () => {
    expect(decide(request(), [allow], NOW)).toMatchObject({ decision: "allow", rule: allow.id, matched: allow });
  });
});

describe("which rule decides", () => {
  const host = "api.example.com";
  it("one that refuses wins over newer and narrower ones that allow", () => {
    expect(verdict({}, rule({ host }), rule({ host: "*.example.com", decision: "deny" }))).toBe("deny");
    expect(verdict({}, rule({ host }), rule({ host: "*.example.org", decision: "deny" }))).toBe("allow");
  });
  it("of those that ask and allow the newest that fits", () => {
    expect(verdict({}, rule({ host, decision: "ask" }), rule({ host }))).toBe("ask");
    expect(verdict({}, rule({ host }), rule({ host, decision: "ask" }))).toBe("allow");
    expect(verdict({}, rule({ host, decision: "ask", methods: ["POST"] }), rule({ host }))).toBe("allow");
  });
});

describe("ports", () => {
  const host = "api.example.com";
  it.each([
    ["https", 443, "allow"],
    ["http", 80, "allow"],
    ["https", 80, "ask"],
    ["http", 443, "ask"],
    ["https", 8443, "ask"],
  ] as const)("a rule without a port: %s at %d: %s", (scheme, port, decision) => {
    expect(verdict({ scheme, port }, rule({ host }))).toBe(decision);
  });
  it("a rule with a port is for that port", () => {
    expect(verdict({ port: 8443 }, rule({ host, port: 8443 }))).toBe("allow");
    expect(verdict({ port: 443 }, rule({ host, port: 8443 }))).toBe("ask");
  });
  it("one that refuses holds at every port, or at its own", () => {
    const allow = rule({ host, port: 8443 });
    expect(verdict({ port: 8443 }, allow, rule({ host, decision: "deny" }))).toBe("deny");
    expect(verdict({ port: 8443 }, allow, rule({ host, decision: "deny", port: 443 }))).toBe("allow");
  });
});

describe("methods and paths", () => {
  const host = "api.example.com";
  it("only those that are named pass", () => {
    const only = rule({ host, methods: ["GET"], paths: ["/v1/*"] });
    expect(verdict({}, only)).toBe("allow");
    expect(verdict({ method: "POST" }, only)).toBe("ask");
    expect(verdict({ path: "/v1/x/y" }, only)).toBe("ask");
    expect(decide(request({ method: "POST" }), [only], NOW).reason).toBe(
      `No rule of this task allows POST to api.example.com:443/v1/x. The rule ${only.id} is for GET only.`,
    );
  });
  it.each(["CONNECT", "TRACE", "get", "", "GET ", "G-T"])("%j is refused whatever a rule says", (method) => {
    expect(decide(request({ method }), [rule({ host })], NOW)).toMatchObject({ decision: "deny", rule: "method" });
  });
  it("no rule can name TRACE or CONNECT to allow them", () => {
    expect(checkDraft({ decision: "allow", host, methods: ["TRACE"] })).toContain("TRACE");
    expect(checkDraft({ decision: "allow", host, methods: ["GET"] })).toBeUndefined();
  });
  it.each(["/v1/../admin", "/v1/./x", "/%2e", "/%2f", "/a|b", "/a\\b", "v1", "", "/x?y=1", "/%zz", "/a b"])(
    "the path %j is refused, as it is not normal",
    (path) => {
      expect(decide(request({ path }), [rule({ host })], NOW)).toMatchObject({ decision: "deny", rule: "form" });
    },
  );
  it("an escaped slash passes only where both readings are allowed, and is refused where one is", () => {
    const path = "/v1/a%2Fb";
    expect(verdict({ path }, rule({ host, paths: ["/v1/*"] }))).toBe("ask");
    expect(verdict({ path }, rule({ host, paths: ["/v1/*/*"] }))).toBe("ask");
    expect(verdict({ path }, rule({ host, paths: ["/v1/*", "/v1/*/*"] }))).toBe("allow");
    expect(verdict({ path: "/v1//x" }, rule({ host, paths: ["/v1/*"] }))).toBe("ask");
    expect(verdict({ path: "/v1//x" }, rule({ host, paths: ["/v1/**"] }))).toBe("allow");
    expect(verdict({ path }, rule({ host }), rule({ host, decision: "deny", paths: ["/v1/a/**"] }))).toBe("deny");
    expect(verdict({ path: "/v1/a%2Bb" }, rule({ host }), rule({ host, decision: "deny", paths: ["/v1/a+b"] }))).toBe("deny");
  });
  it.each(["API.example.com", "api.example.com.", "api.example.com\0", "api.example.com%00", "0177.0.0.1", "::1"])(
    "the host %j is refused",
    (name) => {
      expect(decide(request({ host: name }), [rule({ host })], NOW)).toMatchObject({ decision: "deny", rule: "form" });
    },
  );
});

describe("upgrades and unread connections", () => {
  const host = "api.example.com";
  it("an upgrade passes only by a rule that says so", () => {
    expect(verdict({ upgrade: true }, rule({ host }))).toBe("ask");
    expect(verdict({ upgrade: true }, rule({ host, upgrade: true }))).toBe("allow");
    expect(verdict({ upgrade: true }, rule({ host, upgrade: true }), rule({ host, decision: "deny" }))).toBe("deny");
  });
  it("an unread connection passes only by an opaque rule, and that rule allows nothing that is read", () => {
    expect(decide(opaque(), [rule({ host })], NOW).decision).toBe("ask");
    expect(decide(opaque(), [rule({ host, opaque: true })], NOW).decision).toBe("allow");
    expect(verdict({}, rule({ host, opaque: true }))).toBe("ask");
    expect(decide(opaque({ port: 22 }), [rule({ host, opaque: true })], NOW).decision).toBe("ask");
    expect(decide(opaque({ port: 22 }), [rule({ host, opaque: true, port: 22 })], NOW).decision).toBe("allow");
  });
  it("whatever refuses a part of a host refuses what cannot be read there", () => {
    const unread = rule({ host, opaque: true });
    expect(opaqueRule(host, 443, [unread], NOW)).toBe(unread);
    expect(opaqueRule(host, 443, [unread, rule({ host, decision: "deny", methods: ["POST"] })], NOW)).toBeUndefined();
    expect(opaqueRule(host, 443, [unread, rule({ host, decision: "deny", port: 80 })], NOW)).toBe(unread);
    expect(opaqueRule(host, 443, [rule({ host, decision: "ask", opaque: true }), unread], NOW)).toBeUndefined();
    expect(opaqueRule(host, 443, [rule({ host })], NOW)).toBeUndefined();
  });
});

describe("lifetimes and budgets", () => {
  const host = "api.example.com";
  it("a rule holds until its time, then no longer", () => {
    expect(verdict({}, rule({ host, until: "2026-11-25T12:00:00.001Z" }))).toBe("allow");
    expect(verdict({}, rule({ host, until: "2026-11-25T12:00:00Z" }))).toBe("ask");
    expect(verdict({}, rule({ host }), rule({ host, decision: "deny", until: "2026-11-25T12:00:00Z" }))).toBe("allow");
  });
  it("where the clock is broken what allows has ended, and what refuses has not", () => {
    const until = "2099-01-01T00:00:00Z";
    const broken = new Date(Number.NaN);
    expect(decide(request(), [rule({ host, until })], broken).decision).toBe("ask");
    expect(decide(request(), [rule({ host }), rule({ host, decision: "deny", until })], broken).decision).toBe("deny");
  });
  it("a budget that is used up falls to the next rule, and is named where none fits", () => {
    const three = rule({ host, requests: 3 });
    const bytes = rule({ host, bytes: 100 });
    const used = (requests: number, sent: number) => () => ({ requests, bytes: sent });
    expect(decide(request(), [three], NOW, used(2, 1e9)).decision).toBe("allow");
    expect(decide(request(), [three], NOW, used(3, 0)).decision).toBe("ask");
    expect(decide(request(), [bytes], NOW, used(1e9, 99)).decision).toBe("allow");
    expect(decide(request(), [bytes], NOW, used(0, 100)).decision).toBe("ask");
    expect(decide(request(), [three], NOW, used(3, 0)).reason).toContain("was for 3 requests, which are used up");
    expect(decide(request(), [three, rule({ host })], NOW, used(3, 0)).decision).toBe("allow");
    expect(decide(request(), [three], NOW, used(Number.NaN, 0)).decision).toBe("ask");
  });
});

describe("the offer of an ask", () => {
  it.each([
    ["a plain one", request()],
    ["stars and quotes", request({ method: "POST", path: "/a*b/it's/%22x%22" })],
    ["without TLS", request({ scheme: "http", port: 80 })],
    ["an upgrade", request({ port: 8443, upgrade: true })],
    ["an address", request({ host: "[2606:4700::1111]" })],
    ["a long path", request({ path: `/${"a".repeat(2000)}` })],
    ["a long path of escapes", request({ path: `/${"%C3%A4".repeat(330)}` })],
    ["a fetch", request({ path: "/x/y.git/info/refs?service=git-upload-pack" })],
    ["an escaped slash", request({ path: "/@a%2Fb%2Bc//d" })],
    ["an unread connection", opaque({ port: 22 })],
  ])("lets the request pass, and nothing that differs: %s", (_, asked) => {
    const draft = narrowestRule(asked);
    expect(checkDraft(draft)).toBeUndefined();
    const only = rule(draft);
    expect(decide(asked, [only], NOW).decision).toBe("allow");
    for (const other of [{ method: "DELETE" }, { path: "/other" }, { port: 81 }, { host: "example.com" }] as const) {
      if (asked.scheme === "opaque" && ("method" in other || "path" in other)) continue;
      expect(decide({ ...asked, ...other }, [only], NOW).decision).toBe("ask");
    }
    if (!asked.upgrade && asked.scheme !== "opaque") expect(decide({ ...asked, upgrade: true }, [only], NOW).decision).toBe("ask");
  });
  it("is one line for a shell, whatever the request says", () => {
    expect(allowLine("receipts", request())).toBe("cloche allow receipts api.example.com --method GET --path /v1/x");
    expect(allowLine("receipts", request({ path: "/a*" }))).toBe("cloche allow receipts api.example.com --method GET --path /a%2A");
    expect(allowLine("receipts", opaque({ port: 22 }))).toBe("cloche allow receipts api.example.com --port 22 --opaque");
    expect(allowLine("r", request({ host: "[::1]", method: "X;rm", path: "/'$(x)\n`y`" }))).toBe(
      "cloche allow r '[::1]' --path '/'\\''$(x)`y`'",
    );
  });
});

describe("presets", () => {
  const presets: NetworkPreset[] = ["none", "models", "packages", "git", "web"];
  it.each(presets)("%s: exact hosts, named paths, no rule that cannot be used", (preset) => {
    for (const { id, scope: _scope, from: _from, created: _created, ...draft } of presetRules(preset)) {
      expect([id, checkDraft(draft)]).toEqual([id, undefined]);
      expect(draft.host).not.toContain("*");
      expect(draft.paths?.length).toBeGreaterThan(0);
      expect(draft.methods?.every((method) => ["GET", "HEAD", "POST"].includes(method))).toBe(true);
      expect(draft).not.toHaveProperty("credentials");
      expect(draft).not.toHaveProperty("opaque");
      expect(draft).not.toHaveProperty("upgrade");
      expect(draft).not.toHaveProperty("private");
    }
    expect(presetRules(preset).length > 0).toBe(preset !== "none");
  });
});
