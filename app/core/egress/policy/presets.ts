/**
 * Presets: rules for what most tasks need, by exact host and path. None of them opens anything that publishes or stores: no upload,
 * no push, no key, no login. Where a server would fetch any address it is asked for (Go's module proxy and checksum database), only
 * paths of known code hosts are open, as each fetch tells its target what the path says.
 */
import type { NetworkPreset, Rule } from "../../../contract/index.ts";

interface Line {
  host: string;
  methods: readonly string[];
  paths: readonly string[];
}

const READ = ["GET", "HEAD"] as const;
const read = (host: string, ...paths: string[]): Line => ({ host, methods: READ, paths });
const post = (host: string, ...paths: string[]): Line => ({ host, methods: ["POST"], paths });

/** Chat, completion and embedding in OpenAI's spelling below `root`, and the list of models. */
const openAiLike = (host: string, root: string, ...more: string[]): Line[] => [
  post(host, ...["/chat/completions", "/completions", "/embeddings", ...more].map((path) => root + path)),
  read(host, `${root}/models`, `${root}/models/**`),
];

/** Inference and lists of models. Not open: files, batches, fine-tuning, assistants, vector stores, keys, organisations. */
const models: Line[] = [
  post("api.anthropic.com", "/v1/messages", "/v1/messages/count_tokens", "/v1/complete"),
  read("api.anthropic.com", "/v1/models", "/v1/models/*"),
  ...openAiLike(
    "api.openai.com",
    "/v1",
    "/responses",
    "/responses/input_tokens",
    "/moderations",
    "/audio/speech",
    "/audio/transcriptions",
    "/audio/translations",
    "/images/generations",
  ),
  post(
    "generativelanguage.googleapis.com",
    ...["v1", "v1beta"].flatMap((version) =>
      ["generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents"].map(
        (verb) => `/${version}/models/*:${verb}`,
      ),
    ),
    "/v1beta/openai/chat/completions",
    "/v1beta/openai/embeddings",
  ),
  read("generativelanguage.googleapis.com", "/v1/models", "/v1/models/*", "/v1beta/models", "/v1beta/models/*", "/v1beta/openai/models"),
  ...openAiLike("api.mistral.ai", "/v1", "/fim/completions", "/moderations", "/chat/moderations"),
  ...openAiLike("codestral.mistral.ai", "/v1", "/fim/completions"),
  ...openAiLike("api.x.ai", "/v1", "/responses", "/messages"),
  ...openAiLike("openrouter.ai", "/api/v1", "/responses", "/messages"),
  ...openAiLike("api.groq.com", "/openai/v1", "/responses", "/audio/transcriptions", "/audio/translations", "/audio/speech"),
  ...openAiLike("api.deepseek.com", ""),
  ...openAiLike("api.deepseek.com", "/v1"),
  post("api.deepseek.com", "/anthropic/v1/messages", "/beta/completions"),
  ...openAiLike("api.together.xyz", "/v1", "/rerank"),
  ...openAiLike("api.fireworks.ai", "/inference/v1"),
  ...openAiLike("api.cerebras.ai", "/v1"),
  ...openAiLike("api.moonshot.ai", "/v1"),
  post("api.cohere.com", "/v2/chat", "/v2/embed", "/v2/rerank", "/v1/tokenize", "/v1/detokenize"),
  read("api.cohere.com", "/v1/models", "/v1/models/*"),
];

/** Packuments, versions (which have a dot), tarballs, signatures. Not open: tokens, logins, users, hooks, organisations. */
const npmReads = [
  "/",
  "/*",
  "/*/latest",
  "/*/*.*",
  "/*/-/*.tgz",
  "/@*/*",
  "/@*/*/latest",
  "/@*/*/*.*",
  "/@*/*/-/*.tgz",
  "/@*/*/-/@*/*.tgz",
  "/-/package/*/dist-tags",
  "/-/package/@*/*/dist-tags",
  "/-/v1/search",
  "/-/ping",
  "/-/npm/v1/keys",
  "/-/npm/v1/attestations/**",
];
/** `npm install` sends names and versions there and is answered with known flaws; nothing of it is kept where another could read it. */
const npmAudits = ["/-/npm/v1/security/advisories/bulk", "/-/npm/v1/security/audits", "/-/npm/v1/security/audits/quick"];

/** First parts of module paths whose owner is a code host or a known project: the proxy fetches from the host that a path names. */
const goModules = [
  "bitbucket.org",
  "cel.dev",
  "cloud.google.com",
  "codeberg.org",
  "cuelang.org",
  "dario.cat",
  "entgo.io",
  "filippo.io",
  "git.sr.ht",
  "github.com",
  "gitlab.com",
  "go.etcd.io",
  "go.mongodb.org",
  "go.opentelemetry.io",
  "go.starlark.net",
  "go.uber.org",
  "go.yaml.in",
  "golang.org",
  "gonum.org",
  "google.golang.org",
  "gopkg.in",
  "gorm.io",
  "gotest.tools",
  "honnef.co",
  "k8s.io",
  "modernc.org",
  "mvdan.cc",
  "nhooyr.io",
  "oras.land",
  "rsc.io",
  "sigs.k8s.io",
  "tailscale.com",
];
const goLookups = goModules.map((module) => `/lookup/${module}/**`);
const goSums = ["/supported", "/latest", "/tile/**"];

const packages: Line[] = [
  read("registry.npmjs.org", ...npmReads),
  post("registry.npmjs.org", ...npmAudits),
  read("registry.yarnpkg.com", ...npmReads),
  post("registry.yarnpkg.com", ...npmAudits),
  read("nodejs.org", "/dist/**", "/download/release/**"),
  read("pypi.org", "/simple/**", "/pypi/*/json", "/pypi/*/*/json", "/integrity/**"),
  read("files.pythonhosted.org", "/packages/**"),
  read("conda.anaconda.org", "/conda-forge/**"),
  read("index.crates.io", "/**"),
  read("static.crates.io", "/crates/**"),
  read("crates.io", "/api/v1/crates", "/api/v1/crates/*", "/api/v1/crates/*/*/download"),
  read("static.rust-lang.org", "/dist/**", "/rustup/**"),
  read("proxy.golang.org", ...goModules.map((module) => `/${module}/**`)),
  read(
    "proxy.golang.org",
    ...goSums.map((path) => `/sumdb/sum.golang.org${path}`),
    ...goLookups.map((path) => `/sumdb/sum.golang.org${path}`),
  ),
  read("sum.golang.org", ...goSums, ...goLookups),
  read("go.dev", "/dl/**"),
  read("dl.google.com", "/go/**", "/android/maven2/**", "/dl/android/maven2/**"),
  read(
    "rubygems.org",
    "/versions",
    "/names",
    "/info/*",
    "/gems/**",
    "/downloads/**",
    "/quick/**",
    "/api/v1/dependencies",
    "/api/v1/gems/*",
    "/api/v1/versions/*",
    "/specs.4.8.gz",
    "/latest_specs.4.8.gz",
    "/prerelease_specs.4.8.gz",
  ),
  read("index.rubygems.org", "/versions", "/names", "/info/*", "/gems/**", "/quick/**"),
  read("deb.debian.org", "/debian/**", "/debian-security/**"),
  read("security.debian.org", "/debian-security/**"),
  read("archive.ubuntu.com", "/ubuntu/**"),
  read("security.ubuntu.com", "/ubuntu/**"),
  read("ports.ubuntu.com", "/ubuntu-ports/**"),
  read("repo1.maven.org", "/maven2/**"),
  read("repo.maven.apache.org", "/maven2/**"),
  read("maven.google.com", "/**"),
  read("plugins.gradle.org", "/m2/**"),
  read("plugins-artifacts.gradle.org", "/**"),
  read("services.gradle.org", "/distributions/**", "/versions/**"),
  read("api.nuget.org", "/v3/**", "/v3-flatcontainer/**", "/v3-index/**"),
  read("repo.packagist.org", "/packages.json", "/p2/**", "/providers/**"),
  read("hex.pm", "/api/packages/*", "/api/packages/*/releases/*"),
  read("repo.hex.pm", "/names", "/versions", "/packages/*", "/tarballs/*"),
];

const fetchOf = (...repositories: string[]) => ({
  advertised: repositories.map((path) => `${path}/info/refs?service=git-upload-pack`),
  packed: repositories.map((path) => `${path}/git-upload-pack`),
});
const flat = fetchOf("/*/*");
/** GitLab nests groups; without `.git` it redirects. Longer paths are its API, where a last part may be any name. */
const nested = fetchOf("/*/*.git", "/*/*/*.git", "/*/*/*/*.git", "/*/*/*/*/*.git");
const nestedPlain = fetchOf("/*/*", "/*/*/*", "/*/*/*/*");

/** Clone, fetch, archives and single files. Not open: push (also its advertisement), LFS (one address for both ways), APIs, gists. */
const git: Line[] = [
  read("github.com", ...flat.advertised, "/*/*/archive/**", "/*/*/releases/download/**", "/*/*/raw/**"),
  post("github.com", ...flat.packed),
  read("codeload.github.com", "/*/*/**"),
  read("raw.githubusercontent.com", "/*/*/**"),
  read("objects.githubusercontent.com", "/**"),
  read("release-assets.githubusercontent.com", "/**"),
  read("gitlab.com", ...nested.advertised, ...nestedPlain.advertised, "/**/-/archive/**", "/**/-/raw/**"),
  post("gitlab.com", ...nested.packed),
  read("codeberg.org", ...flat.advertised, "/*/*/archive/**", "/*/*/releases/download/**", "/*/*/raw/**"),
  post("codeberg.org", ...flat.packed),
  read("bitbucket.org", ...flat.advertised, "/*/*/get/**", "/*/*/raw/**"),
  post("bitbucket.org", ...flat.packed),
];

/** Documentation. Not open: sites' own searches that fetch, editors, playgrounds, accounts. */
const web: Line[] = [
  read("developer.mozilla.org", "/**"),
  read("www.w3.org", "/TR/**", "/WAI/**"),
  read("html.spec.whatwg.org", "/**"),
  read("fetch.spec.whatwg.org", "/**"),
  read("url.spec.whatwg.org", "/**"),
  read("www.rfc-editor.org", "/rfc/**", "/info/**"),
  read("datatracker.ietf.org", "/doc/**"),
  read("en.wikipedia.org", "/wiki/**"),
  read("stackoverflow.com", "/questions/**", "/a/**", "/q/**"),
  read("docs.github.com", "/**"),
  read("docs.gitlab.com", "/**"),
  read("git-scm.com", "/docs/**", "/book/**"),
  read("docs.npmjs.com", "/**"),
  read("nodejs.org", "/api/**", "/docs/**", "/en/**"),
  read("www.typescriptlang.org", "/docs/**", "/tsconfig/**"),
  read("react.dev", "/**"),
  read("nextjs.org", "/docs/**"),
  read("vuejs.org", "/**"),
  read("angular.dev", "/**"),
  read("svelte.dev", "/docs/**"),
  read("tailwindcss.com", "/docs/**"),
  read("vite.dev", "/**"),
  read("vitest.dev", "/**"),
  read("playwright.dev", "/**"),
  read("jestjs.io", "/docs/**"),
  read("eslint.org", "/docs/**"),
  read("www.electronjs.org", "/docs/**"),
  read("docs.python.org", "/**"),
  read("packaging.python.org", "/**"),
  read("peps.python.org", "/**"),
  read("pip.pypa.io", "/**"),
  read("docs.djangoproject.com", "/**"),
  read("flask.palletsprojects.com", "/**"),
  read("fastapi.tiangolo.com", "/**"),
  read("numpy.org", "/doc/**"),
  read("pandas.pydata.org", "/docs/**", "/pandas-docs/**"),
  read("docs.scipy.org", "/doc/**"),
  read("scikit-learn.org", "/stable/**"),
  read("matplotlib.org", "/stable/**"),
  read("docs.pytorch.org", "/docs/**"),
  read("doc.rust-lang.org", "/**"),
  read("docs.rs", "/**"),
  read("go.dev", "/doc/**", "/ref/**", "/blog/**"),
  read("pkg.go.dev", "/**"),
  read("docs.oracle.com", "/en/java/**", "/javase/**"),
  read("kotlinlang.org", "/docs/**", "/api/**"),
  read("docs.spring.io", "/**"),
  read("docs.gradle.org", "/**"),
  read("maven.apache.org", "/**"),
  read("learn.microsoft.com", "/en-us/**"),
  read("docs.ruby-lang.org", "/en/**"),
  read("guides.rubyonrails.org", "/**"),
  read("www.php.net", "/manual/en/**"),
  read("hexdocs.pm", "/**"),
  read("ziglang.org", "/documentation/**"),
  read("en.cppreference.com", "/w/**"),
  read("www.gnu.org", "/software/**", "/manual/**"),
  read("www.debian.org", "/doc/**", "/releases/**"),
  read("man7.org", "/linux/**"),
  read("docs.kernel.org", "/**"),
  read("manpages.debian.org", "/**"),
  read("wiki.archlinux.org", "/title/**"),
  read("www.postgresql.org", "/docs/**"),
  read("www.sqlite.org", "/**"),
  read("sqlite.org", "/**"),
  read("dev.mysql.com", "/doc/**"),
  read("redis.io", "/docs/**"),
  read("docs.docker.com", "/**"),
  read("kubernetes.io", "/docs/**"),
  read("docs.aws.amazon.com", "/**"),
  read("cloud.google.com", "/docs/**"),
  read("developer.apple.com", "/documentation/**", "/tutorials/data/documentation/**"),
  read("docs.anthropic.com", "/**"),
  read("docs.claude.com", "/**"),
  read("platform.openai.com", "/docs/**"),
  read("ai.google.dev", "/gemini-api/docs/**", "/api/**"),
  read("docs.mistral.ai", "/**"),
];

const lines: Record<NetworkPreset, readonly Line[]> = { none: [], models, packages, git, web };

/** What each preset is for, as the reason of its rules. */
const reasons: Record<NetworkPreset, string> = {
  none: "nothing",
  models: "asking a model, of the preset models",
  packages: "installing packages, of the preset packages",
  git: "cloning and fetching, of the preset git",
  web: "reading documentation, of the preset web",
};

function make(preset: NetworkPreset): readonly Rule[] {
  return lines[preset].map(({ host, methods, paths }, n) => ({
    id: `${preset}/${n + 1}`,
    scope: "task",
    from: "preset",
    decision: "allow",
    host,
    methods: [...methods],
    paths: [...paths],
    reason: reasons[preset],
  }));
}

const made = new Map<NetworkPreset, readonly Rule[]>();

/** The preset's rules; the same objects each time, never to be changed. Ids are the preset's name and their place. */
export function presetRules(preset: NetworkPreset): Rule[] {
  let rules = made.get(preset);
  if (!rules) {
    rules = make(preset);
    made.set(preset, rules);
  }
  return [...rules];
}
