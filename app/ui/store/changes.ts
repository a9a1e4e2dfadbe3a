/** What waits in each folder of a task, as the keeper listed it last. */
import type { StateCreator } from "zustand/vanilla";
import type { ApplyView, ChangeView, WebResult } from "../../contract/index.ts";
import type { State } from "./store.ts";

export type FolderPage = WebResult<"changes.list">["folders"][number];

export interface FolderChanges {
  readonly name: string;
  /** of the list shown: what an apply of all means */
  readonly revision: number;
  readonly total: number;
  readonly shown: readonly ChangeView[];
  /** where the next page begins; undefined when all are shown */
  readonly next: string | undefined;
  /** newest first */
  readonly applies: readonly ApplyView[];
}

export interface ChangesSlice {
  /** by task id, then folder id; a task's entry is undefined until its first list */
  readonly changes: Readonly<Record<string, Readonly<Record<string, FolderChanges>>>>;
  /** replaces what was known of the task */
  applyChanges(task: string, pages: readonly FolderPage[], applies: Readonly<Record<string, readonly ApplyView[]>>): void;
  /** adds the page after those shown */
  addChanges(task: string, page: FolderPage): void;
}

export const changesSlice: StateCreator<State, [], [], ChangesSlice> = (set, get) => ({
  changes: {},
  applyChanges: (task, pages, applies) => {
    const folders = pages.map(({ folder, changes, name, revision, total, next }): [string, FolderChanges] => [
      folder,
      { name, revision, total, shown: changes, next, applies: applies[folder] ?? [] },
    ]);
    set({ changes: { ...get().changes, [task]: Object.fromEntries(folders) } });
  },
  addChanges: (task, page) => {
    const folders = get().changes[task];
    const before = folders?.[page.folder];
    // A list that moved on since is fetched anew by whoever shows it; pages of two revisions are never mixed.
    if (!before || before.revision !== page.revision) return;
    const fresh: FolderChanges = { ...before, total: page.total, shown: [...before.shown, ...page.changes], next: page.next };
    set({ changes: { ...get().changes, [task]: { ...folders, [page.folder]: fresh } } });
  },
});
