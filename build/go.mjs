// Runs a go command for one of our modules inside the builder root, with the repository mounted in it:
//
//   node build/go.mjs helpers/share test ./...
//   node build/go.mjs helpers/linux build -o /repo/.build/try/cloche-helper .
//   node build/go.mjs vm-image/agent test -fuzz FuzzFrame -fuzztime 10s ./internal/wire
//
// Environment that is passed through: names beginning with GO, CGO_ or CLOCHE_.

import { existsSync, mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { inBuilder, seenInside } from "./bootstrap/builder.mjs";
import { cacheRoot, repo } from "./bootstrap/cache.mjs";
import { goEnv } from "./bootstrap/go.mjs";
import { main } from "./bootstrap/main.mjs";
import { Problem } from "./bootstrap/problem.mjs";

await main(async ({ make }) => {
  const [module, ...args] = process.argv.slice(2);
  if (!module || args.length === 0) {
    throw new Problem({
      code: "build.usage",
      message: "build/go.mjs takes a module's directory and a go command.",
      next: ["For example: node build/go.mjs helpers/share test ./..."],
    });
  }
  const directory = resolve(module);
  if (!existsSync(join(directory, "go.mod"))) {
    throw new Problem({
      code: "build.no-go-module",
      message: `There is no Go module in ${module}: it has no go.mod.`,
      next: [`Give a directory with a go.mod, relative to where you are; the repository is ${repo}.`],
    });
  }
  const { builder } = await make(["builder"]);
  mkdirSync(join(cacheRoot, "go-cache"), { recursive: true });
  const passed = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => /^(GO[A-Z]|CGO_|CLOCHE_(?!CACHE))/.test(name) && name !== "GOROOT"),
  );
  const { status } = await inBuilder(join(builder, "root"), ["go", ...args], {
    cwd: seenInside(directory),
    env: { ...goEnv(directory), ...passed },
    stdio: "inherit",
    okStatus: Array.from({ length: 256 }, (_, n) => n),
  });
  process.exitCode = status;
});
