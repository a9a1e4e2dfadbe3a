import { describe, expect, it } from "vitest";
import { type ChangeView, pathText } from "../contract/index.ts";
import { choose, hunkList, versionArgument } from "./commands/changes.ts";
import { covers, onePlace, places } from "./paths.ts";
import { changeLine, terminalDiff, waitingWords } from "./show-changes.ts";

const folders = [
  { id: "00000001", name: "notes" },
  { id: "00000002", name: "work" },
];
const file = (path: string | Buffer) => ({ bytes: Buffer.from(path).toString("base64"), text: pathText(Buffer.from(path)) });
const said = (typed: string, of = folders) => places(of, Buffer.from(typed)).map(({ folder, path }) => `${folder.at(-1)}:${path}`);

describe("a path as it is typed", () => {
  it("names a folder and what is in it, or what is in any", () => {
    expect(said("notes/a/b")).toEqual(["1:a/b", "1:notes/a/b", "2:notes/a/b"]);
    expect(said("./a/")).toEqual(["1:a", "2:a"]);
    expect(said("work")).toContain("2:");
  });
  it("means one place or is refused", () => {
    expect(onePlace(folders, Buffer.from("work/x"))).toEqual({ folder: "00000002", path: Buffer.from("x") });
    expect(onePlace(folders.slice(0, 1), Buffer.from("x")).path.toString()).toBe("x");
    expect(() => onePlace(folders, Buffer.from("x"))).toThrow("not clear");
  });
  it("covers itself and what is below, by bytes and by whole components", () => {
    const place = Buffer.from("a");
    expect(["a", "a/b"].every((path) => covers(place, file(path)))).toBe(true);
    expect(["ab", "b/a", "A"].some((path) => covers(place, file(path)))).toBe(false);
    const bytes = Buffer.from([0x61, 0xff]);
    expect(covers(bytes, file(bytes))).toBe(true);
    expect(covers(bytes, file(Buffer.from([0x61, 0xfe])))).toBe(false);
  });
});

describe("a path as it is shown", () => {
  it.each([
    ["a\nb", "a␊b"],
    ["a\x1b[31mb", "a␛[31mb"],
    ["fdp\u202Eexe", "fdp\uFFFDexe"],
    ["a\u2028b\u0085c", "a\uFFFDb\uFFFDc"],
    ["März 請求書", "März 請求書"],
  ])("%j is %j", (path, text) => {
    expect(pathText(Buffer.from(path))).toBe(text);
  });
  it("has an end, keeps both of its own, and takes bytes that are no text", () => {
    const long = pathText(Buffer.from(`start${"x".repeat(4000)}end.exe`));
    expect(long.length).toBeLessThanOrEqual(1025);
    expect(long).toMatch(/^start.*…x*end\.exe$/);
    expect(pathText(Buffer.from([0x61, 0xff]))).toBe("a\uFFFD");
  });
});

describe("what is typed after a verb", () => {
  it("hunks count from one and may be ranges", () => {
    expect(hunkList("1,3-5,3")).toEqual([0, 2, 3, 4]);
    for (const bad of ["", "0", "2-1", "x", "1-", "1-9999"]) expect(() => hunkList(bad)).toThrow("--hunks");
  });
  it("a version is only what follows the last @", () => {
    expect(versionArgument(Buffer.from("a@b@12"))).toEqual({ file: Buffer.from("a@b"), number: 12 });
    for (const file of ["a", "a@", "a@0", "@3", "a@x"]) expect(versionArgument(Buffer.from(file))).toEqual({ file: Buffer.from(file) });
  });
});

const change = (more: Partial<ChangeView>): ChangeView => ({
  id: "1",
  path: file("a.txt"),
  kind: "modified",
  type: "file",
  sizeBytes: 1200,
  binary: false,
  executable: false,
  protected: false,
  flags: [],
  seq: 1,
  token: "t",
  ...more,
});

describe("what is chosen by a directory's name is told from what is named itself, as that applies no more than --all", () => {
  const waiting = ["src", "src/ok", "src/.envrc", "src/lib/.git", "other"].map((path) => change({ path: file(path) }));
  const listed = [{ folder: "00000001", name: "notes", revision: 1, total: waiting.length, changes: waiting }];
  const chosen = (...typed: string[]) =>
    choose(
      listed,
      typed.map((path) => Buffer.from(path)),
    ).flatMap(({ changes, typed: named }) => changes.map((one) => `${one.path.text}${named.has(one) ? "" : " below"}`));

  it.each(["src", "src/", "./src", "notes/src"])("%s", (typed) => {
    expect(chosen(typed)).toEqual(["src", "src/ok below", "src/.envrc below", "src/lib/.git below"]);
  });
  it.each(["notes", "."])("the folder itself: %s", (typed) => {
    expect(chosen(typed)).toEqual(waiting.map(({ path }) => `${path.text} below`));
  });
  it.each(["src/.envrc", "src/lib/.git"])("%s, named beside its directory, is chosen itself", (typed) => {
    expect(chosen(typed)).toEqual([typed]);
    expect(chosen("src", `notes/${typed}`)).toContain(typed);
  });
});

describe("a change as a terminal shows it", () => {
  it("says what must be known before it is applied", () => {
    expect(changeLine(change({}))).toBe("  M  a.txt  (1.2 kB)");
    expect(changeLine(change({ conflict: "changed" }))).toContain("CONFLICT: you changed it meanwhile");
    expect(changeLine(change({ protected: true }))).toContain("not applied by --all");
    expect(changeLine(change({ type: "link", linkTarget: file("/etc/passwd"), flags: ["absolute-link"] }))).toContain(
      "link to /etc/passwd, leads out of the folder",
    );
    expect(changeLine(change({ kind: "moved", from: file("b") }))).toContain("b → a.txt");
  });
  it("a repository is one line of branches and commits", () => {
    const branches = [{ name: file("main"), commits: 2, kind: "moved" as const }];
    const line = changeLine(change({ path: file(".git"), type: "repository", repository: { branches, more: 0, refused: ["config"] } }));
    expect(line).toBe("  M  .git  (branch main: +2 commits, never applied: config)");
    const reason = "Something was staged in the folder meanwhile.";
    const stuck = changeLine(
      change({ path: file(".git"), type: "repository", conflict: "changed", repository: { branches, more: 0, refused: [], reason } }),
    );
    expect(stuck).toContain(`+2 commits, ${reason}`);
  });
  it("a diff cannot drive the terminal, and its hunks have numbers", () => {
    const shown = terminalDiff("--- a\n+++ b\n@@ -1 +1 @@\n-x\n+\x1b]0;owned\x07\n@@ -9 +9 @@\n");
    expect(shown).not.toContain("\x1b]");
    expect(shown).toContain("[hunk 1]");
    expect(shown).toContain("[hunk 2]");
  });
  it("a letter that shows nothing is seen in a diff", () => {
    for (const unseen of ["\u3164", "\u115f", "\uffa0", "\u2028", "\u{e0101}", "\u202e"])
      expect(terminalDiff(`+a${unseen}b\n`)).toContain("a\ufffdb");
    expect(terminalDiff("+請求書 🧾 März\tx\n")).toContain("+請求書 🧾 März\tx"); // control
  });
  it("what waits is said in one line", () => {
    expect(waitingWords([{ name: "a", waiting: 1 }])).toBe("1 change waits in a");
    expect(
      waitingWords([
        { name: "a", waiting: 3 },
        { name: "b", waiting: 0 },
        { name: "c", waiting: 2 },
      ]),
    ).toBe("3 changes wait in a, 2 in c");
    expect(waitingWords([{ name: "a" }])).toBe("");
  });
});
