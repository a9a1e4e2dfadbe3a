import { X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { createConnection, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type EgressEntry, type EgressRequest, MAX_ENTRIES, type Rule } from "../../../contract/index.ts";
import { type BoundSecret, MAX_BATCHES } from "../protocol.ts";
import { Leaves, makeAuthority } from "./certificates.ts";
import type { Exchange } from "./exchange.ts";
import { Cut, Gate, type Live } from "./gate.ts";
import { check, type Refused, type Task } from "./http.ts";
import {
  AHEAD_MS,
  ASK_MS,
  CLOCK_MS,
  FIRST_BYTE_MS,
  FIRST_LINE_MS,
  HANDSHAKE_MS,
  HEAD_MS,
  KEEP_ALIVE_MS,
  MAX_AHEAD,
  MAX_PIPELINED,
  MAX_UNTOLD,
  RECORD_MS,
  TELL_MS,
} from "./limits.ts";
import { NotRecorded, Recorder } from "./record.ts";
import { parseFirstLine, Streams } from "./stream.ts";
import { Upstream, UpstreamFault } from "./upstream.ts";

const request = (more: Partial<EgressRequest> = {}): EgressRequest => ({
  scheme: "https",
  host: "a.example",
  port: 443,
  method: "GET",
  path: "/",
  upgrade: false,
  ...more,
});
const rule = (more: Partial<Rule> = {}): Rule => ({ id: "r1", scope: "task", from: "user", decision: "allow", host: "a.example", ...more });
const entry = (id: number): EgressEntry => ({ id, at: 1, what: "decided", request: request() });
const turn = () => new Promise((resolve) => setImmediate(resolve));
const settled = async (promise: Promise<unknown>) => {
  const nothing = Symbol();
  return (
    (await Promise.race([
      promise.then(
        () => true,
        (error: unknown) => error,
      ),
      new Promise((resolve) => setImmediate(() => resolve(nothing))),
    ])) !== nothing
  );
};

/** What is never written down is refused in the end, which may be after its test. */
const unwatched = () => {};

describe("the record", () => {
  function recorder() {
    const batches: { batch: number; entries: EgressEntry[] }[] = [];
    return { batches, record: new Recorder((batch, entries) => batches.push({ batch, entries })) };
  }

  it("a decision is over when its batch is written down, and not before", async () => {
    const { batches, record } = recorder();
    const first = record.decided(entry(1));
    await turn();
    const second = record.decided(entry(2));
    expect(await settled(first)).toBe(false);
    expect(batches.map(({ batch }) => batch)).toEqual([1, 2]);
    record.recorded(1);
    await first;
    expect(await settled(second)).toBe(false);
    record.recorded(2);
    await second;
  });

  it("no more batches than agreed are under way, and what waits goes together, bounded", async () => {
    const { batches, record } = recorder();
    for (let id = 1; id <= 1_000; id++) {
      record.decided(entry(id)).catch(unwatched);
      if (id <= MAX_BATCHES) await turn();
    }
    await turn();
    expect(batches).toHaveLength(MAX_BATCHES);
    while (batches.flatMap(({ entries }) => entries).length < 1_000) {
      const told = batches.length;
      record.recorded(told);
      await turn();
      expect(batches.length).toBeGreaterThan(told);
      expect(batches.length).toBeLessThanOrEqual(told + MAX_BATCHES);
    }
    expect(batches.length).toBeLessThan(MAX_BATCHES + 8);
    expect(Math.max(...batches.map(({ entries }) => entries.length))).toBe(MAX_ENTRIES);
    expect(batches.flatMap(({ entries }) => entries.map(({ id }) => id))).toEqual(Array.from({ length: 1_000 }, (_, at) => at + 1));
  });

  it("what comes in one turn of the event loop goes together, and ends go with the next decision", async () => {
    const { batches, record } = recorder();
    for (let id = 1; id <= 3; id++) record.decided(entry(id)).catch(unwatched);
    await turn();
    record.recorded(1);
    for (let id = 1; id <= 3; id++) record.ended({ ...entry(id), what: "ended" });
    await turn();
    expect(batches.map(({ entries }) => entries.length)).toEqual([3]);
    record.decided(entry(4)).catch(unwatched);
    await turn();
    expect(batches.map(({ entries }) => entries.length)).toEqual([3, 4]);
  });

  it("ends that no decision follows are told all the same, also while batches are under way", async () => {
    vi.useFakeTimers();
    try {
      const { batches, record } = recorder();
      for (let id = 1; id <= MAX_BATCHES; id++) {
        record.decided(entry(id)).catch(unwatched);
        await vi.advanceTimersByTimeAsync(0);
      }
      record.ended({ ...entry(1), what: "ended" });
      await vi.advanceTimersByTimeAsync(1_000);
      expect(batches).toHaveLength(MAX_BATCHES);
      record.recorded(MAX_BATCHES);
      await vi.advanceTimersByTimeAsync(1_000);
      expect(batches.at(-1)?.entries).toMatchObject([{ id: 1, what: "ended" }]);
    } finally {
      vi.useRealTimers();
    }
  });

  it("a batch of the longest entries fits a line", async () => {
    const { batches, record } = recorder();
    const long = { ...entry(1), request: request({ path: `/${'"'.repeat(2_047)}` }), reason: '"'.repeat(1_024) };
    for (let id = 1; id <= 500; id++) record.decided({ ...long, id }).catch(unwatched);
    await turn();
    record.recorded(1);
    await turn();
    expect(Math.max(...batches.map((batch) => JSON.stringify(batch).length))).toBeLessThan(1_000_000);
  });

  describe("with a journal", () => {
    function journaling() {
      const batches: { batch: number; entries: EgressEntry[]; journaled: number | undefined }[] = [];
      const journal = {
        seq: 0,
        room: true,
        lines: [] as number[],
        cuts: 0,
        write(entries: readonly EgressEntry[]) {
          if (!this.room) return false;
          this.seq += entries.length;
          this.lines.push(...entries.map(({ id }) => id));
          return true;
        },
        allTold() {
          if (this.lines.length > 0) this.cuts++;
          this.lines = [];
        },
      };
      const record = new Recorder((batch, entries, journaled) => batches.push({ batch, entries, journaled }), journal);
      return { batches, journal, record };
    }
    beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] }));
    afterEach(() => void vi.useRealTimers());

    it("a decision is over when it is in there, and not before; the keeper is told of it soon after, and of what may be cut off", async () => {
      const { batches, journal, record } = journaling();
      let over = false;
      const decided = record.decided(entry(1)).then(() => {
        expect(journal.lines).toEqual([1]);
        over = true;
      });
      expect(over).toBe(false);
      await decided;
      expect(batches).toEqual([]);
      await record.decided(entry(2));
      await vi.advanceTimersByTimeAsync(TELL_MS);
      expect(batches).toMatchObject([{ entries: [{ id: 1 }, { id: 2 }], journaled: 2 }]);
      expect(journal.cuts).toBe(0);
      record.recorded(1);
      expect(journal.cuts).toBe(1);
    });

    it("one that it does not take waits for the keeper, and so does one whose rule has a limit", async () => {
      const { batches, journal, record } = journaling();
      const limited = record.decided(entry(1), "by the keeper");
      journal.room = false;
      const full = record.decided(entry(2));
      await turn();
      expect(batches).toMatchObject([{ entries: [{ id: 1 }, { id: 2 }], journaled: undefined }]);
      expect([await settled(limited), await settled(full)]).toEqual([false, false]);
      record.recorded(1);
      await Promise.all([limited, full]);
      expect(journal.lines).toEqual([]);
    });

    it("no more is ahead of the keeper than agreed, and nothing while it is silent", async () => {
      const { batches, journal, record } = journaling();
      for (let id = 1; id <= MAX_AHEAD; id++) {
        await record.decided(entry(id));
        if (batches.length < 1) await vi.advanceTimersByTimeAsync(TELL_MS);
      }
      const further = record.decided(entry(MAX_AHEAD + 1));
      await turn();
      expect(await settled(further)).toBe(false);
      expect(journal.lines).toHaveLength(MAX_AHEAD);
      while (!(await settled(further))) {
        record.recorded(batches.length);
        await vi.advanceTimersByTimeAsync(TELL_MS);
        await turn();
      }
      record.recorded(batches.length);

      await record.decided(entry(5_000));
      await vi.advanceTimersByTimeAsync(TELL_MS);
      await record.decided(entry(5_001));
      await vi.advanceTimersByTimeAsync(AHEAD_MS + 1);
      const silent = record.decided(entry(5_002));
      await turn();
      expect(await settled(silent)).toBe(false);
      expect(journal.lines).not.toContain(5_002);
      record.recorded(batches.length);
      await silent;
      await record.decided(entry(5_003));
    });

    it("everything is told once and in its order, whoever wrote it down", async () => {
      const { batches, journal, record } = journaling();
      for (let id = 1; id <= 900; id++) {
        journal.room = id % 7 > 2;
        record.decided(entry(id), id % 5 === 0 ? "by the keeper" : "by any").catch(unwatched);
        if (id % 3 === 0) await turn();
        if (id % 50 === 0) record.recorded(batches.length);
      }
      while (batches.flatMap(({ entries }) => entries).length < 900) {
        record.recorded(batches.length);
        await vi.advanceTimersByTimeAsync(TELL_MS);
        await turn();
      }
      expect(batches.flatMap(({ entries }) => entries.map(({ id }) => id))).toEqual(Array.from({ length: 900 }, (_, at) => at + 1));
      const numbers = batches.flatMap(({ journaled }) => journaled ?? []);
      expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
      expect(numbers.at(-1)).toBe(journal.seq);
    });
  });

  it("one that is not written down in time fails, and so does one too many", async () => {
    vi.useFakeTimers();
    try {
      const { record } = recorder();
      const late = expect(record.decided(entry(1))).rejects.toThrow(NotRecorded);
      await vi.advanceTimersByTimeAsync(RECORD_MS + 1);
      await late;
      for (let id = 2; id <= MAX_UNTOLD; id++) record.decided(entry(id)).catch(() => {});
      await expect(record.decided(entry(9_999))).rejects.toThrow("too many");
    } finally {
      vi.useRealTimers();
    }
  });
});

describe("the gate", () => {
  let told: EgressEntry[];
  let recorder: Recorder;
  let notices: string[];
  const gateWith = (rules: Rule[], answering = false) =>
    new Gate({ rules, answering }, recorder, {
      asked: ({ ask }) => notices.push(`asked ${ask}`),
      unasked: ({ ask, why }) => notices.push(`unasked ${ask} ${why}`),
      unanswered: () => notices.push("unanswered"),
    });
  const open = (gate: Gate, what = request()) => gate.open(what, new AbortController()) as Live;

  beforeEach(() => {
    told = [];
    notices = [];
    recorder = new Recorder((batch, entries) => {
      told.push(...entries);
      setImmediate(() => recorder.recorded(batch));
    });
  });
  afterEach(() => vi.useRealTimers());

  it("what spends a rule's limit is the keeper's to write down, who counts it; a journal is enough for the rest", async () => {
    const journal = { seq: 0, write: () => true, allTold() {} };
    const notices = { asked() {}, unasked() {}, unanswered() {} };
    const gateOf = (of: Rule) => new Gate({ rules: [of], answering: false }, new Recorder(() => {}, journal), notices);
    for (const limit of [{ requests: 5 }, { bytes: 1_000_000 }]) {
      const gate = gateOf(rule(limit));
      expect(await settled(gate.record(open(gate)))).toBe(false);
    }
    const gate = gateOf(rule());
    await gate.record(open(gate));
  });

  it("a request may leave when its decision is written down, and not before", async () => {
    const silent = new Recorder(() => {});
    const gate = new Gate({ rules: [rule()], answering: false }, silent, { asked() {}, unasked() {}, unanswered() {} });
    expect(await settled(gate.record(open(gate)))).toBe(false);
    const good = gateWith([rule()]);
    await good.record(open(good));
    expect(told).toMatchObject([{ what: "decided", decision: "allow", rule: "r1" }]);
  });

  it("what is cut between its decision and the record does not leave", async () => {
    const gate = gateWith([rule()]);
    const live = open(gate);
    const recorded = gate.record(live);
    expect(gate.setPolicy({ rules: [], answering: false })).toBe(1);
    await expect(recorded).rejects.toThrow(Cut);
  });

  it.each([
    ["the rule is gone", [], 1],
    ["a deny came", [rule({ id: "r2", decision: "deny" }), rule()], 1],
    ["another rule allows it on other conditions", [rule({ id: "r2", credentials: "guest" }), rule()], 1],
    ["another rule allows it alike", [rule({ id: "r2" })], 0],
    ["nothing that matters changed", [rule({ id: "r9", host: "b.example" }), rule()], 0],
  ] as const)("what is under way ends as the policy says now: %s", (_, rules, closed) => {
    const gate = gateWith([rule()]);
    const live = open(gate);
    expect(gate.setPolicy({ rules: [...rules], answering: false })).toBe(closed);
    expect(live.control.signal.aborted).toBe(closed === 1);
  });

  it("a rule for one request holds for the one that it let through, and for no other", () => {
    const gate = gateWith([rule({ requests: 1 })]);
    const live = open(gate);
    expect(gate.decide(request()).decision).not.toBe("allow");
    expect(gate.setPolicy({ rules: [], answering: false })).toBe(0);
    expect(gate.setPolicy({ rules: [rule({ id: "r2", decision: "deny" })], answering: false })).toBe(1);
    expect(live.control.signal.aborted).toBe(true);
  });

  it("bytes over a rule's budget cut the request while they pass", () => {
    const gate = gateWith([rule({ bytes: 100 })]);
    const live = open(gate);
    gate.count(live, 60, 40);
    expect(live.control.signal.aborted).toBe(false);
    gate.count(live, 0, 1);
    expect(live.control.signal.aborted).toBe(true);
    expect(gate.decide(request()).decision).not.toBe("allow");
  });

  it("a head that is more than what is left does not leave and is not counted, one that fits does and is", async () => {
    const gate = gateWith([rule({ bytes: 100 })]);
    const [first, large, last] = [open(gate), open(gate), open(gate)];
    await gate.record(first, 60);
    await expect(gate.record(large, 41)).rejects.toMatchObject({ fault: "the rule's bytes are spent", refusal: { code: "policy.budget" } });
    await gate.record(last, 40);
    expect([first, large, last].map(({ sent }) => sent)).toEqual([60, 0, 40]);
    expect(gate.decide(request()).decision).not.toBe("allow");
  });

  describe("what is under way", () => {
    const now = Date.parse("2026-01-01T12:00:00Z");
    const inMs = (ms: number) => new Date(now + ms).toISOString();
    const started = (...rules: Rule[]) => {
      vi.useFakeTimers({ now });
      const gate = gateWith(rules);
      return { gate, live: open(gate), over: (ms: number) => vi.advanceTimersByTimeAsync(ms) };
    };
    const over = { fault: "its rule is over", refusal: { code: "policy.over", rule: "default", reason: expect.stringContaining("r1") } };

    it("ends with the rule that lets it go on, to the moment, and what another one let in does not", async () => {
      const { gate, live, over: pass } = started(rule({ until: inMs(600_000) }), rule({ id: "r2", host: "b.example" }));
      const other = open(gate, request({ host: "b.example" }));
      const timers = vi.getTimerCount();
      for (let more = 0; more < 20; more++) open(gate);
      expect(vi.getTimerCount(), "one for all").toBe(timers);
      await pass(599_999);
      expect(live.control.signal.aborted).toBe(false);
      await pass(1);
      expect(live.control.signal.reason).toMatchObject(over);
      await pass(600_000);
      expect(other.control.signal.aborted).toBe(false);
    });

    it("each at its own rule's end, whichever began first", async () => {
      const { gate, live, over: pass } = started(rule({ until: inMs(2_000) }), rule({ id: "r2", host: "b.example", until: inMs(1_000) }));
      const sooner = open(gate, request({ host: "b.example" }));
      await pass(1_000);
      expect([sooner, live].map(({ control }) => control.signal.aborted)).toEqual([true, false]);
      await pass(1_000);
      expect(live.control.signal.aborted).toBe(true);
    });

    it("goes on by another rule that allows it alike, until that one is over too", async () => {
      const { live, over: pass } = started(rule({ until: inMs(1_000) }), rule({ id: "r2", until: inMs(5_000) }));
      await pass(4_999);
      expect(live.control.signal.aborted).toBe(false);
      await pass(1);
      expect(live.control.signal.aborted).toBe(true);
    });

    it("keeps to the end that a change of rules gave it", async () => {
      const { gate, live, over: pass } = started(rule({ until: inMs(1_000) }));
      expect(gate.setPolicy({ rules: [rule({ until: inMs(3_000) })], answering: false })).toBe(0);
      await pass(2_999);
      expect(live.control.signal.aborted).toBe(false);
      await pass(1);
      expect(live.control.signal.aborted).toBe(true);
      const second = started(rule());
      expect(second.gate.setPolicy({ rules: [rule({ until: inMs(1_000) })], answering: false })).toBe(0);
      await second.over(1_000);
      expect(second.live.control.signal.aborted).toBe(true);
    });

    it("ends soon after a clock that was set forward, as after a sleep of the computer", async () => {
      const { live, over: pass } = started(rule({ until: inMs(3_600_000) }));
      vi.setSystemTime(now + 3_600_000);
      await pass(CLOCK_MS);
      expect(live.control.signal.aborted).toBe(true);
    });
  });

  describe("what goes on with a key", () => {
    const key = (name: string, more: Partial<BoundSecret["binding"]> = {}): BoundSecret => ({
      name,
      binding: { hosts: ["a.example"], use: "bearer", ...more },
      placeholder: `standin-${name}-0123456789`,
      value: `value-${name}`,
    });
    const [work, other] = [key("work"), key("other", { use: "header:x-other", body: true })];
    const started = (head: readonly BoundSecret[], body: readonly BoundSecret[] = []) => {
      const gate = gateWith([rule()]);
      const live = open(gate);
      const rawHeaders = head.flatMap(({ binding, placeholder }) =>
        binding.use === "bearer" ? ["authorization", `Bearer ${placeholder}`] : ["x-other", placeholder],
      );
      const names = (keys: readonly BoundSecret[]) => keys.map(({ name }) => name);
      const asked = { ...request(), query: "", rawHeaders };
      if (head.length + body.length > 0)
        live.keys = { request: asked, rule: {}, secrets: [work, other], head: names(head), body: names(body) };
      return { gate, live };
    };

    it.each([
      ["the key was taken away", [work], [], [other], true],
      ["it was taken away while it may be put into the body", [], [other], [work], true],
      ["it has another value", [work], [], [{ ...work, value: "anew" }, other], true],
      ["it has another stand-in", [work], [], [{ ...work, placeholder: "standin-anew-0123456789" }, other], true],
      ["it is bound to another host", [work], [], [key("work", { hosts: ["b.example"] }), other], true],
      ["it is bound to another path", [work], [], [key("work", { paths: ["/x/*"] }), other], true],
      ["it is sent in another header", [work], [], [key("work", { use: "x-api-key" }), other], true],
      ["it is no longer for bodies", [], [other], [work, key("other", { use: "header:x-other" })], true],
      ["one of two keys was taken away", [work, other], [], [work], true],
      ["nothing changed", [work, other], [], [work, other], false],
      ["a key that it has no part in was taken away", [work], [], [work], false],
      ["one came to it", [work], [], [key("third", { use: "header:authorization" }), work, other], false],
      ["it has none", [], [], [], false],
    ] as const)("ends when it is its own no longer: %s", (_, head, body, now, cut) => {
      const { gate, live } = started(head, body);
      gate.setSecrets(now);
      expect(live.control.signal.aborted).toBe(cut);
      if (!cut) return;
      expect(live.control.signal.reason).toMatchObject({ fault: "its key was taken away", refusal: { code: "credential.changed" } });
      expect(String(live.control.signal.reason.refusal.reason)).not.toMatch(/value-|standin-/);
    });
  });

  it("an ask is refused when nobody answers in time, and its client is not kept for ever", async () => {
    vi.useFakeTimers();
    const gate = gateWith([], true);
    const verdict = gate.judge(request(), new AbortController().signal);
    await vi.advanceTimersByTimeAsync(ASK_MS + 1);
    expect((await verdict).decision).toBe("ask");
    expect(notices).toEqual(["asked 1", "unasked 1 time"]);
    expect(gate.pendingAsks).toBe(0);
  });

  it("a broken policy allows nothing, whatever its rules are", () => {
    const gate = gateWith([rule()]);
    gate.setPolicy({ rules: [rule()], answering: true, broken: "not JSON" });
    expect(gate.decide(request())).toMatchObject({ decision: "deny", rule: "broken" });
  });
});

describe("a request's form", () => {
  const refused: string[] = [];
  const task = {
    name: "t",
    gate: { refused: async (_: EgressRequest, __: string, reason: string) => void refused.push(reason) },
  } as unknown as Task;
  const named = { host: "a.example", port: 443 };
  const exchange = (more: Partial<Exchange>): Exchange =>
    ({ version: 1, method: "GET", target: "/", authorities: ["a.example"], rawHeaders: [], ...more }) as Exchange;
  const verdict = async (more: Partial<Exchange>, servername: string | undefined = "a.example", upgrade = false) => {
    try {
      return (await check(task, { scheme: "https", named, servername }, exchange(more), upgrade)).request.path;
    } catch (error) {
      return (error as Refused).refusal.code;
    }
  };

  it.each<[string, Partial<Exchange>, string]>([
    ["as it should be", {}, "/"],
    ["a host with its usual port", { authorities: ["a.example:443"] }, "/"],
    ["capitals in its host", { authorities: ["A.Example"] }, "/"],
    ["its own whole URL", { target: "https://a.example/x?y" }, "/x"],
    ["another host", { authorities: ["b.example"] }, "request.host"],
    ["another port", { authorities: ["a.example:444"] }, "request.host"],
    ["another host in its URL", { target: "https://b.example/" }, "request.host"],
    ["another scheme in its URL", { target: "http://a.example/" }, "request.form"],
    ["no host", { authorities: [] }, "request.form"],
    ["two hosts", { authorities: ["a.example", "a.example"] }, "request.form"],
    ["a user in its host", { authorities: ["x@a.example"] }, "request.host"],
    ["a NUL in its host", { authorities: ["a.example\0.b"] }, "request.host"],
    ["TRACE", { method: "TRACE" }, "request.method"],
    ["CONNECT", { method: "CONNECT" }, "request.method"],
    ["a method in small letters", { method: "get" }, "request.method"],
    ["dot segments", { target: "/a/../b" }, "request.path"],
    ["dot segments in disguise", { target: "/a/%2e%2e/b" }, "request.path"],
    ["too many headers", { rawHeaders: Array.from({ length: 1_000 }, () => "x") }, "request.form"],
  ])("%s", async (_, more, expected) => {
    expect(await verdict(more)).toBe(expected);
  });

  it("a request for another protocol has no body: it would leave without one, and the next request would be taken for it", async () => {
    const framed = (...rawHeaders: string[]) => verdict({ rawHeaders }, "a.example", true);
    for (const framing of [
      ["Content-Length", "1"],
      ["content-length", "0", "Content-Length", "5"],
      ["content-length", "00"],
      ["Transfer-Encoding", "chunked"],
    ])
      expect([framing, await framed(...framing)]).toEqual([framing, "request.form"]);
    expect(await framed("Content-Length", "0", "Upgrade", "websocket")).toBe("/");
    expect(await verdict({ rawHeaders: ["Content-Length", "1"] })).toBe("/");
  });

  it("a request for HTTP on its own connection is refused, as what follows is not decided; for another protocol it is not", async () => {
    for (const names of ["h2c, websocket", "websocket, h2c", "HTTP/2.0", "TLS/1.2, HTTP/1.1", "websocket,\tH2C"])
      expect([names, await verdict({ rawHeaders: ["Upgrade", names] }, "a.example", true)]).toEqual([names, "request.form"]);
    expect(await verdict({ rawHeaders: ["Upgrade", "websocket", "upgrade", "h2c"] }, "a.example", true)).toBe("request.form");
    for (const names of ["websocket", "SPDY/3.1", "postgres"])
      expect([names, await verdict({ rawHeaders: ["Upgrade", names] }, "a.example", true)]).toEqual([names, "/"]);
  });

  it("TLS for another name is refused, without a name it is the connection's", async () => {
    expect(await verdict({}, "b.example")).toBe("request.host");
    expect(refused.at(-1)).toContain("TLS was asked for b.example");
    expect(await verdict({}, "a.example")).toBe("/");
  });
});

describe("a stream's first line", () => {
  it.each([
    ["connect a.example 443", { host: "a.example", port: 443 }],
    ["connect 93.184.216.34 80", { host: "93.184.216.34", port: 80 }],
    ["connect 2606:2800::1 80", { host: "[2606:2800::1]", port: 80 }],
    ["proxy", { proxy: true }],
  ])("%s", (line, expected) => expect(parseFirstLine(line)).toEqual(expected));

  it("G05: whatever else stands there is none: 200,000 lines made of good ones with one byte changed", () => {
    const seeds = ["connect a.example 443", "proxy", "connect 127.0.0.1 80"];
    let state = 1;
    const random = (below: number) => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
      return (state >>> 8) % below;
    };
    for (let at = 0; at < 200_000; at++) {
      const seed = seeds[at % seeds.length] ?? "";
      const from = random(seed.length + 1);
      const line = seed.slice(0, from) + String.fromCharCode(random(256)) + seed.slice(from + random(2));
      const parsed = parseFirstLine(line);
      if (parsed === undefined || "proxy" in parsed) continue;
      expect(`connect ${parsed.host} ${parsed.port}`).toBe(line.toLowerCase());
      expect(parsed.host).toMatch(/^[a-z0-9.-]+$/);
    }
  });
});

describe("a stream on which something never comes", () => {
  let directory: string;
  let streams: Streams;
  let record: Recorder;
  const guests: Socket[] = [];
  /** on the other side of `guests` */
  const server = createServer({ pauseOnConnect: true }, (stream) => streams.take(stream));

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), "cloche-streams-"));
    record = new Recorder((batch) => setImmediate(() => record.recorded(batch)));
    const notices = { asked: () => {}, unasked: () => {}, unanswered: () => {} };
    const gate = new Gate({ rules: [], answering: true }, record, notices);
    const leaves = await Leaves.create(await makeAuthority());
    await leaves.for("a.example");
    streams = new Streams({ name: "t", gate, secrets: [] } as unknown as Task, leaves);
    await new Promise<void>((resolve) => server.listen(join(directory, "s"), resolve));
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  });
  afterEach(async () => {
    vi.useRealTimers();
    for (const guest of guests.splice(0)) guest.destroy();
    await new Promise((resolve) => server.close(resolve));
    rmSync(directory, { recursive: true });
  });

  async function guest(bytes: string) {
    // one that ends nothing by itself
    const socket = createConnection({ path: join(directory, "s"), allowHalfOpen: true });
    guests.push(socket);
    const seen = { socket, text: "", over: false };
    const over = () => {
      seen.over = true;
    };
    socket.on("error", over).on("end", over);
    socket.on("data", (chunk) => {
      seen.text += chunk;
    });
    socket.write(bytes, "latin1");
    await delivered();
    return seen;
  }
  /** what was written has arrived on the other side and been read there */
  const delivered = async () => {
    for (let at = 0; at < 20; at++) await turn();
  };
  const answered = async (one: { text: string }, status: number) => {
    for (let at = 0; at < 500 && one.text === ""; at++) await delivered();
    expect(one.text).toContain(`HTTP/1.1 ${status} `);
  };
  /** The end of a stream has arrived, if it comes at all; on a busy machine later than what was written by then. */
  const ended = async (...all: { over: boolean }[]) => {
    for (let at = 0; at < 500 && all.some(({ over }) => !over); at++) await delivered();
  };
  const elapse = async (ms: number) => {
    await vi.advanceTimersByTimeAsync(ms);
    await delivered();
  };

  it.each([
    ["a first line", FIRST_LINE_MS, "connect a.exa"],
    ["a first byte", FIRST_BYTE_MS, "connect a.example 443\n"],
    ["a handshake", HANDSHAKE_MS, "connect a.example 443\n\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"],
    ["a request by a program that was led here", HEAD_MS, "connect a.example 80\nGET / HTTP/1.1\r\nHost: a.exa"],
    ["a request by a program that knows of a proxy", HEAD_MS, "proxy\nGET http://a.exa"],
    ["any request", HEAD_MS, "proxy\n"],
    ["the end of what is no request", HEAD_MS, "proxy\n\x00\x00"],
  ])("ends, however slowly its bytes go on coming: %s", async (_, ms, bytes) => {
    const half = await guest(bytes);
    for (let at = 1; at < 10; at++) {
      await elapse(ms / 10);
      if (!/[\n\0]$/.test(bytes)) half.socket.write("a");
      await delivered();
      expect(streams.open).toBe(1);
    }
    await elapse(ms / 10);
    await ended(half);
    expect([streams.open, half.over]).toEqual([0, true]);
  });

  it("after an answer ends with the time that a kept connection has, half a request or none; one under way ends only with its answer", async () => {
    const [kept, half] = [await guest("proxy\nTRACE / HTTP/1.1\r\n\r\n"), await guest("proxy\nTRACE / HTTP/1.1\r\n\r\n")];
    const held = await guest("connect a.example 80\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    for (const one of [kept, half]) await answered(one, 400);
    await elapse(KEEP_ALIVE_MS - 1);
    half.socket.write("GET http://a.exa");
    await delivered();
    expect(streams.open).toBe(3);
    await elapse(1);
    await ended(kept, half);
    expect([kept.over, half.over, held.over, streams.open]).toEqual([true, true, false, 1]);
    expect(held.text).toBe("");
    await elapse(ASK_MS - KEEP_ALIVE_MS);
    await answered(held, 403);
    expect(held.over).toBe(false);
    await elapse(KEEP_ALIVE_MS);
    expect(streams.open).toBe(0);
  });

  it("ends where that is the end of its requests: as many as clients send ahead are taken, and answered in turn (control)", async () => {
    const ahead = (requests: number) => guest(`connect a.example 80\n${"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n".repeat(requests)}`);
    const [honest, greedy] = [await ahead(MAX_PIPELINED), await ahead(2_000)];
    await ended(greedy);
    expect([honest.over, greedy.over, streams.open]).toEqual([false, true, 1]);
    await elapse(ASK_MS);
    await answered(honest, 403);
    await delivered();
    expect(honest.text.match(/HTTP\/1.1 403/g)).toHaveLength(MAX_PIPELINED);
    expect(honest.over).toBe(false);
  });
});

describe("certificates", () => {
  it("a leaf has one exact name, its authority's issue and dates that a lagging clock accepts; it is made once", async () => {
    const authority = await makeAuthority();
    const root = new X509Certificate(authority.certificate);
    expect([root.subject, root.ca]).toEqual(["CN=Cloche task CA", true]);
    expect(Date.parse(root.validFrom)).toBeLessThan(Date.now() - 86_400_000);
    const leaves = await Leaves.create(authority);
    expect(await leaves.for("a.example")).toBe(await leaves.for("a.example"));
    expect(await leaves.for("b.example")).not.toBe(await leaves.for("a.example"));
  });
});

describe("the way out", () => {
  it("an address that is not public is not dialled, unless the rule names its range", async () => {
    let connections = 0;
    const server = createServer((socket) => {
      connections++;
      socket.destroy();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      const { port } = server.address() as { port: number };
      const upstream = new Upstream({});
      const target = { scheme: "opaque", host: "127.0.0.1", port } as const;
      const fault = await upstream.connect(target, new AbortController().signal).catch((error: unknown) => error);
      expect(fault).toBeInstanceOf(UpstreamFault);
      expect((fault as UpstreamFault).kind).toBe("address");
      expect(connections).toBe(0);
      (await upstream.connect({ ...target, private: "127.0.0.0/8" }, new AbortController().signal)).destroy();
      await expect.poll(() => connections).toBe(1);
    } finally {
      server.close();
    }
  });

  it("E25: through an outgoing proxy no address and no local name is asked for, and a rule with a private range goes around it", async () => {
    const heads: string[] = [];
    const proxy = createServer((socket) => {
      socket.once("data", (head) => {
        heads.push(head.toString("latin1"));
        socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
      });
    });
    let connections = 0;
    const near = createServer(() => void connections++);
    for (const server of [proxy, near]) await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      const at = proxy.address() as { port: number };
      const { port } = near.address() as { port: number };
      const upstream = new Upstream({ proxy: { host: "127.0.0.1", port: at.port, authorization: "Basic canary" } });
      const to = (host: string, more: { private?: string; port?: number } = {}) =>
        upstream.connect({ scheme: "opaque", host, port: 443, ...more }, new AbortController().signal);
      for (const host of ["93.184.216.34", "10.0.0.1", "[2606:2800:220:1::2]", "intranet", "printer.local"]) {
        const fault = await to(host).catch((error: unknown) => error);
        expect(fault, host).toBeInstanceOf(UpstreamFault);
        expect((fault as UpstreamFault).kind, host).toBe("address");
      }
      (await to("127.0.0.1", { private: "127.0.0.1/32", port })).destroy();
      await expect.poll(() => connections).toBe(1);
      expect(heads).toEqual([]);
      // longer than a label may be, so that no name server is asked for it
      const name = `${"x".repeat(64)}.example`;
      (await to(name)).destroy();
      expect(heads).toHaveLength(1);
      expect(heads[0]).toMatch(`CONNECT ${name}:443 HTTP/1.1\r\nhost: ${name}:443\r\nproxy-authorization: Basic canary\r\n`);
    } finally {
      proxy.close();
      near.close();
    }
  });
});
