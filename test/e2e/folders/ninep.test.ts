/**
 * The shared folder as a filesystem: what the guest's processes, and the guest and the host, see of each other's files, locks and
 * names. The first part is the folder as the task has it, with the real host on the other side. The second serves a directory of the
 * guest's own disk by the same share server within the guest: there the disk below can be looked at, fold case and be mounted otherwise.
 */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, renameSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Cloche, Steps } from "../../harness/index.ts";
import { changeTogether } from "./integrity.ts";
import { posixProperties } from "./posix.ts";
import { serveInGuest } from "./served-in-guest.ts";

const cloche = new Cloche();
const folder = cloche.folder("Work");
const reviewed = cloche.folder("Reviewed");
const at = (name: string) => join(folder, name);
const text = (name: string) => readFileSync(at(name), "latin1");
/** two processes of the guest, its root, and one of the host */
let a: Steps;
let b: Steps;
let root: Steps;
let host: Steps;

beforeAll(async () => {
  await cloche.ok(["new", "ninep", "--share", `${folder}:rw`, "--share", `${reviewed}:review`]);
  await cloche.ok(["start", "ninep"]);
  await cloche.ok(["cp", cloche.components.shareServer, "ninep:/home/you/cloche-share"]);
  a = Steps.inGuest(cloche, "ninep");
  b = Steps.inGuest(cloche, "ninep");
  root = Steps.inGuest(cloche, "ninep", "root");
  host = Steps.onHost(folder);
  for (const steps of [a, b, root]) await steps.do(`os.chdir("/home/you/Work")`);
});
afterAll(async () => {
  for (const steps of [a, b, root, host]) steps?.end();
  expect(cloche.guestComplaints()).toEqual([]);
  await cloche.end();
});

describe("the folder of the task", () => {
  it("is mounted with the options that the matrix chose", async () => {
    // the last one: below it lies what cannot be written
    const options = await a.do<string>(`result = [l.split()[3] for l in open("/proc/mounts") if l.split()[1] == "/home/you/Work"][-1]`);
    // cache=mmap is printed as its bits: files and write-back
    for (const option of ["cache=0x5", "access=any", "msize=524288", "nosuid", "nodev"]) expect(options.split(",")).toContain(option);
  });

  it("a database in WAL mode takes writes of two processes at once, and is whole on the host", async () => {
    await a.do(`c = sqlite3.connect("wal.db", timeout=60, isolation_level=None)
result = c.execute("pragma journal_mode=wal").fetchone()[0]; c.execute("create table t(w, n)")`);
    const write = `c = sqlite3.connect("wal.db", timeout=60, isolation_level=None)
for n in range(100): c.execute("insert into t values(?, ?)", (os.getpid(), n))
result = c.execute("pragma journal_mode").fetchone()[0]`;
    expect(await Promise.all([a.do(write), b.do(write)])).toEqual(["wal", "wal"]);
    for (const steps of [a, b]) await steps.do("c.close()");
    const counted = `c = sqlite3.connect("wal.db"); result = [c.execute("select count(*) from t").fetchone()[0], c.execute("pragma integrity_check").fetchone()[0]]; c.close()`;
    expect(await host.do(counted)).toEqual([200, "ok"]);
  });

  it("a shared mapping is one for two processes, and is on the host when it is flushed", async () => {
    await a.do(`write("map", b"a" * 8192)`);
    for (const steps of [a, b]) await steps.do(`f = open("map", "r+b"); m = mmap.mmap(f.fileno(), 8192)`);
    await a.do(`m[5000:5004] = b"AAAA"`);
    await b.do(`m[0:4] = b"BBBB"`);
    expect(await b.do("result = m[5000:5004]")).toBe("AAAA");
    expect(await a.do(`result = read("map")[:4]`)).toBe("BBBB");
    await a.do(`write("map", b"WW", "r+b")`);
    expect(await b.do("result = m[0:4]")).toBe("WWBB");
    await b.do("m.flush()");
    expect(text("map").slice(0, 4)).toBe("WWBB");
    for (const steps of [a, b]) await steps.do("m.close(); f.close()");
    expect(text("map").slice(5000, 5004)).toBe("AAAA");
  });

  it("two hard links of one file are one mapping, and neither undoes what the other wrote", async () => {
    await a.do(`write("link1", b"a" * 8192); os.link("link1", "link2")`);
    await a.do(`f = open("link1", "r+b"); m = mmap.mmap(f.fileno(), 8192)`);
    await b.do(`f = open("link2", "r+b"); m = mmap.mmap(f.fileno(), 8192)`);
    await a.do(`m[5000:5004] = b"AAAA"`);
    expect(await b.do("result = m[5000:5004]")).toBe("AAAA");
    await b.do(`m[6000:6004] = b"BBBB"; m.close(); f.close()`);
    await a.do(`m[5010:5012] = b"CC"; m.close(); f.close()`);
    const written = text("link1");
    expect([written.slice(5000, 5004), written.slice(6000, 6004), written.slice(5010, 5012)]).toEqual(["AAAA", "BBBB", "CC"]);
  });

  it("the host cuts, extends and replaces a file that the guest has open: a read sees it at once and never waits, an open gets the new file", async () => {
    writeFileSync(at("edited"), "one one one");
    expect(await a.do(`f = open("edited", "rb", buffering=0); result = os.pread(f.fileno(), 100, 0)`)).toBe("one one one");
    writeFileSync(at("edited"), "two");
    expect(await a.do("result = os.pread(f.fileno(), 100, 0)")).toBe("two");
    expect(await a.do(`result = os.pread(f.fileno(), 100, 5)`)).toBe("");
    writeFileSync(at("edited"), "three three three three");
    expect(await a.do("result = os.pread(f.fileno(), 100, 0), os.fstat(f.fileno()).st_size")).toEqual(["three three three three", 23]);
    writeFileSync(at("edited.new"), "a new file");
    renameSync(at("edited.new"), at("edited"));
    expect(await a.do("result = os.pread(f.fileno(), 100, 0)")).toBe("three three three three");
    const seen = `result = read("edited"), os.stat("edited").st_size`;
    for (const steps of [a, b]) expect(await steps.do(seen)).toEqual(["a new file", 10]);
    await a.do("f.close()");
  });

  it("the guest and the host append to one file at once, and no line of either is lost", async () => {
    const append = (mark: string) => `f = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for n in range(200): os.write(f, b"${mark}" * 9 + b"\\n")
os.close(f)`;
    await Promise.all([a.do(append("a")), b.do(append("b")), host.do(append("h"))]);
    const lines = text("log").trimEnd().split("\n").sort();
    expect(lines).toEqual(["a", "b", "h"].flatMap((mark) => Array<string>(200).fill(mark.repeat(9))));
  });

  it("what the host changed is seen at the next open, also by a new mapping, and in a listing", async () => {
    writeFileSync(at("closed"), "1".repeat(8192));
    const mapped = `f = open("closed", "rb"); m = mmap.mmap(f.fileno(), 8192, prot=mmap.PROT_READ); result = m[:2]; m.close(); f.close()`;
    expect(await a.do(mapped)).toBe("11");
    writeFileSync(at("closed"), "2".repeat(8192));
    writeFileSync(at("closed-2"), "x");
    expect(await a.do(mapped)).toBe("22");
    expect(await a.do(`result = read("closed")[:2], "closed-2" in os.listdir(), os.path.exists("closed-2")`)).toEqual(["22", true, true]);
  });

  const lock = { flock: "fcntl.flock(f, fcntl.LOCK_EX", fcntl: "fcntl.lockf(f, fcntl.LOCK_EX" };
  for (const [kind, take] of Object.entries(lock)) {
    const drop = kind === "flock" ? "fcntl.flock(f, fcntl.LOCK_UN)" : "fcntl.lockf(f, fcntl.LOCK_UN)";
    it(`${kind}: who waits has the lock as soon as it is given back, guest and guest, guest and host`, async () => {
      writeFileSync(at("lock"), "x");
      for (const steps of [a, b, host]) await steps.do(`f = open("lock", "r+b")`);
      for (const [holder, waiter] of [
        [a, b],
        [host, a],
        [a, host],
      ] as const) {
        await holder.do(`${take})`);
        expect(await waiter.fails(`${take} | fcntl.LOCK_NB)`)).toMatch(/^EAGAIN|^EACCES/);
        const waiting = waiter.do(`${take}); result = time.monotonic()`);
        expect(await Promise.race([waiting, holder.do("time.sleep(0.3)")])).toBeNull();
        const began = performance.now();
        await holder.do(drop);
        await waiting;
        expect(performance.now() - began).toBeLessThan(900); // the client's own way would be to ask again after a second or more
        await waiter.do(drop);
      }
      for (const steps of [a, b, host]) await steps.do("f.close()");
    });
  }

  it("a signal ends the wait for a lock, and those that wait hold up nobody", async () => {
    writeFileSync(at("busy"), "x");
    await host.do(`f = open("busy", "r+b"); fcntl.flock(f, fcntl.LOCK_EX)`);
    expect(
      await a.do(
        `t = time.monotonic(); result = [subprocess.run(["flock", "-w", "1", "busy", "true"]).returncode, 0.9 < time.monotonic() - t < 10]`,
      ),
    ).toEqual([1, true]);
    await a.do(`waiting = [subprocess.Popen(["flock", "busy", "true"]) for n in range(20)]`);
    expect(await b.do(`t = time.monotonic(); write("beside", b"x"); result = read("beside"), time.monotonic() - t < 5`)).toEqual([
      "x",
      true,
    ]);
    await host.do("f.close()");
    expect(await a.do("result = sum(p.wait() for p in waiting)")).toBe(0);
  });

  it("owners: the guest's own is set, any other is accepted and ignored; the host's owner stays", async () => {
    writeFileSync(at("owned"), "x");
    const before = statSync(at("owned"));
    expect(
      await a.do(
        `os.chown("owned", 1000, 1000); os.chmod("owned", 0o640); s = os.stat("owned"); result = s.st_uid, s.st_gid, s.st_mode & 0o7777`,
      ),
    ).toEqual([1000, 1000, 0o640]);
    expect(await root.do(`os.chown("owned", 0, 12); s = os.stat("owned"); result = s.st_uid, s.st_gid`)).toEqual([1000, 1000]);
    const after = statSync(at("owned"));
    expect([after.uid, after.gid, after.mode & 0o777]).toEqual([before.uid, before.gid, 0o640]);
  });

  it("xattrs of the user's are kept on the host; others are refused", async () => {
    writeFileSync(at("attributed"), "x");
    await a.do(`os.setxattr("attributed", "user.note", b"\\x00binary\\xff")`);
    expect(await host.do(`result = os.getxattr("attributed", "user.note")`)).toBe("\0binaryÿ");
    expect(await a.do(`result = os.listxattr("attributed"), os.getxattr("attributed", "user.note")`)).toEqual([["user.note"], "\0binaryÿ"]);
    await a.do(`os.removexattr("attributed", "user.note")`);
    expect(await host.do(`result = os.listxattr("attributed")`)).toEqual([]);
    for (const name of ["trusted.x", "security.x"])
      expect(await root.fails(`os.setxattr("attributed", "${name}", b"x")`)).toMatch(/ENOTSUP|EPERM/);
  });

  it("files beyond 4 GiB, names of 255 bytes and names that are not UTF-8", async () => {
    await a.do(`f = open("big", "wb"); f.seek(5 << 30); f.write(b"end"); f.close()`);
    expect(statSync(at("big")).size).toBe(5 * 2 ** 30 + 3);
    truncateSync(at("big"), 4 * 2 ** 30 + 1);
    expect(
      await a.do(
        `f = open("big", "rb"); f.seek((4 << 30) - 1); result = len(f.read()), os.stat("big").st_size; f.close(); os.unlink("big")`,
      ),
    ).toEqual([2, 4 * 2 ** 30 + 1]);
    const long = "n".repeat(255);
    await a.do(`os.mkdir("names"); write("names/${long}", b"x"); write(b"names/\\xff\\xfe \\n\\x01", b"y")`);
    expect(await a.fails(`write("names/${long}n", b"x")`)).toBe("ENAMETOOLONG");
    expect(
      readdirSync(at("names"), { encoding: "buffer" })
        .map((name) => name.toString("latin1"))
        .sort(),
    ).toEqual([long, "ÿþ \n\x01"]);
    expect(await a.do(`result = sorted(os.listdir(b"names"))`)).toEqual([long, "ÿþ \n\x01"]);
  });

  it("a file is the same file after a rename, another mount and another start", async () => {
    await a.do(`write("same", b"x"); os.mkdir("there")`);
    const number = await a.do(`result = os.stat("same").st_ino`);
    expect(await a.do(`os.rename("same", "there/renamed"); result = os.stat("there/renamed").st_ino`)).toBe(number);
    expect(
      await a.do(
        `os.rename("there", "elsewhere"); result = os.stat("elsewhere/renamed").st_ino, [e.inode() for e in os.scandir("elsewhere")]`,
      ),
    ).toEqual([number, [number]]);
    for (const steps of [a, b, root]) await steps.do(`os.chdir("/")`);
    await cloche.ok(["folder", "set", "ninep", "Work:ro"]);
    await cloche.ok(["folder", "set", "ninep", "Work:rw"]);
    for (const steps of [a, b, root]) await steps.do(`os.chdir("/home/you/Work")`);
    expect(await a.do(`result = os.stat("elsewhere/renamed").st_ino`)).toBe(number);
  });

  it("F17: each side grows, cuts and replaces a file while the other reads it: what is read is always what was written", async () => {
    await changeTogether(a, host, 60);
    expect(await b.do(`result = hashlib.sha256(read("together")).hexdigest()`)).toBe(
      createHash("sha256")
        .update(readFileSync(at("together")))
        .digest("hex"),
    );
  });
});

describe("POSIX properties", () => {
  for (const [mode, directory] of [
    ["rw", "/home/you/Work"],
    ["review", "/home/you/Reviewed"],
  ] as const) {
    for (const { name, steps, links } of posixProperties) {
      if (mode === "review" && links) continue; // see below
      it(`${mode}: ${name}`, async () => {
        await a.do(`os.chdir("${directory}"); os.makedirs("posix/x", exist_ok=True); os.chdir("posix")`);
        await a.do(steps);
        await a.do(`os.chdir("${directory}"); shutil.rmtree("posix"); result = os.path.exists("posix"); os.chdir("/home/you/Work")`);
      });
    }
  }
  it("review has no hard links, and says so", async () => {
    await a.do(`os.chdir("/home/you/Reviewed"); write("one", b"x")`);
    expect(await a.fails(`os.link("one", "two")`)).toBe("EPERM");
    await a.do(`os.unlink("one"); os.chdir("/home/you/Work")`);
  });

  it("review left the folder of the host as it was", () => expect(readdirSync(reviewed)).toEqual([]));
});

describe("a directory of the guest's disk, served within the guest", () => {
  it("an fsync reaches the disk, and not before", async () => {
    await root.do(serveInGuest);
    await root.do(`disk("fsync", "mkfs.ext4 -q -O ^has_journal"); serve("fsync", "mmap")`);
    const onDisk = (mark: string) => root.do(`result = on_disk("fsync", b"${mark}")`);
    await root.do(`f = open("/mnt/fsync/file", "wb", buffering=0); f.write(b"mark-of-the-first-write")`);
    expect(await onDisk("mark-of-the-first-write")).toBe(false);
    await root.do("os.fsync(f.fileno())");
    expect(await onDisk("mark-of-the-first-write")).toBe(true);
    await root.do(
      `f.close(); f = open("/mnt/fsync/file", "r+b"); m = mmap.mmap(f.fileno(), 10); m[:] = b"mapped-one"; m.flush(); os.fsync(f.fileno())`,
    );
    expect(await onDisk("mapped-one")).toBe(true);
    await root.do(`m.close(); f.close(); end("fsync")`);
  });

  it("F06: on a disk that folds case a name is exactly what stands there, and no other spelling reads, changes or removes it", async () => {
    await root.do(`disk("fold", "mkfs.ext4 -q -O casefold -E encoding=utf8")
os.mkdir("/fold/d"); subprocess.run(["chattr", "+F", "/fold/d"], check=True); write("/fold/d/readme", b"keep"); os.mkdir("/fold/d/Sub"); write("/fold/d/caf\\u00e9", b"composed")
assert read("/fold/d/README") == b"keep", "the disk does not fold case"
serve("fold", "mmap"); os.chdir("/mnt/fold/d")`);
    for (const attempt of [
      `read("README")`,
      `os.stat("ReadMe")`,
      `os.unlink("README")`,
      `os.rename("README", "x")`,
      `os.truncate("README", 0)`,
      `os.listdir("sub")`,
      `os.rmdir("SUB")`,
      `read("cafe\\u0301")`,
    ])
      expect(await root.fails(attempt), attempt).toBe("ENOENT");
    for (const attempt of [
      `write("README", b"lost")`,
      `os.mkdir("README")`,
      `os.symlink("x", "README")`,
      `write("other", b"x"); os.rename("other", "README")`,
      `os.link("other", "READme")`,
      `os.mkdir("SUB")`,
    ])
      expect(await root.fails(attempt), attempt).toBe("EEXIST");
    expect(await root.do(`result = read("readme"), sorted(os.listdir("."))`)).toEqual(["keep", ["Sub", "caf\u00e9", "other", "readme"]]);
    // renaming to another spelling is how its owner changes it
    await root.do(`os.rename("readme", "README"); os.rename("Sub", "sub"); write("sub/in", b"x")`);
    expect(await root.do(`result = sorted(os.listdir("/fold/d")), read("README"), read("sub/in")`)).toEqual([
      ["README", "caf\u00e9", "other", "sub"],
      "keep",
      "x",
    ]);
    expect(await root.fails(`read("readme")`)).toBe("ENOENT");
    await root.do(`os.chdir("/"); end("fold")`);
  });

  for (const [cache, expected] of Object.entries({
    mmap: {
      wal: "wal ok",
      shared: "AAAA",
      links: "AAAA",
      open: "two",
      mapped: "1111",
      reopened: "2222",
      replaced: "new",
      flock: "EAGAIN",
      fcntl: "EAGAIN",
      append: "123",
    },
    none: {
      wal: "disk I/O error",
      shared: "EINVAL",
      links: "EINVAL",
      open: "two",
      mapped: "1111",
      reopened: "2222",
      replaced: "new",
      flock: "EAGAIN",
      fcntl: "EAGAIN",
      append: "123",
    },
  })) {
    it(`matrix: cache=${cache}`, async () => {
      await root.do(serveInGuest);
      await root.do(`disk("m", "mkfs.ext4 -q"); serve("m", "${cache}"); os.chdir("/mnt/m")`);
      const found: Record<string, unknown> = {};
      const shared = `f = open("%", "r+b"); m = mmap.mmap(f.fileno(), 4096)`;
      found.wal = await root.do(`
try:
  c = sqlite3.connect("w.db", isolation_level=None); c.execute("pragma journal_mode=wal"); c.execute("create table t(n)"); d = sqlite3.connect("w.db"); d.execute("insert into t values(1)"); d.commit()
  d.close(); result = c.execute("pragma journal_mode").fetchone()[0] + " " + c.execute("pragma integrity_check").fetchone()[0]
except sqlite3.OperationalError as e: result = str(e)[:14]
c.close()`);
      await root.do(`write("one", b"a" * 4096); os.link("one", "two")
def shared(name):
    f = open(name, "r+b")
    try: return mmap.mmap(f.fileno(), 4096)
    except OSError as e: return errno.errorcode[e.errno]
def seen(x, y):
    if isinstance(x, str): return x
    x[:4] = b"AAAA"; found = y[:4]; x.close(); y.close(); return found`);
      found.shared = await root.do(`result = seen(shared("one"), shared("one"))`);
      found.links = await root.do(`result = seen(shared("one"), shared("two"))`);
      expect(shared).toContain("mmap");
      found.open = await root.do(
        `write("/m/e", b"one one"); f = open("e", "rb", buffering=0); f.read(); write("/m/e", b"two"); result = os.pread(f.fileno(), 9, 0); f.close()`,
      );
      const map = `f = open("p", "rb"); m = mmap.mmap(f.fileno(), 4096, prot=mmap.PROT_READ)`;
      found.mapped = await root.do(
        `write("/m/p", b"1" * 4096); ${map}; m[0]; write("/m/p", b"2" * 4096, "r+b"); result = m[:4]; m.close(); f.close()`,
      );
      found.reopened = await root.do(`${map}; result = m[:4]; m.close(); f.close()`);
      found.replaced = await root.do(
        `write("/m/r", b"old"); f = open("r", "rb"); f.read(); write("/m/r2", b"new"); os.rename("/m/r2", "/m/r"); result = read("r"); f.close()`,
      );
      for (const [kind, lock] of [
        ["flock", "flock"],
        ["fcntl", "lockf"],
      ] as const)
        found[kind] = await root.do(`write("/m/l", b"x"); f = open("l", "r+b"); g = open("/m/l", "r+b"); fcntl.${lock}(f, fcntl.LOCK_EX)
result = refused(lambda: fcntl.${lock}(g, fcntl.LOCK_EX | fcntl.LOCK_NB)); f.close(); fcntl.${lock}(g, fcntl.LOCK_EX | fcntl.LOCK_NB); g.close()`);
      found.append =
        await root.do(`f = os.open("x", os.O_WRONLY | os.O_CREAT | os.O_APPEND); os.write(f, b"1"); write("/m/x", b"2", "ab"); os.write(f, b"3"); os.close(f)
result = read("/m/x")`);
      await root.do(`os.chdir("/"); end("m")`);
      expect(found).toEqual(expected);
    });
  }
});
