import { execFileSync } from "node:child_process";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { Internet } from "../doubles/internet.ts";
import { allow, ProxyUnderTest, rulesOf } from "../doubles/proxy.ts";

const FORBIDDEN = [
  "10.1.2.3",
  "192.168.77.1",
  "172.16.5.5",
  "100.64.1.1",
  "169.254.169.254",
  "198.18.0.9",
  "192.0.2.7",
  "fd00:77::1",
  "2002:a01:203::1",
];
const NEVER_ROUTED = [
  "127.0.0.1",
  "0.0.0.0",
  "::1",
  "::",
  "::ffff:127.0.0.1",
  "::ffff:10.1.2.3",
  "64:ff9b::7f00:1",
  "fe80::1",
  "224.0.0.1",
  "255.255.255.255",
  "93.184.215.2",
  "2606:2800:220:1::2",
];

describe("an allowed name is dialled at public addresses only", () => {
  let internet: Internet;
  let proxy: ProxyUnderTest;
  const name = (address: string) => `a${address.replaceAll(/[^0-9a-f]/g, "-").replace(/-+$/, "x")}.wild.fixture.example`;

  beforeAll(async () => {
    internet = await Internet.create();
    await internet.origin({ name: "good.wild.fixture.example" });
    for (const address of FORBIDDEN) await internet.origin({ name: name(address), address });
    await internet.dns(Object.fromEntries(NEVER_ROUTED.map((address) => [name(address), [address]])));
    await internet.dns({
      "flip.wild.fixture.example": [["93.184.216.10"], ["10.1.2.3"]],
      "both.wild.fixture.example": ["93.184.216.10", "10.1.2.3"],
      "intranet.fixture.example": ["10.1.2.3"],
    });
    proxy = await ProxyUnderTest.start(internet, {
      rules: rulesOf(
        allow("*.wild.fixture.example"),
        allow("*.wild.fixture.example", { port: 80 }),
        ...FORBIDDEN.map((host) => allow(host.includes(":") ? `[${host}]` : host, { port: 80 })),
        allow("intranet.fixture.example", { port: 80, private: "10.1.0.0/16" }),
      ),
    });
  });
  afterAll(async () => {
    await proxy?.close();
    await internet?.close();
  });
  beforeEach(() => internet.forget());

  it.each(FORBIDDEN)("E05, E23: a name that resolves to %s is refused, although it could be reached", async (address) => {
    expect(internet.run("curl", ["-s", "--max-time", "5", `http://${name(address)}/control`])).toContain("/control");
    await internet.forget();
    const answer = await proxy.http1(`http://${name(address)}/`);
    expect(answer.status).toBe(403);
    expect(answer.error).toMatchObject({ code: "upstream.address", retry: false });
    const { connections, requests } = await internet.seen();
    expect([...connections, ...requests]).toEqual([]);
    await expect.poll(() => proxy.entries).toContainEqual(expect.objectContaining({ what: "ended", decision: "deny", address }));
    const host = address.includes(":") ? `[${address}]` : address;
    const literal = await proxy.http1(`http://${host}/`);
    expect(literal.error?.code).toBe("upstream.address");
    expect((await internet.seen()).connections).toEqual([]);
  });

  it.each(NEVER_ROUTED)("E05, E17: a name that resolves to %s is refused", async (address) => {
    const answer = await proxy.http1(`https://${name(address)}/`);
    expect(answer.error?.code).toBe("upstream.address");
  });

  it.each(["93.184.215.77", "2606:2800:220:1::77"])(
    "E23: a neighbour of this computer is refused although its address looks public: %s",
    async (address) => {
      // IPv6 asks who has it of those only that have it on this cable
      const { file, args } = internet.commandOutside("/usr/sbin/ip", [
        "addr",
        "add",
        `${address}/${address.includes(":") ? 128 : 32}`,
        "dev",
        "cable",
      ]);
      execFileSync(file, args);
      const router = name(address);
      await internet.origin({ name: router, address });
      await expect
        .poll(() => internet.run("curl", ["-s", "--max-time", "5", `http://${router}/control`]), { timeout: 10_000 })
        .toContain("/control");
      await internet.forget();
      const literal = address.includes(":") ? `[${address}]` : address;
      const range = address.includes(":") ? "2606:2800:220:1::/64" : "93.184.215.0/24";
      const neighbours = await ProxyUnderTest.start(internet, {
        rules: rulesOf(allow("*.wild.fixture.example", { port: 80 }), allow("*.wild.fixture.example"), allow(literal, { port: 80 })),
      });
      try {
        for (const url of [`http://${router}/`, `https://${router}/`, `http://${literal}/`]) {
          expect((await neighbours.http1(url)).error, url).toMatchObject({
            code: "upstream.address",
            reason: expect.stringContaining("on a network of this computer"),
          });
        }
        expect((await internet.seen()).connections).toEqual([]);
        expect((await neighbours.http1("https://good.wild.fixture.example/")).status).toBe(200);
        await neighbours.setRules(rulesOf(allow(router, { port: 80, private: range })));
        expect((await neighbours.http1(`http://${router}/`)).status).toBe(200);
      } finally {
        await neighbours.close();
      }
    },
  );

  it("E05: a name that is resolved anew is checked anew, and one bad address refuses them all", async () => {
    expect((await proxy.http1("http://both.wild.fixture.example/")).error?.code).toBe("upstream.address");
    expect(
      (await proxy.http1("http://flip.wild.fixture.example/", { headers: { connection: "close", host: "flip.wild.fixture.example" } }))
        .status,
    ).toBe(200);
    // the connection is kept by the proxy; a change of rules drops what is idle
    await proxy.setRules(rulesOf(allow("flip.wild.fixture.example", { port: 80 }), allow("good.wild.fixture.example")));
    await internet.forget();
    expect((await proxy.http1("http://flip.wild.fixture.example/")).error?.code).toBe("upstream.address");
    expect((await internet.seen()).connections).toEqual([]);
    expect((await proxy.http1("https://good.wild.fixture.example/")).status).toBe(200);
  });

  it("a range that a rule names for one host is reached by that host only", async () => {
    const other = "b.wild.fixture.example";
    await internet.dns({ [other]: ["10.1.2.3"] });
    await proxy.setRules(rulesOf(allow("intranet.fixture.example", { port: 80, private: "10.1.0.0/16" }), allow(other, { port: 80 })));
    expect((await proxy.http1("http://intranet.fixture.example/")).status).toBe(200);
    expect((await proxy.http1(`http://${other}/`)).error?.code).toBe("upstream.address");
    await proxy.setRules(rulesOf(allow("intranet.fixture.example", { port: 80, private: "10.2.0.0/16" })));
    expect((await proxy.http1("http://intranet.fixture.example/")).error?.code).toBe("upstream.address");
    // a kept connection under the former rule is not the way around
    await proxy.setRules(rulesOf(allow("intranet.fixture.example", { port: 80, private: "10.1.0.0/16" })));
    expect((await proxy.http1("http://intranet.fixture.example/")).status).toBe(200);
    await proxy.setRules(rulesOf(allow("intranet.fixture.example", { port: 80 })));
    expect((await proxy.http1("http://intranet.fixture.example/")).error?.code).toBe("upstream.address");
  });
});
