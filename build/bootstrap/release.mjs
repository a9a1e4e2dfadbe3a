// A guest image that somebody published, fetched instead of built, and how one is published.
//
// A release is a descriptor of one line of thought: "image X, packed in a file of this size and SHA-256, is my release
// number N", signed with Ed25519. What decides, in this order: the key is one this checkout trusts, the signature is
// its, the number is not lower than the last one accepted from that key. Only then is anything downloaded.
//
//   offered by   vm-image/release.json (`npm start` only), or CLOCHE_IMAGE_RELEASE=<path or URL of a descriptor>
//   trusted by   vm-image/release-key.pem, or CLOCHE_IMAGE_KEY=<path of a public key>
//   refused by   CLOCHE_IMAGE_RELEASE=build, which always builds
//
// CLOCHE_IMAGE_KEY gives nobody a new power: it is the environment of the user who runs the build, and whoever sets
// that decides also which programs PATH finds. It replaces the key of the checkout, and the build says so.

import { createHash, createPrivateKey, createPublicKey, sign, verify } from "node:crypto";
import { lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { packImage, readManifest, unpackImage } from "./archive.mjs";
import { cacheRoot, hashInputs, isComplete, outputDir, repo } from "./cache.mjs";
import { buildInstead, download, get, megabytes } from "./download.mjs";
import { canonical } from "./image.mjs";
import { arch } from "./packages.mjs";
import { Problem } from "./problem.mjs";

/** 1: 2026-11-21, first. */
const DESCRIPTOR_VERSION = 1;
const STATE_VERSION = 1;

const limits = { descriptorBytes: 16 << 10, keyBytes: 4 << 10, archiveBytes: 2 ** 30 };

/** A descriptor is small: a start does not wait long to hear that there is a newer one. */
const DESCRIPTOR_TIMEOUT_MS = 10_000;

const paths = {
  descriptor: () => join(repo, "vm-image/release.json"),
  key: () => join(repo, "vm-image/release-key.pem"),
  state: (key) => join(cacheRoot, "releases", `${fingerprint(key)}-${arch.image}.json`),
  downloads: () => join(cacheRoot, "downloads"),
};

/**
 * The step that takes the place of `image`, or null when the image is to be built.
 *
 * @param {{asked?: "always" | "explicitly", say: (text: string) => void}} options `explicitly`: only what the
 *   environment names, because tests and benches are about this tree and not about what was once published
 */
export async function offeredImage({ asked, say }) {
  const named = process.env.CLOCHE_IMAGE_RELEASE || null;
  if (!asked || named === "build") return null;
  const place = named ?? (asked === "always" && exists(paths.descriptor()) ? paths.descriptor() : null);
  if (place === null) return null;
  const key = trustedKey(say);
  if (key === null) {
    say("a published guest image is offered, and there is no key here that says which one to trust: it is not used, the image is built");
    say("to trust one: put its publisher's public key into vm-image/release-key.pem, or set CLOCHE_IMAGE_KEY to its path");
    return null;
  }
  const state = readState(key);
  const release = parseDescriptor(await readOffer(place, state, say));
  checkSignature(release, key);
  checkSequence(release, state);
  if (release.arch !== arch.image) {
    say(`the published guest image is for ${release.arch} and this machine is ${arch.image}: the image is built`);
    return null;
  }
  const step = fetchedImageStep(release, key);
  // The same image as a newer release: nothing is left to fetch, and the older number is no longer good.
  if (isComplete(outputDir(step.name, hashInputs([step.name, ...step.inputs()])))) writeState(key, release);
  return step;
}

function fetchedImageStep(release, key) {
  return {
    name: "image",
    title: `fetching the guest image, release ${release.sequence} (${megabytes(release.sizeBytes)})`,
    seconds: 60,
    // The image and not the release: the same one published twice is fetched once.
    inputs: () => ["release 1", release.imageId],
    async run(ctx) {
      const { url, sizeBytes, sha256, imageId } = release;
      const archive = await download({ url, sizeBytes, sha256, folder: paths.downloads(), say: ctx.say, detail: ctx.detail });
      await unpackImage(archive, ctx.out, { imageId, arch: arch.image, detail: ctx.detail });
      writeState(key, release);
      // What is unpacked is not needed a second time, and what was begun of other releases never will be.
      for (const name of readdirSync(paths.downloads())) rmSync(join(paths.downloads(), name), { force: true });
    },
  };
}

/** The descriptor's text. One at an address may be out of reach for a moment: then the last accepted one still counts. */
async function readOffer(place, state, say) {
  if (!/^https?:\/\//i.test(place))
    return readBounded(resolve(place), limits.descriptorBytes, "build.release-descriptor", "The release's descriptor");
  try {
    const response = await get(
      place,
      { "accept-encoding": "identity" },
      { stallMs: DESCRIPTOR_TIMEOUT_MS, describe: "the release's descriptor" },
    );
    if (response.statusCode !== 200) {
      response.destroy();
      throw new Error(`the server answered ${response.statusCode}`);
    }
    const timeout = setTimeout(() => response.destroy(new Error("the server is too slow")), DESCRIPTOR_TIMEOUT_MS);
    let text = "";
    try {
      for await (const chunk of response.setEncoding("utf8")) {
        text += chunk;
        if (text.length > limits.descriptorBytes) throw badDescriptor("it is too large");
      }
    } finally {
      clearTimeout(timeout);
      response.destroy();
    }
    return text;
  } catch (cause) {
    if (cause instanceof Problem) throw cause;
    if (state.descriptor) {
      say(`${cause.message}; release ${state.sequence}, which was accepted before, still counts`);
      return JSON.stringify(state.descriptor);
    }
    throw new Problem({
      code: "build.release-unreachable",
      message: "The descriptor of the published guest image cannot be read.",
      cause,
      evidence: place,
      next: ["Check the machine's network and CLOCHE_IMAGE_RELEASE, then run the same command again.", buildInstead],
    });
  }
}

const fields = {
  version: (value) => value === DESCRIPTOR_VERSION,
  arch: (value) => value === "x86_64" || value === "arm64",
  url: goodUrl,
  sizeBytes: (value) => Number.isSafeInteger(value) && value > 0 && value <= limits.archiveBytes,
  sha256: (value) => typeof value === "string" && /^[0-9a-f]{64}$/.test(value),
  imageId: (value) => typeof value === "string" && /^[0-9a-f]{64}$/.test(value),
  sequence: (value) => Number.isSafeInteger(value) && value > 0,
  signature: (value) => typeof value === "string" && /^[A-Za-z0-9+/]{86}==$/.test(value),
};

function goodUrl(value) {
  if (typeof value !== "string" || value.length > 2048) return false;
  try {
    const { protocol, username, password } = new URL(value);
    return (protocol === "https:" || protocol === "http:") && !username && !password;
  } catch {
    return false;
  }
}

export function parseDescriptor(text) {
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw badDescriptor(`it is no JSON: ${error.message}`);
  }
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw badDescriptor("it is no object");
  if (Number.isInteger(value.version) && value.version > DESCRIPTOR_VERSION) {
    throw new Problem({
      code: "build.release-newer",
      message: `The release's descriptor is version ${value.version}; this Cloche reads up to ${DESCRIPTOR_VERSION}.`,
      next: ["Update Cloche: git pull", buildInstead],
    });
  }
  const unknown = Object.keys(value).find((name) => !Object.hasOwn(fields, name));
  if (unknown !== undefined) throw badDescriptor(`unknown field ${JSON.stringify(unknown)}`);
  for (const [name, good] of Object.entries(fields)) {
    if (!Object.hasOwn(value, name)) throw badDescriptor(`no ${name}`);
    if (!good(value[name])) throw badDescriptor(`${name}: ${JSON.stringify(value[name]).slice(0, 200)}`);
  }
  return value;
}

const signedText = ({ signature: _, ...rest }) => Buffer.from(canonical(rest));

function checkSignature(release, key) {
  if (verify(null, signedText(release), key, Buffer.from(release.signature, "base64"))) return;
  throw new Problem({
    code: "build.release-signature",
    message: "The published guest image is not signed by the key that is trusted here. It was not downloaded.",
    evidence: `trusted key ${fingerprint(key)}`,
    next: ["Do not use it. If the publisher has a new key, get it on a way that you trust.", buildInstead],
  });
}

/** An old release is validly signed for ever, with all the holes that a newer one closed. */
function checkSequence(release, state) {
  const older = release.sequence < state.sequence;
  const other = release.sequence === state.sequence && (release.imageId !== state.imageId || release.sha256 !== state.sha256);
  if (!older && !other) return;
  throw new Problem({
    code: "build.release-rollback",
    message: older
      ? `The published guest image is release ${release.sequence}, older than release ${state.sequence} that was used here before. It was not downloaded.`
      : `Release ${release.sequence} of the guest image was accepted here before with other content. It was not downloaded.`,
    evidence: `accepted ${state.sequence}: image ${state.imageId}\noffered  ${release.sequence}: image ${release.imageId}`,
    next: ["Ask the publisher for the newest release.", `To go back on purpose: remove ${state.file}`, buildInstead],
  });
}

function readState(key) {
  const file = paths.state(key);
  if (!exists(file)) return { file, sequence: 0 };
  try {
    const { version, descriptor } = JSON.parse(readFileSync(file, "utf8"));
    if (version !== STATE_VERSION) throw new Error(`it is version ${version}`);
    const { sequence, imageId, sha256 } = parseDescriptor(JSON.stringify(descriptor));
    return { file, sequence, imageId, sha256, descriptor };
  } catch (cause) {
    throw new Problem({
      code: "build.release-state",
      message: "What was noted about the last accepted guest image cannot be read, so an older one could not be told.",
      cause,
      evidence: file,
      next: [`Remove ${file}, then run the same command again: the next release that is offered counts as the first.`, buildInstead],
    });
  }
}

/** Never goes down, also not when two builds with different offers end one after the other. */
function writeState(key, descriptor) {
  const { file, sequence } = readState(key);
  if (sequence >= descriptor.sequence) return;
  mkdirSync(join(cacheRoot, "releases"), { recursive: true });
  const temporary = `${file}.${process.pid}.tmp`;
  writeFileSync(temporary, `${JSON.stringify({ version: STATE_VERSION, descriptor }, null, 2)}\n`);
  renameSync(temporary, file);
}

function trustedKey(say) {
  const named = process.env.CLOCHE_IMAGE_KEY;
  const file = named ? resolve(named) : paths.key();
  if (!named && !exists(file)) return null;
  const text = readBounded(file, limits.keyBytes, "build.release-key", "The public key of releases");
  const key = text.includes("-----BEGIN PUBLIC KEY-----") ? keyFrom(createPublicKey, text) : null;
  if (key === null)
    throw badKey(`${file} is no Ed25519 public key`, ["It begins with BEGIN PUBLIC KEY. A private key never belongs here."]);
  if (named) say(`releases are trusted by the key ${fingerprint(key)} of CLOCHE_IMAGE_KEY, not by Cloche's own`);
  return key;
}

function keyFrom(create, text) {
  try {
    const key = create(text);
    return key.asymmetricKeyType === "ed25519" ? key : null;
  } catch {
    return null;
  }
}

function fingerprint(key) {
  return createHash("sha256")
    .update(key.export({ type: "spki", format: "der" }))
    .digest("hex")
    .slice(0, 16);
}

/** `npm run image -- --release --sign KEY.pem --url URL --out DIR`: the archive and its signed descriptor. */
export async function publish({ imageDir, keyFile, url, out, sequence }) {
  const privateKey = signingKey(keyFile);
  const publicKey = createPublicKey(privateKey);
  const manifest = readManifest(readFileSync(join(imageDir, "manifest.json")));
  const number = sequence ?? nextSequence(out);
  const name = `cloche-image-${manifest.arch}-${number}.tar`;
  mkdirSync(out, { recursive: true });
  const archive = join(out, name);
  rmSync(`${archive}.tmp`, { force: true });
  const { parts, sizeBytes } = await packImage(imageDir, `${archive}.tmp`);
  renameSync(`${archive}.tmp`, archive);
  const release = {
    version: DESCRIPTOR_VERSION,
    arch: manifest.arch,
    url: url.endsWith("/") ? `${url}${name}` : url,
    sizeBytes,
    sha256: createHash("sha256").update(readFileSync(archive)).digest("hex"),
    imageId: manifest.id,
    sequence: number,
  };
  const signature = sign(null, signedText(release), privateKey).toString("base64");
  const signed = parseDescriptor(JSON.stringify({ ...release, signature }));
  checkSignature(signed, publicKey);
  // Read back as those who fetch it will: what cannot be unpacked is not given out.
  const check = join(out, `${name}.check`);
  rmSync(check, { recursive: true, force: true });
  mkdirSync(check);
  try {
    await unpackImage(archive, check, { imageId: manifest.id, arch: manifest.arch });
  } finally {
    rmSync(check, { recursive: true, force: true });
  }
  writeFileSync(join(out, "release-key.pem"), publicKey.export({ type: "spki", format: "pem" }));
  writeFileSync(join(out, "release.json.tmp"), `${JSON.stringify(signed, null, 2)}\n`);
  renameSync(join(out, "release.json.tmp"), join(out, "release.json"));
  return { archive, descriptor: join(out, "release.json"), key: fingerprint(publicKey), sizeBytes, parts, release: signed };
}

/** One more than the last release that this checkout or the output folder knows. */
function nextSequence(out) {
  const known = [paths.descriptor(), join(out, "release.json")].filter(exists);
  return 1 + Math.max(0, ...known.map((file) => parseDescriptor(readFileSync(file, "utf8")).sequence));
}

function signingKey(file) {
  const text = readBounded(resolve(file), limits.keyBytes, "build.release-key", "The key to sign with");
  if (statSync(file).mode & 0o077) throw badKey(`${file} may be read by other users`, [`chmod 600 ${file}`]);
  const key = keyFrom(createPrivateKey, text);
  if (key === null)
    throw badKey(`${basename(file)} is no Ed25519 private key without a passphrase`, [
      "Make one: openssl genpkey -algorithm ed25519 -out KEY.pem",
    ]);
  return key;
}

function readBounded(file, maxBytes, code, what) {
  let cause;
  try {
    if (statSync(file).size <= maxBytes) return readFileSync(file, "utf8");
    cause = new Error(`it has more than ${maxBytes} bytes`);
  } catch (error) {
    cause = error;
  }
  throw new Problem({ code, message: `${what} cannot be read.`, cause, evidence: file, next: ["Check the path.", buildInstead] });
}

const exists = (path) => lstatSync(path, { throwIfNoEntry: false }) !== undefined;

const badDescriptor = (evidence) =>
  new Problem({
    code: "build.release-descriptor",
    message: "The release's descriptor is not one that can be used. Nothing was downloaded.",
    evidence,
    next: ["Check vm-image/release.json or CLOCHE_IMAGE_RELEASE.", buildInstead],
  });
const badKey = (evidence, next) =>
  new Problem({ code: "build.release-key", message: "The key of releases cannot be used.", evidence, next });
