import { describe, expect, it } from "vitest";
import type { EgressRequest, Rule, RuleDraft } from "../../../contract/index.ts";
import {
  addressClass,
  allowLine,
  checkDraft,
  decide,
  exportSettings,
  idleKeys,
  importSettings,
  inRange,
  narrowestRule,
  networkWords,
  normalPath,
  opaqueRule,
  parseHost,
  parseUrl,
  presetRules,
  registrableDomain,
} from "./index.ts";

const now = new Date("2026-11-25T12:00:00Z");
let made = 0;
const rule = (draft: Partial<RuleDraft> & { host: string }): Rule => ({
  id: `r${++made}`,
  scope: "task",
  from: "user",
  decision: "allow",
  ...draft,
});
const ask = (method: string, url: string): EgressRequest => {
  const request = parseUrl(method, url);
  if (!request) throw new Error(`no request: ${url}`);
  return request;
};
const decided = (method: string, url: string, ...rules: Rule[]) => decide(ask(method, url), rules, now).decision;

describe("names of hosts", () => {
  it.each([
    ["example.com", "example.com"],
    ["EXAMPLE.Com", "example.com"],
    ["xn--bcher-kva.example", "xn--bcher-kva.example"],
    ["localhost", "localhost"],
    ["1.2.3.4", "1.2.3.4"],
    ["[2001:DB8::0:1]", "[2001:db8::1]"],
    ["a-b.c1.example", "a-b.c1.example"],
  ])("%s is one", (text, host) => expect(parseHost(text)?.host).toBe(host));

  const hostile = [
    "",
    ".",
    "..",
    "a..b",
    ".a",
    "a.",
    "example.com.",
    "-a.com",
    "a-.com",
    "a_b.com",
    "a b.com",
    "a\tb",
    "a\0.com",
    "a.com\0.evil.com",
    "a\r\nb",
    "a%2ecom",
    "a%00.com",
    "user@a.com",
    "a.com:80",
    "a.com/",
    "a.com?x",
    "a.com#x",
    "a\\b",
    "bücher.example",
    "ａ.com",
    "a。com",
    "e\u0301.com",
    "a\u200d.com",
    "1",
    "127.1",
    "0x7f.0.0.1",
    "0x7f000001",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "1.2.3",
    "1.2.3.256",
    "1.2.3.4.5",
    "01.2.3.4",
    "1.2.3.04",
    "1.2.3.4.",
    "a.1",
    "a.0x1",
    "a.0x",
    "[::1",
    "::1",
    "[::1%25lo]",
    "[::1%lo]",
    "[fe80::1%eth0]",
    "[::g]",
    "[1.2.3.4]",
    "[::1]:80",
    "[]",
    "*",
    "*.com",
    `${"a".repeat(64)}.com`,
    `${"a.".repeat(127)}com`,
    "(a).com",
    "a,b.com",
    "a;b.com",
    "a'b.com",
    'a"b.com',
    "<a>.com",
    "a=b.com",
    "a&b.com",
    "a!b.com",
    "a$b.com",
    "a~b.com",
    "a+b.com",
    "a|b.com",
    "a^b.com",
    "a`b.com",
    "{a}.com",
  ];
  it.each(hostile.map((text) => [JSON.stringify(text), text]))("E06, E14: %s is none", (_, text) =>
    expect(parseHost(text)).toBeUndefined(),
  );

  it("E06: whatever the bytes, a name is strict, and the same when it is read again", () => {
    let seed = 7;
    const random = (below: number) => {
      seed = (seed * 1_103_515_245 + 12_345) & 0x7fffffff;
      return seed % below;
    };
    for (let n = 0; n < 20_000; n++) {
      const text = Array.from(
        { length: random(12) },
        () => ["a", "1", ".", "-", "x", "0", "[", "]", ":", "%", "\0", "ü", "A", "f", "_"][random(15)],
      ).join("");
      const host = parseHost(text)?.host;
      if (host === undefined) continue;
      expect(host).toMatch(/^(\[[0-9a-f:]+\]|[a-z0-9.-]+)$/);
      expect(parseHost(host)?.host).toBe(host);
    }
  });

  it("the registered domain of a name is found, and a name without one is itself", () => {
    expect(["a.b.example.co.uk", "x.github.io", "localhost", "1.2.3.4"].map(registrableDomain)).toEqual([
      "example.co.uk",
      "x.github.io",
      "localhost",
      "1.2.3.4",
    ]);
  });
});

describe("addresses", () => {
  const refused = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.9.9.9",
    "169.254.169.254",
    "168.63.129.16",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:0:8.8.8.8",
    "::8.8.8.8",
    "64:ff9b::127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::8.8.8.8",
    "2002:7f00:1::1",
    "2002:808:808::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "2001:10::1",
    "3fff::1",
    "fc00::1",
    "fd12::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "2a00:1450::5efe:7f00:1",
    "2a00:1450::200:5efe:7f00:1",
    "4000::1",
    "no address",
    "1.2.3",
    "fe80::1%lo",
  ];
  it.each(refused)("E05, E14, E23: %s is none of the public internet", (ip) =>
    expect(addressClass(ip, new Set())).toMatchObject({ public: false }),
  );
  const allowed = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.0.1",
    "172.32.0.1",
    "192.0.1.1",
    "198.17.1.1",
    "198.20.0.1",
    "223.255.255.255",
  ];
  it.each([...allowed, "2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450:4001:81b::200e", "64:ff9b::8.8.8.8"])(
    "%s is public",
    (ip) => expect(addressClass(ip, new Set())).toEqual({ public: true }),
  );

  it("E17: an address of this computer's own is refused in every spelling, and a neighbour's is not", () => {
    const own = new Set(["93.184.216.34", "2606:4700::aa"]);
    for (const ip of ["93.184.216.34", "2606:4700:0:0::aa", "64:ff9b::93.184.216.34"])
      expect(addressClass(ip, own)).toMatchObject({ public: false });
    for (const ip of ["93.184.216.35", "2606:4700::ab"]) expect(addressClass(ip, own)).toEqual({ public: true });
  });

  it("a range holds its own addresses and no others", () => {
    expect(["10.1.2.3", "10.1.3.1", "::ffff:10.1.2.3"].map((ip) => inRange(ip, "10.1.2.0/24"))).toEqual([true, false, false]);
    expect(["fd00::1", "fd01::1"].map((ip) => inRange(ip, "fd00::/16"))).toEqual([true, false]);
    for (const none of ["10.1.2.3/24", "10.1.2.0/33", "10.1.2.0", "x/8", "10.1.2.0/024"]) expect(inRange("10.1.2.0", none)).toBe(false);
  });
});

describe("paths", () => {
  it.each([
    ["/", "/"],
    ["/a/b?x=1", "/a/b"],
    ["/%61%2D%7e", "/a-~"],
    ["/caf%c3%a9", "/caf%C3%A9"],
    ["/@scope%2fname", "/@scope%2Fname"],
    ["/a;b=c", "/a;b=c"],
    ["/a/./b/.", "/a/b/"],
    ["/./", "/"],
    ["/a|<b>[c]", "/a%7C%3Cb%3E%5Bc%5D"],
    ["/100%25", "/100%25"],
    ["/a//b", "/a//b"],
  ])("%s is decided and sent as %s", (target, path) => expect(normalPath(target)?.path).toBe(path));

  it.each([
    "",
    "a",
    "*",
    "http://a/",
    "/a/../b",
    "/a/.;x/b",
    "/a/..;x/b",
    "/a/..%3Bx/b",
    "/a/.%2Fb",
    "/a%252e",
    "/%25%34%31",
    "/..",
    "/%2e%2e/a",
    "/.%2E/a",
    "/a/..%2fb",
    "/a%5cb",
    "/a\\b",
    "/a\0",
    "/a%00",
    "/a%0a",
    "/a b",
    "/a#b",
    "/%",
    "/%zz",
    "/%c0%af",
    "/%ff",
    "/ü",
    `/${"a".repeat(2048)}`,
  ])("E13, E14: %s is refused", (target) => expect(normalPath(target)).toBeUndefined());

  it("whatever the bytes, a path that is taken is taken the same way again", () => {
    let seed = 3;
    const random = (below: number) => {
      seed = (seed * 1_103_515_245 + 12_345) & 0x7fffffff;
      return seed % below;
    };
    for (let n = 0; n < 20_000; n++) {
      const target = `/${Array.from({ length: random(10) }, () => ["a", "%2e", "%2F", ".", "/", "%", "61", "?", "\\", "%25", "é", "*"][random(12)]).join("")}`;
      const taken = normalPath(target);
      if (!taken) continue;
      expect(normalPath(taken.path + taken.query)).toEqual(taken);
      expect(taken.path).toMatch(/^\/[\x21-\x7e]*$/);
    }
  });
});

describe("decisions", () => {
  it("E08: without rules nothing is allowed", () =>
    expect(decide(ask("GET", "https://a.example.com/"), [], now)).toMatchObject({ decision: "ask", rule: "default" }));

  it.each([
    ["https://allowed.com/", "allow"],
    ["https://ALLOWED.com/", "allow"],
    ["https://allowed.com.evil.tld/", "ask"],
    ["https://evilallowed.com/", "ask"],
    ["https://sub.allowed.com/", "ask"],
    ["https://allowed.co/", "ask"],
    ["https://allowed.com:8443/", "ask"],
    ["http://allowed.com/", "allow"],
    ["http://allowed.com:443/", "ask"],
    ["https://allowed.com:80/", "ask"],
  ])("E07: with allowed.com allowed, %s is %s", (url, decision) =>
    expect(decided("GET", url, rule({ host: "allowed.com" }))).toBe(decision),
  );

  it("E07: a pattern stands for names of one or more labels below, in agreement with a slow reading of it", () => {
    const labels = ["a", "b", "example", "com", "aexample"];
    const pattern = rule({ host: "*.example.com" });
    for (const one of labels)
      for (const two of labels)
        for (const three of labels)
          for (const host of [`${one}.${two}`, `${one}.${two}.${three}`, `x.${one}.${two}.${three}`]) {
            const slow = host.split(".").length > 2 && host.split(".").slice(-2).join(".") === "example.com";
            expect(decided("GET", `https://${host}/`, pattern), host).toBe(slow ? "allow" : "ask");
          }
  });

  it("a deny that fits wins whatever its place, and its reason is told", () => {
    const [deny, allow] = [rule({ host: "*.example.com", decision: "deny", reason: "not here" }), rule({ host: "a.example.com" })];
    for (const rules of [
      [deny, allow],
      [allow, deny],
    ])
      expect(decide(ask("GET", "https://a.example.com/"), rules, now)).toMatchObject({
        decision: "deny",
        rule: deny.id,
        reason: expect.stringContaining("not here"),
      });
  });

  it("of the others the first in the list decides", () => {
    const [asks, allow] = [rule({ host: "a.example.com", decision: "ask" }), rule({ host: "a.example.com" })];
    expect(decided("GET", "https://a.example.com/", asks, allow)).toBe("ask");
    expect(decided("GET", "https://a.example.com/", allow, asks)).toBe("allow");
  });

  it("E18: method and path are decided", () => {
    const rules = [rule({ host: "a.example.com", methods: ["GET"], paths: ["/repos/*/x", "/all/**"] })];
    const cases = [
      ["GET", "/repos/me/x", "allow"],
      ["GET", "/repos/me/y/x", "ask"],
      ["GET", "/all/a/b", "allow"],
      ["GET", "/all", "ask"],
      ["POST", "/all/a", "ask"],
      ["GET", "/repos/me%2Fyou/x", "ask"],
    ];
    for (const [method = "", path = "", decision] of cases)
      expect(decided(method, `https://a.example.com${path}`, ...rules), path).toBe(decision);
  });

  it("a path is refused in each form that a server may read it in, and allowed only in all", () => {
    const deny = [rule({ host: "a.example.com" }), rule({ host: "a.example.com", decision: "deny", paths: ["/admin/**"] })];
    for (const path of ["/admin/x", "//admin/x", "/admin%2Fx", "/%2Fadmin/x"])
      expect(decided("GET", `https://a.example.com${path}`, ...deny), path).toBe("deny");
    expect(decided("GET", "https://a.example.com/admins/x", ...deny)).toBe("allow");
    expect(decided("GET", "https://a.example.com/a%2Fb", rule({ host: "a.example.com", paths: ["/*"] }))).toBe("ask");
  });

  it("E19: an upgrade passes only where a rule says so", () => {
    expect(decided("GET", "wss://a.example.com/", rule({ host: "a.example.com" }))).toBe("ask");
    expect(decided("GET", "wss://a.example.com/", rule({ host: "a.example.com", upgrade: true }))).toBe("allow");
  });

  it("E10: an unread connection passes only by a rule for unread ones, and a refusal of a part refuses it", () => {
    const opaque = rule({ host: "db.example.com", port: 5432, opaque: true });
    expect(opaqueRule("db.example.com", 5432, [opaque], now)).toBe(opaque);
    expect(opaqueRule("db.example.com", 443, [opaque], now)).toBeUndefined();
    expect(opaqueRule("db.example.com", 443, [rule({ host: "db.example.com" })], now)).toBeUndefined();
    expect(
      opaqueRule("db.example.com", 5432, [opaque, rule({ host: "db.example.com", decision: "deny", paths: ["/x"] })], now),
    ).toBeUndefined();
    expect(decided("GET", "https://db.example.com:5432/", opaque)).toBe("ask");
  });

  it.each(["TRACE", "CONNECT", "TRACK"])("E21: %s is never passed on", (method) => {
    expect(decide({ ...ask("GET", "https://a.example.com/"), method }, [rule({ host: "a.example.com" })], now).decision).toBe("deny");
  });

  it("a rule whose time is over or whose budget is used up allows nothing", () => {
    const request = ask("GET", "https://a.example.com/");
    expect(decide(request, [rule({ host: "a.example.com", until: "2026-11-25T12:00:01Z" })], now).decision).toBe("allow");
    expect(decide(request, [rule({ host: "a.example.com", until: "2026-11-25T12:00:00Z" })], now).decision).toBe("ask");
    const limited = rule({ host: "a.example.com", requests: 2, bytes: 10 });
    const having = (requests: number, bytes: number) => decide(request, [limited], now, () => ({ requests, bytes })).decision;
    expect([having(1, 9), having(2, 0), having(0, 10)]).toEqual(["allow", "ask", "ask"]);
  });

  it.each(["*", "*.com", "*.co.uk", "*.github.io", "a.*.com", "*.1.2.3.4", "a.com:80", "exämple.com"])("%s is no host of a rule", (host) =>
    expect(checkDraft({ decision: "allow", host })).toEqual(expect.any(String)),
  );

  it("a private range goes with an exact host that is allowed, and with nothing else", () => {
    const draft = { decision: "allow", host: "a.example.com", private: "10.1.2.0/24" } as const;
    expect(checkDraft(draft)).toBeUndefined();
    for (const unfit of [{ host: "*.example.com" }, { decision: "deny" as const }, { private: "10.1.2.3/24" }, { private: "10" }])
      expect(checkDraft({ ...draft, ...unfit })).toEqual(expect.any(String));
  });

  it("what is offered for a request lets it pass and is one line of the command", () => {
    for (const url of [
      "https://a.example.com/v1/x",
      "http://a.example.com:8080/it's",
      "wss://a.example.com/s",
      "https://a.example.com/@a%2Fb",
    ]) {
      const request = ask("GET", url);
      expect(decide(request, [rule(narrowestRule(request))], now).decision, url).toBe("allow");
      expect(checkDraft(narrowestRule(request))).toBeUndefined();
    }
    expect(allowLine("receipts", ask("POST", "https://a.example.com/it's"))).toBe(
      `cloche allow receipts a.example.com --method POST --path '/it'\\''s'`,
    );
  });
});

describe("presets", () => {
  const all = (["models", "packages", "git", "web"] as const).flatMap((preset) => presetRules(preset));
  it("name exact hosts, open no upgrade, nothing unread and no keys of the guest's, and can be used", () => {
    for (const { id, scope, from, ...draft } of all) {
      expect(checkDraft(draft), id).toBeUndefined();
      expect(draft.host.startsWith("*"), id).toBe(false);
      expect([scope, from, draft.decision, draft.upgrade, draft.opaque, draft.credentials, draft.private]).toEqual([
        "task",
        "preset",
        "allow",
        undefined,
        undefined,
        undefined,
        undefined,
      ]);
      expect(draft.methods, id).toBeDefined();
    }
    expect(presetRules("none")).toEqual([]);
  });

  it.each([
    ["POST", "https://api.anthropic.com/v1/messages", "allow"],
    ["POST", "https://api.anthropic.com/v1/files", "ask"],
    ["GET", "https://registry.npmjs.org/@types%2fnode", "allow"],
    ["PUT", "https://registry.npmjs.org/mine", "ask"],
    ["POST", "https://upload.pypi.org/legacy/", "ask"],
    ["GET", "http://deb.debian.org/debian/dists/trixie/InRelease", "allow"],
    ["GET", "https://github.com/a/b.git/info/refs?service=git-upload-pack", "allow"],
    ["POST", "https://github.com/a/b.git/git-upload-pack", "allow"],
    ["GET", "https://github.com/a/b.git/info/refs?service=git-receive-pack", "ask"],
    ["GET", "https://github.com/a/b.git/info/refs?service=git-upload-pack&service=git-receive-pack", "ask"],
    ["POST", "https://github.com/a/b.git/git-receive-pack", "ask"],
    ["POST", "https://api.github.com/gists", "ask"],
    ["GET", "https://docs.python.org/3/", "allow"],
    ["POST", "https://stackoverflow.com/questions/ask", "ask"],
  ])("E18: %s %s is %s", (method, url, decision) => expect(decided(method, url, ...all)).toBe(decision));
});

describe("settings of sandbox-runtime", () => {
  it("domains come in as rules and go out again as they were; what has no counterpart is told", () => {
    const imported = importSettings(
      JSON.stringify({
        network: {
          allowedDomains: ["a.example.com", "*.example.org:8443"],
          deniedDomains: ["b.example.com"],
          deniedDomainReasons: { "b.example.com": "no" },
          allowLocalBinding: true,
        },
        filesystem: {},
      }),
    );
    if ("problem" in imported) throw new Error(imported.problem);
    expect(imported.rules).toEqual([
      { decision: "deny", host: "b.example.com", reason: "no" },
      { decision: "allow", host: "a.example.com" },
      { decision: "allow", host: "*.example.org", port: 8443 },
    ]);
    expect(imported.notes).toHaveLength(4);
    const back = JSON.parse(exportSettings(imported.rules.map((draft) => rule(draft))).settings);
    expect(back).toEqual({
      network: {
        allowedDomains: ["a.example.com:443", "a.example.com:80", "*.example.org:8443"],
        deniedDomains: ["b.example.com"],
        deniedDomainReasons: { "b.example.com": "no" },
      },
    });
    expect(importSettings(JSON.stringify(back))).toMatchObject({ rules: imported.rules });
  });

  it.each([
    "",
    "[]",
    "{}",
    '{"network": {"allowedDomains": ["*"]}}',
    '{"network": {"allowedDomains": ["*.com"]}}',
    '{"network": {"allowedDomains": "a.com"}}',
  ])("%s is refused whole", (text) => expect(importSettings(text)).toEqual({ problem: expect.any(String) }));

  it("an export never allows more than the rules do", () => {
    const { settings, notes } = exportSettings([
      rule({ host: "a.example.com", methods: ["GET"] }),
      rule({ host: "b.example.com", until: "2027-01-01T00:00:00Z" }),
      rule({ host: "*.c.example.com", decision: "ask" }),
      rule({ host: "x.c.example.com" }),
      rule({ host: "d.example.com", opaque: true, port: 22 }),
    ]);
    expect(JSON.parse(settings)).toEqual({ network: { allowedDomains: [], deniedDomains: [] } });
    expect(notes).toHaveLength(5);
  });
});

describe("the wall's words", () => {
  it.each([
    [[], [], ""],
    [[rule({ host: "a.example.com" })], [], "reach a.example.com"],
    [
      [rule({ host: "a.example.com" })],
      [{ name: "work", hosts: ["a.example.com"] }],
      "reach a.example.com with your key work (it never sees it)",
    ],
    [
      [rule({ host: "a.example.com" }), rule({ host: "db.example.com", port: 5432, opaque: true })],
      [],
      "reach a.example.com and db.example.com:5432 unread",
    ],
    [[rule({ host: "a.example.com" }), rule({ host: "*.example.com", decision: "deny" })], [], ""],
    [[rule({ host: "a.example.com", decision: "ask" })], [], ""],
    [presetRules("web"), [], `reach ${new Set(presetRules("web").map(({ host }) => host)).size} hosts of web`],
  ] as [Rule[], { name: string; hosts: string[] }[], string][])("%#", (rules, secrets, words) =>
    expect(networkWords(rules, secrets)).toBe(words),
  );

  it("name the keys that have no place to go to: refused, or passed on unread", () => {
    const keys = [
      { name: "here", hosts: ["a.example.com"] },
      { name: "unread", hosts: ["db.example.com"] },
      { name: "there", hosts: ["b.example.com"] },
    ];
    const rules = [
      rule({ host: "a.example.com" }),
      rule({ host: "db.example.com", port: 5432, opaque: true }),
      rule({ host: "b.example.com", decision: "deny" }),
    ];
    expect(idleKeys(rules, keys)).toEqual(["unread", "there"]);
    expect(idleKeys([], keys)).toEqual(["here", "unread", "there"]);
  });

  it("name the outgoing proxy, where something is reached through it", () => {
    const proxy = { host: "proxy.example.com", port: 3128, secret: "corp" };
    const near = rule({ host: "nas.example.com", private: "10.0.0.0/8" });
    const far = rule({ host: "a.example.com" });
    expect(networkWords([far], [], undefined, proxy)).toBe("reach a.example.com through your proxy proxy.example.com:3128");
    expect(networkWords([far, near], [], undefined, proxy)).toMatch(/through your proxy proxy\.example\.com:3128$/);
    expect(networkWords([near], [], undefined, proxy)).toBe("reach nas.example.com in your own network (10.0.0.0/8)");
    expect(networkWords([], [], undefined, proxy)).toBe("");
  });

  it("say that something is reached exactly when some request is allowed", () => {
    const hosts = ["a.example.com", "b.example.com", "*.example.com"];
    for (let mask = 0; mask < 3 ** 3; mask++) {
      const rules = hosts.flatMap((host, at) => {
        const kind = Math.floor(mask / 3 ** at) % 3;
        return kind === 0 ? [] : [rule({ host, decision: kind === 1 ? "allow" : "deny" })];
      });
      const reached = ["a", "b", "c", "d.e"].some((name) => decided("GET", `https://${name}.example.com/`, ...rules) === "allow");
      expect(networkWords(rules, []) !== "", JSON.stringify(rules.map(({ host, decision }) => [host, decision]))).toBe(reached);
    }
  });
});
