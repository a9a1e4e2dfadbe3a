/**
 * All that the page shows: a projection of the keeper, fed by connection/feed.ts, and the problems of what the user asked for.
 * Nothing is decided here. Made by a factory, so that each test has its own.
 */
import { createStore } from "zustand/vanilla";
import type { Problem } from "../../contract/index.ts";
import { type ChangesSlice, changesSlice } from "./changes.ts";
import { type EventsSlice, eventsSlice } from "./events.ts";
import { type KeysSlice, keysSlice } from "./keys.ts";
import { type NetworkSlice, networkSlice } from "./network.ts";
import { type ProblemsSlice, problemsSlice } from "./problems.ts";
import { type TasksSlice, tasksSlice } from "./tasks.ts";

export type Connection =
  /** before the first answer */
  | { readonly at: "connecting" }
  | { readonly at: "connected" }
  /** tried again by itself; a problem when the host said why */
  | { readonly at: "lost"; readonly problem: Problem | undefined }
  /** this browser has no session */
  | { readonly at: "locked" }
  /** the web host has ended */
  | { readonly at: "gone" };

export interface State extends TasksSlice, EventsSlice, ChangesSlice, NetworkSlice, KeysSlice, ProblemsSlice {
  readonly connection: Connection;
  setConnection(connection: Connection): void;
  /** forgets the projection; a new connection follows */
  reset(): void;
}

export function createPageStore() {
  return createStore<State>()((set, get, store) => ({
    ...tasksSlice(set, get, store),
    ...eventsSlice(set, get, store),
    ...changesSlice(set, get, store),
    ...networkSlice(set, get, store),
    ...keysSlice(set, get, store),
    ...problemsSlice(set, get, store),
    connection: { at: "connecting" },
    setConnection: (connection) => set({ connection }),
    reset: () => set({ events: {}, startedAt: {}, changes: {}, reached: {}, asks: undefined, rules: {}, keys: undefined }),
  }));
}
export type Store = ReturnType<typeof createPageStore>;
