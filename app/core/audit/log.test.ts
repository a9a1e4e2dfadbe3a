import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Paths } from "../paths.ts";
import { chainOf } from "./chain.ts";
import { AuditLog } from "./log.ts";

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
    expect(chain).toBe(chainOf(first.chain, JSON.stringify(body)));
    expect(chain).not.toBe(chainOf(first.chain, JSON.stringify({ ...body, kind: "task.paused" })));
  });

  it("goes on where the last keeper ended, and cuts a line that a crash left half written", async () => {
    new AuditLog(paths).record("task.paused", {}, { task });
    appendFileSync(paths.task(task).audit, '{"version":1,"id":2,"ti');
    const log = new AuditLog(paths);
    log.record("task.resumed", {}, { task });
    const [first, second] = lines(paths.task(task).audit);
    expect(second.id).toBe(2);
    const { chain, ...body } = second;
    expect(chain).toBe(chainOf(first.chain, JSON.stringify(body)));
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

  describe("what a guest does", () => {
    const about = { folder: "01234567", name: "a" };
    const entry = (name: string) => ({
      what: "created" as const,
      path: { bytes: Buffer.from(name).toString("base64"), text: name },
      count: 1,
    });
    const told = () =>
      lines(paths.task(task).audit).flatMap(({ data }) => data.entries?.map((one: { path: { text: string } }) => one.path.text));

    it("waits while the disk is full, in its order and with the time it came, and nothing of it is lost", async () => {
      vi.useFakeTimers();
      try {
        const disk = { bsize: 1, blocks: 1000, bavail: 10 }; // a fiftieth is left to the user
        let now = 0;
        const log = new AuditLog(
          paths,
          () => new Date(++now * 1000),
          () => disk,
        );
        const written: number[] = [];
        for (let n = 0; n < 5; n++)
          void log.keep("files.activity", { ...about, entries: [entry(`f${n}`)] }, { task }).then(() => written.push(n));
        await vi.advanceTimersByTimeAsync(10_000);
        expect({ written, holding: log.holding }).toEqual({ written: [], holding: true });
        log.record("task.paused", {}, { task }); // what its user does is written with the reserve
        disk.bavail = 100;
        await vi.advanceTimersByTimeAsync(1_000);
        expect({ written, holding: log.holding }).toEqual({ written: [0, 1, 2, 3, 4], holding: false });
        expect(lines(paths.task(task).audit).map(({ kind, time }) => `${kind} ${time.slice(17, 19)}`)).toEqual([
          "task.paused 06",
          ...[1, 2, 3, 4, 5].map((second) => `files.activity 0${second}`),
        ]);
        expect((await log.read(all)).events.map(({ kind }) => kind)).not.toContain("events.lost");
      } finally {
        vi.useRealTimers();
      }
    });

    it("is tried again when writing itself fails, and is written with the reserve when the keeper ends", async () => {
      const disk = { bsize: 1, blocks: 1000, bavail: 0 };
      const log = new AuditLog(paths, undefined, () => disk);
      void log.keep("files.activity", { ...about, entries: [entry("last")] }, { task });
      expect(log.holding).toBe(true);
      log.end();
      expect(log.holding).toBe(false);
      expect(told()).toEqual(["last"]);
    });

    it("of a task that is gone is counted as lost instead of being waited for", async () => {
      const log = new AuditLog(paths);
      await log.keep("files.activity", { ...about, entries: [entry("late")] }, { task: "ffffffffffffffff" });
      expect(log.holding).toBe(false);
      log.report("task.paused", {}, { task });
      expect((await log.read(all)).events.at(-1)).toMatchObject({ kind: "events.lost", data: { count: 1 } });
    });

    it("a flood of it is read back whole in pages, from any place, by a keeper that holds none of it; two files are one history", async () => {
      const log = new AuditLog(paths);
      const events = 20_000;
      const pad = "x".repeat(200);
      for (let n = 0; n < events; n++) {
        if (n % 5000 === 0) log.report("task.removed", { name: `t${n}` }, { task }); // the keeper's own file
        await log.keep("files.activity", { ...about, entries: [entry(`${pad}${n}`)] }, { task });
      }
      const next = new AuditLog(paths); // nothing of it is in this one's memory
      let pages = 0;
      let after = 0;
      const seen: number[] = [];
      for (;;) {
        const page = await next.read({ task, after, limit: 1000, waitMs: 0 });
        if (page.events.length === 0) break;
        seen.push(...page.events.map(({ id }) => id));
        pages++;
        after = page.next;
      }
      expect(seen).toEqual(Array.from({ length: events + 4 }, (_, at) => at + 1));
      expect(pages).toBeGreaterThan(20);
      for (const from of [1, 4999, 12_345, events + 3]) {
        const { events: some } = await next.read({ task, after: from, limit: 2, waitMs: 0 });
        expect(some.map(({ id }) => id)).toEqual([from + 1, from + 2].filter((id) => id <= events + 4));
      }
      const began = performance.now();
      await next.read({ task, after: events, limit: 10, waitMs: 0 });
      expect(performance.now() - began, "a place near the end does not cost the whole").toBeLessThan(1000);
    });
  });

  it("refuses an event that does not fit its kind", () => {
    const log = new AuditLog(paths);
    expect(() => log.record("keeper.started", { pid: "x" } as never)).toThrow();
    expect(() => log.record("task.paused", { extra: 1 } as never, { task })).toThrow();
  });
});
