import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect, it } from "vitest";
// @ts-expect-error: the runner is plain JavaScript, which has no types
import { mutants } from "../mutants/list.mjs";

const repository = resolve(import.meta.dirname, "../..");
const sabotages = mutants as {
  name: string;
  edits: { file: string; search: string; replace: string }[];
  /** `file`: of vitest; `folder`: a package of the share server's */
  red: { tests: string; file?: string; folder?: string };
}[];

it.each(sabotages.map(({ name, edits }) => [name, edits] as const))("the sabotage still applies: %s", (_, edits) => {
  for (const { file, search, replace } of edits) {
    expect(readFileSync(join(repository, file), "utf8").split(search), `${file}: ${search}`).toHaveLength(2);
    expect(replace).not.toBe(search);
  }
});

const source = (path: string) => readFileSync(join(repository, path), "utf8");
const goTests = (folder: string) => {
  const path = join("helpers/share", folder);
  return readdirSync(join(repository, path))
    .filter((name) => name.endsWith("_test.go"))
    .map((name) => source(join(path, name)))
    .join("\n");
};

it.each(sabotages.map(({ name, red }) => [name, red] as const))(
  "the tests that have to notice it are there: %s",
  (_, { tests, file, folder }) => {
    if (file !== undefined) expect(source(file)).toContain(tests);
    for (const name of file === undefined ? tests.split("|") : []) expect(goTests(folder ?? "")).toContain(`func ${name}(`);
  },
);
