// `npm test`: prepares everything, then the check, the suites with real machines, and the page in a browser. The last
// line is `N passed, N failed` over all of them. `--long` adds what takes too long for every day.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { cacheRoot, repo } from "./bootstrap/cache.mjs";
import { main } from "./bootstrap/main.mjs";
import { nodeBinary } from "./bootstrap/npm.mjs";
import { Problem } from "./bootstrap/problem.mjs";
import { commands } from "./bootstrap/steps.mjs";
import { check } from "./check.mjs";
import { goFuzz, goTest, playwright, show, showFailures, vitest } from "./runners.mjs";

await main({ release: "explicitly" }, async ({ make }) => {
  const args = process.argv.slice(2);
  const unknown = args.find((arg) => arg !== "--long");
  if (unknown) {
    throw new Problem({
      code: "build.usage",
      message: `npm test does not know ${unknown}.`,
      next: ["It takes --long, which `npm run test:long` passes."],
    });
  }
  const from = Date.now();
  const outputs = await make(commands.test);
  const node = nodeBinary(outputs.node);
  const env = { CLOCHE_COMPONENTS: join(repo, ".build", "components.json"), CLOCHE_CACHE: cacheRoot };
  const results = await check(outputs);
  const add = (result) => {
    // The suite's own output has been on the screen already.
    show(result, { quietOutput: true });
    results.push(result);
  };
  for (const project of ["machine", "machine-alone", ...(args.includes("--long") ? ["long"] : [])]) {
    add(await vitest(node, project, { live: true, env }));
  }
  if (existsSync(join(repo, "test/playwright.config.ts"))) add(await playwright(node, { env }));
  if (args.includes("--long")) {
    add(await goTest(node, "helpers/share", { long: true }));
    for (const fuzz of goFuzz(node)) add(await fuzz());
  }
  showFailures(results);
  process.stderr.write("\n");
  for (const result of results) show(result, { quietOutput: true });
  process.stderr.write(`tested in ${Math.round((Date.now() - from) / 60000)} min\n`);
  const sum = (key) => results.reduce((total, result) => total + result[key], 0);
  process.stdout.write(`${sum("passed")} passed, ${sum("failed")} failed\n`);
  if (sum("failed")) process.exitCode = 1;
});
