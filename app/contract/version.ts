/**
 * Version of what clients may ask of the keeper: one integer, a dated line per change.
 *
 * 1: 2026-11-21, first: tasks, machines, exec streams, folders `ro` and `rw`, events, logs, doctor, images.
 */
export const CONTRACT_VERSION = 1;

/** Version of the files that the keeper writes: task.json and machine-facts.json. 1: 2026-11-21, first. */
export const FILE_VERSION = 1;

/** Version of the event envelope. 1: 2026-11-21, first. */
export const EVENT_VERSION = 1;
