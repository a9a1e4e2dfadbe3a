/** The user's keys as the keeper listed them last. Values are never here: a form hands one over and forgets it. */
import type { StateCreator } from "zustand/vanilla";
import type { WebResult } from "../../contract/index.ts";
import type { State } from "./store.ts";

export type Keys = WebResult<"secrets.list">;

export interface KeysSlice {
  /** undefined until the first list */
  readonly keys: Keys | undefined;
  applyKeys(keys: Keys): void;
}

export const keysSlice: StateCreator<State, [], [], KeysSlice> = (set) => ({
  keys: undefined,
  applyKeys: (keys) => set({ keys }),
});
