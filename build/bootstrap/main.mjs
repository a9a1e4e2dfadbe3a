// The frame of every entry script: one runner over all steps, problems printed in the one shape, a true exit status.

import { isRoot } from "./builder.mjs";
import { formatProblem } from "./problem.mjs";
import { createRunner } from "./runner.mjs";
import { steps } from "./steps.mjs";

/** @param {(tools: {make: (names: string[]) => Promise<Record<string, string>>}) => Promise<void>} body */
export async function main(body, context = {}) {
  try {
    const runner = createRunner({ steps, context: { isRoot, ...context } });
    await body(runner);
  } catch (error) {
    process.stderr.write(`\n${formatProblem(error)}\n`);
    process.exitCode = 1;
  }
}
