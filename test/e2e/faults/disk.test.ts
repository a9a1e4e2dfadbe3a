/** The disk that holds Cloche's data is full: before a start, while a guest writes, and for Cloche's own records. Needs root, for a small filesystem of its own. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, statfsSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Cloche, hostState } from "../../harness/index.ts";
import { failedWith, historyIsWhole, noMachineLeft, refusedWith, until, wellFormed } from "./support.ts";

const isRoot = process.getuid?.() === 0;
const cloche = new Cloche();
const mounts = hostState([cloche.home]).mounts;
const folder = cloche.folder("outside");
const filler = join(cloche.home, "filler");
const freeBytes = () => {
  const { bavail, bsize } = statfsSync(cloche.home);
  return bavail * bsize;
};
/** Leaves so much room, or none at all where Cloche takes of it in the same moment. */
const fill = (leave: number) => {
  try {
    writeFileSync(filler, Buffer.alloc(Math.max(0, freeBytes() - leave)));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
  }
};

describe.skipIf(!isRoot)("no room on the disk (needs root: it mounts a small filesystem)", () => {
  beforeAll(async () => {
    execFileSync("mkdir", ["-m", "700", cloche.home]);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=400m,mode=0700", "none", cloche.home]);
    await cloche.ok(["new", "t", "--share", `${folder}:rw`]);
  });
  afterAll(async () => {
    try {
      rmSync(filler, { force: true });
      await cloche.run(["stop", "--now", "t"]);
      await cloche.quiet(15_000);
    } finally {
      execFileSync("umount", ["-l", cloche.home]);
      await cloche.end();
    }
    expect(hostState([cloche.home]).mounts).toBe(mounts);
  });

  it("a start with too little room is refused before anything is made; with room it starts", async () => {
    fill(100 << 20);
    refusedWith(await cloche.run(["start", "t"]), "disk.full");
    const problem = await failedWith(cloche, "t", "disk.full");
    expect(problem.evidence).toMatch(/MB are free/);
    await noMachineLeft(cloche);
    rmSync(filler);
    await cloche.ok(["start", "t"]);
    await cloche.ok(["stop", "t"]);
  });

  it("the host's disk fills while the guest writes: the task fails with one problem, its disk and folder are whole, and with room it starts again", async () => {
    await cloche.ok(["start", "t"]);
    await cloche.ok(["exec", "t", "--", "sh", "-c", "echo kept > kept; echo before > ~/before; sync"]);
    fill(60 << 20);
    const write = "head -c 200M /dev/urandom > ~/big && sync -f ~/big";
    refusedWith(await cloche.run(["exec", "t", "--", "sh", "-c", write]), "disk.full");
    // not even the event of it may have found room; then its loss is told as soon as there is some
    const { state } = await cloche.task("t");
    const problem = wellFormed(state.at === "failed" ? state.problem : undefined, "disk.full");
    expect(problem.next[0]).toMatch(/^Make room/);
    await noMachineLeft(cloche);
    refusedWith(await cloche.run(["start", "t"]), "disk.full");
    expect(readFileSync(join(folder, "kept"), "utf8")).toBe("kept\n");
    rmSync(filler);
    await cloche.ok(["start", "t"]);
    const told = historyIsWhole(cloche).map((event) => event.kind);
    expect(told.includes("events.lost") || told.filter((kind) => kind === "task.failed").length >= 2).toBe(true);
    expect((await cloche.ok(["exec", "t", "--", "sh", "-c", "rm -f ~/big; sync; cat kept ~/before"])).stdout).toBe("kept\nbefore\n");
    expect((await cloche.ok(["logs", "t", "--console"])).stdout).not.toMatch(/EXT4-fs error|Aborting journal/);
    await cloche.ok(["stop", "t"]);
  });

  it("not a byte is left: commands tell of it in the one shape, nothing is half made, and what is there stays readable", async () => {
    const before = readdirSync(join(cloche.home, "tasks"));
    fill(0);
    writeFileSync(`${filler}2`, "");
    refusedWith(await cloche.run(["new", "other"]), "disk.full");
    refusedWith(await cloche.run(["start", "t"]), "disk.full");
    expect((await cloche.ok(["ls", "-q"])).stdout).toBe("t\n");
    await cloche.ok(["events", "t"]);
    rmSync(filler);
    rmSync(`${filler}2`);
    expect(readdirSync(join(cloche.home, "tasks"))).toEqual(before);
    for (const id of before) expect(statSync(join(cloche.home, "tasks", id, "task.json")).size).toBeGreaterThan(0);
    historyIsWhole(cloche);
    expect((await cloche.ok(["ls", "-q"])).stdout).toBe("t\n");
    await cloche.ok(["start", "t"]);
    expect((await cloche.ok(["exec", "t", "--", "cat", "kept"])).stdout).toBe("kept\n");
  });

  it("fills while a command prints: its output goes on whole, only the log loses", async () => {
    fill(0);
    const ended = await cloche.run(["exec", "t", "--", "sh", "-c", "yes | head -c 5M"]);
    rmSync(filler);
    if (ended.status === 125) refusedWith(ended, "disk.full");
    else expect(ended.bytes.length).toBe(5 << 20);
    await until("no command", async () => (await cloche.task("t")).running === 0);
    expect(existsSync(filler)).toBe(false);
  });

  it("a copy out onto a full disk fails, keeps what was there and leaves no part", async () => {
    // the disk was full under the guest's own: the task may have been ended, or be about to
    await cloche.ok(["stop", "t"]);
    await cloche.ok(["start", "t"]);
    await cloche.ok(["exec", "t", "--", "sh", "-c", "head -c 8M /dev/urandom > ~/copy"]);
    const small = cloche.folder("small"); // a disk of its own, as a guest that writes may be ended where Cloche's is full
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "none", small]);
    try {
      const target = join(small, "copied");
      writeFileSync(target, "as it was");
      refusedWith(await cloche.run(["cp", "t:copy", target]), "copy.failed");
      expect(readFileSync(target, "utf8")).toBe("as it was");
      expect(readdirSync(small)).toEqual(["copied"]);
    } finally {
      execFileSync("umount", ["-l", small]);
    }
    const copied = join(cloche.home, "copied");
    await cloche.ok(["cp", "t:copy", copied]);
    expect(statSync(copied).size).toBe(8 << 20);
  });

  it("fills while a guest works in a folder: it waits, which `show` says, and with room it goes on; every act is told, none is lost", async () => {
    const made = 2500; // more than the batches that may be under way
    const lostBefore = historyIsWhole(cloche).filter(({ kind }) => kind === "events.lost").length;
    await cloche.ok(["stop", "t"]); // with all that the guest had for its own disk
    await cloche.ok(["start", "t"]);
    fill(3 << 20);
    const going = cloche.start(["exec", "t", "--", "sh", "-ec", `mkdir many; cd many; for n in $(seq ${made}); do : > f$n; done`]);
    going.process.stdin.end();
    await until("the reason", async () => (await cloche.task("t")).shares[0]?.problem?.code === "disk.full");
    let count = -1;
    await until("the guest to wait", async () => {
      const before = count;
      count = existsSync(join(folder, "many")) ? readdirSync(join(folder, "many")).length : 0;
      await new Promise((resolve) => setTimeout(resolve, 500));
      return count > 0 && count === before;
    });
    expect(count).toBeLessThan(made);
    rmSync(filler);
    expect((await going.finished).status).toBe(0);
    expect(readdirSync(join(folder, "many"))).toHaveLength(made);
    const created = () =>
      historyIsWhole(cloche)
        .filter(({ kind }) => kind === "files.activity")
        .flatMap(({ data }) => data.entries as { what: string; path: { text: string } }[])
        .filter(({ what, path }) => what === "created" && path.text.startsWith("many/f"));
    await until("all of it", () => new Set(created().map(({ path }) => path.text)).size === made);
    expect(historyIsWhole(cloche).filter(({ kind }) => kind === "events.lost")).toHaveLength(lostBefore);
    expect((await cloche.task("t")).shares[0]?.problem).toBeUndefined();
  });

  it("a guest fills its layer: it gets ENOSPC and `show` the reason, a reserve is left, and what is discarded makes room", async () => {
    const reviewed = cloche.folder("reviewed");
    await cloche.ok(["folder", "add", "t", reviewed]);
    const at = "/home/you/reviewed";
    const inside = (script: string) => cloche.run(["exec", "t", "--", "sh", "-c", script]);
    fill(36 << 20); // the reserve of this disk is 20 MiB
    const big = await inside(`head -c 30M /dev/zero > ${at}/big`);
    expect(big.status).not.toBe(0);
    expect(big.stderr).toMatch(/No space left on device/);
    expect(freeBytes(), "the host keeps its reserve").toBeGreaterThan(16 << 20);
    const empty = await inside(`: > ${at}/empty`);
    expect(empty.stderr, "not even a name").toMatch(/No space left on device/);
    const share = async () => (await cloche.task("t")).shares.find(({ name }) => name === "reviewed");
    const refused = await until("the reason", async () => (await share())?.refused);
    const { message } = wellFormed(refused.problem, "share.changes-full");
    expect(message).toContain('in the folder "reviewed"');
    expect((await cloche.ok(["show", "t"])).stdout).toContain("[share.changes-full]");
    await cloche.ok(["discard", "t", "--all"]);
    expect((await share())?.refused).toBeUndefined();
    expect((await inside(`: > ${at}/empty`)).status).toBe(0);
    rmSync(filler);
    await cloche.ok(["folder", "rm", "t", "reviewed", "--discard"]);
  });
});
