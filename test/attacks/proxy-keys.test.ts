import { once } from "node:events";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
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

  it("C05: a host that answers with a false certificate is not given the key that is bound to it, one with its own is", async () => {
    const kinds = { expired: "expired", named: "other-name", unknown: "unknown-authority", good: "good" } as const;
    const hosts = Object.keys(kinds).map((kind) => `${kind}.fixture.example`);
    for (const [kind, certificate] of Object.entries(kinds)) await internet.origin({ name: `${kind}.fixture.example`, certificate });
    const pinned = await ProxyUnderTest.start(internet, {
      rules: rulesOf(allow("*.fixture.example", { upgrade: true })),
      secrets: [{ ...secret, binding: { hosts, use: "bearer", query: ["k"], body: true } }],
    });
    try {
      for (const host of hosts) {
        const good = host.startsWith("good");
        for (const version of versions) {
          const asks: [query: string, ask: Ask][] = [
            ["", { headers: bearer }],
            [`?k=${PLACEHOLDER}`, {}],
            ["", { method: "POST", body: PLACEHOLDER }],
          ];
          for (const [query, ask] of asks) {
            const answer = await pinned[version](`https://${host}/${query}`, ask);
            expect([answer.status, answer.error?.code], `${host} ${version}`).toEqual(
              good ? [200, undefined] : [502, "upstream.certificate"],
            );
          }
        }
        const socket = await pinned.tls(host);
        socket.write(
          `GET /chat HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer ${PLACEHOLDER}\r\n\r\n`,
        );
        expect(String((await once(socket, "data"))[0])).toMatch(good ? /^HTTP\/1.1 101/ : /^HTTP\/1.1 502/);
        socket.destroy();
      }
      const { requests } = await internet.seen();
      expect(requests.map(({ origin }) => origin)).toEqual(Array(7).fill("good.fixture.example"));
      expect(requests.filter((one) => JSON.stringify(one).includes(VALUE))).toHaveLength(7);
    } finally {
      await pinned.close();
    }
  });

  describe("C01: a key that was stored in a text", () => {
    const [notes, mirror] = ["notes.fixture.example", "mirror.fixture.example"];
    const rules = rulesOf(allow(notes), allow(mirror));
    const stored: BoundSecret = { ...secret, name: "stored", binding: { hosts: [notes], use: "bearer", query: ["note"], body: true } };
    const asks: Ask[] = [{}, { headers: { "accept-encoding": "gzip" } }, { headers: { range: "bytes=0-9" } }];
    beforeAll(async () => {
      for (const name of [notes, mirror]) {
        await internet.origin({ name, handler: new URL("./origins/remembers.ts", import.meta.url) });
      }
    });
    const started = (...secrets: BoundSecret[]) => ProxyUnderTest.start(internet, { rules, secrets });
    const shown = async (of: ProxyUnderTest, version: (typeof versions)[number]) => {
      const texts: string[] = [];
      for (const host of [notes, mirror]) {
        for (const { headers } of asks) {
          const answer = await of[version](`https://${host}/`, {
            headers: { ...(version === "http1" ? { host } : {}), ...headers } as never,
          });
          expect(answer.status).toBe(200);
          texts.push(`${answer.text} ${answer.headers["x-note"]}`);
        }
      }
      return texts;
    };

    it.each(versions)(
      "is not read back without it, nor at another host, after it was taken away, or in a later run (%s)",
      async (version) => {
        const writes = await started(stored);
        try {
          const forms: [query: string, body: string][] = [
            ["", `note: ${PLACEHOLDER}`],
            [`?note=${PLACEHOLDER}`, ""],
          ];
          for (const [query, body] of forms) {
            expect((await writes[version](`https://${notes}/${query}`, { method: "POST", body })).text).toBe("kept");
            expect(JSON.stringify((await internet.seen()).requests), "a control: it was sent").toContain(VALUE);
            for (const text of await shown(writes, version)) expect([text.includes("xxxx"), holds(text)]).toEqual([true, []]);
          }
          await writes.peer.call("setSecrets", { secrets: [] });
          for (const text of await shown(writes, version)) expect([text.includes("xxxx"), holds(text)]).toEqual([true, []]);
        } finally {
          await writes.close();
        }
        const later = await started(stored);
        try {
          for (const text of await shown(later, version)) expect([text.includes("xxxx"), holds(text)]).toEqual([true, []]);
        } finally {
          await later.close();
        }
      },
    );

    it("costs a task without such a key nothing: its answers come as it asked for them", async () => {
      const plain = await started(secret);
      try {
        expect((await plain.http1(`https://${mirror}/`, { method: "POST", body: "0123456789abcdef" })).text).toBe("kept");
        const [whole, packed, part] = await Promise.all(
          asks.map(({ headers }) => plain.http1(`https://${mirror}/`, { headers: { host: mirror, ...headers } as never })),
        );
        expect(whole?.text).toBe("0123456789abcdef");
        expect(packed?.headers["content-encoding"]).toBe("gzip");
        expect([part?.status, part?.text]).toEqual([206, "0123456789"]);
      } finally {
        await plain.close();
      }
    });
  });

  describe("C04: a key that is taken away", () => {
    const own: BoundSecret = {
      name: "own",
      binding: { hosts: [other], use: "bearer", body: true },
      placeholder: "standin-1b2c3d4e5f60718293a4",
      value: "canary-7f6e5d4c3b2a19080706",
    };
    let started: ProxyUnderTest;
    beforeEach(async () => {
      started = await ProxyUnderTest.start(internet, {
        rules: rulesOf(allow(api, { upgrade: true }), allow(other, { upgrade: true })),
        secrets: [secret, own],
      });
    });
    afterEach(async () => {
      expect(started.stderr).toBe("");
      await started.close();
    });

    const chat = async (host: string, standIn?: string) => {
      const socket = await started.tls(host);
      const heard = { text: "", closed: false };
      socket.on("data", (chunk: Buffer) => {
        heard.text += chunk.toString("latin1");
      });
      socket.on("close", () => {
        heard.closed = true;
      });
      const key = standIn === undefined ? "" : `Authorization: Bearer ${standIn}\r\n`;
      socket.write(
        `GET /chat HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n${key}\r\n`,
      );
      await expect.poll(() => heard.text).toMatch(/^HTTP\/1.1 101/);
      const echoes = async (text: string) => {
        socket.write(Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)]));
        await expect.poll(() => heard.text).toContain(text);
      };
      return { heard, echoes };
    };
    const ends = () =>
      started.entries.filter(({ what }) => what === "ended").map(({ secret: key, decision, fault }) => ({ key, decision, fault }));
    const taken = (key: string) => ({ key, decision: "deny", fault: "its key was taken away" });

    it("takes along the WebSocket that goes on with it, and no other", async () => {
      const [with1, with2, without] = [await chat(api, PLACEHOLDER), await chat(other, own.placeholder), await chat(api)];
      await started.peer.call("setSecrets", { secrets: [own] });
      await expect.poll(() => with1.heard.closed).toBe(true);
      await expect.poll(ends).toEqual([taken("api")]);
      await with2.echoes("still here");
      await without.echoes("and here");
      // a binding that no longer covers it is the same
      await started.peer.call("setSecrets", { secrets: [{ ...own, binding: { ...own.binding, hosts: [api] } }] });
      await expect.poll(() => with2.heard.closed).toBe(true);
      await expect.poll(ends).toEqual([taken("api"), taken("own")]);
      await without.echoes("to the end");
    });

    it.each(versions)("takes along the upload and the download that go on with it, and no other (%s)", async (version) => {
      let go = () => {};
      const waits = new Promise<void>((resolve) => {
        go = resolve;
      });
      async function* body(first: string) {
        yield Buffer.from(first);
        await waits;
        yield Buffer.from("the end");
      }
      const failed = (answer: Promise<{ status: number }>) => answer.then(({ status }) => status).catch(() => "broken off");
      const post = (first: string, host = other) => started[version](`https://${host}/up`, { method: "POST", body: body(first) });
      const uploads = [failed(post(`<${own.placeholder}>`)), failed(post("no key so far"))];
      const download = failed(
        started[version](`https://${other}/bytes/2000000000`, { headers: { authorization: `Bearer ${own.placeholder}` } }),
      );
      const free = post("not for this host", api);
      await expect.poll(async () => (await internet.seen()).requests.filter(({ body }) => body !== "").length).toBe(3);
      await expect.poll(async () => (await internet.seen()).requests.length).toBe(4);
      await started.peer.call("setSecrets", { secrets: [secret] });
      go();
      // one whose answer has not begun is told why
      for (const upload of uploads) expect([403, "broken off"]).toContain(await upload);
      expect(await download).toBe("broken off");
      expect((await free).status).toBe(200);
      const cut = () => ends().filter(({ fault }) => fault === "its key was taken away");
      await expect.poll(() => cut().length).toBe(3);
      expect(
        cut()
          .map(({ key }) => key ?? "")
          .sort(),
        "one had none put in so far",
      ).toEqual(["", "own", "own"]);
      const { requests } = await internet.seen();
      const sent = requests.filter(({ origin, target }) => origin === other && target === "/up");
      expect(sent.map(({ whole }) => whole)).toEqual([false, false]);
      expect(sent.map(({ body }) => body).sort()).toEqual([`<${own.value}>`, "no key so far"]);
    });

    it("while a model's request is gathered does not go in after all", async () => {
      const model = "api.anthropic.com";
      await internet.origin({ name: model });
      const key: BoundSecret = { ...own, name: "model", binding: { hosts: [model], use: "x-api-key" } };
      await started.setRules(rulesOf(allow(model)));
      await started.peer.call("setSecrets", { secrets: [key] });
      const messages = async (meanwhile: () => Promise<unknown>) => {
        async function* body() {
          yield Buffer.from('{"model":"m","max_tokens":1,');
          await new Promise((resolve) => setTimeout(resolve, 200)); // what came is in the proxy by then
          await meanwhile();
          yield Buffer.from('"messages":[]}');
        }
        const headers = { "x-api-key": key.placeholder, "content-type": "application/json" };
        return started.http1(`https://${model}/v1/messages`, { method: "POST", headers: { host: model, ...headers }, body: body() });
      };
      const answer = await messages(() => started.peer.call("setSecrets", { secrets: [] }));
      expect(answer.error?.code).toBe("credential.changed");
      expect((await internet.seen()).requests).toEqual([]);
      await started.peer.call("setSecrets", { secrets: [key] });
      expect((await messages(async () => {})).status).toBe(200);
      expect((await internet.seen()).requests[0]?.rawHeaders).toContain(key.value);
    });
  });

  it("keys that are taken away work for no request from then on", async () => {
    await proxy.peer.call("setSecrets", { secrets: [] });
    expect((await proxy.http1(`https://${api}/`, { headers: bearer })).error?.code).toBe("credential.foreign");
    await proxy.peer.call("setSecrets", { secrets: [secret] });
    expect((await proxy.http1(`https://${api}/`, { headers: bearer })).status).toBe(200);
  });
});
