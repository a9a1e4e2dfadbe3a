/**
 * The event log: one writer, one file per task and one for the keeper, each a chain of hashes.
 *
 * A record is a line of JSON, written with one append before `record` returns. Ids count up over all files. A line that a crash
 * cut short was never acknowledged and is cut off when its file is opened next. Readers pull: the newest records are kept in
 * memory, older ones are read from the files, so a slow reader costs nothing.
 *
 * With a keychain (`protect`) the chain is made with a key that only it has, and it is told of each chain's head: then a log that was
 * rewritten whole, or whose newest records were cut off, is found too.
 *
 * What a guest does is kept (`keep`) rather than reported: on a full disk it waits in memory, and so does the guest, until it is
 * written. A reserve of the disk is left to what the user does.
 */
import { closeSync, existsSync, fstatSync, ftruncateSync, openSync, readdirSync, readSync, statSync, writeSync } from "node:fs";
import { open } from "node:fs/promises";
import { basename, dirname } from "node:path";
import type { z } from "zod";
import { type Actor, type EventEnvelope, type EventKind, eventData, ProblemError, type Result } from "../../contract/index.ts";
import { type Disk, DiskReserve } from "../disk-reserve.ts";
import type { Paths } from "../paths.ts";
import type { Keychain } from "../vault/index.ts";
import { Wakeups } from "../wakeups.ts";
import { Anchor } from "./anchor.ts";
import { chainOf, GENESIS, type Head, lineOf, versionOf } from "./chain.ts";
import { merged, parseRecord, recordsFrom } from "./reading.ts";
import { verifyFile } from "./verify.ts";

/** Records kept in memory for followers. */
const RECENT = 8192;
/** A record's line is far below this; the tail read at opening must hold the last one whole. */
const TAIL_BYTES = 262_144;
/** A page of events is one line of the contract, which ends at 1 MiB. */
const PAGE_BYTES = 524_288;

/** how often what could not be written is tried again */
const RETRY_MS = 1_000;

/** While there are new records, the keychain is told of them that often; and soon after a machine's end, and at the keeper's. */
const ANCHOR_MS = 60_000;
const ANCHOR_SOON_MS = 2_000;
/** The key is fetched when the keeper's own start, and most often a machine's, is over. */
const ANCHOR_FIRST_MS = 5_000;
/** A keychain that does not answer must not hold up the keeper's end. */
const ANCHOR_LAST_MS = 2_000;
/** Kinds after which a task's log rests. */
const RESTS: readonly EventKind[] = ["task.stopped", "task.failed", "task.removed"];

export interface Recorded {
  readonly task?: string;
  readonly actor?: Actor;
  readonly source?: "host" | "guest";
  readonly reason?: string;
}

type OpenFile = { fd: number; last: Head | undefined };

export class AuditLog {
  readonly #paths: Paths;
  readonly #now: () => Date;
  readonly #files = new Map<string, OpenFile>();
  readonly #followers = new Wakeups();
  readonly #reserve: DiskReserve;
  /** what is kept and could not be written yet, in its order */
  #kept: { write: () => void; written: () => void }[] = [];
  #retry: NodeJS.Timeout | undefined;
  #recent: EventEnvelope[] = [];
  #nextId = 1;
  /** reported events that could not be written, until one tells of them */
  #lost = 0;
  #whyLost = "";
  #keychain: Keychain | undefined;
  /** the keychain did not give a key; it is asked again by `verify` only, as it may ask its user */
  #refused = false;
  #anchor: Anchor | undefined;
  /** why the keychain does not hold the log, or not its newest records */
  #trouble = "";
  #anchoring: Promise<void> = Promise.resolve();
  #anchorTimer: { readonly timer: NodeJS.Timeout; readonly at: number } | undefined;
  /** files whose last anchored record was found in them by this process */
  readonly #confirmed = new Set<string>();
  /** heads of files that this process wrote to and closed, until they are anchored */
  readonly #closed = new Map<string, Head>();
  /** tasks whose logs went with them */
  readonly #removed = new Set<string>();

  constructor(paths: Paths, now: () => Date = () => new Date(), disk?: (directory: string) => Disk) {
    this.#paths = paths;
    this.#now = now;
    this.#reserve = new DiskReserve(dirname(paths.audit), disk);
    for (const file of this.#allFiles()) {
      const last = lastRecord(file);
      if (last) this.#nextId = Math.max(this.#nextId, last.id + 1);
    }
  }

  /** Writes one event and wakes the followers. Throws disk.full when it cannot be written: what is not recorded must not happen. */
  record<K extends EventKind>(kind: K, data: z.input<(typeof eventData)[K]>, about: Recorded = {}): EventEnvelope {
    return this.#write(kind, data, about, this.#now());
  }

  #write<K extends EventKind>(kind: K, data: z.input<(typeof eventData)[K]>, about: Recorded, time: Date): EventEnvelope {
    // task.removed outlives the task's folder, so it stands in the keeper's file
    const file = about.task === undefined || kind === "task.removed" ? this.#paths.audit : this.#paths.task(about.task).audit;
    const open = this.#open(file);
    const key = this.#anchor?.key;
    const body = {
      version: versionOf(key),
      id: this.#nextId,
      time: time.toISOString(),
      ...(about.task === undefined ? {} : { task: about.task }),
      kind,
      source: about.source ?? "host",
      actor: about.actor ?? { kind: "keeper" as const },
      ...(about.reason === undefined ? {} : { reason: about.reason }),
      data: eventData[kind].parse(data) as Record<string, unknown>,
    };
    const text = JSON.stringify(body);
    const chain = chainOf(open.last?.chain ?? GENESIS, text, key);
    const event: EventEnvelope = { ...body, chain };
    const line = Buffer.from(`${lineOf(text, chain)}\n`);
    let written = 0;
    try {
      written = writeSync(open.fd, line);
      if (written !== line.length) throw Object.assign(new Error("short write"), { code: "ENOSPC" });
    } catch (error) {
      ftruncateSync(open.fd, fstatSync(open.fd).size - written);
      throw new ProblemError({
        code: "disk.full",
        message: "An event could not be written, so what it tells of was not done.",
        evidence: `${(error as NodeJS.ErrnoException).code ?? ""} ${file}`,
        next: ["Make room on the disk that holds Cloche's data, then try again."],
      });
    }
    open.last = { id: body.id, chain };
    this.#nextId++;
    if (kind === "task.removed" && about.task !== undefined) this.#removed.add(about.task);
    this.#anchorWithin(RESTS.includes(kind) ? ANCHOR_SOON_MS : ANCHOR_MS);
    this.#recent.push(event);
    if (this.#recent.length > RECENT * 2) this.#recent = this.#recent.slice(-RECENT);
    this.#followers.wake();
    return event;
  }

  /**
   * Tells of something that has happened already or must not be held up (a stop, a failure, what a guest said). Never throws: what
   * cannot be written is counted, and the count stands in the log when there is room again.
   */
  report<K extends EventKind>(kind: K, data: z.input<(typeof eventData)[K]>, about: Recorded = {}): void {
    try {
      this.record(kind, data, about);
    } catch (error) {
      this.#lose(kind, error);
      return;
    }
    if (this.#lost === 0) return;
    const count = this.#lost;
    this.#lost = 0;
    try {
      this.record("events.lost", { count, why: this.#whyLost.slice(0, 1024) });
    } catch {
      this.#lost = count; // told with the next one
    }
  }

  /**
   * Tells of something that a guest did; resolves when it is written, with the time of now. While it cannot be it waits in memory, tried
   * again every second: whoever tells of more must wait for it.
   */
  keep<K extends EventKind>(kind: K, data: z.input<(typeof eventData)[K]>, about: Recorded = {}): Promise<void> {
    const time = this.#now();
    const write = () => {
      try {
        this.#write(kind, data, about, time);
      } catch (error) {
        if (error instanceof ProblemError && error.problem.code === "disk.full") throw error;
        this.#lose(kind, error); // the task is gone, or it is no event: waiting helps neither
      }
    };
    return new Promise((written) => {
      this.#kept.push({ write, written });
      if (this.#kept.length === 1) this.#writeKept();
    });
  }

  /** Whether something waits for room on the disk. */
  get holding(): boolean {
    return this.#kept.length > 0;
  }

  /** Writes what waits, with the reserve; what even that has no room for is lost with the process. */
  end(): void {
    clearTimeout(this.#retry);
    this.#writeKept(false);
    clearTimeout(this.#retry);
  }

  #writeKept(leaveReserve = true): void {
    try {
      while (this.#kept[0]) {
        if (leaveReserve && this.#reserve.reached()) break;
        this.#kept[0].write();
        this.#kept.shift()?.written();
      }
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
    }
    if (this.#kept.length > 0) this.#retry = setTimeout(() => this.#writeKept(), RETRY_MS).unref();
  }

  #lose(kind: EventKind, error: unknown): void {
    this.#lost++;
    this.#whyLost = `${kind}: ${error instanceof ProblemError ? `${error.message} ${error.problem.evidence ?? ""}` : String(error)}`;
  }

  /** Events after an id, oldest first; waits up to `waitMs` for the first one. */
  async read(query: { task?: string | undefined; after: number; limit: number; waitMs: number; sinceMs?: number | undefined }): Promise<{
    events: EventEnvelope[];
    next: number;
  }> {
    const until = performance.now() + query.waitMs;
    for (;;) {
      const seen = this.#nextId - 1;
      const events = this.#after(query);
      if (events.length > 0) return { events, next: events.at(-1)?.id ?? seen };
      const left = until - performance.now();
      if (left <= 0) return { events, next: Math.max(query.after, seen) };
      await this.#followers.next(left);
    }
  }

  /**
   * From now on the keychain holds the log: records are chained with a key of its own, and it is told of the heads on an interval, after a
   * machine's end, and by `close`. It is first asked after some seconds. Without a usable keychain the chain has no key, which `verify` says.
   */
  protect(keychain: Keychain): void {
    this.#keychain = keychain;
    this.#anchorWithin(ANCHOR_FIRST_MS);
  }

  /** Tells the keychain of the heads as they are now. Never rejects: what went wrong is told by `verify`. */
  anchor(): Promise<void> {
    return this.#inTurn(async () => {
      if (await this.#load()) await this.#writeHeads();
    });
  }

  /** One at a time; a failure is kept for `verify`. */
  #inTurn(work: () => Promise<void>): Promise<void> {
    this.#anchoring = this.#anchoring.then(work).catch((error: Error) => {
      this.#trouble = error.message.slice(0, 256);
    });
    return this.#anchoring;
  }

  /** Anchors what is written; the last that a keeper does with its log. A keychain that does not answer is not waited for. */
  async close(): Promise<void> {
    if (this.#keychain && !this.#refused) {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, ANCHOR_LAST_MS);
      });
      await Promise.race([this.anchor(), late]).finally(() => clearTimeout(timer));
    }
    clearTimeout(this.#anchorTimer?.timer);
  }

  #anchorWithin(ms: number): void {
    if (this.#keychain === undefined || this.#refused) return;
    const at = performance.now() + ms;
    if (this.#anchorTimer && this.#anchorTimer.at <= at) return;
    clearTimeout(this.#anchorTimer?.timer);
    const timer = setTimeout(() => {
      this.#anchorTimer = undefined;
      void this.anchor();
    }, ms).unref();
    this.#anchorTimer = { timer, at };
  }

  /** Whether there is an anchor now. */
  async #load(): Promise<boolean> {
    if (this.#anchor) return true;
    if (!this.#keychain) return false;
    this.#refused = true;
    const anchor = await Anchor.load(this.#paths.auditHeads, this.#keychain, this.#nextId);
    this.#refused = false;
    this.#trouble = "";
    // an id is never given twice, also where the records that had it were cut off
    for (const { id } of anchor.heads.values()) this.#nextId = Math.max(this.#nextId, id + 1);
    this.#anchor = anchor;
    return true;
  }

  async #writeHeads(): Promise<void> {
    const anchor = this.#anchor;
    if (!anchor) return;
    const written = [...this.#closed, ...[...this.#files].flatMap(([file, { last }]) => (last ? [[file, last] as const] : []))];
    for (const [file, head] of written) {
      const name = nameOf(file);
      if (anchor.heads.get(name)?.chain === head.chain || !existsSync(file)) continue; // one that should be there is missed by `verify`
      anchor.unwritten = true;
      this.#confirm(anchor, file);
      // a power cut must not take back what the keychain knows of
      await using handle = await open(file, "r+");
      await handle.datasync();
      anchor.heads.set(name, head);
    }
    const removed = [...this.#removed];
    for (const task of removed) if (anchor.heads.delete(task)) anchor.unwritten = true;
    if (!anchor.unwritten) return;
    await anchor.write();
    this.#trouble = "";
    for (const [file, { chain }] of this.#closed)
      if (anchor.heads.get(nameOf(file))?.chain === chain || !existsSync(file)) this.#closed.delete(file);
    for (const task of removed) this.#removed.delete(task);
  }

  /** The record that was anchored last must be in the file before a newer one takes its place, or the next list would cover what was done. */
  #confirm(anchor: Anchor, file: string): void {
    if (this.#confirmed.has(file)) return;
    this.#confirmed.add(file);
    const name = nameOf(file);
    const head = anchor.heads.get(name);
    if (!head) return;
    const [found] = recordsFrom(file, ({ id }) => id >= head.id);
    if (found?.id === head.id && found.chain === head.chain) return;
    const what = found?.id === head.id ? "changed" : "cut";
    const task = name === KEEPER ? {} : { task: name };
    anchor.break({ ...task, what, text: `Record ${head.id} had been written, and the log went on without it.` });
  }

  /**
   * Reads every record again, as far as they were written when it is asked. What this keeper has written since it started is known, so a cut
   * tail of it is found; what was written before is held by the keychain, where there is one.
   */
  async verify(taskName: (taskId: string) => string): Promise<Result<"events.verify">> {
    await this.#inTurn(async () => void (await this.#load()));
    const anchor = this.#anchor;
    const names = anchor ? new Map(anchor.heads) : new Map<string, Head>();
    const looked = this.#allFiles().map((file) => {
      const anchored = names.get(nameOf(file));
      const written = this.#files.get(file)?.last ?? this.#closed.get(file);
      return { file, anchored, size: statSync(file).size, heads: [anchored, written].filter((head) => head !== undefined) };
    });
    const findings: Result<"events.verify">["findings"] = [];
    const removed = new Set(this.#removed);
    let [events, unchecked, newer] = [0, 0, 0];
    for (const { file, anchored, size, heads } of looked) {
      const seen = ({ id, kind, task }: EventEnvelope) => {
        if (id > (anchored?.id ?? 0)) newer++;
        if (kind === "task.removed" && task !== undefined) removed.add(task);
      };
      const name = nameOf(file);
      const belongs = ({ task, kind }: EventEnvelope) => (name === KEEPER ? task === undefined || kind === "task.removed" : task === name);
      const found = await verifyFile(file, { size, key: anchor?.key, since: anchor?.since ?? 0, heads, belongs, seen }).catch((error) => {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
        return undefined; // its task was removed meanwhile
      });
      if (!found) continue;
      events += found.events;
      unchecked += found.unchecked;
      findings.push(...found.findings.map((finding) => ({ ...ofTask(name, taskName), ...finding })));
    }
    for (const [name, { id }] of names) {
      if (existsSync(this.#fileOf(name)) || removed.has(name)) continue;
      findings.push({ ...ofTask(name, taskName), line: 1, what: "missing", text: `The log is gone; record ${id} had been written in it.` });
    }
    for (const { task, what, text } of anchor?.breaks ?? []) findings.push({ ...ofTask(task ?? KEEPER, taskName), line: 1, what, text });
    return {
      files: looked.length,
      events,
      anchored: anchor !== undefined,
      anchor: anchor ? anchoredWords(newer, this.#trouble) : unanchoredWords(this.#trouble, unchecked),
      findings: findings.slice(0, 200),
    };
  }

  /** Forgets the open file of a task whose machine is over, or whose folder is about to go. */
  release(task: string): void {
    const path = this.#paths.task(task).audit;
    const open = this.#files.get(path);
    if (!open) return;
    closeSync(open.fd);
    this.#files.delete(path);
    if (open.last) this.#closed.set(path, open.last);
    this.#anchorWithin(ANCHOR_SOON_MS);
  }

  #after(query: { task?: string | undefined; after: number; limit: number; sinceMs?: number | undefined }): EventEnvelope[] {
    const first = this.#recent[0];
    const inMemory = first !== undefined ? query.after >= first.id - 1 : query.after >= this.#nextId - 1;
    const files = query.task === undefined ? this.#allFiles() : [this.#paths.task(query.task).audit, this.#paths.audit];
    const since = query.sinceMs === undefined ? undefined : new Date(this.#now().getTime() - query.sinceMs).toISOString();
    const wanted = ({ id, time }: EventEnvelope) => id > query.after && (since === undefined || time >= since);
    const from = inMemory ? this.#recent : merged(files.map((file) => recordsFrom(file, wanted)));
    const found: EventEnvelope[] = [];
    let bytes = 0;
    for (const event of from) {
      if (!wanted(event) || (query.task !== undefined && event.task !== query.task)) continue;
      bytes += eventBytes(event);
      if (found.length > 0 && bytes > PAGE_BYTES) break;
      found.push(event);
      if (found.length === query.limit) break;
    }
    return found;
  }

  #fileOf(name: string): string {
    return name === KEEPER ? this.#paths.audit : this.#paths.task(name).audit;
  }

  #allFiles(): string[] {
    const tasks = existsSync(this.#paths.tasks) ? readdirSync(this.#paths.tasks) : [];
    return [this.#paths.audit, ...tasks.map((id) => this.#paths.task(id).audit)].filter((file) => existsSync(file));
  }

  #open(file: string): OpenFile {
    const held = this.#files.get(file);
    if (held) return held;
    if (!existsSync(dirname(file))) throw new Error(`no directory for ${file}`);
    const fd = openSync(file, "a+", 0o600);
    cutTornLine(fd);
    const last = lastRecord(file);
    const open = { fd, last: last && { id: last.id, chain: last.chain } };
    const closed = this.#closed.get(file);
    if (closed && closed.chain !== last?.chain) {
      const text = `Record ${closed.id} had been written, and the log went on without it.`;
      this.#anchor?.break({ ...(nameOf(file) === KEEPER ? {} : { task: nameOf(file) }), what: "cut", text });
    }
    this.#closed.delete(file);
    this.#files.set(file, open);
    return open;
  }
}

const eventBytes = (event: EventEnvelope) => Buffer.byteLength(JSON.stringify(event));

const KEEPER = "keeper";
/** What a file is called in the list of heads: its task's id, or `keeper`. */
const nameOf = (file: string): string => (basename(dirname(dirname(file))) === "tasks" ? basename(dirname(file)) : KEEPER);
const ofTask = (name: string, taskName: (id: string) => string) => (name === KEEPER ? {} : { task: taskName(name).slice(0, 64) });

const anchoredWords = (newer: number, trouble: string): string =>
  (newer === 0
    ? "anchored: the system's keychain knows of every record."
    : `anchored: the system's keychain knows of every record but the newest ${newer}, which it is told of within a minute.`) +
  (trouble === "" ? "" : ` It could not be told last time: ${trouble}.`);
const unanchoredWords = (why: string, unchecked: number): string =>
  `unanchored: the system's keychain does not hold the log (${why || "it was not asked"}), so one that was rewritten whole, or cut off before this keeper started, is not found.` +
  (unchecked === 0 ? "" : ` Without its key ${unchecked} records were not compared.`);

function cutTornLine(fd: number): void {
  const { tail, size } = readTail(fd);
  if (tail.length > 0 && tail.at(-1) !== 0x0a) ftruncateSync(fd, size - tail.length + tail.lastIndexOf(0x0a) + 1);
}

/** The last bytes of a log, which hold its last record whole, and the log's size. */
function readTail(fd: number): { tail: Buffer; size: number } {
  const { size } = fstatSync(fd);
  const tail = Buffer.alloc(Math.min(size, TAIL_BYTES));
  readSync(fd, tail, 0, tail.length, size - tail.length);
  return { tail, size };
}

function lastRecord(file: string): EventEnvelope | undefined {
  const fd = openSync(file, "r");
  try {
    const lines = readTail(fd).tail.toString("utf8").split("\n");
    return lines.map(parseRecord).findLast((event) => event !== undefined);
  } finally {
    closeSync(fd);
  }
}
