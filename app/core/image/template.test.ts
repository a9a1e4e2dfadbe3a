import { describe, expect, it } from "vitest";
import { parseTemplate } from "./template.ts";

function template(extents: [offset: number, length: number][], edit: (file: Buffer) => unknown = () => undefined, size = 1 << 20): Buffer {
  const header = Buffer.alloc(24);
  header.write("CLOCHEXT", 0, "latin1");
  header.writeUInt32LE(1, 8);
  header.writeUInt32LE(extents.length, 12);
  header.writeBigUInt64LE(BigInt(size), 16);
  const parts = extents.map(([offset, length]) => {
    const head = Buffer.alloc(16);
    head.writeBigUInt64LE(BigInt(offset), 0);
    head.writeBigUInt64LE(BigInt(length), 8);
    return Buffer.concat([head, Buffer.alloc(length, 0x61)]);
  });
  const file = Buffer.concat([header, ...parts]);
  edit(file);
  return file;
}

describe("a disk template", () => {
  it("is read as its extents", () => {
    const parsed = parseTemplate(
      template([
        [0, 4096],
        [8192, 8192],
      ]),
    );
    expect(parsed.diskSizeBytes).toBe(1 << 20);
    expect(parsed.extents.map(({ offset, bytes }) => [offset, bytes.length])).toEqual([
      [0, 4096],
      [8192, 8192],
    ]);
  });

  it.each([
    ["no template at all", Buffer.from("hello")],
    ["another version", template([], (file) => file.writeUInt32LE(2, 8))],
    [
      "overlapping extents",
      template([
        [0, 8192],
        [4096, 4096],
      ]),
    ],
    [
      "extents out of order",
      template([
        [8192, 4096],
        [0, 4096],
      ]),
    ],
    ["an extent outside of the disk", template([[1 << 20, 4096]])],
    ["a length that is no whole block", template([[0, 4096]], (file) => file.writeBigUInt64LE(100n, 32))],
    ["a length beyond the file", template([[0, 4096]], (file) => file.writeBigUInt64LE(1n << 19n, 32))],
    ["an offset beyond any file", template([[0, 4096]], (file) => file.writeBigUInt64LE(1n << 63n, 24))],
    ["more extents than there are", template([[0, 4096]], (file) => file.writeUInt32LE(2, 12))],
    ["bytes behind the last extent", Buffer.concat([template([[0, 4096]]), Buffer.alloc(1)])],
  ])("is refused when it is %s", (_, file) => {
    expect(() => parseTemplate(file)).toThrow("cannot be used");
  });
});
