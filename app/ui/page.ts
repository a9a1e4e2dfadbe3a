/** What components get at: the store's parts, the actions, the place in the page, the time. */
import { createContext, useContext, useEffect, useState, useSyncExternalStore } from "react";
import { useStore } from "zustand";
import type { Actions } from "./actions.ts";
import type { State, Store } from "./store/store.ts";

export interface Page {
  readonly store: Store;
  readonly actions: Actions;
}
export const PageContext = createContext<Page | undefined>(undefined);

function usePage(): Page {
  const page = useContext(PageContext);
  if (!page) throw new Error("a component outside of PageContext");
  return page;
}
export const useActions = (): Actions => usePage().actions;
export const usePageState = <T>(select: (state: State) => T): T => useStore(usePage().store, select);

/** Where the page is; kept in the address's fragment, so that a reload comes back to it. */
export const taskTabs = ["work", "changes", "network", "keys"] as const;
export type TaskTab = (typeof taskTabs)[number];
export type Place = { readonly at: "list" } | { readonly at: "new" } | { readonly at: "task"; readonly id: string; readonly tab: TaskTab };

export function placeOf(fragment: string): Place {
  const task = /^#\/task\/([0-9a-f]{16})(?:\/(changes|network|keys))?$/.exec(fragment);
  if (task?.[1] !== undefined) return { at: "task", id: task[1], tab: taskTabs.find((tab) => tab === task[2]) ?? "work" };
  return fragment === "#/new" ? { at: "new" } : { at: "list" };
}

export function addressOf(place: Place): string {
  switch (place.at) {
    case "list":
      return "#/";
    case "new":
      return "#/new";
    case "task":
      return place.tab === "work" ? `#/task/${place.id}` : `#/task/${place.id}/${place.tab}`;
  }
}

export function usePlace(): Place {
  const fragment = useSyncExternalStore(
    (changed) => {
      addEventListener("hashchange", changed);
      return () => removeEventListener("hashchange", changed);
    },
    () => location.hash,
  );
  return placeOf(fragment);
}

/** The time, four times a second; for what is under way. */
export function useNow(): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 250);
    return () => clearInterval(timer);
  }, []);
  return now;
}
