import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
// @ts-expect-error: the bootstrap is plain JavaScript, which has no types
import { characterDevice, cpio, directory, program } from "./cpio.mjs";
// @ts-expect-error: the bootstrap is plain JavaScript, which has no types
import { expand, packFromTar } from "./extents.mjs";
// @ts-expect-error: the bootstrap is plain JavaScript, which has no types
import { fixPackedTime } from "./image.mjs";

const folder = () => mkdtempSync(join(tmpdir(), "cloche-build-"));

test("an initramfs lists what was put in, and two of the same are the same bytes", () => {
  const make = (): Buffer => cpio([directory("dev"), characterDevice("dev/console", 5, 1), program("init", Buffer.from("hello"))]);
  expect(make().equals(make())).toBe(true);
  const text = make().toString("latin1");
  expect(text.match(/070701/g)).toHaveLength(4);
  expect(text).toContain("init\0");
  expect(text).toContain("hello");
  expect(text).toContain("TRAILER!!!");
  expect(make().length % 4).toBe(0);
});

test("a sparse disk survives packing and expanding, and stays sparse", async () => {
  const at = folder();
  const disk = join(at, "disk");
  writeFileSync(disk, "");
  truncateSync(disk, 1 << 26);
  const file = await open(disk, "r+");
  await file.write(Buffer.alloc(5000, 1), 0, 5000, 0);
  await file.write(Buffer.from("middle"), 0, 6, 500 * 4096 + 17);
  await file.write(Buffer.from("end"), 0, 3, (1 << 26) - 3);
  await file.close();
  execFileSync("tar", ["-C", at, "--sparse", "--format=pax", "--sparse-version=1.0", "-cf", join(at, "disk.tar"), "disk"]);
  const sizes = packFromTar(join(at, "disk.tar"), join(at, "disk.extents"));
  expect(sizes).toEqual({ sizeBytes: 1 << 26, allocatedBytes: 4 * 4096 });
  expect(statSync(join(at, "disk.extents")).size).toBe(24 + 3 * 16 + 4 * 4096);
  expect(expand(join(at, "disk.extents"), join(at, "again"))).toBe(1 << 26);
  execFileSync("cmp", [disk, join(at, "again")]);
  expect(statSync(join(at, "again")).blocks * 512).toBeLessThan(1 << 20);
});

test("a template that is cut is refused", () => {
  const at = folder();
  const header = Buffer.alloc(24);
  header.write("CLOCHEXT", 0, "latin1");
  header.writeUInt32LE(1, 8);
  header.writeUInt32LE(1, 12);
  header.writeBigUInt64LE(8192n, 16);
  writeFileSync(join(at, "cut"), header);
  expect(() => expand(join(at, "cut"), join(at, "out"))).toThrow("the template is cut");
  expect(readFileSync(join(at, "out"))).toHaveLength(0);
});

test("a layer forgets when it was packed, and one of another form is not touched", () => {
  const file = join(folder(), "layer");
  const layer = (seconds: number, nid = 3n, extended = 1) => {
    const bytes = Buffer.alloc(8192, 0x61);
    bytes.writeUInt32LE(0xe0f5e1e2, 1024);
    bytes.writeUInt32LE(1, 1024 + 40);
    bytes.writeBigUInt64LE(nid, 1024 + 96);
    bytes[4096 + 96] = extended;
    bytes.writeBigUInt64LE(BigInt(seconds), 4096 + 96 + 32);
    bytes.writeUInt32LE(seconds % 1000, 4096 + 96 + 40);
    writeFileSync(file, bytes);
    return bytes;
  };
  const now = Math.floor(Date.now() / 1000);
  layer(now);
  fixPackedTime(file);
  const first = readFileSync(file);
  const before = layer(now + 7);
  fixPackedTime(file);
  expect(readFileSync(file).equals(first)).toBe(true);
  expect([...first.keys()].filter((at) => first[at] !== before[at]).every((at) => at >= 4096 + 128 && at < 4096 + 140)).toBe(true);
  const withoutTails = layer(now, 0n);
  fixPackedTime(file);
  expect(readFileSync(file).equals(withoutTails)).toBe(true);
  for (const spoil of [() => layer(12345), () => layer(now, 3n, 0), () => writeFileSync(file, Buffer.alloc(8192))]) {
    spoil();
    const bytes = readFileSync(file);
    expect(() => fixPackedTime(file)).toThrow(/not where it was|no EROFS/);
    expect(readFileSync(file).equals(bytes)).toBe(true);
  }
});
