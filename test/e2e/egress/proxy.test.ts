import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Internet } from "../../doubles/internet.ts";
import { allow, ProxyUnderTest, rulesOf } from "../../doubles/proxy.ts";

/** The proxy process alone, with a real way out. What a guest makes of it is judged in test/attacks. */
describe("a task's proxy", () => {
  let internet: Internet;
  let proxy: ProxyUnderTest;

  beforeAll(async () => {
    internet = await Internet.create();
    await internet.origin({ name: "api.fixture.example" });
    await internet.origin({ name: "old.fixture.example", protocols: ["http/1.1"] });
    proxy = await ProxyUnderTest.start(internet, { rules: rulesOf(allow("api.fixture.example"), allow("old.fixture.example")) });
  });
  afterAll(async () => {
    await proxy?.close();
    await internet?.close();
  });

  describe.each(["http1", "http2"] as const)("over %s", (version) => {
    it("what a rule allows reaches its origin as it was sent, and is told before and after", async () => {
      const body = Buffer.alloc(300_000, "b");
      const answer = await proxy[version]("https://api.fixture.example/x/y?q=1", { method: "POST", headers: { "x-own": "1" }, body });
      expect(answer.status).toBe(200);
      const seen = JSON.parse(answer.text);
      expect(seen).toMatchObject({
        method: "POST",
        target: "/x/y?q=1",
        bodyBytes: 300_000,
        scheme: "https",
        version: version === "http2" ? "2.0" : "1.1",
      });
      expect(seen.rawHeaders).toContain("x-own");
      const decided = proxy.entries.findLast(({ what }) => what === "decided");
      expect(decided).toMatchObject({
        decision: "allow",
        rule: "r1",
        request: { host: "api.fixture.example", method: "POST", path: "/x/y" },
      });
      const ended = () => proxy.entries.find(({ id, what }) => id === decided?.id && what === "ended");
      await expect.poll(ended).toMatchObject({ status: 200, address: expect.stringMatching(/^93\./) });
      // as HTTP/1.1 writes it; over HTTP/2 neither the host nor the length of the body is a line of its own
      const head = (first: string, headers: string[]) =>
        headers.reduce((text, one, at) => `${text}${one}${at % 2 === 0 ? ": " : "\r\n"}`, `${first}\r\n`).length + 2;
      const { sentBytes = 0, receivedBytes = 0 } = ended() ?? {};
      const sent =
        300_000 +
        head(
          "POST /x/y?q=1 HTTP/1.1",
          seen.rawHeaders.filter((name: string) => !name.startsWith(":")),
        );
      expect(Math.abs(sentBytes - sent), `${sentBytes} and ${sent}`).toBeLessThan(100);
      expect(receivedBytes - answer.body.length).toBeGreaterThan(50);
      expect(receivedBytes - answer.body.length).toBeLessThan(300);
    });

    it("what no rule allows is refused with JSON that says so, and nothing of it is resolved or dialled", async () => {
      await internet.forget();
      const answer = await proxy[version]("https://secret-words.other.example/p");
      expect(answer.status).toBe(403);
      expect(answer.error).toMatchObject({
        code: "policy.no-rule",
        host: "secret-words.other.example",
        method: "GET",
        path: "/p",
        rule: "default",
        retry: false,
      });
      expect(answer.error?.ask).toContain("cloche allow sorter secret-words.other.example --method GET --path /p");
      expect(await internet.seen()).toEqual({ requests: [], connections: [], queries: [] });
    });

    it("an origin that speaks HTTP/1.1 only is reached from either", async () => {
      const answer = await proxy[version]("https://old.fixture.example/");
      expect(JSON.parse(answer.text)).toMatchObject({ version: "1.1", origin: "old.fixture.example" });
    });
  });
});
