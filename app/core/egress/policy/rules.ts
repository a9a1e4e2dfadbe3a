/** What a rule must be like to be used, how requests are matched against it, and what a person is offered. */
import { type EgressRequest, firstIssue, MAX_RULES, type Rule, type RuleDraft, rule as ruleSchema } from "../../../contract/index.ts";
import { checkPrivate } from "./address.ts";
import { matchesHost, parseHost, parsePattern } from "./names.ts";
import { exactPattern, formsOf, matchesPath, type PathPattern, parsePathPattern } from "./path.ts";

/** Methods that are never passed on: the one makes a tunnel within, the others give headers back to whoever asks. */
export const NEVER: ReadonlySet<string> = new Set(["CONNECT", "TRACE", "TRACK"]);

/** Why a rule cannot be used, as a sentence; nothing where it can. */
export function checkDraft(draft: RuleDraft): string | undefined {
  const pattern = parsePattern(draft.host);
  if ("unfit" in pattern) return pattern.unfit;
  for (const path of draft.paths ?? []) {
    const parsed = parsePathPattern(path);
    if ("unfit" in parsed) return parsed.unfit;
  }
  if (/[\x00-\x1f\x7f-\x9f\u2028\u2029]/.test(draft.reason ?? "")) return "A rule's reason is one line without control characters.";
  const never = draft.methods?.find((method) => NEVER.has(method));
  if (never && draft.decision !== "deny") return `The method ${never} is never passed on.`;
  if (draft.opaque && (draft.methods || draft.paths || draft.upgrade || draft.credentials)) {
    return "What is passed on unread has no methods, paths, upgrades and keys to decide about.";
  }
  if (draft.decision === "deny" && (draft.requests !== undefined || draft.bytes !== undefined)) {
    return "A rule that refuses has no budget: it would let pass what comes after.";
  }
  if (draft.private === undefined) return undefined;
  if (draft.decision !== "allow") return "A range of private addresses goes with a rule that allows.";
  if (pattern.below) return "A range of private addresses goes with one exact host.";
  return checkPrivate(draft.private);
}

/** A rule with its patterns parsed. */
export interface Ready {
  readonly rule: Rule;
  readonly host: string;
  readonly paths?: readonly PathPattern[];
  /** milliseconds; absent: without an end */
  readonly until?: number;
}

/** A rule is a value: it is never changed in place, a changed policy has other ones. */
const prepared = new WeakMap<Rule, Ready | { unfit: string }>();

function prepare(rule: Rule): Ready | { unfit: string } {
  const read = ruleSchema.safeParse(rule);
  if (!read.success) return { unfit: firstIssue(read.error) };
  const { id: _id, scope: _scope, from: _from, created: _created, ...draft } = read.data;
  const unfit = checkDraft(draft);
  const host = parsePattern(draft.host);
  if (unfit !== undefined || "unfit" in host) return { unfit: unfit ?? "" };
  return {
    rule,
    host: host.below ? `*.${host.host}` : host.host,
    ...(draft.paths && { paths: draft.paths.map(parsePathPattern).filter((pattern) => "literals" in pattern) }),
    ...(draft.until !== undefined && { until: Date.parse(draft.until) }),
  };
}

/** Hosts of a list that are remembered with what of it is about them. */
const MAX_HOSTS = 256;

/** A list of rules that can be used. */
class ReadyRules {
  readonly #all: readonly Ready[];
  readonly #byHost = new Map<string, readonly Ready[]>();

  constructor(all: readonly Ready[]) {
    this.#all = all;
  }

  /** Those whose pattern stands for a host, in their order; nothing where it is not in its canonical form. */
  about(host: string): readonly Ready[] | undefined {
    const known = this.#byHost.get(host);
    if (known) return known;
    if (parseHost(host)?.host !== host) return undefined;
    const here = this.#all.filter((one) => matchesHost(one.host, host));
    if (this.#byHost.size === MAX_HOSTS) this.#byHost.clear();
    this.#byHost.set(host, here);
    return here;
  }
}

/** Lists that are frozen, so that what was made of them goes on to be true. */
const lists = new WeakMap<readonly Rule[], ReadyRules | { broken: string }>();

/**
 * The rules in their order; or why the policy cannot be used: one of them cannot, and it may be the one that refuses. A list that is
 * asked again and again is frozen by whoever has it.
 */
export function ready(rules: readonly Rule[]): ReadyRules | { broken: string } {
  const known = lists.get(rules);
  if (known) return known;
  const all = readyList(rules);
  const made = "broken" in all ? all : new ReadyRules(all);
  if (Array.isArray(rules) && Object.isFrozen(rules)) lists.set(rules, made);
  return made;
}

function readyList(rules: readonly Rule[]): readonly Ready[] | { broken: string } {
  if (!Array.isArray(rules) || rules.length > MAX_RULES) return { broken: `they are no list of at most ${MAX_RULES} rules` };
  const all: Ready[] = [];
  for (const rule of rules) {
    if (typeof rule !== "object" || rule === null) return { broken: "one of them is no rule" };
    let one = prepared.get(rule);
    if (!one) {
      one = prepare(rule);
      prepared.set(rule, one);
    }
    if ("unfit" in one) return { broken: `the rule ${String(rule.id).slice(0, 40)} cannot be used (${one.unfit.replace(/\.$/, "")})` };
    all.push(one);
  }
  return all;
}

export const usualPort = (scheme: EgressRequest["scheme"]) => (scheme === "http" ? 80 : 443);

/**
 * Whether a rule that refuses speaks of this request. It is read widely: without a port it is of every port, and what cannot be read may
 * be what it refuses.
 */
export function refuses({ rule, host, paths }: Ready, request: EgressRequest): boolean {
  if (!matchesHost(host, request.host) || (rule.port !== undefined && rule.port !== request.port)) return false;
  if (request.scheme === "opaque") return true;
  if (rule.opaque || (rule.methods && !rule.methods.includes(request.method))) return false;
  return !paths || formsOf(request.path).some((form) => paths.some((pattern) => matchesPath(pattern, form)));
}

/**
 * Why a rule that allows or asks does not speak of this request to its host, as the rest of a sentence; nothing where it does. It is
 * read narrowly: without a port it is of 443 with TLS or unread and of 80 without, and upgrades and unread connections are named in it.
 */
export function differs({ rule, paths }: Ready, request: EgressRequest): string | undefined {
  const port = rule.port ?? usualPort(request.scheme);
  if (port !== request.port) return `is for port ${port}`;
  if (request.scheme === "opaque") return rule.opaque ? undefined : "allows only what can be read as HTTP";
  if (rule.opaque) return "is for connections that are passed on unread";
  if (rule.methods && !rule.methods.includes(request.method)) return `is for ${rule.methods.slice(0, 8).join(", ")} only`;
  if (paths && !formsOf(request.path).every((form) => paths.some((pattern) => matchesPath(pattern, form)))) return "is for other paths";
  if (request.upgrade && rule.decision === "allow" && !rule.upgrade) return "allows no upgrade such as WebSocket";
  return undefined;
}

/** The narrowest rule under which the request passes. */
export function narrowestRule(request: EgressRequest): RuleDraft {
  const { scheme, host, port, method, path, upgrade } = request;
  const at = { decision: "allow", host, ...(port === usualPort(scheme) ? {} : { port }) } as const;
  if (scheme === "opaque") return { ...at, opaque: true };
  return {
    ...at,
    ...(/^[A-Z]{1,32}$/.test(method) ? { methods: [method] } : {}),
    ...(path.startsWith("/") ? { paths: [...new Set(formsOf(path).map(exactPattern))] } : {}),
    ...(upgrade ? { upgrade: true as const } : {}),
  };
}

/** The command that makes that rule: one line that a shell takes as it is, whatever the guest asked for. */
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

const quoted = (word: string) =>
  /^[A-Za-z0-9_./:@%+=-]+$/.test(word) ? word : `'${word.replace(/[^\x20-\x7e]/g, "").replaceAll("'", `'\\''`)}'`;

/** The host and port of a URL's or a request's authority. */
export function hostAndPort(authority: string, usual: number): { host: string; port: number } | undefined {
  const found = /^(\[[^\]]*\]|[^:]*)(?::([1-9][0-9]{0,4}))?$/.exec(authority);
  const host = found?.[1] === undefined ? undefined : parseHost(found[1]);
  const port = found?.[2] === undefined ? usual : Number(found[2]);
  return host && port <= 65_535 ? { host: host.host, port } : undefined;
}
