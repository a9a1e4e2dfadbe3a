/**
 * What a hostile guest can do to a folder of the host's and to what lies beside it. Each row is tried by the guest's user and by
 * guest root through the guest's kernel, and by guest root in the kernel's place, speaking 9P itself. The verdict is the host's:
 * what lies outside of the folder is the same to the nanosecond.
 */
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statfsSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { running, until } from "../e2e/faults/support.ts";
import { Cloche } from "../harness/index.ts";
import { allRefused, fingerprint, inGuest, type Outcome, probe, sharePorts, WHO } from "./folders-support.ts";

const cloche = new Cloche();
const work = cloche.folder("work");
const look = cloche.folder("look");
// as `work` in all, but that its changes wait
const asked = cloche.folder("asked");
const outside = cloche.folder("outside");
/** the other names, outside of the folders, of files that are in them */
const joined = cloche.folder("joined");
const CANARY = "what the guest must not read";
const folders = probe("folders.py");
const hostRoot = process.getuid?.() === 0;
// picked out of the middle of what git obeys
const hooks = join(cloche.folder("project"), ".git", "hooks");
// on a disk of its own, whose root is never given
const smallDisk = cloche.folder("small-disk");
const small = join(smallDisk, "small");
const listening: Server[] = [];
let mounted: string[] = [];
let before: string[];
let readOnlyBefore: string[];
let askedBefore: string[];

const sameOutside = () => expect(fingerprint(outside)).toEqual(before);
const sameReadOnly = () => expect(fingerprint(look)).toEqual(readOnlyBefore);
const sameAsked = () => expect(fingerprint(asked)).toEqual(askedBefore);

function prepare(folder: string, mode: string): void {
  writeFileSync(join(folder, `marker-${mode}`), "");
  writeFileSync(join(folder, "inside"), "inside");
  mkdirSync(join(folder, "dir"));
  writeFileSync(join(folder, "dir", "inside"), "inside");
  symlinkSync(join(outside, "canary"), join(folder, "absolute"));
  symlinkSync("../outside/canary", join(folder, "relative"));
  symlinkSync("absolute", join(folder, "chained"));
  symlinkSync("dir/../../outside/canary", join(folder, "by-parent"));
  symlinkSync(outside, join(folder, "directory"));
  symlinkSync("/proc/self/root", join(folder, "proc"));
  for (const who of WHO) {
    writeFileSync(join(joined, `${mode}-${who}`), CANARY);
    linkSync(join(joined, `${mode}-${who}`), join(folder, `joined-${who}`));
  }
  // F23: what lies in a folder and is no file
  execFileSync("mkfifo", [join(folder, "pipe")]);
  listening.push(createServer().listen(join(folder, "socket")));
  mkdirSync(join(folder, "mounted"));
  if (!hostRoot) return;
  execFileSync("mknod", [join(folder, "device"), "c", "1", "5"]); // reading it would never end
  execFileSync("mount", ["-t", "tmpfs", "tmpfs", join(folder, "mounted")]);
  mounted = [...mounted, join(folder, "mounted")];
  writeFileSync(join(folder, "mounted", "secret"), CANARY);
  chmodSync(join(folder, "device"), 0o666);
}

beforeAll(async () => {
  writeFileSync(join(outside, "canary"), CANARY);
  mkdirSync(join(outside, "dir"));
  for (const [folder, mode] of [
    [work, "rw"],
    [asked, "review"],
  ] as const)
    prepare(folder, mode);
  if (!hostRoot) process.stderr.write("IGNORED: a device and a mount in the folder (F23) need a host test run as root\n");
  writeFileSync(join(look, "marker-ro"), "");
  writeFileSync(join(look, "kept"), "kept by the host");
  before = fingerprint(outside);
  readOnlyBefore = fingerprint(look);
  askedBefore = fingerprint(asked);
  mkdirSync(hooks, { recursive: true });
  if (hostRoot) execFileSync("mount", ["-t", "tmpfs", "-o", "size=64m,mode=0777", "tmpfs", smallDisk]);
  mkdirSync(small);
  chmodSync(small, 0o777);
  const shares = [`${work}:rw`, `${look}:ro`, `${hooks}:rw`, `${small}:rw`, `${asked}:review`].flatMap((share) => ["--share", share]);
  await cloche.ok(["new", "hostile", ...shares]);
  await cloche.ok(["start", "hostile"]);
});
afterAll(async () => {
  for (const server of listening) server.close();
  for (const place of mounted) execFileSync("umount", [place]);
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

  it.each([
    ["rw", work, "work"],
    ["review", asked, "asked"],
  ])(
    "F05: in %s nothing from outside of the folder gets a name in it; what has one outside stays as it is, whatever is done by another name",
    async (mode, folder, name) => {
      const other = join(joined, `${mode}-${who}`);
      const { ino } = statSync(other);
      const read = readdirSync(folder);
      const done = await inGuest<Record<string, Record<string, Outcome>>>(cloche, "hostile", who, folders, "hard_link", name);
      expect(Object.keys(done.outside ?? {})).toHaveLength(who === "root" ? 14 : 12);
      allRefused(done.outside, "EXDEV", "EPERM", "ENOENT", "EROFS");
      const { link, copy, "further name": further, ...acts } = done.inside ?? {};
      expect(acts).toEqual({ write: "ok", chmod: "ok", xattr: "ok", truncate: "ok" });
      // control: a hard link within the folder is one in `rw`, and none in `review`, where programs copy instead
      expect([link, further, copy]).toEqual(mode === "rw" ? ["ok", "ok", "ok"] : ["EPERM", "EPERM", "ok"]);
      const tag = `hard-${who === "root" ? 0 : 1000}`;
      const now = readdirSync(folder).filter((entry) => !read.includes(entry));
      if (mode === "rw") {
        expect(now.sort()).toEqual([`${tag}-again`, `${tag}-copy`, `${tag}-inside`]);
        expect(statSync(join(folder, `${tag}-inside`)).ino).toBe(statSync(join(folder, "inside")).ino);
      } else {
        expect(now).toEqual([]);
        sameAsked();
      }
      const found = statSync(other);
      expect([found.ino, readFileSync(other, "utf8"), (found.mode & 0o777).toString(8)]).toEqual([ino, CANARY, "644"]);
      expect(execFileSync("python3", ["-c", "import os, sys; print(os.listxattr(sys.argv[1]))", other], { encoding: "utf8" })).toBe("[]\n");
      sameOutside();
      sameReadOnly();
    },
  );

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
    expect(done.mounts).toEqual(["/home/you/asked", "/home/you/hooks", "/home/you/look", "/home/you/small", "/home/you/work"]);
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
  let done: Record<"rw" | "review", Record<string, Rows>> & { "read only": Rows };
  let servers: string[];
  const restarts = async () => (await cloche.events("hostile")).filter(({ kind }) => kind === "folder.restarted").length;
  let restartsBefore: number;
  beforeAll(async () => {
    servers = running(cloche, "cloche-share");
    restartsBefore = await restarts();
    const program = `${probe("ninep.py")}\nOUTSIDE = sys.argv.pop(1)\n${probe("hostile-kernel.py")}`;
    done = await inGuest<typeof done>(cloche, "hostile", "root", program, outside, ...sharePorts(cloche));
  });

  describe.each([
    ["rw", work],
    ["review", asked],
  ] as const)("a folder shared %s", (mode, folder) => {
    const links = () => ({ ...done[mode]["links of the host"], ...done[mode]["links of the guest"] }) as unknown as Record<string, Rows>;

    it("control: the same client reads and writes where it may, before and after", () => {
      expect(done[mode].control).toEqual({
        read: ["ok", "inside"],
        write: ["ok", 7],
        "read again": ["ok", "by hand"],
        "still lists": true,
      });
      if (mode === "rw") expect(readFileSync(join(folder, "written"), "utf8")).toBe("by hand");
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
      expect(done[mode].up).toEqual({
        "..": ["ok", true],
        "../../..": ["ok", true],
        "dir/../..": ["ok", true],
        "dir/../../outside": "ENOENT",
        "../outside/canary": "ENOENT",
      });
      allRefused(
        Object.fromEntries(Object.entries(done[mode]["not a name"] ?? {}).map(([name, outcomes]) => [name, { ...(outcomes as object) }])),
        "EINVAL",
        "ENAMETOOLONG",
        "ENOENT",
      );
      // What only another system takes for a path is a name like any other here, and lies where it was made.
      expect(new Set(Object.values(done[mode].bytes ?? {}))).toEqual(new Set(["ok"]));
      if (mode === "rw")
        expect(readdirSync(join(folder, "tricks"), { encoding: "buffer" })).toHaveLength(Object.keys(done[mode].bytes ?? {}).length);
      sameOutside();
    });

    it("F05, F20: a hard link names what lies in the folder, a link to outside gets no second name", () => {
      expect(done[mode]["hard links"]).toEqual({
        "of a file of the folder": mode === "rw" ? "ok" : "EPERM",
        "of a link to outside": "EPERM",
        "through that": "ENOENT",
        "of a directory": "EPERM",
      });
      expect(readdirSync(folder).filter((name) => /^(second-link|mine-)/.test(name))).toEqual([]);
      sameOutside();
    });

    it("F12: devices, FIFOs, sockets, set-id bits, owners, capabilities: the host sees none", () => {
      const {
        "set-id at create": create,
        "set-id by chmod": chmod,
        "sticky directory": sticky,
        owner,
        ...refused
      } = done[mode].kinds ?? {};
      allRefused(refused, "EPERM", "ENOTSUP", "EACCES", "EINVAL");
      expect([create, chmod, sticky, owner]).toEqual(["ok", "ok", "ok", "ok"]);
      if (mode === "rw") {
        const made = lstatSync(join(folder, "made-setid"));
        expect([(made.mode & 0o7000).toString(8), made.uid]).toEqual(["0", statSync(folder).uid]);
        expect((lstatSync(join(folder, "made-dir")).mode & 0o7000).toString(8)).toBe("0");
      }
      expect(readdirSync(folder).filter((name) => /^made-(block|char|fifo|socket)$/.test(name))).toEqual([]);
    });

    it("F23: nothing that lies there and is no file is opened; the server answers on", () => {
      const there = done[mode]["what lies there"] ?? {};
      expect(Object.keys(there)).toEqual(hostRoot ? ["pipe", "socket", "device", "mounted"] : ["pipe", "socket", "mounted"]);
      for (const [name, report] of Object.entries(there)) {
        if (name !== "mounted" || hostRoot) allRefused(report, "ENXIO", "EACCES", "EINVAL", "EPERM", "EEXIST", "EISDIR");
      }
      if (hostRoot) expect(readFileSync(join(folder, "mounted", "secret"), "utf8")).toBe(CANARY);
    });

    it("F09: whatever tree is asked for, it is the folder; fids of one attach reach no further than those of another", () => {
      for (const [name, seen] of Object.entries(done[mode].attach ?? {})) expect([name, seen]).toEqual([name, [`marker-${mode}`]]);
      expect(Object.keys(done[mode].attach ?? {})).toHaveLength(5);
      const across = done[mode]["fids of another attach"] ?? {};
      expect(Object.keys(across)).toHaveLength(16);
      allRefused(across, "ENOENT", "EBADF", "ENOTDIR", "EINVAL", "EBUSY", "EXDEV", "EPERM", "ENOTSUP");
      expect(readdirSync(folder)).not.toContain("planted");
      sameOutside();
    });

    it("F02, F12: flags that no kernel sends open no link, and make a plain file or nothing", () => {
      const { create, ...onLinks } = (done[mode].flags ?? {}) as unknown as Record<string, Rows>;
      allRefused(onLinks, "ELOOP", "ENOTDIR", "ENOENT", "ENOTSUP", "EINVAL", "EACCES", "EPERM", "EEXIST", "EBADF");
      for (const [flags, rows] of Object.entries(onLinks)) expect([flags, Object.keys(rows).length]).toEqual([flags, 8]);
      for (const name of Object.keys(create ?? {})) {
        const made = lstatSync(join(folder, `strange-${name}`), { throwIfNoEntry: false });
        expect([name, made?.isFile() ?? true, (made?.mode ?? 0) & 0o7000]).toEqual([name, true, 0]);
      }
      sameOutside();
    });

    it("F12: attributes are the user's own kind alone, within their bounds, and none is a link's", () => {
      const { set, "too much": huge, kept, ...onLinks } = (done[mode].attributes ?? {}) as unknown as Record<string, Rows>;
      allRefused({ set, huge }, "ENOTSUP", "EINVAL", "ENAMETOOLONG", "ERANGE", "ENOSPC", "E2BIG", "EPERM");
      allRefused(onLinks, "EPERM", "ENOTSUP", "ENODATA", "EACCES", "ELOOP");
      expect(kept).toEqual(["ok", "x"]);
    });

    it("counts and offsets of any size give what there is, or an error", () => {
      const {
        "read all there is": read,
        "list all there is": list,
        "list from nowhere": beyond,
        "read at the end of numbers": end,
        ...refused
      } = done[mode].counts ?? {};
      allRefused(refused, "EINVAL", "EFBIG", "EOVERFLOW");
      expect(read).toEqual(["ok", 10]);
      expect(list).toEqual(["ok", expect.any(Number)]);
      for (const nothing of [beyond, end]) expect(JSON.stringify(nothing)).toMatch(/^(\["ok",0\]|"EINVAL"|"EOVERFLOW")$/);
    });

    it("L05: bytes that are no request end their connection at most: the next is served, by the same process", async () => {
      expect(Object.keys(done[mode].frames ?? {})).toHaveLength(12);
      allRefused(done[mode].frames, "the server hung up", "ECONNRESET", "EPIPE", "ENOTSUP", "EINVAL");
      expect(running(cloche, "cloche-share")).toEqual(servers);
      expect(await restarts()).toBe(restartsBefore);
    });
  });

  it("not a byte of a folder in review is another one, and nothing that was asked of it reached outside", () => {
    sameAsked();
    sameOutside();
  });

  it("F07: a read-only folder refuses each request that would change it", () => {
    const { read, ...refused } = done["read only"] ?? {};
    expect(read).toEqual(["ok", "kept by the host"]);
    expect(Object.keys(refused)).toHaveLength(15);
    allRefused(refused, "EROFS", "EBADF", "EPERM");
    sameReadOnly();
  });

  // The last of all: what waits is taken over.
  it("F20, F12: what it left in review is files, directories and links within the folder once it is applied, and is its own", async () => {
    const applied = await cloche.run(["apply", "hostile", "--all"]);
    expect(applied.stderr).toContain("share.link-escapes");
    expect(readFileSync(join(asked, "written"), "utf8")).toBe("by hand");
    const links = readdirSync(asked).filter((name) => lstatSync(join(asked, name)).isSymbolicLink());
    expect(links.sort()).toEqual(["absolute", "by-parent", "chained", "directory", "proc", "relative"]);
    for (const name of ["made-setid", "made-dir"]) expect([name, lstatSync(join(asked, name)).mode & 0o7000]).toEqual([name, 0]);
    for (const who of WHO) expect(readFileSync(join(joined, `review-${who}`), "utf8")).toBe(CANARY);
    sameOutside();
  });
});
