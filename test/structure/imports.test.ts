import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, expect, it } from "vitest";

/**
 * Who may import whom, each ban with its reason; a failure prints the reason. Folders are below `app/`; `helpers/contract`
 * is the schema of what crosses a language.
 */
const RULES: readonly { from: string; allowed: readonly string[]; why: string }[] = [
  { from: "app/contract", allowed: [], why: "the contract imports nothing of ours, so that every program can import it" },
  {
    from: "app/core",
    allowed: ["app/contract", "helpers/contract"],
    why: "core runs in the keeper, in tests and under any client, so it knows the contracts only",
  },
  { from: "app/keeper", allowed: ["app/core", "app/contract"], why: "the keeper runs core and serves the contract; it is nobody's client" },
  { from: "app/cli", allowed: ["app/contract"], why: "the command line is a client: what it can do, every client can do" },
  { from: "app/web", allowed: ["app/contract"], why: "the web host is a client, and its page must not be able to reach into core" },
  {
    from: "app/ui",
    allowed: ["app/contract"],
    why: "the page knows the contract only, so that it can be served to a browser and to the desktop app",
  },
  { from: "helpers/contract", allowed: [], why: "the protocols are the source that everything else is checked against" },
];

const ELECTRON_FOLDER = "app/desktop";
const root = resolve(import.meta.dirname, "../..");

function sources(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && /\.tsx?$/.test(entry.name) && !/\.test\.tsx?$/.test(entry.name))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)));
}

/** What a file imports: `from "x"`, `import "x"`, `import("x")`. */
function imports(file: string): string[] {
  const text = readFileSync(join(root, file), "utf8");
  return [...text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*"([^"]+)"/g)].map((match) => match[1] ?? "");
}

/** Violations of a set of files, worded with the rule's reason. */
function violations(files: readonly { file: string; imports: readonly string[] }[]): string[] {
  const found: string[] = [];
  for (const { file, imports: specifiers } of files) {
    const rule = RULES.find(({ from }) => file.startsWith(`${from}/`));
    for (const specifier of specifiers) {
      if (specifier === "electron" && !file.startsWith(`${ELECTRON_FOLDER}/`)) {
        found.push(`${file} imports electron: only ${ELECTRON_FOLDER} may, because everything else runs in plain Node or a browser`);
      }
      if (!rule || !specifier.startsWith(".")) continue;
      const target = join(dirname(file), specifier);
      if (target === "package.json" || target.startsWith(`${rule.from}/`)) {
        const folder = /^(app\/core\/[^/]+)\//.exec(file)?.[1];
        const other = /^(app\/core\/[^/]+)\/(.+)$/.exec(target);
        if (other && folder !== other[1] && other[2] !== "index.ts" && !/\.ts$/.test(other[1] ?? "")) {
          found.push(`${file} imports ${target}: a core folder is entered through its index.ts, so that its inside can change`);
        }
        continue;
      }
      if (!rule.allowed.some((folder) => target.startsWith(`${folder}/`))) found.push(`${file} imports ${target}: ${rule.why}`);
    }
    if (file.startsWith("app/ui/") || (file.startsWith("app/contract/") && !file.startsWith("app/contract/node/"))) {
      for (const specifier of specifiers.filter((name) => name.startsWith("node:") || name.includes("contract/node"))) {
        found.push(`${file} imports ${specifier}: it also runs in a browser, where there is no Node`);
      }
    }
  }
  return found;
}

describe("who may import whom", () => {
  const files = ["app", "helpers/contract"].flatMap(sources).map((file) => ({ file, imports: imports(file) }));

  it("every import in the tree is allowed", () => {
    expect(files.length).toBeGreaterThan(50);
    expect(violations(files)).toEqual([]);
  });

  it.each([
    ["app/cli/x.ts", "../core/index.ts", "the command line is a client"],
    ["app/ui/x.tsx", "node:fs", "runs in a browser"],
    ["app/contract/x.ts", "../core/paths.ts", "imports nothing of ours"],
    ["app/core/task/x.ts", "../share/grants.ts", "entered through its index.ts"],
    ["app/keeper/x.ts", "electron", "only app/desktop"],
  ])("a forbidden import is found and its reason printed: %s → %s", (file, specifier, reason) => {
    expect(violations([{ file, imports: [specifier] }]).join()).toContain(reason);
  });

  it("an allowed import is left alone", () => {
    expect(
      violations([{ file: "app/core/task/x.ts", imports: ["../share/index.ts", "../paths.ts", "../../contract/index.ts", "node:fs"] }]),
    ).toEqual([]);
  });
});
