/**
 * What a hostile guest can do to a folder of the host's and to what lies beside it. Each row is tried by the guest's user and by
 * guest root through the guest's kernel, and by guest root in the kernel's place, speaking 9P itself. The verdict is the host's:
 * what lies outside of the folder is the same to the nanosecond.
 */
import { execFileSync } from "node:child_process";
import { chmodSync, lstatSync, mkdirSync, readdirSync, readFileSync, statfsSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { until } from "../e2e/faults/support.ts";
import { Cloche } from "../harness/index.ts";
import { allRefused, fingerprint, inGuest, type Outcome, probe, sharePorts, WHO } from "./folders-support.ts";

const cloche = new Cloche();
const work = cloche.folder("work");
const look = cloche.folder("look");
const outside = cloche.folder("outside");
const CANARY = "what the guest must not read";
const folders = probe("folders.py");
const hostRoot = process.getuid?.() === 0;
// picked out of the middle of what git obeys
const hooks = join(cloche.folder("project"), ".git", "hooks");
// on a disk of its own, whose root is never given
const smallDisk = cloche.folder("small-disk");
const small = join(smallDisk, "small");
let listening: Server;
let mounted = false;
let before: string[];
let readOnlyBefore: string[];

const sameOutside = () => expect(fingerprint(outside)).toEqual(before);
const sameReadOnly = () => expect(fingerprint(look)).toEqual(readOnlyBefore);

beforeAll(async () => {
  writeFileSync(join(outside, "canary"), CANARY);
  mkdirSync(join(outside, "dir"));
  writeFileSync(join(work, "marker-rw"), "");
  writeFileSync(join(work, "inside"), "inside");
  mkdirSync(join(work, "dir"));
  writeFileSync(join(work, "dir", "inside"), "inside");
  symlinkSync(join(outside, "canary"), join(work, "absolute"));
  symlinkSync("../outside/canary", join(work, "relative"));
  symlinkSync("absolute", join(work, "chained"));
  symlinkSync("dir/../../outside/canary", join(work, "by-parent"));
  symlinkSync(outside, join(work, "directory"));
  symlinkSync("/proc/self/root", join(work, "proc"));
  // F23: what lies in a folder and is no file
  execFileSync("mkfifo", [join(work, "pipe")]);
  listening = createServer().listen(join(work, "socket"));
  mkdirSync(join(work, "mounted"));
  if (hostRoot) {
    execFileSync("mknod", [join(work, "device"), "c", "1", "5"]); // reading it would never end
    execFileSync("mount", ["-t", "tmpfs", "tmpfs", join(work, "mounted")]);
    mounted = true;
    writeFileSync(join(work, "mounted", "secret"), CANARY);
    chmodSync(join(work, "device"), 0o666);
  } else {
    process.stderr.write("IGNORED: a device and a mount in the folder (F23) need a host test run as root\n");
  }
  writeFileSync(join(look, "marker-ro"), "");
  writeFileSync(join(look, "kept"), "kept by the host");
  before = fingerprint(outside);
  readOnlyBefore = fingerprint(look);
  mkdirSync(hooks, { recursive: true });
  if (hostRoot) execFileSync("mount", ["-t", "tmpfs", "-o", "size=64m,mode=0777", "tmpfs", smallDisk]);
  mkdirSync(small);
  chmodSync(small, 0o777);
  const shares = [`${work}:rw`, `${look}:ro`, `${hooks}:rw`, `${small}:rw`].flatMap((share) => ["--share", share]);
  await cloche.ok(["new", "hostile", ...shares]);
  await cloche.ok(["start", "hostile"]);
});
afterAll(async () => {
  listening?.close();
  if (mounted) execFileSync("umount", [join(work, "mounted")]);
  if (hostRoot) execFileSync("umount", ["-l", smallDisk]);
  await cloche.end();
});

describe.each(WHO)("as guest %s, through the guest's kernel", (who) => {
  it("F01, F02, F04: links in the folder lead to nothing on the host, neither to read nor to write, nor to make folders below", async () => {
    const done = await inGuest<Record<string, Record<string, Outcome>>>(cloche, "hostile", who, folders, "links", outside);
    allRefused(done.read, "ENOENT");
    expect(done["canary by its own path"]).toBe("ENOENT");
    expect(done.up).toBe("ENOENT");
    // A link is resolved in the guest: what is written through it lies on the guest's own disk.
    expect(JSON.stringify(done)).not.toContain(CANARY);
    expect(done.control).toEqual(["ok", "inside"]);
    sameOutside();
  });

  it("F03: a directory that changes places with a link all the time opens no way out", async () => {
    const done = await inGuest<{ swaps: number; opened: number; missed: number }>(cloche, "hostile", who, folders, "race", outside, "10");
    expect(done.swaps, "the race raced").toBeGreaterThan(20);
    expect(done.opened).toBeGreaterThan(20);
    expect(done.missed).toBeGreaterThan(20);
    sameOutside();
    // F20: the guest's own link changed places all the time, and is none of the folder's
    const links = readdirSync(work).filter((name) => lstatSync(join(work, name)).isSymbolicLink());
    expect(links.sort()).toEqual(["absolute", "by-parent", "chained", "directory", "proc", "relative"]);
    for (const name of ["swap", "swap-dir", "swap-link"]) execFileSync("rm", ["-rf", join(work, name)]);
  });

  it("F12: no device, FIFO, socket, set-id bit, foreign owner or capability comes to the host", async () => {
    const done = await inGuest<Record<string, Outcome>>(cloche, "hostile", who, folders, "kinds");
    const { file, owner, "set-id": setId, ...refused } = done;
    expect(file).toBe("ok");
    allRefused(refused, "EPERM", "ENOTSUP", "EACCES", "EINVAL");
    expect([setId, owner], "accepted, and ignored").toBeDefined();
    const made = readdirSync(work).filter((name) => /^k[0-9]+-/.test(name));
    expect(made).toHaveLength(who === "user" ? 1 : 2);
    for (const name of made) {
      const found = lstatSync(join(work, name));
      expect([found.isFile(), (found.mode & 0o7000).toString(8), found.uid]).toEqual([true, "0", statSync(work).uid]);
    }
  });

  it("F09: the machine has these folders and no other export of the host's", async () => {
    const done = await inGuest<{ virtio: number[]; tags: string[]; mounts: string[]; work: string[] }>(
      cloche,
      "hostile",
      who,
      folders,
      "exports",
    );
    const [P9, FS, NET] = [9, 26, 1];
    expect(done.virtio.length, "the list is one of devices").toBeGreaterThan(1);
    for (const kind of [P9, FS, NET]) expect(done.virtio).not.toContain(kind);
    expect(done.tags).toEqual([]);
    expect(done.mounts).toEqual(["/home/you/hooks", "/home/you/look", "/home/you/small", "/home/you/work"]);
    expect(done.work).toEqual(expect.arrayContaining(["marker-rw", "inside"]));
    expect(done.work).not.toContain("canary");
  });

  it("F10: in a folder that itself lies where the host obeys, nothing is written through; the guest has it", async () => {
    const done = await inGuest<Record<string, Outcome>>(cloche, "hostile", who, folders, "in_hooks");
    expect(done).toEqual({ create: "ok", replace: "ok", read: ["ok", "replaced"] });
    expect(readdirSync(hooks)).toEqual([]);
  });

  it.skipIf(!hostRoot)(
    "F13: a guest that writes until it may no more leaves the host its reserve of the folder's disk, and `show` says why",
    async () => {
      const done = await inGuest<Record<string, Outcome>>(cloche, "hostile", who, folders, "fill");
      expect(done).toEqual({ flood: "ENOSPC", small: "ENOSPC", overwrite: "ok" });
      const { bavail, bsize } = statfsSync(small);
      expect(bavail * bsize, "a twentieth of 64 MiB").toBeGreaterThan(3_000_000);
      const refused = async () => (await cloche.task("hostile")).shares.find(({ name }) => name === "small")?.refused;
      expect((await until("the reason", refused)).problem.code).toBe("share.changes-full");
      expect(await inGuest(cloche, "hostile", who, folders, "unfill")).toEqual({ unlink: "ok", write: "ok" });
    },
  );

  it("F23: FIFOs, sockets, devices and mounts that lie in the folder are not opened, and nothing waits for them", async () => {
    const done = await inGuest<Record<string, Outcome>>(cloche, "hostile", who, folders, "kinds_there");
    const { control, ...refused } = done;
    allRefused(refused, "ENXIO", "EACCES", "ENOENT", "EPERM");
    expect(control).toEqual(["ok", "inside"]);
  });
});

describe("F07: a read-only folder", () => {
  it.each(WHO)("stays as it was whatever guest %s remounts, binds and writes", async (who) => {
    const done = await inGuest<Record<string, Record<string, Outcome>>>(cloche, "hostile", who, folders, "read_only");
    // only root can bind it to a second place
    for (const place of who === "root" ? ["/home/you/look", "/tmp/second"] : ["/home/you/look"]) {
      const { read, ...writes } = done[place] ?? {};
      expect(Object.keys(writes)).toHaveLength(13);
      allRefused(writes, "EROFS", "EACCES", "EPERM", "ENOENT", "EXDEV");
      expect(read).toEqual(["ok", "kept by the host"]);
    }
    if (who === "root") expect(done.remount, "the attack took place: the guest's own flag is off").toBe("ok");
    sameReadOnly();
  });
});

describe("F21: an sftp server of guest root's that gives names and files nobody asked for", () => {
  const arrange = async (names: string[]) => {
    const setup = `
import base64, json, os, subprocess, sys
open("/tmp/sftp-server", "w").write(base64.b64decode(sys.argv[1]).decode()); os.chmod("/tmp/sftp-server", 0o755)
open("/tmp/hostile-names", "w").write(sys.argv[2])
target = "/usr/lib/openssh/sftp-server"
if open(target, "rb").read(2) != b"#!": subprocess.run(["mount", "--bind", "/tmp/sftp-server", target], check=True)
print("true")`;
    await inGuest(cloche, "hostile", "root", setup, Buffer.from(probe("sftp-server.py")).toString("base64"), JSON.stringify(names));
  };

  it.each([["../../outside/canary"], ["..\\outside"], ["/etc/passwd"], ["a/b"], ["", "x"], ["nul\0byte"]])(
    "the name %j ends the copy, and nothing of it is made",
    async (...names) => {
      await arrange(names);
      const target = cloche.folder(`copied-${Buffer.from(names.join()).toString("hex")}`);
      const ended = await cloche.run(["cp", "hostile:/tmp/folder", target]);
      expect([ended.status, ended.stderr]).toEqual([125, expect.stringContaining("[copy.failed]")]);
      expect(readdirSync(join(target, "folder"))).toEqual([]);
      // F18: the name is shown, and cannot drive the terminal
      expect(ended.stderr.replaceAll("\n", "")).not.toMatch(/\p{Cc}/u);
      sameOutside();
    },
  );

  it("control: plain names are copied, without set-id bits and without following a link that waits in the target", async () => {
    await arrange(["plain", "\u001b[31mred"]);
    const target = cloche.folder("copied");
    mkdirSync(join(target, "folder"));
    symlinkSync(join(outside, "canary"), join(target, "folder", "plain"));
    await cloche.ok(["cp", "hostile:/tmp/folder", target]);
    expect(readFileSync(join(target, "folder", "plain"), "utf8")).toBe("hostile");
    expect((lstatSync(join(target, "folder", "plain")).mode & 0o7000).toString(8)).toBe("0");
    sameOutside();
  });
});

// The last: it takes the folders off the guest.
describe("as guest root in the kernel's place, speaking 9P itself", () => {
  type Rows = Record<string, Outcome>;
  let done: Record<string, Rows>;
  const links = () => ({ ...done["links of the host"], ...done["links of the guest"] }) as unknown as Record<string, Rows>;
  beforeAll(async () => {
    const program = `${probe("ninep.py")}\nOUTSIDE = sys.argv.pop(1)\n${probe("hostile-kernel.py")}`;
    done = await inGuest<typeof done>(cloche, "hostile", "root", program, outside, ...sharePorts(cloche));
  });

  it("control: the same client reads and writes where it may, before and after", () => {
    expect(done.control).toEqual({ read: ["ok", "inside"], write: ["ok", 7], "still lists": true });
    expect(readFileSync(join(work, "written"), "utf8")).toBe("by hand");
    for (const name of ["absolute", "mine-absolute"]) expect(links()[name]?.text).toEqual(["ok", join(outside, "canary")]);
  });

  it("F01, F02, F04: a link is text and nothing else: not opened, written, truncated, walked or built upon", () => {
    expect(Object.keys(links())).toHaveLength(9);
    for (const [name, { text, ...rest }] of Object.entries(links())) {
      expect(text, name).toEqual(["ok", expect.any(String)]);
      allRefused(rest, "ELOOP", "ENOTDIR", "ENOENT", "ENOTSUP", "EINVAL", "EACCES", "EPERM", "ENODATA");
    }
    sameOutside();
  });

  it("F06: `..` ends at the folder, and what is no name of one component is refused", () => {
    expect(done.up).toEqual({
      "..": ["ok", true],
      "../../..": ["ok", true],
      "dir/../..": ["ok", true],
      "dir/../../outside": "ENOENT",
      "../outside/canary": "ENOENT",
    });
    allRefused(
      Object.fromEntries(Object.entries(done["not a name"] ?? {}).map(([name, outcomes]) => [name, { ...(outcomes as object) }])),
      "EINVAL",
      "ENAMETOOLONG",
      "ENOENT",
    );
    // What only another system takes for a path is a name like any other here, and lies where it was made.
    expect(new Set(Object.values(done.bytes ?? {}))).toEqual(new Set(["ok"]));
    expect(readdirSync(join(work, "tricks"), { encoding: "buffer" })).toHaveLength(Object.keys(done.bytes ?? {}).length);
    sameOutside();
  });

  it("F05, F20: a hard link names what lies in the folder, a link to outside gets no second name", () => {
    expect(done["hard links"]).toMatchObject({
      "of a file of the folder": "ok",
      "of a link to outside": "EPERM",
      "through that": "ENOENT",
    });
    expect(readdirSync(work).filter((name) => /^(second-link|mine-)/.test(name))).toEqual([]);
    expect(done["hard links"]?.["of a directory"]).toBe("EPERM");
    sameOutside();
  });

  it("F12: devices, FIFOs, sockets, set-id bits, owners, capabilities: the host sees none", () => {
    const { "set-id at create": create, "set-id by chmod": chmod, "sticky directory": sticky, owner, ...refused } = done.kinds ?? {};
    allRefused(refused, "EPERM", "ENOTSUP", "EACCES", "EINVAL");
    expect([create, chmod, sticky, owner]).toEqual(["ok", "ok", "ok", "ok"]);
    const made = lstatSync(join(work, "made-setid"));
    expect([(made.mode & 0o7000).toString(8), made.uid]).toEqual(["0", statSync(work).uid]);
    expect((lstatSync(join(work, "made-dir")).mode & 0o7000).toString(8)).toBe("0");
    expect(readdirSync(work).filter((name) => /^made-(block|char|fifo|socket)$/.test(name))).toEqual([]);
  });

  it("F23: nothing that lies there and is no file is opened; the server answers on", () => {
    const there = done["what lies there"] ?? {};
    expect(Object.keys(there)).toEqual(hostRoot ? ["pipe", "socket", "device", "mounted"] : ["pipe", "socket", "mounted"]);
    for (const [name, report] of Object.entries(there)) {
      if (name !== "mounted" || hostRoot) allRefused(report, "ENXIO", "EACCES", "EINVAL", "EPERM", "EEXIST", "EISDIR");
    }
    if (mounted) expect(readFileSync(join(work, "mounted", "secret"), "utf8")).toBe(CANARY);
  });

  it("F09: whatever tree is asked for, it is the folder", () => {
    for (const [name, seen] of Object.entries(done.attach ?? {})) expect([name, seen]).toEqual([name, ["marker-rw"]]);
    expect(Object.keys(done.attach ?? {})).toHaveLength(5);
  });

  it("F07: a read-only folder refuses each request that would change it", () => {
    const { read, ...refused } = done["read only"] ?? {};
    expect(read).toEqual(["ok", "kept by the host"]);
    expect(Object.keys(refused)).toHaveLength(15);
    allRefused(refused, "EROFS", "EBADF", "EPERM");
    sameReadOnly();
  });
});
