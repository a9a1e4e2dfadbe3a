/**
 * A task's life:
 *
 *   stopped ──start──▶ starting ──ready──▶ running ⇄ paused
 *      ▲                  │ ▲                 │        │
 *      │                  │ └─── start ───────┼── failed ◀── failed (from starting, running, paused, stopping)
 *      └──── stopped ── stopping ◀──── stop ──┴────────┘
 *
 * `TRANSITIONS` is the only copy of the table: the driver obeys it, a test walks every cell, and a refusal's reason stands in it.
 */
import type { TaskState } from "../../contract/index.ts";

export type At = TaskState["at"];
export type Input = "start" | "ready" | "pause" | "resume" | "stop" | "stopped" | "failed";

export type Move =
  /** the task is then there */
  | { readonly to: At }
  /** nothing to do: it is so already, or will be; the caller waits for the outcome that is under way */
  | { readonly join: true }
  /** the request does not fit */
  | { readonly refuse: string };

const to = (at: At): Move => ({ to: at });
const join: Move = { join: true };
const refuse = (reason: string): Move => ({ refuse: reason });
/** an input that the driver itself never gives in that state */
const never = refuse("the driver does not do that");

export const TRANSITIONS: Readonly<Record<At, Readonly<Record<Input, Move>>>> = {
  stopped: {
    start: to("starting"),
    ready: never,
    pause: refuse("it is stopped"),
    resume: refuse("it is stopped"),
    stop: join,
    stopped: never,
    failed: never,
  },
  starting: {
    start: join,
    ready: to("running"),
    pause: refuse("it is still starting"),
    resume: refuse("it is still starting"),
    stop: to("stopping"),
    stopped: never,
    failed: to("failed"),
  },
  running: {
    start: join,
    ready: never,
    pause: to("paused"),
    resume: join,
    stop: to("stopping"),
    stopped: never,
    failed: to("failed"),
  },
  paused: {
    start: refuse("it is paused; resume it"),
    ready: never,
    pause: join,
    resume: to("running"),
    stop: to("stopping"),
    stopped: never,
    failed: to("failed"),
  },
  stopping: {
    start: refuse("it is stopping; start it when it has stopped"),
    ready: never,
    pause: refuse("it is stopping"),
    resume: refuse("it is stopping"),
    stop: join,
    stopped: to("stopped"),
    failed: to("failed"),
  },
  failed: {
    start: to("starting"),
    ready: never,
    pause: refuse("it has failed"),
    resume: refuse("it has failed"),
    stop: to("stopped"),
    stopped: never,
    failed: never,
  },
};

export const next = (at: At, input: Input): Move => TRANSITIONS[at][input];
