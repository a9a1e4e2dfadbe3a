/**
 * The decision about one request: pure, so that proxy, `policy test`, `policy replay` and the tests all ask the same function.
 *
 * A deny that fits wins over everything. Of the others the first that fits decides, and the list has the newest first. Where none fits
 * the answer is `ask`: nobody has allowed it, and whoever can answer may be asked.
 */
import type { EgressDecision, EgressRequest, Rule } from "../../../contract/index.ts";
import { normalPath } from "./path.ts";
import { fits, hostAndPort } from "./rules.ts";

export type Spending = (rule: Rule) => { readonly requests: number; readonly bytes: number };
export type Decided = EgressDecision & { readonly matched?: Rule };

/** Methods that are never passed on: the one is the proxy's own, the other gives headers back to whoever asks. */
const NEVER = new Set(["CONNECT", "TRACE", "TRACK"]);

export function decide(request: EgressRequest, rules: readonly Rule[], now: Date, spent?: Spending): Decided {
  if (NEVER.has(request.method)) return { decision: "deny", rule: "default", reason: `The method ${request.method} is never passed on.` };
  const holding = rules.filter((rule) => holds(rule, now) && fits(rule, request));
  const denied = holding.find(({ decision }) => decision === "deny");
  if (denied) return verdict(denied, request);
  const first = holding.find((rule) => !isSpent(rule, spent));
  if (first) return verdict(first, request);
  const used = holding[0];
  if (used)
    return {
      decision: "deny",
      rule: used.id,
      reason: `The rule ${used.id} allows ${what(request)}, but what it allows is used up.`,
      matched: used,
    };
  return { decision: "ask", rule: "default", reason: `No rule of this task allows ${what(request)}.` };
}

/** The rule by which a connection is passed on unread; none unless one says so. */
export function opaqueRule(host: string, port: number, rules: readonly Rule[], now: Date, spent?: Spending): Rule | undefined {
  const { decision, matched } = decide({ scheme: "opaque", host, port, method: "", path: "", upgrade: false }, rules, now, spent);
  return decision === "allow" ? matched : undefined;
}

const holds = ({ until }: Rule, now: Date) => until === undefined || now.getTime() < Date.parse(until);

function isSpent(rule: Rule, spent: Spending | undefined): boolean {
  if (rule.requests === undefined && rule.bytes === undefined) return false;
  const { requests, bytes } = spent?.(rule) ?? { requests: 0, bytes: 0 };
  return (rule.requests !== undefined && requests >= rule.requests) || (rule.bytes !== undefined && bytes >= rule.bytes);
}

function verdict(rule: Rule, request: EgressRequest): Decided {
  const { decision, id } = rule;
  const why = rule.reason === undefined ? "" : ` (${rule.reason})`;
  const says = { allow: "allows", deny: "refuses", ask: "asks about" }[decision];
  return { decision, rule: id, reason: `The rule ${id} ${says} ${what(request)}${why}.`.slice(0, 1024), matched: rule };
}

function what({ scheme, host, port, method, path, upgrade }: EgressRequest): string {
  if (scheme === "opaque") return `a connection to ${host}:${port} that cannot be read`;
  const shown = path.length > 200 ? `${path.slice(0, 200)}…` : path;
  return `${method} ${scheme}://${host}${port === (scheme === "http" ? 80 : 443) ? "" : `:${port}`}${shown}${upgrade ? " as an upgrade (WebSocket)" : ""}`;
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
