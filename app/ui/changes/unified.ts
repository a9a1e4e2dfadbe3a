/** A unified diff as rows to show. The text is of the guest's making: what does not parse is shown as it is, never dropped. */

export type Row = Readonly<
  | { kind: "hunk"; hunk: number; text: string }
  /** before the first hunk, or a line that fits nothing else */
  | { kind: "note"; text: string }
  | { kind: "same" | "added" | "removed"; old: number | undefined; fresh: number | undefined; text: string }
>;

const HUNK = /^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@/;

/** Rows of a diff of one file. Hunks are numbered from 0, as the share server numbers them. */
export function rowsOf(diff: string): readonly Row[] {
  const rows: Row[] = [];
  let hunk = -1;
  let old = 0;
  let fresh = 0;
  // Lines that the hunk's head still announces: a line of content may look like a head.
  let oldLeft = 0;
  let freshLeft = 0;
  const lines = diff.split("\n");
  if (lines.at(-1) === "") lines.pop();
  for (const line of lines) {
    const head = oldLeft === 0 && freshLeft === 0 ? HUNK.exec(line) : null;
    if (head) {
      hunk++;
      old = Number(head[1]);
      fresh = Number(head[3]);
      oldLeft = Number(head[2] ?? "1");
      freshLeft = Number(head[4] ?? "1");
      rows.push({ kind: "hunk", hunk, text: line });
      continue;
    }
    const text = line.slice(1);
    if (line.startsWith("+") && freshLeft > 0) {
      rows.push({ kind: "added", old: undefined, fresh: fresh++, text });
      freshLeft--;
    } else if (line.startsWith("-") && oldLeft > 0) {
      rows.push({ kind: "removed", old: old++, fresh: undefined, text });
      oldLeft--;
    } else if (line.startsWith(" ") && oldLeft > 0 && freshLeft > 0) {
      rows.push({ kind: "same", old: old++, fresh: fresh++, text });
      oldLeft--;
      freshLeft--;
    } else {
      rows.push({ kind: "note", text: line });
    }
  }
  return rows;
}
