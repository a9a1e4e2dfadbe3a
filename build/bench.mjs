// `npm run bench [-- --only start|exec|share|idle|proxy|tree] [--rounds N] [--json]`: makes what is missing, then measures. See bench/README.md.

import { spawn } from "node:child_process";
import { join } from "node:path";
import { repo } from "./bootstrap/cache.mjs";
import { main } from "./bootstrap/main.mjs";
import { nodeBinary } from "./bootstrap/npm.mjs";
import { commands } from "./bootstrap/steps.mjs";

await main(async ({ make }) => {
  const outputs = await make(commands.bench);
  const program = join(repo, "build", "bench", "main.mjs");
  // under Node 24, which runs the contract's TypeScript as it is
  process.exitCode = await new Promise((resolve) => {
    const child = spawn(nodeBinary(outputs.node), [program, outputs["bench-programs"], ...process.argv.slice(2)], { stdio: "inherit" });
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
      process.removeAllListeners(signal);
      process.on(signal, () => signal === "SIGTERM" && child.kill(signal));
    }
    child.on("exit", (status) => resolve(status ?? 1));
  });
});
