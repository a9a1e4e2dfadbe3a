/**
 * Rows on folders at their full length: F03 races for a minute each; F10 every protected name at every depth from 0 to 6, new and in the
 * host's own files, in plain directories and within the host's repositories.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { allRefused, fingerprint, inGuest, nothingPlanted, type Outcome, type Planted, probe, WHO } from "../attacks/folders-support.ts";
import { Cloche } from "../harness/index.ts";

const cloche = new Cloche();
const work = cloche.folder("work");
const outside = cloche.folder("outside");
const writes = probe("writes.py");
const DEPTHS = [0, 1, 2, 3, 4, 5, 6];
const WAYS = ["append", "overwrite", "truncate", "map", "replace", "replace-by-link", "unlink", "move-away", "chmod", "times"];
let before: string[];

beforeAll(async () => {
  writeFileSync(join(outside, "canary"), "not the guest's");
  mkdirSync(join(outside, "dir"));
  symlinkSync(outside, join(work, "out"));
  before = fingerprint(outside);
  await cloche.ok(["new", "hostile", "--share", `${work}:rw`]);
  await cloche.ok(["start", "hostile"]);
});
afterAll(() => cloche.end());

describe.each(WHO)("as guest %s", (who) => {
  it("F03: for a minute, a directory that changes places with a link all the time opens no way out", async () => {
    const done = await inGuest<{ swaps: number; opened: number; missed: number }>(
      cloche,
      "hostile",
      who,
      probe("folders.py"),
      "race",
      outside,
      "60",
    );
    for (const count of Object.values(done)) expect(count, "the race raced").toBeGreaterThan(500);
    expect(fingerprint(outside)).toEqual(before);
    for (const name of ["swap", "swap-dir", "swap-link"]) execFileSync("rm", ["-rf", join(work, name)]);
  });

  it.each(DEPTHS)("F10, F11: at depth %d nothing comes to any of the names, in no way", async (depth) => {
    const top = `plain-${who}-${depth}`;
    const done = await inGuest<Planted>(cloche, "hostile", who, writes, "plant", String(depth), "all", top);
    expect(Object.keys(done).length).toBeGreaterThan(30);
    nothingPlanted(work, top, depth, done);
  });

  it.each([0, 6])("F10: nor within %d + 1 repositories of the host's that lie in each other", async (depth) => {
    const top = `repositories-${who}-${depth}`;
    const all = Array.from({ length: depth + 1 }, (_, n) => join(work, top, ...Array<string>(n).fill("deeper")));
    for (const repository of all) execFileSync("git", ["init", "-q", "-b", "main", repository]);
    const own = all.map((repository) => fingerprint(join(repository, ".git")));
    const done = await inGuest<Planted>(cloche, "hostile", who, writes, "plant", String(depth), "all", top);
    nothingPlanted(work, top, depth, done);
    expect(all.map((repository) => fingerprint(join(repository, ".git")))).toEqual(own);
  });

  it.each(DEPTHS)("F10: at depth %d what the host has at each of the names stays as it is, whatever is done to it", async (depth) => {
    const names = await inGuest<string[]>(cloche, "hostile", who, writes, "names");
    const top = `hosts-${who}-${depth}`;
    const base = join(work, top, ...Array(depth).fill("deeper"));
    for (const way of WAYS) {
      for (const path of [...names, "ordinary"].map((name) => join(base, way, name))) {
        mkdirSync(dirname(path), { recursive: true });
        writeFileSync(path, "the user's own");
      }
    }
    const own = fingerprint(join(work, top));
    const done = await inGuest<Record<string, Record<string, Outcome>>>(cloche, "hostile", who, writes, "change_names", String(depth), top);
    expect(Object.keys(done).sort()).toEqual([...WAYS].sort());
    // done as far as the guest can tell: it sees its own. What is moved out is not moved but copied, as its name is no longer one of these.
    const { "move-away": moved, ...others } = done;
    allRefused(others, "ok");
    allRefused(moved, "EXDEV");
    expect(fingerprint(join(work, top))).toEqual(own);
    // control: an ordinary file beside them is written
    expect(
      await inGuest(cloche, "hostile", who, writes, "write", join(top, ...Array(depth).fill("deeper"), "append", "ordinary"), "x"),
    ).toBe("ok");
    expect(readFileSync(join(base, "append", "ordinary"), "utf8")).toBe("x");
  });
});
