/** How `cloche run` ends when changes wait: apply, look or later on a terminal; elsewhere the commands that do it. */
import { createInterface } from "node:readline/promises";
import { type Client, ProblemError, type TaskView } from "../../contract/index.ts";
import { note, noteProblem } from "../session.ts";
import { waitingWords } from "../show-changes.ts";
import { allChanges, applyAll, printChanges, tellOutcome } from "./changes.ts";

/** Answers with how many changes wait when it is over. */
export async function endWithChanges(keeper: Client, id: string, mayAsk: boolean): Promise<number> {
  const task = await taskOf(keeper, id);
  if (!task) return 0;
  for (const { name, waiting, problem } of task.shares) {
    if (waiting === undefined) note(`cloche: what waits in ${name} could not be counted: \`cloche show ${task.name}\` tells why.`);
    if (waiting === undefined && problem) noteProblem(problem);
  }
  if (sum(task) === 0) return 0;
  if (mayAsk && process.stdin.isTTY === true && process.stderr.isTTY === true) {
    await ask(keeper, task);
    return sum((await taskOf(keeper, id)) ?? task);
  }
  const { name } = task;
  note(`cloche: ${waitingWords(task.shares)}. Your folders are as they were.`);
  note(`cloche: see them with \`cloche changes ${name}\` and \`cloche diff ${name}\`; then`);
  note(`cloche: \`cloche apply ${name} --all\` writes them, \`cloche discard ${name} --all\` drops them.`);
  return sum(task);
}

const sum = (task: TaskView) => task.shares.reduce((total, { waiting = 0 }) => total + waiting, 0);

/** The task as it is after its end; undefined when nothing of it is left, or the keeper is not. */
async function taskOf(keeper: Client, id: string): Promise<TaskView | undefined> {
  try {
    return await keeper.call("tasks.get", { task: id });
  } catch (error) {
    if (error instanceof ProblemError && ["task.unknown", "keeper.lost"].includes(error.problem.code)) return undefined;
    throw error;
  }
}

async function ask(keeper: Client, task: TaskView): Promise<void> {
  // what is applied is what was listed here, and nothing that came later
  const listed = await allChanges(keeper, task.id);
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    for (;;) {
      const answer = await terminal.question(`cloche: ${waitingWords(task.shares)}. Apply all (a), look (l), or later (Enter)? `);
      switch (answer.trim().toLowerCase()) {
        case "a":
        case "apply":
          return tellOutcome("applied", await applyAll(keeper, task, listed));
        case "l":
        case "look":
          await printChanges(task, listed);
          note(`cloche: \`cloche diff ${task.name}\` shows what is in them.`);
          break;
        case "":
          return note(`cloche: they wait: \`cloche changes ${task.name}\`.`);
        default:
          note("cloche: type a, l, or only Enter.");
      }
    }
  } finally {
    terminal.close();
  }
}
