/** What a rule must be like to be used, how requests are matched against it, and what a person is offered. */
import type { EgressRequest, Rule, RuleDraft } from "../../../contract/index.ts";
import { parseCidr } from "./address.ts";
import { matchesHost, parseHost, parsePattern } from "./names.ts";
import { formsOf, matchesPath } from "./path.ts";

/** Wildcards of one path pattern: more make matching slow, and no path needs them. */
const MAX_WILDCARDS = 6;

/** Why a rule cannot be used, as a sentence; nothing where it can. */
export function checkDraft(draft: RuleDraft): string | undefined {
  const pattern = parsePattern(draft.host);
  if ("unfit" in pattern) return pattern.unfit;
  const { paths = [], methods = [] } = draft;
  for (const path of paths) {
    if ((path.match(/\*+/g) ?? []).length > MAX_WILDCARDS)
      return `The path ${JSON.stringify(path)} has more than ${MAX_WILDCARDS} wildcards.`;
    if (!/^\/[\x21-\x7e]*$/.test(path)) return `The path ${JSON.stringify(path)} holds characters that no path has.`;
  }
  const never = methods.find((method) => method === "CONNECT" || method === "TRACE");
  if (never && draft.decision !== "deny") return `The method ${never} is never passed on.`;
  if (draft.opaque && (methods.length > 0 || paths.length > 0 || draft.upgrade || draft.credentials)) {
    return "What is passed on unread has no methods, paths, upgrades and keys to decide about.";
  }
  if (draft.private === undefined) return undefined;
  if (draft.decision !== "allow") return "A range of private addresses goes with a rule that allows.";
  if (pattern.below) return "A range of private addresses goes with one exact host.";
  return parseCidr(draft.private) ? undefined : `${JSON.stringify(draft.private)} is no range of addresses such as 10.1.2.0/24.`;
}

const usualPort = (scheme: EgressRequest["scheme"]) => (scheme === "http" ? 80 : 443);

/** Whether the rule speaks of this request. What of an unread connection cannot be known counts for a refusal, and against an allowance. */
export function fits(rule: Rule, request: EgressRequest): boolean {
  if (!matchesHost(rule.host, request.host)) return false;
  const denies = rule.decision === "deny";
  // a refusal without a port is of the host, whatever the port
  if (rule.port === undefined ? !denies && request.port !== usualPort(request.scheme) : rule.port !== request.port) return false;
  if (request.scheme === "opaque") return denies || rule.opaque === true;
  if (rule.opaque && !denies) return false;
  if (rule.methods && !rule.methods.includes(request.method)) return false;
  if (request.upgrade && rule.decision === "allow" && !rule.upgrade) return false;
  if (!rule.paths) return true;
  const { paths } = rule;
  const fit = (form: string) => paths.some((pattern) => matchesPath(pattern, form));
  return denies ? formsOf(request.path).some(fit) : formsOf(request.path).every(fit);
}

/** The narrowest rule under which the request passes. */
export function narrowestRule(request: EgressRequest): RuleDraft {
  const { scheme, host, port, method, path, upgrade } = request;
  const at = { decision: "allow", host, ...(port === usualPort(scheme) ? {} : { port }) } as const;
  if (scheme === "opaque") return { ...at, opaque: true };
  const exact = path.startsWith("/") && path.length <= 1024 && !path.includes("*") ? { paths: [...formsOf(path)] } : {};
  return {
    ...at,
    ...(/^[A-Z]{1,32}$/.test(method) ? { methods: [method] } : {}),
    ...exact,
    ...(upgrade ? { upgrade: true as const } : {}),
  };
}

/** The command that makes that rule. */
export function allowLine(task: string, request: EgressRequest): string {
  const { host, port, methods = [], paths = [], upgrade, opaque } = narrowestRule(request);
  const words = ["cloche", "allow", task, host];
  if (port !== undefined) words.push("--port", String(port));
  for (const method of methods) words.push("--method", method);
  for (const path of paths) words.push("--path", path);
  if (upgrade) words.push("--upgrade");
  if (opaque) words.push("--opaque");
  return words.map(quoted).join(" ");
}

const quoted = (word: string) => (/^[A-Za-z0-9_./:@%+=-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`);

/** The host and port of a URL's or a request's authority. */
export function hostAndPort(authority: string, usual: number): { host: string; port: number } | undefined {
  const found = /^(\[[^\]]*\]|[^:]*)(?::([1-9][0-9]{0,4}))?$/.exec(authority);
  const host = found?.[1] === undefined ? undefined : parseHost(found[1]);
  const port = found?.[2] === undefined ? usual : Number(found[2]);
  return host && port <= 65_535 ? { host: host.host, port } : undefined;
}
