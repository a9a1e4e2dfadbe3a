import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect, it } from "vitest";
// @ts-expect-error: the runner is plain JavaScript, which has no types
import { mutants } from "../mutants/list.mjs";

const repository = resolve(import.meta.dirname, "../..");
const sabotages = mutants as { name: string; edits: { file: string; search: string; replace: string }[] }[];

it.each(sabotages.map(({ name, edits }) => [name, edits] as const))("the sabotage still applies: %s", (_, edits) => {
  for (const { file, search, replace } of edits) {
    expect(readFileSync(join(repository, file), "utf8").split(search), `${file}: ${search}`).toHaveLength(2);
    expect(replace).not.toBe(search);
  }
});
