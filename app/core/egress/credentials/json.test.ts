import { describe, expect, it } from "vitest";
import { pick, type Random, seeded, text } from "./fixtures/cases.ts";
import { JsonReader, plainField } from "./json.ts";
import { type Refusal, refuse } from "./refusal.ts";

interface Seen {
  values: [path: string, kind: string, text: string][];
  refusal: Refusal | undefined;
}

function read(body: Buffer | string, cut: () => number = () => 1 << 20): Seen {
  const values: Seen["values"] = [];
  const reader = new JsonReader(
    (path, kind, seen) => {
      values.push([path.join("/"), kind, seen]);
      return undefined;
    },
    (why) => refuse("request.unreadable-body", why),
  );
  const bytes = Buffer.from(body);
  for (let at = 0; at < bytes.length; ) {
    const size = cut();
    reader.push(bytes.subarray(at, at + size));
    at += size;
  }
  return { values, refusal: reader.end() };
}

/** What a reader of the whole sees: the same walk over what JSON.parse made. */
function walk(value: unknown, path: string[] = []): Seen["values"] {
  const here = path.join("/");
  if (typeof value === "string") return [[here, "string", value]];
  if (Array.isArray(value)) return [[here, "array", ""], ...value.flatMap((one) => walk(one, [...path, "[]"]))];
  if (typeof value === "object" && value !== null) {
    return [[here, "object", ""], ...Object.entries(value).flatMap(([name, one]) => walk(one, [...path, plainField(name)]))];
  }
  return [[here, "other", String(value)]];
}

const CHARS = 'aZ09_-é"\\/\n\t\u2028😀\u0001 ';
function document(random: Random, depth = 0): unknown {
  const kind = random(depth > 5 ? 4 : 6);
  if (kind === 0) return text(random, random(12), CHARS);
  if (kind === 1) return random(1000) - 500;
  if (kind === 2) return pick(random, [true, false, null]);
  if (kind === 3) return `${text(random, 3, CHARS)}${"long ".repeat(random(3))}`;
  if (kind === 4) return Array.from({ length: random(5) }, () => document(random, depth + 1));
  return Object.fromEntries(Array.from({ length: random(5) }, () => [text(random, 1 + random(8), CHARS), document(random, depth + 1)]));
}

describe("a document that streams by is seen as one that was read whole", () => {
  it("whatever it is, however it is cut and spaced", () => {
    const random = seeded(11);
    for (let round = 0; round < 1500; round++) {
      const value = document(random);
      const body = JSON.stringify(value, undefined, pick(random, [undefined, 1, "\t"]));
      const seen = read(body, () => 1 + random(1 + random(20)));
      expect(seen.refusal).toBeUndefined();
      expect(seen.values).toEqual(walk(value));
    }
  });

  it("escaped names and values are read as what they mean", () => {
    const seen = read('{"\\u006dcp_servers": ["\\u0068ttp:\\/\\/x"]}', () => 1);
    expect(seen.values).toEqual([
      ["", "object", ""],
      ["mcpservers", "array", ""],
      ["mcpservers/[]", "string", "http://x"],
    ]);
  });

  it("of a long string its beginning, even when the cut goes through an escape or a character", () => {
    for (let shift = 0; shift < 14; shift++) {
      const value = `${"a".repeat(2040 + shift)}${"é\\u0041😀\n".repeat(2000)}`;
      const { values, refusal } = read(JSON.stringify([value]), () => 777);
      expect(refusal).toBeUndefined();
      expect(values[1]?.[2].slice(0, 2030)).toBe("a".repeat(2030));
    }
  });
});

describe("what two readers could understand differently is refused", () => {
  it.each([
    ["nothing", ""],
    ["blanks", "  \n"],
    ["a field twice", '{"a":1,"a":2}'],
    ["a field twice, escaped once", '{"a":1,"\\u0061":2}'],
    ["two documents", "{}{}"],
    ["a second document behind a line's end", "{}\n{}"],
    ["a comma too many", "[1,]"],
    ["a comma too many in an object", '{"a":1,}'],
    ["no comma", "[1 2]"],
    ["no colon", '{"a" 1}'],
    ["a name without quotes", "{a:1}"],
    ["single quotes", "{'a':1}"],
    ["a comment", "{/*x*/}"],
    ["a line's comment", "//x\n{}"],
    ["NaN", "[NaN]"],
    ["Infinity", "[-Infinity]"],
    ["an octal", "[010]"],
    ["a plus", "[+1]"],
    ["a dot without digits", "[1.]"],
    ["hexadecimal", "[0x10]"],
    ["True", "[True]"],
    ["a line's end in a string", '["a\nb"]'],
    ["a line's end in a long string", `["${"a".repeat(5000)}\nb"]`],
    ["an escape that is none", '["\\x41"]'],
    ["an escape that is none in a long string", `["${"a".repeat(5000)}\\x41"]`],
    ["half an escape", '["\\u00"]'],
    ["a mark at the beginning", "\ufeff{}"],
    ["bytes that are not UTF-8", Buffer.from([0x5b, 0x22, 0xff, 0x22, 0x5d])],
    ["a character cut by a quote", Buffer.from([0x5b, 0x22, 0xc3, 0x22, 0x5d])],
    ["UTF-16", Buffer.from('{"a":1}', "utf16le")],
    ["an open object", '{"a":1'],
    ["an open string", '["a'],
    ["a bracket of the other kind", "[1}"],
    ["a closing bracket alone", "]"],
    ["an object as a name", "{{}:1}"],
    ["too deep", "[".repeat(200) + "]".repeat(200)],
    ["a name of great length", `{"${"a".repeat(3000)}":1}`],
    ["a number of great length", `[${"1".repeat(3000)}]`],
    ["too many names", `{${Array.from({ length: 200_000 }, (_, at) => `"name${at}":0`).join(",")}}`],
  ])("%s", (_name, body) => {
    expect(read(body).refusal?.code).toBe("request.unreadable-body");
    expect(read(body, () => (body.length > 10_000 ? 4096 : 1)).refusal?.code).toBe("request.unreadable-body");
  });

  it.each(["{}", "[]", '"a"', "1", "-0.5e+10", " null ", '{"a":{"a":1},"b":[{"a":1},{"a":2}]}', "[".repeat(100) + "]".repeat(100)])(
    "control: %s passes",
    (body) => {
      expect(read(body, () => 1).refusal).toBeUndefined();
    },
  );

  it("names that were closed are forgotten, so that a long list is no great document", () => {
    const list = `[${Array.from({ length: 200_000 }, () => '{"some_field_name_of_a_list":1}').join(",")}]`;
    expect(read(list, () => 65_536).refusal).toBeUndefined();
  });

  it("agrees with a strict reader on broken documents", () => {
    const random = seeded(12);
    for (let round = 0; round < 3000; round++) {
      const bytes = [...JSON.stringify(document(random))];
      for (let edits = 1 + random(2); edits > 0; edits--)
        bytes.splice(random(bytes.length + 1), random(2), pick(random, [...'{}[]:,"\\0aeE-+.tfn \n']));
      const body = bytes.join("");
      let whole: unknown;
      let broken = false;
      try {
        whole = JSON.parse(body);
      } catch {
        broken = true;
      }
      const { values, refusal } = read(body, () => 1 + random(9));
      if (broken) expect(refusal).toBeDefined();
      else if (!refusal) expect(values.map(([path, kind]) => [path, kind])).toEqual(walk(whole).map(([path, kind]) => [path, kind]));
    }
  });
});
