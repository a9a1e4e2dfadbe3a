// What only the tests install in a guest: tool chains that the image does not have, to see whom they trust.

import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { downloadGuestPackages } from "./apt.mjs";
import { inBuilder, seenInside } from "./builder.mjs";
import { cacheRoot, repo } from "./cache.mjs";
import { goEnv } from "./go.mjs";
import { arch, toolChainPackages } from "./packages.mjs";

const goClient = "test/e2e/egress/go-client";

/** Debian packages, as `*.deb`, and `go-client`. */
export const toolChainsStep = {
  name: "tool-chains",
  title: "fetching tool chains that tests install in a guest",
  deps: ["builder"], // and with it the host's package lists
  seconds: 15,
  inputs: async ({ outputs }) => [
    "1",
    arch.debian,
    JSON.stringify(toolChainPackages),
    { tree: goClient },
    ...readFileSync(join(outputs.builder, "packages.txt"), "utf8")
      .split("\n")
      .filter((line) => line.startsWith("golang-")),
  ],
  async run(ctx) {
    mkdirSync(ctx.out, { recursive: true });
    await downloadGuestPackages(ctx, toolChainPackages);
    ctx.detail("go-client");
    mkdirSync(join(cacheRoot, "go-cache"), { recursive: true });
    await inBuilder(
      join(ctx.outputs.builder, "root"),
      ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", `${seenInside(ctx.out)}/go-client`, "."],
      {
        cwd: `/repo/${goClient}`,
        env: goEnv(join(repo, goClient)),
        log: ctx.log,
        code: "build.go-program",
        message: `The program go-client could not be built from ${goClient}.`,
        next: [`See the compiler's output above; the same by hand: node build/go.mjs ${goClient} build ./...`],
      },
    );
  },
};
