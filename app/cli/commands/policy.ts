/** `cloche policy`: what decides a task's requests, explained, tried and changed. */
import { readFileSync } from "node:fs";
import { type Params, ProblemError, type Rule, type RuleDraft } from "../../contract/index.ts";
import { duration, type Parsed, parse, usage } from "../args.ts";
import { hostArgument, hostRules, presetArguments } from "../rule-arguments.ts";
import { columns, note, print, printJson, type Session } from "../session.ts";
import { many } from "../show-changes.ts";
import { holds, networkRows, oneLine, proxyWords, requestWords, ruleWords } from "../show-network.ts";
import { closedWords } from "./asks.ts";

const MAX_SETTINGS_BYTES = 262_144;
const JSON_OPTION = { "--json": "flag" } as const;

export const POLICY_VERBS = {
  show,
  test,
  network,
  proxy,
  rm: remove,
  replay,
  import: importSettings,
  export: exportSettings,
} as const;

export async function policy(session: Session, args: readonly Buffer[]): Promise<number> {
  const [verb, ...rest] = args;
  const name = verb?.toString() ?? "";
  if (!Object.hasOwn(POLICY_VERBS, name))
    throw usage(`\`cloche policy\` takes ${Object.keys(POLICY_VERBS).join(", ")}: cloche policy show TASK.`);
  return POLICY_VERBS[name as keyof typeof POLICY_VERBS](session, rest);
}

async function show(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, { ...JSON_OPTION, "--all": "flag" });
  const task = words(parsed, 1, "show TASK [--all]")[0] ?? "";
  const shown = await (await session.keeper()).call("policy.show", { task });
  if (parsed.flags.has("--json")) {
    await printJson(shown);
    return 0;
  }
  const all = parsed.flags.has("--all");
  await print(oneLine(shown.wall));
  if (shown.network.problem !== undefined) await print(oneLine(`Nothing passes: ${shown.network.problem}`));
  const rules = shown.effective.filter(({ from }) => all || from !== "preset");
  if (rules.length > 0) await print(columns([["RULE", "WHAT", "HOLDS"], ...rules.map(ruleRow)]));
  for (const preset of all ? [] : shown.network.presets) {
    const count = shown.effective.filter(({ id, from }) => from === "preset" && id.startsWith(`${preset}/`)).length;
    await print(`preset ${preset}: ${many(count, "rule")} (--all shows them)`);
  }
  await print("everything else: refused, and listed by `cloche asks`");
  return 0;
}

const ruleRow = (rule: Rule) => [rule.id, ruleWords(rule), rule.from === "preset" ? "by its preset" : holds(rule.scope)];

async function test(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, JSON_OPTION);
  const [task = "", method = "", url = ""] = words(parsed, 3, "test TASK METHOD URL");
  const tested = await (await session.keeper()).call("policy.test", { task, method: method.toUpperCase(), url });
  if (parsed.flags.has("--json")) await printJson(tested);
  else {
    const { decision, rule, reason, request, matched } = tested;
    const verdict = { allow: "allowed", deny: "refused", ask: "no rule decides it: asked about, or refused when nobody answers" }[decision];
    await print(oneLine(`${requestWords(request)}: ${verdict}`));
    if (matched) await print(oneLine(`  rule ${rule}: ${ruleWords(matched)}`));
    if (reason !== "") await print(oneLine(`  ${reason}`));
  }
  return 0;
}

/** Sets the presets; without any, tells of those there are. */
async function network(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, JSON_OPTION);
  const [task = "", list = ""] = words(parsed, 2, "network TASK none|models|packages|git|web[,…]");
  const presets = presetArguments(list, "`cloche policy network`");
  const view = await (await session.keeper()).call("policy.setPresets", { task, presets });
  await (parsed.flags.has("--json") ? printJson(view) : print(columns(networkRows(task, view))));
  return 0;
}

/** The outgoing proxy for every task: tells of it, sets it, or has connections leave directly. */
async function proxy(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, { ...JSON_OPTION, "--secret": "value" });
  const [typed, ...rest] = parsed.words;
  const { "--secret": secret } = parsed.values;
  const none = typed === undefined || typed === "none";
  if (rest.length > 0 || (none && secret !== undefined))
    throw usage("Write it as: cloche policy proxy [HOST:PORT [--secret NAME] | none].");
  const keeper = await session.keeper();
  const found = typed === undefined ? await keeper.call("policy.proxy", {}) : await keeper.call("policy.setProxy", wanted(typed, secret));
  if (parsed.flags.has("--json")) await printJson(found);
  else {
    const way = found.proxy ? proxyWords(found.proxy) : "directly, through no outgoing proxy";
    if (typed === undefined) await print(`connections of tasks leave ${way}`);
    else note(`cloche: connections of tasks that start from now on leave ${way}.`);
  }
  return 0;
}

function wanted(typed: string, secret: string | undefined): Params<"policy.setProxy"> {
  if (typed === "none") return {};
  if (typed.includes("@"))
    throw usage(
      "A user and password are no part of the address: every list of programs would show them. They were not used.",
      "Add them as a key: cloche secret add NAME --host HOST --as basic, then give it here with --secret NAME.",
    );
  const { host, port } = hostArgument(typed, "`cloche policy proxy`");
  if (port === undefined) throw usage(`The proxy's port is missing: ${typed}.`, `Write it as HOST:PORT, such as ${host}:3128.`);
  return { proxy: { host, port, ...(secret === undefined ? {} : { secret }) } };
}

async function remove(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, JSON_OPTION);
  const [task = "", id = ""] = words(parsed, 2, "rm TASK RULE");
  const { rule, closed } = await (await session.keeper()).call("policy.remove", { task, rule: id });
  if (parsed.flags.has("--json")) await printJson({ rule, closed });
  else note(`cloche: rule ${rule.id} is gone: ${ruleWords(rule)}. ${closedWords(closed)}`.trimEnd());
  return 0;
}

/** What a changed policy would have decided: the task's own, with other presets or more rules. */
async function replay(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, { ...JSON_OPTION, "--since": "value", "--network": "value", "--allow": "values", "--deny": "values" });
  const task = words(parsed, 1, "replay TASK [--since 24h] [--network P] [--allow HOST] [--deny HOST]")[0] ?? "";
  const added = hostRules(parsed);
  const { "--network": presets, "--since": since } = parsed.values;
  const given = presets === undefined ? undefined : presetArguments(presets, "--network");
  const sinceMs = since === undefined ? {} : { sinceMs: duration(since, "--since") };
  const keeper = await session.keeper();
  const now = await keeper.call("policy.show", { task });
  const own = now.effective.filter(({ from }) => from !== "preset").map(draftOf);
  const result = await keeper.call("policy.replay", {
    task,
    presets: given ?? now.network.presets,
    rules: [...added, ...own],
    ...sinceMs,
  });
  if (parsed.flags.has("--json")) {
    await printJson(result);
    return 0;
  }
  for (const { request, was, would } of result.differ) {
    const words = { allow: "allowed", deny: "refused", ask: "asked about" };
    await print(
      oneLine(
        `${requestWords(request)}: was ${words[was.decision]} (rule ${was.rule}), would be ${words[would.decision]} (${would.reason})`,
      ),
    );
  }
  const differ =
    result.differ.length === 0
      ? "none would be decided otherwise"
      : `${result.differ.length}${result.more ? " and more" : ""} would be decided otherwise`;
  note(`cloche: ${many(result.requests, "request")} looked at, ${differ}.`);
  return 0;
}

const draftOf = ({ id: _id, scope: _scope, from: _from, created: _created, ...draft }: Rule): RuleDraft => draft;

/** Replaces the task's rules by those of sandbox-runtime settings. */
async function importSettings(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, JSON_OPTION);
  const [task = "", file = ""] = words(parsed, 2, "import TASK FILE (- for standard input)");
  const settings = readSettings(file);
  const { network: view, notes } = await (await session.keeper()).call("policy.import", { task, settings });
  for (const text of notes) note(`cloche: ${oneLine(text)}`);
  await (parsed.flags.has("--json") ? printJson({ network: view, notes }) : print(columns(networkRows(task, view))));
  return 0;
}

function readSettings(file: string): string {
  let text: string;
  try {
    text = readFileSync(file === "-" ? 0 : file, "utf8");
  } catch (error) {
    throw new ProblemError({
      code: "policy.settings",
      message: `${JSON.stringify(file)} could not be read, so nothing was imported.`,
      evidence: (error as Error).message,
      next: ["Name a file that is there, or - for standard input."],
    });
  }
  if (text.length <= MAX_SETTINGS_BYTES) return text;
  throw new ProblemError({
    code: "policy.settings",
    message: `The settings are longer than ${MAX_SETTINGS_BYTES} characters, so nothing was imported.`,
    next: ["Import a file of rules alone."],
  });
}

async function exportSettings(session: Session, args: readonly Buffer[]): Promise<number> {
  const task = words(parse(args, JSON_OPTION), 1, "export TASK")[0] ?? "";
  const { settings, notes } = await (await session.keeper()).call("policy.export", { task });
  for (const text of notes) note(`cloche: ${oneLine(text)}`);
  await print(settings);
  return 0;
}

function words(parsed: Parsed, count: number, form: string): readonly string[] {
  if (parsed.words.length !== count) throw usage(`Write it as: cloche policy ${form}.`);
  return parsed.words;
}
