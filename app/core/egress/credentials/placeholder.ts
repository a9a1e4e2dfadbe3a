import { randomBytes, randomInt } from "node:crypto";
import { publicPrefix, webTokenHeader } from "./shapes.ts";

/** Bits of chance in a stand-in: what a guest cannot guess and what never turns up in ordinary text by accident. */
const MIN_BITS = 96;
/** Longest stand-in: it stands in a variable and a header, whatever its key's length is. */
const MAX_LENGTH = 4096;

const DIGITS = "0123456789";
const LOWER = "abcdefghijklmnopqrstuvwxyz";
const UPPER = LOWER.toUpperCase();

/**
 * What the guest holds in a key's place: random, of its provider's prefix, its length and its alphabet, because clients check these.
 * Of the key's own characters it has the public prefix only. It is made of letters and digits beside that prefix, so that no shell, URL, header
 * or JSON text changes it. Where clients parse the value (JSON web tokens) it parses, says nothing, and never expires.
 */
export function makePlaceholder(value: string, host: string): string {
  for (;;) {
    const made = madeLike(value, host);
    if (made !== value && !value.includes(made)) return made;
  }
}

function madeLike(value: string, host: string): string {
  if (webTokenHeader(value)) return harmlessWebToken(host);
  if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(value)) return randomUuid(/[A-F]/.test(value));
  const prefix = publicPrefix(value);
  const rest = value.slice(prefix.length);
  const alphabet = alphabetOf(rest);
  const least = Math.ceil(MIN_BITS / Math.log2(alphabet.length)) + 1;
  const length = Math.min(Math.max(rest.length, least), MAX_LENGTH - prefix.length);
  const made = Array.from({ length }, () => alphabet[randomInt(alphabet.length)]).join("");
  // user:password is split at its colon by clients; where the key's own colon is stays untold
  if (prefix !== "" || !rest.includes(":")) return prefix + made;
  const third = Math.floor(length / 3);
  return `${made.slice(0, third)}:${made.slice(third + 1)}`;
}

/** The smallest set of letters and digits that a value's kind is known by. */
function alphabetOf(value: string): string {
  const letters = value.replaceAll(/[^A-Za-z0-9]/g, "");
  if (letters === "") return UPPER + LOWER + DIGITS;
  if (/^[0-9]+$/.test(letters)) return DIGITS;
  if (/^[0-9a-f]+$/.test(letters)) return `${DIGITS}abcdef`;
  if (/^[0-9A-F]+$/.test(letters)) return `${DIGITS}ABCDEF`;
  if (/^[a-z]+$/.test(letters)) return LOWER;
  if (/^[A-Z]+$/.test(letters)) return UPPER;
  if (/^[0-9a-z]+$/.test(letters)) return DIGITS + LOWER;
  if (/^[2-7A-Z]+$/.test(letters)) return `${UPPER}234567`;
  if (/^[0-9A-Z]+$/.test(letters)) return DIGITS + UPPER;
  return UPPER + LOWER + DIGITS;
}

function randomUuid(upper: boolean): string {
  const bytes = randomBytes(16);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const uuid = bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  return upper ? uuid.toUpperCase() : uuid;
}

/** No claim of the key's own is in it; its signature is chance, so that no server takes it for one. The time is 2100-01-01. */
function harmlessWebToken(host: string): string {
  const part = (content: object) => Buffer.from(JSON.stringify(content)).toString("base64url");
  const claims = {
    iss: "cloche",
    sub: "stand-in",
    aud: host,
    jti: randomBytes(16).toString("hex"),
    iat: 1_700_000_000,
    exp: 4_102_444_800,
  };
  return `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}.${randomBytes(32).toString("base64url")}`;
}
