/** What went wrong with something the user asked for, kept where it was asked until the next try or until it is dismissed. */
import type { StateCreator } from "zustand/vanilla";
import type { Problem } from "../../contract/index.ts";
import type { State } from "./store.ts";

/** a task's id, or the form for a new one */
export type ProblemPlace = string | "new";

export interface ProblemsSlice {
  readonly problems: Readonly<Record<ProblemPlace, Problem>>;
  /** undefined takes it away */
  setProblem(place: ProblemPlace, problem: Problem | undefined): void;
}

export const problemsSlice: StateCreator<State, [], [], ProblemsSlice> = (set, get) => ({
  problems: {},
  setProblem: (place, problem) => {
    const { [place]: _before, ...others } = get().problems;
    set({ problems: problem === undefined ? others : { ...others, [place]: problem } });
  },
});
