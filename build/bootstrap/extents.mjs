// The sparse disk template as a file without holes, so that hashing and shipping it costs what it holds (a few MB)
// and not what it claims (16 GiB). core expands it into a sparse disk for each task.
//
// Format, all numbers little-endian:
//
//   8 bytes   "CLOCHEXT"
//   u32       version, 1
//   u32       number of extents
//   u64       sizeBytes of the disk; everything outside of extents is zero
//   then per extent
//   u64       offset on the disk, a multiple of 4096, ascending, extents do not touch or overlap
//   u64       length, a multiple of 4096, at least 4096
//   bytes     length bytes
//
// Nothing follows the last extent. A reader refuses anything else.

import { closeSync, ftruncateSync, openSync, readFileSync, readSync, statSync, writeSync } from "node:fs";

export const magic = "CLOCHEXT";
export const block = 4096;

/**
 * Packs a sparse archive made by `tar --sparse --format=pax --sparse-version=1.0`. GNU tar finds the holes by
 * asking the filesystem, which Node cannot; the archive then begins with the map of what is data.
 */
export function packFromTar(tarFile, target) {
  const tar = readFileSync(tarFile);
  let at = 0;
  let realSize = null;
  for (;;) {
    const type = String.fromCharCode(tar[at + 156]);
    const size = Number.parseInt(tar.toString("latin1", at + 124, at + 135), 8);
    if (type === "x" || type === "g") {
      const text = tar.toString("latin1", at + 512, at + 512 + size);
      const found = /GNU\.sparse\.realsize=(\d+)/.exec(text);
      if (found) realSize = Number(found[1]);
      at += 512 + Math.ceil(size / 512) * 512;
      continue;
    }
    if (realSize === null) throw new Error("tar made no sparse entry");
    return write(tar.subarray(at + 512, at + 512 + size), realSize, target);
  }
}

function write(content, sizeBytes, target) {
  // The map: count, then offset and length of each piece, a decimal number per line, padded to 512 bytes.
  let at = 0;
  const number = () => {
    const end = content.indexOf(10, at);
    const value = Number(content.toString("latin1", at, end));
    at = end + 1;
    return value;
  };
  const pieces = Array.from({ length: number() }, () => ({ offset: number(), length: number() }));
  at = Math.ceil(at / 512) * 512;
  const blocks = new Map();
  for (const { offset, length } of pieces) {
    for (let done = 0; done < length; ) {
      const position = offset + done;
      const start = position - (position % block);
      const take = Math.min(start + block - position, length - done);
      const bytes = blocks.get(start) ?? Buffer.alloc(block);
      content.copy(bytes, position - start, at + done, at + done + take);
      blocks.set(start, bytes);
      done += take;
    }
    at += length;
  }
  const used = [...blocks].filter(([, bytes]) => bytes.some((byte) => byte !== 0)).sort((a, b) => a[0] - b[0]);
  const extents = [];
  for (const [offset, bytes] of used) {
    const last = extents.at(-1);
    if (last && last.offset + last.length === offset) {
      last.parts.push(bytes);
      last.length += block;
    } else extents.push({ offset, length: block, parts: [bytes] });
  }
  const file = openSync(target, "wx");
  const header = Buffer.alloc(24);
  header.write(magic, 0, "latin1");
  header.writeUInt32LE(1, 8);
  header.writeUInt32LE(extents.length, 12);
  header.writeBigUInt64LE(BigInt(sizeBytes), 16);
  writeSync(file, header);
  for (const { offset, length, parts } of extents) {
    const head = Buffer.alloc(16);
    head.writeBigUInt64LE(BigInt(offset), 0);
    head.writeBigUInt64LE(BigInt(length), 8);
    writeSync(file, head);
    writeSync(file, Buffer.concat(parts));
  }
  closeSync(file);
  return { sizeBytes, allocatedBytes: used.length * block };
}

/** Expands a template into a sparse file; for tests and the bench (core has its own reader). */
export function expand(template, target) {
  const input = openSync(template, "r");
  const output = openSync(target, "wx", 0o600);
  const total = statSync(template).size;
  let at = 0;
  const take = (length) => {
    const bytes = Buffer.alloc(length);
    if (readSync(input, bytes, 0, length, at) !== length) throw new Error("the template is cut");
    at += length;
    return bytes;
  };
  const header = take(24);
  if (header.toString("latin1", 0, 8) !== magic || header.readUInt32LE(8) !== 1) throw new Error("not a template of version 1");
  const sizeBytes = Number(header.readBigUInt64LE(16));
  let end = 0;
  for (let left = header.readUInt32LE(12); left > 0; left -= 1) {
    const head = take(16);
    const offset = Number(head.readBigUInt64LE(0));
    const length = Number(head.readBigUInt64LE(8));
    if (offset < end || offset % block || length % block || length === 0 || offset + length > sizeBytes) throw new Error("a bad extent");
    writeSync(output, take(length), 0, length, offset);
    end = offset + length;
  }
  if (at !== total) throw new Error("bytes after the last extent");
  ftruncateSync(output, sizeBytes); // the hole up to the end
  closeSync(input);
  closeSync(output);
  return sizeBytes;
}
