/**
 * An installed guest image: a folder with manifest.json and the files it lists. The manifest is strict and versioned;
 * `id` is SHA-256 over the manifest's canonical JSON without `id`, so a changed manifest is another image.
 *
 * 1: 2026-11-21, first.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { firstIssue, type ImageView, ProblemError } from "../../contract/index.ts";

export const IMAGE_VERSION = 1;

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
/** a plain name: a manifest never points outside its folder */
const file = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/);
const size = z.int().min(0);

const verity = z.strictObject({
  algorithm: z.string().regex(/^[a-z0-9-]{1,32}$/),
  blockSizeBytes: z.literal(4096),
  dataBlocks: z.int().min(1),
  hashStartBlock: z.int().min(1),
  rootHash: z.string().regex(/^[0-9a-f]{32,128}$/),
  salt: z.string().regex(/^([0-9a-f]{2}){0,64}$/),
});

export const manifestSchema = z.strictObject({
  version: z.int().min(1),
  id: sha256,
  arch: z.enum(["x86_64", "arm64"]),
  release: z.boolean(),
  kernel: z.strictObject({ file, sizeBytes: size, sha256, version: z.string().max(64) }),
  initramfs: z.strictObject({ file, sizeBytes: size, sha256 }),
  /** bottom first */
  layers: z
    .array(z.strictObject({ name: z.string().regex(/^[a-z0-9-]{1,16}$/), file, sizeBytes: size, sha256, verity }))
    .min(1)
    .max(8),
  /** `sizeBytes` is the template file's, `diskSizeBytes` the disk's that it expands to */
  diskTemplate: z.strictObject({ file, sizeBytes: size, sha256, diskSizeBytes: size }),
  agentSha256: sha256,
  guest: z.strictObject({ os: z.string().max(64), packages: z.int().min(0) }),
});
export type Manifest = z.infer<typeof manifestSchema>;

export interface Image {
  readonly directory: string;
  readonly manifest: Manifest;
}

/** JSON with keys sorted at every level and no spaces: one spelling for one value. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const members = Object.entries(value).filter(([, member]) => member !== undefined);
    members.sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${members.map(([key, member]) => `${JSON.stringify(key)}:${canonicalJson(member)}`).join(",")}}`;
  }
  return JSON.stringify(value);
}

export function manifestId(manifest: Omit<Manifest, "id"> & { id?: string }): string {
  return createHash("sha256")
    .update(canonicalJson({ ...manifest, id: undefined }))
    .digest("hex");
}

const rebuild = ["Run `npm run image` to build it again."];

/** Reads and checks a manifest; its files are checked by verify.ts. */
export function openImage(directory: string): Image {
  let text: string;
  try {
    text = readFileSync(join(directory, "manifest.json"), "utf8");
  } catch (error) {
    throw new ProblemError({
      code: "image.missing",
      message: "No guest image is installed, so no task can start.",
      evidence: (error as Error).message,
      next: ["Run `npm run image` (or `npm start`) to build it."],
    });
  }
  return { directory, manifest: parseManifest(text) };
}

export function parseManifest(text: string): Manifest {
  const refuse = (evidence: string) =>
    new ProblemError({ code: "image.manifest", message: "The guest image's manifest cannot be used.", evidence, next: rebuild });
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw refuse((error as Error).message);
  }
  const version = (json as { version?: unknown } | null)?.version;
  if (typeof version === "number" && version > IMAGE_VERSION) {
    throw new ProblemError({
      code: "task.newer-file",
      message: `The guest image's manifest is version ${version}; this Cloche reads up to ${IMAGE_VERSION}.`,
      next: ["Update Cloche, or build the image with this version: `npm run image`."],
    });
  }
  const manifest = manifestSchema.safeParse(json);
  if (!manifest.success) throw refuse(firstIssue(manifest.error));
  if (manifestId(manifest.data) !== manifest.data.id) throw refuse("its id does not match its content");
  return manifest.data;
}

/** Every file of an image, as its manifest lists it. */
export function imageFiles(manifest: Manifest): { file: string; sizeBytes: number; sha256: string }[] {
  const { kernel, initramfs, layers, diskTemplate } = manifest;
  return [kernel, initramfs, ...layers, diskTemplate].map((entry) => ({
    file: entry.file,
    sizeBytes: entry.sizeBytes,
    sha256: entry.sha256,
  }));
}

export function imageView(image: Image): ImageView {
  const { manifest } = image;
  const files = imageFiles(manifest);
  return {
    id: manifest.id,
    arch: manifest.arch,
    kernel: manifest.kernel.version,
    guest: manifest.guest.os,
    packages: manifest.guest.packages,
    sizeBytes: files.reduce((sum, entry) => sum + entry.sizeBytes, 0),
    files,
  };
}
