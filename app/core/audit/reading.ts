/**
 * Reading a log of any size: records stand in the order of their ids, so a place in it is found by halving, and what follows is read in
 * pieces. A guest decides how long its task's log is; what the keeper holds of it does not depend on that.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { type EventEnvelope, eventEnvelope } from "../../contract/index.ts";

const PIECE_BYTES = 65_536;
/** A line that is longer is no record of ours. */
export const MAX_LINE_BYTES = 1_048_576;

/** Records from the first one that `wanted` holds for; it must hold for all that follow it. A log that is not there has none. */
export function* recordsFrom(file: string, wanted: (event: EventEnvelope) => boolean): Generator<EventEnvelope> {
  const size = sizeOf(file);
  let low = 0;
  let high = size;
  while (high - low > PIECE_BYTES) {
    const middle = Math.floor((low + high) / 2);
    const [found] = recordsAt(file, middle, high);
    if (found === undefined || wanted(found)) high = middle;
    else low = middle;
  }
  for (const event of recordsAt(file, low, size)) if (wanted(event)) yield event;
}

/** The whole records that begin after `offset` (or at it, at the log's beginning) and before `end`. */
function* recordsAt(file: string, offset: number, end: number): Generator<EventEnvelope> {
  let rest = Buffer.alloc(0);
  let skip = offset > 0; // in the middle of a line, most likely
  for (let at = offset; at < end || rest.length > 0; ) {
    const piece = readPiece(file, at);
    if (piece.length === 0) return; // a line without its end was never acknowledged
    const begin = at - rest.length;
    const bytes = Buffer.concat([rest, piece]);
    at += piece.length;
    let from = 0;
    for (let line = bytes.indexOf(0x0a); line >= 0; line = bytes.indexOf(0x0a, from)) {
      if (!skip) {
        if (begin + from >= end) return;
        const event = parseRecord(bytes.toString("utf8", from, line));
        if (event) yield event;
      }
      skip = false;
      from = line + 1;
    }
    rest = bytes.subarray(from);
    if (rest.length > MAX_LINE_BYTES) {
      rest = Buffer.alloc(0);
      skip = true;
    }
    if (at >= end && begin + from >= end) return;
  }
}

/** Lines that are not whole records are left out; telling of them is the verifier's work. */
export function parseRecord(line: string): EventEnvelope | undefined {
  if (line === "") return undefined;
  try {
    return eventEnvelope.safeParse(JSON.parse(line)).data;
  } catch {
    return undefined;
  }
}

/** Several logs' records as one, by id. */
export function* merged(logs: readonly Generator<EventEnvelope>[]): Generator<EventEnvelope> {
  const heads = logs.map((log) => ({ log, next: log.next() }));
  for (;;) {
    let first: (typeof heads)[number] | undefined;
    for (const head of heads) if (!head.next.done && (first === undefined || head.next.value.id < first.next.value.id)) first = head;
    if (first === undefined || first.next.done) return;
    yield first.next.value;
    first.next = first.log.next();
  }
}

function sizeOf(file: string): number {
  return opened(file, (fd) => fstatSync(fd).size) ?? 0;
}

/** Opened for each piece: there may be more logs than a process may hold open. */
function readPiece(file: string, at: number): Buffer {
  const piece = Buffer.alloc(PIECE_BYTES);
  return piece.subarray(0, opened(file, (fd) => readSync(fd, piece, 0, piece.length, at)) ?? 0);
}

function opened<T>(file: string, use: (fd: number) => T): T | undefined {
  let fd: number;
  try {
    fd = openSync(file, "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}
