/**
 * Requests that no rule decides, of all tasks, as their users are asked about them. Requests of one task to one host are one ask, with
 * that host's own line. Of one registrable domain only a few hosts are: the others share the last, so that a guest which tries ten
 * thousand names fills neither memory nor a screen.
 */
import { type AskView, type EgressRequest, ProblemError } from "../../contract/index.ts";
import { Wakeups } from "../wakeups.ts";
import { narrowestRule, registrableDomain } from "./policy/index.ts";

/** Hosts of one registrable domain that a task's user is asked about one by one. */
const MAX_PER_DOMAIN = 5;
/** Asks that are kept for one task; the oldest refused ones go first. */
const MAX_PER_TASK = 100;
/** Held requests of one ask that are known by number; the proxy holds no more than a few. */
const MAX_HELD = 64;

/** A request without a rule, as a proxy told of it. */
export interface Asked {
  readonly request: EgressRequest;
  readonly rule: string;
  readonly reason: string;
}

interface Ask {
  view: AskView;
  /** the task's id; `view.task` is its name */
  readonly taskId: string;
  /** the requests that are held for it, by the proxy's numbers */
  readonly held: Map<number, Asked>;
}

export class Asks {
  readonly #asks = new Map<string, Ask>();
  readonly #followers = new Wakeups();
  #next = 1;
  /** counts every change of the list */
  revision = 0;

  /** A request that is held, with the proxy's number for it, or one that was refused. Tells whether it opened a new ask. */
  add(task: { id: string; name: string }, { held: number, ...asked }: Asked & { held?: number }): AskView & { opened: boolean } {
    const domain = registrableDomain(asked.request.host);
    const state = number === undefined ? "refused" : "pending";
    const known = this.#home(task.id, domain, asked.request.host);
    const offer = narrowestRule(asked.request);
    if (known) {
      const held = known.held.size > 0 || state === "pending";
      known.view = { ...known.view, state: held ? "pending" : "refused", count: known.view.count + 1, request: asked.request, offer };
      if (number !== undefined && known.held.size < MAX_HELD) known.held.set(number, asked);
      this.#changed();
      return { ...known.view, opened: false };
    }
    this.#makeRoom(task.id);
    const view: AskView = {
      id: `a${this.#next++}`,
      task: task.name,
      state,
      domain,
      count: 1,
      first: new Date().toISOString(),
      request: asked.request,
      rule: asked.rule,
      reason: asked.reason,
      offer,
    };
    this.#asks.set(view.id, { view, taskId: task.id, held: new Map(number === undefined ? [] : [[number, asked]]) });
    this.#changed();
    return { ...view, opened: true };
  }

  /** A held request of the task is held no longer. What nobody waits for any more stays in the list as refused. */
  letGo(taskId: string, held: number): void {
    for (const ask of this.#asks.values()) {
      if (ask.taskId !== taskId || !ask.held.delete(held)) continue;
      if (ask.held.size === 0) ask.view = { ...ask.view, state: "refused" };
      this.#changed();
    }
  }

  get(id: string): { view: AskView; taskId: string } {
    const ask = this.#asks.get(id);
    if (ask) return { view: ask.view, taskId: ask.taskId };
    throw new ProblemError({
      code: "ask.unknown",
      message: `There is no open question ${id} any more.`,
      next: ["Run `cloche asks` to see those there are."],
    });
  }

  /** It is open no more; answers with the requests that are still held for it. */
  take(id: string): (Asked & { held: number })[] {
    const ask = this.#asks.get(id);
    if (this.#asks.delete(id)) this.#changed();
    return [...(ask?.held ?? [])].map(([held, asked]) => ({ ...asked, held }));
  }

  /** The task's machine is gone: nothing is held any more. `all`: nor is anything of it listed. */
  end(taskId: string, all: boolean): void {
    for (const [id, ask] of this.#asks) {
      if (ask.taskId !== taskId) continue;
      ask.held.clear();
      ask.view = { ...ask.view, state: "refused" };
      if (all) this.#asks.delete(id);
      this.#changed();
    }
  }

  count(taskId: string): number {
    return this.#of(taskId).length;
  }

  /** Those that wait first, then the newest. Answers at once, or when the list is no longer that of `revision`. */
  async list(query: {
    taskId?: string | undefined;
    revision?: number | undefined;
    waitMs: number;
  }): Promise<{ asks: AskView[]; revision: number }> {
    if (query.revision === this.revision && query.waitMs > 0) await this.#followers.next(query.waitMs);
    const asks = query.taskId === undefined ? [...this.#asks.values()] : this.#of(query.taskId);
    const rank = ({ view }: Ask) => (view.state === "pending" ? 0 : 1);
    asks.sort((a, b) => rank(a) - rank(b) || Number(b.view.id.slice(1)) - Number(a.view.id.slice(1)));
    return { asks: asks.slice(0, 500).map(({ view }) => view), revision: this.revision };
  }

  /** The ask that a request to the host belongs to; undefined where it opens one. */
  #home(taskId: string, domain: string, host: string): Ask | undefined {
    const of = this.#of(taskId).filter(({ view }) => view.domain === domain);
    return of.find(({ view }) => view.request.host === host) ?? (of.length < MAX_PER_DOMAIN ? undefined : of.at(-1));
  }

  #of(taskId: string): Ask[] {
    return [...this.#asks.values()].filter((ask) => ask.taskId === taskId);
  }

  #makeRoom(taskId: string): void {
    const own = this.#of(taskId);
    if (own.length < MAX_PER_TASK) return;
    const oldest = own.find((ask) => ask.held.size === 0) ?? own[0];
    if (oldest) this.#asks.delete(oldest.view.id);
  }

  #changed(): void {
    this.revision++;
    this.#followers.wake();
  }
}
