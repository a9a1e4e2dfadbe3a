import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { BoundSecret } from "../../app/core/egress/protocol.ts";
import { Internet } from "../doubles/internet.ts";
import { type Answer, allow, ProxyUnderTest, rulesOf } from "../doubles/proxy.ts";

const unknown = "api.unknown.example";
const neighbour = "other.unknown.example";
const versions = ["http1", "http2"] as const;

/** What hands out keys, tokens or logins, or registers what gives access, at hosts that are known. */
const KNOWN: Readonly<Record<string, { works: string; issues: readonly string[] }>> = {
  "api.github.com": {
    works: "GET /repos/o/r",
    issues: [
      "POST /user/keys",
      "POST /repos/o/r/keys",
      "POST /repositories/1/keys",
      "POST /repos/o/r/hooks",
      "PUT /repos/o/r/collaborators/x",
      "POST /app/installations/1/access_tokens",
      "POST /applications/1/token/scoped",
      "POST /repos/o/r/actions/runners/registration-token",
      "POST /orgs/o/actions/runners/generate-jitconfig",
      "PUT /repos/o/r/actions/secrets/x",
      "POST /orgs/o/invitations",
      "POST /authorizations",
    ],
  },
  "github.com": {
    works: "POST /o/r.git/git-upload-pack",
    issues: ["POST /login/oauth/access_token", "POST /login/device/code", "POST /settings/tokens", "POST /session", "GET /settings/keys"],
  },
  "gitlab.com": {
    works: "GET /api/v4/projects/1",
    issues: [
      "POST /oauth/token",
      "POST /api/v4/user/personal_access_tokens",
      "POST /api/v4/users/1/impersonation_tokens",
      "POST /api/v4/projects/1/access_tokens",
      "POST /api/v4/projects/1/deploy_keys",
      "POST /api/v4/projects/1/deploy_tokens",
      "POST /api/v4/projects/1/triggers",
      "POST /api/v4/user/runners",
      "POST /api/v4/personal_access_tokens/self/rotate",
      "GET /jwt/auth",
    ],
  },
  "registry.npmjs.org": {
    works: "GET /thing",
    issues: [
      "POST /-/npm/v1/tokens",
      "GET /-/npm/v1/tokens",
      "PUT /-/user/org.couchdb.user:x",
      "POST /-/v1/login",
      "POST /-/npm/v1/hooks/hook",
    ],
  },
  "pypi.org": {
    works: "GET /simple/thing/",
    issues: ["POST /_/oidc/mint-token", "POST /_/oidc/github/mint-token", "POST /manage/account/token"],
  },
  "crates.io": {
    works: "GET /api/v1/crates/thing",
    issues: [
      "PUT /api/v1/me/tokens",
      "POST /api/v1/trusted_publishing/tokens",
      "PUT /api/v1/crates/x/owners",
      "GET /api/private/session/begin",
    ],
  },
  "huggingface.co": {
    works: "GET /api/models",
    issues: ["POST /oauth/token", "POST /api/settings/tokens", "GET /api/models/a/b/xet-write-token/main"],
  },
  "api.anthropic.com": {
    works: "GET /v1/models",
    issues: ["POST /v1/organizations/api_keys", "POST /v1/oauth/token", "POST /api/oauth/claude_cli/create_api_key"],
  },
  "api.openai.com": {
    works: "GET /v1/models",
    issues: [
      "POST /v1/organization/admin_api_keys",
      "POST /v1/realtime/client_secrets",
      "POST /v1/realtime/sessions",
      "POST /v1/chatkit/sessions",
    ],
  },
  "openrouter.ai": { works: "GET /api/v1/models", issues: ["POST /api/v1/keys", "POST /api/v1/auth/keys"] },
  "slack.com": {
    works: "POST /api/chat.postMessage",
    issues: ["POST /api/oauth.v2.access", "POST /api/tooling.tokens.rotate", "POST /api/apps.connections.open"],
  },
  "api.stripe.com": {
    works: "GET /v1/charges",
    issues: ["POST /v1/ephemeral_keys", "POST /v1/account_sessions", "POST /v1/webhook_endpoints"],
  },
};
/** Hosts that do nothing else: no address of theirs is reached, with a key or without. */
const ISSUERS: Readonly<Record<string, readonly string[]>> = {
  "sts.amazonaws.com": ["POST /?Action=GetSessionToken", "POST /?Action=AssumeRole", "GET /"],
  "sts.eu-west-1.amazonaws.com": ["POST /"],
  "oauth2.googleapis.com": ["POST /token"],
  "sts.googleapis.com": ["POST /v1/token"],
  "iamcredentials.googleapis.com": ["POST /v1/projects/-/serviceAccounts/x:generateAccessToken"],
  "login.microsoftonline.com": ["POST /common/oauth2/v2.0/token"],
  "auth.openai.com": ["POST /oauth/token"],
  "console.anthropic.com": ["POST /v1/oauth/token"],
};
/** At a host that nobody knows: by their words. */
const WORDS = [
  "POST /oauth/token",
  "POST /oauth2/v1/token",
  "POST /realms/x/protocol/openid-connect/token",
  "POST /v1/tokens",
  "POST /v1/api-keys",
  "POST /v1/API_Keys",
  "POST /v1/api%2Dkeys",
  "POST /v1/apikeys.json",
  "POST /v1/users/1/access_tokens",
  "POST /v1/repos/x/deploy-keys",
  "POST /v1/sessions",
  "POST /v1/hooks",
  "POST /sts/assume-role",
  "POST /auth/refresh",
  "POST /v1/things:generateAccessToken",
  "POST /graphql",
  "POST /batch",
];

const hosts = [...Object.keys(KNOWN), ...Object.keys(ISSUERS), unknown, neighbour];

/** C09, C10: the service would hand out a key to every request. What the guest is answered holds none of them. */
describe("a stand-in is of no use to get another key", () => {
  let internet: Internet;
  let proxy: ProxyUnderTest;
  const value = "canary-0f8e2d7c6b5a49382716";
  const standIn = (host: string) => `standin-9a8b7c6d5e4f3a2b1c0d-${100 + hosts.indexOf(host)}`;
  const secrets = hosts
    .filter((host) => host !== neighbour)
    .map((host, at): BoundSecret => ({ name: `key-${at}`, binding: { hosts: [host], use: "bearer" }, placeholder: standIn(host), value }));

  beforeAll(async () => {
    internet = await Internet.create();
    const [name = "", ...names] = hosts;
    await internet.origin({ name, names, handler: new URL("./origins/issues.ts", import.meta.url) });
    // a rule for the whole host: what is refused here no preset and no narrower rule lets pass
    proxy = await ProxyUnderTest.start(internet, {
      rules: rulesOf(...hosts.map((host) => allow(host))),
      secrets,
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

  type Version = (typeof versions)[number];
  const send = (
    version: Version,
    host: string,
    line: string,
    authorization: string | undefined = `Bearer ${standIn(host)}`,
  ): Promise<Answer> => {
    const [method = "", path = ""] = line.split(" ");
    const headers = { ...(version === "http1" ? { host } : {}), ...(authorization === undefined ? {} : { authorization }) };
    return proxy[version](`https://${host}${path}`, { method, headers, ...(method === "GET" ? {} : { body: "" }) });
  };
  const shown = ({ headers, text }: Answer) => /issued-[0-9a-f]{24}/.exec(JSON.stringify(headers) + text)?.[0];
  const arrived = async () => (await internet.seen()).requests.map(({ method, target }) => `${method} ${target}`);

  const everywhere = Object.entries(KNOWN).flatMap(([host, of]) => versions.map((version) => [host, version, of] as const));
  it.each(everywhere)(
    "C09, C10: at %s, over %s, it is put in where the work is, and nowhere that hands out or registers access",
    async (host, version, { works, issues }) => {
      for (const line of issues) {
        const answer = await send(version, host, line);
        expect([line, answer.status, shown(answer)]).toEqual([line, 403, undefined]);
      }
      expect(await arrived()).toEqual([]);
      const control = await send(version, host, works);
      expect([control.status, shown(control) !== undefined]).toEqual([200, true]);
      expect((await internet.seen()).requests[0]?.rawHeaders).toContain(`Bearer ${value}`);
    },
  );

  it.each(versions)("C09: where keys are all that is handed out, no request arrives, with a key or without (%s)", async (version) => {
    for (const [host, lines] of Object.entries(ISSUERS)) {
      for (const line of lines) {
        const answers = [
          await send(version, host, line),
          await proxy[version](`https://${host}${line.split(" ")[1]}`, { method: "POST", body: "" }),
        ];
        for (const answer of answers) expect([host, line, answer.status, shown(answer)]).toEqual([host, line, 403, undefined]);
      }
    }
    expect(await arrived()).toEqual([]);
    expect((await send(version, unknown, "GET /v1/things")).status).toBe(200);
  });

  it.each(versions)("C09: at a host that nobody knows, not where the address says that it hands out keys (%s)", async (version) => {
    for (const line of WORDS) {
      const answer = await send(version, unknown, line);
      expect([line, answer.status, shown(answer)]).toEqual([line, 403, undefined]);
    }
    expect(await arrived()).toEqual([]);
    expect((await send(version, unknown, "GET /v1/things")).status).toBe(200);
  });

  it.each(versions)(
    "C09: a key that such a host hands out where its address does not say so is the task's, and of no use to it at any allowed host, that one too (%s)",
    async (version) => {
      const answer = await send(version, unknown, "POST /v1/things");
      const issued = shown(answer) ?? "";
      expect(issued, "which the README says").not.toBe("");
      // a cookie would be a login that clients send by themselves
      expect(JSON.stringify(answer.headers)).not.toContain("session=");
      await internet.forget();
      for (const host of [unknown, neighbour, "api.github.com"]) {
        for (const authorization of [`Bearer ${issued}`, `token ${issued}`, `Basic ${Buffer.from(`x:${issued}`).toString("base64")}`]) {
          expect((await send(version, host, "GET /v1/things", authorization)).error?.code).toBe("credential.foreign");
        }
        for (const header of ["x-api-key", "cookie", "x-auth-token"]) {
          const headers = { ...(version === "http1" ? { host } : {}), [header]: header === "cookie" ? `session=${issued}` : issued };
          expect((await proxy[version](`https://${host}/v1/things`, { headers })).error?.code).toBe("credential.foreign");
        }
        expect((await proxy[version](`https://${host}/v1/things?access_token=${issued}`)).error?.code).toBe("credential.foreign");
      }
      expect(await arrived()).toEqual([]);
    },
  );
});
