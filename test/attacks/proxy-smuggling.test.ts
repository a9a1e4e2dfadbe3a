import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Fields, type Part, sendRaw } from "../doubles/http2-raw.ts";
import { Internet } from "../doubles/internet.ts";
import { allow, ProxyUnderTest, rulesOf } from "../doubles/proxy.ts";

const api = "old.fixture.example";
const other = "other.fixture.example";
const SMUGGLED = `DELETE /smuggled HTTP/1.1\r\nHost: ${api}\r\n\r\n`;

/**
 * E13: between a guest that speaks HTTP/2 and an origin that speaks HTTP/1.1 whatever frames a request is said anew. The verdict is on the
 * bytes that arrive: they are whole requests and nothing besides, each to its host, each framed in one way, each allowed.
 */
interface Arrived {
  readonly line: string;
  readonly body: string;
}

/** Reads a connection's bytes as the strictest server would. Throws where they are anything but requests; the last may be broken off. */
function requestsIn(bytes: string): Arrived[] {
  const found: Arrived[] = [];
  for (let rest = bytes; rest !== ""; ) {
    const end = rest.indexOf("\r\n\r\n");
    if (end === -1) throw new Error(`half a head: ${JSON.stringify(rest)}`);
    const [line = "", ...lines] = rest.slice(0, end).split("\r\n");
    if (!/^(?:GET|POST) \/[!-~]* HTTP\/1\.1$/.test(line)) throw new Error(`no request: ${JSON.stringify(rest)}`);
    const headers = new Map<string, string[]>();
    for (const each of lines) {
      const [, name = "", value = ""] = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([\t -~]*)$/.exec(each) ?? [];
      if (name === "") throw new Error(`no header: ${JSON.stringify(each)}`);
      headers.set(name.toLowerCase(), [...(headers.get(name.toLowerCase()) ?? []), value]);
    }
    const one = (name: string) => headers.get(name)?.join("|");
    if (one("host") !== api) throw new Error(`its host is ${one("host")}`);
    for (const name of ["te", "keep-alive", "proxy-connection", "trailer", "http2-settings", "expect", "x-late"]) {
      if (headers.has(name)) throw new Error(`it has a ${name}`);
    }
    if (headers.has("upgrade") && !line.startsWith("GET /status/204 ")) throw new Error("it is an upgrade");
    const [length, coding] = [one("content-length"), one("transfer-encoding")];
    if ((length !== undefined && coding !== undefined) || !/^[0-9]*$/.test(length ?? "") || (coding ?? "chunked") !== "chunked") {
      throw new Error(`its length is ${length} and its coding ${coding}`);
    }
    rest = rest.slice(end + 4);
    let body = "";
    if (coding === undefined) {
      body = rest.slice(0, Number(length ?? 0));
      rest = rest.slice(Number(length ?? 0));
    } else {
      for (let size = -1; size !== 0; ) {
        const [whole, hex = ""] = /^([0-9a-f]+)\r\n/.exec(rest) ?? [];
        if (whole === undefined) break; // it was broken off, and nothing follows
        size = Number.parseInt(hex, 16);
        body += rest.slice(whole.length, whole.length + size);
        rest = rest.slice(whole.length + size + 2);
      }
    }
    found.push({ line, body });
  }
  return found;
}

describe("what frames a request is said anew for its origin", () => {
  let internet: Internet;
  let proxy: ProxyUnderTest;
  beforeAll(async () => {
    internet = await Internet.create();
    await internet.origin({ name: api, protocols: ["http/1.1"], keepsBytes: true });
    await internet.origin({ name: other });
    proxy = await ProxyUnderTest.start(internet, { rules: rulesOf(allow(api, { methods: ["GET", "POST"], upgrade: true })) });
  });
  afterAll(async () => {
    expect(proxy?.stderr).toBe("");
    await proxy?.close();
    await internet?.close();
  });
  beforeEach(() => internet.forget());

  const arrived = async () => {
    const { connections } = await internet.seen();
    return connections.flatMap(({ bytes = "" }) => requestsIn(bytes));
  };
  /** It was not the last one on its connection that could not be read: others go on as they are sent. */
  async function control(): Promise<void> {
    for (let at = 0; at < 2; at++) {
      expect((await proxy.http2(`https://${api}/control`, { method: "POST", body: "x=1" })).status).toBe(200);
      expect((await proxy.http1(`https://${api}/control`, { method: "POST", body: "x=1" })).status).toBe(200);
    }
    const controls = (await arrived()).filter(({ line }) => line === "POST /control HTTP/1.1");
    expect(controls.map(({ body }) => body)).toEqual(Array(4).fill("x=1"));
  }
  /** Everything that arrived is whole, and besides the control at most the attacker's own request at its own path. */
  async function nothingBeside(path = "/own"): Promise<void> {
    const lines = (await arrived()).map(({ line }) => line).filter((line) => line !== "POST /control HTTP/1.1");
    for (const line of lines) expect(line).toMatch(new RegExp(`^(GET|POST) ${path}( |$)`));
    expect(lines.length).toBeLessThanOrEqual(1);
    const { requests } = await internet.seen();
    expect(requests.filter(({ method, origin }) => method === "DELETE" || origin === other)).toEqual([]);
  }

  const pseudo = (more: Partial<Record<":method" | ":scheme" | ":authority" | ":path", string>> = {}): Fields =>
    Object.entries({ ":method": "POST", ":scheme": "https", ":authority": api, ":path": "/own", ...more });
  const head = (...fields: Fields): Part => ({ kind: "headers", fields: [...pseudo(), ...fields] });
  const only = (...fields: Fields): Part => ({ kind: "headers", fields, end: true });
  const data = (body: string): Part => ({ kind: "data", body, end: true });
  const piece = (body: string): Part => ({ kind: "data", body });
  const without = (name: string): Fields => pseudo().filter(([each]) => each !== name);

  it("a control: what is sent in raw frames is a request, and arrives", async () => {
    const answer = await sendRaw(await proxy.tls(api, { protocols: ["h2"] }), [
      head(["x-kept", "1"], ["content-length", "3"]),
      data("x=1"),
    ]);
    expect(answer).toMatchObject({ answered: true, ended: "whole", body: expect.stringContaining('"bodyBytes":3') });
    expect(await arrived()).toEqual([{ line: "POST /own HTTP/1.1", body: "x=1" }]);
    await control();
  });

  it.each<[what: string, parts: readonly Part[]]>([
    ["a length of none", [head(["content-length", "0"]), data(SMUGGLED)]],
    ["a length that is too short", [head(["content-length", "1"]), data(`x${SMUGGLED}`)]],
    ["a length that is too short, in two pieces", [head(["content-length", "1"]), piece("x"), data(SMUGGLED)]],
    ["a length that is too long", [head(["content-length", "300"]), data("x")]],
    ["a length that is too long, and no body", [{ ...head(["content-length", "300"]), end: true }]],
    ["a length that is too long, and a reset without an error", [head(["content-length", "300"]), piece("x"), { kind: "reset" }]],
    ["two lengths", [head(["content-length", "0"], ["content-length", String(SMUGGLED.length)]), data(SMUGGLED)]],
    ["a list of lengths", [head(["content-length", `${SMUGGLED.length}, ${SMUGGLED.length}`]), data(SMUGGLED)]],
    ["a length with a sign", [head(["content-length", `+${SMUGGLED.length}`]), data(SMUGGLED)]],
    ["a length in another base", [head(["content-length", "0x10"]), data(SMUGGLED)]],
    ["a coding", [head(["transfer-encoding", "chunked"]), data(`0\r\n\r\n${SMUGGLED}`)]],
    ["a coding and a length", [head(["transfer-encoding", "chunked"], ["content-length", "5"]), data(`0\r\n\r\n`)]],
    ["a coding in capitals", [head(["Transfer-Encoding", "chunked"]), data(`0\r\n\r\n${SMUGGLED}`)]],
    ["a coding behind a line break in a value", [head(["x-a", `b\r\ntransfer-encoding: chunked`]), data(`0\r\n\r\n${SMUGGLED}`)]],
    ["a request behind a line break in a value", [head(["x-a", `b\r\n\r\n${SMUGGLED}`]), data("x")]],
    ["a bare line feed in a value", [head(["x-a", `b\n\n${SMUGGLED}`]), data("x")]],
    ["a NUL in a value", [head(["x-a", "b\0c"]), data("x")]],
    ["a line break in a name", [head([`x-a: b\r\ntransfer-encoding`, "chunked"]), data(`0\r\n\r\n${SMUGGLED}`)]],
    ["a colon in a name", [head(["x-a: b", "c"]), data("x")]],
    ["a blank in a name", [head(["transfer-encoding ", "chunked"]), data(`0\r\n\r\n${SMUGGLED}`)]],
    ["a name of nothing", [head(["", "chunked"]), data("x")]],
    ["a method with a request in it", [only(...pseudo({ ":method": `GET / HTTP/1.1\r\nHost: ${api}\r\n\r\nDELETE` }))]],
    ["a path with a request in it", [only(...pseudo({ ":path": `/own HTTP/1.1\r\nHost: ${api}\r\n\r\n${SMUGGLED}` }))]],
    ["a path with a version behind it", [only(...pseudo({ ":path": "/own HTTP/1.1 " }))]],
    ["a path with a header behind a tab", [only(...pseudo({ ":path": "/own\tHTTP/1.1" }))]],
    ["a scheme with an address in it", [only(...pseudo({ ":scheme": `https://${other}/x?` }))]],
    ["an authority with a header in it", [only(...pseudo({ ":authority": `${api}\r\nx: y` }))]],
    ["an authority of another host", [only(...pseudo({ ":authority": other }))]],
    ["an authority with a user", [only(...pseudo({ ":authority": `${api}@${other}` }))]],
    ["two authorities", [only(...pseudo(), [":authority", other])]],
    ["two paths", [only(...pseudo(), [":path", "/smuggled"])]],
    ["two methods", [only(...pseudo(), [":method", "DELETE"])]],
    ["a Host beside its authority", [head(["host", other]), data("x")]],
    ["a Host in place of the authority", [only(...without(":authority"), ["host", other])]],
    ["no authority at all", [only(...without(":authority"))]],
    ["no path", [only(...without(":path"))]],
    ["an empty path", [only(...pseudo({ ":path": "" }))]],
    ["no method", [only(...without(":method"))]],
    ["a path that is an address of another host", [only(...pseudo({ ":path": `https://${other}/own` }))]],
    ["a path that is an address without a scheme", [only(...pseudo({ ":path": `${other}/own` }))]],
    ["a field of the protocol behind an ordinary one", [only(...without(":path"), ["x-a", "b"], [":path", "/own"])]],
    ["a field of the protocol that is none", [only(...pseudo(), [":host", other])]],
    ["a tunnel", [only([":method", "CONNECT"], [":authority", `${other}:443`])]],
    ["a tunnel of another protocol", [only(...pseudo({ ":method": "CONNECT" }), [":protocol", "websocket"])]],
    ["what is for a neighbour only", [head(["connection", "x-kept, close"], ["keep-alive", "5"], ["proxy-connection", "x"]), data("x")]],
    ["an upgrade", [head(["upgrade", "h2c"], ["http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA"]), data("x")]],
    ["a te", [head(["te", "gzip"]), data("x")]],
    ["what a proxy is told", [head(["te", "trailers"], ["expect", "100-continue"]), data("x")]],
    ["trailers", [head(), piece("x"), only(["x-late", "1"])]],
    ["a coding among its trailers", [head(), piece("x"), only(["transfer-encoding", "chunked"], ["content-length", "0"])]],
    ["a path among its trailers", [head(), piece("x"), only([":path", "/smuggled"])]],
    ["a head that is said twice", [head(), { kind: "headers", fields: pseudo({ ":path": "/smuggled" }) }, data("x")]],
    [
      "a head that goes on and on",
      [
        { kind: "headers", fields: pseudo(), more: true },
        ...Array.from({ length: 40 }, (): Part => ({ kind: "continuation", fields: [["x-a", "a".repeat(4_000)]], more: true })),
        { kind: "continuation", fields: [["x-a", "a"]] },
      ],
    ],
  ])("E13: over HTTP/2, %s: the origin is sent whole and allowed requests only", async (_, parts) => {
    // a stream that its client gave up is answered nothing
    const given = parts.some(({ kind }) => kind === "reset");
    const answer = await sendRaw(await proxy.tls(api, { protocols: ["h2"] }), parts, given ? 300 : 5_000);
    expect(answer.ended === "quiet").toBe(given);
    await control();
    await nothingBeside();
  });

  it("E13: a request that is answered before all of it came is not followed on its connection by another", async () => {
    const early = await sendRaw(
      await proxy.tls(api, { protocols: ["h2"] }),
      [{ kind: "headers", fields: [...pseudo({ ":path": "/status/204" }), ["content-length", "300"]] }, piece("x")],
      2_000,
    );
    expect(early.answered).toBe(true);
    await control();
    await nothingBeside("/status/204");
  });

  // the origin answers without waiting for a body, and takes as much of the next request for it
  const before = `GET /own HTTP/1.1\r\nHost: ${api}\r\nx-a: `;
  it.each([`Content-Length: ${before.length}`, "Content-Length: 0", "Transfer-Encoding: chunked"])(
    "E13, E19: a request for another protocol has no body (%s), so that no part of the next request is one",
    async (framing) => {
      const socket = await proxy.tls(api);
      let text = "";
      socket.on("data", (chunk: Buffer) => {
        text += chunk.toString("latin1");
      });
      socket.write(
        `GET /status/204 HTTP/1.1\r\nHost: ${api}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n${framing}\r\n\r\n`,
      );
      await expect.poll(() => text).toMatch(/^HTTP\/1.1 (204|400)/);
      socket.destroy();
      const headers = { host: api, "x-a": "DELETE /smuggled HTTP/1.0" };
      expect((await proxy.http1(`https://${api}/own`, { headers })).status).toBe(200);
      expect((await internet.seen()).requests.map(({ method }) => method)).not.toContain("DELETE");
      await control();
      for (const { line } of await arrived()) expect(line).toMatch(/^(POST \/control|GET \/own|GET \/status\/204) /);
    },
  );

  it.each(["websocket, h2c", "h2c, websocket", "HTTP/2.0", "TLS/1.2, HTTP/1.1"])(
    "E19: a request for HTTP again on its own connection (%s) does not leave: what follows it is not decided",
    async (names) => {
      const socket = await proxy.tls(api);
      let text = "";
      socket.on("data", (chunk: Buffer) => {
        text += chunk.toString("latin1");
      });
      socket.write(
        `GET /own HTTP/1.1\r\nHost: ${api}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: ${names}\r\nHTTP2-Settings: AAMAAABk\r\n\r\n`,
      );
      await expect.poll(() => text).toMatch(/^HTTP\/1.1 \d/);
      socket.destroy();
      expect(text).toMatch(/^HTTP\/1.1 400/);
      expect(await arrived()).toEqual([]);
      await control();
    },
  );
});
