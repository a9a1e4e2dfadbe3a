import { expect, test } from "vitest";
import type { ChangeView } from "../../contract/index.ts";
import { discarding, within } from "./within.ts";

const change = (path: string, kind: ChangeView["kind"] = "new", type: ChangeView["type"] = "file"): ChangeView => ({
  id: path,
  path: { bytes: Buffer.from(path).toString("base64"), text: path },
  kind,
  type,
  sizeBytes: 0,
  binary: false,
  executable: false,
  protected: false,
  flags: [],
  seq: 1,
  token: `token of ${path}`,
});
const shown = [
  change("a", "new", "directory"),
  change("a/deep", "new", "directory"),
  change("a/deep/ü"),
  change("a/file"),
  change("ab/file"),
  change("b", "attributes", "directory"),
  change("b/file"),
];
const ids = (changes: readonly { id: string }[]) => changes.map(({ id }) => id);

test("with the line of a new directory goes what lies in it, by whole names, what lies deepest first", () => {
  const [made, deep] = shown as [ChangeView, ChangeView];
  expect(ids(within(made, shown))).toEqual(["a/deep", "a/deep/ü", "a/file"]);
  expect(discarding(made, within(made, shown))).toEqual([
    { changes: ["a/file", "a/deep/ü", "a/deep", "a"].map((id) => ({ id, token: `token of ${id}` })) },
  ]);
  expect(ids(within(deep, shown))).toEqual(["a/deep/ü"]);
});

test("any other line is discarded alone: what lies in a directory of the user's stays", () => {
  for (const one of shown.slice(2)) expect(within(one, shown)).toEqual([]);
  expect(within(change("b", "moved", "directory"), shown)).toEqual([]);
});

test("more than one request takes go in several, the directory with the last", () => {
  const many = Array.from({ length: 1_200 }, (_, n) => change(`a/${n}`));
  const requests = discarding(shown[0] as ChangeView, many);
  expect(requests.map((one) => "changes" in one && one.changes.length)).toEqual([500, 500, 201]);
  const last = requests.at(-1);
  expect(last && "changes" in last && last.changes.at(-1)?.id).toBe("a");
});
