/** The start's steps on one line of a terminal, while they go on. Elsewhere nothing is printed: scripts want the result. */
import type { Client, TaskView } from "../contract/index.ts";

const REDRAW_MS = 100;

export async function showProgress<T>(keeper: Client, task: TaskView, work: () => Promise<T>): Promise<T> {
  if (!process.stderr.isTTY) return work();
  const began = performance.now();
  let over = false;
  const draw = async () => {
    while (!over) {
      await new Promise((resolve) => setTimeout(resolve, REDRAW_MS));
      const { state } = await keeper.call("tasks.get", { task: task.id });
      if (over || state.at !== "starting") continue;
      const open = state.steps.filter((step) => step.endedMs === undefined);
      const elapsed = ((performance.now() - began) / 1000).toFixed(1);
      const line = `cloche: starting ${elapsed} s, waiting for ${open.map((step) => step.waitingFor).join(", ")}`;
      process.stderr.write(`\r\x1b[K${line.slice(0, (process.stderr.columns || 80) - 1)}`);
    }
  };
  draw().catch(() => {}); // the work itself tells what went wrong
  try {
    return await work();
  } finally {
    over = true;
    process.stderr.write("\r\x1b[K");
  }
}
