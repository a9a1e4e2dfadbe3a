// `npm run test:mutants`: breaks the product on purpose, a line at a time, and expects the tests to notice. See test/mutants.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { mutants } from "../test/mutants/list.mjs";
import { inBuilder, seenInside } from "./bootstrap/builder.mjs";
import { cacheRoot, repo } from "./bootstrap/cache.mjs";
import { goEnv } from "./bootstrap/go.mjs";
import { main } from "./bootstrap/main.mjs";
import { nodeBinary } from "./bootstrap/npm.mjs";
import { Problem } from "./bootstrap/problem.mjs";
import { vitestNamed } from "./runners.mjs";

const MODULE = join(repo, "helpers/share");
const anyStatus = Array.from({ length: 256 }, (_, n) => n);

await main(async ({ make }) => {
  const word = process.argv[2] ?? "";
  const chosen = mutants.filter(({ name }) => name.includes(word));
  if (chosen.length === 0) {
    throw new Problem({
      code: "build.usage",
      message: `No mutant has ${JSON.stringify(word)} in its name.`,
      next: ["The names stand in test/mutants/list.mjs."],
    });
  }
  const { builder, node } = await make(["npm-packages", "node", "builder"]);
  mkdirSync(join(cacheRoot, "go-cache"), { recursive: true });
  const scratch = mkdtempSync(join(cacheRoot, "mutants-"));
  const results = [];
  try {
    const run = (red, overlay) => (red.file ? unitTest(nodeBinary(node), red, overlay) : goTest(join(builder, "root"), red, overlay));
    const controls = new Map();
    for (const [index, mutant] of chosen.entries()) {
      const from = Date.now();
      const verdict = await judge(mutant, join(scratch, String(index)), run, controls);
      results.push({ mutant, verdict, seconds: (Date.now() - from) / 1000 });
      process.stderr.write(
        `${(verdict.ok ? "noticed" : "FAILED").padEnd(8)} ${mutant.name} (${((Date.now() - from) / 1000).toFixed(0)} s)\n` +
          (verdict.ok ? "" : `${verdict.why}\n`),
      );
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  process.stderr.write("\n");
  const width = Math.max(...results.map(({ mutant }) => mutant.name.length));
  for (const { mutant, verdict } of results) {
    process.stderr.write(`${mutant.name.padEnd(width)}  ${verdict.ok ? verdict.failed.join(", ") : verdict.why.split("\n")[0]}\n`);
  }
  const passed = results.filter(({ verdict }) => verdict.ok).length;
  process.stdout.write(`${passed} passed, ${results.length - passed} failed\n`);
  if (passed < results.length) process.exitCode = 1;
});

/** Whether the mutant's tests are green without it and red with it. */
async function judge(mutant, directory, run, controls) {
  const files = new Map();
  for (const { file, search, replace } of mutant.edits) {
    const text = files.get(file) ?? readFileSync(join(repo, file), "utf8");
    const found = text.split(search).length - 1;
    if (found !== 1 || search.includes("\n")) {
      return { ok: false, why: `does not apply: the text stands ${found} times in ${file}: ${search}` };
    }
    files.set(
      file,
      text.replace(search, () => replace),
    );
  }
  const { red } = mutant;
  // Go's tests run in the builder, where the same files have other paths
  const path = (file) => (red.file ? file : seenInside(file));
  const key = `${red.file ?? red.folder} ${red.tests}`;
  if (!controls.has(key)) controls.set(key, await run(red));
  const control = controls.get(key);
  if (control.status !== 0 || control.passed.length === 0) {
    return { ok: false, why: `its tests are not green without it: ${key}\n${control.output}` };
  }
  mkdirSync(directory);
  const replaced = {};
  for (const [file, text] of files) {
    const copy = join(directory, `${Object.keys(replaced).length}-${basename(file)}`);
    writeFileSync(copy, text);
    replaced[path(join(repo, file))] = path(copy);
  }
  const overlay = join(directory, "overlay.json");
  writeFileSync(overlay, JSON.stringify({ Replace: replaced }));
  const mutated = await run(red, path(overlay));
  if (!mutated.ran) return { ok: false, why: `does not compile, or no test ran\n${mutated.output}` };
  if (mutated.failed.length === 0) return { ok: false, why: `survives: ${key} is green with it` };
  return { ok: true, failed: mutated.failed };
}

/** Names of one file's tests, run with the changed sources in place of the real ones. */
async function unitTest(node, { file, tests }, overlay) {
  const { status, output, results } = await vitestNamed(node, file, tests, overlay ? { CLOCHE_MUTANT: overlay } : {});
  const named = (verdict) => results.filter((result) => result.status === verdict).map(({ fullName }) => fullName);
  const [passed, failed] = [named("passed"), named("failed")];
  return { status, ran: passed.length + failed.length > 0, passed, failed: failed.slice(0, 2), output: output.slice(-4000) };
}

async function goTest(root, { folder, tests }, overlay) {
  let output = "";
  const { status } = await inBuilder(
    root,
    [
      "go",
      "test",
      "-json",
      "-vet=off",
      "-count=1",
      "-timeout",
      "120s",
      ...(overlay ? ["-overlay", overlay] : []),
      "-run",
      `^(${tests})$`,
      folder,
    ],
    { cwd: seenInside(MODULE), env: goEnv(MODULE), okStatus: anyStatus, log: (text) => (output += text) },
  );
  const ends = { pass: new Set(), fail: new Set() };
  let ran = false;
  const said = [];
  for (const line of output.split("\n")) {
    if (!line.startsWith("{")) {
      said.push(line);
      continue;
    }
    const event = JSON.parse(line);
    if (event.Output) said.push(event.Output.trimEnd());
    if (!event.Test) continue;
    ran = true;
    if (event.Action === "pass" || event.Action === "fail") ends[event.Action].add(event.Test.split("/")[0]);
  }
  return { status, ran, passed: [...ends.pass], failed: [...ends.fail], output: said.slice(-40).join("\n") };
}
