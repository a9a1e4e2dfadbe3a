import { expect, test } from "vitest";
import { rowsOf } from "./unified.ts";

test("each line has its number on its side", () => {
  const rows = rowsOf("--- a\n+++ b\n@@ -3,3 +3,3 @@\n same\n-old\n+new\n same\n");
  expect(rows).toEqual([
    { kind: "note", text: "--- a" },
    { kind: "note", text: "+++ b" },
    { kind: "hunk", hunk: 0, text: "@@ -3,3 +3,3 @@" },
    { kind: "same", old: 3, fresh: 3, text: "same" },
    { kind: "removed", old: 4, fresh: undefined, text: "old" },
    { kind: "added", old: undefined, fresh: 4, text: "new" },
    { kind: "same", old: 5, fresh: 5, text: "same" },
  ]);
});

test("a removed line that looks like a hunk's head stays a removed line, and hunks keep their numbers", () => {
  const rows = rowsOf("@@ -1,1 +0,0 @@\n-@@ -1,1 +1,1 @@\n@@ -9 +8 @@\n-a\n+b\n");
  expect(rows.filter((row) => row.kind === "hunk").map((row) => row.kind === "hunk" && row.hunk)).toEqual([0, 1]);
  expect(rows[1]).toEqual({ kind: "removed", old: 1, fresh: undefined, text: "@@ -1,1 +1,1 @@" });
});

test("a line that fits nothing is shown, not dropped", () => {
  expect(rowsOf("@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\nstray\n").filter((row) => row.kind === "note")).toEqual([
    { kind: "note", text: "\\ No newline at end of file" },
    { kind: "note", text: "stray" },
  ]);
});
