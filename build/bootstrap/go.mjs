// How Go is run in the builder, and the step that makes our programs.

import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { inBuilder, seenInside } from "./builder.mjs";
import { cacheRoot, repo } from "./cache.mjs";
import { arch } from "./packages.mjs";
import { Problem } from "./problem.mjs";

/** Module directory, and the program that its package at the top makes. */
export const programs = {
  "helpers/linux": "cloche-helper",
  "helpers/share": "cloche-share",
  "vm-image/agent": "cloche-agent",
};

/** All modules, in the order in which a check should report them. */
export const goModules = ["helpers/contract/go", ...Object.keys(programs)];

/**
 * Debian ships Go libraries as source. A module's debian.mod replaces each requirement by that source, so that
 * nothing is fetched here, while go.mod stays the ordinary one for everybody else.
 */
export function goEnv(moduleDirectory) {
  return {
    GOCACHE: "/cache/go-cache",
    GOPATH: "/cache/go-path",
    GOPROXY: "off",
    GOSUMDB: "off",
    GOTOOLCHAIN: "local",
    GOTELEMETRY: "off",
    // -buildvcs: the builder has git, and a program must not change with each commit.
    GOFLAGS: ["-buildvcs=false", ...(existsSync(join(moduleDirectory, "debian.mod")) ? ["-mod=mod", "-modfile=debian.mod"] : [])].join(" "),
    CGO_ENABLED: "0",
    // encoding/json as it was before it became a layer over its second version: under emulation it costs a start 20 ms less.
    GOEXPERIMENT: "nojsonv2",
  };
}

export const goStep = {
  name: "go-programs",
  title: "building the Go programs",
  deps: ["builder"],
  seconds: 60,
  inputs: async ({ outputs }) => [
    "2",
    arch.debian,
    ...goModules.map((tree) => ({ tree, skip: (path) => /(_test\.go|\.md|debian\.sum)$|(^|\/)testdata(\/|$)/.test(path) })),
    // The toolchain and every library that comes as a Debian package.
    ...readFileSync(join(outputs.builder, "packages.txt"), "utf8")
      .split("\n")
      .filter((line) => line.startsWith("golang-")),
  ],
  async run(ctx) {
    const root = join(ctx.outputs.builder, "root");
    mkdirSync(join(cacheRoot, "go-cache"), { recursive: true });
    for (const [module, program] of Object.entries(programs)) {
      if (!existsSync(join(repo, module, "go.mod"))) {
        throw new Problem({
          code: "build.no-go-module",
          message: `The Go module ${module}, from which ${program} is built, is not there.`,
          next: ["Check out the repository completely: git status, git checkout."],
        });
      }
      ctx.detail(program);
      // -trimpath and an empty build id: two builds of the same source are the same bytes, wherever they were made
      await inBuilder(
        root,
        ["go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", `${seenInside(ctx.out)}/${program}`, "."],
        {
          cwd: `/repo/${module}`,
          env: goEnv(join(repo, module)),
          log: ctx.log,
          code: "build.go-program",
          message: `The program ${program} could not be built from ${module}.`,
          next: [`See the compiler's output above; the same by hand: node build/go.mjs ${module} build ./...`],
        },
      );
    }
  },
};
