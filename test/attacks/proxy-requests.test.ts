import { once } from "node:events";
import { Duplex } from "node:stream";
import { connect as connectTls } from "node:tls";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Internet } from "../doubles/internet.ts";
import { allow, ProxyUnderTest, rulesOf } from "../doubles/proxy.ts";

/**
 * Requests by which a guest tries to get past the decision. The guest's agent is a part of the hostile side, so what speaks here is
 * whatever can write to a stream. The verdict is the origins' and the name server's logs.
 */
const NOTHING = { requests: [], connections: [], queries: [] };

describe("a request that is not allowed by its rule never leaves, however it is written", () => {
  let internet: Internet;
  let proxy: ProxyUnderTest;

  beforeAll(async () => {
    internet = await Internet.create();
    await internet.origin({ name: "api.fixture.example", names: ["second.fixture.example"] });
    await internet.origin({ name: "other.fixture.example" });
    await internet.port("93.184.216.77", 443, "echo");
    await internet.port("93.184.216.77", 22, "banner");
    await internet.dns({ "raw.fixture.example": ["93.184.216.77"] });
    proxy = await ProxyUnderTest.start(internet, {
      rules: rulesOf(
        allow("api.fixture.example", { methods: ["GET", "POST"] }),
        allow("api.fixture.example", { port: 80 }),
        allow("93.184.216.11"),
      ),
    });
  });
  afterAll(async () => {
    await proxy?.close();
    await internet?.close();
  });
  afterEach(() => internet.forget());

  const control = async () => {
    expect((await proxy.http1("https://api.fixture.example/control")).status).toBe(200);
    expect((await internet.seen()).requests.map(({ target }) => target)).toContain("/control");
    await internet.forget();
  };

  /** Writes bytes on a connection and reads until it closes or is quiet. */
  async function raw(stream: Duplex, bytes: string): Promise<string> {
    let text = "";
    stream.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
    });
    stream.on("error", () => {});
    stream.write(bytes, "latin1");
    const closed = once(stream, "close").catch(() => {});
    await Promise.race([
      closed,
      expect
        .poll(() => text, { timeout: 3_000 })
        .toMatch(/\r\n\r\n/)
        .catch(() => {}),
    ]);
    return text;
  }

  it.each([
    "connect api.fixture.example 443",
    "CONNECT api.fixture.example 443\n",
    "connect  api.fixture.example 443\n",
    "connect api.fixture.example 443 \n",
    "connect api.fixture.example 443\r\n",
    "connect api.fixture.example\0.evil.example 443\n",
    "connect api.fixture.example. 443\n",
    "connect api.fixture.example 0\n",
    "connect api.fixture.example 65536\n",
    "connect api.fixture.example 0443\n",
    "connect api.fixture.example%00 443\n",
    "connect xn--\u00e9 443\n",
    "connect 0x7f.1 80\n",
    "connect 2130706433 80\n",
    "connect 127.1 80\n",
    "connect ::1%lo 80\n",
    "connect user@api.fixture.example 443\n",
    "proxy \n",
    `connect ${"a".repeat(300)} 443\n`,
    "\n",
    "GET / HTTP/1.1\r\nHost: api.fixture.example\r\n\r\n",
  ])("E06: a first line that is not strict closes the stream: %j", async (line) => {
    const stream = await proxy.stream();
    stream.resume();
    stream.write(line, "latin1");
    if (!line.endsWith("\n")) stream.end();
    if (!stream.closed) await once(stream, "close");
    expect(await internet.seen()).toEqual(NOTHING);
    await control();
  });

  it("E09: TLS for another name than was dialled: each request on it is a 421 and nothing is dialled", async () => {
    for (const version of ["http1", "http2"] as const) {
      const answer = await proxy[version]("https://other.fixture.example/", { servername: "api.fixture.example" }).catch(
        (error: Error) => error,
      );
      if (answer instanceof Error) throw answer;
      expect(answer.status).toBe(421);
    }
    expect(await internet.seen()).toEqual(NOTHING);
    await control();
  });

  it.each([
    "other.fixture.example",
    "second.fixture.example",
    "api.fixture.example:444",
    "api.fixture.example.",
    "api.fixture.example@evil.example",
    "",
  ])("E09, E26: a Host that is not the connection's is a 421: %j", async (host) => {
    const first = await proxy.http1("https://api.fixture.example/", { headers: ["host", host] });
    expect(first.status).toBe(421);
    const second = await proxy.http2("https://api.fixture.example/", { headers: { host } }).catch(() => undefined);
    // what HTTP/2 itself takes for no host is dropped before it can count: the origin is sent the connection's own
    if (second?.status === 200) expect((await internet.seen()).requests[0]?.rawHeaders.join()).not.toContain("evil");
    else expect((await internet.seen()).requests).toEqual([]);
    await control();
  });

  it("E09: two Hosts, none, and a whole URL of another host are refused", async () => {
    expect(
      (await proxy.http1("https://api.fixture.example/", { headers: ["host", "api.fixture.example", "Host", "other.fixture.example"] }))
        .status,
    ).toBe(400);
    expect((await proxy.http1("https://api.fixture.example/", { headers: [] })).status).toBe(400);
    const tls = await proxy.tls("api.fixture.example");
    const text = await raw(tls, "GET https://other.fixture.example/ HTTP/1.1\r\nHost: api.fixture.example\r\n\r\n");
    expect(text).toMatch(/^HTTP\/1.1 421/);
    expect((await internet.seen()).requests).toEqual([]);
    await control();
  });

  it("E26: a second authority on an HTTP/2 connection is a 421, the first goes on", async () => {
    const session = await proxy.session("api.fixture.example");
    expect((await proxy.http2("https://api.fixture.example/one", {}, session)).status).toBe(200);
    expect((await proxy.http2("https://second.fixture.example/two", {}, session)).status).toBe(421);
    expect((await proxy.http2("https://api.fixture.example/three", {}, session)).status).toBe(200);
    session.close();
    expect((await internet.seen()).requests.map(({ target }) => target)).toEqual(["/one", "/three"]);
  });

  it("E13: each request of a kept-alive connection is decided: a refused one between two allowed ones does not leave", async () => {
    const tls = await proxy.tls("api.fixture.example");
    const text = await raw(
      tls,
      "GET /one HTTP/1.1\r\nHost: api.fixture.example\r\n\r\nDELETE /two HTTP/1.1\r\nHost: api.fixture.example\r\n\r\nGET /three HTTP/1.1\r\nHost: api.fixture.example\r\nConnection: close\r\n\r\n",
    );
    await expect
      .poll(async () => (await internet.seen()).requests.map(({ method, target }) => `${method} ${target}`))
      .toEqual(["GET /one", "GET /three"]);
    expect(text).toContain("200");
  });

  it.each([
    [
      "both lengths",
      "POST / HTTP/1.1\r\nHost: api.fixture.example\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nDELETE /smuggled HTTP/1.1\r\nHost: api.fixture.example\r\n\r\n",
    ],
    [
      "two lengths",
      "POST / HTTP/1.1\r\nHost: api.fixture.example\r\nContent-Length: 0\r\nContent-Length: 60\r\n\r\nDELETE /smuggled HTTP/1.1\r\nHost: api.fixture.example\r\n\r\n",
    ],
    [
      "a length with a sign",
      "POST / HTTP/1.1\r\nHost: api.fixture.example\r\nContent-Length: +60\r\n\r\nDELETE /smuggled HTTP/1.1\r\nHost: api.fixture.example\r\n\r\n",
    ],
    [
      "an obscured coding",
      "POST / HTTP/1.1\r\nHost: api.fixture.example\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\nDELETE /smuggled HTTP/1.1\r\nHost: api.fixture.example\r\n\r\n",
    ],
    [
      "a space before the colon",
      "POST / HTTP/1.1\r\nHost: api.fixture.example\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\nDELETE /smuggled HTTP/1.1\r\nHost: api.fixture.example\r\n\r\n",
    ],
    [
      "a folded header",
      "POST / HTTP/1.1\r\nHost: api.fixture.example\r\nX: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nDELETE /smuggled HTTP/1.1\r\nHost: api.fixture.example\r\n\r\n",
    ],
    [
      "bare line feeds",
      "POST / HTTP/1.1\nHost: api.fixture.example\nContent-Length: 0\n\nDELETE /smuggled HTTP/1.1\nHost: api.fixture.example\n\n",
    ],
    ["a NUL in a header", "GET / HTTP/1.1\r\nHost: api.fixture.example\r\nX: a\0b\r\n\r\n"],
    [
      "a GET with a body that is not framed",
      "GET / HTTP/1.1\r\nHost: api.fixture.example\r\nTransfer-Encoding: chunked\r\n\r\n2c\r\nDELETE /smuggled HTTP/1.1\r\nHost: x.example\r\n\r\n0\r\n\r\n",
    ],
    [
      "a chunk that is longer than it says",
      "POST / HTTP/1.1\r\nHost: api.fixture.example\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabDELETE /smuggled HTTP/1.1\r\nHost: api.fixture.example\r\n\r\n",
    ],
  ])("E13: smuggling by %s: the origin never sees the second request", async (_, bytes) => {
    for (const stream of [await proxy.tls("api.fixture.example"), await proxy.connect("api.fixture.example", 80)]) await raw(stream, bytes);
    await control();
    const { requests } = await internet.seen();
    expect(requests.filter(({ target, method }) => target.includes("smuggled") || method === "DELETE")).toEqual([]);
  });

  it("E13: hop-by-hop headers, those that Connection names, and the request's trailers stay here", async () => {
    const tls = await proxy.tls("api.fixture.example");
    await raw(
      tls,
      "POST /hop HTTP/1.1\r\nHost: api.fixture.example\r\nConnection: x-secret, close\r\nX-Secret: 1\r\nX-Kept: 1\r\nTE: trailers\r\nKeep-Alive: 5\r\nProxy-Connection: keep-alive\r\nTrailer: x-late\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Late: 1\r\n\r\n",
    );
    const [seen] = (await internet.seen()).requests;
    expect(seen).toMatchObject({ target: "/hop", body: "a", trailers: [], whole: true });
    const names = seen?.rawHeaders.filter((_, at) => at % 2 === 0).map((name) => name.toLowerCase());
    expect(names).toContain("x-kept");
    for (const name of ["x-secret", "te", "keep-alive", "proxy-connection", "trailer", "x-late"]) expect(names).not.toContain(name);
  });

  it("E11: plain HTTP is decided as HTTPS is", async () => {
    const refused = await proxy.http1("http://other.fixture.example/");
    expect(refused.error).toMatchObject({ code: "policy.no-rule", host: "other.fixture.example" });
    expect(await internet.seen()).toEqual(NOTHING);
    expect((await proxy.http1("http://api.fixture.example/")).status).toBe(200);
  });

  it("E12, E04: an explicit proxy's CONNECT and whole URLs are decided by their authority alone, names are not resolved", async () => {
    const label = `${"secret".repeat(8)}.exfil.example`;
    const stream = await proxy.stream();
    stream.write("proxy\n");
    const text = await raw(stream, `GET http://${label}/ HTTP/1.1\r\nHost: ${label}\r\n\r\n`);
    expect(text).toMatch(/^HTTP\/1.1 403/);
    const tunnel = await proxy.stream();
    tunnel.write("proxy\n");
    expect(await raw(tunnel, `CONNECT ${label}:443 HTTP/1.1\r\nHost: ${label}:443\r\n\r\n`)).toMatch(/^HTTP\/1.1 200/);
    tunnel.removeAllListeners("data");
    const inner = await proxy.tlsOver(tunnel, label);
    const answer = await proxy.http1(`https://${label}/`, {}, inner);
    expect(answer.error).toMatchObject({ code: "policy.no-rule", host: label });
    expect(await internet.seen()).toEqual(NOTHING);
    const allowed = await proxy.stream();
    allowed.write("proxy\n");
    await raw(allowed, "CONNECT api.fixture.example:443 HTTP/1.1\r\nHost: api.fixture.example:443\r\n\r\n");
    allowed.removeAllListeners("data");
    expect((await proxy.http1("https://api.fixture.example/in", {}, await proxy.tlsOver(allowed, "api.fixture.example"))).status).toBe(200);
    const whole = await proxy.stream();
    whole.write("proxy\n");
    expect(await raw(whole, "GET http://api.fixture.example/whole HTTP/1.1\r\nHost: api.fixture.example\r\n\r\n")).toMatch(
      /^HTTP\/1.1 200/,
    );
  });

  it.each([
    "GET http://api.fixture.example@other.fixture.example/ HTTP/1.1\r\nHost: api.fixture.example\r\n\r\n",
    "GET http://api.fixture.example/ HTTP/1.1\r\nHost: other.fixture.example\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: api.fixture.example\r\n\r\n",
    "GET https://api.fixture.example/ HTTP/1.1\r\nHost: api.fixture.example\r\n\r\n",
    "GET ftp://api.fixture.example/ HTTP/1.1\r\nHost: api.fixture.example\r\n\r\n",
    "CONNECT api.fixture.example HTTP/1.1\r\nHost: api.fixture.example\r\n\r\n",
    "CONNECT other.fixture.example\0:443 HTTP/1.1\r\nHost: api.fixture.example\r\n\r\n",
  ])("E13, E14: to an explicit proxy: refused: %j", async (bytes) => {
    const stream = await proxy.stream();
    stream.write("proxy\n");
    expect(await raw(stream, bytes)).toMatch(/^(HTTP\/1.1 4|$)/);
    expect(await internet.seen()).toEqual(NOTHING);
  });

  it("E21: TRACE is refused", async () => {
    const tls = await proxy.tls("api.fixture.example");
    expect(await raw(tls, "TRACE / HTTP/1.1\r\nHost: api.fixture.example\r\n\r\n")).toMatch(/^HTTP\/1.1 403/);
    expect(await internet.seen()).toEqual(NOTHING);
  });

  it("E10: what is neither TLS nor HTTP is closed and recorded, ssh and TLS in TLS too; with a rule for it it passes", async () => {
    const before = proxy.entries.length;
    const ssh = await proxy.connect("raw.fixture.example", 443);
    expect(await raw(ssh, "SSH-2.0-OpenSSH_9\r\n")).toBe("");
    const inner = await proxy.tls("api.fixture.example");
    expect(await raw(inner, "\x16\x03\x01\x00\x05hello\r\n\r\n")).toMatch(/^HTTP\/1.1 400/);
    const http2 = await proxy.connect("api.fixture.example", 80);
    expect(await raw(http2, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")).toBe("");
    expect(await internet.seen()).toEqual(NOTHING);
    expect(proxy.entries.slice(before).filter(({ request }) => request.scheme === "opaque")).toMatchObject([
      { decision: "deny", request: { host: "raw.fixture.example", port: 443 } },
      { decision: "deny", request: { host: "api.fixture.example", port: 80 } },
    ]);
    const open = await ProxyUnderTest.start(internet, {
      rules: rulesOf(allow("raw.fixture.example", { opaque: true }), allow("raw.fixture.example", { opaque: true, port: 22 })),
    });
    try {
      const echo = await open.connect("raw.fixture.example", 443);
      expect(await raw(echo, "SSH-2.0-x\r\n\r\n")).toBe("SSH-2.0-x\r\n\r\n");
      const banner = await open.connect("raw.fixture.example", 22);
      const [first] = (await once(banner, "data")) as [Buffer];
      expect(first.toString()).toContain("SSH-2.0-fixture");
      banner.destroy();
      expect((await open.http1("https://raw2.fixture.example/")).status).toBe(403);
      await expect
        .poll(() => open.entries.map(({ what, request, decision }) => [what, request.scheme, decision]))
        .toContainEqual(["ended", "opaque", undefined]);
    } finally {
      await open.close();
    }
  });

  /** A real one of ours, that another one lies in: a name for whoever passes it on, and one that only its origin can read (ECH). */
  function helloWithEch(real: Buffer): Buffer {
    const ech = Buffer.from(`fe0d00ba0000010001aa0020${"ab".repeat(32)}0090${"cd".repeat(144)}`, "hex");
    const sessionAt = 5 + 4 + 2 + 32;
    const ciphersAt = sessionAt + 1 + (real[sessionAt] ?? 0);
    const extensionsAt = ciphersAt + 2 + real.readUInt16BE(ciphersAt) + 2;
    const made = Buffer.concat([real, ech]);
    made.writeUInt16BE(real.readUInt16BE(extensionsAt) + ech.length, extensionsAt);
    made.writeUIntBE(real.readUIntBE(6, 3) + ech.length, 6, 3);
    made.writeUInt16BE(real.readUInt16BE(3) + ech.length, 3);
    return made;
  }
  const hello = (servername: string): Promise<Buffer> =>
    new Promise((resolve) => {
      const wire = new Duplex({
        read() {},
        write(chunk: Buffer) {
          resolve(chunk);
        },
      });
      connectTls({ socket: wire, servername }).on("error", () => {});
    });

  it.each<[what: string, bytes: () => Promise<Buffer> | Buffer]>([
    ["an ssh client's first line", () => Buffer.from("SSH-2.0-OpenSSH_9.9\r\n")],
    ["bytes of no protocol", () => Buffer.from(`\x00\x01secret${"\xff".repeat(400)}`, "latin1")],
    ["a request to a SOCKS proxy", () => Buffer.from("\x05\x01\x00", "latin1")],
    ["HTTP/2 without TLS", () => Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", "latin1")],
    ["a record of TLS that is no handshake", () => Buffer.from("\x17\x03\x03\x00\x05hello", "latin1")],
    ["a handshake of TLS that is none", () => Buffer.from("\x16\x03\x01\x00\x05hello", "latin1")],
    ["TLS with a name that only its origin can read", async () => helloWithEch(await hello("api.fixture.example"))],
    ["the same below the name of another host", async () => helloWithEch(await hello("other.fixture.example"))],
  ])("E10: within a CONNECT to port 443 of an allowed host, %s leaves not at all", async (_, bytes) => {
    const sent = await bytes();
    for (const through of ["connect", "proxy"]) {
      const stream = through === "connect" ? await proxy.connect("api.fixture.example", 443) : await proxy.stream();
      if (through === "proxy") {
        stream.write("proxy\n");
        expect(await raw(stream, "CONNECT api.fixture.example:443 HTTP/1.1\r\nHost: api.fixture.example:443\r\n\r\n")).toMatch(
          /^HTTP\/1.1 200/,
        );
        stream.removeAllListeners("data");
      }
      let heard = Buffer.alloc(0);
      stream.on("data", (chunk: Buffer) => {
        heard = Buffer.concat([heard, chunk]);
      });
      stream.write(sent);
      // either it is closed, or it is TLS that the proxy itself answers and ends
      await expect.poll(() => stream.closed || heard[0] === 0x16, { timeout: 20_000 }).toBe(true);
      if (heard.length > 0) expect([0x15, 0x16]).toContain(heard[0]);
      stream.destroy();
    }
    expect(await internet.seen()).toEqual(NOTHING);
    await control();
  });

  it("E10: TLS within TLS is no request, whatever name it is for", async () => {
    const outer = await proxy.tls("api.fixture.example");
    const inner = await proxy.tlsOver(outer, "other.fixture.example").catch((error: Error) => error);
    expect(inner).toBeInstanceOf(Error);
    expect(await internet.seen()).toEqual(NOTHING);
    await control();
  });

  it("E14: an address is what a rule names, in its one form", async () => {
    const tls = await proxy.tls("93.184.216.11", { servername: "" });
    const answer = await proxy.http1("https://93.184.216.11/literal", {}, tls);
    expect(answer.status).toBe(200);
    const refused = await proxy.tls("93.184.216.10", { servername: "" });
    expect((await proxy.http1("https://93.184.216.10/", {}, refused)).status).toBe(403);
  });

  it("E01, E24: a key that is not this task's is refused at an allowed host, over both protocols", async () => {
    for (const version of ["http1", "http2"] as const) {
      const answer = await proxy[version]("https://api.fixture.example/", {
        headers: { authorization: "Bearer sk-ant-api03-ABCDEFGHIJKLMNOPQRSTUVWXYZ" },
      });
      expect(answer.error?.code).toBe("credential.foreign");
    }
    expect(await internet.seen()).toEqual(NOTHING);
    await control();
  });
});
