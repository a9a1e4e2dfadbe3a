/**
 * F14, F15, F16, P01, C06: what happens to a folder between its pick and its first use. Overlaps, sensitive places and swaps are refused;
 * a filesystem that stands still holds nobody up; and nothing in a folder is read before its user has agreed, which a trace of every
 * process of ours shows, with the same trace of a run as its control.
 */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { refusedWith, until } from "../e2e/faults/support.ts";
import { Cloche } from "../harness/index.ts";

const cloche = new Cloche();
const at = (name: string) => join(cloche.directory, name);
const noTask = async () => expect((await cloche.json<{ tasks: unknown[] }>(["ls"])).tasks).toEqual([]);

afterAll(() => cloche.end());

describe("nothing in a folder is read before its user has agreed (P01)", () => {
  const BAIT = [".git/hooks/post-checkout", ".git/config", ".mcp.json", "package.json", ".envrc", ".vscode/tasks.json", "any.bait"];
  let folder: string;
  beforeAll(() => {
    folder = cloche.folder("bait");
    for (const name of BAIT) {
      mkdirSync(join(folder, name, ".."), { recursive: true });
      writeFileSync(join(folder, name), "#!/bin/sh\nexit 1\n", { mode: 0o755 });
    }
  });
  /** Runs a command under strace with everything that it starts, the keeper and its programs included; answers with every line. */
  async function traced(args: readonly string[]): Promise<string> {
    await until("no keeper", () => !existsSync(join(cloche.runtime, "keeper.lock")), 15_000);
    const log = at("trace");
    const command = [cloche.components.node, cloche.components.app.cli, ...args];
    // -y: a descriptor with its path, so that a name that is looked up from the folder's own is known as one in it
    const tracer = spawn("/usr/bin/strace", ["-f", "-y", "-v", "-s", "4096", "-e", "trace=%file,%desc", "-o", log, ...command], {
      env: { ...cloche.env },
      stdio: "ignore",
    });
    await new Promise((resolve) => tracer.once("exit", resolve)); // with the last of them, which is the keeper when it is idle
    return readFileSync(log, "utf8");
  }

  /** Lines in which a name in the folder is looked up, by its path, from the folder's descriptor, or by a process with a root of its own. */
  const looksInside = (trace: string) => {
    const fromFolder = new RegExp(`<${folder}>, "(?!\\."|")|getdents\\w*\\(\\d+<${folder}>`);
    const names = BAIT.map((name) => `"${name.split("/")[0]}"`);
    return trace
      .split("\n")
      .filter((line) => line.includes(`${folder}/`) || fromFolder.test(line) || names.some((name) => line.includes(name)));
  };

  it("picking it and making a task touch no name in it; a start does, and the same trace shows it", async () => {
    if (!existsSync("/usr/bin/strace")) throw new Error("strace is not installed: it is one of the packages of `npm test`");
    const before = await traced(["new", "bait", "--share", `${folder}:ro`]);
    expect(before, "the pick itself is seen").toContain(folder);
    expect(looksInside(before)).toEqual([]);
    expect(looksInside(await traced(["exec", "bait", "--", "true"])), "refused: it does not run").toEqual([]);
    await cloche.ok(["start", "bait"]);
    expect((await cloche.ok(["exec", "bait", "--", "sh", "-c", "find . -type f | wc -l"])).stdout.trim()).toBe(String(BAIT.length));
    const control = at("control");
    const server = cloche.hostState().processes.filter((line) => line.includes("cloche-share"));
    expect(server.length, "its share server runs").toBeGreaterThan(0);
    const tracer = spawn("/usr/bin/strace", [
      "-f",
      "-y",
      "-v",
      "-s",
      "4096",
      "-o",
      control,
      ...server.flatMap((line) => ["-p", String(Number.parseInt(line, 10))]),
    ]);
    await until("the tracer", () => tracer.pid !== undefined && existsSync(control));
    await until("the share server's reads in the trace", async () => {
      await cloche.ok(["exec", "bait", "--", "sh", "-c", "cat package.json any.bait; sudo sh -c 'echo 3 > /proc/sys/vm/drop_caches'"]);
      const trace = readFileSync(control, "utf8");
      return ["package.json", "any.bait"].every((name) => trace.includes(name)) && looksInside(trace).length > 0;
    });
    tracer.kill("SIGTERM");
    await cloche.ok(["stop", "bait"]);
    await cloche.ok(["rm", "bait"]);
  });
});

describe("what is never given (F14, F15, C06)", () => {
  it.each([".ssh", ".gnupg", ".aws", ".config/gcloud", ".mozilla/firefox", ".local/share/keyrings", ".password-store"])(
    "%s",
    async (name) => {
      mkdirSync(at(name), { recursive: true });
      for (const mode of ["ro", "rw"])
        refusedWith(await cloche.run(["run", "--share", `${at(name)}:${mode}`, "--", "true"]), "share.sensitive");
      await noTask();
    },
  );

  it("the home folder, what holds it, the root, the system, Cloche's data; a folder beside them is given", async () => {
    for (const path of [cloche.directory, "/tmp", "/", "/etc", "/proc/self", cloche.home, join(cloche.home, "tasks"), cloche.runtime])
      refusedWith(await cloche.run(["new", "--share", `${path}:ro`]), "share.sensitive");
    await noTask();
    await cloche.ok(["new", "plain", "--share", `${cloche.folder("plain")}:ro`]);
    await cloche.ok(["rm", "plain"]);
  });

  it("a key folder by any other way to it: a link, a link above it, a name of its own", async () => {
    mkdirSync(at(".ssh"), { recursive: true });
    mkdirSync(at("way"), { recursive: true });
    symlinkSync(at(".ssh"), at("way/here"));
    symlinkSync(cloche.directory, at("way/home"));
    for (const path of [at("way/here"), at("way/home/.ssh"), at("way/home")])
      refusedWith(await cloche.run(["new", "--share", `${path}:ro`]), "share.sensitive");
    if (process.getuid?.() === 0) {
      mkdirSync(at("bound"), { recursive: true });
      execFileSync("mount", ["--bind", at(".ssh"), at("bound")]);
      try {
        refusedWith(await cloche.run(["new", "--share", `${at("bound")}:ro`]), "share.sensitive");
      } finally {
        execFileSync("umount", [at("bound")]);
      }
    } else console.warn("IGNORED: only root can mount the key folder at another place");
    await noTask();
  });

  it("folders that lie in each other and have different modes, in both orders and through a link", async () => {
    mkdirSync(at("outer/inner"), { recursive: true });
    symlinkSync(at("outer/inner"), at("aside"));
    for (const inner of [at("outer/inner"), at("aside")]) {
      for (const shares of [
        [`${at("outer")}:rw`, `${inner}:ro`],
        [`${inner}:rw`, `${at("outer")}:ro`],
      ]) {
        refusedWith(await cloche.run(["new", ...shares.flatMap((share) => ["--share", share])]), "share.overlap");
      }
    }
    await noTask();
    await cloche.ok(["new", "nested", "--share", `${at("outer")}:ro`, "--share", `${at("outer/inner")}:ro`]);
    await cloche.ok(["rm", "nested"]);
  });

  it("a folder that was swapped for a link, itself or above it, between its pick and the start", async () => {
    mkdirSync(at("deep/picked"), { recursive: true });
    await cloche.ok(["new", "swap", "--share", `${at("deep/picked")}:rw`]);
    mkdirSync(at(".ssh"), { recursive: true });
    renameSync(at("deep/picked"), at("deep/kept"));
    symlinkSync(at(".ssh"), at("deep/picked"));
    refusedWith(await cloche.run(["start", "swap"]), "share.moved");
    rmSync(at("deep/picked"));
    renameSync(at("deep/kept"), at("deep/picked"));
    renameSync(at("deep"), at("elsewhere"));
    symlinkSync(at("elsewhere"), at("deep"));
    refusedWith(await cloche.run(["start", "swap"]), "share.moved");
    await cloche.ok(["rm", "swap"]);
  });
});

describe("a filesystem that stands still (F16)", () => {
  it("is told of within seconds, and the keeper answers others meanwhile", async () => {
    if (process.getuid?.() !== 0 || !existsSync("/dev/fuse"))
      return console.warn("IGNORED: mounting a FUSE filesystem needs root and /dev/fuse");
    const drive = cloche.folder("drive");
    // nobody reads the requests of this one: every look at it waits until its end
    const mount = `exec 3<>/dev/fuse; mount -i -t fuse.rclone -o fd=3,rootmode=40000,user_id=0,group_id=0 remote ${drive} && echo mounted; exec sleep 120`;
    const holder = spawn("/bin/bash", ["-c", mount], { stdio: ["ignore", "pipe", "inherit"] });
    try {
      await new Promise((resolve) => holder.stdout.once("data", resolve));
      const began = performance.now();
      const silent = (n: number) => cloche.run(["new", "--share", `${join(drive, `photos${n}`)}:ro`]);
      // more than a process has threads by itself
      const picking = Array.from({ length: 6 }, (_, n) => silent(n));
      await cloche.ok(["ls"]);
      await cloche.ok(["new", "other", "--share", `${cloche.folder("answers")}:ro`]);
      expect(performance.now() - began).toBeLessThan(9_000);
      for (const ended of await Promise.all(picking)) expect(refusedWith(ended, "share.unreadable").stderr).toContain("does not answer");
      // the same places once more: nobody waits, and others are given as before
      const again = performance.now();
      refusedWith(await silent(0), "share.unreadable");
      await cloche.ok(["folder", "add", "other", `${cloche.folder("answers-too")}:ro`]);
      expect(performance.now() - again).toBeLessThan(9_000);
      await cloche.ok(["rm", "other"]);
      await noTask();
    } finally {
      holder.kill("SIGKILL");
      execFileSync("umount", ["-l", drive]);
    }
  });
});
