/** What the user can ask for: thin calls of the contract. A failure lands in the problems of its place. */
import {
  type ApplyView,
  type ChosenChanges,
  type DiffSlice,
  type EgressRequest,
  type NetworkPreset,
  type NetworkView,
  type NewTask,
  type Problem,
  ProblemError,
  type RefusedChange,
  type Rule,
  type RuleDraft,
  type RuleScope,
  type TaskView,
  toProblem,
  type WebClient,
  type WebParams,
  type WebResult,
} from "../contract/index.ts";
import type { Link } from "./connection/feed.ts";
import type { ProblemPlace } from "./store/problems.ts";
import type { Store } from "./store/store.ts";
import { text } from "./text.ts";

export type PickedFolder = Extract<WebResult<"web.pickFolder">, { grant: string }>;

/** What came of an apply, a discard or an undo. */
export type Outcome = Readonly<{ done: number; refused: readonly RefusedChange[] }>;

export interface DiffRequest {
  readonly task: string;
  readonly folder: string;
  readonly id: string;
  readonly side: "change" | "theirs";
  readonly offset: number;
}

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
  /** the first page of every folder's changes, and what can be undone */
  listChanges(task: string): Promise<void>;
  moreChanges(task: string, folder: string, after: string): Promise<void>;
  /** throws a ProblemError; the diff's place shows it */
  diff(wanted: DiffRequest): Promise<DiffSlice>;
  /** undefined when the whole was refused; the task's problem says why */
  apply(task: string, folder: string, what: ChosenChanges): Promise<Outcome | undefined>;
  discard(task: string, folder: string, what: ChosenChanges): Promise<Outcome | undefined>;
  undo(task: string, folder: string, apply: string): Promise<Outcome | undefined>;
  answerRoom(task: string, folder: string, answer: "allow" | "refuse"): Promise<void>;
  /** from here on, and until the connection ends, requests of the task that no rule decides wait for an answer */
  watchAsks(task: string): Promise<void>;
  /** `rule`: the one that was shown, as the guest may have changed the keeper's offer since */
  answerAsk(task: string, ask: string, rule: RuleDraft, answer: "allow" | "deny", scope: RuleScope): Promise<Rule | undefined>;
  listRules(task: string): Promise<void>;
  /** the narrowest rule that speaks of the request */
  offerFor(task: string, request: EgressRequest): Promise<RuleDraft | undefined>;
  addRule(task: string, rule: RuleDraft, scope: RuleScope): Promise<Rule | undefined>;
  removeRule(task: string, rule: string): Promise<void>;
  /** undefined when refused */
  setPresets(task: string, presets: readonly NetworkPreset[]): Promise<NetworkView | undefined>;
  listKeys(): Promise<void>;
  /** adds it and gives it to the task; undefined when refused */
  addKey(task: string, key: WebParams<"secrets.add">): Promise<true | undefined>;
  removeKey(task: string, name: string): Promise<void>;
  attachKey(task: string, name: string): Promise<void>;
  detachKey(task: string, name: string): Promise<void>;
}

/** Changes per page. */
const PAGE = 200;
/** Bytes of a diff per request; a longer one is fetched on demand. */
const DIFF_BYTES = 131_072;
const DIFF_CONTEXT = 3;

type Slice = Readonly<{ batch: string; remaining: number; refused: readonly RefusedChange[] }>;

/** Asks on with the batch until nothing remains. */
async function whole<S extends Slice>(
  first: Promise<S>,
  next: (batch: string) => Promise<S>,
  done: (slice: S) => number,
): Promise<Outcome> {
  let sum = 0;
  const refused: RefusedChange[] = [];
  for (let slice = await first; ; slice = await next(slice.batch)) {
    sum += done(slice);
    refused.push(...slice.refused);
    if (slice.remaining === 0) return { done: sum, refused };
  }
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
    listChanges: async (task) => {
      // Asked for again and again while the task works, so it leaves the problems of what the user did alone.
      try {
        const { folders } = await client().call("changes.list", { task, limit: PAGE });
        const applies: Record<string, readonly ApplyView[]> = {};
        for (const { folder } of folders) applies[folder] = (await client().call("changes.applies", { task, folder })).applies;
        store.getState().applyChanges(task, folders, applies);
      } catch (error) {
        store.getState().setProblem(task, toProblem(error));
      }
    },
    moreChanges: async (task, folder, after) => {
      const page = await attempt(task, () => client().call("changes.list", { task, folder, after, limit: PAGE }));
      for (const each of page?.folders ?? []) store.getState().addChanges(task, each);
    },
    diff: async (wanted) => client().call("changes.diff", { ...wanted, context: DIFF_CONTEXT, limit: DIFF_BYTES }),
    apply: (task, folder, what) =>
      attempt(task, () =>
        whole(
          client().call("changes.apply", { task, folder, what }),
          (batch) => client().call("changes.apply", { task, folder, batch }),
          ({ applied }) => applied.length,
        ),
      ),
    discard: (task, folder, what) =>
      attempt(task, () =>
        whole(
          client().call("changes.discard", { task, folder, what }),
          (batch) => client().call("changes.discard", { task, folder, batch }),
          ({ discarded }) => discarded.length,
        ),
      ),
    undo: (task, folder, apply) =>
      attempt(task, () =>
        whole(
          client().call("changes.undo", { task, folder, apply }),
          (batch) => client().call("changes.undo", { task, folder, batch }),
          ({ restored }) => restored,
        ),
      ),
    watchAsks: async (task) => void (await attempt(task, () => client().call("asks.watch", { task }))),
    answerAsk: (task, ask, rule, answer, scope) =>
      attempt(task, async () => (await client().call("asks.answer", { ask, answer, scope, rule })).rule),
    listRules: async (task) => {
      const shown = await attempt(task, () => client().call("policy.show", { task }));
      if (shown) store.getState().applyRules(task, shown.effective);
    },
    offerFor: async (task, { scheme, host, port, method, path, upgrade }) => {
      // what is passed on unread has no address that could be tested
      if (scheme === "opaque") return { decision: "allow", host, ...(port === 443 ? {} : { port }), opaque: true };
      const url = `${upgrade ? scheme.replace("http", "ws") : scheme}://${host}:${port}${path}`;
      return (await attempt(task, () => client().call("policy.test", { task, method, url })))?.offer;
    },
    addRule: (task, rule, scope) => attempt(task, async () => (await client().call("policy.add", { task, rule, scope })).rule),
    removeRule: async (task, rule) => void (await attempt(task, () => client().call("policy.remove", { task, rule }))),
    setPresets: (task, presets) => attempt(task, () => client().call("policy.setPresets", { task, presets: [...presets] })),
    listKeys: async () => {
      try {
        store.getState().applyKeys(await client().call("secrets.list", {}));
      } catch {
        // the connection is gone, which the page tells; they are read again with the next one
      }
    },
    addKey: (task, key) =>
      attempt(task, async (): Promise<true> => {
        await client().call("secrets.add", key);
        await client().call("secrets.attach", { task, name: key.name });
        return true;
      }),
    removeKey: async (task, name) => void (await attempt(task, () => client().call("secrets.remove", { name }))),
    attachKey: async (task, name) => void (await attempt(task, () => client().call("secrets.attach", { task, name }))),
    detachKey: async (task, name) => void (await attempt(task, () => client().call("secrets.detach", { task, name }))),
    answerRoom: async (task, folder, answer) => void (await attempt(task, () => client().call("folders.room", { task, folder, answer }))),
  };
}
