import type { Refusal } from "./refusal.ts";

/**
 * Reads JSON as it streams by and says what stands where, without keeping it: the fields of a request to a model API are judged
 * before any of it leaves, and such requests carry whole documents. Strict, because two readers must not differ: UTF-8 only, one value, no
 * field twice in an object, no comment or other liberty; bounded in depth and in what it remembers.
 */
export type JsonKind = "object" | "array" | "string" | "other";
/**
 * Told of each value once, an object or array when it begins. `path` has field names in the form of `plainField` and "[]" for an element; it is
 * valid during the call. `text` is a string's beginning. Answers why the document cannot pass.
 */
export type JsonVisitor = (path: readonly string[], kind: JsonKind, text: string) => Refusal | undefined;

const MAX_DEPTH = 128;
/** Bytes of field names in objects that are not closed yet. */
const MAX_NAMES = 4 * 1024 * 1024;
const MAX_NAME = 1024;
/** How much of a string a visitor sees. */
const SEEN = 2048;
const MAX_WORD = 512;

/** `mcp_servers`, `mcpServers` and `MCP_Servers` are one field: servers differ in how they read names. */
export const plainField = (name: string): string => name.toLowerCase().replaceAll(/[_-]/g, "");

type Expect = "value" | "value or end" | "name" | "name or end" | "colon" | "comma or end" | "nothing";
interface Frame {
  names: Set<string> | undefined;
  bytes: number;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const ESCAPED = new Set(Buffer.from('"\\/bfnrtu'));
const isSpace = (byte: number) => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;

export class JsonReader {
  readonly #visit: JsonVisitor;
  readonly #unreadable: (why: string) => Refusal;
  readonly #utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  readonly #frames: Frame[] = [];
  readonly #path: string[] = [];
  #expect: Expect = "value";
  #token: "none" | "string" | "word" = "none";
  #seen: Uint8Array[] = [];
  #seenBytes = 0;
  #whole = true;
  #escaped = false;
  #names = 0;
  #problem: Refusal | undefined;

  constructor(visit: JsonVisitor, unreadable: (why: string) => Refusal) {
    this.#visit = visit;
    this.#unreadable = unreadable;
  }

  /** Why the document cannot pass, as soon as that is known. */
  push(chunk: Uint8Array): Refusal | undefined {
    if (this.#problem !== undefined) return this.#problem;
    try {
      this.#utf8.decode(chunk, { stream: true });
    } catch {
      return this.#fail("it is not UTF-8");
    }
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length);
    let at = 0;
    while (at < bytes.length && this.#problem === undefined) {
      if (this.#token === "string") at = this.#string(bytes, at);
      else if (this.#token === "word") at = this.#word(bytes, at);
      else this.#structure(bytes[at++] ?? 0);
    }
    return this.#problem;
  }

  end(): Refusal | undefined {
    if (this.#problem !== undefined) return this.#problem;
    if (this.#token === "word") this.#wordEnds();
    if (this.#problem === undefined && (this.#token === "string" || this.#expect !== "nothing")) this.#fail("it ends too early");
    return this.#problem;
  }

  #fail(why: string): Refusal {
    this.#problem ??= this.#unreadable(why);
    return this.#problem;
  }

  #structure(byte: number): void {
    if (isSpace(byte)) return;
    const expect = this.#expect;
    const inObject = this.#frames.at(-1)?.names !== undefined;
    if (byte === QUOTE && expect !== "colon" && expect !== "comma or end" && expect !== "nothing") {
      this.#begin("string");
    } else if (expect === "colon") {
      if (byte === 0x3a) this.#expect = "value";
      else this.#fail("it is not JSON");
    } else if (expect === "comma or end" && byte === 0x2c) {
      this.#expect = inObject ? "name" : "value";
    } else if (byte === (inObject ? 0x7d : 0x5d) && this.#frames.length > 0 && (expect === "comma or end" || expect.endsWith("or end"))) {
      this.#close();
    } else if (expect === "value" || expect === "value or end") {
      if (byte === 0x7b) this.#open(new Set());
      else if (byte === 0x5b) this.#open(undefined);
      else {
        this.#begin("word");
        this.#keep(Uint8Array.of(byte));
      }
    } else this.#fail("it is not JSON");
  }

  #begin(token: "string" | "word"): void {
    this.#token = token;
    this.#seen = [];
    this.#seenBytes = 0;
    this.#whole = true;
  }

  #keep(bytes: Uint8Array): void {
    const room = SEEN - this.#seenBytes;
    if (bytes.length > room) this.#whole = false;
    const part = bytes.subarray(0, room);
    if (part.length === 0) return;
    this.#seen.push(Uint8Array.from(part));
    this.#seenBytes += part.length;
  }

  /** Reads a string's bytes up to its closing quote or the chunk's end. */
  #string(bytes: Buffer, from: number): number {
    let at = from;
    if (this.#escaped) {
      this.#escaped = false;
      if (!ESCAPED.has(bytes[at] ?? 0)) this.#fail("a string has an escape that is none");
      at++;
    }
    for (;;) {
      while (at < bytes.length && bytes[at] !== QUOTE && bytes[at] !== BACKSLASH) {
        if ((bytes[at] ?? 0) < 0x20) {
          this.#fail("a string has a control character");
          return at;
        }
        at++;
      }
      if (at >= bytes.length || bytes[at] === QUOTE) break;
      if (at + 1 >= bytes.length) {
        this.#escaped = true;
        at++;
        break;
      }
      if (!ESCAPED.has(bytes[at + 1] ?? 0)) {
        this.#fail("a string has an escape that is none");
        return at;
      }
      at += 2;
    }
    this.#keep(bytes.subarray(from, at));
    if (this.#expect.startsWith("name") && !this.#whole) this.#fail("a field's name is too long");
    if (at >= bytes.length || this.#problem !== undefined) return at;
    this.#stringEnds();
    return at + 1;
  }

  #stringEnds(): void {
    this.#token = "none";
    const text = this.#text();
    if (text === undefined) {
      this.#fail("a string is not JSON");
      return;
    }
    if (!this.#expect.startsWith("name")) {
      this.#value("string", text);
      return;
    }
    const frame = this.#frames.at(-1);
    if (!frame?.names || text.length > MAX_NAME) {
      this.#fail("a field's name is too long");
      return;
    }
    if (frame.names.has(text)) {
      this.#fail("a field is in it twice");
      return;
    }
    frame.names.add(text);
    frame.bytes += text.length + 16;
    this.#names += text.length + 16;
    if (this.#names > MAX_NAMES) this.#fail("it has too many fields");
    this.#path[this.#path.length - 1] = plainField(text);
    this.#expect = "colon";
  }

  /** The string's beginning, its escapes read; the whole of it where it is short. */
  #text(): string | undefined {
    const raw = Buffer.concat(this.#seen);
    // a cut may have gone through an escape or a character: less than 12 bytes
    for (let cut = 0; cut <= (this.#whole ? 0 : 12); cut++) {
      try {
        return JSON.parse(`"${raw.subarray(0, raw.length - cut).toString("utf8")}"`) as string;
      } catch {
        // not at a border
      }
    }
    return undefined;
  }

  #word(bytes: Buffer, from: number): number {
    let at = from;
    while (at < bytes.length && /[0-9A-Za-z+.-]/.test(String.fromCharCode(bytes[at] ?? 0))) at++;
    this.#keep(bytes.subarray(from, at));
    if (this.#seenBytes > MAX_WORD) this.#fail("a number is too long");
    else if (at < bytes.length) this.#wordEnds();
    return at;
  }

  #wordEnds(): void {
    this.#token = "none";
    const word = Buffer.concat(this.#seen).toString("latin1");
    if (/^(?:true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)$/.test(word)) this.#value("other", word);
    else this.#fail("it is not JSON");
  }

  #value(kind: JsonKind, text: string): void {
    this.#problem ??= this.#visit(this.#path, kind, text);
    this.#expect = this.#frames.length === 0 ? "nothing" : "comma or end";
  }

  #open(names: Set<string> | undefined): void {
    this.#problem ??= this.#visit(this.#path, names ? "object" : "array", "");
    if (this.#frames.length >= MAX_DEPTH) this.#fail("it is nested too deeply");
    this.#frames.push({ names, bytes: 0 });
    this.#path.push("[]");
    this.#expect = names ? "name or end" : "value or end";
  }

  #close(): void {
    this.#names -= this.#frames.pop()?.bytes ?? 0;
    this.#path.pop();
    this.#expect = this.#frames.length === 0 ? "nothing" : "comma or end";
  }
}
