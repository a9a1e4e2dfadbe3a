/**
 * The event log: one writer, one file per task and one for the keeper, each a chain of hashes.
 *
 * A record is a line of JSON, written with one append before `record` returns. Ids count up over all files. A line that a crash
 * cut short was never acknowledged and is cut off when its file is opened next. Readers pull: the newest records are kept in
 * memory, older ones are read from the files, so a slow reader costs nothing.
 *
 * What a guest does is kept (`keep`) rather than reported: on a full disk it waits in memory, and so does the guest, until it is
 * written. A reserve of the disk is left to what the user does.
 */
import { createHash } from "node:crypto";
import { closeSync, existsSync, fstatSync, ftruncateSync, openSync, readdirSync, readSync, statfsSync, writeSync } from "node:fs";
import { basename, dirname } from "node:path";
import type { z } from "zod";
import {
  type Actor,
  EVENT_VERSION,
  type EventEnvelope,
  type EventKind,
  eventData,
  ProblemError,
  type Result,
} from "../../contract/index.ts";
import type { Paths } from "../paths.ts";
import { merged, parseRecord, recordsFrom } from "./reading.ts";
import { verifyFile } from "./verify.ts";

/** Records kept in memory for followers. */
const RECENT = 8192;
const GENESIS = "0".repeat(64);
/** A record's line is far below this; the tail read at opening must hold the last one whole. */
const TAIL_BYTES = 262_144;
/** A page of events is one line of the contract, which ends at 1 MiB. */
const PAGE_BYTES = 524_288;

/** What guests do may fill the disk up to this much: 256 MiB, or a fiftieth of a smaller disk. */
const RESERVE_BYTES = 268_435_456;
const RESERVE_SHARE = 50;
/** how often what could not be written is tried again */
const RETRY_MS = 1_000;

export interface Recorded {
  readonly task?: string;
  readonly actor?: Actor;
  readonly source?: "host" | "guest";
  readonly reason?: string;
}

type OpenFile = { fd: number; chain: string; last?: { id: number; chain: string } };
type Disk = { readonly bsize: number; readonly blocks: number; readonly bavail: number };

export class AuditLog {
  readonly #paths: Paths;
  readonly #now: () => Date;
  readonly #files = new Map<string, OpenFile>();
  readonly #waiting = new Set<() => void>();
  readonly #disk: (directory: string) => Disk;
  /** what is kept and could not be written yet, in its order */
  #kept: { write: () => void; written: () => void }[] = [];
  #retry: NodeJS.Timeout | undefined;
  #recent: EventEnvelope[] = [];
  #nextId = 1;
  /** reported events that could not be written, until one tells of them */
  #lost = 0;
  #whyLost = "";

  constructor(paths: Paths, now: () => Date = () => new Date(), disk: (directory: string) => Disk = statfsSync) {
    this.#paths = paths;
    this.#now = now;
    this.#disk = disk;
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
    const body = {
      version: EVENT_VERSION,
      id: this.#nextId,
      time: time.toISOString(),
      ...(about.task === undefined ? {} : { task: about.task }),
      kind,
      source: about.source ?? "host",
      actor: about.actor ?? { kind: "keeper" as const },
      ...(about.reason === undefined ? {} : { reason: about.reason }),
      data: eventData[kind].parse(data) as Record<string, unknown>,
    };
    const chain = chainOf(open.chain, body);
    const event: EventEnvelope = { ...body, chain };
    const line = Buffer.from(`${JSON.stringify(event)}\n`);
    const before = fstatSync(open.fd).size;
    try {
      if (writeSync(open.fd, line) !== line.length) throw Object.assign(new Error("short write"), { code: "ENOSPC" });
    } catch (error) {
      ftruncateSync(open.fd, before);
      throw new ProblemError({
        code: "disk.full",
        message: "An event could not be written, so what it tells of was not done.",
        evidence: `${(error as NodeJS.ErrnoException).code ?? ""} ${file}`,
        next: ["Make room on the disk that holds Cloche's data, then try again."],
      });
    }
    open.chain = chain;
    open.last = { id: body.id, chain };
    this.#nextId++;
    this.#recent.push(event);
    if (this.#recent.length > RECENT * 2) this.#recent = this.#recent.slice(-RECENT);
    for (const wake of this.#waiting) wake();
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
        if (leaveReserve && this.#inReserve()) break;
        this.#kept[0].write();
        this.#kept.shift()?.written();
      }
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
    }
    if (this.#kept.length > 0) this.#retry = setTimeout(() => this.#writeKept(), RETRY_MS).unref();
  }

  #inReserve(): boolean {
    const { bsize, blocks, bavail } = this.#disk(dirname(this.#paths.audit));
    return bavail * bsize < Math.min(RESERVE_BYTES, (blocks * bsize) / RESERVE_SHARE);
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
      await this.#changed(left);
    }
  }

  /**
   * Reads every record again. What this keeper has written since it started is known, so a cut tail of it is found; a log that was
   * rewritten whole before cannot be told without a key that its writer has and others have not.
   */
  async verify(nameOf: (taskId: string) => string): Promise<Result<"events.verify">> {
    const files = this.#allFiles();
    const findings: Result<"events.verify">["findings"] = [];
    let events = 0;
    for (const file of files) {
      const found = await verifyFile(file, chainOf, GENESIS, this.#files.get(file)?.last);
      events += found.events;
      const task = file === this.#paths.audit ? {} : { task: nameOf(basename(dirname(file))).slice(0, 64) };
      findings.push(...found.findings.map((finding) => ({ ...task, ...finding })));
    }
    return {
      files: files.length,
      events,
      anchored: false,
      anchor: "unanchored: the chain's head is not kept with the keychain, so a log that was rewritten whole would not be found.",
      findings: findings.slice(0, 200),
    };
  }

  /** Forgets the open file of a task whose folder is about to go. */
  release(task: string): void {
    const path = this.#paths.task(task).audit;
    const open = this.#files.get(path);
    if (open) closeSync(open.fd);
    this.#files.delete(path);
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

  #changed(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.#waiting.add(done);
    });
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
    const open = { fd, chain: lastRecord(file)?.chain ?? GENESIS };
    this.#files.set(file, open);
    return open;
  }
}

const eventBytes = (event: EventEnvelope) => Buffer.byteLength(JSON.stringify(event));

/** The chain value of a record: SHA-256 over the previous value and the record's JSON without its own. */
export function chainOf(previous: string, body: object): string {
  return createHash("sha256").update(previous).update(JSON.stringify(body)).digest("hex");
}

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
