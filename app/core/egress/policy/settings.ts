/**
 * Settings of sandbox-runtime, read and written: of them what says which domains may be reached. What has no counterpart here is told
 * and not guessed. Its rules are of hosts alone, so an imported one allows every method and path; an export that would allow more
 * than the rule does is left out and told.
 */
import { z } from "zod";
import { firstIssue, type NetworkPreset, type Rule, type RuleDraft } from "../../../contract/index.ts";
import { parsePattern } from "./names.ts";

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
      const reason = decision === "deny" ? deniedDomainReasons[domain] : undefined;
      rules.push({ decision, ...at, ...(reason ? { reason } : {}) });
    }
  }
  const notes = [...Object.keys(others), ...Object.keys(rest).map((key) => `network.${key}`)]
    .slice(0, 60)
    .map((key) => `${JSON.stringify(key.slice(0, 64))} has no counterpart here and was left out.`);
  return { presets: [], rules, notes };
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

export function exportSettings(rules: readonly Rule[]): { settings: string; notes: string[] } {
  const allowedDomains = new Set<string>();
  const deniedDomains = new Set<string>();
  const notes: string[] = [];
  for (const rule of rules) {
    const { id, decision, host, port, methods, paths, opaque, private: range, requests, bytes, until, credentials } = rule;
    const domain = port === undefined ? host : `${host}:${port}`;
    const narrowed = methods || paths || requests !== undefined || bytes !== undefined || until !== undefined;
    if (decision === "ask") notes.push(`The rule ${id} asks, which settings of hosts cannot say; it was left out.`);
    else if (decision === "deny" && narrowed) notes.push(`The rule ${id} refuses a part of ${domain}; the whole host is refused instead.`);
    else if (narrowed) notes.push(`The rule ${id} allows a part of ${domain}; it was left out, as the whole host would be allowed.`);
    else if (opaque || range || credentials)
      notes.push(`The rule ${id} for ${domain} says more than settings of hosts can; it was left out.`);
    if (decision === "deny") deniedDomains.add(domain);
    else if (decision === "allow" && !narrowed && !opaque && !range && !credentials) allowedDomains.add(domain);
  }
  const network = { allowedDomains: [...allowedDomains], deniedDomains: [...deniedDomains] };
  return { settings: `${JSON.stringify({ network }, null, 2)}\n`, notes: notes.slice(0, 64) };
}
