/**
 * Where a task's requests are decided: the policy, what its rules have let through, the requests that are under way under it, and the
 * record of all that.
 */
import type { EgressDecision, EgressRequest, Rule } from "../../../contract/index.ts";
import { type KeysInUse, keysGone } from "../credentials/index.ts";
import { decide } from "../policy/index.ts";
import type { BoundSecret, EffectivePolicy } from "../protocol.ts";
import { type AskNotices, Asks } from "./asks.ts";
import { CLOCK_MS, MAX_REQUESTS, QUIET_MS } from "./limits.ts";
import type { Recorder } from "./record.ts";
import { type Refusal, type RefusalCode, refusal } from "./refusal.ts";

export interface Verdict extends EgressDecision {
  readonly matched?: Rule;
}

/** Why something under way ends although both sides would go on. */
export class Cut extends Error {
  readonly refusal: Refusal;
  /** as it stands in the record */
  readonly fault: string;
  constructor(refusal: Refusal, fault: string) {
    super(fault);
    this.refusal = refusal;
    this.fault = fault;
  }
}

/** The client is gone. */
export class Left extends Error {}

/** A request or tunnel that was allowed. */
export interface Live {
  readonly id: number;
  readonly request: EgressRequest;
  readonly matched: Rule;
  readonly control: AbortController;
  readonly from: number;
  /** in milliseconds, where what lets it go on has an end */
  until: number | undefined;
  sent: number;
  received: number;
  /** neither side sent anything since the last look */
  quiet: boolean;
  address?: string;
  status?: number;
  secret?: string;
  /** absent: it has none */
  keys?: KeysInUse;
}

export interface GateNotices extends AskNotices {
  unanswered(notice: { request: EgressRequest; rule: string; reason: string }): void;
}

/** A policy that is asked for each request from here on: its list is read once. */
const kept = (policy: EffectivePolicy): EffectivePolicy => ({ ...policy, rules: Object.freeze([...policy.rules]) as Rule[] });

export class Gate {
  readonly #recorder: Recorder;
  readonly #notices: GateNotices;
  readonly #asks: Asks<Verdict>;
  readonly #live = new Set<Live>();
  /** what rules with a budget let through since this process began */
  readonly #spent = new Map<string, { requests: number; bytes: number }>();
  #policy: EffectivePolicy;
  /** the last verdict, with all that it was made of: `decide` is pure */
  #last: { readonly request: EgressRequest; readonly policy: EffectivePolicy; readonly at: number; readonly verdict: Verdict } | undefined;
  #nextId = 1;
  /** the earliest end of a rule by which something is under way, and the look at that moment */
  #nextEnd = Number.POSITIVE_INFINITY;
  #endLook: NodeJS.Timeout | undefined;
  /** an outgoing proxy of the user's resolves names, but for those that a rule lets resolve to private addresses */
  proxied = false;

  constructor(policy: EffectivePolicy, recorder: Recorder, notices: GateNotices) {
    this.#policy = kept(policy);
    this.#recorder = recorder;
    this.#notices = notices;
    this.#asks = new Asks(notices);
    setInterval(() => this.#endQuiet(), QUIET_MS).unref();
  }

  get pendingAsks(): number {
    return this.#asks.pending;
  }
  get underWay(): number {
    return this.#live.size;
  }

  decide(request: EgressRequest): Verdict {
    if (this.#policy.broken !== undefined) {
      return {
        decision: "deny",
        rule: "broken",
        reason: `The task's network rules cannot be used, so nothing passes: ${this.#policy.broken}`,
      };
    }
    const now = new Date();
    const last = this.#last;
    // what was judged is opened in the same moment, most often
    if (last?.request === request && last.policy === this.#policy && last.at === now.getTime()) return last.verdict;
    const verdict = decide(request, this.#policy.rules, now, (rule) => this.#of(rule));
    this.#last = { request, policy: this.#policy, at: now.getTime(), verdict };
    return verdict;
  }

  /** The verdict on a request, reached by asking where no rule has one. Rejects with Left when its client does not wait. */
  async judge(request: EgressRequest, signal: AbortSignal): Promise<Verdict> {
    const verdict = this.decide(request);
    if (verdict.decision !== "ask") return verdict;
    if (!this.#policy.answering || !this.#asks.hasRoom(request)) {
      this.#notices.unanswered({ request, rule: verdict.rule, reason: verdict.reason });
      return verdict;
    }
    const reached = await this.#asks.hold(request, verdict, signal);
    if (signal.aborted) throw signal.reason;
    return reached ?? verdict;
  }

  /**
   * Counts and registers a request that was judged, by the policy as it is at this moment. From here on it is cut when a change of
   * policy no longer allows it. Nothing of it may leave before `record`.
   */
  open(request: EgressRequest, control: AbortController): Live | Verdict {
    const verdict = this.decide(request);
    const { matched } = verdict;
    if (verdict.decision !== "allow" || !matched) return verdict;
    if (this.#live.size >= MAX_REQUESTS) {
      return { decision: "deny", rule: "limits", reason: `More than ${MAX_REQUESTS} requests of this task are under way.` };
    }
    const from = performance.now();
    const live: Live = { id: this.#nextId++, request, matched, control, from, until: undefined, sent: 0, received: 0, quiet: false };
    this.#live.add(live);
    this.#goesOn(live, matched);
    this.#spend(matched, 1, 0);
    return live;
  }

  /**
   * Resolves when the decision is written down and the request's head counted, which may leave then. Rejects with NotRecorded, or with why
   * the request was cut meanwhile.
   */
  async record(live: Live, head = 0): Promise<void> {
    const { id, request, matched, secret } = live;
    const reason = matched.reason ?? `allowed by rule ${matched.id}`;
    // the keeper has counted what a rule's limit is spent by before another proxy could begin to count
    const limited = matched.requests !== undefined || matched.bytes !== undefined;
    await this.#recorder.decided(
      {
        id,
        at: Date.now(),
        what: "decided",
        request,
        decision: "allow",
        rule: matched.id,
        reason,
        resolution: this.proxied && matched.private === undefined ? "upstream" : "host",
        secret,
      },
      limited ? "by the keeper" : "by any",
    );
    this.countHead(live, head);
    if (live.control.signal.aborted) throw live.control.signal.reason;
  }

  /** A head leaves whole or not at all: one that is more than its rule has left is not counted, and cut. */
  countHead(live: Live, bytes: number): void {
    const { matched } = live;
    if (matched.bytes !== undefined && this.#of(matched).bytes + bytes > matched.bytes) this.#endSpent(live);
    else this.count(live, bytes, 0);
  }

  /** Bytes as they pass: of bodies, of answers' heads, of what is passed on unread. */
  count(live: Live, sent: number, received: number): void {
    live.sent += sent;
    live.received += received;
    live.quiet = false;
    const { matched } = live;
    if (matched.bytes === undefined) return;
    this.#spend(matched, 0, sent + received);
    if (this.#of(matched).bytes > matched.bytes) this.#endSpent(live);
  }

  #endSpent({ control, matched: { id, bytes } }: Live): void {
    const reason = `The rule ${id} lets ${bytes} bytes through, addresses and headers with them, and this is more. Your user can give it more.`;
    control.abort(new Cut(refusal(403, "policy.budget", reason, { rule: id }), "the rule's bytes are spent"));
  }

  /** Ends what `open` gave; what went wrong is `fault`. Twice is harmless. */
  close(live: Live, fault?: string, refused?: { reason: string }): void {
    if (!this.#live.delete(live)) return;
    const { id, request, matched, from, sent, received, address, status, secret } = live;
    this.#recorder.ended({
      id,
      at: Date.now(),
      what: "ended",
      request,
      decision: refused ? "deny" : undefined,
      rule: matched.id,
      reason: refused?.reason.slice(0, 1024),
      sentBytes: sent,
      receivedBytes: received,
      ms: Math.round(performance.now() - from),
      address,
      status,
      secret,
      fault: fault?.slice(0, 256),
    });
  }

  /** Records a refusal. Rejects with NotRecorded. */
  refused(request: EgressRequest, rule: string, reason: string): Promise<void> {
    return this.#recorder.decided({
      id: this.#nextId++,
      at: Date.now(),
      what: "decided",
      request,
      decision: "deny",
      rule,
      reason: reason.slice(0, 1024),
    });
  }

  /** A connection that no rule passes on unread: recorded, and listed where nobody has decided about it. */
  async opaqueRefused(request: EgressRequest, verdict: Verdict, reason: string): Promise<void> {
    if (verdict.decision === "ask") this.#notices.unanswered({ request, rule: verdict.rule, reason });
    await this.refused(request, verdict.rule, verdict.decision === "ask" ? reason : verdict.reason);
  }

  /** Answers with how many requests and tunnels it ended. */
  setPolicy(policy: EffectivePolicy): number {
    this.#policy = kept(policy);
    let closed = 0;
    const why = {
      code: "policy.changed",
      told: "The network rules were changed while this was under way.",
      fault: "the rules were changed",
    } as const;
    for (const live of [...this.#live]) if (this.#cutUnlessAllowed(live, why)) closed++;
    this.#asks.reconsider((request) => this.decide(request), policy.answering);
    return closed;
  }

  /** The task has these keys from here on: what goes on with another one, or where its key is no longer for it, is cut. */
  setSecrets(secrets: readonly BoundSecret[]): void {
    for (const live of this.#live) this.holdTo(live, secrets);
  }

  /** The same for one, which was prepared with what the task had then. */
  holdTo(live: Live, secrets: readonly BoundSecret[]): void {
    const gone = live.keys && keysGone(live.keys, secrets);
    if (gone === undefined) return;
    const reason = `The task's keys were changed while this was under way. ${gone}`;
    live.control.abort(new Cut(refusal(403, "credential.changed", reason, { rule: live.matched.id }), "its key was taken away"));
  }

  release(ask: number): void {
    this.#asks.release(ask, (request) => this.decide(request));
  }

  /**
   * The verdict on what is under way. It was counted when it began, so a rule that is used up by it still holds for it: by being left
   * out of the policy as spent, or by its count.
   */
  #still(live: Live): Verdict {
    const { matched, request } = live;
    if (this.#policy.broken !== undefined) return this.decide(request);
    const spent = matched.requests !== undefined && this.#of(matched).requests >= matched.requests;
    const listed = this.#policy.rules.some(({ id }) => id === matched.id);
    const rules = spent && !listed ? [...this.#policy.rules, matched] : this.#policy.rules;
    const verdict = decide(request, rules, new Date(), (rule) => {
      const { requests, bytes } = this.#of(rule);
      return rule.id === matched.id ? { requests: requests - 1, bytes } : { requests, bytes };
    });
    // the address was checked, and keys passed, by what the first rule said
    const now: Rule | undefined = verdict.matched;
    if (
      verdict.decision === "allow" &&
      now &&
      (now.private !== matched.private || now.credentials !== matched.credentials || now.opaque !== matched.opaque)
    ) {
      return { decision: "deny", rule: now.id, reason: "Another rule decides about it now, and on other conditions." };
    }
    return verdict;
  }

  /** Tells whether it was cut. */
  #cutUnlessAllowed(live: Live, { code, told, fault }: { code: RefusalCode; told: string; fault: string }): boolean {
    const verdict = this.#still(live);
    if (verdict.decision !== "allow") {
      live.control.abort(new Cut(refusal(403, code, `${told} ${verdict.reason}`, { rule: verdict.rule }), fault));
      return true;
    }
    this.#goesOn(live, verdict.matched);
    return false;
  }

  #goesOn(live: Live, by: Rule | undefined): void {
    live.until = by?.until === undefined ? undefined : Date.parse(by.until);
    if (live.until !== undefined) this.#lookAt(live.until);
  }

  /** One timer for all, at the earliest end. */
  #lookAt(end: number): void {
    if (end >= this.#nextEnd) return;
    this.#nextEnd = end;
    clearTimeout(this.#endLook);
    this.#endLook = setTimeout(() => this.#endOver(), Math.min(end - Date.now(), CLOCK_MS)).unref();
  }

  #endOver(): void {
    this.#nextEnd = Number.POSITIVE_INFINITY;
    const why = { code: "policy.over", told: "The rule that let this in is over.", fault: "its rule is over" } as const;
    for (const live of [...this.#live]) {
      if (live.until === undefined || live.control.signal.aborted) continue;
      // the clock may have been set back
      if (Date.now() < live.until) this.#lookAt(live.until);
      else this.#cutUnlessAllowed(live, why);
    }
  }

  /** One look for all, so that a byte costs no timer. */
  #endQuiet(): void {
    for (const live of this.#live) {
      if (live.quiet)
        live.control.abort(
          new Cut(refusal(504, "upstream.timeout", "Neither side sent anything for too long."), "neither side sent anything"),
        );
      live.quiet = true;
    }
  }

  #of(rule: Rule): { requests: number; bytes: number } {
    return this.#spent.get(rule.id) ?? { requests: 0, bytes: 0 };
  }

  #spend(rule: Rule, requests: number, bytes: number): void {
    if (rule.requests === undefined && rule.bytes === undefined) return;
    this.#last = undefined;
    const had = this.#of(rule);
    this.#spent.set(rule.id, { requests: had.requests + requests, bytes: had.bytes + bytes });
  }
}
