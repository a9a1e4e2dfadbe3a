/** The latest events of each task. */
import type { StateCreator } from "zustand/vanilla";
import type { EventEnvelope } from "../../contract/index.ts";
import type { State } from "./store.ts";

/** Kept per task; the whole log is the CLI's (`cloche events`). */
export const MAX_EVENTS_KEPT = 300;

export interface EventsSlice {
  /** by task id, oldest first */
  readonly events: Readonly<Record<string, readonly EventEnvelope[]>>;
  /** by task id: when its latest start was asked for, on the host's clock, in ms since 1970 */
  readonly startedAt: Readonly<Record<string, number>>;
  applyEvents(events: readonly EventEnvelope[]): void;
}

/** As many as a guest likes, and shown by store/network.ts: here they would push everything else out. */
const ELSEWHERE = new Set(["egress.decided", "egress.ended", "ask.opened"]);

type Projection = Pick<EventsSlice, "events" | "startedAt">;

/** Pure. Events of no task are left out; an event seen before is not added twice. */
export function withEvents(before: Projection, fresh: readonly EventEnvelope[]): Projection {
  const events: Record<string, readonly EventEnvelope[]> = { ...before.events };
  const startedAt = { ...before.startedAt };
  for (const event of fresh) {
    if (event.task === undefined || ELSEWHERE.has(event.kind)) continue;
    const known = events[event.task] ?? [];
    if ((known.at(-1)?.id ?? 0) >= event.id) continue;
    events[event.task] = [...known.slice(-MAX_EVENTS_KEPT + 1), event];
    if (event.kind === "task.starting") startedAt[event.task] = Date.parse(event.time);
  }
  return { events, startedAt };
}

export const eventsSlice: StateCreator<State, [], [], EventsSlice> = (set, get) => ({
  events: {},
  startedAt: {},
  applyEvents: (fresh) => {
    if (fresh.length > 0) set(withEvents(get(), fresh));
  },
});
