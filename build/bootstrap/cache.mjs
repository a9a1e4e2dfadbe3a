// Where the build keeps what it made, and the three properties that all steps lean on:
// - an output directory is either absent or complete: it is written beside its place and renamed into it;
// - its name is the hash of its inputs, so that nothing needs to be cleaned to be right;
// - one process at a time makes one output: the lock is flock(1)'s, so the kernel drops it whatever kills us.

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, utimesSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Problem } from "./problem.mjs";

export const repo = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
export const cacheRoot = resolve(process.env.CLOCHE_CACHE || join(homedir(), ".cache", "cloche"));

/** Finished outputs kept per step: the one in use, and two for switching between branches. */
const KEPT_OUTPUTS = 3;

/** @param {Array<string|{file: string}|{tree: string, skip?: (path: string) => boolean}>} inputs */
export function hashInputs(inputs) {
  const hash = createHash("sha256");
  const add = (tag, value) =>
    hash
      .update(`${tag} ${Buffer.byteLength(value)}\n`)
      .update(value)
      .update("\n");
  for (const input of inputs) {
    if (typeof input === "string") add("string", input);
    else if (input.file) addPath(add, repo, join(repo, input.file));
    else for (const path of walk(join(repo, input.tree), input.skip)) addPath(add, repo, path);
  }
  return hash.digest("hex").slice(0, 20);
}

function addPath(add, base, path) {
  add("path", relative(base, path));
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (!stat) add("absent", "");
  else if (stat.isSymbolicLink()) add("link", readlinkSync(path));
  else add(stat.mode & 0o111 ? "program" : "file", readFileSync(path));
}

/** All files below a folder in a stable order; an absent folder is an empty one. */
export function walk(folder, skip = () => false) {
  const found = [];
  const visit = (at) => {
    let entries;
    try {
      entries = readdirSync(at, { withFileTypes: true });
    } catch (error) {
      if (error.code === "ENOENT") return;
      throw error;
    }
    entries.sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const entry of entries) {
      const path = join(at, entry.name);
      if (skip(relative(folder, path))) continue;
      if (entry.isDirectory()) visit(path);
      else found.push(path);
    }
  };
  visit(folder);
  return found;
}

export function outputDir(step, hash) {
  return join(cacheRoot, step, hash);
}

export function isComplete(directory) {
  return statSync(directory, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** Marks an output as used now, so that pruning takes the others first. */
export function touch(directory) {
  const now = new Date();
  try {
    utimesSync(directory, now, now);
  } catch {
    // a read-only cache is still a cache
  }
}

/** Removes what no build needs any more: old outputs beyond KEPT_OUTPUTS. `work` directories are a step's own. */
export function prune(step, remove) {
  const folder = join(cacheRoot, step);
  const outputs = readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && /^[0-9a-f]{20}$/.test(entry.name))
    .map((entry) => ({ path: join(folder, entry.name), used: statSync(join(folder, entry.name)).mtimeMs }))
    .sort((a, b) => b.used - a.used);
  // The caller holds the step's lock, so a half-made output is a dead one.
  const dead = readdirSync(folder).filter((name) => name.endsWith(".tmp"));
  return Promise.all([...outputs.slice(KEPT_OUTPUTS).map((output) => output.path), ...dead.map((name) => join(folder, name))].map(remove));
}

/**
 * Waits for the lock of that name and returns its release. `waiting` is called once if somebody else has it.
 * The lock lives in a child that only holds it until its standard input closes: when this process dies in
 * any way, the pipe closes, the child ends and the kernel releases the lock.
 */
export function lock(name, waiting) {
  const folder = join(cacheRoot, "locks");
  try {
    mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw new Problem({
      code: "build.cache-not-writable",
      message: `The build's cache ${cacheRoot} cannot be written.`,
      cause: error,
      next: ["Make that directory writable, or set CLOCHE_CACHE to another one."],
    });
  }
  const file = join(folder, `${name.replaceAll("/", "-")}.lock`);
  return new Promise((resolveLock, reject) => {
    const child = spawn("flock", [file, "sh", "-c", "echo held; exec cat >/dev/null"], {
      stdio: ["pipe", "pipe", "inherit"],
      detached: true,
    });
    const patience = setTimeout(() => waiting?.(), 300);
    child.on("error", (cause) => {
      clearTimeout(patience);
      reject(
        new Problem({
          code: "build.flock-missing",
          message: "The program flock, which keeps two builds apart, cannot be started.",
          cause,
          next: ["Install it: sudo apt-get install util-linux"],
        }),
      );
    });
    child.stdout.once("data", () => {
      clearTimeout(patience);
      child.unref();
      child.stdin.unref?.();
      child.stdout.unref?.();
      resolveLock(
        () =>
          new Promise((done) => {
            child.on("exit", done);
            child.ref();
            child.stdin.end();
          }),
      );
    });
  });
}

export function removeTree(path) {
  rmSync(path, { recursive: true, force: true });
}
