/** Properties that hold for whatever is generated; each compared with a slow reading of its own, or with another parser. */
import { BlockList, isIPv6 } from "node:net";
import { describe, expect, it } from "vitest";
import type { EgressRequest, Rule, RuleDraft } from "../../../contract/index.ts";
import {
  addressClass,
  checkDraft,
  decide,
  exportSettings,
  importSettings,
  inRange,
  narrowestRule,
  networkWords,
  normalPath,
  opaqueRule,
  parseHost,
  refuseAddress,
} from "./index.ts";

const NOW = new Date("2026-11-25T12:00:00Z");
const NONE: ReadonlySet<string> = new Set();

/** mulberry32: the same numbers for the same seed. */
function seeded(seed: number) {
  let state = seed >>> 0;
  const random = (below: number) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
  const pick = <T>(list: readonly T[]): T => list[random(list.length)] as T;
  const many = <T>(most: number, make: () => T): T[] => Array.from({ length: random(most + 1) }, make);
  return { random, pick, many };
}

/** `expect` is called only where it fails: these run tens of thousands of times. */
function same(got: unknown, wanted: unknown, ...about: unknown[]): void {
  if (got !== wanted) expect([...about, got]).toEqual([...about, wanted]);
}

let made = 0;
const ruleOf = (draft: RuleDraft): Rule => ({ id: `r${++made}`, scope: "task", from: "user", ...draft });
const requestOf = (over: Partial<EgressRequest>): EgressRequest => ({
  scheme: "https",
  host: "a.example.com",
  port: 443,
  method: "GET",
  path: "/",
  upgrade: false,
  ...over,
});

describe("E06, E07, E14: hosts", () => {
  it("a pattern fits what a comparison of labels from the last to the first says", () => {
    const slow = (pattern: string, host: string): boolean => {
      const wanted = pattern.split(".").reverse();
      const got = host.split(".").reverse();
      for (const [n, label] of wanted.entries()) {
        if (label === "*") return got.length > n;
        if (got[n] !== label) return false;
      }
      return got.length === wanted.length;
    };
    const { pick, many } = seeded(1);
    const labels = ["a", "b", "ab", "a-b", "example", "evilexample", "com", "co", "xcom"];
    const name = () => [...many(3, () => pick(labels)), pick(["example", "evilexample"]), "com"].join(".");
    let fitting = 0;
    for (let n = 0; n < 10_000; n++) {
      const host = name();
      const pattern = pick(["", "*."]) + name();
      const expected = slow(pattern, host);
      const { decision } = decide(requestOf({ host }), [ruleOf({ decision: "allow", host: pattern })], NOW);
      same(decision, expected ? "allow" : "ask", pattern, host);
      if (expected) fitting++;
    }
    expect(fitting).toBeGreaterThan(100);
  });

  it("a list that is kept decides as one that is read anew, whatever hosts were asked about before", () => {
    const { pick, many, random } = seeded(2);
    const name = () => `${pick(["a", "b", "a.b", "c.a"])}${random(400)}.${pick(["example.com", "example.org"])}`;
    const rules = many(40, () => name()).flatMap((host, n) => [
      ruleOf({ decision: pick(["allow", "deny", "ask"]), host }),
      ruleOf({ decision: n % 4 ? "allow" : "deny", host: `*.${host.slice(host.indexOf(".") + 1)}`, paths: [`/x/${"abcd"[n % 4]}`] }),
    ]);
    const kept = Object.freeze([...rules]) as Rule[];
    const seen = new Set<string>();
    for (let n = 0; n < 5_000; n++) {
      const asked = requestOf({ host: n % 3 ? name() : pick(rules).host.replace("*", "x"), path: pick(["/", "/x/a", "/x/b"]) });
      const wanted = decide(asked, rules, NOW);
      expect(decide(asked, kept, NOW)).toEqual(wanted);
      seen.add(wanted.decision);
    }
    expect(seen).toEqual(new Set(["allow", "deny", "ask"]));
  });

  it("an address is no name: no pattern but itself fits it", () => {
    for (const host of ["*.3.4", "*.2.3.4", "*.0.0.1"]) expect(checkDraft({ decision: "allow", host })).toEqual(expect.any(String));
    const rules = [ruleOf({ decision: "allow", host: "1.2.3.4" }), ruleOf({ decision: "allow", host: "[2606:4700:0::1111]" })];
    const decided = (host: string) => decide(requestOf({ host }), rules, NOW).decision;
    expect([decided("1.2.3.4"), decided("[2606:4700::1111]"), decided("1.2.3.5"), decided("[2606:4700::1112]")]).toEqual([
      "allow",
      "allow",
      "ask",
      "ask",
    ]);
  });

  const pieces = [
    ..."aAzx09.-:[]%@/\\?#_ \t\r\n\0",
    "xn--",
    "xn--bcher-kva",
    "0x",
    "::",
    "ffff",
    "1.2.3.4",
    "\u212a",
    "\u3002",
    "\uff41",
    "\u00ad",
    "é",
    "\ud800",
  ];
  it("whatever the bytes: never throws, what is taken is strict, is taken the same again, and is the same to a URL parser", () => {
    const { random, pick, many } = seeded(2);
    let taken = 0;
    for (let n = 0; n < 100_000; n++) {
      const text = n % 2 ? many(9, () => pick(pieces)).join("") : String.fromCharCode(...many(12, () => random(n % 4 ? 128 : 0x3000)));
      const parsed = parseHost(text);
      if (!parsed) continue;
      taken++;
      const { host } = parsed;
      same(/^(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:]+\])$/.test(host), true, text, host);
      const again = parseHost(host);
      same(again?.host, host, text);
      same(again?.kind, parsed.kind, text);
      if (parsed.kind !== "ipv6") same(text.toLowerCase(), host);
      same(new URL(`http://${host}/`).hostname, host, text);
    }
    expect(taken).toBeGreaterThan(1000);
  });

  it.each([
    ["a letter that folds to ASCII", "\u212aa.com"],
    ["a full-width letter", "\uff41.com"],
    ["a full-width dot", "a\uff0ecom"],
    ["an ideographic full stop", "a\u3002com"],
    ["a soft hyphen", "a\u00adb.com"],
    ["a zero-width space", "a\u200bb.com"],
    ["a right-to-left mark", "a\u202eb.com"],
    ["a lone surrogate", "a\ud800.com"],
    ["Punycode of nothing", "xn--.com"],
    ["Punycode that does not decode", "xn--a.com"],
    ["Punycode of ASCII", "xn--abc-.com"],
    ["Punycode of a letter that is mapped", "xn--kda.com".replace("kda", "mgba3gch31f060k1")],
    ["Punycode in capitals of what does not decode", "XN--99999999.com"],
    ["a scheme", "http://a.com"],
    ["userinfo", "a.com@b.com"],
    ["userinfo with a password", "a:b@c.com"],
    ["a percent-encoded dot", "a%2ecom"],
    ["an octal address", "0177.0.0.1"],
    ["a hexadecimal address in one", "0x7f000001"],
    ["a decimal address in one", "2130706433"],
    ["a short address", "127.1"],
    ["an address with a hexadecimal end", "127.0.0.0x1"],
    ["an address with a dot behind", "127.0.0.1."],
    ["an IPv6 address with a zone", "[fe80::1%25eth0]"],
    ["an IPv6 address without brackets", "::1"],
    ["an IPv6 address with an octal IPv4 end", "[::ffff:0177.0.0.1]"],
    ["two gaps", "[1::2::3]"],
    ["an address of the future", "[v1.x]"],
  ])("refused: %s", (_, text) => expect(parseHost(text)?.host).toBeUndefined());
  it.each(["xn--bcher-kva.example", "xn--fiqs8s", "r3---sn-h0jeln7e.googlevideo.com", "1e100.net", "a.xn--p1ai"])("control: %s", (text) =>
    expect(parseHost(text)?.host).toBe(text),
  );
});

describe("E05, E14, E23: addresses", () => {
  const special4 = [
    ["0.0.0.0", 8],
    ["10.0.0.0", 8],
    ["100.64.0.0", 10],
    ["127.0.0.0", 8],
    ["168.63.129.16", 32],
    ["169.254.0.0", 16],
    ["172.16.0.0", 12],
    ["192.0.0.0", 24],
    ["192.0.2.0", 24],
    ["192.88.99.0", 24],
    ["192.168.0.0", 16],
    ["198.18.0.0", 15],
    ["198.51.100.0", 24],
    ["203.0.113.0", 24],
    ["224.0.0.0", 4],
    ["240.0.0.0", 4],
  ] as const;
  const list = new BlockList();
  for (const [address, bits] of special4) list.addSubnet(address, bits);
  const text4 = (value: number) => [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join(".");
  const value4 = (ip: string) => ip.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);

  it("of IPv4 exactly the special ranges are refused, to their first and last address", () => {
    const { random } = seeded(3);
    const edges = special4.flatMap(([address, bits]) => {
      const first = value4(address);
      const last = first + 2 ** (32 - bits) - 1;
      return [first - 1, first, last, last + 1].filter((value) => value >= 0 && value < 2 ** 32);
    });
    const values = [...edges, ...Array.from({ length: 20_000 }, () => random(2 ** 32))];
    for (const ip of values.map(text4)) same(addressClass(ip, NONE).public, !list.check(ip), ip);
  });

  const embeddings: readonly [string, (high: string, low: string, ip: string) => string][] = [
    ["mapped", (h, l) => `::ffff:${h}:${l}`],
    ["mapped, in dots", (_, __, ip) => `::ffff:${ip}`],
    ["compatible", (h, l) => `::${h}:${l}`],
    ["translated", (h, l) => `::ffff:0:${h}:${l}`],
    ["6to4", (h, l) => `2002:${h}:${l}::1`],
    ["NAT64", (h, l) => `64:ff9b::${h}:${l}`],
    ["NAT64 of a network", (h, l) => `64:ff9b:1::${h}:${l}`],
    ["Teredo server", (h, l) => `2001:0:${h}:${l}::1`],
    ["Teredo client", (h, l) => `2001:0:808:808:0:0:${h}:${l}`],
    ["ISATAP", (h, l) => `2a00:1450:4001::5efe:${h}:${l}`],
    ["ISATAP, global bit", (h, l) => `2a00:1450:4001:0:200:5efe:${h}:${l}`],
  ];
  it.each(embeddings)("an IPv4 address in an IPv6 one (%s): none that is special is public, in any spelling", (_, embed) => {
    for (const [address, bits] of special4) {
      for (const value of [value4(address), value4(address) + 2 ** (32 - bits) - 1]) {
        const ip = embed((value >>> 16).toString(16), (value & 0xffff).toString(16), text4(value));
        expect(isIPv6(ip), ip).toBe(true);
        expect([ip, addressClass(ip, NONE).public]).toEqual([ip, false]);
        expect([ip, addressClass(ip.toUpperCase(), NONE).public]).toEqual([ip, false]);
      }
    }
  });
  it("of those that hold a public address only NAT64's own prefix is public", () => {
    const passing = embeddings.filter(([, embed]) => addressClass(embed("5db8", "d822", "93.184.216.34"), NONE).public);
    expect(passing.map(([name]) => name)).toEqual(["NAT64"]);
  });

  it("of IPv6 nothing outside of 2000::/3 is public but NAT64", () => {
    const { random } = seeded(4);
    for (let n = 0; n < 20_000; n++) {
      const groups = Array.from({ length: 8 }, () => (random(3) ? random(0x10000) : 0));
      const ip = groups.map((group) => group.toString(16)).join(":");
      const inside = ((groups[0] ?? 0) & 0xe000) === 0x2000;
      if (addressClass(ip, NONE).public) same(inside, true, ip);
    }
  });
  it.each([
    "2606:4700:4700::1111",
    "2001:4860:4860::8888",
    "2a00:1450:4001:81b::200e",
    "2620:fe::fe",
    "2400:cb00::1",
    "1.1.1.1",
    "93.184.216.34",
  ])("control: %s is public", (ip) => expect(addressClass(ip, NONE)).toEqual({ public: true }));

  it("a range opens its own addresses, never a metadata service, and none that is not of a private network", () => {
    expect(refuseAddress("10.1.2.3", NONE, "10.1.0.0/16")).toBeUndefined();
    expect(refuseAddress("127.0.0.1", NONE, "127.0.0.1/32")).toBeUndefined();
    expect(refuseAddress("10.1.2.3", new Set(["10.1.2.3"]), "10.1.0.0/16")).toBeUndefined();
    expect(refuseAddress("93.184.216.34", NONE, "10.1.0.0/16")).toBeUndefined();
    for (const [ip, range] of [
      ["10.1.2.3", undefined],
      ["10.2.2.3", "10.1.0.0/16"],
      ["169.254.169.254", "169.254.0.0/16"],
      ["169.254.169.254", "0.0.0.0/0"],
      ["100.100.100.200", "100.64.0.0/10"],
      ["fd00:ec2::254", "fc00::/7"],
      ["168.63.129.16", "168.63.129.16/32"],
      ["224.0.0.1", "0.0.0.0/0"],
      ["::ffff:10.1.2.3", "10.1.0.0/16"],
      ["10.1.2.3", "nonsense"],
    ] as const)
      expect([ip, refuseAddress(ip, NONE, range)]).toEqual([ip, expect.any(String)]);
  });
  describe("E23: a neighbour's address that looks public", () => {
    const networks = [
      "93.184.215.2/24",
      "2606:2800:220:1::2/64",
      "51.0.0.9/7",
      "52.1.1.1/32",
      "2a00::9/16",
      "2a01:1::1/128",
      "nonsense",
      "1.2.3.4/x",
    ];
    const refuses = (ip: string, range?: string) => refuseAddress(ip, new Set(["93.184.215.2"]), range, networks);

    it.each(["93.184.215.1", "93.184.215.255", "2606:2800:220:1::1", "2606:2800:220:1:ffff::1", "64:ff9b::5db8:d701"])(
      "%s is refused",
      (ip) => expect(refuses(ip)).toBe("on a network of this computer"),
    );
    it.each([
      ["behind the router", "93.184.216.1"],
      ["behind the router", "2606:2800:220:2::1"],
      ["behind the router, through NAT64", "64:ff9b::5db8:d801"],
      ["of a prefix that is too wide for neighbours", "50.1.1.1"],
      ["of a prefix that is too wide for neighbours", "2a00:1::1"],
      ["beside the end of a line", "52.1.1.2"],
      ["beside the end of a line", "2a01:1::2"],
      ["of no interface", "1.2.3.4"],
    ])("control: one %s passes: %s", (_, ip) => expect(refuses(ip)).toBeUndefined());

    it("is reached by a rule that names its range, and this computer's own is not", () => {
      expect(refuses("93.184.215.1", "93.184.215.0/24")).toBeUndefined();
      expect(refuses("2606:2800:220:1::1", "2606:2800:220:1::/64")).toBeUndefined();
      expect(refuses("93.184.215.1", "93.184.216.0/24")).toEqual(expect.any(String));
      expect(refuses("93.184.215.2", "93.184.215.0/24")).toBe("this computer");
      expect(refuses("10.1.2.3", "93.184.215.0/24")).toBe("a private network");
    });
  });

  it.each([
    "0.0.0.0/0",
    "169.254.0.0/16",
    "8.0.0.0/7",
    "::/0",
    "2600::/16",
    "203.0.0.0/16",
    "10.0.0.0/7",
    "100.0.0.0/8",
    "224.0.0.0/4",
    "10.1.2.3/24",
    "2001:db8::/32",
  ])("no rule opens %s", (range) =>
    expect(checkDraft({ decision: "allow", host: "nas.example", private: range })).toEqual(expect.any(String)),
  );
  it.each(["10.0.0.0/8", "192.168.1.5/32", "127.0.0.1/32", "fd12:3456::/32", "::1/128", "93.184.215.0/24", "2606:2800:220:1::/64"])(
    "control: a rule opens %s",
    (range) => expect(checkDraft({ decision: "allow", host: "nas.example", private: range })).toBeUndefined(),
  );

  it("whatever the bytes: nothing throws, and what is no address is not public and in no range", () => {
    const { pick, many } = seeded(5);
    for (let n = 0; n < 20_000; n++) {
      const text = many(9, () => pick([..."0123456789abcdef.:/%[] \0x", "::", "ffff", "255"])).join("");
      const { public: isPublic } = addressClass(text, new Set([text]));
      same(isPublic, false, text);
      if (inRange(text, "0.0.0.0/0")) same(/^\d+\.\d+\.\d+\.\d+$/.test(text), true, text);
      inRange("10.0.0.1", text);
    }
  });
});

describe("E13, E14: paths", () => {
  const pieces = [
    ..."aZ0-._~!$&'()*+,;=:@/\\%?#\"<>[]^`{|} \t\r\n\0é",
    "%2e",
    "%2E",
    "%2f",
    "%5c",
    "%00",
    "%25",
    "%c0%af",
    "%C3%A9",
    "%41",
    "..",
    "//",
    "..;",
    "%3b",
  ];
  it("whatever the bytes: never throws, and what is sent is what was decided, to a URL parser too", () => {
    const { random, pick, many } = seeded(6);
    const anything = [ruleOf({ decision: "allow", host: "a.example.com" })];
    let taken = 0;
    for (let n = 0; n < 40_000; n++) {
      const rest = n % 2 ? many(10, () => pick(pieces)).join("") : String.fromCharCode(...many(12, () => random(n % 4 ? 128 : 0x3000)));
      const parsed = normalPath(`/${rest}`);
      if (!parsed) continue;
      taken++;
      const { path, query, decided } = parsed;
      same(/^\/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-F]{2})*$/.test(path), true, rest, path);
      same(/^(?:\?[\x21-\x22\x24-\x7e]*)?$/.test(query), true, rest, query);
      const again = normalPath(path + query);
      for (const part of ["path", "query", "decided"] as const) same(again?.[part], parsed[part], rest);
      same(new URL(`http://host${path}${query}`).pathname, path, rest);
      same(decodeURIComponent(path).split(/[/\\]/).includes(".."), false, rest);
      same(decide(requestOf({ path: decided }), anything, NOW).decision, "allow", rest);
    }
    expect(taken).toBeGreaterThan(2000);
  });

  it("a pattern fits what a slow reading of it says", () => {
    const slow = (pattern: string, path: string): boolean => {
      if (pattern === "") return path === "";
      if (pattern.startsWith("**")) return slow(pattern.slice(2), path) || (path !== "" && slow(pattern, path.slice(1)));
      if (pattern.startsWith("*")) return slow(pattern.slice(1), path) || (path !== "" && path[0] !== "/" && slow(pattern, path.slice(1)));
      return path !== "" && pattern[0] === path[0] && slow(pattern.slice(1), path.slice(1));
    };
    const { pick, many } = seeded(7);
    let fitting = 0;
    for (let n = 0; n < 6_000; n++) {
      const pattern = `/${many(6, () => pick(["a", "b", "/", "*", "**", "a"])).join("")}`.replace(/\/{2,}/g, "/").replace(/\*{3,}/g, "**");
      const path = `/${many(7, () => pick(["a", "b", "/", "a"])).join("")}`.replace(/\/{2,}/g, "/");
      const expected = slow(pattern, path);
      const rule = ruleOf({ decision: "allow", host: "a.example.com", paths: [pattern] });
      same(decide(requestOf({ path }), [rule], NOW).decision, expected ? "allow" : "ask", pattern, path);
      if (expected) fitting++;
    }
    expect(fitting).toBeGreaterThan(400);
  });

  it("a guest cannot make the comparison slow", () => {
    const paths = [`/${"**a".repeat(300)}b`];
    const rule = ruleOf({ decision: "allow", host: "a.example.com", paths });
    const began = performance.now();
    expect(decide(requestOf({ path: `/${"a".repeat(2047)}` }), [rule], NOW).decision).toBe("ask");
    expect(performance.now() - began).toBeLessThan(5_000);
  });

  it("of a query only what git asks for is decided and recorded", () => {
    expect(normalPath("/x/y.git/info/refs?service=git-upload-pack")?.decided).toBe("/x/y.git/info/refs?service=git-upload-pack");
    for (const query of [
      "service=git-receive-pack",
      "service=git-upload-pack&token=secret",
      "token=secret",
      "service=git%2dupload-pack",
      "&service=git-upload-pack",
    ])
      expect(normalPath(`/x/y.git/info/refs?${query}`)?.decided).toBe("/x/y.git/info/refs?service=git-receive-pack");
    expect(normalPath("/x/y.git/info/refs")?.decided).toBe("/x/y.git/info/refs");
    expect(normalPath("/x?token=secret")?.decided).toBe("/x");
    const fetches = ruleOf({ decision: "allow", host: "a.example.com", paths: ["/*/*/info/refs?service=git-upload-pack"] });
    expect(decide(requestOf({ path: "/x/y.git/info/refs%3Fservice=git-upload-pack" }), [fetches], NOW).decision).toBe("ask");
  });
});

describe("decisions over generated policies", () => {
  const hosts = ["a.example.com", "b.example.com", "x.a.example.com", "example.com"];
  const generator = (seed: number) => {
    const { random, pick, many } = seeded(seed);
    const draft = (): RuleDraft => {
      const decision = pick(["allow", "allow", "allow", "deny", "ask"] as const);
      const all = { decision, host: pick([...hosts, "*.example.com", "*.a.example.com"]) };
      const port = random(3) ? {} : { port: pick([443, 80, 8443]) };
      const until = random(5) ? {} : { until: pick(["2026-11-24T00:00:00Z", "2027-01-01T00:00:00Z"]) };
      if (!random(6)) return { ...all, ...port, ...until, opaque: true };
      const methods = random(2) ? {} : { methods: [pick(["GET", "POST"])] };
      const paths = random(2) ? {} : { paths: [pick(["/", "/v1/**", "/v1/*", "/v1/a%2Fb", "/**"])] };
      const upgrade = decision === "deny" || random(4) ? {} : { upgrade: true as const };
      return { ...all, ...port, ...until, ...methods, ...paths, ...upgrade };
    };
    const request = (): EgressRequest =>
      random(8)
        ? requestOf({
            scheme: pick(["https", "http"]),
            host: pick(hosts),
            port: pick([443, 443, 80, 8443]),
            method: pick(["GET", "POST", "PUT"]),
            path: pick(["/", "/v1/a", "/v1/a%2Fb", "/v1/a//b", "/v2"]),
            upgrade: !random(5),
          })
        : requestOf({ scheme: "opaque", host: pick(hosts), port: pick([443, 80, 8443]), method: "", path: "" });
    return { random, pick, many, draft, request };
  };
  const rank = { deny: 0, ask: 1, allow: 2 };

  it("what is allowed is allowed by one rule alone and refused by none alone; a further refusal never opens anything", () => {
    const { many, draft, request } = generator(8);
    let allowed = 0;
    for (let n = 0; n < 3_000; n++) {
      const rules = many(6, () => ruleOf(draft()));
      const asked = request();
      const verdict = decide(asked, rules, NOW);
      const alone = rules.map((rule) => decide(asked, [rule], NOW));
      if (verdict.decision === "allow") {
        allowed++;
        const by = alone[rules.indexOf(verdict.matched as Rule)];
        same(by?.decision, "allow", asked, rules);
      }
      if (alone.some(({ decision }) => decision === "deny")) same(verdict.decision, "deny", asked, rules);
      const further = decide(asked, [...rules, ruleOf({ ...draft(), decision: "deny", upgrade: undefined } as RuleDraft)], NOW);
      same(rank[further.decision] <= rank[verdict.decision], true, asked, rules);
      same(/^[A-Z].{9,}\.$/.test(verdict.reason), true, verdict.reason);
    }
    expect(allowed).toBeGreaterThan(150);
  });

  it("an unread connection is never passed on where anything at its host and port is refused", () => {
    const { many, draft, request } = generator(9);
    let unread = 0;
    for (let n = 0; n < 3_000; n++) {
      const rules = many(6, () => ruleOf(draft()));
      const { host, port } = request();
      const rule = opaqueRule(host, port, rules, NOW);
      if (!rule) continue;
      unread++;
      same(rule.decision === "allow" && rule.opaque, true, rules);
      for (const method of ["GET", "POST", "PUT"])
        for (const path of ["/", "/v1/a", "/v2"])
          for (const scheme of ["https", "http"] as const)
            same(decide(requestOf({ host, port, method, path, scheme }), rules, NOW).decision === "deny", false, rules);
    }
    expect(unread).toBeGreaterThan(25);
  });

  it("what an ask offers allows what was asked, unless a rule refuses it", () => {
    const { many, draft, request } = generator(10);
    for (let n = 0; n < 2_000; n++) {
      const rules = many(4, () => ruleOf(draft()));
      const asked = request();
      const before = decide(asked, rules, NOW).decision;
      const offer = narrowestRule(asked);
      same(checkDraft(offer), undefined, asked);
      same(decide(asked, [ruleOf(offer), ...rules], NOW).decision, before === "deny" ? "deny" : "allow", asked, rules);
    }
  });

  it("settings that go out and come in again never allow more, and refuse all that was refused", () => {
    const { many, draft, request } = generator(11);
    for (let n = 0; n < 1_200; n++) {
      const rules = many(6, () => ruleOf(draft()));
      const imported = importSettings(exportSettings(rules).settings);
      if ("problem" in imported) throw new Error(imported.problem);
      const again = imported.rules.map(ruleOf);
      for (let m = 0; m < 4; m++) {
        const asked = request();
        const before = decide(asked, rules, NOW).decision;
        const after = decide(asked, again, NOW).decision;
        if (after === "allow") same(before, "allow", asked, rules);
        if (before === "deny") same(after, "deny", asked, rules);
      }
    }
  });

  it("P4: the wall names every host that is reached, and none that is not", () => {
    const { many, draft, random } = generator(12);
    const all: EgressRequest[] = [...hosts, "any.example.com", "any.a.example.com"].flatMap((host) => [
      ...[443, 80, 8443].flatMap((port) => [
        requestOf({ scheme: "opaque", host, port, method: "", path: "" }),
        ...(["https", "http"] as const).flatMap((scheme) =>
          ["GET", "POST", "PUT"].flatMap((method) =>
            ["/", "/v1/", "/v1/a", "/v1/q/q", "/v2"].map((path) => requestOf({ scheme, host, port, method, path })),
          ),
        ),
      ]),
    ]);
    for (let n = 0; n < 150; n++) {
      const rules = many(4, () => ruleOf({ ...draft(), ...(random(2) ? {} : { reason: "said so" }) }));
      const words = networkWords(rules, [], NOW);
      const reached = all.filter((asked) => decide(asked, rules, NOW).decision === "allow");
      const named = [...words.matchAll(/(?:\*\.)?[a-z.]*example\.com(?::\d+)?/g)].map(([place]) => place);
      same(words !== "", reached.length > 0, rules);
      for (const { host, port } of reached) {
        const covered = named.some((place) => {
          const [pattern = "", at] = place.split(":");
          return (
            (at === undefined || Number(at) === port) && (pattern === host || (pattern.startsWith("*.") && host.endsWith(pattern.slice(1))))
          );
        });
        same(covered, true, words, host, port);
      }
      for (const place of named) {
        const [pattern = "", at] = place.split(":");
        const some = reached.some(
          ({ host, port }) =>
            (at === undefined || Number(at) === port) &&
            (pattern === host || (pattern.startsWith("*.") && host.endsWith(pattern.slice(1)))),
        );
        same(some, true, words, place);
      }
    }
  });
});
