import { expect, test } from "vitest";
import type { EventEnvelope, TaskView } from "../../contract/index.ts";
import type { FolderPage } from "./changes.ts";
import { MAX_EVENTS_KEPT, withEvents } from "./events.ts";
import { createPageStore } from "./store.ts";

const event = (id: number, more: Partial<EventEnvelope> = {}): EventEnvelope => ({
  version: 1,
  id,
  time: `2026-11-21T10:00:${String(id % 60).padStart(2, "0")}.000Z`,
  task: "a".repeat(16),
  kind: "task.stopping",
  source: "host",
  actor: { kind: "user", via: "web" },
  data: {},
  chain: "0".repeat(64),
  ...more,
});
const task = (name: string, created: string, at: "stopped" | "stopping"): TaskView => ({
  id: name.padEnd(16, "0"),
  name,
  created,
  ephemeral: false,
  state: { at },
  shares: [],
  cpus: 1,
  memoryMib: 512,
  diskGib: 1,
  sudo: true,
  network: { presets: [], rules: [], secrets: [], asks: 0 },
  wall: "nothing",
  workingDirectory: "/home/you/files",
  running: 0,
});
const none = { events: {}, startedAt: {} };
const A = "a".repeat(16);

test("events land at their task, oldest first; those of no task are left out", () => {
  const other = "b".repeat(16);
  const { events } = withEvents(none, [event(1), event(2, { task: other }), event(3), { ...event(4), task: undefined }]);
  expect(events[A]?.map(({ id }) => id)).toEqual([1, 3]);
  expect(Object.keys(events).sort()).toEqual([A, other]);
});

test("an event that was seen before is not shown twice", () => {
  const before = withEvents(none, [event(1), event(2)]);
  expect(withEvents(before, [event(2), event(3)]).events[A]?.map(({ id }) => id)).toEqual([1, 2, 3]);
});

test("only the latest events of a task are kept", () => {
  const many = Array.from({ length: MAX_EVENTS_KEPT + 50 }, (_, at) => event(at + 1));
  const { events } = withEvents(none, many);
  expect(events[A]).toHaveLength(MAX_EVENTS_KEPT);
  expect(events[A]?.at(-1)?.id).toBe(MAX_EVENTS_KEPT + 50);
});

test("a start's clock begins with its latest task.starting", () => {
  const { startedAt } = withEvents(none, [event(1, { kind: "task.starting" }), event(5, { kind: "task.starting" })]);
  expect(startedAt[A]).toBe(Date.parse("2026-11-21T10:00:05.000Z"));
});

test("tasks with a machine come first, then the newest", () => {
  const store = createPageStore();
  store
    .getState()
    .applyTasks([
      task("old", "2026-11-01T00:00:00Z", "stopped"),
      task("new", "2026-11-02T00:00:00Z", "stopped"),
      task("busy", "2026-10-01T00:00:00Z", "stopping"),
    ]);
  expect(store.getState().tasks?.map(({ name }) => name)).toEqual(["busy", "new", "old"]);
});

test("a problem stays at its place until it is taken away, and a new connection forgets the events only", () => {
  const store = createPageStore();
  const { setProblem, applyEvents, reset } = store.getState();
  const problem = { code: "task.state", message: "no", next: ["wait"] };
  setProblem(A, problem);
  setProblem("new", problem);
  setProblem("new", undefined);
  applyEvents([event(1)]);
  reset();
  expect(store.getState().problems).toEqual({ [A]: problem });
  expect(store.getState().events).toEqual({});
});

test("each page has a store of its own", () => {
  const first = createPageStore();
  first.getState().applyTasks([]);
  expect(createPageStore().getState().tasks).toBeUndefined();
});

test("a page of another revision is never mixed into the list that is shown", () => {
  const store = createPageStore();
  const page = (revision: number, id: string, next?: string): FolderPage => ({
    folder: "0123abcd",
    name: "Receipts",
    revision,
    total: 2,
    changes: [
      {
        id,
        path: { bytes: "", text: id },
        kind: "new",
        type: "file",
        sizeBytes: 1,
        binary: false,
        executable: false,
        protected: false,
        flags: [],
        seq: 1,
        token: "t",
      },
    ],
    ...(next === undefined ? {} : { next }),
  });
  const shown = () => store.getState().changes[A]?.["0123abcd"]?.shown.map(({ id }) => id);
  store.getState().applyChanges(A, [page(1, "first", "after")], {});
  store.getState().addChanges(A, page(2, "of-another"));
  expect(shown()).toEqual(["first"]);
  store.getState().addChanges(A, page(1, "second"));
  expect(shown()).toEqual(["first", "second"]);
  expect(store.getState().changes[A]?.["0123abcd"]?.next).toBeUndefined();
});
