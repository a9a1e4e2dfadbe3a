// One large file over HTTP, whose size and SHA-256 are known before the first byte. What has arrived stays in
// `<sha256>.part` and is gone on with: after a lost connection, after a kill, in the next build.
//
// Two rules make that safe. The notes beside the part (its ETag) are written after the part was emptied and before
// its first byte, so they never describe other bytes. And a part whose whole hash is wrong is removed, not mended.

import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { constants, open } from "node:fs/promises";
import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Problem } from "./problem.mjs";

const defaults = {
  /** A connection that brings nothing for so long is given up; a slow one never is. */
  stallMs: 30_000,
  /** Failures in a row without progress before it gives up. */
  attempts: 6,
  /** Doubles with each failure in a row. */
  backoffMs: 1000,
  maxBackoffMs: 30_000,
  /** What counts as progress: so many bytes further than ever before. So the number of attempts is bounded. */
  progressBytes: 256 << 10,
};

const MAX_REDIRECTS = 5;

/** Something that may be different the next time. */
class Transient extends Error {
  constructor(message, { cause, waitMs = 0 } = {}) {
    super(message, cause ? { cause } : undefined);
    this.waitMs = waitMs;
  }
}

/**
 * Resolves to the path of the complete, checked file. The caller removes it when it has used it.
 *
 * @param {{url: string, sizeBytes: number, sha256: string, folder: string, say?: (text: string) => void,
 *   detail?: (text: string) => void, stallMs?: number, attempts?: number, backoffMs?: number}} job
 */
export async function download(job) {
  const options = { ...defaults, say() {}, detail() {}, ...job };
  const { sizeBytes, folder, say } = options;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const part = join(folder, `${options.sha256}.part`);
  const meter = progressMeter(sizeBytes, options.detail);
  let furthest = 0;
  let failures = 0;
  let first = true;
  for (;;) {
    const file = await open(part, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    const state = { part, file, have: 0, began: 0, hash: createHash("sha256") };
    try {
      await readExisting(state, sizeBytes);
      furthest = first ? state.have : furthest;
      if (first && state.have > 0) say(`going on at ${megabytes(state.have)} of ${megabytes(sizeBytes)}`);
      if (first) needSpace(folder, sizeBytes - state.have);
      first = false;
      if (state.have < sizeBytes) await transfer(state, options, meter);
      const found = state.hash.digest("hex");
      if (found === options.sha256) return part;
      discard(part);
      // A part from an earlier time may have been spoilt on this disk; bytes of one piece come from the server.
      if (state.began > 0) throw new Transient("what had arrived before does not belong to this file");
      throw wrongBytes(options, found);
    } catch (error) {
      if (error.code === "ENOSPC" || error.code === "EDQUOT") throw noSpace(folder, sizeBytes, error);
      if (!(error instanceof Transient)) throw error;
      if (state.have >= furthest + options.progressBytes) failures = 0;
      furthest = Math.max(furthest, state.have);
      failures += 1;
      if (failures >= options.attempts) throw givenUp(options, error, furthest);
      const waitMs = Math.max(Math.min(options.backoffMs * 2 ** (failures - 1), options.maxBackoffMs), error.waitMs);
      say(`${error.message} (at ${megabytes(state.have)} of ${megabytes(sizeBytes)}); again in ${Math.ceil(waitMs / 1000)} s`);
      await sleep(waitMs);
    } finally {
      await file.close();
    }
  }
}

async function readExisting(state, sizeBytes) {
  const { size } = await state.file.stat();
  if (size > sizeBytes) return restart(state);
  const chunk = Buffer.allocUnsafe(1 << 20);
  while (state.have < size) {
    const { bytesRead } = await state.file.read(chunk, 0, chunk.length, state.have);
    if (bytesRead === 0) break;
    state.hash.update(chunk.subarray(0, bytesRead));
    state.have += bytesRead;
  }
  state.began = state.have;
}

async function restart(state) {
  await state.file.truncate(0);
  rmSync(notesFile(state.part), { force: true });
  state.have = 0;
  state.began = 0;
  state.hash = createHash("sha256");
}

function discard(part) {
  rmSync(notesFile(part), { force: true });
  rmSync(part, { force: true });
}

/** One answer of the server, written behind what there is. */
async function transfer(state, options, meter) {
  const { sizeBytes, url } = options;
  const headers = { "accept-encoding": "identity" };
  const noted = state.have > 0 ? readNotes(state.part) : null;
  if (state.have > 0) {
    headers.range = `bytes=${state.have}-`;
    // Without one the whole file's hash still finds a mixture of two files, only later.
    if (noted) headers["if-range"] = noted;
  }
  const response = await get(url, headers, options);
  try {
    const { statusCode } = response;
    if (statusCode === 206) await checkPartial(response, state, options, noted);
    else if (statusCode === 200) {
      const length = response.headers["content-length"];
      if (length !== undefined && Number(length) !== sizeBytes) throw wrongSize(options, `the server says ${length} bytes`);
      await restart(state);
      writeNotes(state.part, validator(response.headers));
    } else if (statusCode === 416) {
      await restart(state);
      throw new Transient("the server knows no such part of the file");
    } else throw failedStatus(response, options);
    const encoding = response.headers["content-encoding"];
    if (encoding && encoding !== "identity") throw refusedAnswer(options, `Content-Encoding: ${encoding}`);
    await receive(response, state, options, meter);
  } finally {
    response.destroy();
  }
}

async function checkPartial(response, state, options, noted) {
  const range = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(response.headers["content-range"] ?? "");
  if (range && Number(range[3]) !== options.sizeBytes) throw wrongSize(options, `the server says ${range[3]} bytes`);
  const now = validator(response.headers);
  const same = range && Number(range[1]) === state.have && (!noted || !now || noted === now);
  if (same && state.have > 0) return;
  await restart(state);
  throw new Transient("the server answered with another part than the one asked for");
}

async function receive(response, state, options, meter) {
  const { sizeBytes, stallMs } = options;
  const stalled = setTimeout(() => response.destroy(new Error(`no byte for ${Math.round(stallMs / 1000)} s`)), stallMs);
  try {
    for await (const chunk of response) {
      stalled.refresh();
      if (state.have + chunk.length > sizeBytes) {
        discard(state.part);
        throw wrongSize(options, `more than ${sizeBytes} bytes came`);
      }
      for (let done = 0; done < chunk.length; ) {
        const { bytesWritten } = await state.file.write(chunk, done, chunk.length - done, state.have + done);
        done += bytesWritten;
      }
      state.hash.update(chunk);
      state.have += chunk.length;
      meter(state.have);
      stalled.refresh(); // the time that the disk takes is not the server's
    }
  } catch (error) {
    if (error instanceof Problem || error.code === "ENOSPC" || error.code === "EDQUOT") throw error;
    throw new Transient(`the connection was lost: ${error.message}`, { cause: error });
  } finally {
    clearTimeout(stalled);
  }
  if (state.have < sizeBytes) throw new Transient("the server ended too early");
}

/** A GET that follows redirects; resolves to the answer's head with its body still to come. */
export async function get(url, headers, { stallMs = defaults.stallMs, describe = "the guest image" } = {}) {
  let at = new URL(url);
  for (let redirects = 0; ; redirects += 1) {
    const response = await head(at, headers, stallMs);
    if (![301, 302, 303, 307, 308].includes(response.statusCode)) return response;
    response.destroy();
    if (redirects === MAX_REDIRECTS) throw badRedirect(at, "more than five redirects", describe);
    at = redirectTarget(at, response.headers.location, describe);
  }
}

/** A redirect may go to another host, and from http to https, but not back and not anywhere else. */
export function redirectTarget(from, location, describe = "the guest image") {
  let to;
  try {
    to = new URL(location, from);
  } catch {
    throw badRedirect(from, `Location: ${location}`, describe);
  }
  const allowed = to.protocol === from.protocol || (from.protocol === "http:" && to.protocol === "https:");
  if (!allowed || to.username || to.password) throw badRedirect(from, `Location: ${location}`, describe);
  return to;
}

function head(url, headers, stallMs) {
  return new Promise((resolve, reject) => {
    const request = (url.protocol === "https:" ? requestHttps : requestHttp)(url, { headers, agent: false });
    const stalled = setTimeout(() => request.destroy(new Error(`no answer for ${Math.round(stallMs / 1000)} s`)), stallMs);
    request.on("error", (cause) => {
      clearTimeout(stalled);
      reject(new Transient(`${url.host} cannot be reached: ${cause.message}`, { cause }));
    });
    request.on("response", (response) => {
      clearTimeout(stalled);
      response.on("error", () => {}); // whoever reads it gets it; whoever threw it away need not
      resolve(response);
    });
    request.end();
  });
}

function failedStatus({ statusCode, statusMessage, headers }, options) {
  if (statusCode === 408 || statusCode === 429 || statusCode >= 500) {
    const asked = /^\d{1,3}$/.test(headers["retry-after"] ?? "") ? Number(headers["retry-after"]) * 1000 : 0;
    return new Transient(`the server answered ${statusCode}`, { waitMs: Math.min(asked, options.maxBackoffMs) });
  }
  return refusedAnswer(options, `status ${statusCode} ${statusMessage ?? ""}`.trim());
}

/** What identifies these very bytes: a strong ETag, else the date of change. */
function validator(headers) {
  if (/^"[\x21\x23-\x7e]{1,256}"$/.test(headers.etag ?? "")) return headers.etag;
  if (headers.etag === undefined && /^[A-Za-z0-9 ,:]{1,64}$/.test(headers["last-modified"] ?? "")) return headers["last-modified"];
  return null;
}

const notesFile = (part) => `${part}.json`;

function writeNotes(part, value) {
  const file = notesFile(part);
  writeFileSync(`${file}.tmp`, JSON.stringify({ version: 1, validator: value }));
  renameSync(`${file}.tmp`, file);
}

/** Notes that cannot be read are no notes: the hash decides in the end. */
function readNotes(part) {
  try {
    const { version, validator: value } = JSON.parse(readFileSync(notesFile(part), "utf8"));
    const [key, field] = /^"/.test(value) ? ["etag", value] : ["last-modified", value];
    return version === 1 ? validator({ [key]: field }) : null;
  } catch {
    return null;
  }
}

/** Bytes, speed over the last seconds, and time left, in a line. */
export function progressMeter(sizeBytes, detail, now = Date.now) {
  const samples = [];
  return (have) => {
    const time = now();
    const last = samples.at(-1);
    if (last && time - last.time < 500 && have < sizeBytes) return;
    // After a restart the old samples are of another transfer.
    if (last && have < last.have) samples.length = 0;
    samples.push({ time, have });
    if (samples.length > 20) samples.shift();
    const [from] = samples;
    const perSecond = time > from.time ? ((have - from.have) / (time - from.time)) * 1000 : 0;
    const speed = perSecond > 0 ? `, ${megabytes(perSecond)}/s, ${Math.ceil((sizeBytes - have) / perSecond)} s left` : "";
    detail(`${megabytes(have)} of ${megabytes(sizeBytes)}${speed}`);
  };
}

export const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

/** The archive and what is unpacked from it are on the disk together for a moment. */
function needSpace(folder, missingBytes) {
  if (!fs.statfsSync) return; // Node before 18.15, which has no name of that kind to import
  const { bavail, bsize } = fs.statfsSync(folder);
  if (bavail * bsize < missingBytes * 2) throw noSpace(folder, missingBytes * 2);
}

export const buildInstead = "To build the image on this machine instead: CLOCHE_IMAGE_RELEASE=build npm start";

const noSpace = (folder, bytes, cause) =>
  new Problem({
    code: "build.release-no-space",
    message: `There is not enough free space in ${folder} for the guest image.`,
    evidence: `it needs about ${megabytes(bytes)} there`,
    cause,
    next: ["Free space, or set CLOCHE_CACHE to a folder on another disk; then run the same command again. What has arrived is kept."],
  });
const wrongSize = ({ sizeBytes, url }, evidence) =>
  new Problem({
    code: "build.release-size",
    message: "The server's file is not the guest image that was signed: its size differs. Nothing of it is used.",
    evidence: `signed: ${sizeBytes} bytes\n${evidence}\n${url}`,
    next: ["Ask whoever publishes the release.", buildInstead],
  });
const wrongBytes = ({ sha256, url }, found) =>
  new Problem({
    code: "build.release-hash",
    message: "The server's file is not the guest image that was signed: its SHA-256 differs. It was removed.",
    evidence: `signed  ${sha256}\nfetched ${found}\n${url}`,
    next: [
      "Run the same command again: it may have been damaged on its way.",
      "If it repeats, do not use it, and tell whoever publishes the release.",
      buildInstead,
    ],
  });
const refusedAnswer = ({ url }, evidence) =>
  new Problem({
    code: "build.release-refused",
    message: "The server does not give out the guest image.",
    evidence: `${evidence}\n${url}`,
    next: ["Check the address that the release names.", buildInstead],
  });
const badRedirect = (from, evidence, describe) =>
  new Problem({
    code: "build.release-redirect",
    message: `The server sends ${describe}'s download to a place where it may not come from.`,
    evidence: `${from.origin}${from.pathname}\n${evidence}`,
    next: ["Check the address that the release names.", buildInstead],
  });
const givenUp = ({ url, attempts, sizeBytes }, cause, furthest) =>
  new Problem({
    code: "build.release-unreachable",
    message: `The guest image could not be fetched: ${attempts} attempts in a row brought it no further than ${megabytes(furthest)} of ${megabytes(sizeBytes)}.`,
    cause,
    evidence: url,
    next: ["Check the machine's network, then run the same command again: it goes on where it stopped.", buildInstead],
  });
