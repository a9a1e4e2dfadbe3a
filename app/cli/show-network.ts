/** Requests, rules, keys and asks as a terminal shows them. What a guest named is one line without anything that drives a terminal. */
import {
  type AskView,
  type EgressRequest,
  type NetworkView,
  type OutgoingProxy,
  type Rule,
  type RuleDraft,
  type SecretView,
  visible,
} from "../contract/index.ts";
import { many, size } from "./show-changes.ts";

/** Text of any origin as a part of one line. */
export const oneLine = (text: string): string => visible(text).replaceAll("\n", "␊").replaceAll("\t", "␉");

/** `GET https://api.example.com/v1/items`; a connection that is passed on unread has only host and port. */
export function requestWords({ scheme, host, port, method, path, upgrade }: EgressRequest): string {
  const standard = (scheme === "https" && port === 443) || (scheme === "http" && port === 80);
  const place = standard ? host : `${host}:${port}`;
  if (scheme === "opaque") return oneLine(`a connection to ${place}`);
  return oneLine(`${method} ${scheme}://${place}${path}${upgrade ? " (upgrade)" : ""}`);
}

/** `allow GET, HEAD api.example.com /repos/**`, without how long it holds. */
export function ruleWords(rule: RuleDraft): string {
  const { decision, host, port, methods, paths, upgrade, opaque, credentials, requests, bytes, until, reason } = rule;
  const words = [decision, ...(methods ? [methods.join(",")] : []), port === undefined ? host : `${host}:${port}`, ...(paths ?? [])];
  const more: string[] = [];
  if (upgrade) more.push("upgrades too");
  if (opaque) more.push("passed on unread");
  if (credentials) more.push("with keys of the guest's own");
  if (rule.private !== undefined) more.push(`at addresses in ${rule.private}`);
  if (requests !== undefined) more.push(`at most ${many(requests, "request")}`);
  if (bytes !== undefined) more.push(`at most ${size(bytes)}`);
  if (until !== undefined) more.push(`until ${until.slice(0, 16).replace("T", " ")} UTC`);
  if (reason !== undefined) more.push(reason);
  return oneLine(`${words.join(" ")}${more.length > 0 ? ` (${more.join(", ")})` : ""}`);
}

const HOLDS: Readonly<Record<Rule["scope"], string>> = {
  once: "for one request",
  run: "until the machine stops",
  task: "for this task",
  always: "for every task",
};
export const holds = (scope: Rule["scope"]): string => HOLDS[scope];

/** A word as a shell takes it, whatever is in it. */
const quoted = (word: string) => (/^[A-Za-z0-9@%+=:./_-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

/** The exact command that makes the rule. */
export function allowLine(task: string, rule: RuleDraft): string {
  const words = ["cloche", rule.decision === "deny" ? "deny" : "allow", task, quoted(rule.host)];
  if (rule.port !== undefined) words.push("--port", String(rule.port));
  for (const method of rule.methods ?? []) words.push("--method", quoted(method));
  for (const path of rule.paths ?? []) words.push("--path", quoted(path));
  if (rule.upgrade) words.push("--upgrade");
  if (rule.opaque) words.push("--opaque");
  if (rule.credentials) words.push("--credentials", "guest");
  if (rule.private !== undefined) words.push("--private", quoted(rule.private));
  return oneLine(words.join(" "));
}

/** The option of `run` and `new` under which the rule's requests pass; undefined where no option does. */
export function allowOption(rule: RuleDraft): string | undefined {
  if (rule.upgrade || rule.opaque || rule.credentials || rule.private !== undefined) return undefined;
  return oneLine(`--allow ${quoted(rule.port === undefined ? rule.host : `${rule.host}:${rule.port}`)}`);
}

/** How a run ends that was refused something: one line for each host, with what lets it through. */
export function refusedLines(task: string, asks: readonly AskView[], gone: boolean): string[] {
  if (asks.length === 0) return [];
  const head = `cloche: ${many(asks.length, "host")} ${asks.length === 1 ? "was" : "were"} asked for and not allowed.`;
  if (!gone) return [`${head} To allow what was asked for:`, ...asks.map(({ offer }) => `  ${allowLine(task, offer)}`)];
  const lines = asks.map(({ offer, request }) => {
    const option = allowOption(offer);
    if (option !== undefined) return `  ${option}   # ${requestWords(request)}`;
    return `  no option allows ${requestWords(request)}; in a task that stays: ${allowLine("TASK", offer)}`;
  });
  return [`${head} To allow them, run it again with:`, ...lines];
}

/** What `cloche show` tells of a task's network: a word and a text each. */
export function networkRows(task: string, network: NetworkView): string[][] {
  const rows: string[][] = [];
  const nothing = network.presets.length === 0 && network.rules.length === 0;
  rows.push(["network", network.presets.join(", ") || (nothing ? "nothing is allowed" : "only by the rules below")]);
  for (const rule of network.rules) rows.push([`  ${rule.id}`, `${ruleWords(rule)}, ${holds(rule.scope)}`]);
  for (const { name, hosts, env } of network.secrets)
    rows.push(["key", oneLine(`${name} works at ${hosts.join(", ")}${env === undefined ? "" : `, stand-in in $${env}`}`)]);
  if (network.proxy) rows.push(["leaves", proxyWords(network.proxy)]);
  if (network.asks > 0) rows.push(["asks", `${many(network.asks, "host")} asked for that no rule decides: \`cloche asks ${task}\``]);
  if (network.problem !== undefined) rows.push(["", oneLine(`nothing passes: ${network.problem}`)]);
  return rows;
}

/** `through the proxy corp.example:3128, with the key corp`. */
export const proxyWords = ({ host, port, secret }: OutgoingProxy): string =>
  oneLine(`through the proxy ${host}:${port}${secret === undefined ? "" : `, with the key ${secret}`}`);

/** `keychain`, `memory until the keeper ends`, `variable X`, `file /x`, `command x y`. */
export function sourceWords(source: SecretView["source"]): string {
  switch (source.kind) {
    case "keychain":
      return "keychain";
    case "memory":
      return "memory, until the keeper ends";
    case "env":
      return `variable ${source.name}`;
    case "file":
      return oneLine(`file ${source.path}`);
    case "command":
      return oneLine(`command ${source.argv.map(quoted).join(" ")}`);
  }
}
