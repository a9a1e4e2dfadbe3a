/** The wall's words about the network: made of what is decided, never of intentions. */
import type { EgressRequest, OutgoingProxy, Rule } from "../../../contract/index.ts";
import { decide } from "./decide.ts";
import { matchesHost } from "./names.ts";

/** Hosts that a sentence names; of more it says how many there are. */
const NAMED = 6;
/** A label and a segment that no rule has by chance. */
const ANY = "any-0f3c";

type Key = { readonly name: string; readonly hosts: readonly string[] };

/**
 * Such as "reach api.example.com with your key work (it never sees it) and 31 hosts of packages"; empty where nothing may be reached.
 * Behind it stands the outgoing proxy, where one is set and something is reached through it.
 * A rule counts where `decide` lets a request pass that is made to fit it: one that others refuse or that is over is not told of.
 */
export function networkWords(rules: readonly Rule[], secrets: readonly Key[], now = new Date(), proxy?: OutgoingProxy): string {
  const effective = rules.filter((rule) => rule.decision === "allow" && isReached(rule, rules, now));
  const own = effective.filter(({ from }) => from !== "preset");
  const hosts = Map.groupBy(own, placeOf);
  const parts = [...hosts].slice(0, NAMED).map(([place, of]) => hostWords(place, of, secrets));
  if (hosts.size > NAMED) parts.push(`${hosts.size - NAMED} more hosts`);
  const presets = Map.groupBy(
    effective.filter(({ from }) => from === "preset"),
    ({ id }) => id.slice(0, id.indexOf("/")),
  );
  for (const [preset, of] of presets) {
    const keys = secrets.filter((key) => reaches(key, of) && !reaches(key, own));
    parts.push(`${new Set(of.map(({ host }) => host)).size} hosts of ${preset}${keyWords(keys)}`);
  }
  if (parts.length === 0) return "";
  const through = proxy && effective.some((rule) => rule.private === undefined);
  return `reach ${list(parts)}${through ? ` through your proxy ${proxy.host}:${proxy.port}` : ""}`;
}

/** Names of the keys that have no place to go to: no host that they are bound to is reached where requests are read. */
export function idleKeys(rules: readonly Rule[], secrets: readonly Key[], now = new Date()): string[] {
  const lets = (key: Key) => (rule: Rule) =>
    rule.decision === "allow" && !rule.opaque && reaches(key, [rule]) && isReached(rule, rules, now);
  return secrets.filter((key) => !rules.some(lets(key))).map(({ name }) => name);
}

function isReached(rule: Rule, rules: readonly Rule[], now: Date): boolean {
  for (const request of examples(rule)) if (decide(request, rules, now).decision === "allow") return true;
  return false;
}

const placeOf = ({ host, port }: Rule) => (port === undefined ? host : `${host}:${port}`);

/** What all the rules for one place let through there together. */
function hostWords(place: string, rules: readonly Rule[], secrets: readonly Key[]): string {
  const read = rules.filter(({ opaque }) => !opaque);
  const partly = rules.every(({ paths }) => paths !== undefined);
  const reading = rules.every(({ methods }) => methods?.every((method) => method === "GET" || method === "HEAD"));
  const ranges = new Set(rules.flatMap((rule) => rule.private ?? []));
  return [
    partly ? `parts of ${place}` : place,
    ranges.size > 0 ? ` in your own network (${[...ranges].join(", ")})` : "",
    reading ? " to read only" : "",
    read.length < rules.length ? " unread" : "",
    keyWords(secrets.filter((key) => reaches(key, read))),
    rules.some(({ credentials }) => credentials === "guest") ? " with keys of its own" : "",
  ].join("");
}

const reaches = ({ hosts }: Key, rules: readonly Rule[]) => rules.some(({ host }) => hosts.some((bound) => matchesHost(host, bound)));

function keyWords(keys: readonly Key[]): string {
  if (keys.length === 0) return "";
  const one = keys.length === 1;
  return ` with your ${one ? "key" : "keys"} ${list(keys.map(({ name }) => name))} (it never sees ${one ? "it" : "them"})`;
}

const list = (parts: readonly string[]) => (parts.length < 2 ? parts.join("") : `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}`);

/** Requests that the rule itself lets pass, in each port, method and path that it names. */
function* examples({ host, port, methods, paths, opaque }: Rule): Generator<EgressRequest> {
  const name = host.replace("*", ANY);
  if (opaque) {
    yield { scheme: "opaque", host: name, port: port ?? 443, method: "", path: "", upgrade: false };
    return;
  }
  for (const scheme of ["https", "http"] as const) {
    for (const method of methods ?? ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]) {
      for (const path of paths ?? [`/${ANY}`, "/"]) {
        yield {
          scheme,
          host: name,
          port: port ?? (scheme === "https" ? 443 : 80),
          method,
          path: path.replace(/\*+/g, ANY),
          upgrade: false,
        };
      }
    }
  }
}
