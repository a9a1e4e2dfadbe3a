/** Requests that no rule decides, held while someone is asked. */
import { type EgressDecision, type EgressRequest, MAX_PENDING_ASKS } from "../../../contract/index.ts";
import { registrableDomain } from "../policy/index.ts";
import { ASK_MS, MAX_HELD } from "./limits.ts";

export interface AskNotices {
  asked(notice: { ask: number; request: EgressRequest; rule: string; reason: string }): void;
  unasked(notice: { ask: number; why: "left" | "time" | "answered" }): void;
}

interface Held<V> {
  readonly request: EgressRequest;
  readonly domain: string;
  readonly settle: (verdict: V | undefined, why: "left" | "time" | "answered") => void;
}

export class Asks<V extends EgressDecision> {
  readonly #notices: AskNotices;
  readonly #held = new Map<number, Held<V>>();
  #next = 1;

  constructor(notices: AskNotices) {
    this.#notices = notices;
  }

  get pending(): number {
    return this.#held.size;
  }

  /** Whether one more can be held: of a domain that is asked about already, or of one more domain. */
  hasRoom(request: EgressRequest): boolean {
    if (this.#held.size >= MAX_HELD) return false;
    const domains = new Set([...this.#held.values()].map(({ domain }) => domain));
    return domains.has(registrableDomain(request.host)) || domains.size < MAX_PENDING_ASKS;
  }

  /** Resolves with the verdict that was reached meanwhile; with undefined when none was in time, or its client left. */
  hold(request: EgressRequest, verdict: V, signal: AbortSignal): Promise<V | undefined> {
    const ask = this.#next++;
    return new Promise((resolve) => {
      const settle: Held<V>["settle"] = (reached, why) => {
        if (!this.#held.delete(ask)) return;
        clearTimeout(timer);
        signal.removeEventListener("abort", left);
        this.#notices.unasked({ ask, why });
        resolve(reached);
      };
      const left = () => settle(undefined, "left");
      const timer = setTimeout(() => settle(undefined, "time"), ASK_MS);
      signal.addEventListener("abort", left, { once: true });
      this.#held.set(ask, { request, domain: registrableDomain(request.host), settle });
      this.#notices.asked({ ask, request, rule: verdict.rule, reason: verdict.reason });
      if (signal.aborted) left();
    });
  }

  /** One is decided by what the policy says now, whatever that is. */
  release(ask: number, decide: (request: EgressRequest) => V): void {
    const held = this.#held.get(ask);
    held?.settle(decide(held.request), "answered");
  }

  /** All are decided again; those about which the policy still says nothing wait on, as long as someone can answer. */
  reconsider(decide: (request: EgressRequest) => V, answering: boolean): void {
    for (const held of [...this.#held.values()]) {
      const verdict = decide(held.request);
      if (verdict.decision !== "ask" || !answering) held.settle(verdict, "answered");
    }
  }
}
