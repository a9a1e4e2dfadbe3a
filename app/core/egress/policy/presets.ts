/**
 * Presets: lists of rules that many tasks need. Hosts and paths are exact, and none of them opens a way to store or publish anything:
 * no uploads, no keys, no fine-tuning at model APIs; no publishing at registries; no push at git hosts; no forms on the web.
 */
import type { NetworkPreset, Rule, RuleDraft } from "../../../contract/index.ts";

const read = ["GET", "HEAD"];
const reads = (host: string, ...paths: string[]): RuleDraft => ({
  decision: "allow",
  host,
  methods: read,
  ...(paths.length > 0 ? { paths } : {}),
});
const posts = (host: string, ...paths: string[]): RuleDraft => ({ decision: "allow", host, methods: ["POST"], paths });
/** The archive, which apt reads with and without TLS; what it reads is signed. */
const archive = (host: string): RuleDraft[] => [reads(host)];

/** Inference, the list of models and the counting of tokens. */
const models: RuleDraft[] = [
  posts("api.anthropic.com", "/v1/messages", "/v1/messages/count_tokens", "/v1/complete"),
  reads("api.anthropic.com", "/v1/models", "/v1/models/*"),
  posts("api.openai.com", "/v1/chat/completions", "/v1/responses", "/v1/completions", "/v1/embeddings", "/v1/moderations"),
  reads("api.openai.com", "/v1/models", "/v1/models/*"),
  posts(
    "generativelanguage.googleapis.com",
    "/v1/models/*:generateContent",
    "/v1/models/*:streamGenerateContent",
    "/v1/models/*:countTokens",
    "/v1/models/*:embedContent",
    "/v1beta/models/*:generateContent",
    "/v1beta/models/*:streamGenerateContent",
    "/v1beta/models/*:countTokens",
    "/v1beta/models/*:embedContent",
  ),
  reads("generativelanguage.googleapis.com", "/v1/models", "/v1/models/*", "/v1beta/models", "/v1beta/models/*"),
  posts("api.mistral.ai", "/v1/chat/completions", "/v1/fim/completions", "/v1/embeddings"),
  reads("api.mistral.ai", "/v1/models", "/v1/models/*"),
  posts("api.x.ai", "/v1/chat/completions", "/v1/responses"),
  reads("api.x.ai", "/v1/models", "/v1/models/*"),
  posts("api.groq.com", "/openai/v1/chat/completions"),
  reads("api.groq.com", "/openai/v1/models", "/openai/v1/models/*"),
  posts("api.deepseek.com", "/chat/completions", "/v1/chat/completions"),
  reads("api.deepseek.com", "/models", "/v1/models"),
  posts("openrouter.ai", "/api/v1/chat/completions", "/api/v1/completions"),
  reads("openrouter.ai", "/api/v1/models"),
];

const packages: RuleDraft[] = [
  reads("registry.npmjs.org"),
  reads("registry.yarnpkg.com"),
  reads("pypi.org", "/simple/**", "/pypi/**"),
  reads("files.pythonhosted.org", "/packages/**"),
  reads("index.crates.io"),
  reads("static.crates.io", "/crates/**"),
  reads("crates.io", "/api/v1/crates/**"),
  reads("proxy.golang.org"),
  reads("sum.golang.org"),
  reads("rubygems.org", "/gems/**", "/info/**", "/versions", "/names", "/quick/**", "/specs.4.8.gz", "/latest_specs.4.8.gz"),
  reads("index.rubygems.org"),
  reads("repo.maven.apache.org", "/maven2/**"),
  reads("repo1.maven.org", "/maven2/**"),
  reads("plugins.gradle.org", "/m2/**"),
  reads("api.nuget.org", "/v3/**", "/v3-flatcontainer/**"),
  reads("repo.packagist.org"),
  reads("hex.pm", "/api/packages/**"),
  reads("repo.hex.pm"),
  ...archive("deb.debian.org"),
  ...archive("security.debian.org"),
  ...archive("archive.ubuntu.com"),
  ...archive("security.ubuntu.com"),
  ...archive("ports.ubuntu.com"),
];

/** Clone and fetch: the advertisement for a fetch, and the fetch itself. What a push asks for (`git-receive-pack`) is not among them. */
const fetches = (host: string): RuleDraft[] => [reads(host, "/**/info/refs?service=git-upload-pack"), posts(host, "/**/git-upload-pack")];
const git: RuleDraft[] = [
  ...fetches("github.com"),
  ...fetches("gitlab.com"),
  ...fetches("codeberg.org"),
  ...fetches("bitbucket.org"),
  reads("github.com", "/*/*/archive/**", "/*/*/releases/download/**", "/*/*/raw/**"),
  reads("raw.githubusercontent.com"),
  reads("codeload.github.com"),
  reads("objects.githubusercontent.com"),
  reads("release-assets.githubusercontent.com"),
];

const web: RuleDraft[] = [
  "developer.mozilla.org",
  "docs.python.org",
  "nodejs.org",
  "docs.npmjs.com",
  "www.typescriptlang.org",
  "react.dev",
  "go.dev",
  "pkg.go.dev",
  "doc.rust-lang.org",
  "docs.rs",
  "en.cppreference.com",
  "docs.oracle.com",
  "learn.microsoft.com",
  "kubernetes.io",
  "www.postgresql.org",
  "sqlite.org",
  "git-scm.com",
  "www.debian.org",
  "manpages.debian.org",
  "www.rfc-editor.org",
  "datatracker.ietf.org",
  "www.w3.org",
  "en.wikipedia.org",
  "stackoverflow.com",
].map((host) => reads(host));

const PRESETS: Readonly<Record<NetworkPreset, readonly RuleDraft[]>> = { none: [], models, packages, git, web };

const made = new Map<NetworkPreset, Rule[]>();

/** The preset's rules; their ids are the preset's name and their place in it. */
export function presetRules(preset: NetworkPreset): Rule[] {
  let rules = made.get(preset);
  if (!rules) {
    rules = PRESETS[preset].map((draft, at): Rule => ({ id: `${preset}/${at + 1}`, scope: "task", from: "preset", ...draft }));
    made.set(preset, rules);
  }
  return rules;
}
