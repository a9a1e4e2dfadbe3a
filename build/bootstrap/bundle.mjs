// Runs under Node 24 with the project's npm packages in place (the bootstrap itself has neither): bundles each
// program into one file, so that starting it reads one file, and builds the page.

import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { rolldown } from "rolldown";
import { build as viteBuild } from "vite";
import { entries } from "./app.mjs";

const out = resolve(process.argv[2]);

for (const [name, input] of Object.entries(entries)) {
  const bundle = await rolldown({
    input,
    platform: "node",
    // Native speed-ups of ssh2 that it does without.
    external: [/^node:/, /\.node$/, "cpu-features"],
    onLog(level, log, report) {
      if (level === "warn" && log.code === "UNRESOLVED_IMPORT") throw new Error(log.message);
      report(level, log);
    },
  });
  await bundle.write({
    dir: out,
    entryFileNames: `${name}.mjs`,
    // What a program loads only for one of its verbs stays out of every other start.
    chunkFileNames: `${name}-[name].mjs`,
    format: "esm",
    sourcemap: true,
    // CommonJS packages inside the bundle ask for what an ES module has not.
    banner:
      'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url), __filename = import.meta.filename, __dirname = import.meta.dirname;',
  });
  await bundle.close();
}

if (existsSync(join("app", "ui", "index.html"))) {
  await viteBuild({
    root: join("app", "ui"),
    base: "./",
    logLevel: "warn",
    build: { outDir: join(out, "ui"), emptyOutDir: true, sourcemap: false },
  });
}
