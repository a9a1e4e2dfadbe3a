import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Paths } from "../paths.ts";
import { AuditLog, chainOf } from "./log.ts";

let home: string;
let paths: Paths;
const task = "0123456789abcdef";

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "audit-"));
  paths = new Paths({ home, runtime: home });
  mkdirSync(paths.task(task).directory, { recursive: true });
});
afterEach(() => rmSync(home, { recursive: true }));

const lines = (file: string) =>
  readFileSync(file, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
const all = { after: 0, limit: 100, waitMs: 0 };

describe("the event log", () => {
  it("chains each file's records, and counts over all of them", () => {
    const log = new AuditLog(paths);
    log.record("keeper.started", { pid: 1, swept: [] });
    log.record("task.paused", {}, { task });
    log.record("task.resumed", {}, { task });
    const [first, second] = lines(paths.task(task).audit);
    expect([first.id, second.id]).toEqual([2, 3]);
    const { chain, ...body } = second;
    expect(chain).toBe(chainOf(first.chain, body));
    expect(chain).not.toBe(chainOf(first.chain, { ...body, kind: "task.paused" }));
  });

  it("goes on where the last keeper ended, and cuts a line that a crash left half written", async () => {
    new AuditLog(paths).record("task.paused", {}, { task });
    appendFileSync(paths.task(task).audit, '{"version":1,"id":2,"ti');
    const log = new AuditLog(paths);
    log.record("task.resumed", {}, { task });
    const [first, second] = lines(paths.task(task).audit);
    expect(second.id).toBe(2);
    const { chain, ...body } = second;
    expect(chain).toBe(chainOf(first.chain, body));
    expect((await log.read(all)).events.map((event) => event.kind)).toEqual(["task.paused", "task.resumed"]);
  });

  it("gives a reader what is new, at once or when it comes", async () => {
    const log = new AuditLog(paths);
    log.record("keeper.started", { pid: 1, swept: [] });
    const { next } = await log.read(all);
    const waiting = log.read({ after: next, limit: 10, waitMs: 5_000 });
    log.record("task.paused", {}, { task });
    expect((await waiting).events.map((event) => event.kind)).toEqual(["task.paused"]);
    expect((await log.read({ ...all, task })).events).toHaveLength(1);
  });

  it("what happened all the same is told without failing, and its loss is told when there is room again", async () => {
    const log = new AuditLog(paths);
    mkdirSync(paths.task(task).audit); // nothing can be written there
    expect(() => log.record("task.paused", {}, { task })).toThrow();
    log.report("task.stopped", { reason: "asked", ranMs: 1 }, { task });
    log.report("task.failed", { problem: { code: "x".repeat(99), message: "does not fit", next: [] } }, { task });
    rmSync(paths.task(task).audit, { recursive: true });
    log.report("task.removed", { name: "a" }, { task });
    const { events } = await log.read(all);
    expect(events.map(({ kind }) => kind)).toEqual(["task.removed", "events.lost"]);
    expect(events[1]?.data).toMatchObject({ count: 2 });
    log.report("task.removed", { name: "b" }, { task });
    expect((await log.read(all)).events).toHaveLength(3);
  });

  it("refuses an event that does not fit its kind", () => {
    const log = new AuditLog(paths);
    expect(() => log.record("keeper.started", { pid: "x" } as never)).toThrow();
    expect(() => log.record("task.paused", { extra: 1 } as never, { task })).toThrow();
  });
});
