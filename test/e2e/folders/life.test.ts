/** A running task's folders come, change and go, and a folder whose process died is there again. The verdict is the host's. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Cloche } from "../../harness/index.ts";
import { historyIsWhole, noMachineLeft, pidOf, refusedWith, running, until } from "../faults/support.ts";

const cloche = new Cloche();
const first = cloche.folder("first");
const second = cloche.folder("second");
const inside = (script: string) => cloche.run(["exec", "life", "--", "sh", "-c", script]);

beforeAll(async () => {
  writeFileSync(join(first, "a"), "one\n");
  writeFileSync(join(second, "b"), "two\n");
  await cloche.ok(["new", "life", "--share", `${first}:rw`]);
  await cloche.ok(["start", "life"]);
});
afterAll(() => cloche.end());

it("a folder is added while the task runs, and the guest sees it and writes only as far as its mode allows", async () => {
  expect((await inside("cat ~/second/b")).status).not.toBe(0);
  await cloche.ok(["folder", "add", "life", `${second}:ro`]);
  expect((await inside("cat ~/second/b")).stdout).toBe("two\n");
  const refused = await inside("echo x > ~/second/new; sudo mount -o remount,rw ~/second; echo x > ~/second/new");
  expect(refused.stderr).toContain("Read-only file system");
  expect(existsSync(join(second, "new"))).toBe(false);
});

it("its mode is changed in place, with one event", async () => {
  await cloche.ok(["folder", "set", "life", "second:rw"]);
  expect((await inside("echo x > ~/second/new")).status).toBe(0);
  expect(readFileSync(join(second, "new"), "utf8")).toBe("x\n");
  await cloche.ok(["folder", "set", "life", "second:ro"]);
  expect((await inside("echo y > ~/second/new")).status).not.toBe(0);
  expect(readFileSync(join(second, "new"), "utf8")).toBe("x\n");
  const events = await cloche.events("life");
  expect(events.filter(({ kind }) => kind === "folder.changed").map(({ data }) => data.mode)).toEqual(["rw", "ro"]);
  expect((await cloche.task("life")).wall).toContain("read second");
});

it("what may not be given is refused, and nothing of it is left", async () => {
  const before = await cloche.task("life");
  const processes = running(cloche, "cloche-share").length;
  refusedWith(await cloche.run(["folder", "add", "life", `${cloche.home}:ro`]), "share.sensitive");
  refusedWith(await cloche.run(["folder", "add", "life", `${cloche.folder("second/inner")}:rw`]), "share.overlap");
  refusedWith(await cloche.run(["folder", "add", "life", `${first}:rw=/etc`]), "share.collision");
  refusedWith(await cloche.run(["folder", "set", "life", "nowhere:ro"]), "share.unknown");
  expect((await cloche.task("life")).shares).toEqual(before.shares);
  expect(running(cloche, "cloche-share")).toHaveLength(processes);
});

it("a folder whose process is killed is served again with one event; what was open answers EIO and the rest goes on", async () => {
  const going = cloche.start([
    "exec",
    "life",
    "--",
    "sh",
    "-c",
    "exec 3< ~/first/a; echo open; read wait; cat <&3; echo read $?; cat ~/first/a; echo again $?",
  ]);
  await going.saw("open");
  const pid = pidOf(cloche, "cloche-share");
  const killed = running(cloche, "cloche-share").length;
  process.kill(pid, "SIGKILL");
  await until("the restart", async () => (await cloche.events("life")).some(({ kind }) => kind === "folder.restarted"));
  await until("both folders' processes", () => running(cloche, "cloche-share").length >= killed);
  going.process.stdin.end("go\n");
  const { stdout, stderr } = await going.finished;
  expect(stderr).toContain("Input/output error");
  expect((await cloche.events("life")).filter(({ kind }) => kind === "folder.restarted")).toHaveLength(1);
  expect(stdout).toContain("again 0");
  expect((await cloche.task("life")).state.at).toBe("running");
  for (const name of ["first/a", "second/b"]) expect((await inside(`cat ~/${name}`)).status).toBe(0);
});

it("a folder is taken out while the task runs; the guest does not see it any more, also as root", async () => {
  const before = running(cloche, "cloche-share").length;
  await cloche.ok(["folder", "rm", "life", "second"]);
  expect((await inside("sudo cat /home/you/second/b")).status).not.toBe(0);
  expect((await inside("cat ~/first/a")).stdout).toBe("one\n");
  await until("its process's end", () => running(cloche, "cloche-share").length < before);
  expect((await cloche.task("life")).shares.map(({ name }) => name)).toEqual(["first"]);
});

it("what was changed holds for the next start, and nothing is left after it", async () => {
  await cloche.ok(["folder", "add", "life", `${second}:rw`]);
  await cloche.ok(["stop", "life"]);
  await noMachineLeft(cloche);
  await cloche.ok(["start", "life"]);
  expect((await inside("ls ~/second")).stdout).toContain("b");
  await cloche.ok(["stop", "life"]);
  historyIsWhole(cloche);
});
