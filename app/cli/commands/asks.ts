/** `asks`, `allow`, `deny`: what tasks asked for that no rule decides, and the rules that decide it. */

import { parse, usage } from "../args.ts";
import { AskTerminal, askWords, hasTerminal } from "../ask-terminal.ts";
import { RULE_OPTIONS, ruleArguments } from "../rule-arguments.ts";
import { note, print, printJson, type Session } from "../session.ts";
import { many } from "../show-changes.ts";
import { allowLine, holds, oneLine, ruleWords } from "../show-network.ts";

export async function asks(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, { "-f": "flag", "--json": "flag" });
  const [task, ...rest] = parsed.words;
  if (rest.length > 0) throw usage("`cloche asks` takes one task at most: cloche asks [TASK] [-f].");
  const of = task === undefined ? {} : { task };
  if (parsed.flags.has("-f")) {
    if (parsed.flags.has("--json")) throw usage("-f asks on the terminal; --json lists what there is. Use one of them.");
    return answerHere(session, of);
  }
  const { asks: found } = await (await session.keeper()).call("asks.list", { ...of, waitMs: 0 });
  if (parsed.flags.has("--json")) await printJson({ asks: found });
  else if (found.length === 0) note("cloche: nothing was asked for that no rule decides.");
  for (const ask of parsed.flags.has("--json") ? [] : found) {
    await print(`${askWords(ask).slice("cloche: ".length)}: ${ask.state === "pending" ? "waits for your answer" : "refused"}`);
    await print(oneLine(`  ${ask.reason} (rule ${ask.rule})`));
    await print(`  ${allowLine(ask.task, ask.offer)}`);
  }
  return 0;
}

/** Stays, and asks about each request as it comes, until it is interrupted. */
async function answerHere(session: Session, of: { task?: string }): Promise<number> {
  if (!hasTerminal()) throw usage("`cloche asks -f` asks on a terminal, and there is none.", "Leave -f out to see what was asked for.");
  const keeper = await session.keeper();
  const terminal = new AskTerminal(keeper, { ...of, hold: () => () => {}, tellOnly: () => false });
  await terminal.begin();
  note("cloche: requests that no rule decides wait for your answer here. Ctrl-C ends it.");
  await keeper.closed;
  return 125;
}

export const allow = (session: Session, args: readonly Buffer[]): Promise<number> => addRule(session, args, "allow");
export const deny = (session: Session, args: readonly Buffer[]): Promise<number> => addRule(session, args, "deny");

async function addRule(session: Session, args: readonly Buffer[], decision: "allow" | "deny"): Promise<number> {
  const parsed = parse(args, { ...RULE_OPTIONS, "--json": "flag" });
  const [task, host, ...rest] = parsed.words;
  if (task === undefined || host === undefined || rest.length > 0) {
    throw usage(
      `\`cloche ${decision}\` needs a task and a host: cloche ${decision} TASK HOST [--method GET] [--path '/repos/**'].`,
      "One rule has one host; a path stands behind --path, in quotes, so that the shell leaves its * alone.",
    );
  }
  const { rule: draft, scope } = ruleArguments(decision, host, parsed);
  const { rule, closed } = await (await session.keeper()).call("policy.add", { task, rule: draft, scope });
  if (parsed.flags.has("--json")) await printJson({ rule, closed });
  else
    note(
      `cloche: rule ${rule.id}: ${ruleWords(rule)}, ${holds(rule.scope)}. ${closedWords(closed)}\`cloche policy rm ${task} ${rule.id}\` takes it back.`,
    );
  return 0;
}

/** What was under way and is allowed no longer. */
export const closedWords = (closed: number): string => (closed === 0 ? "" : `${many(closed, "connection")} closed. `);
