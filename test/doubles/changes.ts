/**
 * The changes of one folder, in memory, for clients' tests and for looking at the page: one of each sort, applied and discarded by
 * forgetting them, undone by remembering. No file is touched.
 */
import { createHash } from "node:crypto";
import {
  type ApplyView,
  type ChangeView,
  type ChosenChanges,
  type ChosenToApply,
  type DiffSlice,
  type FilePath,
  pathText,
  type RefusedChange,
  type VersionView,
} from "../../app/contract/index.ts";

const pathOf = (path: string | Buffer): FilePath => ({ bytes: Buffer.from(path).toString("base64"), text: pathText(Buffer.from(path)) });
const hash = (text: string) => createHash("sha256").update(text).digest("hex");

interface Held {
  view: ChangeView;
  /** the two sides of a text change */
  old?: string;
  new?: string;
  /** what the folder's file became meanwhile */
  theirs?: string;
}

const LONG_OLD = Array.from({ length: 60 }, (_, at) => `line ${at + 1}`).join("\n");
const LONG_NEW = LONG_OLD.replace("line 4\n", "line four\n").replace("line 30\n", "line thirty\nand a half\n").replace("line 57\n", "");

function sorts(): Held[] {
  let seq = 0;
  const change = (path: string | Buffer, kind: ChangeView["kind"], more: Partial<ChangeView> = {}): ChangeView => {
    seq++;
    const id = `c${seq}`;
    return {
      id,
      path: pathOf(path),
      kind,
      type: "file",
      sizeBytes: 120,
      binary: false,
      executable: false,
      protected: false,
      flags: [],
      seq,
      token: `t${seq}`,
      ...more,
    };
  };
  const branch = (name: string) => ({ bytes: Buffer.from(name).toString("base64"), text: name });
  return [
    { view: change("notes/list.txt", "modified", { sizeBytes: LONG_NEW.length }), old: LONG_OLD, new: LONG_NEW },
    { view: change("notes/plan.md", "modified", { conflict: "changed" }), old: "one\ntwo\n", new: "one\n2\n", theirs: "1\ntwo\n" },
    { view: change("notes/new.txt", "new"), old: "", new: "hello\n" },
    { view: change("old.txt", "deleted"), old: "gone\n", new: "" },
    { view: change("letter (final).txt", "moved", { from: pathOf("letter.txt") }) },
    { view: change("photo.jpg", "modified", { binary: true, sizeBytes: 2_400_000 }) },
    { view: change("run.sh", "new", { executable: true, flags: ["quarantined"] }), old: "", new: "#!/bin/sh\necho hi\n" },
    { view: change(".vscode/tasks.json", "new", { protected: true }), old: "", new: '{ "tasks": [] }\n' },
    { view: change("passwords", "new", { type: "link", linkTarget: pathOf("/etc/passwd"), flags: ["absolute-link"] }) },
    { view: change(Buffer.from("bill\u202Efdp.exe\x1b[31m\xff", "latin1"), "new", { binary: true }) },
    {
      view: change(".git", "modified", {
        type: "repository",
        repository: {
          branches: [
            { name: branch("main"), commits: 2, kind: "moved" },
            { name: branch("try"), commits: 1, behind: 3, kind: "rewritten" },
          ],
          more: 0,
          refused: ["hooks/pre-commit", "config"],
        },
      }),
      old: "a\n",
      new: "a\nb\n",
    },
    { view: change("node_modules", "new", { type: "ignored", count: 1843, sizeBytes: 61_000_000 }) },
  ];
}

const refuse = ({ view }: Held, code: string, message: string): RefusedChange => ({ id: view.id, path: view.path, code, message });

export class ChangesDouble {
  #held = sorts();
  #revision = 1;
  #applies: { view: ApplyView; changes: Held[] }[] = [];
  #batches = 0;

  get total(): number {
    return this.#held.length;
  }

  list(after: string | undefined, limit: number) {
    const from = after === undefined ? 0 : this.#held.findIndex(({ view }) => view.id === after) + 1;
    const changes = this.#held.slice(from, from + limit).map(({ view }) => view);
    const last = changes.at(-1)?.id;
    const next = from + limit < this.#held.length && last !== undefined ? { next: last } : {};
    return { revision: this.#revision, total: this.#held.length, changes, ...next };
  }

  diff(id: string, side: "change" | "theirs", context: number, offset: number, limit: number): DiffSlice | undefined {
    const held = this.#held.find(({ view }) => view.id === id);
    if (!held) return undefined;
    const { view } = held;
    const old = held.old ?? "";
    const now = side === "theirs" ? (held.theirs ?? old) : (held.new ?? "");
    const summary = {
      oldSizeBytes: old.length,
      newSizeBytes: view.binary ? view.sizeBytes : now.length,
      oldSha256: hash(old),
      newSha256: hash(now),
    };
    const none = { token: view.token, bytes: "", totalBytes: 0, hunks: [], summary };
    if (view.binary) return { kind: "binary", ...none };
    if (view.type === "link") return { kind: "link", ...none };
    if (held.old === undefined) return { kind: "none", ...none };
    const { text, hunks } = unified(old, now, context);
    const bytes = Buffer.from(text);
    const slice = bytes.subarray(offset, offset + limit);
    return {
      kind: "text",
      token: view.token,
      bytes: slice.toString("base64"),
      ...(offset + slice.length < bytes.length ? { next: offset + slice.length } : {}),
      totalBytes: bytes.length,
      hunks: offset === 0 ? hunks : [],
      summary,
    };
  }

  apply(what: ChosenToApply) {
    const { taken, refused } = this.#choose(what, true);
    const batch = this.#take(taken);
    if (taken.length > 0) {
      const view = { apply: batch, time: new Date().toISOString(), files: taken.length, undone: false };
      this.#applies.unshift({ view, changes: taken });
    }
    return { batch, refused, remaining: 0, applied: taken.map(({ view }) => view.id) };
  }

  discard(what: ChosenChanges) {
    const { taken, refused } = this.#choose(what, false);
    return { batch: this.#take(taken), refused, remaining: 0, discarded: taken.map(({ view }) => view.id) };
  }

  applies(): ApplyView[] {
    return this.#applies.map(({ view }) => view);
  }

  undo(apply: string | undefined) {
    const found = this.#applies.find(({ view }) => !view.undone && (apply === undefined || view.apply === apply));
    if (!found) return undefined;
    found.view = { ...found.view, undone: true };
    this.#held = [...this.#held, ...found.changes].sort((a, b) => a.view.seq - b.view.seq);
    this.#revision++;
    return { batch: found.view.apply, apply: found.view.apply, refused: [], remaining: 0, restored: found.changes.length };
  }

  /** Two versions of whatever is asked for. */
  history(path: string): { path: FilePath; versions: VersionView[] } {
    const at = pathOf(Buffer.from(path, "base64"));
    const version = (number: number, reason: VersionView["reason"]): VersionView => ({
      path: at,
      number,
      time: `2026-11-2${number}T10:00:00.000Z`,
      reason,
      sizeBytes: 100 * number,
      mode: 0o644,
      modified: `2026-11-1${number}T10:00:00.000Z`,
      whole: true,
    });
    return { path: at, versions: [version(2, "applied"), version(1, "overwritten")] };
  }

  #take(taken: readonly Held[]): string {
    this.#held = this.#held.filter((held) => !taken.includes(held));
    this.#revision++;
    return `batch-${++this.#batches}`;
  }

  #choose(what: ChosenToApply, applying: boolean): { taken: Held[]; refused: RefusedChange[] } {
    const taken: Held[] = [];
    const refused: RefusedChange[] = [];
    for (const held of this.#held) {
      const { view } = held;
      const asked = "all" in what ? undefined : what.changes.find(({ id }) => id === view.id);
      if (!("all" in what) && !asked) continue;
      const itself = asked !== undefined && !asked.below;
      if (asked && asked.token !== view.token) refused.push(refuse(held, "share.change-moved-on", "It changed since it was shown."));
      else if (!applying) taken.push(held);
      else if (view.conflict) refused.push(refuse(held, "share.conflict", "The folder's file changed meanwhile."));
      else if (!itself && view.protected) refused.push(refuse(held, "share.protected", "It is applied only by itself."));
      else if (!itself && view.flags.includes("absolute-link"))
        refused.push(refuse(held, "share.link-escapes", "It leads out of the folder."));
      else if (!itself && view.type === "ignored")
        refused.push(refuse(held, "share.protected", "Ignored files are applied only by themselves."));
      else taken.push(held);
    }
    return { taken, refused };
  }
}

/** A unified diff of two texts whose lines differ in few places: enough for the texts above. */
function unified(old: string, now: string, context: number) {
  const a = lines(old);
  const b = lines(now);
  const marks = script(a, b);
  const hunks: DiffSlice["hunks"] = [];
  let text = "--- a\n+++ b\n";
  for (let at = 0; at < marks.length; ) {
    if (marks[at]?.sign === " ") {
      at++;
      continue;
    }
    const from = Math.max(0, at - context);
    let end = at;
    for (let gap = 0; end < marks.length && gap <= 2 * context; end++) gap = marks[end]?.sign === " " ? gap + 1 : 0;
    while (end > at && marks[end - 1]?.sign === " ") end--;
    const to = Math.min(marks.length, end + context);
    const part = marks.slice(from, to);
    const count = (but: string) => part.filter(({ sign }) => sign !== but).length;
    const before = marks.slice(0, from);
    const hunk = {
      index: hunks.length,
      oldStart: before.filter(({ sign }) => sign !== "+").length + 1,
      oldLines: count("+"),
      newStart: before.filter(({ sign }) => sign !== "-").length + 1,
      newLines: count("-"),
    };
    hunks.push(hunk);
    text += `@@ -${hunk.oldStart},${hunk.oldLines} +${hunk.newStart},${hunk.newLines} @@\n`;
    for (const { sign, line } of part) text += `${sign}${line}\n`;
    at = to;
  }
  return { text, hunks };
}

const lines = (text: string) => (text === "" ? [] : text.replace(/\n$/, "").split("\n"));

/** Lines of both sides in order, by the longest common subsequence. */
function script(a: readonly string[], b: readonly string[]): { sign: " " | "-" | "+"; line: string }[] {
  const common = Array.from({ length: a.length + 1 }, () => new Array<number>(b.length + 1).fill(0));
  const at = (i: number, j: number) => common[i]?.[j] ?? 0;
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      (common[i] ?? [])[j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
  const marks: { sign: " " | "-" | "+"; line: string }[] = [];
  for (let i = 0, j = 0; i < a.length || j < b.length; ) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      marks.push({ sign: " ", line: a[i] ?? "" });
      i++;
      j++;
    } else if (i < a.length && (j === b.length || at(i + 1, j) >= at(i, j + 1))) marks.push({ sign: "-", line: a[i++] ?? "" });
    else marks.push({ sign: "+", line: b[j++] ?? "" });
  }
  return marks;
}
