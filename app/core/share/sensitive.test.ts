import { mkdirSync, mkdtempSync, realpathSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { refuseOverlaps } from "./grants.ts";
import { type Mount, mountOf, parseMounts, placeNotes } from "./places.ts";
import { knownPlaces, whySensitive } from "./sensitive.ts";

let root: string;
let home: string;
const at = (...parts: string[]) => {
  const path = join(root, ...parts);
  mkdirSync(path, { recursive: true });
  return path;
};
const why = (path: string, mounts: readonly Mount[] = []) =>
  whySensitive(
    Buffer.from(realpathSync(path)),
    knownPlaces({ data: [join(root, "data/cloche")], programs: [join(root, "lib/cloche")] }, [home]),
    mounts,
  );

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), "places-")));
  home = at("home/me");
  at("data/cloche/tasks");
  at("lib/cloche");
});
afterEach(() => rmSync(root, { recursive: true }));

describe("folders that are never given to a task", () => {
  it("the home folder, what holds it, and the system's", async () => {
    expect(await why(home)).toContain("your home folder");
    expect(await why(join(root, "home"))).toContain("it contains your home folder");
    for (const path of ["/", "/etc", "/proc/self", "/usr", "/tmp", "/dev"]) expect(await why(path)).toBeDefined();
  });

  it.each([
    ".ssh",
    ".gnupg/private-keys-v1.d",
    ".aws",
    ".kube/cache",
    ".config/gcloud",
    ".config",
    ".mozilla/firefox",
    ".config/google-chrome/Default",
    ".local/share/keyrings",
    ".local/share",
    ".password-store",
    "Library/Keychains",
    "Library",
  ])("%s", async (path) => {
    expect(await why(at("home/me", path))).toBeDefined();
  });

  it("Cloche's own data and programs, what lies in them and what holds them", async () => {
    for (const path of ["data/cloche", "data/cloche/tasks", "data", "lib/cloche", "lib"])
      expect(await why(join(root, path))).toContain("Cloche");
  });

  it("an ordinary folder may be given, also beside them and with a name like theirs", async () => {
    for (const path of ["home/me/Receipts", "home/me/.config/my-notes", "home/me/work/.ssh", "home/me/.local/share/notes", "data/else"])
      expect(await why(at(path))).toBeUndefined();
  });

  it("a key folder that is a link is refused where it leads, and so is what holds that", async () => {
    symlinkSync(at("disk/keys"), join(home, ".ssh"));
    expect(await why(join(home, ".ssh"))).toContain("keys");
    expect(await why(join(root, "disk/keys"))).toContain("keys");
    expect(await why(join(root, "disk"))).toContain("it contains keys");
    expect(await why(at("disk2"))).toBeUndefined();
  });

  it("a place is known by what it is, not by how it is spelled", async () => {
    symlinkSync(at("home/me/.aws"), join(home, "harmless"));
    expect(await why(join(home, "harmless"))).toContain("keys");
    const folder = at("home/me/moved");
    expect(await why(folder)).toBeUndefined();
    rmSync(join(home, ".aws"), { recursive: true });
    renameSync(folder, join(home, ".aws"));
    expect(await why(join(home, ".aws"))).toContain("keys");
  });

  it("one that is gone is not taken for the folder above it", async () => {
    const places = knownPlaces({ data: [], programs: [] }, [home]);
    expect(await whySensitive(Buffer.from(join(home, "gone")), places, [])).toBeUndefined();
  });

  it("a drive's root; a folder on it may be given, and so may a mount of a part or of another computer's", async () => {
    const path = at("media/stick");
    const mount = (type: string, part = "/"): Mount[] => [
      { point: Buffer.from("/"), root: "/", type: "ext4" },
      { point: Buffer.from(path), root: part, type },
    ];
    expect(await why(path, mount("vfat"))).toContain("root of a drive");
    expect(await why(at("media/stick/photos"), mount("vfat"))).toBeUndefined();
    expect(await why(path, mount("ext4", "/home/me/part"))).toBeUndefined();
    expect(await why(path, mount("fuse.sshfs"))).toBeUndefined();
  });
});

describe("two folders of a task of which one lies in the other", () => {
  const folder = (path: string, mode: string, hideSecrets = false) => ({ name: path, path: Buffer.from(at(path)), mode, hideSecrets });
  it("are refused with different modes or switches, whichever comes first", async () => {
    for (const other of [folder("a/b", "ro"), folder("a", "ro"), folder("a/b/c", "review"), folder("a/b", "rw", true)]) {
      await expect(refuseOverlaps([folder("a", "rw"), other])).rejects.toThrow("different modes");
      await expect(refuseOverlaps([other, folder("a", "rw")])).rejects.toThrow("different modes");
    }
  });
  it("are told as one that is given twice where they are one", async () => {
    await expect(refuseOverlaps([folder("a", "rw"), folder("a", "ro")])).rejects.toThrow("given twice");
    await expect(refuseOverlaps([folder("a", "rw"), folder("a/b", "ro")])).rejects.toThrow("one in the other"); // control
  });
  it("may be given with one mode; folders side by side with any, also when one's name begins the other's", async () => {
    await refuseOverlaps([folder("a", "rw"), folder("a/b", "rw"), folder("ab", "ro"), folder("c", "review")]);
  });
});

describe("where a folder lies", () => {
  const mounts = parseMounts(
    Buffer.from(
      [
        "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw",
        "30 21 0:40 / /mnt/two\\040words rw - nfs4 server:/x rw",
        "31 21 0:41 / /mnt/drive rw,nosuid - fuse.rclone remote: rw",
        "32 21 0:42 / /mnt/drive rw - tmpfs none rw",
        "garbage",
      ].join("\n"),
    ),
  );
  it.each([
    ["/home/me", "ext4"],
    ["/mnt/two words/x", "nfs4"],
    ["/mnt/two words", "nfs4"],
    ["/mnt/two wordsmith", "ext4"],
    ["/mnt/drive/x", "tmpfs"],
  ])("%s is on %s", (path, type) => {
    expect(mountOf(Buffer.from(path), mounts)?.type).toBe(type);
  });
  it.each([
    ["nfs4", "network"],
    ["cifs", "network"],
    ["fuse.sshfs", "network"],
    ["fuse.rclone", "cloud"],
    ["fuse.onedriver", "cloud"],
    ["fuse.gvfsd-fuse", "cloud"],
    ["fuse.bindfs", "user-filesystem"],
    ["fuse", "user-filesystem"],
  ])("%s is said to be %s", (type, kind) => {
    expect(placeNotes({ type }, { readOnly: false, born: true }).map((note) => note.kind)).toEqual([kind]);
  });
  it("a local disk needs no word; a read-only one and one without birth times do", () => {
    expect(placeNotes({ type: "ext4" }, { readOnly: false, born: true })).toEqual([]);
    expect(placeNotes({ type: "iso9660" }, { readOnly: true, born: false }).map(({ kind }) => kind)).toEqual([
      "read-only",
      "no-birth-time",
    ]);
  });
});
