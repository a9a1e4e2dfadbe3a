import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type EgressEntry, networkView } from "../../contract/index.ts";
import { SharedRules, TaskNetwork } from "./network.ts";
import { decide } from "./policy/index.ts";
import { effectivePolicy } from "./protocol.ts";
import { emptyPolicy, writePolicy } from "./store.ts";

let home: string;
let file: string;
beforeEach(async () => {
  home = mkdtempSync(join(tmpdir(), "network-"));
  file = join(home, "policy.json");
  await writePolicy(file, emptyPolicy());
});
afterEach(() => rmSync(home, { recursive: true }));

const open = () => new TaskNetwork("0123456789abcdef", file, new SharedRules(join(home, "shared.json")));
const allow = (host: string) => ({ decision: "allow", host }) as const;
const passed = (rule: string, id = 1): EgressEntry => ({
  id,
  at: 0,
  what: "decided",
  decision: "allow",
  rule,
  request: { scheme: "https", host: "a.example.com", port: 443, method: "GET", path: "/", upgrade: false },
});

describe("a task's policy", () => {
  it.each([
    ["an empty object", "{}"],
    ["a list", "[]"],
    ["half a file", '{"version": 1, "ne'],
    ["nothing", ""],
    ["null", "null"],
    ["a file without its last byte", JSON.stringify(emptyPolicy()).slice(0, -1)],
    ["a file with something behind it", `${JSON.stringify(emptyPolicy())}x`],
    ["a newer version", '{"version": 2}'],
    ["a version that never was", JSON.stringify({ ...emptyPolicy(), version: 0 })],
    ["no version", JSON.stringify({ ...emptyPolicy(), version: undefined })],
    ["a field that is unknown", JSON.stringify({ ...emptyPolicy(), default: "allow" })],
    ["a rule that is none", JSON.stringify({ ...emptyPolicy(), rules: [{}] })],
    ["a field with a very long name", JSON.stringify({ ...emptyPolicy(), ["x".repeat(5_000)]: 1 })],
    [
      "a rule with a host that is none",
      JSON.stringify({ ...emptyPolicy(), rules: [{ id: "r1", scope: "task", from: "user", decision: "allow", host: "*" }] }),
    ],
    [
      "a rule with a field that is unknown",
      JSON.stringify({
        ...emptyPolicy(),
        rules: [{ id: "r1", scope: "task", from: "user", decision: "allow", host: "a.example.com", hosts: [] }],
      }),
    ],
  ])("E08: %s lets nothing pass and says why, and is left as it is", async (_, text) => {
    writeFileSync(file, text);
    const network = open();
    expect(network.policy).toEqual({ rules: [], broken: expect.any(String), answering: false });
    expect(networkView.parse(network.view(0, undefined, () => ({ hosts: [] }))).problem).toEqual(expect.any(String));
    expect(effectivePolicy.parse(network.policy).broken).toEqual(expect.any(String));
    await expect(network.add(allow("a.example.com"), "task")).rejects.toThrow("none can be added");
    expect(readFileSync(file, "utf8")).toBe(text);
  });

  it("E08: a policy that was deleted lets nothing pass, also where the rules of every task would", async () => {
    const shared = new SharedRules(join(home, "shared.json"));
    await shared.add(allow("a.example.com"));
    expect(new TaskNetwork("0123456789abcdef", file, shared).rules).toHaveLength(1);
    rmSync(file);
    expect(new TaskNetwork("0123456789abcdef", file, shared).policy).toEqual({ rules: [], broken: expect.any(String), answering: false });
  });

  it("E08: rules of every task that cannot be read let nothing pass in any", () => {
    writeFileSync(join(home, "shared.json"), "{}");
    expect(open().policy.broken).toContain("rules of every task");
  });

  it("E08: a rule for every task is not put in place of those that cannot be read: what they refuse would pass", async () => {
    const text = '{"version": 1, "rules": [{"decision": "deny", "host": "evil.exam';
    writeFileSync(join(home, "shared.json"), text);
    const network = open();
    await network.add(allow("evil.example"), "task");
    await expect(network.add(allow("a.example.com"), "always")).rejects.toThrow("none can be added");
    expect(network.policy).toEqual({ rules: [], broken: expect.any(String), answering: false });
    expect(readFileSync(join(home, "shared.json"), "utf8")).toBe(text);
  });

  it("a broken policy is set anew on purpose, and the old file stays beside it", async () => {
    writeFileSync(file, "{}");
    const network = open();
    await network.replace(["none"]);
    expect(network.policy.broken).toBeUndefined();
    expect(readFileSync(`${file}.broken`, "utf8")).toBe("{}");
    expect(open().broken).toBeUndefined();
  });

  it("the newest rule comes first, those of presets last; ids are not given twice", async () => {
    const network = open();
    await network.replace(["packages"]);
    const first = await network.add(allow("a.example.com"), "task");
    await network.remove(first.id);
    const second = await network.add(allow("b.example.com"), "task");
    const third = await network.add({ decision: "deny", host: "b.example.com" }, "task");
    expect(second.id).not.toBe(first.id);
    expect(network.rules.slice(0, 2).map(({ id }) => id)).toEqual([third.id, second.id]);
    expect(network.rules.at(-1)?.from).toBe("preset");
    expect(open().rules).toEqual(network.rules);
  });

  it("a rule for a run goes with the machine, and is not written down", async () => {
    const network = open();
    await network.add(allow("a.example.com"), "run");
    expect(network.rules).toHaveLength(1);
    expect(open().rules).toHaveLength(0);
    network.machineEnded();
    expect(network.rules).toHaveLength(0);
  });

  it("a rule for one request is gone after it, and not before", async () => {
    const network = open();
    const { id } = await network.add(allow("a.example.com"), "once");
    expect(await network.count([passed("another")])).toBe(false);
    expect(network.rules).toHaveLength(1);
    expect(await network.count([passed(id)])).toBe(true);
    expect(network.rules).toHaveLength(0);
  });

  it("an answer that refuses one request only is not made a rule: it could not be used, and would refuse everything", async () => {
    const network = open();
    await network.add(allow("a.example.com"), "task");
    const refusal = await network.add({ decision: "deny", host: "b.example.com" }, "once").catch((error: unknown) => error);
    expect(refusal).toMatchObject({ problem: { code: "policy.rule" } });
    expect(decide(passed("r1").request, network.rules, new Date()).decision).toBe("allow");
    await network.add({ decision: "deny", host: "b.example.com" }, "run");
    expect(decide(passed("r1").request, network.rules, new Date()).decision).toBe("allow");
  });

  it("E20: what a budget has let through is counted over keepers, and a proxy that starts gets what is left", async () => {
    const network = open();
    const { id } = await network.add({ ...allow("a.example.com"), requests: 3, bytes: 1000 }, "task");
    await network.count([passed(id), passed(id, 2), { ...passed(id), what: "ended", sentBytes: 100, receivedBytes: 300 }]);
    expect(network.policy.rules).toMatchObject([{ requests: 3, bytes: 1000 }]); // the proxy that runs has counted them itself
    const again = open();
    expect(again.begin().rules).toMatchObject([{ requests: 1, bytes: 600 }]);
    await again.count([passed(id, 3)]);
    expect(again.policy.rules).toEqual([]);
  });

  it("a rule of every task holds in all, and is taken from all", async () => {
    const shared = new SharedRules(join(home, "shared.json"));
    const rule = await shared.add(allow("a.example.com"));
    const network = new TaskNetwork("0123456789abcdef", file, shared);
    expect(network.rules).toEqual([rule]);
    expect(await network.remove(rule.id)).toEqual(rule);
    expect(network.rules).toEqual([]);
    expect(existsSync(join(home, "shared.json"))).toBe(true);
  });
});
