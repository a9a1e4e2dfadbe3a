// `npm run check`: types, lint, format, unit tests and vet, in at most a minute. What CI runs begins with the same.

import { main } from "./bootstrap/main.mjs";
import { nodeBinary } from "./bootstrap/npm.mjs";
import { commands } from "./bootstrap/steps.mjs";
import { existingGoModules, goFormat, goTest, goVet, lint, pool, show, types, vitest } from "./runners.mjs";

/** What a check may take on two cores when everything is prepared. */
const BUDGET_S = 60;

export async function check(outputs) {
  const node = nodeBinary(outputs.node);
  const modules = existingGoModules();
  return pool(
    [
      () => vitest(node, "unit"),
      ...modules.map((module) => () => goTest(node, module)),
      () => types(node),
      () => lint(node),
      ...modules.map((module) => () => goVet(node, module)),
      () => goFormat(outputs.builder, modules),
    ],
    2,
    show,
  );
}

if (import.meta.filename === process.argv[1] || process.argv[1]?.endsWith("build/check.mjs")) {
  await main(async ({ make }) => {
    const outputs = await make(commands.check);
    const from = Date.now();
    const results = await check(outputs);
    const seconds = (Date.now() - from) / 1000;
    process.stderr.write(`checked in ${seconds.toFixed(1)} s (budget ${BUDGET_S} s)\n`);
    const failed = results.reduce((sum, result) => sum + result.failed, 0);
    process.stdout.write(`${results.reduce((sum, result) => sum + result.passed, 0)} passed, ${failed} failed\n`);
    if (failed) process.exitCode = 1;
  });
}
