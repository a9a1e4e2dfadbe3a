// What comes from the npm registry: the project's own packages, the Node that everything of ours runs on, and the
// guest's npm. Versions and bytes are pinned; no package runs a script while it is installed.

import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { repo } from "./cache.mjs";
import { exec } from "./exec.mjs";
import { guestNpm, nodeRuntime } from "./packages.mjs";
import { Problem } from "./problem.mjs";

const network = ["Check the machine's network and `npm config get registry`, then run the same command again."];

/** Downloads one package and unpacks it into `target`. */
async function unpackPackage({ spec, integrity }, target, ctx) {
  mkdirSync(target, { recursive: true });
  const { stdout } = await exec(["npm", "pack", spec, "--json", "--ignore-scripts", "--pack-destination", target], {
    cwd: target,
    log: ctx.log,
    code: "build.npm-package",
    message: `The npm package ${spec} could not be downloaded.`,
    next: network,
  });
  const report = JSON.parse(stdout.slice(stdout.search(/[[{]/)));
  const got = (Array.isArray(report) ? report[0] : Object.values(report)[0]).integrity;
  const file = readdirSync(target).find((name) => name.endsWith(".tgz"));
  const real = `sha512-${createHash("sha512")
    .update(readFileSync(join(target, file)))
    .digest("base64")}`;
  if (real !== integrity || (got && got !== integrity)) {
    throw new Problem({
      code: "build.npm-package-changed",
      message: `The npm package ${spec} is not the one that was reviewed.`,
      evidence: `expected ${integrity}\ngot      ${real}`,
      next: ["Do not use it. If the version in build/bootstrap/packages.mjs was changed on purpose, change the integrity beside it."],
    });
  }
  await exec(["tar", "-xzf", join(target, file), "--strip-components=1", "--no-same-owner", "-C", target], { log: ctx.log });
  rmSync(join(target, file));
}

export const nodeStep = {
  name: "node",
  title: `fetching Node (${nodeRuntime.spec})`,
  seconds: 10,
  inputs: () => [nodeRuntime.spec, nodeRuntime.integrity],
  run: (ctx) => unpackPackage(nodeRuntime, ctx.out, ctx),
};

export const nodeBinary = (nodeOutput) => join(nodeOutput, "bin", "node");

export const guestNpmStep = {
  name: "guest-npm",
  title: `fetching the guest's npm (${guestNpm.spec})`,
  seconds: 5,
  inputs: () => [guestNpm.spec, guestNpm.integrity],
  run: (ctx) => unpackPackage(guestNpm, ctx.out, ctx),
};

export const npmPackagesStep = {
  name: "npm-packages",
  title: "installing npm packages",
  seconds: 30,
  ready: () => differences().length === 0,
  async run(ctx) {
    // Not `npm ci`: it refuses a lock file that lacks the packages of other platforms, and a registry that serves
    // only a part of them makes such a file. What was installed is compared with the lock file instead.
    await exec(["npm", "install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund"], {
      cwd: repo,
      log: ctx.log,
      code: "build.npm-install",
      message: "npm could not install the project's packages.",
      next: network,
    });
    const different = differences();
    if (different.length > 0) {
      throw new Problem({
        code: "build.npm-packages-differ",
        message: "npm installed other packages than package-lock.json names.",
        evidence: different.slice(0, 20).join("\n"),
        next: [
          "Remove node_modules, then run the same command again.",
          "If package.json was changed: npm install, and commit package-lock.json.",
        ],
      });
    }
  },
};

/**
 * npm writes node_modules/.package-lock.json last, so it is there only after a complete installation; it is
 * compared instead of a hash of ours, so that an `npm install` by hand is not done again.
 */
function differences() {
  const read = (file) => JSON.parse(readFileSync(join(repo, file), "utf8")).packages;
  let installed;
  try {
    installed = read("node_modules/.package-lock.json");
  } catch {
    return ["nothing is installed"];
  }
  return Object.entries(read("package-lock.json")).flatMap(([path, wanted]) => {
    if (path === "" || wanted.link) return [];
    const found = installed[path];
    // Packages of other platforms are in the lock file and not on the disk.
    if (!found) return wanted.optional || wanted.devOptional || wanted.peer ? [] : [`${path}: missing`];
    return found.version === wanted.version && found.integrity === wanted.integrity
      ? []
      : [`${path}: ${found.version} instead of ${wanted.version}`];
  });
}
