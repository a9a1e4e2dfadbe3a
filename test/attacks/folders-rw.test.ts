/**
 * What a hostile guest can do to a folder that it may change: nothing that the host would obey comes into it, nothing that was in it is
 * lost. Each row is tried by the guest's user and by guest root; the verdict is what the host has in the folder, and what comes back.
 */
import { spawnSync } from "node:child_process";
import {
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ChangeView, VersionView } from "../../app/contract/index.ts";
import { Cloche } from "../harness/index.ts";
import { fingerprint, inGuest, nothingPlanted, type Outcome, type Planted, probe, WHO } from "./folders-support.ts";

const cloche = new Cloche();
const work = cloche.folder("work");
const outside = cloche.folder("outside");
const writes = probe("writes.py");
const WAYS = ["unlink", "truncate", "open-truncate", "overwrite", "rename-over", "exchange", "map", "punch", "move-and-unlink", "twice"];
const LINKED = ["replaced", "renamed-over", "moved-up", "carried", "users-own"];
const original = (who: string, way: string) => `what the user had, ${who}, ${way}\n`.repeat(50);
// store is a bare repository by what it has, editor is where the user's own link .vscode leads
const PROTECTED = [".envrc", ".git/config", ".git/hooks/pre-commit", "store/config", "store/hooks/update", "editor/tasks.json"];

const versionsOf = async (name: string) => (await cloche.json<{ versions: VersionView[] }>(["history", "hostile", name])).versions;
/** The content of a file with each of its versions restored. */
async function comesBack(name: string): Promise<string[]> {
  const contents: string[] = [];
  for (const { number } of await versionsOf(name)) {
    await cloche.ok(["restore", "hostile", `${name}@${number}`]);
    contents.push(readFileSync(join(work, name), "utf8"));
  }
  return contents;
}

beforeAll(async () => {
  writeFileSync(join(outside, "canary"), "not the guest's");
  for (const name of [".git/hooks", "store/hooks", "store/objects", "store/refs", "editor"])
    mkdirSync(join(work, name), { recursive: true });
  writeFileSync(join(work, "store/HEAD"), "ref: refs/heads/main\n");
  symlinkSync("editor", join(work, ".vscode"));
  for (const name of PROTECTED) writeFileSync(join(work, name), `the user's ${name}\n`);
  for (const who of WHO) {
    for (const way of WAYS) writeFileSync(join(work, `lost-${who}-${way}`), original(who, way));
    writeFileSync(join(outside, `joined-${who}`), "outside's");
    linkSync(join(outside, `joined-${who}`), join(work, `joined-${who}`));
    writeFileSync(join(outside, `shared-${who}`), "original");
    linkSync(join(outside, `shared-${who}`), join(work, `shared-${who}`));
    writeFileSync(join(work, `edited-${who}`), "the first\n");
    mkdirSync(join(work, `log-${who}`));
    for (const way of LINKED) writeFileSync(join(work, `log-${who}`, way), "lines of the host's\n");
    symlinkSync(join(outside, "canary"), join(work, `log-${who}`, "own"));
  }
  await cloche.ok(["new", "hostile", "--share", `${work}:rw`]);
  await cloche.ok(["start", "hostile"]);
});
afterAll(() => cloche.end());

describe.each(WHO)("as guest %s", (who) => {
  it.each([0, 1, 6])(
    "F10, F11: at depth %d nothing comes to a name that the host obeys, whichever way; the guest has it",
    async (depth) => {
      // all names at the top, where they are most read; below, each fourth, another one at each depth: all of them at each depth in test/long
      const which = depth === 0 ? "all" : "fourth";
      const done = await inGuest<Planted>(cloche, "hostile", who, writes, "plant", String(depth), which, `${who}-${depth}`);
      expect(Object.keys(done).length).toBeGreaterThan(depth === 0 ? 30 : 6);
      nothingPlanted(work, `${who}-${depth}`, depth, done);
    },
  );

  it("F10: what the host has there stays as it is, and the guest sees its own", async () => {
    const before = fingerprint(join(work, ".git"));
    const done = await inGuest<Record<string, string[] & string>>(cloche, "hostile", who, writes, "change_protected");
    for (const name of PROTECTED) {
      expect(readFileSync(join(work, name), "utf8")).toBe(`the user's ${name}\n`);
      if (who === "user") expect(done[name]).toEqual(["ok", "ok", "ok", "ok", "ok", "PLANTED"]);
    }
    expect(fingerprint(join(work, ".git"))).toEqual(before);
    // for root's turn
    if (who === "user") await inGuest(cloche, "hostile", who, RESTORE, ...PROTECTED);
  });

  it("F10: a git directory that the guest builds in the folder runs nothing when the host's git looks at it", async () => {
    const done = await inGuest<Record<string, Record<string, Outcome>>>(cloche, "hostile", who, writes, "repository");
    expect(Object.keys(done)).toHaveLength(3);
    const ran = join(outside, `ran-${who}`);
    const status = (place: string) => {
      const env = { ...process.env, RAN: ran, HOME: outside, GIT_CEILING_DIRECTORIES: work };
      spawnSync("git", ["-c", "safe.directory=*", "status"], { cwd: join(work, place), env });
      return existsSync(ran);
    };
    for (const [place, ways] of Object.entries(done)) {
      expect([place, ways.config, ways.made]).toEqual([place, "ok", "ok"]);
      expect([place, status(place)]).toEqual([place, false]);
    }
    // the control: with the parts that are kept back, git would have run it
    const place = Object.keys(done)[0] as string;
    writeFileSync(join(work, place, "HEAD"), "ref: refs/heads/main\n");
    expect(status(place)).toBe(true);
    rmSync(ran);
  });

  it("F10, control: git init, clone, remote add and switch --track work; the host gets objects and refs, no config and no hook", async () => {
    // of a repository that is there, root clones as the user does
    const { url, ...steps } = await inGuest<Record<string, string>>(cloche, "hostile", who, writes, "git", who === "user" ? "all" : "made");
    expect(Object.keys(steps)).toHaveLength(who === "user" ? 8 : 4);
    expect(steps).toEqual(Object.fromEntries(Object.keys(steps).map((step) => [step, "ok"])));
    expect(url).toBe("https://example.invalid/x.git");
    const repository = join(work, `repository-${who === "root" ? 0 : 1000}`, ".git");
    expect(existsSync(join(repository, "config"))).toBe(false);
    expect(existsSync(join(repository, "hooks"))).toBe(false);
    expect(readFileSync(join(repository, "refs/heads/main"), "utf8")).toMatch(/^[0-9a-f]{40}\n$/);
    expect(readdirSync(join(repository, "objects")).length).toBeGreaterThan(2);
  });

  it("F08: whatever takes content away, the user's file comes back, byte for byte", async () => {
    const done = await inGuest<Record<string, Outcome>>(cloche, "hostile", who, writes, "destroy");
    expect(Object.keys(done).sort()).toEqual([...WAYS].sort());
    for (const way of ["unlink", "truncate", "open-truncate", "overwrite", "rename-over", "map", "move-and-unlink", "twice"])
      expect([way, done[way]]).toEqual([way, "ok"]);
    for (const way of WAYS) {
      const path = join(work, `lost-${who}-${way}`);
      if (done[way] !== "ok") {
        // an operation that 9P does not have changed nothing
        expect([way, readFileSync(path, "utf8")]).toEqual([way, original(who, way)]);
        continue;
      }
      expect(existsSync(path) && readFileSync(path, "utf8") === original(who, way), `${way} took place`).toBe(false);
      const name = `lost-${who}-${way}${way === "move-and-unlink" ? "-moved" : ""}`;
      expect([way, await comesBack(name)]).toEqual([way, expect.arrayContaining([original(who, way)])]);
    }
  });

  it("F20: whichever way a link to outside takes the place of a file, what the host writes to that name goes nowhere else", async () => {
    const done = await inGuest<Record<string, string>>(cloche, "hostile", who, writes, "link_out", join(outside, "canary"));
    for (const way of LINKED) expect([way, done[way]]).toEqual([way, expect.stringMatching(/outside\/canary$/)]);
    const at = (name: string) => join(work, `log-${who}`, name);
    for (const way of LINKED) writeFileSync(at(way), "a line of the host's\n");
    expect(readFileSync(join(outside, "canary"), "utf8")).toBe("not the guest's");
    for (const way of LINKED) rmSync(at(way));
    expect(readlinkSync(at("inside")), "the control").toBe("deep");
    const waiting = await cloche.json<{ folders: { changes: ChangeView[] }[] }>(["changes", "hostile"]);
    for (const way of LINKED) {
      const found = waiting.folders[0]?.changes.find(({ path }) => path.text === `log-${who}/${way}`);
      expect([way, found?.flags]).toEqual([way, [expect.stringMatching(/^(absolute|escaping)-link$/)]]);
    }
    expect(readdirSync(at(".")).sort()).toEqual(["deep", "er", "inside"]);
    await cloche.ok(["apply", "hostile", join(`log-${who}`, "replaced")]);
    expect(readlinkSync(at("replaced"))).toBe(join(outside, "canary"));
  });

  it("F22: a file with another name outside of the folder is separated before it is written", async () => {
    const before = fingerprint(outside).filter((line) => line.includes(`joined-${who}`));
    const { ino } = statSync(join(outside, `joined-${who}`));
    expect(await inGuest(cloche, "hostile", who, writes, "write", `joined-${who}`, "the guest's")).toBe("ok");
    expect(readFileSync(join(outside, `joined-${who}`), "utf8")).toBe("outside's");
    expect(statSync(join(outside, `joined-${who}`)).ino).toBe(ino);
    expect(readFileSync(join(work, `joined-${who}`), "utf8")).toBe("the guest's");
    expect(before).toHaveLength(1);
  });

  it("F08, F22: what comes back of a file with another name is what it was, whatever was written by that name since", async () => {
    const name = `shared-${who}`;
    expect(await inGuest(cloche, "hostile", who, writes, "replace", name)).toBe("ok");
    writeFileSync(join(outside, name), "tampered");
    expect(await comesBack(name)).toContain("original");
    expect(readFileSync(join(outside, name), "utf8")).toBe("tampered");
  });

  it("F24: what the user writes between two writes of the guest's comes back, and so does what was there first", async () => {
    const path = join(work, `edited-${who}`);
    await inGuest(cloche, "hostile", who, writes, "write", `edited-${who}`, "the guest's first\n");
    expect(readFileSync(path, "utf8")).toBe("the guest's first\n");
    writeFileSync(path, "the user's, in between\n");
    await inGuest(cloche, "hostile", who, writes, "write", `edited-${who}`, "the guest's second\n");
    const before = await versionsOf(`edited-${who}`);
    expect(await comesBack(`edited-${who}`)).toEqual(expect.arrayContaining(["the first\n", "the user's, in between\n"]));
    expect((await versionsOf(`edited-${who}`)).length, "what a restore replaced is a version itself").toBeGreaterThan(before.length);
  });
});

const RESTORE = `
import sys, os, shutil
os.chdir("/home/you/work")
if os.path.isdir(".git/hooks-away"): os.rename(".git/hooks-away", ".git/hooks")
for name in sys.argv[1:]: open(name, "w").write("the user's %s\\n" % name)
print("true")
`;
