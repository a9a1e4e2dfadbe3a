/**
 * Looks for records that were changed, dropped, put in another order or cut off. Each file is a chain: a record's value is made of the
 * one before and of the record, so a change shows at the record and a gap at the one after it. Streams; holds one line at a time.
 */
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { parseRecord } from "./reading.ts";

export type Finding = {
  readonly line: number;
  readonly what: "changed" | "missing" | "order" | "cut" | "unreadable";
  readonly text: string;
};

/** Findings of one file: the first ones say where it begins to differ, so further ones of the same chain are not told. */
export async function verifyFile(
  file: string,
  chainOf: (previous: string, body: object) => string,
  genesis: string,
  expected?: { id: number; chain: string } | undefined,
): Promise<{ events: number; findings: Finding[]; last?: { id: number; chain: string } }> {
  const findings: Finding[] = [];
  let previous = genesis;
  let last: { id: number; chain: string } | undefined;
  let line = 0;
  let events = 0;
  let torn: string | undefined;
  for await (const text of createInterface({ input: createReadStream(file, "utf8"), crlfDelay: Number.POSITIVE_INFINITY })) {
    line++;
    if (torn !== undefined) findings.push({ line: line - 1, what: "unreadable", text: torn });
    torn = undefined;
    const record = parseRecord(text);
    if (!record) {
      // the last line may be one that a crash cut short: it was never acknowledged
      torn = "The line is no record.";
      continue;
    }
    events++;
    const { chain, ...body } = record;
    if (last && record.id <= last.id) findings.push({ line, what: "order", text: `Record ${record.id} comes after record ${last.id}.` });
    if (chainOf(previous, body) !== chain) {
      findings.push({
        line,
        what: "changed",
        text: `Record ${record.id} is not the one that was written here, or the one before it is gone.`,
      });
    }
    previous = chain;
    last = { id: record.id, chain };
    if (findings.length >= 100) break;
  }
  if (expected && expected.id > (last?.id ?? 0)) {
    findings.push({
      line: Math.max(1, line),
      what: "cut",
      text: `The log ends with record ${last?.id ?? "none"}; record ${expected.id} had been written.`,
    });
  }
  return { events, findings, ...(last ? { last } : {}) };
}
