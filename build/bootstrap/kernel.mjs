// The guest's kernel: Debian's source package, our configuration and patches, nothing downloaded from elsewhere.
// Source and object trees stay in the step's work directory until the kernel is done, so that a killed build goes on.

import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { builderVersions, inBuilder, seenInside } from "./builder.mjs";
import { cacheRoot, hashInputs, removeTree, repo } from "./cache.mjs";
import { arch } from "./packages.mjs";
import { Problem } from "./problem.mjs";

const source = "linux-source-6.12";
const folder = "vm-image/kernel";

const targets = {
  x86_64: { make: [], goals: ["vmlinux"] },
  // Cross-built on an x86-64 machine; needs gcc-aarch64-linux-gnu in the builder (not installed by default).
  arm64: { make: arch.kernel === "arm64" ? [] : ["CROSS_COMPILE=aarch64-linux-gnu-"], goals: ["Image"] },
};

export function kernelStep(kernelArch = arch.kernel) {
  const target = targets[kernelArch];
  return {
    name: kernelArch === arch.kernel ? "kernel" : `kernel-${kernelArch}`,
    title: "building the guest's kernel",
    deps: ["builder"],
    seconds: 330,
    inputs: async ({ outputs }) => [
      "2",
      kernelArch,
      { file: `${folder}/common.config` },
      { file: `${folder}/${kernelArch}.config` },
      { tree: `${folder}/patches` },
      // Not the whole builder: a new Go library must not cost a kernel build.
      ...builderVersions(outputs.builder, [source, "gcc-14", "binutils"]),
    ],
    run: (ctx) => build(ctx, kernelArch, target),
  };
}

async function build(ctx, kernelArch, target) {
  const root = join(ctx.outputs.builder, "root");
  const [version] = builderVersions(ctx.outputs.builder, [source]);
  const work = join(cacheRoot, ctx.step, "work");
  const tree = join(work, `source-${hashInputs([version, { tree: `${folder}/patches` }])}`);
  const objects = `${tree}-${kernelArch}`;
  mkdirSync(work, { recursive: true });
  for (const old of readdirSync(work)) {
    if (!join(work, old).startsWith(tree)) removeTree(join(work, old));
  }
  const run = (argv, options = {}) => inBuilder(root, argv, { readOnlyRepo: true, log: ctx.log, cwd: "/cache", ...options });

  if (!existsSync(tree)) {
    ctx.detail("unpacking the source");
    const unpacking = `${tree}.tmp`;
    removeTree(unpacking);
    mkdirSync(unpacking);
    await run([
      "tar",
      "-xf",
      `/usr/src/${source}.tar.xz`,
      "--strip-components=1",
      "--exclude=*/Documentation/*/*",
      "--exclude=*/tools/testing/*",
      "-C",
      seenInside(unpacking),
    ]);
    for (const patch of readdirSync(join(repo, folder, "patches")).sort()) {
      await run(["patch", "-p1", "--forward", "--fuzz=0", "-i", `/repo/${folder}/patches/${patch}`], {
        cwd: seenInside(unpacking),
        code: "build.kernel-patch",
        message: `The kernel patch ${patch} does not apply to ${version}.`,
        next: [`Adapt ${folder}/patches/${patch} to the new source, or drop it if the source has the change.`],
      });
    }
    renameSync(unpacking, tree);
  }

  mkdirSync(objects, { recursive: true });
  const wanted = ["common.config", `${kernelArch}.config`].map((name) => readFileSync(join(repo, folder, name), "utf8")).join("\n");
  writeFileSync(join(objects, "wanted.config"), wanted);
  const make = ["make", "-C", seenInside(tree), `O=${seenInside(objects)}`, `ARCH=${kernelArch}`, ...target.make];
  const env = {
    // Nothing of this machine or this minute goes into the kernel.
    KBUILD_BUILD_TIMESTAMP: "2025-01-01 00:00:00 UTC",
    KBUILD_BUILD_USER: "cloche",
    KBUILD_BUILD_HOST: "builder",
    KBUILD_BUILD_VERSION: "1",
  };
  ctx.detail("configuring");
  await run([...make, "-s", `KCONFIG_ALLCONFIG=${seenInside(objects)}/wanted.config`, "allnoconfig"], { env });
  checkConfig(wanted, readFileSync(join(objects, ".config"), "utf8"));

  let compiled = 0;
  await run([...make, `-j${cpus().length}`, ...target.goals], {
    env,
    onLine(line) {
      if (/^\s+(CC|AS|AR|LD)\s/.test(line)) ctx.detail(`${++compiled} files built`);
    },
    code: "build.kernel",
    message: "The guest's kernel could not be built.",
    next: ["Run the same command again: what is compiled is kept. If it fails at the same place, look at the evidence."],
  });
  if (kernelArch === "x86_64") {
    // The PVH entry is an ELF note, which strip keeps.
    await run(["strip", "--strip-all", "-o", `${seenInside(ctx.out)}/vmlinux`, `${seenInside(objects)}/vmlinux`]);
  } else {
    await run(["cp", `${seenInside(objects)}/arch/arm64/boot/Image`, `${seenInside(ctx.out)}/Image`]);
  }
  await run(["cp", `${seenInside(objects)}/.config`, `${seenInside(ctx.out)}/config`]);
  const release = readFileSync(join(objects, "include/config/kernel.release"), "utf8").trim();
  writeFileSync(join(ctx.out, "version"), `${release}\n`);
  if (!process.env.CLOCHE_KEEP_WORK) removeTree(work); // 2 GB that nobody needs any more
}

/** An option that silently does not land is a feature that is silently missing in every guest. */
function checkConfig(wanted, got) {
  const landed = new Set(got.split("\n"));
  const missing = wanted.split("\n").filter((line) => /^CONFIG_\w+=/.test(line) && !landed.has(line));
  if (missing.length === 0) return;
  throw new Problem({
    code: "build.kernel-config",
    message: `${missing.length} options of the guest's kernel did not land.`,
    evidence: missing
      .map((line) => `${line}  (got: ${got.split("\n").find((each) => each.includes(`${line.split("=")[0]}=`)) ?? "nothing"})`)
      .join("\n"),
    next: [`Look for the option's dependencies in the kernel's Kconfig files and correct ${folder}/*.config.`],
  });
}
