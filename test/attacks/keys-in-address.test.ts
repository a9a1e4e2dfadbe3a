import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { BoundSecret } from "../../app/core/egress/protocol.ts";
import { Internet } from "../doubles/internet.ts";
import { type Ask, allow, ProxyUnderTest, rulesOf } from "../doubles/proxy.ts";

const PLACEHOLDER = "standin-9a8b7c6d5e4f3a2b1c0d";
const TELEGRAM = "api.telegram.org";
const SLACK = "slack.com";
const HOOKS = "hooks.slack.com";
const DISCORD = "discord.com";
const OTHER = "other.fixture.example";
const hosts = [TELEGRAM, SLACK, HOOKS, DISCORD, OTHER];
const versions = ["http1", "http2"] as const;

const bot = "1234567890:AAfixtureFIXTUREfixtureFIXTUREfixt0";
const hook = "T0FIXTURE/B0FIXTURE/fixtureFIXTUREfixture012";
const json = { method: "POST", headers: { "content-type": "application/json" } };

/** Keys of another account, where neither header nor query shows them: the origin's log says what left. */
describe("another account's key in an address or a body does not leave at an allowed host", () => {
  let internet: Internet;
  let proxy: ProxyUnderTest;
  let own: ProxyUnderTest;
  const secret: BoundSecret = {
    name: "bot",
    binding: { hosts: [TELEGRAM], use: "bearer" },
    placeholder: PLACEHOLDER,
    value: "canary-0f8e2d7c6b5a49382716",
  };

  beforeAll(async () => {
    internet = await Internet.create();
    for (const name of hosts) await internet.origin({ name });
    const secrets = [secret];
    proxy = await ProxyUnderTest.start(internet, { rules: rulesOf(...hosts.map((host) => allow(host))), secrets });
    own = await ProxyUnderTest.start(internet, { rules: rulesOf(...hosts.map((host) => allow(host, { credentials: "guest" }))), secrets });
  });
  afterAll(async () => {
    await proxy?.close();
    await own?.close();
    await internet?.close();
  });
  afterEach(async () => {
    expect(proxy.stderr + own.stderr).toBe("");
    await internet.forget();
  });

  const attempts: [what: string, url: string, ask?: Ask][] = [
    ["Telegram's bot", `https://${TELEGRAM}/bot${bot}/sendMessage`, { ...json, body: '{"text":"x"}' }],
    ["Telegram's bot, of no known shape", `https://${TELEGRAM}/bot1:x/getMe`],
    ["Telegram's bot, encoded", `https://${TELEGRAM}/%62%6ft1%3ax/getMe`],
    ["Telegram's bot, in capitals", `https://${TELEGRAM}/BOT1:x/getMe`],
    ["Telegram's file", `https://${TELEGRAM}/file/bot1:x/a.png`],
    ["Telegram's bot at a server of its owner's", `https://${OTHER}/bot${bot}/getMe`],
    ["Slack's hook", `https://${HOOKS}/services/T0/B0/x`, { ...json, body: '{"text":"x"}' }],
    ["Slack's hook through a relay", `https://${OTHER}/to/services/${hook}`, { ...json, body: '{"text":"x"}' }],
    ["Slack's hook through a relay, encoded", `https://${OTHER}/to/${encodeURIComponent(hook)}`],
    ["Discord's hook", `https://${DISCORD}/api/webhooks/1/x`, { ...json, body: '{"content":"x"}' }],
    ["Discord's hook of a version, encoded", `https://${DISCORD}/api/v10/%77ebhooks/1/x/slack`],
    ["a key of a known shape as a segment", `https://${OTHER}/v1/ghp_${"Zy9".repeat(12)}/x`],
    ["a field of Slack's body", `https://${SLACK}/api/chat.postMessage`, { ...json, body: '{"token":"x","text":"x"}' }],
    [
      "a field of Slack's form",
      `https://${SLACK}/api/chat.postMessage`,
      { method: "POST", headers: { "content-type": "application/x-www-form-urlencoded" }, body: "text=x&%74oken=x" },
    ],
  ];

  type Version = (typeof versions)[number];
  const each = attempts.flatMap(([what, url, ask]) =>
    versions.map((version): [Version, string, string, Ask | undefined] => [version, what, url, ask]),
  );
  it.each(each)("E01: over %s, %s; it does under a rule that lets the guest use its own", async (version, _what, url, ask) => {
    expect((await proxy[version](url, ask)).error?.code).toBe("credential.foreign");
    expect((await internet.seen()).requests).toEqual([]);
    expect((await own[version](url, ask)).status).toBe(200);
    expect((await internet.seen()).requests).toHaveLength(1);
  });

  it.each(versions)("what has none of them passes at the same hosts (%s)", async (version) => {
    const plain: [url: string, ask?: Ask][] = [
      [`https://${TELEGRAM}/robots.txt`],
      [`https://${DISCORD}/api/v10/gateway`],
      [`https://${SLACK}/api/api.test`, { ...json, body: '{"text":"a token of thanks"}' }],
      [`https://${OTHER}/services/T0/B0/x`],
      [`https://${OTHER}/bottles/12345`],
    ];
    for (const ask of plain) expect((await proxy[version](...ask)).status, ask[0]).toBe(200);
    expect((await internet.seen()).requests).toHaveLength(plain.length);
  });

  it.each(versions)("C02: the task's stand-in in an address does not leave either, under no rule (%s)", async (version) => {
    for (const under of [proxy, own]) {
      expect((await under[version](`https://${TELEGRAM}/bot${PLACEHOLDER}/getMe`)).error?.code).toBe("credential.misplaced");
      expect((await under[version](`https://${OTHER}/x/${PLACEHOLDER}`)).error?.code).toBe("credential.misplaced");
    }
    expect((await internet.seen()).requests).toEqual([]);
    const headers = { authorization: `Bearer ${PLACEHOLDER}` };
    expect((await proxy[version](`https://${TELEGRAM}/me`, { headers })).status).toBe(200);
  });
});
