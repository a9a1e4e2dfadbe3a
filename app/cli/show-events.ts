/** Events as lines for people. What a guest claimed is said to be its claim, and nothing of it drives the terminal. */
import { type EgressEntry, type EventEnvelope, type EventKind, type EventOf, eventData, type Problem } from "../contract/index.ts";
import { many, size } from "./show-changes.ts";
import { holds, oneLine, proxyWords, requestWords, ruleWords } from "./show-network.ts";

/** One line, or one for each of several things that are told in one event. */
export function eventLines(event: EventEnvelope, names: ReadonlyMap<string, string>): string[] {
  const about = event.task === undefined ? "keeper" : (names.get(event.task) ?? String(event.data.name ?? event.task));
  const claim = event.source === "guest" ? " (the guest says)" : "";
  const by = event.actor.kind === "user" ? ` by ${event.actor.via ?? "user"}` : "";
  const head = `${event.time.slice(0, 23).replace("T", " ")}  ${about}  ${event.kind}${claim}${by}`;
  return details(event).map((detail) => oneLine(`${head}  ${detail}`).replaceAll("␊", " ⏎ ").trimEnd());
}

type Sentences = { readonly [K in EventKind]?: (data: EventOf<K>["data"]) => string | string[] };

/** Kinds without a sentence are shown by their data. */
const SENTENCES: Sentences = {
  "egress.decided": ({ entries }) => entries.map(decidedWords),
  "egress.ended": ({ entries }) => entries.map(endedWords),
  "egress.restarted": ({ why }) => `the program that decides connections ended, and those under way are gone: ${why}`,
  "ask.opened": ({ ask, request, held }) =>
    `${requestWords(request)}: no rule decides it, ${held ? "it waits for an answer" : "refused"} (${ask})`,
  "ask.answered": ({ ask, answer, rule }) =>
    `${ask} was ${{ allow: "allowed", deny: "refused", none: "not answered" }[answer]}${rule === undefined ? "" : ` by rule ${rule}`}`,
  "policy.added": ({ rule }) => `rule ${rule.id}: ${ruleWords(rule)}, ${holds(rule.scope)}`,
  "policy.removed": ({ rule, scope }) => `rule ${rule} is gone; it held ${holds(scope)}`,
  "policy.replaced": ({ presets, rules }) => `presets: ${presets.join(", ") || "none"}; ${many(rules, "rule")} of its own`,
  "policy.proxy-set": ({ proxy }) =>
    proxy ? `connections of tasks leave ${proxyWords(proxy)}` : "connections of tasks leave directly, through no outgoing proxy",
  "secret.added": ({ name, source, binding }) => `key ${name} works at ${binding.hosts.join(", ")}, kept in: ${source}`,
  "secret.removed": ({ name }) => `key ${name} is gone`,
  "secret.attached": ({ name }) => `the task may use key ${name}`,
  "secret.detached": ({ name }) => `the task may use key ${name} no longer`,
};

function details(event: EventEnvelope): string[] {
  const { data } = event;
  if (event.kind === "task.failed") {
    const { message, code } = data.problem as Problem;
    return [`${message} [${code}]`];
  }
  const sentence = sentenceOf(event.kind, data);
  if (sentence !== undefined) return [sentence].flat();
  return [
    Object.entries(data)
      .map(([key, value]) => `${key}=${typeof value === "string" && /^[\w.:/-]+$/.test(value) ? value : JSON.stringify(value)}`)
      .join(" "),
  ];
}

/** Undefined for kinds without a sentence, and for data of another version's shape. */
function sentenceOf(kind: string, data: unknown): string | string[] | undefined {
  if (!Object.hasOwn(SENTENCES, kind)) return undefined;
  const known = kind as EventKind;
  const read = eventData[known].safeParse(data);
  return read.success ? SENTENCES[known]?.(read.data as never) : undefined;
}

function decidedWords({ request, decision, rule, reason, secret }: EgressEntry): string {
  const by = rule ?? "default";
  if (decision === "allow") return `allowed ${requestWords(request)} by rule ${by}${secret === undefined ? "" : `, with key ${secret}`}`;
  return `refused ${requestWords(request)}: ${reason ?? "no reason was given"} (rule ${by})`;
}

function endedWords({ request, status, sentBytes, receivedBytes, ms, fault, address }: EgressEntry): string {
  const facts = [
    ...(status === undefined ? [] : [`status ${status}`]),
    ...(sentBytes === undefined ? [] : [`${size(sentBytes)} sent`]),
    ...(receivedBytes === undefined ? [] : [`${size(receivedBytes)} received`]),
    ...(ms === undefined ? [] : [`${ms} ms`]),
    ...(address === undefined ? [] : [`at ${address}`]),
    ...(fault === undefined ? [] : [`ended early: ${fault}`]),
  ];
  return `${requestWords(request)} is over${facts.length > 0 ? `: ${facts.join(", ")}` : ""}`;
}
