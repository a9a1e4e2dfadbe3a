import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { ClientHttp2Session } from "node:http2";
import type { Socket } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { RuleDraft } from "../../app/contract/index.ts";
import type { UpstreamProxy } from "../../app/core/egress/protocol.ts";
import { Internet } from "../doubles/internet.ts";
import { allow, ProxyUnderTest, rulesOf } from "../doubles/proxy.ts";

const api = "api.fixture.example";

describe("a guest that takes all of its proxy", () => {
  let internet: Internet;
  beforeAll(async () => {
    internet = await Internet.create();
    await internet.origin({ name: api });
  });
  afterAll(() => internet?.close());

  it("E22: 10,000 half-open tunnels are bounded and end by themselves; another task's requests pass meanwhile, and its own afterwards", async () => {
    const flooded = await ProxyUnderTest.start(internet, { rules: rulesOf(allow(api)) });
    const other = await ProxyUnderTest.start(internet, { rules: rulesOf(allow(api)) });
    const streams: Socket[] = [];
    try {
      let slowest = 0;
      for (let at = 0; at < 10_000; at++) {
        const stream = await flooded.stream();
        stream.resume();
        stream.write(at % 2 === 0 ? `connect ${api} 443\n` : "connect ");
        streams.push(stream);
        if (at % 1_000 !== 0) continue;
        const from = performance.now();
        expect((await other.http1(`https://${api}/${at}`)).status).toBe(200);
        slowest = Math.max(slowest, performance.now() - from);
      }
      expect(slowest).toBeLessThan(2_000);
      expect((await flooded.peer.call("stats", {})).streams).toBeLessThanOrEqual(2_048);
      await expect.poll(async () => (await flooded.peer.call("stats", {})).streams, { timeout: 30_000 }).toBe(0);
      expect((await flooded.http1(`https://${api}/after`)).status).toBe(200);
    } finally {
      for (const stream of streams) stream.destroy();
      await flooded.close();
      await other.close();
    }
  });

  it("E22: heads without an end, more headers and more streams of HTTP/2 than are taken end or wait, and the proxy goes on", async () => {
    const proxy = await ProxyUnderTest.start(internet, { rules: rulesOf(allow(api)) });
    try {
      const endless = await proxy.tls(api);
      endless.write(`GET / HTTP/1.1\r\nHost: ${api}\r\n`);
      let closed = false;
      endless.on("close", () => {
        closed = true;
      });
      for (let at = 0; at < 2_000 && !closed; at++) {
        endless.write(`X-${at}: ${"a".repeat(1_000)}\r\n`);
        await new Promise((resolve) => setImmediate(resolve));
      }
      await expect.poll(() => closed).toBe(true);
      const many = await proxy.http1(`https://${api}/`, {
        headers: ["host", api, ...Array.from({ length: 300 }, (_, at) => [`x-${at}`, "1"]).flat()],
      });
      expect(many.status).toBe(431);
      const session = await proxy.session(api);
      const answers = await Promise.all(Array.from({ length: 500 }, () => proxy.http2(`https://${api}/`, {}, session)));
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
      session.close();
      expect(proxy.stderr).toBe("");
    } finally {
      await proxy.close();
    }
  });

  it("E22: bodies that wait for their origin on ever more HTTP/2 connections are held up to a bound; once few are left the next one is as fast as ever", async () => {
    const dead = "dead.fixture.example";
    await internet.dns({ [dead]: "silent" });
    const proxy = await ProxyUnderTest.start(internet, { rules: rulesOf(allow(dead), allow(api)) });
    const memory = () => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${proxy.process.pid}/status`, "latin1"))?.[1]) / 1024;
    const sessions: ClientHttp2Session[] = [];
    const body = Buffer.alloc(32 << 20, "x");
    try {
      // what its engine takes to work at all is not what is held
      await proxy.http2(`https://${api}/up`, { method: "PUT", body });
      const before = memory();
      for (let at = 0; at < 60; at++) {
        const session = await proxy.session(dead);
        session.on("error", () => {});
        sessions.push(session);
        for (let n = 0; n < 4; n++) {
          const stream = session.request({ ":method": "POST", ":path": "/up", ":authority": dead }, { endStream: false });
          stream.on("error", () => {});
          stream.resume().write(Buffer.alloc(2 << 20));
        }
      }
      await proxy.until(241, "decided");
      await proxy.until(241, "ended"); // the name was not answered for, and until then nothing of a body was read
      expect(memory() - before).toBeLessThan(100);
    } finally {
      for (const session of sessions) session.destroy();
    }
    try {
      const sent = await proxy.http2(`https://${api}/up`, { method: "PUT", body });
      expect(JSON.parse(sent.text)).toMatchObject({ bodyBytes: body.length });
    } finally {
      await proxy.close();
    }
  }, 40_000);

  it("L05: a killed proxy takes its connections with it, and nothing leaves", async () => {
    const proxy = await ProxyUnderTest.start(internet, { rules: rulesOf(allow(api)) });
    try {
      const tls = await proxy.tls(api);
      tls.write(`GET /hang HTTP/1.1\r\nHost: ${api}\r\n\r\n`);
      await expect.poll(async () => (await internet.seen()).requests.some(({ target }) => target === "/hang")).toBe(true);
      await internet.forget();
      proxy.process.kill("SIGKILL");
      await once(tls, "close");
      expect(await internet.seen()).toEqual({ requests: [], connections: [], queries: [] });
    } finally {
      await proxy.close();
    }
  });
});

describe("through an outgoing proxy of the user's", () => {
  const at = { host: "93.184.216.66", port: 3128 };
  const authorization = "Basic ZW1wbG95ZWU6Y2FuYXJ5";
  const near = "nas.fixture.example";
  const inside = "intra.fixture.example";
  const unknown = "unknown.fixture.example";
  let internet: Internet;
  beforeAll(async () => {
    internet = await Internet.create();
    await internet.origin({ name: api });
    await internet.origin({ name: near, address: "10.1.2.4" });
    await internet.port(at.host, at.port, "proxy");
    await internet.dns({ [inside]: ["10.1.2.3"] });
  });
  beforeEach(() => internet.forget());
  afterAll(() => internet?.close());

  const started = (upstream: UpstreamProxy, ...more: RuleDraft[]) =>
    ProxyUnderTest.start(internet, { rules: rulesOf(allow(api), ...more), upstream });
  const proxied = async () => (await internet.seen()).connections.flatMap(({ first }) => first ?? []);

  it("E25: it resolves, marked so, and is given its key; a rule for a private range is not its business", async () => {
    const proxy = await started({ ...at, authorization }, allow(near, { private: "10.1.2.4/32" }), allow(unknown));
    try {
      for (const version of ["http1", "http2"] as const) {
        const answer = await proxy[version](`https://${api}/v1`);
        expect(answer.status, answer.text).toBe(200);
        const own = await proxy[version](`https://${api}/v1`, { headers: { "proxy-authorization": "Basic Z3Vlc3Q6Z3Vlc3Q=" } });
        expect(own.error?.code, "a guest gives it nothing").toBe("credential.foreign");
      }
      expect((await proxy.http1(`https://${near}/`)).status).toBe(200);
      // a name that this computer cannot resolve is the proxy's to know
      expect((await proxy.http1(`https://${unknown}/`)).error).toMatchObject({ code: "upstream.proxy" });
      const asked = await proxied();
      expect(new Set(asked.map((head) => head.split(" ")[1]))).toEqual(new Set([`${api}:443`, `${unknown}:443`]));
      for (const head of asked) expect(head.toLowerCase()).toContain(`proxy-authorization: ${authorization.toLowerCase()}\r\n`);
      const { requests } = await internet.seen();
      expect(requests.map(({ origin }) => origin)).toEqual([api, api, near]);
      expect(JSON.stringify(requests), "what the proxy is given is for nobody else").not.toContain(authorization);
      const resolution = (host: string) =>
        new Set(
          proxy.entries.filter(({ decision, request }) => decision === "allow" && request.host === host).map((entry) => entry.resolution),
        );
      expect([resolution(api), resolution(near)]).toEqual([new Set(["upstream"]), new Set(["host"])]);
    } finally {
      await proxy.close();
    }
  });

  it("E25: addresses, names of local networks and names that resolve to private addresses here are refused before it is asked", async () => {
    const refused = ["10.1.2.3", "93.184.216.34", "printer.local", "intranet", inside];
    const proxy = await started(at, ...refused.map((host) => allow(host)));
    try {
      for (const host of refused) {
        const tls = await proxy.tls(host, /^[0-9]/.test(host) ? { servername: "" } : {});
        expect((await proxy.http1(`https://${host}/`, {}, tls)).error?.code, host).toBe("upstream.address");
      }
      expect((await internet.seen()).connections).toEqual([]);
      expect((await proxy.http1(`https://${api}/`)).status).toBe(200);
      expect(await proxied()).toHaveLength(1);
    } finally {
      await proxy.close();
    }
  });

  it("one that is none, or is not there, is told as such, and nothing leaves another way", async () => {
    await internet.port("93.184.216.67", 3128, "banner");
    for (const [host, port] of [
      ["93.184.216.67", 3128],
      ["93.184.216.66", 3129],
    ] as const) {
      const proxy = await started({ host, port });
      try {
        expect((await proxy.http1(`https://${api}/`)).error).toMatchObject({ code: "upstream.proxy" });
      } finally {
        await proxy.close();
      }
    }
    expect((await internet.seen()).requests).toEqual([]);
  });
});
