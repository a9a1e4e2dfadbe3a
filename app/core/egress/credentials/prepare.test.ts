import { describe, expect, it } from "vitest";
import { FOREIGN_KEYS, pick, request, secret, seeded, text, VALUE } from "./fixtures/cases.ts";
import { type OutgoingRequest, type Passed, prepare, REFUSALS, type Refusal, storable } from "./index.ts";

const HOST = "api.anthropic.com";
const anthropic = secret("anthropic", VALUE, { hosts: [HOST], use: "x-api-key", env: "ANTHROPIC_API_KEY" });
const bearer = secret("example", "ex-0123456789abcdefABCDEF", { hosts: ["api.example.com", "git.example.com"], use: "bearer" });
const github = secret("github", `ghp_${"Zy9".repeat(12)}`, { hosts: ["github.com", "api.github.com"], use: "bearer", env: "GITHUB_TOKEN" });
const basic = secret("registry", "someone:pass word/+=", { hosts: ["registry.example.com"], use: "basic" });
const custom = secret("custom", "0123456789abcdef0123456789abcdef", { hosts: ["custom.example.com"], use: "header:X-Team" });
const narrow = secret("narrow", "narrow-0123456789-abcdefgh", {
  hosts: ["narrow.example.com"],
  use: "bearer",
  methods: ["GET"],
  paths: ["/v1/read/*", "/oauth/token"],
  query: ["k"],
  body: true,
});
const SECRETS = [anthropic, bearer, github, basic, custom, narrow];
const FOREIGN = "AAAAforeign0123456789";

const ask = (given: Parameters<typeof request>[0], rule: { credentials?: "guest" } = {}) => prepare(request(given), SECRETS, rule);
function passed(result: Passed | Refusal): Passed {
  if (result.kind !== "pass") throw new Error(`refused: ${result.code} ${result.reason}`);
  return result;
}
function refused(result: Passed | Refusal): Refusal {
  if (result.kind !== "refuse") throw new Error(`passed: ${JSON.stringify(result.rawHeaders)} ${result.query}`);
  expect(Object.keys(REFUSALS)).toContain(result.code);
  expect(result.reason).toMatch(/^[A-Z].{20,800}[.]$/s);
  for (const { value, placeholder } of SECRETS) {
    expect(result.reason).not.toContain(value);
    expect(result.reason).not.toContain(placeholder);
  }
  return result;
}
function headerValues(result: Passed, name: string): string[] {
  return result.rawHeaders.flatMap((text, at) => (at % 2 === 0 && text.toLowerCase() === name ? [result.rawHeaders[at + 1] ?? ""] : []));
}
const base64 = (text: string) => Buffer.from(text).toString("base64");
const model = (given: Parameters<typeof request>[0]) => ({ host: HOST, method: "POST", path: "/v1/messages", ...given });

describe("the stand-in becomes the key", () => {
  it.each<[string, Parameters<typeof request>[0], string, string]>([
    ["as x-api-key", model({ headers: { "x-api-key": anthropic.placeholder } }), "x-api-key", VALUE],
    ["in a header of any case", model({ headers: { "X-API-KEY": anthropic.placeholder } }), "x-api-key", VALUE],
    ["with blanks around it", model({ headers: { "x-api-key": `  ${anthropic.placeholder}\t` } }), "x-api-key", VALUE],
    ["as Bearer", { headers: { Authorization: `Bearer ${bearer.placeholder}` } }, "authorization", `Bearer ${bearer.value}`],
    ["as bearer", { headers: { authorization: `bearer ${bearer.placeholder}` } }, "authorization", `bearer ${bearer.value}`],
    [
      "as GitHub's token",
      { host: "api.github.com", path: "/user/repos", headers: { authorization: `token ${github.placeholder}` } },
      "authorization",
      `token ${github.value}`,
    ],
    [
      "as git sends it",
      {
        host: "github.com",
        path: "/a/b.git/info/refs",
        query: "service=git-upload-pack",
        headers: { authorization: `Basic ${base64(`x-access-token:${github.placeholder}`)}` },
      },
      "authorization",
      `Basic ${base64(`x-access-token:${github.value}`)}`,
    ],
    [
      "as the user of Basic",
      { headers: { authorization: `Basic ${base64(`${bearer.placeholder}:`)}` } },
      "authorization",
      `Basic ${base64(`${bearer.value}:`)}`,
    ],
    [
      "as a whole pair",
      { host: "registry.example.com", headers: { authorization: `basic ${base64(basic.placeholder)}` } },
      "authorization",
      `Basic ${base64(basic.value)}`,
    ],
    ["in a header of its own", { host: "custom.example.com", headers: { "x-team": custom.placeholder } }, "x-team", custom.value],
    [
      "at a path and method of its own",
      { host: "narrow.example.com", path: "/v1/read/a", headers: { authorization: `Bearer ${narrow.placeholder}` } },
      "authorization",
      `Bearer ${narrow.value}`,
    ],
  ])("%s", (_name, given, header, expected) => {
    const result = passed(ask(given));
    expect(headerValues(result, header)).toEqual([expected]);
    expect(result.swapped).toHaveLength(1);
    expect(result.values.length).toBeGreaterThan(0);
  });

  it("with HTTP/2, whose own fields are left to who sends it on", () => {
    const rawHeaders = [
      ":method",
      "GET",
      ":path",
      `/x?k=${narrow.placeholder}`,
      ":authority",
      "narrow.example.com",
      "authorization",
      `Bearer ${narrow.placeholder}`,
    ];
    const result = passed(ask({ host: "narrow.example.com", path: "/v1/read/a", query: `k=${narrow.placeholder}`, rawHeaders }));
    expect(result.rawHeaders).toEqual(["authorization", `Bearer ${narrow.value}`, "accept-encoding", "identity"]);
    expect(result.query).toBe(`k=${narrow.value}`);
  });

  it("what may be stored with a key that is put into bodies or queries is searched for in every answer, at any host and without a key", () => {
    const query = secret("query", "query-0123456789-abcdefgh", { hosts: ["q.example.com"], use: "bearer", query: ["k"] });
    expect(storable([...SECRETS, query])).toEqual([narrow.value, query.value]);
    const elsewhere = { host: "elsewhere.example.com", headers: { range: "bytes=0-9" } };
    const told = passed(prepare(request(elsewhere), SECRETS, { storable: [narrow.value] }));
    expect([told.values, told.rawHeaders]).toEqual([[narrow.value], ["accept-encoding", "identity"]]);
    const untold = passed(prepare(request(elsewhere), SECRETS, { storable: [] }));
    expect([untold.values, untold.rawHeaders]).toEqual([[], ["range", "bytes=0-9"]]);
  });

  it("for git, by the service that is asked for", () => {
    const key = secret("git", "git-0123456789abcdefg", {
      hosts: ["git.example.com"],
      use: "bearer",
      paths: ["/**/info/refs?service=git-upload-pack", "/**/git-upload-pack"],
    });
    const at = (path: string, query: string) =>
      prepare(
        request({ host: "git.example.com", path, query, headers: { authorization: `Basic ${base64(`x:${key.placeholder}`)}` } }),
        [key],
        {},
      );
    expect(passed(at("/a/b.git/info/refs", "?service=git-upload-pack")).swapped).toEqual(["git"]);
    expect(passed(at("/a/b.git/git-upload-pack", "")).swapped).toEqual(["git"]);
    expect(refused(at("/a/b.git/info/refs", "?service=git-receive-pack")).code).toBe("credential.misplaced");
    expect(refused(at("/a/b.git/git-receive-pack", "")).code).toBe("credential.misplaced");
  });

  it("in an opted-in parameter, written so that it is one value", () => {
    const key = secret("q", "a key/with=odd&parts", { hosts: ["q.example.com"], use: "bearer", query: ["key"] });
    const given = request({ host: "q.example.com", query: `?a=1&key=${encodeURIComponent(key.placeholder)}&b=2` });
    expect(passed(prepare(given, [key], {})).query).toBe("?a=1&key=a%20key%2Fwith%3Dodd%26parts&b=2");
    const without = { ...key, binding: { ...key.binding, query: undefined } };
    expect(refused(prepare(given, [without as typeof key], {})).code).toBe("credential.misplaced");
  });

  it("and its answer is asked for whole and uncompressed; that of a request without a key is not changed", () => {
    const headers = { "accept-encoding": "gzip, br", Range: "bytes=0-5", "if-range": '"x"' };
    const swapped = passed(ask({ headers: { ...headers, authorization: `Bearer ${bearer.placeholder}` } }));
    expect(headerValues(swapped, "accept-encoding")).toEqual(["identity"]);
    expect(headerValues(swapped, "range")).toEqual([]);
    const plain = passed(ask({ headers }));
    expect(plain.rawHeaders).toEqual(Object.entries(headers).flat());
    expect(plain).toMatchObject({ swapped: [], values: [], body: { kind: "forward" } });
  });

  it("also where a rule lets the guest use keys of its own", () => {
    expect(
      headerValues(passed(ask({ headers: { authorization: `Bearer ${bearer.placeholder}` } }, { credentials: "guest" })), "authorization"),
    ).toEqual([`Bearer ${bearer.value}`]);
  });
});

describe("the stand-in is refused where its key does not belong", () => {
  const auth = { authorization: `Bearer ${bearer.placeholder}` };
  it.each<[string, Parameters<typeof request>[0], RegExp]>([
    ["at another host", { host: "other.example.com", headers: auth }, /works at api\.example\.com, git\.example\.com only/],
    ["at a host below a bound one", { host: "x.api.example.com", headers: auth }, /works at/],
    ["at another task's provider", { host: HOST, path: "/v1/messages", method: "POST", headers: auth }, /works at/],
    ["over plain http", { scheme: "http", headers: auth }, /over https only/],
    ["in another header", { headers: { "x-other": bearer.placeholder } }, /in the header x-other/],
    ["in x-api-key when it is a Bearer", { headers: { "x-api-key": bearer.placeholder } }, /in the header x-api-key/],
    ["in a cookie", { headers: { cookie: `a=${bearer.placeholder}` } }, /in the header cookie/],
    ["in the user agent", { headers: { "user-agent": `x ${bearer.placeholder}` } }, /user-agent/],
    ["with something behind it", { headers: { authorization: `Bearer ${bearer.placeholder}x` } }, /in the header authorization/],
    [
      "with a second value joined",
      { headers: { authorization: `Bearer ${bearer.placeholder}, Bearer ${FOREIGN}` } },
      /in the header authorization/,
    ],
    [
      "with a second value before it",
      { headers: { authorization: `Bearer ${FOREIGN}, Bearer ${bearer.placeholder}` } },
      /in the header authorization/,
    ],
    ["without its scheme", { headers: { authorization: bearer.placeholder } }, /Authorization|authorization/],
    ["in another scheme", { headers: { authorization: `Digest ${bearer.placeholder}` } }, /authorization/],
    [
      "percent-encoded elsewhere",
      { headers: { "x-other": [...bearer.placeholder].map((c) => `%${c.charCodeAt(0).toString(16)}`).join("") } },
      /x-other/,
    ],
    ["in the query", { query: `access_token=${bearer.placeholder}` }, /in the query/],
    ["in a harmless parameter", { query: `?q=${bearer.placeholder}` }, /in the query/],
    ["as a parameter's name", { query: `${bearer.placeholder}` }, /in the query/],
    [
      "in an opted-in parameter over plain http",
      { scheme: "http", host: "narrow.example.com", path: "/v1/read/a", query: `k=${narrow.placeholder}` },
      /over https only/,
    ],
    [
      "in an opted-in parameter at another path",
      { host: "narrow.example.com", path: "/v1/write/a", query: `k=${narrow.placeholder}` },
      /not for this path/,
    ],
    ["in the path", { path: `/bot${bearer.placeholder}/send` }, /in the path/],
    [
      "with another method than bound",
      { host: "narrow.example.com", method: "POST", path: "/v1/read/a", headers: { authorization: `Bearer ${narrow.placeholder}` } },
      /is for GET/,
    ],
    [
      "at another path than bound",
      { host: "narrow.example.com", path: "/v1/write/a", headers: { authorization: `Bearer ${narrow.placeholder}` } },
      /not for this path/,
    ],
    [
      "below a bound path, its slash encoded",
      { host: "narrow.example.com", path: "/v1/read/a%2Fb", headers: { authorization: `Bearer ${narrow.placeholder}` } },
      /not for this path/,
    ],
    [
      "below a bound path",
      { host: "narrow.example.com", path: "/v1/read/a/b", headers: { authorization: `Bearer ${narrow.placeholder}` } },
      /not for this path/,
    ],
    [
      "as the user beside a foreign password",
      { headers: { authorization: `Basic ${base64(`${bearer.placeholder}:${FOREIGN}`)}` } },
      /authorization/,
    ],
    [
      "as the password of a foreign key",
      { headers: { authorization: `Basic ${base64(`${FOREIGN_KEYS["github classic"]}:${bearer.placeholder}`)}` } },
      /authorization/,
    ],
    [
      "as the password of what looks like a key",
      { headers: { authorization: `Basic ${base64(`a8f3k2l9x7c6v5b4n3m2:${bearer.placeholder}`)}` } },
      /authorization/,
    ],
    ["in Basic as x-api-key's", model({ headers: { authorization: `Basic ${base64(`u:${anthropic.placeholder}`)}` } }), /authorization/],
    [
      "in Basic that two servers read differently",
      { headers: { authorization: `Basic ${base64(`u:${bearer.placeholder}`)}\u00a0` } },
      /authorization/,
    ],
    ["in a header that only looks like its own", { host: "custom.example.com", headers: { x_team: custom.placeholder } }, /x_team/],
  ])("%s", (_name, given, reason) => {
    const result = refused(ask(given));
    expect(["credential.misplaced", "credential.foreign"]).toContain(result.code);
    expect(result.code === "credential.foreign" ? "authorization" : result.reason).toMatch(reason);
    // a rule for the guest's own keys changes nothing about stand-ins
    const own = ask(given, { credentials: "guest" });
    if (result.code === "credential.misplaced") expect(refused(own).code).toBe("credential.misplaced");
  });

  it.each(["authorization", "Authorization", "AUTHORIZATION"])("beside a second %s", (second) => {
    const rawHeaders = ["authorization", `Bearer ${bearer.placeholder}`, second, `Bearer ${FOREIGN}`];
    expect(refused(ask({ rawHeaders })).code).toBe("request.malformed");
    expect(refused(ask({ rawHeaders: [...rawHeaders.slice(2), ...rawHeaders.slice(0, 2)] }, { credentials: "guest" })).code).toBe(
      "request.malformed",
    );
  });

  it("in Basic of another use, where the guest may use keys of its own", () => {
    const given = model({ headers: { authorization: `Basic ${base64(`u:${anthropic.placeholder}`)}` } });
    expect(refused(ask(given, { credentials: "guest" })).code).toBe("credential.misplaced");
  });

  it("in Basic that is not written as every server reads it", () => {
    const user = "uuu".slice(0, 3 - ((bearer.placeholder.length + 2) % 3) || 3);
    const encoded = base64(`${user}:${bearer.placeholder}`);
    expect(encoded).toMatch(/[^=]=/);
    const last = encoded.replace(/=+$/, "").length - 1;
    const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const odd = encoded.slice(0, last) + letters[letters.indexOf(encoded[last] ?? "") + 1] + encoded.slice(last + 1);
    expect(Buffer.from(odd, "base64")).toEqual(Buffer.from(encoded, "base64"));
    expect(passed(ask({ headers: { authorization: `Basic ${encoded}` } })).swapped).toEqual(["example"]);
    expect(refused(ask({ headers: { authorization: `Basic ${odd}` } })).code).toBe("credential.foreign");
  });

  it.each(["/v1/%E9", "/v1/%zz", "/v1/%25252525", "/v1/%2e%2e/x"])("at a path that can be read in more than one way: %s", (path) => {
    expect(refused(ask({ path })).code).toBe("request.malformed");
    expect(passed(ask({ path, host: "other.example.com" })).kind).toBe("pass");
  });

  it("beside the same header in its other spelling", () => {
    const rawHeaders = ["x-api-key", anthropic.placeholder, "x_api_key", FOREIGN];
    expect(refused(ask(model({ rawHeaders }), { credentials: "guest" })).code).toBe("request.malformed");
  });

  it("a bound value that a header cannot carry is told, and not sent", () => {
    const odd = { ...bearer, value: "two\r\nlines: x" };
    expect(refused(prepare(request({ headers: { authorization: `Bearer ${odd.placeholder}` } }), [odd], {})).reason).toContain(
      "cannot carry",
    );
  });
});

/** Every spelling of a foreign credential: [name, request]. */
const HEADERS =
  `Authorization proxy-authorization x-api-key X-Api-Key X-API-KEY api-key apikey Api_Key x_api_key x-goog-api-key x-auth-token X-Auth-Key x-auth private-token
  job-token deploy-token x-amz-security-token ocp-apim-subscription-key dd-api-key DD-APPLICATION-KEY x-access-token x-accesstoken access-token accesstoken x-token token
  x-auth-email-key x-vault-token x-consul-token x-figma-token x-shopify-access-token x-algolia-api-key x-mbx-apikey cb-access-key cb-access-sign cb-access-passphrase
  xi-api-key x-subscription-token x-rapidapi-key circle-token x-postmark-server-token fastly-key x-parse-rest-api-key x-parse-session-token x-appwrite-key x-plex-token
  x-emby-token x-redmine-api-key x-gitlab-token x-jfrog-art-api x-nuget-apikey x-ops-authorization-1 x-sentry-auth x-riot-token x-nomad-token x-functions-key
  x-ms-authorization-auxiliary aeg-sas-key aeg-sas-token x-insert-key x-license-key x-query-key lightstep-access-token zotero-api-key x-api-secret x-secret-key client-secret
  x-client-secret authentication x-authorization x-forwarded-authorization x-original-authorization x-wsse signature signature-input x-signature dpop x-goog-iam-authorization-token
  x-serverless-authorization cf-access-client-id cf-access-client-secret cf-access-token cf-access-jwt-assertion x-goog-iap-jwt-assertion x-honeycomb-team x_honeycomb_team cf_access_client_id x-password password
  x-passwd x-user-password x-session x-session-id x-session-token session sessionid session_id x-csrf-token x-xsrf-token x-jwt x-jwt-assertion jwt x-oauth-token oauth-token
  x-bearer bearer x-credential x-credentials x-key key x-app-key x-application-key x-public-key x-private-key x-service-key x-admin-key x-master-key x-sso x-saml x-pat
  x-user-token x-bot-token x-github-token x-npm-token npm-auth-token x-hub-signature-256 x-amz-signature cookie cookie2 x-cookie x-client-cert x-forwarded-client-cert x-ms-client-principal`
    .trim()
    .split(/\s+/);
const PARAMETERS =
  `access_token token auth_token id_token refresh_token api_key apikey api-key apiKey API_KEY api_token app_key access_key accessKeyId AWSAccessKeyId
  secret_access_key GoogleAccessId client_secret clientSecret secret secretKey password passwd pwd pass passphrase authorization bearer jwt private_token job_token oauth_token
  oauth_signature X-Amz-Signature X-Amz-Credential X-Amz-Security-Token X-Goog-Signature x-goog-credential Signature hapikey subscription-key x-api-key client_assertion assertion
  SAMLResponse sessionid session_id jsessionid PHPSESSID sid circle-token user[token] auth[password] key sig code access_token[] webhookSecret appid`
    .trim()
    .split(/\s+/);

const SPELLINGS: [string, Parameters<typeof request>[0]][] = [
  ...HEADERS.map((name): [string, Parameters<typeof request>[0]] => [`header ${name}`, { headers: { [name]: FOREIGN } }]),
  ...[
    "Bearer",
    "bearer",
    "Token",
    "Basic",
    "Digest",
    "Negotiate",
    "NTLM",
    "AWS4-HMAC-SHA256",
    "ApiKey",
    "Key",
    "GoogleLogin",
    "OAuth",
    "DPoP",
    "SSWS",
    "Bot",
    "Splunk",
    "Zoho-oauthtoken",
    "PVEAPIToken=",
  ].map((scheme): [string, Parameters<typeof request>[0]] => [
    `authorization ${scheme}`,
    { headers: { authorization: `${scheme} ${FOREIGN}` } },
  ]),
  ...[
    "session=abc",
    "sid=1",
    "PHPSESSID=x",
    "_gh_sess=y",
    "token=z",
    "a=b; __cf_bm=c",
    "__cf_bm=c; a=b",
    "__cf_bm",
    "__Host-x=1",
    "=x",
    "$Version=1",
  ].map((cookie): [string, Parameters<typeof request>[0]] => [
    `cookie ${cookie}`,
    { headers: { cookie: cookie === "__cf_bm" ? "__cf_bm=1, evil=2" : cookie === "=x" ? "x" : cookie } },
  ]),
  ...PARAMETERS.map((name): [string, Parameters<typeof request>[0]] => [`parameter ${name}`, { query: `?a=1&${name}=${FOREIGN}` }]),
  ["parameter behind ;", { query: `a=1;token=${FOREIGN}` }],
  ["encoded parameter", { query: `%61ccess%5Ftoken=${FOREIGN}` }],
  ["twice encoded parameter", { query: `%2561ccess_token=${FOREIGN}` }],
  ["second parameter", { query: `page_token=x&access_token=${FOREIGN}` }],
  ["user name in the host header", { headers: { Host: "user:pass@api.example.com" } }],
  ["user name in :authority", { rawHeaders: [":authority", "user@api.example.com"] }],
  ["user name in a referer", { headers: { referer: "https://user:pass@api.example.com/" } }],
  ["key in a WebSocket's protocols", { headers: { "sec-websocket-protocol": "realtime, openai-insecure-api-key.abcdef" } }],
  ["key of unknown kind in an unknown header", { headers: { "x-team": "a8f3k2l9x7c6v5b4n3m2" } }],
  ["Slack's hook", { host: "hooks.slack.com", method: "POST", path: "/services/T000/B000/abcdefgh" }],
  ["Telegram's bot path", { host: "api.telegram.org", method: "POST", path: "/bot123:abc/sendMessage" }],
  ["Telegram's bot path, encoded", { host: "api.telegram.org", method: "POST", path: "/%62ot123:abc/sendMessage" }],
  ["Discord's hook", { host: "discord.com", method: "POST", path: "/api/webhooks/123/abc" }],
  ["Discord's hook of a version", { host: "discord.com", method: "POST", path: "/api/v10/webhooks/123/abc" }],
  ["Telegram's bot path at another server", { path: `/bot${FOREIGN_KEYS.telegram}/getMe` }],
  ["Slack's hook through a relay", { method: "POST", path: "/to/services/T0FIXTURE/B0FIXTURE/fixtureFIXTUREfixture012" }],
  ["Slack's hook through a relay, encoded", { path: "/to/T0FIXTURE%2fB0FIXTURE%2FfixtureFIXTUREfixture012" }],
  ["Slack's hook in a parameter", { query: "to=https%3A%2F%2Frelay.example.com%2FT0FIXTURE%2FB0FIXTURE%2FfixtureFIXTUREfixture012" }],
  ["Discord's hook through a relay", { method: "POST", path: `/api/webhooks/12345678901234567/${"aB3_".repeat(17)}` }],
  ["Lark's hook", { host: "open.larksuite.com", method: "POST", path: "/open-apis/bot/v2/hook/abc" }],
  ["Webex's hook", { host: "webexapis.com", method: "POST", path: "/v1/webhooks/incoming/abc" }],
  ["PagerDuty's integration", { host: "events.pagerduty.com", method: "POST", path: "/integration/abc/enqueue" }],
  ["Loggly's input", { host: "logs-01.loggly.com", method: "POST", path: "/inputs/abc/tag/x/" }],
  ["a check's address", { host: "hc-ping.com", path: "/abc/fail" }],
  ["Infura's key", { host: "mainnet.infura.io", method: "POST", path: "/v3/abc" }],
  ["Alchemy's key", { host: "eth-mainnet.g.alchemy.com", method: "POST", path: "/v2/abc" }],
  ["a parameter in the path", { path: "/v1/things;access_token=abcdef/x" }],
  ["Slack's upload", { host: "files.slack.com", method: "POST", path: "/upload/v1/abcdef" }],
  [
    "a signed form",
    { host: "bucket.s3.amazonaws.com", method: "POST", path: "/", headers: { "content-type": "multipart/form-data; boundary=x" } },
  ],
  ["a counter's number", { host: "www.google-analytics.com", method: "POST", path: "/mp/collect", query: "measurement_id=G-1" }],
  ["Google's key parameter", { host: "generativelanguage.googleapis.com", path: "/v1beta/models", query: "key=x" }],
  ["a foreign key in a bound header", { host: "custom.example.com", headers: { "x-team": "short" } }],
  ["a foreign key in a bound parameter", { host: "narrow.example.com", path: "/v1/read/a", query: "k=short" }],
  ["a foreign key beside the stand-in", { headers: { authorization: `Bearer ${bearer.placeholder}`, "x-api-key": FOREIGN } }],
  ["a foreign cookie beside the stand-in", { headers: { authorization: `Bearer ${bearer.placeholder}`, cookie: "session=1" } }],
  ["a foreign parameter beside the stand-in", { headers: { authorization: `Bearer ${bearer.placeholder}` }, query: `api_key=${FOREIGN}` }],
];

describe("a credential that is not the task's stand-in is refused at every allowed host", () => {
  it.each(SPELLINGS)("%s", (_name, given) => {
    expect(refused(ask(given)).code).toBe("credential.foreign");
    // control: the same passes under a rule that lets the guest use its own
    passedOrStandIn(given);
  });

  it.each<Parameters<typeof request>[0]>([
    { host: "events.pagerduty.com", method: "POST", path: "/v2/enqueue" },
    { host: "open.larksuite.com", path: "/open-apis/bot/v2/info" },
    { host: "hc-ping.com", path: "/" },
    { host: "mainnet.infura.io", path: "/status" },
    { path: "/to/services/T0FIXTURE/B0FIXTURE/short" },
    { path: "/api/webhooks/12345678901234567/deliveries" },
    { path: "/robot1234567890/AA" },
  ])("an address of their hosts that is no key passes: %j", (given) => expect(ask(given).kind).toBe("pass"));

  it("that are more than two hundred spellings", () => expect(SPELLINGS.length).toBeGreaterThan(200));

  it.each(Object.entries(FOREIGN_KEYS))("a key known by its shape, wherever it is: %s", (_name, key) => {
    const encoded = encodeURIComponent(key);
    for (const given of [
      { headers: { "user-agent": `tool ${key}` } },
      { headers: { "x-anything": key } },
      { headers: { accept: encoded } },
      { headers: { "x-note": encodeURIComponent(encoded) } },
      { query: `?q=${encoded}` },
      { query: encoded },
      { path: `/v1/${encoded}/x` },
    ]) {
      expect(refused(ask(given)).code).toBe("credential.foreign");
      expect(ask(given, { credentials: "guest" }).kind).toBe("pass");
    }
  });

  function passedOrStandIn(given: Parameters<typeof request>[0]) {
    if (given.rawHeaders?.includes(":authority") || (given.headers && "Host" in given.headers)) return;
    expect(ask(given, { credentials: "guest" }).kind).toBe("pass");
  }

  it("says so in few words, however long a binding is", () => {
    const long = secret("l", "long-0123456789abcdefg", {
      hosts: Array.from({ length: 16 }, (_, at) => `${"h".repeat(200)}${at}.example.com`),
      use: "bearer",
      methods: Array.from({ length: 32 }, (_, at) => `${"M".repeat(30)}${"AB"[at % 2]}`),
      paths: Array.from({ length: 64 }, () => `/${"p".repeat(1000)}`),
    });
    const headers = { authorization: `Bearer ${long.placeholder}` };
    const inMethod = { ...long, binding: { ...long.binding, methods: ["GET"] } };
    for (const [host, key] of [
      ["x".repeat(255), long],
      [long.binding.hosts[0] ?? "", long],
      [long.binding.hosts[0] ?? "", inMethod],
    ] as const) {
      const result = prepare(request({ host, headers }), [key], {});
      expect(result.kind === "refuse" && result.reason.length).toBeLessThan(700);
    }
  });

  it("names the variable with the stand-in, and what to ask for", () => {
    const { reason } = refused(ask(model({ headers: { "x-api-key": FOREIGN } })));
    expect(reason).toContain("$ANTHROPIC_API_KEY");
    expect(reason).toContain("ask your user");
    expect(reason).toContain("do not retry");
    expect(reason).not.toContain(FOREIGN);
  });

  it("names the command that adds a key, where it is known how one is sent; and how a key should have been bound", () => {
    const { reason } = refused(
      ask({ host: "api.openai.com", method: "POST", path: "/v1/responses", headers: { authorization: `Bearer ${FOREIGN}` } }),
    );
    expect(reason).toContain("cloche secret add NAME --host api.openai.com --as bearer --env OPENAI_API_KEY");
    expect(refused(ask({ headers: { "x-api-key": FOREIGN } })).reason).not.toContain("secret add");
    const wrong = secret("wrong", VALUE, { hosts: [HOST], use: "bearer" });
    const told = prepare(request(model({ headers: { "x-api-key": wrong.placeholder } })), [wrong], {});
    expect(told).toMatchObject({ kind: "refuse", reason: expect.stringContaining("send it as x-api-key") });
  });

  it("a name of the guest's own in a reason is short and plain", () => {
    const { reason } = refused(ask({ query: `token\u001b[31m${"x".repeat(500)}=1234` }));
    expect(reason).not.toContain("\u001b");
    expect(reason.length).toBeLessThan(600);
  });
});

describe("what tools without a login send passes", () => {
  const UUID = "0b6f2c1e-3f4a-4c8e-9d52-aa03bb17c111";
  it.each<[string, Parameters<typeof request>[0]]>([
    ["curl", { headers: { Host: "api.example.com", "User-Agent": "curl/8.14.1", Accept: "*/*" } }],
    [
      "git",
      {
        host: "github.com",
        path: "/git/git.git/info/refs",
        query: "?service=git-upload-pack",
        headers: {
          "User-Agent": "git/2.47.3",
          "Git-Protocol": "version=2",
          "Accept-Encoding": "deflate, gzip, br, zstd",
          Pragma: "no-cache",
        },
      },
    ],
    [
      "npm",
      {
        host: "registry.npmjs.org",
        path: "/left-pad",
        headers: {
          "npm-session": "fdb81e4e9a7c0f21",
          "npm-command": "install",
          "pacote-version": "19.0.1",
          "pacote-req-type": "packument",
          "pacote-pkg-id": "registry:left-pad",
          "npm-auth-type": "web",
          "user-agent": "npm/11.6.2 node/v24.21.0 linux x64 workspaces/false",
          connection: "keep-alive",
          "npm-scope": "",
        },
      },
    ],
    [
      "pip",
      {
        host: "pypi.org",
        path: "/simple/requests/",
        headers: {
          "User-Agent": 'pip/25.1.1 {"ci":null,"cpu":"x86_64","openssl_version":"OpenSSL 3.5.4 30 Sep 2025"}',
          Accept: "application/vnd.pypi.simple.v1+json",
          "Cache-Control": "max-age=0",
          "If-None-Match": '"a8f3k2l9x7c6v5b4n3m2q1"',
        },
      },
    ],
    [
      "apt",
      {
        scheme: "http",
        host: "deb.debian.org",
        path: "/debian/dists/trixie/InRelease",
        headers: { "User-Agent": "Debian APT-HTTP/1.3 (3.0.3)", "If-Modified-Since": "Sat, 15 Nov 2025 09:31:58 GMT", Range: "bytes=100-" },
      },
    ],
    [
      "cargo",
      {
        host: "index.crates.io",
        path: "/se/rd/serde",
        headers: { "user-agent": "cargo/1.90.0", "cargo-protocol": "version=1", "if-none-match": '"66f2d5c8b0a9"' },
      },
    ],
    ["go", { host: "proxy.golang.org", path: "/golang.org/x/text/@v/v0.30.0.mod", headers: { "User-Agent": "Go-http-client/2.0" } }],
    [
      "an SDK with its own numbers",
      model({
        headers: {
          "x-api-key": anthropic.placeholder,
          "anthropic-version": "2023-06-01",
          "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27",
          "x-stainless-lang": "js",
          "x-stainless-package-version": "0.70.1",
          "x-stainless-retry-count": "0",
          "x-stainless-timeout": "600",
          "anthropic-dangerous-direct-browser-access": "true",
          "x-app": "cli",
          "idempotency-key": `stainless-node-retry-${UUID}`,
          "x-claude-code-session-id": UUID,
          "content-type": "application/json",
        },
      }),
    ],
    [
      "the session number of a coding agent",
      {
        host: "api.openai.com",
        method: "POST",
        path: "/v1/responses",
        headers: { session_id: UUID, conversation_id: UUID, originator: "codex_cli_rs", "content-type": "application/json" },
      },
    ],
    [
      "a WebSocket's handshake",
      {
        headers: {
          connection: "Upgrade",
          upgrade: "websocket",
          "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
          "sec-websocket-version": "13",
          "sec-websocket-protocol": "chat, v1.stomp",
        },
      },
    ],
    [
      "a payment that is made once",
      { host: "api.stripe.com", method: "POST", path: "/v1/charges", headers: { "Idempotency-Key": "a8f3k2l9x7c6v5b4n3m2" } },
    ],
    ["a session of a tool server", { headers: { "mcp-session-id": "a8f3k2l9x7c6v5b4n3m2" } }],
    ["small numbers that are named like more", { query: "?appid=440&session=12&ticket=ABC-1&sid=7" }],
    ["a balancer's cookies", model({ headers: { cookie: "__cf_bm=3pYsoDk8Xc2Q9w.1-1764111600-1.0.1.1-abc; _cfuvid=xyz0123" } })],
    ["cookies in crumbs", { rawHeaders: ["cookie", "AWSALB=aaa", "cookie", "AWSALBCORS=bbb"] }],
    [
      "traces",
      {
        headers: {
          traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
          "x-request-id": UUID,
          "x-b3-traceid": "0af7651916cd43dd8448eb211c80319c",
          "x-amz-content-sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        },
      },
    ],
    [
      "pages of a list",
      {
        query:
          "?pageToken=a8f3k2l9x7c6v5b4n3m2&page_token=x9&nextToken=abc&continuation-token=y&max_tokens=5&keyword=a&key=name&sort_key=created&author=me&code=200&hash=0af7651916cd43dd8448eb211c80319c",
      },
    ],
    ["an empty parameter", { query: "token=&api_key=&password" }],
    [
      "a download's signed link",
      {
        host: "release-assets.githubusercontent.com",
        path: "/github-production-release-asset/1/2",
        query:
          "?sp=r&sv=2018-11-09&sr=b&spr=https&se=2025-11-25T00%3A00%3A00Z&rscd=attachment&skoid=x&sktid=y&sig=abc%3D&jwt=eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJnaXRodWIuY29tIn0.abc",
      },
    ],
    [
      "Homebrew's word for nobody",
      { host: "ghcr.io", path: "/v2/homebrew/core/jq/manifests/1.8", headers: { authorization: "Bearer QQ==" } },
    ],
    ["a package whose name looks like a word of keys", { host: "pypi.org", path: "/simple/sk-learn-contrib-something-long/" }],
    [
      "a file's path with long hashes",
      {
        host: "files.pythonhosted.org",
        path: "/packages/1e/db/4254e3eabe8020b458f1a747140d32277ec7a271daf1d235b70dc0b4e6e3/requests-2.32.5-py3-none-any.whl",
      },
    ],
  ])("%s", (_name, given) => {
    expect(passed(ask(given)).kind).toBe("pass");
  });

  it("a signed link is for reading, and at download hosts only", () => {
    const query = `X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a%2F20251125&X-Amz-Signature=${"ab12".repeat(16)}`;
    const host = "objects.githubusercontent.com";
    expect(passed(ask({ host, query })).query).toBe(query);
    expect(refused(ask({ host, query, method: "PUT" })).code).toBe("credential.foreign");
    expect(refused(ask({ host: "bucket.s3.amazonaws.com", query })).code).toBe("credential.foreign");
  });
});

describe("a key without paths of its own does not reach what hands out or registers access", () => {
  const at = (host: string, path: string, method = "POST") => {
    const key = secret("k", "k-0123456789abcdefghij", { hosts: [host], use: "bearer" });
    const given = request({
      host,
      path,
      method,
      headers: { authorization: `Bearer ${key.placeholder}`, "content-type": "application/json" },
    });
    const bound = { ...key, binding: { ...key.binding, paths: ["/**"] } };
    return { plain: prepare(given, [key], {}), named: prepare(given, [bound], {}) };
  };
  it.each([
    ["api.github.com", "/user/keys"],
    ["api.github.com", "/user/keys/"],
    ["api.github.com", "/User/Keys"],
    ["api.github.com", "/user/%6beys"],
    ["api.github.com", "/user/gpg_keys"],
    ["api.github.com", "/repos/o/r/keys"],
    ["api.github.com", "/repos/o/r/hooks"],
    ["api.github.com", "/repos/o/r/hooks/1/pings"],
    ["api.github.com", "/repositories/1/hooks"],
    ["api.github.com", "/repos/o/r/collaborators/me"],
    ["api.github.com", "/repos/o/r/invitations"],
    ["api.github.com", "/repos/o/r/actions/secrets/X"],
    ["api.github.com", "/repos/o/r/actions/runners/registration-token"],
    ["api.github.com", "/repos/o/r/environments/prod/secrets/X"],
    ["api.github.com", "/orgs/o/hooks"],
    ["api.github.com", "/orgs/o/memberships/me"],
    ["api.github.com", "/organizations/1/memberships/me"],
    ["api.github.com", "/orgs/o/actions/runners/registration-token"],
    ["api.github.com", "/applications/x/token"],
    ["api.github.com", "/app/installations/1/access_tokens"],
    ["api.openai.com", "/v1/organization/admin_api_keys"],
    ["api.openai.com", "/v1/realtime/client_secrets"],
    ["api.openai.com", "/v1/batches"],
    ["api.anthropic.com", "/v1/organizations/invites"],
    ["api.anthropic.com", "/v1/files"],
    ["api.anthropic.com", "/v1/messages/../files"],
    ["slack.com", "/api/conversations.inviteShared"],
    ["registry.npmjs.org", "/-/npm/v1/tokens"],
    ["api.stripe.com", "/v1/webhook_endpoints"],
    ["huggingface.co", "/api/settings/webhooks"],
    ["crates.io", "/api/v1/crates/x/owners"],
    ["github.com", "/settings/tokens"],
    ["gitlab.com", "/api/v4/projects/group%2Fname/deploy_keys"],
    ["gitlab.com", "/api/v4/projects/1/hooks"],
    ["gitlab.com", "/api/v4/groups/1/access_tokens/2/rotate"],
    ["gitlab.com", "/-/profile/personal_access_tokens"],
    ["registry.npmjs.org", "/name/-rev/1-abc"],
    ["api.github.com", "/repos/o/r/branches/main/protection/restrictions/users"],
    ["api.example.com", "/v1/api_keys"],
    ["api.example.com", "/v1/api-keys/1"],
    ["api.example.com", "/admin/Webhooks.json"],
    ["api.example.com", "/v1/tokens;x=1"],
    ["api.example.com", "/v1/projects/1/members"],
    ["api.example.com", "/v1/%69nvitations"],
    ["api.example.com", "/v1/%2569nvitations"],
    ["api.example.com", "/v1/assume-role"],
    ["api.example.com", "/v1/roles/r:assumeRole"],
    ["api.example.com", "/v1/issue-token"],
    ["api.example.com", "/v1/token-exchange"],
    ["api.example.com", "/v1/auth/refresh"],
    ["api.example.com", "/Auth/Exchange.json"],
    ["api.example.com", "/v1/jwt:mint"],
    ["iam.googleapis.com", "/v1/projects/p/serviceAccounts/s/keys"],
    ["cloudresourcemanager.googleapis.com", "/v1/projects/p:setIamPolicy"],
    ["www.googleapis.com", "/drive/v3/files/1/permissions"],
    ["www.googleapis.com", "/batch/drive/v3"],
    ["graph.microsoft.com", "/v1.0/$batch"],
  ])("%s %s", (host, path) => {
    const { plain, named } = at(host, path);
    expect(["credential.excluded", "credential.login", "request.malformed"]).toContain(refused(plain).code);
    if (!path.includes("..")) expect(passed(named).swapped).toEqual(["k"]);
  });

  it.each([
    ["api.github.com", "/repos/o/r/contents/keys/hooks", "GET"],
    ["api.github.com", "/repos/o/r/issues", "POST"],
    ["api.github.com", "/repos/o/keys", "GET"],
    ["api.github.com", "/user", "GET"],
    ["api.openai.com", "/v1/chat/completions", "POST"],
    ["api.anthropic.com", "/v1/messages", "POST"],
    ["api.example.com", "/v1/things/1", "DELETE"],
    ["api.example.com", "/v1/exchange/rates", "GET"],
    ["api.example.com", "/index/_refresh", "POST"],
    ["api.example.com", "/v1/dashboards/7/refresh", "POST"],
    ["api.example.com", "/v1/nfts/mint", "POST"],
    ["api.example.com", "/projects/7/issues", "POST"],
    ["api.example.com", "/rest/api/2/issue", "POST"],
    ["api.example.com", "/v1/auth/status", "GET"],
    ["api.example.com", "/exchange/v1/auth-methods", "GET"],
    ["slack.com", "/api/chat.postMessage", "POST"],
    ["registry.npmjs.org", "/@scope%2fname", "PUT"],
    ["github.com", "/o/r.git/git-receive-pack", "POST"],
    ["api.stripe.com", "/v1/charges", "GET"],
    ["gitlab.com", "/api/v4/projects/group%2Fname/merge_requests", "POST"],
    ["gitlab.com", "/group/name.git/git-upload-pack", "POST"],
    ["api.deepseek.com", "/anthropic/v1/messages", "POST"],
  ])("control: %s %s passes", (host, path, method) => {
    expect(passed(at(host, path, method).plain).swapped).toEqual(["k"]);
  });
});

describe("logins", () => {
  it.each([
    ["github.com", "/login/oauth/access_token"],
    ["github.com", "/login/device/code"],
    ["github.com", "/session"],
    ["gitlab.com", "/oauth/token"],
    ["oauth2.googleapis.com", "/token"],
    ["login.microsoftonline.com", "/common/oauth2/v2.0/token"],
    ["sts.amazonaws.com", "/"],
    ["registry.npmjs.org", "/-/user/org.couchdb.user:me"],
    ["console.anthropic.com", "/v1/oauth/token"],
    ["auth.openai.com", "/oauth/token"],
    ["idp.example.com", "/realms/x/protocol/openid-connect/token"],
    ["idp.example.com", "/oauth2/v1/token"],
    ["hub.docker.com", "/v2/users/login"],
  ])("%s%s is refused, unless the guest may use its own", (host, path) => {
    expect(refused(ask({ host, path, method: "POST" })).code).toBe("credential.login");
    expect(passed(ask({ host, path, method: "POST" }, { credentials: "guest" })).kind).toBe("pass");
  });

  it("a key that is bound to one by name may be used there", () => {
    const given = { host: "narrow.example.com", path: "/oauth/token", method: "GET", headers: { "content-type": "application/json" } };
    expect(passed(ask(given)).body.kind).toBe("filter");
    expect(refused(ask({ ...given, host: "other.example.com" })).code).toBe("credential.login");
  });
});

describe("what was decided is what the server does", () => {
  it.each<[string, Parameters<typeof request>[0], string]>([
    ["TRACE", { method: "TRACE" }, "request.malformed"],
    ["track", { method: "track" }, "request.malformed"],
    ["another method", { headers: { "X-HTTP-Method-Override": "DELETE" } }, "request.rewritten"],
    ["another method, by _", { headers: { X_HTTP_Method_Override: "DELETE" } }, "request.rewritten"],
    ["another path", { headers: { "x-original-url": "/admin" } }, "request.rewritten"],
    ["another host", { headers: { "x-forwarded-host": "evil.example" } }, "request.rewritten"],
    ["another host, in its standard form", { headers: { Forwarded: "for=192.0.2.1;host=evil.example" } }, "request.rewritten"],
    ["another place to move to", { method: "MOVE", headers: { Destination: "https://api.example.com/admin/x" } }, "request.rewritten"],
    ["a method in the query", { query: "_method=DELETE" }, "request.rewritten"],
    ["a body in the query", { query: "$req=%7B%7D" }, "request.rewritten"],
    ["headers in the query", { query: "$httpHeaders=Authorization%3Ax" }, "request.rewritten"],
    ["a line break in a header", { headers: { "x-a": "b\r\nauthorization: x" } }, "request.malformed"],
    ["a NUL in a header", { headers: { "x-a": "b\0" } }, "request.malformed"],
    ["a header's name with a blank", { headers: { "authorization ": "x" } }, "request.malformed"],
    ["half a header", { rawHeaders: ["x-a"] }, "request.malformed"],
    ["a path that is an address", { path: "http://user@x/" }, "request.malformed"],
    ["a copy of an address", { headers: { "x-ms-copy-source": "https://evil.example/x" } }, "request.remote-fetch"],
    ["a copy of an object of S3", { method: "PUT", headers: { "x-amz-copy-source": "/others/x" } }, "request.remote-fetch"],
    ["a copy of an object of Google's", { method: "PUT", headers: { "X-Goog-Copy-Source": "others/x" } }, "request.remote-fetch"],
    ["a copy of another store's", { method: "PUT", headers: { "x-obs-copy-source": "/others/x" } }, "request.remote-fetch"],
    ["a call back", { headers: { "x-callback-url": "https://evil.example/x" } }, "request.remote-fetch"],
    ...[
      "mcp-client-2025-11-20",
      "files-api-2025-04-14",
      "code-execution-2025-08-25",
      "web-fetch-2025-09-10",
      "skills-2025-10-02",
      "a, files-api-2025-04-14",
      "x,mcp-client-2025-04-04",
    ].map((beta): [string, Parameters<typeof request>[0], string] => [
      `anthropic-beta ${beta}`,
      model({ headers: { "Anthropic-Beta": beta } }),
      "request.remote-fetch",
    ]),
    [
      "a compressed body at a model API",
      model({ headers: { "content-encoding": "gzip", "content-type": "application/json" } }),
      "request.unreadable-body",
    ],
    [
      "an upgrade at a model API",
      { host: "api.openai.com", path: "/v1/responses", headers: { upgrade: "websocket" } },
      "request.unreadable-body",
    ],
  ])("%s is refused, also where the guest may use its own keys", (_name, given, code) => {
    expect(refused(ask(given)).code).toBe(code);
    expect(refused(ask(given, { credentials: "guest" })).code).toBe(code);
  });

  it.each([
    ["x-forwarded-for", "192.0.2.1"],
    ["x-forwarded-proto", "https"],
    ["via", "1.1 proxy"],
    ["x-amz-meta-destination", "backup"],
    ["x-amz-copy-source-range", "bytes=0-9"],
    ["depth", "infinity"],
    ["overwrite", "F"],
  ])("%s, which tells of the request and moves nothing, passes", (name, value) => {
    expect(headerValues(passed(ask({ headers: { [name]: value } })), name)).toEqual([value]);
  });
});

describe("whatever a guest sends", () => {
  const random = seeded(20_251_125);
  const CHARS = `abcXYZ019-_.~+/=%&;:@?#[]{}"'\\ \t\0\r\n\u00e9\u2028<>,|^\`$!*()`;
  const noise = (length: number) => text(random, random(length), CHARS);
  const words = [
    "authorization",
    "x-api-key",
    "cookie",
    "host",
    "user-agent",
    "x-team",
    "accept",
    "Bearer",
    "Basic",
    "token",
    "key",
    ...SECRETS.map(({ placeholder }) => placeholder),
  ];
  const hosts = [
    ...new Set([
      ...SECRETS.flatMap(({ binding }) => binding.hosts),
      "slack.com",
      "hooks.slack.com",
      "generativelanguage.googleapis.com",
      "x.example.com",
      "ghcr.io",
      "objects.githubusercontent.com",
    ]),
  ];
  const strange = (): OutgoingRequest => ({
    scheme: pick(random, ["https", "http", "opaque"] as const),
    host: random(20) === 0 ? noise(40) : pick(random, hosts),
    method: random(10) === 0 ? noise(8) : pick(random, ["GET", "POST", "PUT", "DELETE"]),
    path: random(10) === 0 ? noise(60) : `/${pick(random, ["v1/messages", "v1/read/x", "a/b.git/info/refs", "user/keys", noise(30)])}`,
    query:
      random(2) === 0
        ? ""
        : `?${noise(30)}${pick(random, ["&", ";", ""])}${pick(random, words)}=${random(2) === 0 ? noise(20) : pick(random, words)}`,
    rawHeaders: Array.from({ length: random(8) * 2 + (random(50) === 0 ? 1 : 0) }, (_, at) =>
      at % 2 === 0
        ? pick(random, [...words.slice(0, 7), noise(12)])
        : random(2) === 0
          ? noise(60)
          : `${pick(random, words)} ${pick(random, words)}`,
    ),
  });

  it("prepare answers and never throws, and a value goes only to a bound host over https", () => {
    for (let round = 0; round < 8_000; round++) {
      const given = strange();
      const result = prepare(given, SECRETS, random(4) === 0 ? { credentials: "guest" } : {});
      if (result.kind === "refuse") {
        refused(result);
        continue;
      }
      const sent = JSON.stringify([result.rawHeaders, result.query]);
      for (const { name, value, placeholder, binding } of SECRETS) {
        expect(sent.includes(placeholder)).toBe(false);
        if (sent.includes(value)) {
          expect(result.swapped).toContain(name);
          expect(binding.hosts).toContain(given.host);
          expect(given.scheme).toBe("https");
        }
      }
    }
  });

  it("a foreign key of a known kind never passes, wherever it is put and however it is encoded", () => {
    const everyByte = (value: string) => [...Buffer.from(value)].map((byte) => `%${byte.toString(16).padStart(2, "0")}`).join("");
    for (let round = 0; round < 8_000; round++) {
      const key = pick(random, Object.values(FOREIGN_KEYS));
      const form = pick(random, [(value: string) => value, encodeURIComponent, everyByte, (value: string) => everyByte(everyByte(value))])(
        key,
      );
      const given = strange();
      const edge = pick(random, ["", " ", ",", "=", "/", ":", '"']);
      const place = random(4);
      const rawHeaders = given.rawHeaders.slice(0, given.rawHeaders.length & ~1);
      const with_ =
        place === 0
          ? {
              ...given,
              rawHeaders: [
                ...rawHeaders,
                pick(random, ["user-agent", "x-a", "accept", "referer", "x-request-id"]),
                `${noise(8)}${edge === "" ? " " : edge}${form}`,
              ],
            }
          : place === 1
            ? { ...given, query: `${given.query}&q=${form}` }
            : place === 2
              ? { ...given, path: `${given.path}/${form}` }
              : { ...given, rawHeaders: [...rawHeaders, "authorization", `Basic ${base64(`${key}:`)}`] };
      expect(prepare(with_, SECRETS, {}).kind).toBe("refuse");
    }
  });

  it("takes time that grows with the request alone", () => {
    const hostile = [
      "eyJ-".repeat(16_000),
      "sk-".repeat(20_000),
      "SG.".repeat(20_000),
      "%25".repeat(20_000),
      "a=b;".repeat(16_000),
      "MMMM.".repeat(12_000),
      `://${"x".repeat(60_000)}`,
      "-----BEGIN ".repeat(5_000),
    ];
    for (const value of hostile) {
      const from = performance.now();
      ask({ headers: { "x-a": value, cookie: value, authorization: value }, query: value, path: `/${value}` });
      expect(performance.now() - from).toBeLessThan(1500);
    }
  });
});
