import { once } from "node:events";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { BoundSecret } from "../../app/core/egress/protocol.ts";
import { Internet } from "../doubles/internet.ts";
import { type Ask, allow, ProxyUnderTest, rulesOf } from "../doubles/proxy.ts";

const VALUE = "canary-0f8e2d7c6b5a49382716";
const PLACEHOLDER = "standin-9a8b7c6d5e4f3a2b1c0d";
const api = "api.fixture.example";
const other = "other.fixture.example";
const versions = ["http1", "http2"] as const;

/** Keys at the wire: the origin's log says what left, the client says what came back. What is a key is judged in credentials' own tests. */
describe("a key leaves in its stand-in's place only where it is bound, and never comes back", () => {
  let internet: Internet;
  let proxy: ProxyUnderTest;
  const secret: BoundSecret = { name: "api", binding: { hosts: [api], use: "bearer" }, placeholder: PLACEHOLDER, value: VALUE };
  const bearer = { authorization: `Bearer ${PLACEHOLDER}` };

  beforeAll(async () => {
    internet = await Internet.create();
    for (const name of [api, other]) await internet.origin({ name });
    proxy = await ProxyUnderTest.start(internet, {
      rules: rulesOf(allow(api, { upgrade: true }), allow(api, { port: 80 }), allow(other), allow(other, { port: 80 })),
      secrets: [secret],
    });
  });
  afterAll(async () => {
    await proxy?.close();
    await internet?.close();
  });
  afterEach(async () => {
    expect(proxy.stderr).toBe("");
    await internet.forget();
  });
  const respond = (answer: { status?: number; headers?: [string, string][]; body: string; trailers?: Record<string, string> }) =>
    `https://${api}/respond/${Buffer.from(JSON.stringify({ status: 200, headers: [], ...answer })).toString("base64url")}`;
  /** an answer's body or headers that the fixture makes of what it was sent must not hold the key in any usual form */
  const holds = (text: string) =>
    [VALUE, Buffer.from(VALUE).toString("hex"), Buffer.from(VALUE).toString("base64").slice(0, 30), encodeURIComponent(VALUE)].filter(
      (form) => text.includes(form),
    );

  it.each(versions)(
    "C01, E21: it is put in at its host; the origin that sends it back is read without it, lengths stay right (%s)",
    async (version) => {
      const answer = await proxy[version](`https://${api}/me`, { headers: bearer });
      expect((await internet.seen()).requests[0]?.rawHeaders).toContain(`Bearer ${VALUE}`);
      expect(answer.status).toBe(200);
      expect(holds(answer.text)).toEqual([]);
      expect(JSON.parse(answer.text).rawHeaders.join()).toContain("Bearer x");
      expect(answer.body.length).toBe(Number(answer.headers["content-length"]));
      const decided = proxy.entries.findLast(({ what }) => what === "decided");
      expect(decided).toMatchObject({ secret: "api", decision: "allow" });
      expect(JSON.stringify(proxy.entries)).not.toContain(VALUE);
    },
  );

  it.each(versions)("E21: from headers, cookies, trailers and any usual encoding of a body it is taken out (%s)", async (version) => {
    const forms = [
      VALUE,
      Buffer.from(VALUE).toString("base64"),
      Buffer.from(`x${VALUE}`).toString("base64"),
      Buffer.from(VALUE).toString("hex"),
    ];
    const answer = await proxy[version](
      respond({
        headers: [
          ["x-echo", VALUE],
          ["set-cookie", `k=${VALUE}`],
          ["content-type", "application/grpc"],
          ["location", `https://x.example/?k=${VALUE}`],
        ],
        body: forms.join(" and "),
        trailers: { "x-late": VALUE },
      }),
      { headers: bearer },
    );
    expect(answer.status).toBe(200);
    expect(answer.text).toContain(" and ");
    expect(holds(JSON.stringify([answer.headers, answer.trailers]) + answer.text)).toEqual([]);
  });

  it.each(versions)(
    "C02: at another host, without TLS, and at another place of the request it is refused, and nothing leaves (%s)",
    async (version) => {
      const asks: [url: string, ask?: Ask][] = [
        [`https://${other}/`, { headers: bearer }],
        [`https://${api}/?key=${PLACEHOLDER}`],
        [`https://${api}/${PLACEHOLDER}`],
        [`https://${api}/`, { headers: { "x-other": PLACEHOLDER } }],
        [`https://${api}/`, { headers: { cookie: `a=${PLACEHOLDER}` } }],
      ];
      for (const ask of asks) expect((await proxy[version](...ask)).status).toBe(403);
      expect((await proxy.http1(`http://${api}/`, { headers: bearer })).error?.code).toBe("credential.misplaced");
      expect((await internet.seen()).requests).toEqual([]);
      expect((await proxy[version](`https://${api}/`, { headers: bearer })).status).toBe(200);
    },
  );

  it("C02, E15: a redirect to another host does not take it along", async () => {
    const answer = await proxy.http1(`https://${api}/redirect?to=https://${other}/`, { headers: bearer });
    expect(answer.status).toBe(302);
    expect((await proxy.http1(answer.headers.location ?? "", { headers: bearer })).status).toBe(403);
    expect((await internet.seen()).requests.map(({ origin }) => origin)).toEqual([api]);
  });

  it.each(versions)("an answer that came compressed although it was asked plain is not passed on (%s)", async (version) => {
    const url = respond({ headers: [["content-encoding", "gzip"]], body: "would be gzip" });
    const answer = await proxy[version](url, { headers: { ...bearer, "accept-encoding": "gzip, br" } });
    expect(answer.error?.code).toBe("credential.unsearchable");
    const [seen] = (await internet.seen()).requests;
    const at = seen?.rawHeaders.findIndex((name) => name.toLowerCase() === "accept-encoding") ?? -1;
    expect(seen?.rawHeaders[at + 1]).toBe("identity");
    expect((await proxy[version](url)).text).toBe("would be gzip");
  });

  it("C02: on a WebSocket it is put in and what echoes it is read without it", async () => {
    const socket = await proxy.tls(api);
    let text = "";
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
    });
    socket.write(
      `GET /chat HTTP/1.1\r\nHost: ${api}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate\r\nAuthorization: Bearer ${PLACEHOLDER}\r\n\r\n`,
    );
    await expect.poll(() => text).toMatch(/^HTTP\/1.1 101/);
    const [seen] = (await internet.seen()).requests;
    expect(seen?.rawHeaders).toContain(`Bearer ${VALUE}`);
    expect(seen?.rawHeaders.join().toLowerCase()).not.toContain("permessage-deflate");
    // a text frame with a mask of zeros: the fixture sends it back without a mask
    const payload = Buffer.from(`<${VALUE}>`);
    socket.write(Buffer.concat([Buffer.from([0x81, 0x80 | payload.length, 0, 0, 0, 0]), payload]));
    await expect.poll(() => text).toContain("<xxxx");
    expect(holds(text)).toEqual([]);
    socket.destroy();
    await once(socket, "close");
  });

  it("C02: it is never put into a connection that is passed on unread", async () => {
    await internet.port("93.184.216.55", 443, "echo");
    await internet.dns({ "raw.fixture.example": ["93.184.216.55"] });
    const opaque = await ProxyUnderTest.start(internet, {
      rules: rulesOf(allow("raw.fixture.example", { opaque: true })),
      secrets: [{ ...secret, binding: { hosts: ["raw.fixture.example"], use: "bearer" } }],
    });
    try {
      const stream = await opaque.connect("raw.fixture.example", 443);
      stream.write(`GET / HTTP/1.1\r\nAuthorization: Bearer ${PLACEHOLDER}\r\n\r\n`);
      expect(String((await once(stream, "data"))[0])).toContain(PLACEHOLDER);
      expect((await internet.seen()).connections.at(-1)?.first).toContain(PLACEHOLDER);
    } finally {
      await opaque.close();
    }
  });

  it("keys that are taken away work for no request from then on", async () => {
    await proxy.peer.call("setSecrets", { secrets: [] });
    expect((await proxy.http1(`https://${api}/`, { headers: bearer })).error?.code).toBe("credential.foreign");
    await proxy.peer.call("setSecrets", { secrets: [secret] });
    expect((await proxy.http1(`https://${api}/`, { headers: bearer })).status).toBe(200);
  });
});
