import { describe, expect, it } from "vitest";
import { pick, type Random, seeded, text, VALUE } from "./fixtures/cases.ts";
import { forgetScrubbed, ResponseScrubber, scrubHeaders, scrubText, unsearchable, withoutLogins } from "./index.ts";
import { encodings } from "./scrub.ts";

const SPECIAL = 'p@ss/w+rd=& <"quoted">?\'é';

function whole(values: readonly string[], body: Buffer, cut: (left: number) => number): Buffer {
  const scrubber = new ResponseScrubber(values);
  const out: Buffer[] = [];
  for (let at = 0; at < body.length; ) {
    const size = Math.max(1, Math.min(cut(body.length - at), body.length - at));
    out.push(Buffer.from(scrubber.push(body.subarray(at, at + size))));
    at += size;
  }
  out.push(scrubber.end());
  return Buffer.concat(out);
}

/** Every occurrence of every form, found one by one in the whole: what the stream has to come to. */
function oracle(values: readonly string[], body: Buffer): Buffer {
  const out = Buffer.from(body);
  for (const form of values.flatMap(encodings)) {
    for (let at = body.indexOf(form); at !== -1; at = body.indexOf(form, at + 1)) out.fill("x", at, at + form.length);
  }
  return out;
}

describe("a key that comes back in an answer is taken out", () => {
  const json = (value: string) => JSON.stringify({ error: value });
  it.each<[string, (value: string) => string]>([
    ["plainly", (value) => `echo: ${value}!`],
    ["as JSON", json],
    ["as JSON with escaped slashes", (value) => json(value).replaceAll("/", "\\/")],
    ["as JSON that is safe in HTML", (value) => json(value).replaceAll(/[<>&]/g, (one) => `\\u00${one.charCodeAt(0).toString(16)}`)],
    ["as JSON of escapes only", (value) => [...value].map((one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`).join("")],
    [
      "in HTML",
      (value) =>
        value.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;").replaceAll("'", "&#39;"),
    ],
    ["percent-encoded", (value) => `?k=${encodeURIComponent(value)}&`],
    ["percent-encoded in small letters", (value) => encodeURIComponent(value).replaceAll(/%../g, (one) => one.toLowerCase())],
    ["percent-encoded byte by byte", (value) => [...Buffer.from(value)].map((byte) => `%${byte.toString(16).padStart(2, "0")}`).join("")],
    ["as a form", (value) => new URLSearchParams([["k", value]]).toString()],
    ["in small letters", (value) => value.toLowerCase()],
    ["in CAPITALS", (value) => value.toUpperCase()],
    ["in hexadecimal", (value) => Buffer.from(value).toString("hex")],
    ["in HEXADECIMAL", (value) => Buffer.from(value).toString("hex").toUpperCase()],
    ["in base64", (value) => Buffer.from(value).toString("base64")],
    ["in base64 behind one byte", (value) => Buffer.from(`:${value}`).toString("base64")],
    ["in base64 behind two bytes, with more behind it", (value) => Buffer.from(`ab${value}cdefg`).toString("base64")],
    ["in Basic", (value) => `Basic ${Buffer.from(`someone:${value}`).toString("base64")}`],
    ["in base64 of addresses", (value) => Buffer.from(`x${value}`).toString("base64url")],
  ])("%s", (_name, form) => {
    for (const value of [VALUE, SPECIAL]) {
      const body = Buffer.from(`before ${form(value)} after`);
      const clean = whole([value], body, () => 7);
      expect(clean).toHaveLength(body.length);
      // at most the edges of base64, which hold bits of the neighbours, are left
      const left = clean.toString().replaceAll("x", "").length;
      expect(left).toBeLessThan(body.length - value.length + 4);
      for (const one of encodings(value)) expect(clean.includes(one)).toBe(false);
      expect(clean.subarray(0, 7).toString()).toBe("before ");
      expect(clean.subarray(-6).toString()).toBe(" after");
    }
  });

  it("control: what is not the key is left as it is, byte for byte", () => {
    const body = Buffer.from(
      `${VALUE.slice(0, -1)}! ${VALUE.slice(1)} ${Buffer.from(VALUE).toString("hex").slice(0, -2)} \xff\x00`,
      "latin1",
    );
    expect(whole([VALUE], body, () => 5)).toEqual(body);
    expect(new ResponseScrubber([VALUE]).found).toBe(false);
  });

  it("a value that is no text at all does no harm", () => {
    expect(whole(["\ud800 key that is broken"], Buffer.from("abc"), () => 1).toString()).toBe("abc");
  });

  it("a key that stands inside the beginning of another", () => {
    const body = Buffer.from("0123abcdefghZ 0123abcdefgh4567 abcdefgh");
    expect(whole(["0123abcdefgh4567", "abcdefgh"], body, () => 2).toString()).toBe("0123xxxxxxxxZ xxxxxxxxxxxxxxxx xxxxxxxx");
  });

  it("several keys at once, one the beginning of another, and keys that overlap", () => {
    const values = ["abcdefgh", "abcdefghijkl", "ghijklmnop"];
    const body = Buffer.from("abcdefghijklmnop abcdefgh abcdefghijkl ghijklmnop xabcdefg");
    expect(whole(values, body, () => 3).toString()).toBe("xxxxxxxxxxxxxxxx xxxxxxxx xxxxxxxxxxxx xxxxxxxxxx xabcdefg");
  });
});

describe("however the answer is cut", () => {
  const dense = (random: Random, values: readonly string[]): Buffer => {
    const parts: Buffer[] = [];
    for (let count = random(30); count >= 0; count--) {
      const form = pick(random, values.flatMap(encodings));
      const from = random(3) === 0 ? random(form.length) : 0;
      const to = random(3) === 0 ? from + random(form.length - from) : form.length;
      parts.push(form.subarray(from, to), Buffer.from(text(random, random(4), 'aAx/+%\\u0=: "')));
    }
    return Buffer.concat(parts);
  };
  it("it comes out as if it had been searched as a whole", () => {
    const random = seeded(42);
    for (let round = 0; round < 150; round++) {
      const alphabet = pick(random, ["ab", "abc012", "aA0/+=&", 'x"\\<é%']);
      const values = Array.from({ length: 1 + random(3) }, () => text(random, 8 + random(12), alphabet));
      const body = dense(random, values);
      const expected = oracle(values, body);
      expect(whole(values, body, () => 1 + random(1 + random(40)))).toEqual(expected);
      expect(whole(values, body, () => 1)).toEqual(expected);
      expect(whole(values, body, (left) => left)).toEqual(expected);
    }
    forgetScrubbed();
  });

  it("nothing is kept back but what may be a key's beginning", () => {
    const scrubber = new ResponseScrubber([VALUE]);
    expect(scrubber.push(Buffer.from("data: hello\n\n")).toString()).toBe("data: hello\n\n");
    expect(scrubber.push(Buffer.from(`data: ${VALUE.slice(0, 20)}`)).toString()).toBe("data: ");
    expect(scrubber.push(Buffer.from("!\n\n")).toString()).toBe(`${VALUE.slice(0, 20)}!\n\n`);
    expect(scrubber.end()).toHaveLength(0);
    scrubber.push(Buffer.from(VALUE.slice(0, 9)));
    expect(scrubber.end().toString()).toBe(VALUE.slice(0, 9));
  });

  it("the caller's own chunk is not changed", () => {
    const chunk = Buffer.from(` ${VALUE} `);
    const scrubber = new ResponseScrubber([VALUE]);
    scrubber.push(chunk);
    expect(scrubber.found).toBe(true);
    expect(chunk.toString()).toBe(` ${VALUE} `);
  });

  it("time grows with the length alone, also where every byte nearly is a key", () => {
    const value = `${"a".repeat(200)}b`;
    const time = (length: number) => {
      const body = Buffer.alloc(length, "a");
      const from = performance.now();
      whole([value], body, () => 65_536);
      return performance.now() - from;
    };
    time(1 << 20);
    const [small, large] = [Math.min(time(1 << 20), time(1 << 20)), time(1 << 23)];
    expect(large).toBeLessThan(small * 8 * 6 + 100);
  });

  it("a key of the greatest length is found, and its search stays small", () => {
    const value = text(seeded(9), 16_384);
    const body = Buffer.from(`a${value}b${Buffer.from(`q${value}`).toString("base64")}`);
    const clean = whole([value], body, () => 1000);
    expect(clean.includes(value.slice(100, 140))).toBe(false);
    expect(clean).toHaveLength(body.length);
  });
});

describe("an answer's head", () => {
  it("has no key in any header", () => {
    const headers = [
      "set-cookie",
      `a=${VALUE}`,
      "location",
      `https://x/?k=${encodeURIComponent(VALUE)}`,
      `x-${VALUE}`,
      "1",
      "www-authenticate",
      `Basic ${Buffer.from(`u:${VALUE}`).toString("base64")}`,
      "content-length",
      "12",
    ];
    const clean = scrubHeaders(headers, [VALUE]);
    expect(JSON.stringify(clean)).not.toContain(VALUE.slice(0, 30));
    expect(clean.map((one) => one.length)).toEqual(headers.map((one) => one.length));
    expect(clean.slice(-2)).toEqual(["content-length", "12"]);
    expect(scrubHeaders(headers, [])).toEqual(headers);
    expect(scrubText(`é${VALUE}`, [VALUE])).toBe(`é${"x".repeat(VALUE.length)}`);
  });

  it("hands out no cookie that could not be sent back, unless the guest may have its own", () => {
    const headers = ["Set-Cookie", "session=1; Path=/", "set-cookie", "__cf_bm=2; HttpOnly", "etag", "x"];
    expect(withoutLogins(headers, {})).toEqual(["set-cookie", "__cf_bm=2; HttpOnly", "etag", "x"]);
    expect(withoutLogins(headers, { credentials: "guest" })).toEqual(headers);
  });

  it.each<[number, string[], RegExp | undefined]>([
    [200, ["Content-Encoding", "gzip"], /compressed/],
    [206, [], /a part/],
    [200, ["content-encoding", "identity"], undefined],
    [200, [], undefined],
  ])("says when the answer cannot be searched: %i %j", (status, headers, expected) => {
    const why = unsearchable(status, headers);
    if (expected) expect(why).toMatch(expected);
    else expect(why).toBeUndefined();
  });
});
