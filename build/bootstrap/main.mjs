// The frame of every entry script: one runner over all steps, problems printed in the one shape, a true exit status.

import { isRoot } from "./builder.mjs";
import { formatProblem } from "./problem.mjs";
import { offeredImage } from "./release.mjs";
import { createRunner, defaultSay } from "./runner.mjs";
import { steps } from "./steps.mjs";

/**
 * `main(body)` or `main(options, body)`. `release` says whether a published image may take the place of a built one.
 *
 * @param {{release?: "always" | "explicitly"}} options
 * @param {(tools: {make: (names: string[]) => Promise<Record<string, string>>}) => Promise<void>} body
 */
export async function main(...args) {
  const [{ release, ...context }, body] = args.length === 1 ? [{}, ...args] : args;
  try {
    const fetched = await offeredImage({ asked: release, say: (text) => defaultSay("image", text) });
    const chosen = steps.map((step) => (fetched && step.name === fetched.name ? fetched : step));
    const runner = createRunner({ steps: chosen, context: { isRoot, ...context } });
    await body(runner);
  } catch (error) {
    process.stderr.write(`\n${formatProblem(error)}\n`);
    process.exitCode = 1;
  }
}
