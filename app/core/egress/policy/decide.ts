/**
 * The decision about one request: pure, so that proxy, `policy test`, `policy replay` and the tests all ask the same function.
 *
 * A deny that fits wins over everything. Of the others the first that fits decides, and the list has the newest first. Where none fits
 * the answer is `ask`: nobody has allowed it, and whoever can answer may be asked. A policy of which one rule cannot be used refuses
 * everything, and so does a request that is not in the strict form in which it was to be decided.
 */
import type { EgressDecision, EgressRequest, Rule } from "../../../contract/index.ts";
import { isDecided, normalPath } from "./path.ts";
import { differs, hostAndPort, NEVER, type Ready, ready, refuses } from "./rules.ts";

export type Spending = (rule: Rule) => { readonly requests: number; readonly bytes: number };
export type Decided = EgressDecision & { readonly matched?: Rule };

/**
 * @param rules newest first; a rule is never changed in place
 * @param spent what rules with a budget have let through; absent: nothing so far
 */
export function decide(request: EgressRequest, rules: readonly Rule[], now: Date, spent?: Spending): Decided {
  const all = ready(rules);
  if ("broken" in all)
    return {
      decision: "deny",
      rule: "broken",
      reason: `The task's rules cannot be used, so nothing passes: ${all.broken}.`.slice(0, 1024),
    };
  const unread = request.scheme === "opaque";
  if (!unread && (NEVER.has(request.method) || !/^[A-Z]{1,32}$/.test(request.method))) {
    return { decision: "deny", rule: "method", reason: `The method ${request.method.slice(0, 32)} is never passed on.` };
  }
  const here = all.about(request.host);
  if (!here || !(unread || isDecided(request.path))) {
    return { decision: "deny", rule: "form", reason: `The request's ${unread ? "host" : "host or path"} is not in its strict form.` };
  }
  const denied = here.find((one) => one.rule.decision === "deny" && !isOver(one, now) && refuses(one, request));
  if (denied) return verdict(denied.rule, request);
  let near = "";
  for (const one of here) {
    const { decision, id } = one.rule;
    if (decision === "deny") continue;
    const why = differs(one, request) ?? (isOver(one, now) ? `held until ${one.rule.until}` : spentWords(one.rule, spent));
    if (why === undefined) return verdict(one.rule, request);
    if (near === "" && decision === "allow") near = ` The rule ${id} ${why}.`;
  }
  return { decision: "ask", rule: "default", reason: `No rule of this task allows ${what(request)}.${near}`.slice(0, 1024) };
}

/** The rule by which a connection is passed on unread; none unless one says so. */
export function opaqueRule(host: string, port: number, rules: readonly Rule[], now: Date, spent?: Spending): Rule | undefined {
  const { decision, matched } = decide({ scheme: "opaque", host, port, method: "", path: "", upgrade: false }, rules, now, spent);
  return decision === "allow" ? matched : undefined;
}

/** Where the clock cannot be read, what allows is over and what refuses is not. */
function isOver({ rule, until }: Ready, now: Date): boolean {
  if (until === undefined) return false;
  return rule.decision === "deny" ? now.getTime() >= until : !(now.getTime() < until);
}

function spentWords(rule: Rule, spent: Spending | undefined): string | undefined {
  if (rule.requests === undefined && rule.bytes === undefined) return undefined;
  const { requests, bytes } = spent?.(rule) ?? { requests: 0, bytes: 0 };
  if (rule.requests !== undefined && !(requests < rule.requests)) return `was for ${rule.requests} requests, which are used up`;
  if (rule.bytes !== undefined && !(bytes < rule.bytes)) return `was for ${rule.bytes} bytes, which are used up`;
  return undefined;
}

function verdict(rule: Rule, request: EgressRequest): Decided {
  const { decision, id } = rule;
  const why = rule.reason === undefined ? "" : ` (${rule.reason})`;
  const says = { allow: "allows", deny: "refuses", ask: "asks about" }[decision];
  return { decision, rule: id, reason: `The rule ${id} ${says} ${what(request)}${why}.`.slice(0, 1024), matched: rule };
}

/** Such as "POST to api.example.com:443/v1/x". */
function what({ scheme, host, port, method, path, upgrade }: EgressRequest): string {
  if (scheme === "opaque") return `a connection to ${host}:${port} that cannot be read`;
  const shown = path.length > 200 ? `${path.slice(0, 200)}…` : path;
  return `${method} to ${host}:${port}${shown}${scheme === "http" ? " without TLS" : ""}${upgrade ? " as an upgrade (WebSocket)" : ""}`;
}

/** A request as a person writes it down; nothing where the URL or the method is none. */
export function parseUrl(method: string, url: string): EgressRequest | undefined {
  const found = /^(https?|wss?):\/\/([^/?#]*)([/?].*)?$/.exec(url);
  if (!found || !/^[A-Z]{1,32}$/.test(method)) return undefined;
  const scheme = found[1] === "https" || found[1] === "wss" ? "https" : "http";
  const to = hostAndPort(found[2] ?? "", scheme === "https" ? 443 : 80);
  const rest = found[3] ?? "/";
  const path = normalPath(rest.startsWith("?") ? `/${rest}` : rest);
  if (!to || !path) return undefined;
  return { scheme, ...to, method, path: path.decided, upgrade: found[1]?.startsWith("ws") ?? false };
}
