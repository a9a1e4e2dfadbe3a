/** What lies in a directory that the task made: with its line goes all that is in it, as there is nothing that it could stay in. */
import type { ChangeView, ChosenChanges } from "../../contract/index.ts";

/** Changes of one request. */
const PAGE = 500;

/** The shown changes in a new directory; of anything else, none. */
export function within(change: ChangeView, shown: readonly ChangeView[]): readonly ChangeView[] {
  if (change.type !== "directory" || (change.kind !== "new" && change.kind !== "type-changed")) return [];
  const above = `${atob(change.path.bytes)}/`;
  return shown.filter(({ path }) => atob(path.bytes).startsWith(above));
}

/** Requests that discard a change with what lies in it, what lies deepest first. */
export function discarding(change: ChangeView, inside: readonly ChangeView[]): ChosenChanges[] {
  const all = [change, ...inside].map(({ id, token }) => ({ id, token })).reverse();
  return Array.from({ length: Math.ceil(all.length / PAGE) }, (_, n) => ({ changes: all.slice(n * PAGE, (n + 1) * PAGE) }));
}
