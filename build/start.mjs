// `npm start`: makes what is missing, then shows Cloche's main job on real input. `npm start -- ARGS` runs the
// command line instead: `npm start -- doctor`.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { repo } from "./bootstrap/cache.mjs";
import { main } from "./bootstrap/main.mjs";
import { nodeBinary } from "./bootstrap/npm.mjs";
import { commands } from "./bootstrap/steps.mjs";

await main({ release: "always" }, async ({ make }) => {
  const outputs = await make(commands.start);
  const components = join(repo, ".build", "components.json");
  const args = process.argv.slice(2);
  const example = join(repo, "build", "example", "main.mjs");
  const cli = join(repo, ".build", "app", "cli.mjs");
  const program = args.length > 0 || !existsSync(example) ? [cli, ...(args.length ? args : ["doctor"])] : [example];
  process.exitCode = await new Promise((resolve) => {
    const child = spawn(nodeBinary(outputs.node), program, { stdio: "inherit", env: { ...process.env, CLOCHE_COMPONENTS: components } });
    // The terminal's Ctrl-C reaches the child as well, and how it ends is how we end.
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
      process.removeAllListeners(signal);
      process.on(signal, () => signal === "SIGTERM" && child.kill(signal));
    }
    child.on("exit", (status, signal) => resolve(status ?? 128 + ({ SIGINT: 2, SIGTERM: 15, SIGKILL: 9, SIGHUP: 1 }[signal] ?? 0)));
  });
});
