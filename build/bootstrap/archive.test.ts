import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync as brotli, constants } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
// @ts-expect-error: the bootstrap is plain JavaScript, which has no types
import { header, packImage, unpackImage } from "./archive.mjs";
// @ts-expect-error: the bootstrap is plain JavaScript, which has no types
import { arch } from "./packages.mjs";
import { code, type Manifest, makeImage, noise, remove, temporaryFolder } from "./release-support.ts";

let folder: string;

beforeEach(() => {
  folder = temporaryFolder();
});

afterEach(() => remove(folder));

describe("an archive", () => {
  const files = ["base.erofs", "disk-16g.extents", "initramfs.cpio", "manifest.json", "packages.txt", "vmlinux"];
  let manifest: Manifest;
  let image: string;

  beforeEach(() => {
    image = join(folder, "image");
    manifest = makeImage(image);
  });

  /** The quality is no matter to what unpacks it, and the best one takes most of a second. */
  const brotliCompressSync = (bytes: Buffer) => brotli(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } });
  const unpack = async (archive: string, expected = manifest.id) => {
    const target = mkdtempSync(join(folder, "out-"));
    await unpackImage(archive, target, { imageId: expected, arch: arch.image });
    return target;
  };

  const entry = (name: string, bytes: Buffer, type?: string, link?: string) =>
    Buffer.concat([header(name, bytes.length, type, link), bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]);
  const read = (name: string) => readFileSync(join(image, name));
  const end = Buffer.alloc(1024);

  /** The entries of a good archive, for tests to spoil one of. */
  const good = () => [
    entry("manifest.json", read("manifest.json")),
    entry("packages.txt", read("packages.txt")),
    entry("vmlinux.br", brotliCompressSync(read("vmlinux"))),
    entry("initramfs.cpio", read("initramfs.cpio")),
    entry("base.erofs", read("base.erofs")),
    entry("disk-16g.extents.br", brotliCompressSync(read("disk-16g.extents"))),
  ];
  const write = (...pieces: Buffer[]) => {
    const at = join(folder, "a.tar");
    writeFileSync(at, Buffer.concat(pieces));
    return at;
  };

  test("holds all files of an image, twice the same bytes, and tar can read it", async () => {
    const packed = await packImage(image, join(folder, "one.tar"));
    await packImage(image, join(folder, "two.tar"));
    expect(readFileSync(join(folder, "one.tar")).equals(readFileSync(join(folder, "two.tar")))).toBe(true);
    expect(packed.sizeBytes).toBe(statSync(join(folder, "one.tar")).size);
    const target = await unpack(join(folder, "one.tar"));
    expect(readdirSync(target).sort()).toEqual(files);
    for (const name of files) expect(readFileSync(join(target, name)).equals(read(name))).toBe(true);
    const listed = execFileSync("tar", ["-tf", join(folder, "one.tar")], { encoding: "utf8" });
    expect(listed.trim().split("\n").sort()).toEqual([
      "base.erofs",
      "disk-16g.extents.br",
      "initramfs.cpio.br",
      "manifest.json",
      "packages.txt",
      "vmlinux.br",
    ]);
  });

  test("made by hand in the same form is accepted: the control of what follows", async () => {
    expect(readdirSync(await unpack(write(...good(), end))).sort()).toEqual(files);
  });

  const x = Buffer.from("x");
  test.each<[string, () => Buffer[], string]>([
    ["a name that leads out", () => [...good(), entry("../evil", x), end], "the name"],
    ["an absolute name", () => [...good(), entry("/etc/evil", x), end], "the name"],
    ["a name in a folder", () => [...good(), entry("sub/evil", x), end], "the name"],
    ["a hidden name", () => [...good(), entry(".evil", x), end], "the name"],
    ["a name that the manifest does not list", () => [...good(), entry("evil", x), end], "does not list"],
    ["a symbolic link", () => [...good(), entry("evil", Buffer.alloc(0), "2", "/etc"), end], "no ordinary file"],
    ["a hard link", () => [...good(), entry("evil", Buffer.alloc(0), "1", "vmlinux"), end], "no ordinary file"],
    ["a folder", () => [...good(), entry("evil", Buffer.alloc(0), "5"), end], "no ordinary file"],
    ["a device", () => [...good(), entry("evil", Buffer.alloc(0), "4"), end], "no ordinary file"],
    ["a long name of GNU", () => [...good(), entry("././@LongLink", x, "L"), end], "no ordinary file"],
    ["a pax header", () => [entry("pax", x, "x"), ...good(), end], "no ordinary file"],
    ["a file twice", () => [...good(), entry("base.erofs", read("base.erofs")), end], "came before"],
    ["a file twice, packed and not", () => [...good(), entry("vmlinux", read("vmlinux")), end], "came before"],
    ["the list of packages twice", () => [...good(), entry("packages.txt", x), end], "twice"],
    ["a second manifest", () => [...good(), entry("manifest.json", x), end], "does not list"],
    ["no manifest", () => [...good().slice(1), end], "does not begin with a manifest"],
    ["a manifest too late", () => [...good().slice(1), ...good().slice(0, 1), end], "does not begin with a manifest"],
    ["nothing", () => [end], "it is empty"],
    ["a file too few", () => [...good().slice(0, -1), end], "it lacks disk-16g.extents"],
    ["no end", () => good(), "it is cut"],
    ["an entry that is cut", () => [Buffer.concat(good()).subarray(0, -200_000)], "is cut"],
    ["bytes behind its end", () => [...good(), end, Buffer.from("more")], "something follows"],
    ["a header with a wrong checksum", () => [Buffer.from(Buffer.concat([...good(), end]).fill("9", 124, 125))], "checksum"],
    ["no tar at all", () => [noise(5000, "no")], "no ustar"],
  ])("with %s is refused", async (_, make, why) => {
    expect(await code(unpack(write(...make())))).toContain(why);
    expect(existsSync(join(folder, "evil"))).toBe(false);
  });

  const instead = (index: number, bytes: Buffer) => good().map((piece, at) => (at === index ? bytes : piece));
  test.each<[string, () => Buffer[], string]>([
    ["of another content", () => instead(4, entry("base.erofs", noise(400_001, "other"))), "SHA-256"],
    ["of another size", () => instead(4, entry("base.erofs", noise(400_000, "layer"))), "400000 bytes instead of 400001"],
    ["that unpacks to another content", () => instead(2, entry("vmlinux.br", brotliCompressSync(noise(200_000, "k")))), "SHA-256"],
    ["that unpacks to less", () => instead(2, entry("vmlinux.br", brotliCompressSync(x))), "1 bytes instead of 200000"],
    ["that is cut", () => instead(2, entry("vmlinux.br", brotliCompressSync(read("vmlinux")).subarray(0, 20))), "cannot be unpacked"],
    ["that is no brotli", () => instead(2, entry("vmlinux.br", noise(500, "no"))), "cannot be unpacked"],
  ])("with a file %s is refused", async (_, make, why) => {
    expect(await code(unpack(write(...make(), end)))).toContain(why);
  });

  test("that unpacks to far more than was signed is stopped at that size", async () => {
    const bomb = brotliCompressSync(Buffer.alloc(64 << 20));
    expect(bomb.length).toBeLessThan(20_000);
    const archive = write(...instead(2, entry("vmlinux.br", bomb)), end);
    const target = mkdtempSync(join(folder, "bomb-"));
    expect(await code(unpackImage(archive, target, { imageId: manifest.id, arch: arch.image }))).toContain("becomes larger");
    expect(statSync(join(target, "vmlinux")).size).toBeLessThanOrEqual(200_000);
  });

  test("of another image than the one that was signed is refused", async () => {
    expect(await code(unpack(write(...good(), end), "b".repeat(64)))).toContain("was signed");
    const edited = read("manifest.json").toString().replace("Debian", "Evil");
    const archive = write(entry("manifest.json", Buffer.from(edited)), ...good().slice(1), end);
    expect(await code(unpack(archive))).toContain("does not match");
  });

  type Files = { kernel: { file: string; sizeBytes: number } };
  test.each<[string, (content: Files) => void]>([
    ["a name that leads out", (content) => Object.assign(content.kernel, { file: "../vmlinux" })],
    ["the manifest's own name", (content) => Object.assign(content.kernel, { file: "manifest.json" })],
    ["a size that is none", (content) => Object.assign(content.kernel, { sizeBytes: -1 })],
    ["a size beyond any image", (content) => Object.assign(content.kernel, { sizeBytes: 2 ** 40 })],
  ])("whose manifest lists %s is refused", async (_, edit) => {
    manifest = makeImage(image, (content) => edit(content as unknown as Files));
    expect(await code(unpack(write(...good(), end)))).toMatch(/its manifest lists|larger than any image/);
  });
});
