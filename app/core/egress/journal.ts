/**
 * A proxy's journal: the decisions that it wrote down itself and its keeper has not yet put into the event log. With it a request does not
 * wait for another process, and nothing leaves unrecorded all the same: what is in the journal is told to the keeper within milliseconds,
 * by the keeper's own reading where the proxy is gone, and by the next keeper where both are.
 *
 * Each proxy has a file of its own, made by its keeper. Lines of JSON: `{"journal":1}`, then `{"seq":N,"entry":{…}}` with N
 * counting up; a line without its end was never acted on. When all of it is told its lines are cut off.
 * Versions. 1: 2026-11-28, first.
 */
import { randomBytes } from "node:crypto";
import {
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { z } from "zod";
import { type EgressEntry, egressEntry, MAX_ENTRIES } from "../../contract/index.ts";
import { DiskReserve } from "../disk-reserve.ts";

const JOURNAL_VERSION = 1;
const SUFFIX = ".jsonl";
/** A journal that has grown to this waits until its keeper has all of it. */
const MAX_BYTES = 1_048_576;

const header = z.strictObject({ journal: z.literal(JOURNAL_VERSION) });
const line = z.lazy(() => z.strictObject({ seq: z.int().min(1), entry: egressEntry }));
export type JournalLine = z.infer<typeof line>;

/** The proxy's side. */
export class Journal {
  readonly #fd: number;
  readonly #reserve: DiskReserve;
  readonly #orphaned: () => boolean;
  readonly #empty: number;
  #size: number;
  #seq = 0;
  #broken = false;

  /** @param orphaned whether the keeper is gone: what is written from then on may be read by nobody */
  constructor(file: string, orphaned: () => boolean) {
    this.#fd = openSync(file, "a");
    this.#reserve = new DiskReserve(dirname(file));
    this.#orphaned = orphaned;
    this.#empty = fstatSync(this.#fd).size;
    this.#size = this.#empty;
  }

  /** The number of the newest line. */
  get seq(): number {
    return this.#seq;
  }

  /** Writes entries down, all or none; answers whether what they allow may leave. */
  write(entries: readonly EgressEntry[]): boolean {
    if (this.#broken || this.#size > MAX_BYTES || this.#reserve.reached()) return false;
    const bytes = Buffer.from(entries.map((entry, index) => `${JSON.stringify({ seq: this.#seq + index + 1, entry })}\n`).join(""));
    // asked after the write: a keeper that comes later reads what was there when the one before it ended
    if (this.#append(bytes) && !this.#orphaned()) {
      this.#seq += entries.length;
      this.#size += bytes.length;
      return true;
    }
    this.#cut(this.#size);
    return false;
  }

  /** Everything in it is in the log. */
  allTold(): void {
    if (this.#size === this.#empty) return;
    this.#cut(this.#empty);
    this.#size = this.#empty;
  }

  #append(bytes: Buffer): boolean {
    try {
      return writeSync(this.#fd, bytes) === bytes.length;
    } catch {
      return false; // no room, or a broken disk: the keeper, who is asked now, meets it too and says so
    }
  }

  #cut(size: number): void {
    try {
      ftruncateSync(this.#fd, size);
    } catch {
      this.#broken = true; // what would follow stood behind half a line
    }
  }
}

/** Makes an empty journal, and the directory of a task's journals. Throws the system's error. */
export function createJournal(file: string): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  writeFileSync(file, `${JSON.stringify({ journal: JOURNAL_VERSION })}\n`, { flag: "wx", mode: 0o600 });
}

export interface JournalLeft {
  readonly lines: JournalLine[];
  /** lines that are none of ours */
  readonly unreadable: number;
}

/** What a proxy that is gone has left. Throws the system's error where the file is there and cannot be read. */
export function readJournal(file: string): JournalLeft {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return { lines: [], unreadable: 0 };
    throw error;
  }
  const [first = "", ...rest] = text.split("\n").slice(0, -1);
  const known = header.safeParse(parsed(first)).success;
  const lines = known ? rest.map((one) => line.safeParse(parsed(one)).data).filter((one) => one !== undefined) : [];
  return { lines, unreadable: rest.length - lines.length };
}

export interface JournalReader {
  /** which of a journal's lines are not in the log */
  left(lines: readonly JournalLine[]): readonly JournalLine[] | Promise<readonly JournalLine[]>;
  /** puts entries into the log, as many as fit one of its lines; what cannot be put there now throws */
  tell(entries: EgressEntry[]): void | Promise<void>;
  /** so many decisions cannot be told */
  lost(count: number, why: string): void;
}

/**
 * Tells what a proxy that is gone wrote down and did not tell. The journal goes when that is done: where this keeper ends before, the next
 * one reads it. One with lines that are none of ours, of a later version or of a broken disk, is told of once and kept, under a name that
 * nothing reads.
 */
export async function takeOver(file: string, reader: JournalReader): Promise<void> {
  const { lines, unreadable } = readJournal(file);
  const left = (await reader.left(lines)).map(({ entry }) => entry);
  const told: (void | Promise<void>)[] = [];
  while (left.length > 0) told.push(reader.tell(left.splice(0, MAX_ENTRIES)));
  await Promise.all(told);
  if (unreadable === 0) return rmSync(file, { force: true });
  const kept = `${file.slice(0, -SUFFIX.length)}.unreadable`;
  renameSync(file, kept);
  reader.lost(unreadable, `lines that cannot be read in ${kept}`);
}

/** The journals in a task's directory of them. */
export function journalsIn(directory: string): string[] {
  try {
    return readdirSync(directory)
      .filter((name) => name.endsWith(SUFFIX))
      .map((name) => join(directory, name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

/** A new journal's place in a task's directory of them. */
export const journalIn = (directory: string): string => join(directory, `${randomBytes(8).toString("hex")}${SUFFIX}`);

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
