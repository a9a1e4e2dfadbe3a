import { describe, expect, it } from "vitest";
import { FOREIGN_KEYS, seeded, text } from "./fixtures/cases.ts";
import { headerFor, makePlaceholder } from "./index.ts";

const BITS = 96;
/** How many bits of chance a text of an alphabet has. */
const bits = (length: number, alphabet: number) => length * Math.log2(alphabet);

describe("a stand-in", () => {
  it.each(Object.entries(FOREIGN_KEYS).filter(([kind]) => kind !== "web token" && kind !== "private key"))(
    "looks like the key it stands for: %s",
    (_kind, value) => {
      const made = makePlaceholder(value, "api.example.com");
      const lead =
        /^(?:sk-ant-[a-z]+[0-9]{2}-|sk-proj-|sk-or-v1-|sk-|AIza|gsk_|xai-|hf_|r8_|nvapi-|gh[a-z]_|github_pat_|gl[a-z]+-|npm_|pypi-|rubygems_|dckr_pat_|AKIA|ya29\.|dop_v1_|hvs\.|xox[a-z]-|sk_live_|SG\.|key-|shpat_|lin_api_|figd_|tskey-auth-|dapi)/.exec(
          value,
        )?.[0] ?? "";
      expect(made.startsWith(lead)).toBe(true);
      expect(made).toMatch(/^[A-Za-z0-9._:-]+$/);
      if (value.length >= lead.length + 30) expect(made).toHaveLength(value.length);
      const rest = value.slice(lead.length);
      if (/^[0-9a-f]+$/.test(rest)) expect(made.slice(lead.length)).toMatch(/^[0-9a-f]+$/);
      if (/^[0-9A-Z]+$/.test(rest)) expect(made.slice(lead.length)).toMatch(/^[0-9A-Z]+$/);
    },
  );

  it.each([
    ["a short hexadecimal", "00ff00ff", /^[0-9a-f]{24,}$/, 16],
    ["digits", "1234567890", /^[0-9]{29,}$/, 10],
    ["small letters", "correcthorse", /^[a-z]{21,}$/, 26],
    ["a word of all kinds", "p4ssw0rD!", /^[A-Za-z0-9]{17,}$/, 62],
    ["an empty alphabet", "########", /^[A-Za-z0-9]{17,}$/, 62],
  ])("of %s has at least 96 bits of chance", (_name, value, form, alphabet) => {
    const made = makePlaceholder(value, "");
    expect(made).toMatch(form);
    expect(bits(made.length, alphabet)).toBeGreaterThanOrEqual(BITS);
  });

  it("of a UUID is a UUID, in the same case", () => {
    expect(makePlaceholder("0b6f2c1e-3f4a-4c8e-9d52-aa03bb17c111", "")).toMatch(
      /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
    );
    expect(makePlaceholder("0B6F2C1E-3F4A-4C8E-9D52-AA03BB17C111", "")).toMatch(/^[0-9A-F-]{36}$/);
  });

  it("of user:password has one colon, and not at the key's own place", () => {
    const made = makePlaceholder("somebody-with-a-long-name:pw", "registry.example.com");
    expect(made.split(":")).toHaveLength(2);
    expect(made.indexOf(":")).not.toBe("somebody-with-a-long-name".length);
  });

  it("of a web token parses as one, says nothing of the key's claims and does not expire soon", () => {
    const value = FOREIGN_KEYS["web token"] ?? "";
    const made = makePlaceholder(value, "api.example.com");
    const [header, claims, signature] = made.split(".");
    const read = (part: string | undefined) => JSON.parse(Buffer.from(part ?? "", "base64url").toString()) as Record<string, unknown>;
    expect(read(header)).toEqual({ alg: "HS256", typ: "JWT" });
    expect(Object.keys(read(claims)).sort()).toEqual(["aud", "exp", "iat", "iss", "jti", "sub"]);
    expect(read(claims)).toMatchObject({ iss: "cloche", sub: "stand-in", aud: "api.example.com" });
    expect(Number(read(claims).exp)).toBeGreaterThan(4_000_000_000);
    expect(signature).toMatch(/^[\w-]{43}$/);
    for (const part of value.split(".")) expect(made).not.toContain(part);
  });

  it("is another each time, and shares no run of characters with its key beyond the public prefix", () => {
    const random = seeded(3);
    for (let round = 0; round < 300; round++) {
      const lead = ["ghp_", "sk-ant-api03-", "", "hf_"][round % 4] ?? "";
      const value = lead + text(random, 20 + random(80));
      const [one, two] = [makePlaceholder(value, ""), makePlaceholder(value, "")];
      expect(one).not.toBe(two);
      expect(one).not.toBe(value);
      const rest = one.slice(lead.length);
      for (let at = 0; at + 7 <= rest.length; at++) expect(value.includes(rest.slice(at, at + 7))).toBe(false);
    }
  });

  it("keeps to the longest length that it may have", () => {
    expect(makePlaceholder(text(seeded(1), 16_000), "").length).toBe(4096);
  });

  it("draws every character of its alphabet about equally", () => {
    const counts = new Map<string, number>();
    const value = text(seeded(5), 62);
    for (let round = 0; round < 1000; round++) for (const one of makePlaceholder(value, "")) counts.set(one, (counts.get(one) ?? 0) + 1);
    expect(counts.size).toBe(62);
    for (const count of counts.values()) expect(Math.abs(count - 1000)).toBeLessThan(220);
  });
});

describe("the header of a key", () => {
  it.each([
    ["bearer", "authorization", "Bearer v"],
    ["x-api-key", "x-api-key", "v"],
    ["basic", "authorization", `Basic ${Buffer.from("x-access-token:v").toString("base64")}`],
    ["header:X-Team", "x-team", "v"],
  ])("%s", (use, name, value) => {
    expect(headerFor(use).name).toBe(name);
    expect(headerFor(use).template("v")).toBe(value);
  });

  it("basic with a pair of its own", () =>
    expect(headerFor("basic").template("a:b")).toBe(`Basic ${Buffer.from("a:b").toString("base64")}`));
});
