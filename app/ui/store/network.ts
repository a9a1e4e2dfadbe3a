/**
 * What each task reached or was refused, merged so that a guest which tries ten thousand names fills neither memory nor the screen:
 * one row for requests that are alike, rows of one registrable domain together, bounded numbers of both.
 */
import { getDomain } from "tldts";
import type { StateCreator } from "zustand/vanilla";
import { type AskView, type EgressEntry, type EgressRequest, type EventEnvelope, eventData, type Rule } from "../../contract/index.ts";
import type { State } from "./store.ts";

export const MAX_SITES = 100;
export const MAX_ROWS = 20;

/** Requests that differ in nothing but their time. */
export interface Row {
  readonly key: string;
  readonly request: EgressRequest;
  readonly decision: "allow" | "deny";
  readonly rule: string;
  readonly reason: string;
  readonly count: number;
  /** of the newest, in ms since 1970 */
  readonly at: number;
  /** the key that was put in on the way out */
  readonly secret?: string;
  readonly status?: number;
  readonly fault?: string;
  /** of all of them that have ended */
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

/** The rows of one registrable domain. */
export interface Site {
  readonly domain: string;
  /** as they first came, newest first, so that a row stays where it is while a hand moves towards it */
  readonly rows: readonly Row[];
  readonly allowed: number;
  readonly refused: number;
  /** rows that were left out for want of room */
  readonly forgotten: number;
}

export interface Reached {
  /** as they first came, newest first */
  readonly sites: readonly Site[];
  /** domains that were left out for want of room */
  readonly forgotten: number;
}
export const NOTHING: Reached = { sites: [], forgotten: 0 };

export interface NetworkSlice {
  /** by task id */
  readonly reached: Readonly<Record<string, Reached>>;
  /** of every task: those that wait first, then the newest; undefined until the first list */
  readonly asks: readonly AskView[] | undefined;
  /** by task id: the rules that hold, those of presets and of every task among them; undefined until the first list */
  readonly rules: Readonly<Record<string, readonly Rule[]>>;
  /** the newest event that tells of another policy, and of other keys */
  readonly changed: Readonly<{ policy: number; keys: number }>;
  applyNetworkEvents(events: readonly EventEnvelope[]): void;
  applyAsks(asks: readonly AskView[]): void;
  applyRules(task: string, rules: readonly Rule[]): void;
}

/** The part of a name that somebody registered; the host itself where there is none. */
const domainOf = (host: string) => getDomain(host, { allowPrivateDomains: true }) ?? host;
const keyOf = ({ scheme, host, port, method, path, upgrade }: EgressRequest) => JSON.stringify([scheme, host, port, method, path, upgrade]);

/** Pure. What was allowed is left out last: a flood of refused names must not hide where something went. */
export function withEntries(before: Reached, entries: readonly EgressEntry[]): Reached {
  const sites = new Map(before.sites.toReversed().map((site) => [site.domain, site])); // oldest first, and new ones come last
  let { forgotten } = before;
  for (const entry of entries) {
    const domain = domainOf(entry.request.host);
    const site = sites.get(domain);
    if (entry.what === "ended") {
      if (site) sites.set(domain, withEnd(site, entry));
      continue;
    }
    sites.set(domain, withDecision(site ?? { domain, rows: [], allowed: 0, refused: 0, forgotten: 0 }, entry));
    if (sites.size > MAX_SITES) {
      const others = [...sites.values()].filter((one) => one !== sites.get(domain));
      const left = others.find((one) => one.allowed === 0) ?? others[0];
      sites.delete(left?.domain ?? domain);
      forgotten++;
    }
  }
  return { sites: [...sites.values()].toReversed(), forgotten };
}

function withDecision(site: Site, entry: EgressEntry): Site {
  const { request, decision = "deny", rule = "", reason = "", at, secret } = entry;
  const key = JSON.stringify([keyOf(request), decision, rule]);
  const known = site.rows.find((row) => row.key === key);
  const row: Row = {
    ...(known ?? { key, request, decision, rule, sentBytes: 0, receivedBytes: 0 }),
    reason,
    count: (known?.count ?? 0) + 1,
    at,
    ...(secret === undefined ? {} : { secret }),
  };
  const rows = known ? site.rows.map((one) => (one === known ? row : one)) : [row, ...site.rows];
  const full = rows.length > MAX_ROWS;
  const out = full ? (rows.findLast((one) => one.decision === "deny" && one !== row) ?? rows.at(-1)) : undefined;
  return {
    domain: site.domain,
    rows: rows.filter((one) => one !== out),
    allowed: site.allowed + (decision === "allow" ? 1 : 0),
    refused: site.refused + (decision === "deny" ? 1 : 0),
    forgotten: site.forgotten + (full ? 1 : 0),
  };
}

function withEnd(site: Site, { request, rule, status, fault, secret, sentBytes = 0, receivedBytes = 0 }: EgressEntry): Site {
  const key = keyOf(request);
  const ended = site.rows.find(
    (row) => row.decision === "allow" && keyOf(row.request) === key && (rule === undefined || row.rule === rule),
  );
  if (!ended) return site;
  const row: Row = {
    ...ended,
    ...(status === undefined ? {} : { status }),
    ...(fault === undefined ? {} : { fault }),
    ...(secret === undefined ? {} : { secret }),
    sentBytes: ended.sentBytes + sentBytes,
    receivedBytes: ended.receivedBytes + receivedBytes,
  };
  return { ...site, rows: site.rows.map((one) => (one === ended ? row : one)) };
}

/** Of the user's rules those that gave a row its verdict, and those that were made of its request since. */
export const rulesAbout = ({ rule, request }: Row, own: readonly Rule[]): Rule[] =>
  own.filter((one) => one.id === rule || isMadeOf(one, request));

/** As the rules are that are offered for a request: its host, and at most its port, method and path. */
const isMadeOf = ({ host, port, methods, paths, opaque }: Rule, request: EgressRequest): boolean =>
  host === request.host &&
  (opaque === true) === (request.scheme === "opaque") &&
  (port === undefined || port === request.port) &&
  (methods === undefined || methods.includes(request.method)) &&
  (paths === undefined || paths.includes(request.path));

const isEgress = ({ kind }: EventEnvelope) => kind === "egress.decided" || kind === "egress.ended";
const newest = (events: readonly EventEnvelope[], about: string, before: number) =>
  events.findLast(({ kind }) => kind.startsWith(about))?.id ?? before;

export const networkSlice: StateCreator<State, [], [], NetworkSlice> = (set, get) => ({
  reached: {},
  asks: undefined,
  rules: {},
  changed: { policy: 0, keys: 0 },
  applyNetworkEvents: (events) => {
    const reached: Record<string, Reached> = {};
    for (const [task, of] of Map.groupBy(events.filter(isEgress), (event) => event.task)) {
      if (task === undefined) continue;
      const entries = of.flatMap(({ data }) => eventData["egress.decided"].safeParse(data).data?.entries ?? []);
      reached[task] = withEntries(get().reached[task] ?? NOTHING, entries);
    }
    const { policy, keys } = get().changed;
    const changed = { policy: newest(events, "policy.", policy), keys: newest(events, "secret.", keys) };
    set({ reached: { ...get().reached, ...reached }, changed });
  },
  applyAsks: (asks) => set({ asks }),
  applyRules: (task, rules) => set({ rules: { ...get().rules, [task]: rules } }),
});
