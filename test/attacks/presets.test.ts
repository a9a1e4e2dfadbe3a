/**
 * E08, E18: a task that has the presets of code, packages and documentation. While its policy cannot be read, nothing passes; then what
 * it clones and installs passes, and the same hosts are of no use to carry something out. The origins would take all that they are sent.
 */
import { execFile, execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { EgressEntry } from "../../app/contract/index.ts";
import { presetRules } from "../../app/core/egress/policy/index.ts";
import { ProxyUnderTest } from "../doubles/proxy.ts";
import { inGuest } from "./folders-support.ts";
import { type Online, online } from "./keys-support.ts";

const hosts = [
  "github.com",
  ...[
    "api.github.com",
    "gist.github.com",
    "uploads.github.com",
    "raw.githubusercontent.com",
    "gitlab.com",
    "codeberg.org",
    "bitbucket.org",
  ],
  ...["registry.npmjs.org", "pypi.org", "upload.pypi.org", "crates.io", "rubygems.org", "hex.pm", "www.nuget.org", "repo1.maven.org"],
  ...["developer.mozilla.org", "en.wikipedia.org", "stackoverflow.com", "learn.microsoft.com"],
];
const repository = "https://github.com/o/r.git";

let on: Online;
let root: string;
let policyFile: string;
let cut: string;
const git = (...args: string[]) =>
  execFileSync("git", ["-C", join(root, "work"), "-c", "user.name=x", "-c", "user.email=x@example.org", ...args], { encoding: "utf8" });

beforeAll(async () => {
  on = await online([]);
  root = on.cloche.folder("published");
  for (const folder of ["o", "work", "files", "package"]) mkdirSync(join(root, folder));
  execFileSync("git", ["init", "-q", "--bare", "-b", "main", join(root, "o/r.git")]);
  execFileSync("git", ["init", "-q", "-b", "main", join(root, "work")]);
  git("commit", "-q", "--allow-empty", "-m", "from the host");
  git("push", "-q", join(root, "o/r.git"), "main");
  writeFileSync(join(root, "package/package.json"), '{"name":"thing","version":"1.0.0"}');
  execFileSync("tar", ["-czf", join(root, "files/thing-1.0.0.tgz"), "-C", root, "package"]);
  const integrity = `sha512-${createHash("sha512")
    .update(readFileSync(join(root, "files/thing-1.0.0.tgz")))
    .digest("base64")}`;
  const dist = { tarball: "https://registry.npmjs.org/thing/-/thing-1.0.0.tgz", integrity };
  const version = { name: "thing", version: "1.0.0", dist };
  writeFileSync(
    join(root, "files/thing"),
    JSON.stringify({ name: "thing", "dist-tags": { latest: "1.0.0" }, versions: { "1.0.0": version } }),
  );
  const handler = new URL(`./origins/publishes.ts?root=${encodeURIComponent(root)}`, import.meta.url);
  const [name = "", ...names] = hosts;
  await on.internet.origin({ name, names, handler });
  await on.cloche.ok(["new", "preset", "--network", "git,packages,web"]);
  const { id } = await on.cloche.task("preset");
  // a keeper has read it by now: the next one finds it as a disk that was full leaves it
  expect(await on.cloche.quiet(15_000)).toEqual([]);
  policyFile = join(on.cloche.home, "tasks", id, "policy.json");
  const whole = readFileSync(policyFile, "utf8");
  cut = whole.slice(0, whole.length / 2);
  writeFileSync(policyFile, cut);
});
afterAll(() => on?.end());
beforeEach(() => on.internet.forget());

const inTask = (script: string) => on.cloche.run(["exec", "preset", "--", "bash", "-c", script]);
const clone = `rm -rf /tmp/r; GIT_TERMINAL_PROMPT=0 timeout 100 git clone -q ${repository} /tmp/r && git -C /tmp/r log --format=%s`;
const branches = () =>
  execFileSync("git", ["-C", join(root, "o/r.git"), "for-each-ref", "--format=%(refname:short)"], { encoding: "utf8" })
    .trim()
    .split("\n");
const refused = async () =>
  (await on.cloche.events("preset"))
    .filter(({ kind }) => kind === "egress.decided")
    .flatMap(({ data }) => data.entries as EgressEntry[])
    .filter(({ decision }) => decision === "deny");

describe("a policy that was cut in the middle", () => {
  it("E08: lets nothing pass, and the user is told, at the start and after; set anew, it is what was set", async () => {
    const { stderr } = await on.cloche.ok(["start", "preset"]);
    expect(stderr).toContain("has no network");
    expect(stderr).toContain("Nothing passes, as its network rules cannot be used: the policy is not JSON");
    const shown = await on.cloche.ok(["policy", "show", "preset"]);
    expect(shown.stdout).toContain("Nothing passes: the policy is not JSON");
    const said = await inTask(`${clone}; curl -s -m 60 https://registry.npmjs.org/thing; curl -s -m 60 http://deb.debian.org/debian/`);
    expect(said.stdout).not.toContain("from the host");
    expect(said.stdout.match(/The task's network rules cannot be used, so nothing passes: the policy is not JSON/g)).toHaveLength(2);
    expect(await on.internet.seen()).toEqual({ requests: [], connections: [], queries: [] });
    expect((await refused()).map(({ rule, request }) => `${rule} ${request.host}`)).toEqual([
      "broken github.com",
      "broken registry.npmjs.org",
      "broken deb.debian.org",
    ]);
    // one rule more would be a policy of one rule
    expect((await on.cloche.run(["allow", "preset", "github.com"])).stderr).toContain("[policy.file]");
    expect(readFileSync(policyFile, "utf8")).toBe(cut);

    await on.cloche.ok(["policy", "network", "preset", "git,packages,web"]);
    expect(readFileSync(`${policyFile}.broken`, "utf8")).toBe(cut);
    expect((await inTask(clone)).stdout).toBe("from the host\n");
  });
});

/** A program for the guest: each request once; what it says of them is a hint, and only that. */
const REQUESTS = `
import json, sys, urllib.request, urllib.error
said = {}
for line in json.loads(sys.argv[1]):
    method, url = line.split(" ", 1)
    body = b"secret=of+the+folder" if method not in ("GET", "HEAD", "DELETE") else None
    try: said[line] = urllib.request.urlopen(urllib.request.Request(url, data=body, method=method), timeout=60).status
    except urllib.error.HTTPError as error: said[line] = error.code
    except Exception as error: said[line] = type(error).__name__
print(json.dumps(said))
`;
const READS = [
  "GET https://registry.npmjs.org/thing",
  "POST https://registry.npmjs.org/-/npm/v1/security/advisories/bulk",
  "GET https://pypi.org/simple/thing/",
  "GET https://raw.githubusercontent.com/o/r/main/README.md",
  "GET https://developer.mozilla.org/en-US/docs/Web",
  "GET https://en.wikipedia.org/wiki/Cloche",
];
const WRITES = [
  `GET ${repository}/info/refs?service=git-receive-pack`,
  `GET ${repository}/info/refs?service=git-upload-pack&service=git-receive-pack`,
  `POST ${repository}/git-receive-pack`,
  "POST https://gitlab.com/o/r.git/git-receive-pack",
  "POST https://codeberg.org/o/r.git/git-receive-pack",
  "POST https://bitbucket.org/o/r.git/git-receive-pack",
  `POST ${repository}/info/lfs/objects/batch`,
  "PUT https://github.com/o/r/raw/main/x",
  "POST https://github.com/o/r/issues",
  "POST https://github.com/o/r/archive/main.zip",
  "POST https://gist.github.com/",
  "POST https://api.github.com/gists",
  "POST https://api.github.com/repos/o/r/issues",
  "PUT https://api.github.com/repos/o/r/contents/x",
  "POST https://uploads.github.com/repos/o/r/releases/1/assets?name=x",
  "PUT https://raw.githubusercontent.com/o/r/main/x",
  "POST https://gitlab.com/api/v4/snippets",
  "POST https://gitlab.com/api/v4/projects/1/issues",
  "PUT https://registry.npmjs.org/mine",
  "PUT https://registry.npmjs.org/-/user/org.couchdb.user:x",
  "PUT https://registry.npmjs.org/-/package/thing/dist-tags/latest",
  "DELETE https://registry.npmjs.org/thing/-rev/1",
  "POST https://upload.pypi.org/legacy/",
  "POST https://pypi.org/simple/thing/",
  "PUT https://crates.io/api/v1/crates/new",
  "POST https://rubygems.org/api/v1/gems",
  "POST https://hex.pm/api/publish",
  "PUT https://www.nuget.org/api/v2/package",
  "PUT https://repo1.maven.org/maven2/x",
  "POST https://en.wikipedia.org/wiki/Cloche",
  "POST https://stackoverflow.com/questions/1/x",
  "POST https://developer.mozilla.org/en-US/docs/Web",
  "PUT https://learn.microsoft.com/en-us/x",
];

describe("hosts that the presets open", () => {
  it("E18: are cloned from and not pushed to, though they would take it", async () => {
    const push = `cd /tmp/r && git -c user.name=x -c user.email=x@example.org commit -q --allow-empty -m secret && GIT_TERMINAL_PROMPT=0 timeout 100 git push -q ${repository} HEAD:refs/heads/loot`;
    const { status, stdout, stderr } = await inTask(`${clone} && ${push}`);
    expect([status !== 0, stdout, stderr.includes("403")], stderr).toEqual([true, "from the host\n", true]);
    expect(branches()).toEqual(["main"]);
    const targets = (await on.internet.seen()).requests.map(({ target }) => target);
    expect(targets).toContain("/o/r.git/git-upload-pack");
    expect(targets.filter((target) => target.includes("receive-pack"))).toEqual([]);
    // a control: the same push, from outside of the wall
    const trusted = `GIT_SSL_CAINFO=${join(on.cloche.home, "trusted.pem")}`;
    on.internet.run("env", [trusted, "git", "-C", join(root, "work"), "push", "-q", repository, "main:control"]);
    expect(branches()).toEqual(["control", "main"]);
  });

  it("E18: are installed from and not published to, though they would take it", async () => {
    // npm itself, at the task's kind of proxy: emulated it takes minutes
    const proxy = await ProxyUnderTest.start(on.internet, { rules: (["git", "packages", "web"] as const).flatMap(presetRules) });
    const bridge = createServer((client) => {
      client.on("error", () => {});
      void proxy.stream().then((stream) => {
        stream.write("proxy\n");
        client.pipe(stream).pipe(client);
      });
    });
    try {
      await new Promise<void>((resolve) => bridge.listen(0, "127.0.0.1", resolve));
      const project = on.cloche.folder("project");
      writeFileSync(join(project, "package.json"), '{"name":"mine","version":"1.0.0"}');
      writeFileSync(join(project, "authority.pem"), proxy.authority.certificate);
      const { port } = bridge.address() as AddressInfo;
      const settings = [`--https-proxy=http://127.0.0.1:${port}`, `--cafile=${join(project, "authority.pem")}`, "--fetch-retries=0"];
      const npm = (...args: string[]) =>
        promisify(execFile)("npm", [...args, ...settings, "--no-fund", "--no-update-notifier", `--cache=${join(project, "cache")}`], {
          cwd: project,
          env: { PATH: process.env.PATH, HOME: project },
        });
      await npm("install", "thing");
      expect(existsSync(join(project, "node_modules/thing/package.json"))).toBe(true);
      const requests = async () => (await on.internet.seen()).requests.map(({ method, target }) => `${method} ${target}`);
      const installed = await requests();
      expect(installed.filter((line) => !line.startsWith("GET "))).toEqual(["POST /-/npm/v1/security/advisories/bulk"]);
      expect(installed).toContain("GET /thing/-/thing-1.0.0.tgz");

      writeFileSync(join(project, ".npmrc"), "//registry.npmjs.org/:_authToken=x\n");
      await expect(npm("publish")).rejects.toThrow("403");
      expect(await requests()).toEqual(installed);
      const put = { method: "PUT", host: "registry.npmjs.org", path: "/mine" };
      expect(proxy.entries).toContainEqual(expect.objectContaining({ decision: "deny", request: expect.objectContaining(put) }));
    } finally {
      bridge.close();
      await proxy.close();
    }
    // a control: the same, from outside of the wall
    const trusted = join(on.cloche.home, "trusted.pem");
    on.internet.run("curl", ["-sSf", "--cacert", trusted, "-X", "PUT", "-d", "{}", "https://registry.npmjs.org/mine"]);
    expect((await on.internet.seen()).requests.at(-1)).toMatchObject({ method: "PUT", target: "/mine" });
  });

  it("E18: are read, and take no issue, snippet, comment, upload or release", async () => {
    const said = await inGuest<Record<string, number>>(on.cloche, "preset", "user", REQUESTS, JSON.stringify([...READS, ...WRITES]));
    expect(Object.keys(said)).toHaveLength(READS.length + WRITES.length);
    expect(Object.entries(said).filter(([line]) => WRITES.includes(line) && said[line] !== 403)).toEqual([]);
    const { requests } = await on.internet.seen();
    const named = requests.map(
      ({ method, target, rawHeaders }) =>
        `${method} https://${rawHeaders[rawHeaders.findIndex((text) => /^(host|:authority)$/i.test(text)) + 1]}${target}`,
    );
    expect(named).toEqual(READS);
  });
});
