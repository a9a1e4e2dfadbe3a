import type { SecretUse } from "../../../contract/index.ts";
import { type Endpoint, endpoints } from "./endpoints.ts";

/** Which kind of model API answers at a host: it decides what of a body makes it fetch or call out. */
export type ModelApi = "anthropic" | "openai" | "gemini";

/** What is known of a host beforehand. Everything here narrows: a host without a profile has the general rules. */
export interface HostProfile {
  /** exact names, or `*.example.com` */
  hosts: readonly string[];
  /** how its key is sent, the variable that its tools read it from, and the public prefix where it is this host's alone */
  key?: { use: SecretUse; env: string; prefix?: RegExp };
  /** a key without paths of its own reaches these only */
  reach?: readonly Endpoint[];
  /** a key without paths of its own does not reach these; absent, with `reach` absent too: the general list of granting segments */
  excluded?: readonly Endpoint[];
  /** endpoints at which a client logs in or publishes with a credential in the body */
  logins?: readonly Endpoint[];
  /** endpoints whose path is the credential */
  pathKeys?: readonly Endpoint[];
  /** parameters that are credentials here, whatever they hold */
  queryKeys?: ReadonlySet<string>;
  /** fields of a body that are credentials here, in lower case without `_` */
  bodyKeys?: ReadonlySet<string>;
  /** headers named like credentials that are none here */
  harmless?: ReadonlySet<string>;
  /** authorizations that the provider publishes for everybody: they say nothing of who asks */
  anonymous?: ReadonlySet<string>;
  /** its GraphQL endpoint: a key's default is to ask, and to change what grants no access */
  graphql?: readonly Endpoint[];
  model?: ModelApi;
  /** bodies of these are not JSON and have no field that makes the API fetch */
  opaqueBodies?: readonly Endpoint[];
  /** headers that switch such things on, by name, with the pattern of refused values */
  remote?: readonly { header: string; values: RegExp }[];
  /** downloads by signed links: the link's signature passes with GET and HEAD */
  signedDownloads?: true;
}

const set = (list: string): ReadonlySet<string> => new Set(list.trim().split(/\s+/));

const OPENAI_REACH = `
  /chat/completions /completions /responses /responses/** /embeddings /models /models/** /moderations /images/generations
  /audio/speech /audio/transcriptions /audio/translations`;
const under = (prefix: string, list: string): string =>
  list
    .trim()
    .split(/\s+/)
    .map((path) => `${prefix}${path}`)
    .join(" ");

/** Hosts that speak the protocol of OpenAI, with the folder that their endpoints are in. */
const OPENAI_LIKE: readonly [host: string, prefixes: string[], env: string, prefix?: RegExp][] = [
  ["api.mistral.ai", ["/v1"], "MISTRAL_API_KEY"],
  ["api.groq.com", ["/openai/v1"], "GROQ_API_KEY"],
  ["api.deepseek.com", ["", "/v1", "/beta"], "DEEPSEEK_API_KEY"],
  ["api.x.ai", ["/v1"], "XAI_API_KEY"],
  ["api.together.xyz", ["/v1"], "TOGETHER_API_KEY"],
  ["api.together.ai", ["/v1"], "TOGETHER_API_KEY"],
  ["api.fireworks.ai", ["/inference/v1"], "FIREWORKS_API_KEY"],
  ["api.cerebras.ai", ["/v1"], "CEREBRAS_API_KEY"],
  ["openrouter.ai", ["/api/v1"], "OPENROUTER_API_KEY"],
  ["router.huggingface.co", ["/v1"], "HF_TOKEN"],
  ["api.moonshot.ai", ["/v1"], "MOONSHOT_API_KEY"],
  ["models.github.ai", ["/inference"], "GITHUB_TOKEN"],
];

const ANTHROPIC_REACH = `
  /v1/messages /v1/messages/count_tokens /v1/messages/batches /v1/messages/batches/** /v1/models /v1/models/** /v1/complete`;

const GITHUB_SUB = `keys keys/** hooks hooks/** collaborators collaborators/** invitations invitations/** transfer teams teams/**
  actions/secrets actions/secrets/** actions/organization-secrets actions/runners actions/runners/** actions/oidc/** dependabot/secrets dependabot/secrets/**
  codespaces codespaces/** environments/*/secrets environments/*/secrets/** deployments/*/statuses/token tags/protection autolinks import import/** interaction-limits`;

const PROFILES: readonly HostProfile[] = [
  {
    hosts: ["api.anthropic.com"],
    key: { use: "x-api-key", env: "ANTHROPIC_API_KEY" },
    reach: endpoints(ANTHROPIC_REACH),
    logins: endpoints("/v1/oauth/** /v1/organizations/** /api/oauth/**"),
    model: "anthropic",
    // what these switch on reads uploaded files, runs code at the provider, or calls addresses that the request names
    remote: [
      {
        header: "anthropic-beta",
        values: /(?:^|[\s,"])(?:mcp-client|mcp-servers|files-api|code-execution|web-fetch|skills|managed-agents|agent-api)/i,
      },
    ],
  },
  { hosts: ["console.anthropic.com", "platform.claude.com", "claude.ai"], logins: endpoints("/v1/oauth/** /api/** /oauth/**"), reach: [] },
  {
    hosts: ["api.openai.com"],
    key: { use: "bearer", env: "OPENAI_API_KEY" },
    reach: endpoints(under("/v1", OPENAI_REACH)),
    harmless: set("session-id x-session-id"),
    model: "openai",
    opaqueBodies: endpoints("/v1/audio/transcriptions /v1/audio/translations"),
    remote: [{ header: "openai-beta", values: /(?:^|[\s,])(?:realtime|agents|mcp)/i }],
  },
  { hosts: ["auth.openai.com", "chatgpt.com"], logins: endpoints("/oauth/** /api/** /backend-api/**"), reach: [] },
  {
    hosts: ["*.openai.azure.com", "*.cognitiveservices.azure.com"],
    key: { use: "header:api-key", env: "AZURE_OPENAI_API_KEY" },
    reach: endpoints(
      `${under("/openai/deployments/*", OPENAI_REACH)} ${under("/openai/v1", OPENAI_REACH)} /openai/responses /openai/responses/** /openai/models`,
    ),
    model: "openai",
    opaqueBodies: endpoints("/openai/deployments/*/audio/* /openai/v1/audio/*"),
  },
  ...OPENAI_LIKE.map(
    ([host, prefixes, env, prefix]): HostProfile => ({
      hosts: [host],
      key: { use: "bearer", env, ...(prefix ? { prefix } : {}) },
      reach: endpoints(prefixes.map((folder) => under(folder, OPENAI_REACH)).join(" ")),
      model: "openai",
      opaqueBodies: endpoints(prefixes.map((folder) => `${folder}/audio/transcriptions ${folder}/audio/translations`).join(" ")),
    }),
  ),
  {
    hosts: ["generativelanguage.googleapis.com"],
    key: { use: "header:x-goog-api-key", env: "GEMINI_API_KEY" },
    reach: endpoints(`/v*/models /v*/models/* /v*/models/** ${under("/v1beta/openai", OPENAI_REACH)}`),
    queryKeys: set("key access_token"),
    model: "gemini",
  },
  {
    hosts: ["api.github.com"],
    key: { use: "bearer", env: "GITHUB_TOKEN" },
    excluded: endpoints(`
      /user/keys /user/keys/** /user/gpg_keys /user/gpg_keys/** /user/ssh_signing_keys /user/ssh_signing_keys/** /user/email/** /user/emails /user/emails/**
      /user/memberships/** /user/repository_invitations/** /user/codespaces /user/codespaces/** /user/installations/** /user/migrations/**
      ${under("/repos/*/*", `/${GITHUB_SUB.trim().split(/\s+/).join(" /")}`)} ${under("/repositories/*", `/${GITHUB_SUB.trim().split(/\s+/).join(" /")}`)}
      ${["/orgs/*", "/organizations/*"]
        .map((org) =>
          under(
            org,
            `/hooks /hooks/** /members /members/** /memberships/** /invitations /invitations/** /outside_collaborators/** /public_members/** /actions/secrets/**
            /actions/runners /actions/runners/** /actions/runner-groups/** /actions/organization-secrets/** /actions/oidc/** /dependabot/secrets/** /codespaces/** /personal-access-token** /teams
            /teams/** /team/** /installations /credential-authorizations/** /organization-roles/** /security-managers/** /private-registries/** /interaction-limits`,
          ),
        )
        .join(" ")}
      /teams/** /applications/** /app /app/** /apps/*/installations /app-manifests/** /authorizations /authorizations/** /installation/** /installations/** /enterprises/** /scim/** /admin/**
      /hub /credentials/**`),
    graphql: endpoints("/graphql"),
  },
  {
    // git over https and large files; a token at this host is good for the whole site
    hosts: ["github.com", "gitlab.com", "codeberg.org", "bitbucket.org"],
    key: { use: "basic", env: "GIT_TOKEN" },
    reach: endpoints("/**/info/refs /**/git-upload-pack /**/git-receive-pack /**/info/lfs/**"),
    logins: endpoints("/login/** /session /sessions /oauth/** /users/sign_in /site/oauth2/** /user/login /-/jwt/auth /jwt/auth"),
  },
  {
    hosts: ["hooks.slack.com", "hooks.slack-gov.com"],
    pathKeys: endpoints("/services/** /workflows/** /triggers/** /commands/**"),
  },
  {
    hosts: ["slack.com", "*.slack.com"],
    key: { use: "bearer", env: "SLACK_TOKEN" },
    excluded: endpoints(`
      /api/oauth.* /api/oauth.*.* /api/auth.* /api/admin.* /api/admin.*.* /api/apps.* /api/apps.*.* /api/tooling.* /api/tooling.*.* /api/conversations.invite* /api/conversations.invite*.* /api/users.admin.*
      /api/conversations.acceptsharedinvite /api/rtm.* /api/files.sharedpublicurl /api/team.* /api/openid.*`),
    logins: endpoints("/api/oauth.* /api/oauth.*.* /api/openid.* /api/openid.*.* /api/tooling.tokens.*"),
    bodyKeys: set("token clientsecret refreshtoken"),
  },
  { hosts: ["api.telegram.org"], pathKeys: endpoints("/bot** /bot*/** /file/bot*/**") },
  {
    hosts: ["discord.com", "discordapp.com", "canary.discord.com", "ptb.discord.com"],
    pathKeys: endpoints("/api/webhooks/*/* /api/webhooks/*/*/** /api/*/webhooks/*/* /api/*/webhooks/*/*/** /api/**/interactions/*/*/**"),
    logins: endpoints("/api/**/oauth2/** /api/**/auth/**"),
  },
  { hosts: ["*.webhook.office.com", "outlook.office.com", "*.logic.azure.com"], pathKeys: endpoints("/webhook*/** /workflows/**") },
  {
    hosts: ["hooks.zapier.com", "maker.ifttt.com", "hook.integromat.com", "*.make.com", "*.pipedream.net", "discohook.org"],
    pathKeys: endpoints("/**"),
  },
  { hosts: ["chat.googleapis.com"], pathKeys: [], queryKeys: set("key token") },
  {
    hosts: ["api.pushover.net", "graph.facebook.com", "api.vk.com", "api.dropboxapi.com", "api.twitter.com", "api.x.com"],
    bodyKeys: set("token user accesstoken clientsecret refreshtoken appsecret"),
    queryKeys: set("access_token token key"),
  },
  {
    hosts: [
      "oauth2.googleapis.com",
      "sts.googleapis.com",
      "iamcredentials.googleapis.com",
      "securetoken.googleapis.com",
      "identitytoolkit.googleapis.com",
      "accounts.google.com",
    ],
    reach: [],
    logins: endpoints("/**"),
  },
  { hosts: ["*.googleapis.com"], queryKeys: set("key access_token upload_id"), logins: endpoints("/oauth2/** /**/token") },
  {
    hosts: ["sts.amazonaws.com", "sts.*.amazonaws.com", "signin.aws.amazon.com", "cognito-idp.*.amazonaws.com"],
    reach: [],
    logins: endpoints("/**"),
  },
  { hosts: ["login.microsoftonline.com", "login.live.com", "login.windows.net"], reach: [], logins: endpoints("/**") },
  {
    hosts: ["registry.npmjs.org", "registry.yarnpkg.com", "npm.pkg.github.com"],
    key: { use: "bearer", env: "NPM_TOKEN" },
    excluded: endpoints(
      "/-/npm/v1/tokens /-/npm/v1/tokens/** /-/npm/v1/user /-/npm/v1/hooks/** /-/npm/v1/oidc/** /-/user/** /-/org/** /-/team/** /-/package/*/access /-/package/*/*/access /-/package/*/collaborators /-/package/*/*/collaborators /-/package/**/trust /-/v1/login /-/v1/done",
    ),
    logins: endpoints("/-/user/** /-/v1/login /-/v1/done /-/npm/v1/oidc/** /-/npm/v1/tokens"),
  },
  {
    hosts: ["pypi.org", "test.pypi.org", "upload.pypi.org"],
    key: { use: "basic", env: "TWINE_PASSWORD" },
    reach: endpoints("/legacy /simple /simple/** /pypi/**"),
    logins: endpoints("/_/** /account/** /manage/**"),
  },
  {
    hosts: ["crates.io"],
    key: { use: "header:authorization", env: "CARGO_REGISTRY_TOKEN" },
    excluded: endpoints(
      "/api/v1/me/** /api/v1/crates/*/owners /api/v1/trusted_publishing/** /api/private/** /api/v1/users/** /api/v1/confirm/** /api/v1/github_issues/**",
    ),
    logins: endpoints("/api/private/session/** /api/v1/trusted_publishing/tokens"),
  },
  {
    hosts: ["huggingface.co", "hub-ci.huggingface.co"],
    key: { use: "bearer", env: "HF_TOKEN" },
    excluded: endpoints(`
      /api/settings/** /api/organizations/** /api/webhooks /api/webhooks/** /api/*/*/webhooks /api/spaces/*/*/secrets /api/spaces/*/*/variables /api/*/*/*/user-access-request/** /oauth/** /api/jobs/**
      /settings/** /api/*/*/*/xet-write-token/** /api/*/*/*/xet-read-token/**`),
    logins: endpoints("/oauth/** /login /join /logout"),
    signedDownloads: true,
  },
  {
    hosts: ["hub.docker.com", "auth.docker.io", "index.docker.io"],
    reach: [],
    logins: endpoints("/v2/users/login /v2/users/2fa-login /v2/auth/** /v2/access-tokens/** /v1/users/**"),
  },
  { hosts: ["ghcr.io"], anonymous: new Set(["Bearer QQ=="]), signedDownloads: true },
  {
    hosts: [
      "release-assets.githubusercontent.com",
      "objects.githubusercontent.com",
      "github-cloud.githubusercontent.com",
      "github-cloud.s3.amazonaws.com",
      "pkg-containers.githubusercontent.com",
      "codeload.github.com",
      "raw.githubusercontent.com",
      "media.githubusercontent.com",
      "cdn-lfs.huggingface.co",
      "cdn-lfs-us-1.hf.co",
      "cdn-lfs-eu-1.hf.co",
      "cas-bridge.xethub.hf.co",
      "transfer.xethub.hf.co",
      "production.cloudflare.docker.com",
      "docker-images-prod.6aa30f8b08e16409b46e0173d6de2f56.r2.cloudflarestorage.com",
      "cdn01.quay.io",
      "cdn02.quay.io",
      "cdn03.quay.io",
    ],
    reach: [],
    signedDownloads: true,
  },
  {
    hosts: ["api.stripe.com"],
    key: { use: "bearer", env: "STRIPE_API_KEY" },
    excluded: endpoints(
      "/v1/webhook_endpoints /v1/webhook_endpoints/** /v2/** /v1/ephemeral_keys /v1/ephemeral_keys/** /v1/accounts/*/login_links /v1/account_links /v1/account_sessions /v1/external_accounts/** /v1/apps/secrets/** /v1/oauth/** /v1/apple_pay/** /v1/accounts/*/external_accounts/** /v1/accounts/*/persons/**",
    ),
  },
];

const EXACT = new Map<string, HostProfile>();
const PATTERNS: [RegExp, HostProfile][] = [];
for (const profile of PROFILES) {
  for (const host of profile.hosts) {
    if (host.includes("*"))
      PATTERNS.push([new RegExp(`^${host.replaceAll(".", "\\.").replace(/^\*/, ".+").replaceAll("*", "[^.]+")}$`), profile]);
    else EXACT.set(host, profile);
  }
}

/** The profile of a host, given in its canonical lower case. */
export const profileOf = (host: string): HostProfile | undefined =>
  EXACT.get(host) ?? PATTERNS.find(([pattern]) => pattern.test(host))?.[1];

/** How a host's key is sent and which variable its tools read, where that is known: the defaults of a binding. */
export const knownKey = (host: string): { use: SecretUse; env: string } | undefined => profileOf(host)?.key;
