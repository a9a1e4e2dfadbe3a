/** Changes, diffs and versions as a terminal or a file shows them. Colours only on a terminal, and never from the task. */
import type { ChangeView, DiffSlice, RefusedChange, ShareView } from "../contract/index.ts";
import { visible } from "../contract/index.ts";

const PAINT = { red: 31, green: 32, yellow: 33, cyan: 36, bold: 1 } as const;
type Colour = keyof typeof PAINT;

/** On a terminal that wants it (no-color.org), the text in a colour. */
export const paint = (colour: Colour, text: string): string =>
  process.stdout.isTTY && !process.env.NO_COLOR ? `\x1b[${PAINT[colour]}m${text}\x1b[0m` : text;

export function size(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  const [unit, factor] = bytes < 1e6 ? ["kB", 1e3] : bytes < 1e9 ? ["MB", 1e6] : ["GB", 1e9];
  return `${(bytes / (factor as number)).toFixed(1)} ${unit}`;
}

export const many = (n: number, one: string) => `${n} ${one}${n === 1 ? "" : "s"}`;

const LETTER: Record<ChangeView["kind"], [string, Colour]> = {
  modified: ["M", "yellow"],
  new: ["A", "green"],
  deleted: ["D", "red"],
  moved: ["R", "cyan"],
  "type-changed": ["T", "yellow"],
  attributes: ["m", "yellow"],
};
const CONFLICT = {
  changed: "you changed it meanwhile",
  gone: "it is gone from the folder",
  exists: "one is there by now",
  "type-changed": "it is something else by now",
};
const FLAG = {
  "absolute-link": "leads out of the folder",
  "escaping-link": "leads out of the folder",
  quarantined: "gets the quarantine mark",
  "path-too-long": "path too long, never applied",
};

/** One line for one change, without the folder. */
export function changeLine(change: ChangeView): string {
  const { kind, type, path, from, repository } = change;
  const [letter, colour] = LETTER[kind];
  const name = from ? `${from.text} → ${path.text}` : path.text;
  const about: string[] = [];
  if (repository) {
    for (const branch of repository.branches) {
      const moved = branch.kind === "moved" || branch.kind === "new" ? `+${many(branch.commits, "commit")}` : branch.kind;
      const behind = branch.behind ? `, ${branch.behind} behind yours` : "";
      about.push(`${branch.kind === "new" ? "new " : ""}branch ${branch.name.text}: ${moved}${behind}`);
    }
    if (repository.more > 0) about.push(`${many(repository.more, "more branch")}`);
    if (repository.reason !== undefined) about.push(visible(repository.reason));
    if (repository.refused.length > 0) about.push(`never applied: ${repository.refused.map(visible).join(", ")}`);
  } else if (type === "ignored")
    about.push(`ignored by git, ${many(change.count ?? 0, "file")}, ${size(change.sizeBytes)}; not applied by --all`);
  else if (type === "database") about.push(`database${change.count ? ` of ${many(change.count, "file")}` : ""}`);
  else if (type === "link") about.push(`link to ${change.linkTarget?.text ?? "?"}`);
  else if (kind !== "deleted" && type === "file") about.push(size(change.sizeBytes));
  if (change.binary) about.push("binary");
  if (change.executable && kind !== "deleted") about.push("executable");
  if (change.protected) about.push("makes programs here run something; not applied by --all");
  for (const flag of change.flags) about.push(FLAG[flag]);
  const conflict = change.conflict ? paint("red", `  CONFLICT: ${CONFLICT[change.conflict]}`) : "";
  return `  ${paint(colour, letter)}  ${name}${about.length > 0 ? `  (${about.join(", ")})` : ""}${conflict}`;
}

/** What a diff is where it is no text. */
export function diffSummary({ kind, summary }: DiffSlice): string {
  const sizes = `${size(summary.oldSizeBytes)} → ${size(summary.newSizeBytes)}`;
  if (kind === "too-large") return `too large for a diff: ${sizes}`;
  if (kind === "binary") return `binary: ${sizes}`;
  return kind === "link" ? "a link" : "no text differs";
}

/** A unified diff for a terminal: nothing in it can drive the terminal, hunks are numbered for --hunks, lines have the usual colours. */
export function terminalDiff(diff: string): string {
  let hunk = 0;
  return visible(diff)
    .split("\n")
    .map((line) => {
      if (line.startsWith("@@")) return paint("cyan", `${line}  [hunk ${++hunk}]`);
      if (line === "") return line; // behind the last line's end
      if (hunk === 0) return paint("bold", line);
      if (line.startsWith("+")) return paint("green", line);
      return line.startsWith("-") ? paint("red", line) : line;
    })
    .join("\n");
}

export const refusedLine = ({ path, message, code }: RefusedChange) => visible(`cloche: not done: ${path.text}: ${message} [${code}]`);

/** `3 changes wait in Receipts, 1 in notes`; empty when none wait. */
export function waitingWords(shares: readonly Pick<ShareView, "name" | "waiting">[]): string {
  const parts = shares.filter(({ waiting = 0 }) => waiting > 0);
  return parts
    .map(({ name, waiting = 0 }, at) =>
      at === 0 ? `${many(waiting, "change")} wait${waiting === 1 ? "s" : ""} in ${name}` : `${waiting} in ${name}`,
    )
    .join(", ");
}
