import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { form, MODELS, REMOTE_BODIES, REMOTE_FORMS, REMOTE_HEADERS, SOUND } from "../../app/core/egress/credentials/fixtures/remote.ts";
import { Internet } from "../doubles/internet.ts";
import { type Ask, allow, ProxyUnderTest, rulesOf } from "../doubles/proxy.ts";

const hosts = [
  ...new Set([...Object.values(MODELS), ...SOUND.map(([host]) => ({ host })), { host: "api.groq.com" }].map(({ host }) => host)),
];

/**
 * E02: an allowed model API would fetch an address, call a server, read uploaded files or run code for whoever asks it to, with words of
 * the conversation on the way. What is known of that is in one list; here all of it is sent, and the origin's log says what left.
 */
describe("a model API is not used to fetch, call or run something for the guest", () => {
  let internet: Internet;
  let proxy: ProxyUnderTest;

  beforeAll(async () => {
    internet = await Internet.create();
    const [name = "", ...names] = hosts;
    await internet.origin({ name, names });
    // also where the guest may use keys of its own
    proxy = await ProxyUnderTest.start(internet, { rules: rulesOf(...hosts.map((host) => allow(host, { credentials: "guest" }))) });
  });
  afterAll(async () => {
    await proxy?.close();
    await internet?.close();
  });
  afterEach(async () => {
    expect(proxy.stderr).toBe("");
    await internet.forget();
  });

  describe.each(["http1", "http2"] as const)("over %s", (version) => {
    const post = (host: string, path: string, headers: Record<string, string>, body: string) => {
      const ask: Ask = { method: "POST", headers: { ...(version === "http1" ? { host } : {}), ...headers }, body };
      return proxy[version](`https://${host}${path}`, ask);
    };
    const arrived = async () => (await internet.seen()).requests;

    it("E02: by none of the fields that make one do so; the same request without them arrives", async () => {
      const gemini = '{"contents":[{"parts":[{"text":"look at https://evil.example/?leak"}]}]}';
      for (const [api, { host, path, headers }] of Object.entries(MODELS)) {
        const bodies = REMOTE_BODIES.filter(([of]) => of === api);
        expect([api, bodies.length]).not.toEqual([api, 0]);
        for (const [, body] of bodies) {
          const text = JSON.stringify(body);
          expect([text, (await post(host, path, headers, text)).error?.code]).toEqual([text, "request.remote-fetch"]);
        }
        expect(await arrived()).toEqual([]);
        const control =
          api.startsWith("gemini") && !api.includes("openai")
            ? gemini
            : '{"model":"m","messages":[{"role":"user","content":"look at https://evil.example/?leak"}]}';
        expect((await post(host, path, headers, control)).status).toBe(200);
        expect((await arrived()).map(({ target, body }) => [target, body])).toEqual([[path, control]]);
        await internet.forget();
      }
    });

    it("E02: by none of the headers that do; the same request without them arrives", async () => {
      const json = { "content-type": "application/json" };
      for (const [host, name, value] of REMOTE_HEADERS) {
        const answer = await post(host, "/v1/messages", { ...json, [name]: value }, "{}");
        expect([name, value, answer.error?.code]).toEqual([name, value, "request.remote-fetch"]);
        expect(await arrived()).toEqual([]);
      }
      for (const host of new Set(REMOTE_HEADERS.map(([host]) => host))) {
        const beta = { "anthropic-beta": "prompt-caching-2024-07-31,context-management-2025-06-27" };
        expect((await post(host, "/v1/messages", { ...json, ...beta }, "{}")).status).toBe(200);
      }
      expect(await arrived()).toHaveLength(2);
    });

    it.each(SOUND)("E02: by no form at %s%s; one with the sound in it arrives byte for byte", async (host, path) => {
      for (const [what, { type, body }] of REMOTE_FORMS) {
        expect([what, (await post(host, path, { "content-type": type }, body)).error?.code]).toEqual([what, "request.remote-fetch"]);
      }
      expect(await arrived()).toEqual([]);
      const { type, body } = form([
        ["model", "whisper"],
        ["file", "RIFF", "a.wav"],
      ]);
      expect((await post(host, path, { "content-type": type }, body)).status).toBe(200);
      expect((await arrived()).map((request) => [request.target, request.body])).toEqual([[path, body]]);
    });
  });
});
