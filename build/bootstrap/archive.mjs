// A release image as one file: a plain ustar archive, so that anybody can look into it, of
//
//   manifest.json                   first, as it lies in the image
//   packages.txt
//   base.erofs                      as it is: compressed already, and its hash tree cannot be
//   vmlinux.br, initramfs.cpio.br … brotli, which every Node since 11 reads by itself
//
// Whoever unpacks it has checked a signature and the hash of the whole. Even so nothing in it decides where a file
// goes or how large it gets: names and sizes are those of the manifest, whose id stood in what was signed.

import { createHash } from "node:crypto";
import { closeSync, createReadStream, createWriteStream, openSync, readFileSync, readSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Readable, Transform, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { constants, createBrotliCompress, createBrotliDecompress } from "node:zlib";
import { canonical } from "./image.mjs";
import { Problem } from "./problem.mjs";

const block = 512;
const limits = { manifestBytes: 64 << 10, packagesBytes: 256 << 10, imageBytes: 2 ** 31, entries: 32 };

/** The rule of core's manifest: a manifest never points outside of its folder. */
const plainName = /^[A-Za-z0-9][A-Za-z0-9._-]{0,90}$/;
const packedAlready = (name) => name.endsWith(".erofs");

/** Every file that an image's manifest lists. */
export const manifestFiles = ({ kernel, initramfs, layers, diskTemplate }) => [kernel, initramfs, ...layers, diskTemplate];

/** Writes the archive of an image; the same image gives the same bytes. Resolves to what each file takes in it. */
export async function packImage(imageDir, target) {
  const manifest = readManifest(readFileSync(join(imageDir, "manifest.json")));
  const entries = ["manifest.json", "packages.txt", ...manifestFiles(manifest).map(({ file }) => file)];
  const parts = [];
  const out = openSync(target, "wx", 0o644);
  closeSync(out);
  let at = 0;
  const append = async (streams) => {
    let length = 0;
    const count = new Transform({
      transform(chunk, _, done) {
        length += chunk.length;
        done(null, chunk);
      },
    });
    await pipeline(...streams, count, createWriteStream(target, { flags: "r+", start: at }));
    at += length;
    return length;
  };
  for (const name of entries) {
    const path = join(imageDir, name);
    const asIs = packedAlready(name) || name === "manifest.json" || name === "packages.txt";
    const headerAt = at;
    at += block;
    const length = await append([createReadStream(path), ...(asIs ? [] : [compressor(statSync(path).size)])]);
    const dataEnd = at;
    const padding = (block - (length % block)) % block;
    if (padding > 0) await append([Readable.from([Buffer.alloc(padding)])]);
    const end = at;
    at = headerAt;
    await append([Readable.from([header(asIs ? name : `${name}.br`, length)])]);
    at = end;
    parts.push({ file: name, sizeBytes: statSync(path).size, compressedBytes: dataEnd - headerAt - block });
  }
  await append([Readable.from([Buffer.alloc(2 * block)])]);
  return { parts, sizeBytes: at };
}

/** Quality 9: 11 takes ten times as long for half a megabyte. */
const compressor = (sizeBytes) =>
  createBrotliCompress({
    params: {
      [constants.BROTLI_PARAM_QUALITY]: 9,
      [constants.BROTLI_PARAM_LGWIN]: 24,
      [constants.BROTLI_PARAM_SIZE_HINT]: sizeBytes,
    },
  });

/** What a file takes in the archive, for the report on an image that is not packed. */
export async function travelBytes(path) {
  if (packedAlready(path)) return statSync(path).size;
  let length = 0;
  const count = new Writable({
    write(chunk, _, done) {
      length += chunk.length;
      done();
    },
  });
  await pipeline(createReadStream(path), compressor(statSync(path).size), count);
  return length;
}

/** A tar header without times, owners or modes of the machine that made it. */
export function header(name, length, type = "0", link = "") {
  const bytes = Buffer.alloc(block);
  const field = (text, offset) => bytes.write(text, offset, "latin1");
  const octal = (value, digits) => `${value.toString(8).padStart(digits, "0")}\0`;
  field(name, 0);
  field(octal(0o644, 7), 100);
  field(octal(0, 7), 108);
  field(octal(0, 7), 116);
  field(octal(length, 11), 124);
  field(octal(0, 11), 136);
  field("        ", 148);
  field(type, 156);
  field(link, 157);
  field("ustar\x0000", 257);
  field(`${octal(checksum(bytes), 6)} `, 148);
  return bytes;
}

/** Over the header with blanks in the checksum's own place. */
function checksum(bytes) {
  let sum = 0;
  for (const [at, byte] of bytes.entries()) sum += at >= 148 && at < 156 ? 32 : byte;
  return sum;
}

/**
 * Unpacks into a folder that is the caller's own and new. Every file that the manifest lists is there afterwards, with
 * the size and SHA-256 of the manifest, or it rejects.
 */
export async function unpackImage(archive, target, { imageId, arch, detail = () => {} }) {
  const sizeBytes = statSync(archive).size;
  const fd = openSync(archive, "r");
  const read = (length, position) => {
    const bytes = Buffer.alloc(length);
    let got = 0;
    while (got < length) {
      const n = readSync(fd, bytes, got, length - got, position + got);
      if (n === 0) throw refused("it is cut");
      got += n;
    }
    return bytes;
  };
  try {
    let at = 0;
    let wanted = null;
    for (let entries = 0; ; entries += 1) {
      const head = read(block, at);
      at += block;
      if (head.every((byte) => byte === 0)) break;
      if (entries >= limits.entries) throw refused(`more than ${limits.entries} files`);
      const { name, length } = parseHeader(head);
      if (length > sizeBytes - at) throw refused(`${name} is cut`);
      if (wanted === null) {
        if (name !== "manifest.json" || length > limits.manifestBytes) throw refused("it does not begin with a manifest");
        const bytes = read(length, at);
        const manifest = readManifest(bytes);
        if (manifest.id !== imageId) throw refused(`it holds the image ${manifest.id}, and ${imageId} was signed`);
        if (manifest.arch !== arch) throw refused(`it holds an image for ${manifest.arch}`);
        wanted = new Map(manifestFiles(manifest).map((entry) => [entry.file, entry]));
        writeFileSync(join(target, name), bytes, { flag: "wx" });
      } else if (name === "packages.txt") {
        if (length > limits.packagesBytes) throw refused(`${name} is too large`);
        writeFileSync(join(target, name), read(length, at), { flag: "wx" });
      } else {
        const packed = name.endsWith(".br");
        const file = packed ? name.slice(0, -3) : name;
        const entry = wanted.get(file);
        if (!entry) throw refused(`it holds ${JSON.stringify(name)}, which its manifest does not list or which came before`);
        wanted.delete(file);
        detail(`unpacking ${file}`);
        if (!packed && length !== entry.sizeBytes) throw refused(`${file} has ${length} bytes instead of ${entry.sizeBytes}`);
        const input = length > 0 ? createReadStream(archive, { start: at, end: at + length - 1 }) : Readable.from([]);
        await extract([input, ...(packed ? [createBrotliDecompress()] : [])], join(target, file), entry);
      }
      at += Math.ceil(length / block) * block;
    }
    while (at < sizeBytes) {
      const rest = read(Math.min(block, sizeBytes - at), at);
      if (rest.some((byte) => byte !== 0)) throw refused("something follows its end");
      at += rest.length;
    }
    if (wanted === null) throw refused("it is empty");
    if (wanted.size > 0) throw refused(`it lacks ${[...wanted.keys()].join(", ")}`);
  } catch (error) {
    if (error.code === "EEXIST") throw refused("it holds a file twice");
    throw error;
  } finally {
    closeSync(fd);
  }
}

/** Counts while it unpacks: a few bytes can become any number of them, so it stops at the size that was signed. */
async function extract(streams, path, { file, sizeBytes, sha256 }) {
  const hash = createHash("sha256");
  let length = 0;
  const meter = new Transform({
    transform(chunk, _, done) {
      length += chunk.length;
      if (length > sizeBytes) return done(refused(`${file} becomes larger than the ${sizeBytes} bytes of its manifest`));
      hash.update(chunk);
      done(null, chunk);
    },
  });
  try {
    await pipeline(...streams, meter, createWriteStream(path, { flags: "wx", mode: 0o644 }));
  } catch (error) {
    if (/^(ERR_|Z_)/.test(error.code ?? "")) throw refused(`${file} cannot be unpacked: ${error.message}`);
    throw error;
  }
  if (length !== sizeBytes) throw refused(`${file} has ${length} bytes instead of ${sizeBytes}`);
  const found = hash.digest("hex");
  if (found !== sha256) throw refused(`${file} has the SHA-256 ${found} instead of ${sha256}`);
}

function parseHeader(head) {
  const text = (from, to) => head.toString("latin1", from, to);
  const string = (from, to) => text(from, to).replace(/\0.*$/s, "");
  if (text(257, 265) !== "ustar\x0000") throw refused("it is no ustar archive");
  if (Number.parseInt(text(148, 154), 8) !== checksum(head)) throw refused("a header's checksum is wrong");
  const name = string(0, 100);
  const shown = JSON.stringify(name.slice(0, 100));
  if (text(156, 157) !== "0" || string(157, 257) !== "") throw refused(`${shown} is no ordinary file`);
  if (string(345, 500) !== "" || !plainName.test(name)) throw refused(`the name ${shown}`);
  const length = text(124, 136);
  if (!/^[0-7]{11}\0$/.test(length)) throw refused(`the size of ${shown}`);
  return { name, length: Number.parseInt(length, 8) };
}

/** As much of a manifest as unpacking rests on. The id covers the rest, which core checks before it uses an image. */
export function readManifest(bytes) {
  let manifest;
  try {
    manifest = JSON.parse(bytes.toString("utf8"));
  } catch (error) {
    throw refused(`its manifest is no JSON: ${error.message}`);
  }
  if (manifest?.version !== 1) throw refused(`its manifest is version ${JSON.stringify(manifest?.version)}, expected 1`);
  const { id, ...rest } = manifest;
  const found = createHash("sha256").update(canonical(rest)).digest("hex");
  if (id !== found) throw refused("its manifest's id does not match its content");
  if (!Array.isArray(manifest.layers)) throw refused("its manifest lists no layers");
  const files = manifestFiles(manifest);
  for (const entry of files) {
    const good =
      plainName.test(entry?.file) &&
      !["manifest.json", "packages.txt"].includes(entry.file) &&
      !entry.file.endsWith(".br") &&
      Number.isSafeInteger(entry.sizeBytes) &&
      entry.sizeBytes >= 0 &&
      /^[0-9a-f]{64}$/.test(entry.sha256);
    if (!good) throw refused(`its manifest lists ${JSON.stringify(entry)?.slice(0, 200)}`);
  }
  if (new Set(files.map(({ file }) => file)).size !== files.length) throw refused("its manifest lists a file twice");
  if (files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) > limits.imageBytes) throw refused("its files are larger than any image");
  return manifest;
}

function refused(evidence) {
  return new Problem({
    code: "build.release-archive",
    message: "The release's archive is not a guest image that can be used. Nothing of it is used.",
    evidence,
    next: ["Tell whoever publishes the release.", "To build the image on this machine instead: CLOCHE_IMAGE_RELEASE=build npm start"],
  });
}
