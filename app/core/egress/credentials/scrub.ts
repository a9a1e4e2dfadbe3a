import { isBalancerCookie } from "./carriers.ts";
import { Patterns } from "./matcher.ts";
import { quoted } from "./refusal.ts";

/** Encodings of less than this many bytes are not searched for: they turn up in ordinary text. */
const MIN_PATTERN = 6;
/** Takes a key's place, byte for byte, so that lengths told beforehand stay true. It is a letter of every encoding that is searched. */
const FILLER = 0x78;

/** A key in the forms in which servers send back what they were sent. */
export function encodings(key: string): Buffer[] {
  const value = key.toWellFormed();
  const bytes = Buffer.from(value, "utf8");
  const everyByte = (form: (byte: number) => string) => Array.from(bytes, form).join("");
  const hex = (byte: number) => byte.toString(16).padStart(2, "0");
  const json = JSON.stringify(value).slice(1, -1);
  const escapeUnit = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  const percent = encodeURIComponent(value);
  const percents = [
    percent,
    percent.replaceAll("%20", "+"),
    // what encodeURIComponent leaves alone and other encoders do not
    percent.replaceAll(/[!'()*]/g, (one) => `%${hex(one.charCodeAt(0)).toUpperCase()}`),
    new URLSearchParams([["", value]]).toString().slice(1),
    // what only has to be encoded in a path
    percent.replaceAll("%2F", "/"),
  ];
  const html: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  const texts = [
    value,
    // a key in hexadecimal is the same in capitals
    value.toLowerCase(),
    value.toUpperCase(),
    json,
    json.replaceAll("/", "\\/"),
    json.replaceAll(/[&<>'=+/]/g, escapeUnit),
    json.replaceAll(/[&<>]/g, escapeUnit),
    json.replaceAll(/[&<>'=+/]/g, (unit) => escapeUnit(unit).toUpperCase().replace("\\U", "\\u")),
    Array.from(value, (character) => Array.from({ length: character.length }, (_, at) => escapeUnit(character[at] ?? "")).join("")).join(
      "",
    ),
    value.replaceAll(/[&<>"']/g, (one) => html[one] ?? one),
    ...percents,
    ...percents.map((text) => text.replaceAll(/%[0-9A-F]{2}/g, (triplet) => triplet.toLowerCase())),
    everyByte((byte) => `%${hex(byte)}`),
    everyByte((byte) => `%${hex(byte).toUpperCase()}`),
    bytes.toString("hex"),
    bytes.toString("hex").toUpperCase(),
    ...[0, 1, 2].flatMap((before) => inBase64(bytes, before)),
  ];
  const wanted = texts.filter((text, at) => text === value || (Buffer.byteLength(text) >= MIN_PATTERN && texts.indexOf(text) === at));
  return [...new Set(wanted)].map((text) => Buffer.from(text, "utf8"));
}

/** The characters of base64 that depend on the key alone when that many bytes stand before it; in both alphabets. */
function inBase64(bytes: Buffer, before: number): string[] {
  const text = Buffer.concat([Buffer.alloc(before), bytes, Buffer.alloc(2)]).toString("base64");
  const from = Math.ceil((before * 8) / 6);
  const to = Math.floor(((before + bytes.length) * 8) / 6);
  const inner = text.slice(from, to);
  return [inner, inner.replaceAll("+", "-").replaceAll("/", "_")];
}

/** Automata of the keys in use: there are few, and each request needs one. */
const automata = new Map<string, Patterns>();
const MAX_AUTOMATA = 16;

function patternsFor(values: readonly string[]): Patterns {
  const name = JSON.stringify([...values].sort());
  const known = automata.get(name);
  if (known) return known;
  const made = new Patterns(values.flatMap(encodings));
  const oldest = automata.keys().next();
  if (automata.size >= MAX_AUTOMATA && !oldest.done) automata.delete(oldest.value);
  automata.set(name, made);
  return made;
}

/** The proxy holds other keys from here on: nothing of the former ones is kept. */
export const forgetScrubbed = (): void => automata.clear();

/**
 * Takes keys out of a response's body as it streams by. Each byte of a key in any of its encodings is replaced by a filler, so that lengths stay as they are.
 * What it keeps back is only what may be a key's beginning: everything else is handed on at once.
 */
export class ResponseScrubber {
  readonly #patterns: Patterns;
  #state = 0;
  #kept: Buffer = Buffer.alloc(0);
  /** a key was found and taken out */
  found = false;

  constructor(values: readonly string[]) {
    this.#patterns = patternsFor(values);
  }

  push(chunk: Uint8Array): Buffer {
    const kept = this.#kept.length;
    let bytes: Buffer = kept === 0 ? Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length) : Buffer.concat([this.#kept, chunk]);
    let owned = kept !== 0;
    this.#state = this.#patterns.scan(this.#state, chunk, (end, length, _pattern, state) => {
      // the caller's chunk is not ours to change
      if (!owned) {
        bytes = Buffer.from(chunk);
        owned = true;
      }
      this.found = true;
      bytes.fill(FILLER, kept + end - length, kept + end);
      return state;
    });
    const ready = bytes.length - this.#patterns.depth(this.#state);
    this.#kept = Buffer.from(bytes.subarray(ready));
    return bytes.subarray(0, ready);
  }

  end(): Buffer {
    const rest = this.#kept;
    this.#kept = Buffer.alloc(0);
    this.#state = 0;
    return rest;
  }
}

/** A text without the keys. */
export function scrubText(text: string, values: readonly string[]): string {
  // one unit of the text is one byte: header values are Latin-1, and a key in UTF-8 has been taken apart into such bytes
  const scrubber = new ResponseScrubber(values);
  const bytes = Buffer.from(text, "latin1");
  const out = Buffer.concat([scrubber.push(bytes), scrubber.end()]);
  return scrubber.found ? out.toString("latin1") : text;
}

/** A response's headers, or trailers, without the keys, whichever header they stand in. */
export const scrubHeaders = (rawHeaders: readonly string[], values: readonly string[]): string[] =>
  values.length === 0 ? [...rawHeaders] : rawHeaders.map((text) => scrubText(text, values));

/**
 * Why an answer cannot be searched although it has to be: it came compressed, or in parts, although neither was asked for.
 * Its body must not be passed on as it is.
 */
export function unsearchable(status: number, rawHeaders: readonly string[]): string | undefined {
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const value = rawHeaders[at + 1] ?? "";
    if (/^content-encoding$/i.test(rawHeaders[at] ?? "") && !/^\s*(?:identity)?\s*$/i.test(value)) {
      return `The server sent its answer compressed (${quoted(value)}) although it was asked not to, so that it cannot be searched for the key.`;
    }
  }
  return status === 206
    ? "The server sent a part of its answer although the whole was asked for, so that it cannot be searched for the key."
    : undefined;
}

/**
 * A response's headers without the cookies that a request could not send on anyway: clients with a cookie jar then work like those
 * without one, instead of being refused at their second request; and no login is handed out in a cookie.
 */
export function withoutLogins(rawHeaders: readonly string[], rule: { credentials?: "guest" | undefined }): string[] {
  if (rule.credentials === "guest") return [...rawHeaders];
  const kept: string[] = [];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const [name, value] = [rawHeaders[at] ?? "", rawHeaders[at + 1] ?? ""];
    if (/^set-cookie2?$/i.test(name) && !isBalancerCookie(value.split(/[=;]/)[0]?.trim() ?? "")) continue;
    kept.push(name, value);
  }
  return kept;
}
