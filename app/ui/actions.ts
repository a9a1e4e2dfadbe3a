/** What the user can ask for: thin calls of the contract. A failure lands in the problems of its place. */
import { type NewTask, type Problem, ProblemError, type TaskView, toProblem, type WebClient, type WebResult } from "../contract/index.ts";
import type { Link } from "./connection/feed.ts";
import type { ProblemPlace } from "./store/problems.ts";
import type { Store } from "./store/store.ts";
import { text } from "./text.ts";

export type PickedFolder = Extract<WebResult<"web.pickFolder">, { grant: string }>;

export interface Actions {
  /** undefined when the dialog was closed or failed */
  pickFolder(): Promise<PickedFolder | undefined>;
  /** undefined when refused */
  create(wanted: NewTask): Promise<TaskView | undefined>;
  start(task: string): Promise<void>;
  /** `now`: does not ask the guest */
  stop(task: string, now: boolean): Promise<void>;
  /** throws a ProblemError; the terminal shows it */
  openShell(task: string, size: { columns: number; rows: number }): Promise<{ ticket: string }>;
  dismiss(place: ProblemPlace): void;
}

const offline: Problem = { code: "web.connection", message: text.offline.message, next: [text.offline.next] };

export function makeActions(store: Store, link: Link): Actions {
  const client = (): WebClient => {
    if (link.client) return link.client;
    throw new ProblemError(offline);
  };
  const attempt = async <T>(place: ProblemPlace, call: () => Promise<T>): Promise<T | undefined> => {
    store.getState().setProblem(place, undefined);
    try {
      return await call();
    } catch (error) {
      const problem = toProblem(error);
      // A start that the user stopped is no problem of theirs.
      if (problem.code !== "machine.stopped") store.getState().setProblem(place, problem);
      return undefined;
    }
  };
  return {
    pickFolder: () =>
      attempt("new", async () => {
        const picked = await client().call("web.pickFolder", {});
        return "grant" in picked ? picked : undefined;
      }),
    create: (wanted) => attempt("new", () => client().call("tasks.create", wanted)),
    start: async (task) => void (await attempt(task, () => client().call("tasks.start", { task, lease: "keeper" }))),
    stop: async (task, now) => void (await attempt(task, () => client().call("tasks.stop", { task, now }))),
    openShell: async (task, size) => client().call("tasks.exec", { task, env: {}, terminal: { ...size, term: "xterm-256color" } }),
    dismiss: (place) => store.getState().setProblem(place, undefined),
  };
}
