/** Hosts of model APIs: a key reaches the endpoints that answer, and none that keep files, run batches nobody can read, or manage an account. */
import { endpoints, words } from "./endpoints.ts";
import { REMOTE_BETA } from "./model.ts";
import type { HostProfile } from "./profiles.ts";

const OPENAI =
  words(`/chat/completions /completions /responses /responses/** /embeddings /models /models/** /moderations /images/generations
  /audio/speech /audio/transcriptions /audio/translations`);
/** Sound that is sent to be written down comes as a form with parts. */
const SOUND = ["/audio/transcriptions", "/audio/translations"];
const ANTHROPIC = words("/messages /messages/count_tokens /messages/batches /messages/batches/** /models /models/** /complete");

const under = (folders: readonly string[], paths: readonly string[]) => folders.flatMap((folder) => paths.map((path) => folder + path));

/** Hosts that speak the protocol of OpenAI in these folders, and that of Anthropic in those. */
const OPENAI_LIKE: readonly { host: string; regions?: string[]; env: string; openai: string[]; anthropic?: string[] }[] = [
  { host: "api.mistral.ai", env: "MISTRAL_API_KEY", openai: ["/v1"] },
  { host: "codestral.mistral.ai", env: "CODESTRAL_API_KEY", openai: ["/v1"] },
  { host: "api.groq.com", env: "GROQ_API_KEY", openai: ["/openai/v1"] },
  { host: "api.deepseek.com", env: "DEEPSEEK_API_KEY", openai: ["", "/v1", "/beta"], anthropic: ["/anthropic/v1"] },
  { host: "api.x.ai", regions: ["*.api.x.ai"], env: "XAI_API_KEY", openai: ["/v1"], anthropic: ["/v1"] },
  { host: "api.together.xyz", env: "TOGETHER_API_KEY", openai: ["/v1"] },
  { host: "api.together.ai", env: "TOGETHER_API_KEY", openai: ["/v1"] },
  { host: "api.fireworks.ai", env: "FIREWORKS_API_KEY", openai: ["/inference/v1"], anthropic: ["/inference/v1"] },
  { host: "api.cerebras.ai", env: "CEREBRAS_API_KEY", openai: ["/v1"] },
  { host: "openrouter.ai", env: "OPENROUTER_API_KEY", openai: ["/api/v1"], anthropic: ["/api/v1"] },
  { host: "router.huggingface.co", env: "HF_TOKEN", openai: ["/v1"] },
  { host: "api.moonshot.ai", env: "MOONSHOT_API_KEY", openai: ["/v1"], anthropic: ["/anthropic/v1"] },
  { host: "models.github.ai", env: "GITHUB_TOKEN", openai: ["/inference"] },
];

export const MODEL_HOSTS: readonly HostProfile[] = [
  {
    hosts: ["api.cohere.com"],
    key: { use: "bearer", env: "CO_API_KEY" },
    reach: endpoints(
      words("/v2/chat /v2/embed /v2/rerank /v1/chat /v1/embed /v1/rerank /v1/tokenize /v1/detokenize /v1/models /v1/models/**"),
    ),
    model: "openai",
  },
  {
    hosts: ["api.anthropic.com"],
    key: { use: "x-api-key", env: "ANTHROPIC_API_KEY" },
    reach: endpoints(under(["/v1"], ANTHROPIC)),
    logins: endpoints(["/v1/oauth/**", "/api/oauth/**"]),
    model: "anthropic",
    remote: [{ header: "anthropic-beta", values: REMOTE_BETA }],
  },
  {
    hosts: ["console.anthropic.com", "platform.claude.com", "claude.ai"],
    logins: endpoints(["/v1/oauth/**", "/oauth/**", "/login/**"]),
    reach: [],
  },
  {
    // also where the data stays: eu., us. and others
    hosts: ["api.openai.com", "*.api.openai.com"],
    key: { use: "bearer", env: "OPENAI_API_KEY" },
    reach: endpoints(under(["/v1"], OPENAI)),
    // the number of a conversation
    harmless: new Set(["session-id"]),
    model: "openai",
    forms: endpoints(under(["/v1"], SOUND)),
  },
  { hosts: ["auth.openai.com", "chatgpt.com"], logins: endpoints(["/oauth/**", "/api/accounts/**", "/api/auth/**"]), reach: [] },
  {
    hosts: ["*.openai.azure.com", "*.cognitiveservices.azure.com", "*.services.ai.azure.com"],
    key: { use: "header:api-key", env: "AZURE_OPENAI_API_KEY" },
    reach: endpoints(under(["/openai/deployments/*", "/openai/v1", "/openai"], OPENAI)),
    model: "openai",
    forms: endpoints(under(["/openai/deployments/*", "/openai/v1"], SOUND)),
  },
  ...OPENAI_LIKE.map(
    ({ host, regions = [], env, openai, anthropic = [] }): HostProfile => ({
      hosts: [host, ...regions],
      key: { use: "bearer", env },
      reach: endpoints([...under(openai, OPENAI), ...under(anthropic, ["/messages", "/messages/count_tokens"])]),
      model: "openai",
      forms: endpoints(under(openai, SOUND)),
    }),
  ),
  {
    hosts: ["generativelanguage.googleapis.com"],
    key: { use: "header:x-goog-api-key", env: "GEMINI_API_KEY" },
    reach: endpoints(["/v*/models", "/v*/models/**", ...under(["/v1beta/openai"], OPENAI)]),
    queryKeys: new Set(["key", "access_token"]),
    model: "gemini",
  },
  {
    // models of several makers, each in its maker's protocol; what keys reach is told by the words of an address
    hosts: ["aiplatform.googleapis.com", "*-aiplatform.googleapis.com"],
    queryKeys: new Set(["key", "access_token"]),
    logins: endpoints(["/oauth2/**"]),
    model: "gemini",
    remote: [{ header: "anthropic-beta", values: REMOTE_BETA }],
  },
];
