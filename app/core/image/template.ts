/**
 * The disk template: an empty filesystem made when the image was built, kept as the extents that are not zero. Expanding it writes
 * a few MB into a sparse raw file, so a task's first start formats nothing. The format (all numbers little-endian) is:
 *
 *   8 bytes "CLOCHEXT" · u32 version (1) · u32 extents · u64 size of the disk
 *   per extent: u64 offset and u64 length (multiples of 4096, ascending, not touching) · length bytes
 *
 * The guest writes the disk afterwards and nothing on the host reads it again.
 */
import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { open, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { ProblemError } from "../../contract/index.ts";
import type { Image } from "./manifest.ts";

const MAGIC = "CLOCHEXT";
const BLOCK_BYTES = 4096;
const HEADER_BYTES = 24;
const EXTENT_HEADER_BYTES = 16;

export interface Template {
  readonly diskSizeBytes: number;
  readonly extents: readonly { readonly offset: number; readonly bytes: Buffer }[];
}

/** Parses a template whole; anything that does not fit the format exactly is refused. */
export function parseTemplate(file: Buffer): Template {
  const refuse = (evidence: string) =>
    new ProblemError({
      code: "disk.template",
      message: "The guest image's disk template cannot be used, so no disk was made.",
      evidence,
      next: ["Run `npm run image` to build the image again."],
    });
  if (file.length < HEADER_BYTES || file.toString("latin1", 0, 8) !== MAGIC) throw refuse("it is no disk template");
  if (file.readUInt32LE(8) !== 1) throw refuse(`it is version ${file.readUInt32LE(8)}, expected 1`);
  const count = file.readUInt32LE(12);
  const diskSizeBytes = Number(file.readBigUInt64LE(16));
  if (!Number.isSafeInteger(diskSizeBytes) || diskSizeBytes % BLOCK_BYTES !== 0) throw refuse(`a disk of ${diskSizeBytes} bytes`);
  const extents: { offset: number; bytes: Buffer }[] = [];
  let at = HEADER_BYTES;
  let free = 0;
  for (let n = 0; n < count; n++) {
    if (at + EXTENT_HEADER_BYTES > file.length) throw refuse(`extent ${n} is cut`);
    const offset = Number(file.readBigUInt64LE(at));
    const length = Number(file.readBigUInt64LE(at + 8));
    at += EXTENT_HEADER_BYTES;
    if (offset % BLOCK_BYTES !== 0 || length % BLOCK_BYTES !== 0 || length === 0) throw refuse(`extent ${n} is not made of whole blocks`);
    if (offset < free || offset + length > diskSizeBytes) throw refuse(`extent ${n} lies outside of the disk or on another`);
    if (length > file.length - at) throw refuse(`extent ${n} is cut`);
    extents.push({ offset, bytes: file.subarray(at, at + length) });
    at += length;
    free = offset + length;
  }
  if (at !== file.length) throw refuse("something follows the last extent");
  return { diskSizeBytes, extents };
}

/** Makes a task's disk at `path`, at least `minBytes` large; on failure nothing is left there. */
export async function expandTemplate(image: Image, path: string, minBytes: number): Promise<void> {
  const entry = image.manifest.diskTemplate;
  const file = await readFile(join(image.directory, entry.file));
  if (createHash("sha256").update(file).digest("hex") !== entry.sha256) {
    throw new ProblemError({
      code: "image.changed",
      message: `The guest image's file ${entry.file} does not match its manifest, so it is not used.`,
      next: ["Run `npm run image` to build the image again.", "If nobody changed it, check the disk for errors."],
    });
  }
  const template = parseTemplate(file);
  try {
    await using disk = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
    await disk.truncate(Math.max(template.diskSizeBytes, minBytes));
    for (const { offset, bytes } of template.extents) {
      // a disk that fills up takes a part of a write and says so by the count alone
      for (let at = 0; at < bytes.length; ) at += (await disk.write(bytes, at, bytes.length - at, offset + at)).bytesWritten;
    }
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  }
}
