/** The tasks as the keeper listed them last. */
import type { StateCreator } from "zustand/vanilla";
import type { TaskView } from "../../contract/index.ts";
import type { State } from "./store.ts";

export interface TasksSlice {
  /** in the order they are shown; undefined until the first list */
  readonly tasks: readonly TaskView[] | undefined;
  applyTasks(tasks: readonly TaskView[]): void;
}

const BUSY = new Set<TaskView["state"]["at"]>(["starting", "running", "paused", "stopping"]);

/** Tasks with a machine first, then the newest. */
export function inOrder(tasks: readonly TaskView[]): readonly TaskView[] {
  const rank = ({ state }: TaskView) => (BUSY.has(state.at) ? 0 : 1);
  return tasks.toSorted((a, b) => rank(a) - rank(b) || b.created.localeCompare(a.created) || a.id.localeCompare(b.id));
}

export const tasksSlice: StateCreator<State, [], [], TasksSlice> = (set) => ({
  tasks: undefined,
  applyTasks: (tasks) => set({ tasks: inOrder(tasks) }),
});
