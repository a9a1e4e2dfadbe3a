/**
 * Settings of sandbox-runtime, read and written: of them what says which domains may be reached. What has no counterpart here is told
 * and not guessed. Its rules are of hosts alone, so an imported one allows every method and path; an export that would allow more
 * than the rule does is left out and told.
 */
import { z } from "zod";
import { firstIssue, type NetworkPreset, type Rule, type RuleDraft } from "../../../contract/index.ts";
import { matchesHost, parsePattern } from "./names.ts";
import { checkDraft } from "./rules.ts";

const settingsFile = z.looseObject({
  network: z
    .looseObject({
      allowedDomains: z.array(z.string().max(300)).max(512).optional(),
      deniedDomains: z.array(z.string().max(300)).max(512).optional(),
      deniedDomainReasons: z.record(z.string().max(300), z.string().max(512)).optional(),
    })
    .optional(),
});

export type Imported =
  | { readonly presets: NetworkPreset[]; readonly rules: RuleDraft[]; readonly notes: string[] }
  | { readonly problem: string };

export function importSettings(text: string): Imported {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return { problem: "they are not JSON." };
  }
  const parsed = settingsFile.safeParse(json);
  if (!parsed.success) return { problem: `they do not fit: ${firstIssue(parsed.error)}.` };
  const { network, ...others } = parsed.data;
  if (!network) return { problem: "they have no part `network`, so it is not said what may be reached." };
  const { allowedDomains = [], deniedDomains = [], deniedDomainReasons = {}, ...rest } = network;
  const rules: RuleDraft[] = [];
  for (const [decision, domains] of [
    ["deny", deniedDomains],
    ["allow", allowedDomains],
  ] as const) {
    for (const domain of domains) {
      const at = domainOf(domain);
      if ("unfit" in at) return { problem: at.unfit };
      const reason = decision === "deny" && Object.hasOwn(deniedDomainReasons, domain) ? deniedDomainReasons[domain] : undefined;
      const draft: RuleDraft = { decision, ...at, ...(reason ? { reason } : {}) };
      const unfit = checkDraft(draft);
      if (unfit !== undefined) return { problem: unfit };
      rules.push(draft);
    }
  }
  const notes = [...Object.keys(others), ...Object.keys(rest).map((key) => `network.${key}`)].map(
    (key) => `${JSON.stringify(key.slice(0, 64))} has no counterpart here and was left out.`,
  );
  if (rules.some(({ decision, port }) => decision === "allow" && port === undefined)) {
    notes.push("Hosts that are allowed without a port are reached at 443 with TLS and 80 without; name others as host:port.");
  }
  if (allowedDomains.length > 0)
    notes.push("The settings name no methods and paths, so each allowed host may be written to as well as read.");
  return { presets: [], rules: withoutUsualPorts(rules), notes: few(notes) };
}

/** A host that is allowed at both 443 and 80 is one rule without a port. */
function withoutUsualPorts(rules: readonly RuleDraft[]): RuleDraft[] {
  const allowedAt = (wanted: number) =>
    new Set(rules.flatMap(({ decision, host, port }) => (decision === "allow" && port === wanted ? [host] : [])));
  const [withTls, without] = [allowedAt(443), allowedAt(80)];
  return rules.flatMap((rule) => {
    if (rule.decision !== "allow" || !withTls.has(rule.host) || !without.has(rule.host) || (rule.port !== 443 && rule.port !== 80))
      return [rule];
    const { port, ...others } = rule;
    return port === 443 ? [others] : [];
  });
}

/** `example.com`, `*.example.com`, either with a port, or an IPv6 address in brackets. */
function domainOf(text: string): { host: string; port?: number } | { unfit: string } {
  const found = /^(\[[^\]]*\]|[^:]*)(?::([1-9][0-9]{0,4}))?$/.exec(text);
  const port = found?.[2] === undefined ? undefined : Number(found[2]);
  if (!found?.[1] || (port ?? 0) > 65_535) return { unfit: `${JSON.stringify(text)} is no domain.` };
  const pattern = parsePattern(found[1]);
  if ("unfit" in pattern) return pattern;
  return { host: pattern.below ? `*.${pattern.host}` : pattern.host, ...(port === undefined ? {} : { port }) };
}

/**
 * Settings that refuse all that the rules refuse, and allow nothing that they do not. Theirs allow every port where none is named, so
 * what has none goes out with the two that it is for.
 */
export function exportSettings(rules: readonly Rule[]): { settings: string; notes: string[] } {
  const allowedDomains = new Set<string>();
  const deniedDomains = new Set<string>();
  const reasons = new Map<string, string>();
  const notes: string[] = [];
  const asking: string[] = [];
  for (const { id, decision, host, port, reason, ...limits } of rules) {
    const place = port === undefined ? host : `${host}:${port}`;
    const { methods, paths, requests, bytes, until, opaque, private: range, credentials } = limits;
    const partly = [methods, paths, requests, bytes, until].some((limit) => limit !== undefined);
    if (decision === "deny") {
      deniedDomains.add(place);
      if (reason !== undefined && !reasons.has(place)) reasons.set(place, reason);
      if (partly || opaque) notes.push(`The rule ${id} refuses a part of ${place}; the whole host is refused instead.`);
    } else if (decision === "ask") {
      asking.push(host);
      notes.push(`The rule ${id} asks, which settings of hosts cannot say; it was left out.`);
    } else if (partly) {
      notes.push(`The rule ${id} allows a part of ${place}; it was left out, as the whole host would be allowed.`);
    } else if (opaque || range !== undefined || credentials) {
      notes.push(`The rule ${id} for ${place} says more than settings of hosts can; it was left out.`);
    } else if (asking.some((asked) => meet(asked, host))) {
      notes.push(`The rule ${id} for ${place} comes after one that asks; it was left out, as nobody would be asked.`);
    } else {
      for (const at of port === undefined ? [443, 80] : [port]) allowedDomains.add(`${host}:${at}`);
    }
  }
  const network = {
    allowedDomains: [...allowedDomains],
    deniedDomains: [...deniedDomains],
    ...(reasons.size > 0 ? { deniedDomainReasons: Object.fromEntries(reasons) } : {}),
  };
  return { settings: `${JSON.stringify({ network }, null, 2)}\n`, notes: few(notes) };
}

/** Whether some host is one that both patterns stand for. */
const meet = (one: string, other: string) =>
  one === other || [[one, other] as const, [other, one] as const].some(([wide, narrow]) => matchesHost(wide, narrow.replace("*", "any")));

const MAX_NOTES = 64;
const few = (notes: string[]) =>
  notes.length <= MAX_NOTES ? notes : [...notes.slice(0, MAX_NOTES - 1), `${notes.length - MAX_NOTES + 1} more of the kind.`];
