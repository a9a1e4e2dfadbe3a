import { describe, expect, it } from "vitest";
import type { NetworkPreset } from "../../../contract/index.ts";
import { decide, parseUrl, presetRules } from "./index.ts";

const NOW = new Date("2026-11-25T12:00:00Z");
const presets: NetworkPreset[] = ["none", "models", "packages", "git", "web"];
const every = presets.flatMap(presetRules);

function decided(method: string, url: string, rules = every) {
  const request = parseUrl(method, url);
  return request ? decide(request, rules, NOW).decision : "deny";
}

describe("E18: presets open nothing that writes", () => {
  it.each([
    // models: storing, training, keys, agents that fetch
    "POST https://api.anthropic.com/v1/files",
    "POST https://api.anthropic.com/v1/messages/batches",
    "GET https://api.anthropic.com/v1/files",
    "POST https://api.anthropic.com/v1/organizations/api_keys",
    "POST https://api.openai.com/v1/files",
    "POST https://api.openai.com/v1/uploads",
    "POST https://api.openai.com/v1/batches",
    "POST https://api.openai.com/v1/fine_tuning/jobs",
    "POST https://api.openai.com/v1/assistants",
    "POST https://api.openai.com/v1/threads",
    "POST https://api.openai.com/v1/vector_stores",
    "POST https://api.openai.com/v1/containers",
    "POST https://api.openai.com/v1/realtime/client_secrets",
    "POST https://api.openai.com/v1/organization/admin_api_keys",
    "GET wss://api.openai.com/v1/realtime",
    "DELETE https://api.openai.com/v1/models/x",
    "POST https://api.openai.com/v1/models",
    "POST https://generativelanguage.googleapis.com/upload/v1beta/files",
    "POST https://generativelanguage.googleapis.com/v1beta/cachedContents",
    "POST https://generativelanguage.googleapis.com/v1beta/models/x/y:generateContent",
    "POST https://generativelanguage.googleapis.com/v1beta/tunedModels",
    "POST https://api.mistral.ai/v1/files",
    "POST https://api.mistral.ai/v1/agents",
    "POST https://openrouter.ai/api/v1/keys",
    "GET https://openrouter.ai/api/v1/keys",
    "POST https://api.x.ai/v1/files",
    "POST https://api.cohere.com/v1/datasets",
    // packages: publishing, owning, logging in
    "PUT https://registry.npmjs.org/mine",
    "PUT https://registry.npmjs.org/-/user/org.couchdb.user:me",
    "POST https://registry.npmjs.org/-/v1/login",
    "GET https://registry.npmjs.org/-/v1/done",
    "GET https://registry.npmjs.org/-/npm/v1/tokens",
    "POST https://registry.npmjs.org/-/npm/v1/tokens",
    "GET https://registry.npmjs.org/-/whoami",
    "PUT https://registry.npmjs.org/-/package/x/dist-tags/latest",
    "DELETE https://registry.npmjs.org/mine/-rev/1",
    "POST https://registry.npmjs.org/-/npm/v1/hooks/hook",
    "POST https://upload.pypi.org/legacy/",
    "POST https://pypi.org/simple/x/",
    "PUT https://crates.io/api/v1/crates/new",
    "GET https://crates.io/api/v1/me",
    "POST https://rubygems.org/api/v1/gems",
    "GET https://rubygems.org/api/v1/api_key",
    "PUT https://www.nuget.org/api/v2/package",
    "PUT https://repo1.maven.org/maven2/x",
    "POST https://hex.pm/api/publish",
    "GET http://deb.debian.org/other",
    "GET ftp://deb.debian.org/debian/",
    // Go's proxy would fetch from the host that the path names
    "GET https://proxy.golang.org/data.attacker.example/x/@v/list",
    "GET https://proxy.golang.org/github.com.attacker.example/x/@v/list",
    "GET https://proxy.golang.org/sumdb/sum.golang.org/lookup/data.attacker.example/x@v1.0.0",
    "GET https://sum.golang.org/lookup/data.attacker.example/x@v1.0.0",
    "GET https://proxy.golang.org/github.com%2F..%2Fattacker.example/x/@v/list",
    // git: pushing, APIs, storing
    "POST https://github.com/a/b.git/git-receive-pack",
    "GET https://github.com/a/b.git/info/refs?service=git-receive-pack",
    "GET https://github.com/a/b/info/refs?service=git-upload-pack&service=git-receive-pack",
    "POST https://github.com/a/b.git/info/lfs/objects/batch",
    "POST https://github.com/a/b/issues",
    "POST https://github.com/login/oauth/access_token",
    "POST https://github.com/a/b%2Fgit-upload-pack",
    "GET https://github.com/settings/tokens",
    "POST https://api.github.com/gists",
    "GET https://api.github.com/user",
    "POST https://gitlab.com/api/v4/projects/1/repository/files/git-upload-pack",
    "POST https://gitlab.com/api/v4/projects/1/repository/files/x.git%2Fgit-upload-pack",
    "POST https://gitlab.com/api/v4/projects/1/repository/files/x.git/git-upload-pack",
    "POST https://gitlab.com/a/b.git/git-receive-pack",
    "POST https://codeberg.org/api/v1/repos/a/b/contents/x",
    "POST https://bitbucket.org/a/b.git/git-receive-pack",
    "PUT https://raw.githubusercontent.com/a/b/main/x",
    // web: forms, services that fetch, other languages of the same owner
    "POST https://en.wikipedia.org/wiki/X",
    "GET https://en.wikipedia.org/w/index.php",
    "POST https://stackoverflow.com/questions/ask/submit",
    "GET https://www.w3.org/services/html2txt",
    "POST https://developer.mozilla.org/api/v1/x",
    "GET https://learn.microsoft.com/api/x",
    "POST https://pkg.go.dev/fetch/attacker.example/x",
    // nobody's neighbours
    "GET https://evil.registry.npmjs.org/x",
    "GET https://registry.npmjs.org.evil.example/x",
    "GET https://pypi.org:8443/simple/x/",
    "GET https://gist.github.com/x",
    "GET https://storage.googleapis.com/x",
  ])("refused: %s", (text) => {
    const [method = "", url = ""] = text.split(" ");
    expect(decided(method, url)).not.toBe("allow");
  });

  it.each([
    ["models", "POST https://api.anthropic.com/v1/messages"],
    ["models", "POST https://api.anthropic.com/v1/messages/count_tokens"],
    ["models", "POST https://api.openai.com/v1/responses"],
    ["models", "POST https://api.openai.com/v1/chat/completions"],
    ["models", "GET https://api.openai.com/v1/models/gpt-5"],
    ["models", "POST https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse"],
    ["models", "POST https://api.mistral.ai/v1/fim/completions"],
    ["models", "POST https://api.x.ai/v1/chat/completions"],
    ["models", "GET https://openrouter.ai/api/v1/models/a/b/endpoints"],
    ["models", "POST https://api.deepseek.com/chat/completions"],
    ["packages", "GET https://registry.npmjs.org/react"],
    ["packages", "GET https://registry.npmjs.org/@types%2fnode"],
    ["packages", "GET https://registry.npmjs.org/@types/node"],
    ["packages", "GET https://registry.npmjs.org/react/19.1.0"],
    ["packages", "GET https://registry.npmjs.org/react/-/react-19.1.0.tgz"],
    ["packages", "GET https://registry.npmjs.org/@types/node/-/node-24.0.0.tgz"],
    ["packages", "POST https://registry.npmjs.org/-/npm/v1/security/advisories/bulk"],
    ["packages", "GET https://pypi.org/simple/requests/"],
    ["packages", "GET https://pypi.org/pypi/requests/json"],
    ["packages", "HEAD https://files.pythonhosted.org/packages/aa/bb/requests-2.0-py3-none-any.whl"],
    ["packages", "GET https://index.crates.io/se/rd/serde"],
    ["packages", "GET https://static.crates.io/crates/serde/serde-1.0.0.crate"],
    ["packages", "GET https://proxy.golang.org/github.com/!burnt!sushi/toml/@v/list"],
    ["packages", "GET https://proxy.golang.org/golang.org/x/net/@latest"],
    ["packages", "GET https://sum.golang.org/lookup/github.com/pkg/errors@v0.9.1"],
    ["packages", "GET https://proxy.golang.org/sumdb/sum.golang.org/tile/8/0/x001"],
    ["packages", "GET https://rubygems.org/info/rails"],
    ["packages", "GET http://deb.debian.org/debian/dists/trixie/InRelease"],
    ["packages", "GET http://deb.debian.org/debian/pool/main/g/gcc/libstdc%2b%2b6_14_amd64.deb"],
    ["packages", "GET https://security.debian.org/debian-security/dists/trixie-security/InRelease"],
    ["packages", "GET http://archive.ubuntu.com/ubuntu/dists/noble/InRelease"],
    ["packages", "GET https://repo.maven.apache.org/maven2/junit/junit/4.13/junit-4.13.pom"],
    ["packages", "GET https://api.nuget.org/v3/index.json"],
    ["git", "GET https://github.com/a/b.git/info/refs?service=git-upload-pack"],
    ["git", "GET https://github.com/a/b/info/refs?service=git-upload-pack"],
    ["git", "POST https://github.com/a/b.git/git-upload-pack"],
    ["git", "GET https://gitlab.com/a/b/c.git/info/refs?service=git-upload-pack"],
    ["git", "POST https://gitlab.com/a/b/c.git/git-upload-pack"],
    ["git", "POST https://codeberg.org/a/b.git/git-upload-pack"],
    ["git", "GET https://raw.githubusercontent.com/a/b/main/README.md"],
    ["git", "GET https://codeload.github.com/a/b/tar.gz/refs/heads/main"],
    ["git", "GET https://github.com/a/b/releases/download/v1/x.tar.gz"],
    ["web", "GET https://developer.mozilla.org/en-US/docs/Web/HTTP"],
    ["web", "GET https://docs.python.org/3/library/os.html"],
    ["web", "GET https://en.wikipedia.org/wiki/Cloche"],
    ["web", "GET https://stackoverflow.com/questions/1/x"],
  ] as const)("control, by %s alone: %s", (preset, text) => {
    const [method = "", url = ""] = text.split(" ");
    expect(decided(method, url, presetRules(preset))).toBe("allow");
    for (const other of presets.filter((one) => one !== preset)) expect(decided(method, url, presetRules(other))).toBe("ask");
  });

  it("only what asks a model, audits or fetches is POSTed, and nothing else but GET and HEAD is let through", () => {
    const posted = new Set(
      every.filter(({ methods }) => methods?.includes("POST")).flatMap(({ host, paths }) => (paths ?? []).map((path) => host + path)),
    );
    for (const place of posted)
      expect(place).toMatch(
        /completions$|embeddings$|\/messages(\/count_tokens)?$|\/complete$|\/responses(\/input_tokens)?$|moderations$|\/audio\/[a-z]+$|\/images\/generations$|:[a-zA-Z]*(Content|Contents|Tokens)$|rerank$|\/v2\/(chat|embed)$|tokenize$|\/security\/(advisories\/bulk|audits(\/quick)?)$|\/git-upload-pack$/,
      );
    expect(new Set(every.flatMap(({ methods }) => methods ?? []))).toEqual(new Set(["GET", "HEAD", "POST"]));
  });

  it("a rule has either reading or POST, so that no path of the one is open to the other", () => {
    for (const { id, methods } of every) expect([id, methods]).toEqual([id, methods?.includes("POST") ? ["POST"] : ["GET", "HEAD"]]);
  });
});
