/** Names of tasks: made, and resolved from what a person types. */
import { checkTaskName, ProblemError, taskUnknown } from "../../contract/index.ts";
import type { TaskFile } from "./store.ts";

/** The asked name if it is free; else one made from `hint`, with `-2`, `-3`, … on collision. */
export function chooseName(asked: string | undefined, hint: string, taken: ReadonlySet<string>): string {
  if (asked !== undefined) {
    checkTaskName(asked);
    if (taken.has(asked)) {
      throw new ProblemError({
        code: "task.exists",
        message: `A task named ${asked} is there already.`,
        next: [`Start it with \`cloche start ${asked}\`, or choose another name.`],
      });
    }
    return asked;
  }
  const base =
    hint
      .normalize("NFKD")
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, "-")
      .replace(/^-+|-+$/g, "")
      .slice(0, 40)
      .replace(/-+$/, "") || "task";
  for (let n = 1; ; n++) {
    const name = n === 1 ? base : `${base}-${n}`;
    if (!taken.has(name)) return name;
  }
}

/** By name, by id, or by a prefix of the name that only one task has. Tasks that go on come before ended runs. */
export function resolveTask(ref: string, tasks: readonly TaskFile[]): TaskFile {
  const live = tasks.filter((task) => task.ended === undefined);
  const ended = tasks.filter((task) => task.ended !== undefined).sort((a, b) => ((a.ended ?? "") < (b.ended ?? "") ? 1 : -1));
  const exact = live.find((task) => task.name === ref || task.id === ref) ?? ended.find((task) => task.id === ref);
  if (exact) return exact;
  const fitting = live.filter((task) => task.name.startsWith(ref));
  if (fitting.length === 1 && fitting[0]) return fitting[0];
  if (fitting.length > 1) {
    throw new ProblemError({
      code: "task.ambiguous",
      message: `${JSON.stringify(ref)} fits several tasks.`,
      evidence: fitting.map((task) => task.name).join("\n"),
      next: ["Type more of the name."],
    });
  }
  const newest = ended.find((task) => task.name === ref);
  if (newest) return newest;
  throw taskUnknown(ref);
}
