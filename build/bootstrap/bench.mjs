// What only the bench needs: the floors and peers that Cloche is measured against.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { inBuilder, seenInside } from "./builder.mjs";
import { cacheRoot, repo } from "./cache.mjs";
import { goEnv } from "./go.mjs";
import { initramfsWith } from "./image.mjs";
import { arch } from "./packages.mjs";

const goPrograms = {
  "build/bench/null9p": ["null9p", "."],
  "build/bench/proxy/load": ["load", "."],
  "helpers/share": ["cloche-share-bench", "./bench"],
};

export const benchProgramsStep = {
  name: "bench-programs",
  title: "building what the bench compares with",
  deps: ["builder"],
  seconds: 10,
  inputs: async ({ outputs }) => [
    "1",
    arch.debian,
    { tree: "build/bench/bare-init" },
    ...Object.keys(goPrograms).map((tree) => ({ tree, skip: (path) => /(_test\.go|\.md|debian\.sum)$/.test(path) })),
    { tree: "helpers/contract/go" },
    ...readFileSync(join(outputs.builder, "packages.txt"), "utf8")
      .split("\n")
      .filter((line) => line.startsWith("golang-")),
  ],
  async run(ctx) {
    const root = join(ctx.outputs.builder, "root");
    const run = (argv, options) => inBuilder(root, argv, { log: ctx.log, ...options });
    mkdirSync(join(cacheRoot, "go-cache"), { recursive: true });
    const init = join(ctx.out, "bare-init");
    await run(["gcc", "-static", "-O2", "-o", seenInside(init), "/repo/build/bench/bare-init/init.c"]);
    writeFileSync(join(ctx.out, "bare-init.cpio"), initramfsWith(readFileSync(init)));
    for (const [module, [program, folder]] of Object.entries(goPrograms)) {
      await run(["go", "build", "-trimpath", "-buildvcs=false", "-o", `${seenInside(ctx.out)}/${program}`, folder], {
        cwd: `/repo/${module}`,
        env: goEnv(join(repo, module)),
      });
    }
  },
};
