/** `changes`, `diff`, `apply`, `discard`, `undo`, `history`, `restore`: what a task did to your folders, and what becomes of it. */
import {
  type ChangeView,
  type Client,
  type DiffSlice,
  ProblemError,
  type RefusedChange,
  type Result,
  type TaskView,
  visible,
} from "../../contract/index.ts";
import { type OptionTable, type Parsed, parse, usage, wholeNumber } from "../args.ts";
import { covers, onePlace, places } from "../paths.ts";
import { columns, note, print, printJson, type Session } from "../session.ts";
import { changeLine, diffSummary, many, paint, refusedLine, size, terminalDiff } from "../show-changes.ts";

const PAGE = 500;
const DIFF_BYTES = 262_144;
const JSON_OPTION: OptionTable = { "--json": "flag" };

interface FolderChanges {
  folder: string;
  name: string;
  revision: number;
  total: number;
  changes: ChangeView[];
}
interface Chosen {
  folder: string;
  name: string;
  changes: ChangeView[];
  /** of those the ones that were typed themselves, and not only a directory above them */
  typed: ReadonlySet<ChangeView>;
  /** what came after it is refused */
  revision?: number;
}

/** Every change that waits, page by page. */
export async function allChanges(keeper: Client, task: string): Promise<FolderChanges[]> {
  const { folders } = await keeper.call("changes.list", { task, limit: PAGE });
  const all: FolderChanges[] = [];
  for (const { next: first, ...page } of folders) {
    const changes = [...page.changes];
    for (let after = first; after !== undefined; ) {
      const { folders: more } = await keeper.call("changes.list", { task, folder: page.folder, after, limit: PAGE });
      changes.push(...(more[0]?.changes ?? []));
      after = more[0]?.next;
    }
    all.push({ ...page, changes });
  }
  return all;
}

export async function changes(session: Session, args: readonly Buffer[]): Promise<number> {
  const { keeper, task, parsed } = await asked(session, args, "changes", JSON_OPTION, 0);
  const folders = await allChanges(keeper, task.id);
  if (parsed.flags.has("--json")) await printJson({ task: task.name, folders });
  else await printChanges(task, folders);
  return 0;
}

export async function printChanges(task: TaskView, folders: readonly FolderChanges[]): Promise<void> {
  const waiting = folders.filter(({ total }) => total > 0);
  if (waiting.length === 0) note(`cloche: no changes of ${task.name} wait.`);
  for (const { name, total, changes: listed } of waiting) {
    await print(paint("bold", `${name}: ${many(total, "change")}`));
    for (const change of listed) await print(changeLine(change));
  }
}

export async function diff(session: Session, args: readonly Buffer[]): Promise<number> {
  const table = { ...JSON_OPTION, "--theirs": "flag", "--context": "value" } as const;
  const { keeper, task, parsed } = await asked(session, args, "diff", table);
  const context = parsed.values["--context"] === undefined ? 3 : Math.min(100, wholeNumber(parsed.values["--context"], "--context"));
  const chosen = choose(await allChanges(keeper, task.id), parsed.rawWords.slice(1));
  const told: object[] = [];
  for (const { folder, name, changes: listed } of chosen) {
    for (const change of listed) {
      // of a conflict both sides are shown, as the three-way view has them
      const sides = parsed.flags.has("--theirs")
        ? (["theirs"] as const)
        : change.conflict
          ? (["change", "theirs"] as const)
          : (["change"] as const);
      for (const side of sides) {
        const { slice, bytes } = await wholeDiff(keeper, { task: task.id, folder, id: change.id, side, context });
        if (parsed.flags.has("--json")) told.push({ folder: name, path: change.path, side, ...slice, bytes: bytes.toString("base64") });
        else await printDiff(`${name}/${change.path.text}`, side, change, slice, bytes);
      }
    }
  }
  if (parsed.flags.has("--json")) await printJson({ task: task.name, diffs: told });
  return 0;
}

async function wholeDiff(
  keeper: Client,
  about: { task: string; folder: string; id: string; side: "change" | "theirs"; context: number },
): Promise<{ slice: DiffSlice; bytes: Buffer }> {
  const first = await keeper.call("changes.diff", { ...about, offset: 0, limit: DIFF_BYTES });
  const parts = [Buffer.from(first.bytes, "base64")];
  for (let offset = first.next; offset !== undefined; ) {
    const slice = await keeper.call("changes.diff", { ...about, offset, limit: DIFF_BYTES });
    if (slice.token !== first.token) throw movedOn();
    parts.push(Buffer.from(slice.bytes, "base64"));
    offset = slice.next;
  }
  return { slice: first, bytes: Buffer.concat(parts) };
}

async function printDiff(name: string, side: "change" | "theirs", change: ChangeView, slice: DiffSlice, bytes: Buffer): Promise<void> {
  const whose = side === "theirs" ? " (in the folder, since the task began with it)" : change.conflict ? " (in the task)" : "";
  const about = slice.kind === "text" ? "" : `: ${diffSummary(slice)}`;
  if (process.stdout.isTTY) {
    // modes, names and a link's text stand in the bytes whatever the content is
    const shown = bytes.length > 0 ? `\n${terminalDiff(bytes.toString("utf8"))}` : "";
    return print(`${visible(`${name}${whose}${about}`)}${shown}`);
  }
  if (slice.kind !== "text") await print(visible(`${name}${whose}${about}`));
  // a file or a program gets the diff's own bytes, as `patch` wants them
  await new Promise<void>((resolve) => process.stdout.write(bytes, () => resolve()));
}

export async function apply(session: Session, args: readonly Buffer[]): Promise<number> {
  const table = { ...JSON_OPTION, "--all": "flag", "--revision": "value", "--hunks": "value", "--as": "value" } as const;
  const { keeper, task, parsed } = await asked(session, args, "apply", table);
  const folders = await allChanges(keeper, task.id);
  const paths = parsed.rawWords.slice(1);
  if (everything(parsed, paths, "apply")) {
    return tell(parsed, task, "applied", await applyAll(keeper, task, revised(parsed, folders)));
  }
  const extra = oneChange(parsed, folders, paths);
  return tell(parsed, task, "applied", await each(keeper, task, revised(parsed, choose(folders, paths)), "changes.apply", extra));
}

/** Everything as it was listed; what came since, and what must be chosen one by one, is refused and told. */
export async function applyAll(keeper: Client, task: TaskView, folders: readonly FolderChanges[]): Promise<Outcome> {
  const outcome: Outcome = { done: 0, refused: [] };
  for (const { folder, revision, total } of folders) {
    if (total === 0) continue;
    let slice = await keeper.call("changes.apply", { task: task.id, folder, what: { all: true, revision } });
    take(outcome, slice.applied.length, slice.refused);
    while (slice.remaining > 0) {
      slice = await keeper.call("changes.apply", { task: task.id, folder, batch: slice.batch });
      take(outcome, slice.applied.length, slice.refused);
    }
  }
  return outcome;
}

export async function discard(session: Session, args: readonly Buffer[]): Promise<number> {
  const { keeper, task, parsed } = await asked(session, args, "discard", { ...JSON_OPTION, "--all": "flag", "--revision": "value" });
  const folders = await allChanges(keeper, task.id);
  const paths = parsed.rawWords.slice(1);
  if (!everything(parsed, paths, "discard")) {
    return tell(parsed, task, "discarded", await each(keeper, task, revised(parsed, choose(folders, paths)), "changes.discard", {}));
  }
  const outcome: Outcome = { done: 0, refused: [] };
  for (const { folder, revision, total } of revised(parsed, folders)) {
    if (total === 0) continue;
    let slice = await keeper.call("changes.discard", { task: task.id, folder, what: { all: true, revision } });
    take(outcome, slice.discarded.length, slice.refused);
    while (slice.remaining > 0) {
      slice = await keeper.call("changes.discard", { task: task.id, folder, batch: slice.batch });
      take(outcome, slice.discarded.length, slice.refused);
    }
  }
  return tell(parsed, task, "discarded", outcome);
}

export async function undo(session: Session, args: readonly Buffer[]): Promise<number> {
  const { keeper, task, parsed } = await asked(session, args, "undo", { ...JSON_OPTION, "--apply": "value" }, 0);
  const wanted = parsed.values["--apply"];
  const applies: { folder: string; name: string; apply: string; time: string }[] = [];
  for (const { id, name } of task.shares) {
    const { applies: of } = await keeper.call("changes.applies", { task: task.id, folder: id });
    applies.push(...of.filter(({ undone }) => !undone).map(({ apply: one, time }) => ({ folder: id, name, apply: one, time })));
  }
  const newest = applies.sort((a, b) => (a.time < b.time ? 1 : -1)).find(({ apply: one }) => wanted === undefined || one === wanted);
  if (!newest) {
    throw new ProblemError({
      code: "share.not-undoable",
      message: `Nothing of ${task.name} was applied that could be taken back${wanted === undefined ? "" : " under that name"}.`,
      next: [`See the versions of a file with \`cloche history ${task.name} FILE\`.`],
    });
  }
  const outcome: Outcome = { done: 0, refused: [] };
  let slice = await keeper.call("changes.undo", { task: task.id, folder: newest.folder, apply: newest.apply });
  take(outcome, slice.restored, slice.refused);
  while (slice.remaining > 0) {
    slice = await keeper.call("changes.undo", { task: task.id, folder: newest.folder, batch: slice.batch });
    take(outcome, slice.restored, slice.refused);
  }
  if (outcome.done > 0 && !parsed.flags.has("--json")) note(`cloche: what was taken back waits again: \`cloche changes ${task.name}\`.`);
  return tell(parsed, task, "restored", outcome);
}

export async function history(session: Session, args: readonly Buffer[]): Promise<number> {
  const { keeper, task, parsed } = await asked(session, args, "history", { ...JSON_OPTION, "--below": "flag" }, 1);
  const { folder, path } = onePlace(task.shares, parsed.rawWords[1] ?? Buffer.alloc(0));
  const about = { task: task.id, folder, path: path.toString("base64"), below: parsed.flags.has("--below"), limit: PAGE };
  const versions: Result<"files.history">["versions"] = [];
  for (let after: string | undefined; ; ) {
    const page = await keeper.call("files.history", { ...about, ...(after === undefined ? {} : { after }) });
    versions.push(...page.versions);
    after = page.next;
    if (after === undefined) break;
  }
  if (parsed.flags.has("--json")) {
    await printJson({ task: task.name, versions });
    return 0;
  }
  if (versions.length === 0) note("cloche: no version of it is kept: no task has overwritten or deleted it.");
  else {
    const rows = versions.map((version) => [
      `@${version.number}`,
      version.time.slice(0, 19).replace("T", " "),
      version.reason,
      version.whole ? size(version.sizeBytes) : `${size(version.sizeBytes)} in part`,
      version.task ?? "–",
      version.path.text,
    ]);
    await print(visible(columns([["VERSION", "KEPT", "AS IT WAS", "SIZE", "TASK", "FILE"], ...rows])));
  }
  return 0;
}

export async function restore(session: Session, args: readonly Buffer[]): Promise<number> {
  const { keeper, task, parsed } = await asked(session, args, "restore", { ...JSON_OPTION, "--below": "flag" }, 1);
  const { file, number } = versionArgument(parsed.rawWords[1] ?? Buffer.alloc(0));
  const below = parsed.flags.has("--below");
  if (below && number !== undefined) throw usage("--below brings back the newest version of each file, so no @N goes with it.");
  const { folder, path } = onePlace(task.shares, file);
  const outcome: Outcome = { done: 0, refused: [] };
  const what = { path: path.toString("base64"), below, ...(number === undefined ? {} : { number }) };
  let slice = await keeper.call("files.restore", { task: task.id, folder, ...what });
  const brought = slice.number;
  take(outcome, slice.restored, slice.refused);
  while (slice.remaining > 0) {
    slice = await keeper.call("files.restore", { task: task.id, folder, batch: slice.batch });
    take(outcome, slice.restored, slice.refused);
  }
  if (brought !== undefined && number === undefined && !parsed.flags.has("--json")) {
    note(`cloche: this is version @${brought}, the newest that is kept; see all with \`cloche history\`.`);
  }
  return tell(parsed, task, "restored", outcome, brought === undefined ? {} : { version: brought });
}

/** `FILE@N`; a name that itself ends so is written with the version after it. */
export function versionArgument(word: Buffer): { file: Buffer; number?: number } {
  const match = /^(.+)@([1-9][0-9]{0,8})$/s.exec(word.toString("latin1"));
  return match ? { file: Buffer.from(match[1] ?? "", "latin1"), number: Number(match[2]) } : { file: word };
}

interface Outcome {
  done: number;
  refused: RefusedChange[];
}

function take(outcome: Outcome, done: number, refused: readonly RefusedChange[]): void {
  outcome.done += done;
  outcome.refused.push(...refused);
}

/** Chosen changes, as many at a time as one request takes. */
async function each(
  keeper: Client,
  task: TaskView,
  chosen: readonly Chosen[],
  method: "changes.apply" | "changes.discard",
  extra: { hunks?: number[]; as?: string },
): Promise<Outcome> {
  const outcome: Outcome = { done: 0, refused: [] };
  for (const { folder, changes: listed, typed, revision } of chosen) {
    for (let at = 0; at < listed.length; at += PAGE) {
      const what = {
        changes: listed.slice(at, at + PAGE).map((change) => ({
          id: change.id,
          token: change.token,
          ...extra,
          ...(method === "changes.apply" && !typed.has(change) ? { below: true as const } : {}),
        })),
        ...(revision === undefined ? {} : { revision }),
      };
      let slice = await keeper.call(method, { task: task.id, folder, what });
      const count = () => ("applied" in slice ? slice.applied : slice.discarded).length;
      take(outcome, count(), slice.refused);
      while (slice.remaining > 0) {
        slice = await keeper.call(method, { task: task.id, folder, batch: slice.batch });
        take(outcome, count(), slice.refused);
      }
    }
  }
  return outcome;
}

async function tell(
  parsed: Parsed,
  task: TaskView,
  what: "applied" | "discarded" | "restored",
  outcome: Outcome,
  more: { version?: number } = {},
): Promise<number> {
  if (parsed.flags.has("--json")) await printJson({ task: task.name, [what]: outcome.done, refused: outcome.refused, ...more });
  else tellOutcome(what, outcome);
  return outcome.refused.length > 0 ? 125 : 0;
}

export function tellOutcome(what: "applied" | "discarded" | "restored", { done, refused }: Outcome): void {
  note(`cloche: ${many(done, what === "restored" ? "file" : "change")} ${what}.`);
  for (const one of refused) note(refusedLine(one));
}

/** The changes at or below the typed paths; none typed: all. A path without a change is refused: nothing of the rest is done then. */
export function choose(folders: readonly FolderChanges[], typed: readonly Buffer[]): Chosen[] {
  if (typed.length === 0) return folders.map(({ folder, name, changes: all }) => ({ folder, name, changes: all, typed: new Set() }));
  const wanted = new Set<ChangeView>();
  const named = new Set<ChangeView>();
  for (const path of typed) {
    const at = places(
      folders.map(({ folder, name }) => ({ id: folder, name })),
      path,
    );
    const found = at
      .map(({ folder, path: place }) => ({
        folder,
        place,
        changes: folders.find((one) => one.folder === folder)?.changes.filter((change) => covers(place, change.path)) ?? [],
      }))
      .filter(({ changes: some }) => some.length > 0);
    if (found.length === 0) throw unchanged(path);
    if (new Set(found.map(({ folder }) => folder)).size > 1) {
      throw usage(`${JSON.stringify(path.toString())} has changes in several folders.`, "Write the folder's name before it: FOLDER/path.");
    }
    for (const { place, changes: some } of found) {
      for (const change of some) {
        wanted.add(change);
        if (place.equals(Buffer.from(change.path.bytes, "base64"))) named.add(change);
      }
    }
  }
  return folders
    .map(({ folder, name, changes: all }) => ({ folder, name, changes: all.filter((change) => wanted.has(change)), typed: named }))
    .filter(({ changes: some }) => some.length > 0);
}

function everything(parsed: Parsed, paths: readonly Buffer[], verb: string): boolean {
  const all = parsed.flags.has("--all");
  if (all && paths.length > 0) throw usage("--all and paths exclude each other.");
  if (!all && paths.length === 0)
    throw usage(`\`cloche ${verb}\` needs paths or --all: cloche ${verb} TASK PATH… or cloche ${verb} TASK --all.`);
  return all;
}

/** What is chosen, as the list stood at --revision where one is given: what came since is refused. */
function revised<F extends { changes: readonly ChangeView[] }>(parsed: Parsed, folders: readonly F[]): (F & { revision?: number })[] {
  const wanted = parsed.values["--revision"];
  if (wanted === undefined) return [...folders];
  const revision = wholeNumber(wanted, "--revision");
  if (folders.filter(({ changes: some }) => some.length > 0).length > 1)
    throw usage("--revision is one folder's, and what is chosen lies in several.");
  return folders.map((folder) => ({ ...folder, revision }));
}

/** --hunks and --as are about one change. */
function oneChange(parsed: Parsed, folders: readonly FolderChanges[], paths: readonly Buffer[]): { hunks?: number[]; as?: string } {
  const { "--hunks": hunks, "--as": as } = parsed.values;
  if (hunks === undefined && as === undefined) return {};
  if (choose(folders, paths).reduce((sum, { changes: some }) => sum + some.length, 0) !== 1) {
    throw usage(`${hunks === undefined ? "--as" : "--hunks"} goes with exactly one changed path.`);
  }
  return {
    ...(hunks === undefined ? {} : { hunks: hunkList(hunks) }),
    ...(as === undefined ? {} : { as: Buffer.from(as).toString("base64") }),
  };
}

/** `1,3-5` as the hunks' indexes, which count from 0. */
export function hunkList(text: string): number[] {
  const indexes = new Set<number>();
  for (const part of text.split(",")) {
    const match = /^([1-9][0-9]{0,4})(?:-([1-9][0-9]{0,4}))?$/.exec(part.trim());
    const from = Number(match?.[1]);
    const to = match?.[2] === undefined ? from : Number(match[2]);
    if (!match || to < from || to > 5000) throw usage(`--hunks takes numbers such as 1,3-5, not ${JSON.stringify(text)}.`);
    for (let hunk = from; hunk <= to; hunk++) indexes.add(hunk - 1);
  }
  return [...indexes].sort((a, b) => a - b);
}

async function asked(session: Session, args: readonly Buffer[], verb: string, table: OptionTable, words?: number) {
  const parsed = parse(args, table);
  const [ref] = parsed.words;
  if (ref === undefined || (words !== undefined && parsed.words.length !== words + 1)) {
    throw usage(
      `\`cloche ${verb}\` needs ${words === 1 ? "a task and a file" : "a task"}: cloche ${verb} TASK${words === 1 ? " FILE" : ""}.`,
    );
  }
  const keeper = await session.keeper();
  return { keeper, parsed, task: await keeper.call("tasks.get", { task: ref }) };
}

const unchanged = (path: Buffer) =>
  new ProblemError({
    code: "share.change-unknown",
    message: `No change waits at ${JSON.stringify(visible(path.toString()))}, so nothing was done.`,
    next: ["See what waits with `cloche changes TASK`."],
  });

const movedOn = () =>
  new ProblemError({
    code: "share.change-moved-on",
    message: "The change went on while it was read, so its diff was not shown.",
    next: ["Run the command again."],
  });
