import { once } from "node:events";
import type { Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
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
  it("E25: it resolves, marked so; private literals and names of local networks are refused before it is asked", async () => {
    const internet = await Internet.create();
    await internet.origin({ name: api });
    // a CONNECT proxy outside, as a raw port that answers like one
    await internet.port("93.184.216.66", 3128, "banner");
    const proxy = await ProxyUnderTest.start(internet, {
      rules: rulesOf(allow(api), allow("10.1.2.3"), allow("printer.local"), allow("intranet")),
      upstream: { host: "93.184.216.66", port: 3128 },
    });
    try {
      for (const host of ["10.1.2.3", "printer.local", "intranet"]) {
        const tls = await proxy.tls(host, host === "10.1.2.3" ? { servername: "" } : {});
        expect((await proxy.http1(`https://${host}/`, {}, tls)).error?.code).toBe("upstream.address");
      }
      expect((await internet.seen()).connections).toEqual([]);
      expect((await proxy.http1(`https://${api}/`)).error?.code).toBe("upstream.proxy");
      const { connections, queries } = await internet.seen();
      expect(connections.at(-1)?.first).toMatch(`CONNECT ${api}:443 HTTP/1.1`);
      expect(queries).toEqual([]);
      expect(proxy.entries.find(({ request }) => request.host === api)).toMatchObject({ resolution: "upstream" });
    } finally {
      await proxy.close();
      await internet.close();
    }
  });
});
