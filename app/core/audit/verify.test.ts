import { appendFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Paths } from "../paths.ts";
import type { Keychain } from "../vault/index.ts";
import { chainOf, GENESIS, lineOf } from "./chain.ts";
import { AuditLog } from "./log.ts";

const task = "0123456789abcdef";
const other = "fedcba9876543210";
let home: string;
let paths: Paths;
let kept: Map<string, string>;
let writes: number;
let keychain: Keychain;
const logs: AuditLog[] = [];

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "verify-"));
  paths = new Paths({ home, runtime: home });
  for (const id of [task, other]) mkdirSync(paths.task(id).directory, { recursive: true });
  kept = new Map();
  writes = 0;
  keychain = {
    get: async (name) => kept.get(name),
    set: async (name, value) => {
      writes++;
      kept.set(name, value);
    },
    delete: async (name) => void kept.delete(name),
  };
});
afterEach(async () => {
  for (const log of logs.splice(0)) await log.close();
  rmSync(home, { recursive: true });
});

const file = (id = task) => paths.task(id).audit;
const lines = (path = file()) => readFileSync(path, "utf8").trimEnd().split("\n");
const rewrite = (changed: string[], path = file()) => writeFileSync(path, changed.map((line) => `${line}\n`).join(""));
const verify = (by: AuditLog) => by.verify((id) => (id === task ? "receipts" : "other"));
const whats = async (by: AuditLog) => (await verify(by)).findings.map(({ task, what }) => `${task ?? "keeper"} ${what}`);

/** A keeper's log: with the keychain's key, or without. */
async function keeper(keyed: boolean): Promise<AuditLog> {
  const log = new AuditLog(paths);
  logs.push(log);
  if (keyed) {
    log.protect(keychain);
    await log.anchor();
  }
  return log;
}
function fill(log: AuditLog): void {
  for (let n = 0; n < 6; n++) log.record("task.stopping", { reason: `reason ${n}` }, { task });
  log.record("task.paused", {}, { task: other });
  log.record("keeper.ended", { reason: "test" });
}
/** The records of a log chained anew without a key, as anybody can. */
function chainedAnew(all: readonly string[]): string[] {
  let chain = GENESIS;
  return all.map((line) => {
    const { chain: _, ...body } = { ...JSON.parse(line), version: 1 };
    const text = JSON.stringify(body);
    chain = chainOf(chain, text);
    return lineOf(text, chain);
  });
}

const MANIPULATIONS: [string, (all: string[]) => string[], string, number][] = [
  ["a word of a record", (all) => all.map((line, at) => (at === 2 ? line.replace("reason 2", "reason X") : line)), "changed", 3],
  ["a blank in a record", (all) => all.map((line, at) => (at === 2 ? line.replace('"id":', '"id": ') : line)), "changed", 3],
  ["a field given twice", (all) => all.map((line, at) => (at === 2 ? `{"id":99,${line.slice(1)}` : line)), "changed", 3],
  ["a record taken out", (all) => all.filter((_, at) => at !== 2), "changed", 3],
  ["the first record taken out", (all) => all.slice(1), "changed", 1],
  ["a record put in twice", (all) => [...all.slice(0, 3), all[2] ?? "", ...all.slice(3)], "order", 4],
  ["two records in each other's place", (all) => [all[1] ?? "", all[0] ?? "", ...all.slice(2)], "order", 2],
  ["a line that is no record", (all) => [...all.slice(0, 2), "{}", ...all.slice(2)], "unreadable", 3],
  ["a line of a megabyte", (all) => [...all.slice(0, 2), "x".repeat(1_100_000), ...all.slice(2)], "unreadable", 3],
  ["the last record cut off", (all) => all.slice(0, -1), "cut", 5],
  ["all records cut off", () => [], "cut", 1],
];

describe.each([
  ["with the keychain's key", true],
  ["without a keychain", false],
])("P08: what was done to a log is found, %s", (_, keyed) => {
  let log: AuditLog;
  beforeEach(async () => {
    log = await keeper(keyed);
    fill(log);
  });

  it("nothing, in one that nobody touched, and it says whether it is anchored", async () => {
    expect(await verify(log)).toMatchObject({ files: 3, events: 8, findings: [], anchored: keyed });
    expect(JSON.parse(lines()[0] ?? "").version).toBe(keyed ? 2 : 1);
    expect((await verify(await keeper(keyed))).findings).toEqual([]);
  });

  it.each(MANIPULATIONS)("%s", async (_, change, what, line) => {
    rewrite(change(lines()));
    expect((await verify(log)).findings).toContainEqual({ task: "receipts", line, what, text: expect.any(String) });
  });

  it("the log of another task is in its place", async () => {
    rewrite(lines(file(other)));
    expect((await verify(log)).findings).toContainEqual({
      task: "receipts",
      line: 1,
      what: "changed",
      text: expect.stringContaining("another log"),
    });
  });

  it("a line that a crash cut short is no finding: it was never acknowledged", async () => {
    if (keyed) await log.anchor();
    appendFileSync(file(), '{"version": 1, "id"');
    expect((await verify(log)).findings).toEqual([]);
    const next = await keeper(keyed);
    expect((await verify(next)).findings).toEqual([]);
    next.record("task.resumed", {}, { task });
    expect((await verify(next)).findings).toEqual([]);
  });
});

describe("P08: what the keychain holds is found by the next keeper too", () => {
  let log: AuditLog;
  beforeEach(async () => {
    log = await keeper(true);
    fill(log);
    await log.anchor();
  });

  it.each(MANIPULATIONS)("%s", async (_, change, what, line) => {
    rewrite(change(lines()));
    expect((await verify(await keeper(true))).findings).toContainEqual({ task: "receipts", line, what, text: expect.any(String) });
  });

  it("a log that was rewritten whole, with a chain of its own", async () => {
    const changed = lines().map((line) => line.replace("reason 1", "reason X"));
    rewrite(chainedAnew(changed));
    expect(await whats(await keeper(true))).toContain("receipts changed");
  });

  it("control: without the keychain a log that was rewritten whole is not found, and that is said", async () => {
    rewrite(chainedAnew(lines()));
    const { findings, anchored, anchor } = await verify(await keeper(false));
    expect({ findings, anchored }).toEqual({ findings: [], anchored: false });
    expect(anchor).toMatch(/^unanchored: .*rewritten whole/);
  });

  it("newest records that were made anew without the key, behind what is anchored, by the next one with it", async () => {
    const next = await keeper(true);
    for (const reason of ["a", "b"]) next.record("task.stopping", { reason }, { task });
    const all = lines();
    next.record("task.stopping", { reason: "c" }, { task });
    const last = lines().at(-1) ?? "";
    rewrite([...all.slice(0, -2), ...chainedAnew(all).slice(-2), last]);
    expect(await whats(await keeper(true))).toContain("receipts changed");
  });

  it("a task's log that is gone whole; control: that of a task that was removed is not missed", async () => {
    rmSync(paths.task(other).directory, { recursive: true });
    expect(await whats(await keeper(true))).toEqual(["other missing"]);
    const next = await keeper(true);
    next.record("task.removed", { name: "other" }, { task: other });
    expect((await verify(next)).findings).toEqual([]);
    expect((await verify(await keeper(true))).findings).toEqual([]); // it had not told the keychain of it
    await next.anchor();
    expect((await verify(await keeper(true))).findings).toEqual([]);
  });

  it("the keeper's own log that is gone", async () => {
    rmSync(paths.audit);
    expect(await whats(await keeper(true))).toEqual(["keeper missing"]);
  });

  it("a cut tail in whose place the next keeper wrote a record of the same number", async () => {
    rewrite(lines(paths.audit).slice(0, -1), paths.audit);
    const next = await keeper(false);
    next.record("keeper.started", { pid: 1, swept: [] });
    expect(JSON.parse(lines(paths.audit).at(-1) ?? "").id).toBe(8);
    next.protect(keychain);
    expect(await whats(next)).toEqual(["keeper changed"]);
    await next.anchor();
    expect(await whats(await keeper(true))).toEqual(["keeper changed"]);
  });

  it("a cut tail stays found when the log went on and was anchored again", async () => {
    rewrite(lines().slice(0, -2));
    const next = await keeper(true);
    next.record("task.resumed", {}, { task });
    await next.anchor();
    expect(await whats(await keeper(true))).toContain("receipts cut");
    expect(new Set(lines().map((line) => JSON.parse(line).id)).size).toBe(lines().length);
  });

  it.each([
    ["gone", () => rmSync(paths.auditHeads), "keeper missing"],
    [
      "changed",
      () => writeFileSync(paths.auditHeads, readFileSync(paths.auditHeads, "utf8").replace(/"id":\d+/, '"id":1')),
      "keeper changed",
    ],
    ["no list", () => writeFileSync(paths.auditHeads, "x"), "keeper changed"],
  ])("the list of heads is %s, also when another one was written since", async (_, change, what) => {
    change();
    const next = await keeper(true);
    expect(await whats(next)).toContain(what);
    next.record("task.resumed", {}, { task });
    await next.anchor();
    expect(await whats(await keeper(true))).toContain(what);
  });

  it("log and list are put back to what they were", async () => {
    const before = join(home, "..", `${home.slice(-6)}-before`);
    cpSync(home, before, { recursive: true });
    log.record("task.resumed", {}, { task });
    await log.anchor();
    logs.splice(0);
    rmSync(home, { recursive: true });
    renameSync(before, home);
    expect(await whats(await keeper(true))).toEqual(["keeper cut"]);
  });

  it("a keeper that ends between the list and the keychain leaves no finding", async () => {
    const generation = kept.get("audit-generation") ?? "";
    log.record("task.resumed", {}, { task });
    await log.anchor();
    kept.set("audit-generation", generation);
    expect((await verify(await keeper(true))).findings).toEqual([]);
  });

  it("the keychain has lost its key: what was made with it is told to be beyond comparing, once for each log", async () => {
    kept.clear();
    expect((await whats(await keeper(true))).sort()).toEqual([
      "keeper changed",
      "keeper unreadable",
      "other unreadable",
      "receipts unreadable",
    ]);
  });

  it("a list of a newer Cloche is left as it is, and the log is unanchored", async () => {
    kept.set("audit-key", (kept.get("audit-key") ?? "").replace('"version":1', '"version":2'));
    const before = readFileSync(paths.auditHeads);
    const next = await keeper(true);
    next.record("task.resumed", {}, { task });
    await next.anchor();
    expect(await verify(next)).toMatchObject({ anchored: false, anchor: expect.stringContaining("newer Cloche") });
    expect(readFileSync(paths.auditHeads)).toEqual(before);
  });
});

describe("the log's anchor", () => {
  it("costs the keychain one write for any number of records and logs, and none without new ones", async () => {
    const log = await keeper(true);
    const before = writes;
    for (let n = 0; n < 100; n++) fill(log);
    await log.anchor();
    await log.anchor();
    expect(writes - before).toBe(1);
  });

  it("verify tells how many of the newest records the keychain does not know yet", async () => {
    const log = await keeper(true);
    log.record("task.paused", {}, { task });
    expect((await verify(log)).anchor).toContain("but the newest 1");
    await log.anchor();
    expect((await verify(log)).anchor).toContain("knows of every record.");
  });

  it("is written soon after a machine's end, within a minute otherwise, and when the keeper ends", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
    try {
      const log = await keeper(true);
      const list = () => readFileSync(paths.auditHeads, "utf8");
      let before = list();
      log.record("task.paused", {}, { task });
      await vi.advanceTimersByTimeAsync(50_000);
      expect(list()).toBe(before);
      await vi.advanceTimersByTimeAsync(10_001);
      await vi.waitUntil(() => list() !== before);
      before = list();
      log.record("task.stopped", { reason: "asked", ranMs: 1 }, { task });
      await vi.advanceTimersByTimeAsync(2_001);
      await vi.waitUntil(() => list() !== before);
      before = list();
      log.record("keeper.ended", { reason: "test" });
      await log.close();
      expect(list()).not.toBe(before);
    } finally {
      vi.useRealTimers();
    }
  });

  it("records from before the key was had are held by those with it", async () => {
    const log = await keeper(false);
    fill(log);
    log.protect(keychain);
    await log.anchor();
    log.record("task.resumed", {}, { task });
    expect(lines().map((line) => JSON.parse(line).version)).toEqual([1, 1, 1, 1, 1, 1, 2]);
    expect((await verify(log)).findings).toEqual([]);
    rewrite([
      ...chainedAnew(
        lines()
          .slice(0, -1)
          .map((line) => line.replace("reason 1", "reason X")),
      ),
      lines().at(-1) ?? "",
    ]);
    expect(await whats(await keeper(true))).toContain("receipts changed");
  });

  it("without a keychain that works the log goes on, says why, and does not ask again by itself", async () => {
    let asked = 0;
    const fail = async () => {
      asked++;
      throw new Error("it is locked");
    };
    const log = new AuditLog(paths);
    log.protect({ get: fail, set: fail, delete: fail });
    await log.anchor();
    fill(log);
    await log.close();
    expect(asked).toBe(1);
    expect(await verify(log)).toMatchObject({ anchored: false, anchor: expect.stringContaining("it is locked"), findings: [] });
    expect(asked).toBe(2); // its user asked
    expect(lines().map((line) => JSON.parse(line).version)).toEqual([1, 1, 1, 1, 1, 1]);
  });

  it("a keychain that never answers does not hold up the keeper's end", async () => {
    const never = () => new Promise<never>(() => {});
    const log = new AuditLog(paths);
    log.protect({ get: never, set: never, delete: never });
    fill(log);
    const began = performance.now();
    await log.close();
    expect(performance.now() - began).toBeLessThan(4_000);
  });

  it("the log of a run that is over is anchored with its last record", async () => {
    const log = await keeper(true);
    log.record("task.stopped", { reason: "asked", ranMs: 1 }, { task });
    log.release(task);
    await log.anchor();
    rewrite([]);
    expect(await whats(await keeper(true))).toEqual(["receipts cut"]);
  });

  it("the list is for its user alone, and no file of the log's holds the key", async () => {
    const log = await keeper(true);
    fill(log);
    await log.anchor();
    expect(statSync(paths.auditHeads).mode & 0o777).toBe(0o600);
    const { key } = JSON.parse(kept.get("audit-key") ?? "{}");
    for (const path of [paths.auditHeads, paths.audit, file()]) expect(readFileSync(path, "utf8")).not.toContain(key);
  });

  it("a long log is verified in pieces while it goes on", async () => {
    const log = await keeper(true);
    for (let n = 0; n < 20_000; n++) log.record("task.stopping", { reason: `reason ${n}` }, { task });
    let done = false;
    const verifying = verify(log).finally(() => {
      done = true;
    });
    let meanwhile = 0;
    for (; !done; meanwhile++) {
      log.record("task.resumed", {}, { task });
      await new Promise((resolve) => setImmediate(resolve));
    }
    const { events, findings } = await verifying;
    expect(findings).toEqual([]);
    expect(events).toBeLessThan(20_010);
    expect(meanwhile).toBeGreaterThan(20);
  });
});
