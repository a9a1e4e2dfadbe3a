import { readdirSync, readFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { CATALOGUE } from "../../app/contract/index.ts";
import errors from "../../helpers/contract/errors.json" with { type: "json" };

const root = resolve(import.meta.dirname, "../..");

function texts(folder: string, ending: RegExp): { file: string; text: string }[] {
  return readdirSync(join(root, folder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && ending.test(entry.name) && !/(\.test\.tsx?|_test\.go)$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => ({ file: relative(root, path), text: readFileSync(path, "utf8") }));
}

describe("every error code stands in its catalogue, and every entry is raised", () => {
  it("the app's problems", () => {
    const sources = texts("app", /\.tsx?$/).filter(({ file }) => file !== "app/contract/catalogue.ts");
    // what a guest is told of a refused request is no problem of a client's: those codes stand in the refusals' own tables
    const clients = sources.filter(({ file }) => !/^app\/core\/egress\/(proxy|credentials)\//.test(file));
    const raised = new Set(
      clients.flatMap(({ text }) =>
        [...text.matchAll(/\bcode(?::| =) (?:[^"\n]*\? )?"([a-z]+(?:[.-][a-z-]+)*)"/g)].map((match) => match[1] ?? ""),
      ),
    );
    const known = Object.keys(CATALOGUE);
    const helperCodes = errors.codes.map(({ code }) => code);
    expect([...raised].filter((code) => !known.includes(code) && !helperCodes.includes(code))).toEqual([]);
    const all = sources.map(({ text }) => text).join("\n");
    expect(known.filter((code) => !all.includes(`"${code}"`))).toEqual([]);
  });

  it("the helpers' and the agent's errors", () => {
    const sources = [...texts("helpers", /\.go$/), ...texts("vm-image/agent", /\.go$/)];
    const known = errors.codes.map(({ code }) => code);
    const raised = new Set(
      sources.flatMap(({ text }) => [...text.matchAll(/"((?:protocol|helper|share|agent)\.[a-z-]+)"/g)].map((match) => match[1] ?? "")),
    );
    expect([...raised].filter((code) => !known.includes(code))).toEqual([]);
    expect(known.filter((code) => !raised.has(code))).toEqual([]);
  });
});
