/** What a task overwrites is kept within a limit: near it a write waits for its user, and one that fails says why, also afterwards. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ShareView } from "../../../app/contract/index.ts";
import { Cloche } from "../../harness/index.ts";
import { historyIsWhole, refusedWith, until, wellFormed } from "../faults/support.ts";

const cloche = new Cloche();
const folder = cloche.folder("work");
const HELD = 40_000;
const shared = async () => (await cloche.task("t")).shares[0] as ShareView;
const shows = async () => (await cloche.ok(["show", "t"])).stdout;
const inside = (script: string) => cloche.start(["exec", "t", "--", "sh", "-c", script]);

describe("room for versions", () => {
  beforeAll(async () => {
    for (const name of ["a", "b", "c", "d"]) writeFileSync(join(folder, name), name.repeat(HELD));
    await cloche.ok(["new", "t", "--share", `${folder}:rw`]);
    await cloche.ok(["folder", "set", "t", "work", "--versions", "64k"]);
    await cloche.ok(["start", "t"]);
  });
  afterAll(() => cloche.end());

  it("within the limit nothing is asked", async () => {
    expect((await inside("echo new > a").finished).status).toBe(0);
    expect(readFileSync(join(folder, "a"), "utf8")).toBe("new\n");
    expect((await shared()).room).toBeUndefined();
    expect(await shows()).toContain("its versions may take 65.5 kB");
    refusedWith(await cloche.run(["folder", "room", "t", "work", "allow"]), "task.state");
  });

  it("over it the write waits for its user, who sees which one and how to answer; allowed, it goes on", async () => {
    const going = inside("echo new > b");
    const asked = await until("the question", async () => (await shared()).room);
    expect(asked).toMatchObject({ path: { text: "b" }, limitBytes: 65_536 });
    expect(await shows()).toContain("cloche folder room t work allow");
    expect(readFileSync(join(folder, "b"), "utf8").length).toBe(HELD);
    await cloche.ok(["folder", "room", "t", "work", "allow"]);
    expect((await going.finished).status).toBe(0);
    expect(readFileSync(join(folder, "b"), "utf8")).toBe("new\n");
    expect((await shared()).versionLimitBytes).toBeGreaterThan(65_536);
    const { versions } = await cloche.json<{ versions: unknown[] }>(["history", "t", "b"]);
    expect(versions, "control: what it overwrote is kept").toHaveLength(1);
  });

  it("refused, it fails, the file is as it was, and `show` says which write, why and what to do, also when the task is stopped", async () => {
    await cloche.ok(["folder", "set", "t", "work", "--versions", "90k"]);
    const going = inside("echo new > c");
    await until("the question", async () => (await shared()).room);
    await cloche.ok(["folder", "room", "t", "work", "refuse"]);
    const ended = await going.finished;
    expect(ended.status).not.toBe(0);
    expect(ended.stderr).toMatch(/No space left on device/);
    expect(readFileSync(join(folder, "c"), "utf8")).toBe("c".repeat(HELD));
    const refused = await until("the reason", async () => (await shared()).refused);
    const { message, next } = wellFormed(refused.problem, "share.no-room");
    expect(message).toContain('to c in the folder "work"');
    expect(message).toContain("was refused");
    expect(next[0]).toContain("cloche folder room t work allow");
    expect((await shared()).room).toBeUndefined();
    // The no stands for a while: the next write is not asked about, and told as well.
    expect((await inside("rm d").finished).status).not.toBe(0);
    expect(existsSync(join(folder, "d"))).toBe(true);
    await until("the later one", async () => (await shared()).refused?.problem.message.includes("to d in"));
    await cloche.ok(["stop", "t"]);
    expect(await shows()).toMatch(/A write to d in the folder "work".*failed in the task/);
    // Nobody is connected now, so the keeper ends; the next one knows it all the same.
    await cloche.quiet(60_000);
    expect(await shows()).toMatch(/\[share\.no-room\]\n.*→ Allow more room/);
  });

  it("its user changes their mind: with another limit it writes again, and nothing is said any more", async () => {
    await cloche.ok(["folder", "set", "t", "work", "--versions", "1m"]);
    expect(await shared()).toMatchObject({ versionLimitBytes: 1 << 20 });
    expect((await shared()).refused).toBeUndefined();
    await cloche.ok(["start", "t"]);
    expect((await inside("echo new > c && rm d").finished).status).toBe(0);
    const restored = await cloche.ok(["restore", "t", "d"]);
    expect(restored.stderr, "which version it was is said").toMatch(/version @\d+, the newest/);
    expect(readFileSync(join(folder, "d"), "utf8")).toBe("d".repeat(HELD));
    const told = historyIsWhole(cloche).map(({ kind }) => kind);
    for (const kind of ["folder.room", "folder.answered", "folder.refused"]) expect(told).toContain(kind);
  });
});
