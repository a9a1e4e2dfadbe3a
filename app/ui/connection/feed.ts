/**
 * Keeps the store a projection of the keeper: connects, reads tasks and events, connects again when the connection ends.
 * Every connection starts from nothing, so what the page shows never mixes two keepers.
 */
import { type EventEnvelope, ProblemError, toProblem, type WebClient } from "../../contract/index.ts";
import type { Store } from "../store/store.ts";
import { connect } from "./client.ts";
import { checkSession } from "./session.ts";

/** Events per answer, how long one waits, and how far back the page looks: a day (the whole log is the CLI's). */
const READ = { limit: 1000, waitMs: 25_000, sinceMs: 86_400_000 };
/** Between two readings of the asks. */
const ASKS_MS = 500;
const FIRST_RETRY_MS = 300;
const LAST_RETRY_MS = 5_000;

/** What the actions use: the client of the moment. */
export interface Link {
  client: WebClient | undefined;
}

export async function runFeed(store: Store, link: Link): Promise<never> {
  let retryMs = FIRST_RETRY_MS;
  for (;;) {
    try {
      const client = await connect();
      link.client = client;
      retryMs = FIRST_RETRY_MS;
      store.getState().reset();
      await follow(client, store);
    } catch (error) {
      link.client = undefined;
      const session = await checkSession();
      const problem = error instanceof ProblemError && error.problem.code !== "keeper.lost" ? toProblem(error) : undefined;
      store.getState().setConnection(session === "open" ? { at: "lost", problem } : { at: session });
    }
    await new Promise((resolve) => setTimeout(resolve, retryMs * (0.75 + Math.random() / 2)));
    retryMs = Math.min(LAST_RETRY_MS, retryMs * 2);
  }
}

/** Runs until the connection ends, which it tells by throwing. */
async function follow(client: WebClient, store: Store): Promise<void> {
  const { applyTasks, applyEvents, applyNetworkEvents, setConnection } = store.getState();
  const list = coalesced(async () => applyTasks((await client.call("tasks.list", {})).tasks));
  await list();
  setConnection({ at: "connected" });
  await Promise.all([followEvents(), followAsks(client, store)]);

  async function followEvents(): Promise<never> {
    for (let after = 0; ; ) {
      const { events, next } = await client.call("events.read", { after, ...READ });
      after = next;
      applyEvents(events);
      applyNetworkEvents(events);
      if (events.some(changesTasks)) await list();
    }
  }
}

/** A guest can change the list as often as it likes; it is read at most that often. */
async function followAsks(client: WebClient, store: Store): Promise<never> {
  for (let known: { revision?: number } = {}; ; ) {
    const { asks, revision } = await client.call("asks.list", { ...known, waitMs: READ.waitMs });
    known = { revision };
    store.getState().applyAsks(asks);
    await new Promise((resolve) => setTimeout(resolve, ASKS_MS));
  }
}

function changesTasks({ kind }: EventEnvelope): boolean {
  return ["task.", "exec.", "folder.", "files.", "changes.", "policy.", "secret.", "ask.answered"].some((about) => kind.startsWith(about));
}

/** Calls made while one is under way share the one after it. */
function coalesced(read: () => Promise<void>): () => Promise<void> {
  let next: Promise<void> | undefined;
  let current: Promise<void> = Promise.resolve();
  return () => {
    next ??= current.then(() => {
      next = undefined;
      current = read();
      return current;
    });
    return next;
  };
}
