import type { JsonVisitor } from "./json.ts";
import type { ModelApi } from "./profiles.ts";
import { quoted, type Refusal, refuse } from "./refusal.ts";

/**
 * What in a request's body makes a model API fetch an address, call a server, read uploaded files or run code for the guest: past this task's own
 * rules, with words of the conversation in it. Where a field takes one of several kinds, the kinds that do nothing of that are listed, and
 * all others are refused; a field that exists for nothing else is refused by its name. Field names are in the form of `plainField`.
 *
 * What a tool was called with, what it answered, and the schema of its input are any JSON: nothing is judged in there.
 */
export function modelVisitor(model: ModelApi, host: string, segments: readonly string[]): JsonVisitor {
  // several hosts speak another's protocol at some of their endpoints
  const spoken = isMessages(segments) ? "anthropic" : segments.includes("openai") ? "openai" : (ofPublisher(segments) ?? model);
  const visit = { anthropic, openai, gemini }[spoken];
  return (path, kind, text) => {
    const what = visit(path, kind, text);
    return what === undefined ? undefined : fetching(what, host);
  };
}

/** `…/messages` of Anthropic's protocol, and what is below it; not those of a thread, nor a deployment of that name. */
function isMessages(segments: readonly string[]): boolean {
  const [below] = segments.slice(segments.indexOf("messages") + 1);
  const at = segments.includes("messages") && (below === undefined || below === "count_tokens" || below === "batches");
  return segments[0] === "anthropic" || (at && !segments.includes("threads"));
}

/** Of a host that has models of several makers: `/v1/projects/p/locations/l/publishers/anthropic/models/m:rawPredict`. */
function ofPublisher(segments: readonly string[]): ModelApi | undefined {
  if (segments.includes("openapi")) return "openai";
  const publisher = segments.includes("publishers") ? segments[segments.indexOf("publishers") + 1] : undefined;
  if (publisher === undefined || publisher === "google") return undefined;
  return publisher === "anthropic" ? "anthropic" : "openai";
}

/** The same for a form with parts. A field that is there for words may begin with an address. */
export function formVisitor(host: string): (name: string, begins: string) => Refusal | undefined {
  return (name, begins) =>
    /ur[il]s?$|^fileids?$/.test(name) || (HAS_ADDRESS.test(begins) && !/^(?:prompt|hotwords|keywords?|contextbias)/.test(name))
      ? fetching(field(name), host)
      : undefined;
}

const fetching = (what: string, host: string): Refusal =>
  refuse(
    "request.remote-fetch",
    `${what} makes ${host} fetch, call or run something for this task, past its own rules. Leave it out; the task can fetch by itself what its rules allow.`,
  );

type Judge = (path: readonly string[], kind: string, text: string) => string | undefined;

/** The names below which anything may stand. */
const FREE = new Set([
  "input",
  "inputschema",
  "parameters",
  "schema",
  "arguments",
  "args",
  "response",
  "properties",
  "jsonschema",
  "outputschema",
  "metadata",
]);

const inFree = (path: readonly string[], from: number): boolean => {
  for (let at = from; at < path.length - 1; at++) if (FREE.has(path[at] ?? "")) return true;
  return false;
};

const field = (name: string): string => `The field "${quoted(name)}"`;
const kindOf = (name: string, text: string): string => `${field(name)} with "${quoted(text)}"`;

/** What these values of a beta's header, or field, switch on reads uploaded files, runs code at the provider, or calls addresses that the request names. */
export const REMOTE_BETA = /(?:^|[\s,"])(?:mcp-client|mcp-servers|files-api|code-execution|web-fetch|skills|managed-agents)/i;
const ANTHROPIC_TOOL = /^(?:custom|(?:bash|text_editor|computer|memory)_[0-9]{8}|tool_search_tool_(?:regex|bm25)(?:_[0-9]{8})?)$/;
const ANTHROPIC_SOURCE = /^(?:base64|text|content)$/;

const anthropic: Judge = (given, kind, text) => {
  // a batch has the parameters of many
  const path = given[0] === "requests" && given[2] === "params" ? given.slice(3) : given;
  const last = path.at(-1) ?? "";
  if (path.length === 1 && /^(?:mcpservers|skills|environment|webhookurl)$/.test(last)) return field(last);
  if (/^(?:anthropicbeta|betas)$/.test(path[0] ?? "") && REMOTE_BETA.test(text)) return kindOf(path[0] ?? "", text);
  if (path.length === 1 && last === "container" && !(kind === "other" && text === "null")) return field(last);
  if (path[0] === "tools" && path.length === 3 && last === "type" && !(kind === "string" && ANTHROPIC_TOOL.test(text)))
    return kindOf("tools type", text);
  if (path[0] === "tools" && path.length === 3 && /^mcp/.test(last)) return field(last);
  if ((path[0] !== "messages" && path[0] !== "system") || inFree(path, 1)) return undefined;
  if (path.at(-2) === "source" && last === "type" && !(kind === "string" && ANTHROPIC_SOURCE.test(text)))
    return kindOf("source type", text);
  if (path.at(-2) === "source" && (last === "url" || last === "fileid")) return field(last);
  if (last === "fileid") return field(last);
  return undefined;
};

const OPENAI_TOOL =
  /^(?:function|custom|local_shell|shell|apply_patch|computer|computer_use_preview|image_generation|namespace|tool_search|grammar)$/;
const OPENAI_FIELDS = new Set(
  `websearchoptions searchparameters searchoptions plugins connectors datasources mcpservers mcp websearch enablesearch onlinesearch
  webhook webhookurl callbackurl notificationurl serverurl connectorid toolresources searchsettings compoundcustom`.split(/\s+/),
);
const ADDRESS = /^(?:image|file|video|audio|document|inputaudio|thumbnail)(?:url|uri)$/;
/** Several hosts take an address where others take data: `input_audio`, `file_data`, `reference_images`, `image_loras[].path`, … */
const HAS_ADDRESS = /^\s*[a-z][a-z0-9+.-]*:\/\//i;
const MEDIA = /image|file|video|audio|document(?!s$)|media|frame|mask|lora|thumbnail|pdf/;
const PLACE = /^(?:url|uri|path|src|href|link|data|source|location)$/;

function isFetched(path: readonly string[], text: string): boolean {
  if (!HAS_ADDRESS.test(text)) return false;
  const [last = "", above = ""] = path.filter((name) => name !== "[]").reverse();
  return (MEDIA.test(last) && !/name$/.test(last)) || (PLACE.test(last) && MEDIA.test(above));
}

/** Models that search or browse by themselves. */
const BROWSING_MODEL = /(?:^|[-/:])(?:online|compound|sonar|search)(?:$|[-/:])|deep-?research/i;

const openai: Judge = (path, kind, text) => {
  const last = path.at(-1) ?? "";
  if (path.length === 1 && OPENAI_FIELDS.has(last) && !(kind === "other" && /^(?:null|false)$/.test(text))) return field(last);
  if ((path.length === 1 && last === "model") || (path.length === 2 && path[0] === "models")) {
    return kind === "string" && BROWSING_MODEL.test(text) ? kindOf("model", text) : undefined;
  }
  if (inFree(path, 1)) return undefined;
  if (path.at(-3) === "tools" && path.at(-2) === "[]") {
    if (last === "type" && !(kind === "string" && OPENAI_TOOL.test(text))) return kindOf("tools type", text);
    if (/^(?:server|connector)(?:url|id|label)$/.test(last)) return field(last);
  }
  if (path.at(-2) === "environment" && last === "type" && path.includes("tools") && !(kind === "string" && text === "local")) {
    return kindOf("environment type", text);
  }
  const address = ADDRESS.test(last) || (/^(?:url|uri)$/.test(last) && (ADDRESS.test(path.at(-2) ?? "") || path.at(-2) === "inputaudio"));
  if (kind === "string" && ((address && text !== "" && !/^data:/i.test(text)) || isFetched(path, text))) {
    return `An address in ${field(last).replace("The", "the")}`;
  }
  // of a citation it only tells what was read
  if (last === "fileid" && kind === "string" && text !== "" && !path.includes("annotations")) return field(last);
  return undefined;
};

const GEMINI_TOOL = new Set(["functiondeclarations", "computeruse"]);
const GEMINI_FIELDS = new Set(["batch", "cachedcontent", "webhookconfig", "mcpservers", "retrieval"]);

const gemini: Judge = (given, kind, text) => {
  const path = given[0] === "requests" ? given.slice(2) : given[0] === "generatecontentrequest" ? given.slice(1) : given;
  const last = path.at(-1) ?? "";
  if (path.length === 1 && GEMINI_FIELDS.has(last) && !(kind === "other" && text === "null")) return field(last);
  // a tool is known by the name of its one field; protocol buffers read a single object where a list is meant
  const tools = path.indexOf("tools");
  if (tools === 0 && last !== "[]" && path.filter((part) => part !== "[]").length === 2 && !GEMINI_TOOL.has(last)) return field(last);
  if (inFree(path, 1)) return undefined;
  if (/^(?:filedata|fileuri|gcsuri|uri)$/.test(last)) return field(last);
  return undefined;
};
