import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { createJournal, readJournal } from "../../../app/core/egress/journal.ts";
import { Internet } from "../../doubles/internet.ts";
import { allow, ProxyUnderTest, rulesOf } from "../../doubles/proxy.ts";

/** What a task's proxy does over the life of its requests: holds them, cuts them, counts them, tells how they ended. */
describe("a task's proxy, while", () => {
  let internet: Internet;
  let proxy: ProxyUnderTest;
  const api = "api.fixture.example";
  const versions = ["http1", "http2"] as const;

  const start = async (...args: Parameters<typeof ProxyUnderTest.start> extends [unknown, ...infer Rest] ? Rest : never) => {
    proxy = await ProxyUnderTest.start(internet, ...args);
  };

  beforeAll(async () => {
    internet = await Internet.create();
    await internet.origin({ name: api });
    await internet.origin({ name: "held.fixture.example", names: ["also.held.fixture.example"] });
  });
  afterAll(() => internet?.close());
  afterEach(async () => {
    expect(proxy.process.exitCode).toBeNull();
    expect(proxy.stderr).toBe("");
    await proxy.close();
    await internet.forget();
  });

  const deadline = async <T>(promise: Promise<T>, ms = 5_000): Promise<T> => {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`not within ${ms} ms`)), ms);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
  };

  const webSocket = async (host: string) => {
    const socket = await proxy.tls(host);
    return new WebSocket(`wss://${host}/chat`, { createConnection: () => socket } as never);
  };

  /** The first request of a proxy does not leave while its keeper writes nothing down, and does when it did. */
  const waitsForItsKeeper = async (version: (typeof versions)[number]) => {
    proxy.recording = false;
    const answer = proxy[version](`https://${api}/x`, { method: "POST", body: "data" });
    await expect.poll(() => proxy.entries).toHaveLength(1);
    await new Promise((resolve) => setTimeout(resolve, 200)); // the control below shows that it takes less
    expect(await internet.seen()).toEqual({ requests: [], connections: [], queries: [] });
    proxy.peer.notify("recorded", { batch: 1 });
    proxy.recording = true;
    expect((await deadline(answer)).status).toBe(200);
  };

  describe("the keeper writes down:", () => {
    it.each(versions)("nothing leaves before its decision is written down, not a name and not a byte (%s)", async (version) => {
      await start({ rules: rulesOf(allow(api)) });
      await waitsForItsKeeper(version);
    });

    it.each(versions)(
      "or the proxy does, in its journal: then it leaves at once, and what has no room there waits (%s)",
      async (version) => {
        const directory = mkdtempSync(join(tmpdir(), "cloche-journal-"));
        const journal = join(directory, "journals", "one.jsonl");
        try {
          createJournal(journal);
          await start({ rules: rulesOf(allow(api)), journal });
          proxy.recording = false;
          expect((await deadline(proxy[version](`https://${api}/in-the-journal`))).status).toBe(200);
          expect(readJournal(journal).lines).toMatchObject([{ entry: { what: "decided", request: { path: "/in-the-journal" } } }]);
          await proxy.close();

          await start({ rules: rulesOf(allow(api)), journal: "/dev/full" });
          await internet.forget();
          await waitsForItsKeeper(version);
        } finally {
          rmSync(directory, { recursive: true });
        }
      },
    );

    it("while it cannot, requests wait for a while and then fail, and nothing of them leaves", async () => {
      await start({ rules: rulesOf(allow(api)) });
      proxy.recording = false;
      const answers = await Promise.all([
        proxy.http1(`https://${api}/`),
        proxy.http2(`https://${api}/`),
        proxy.http1("https://no.example/"),
      ]);
      expect(answers.map(({ status }) => status)).toEqual([503, 503, 503]);
      expect(answers[0].error).toMatchObject({ code: "proxy.record", retry: true });
      expect(await internet.seen()).toEqual({ requests: [], connections: [], queries: [] });
    }, 40_000);

    it("many decisions go in few batches", async () => {
      await start({ rules: rulesOf(allow(api)) });
      const session = await proxy.session(api);
      const answers = await Promise.all(Array.from({ length: 100 }, (_, at) => proxy.http2(`https://${api}/${at}`, {}, session)));
      session.close();
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
      await proxy.until(100, "ended");
      expect(new Set(proxy.entries.map(({ id, what }) => `${id}${what}`)).size).toBe(200);
    });
  });

  describe("a person is asked:", () => {
    it.each(versions)("the request waits, and goes on as soon as a rule allows it (%s)", async (version) => {
      await start({ answering: true });
      const answer = proxy[version]("https://held.fixture.example/p", { method: "POST", body: "data" });
      await expect
        .poll(() => proxy.asked)
        .toMatchObject([{ ask: 1, request: { host: "held.fixture.example", method: "POST", path: "/p" }, rule: "default" }]);
      expect(proxy.entries).toEqual([]);
      expect((await internet.seen()).queries).toEqual([]);
      await proxy.setRules(rulesOf(allow("held.fixture.example")), true);
      expect((await deadline(answer)).status).toBe(200);
      expect(proxy.unasked).toEqual([{ ask: 1, why: "answered" }]);
    });

    it("a release without a rule refuses it; the rest waits on", async () => {
      await start({ answering: true });
      const first = proxy.http1("https://held.fixture.example/");
      const second = proxy.http1("https://also.held.fixture.example/");
      await expect.poll(() => proxy.asked).toHaveLength(2);
      const one = proxy.asked.find(({ request }) => request.host === "held.fixture.example")?.ask ?? 0;
      await proxy.peer.call("release", { ask: one });
      expect((await deadline(first)).error?.code).toBe("policy.no-rule");
      expect((await proxy.peer.call("stats", {})).pendingAsks).toBe(1);
      await proxy.setRules([], false);
      expect((await deadline(second)).error?.code).toBe("policy.no-rule");
    });

    it("E27: no more than five domains wait, of however many names; further ones are refused at once and listed", async () => {
      await start({ answering: true });
      const waiting = Array.from({ length: 5 }, (_, at) => proxy.http1(`https://a.domain${at}.example/`));
      await expect.poll(() => proxy.asked).toHaveLength(5);
      const many = await Promise.all(Array.from({ length: 50 }, (_, at) => proxy.http1(`https://x.flood${at}.example/`)));
      expect(new Set(many.map(({ status }) => status))).toEqual(new Set([403]));
      expect(proxy.asked).toHaveLength(5);
      expect(proxy.unanswered).toHaveLength(50);
      const merged = proxy.http1("https://b.domain0.example/");
      await expect.poll(() => proxy.asked).toHaveLength(6);
      await proxy.setRules([], false);
      for (const answer of [...waiting, merged]) expect((await deadline(answer)).status).toBe(403);
    });

    it("who leaves is asked about no longer", async () => {
      await start({ answering: true });
      const tls = await proxy.tls("held.fixture.example");
      tls.write("GET / HTTP/1.1\r\nHost: held.fixture.example\r\n\r\n");
      await expect.poll(() => proxy.asked).toHaveLength(1);
      tls.destroy();
      await expect.poll(() => proxy.unasked).toEqual([{ ask: 1, why: "left" }]);
    });

    it("nobody can answer: it is refused at once, with the line that allows it, and listed", async () => {
      await start();
      const { error } = await proxy.http1("https://held.fixture.example/a/b?c", { method: "PUT", body: "x" });
      expect(error?.ask).toContain("cloche allow sorter held.fixture.example --method PUT --path /a/b");
      expect(proxy.unanswered).toMatchObject([{ request: { host: "held.fixture.example", path: "/a/b" }, rule: "default" }]);
    });
  });

  describe("its rules change or are used up:", () => {
    it.each(versions)(
      "what is under way and no longer allowed is closed before the change is answered, the rest goes on (%s)",
      async (version) => {
        await start({ rules: rulesOf(allow(api), allow("held.fixture.example")) });
        const cut = proxy[version](`https://${api}/bytes/2000000000`).catch((error: Error) => error);
        const stays = proxy[version]("https://held.fixture.example/events");
        await proxy.until(2, "decided");
        await expect.poll(async () => (await internet.seen()).requests.length).toBe(2);
        expect(await proxy.setRules(rulesOf(allow("held.fixture.example")))).toEqual({ closed: 1 });
        expect(await deadline(cut)).toBeInstanceOf(Error);
        expect((await deadline(stays)).text).toContain("data: 5");
        const ended = await proxy.until(2, "ended");
        expect(ended.find(({ request }) => request.host === api)).toMatchObject({ decision: "deny", fault: "the rules were changed" });
      },
    );

    it("a tunnel that is passed on unread is closed when its rule goes", async () => {
      await internet.port("93.184.216.88", 443, "echo");
      await internet.dns({ "raw.fixture.example": ["93.184.216.88"] });
      await start({ rules: rulesOf(allow("raw.fixture.example", { opaque: true })) });
      const stream = await proxy.connect("raw.fixture.example", 443);
      stream.write("hello");
      expect(String((await once(stream, "data"))[0])).toBe("hello");
      const closed = once(stream, "close");
      expect(await proxy.setRules([])).toEqual({ closed: 1 });
      await deadline(closed);
    });

    it("what a rule with an end let in is closed when it is over, a WebSocket and an unread tunnel too; what another one let in goes on", async () => {
      await internet.port("93.184.216.87", 443, "echo");
      await internet.dns({ "raw.fixture.example": ["93.184.216.87"] });
      const until = new Date(Date.now() + 4_000).toISOString();
      await start({
        rules: rulesOf(
          allow("raw.fixture.example", { opaque: true, until }),
          allow(api, { upgrade: true, until }),
          allow("held.fixture.example", { upgrade: true }),
        ),
      });
      const [client, stays] = await Promise.all([webSocket(api), webSocket("held.fixture.example")]);
      await Promise.all([once(client, "open"), once(stays, "open")]);
      const stream = await proxy.connect("raw.fixture.example", 443);
      stream.write("hello");
      expect(String((await once(stream, "data"))[0])).toBe("hello");
      await deadline(Promise.all([once(client, "close"), once(stream, "close")]));
      expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(until));
      expect(await proxy.until(2, "ended")).toMatchObject(
        [0, 1].map(() => ({ decision: "deny", fault: "its rule is over", reason: expect.stringContaining("is over") })),
      );
      stays.send("still here");
      expect(String((await once(stays, "message"))[0])).toBe("still here");
      stays.terminate();
      expect((await proxy.http1(`https://${api}/`)).error?.reason).toContain("held until");
    });

    it("a rule for one request lets one through and not its neighbour, also when it is taken away as spent meanwhile", async () => {
      await start({ rules: rulesOf(allow(api, { requests: 1 })) });
      const first = proxy.http1(`https://${api}/events`);
      await proxy.until(1, "decided");
      const second = await proxy.http1(`https://${api}/`);
      expect(second.error).toMatchObject({ code: "policy.no-rule", reason: expect.stringContaining("used up") });
      expect(await proxy.setRules([])).toEqual({ closed: 0 });
      expect((await deadline(first)).text).toContain("data: 5");
    });

    it("E20: a rule's bytes are counted while they pass, and what is over them is cut", async () => {
      await start({ rules: rulesOf(allow(api, { bytes: 100_000 })) });
      expect((await proxy.http1(`https://${api}/bytes/50000`)).body.length).toBe(50_000);
      await expect(deadline(proxy.http1(`https://${api}/bytes/500000000`))).rejects.toThrow();
      expect((await proxy.http1(`https://${api}/`)).error).toMatchObject({
        code: "policy.no-rule",
        reason: expect.stringContaining("used up"),
      });
      expect((await proxy.until(2, "ended")).at(-1)).toMatchObject({ fault: "the rule's bytes are spent" });
    });

    it.each(versions)("E20: what leaves in addresses and headers is counted, and what comes back in them (%s)", async (version) => {
      const silent = "held.fixture.example";
      await start({ rules: rulesOf(allow(api, { bytes: 100_000 }), allow(silent, { bytes: 100_000 })) });
      const asked = async (url: string, headers: Record<string, string> = {}) => {
        const { host } = new URL(url);
        const { status, error } = await proxy[version](url, { headers: version === "http1" ? { host, ...headers } : headers });
        return error?.code ?? status;
      };
      const arrived = async () => {
        const { requests } = await internet.seen();
        await internet.forget();
        return requests.map(({ origin }) => origin);
      };
      for (const [host, ask] of [
        [api, (at: number) => asked(`https://${api}/status/204?${at}${"a".repeat(20_000)}`)],
        [silent, () => asked(`https://${silent}/status/204`, { "x-note": "very-long words,".repeat(1_250) })],
      ] as const) {
        const answers = [];
        for (let at = 0; at < 8; at++) answers.push(await ask(at));
        expect(answers, host).toEqual([204, 204, 204, 204, ...Array(4).fill("policy.budget")]);
        expect(await arrived()).toEqual(Array(4).fill(host));
        // what fits goes on, until nothing does
        for (let at = 0; at < 200; at++)
          expect([204, "policy.budget", "policy.no-rule"]).toContain(await asked(`https://${host}/status/204`));
        const { length } = await arrived();
        expect(length).toBeGreaterThan(20);
        expect(length).toBeLessThan(200);
      }
      const ended = (await proxy.until(2 * 208, "ended").catch(() => proxy.entries)).filter(({ what }) => what === "ended");
      expect(ended.find(({ sentBytes = 0 }) => sentBytes > 20_000 && sentBytes < 20_400)).toMatchObject({ status: 204 });
      expect(ended.filter(({ status, sentBytes }) => status === undefined && sentBytes !== 0)).toEqual([]);

      await proxy.setRules(rulesOf(allow(api, { bytes: 200_000 })).map((rule) => ({ ...rule, id: "r9" })));
      const received: unknown[] = [];
      for (let at = 0; at < 30; at++) received.push(await asked(`https://${api}/redirect?to=/${"b".repeat(7_000)}`));
      const [answered, refused] = [received.filter((one) => one === 302).length, received.filter((one) => one !== 302)];
      expect(answered, "7,000 there and 7,000 back").toBeGreaterThan(9);
      expect(answered).toBeLessThan(20);
      expect(new Set(refused.filter((one) => one !== "policy.no-rule"))).toEqual(new Set(["policy.budget"]));

      await proxy.setRules(rulesOf(allow(api, { bytes: 100_000 })).map((rule) => ({ ...rule, id: "r10" })));
      for (let at = 0; at < 8; at++) expect(await asked(`https://${api}/status/204?${"a".repeat(10_000)}`)).toBe(204);
    });

    it("E08: a broken policy refuses everything", async () => {
      await start({ broken: "policy.json is not JSON" });
      const { error } = await proxy.http1(`https://${api}/`);
      expect(error?.reason).toContain("policy.json is not JSON");
    });
  });

  describe("bodies pass:", () => {
    it.each(versions)(
      "64 MB up and down arrive byte for byte, and neither is held in memory (%s)",
      async (version) => {
        await start({ rules: rulesOf(allow(api)) });
        const hash = createHash("sha256");
        async function* body() {
          for (let at = 0; at < 64; at++) {
            const chunk = randomBytes(1024 * 1024);
            hash.update(chunk);
            yield chunk;
          }
        }
        const up = await deadline(proxy[version](`https://${api}/up`, { method: "PUT", body: body() }), 30_000);
        expect(JSON.parse(up.text)).toMatchObject({ bodyBytes: 64 * 1024 * 1024, bodySha256: hash.digest("hex") });
        const down = await deadline(proxy[version](`https://${api}/bytes/${64 * 1024 * 1024}`), 30_000);
        expect(down.body.length).toBe(64 * 1024 * 1024);
      },
      60_000,
    );

    it("a client that does not read holds its origin back, and not memory", async () => {
      await start({ rules: rulesOf(allow(api)) });
      const tls = await proxy.tls(api);
      tls.pause();
      tls.write(`GET /bytes/2000000000 HTTP/1.1\r\nHost: ${api}\r\n\r\n`);
      await expect.poll(async () => (await internet.seen()).requests.length).toBe(1);
      const memory = () => Number(/VmRSS:\s+(\d+)/.exec(internet.run("cat", [`/proc/${proxy.process.pid}/status`]))?.[1] ?? 0) / 1024;
      const before = memory();
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      expect(memory() - before).toBeLessThan(60);
      tls.destroy();
      await proxy.until(1, "ended");
    });

    it.each(versions)("server-sent events arrive one by one (%s)", async (version) => {
      await start({ rules: rulesOf(allow(api)) });
      const { text } = await proxy[version](`https://${api}/events`);
      expect(text.match(/data: \d/g)).toHaveLength(5);
    });

    it("Expect: 100-continue is answered once the request is allowed, and not before a refusal", async () => {
      await start({ rules: rulesOf(allow(api)) });
      const tls = await proxy.tls(api);
      let text = "";
      tls.on("data", (chunk) => {
        text += chunk;
      });
      tls.write(`POST /e HTTP/1.1\r\nHost: ${api}\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n`);
      await expect.poll(() => text).toContain("100 Continue");
      tls.write("data");
      await expect.poll(() => text).toContain('"bodyBytes":4');
      const refused = await proxy.tls("no.fixture.example");
      let answer = "";
      refused.on("data", (chunk) => {
        answer += chunk;
      });
      refused.write("POST /e HTTP/1.1\r\nHost: no.fixture.example\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
      await once(refused, "close");
      expect(answer).toMatch(/^HTTP\/1.1 403/);
    });

    it.each(versions)("a refused upload gets its refusal, however large it is (%s)", async (version) => {
      await start();
      const answer = await deadline(proxy[version]("https://no.fixture.example/", { method: "PUT", body: Buffer.alloc(8_000_000) }));
      expect(answer.status).toBe(403);
    });

    it("an empty one that ends behind its head is the end of the request over HTTP/2 too", async () => {
      await start({ rules: rulesOf(allow(api)) });
      for (const version of versions) {
        const answer = await deadline(proxy[version](`https://${api}/x`, { method: "POST", body: "" }));
        expect(JSON.parse(answer.text)).toMatchObject({ method: "POST", bodyBytes: 0 });
      }
    });

    it("gRPC's trailers pass over HTTP/2, others do not", async () => {
      await start({ rules: rulesOf(allow(api)) });
      const respond = (type: string) =>
        Buffer.from(
          JSON.stringify({ status: 200, headers: [["content-type", type]], body: "x", trailers: { "grpc-status": "0" } }),
        ).toString("base64url");
      expect((await proxy.http2(`https://${api}/respond/${respond("application/grpc")}`)).trailers).toMatchObject({ "grpc-status": "0" });
      expect((await proxy.http2(`https://${api}/respond/${respond("text/plain")}`)).trailers).toEqual({});
    });

    it.each(versions)("E26: what leads a client elsewhere is taken out of an answer, and hop-by-hop headers (%s)", async (version) => {
      await start({ rules: rulesOf(allow(api)) });
      const headers = [
        ["alt-svc", 'h3=":443"'],
        ["content-type", "text/plain"],
        ["x-kept", "1"],
      ];
      const answer = await proxy[version](
        `https://${api}/respond/${Buffer.from(JSON.stringify({ status: 200, headers, body: "x" })).toString("base64url")}`,
      );
      expect(answer.headers["x-kept"]).toBe("1");
      expect(answer.headers["alt-svc"]).toBeUndefined();
    });

    it("E15: a redirect is the client's to follow, and decided anew", async () => {
      await start({ rules: rulesOf(allow(api)) });
      const answer = await proxy.http1(`https://${api}/redirect?to=https://held.fixture.example/`);
      expect(answer.headers.location).toBe("https://held.fixture.example/");
      expect((await proxy.http1("https://held.fixture.example/")).status).toBe(403);
      expect((await internet.seen()).requests).toHaveLength(1);
    });
  });

  describe("a connection is upgraded:", () => {
    it("E19: a WebSocket passes by a rule that says so, both ways, and is refused without", async () => {
      await start({ rules: rulesOf(allow(api)) });
      const refused = await webSocket(api);
      const [error] = (await once(refused, "error")) as [Error];
      expect(error.message).toContain("403");
      expect((await internet.seen()).requests).toEqual([]);
      await proxy.setRules(rulesOf(allow(api, { upgrade: true })));
      const client = await webSocket(api);
      await once(client, "open");
      client.send("hello");
      expect(String((await once(client, "message"))[0])).toBe("hello");
      client.close();
      await once(client, "close");
      await expect
        .poll(() => proxy.entries.filter(({ what, request }) => what === "ended" && request.upgrade))
        .toMatchObject([{ status: 101 }]);
    });

    it("an origin that does not upgrade is heard", async () => {
      await start({ rules: rulesOf(allow(api, { upgrade: true })) });
      const socket = await proxy.tls(api);
      let text = "";
      socket.on("data", (chunk) => {
        text += chunk;
      });
      socket.write(
        `GET /no-upgrade HTTP/1.1\r\nHost: ${api}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n`,
      );
      await deadline(once(socket, "close"));
      expect(text).toMatch(/^HTTP\/1.1 400/);
    });

    it("the offer of HTTP/2 without TLS is left, and the request answered", async () => {
      await start({ rules: rulesOf(allow(api, { port: 80 })) });
      const answer = await proxy.http1(`http://${api}/`, {
        headers: { host: api, connection: "Upgrade, HTTP2-Settings", upgrade: "h2c", "http2-settings": "AAMAAABk" },
      });
      expect(answer.status).toBe(200);
      expect(JSON.stringify(JSON.parse(answer.text).rawHeaders)).not.toContain("h2c");
    });
  });

  describe("an origin fails:", () => {
    beforeAll(async () => {
      await internet.origin({ name: "expired.fixture.example", certificate: "expired" });
      await internet.origin({ name: "named.fixture.example", certificate: "other-name" });
      await internet.origin({ name: "unknown.fixture.example", certificate: "unknown-authority" });
      await internet.port("93.184.216.99", 443, "reset");
      await internet.port("93.184.216.99", 8443, "banner");
      await internet.dns({
        "reset.fixture.example": ["93.184.216.99"],
        "closed.fixture.example": ["93.184.216.10"],
        "away.fixture.example": ["93.184.217.1"],
        "dead.fixture.example": "silent",
        "broken.fixture.example": "broken",
      });
    });

    it.each([
      ["https://absent.fixture.example/", 502, "upstream.name"],
      ["https://broken.fixture.example/", 504, "upstream.resolver"],
      ["https://dead.fixture.example/", 504, "upstream.resolver"],
      ["https://closed.fixture.example:444/", 502, "upstream.refused"],
      ["https://reset.fixture.example/", 502, "upstream.reset"],
      ["https://reset.fixture.example:8443/", 502, "upstream.tls"],
      ["https://expired.fixture.example/", 502, "upstream.certificate"],
      ["https://named.fixture.example/", 502, "upstream.certificate"],
      ["https://unknown.fixture.example/", 502, "upstream.certificate"],
    ])(
      "%s is a %i and told apart as %s",
      async (url, status, code) => {
        const port = Number(new URL(url).port) || 443;
        await start({ rules: rulesOf(allow("*.fixture.example", { port })) });
        const answer = await deadline(proxy.http1(url), 15_000);
        expect([answer.status, answer.error?.code]).toEqual([status, code]);
        const http2 = await deadline(proxy.http2(url), 15_000).catch(() => undefined);
        if (port === 443) expect(http2?.error?.code).toBe(code);
        expect((await proxy.until(1, "ended"))[0]?.fault).toContain(code.slice(9));
      },
      40_000,
    );

    it("its certificate's reason is told: expired, another name, unknown authority", async () => {
      await start({ rules: rulesOf(allow("*.fixture.example")) });
      const reasons = await Promise.all(
        ["expired", "named", "unknown"].map(async (name) => (await proxy.http1(`https://${name}.fixture.example/`)).error?.reason),
      );
      expect(reasons[0]).toContain("expired");
      expect(reasons[1]).toContain("another name");
      expect(reasons[2]).toContain("not trusted");
    });

    it.each(versions)("one that breaks off in its answer is seen by the client as broken off (%s)", async (version) => {
      await start({ rules: rulesOf(allow(api)) });
      await expect(deadline(proxy[version](`https://${api}/reset`))).rejects.toThrow();
      expect((await proxy.until(1, "ended"))[0]).toMatchObject({ status: 200, fault: expect.stringMatching(/broken off|reset/) });
    });

    it("over HTTP/2 neither side takes a part for the whole, although no length was told", async () => {
      await start({ rules: rulesOf(allow(api), allow("held.fixture.example")) });
      const answer = proxy.http2("https://held.fixture.example/endless").then(({ status }) => status, String);
      const go = new AbortController();
      async function* body() {
        yield Buffer.from("a part");
        await once(go.signal, "abort");
      }
      const upload = proxy.http2(`https://${api}/up`, { method: "PUT", body: body() }).then(({ status }) => status, String);
      await expect.poll(async () => (await internet.seen()).requests.map(({ body: text }) => text).sort()).toEqual(["", "a part"]);
      await proxy.setRules([]);
      expect(await deadline(answer)).toContain("ERR_HTTP2_STREAM_ERROR");
      go.abort();
      expect(await deadline(upload)).toBe(403);
      await expect.poll(async () => (await internet.seen()).requests.find(({ body: text }) => text !== "")?.bodySha256).toBeDefined();
      expect((await internet.seen()).requests.find(({ body: text }) => text !== "")?.whole).toBe(false);
    });

    it("the client that leaves ends the request at the origin too", async () => {
      await start({ rules: rulesOf(allow(api)) });
      const tls = await proxy.tls(api);
      tls.write(`GET /hang HTTP/1.1\r\nHost: ${api}\r\n\r\n`);
      await expect.poll(async () => (await internet.seen()).requests.length).toBe(1);
      tls.destroy();
      expect((await proxy.until(1, "ended"))[0]).toMatchObject({ fault: "the client left" });
    });
  });
});
