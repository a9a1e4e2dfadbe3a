/**
 * Version of what clients may ask of the keeper: one integer, a dated line per change.
 *
 * 1: 2026-11-21, first: tasks, machines, exec streams, folders `ro` and `rw`, events, logs, doctor, images.
 * 2: 2026-11-25, mode `review`; folders added, changed and taken out while a task runs; changes, diffs, apply, discard, undo, versions;
 *    notes on folders; `tasks.remove` says whether waiting changes go with the task.
 * 3: 2026-11-25, a folder says which write was refused for want of room and why, and what its versions may take; `files.restore` says
 *    which version it brought back.
 * 4: 2026-11-25, network: presets and rules of a task, asks and their answers, keys and where they work, events of what a task reached;
 *    `events.verify`.
 * 5: 2026-11-26, a task may trust certificate authorities of its own upstream; what a self-test of the wall found is written down;
 *    `policy.test` offers the narrowest rule.
 * 6: 2026-11-26, `asks.answer` has the rule that was shown, always.
 * 7: 2026-11-26, an outgoing proxy of the user's for the connections of tasks: set, shown with a task, told in the events.
 * 8: 2026-11-27, what is applied because a directory above it was named says so and is no more than `all` takes; chosen changes may have
 *    the revision that was shown.
 */
export const CONTRACT_VERSION = 8;

/** Version of machine-facts.json. 1: 2026-11-21, first. */
export const FILE_VERSION = 1;

/**
 * Version of task.json. 1: 2026-11-21, first. 2: 2026-11-25, folders have an id, switches and the mode `review`. 3: 2026-11-25, a folder's
 * last refused write. 4: 2026-11-25, the same, with the task's network and keys in policy.json beside it.
 */
export const TASK_FILE_VERSION = 4;

/**
 * Version of the event envelope. 1: 2026-11-21, first; also what is written where the keychain's key cannot be had. 2: 2026-11-26, the chain
 * is made with HMAC-SHA256 and a key that the system's keychain holds.
 */
export const EVENT_VERSION = 2;
