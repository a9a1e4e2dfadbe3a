/**
 * Looks for records that were changed, dropped, put in another order or cut off. Each file is a chain: a record's value is made of the
 * one before and of the record, so a change shows at the record and a gap at the one after it. Where the file ends, and that it was not
 * written anew, is told by the heads that are known from elsewhere. Streams; holds one line at a time.
 */
import type { KeyObject } from "node:crypto";
import { open } from "node:fs/promises";
import { EVENT_VERSION, type EventEnvelope } from "../../contract/index.ts";
import { chainOf, GENESIS, type Head, partsOf, UNKEYED_VERSION } from "./chain.ts";
import { MAX_LINE_BYTES, parseRecord } from "./reading.ts";

export type Finding = {
  readonly line: number;
  readonly what: "changed" | "missing" | "order" | "cut" | "unreadable";
  readonly text: string;
};

const PIECE_BYTES = 65_536;
/** Findings of one file that are told. */
const MAX_FINDINGS = 100;

export interface Known {
  /** bytes of the log that are looked at: what is written meanwhile is left out */
  readonly size: number;
  /** undefined: records that were made with it cannot be compared */
  readonly key: KeyObject | undefined;
  /** the first record that can have been made with the key */
  readonly since: number;
  /** records that are known to have been written; the file must hold each of them */
  readonly heads: readonly Head[];
  /** whether a record is one that is written to this file */
  readonly belongs: (record: EventEnvelope) => boolean;
  /** told of each record */
  readonly seen?: (record: EventEnvelope) => void;
}

/** @returns `unchecked`: records that were made with a key which cannot be had */
export async function verifyFile(
  file: string,
  { size, key, since, heads, belongs, seen }: Known,
): Promise<{ events: number; unchecked: number; findings: Finding[] }> {
  const findings: Finding[] = [];
  const find = (line: number, what: Finding["what"], text: string) => {
    if (findings.length < MAX_FINDINGS) findings.push({ line, what, text });
  };
  // two of one id are not both there: the second was given again after the first was cut off
  const wanted = Map.groupBy(heads, ({ id }) => id);
  let previous = GENESIS;
  let lastId = 0;
  let line = 0;
  let events = 0;
  let unchecked = 0;
  let lost = false;
  for await (const text of linesOf(file, size)) {
    line++;
    const parts = text === undefined ? undefined : partsOf(text);
    const record = text === undefined ? undefined : parseRecord(text);
    if (!parts || !record) {
      find(line, "unreadable", "The line is no record.");
      continue;
    }
    if (record.version > EVENT_VERSION) {
      find(line, "unreadable", `Record ${record.id} was written by a newer Cloche (version ${record.version}).`);
      previous = parts.chain;
      lastId = record.id;
      continue;
    }
    events++;
    const keyed = record.version > UNKEYED_VERSION;
    if (record.id <= lastId) find(line, "order", `Record ${record.id} comes after record ${lastId}.`);
    else if (keyed && key && record.id < since) {
      unchecked++;
      if (!lost)
        find(line, "unreadable", "From here on records were made with a key that the keychain has no more, so they cannot be compared.");
      lost = true;
    } else if (keyed && !key) unchecked++;
    else if (chainOf(previous, parts.body, keyed ? key : undefined) !== parts.chain)
      find(line, "changed", `Record ${record.id} is not the one that was written here, or the one before it is gone.`);
    else if (!belongs(record)) find(line, "changed", `Record ${record.id} was written to another log.`);
    const known = wanted.get(record.id);
    wanted.delete(record.id);
    if (known?.some(({ chain }) => chain !== parts.chain))
      find(line, "changed", `Record ${record.id} is not the one that was written: the log was cut off or written anew up to here.`);
    seen?.(record);
    previous = parts.chain;
    lastId = record.id;
  }
  const ends = lastId === 0 ? "holds no record" : `ends with record ${lastId}`;
  for (const id of [...wanted.keys()].sort((a, b) => b - a)) {
    if (id > lastId) find(Math.max(1, line), "cut", `The log ${ends}; record ${id} had been written.`);
    else find(Math.max(1, line), "missing", `Record ${id} had been written and is not there.`);
    break; // an earlier one that is gone too says no more
  }
  return { events, unchecked, findings };
}

/** Whole lines; undefined is one that is too long for a record. What a crash cut short was never acknowledged, and is left out. */
async function* linesOf(file: string, size: number): AsyncGenerator<string | undefined> {
  await using handle = await open(file, "r");
  let rest: Buffer[] = [];
  let length = 0;
  let tooLong = false;
  for (let at = 0; at < size; ) {
    const piece = Buffer.alloc(Math.min(PIECE_BYTES, size - at));
    const { bytesRead } = await handle.read(piece, 0, piece.length, at);
    if (bytesRead === 0) return; // it is shorter than it was
    at += bytesRead;
    const bytes = piece.subarray(0, bytesRead);
    let from = 0;
    for (let end = bytes.indexOf(0x0a); end >= 0; end = bytes.indexOf(0x0a, from)) {
      const line = Buffer.concat([...rest, bytes.subarray(from, end)]);
      yield tooLong || line.length > MAX_LINE_BYTES ? undefined : line.toString("utf8");
      rest = [];
      length = 0;
      tooLong = false;
      from = end + 1;
    }
    rest.push(bytes.subarray(from));
    length += bytesRead - from;
    if (length > MAX_LINE_BYTES) {
      rest = [];
      length = 0;
      tooLong = true;
    }
  }
}
