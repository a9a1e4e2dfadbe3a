/** Compares an image's files with their manifest. */
import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { ProblemError } from "../../contract/index.ts";
import { type Image, imageFiles } from "./manifest.ts";

const CHUNK_BYTES = 1 << 20;

/** Kernel and initramfs: what no other hash covers. At every start; the root layers are covered by dm-verity in the guest. */
export async function verifyBootFiles(image: Image, signal?: AbortSignal): Promise<void> {
  const { kernel, initramfs } = image.manifest;
  await Promise.all([kernel, initramfs].map((entry) => verifyFile(image, entry, signal)));
}

/** Every byte of every file. */
export async function verifyImage(image: Image): Promise<void> {
  for (const entry of imageFiles(image.manifest)) await verifyFile(image, entry);
}

async function verifyFile(image: Image, entry: { file: string; sizeBytes: number; sha256: string }, signal?: AbortSignal): Promise<void> {
  const changed = (evidence: string) =>
    new ProblemError({
      code: "image.changed",
      message: `The guest image's file ${entry.file} does not match its manifest, so it is not used.`,
      evidence,
      next: ["Run `npm run image` to build the image again.", "If nobody changed it, check the disk for errors."],
    });
  const hash = createHash("sha256");
  let bytes = 0;
  try {
    await using handle = await open(join(image.directory, entry.file), "r");
    const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
    for (;;) {
      signal?.throwIfAborted();
      const { bytesRead } = await handle.read(chunk, 0, chunk.length);
      if (bytesRead === 0) break;
      hash.update(chunk.subarray(0, bytesRead));
      bytes += bytesRead;
    }
  } catch (error) {
    if (signal?.aborted) throw error;
    throw changed((error as Error).message);
  }
  if (bytes !== entry.sizeBytes) throw changed(`${bytes} bytes instead of ${entry.sizeBytes}`);
  const found = hash.digest("hex");
  if (found !== entry.sha256) throw changed(`SHA-256 ${found} instead of ${entry.sha256}`);
}
