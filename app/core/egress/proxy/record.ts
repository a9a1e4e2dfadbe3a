/**
 * What is told to the keeper: decisions, and ends after. A decision is over when it is written down: in the proxy's journal, where it has
 * one that may be written, and told soon after; else by the keeper. Entries go in batches, a few at a time unrecorded, so under load the
 * cost of being told is one round trip for all that waits.
 */
import { type EgressEntry, MAX_ENTRIES } from "../../../contract/index.ts";
import { MAX_BATCHES } from "../protocol.ts";
import { AHEAD_MS, MAX_AHEAD, MAX_UNTOLD, RECORD_MS, TELL_MS } from "./limits.ts";

/** Characters of one batch: as JSON it must fit a line, and a character may become two there. */
const MAX_BATCH_CHARS = 300_000;
/** What `ended` waits for company, in ms: nobody waits for it. */
const ENDED_DELAY_MS = 50;

/** The keeper did not write a decision down in time, or too many wait for it. */
export class NotRecorded extends Error {}

/** The journal as its writer sees it. */
export interface DecisionJournal {
  readonly seq: number;
  /** all or none; answers whether what they allow may leave */
  write(entries: readonly EgressEntry[]): boolean;
  /** everything in it is in the log */
  allTold(): void;
}

interface Decision {
  /** when it is too late to write it down */
  readonly by: number;
  /** it may be over by the journal */
  readonly byAny: boolean;
  readonly resolve: () => void;
  readonly reject: (error: NotRecorded) => void;
}

interface Waiting {
  readonly entry: EgressEntry;
  readonly decision?: Decision;
  /** its line in the journal */
  journaled?: number;
}

interface Batch {
  readonly entries: readonly Waiting[];
  readonly from: number;
}

export class Recorder {
  readonly #send: (batch: number, entries: EgressEntry[], journaled: number | undefined) => void;
  readonly #journal: DecisionJournal | undefined;
  #waiting: Waiting[] = [];
  /** in the journal, and not recorded */
  #ahead = 0;
  #untold = 0;
  /** those that somebody waits for, oldest first */
  readonly #awaited = new Set<Decision>();
  #late: NodeJS.Timeout | undefined;
  readonly #underWay = new Map<number, Batch>();
  #batch = 0;
  #flushing: "soon" | "later" | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(send: (batch: number, entries: EgressEntry[], journaled: number | undefined) => void, journal?: DecisionJournal) {
    this.#send = send;
    this.#journal = journal;
  }

  /** Resolves when the entry is written down; rejects with NotRecorded. */
  decided(entry: EgressEntry, written: "by any" | "by the keeper" = "by any"): Promise<void> {
    if (this.#untold >= MAX_UNTOLD) return Promise.reject(new NotRecorded("too many decisions wait to be written down"));
    this.#untold++;
    return new Promise((resolve, reject) => {
      const decision = { by: performance.now() + RECORD_MS, byAny: written === "by any", resolve, reject };
      this.#awaited.add(decision);
      if (!this.#late) this.#endLate(RECORD_MS);
      this.#waiting.push({ entry, decision });
      this.#soon();
    });
  }

  /** One timer, for the oldest, so that a decision costs none. */
  #endLate(afterMs: number): void {
    this.#late = setTimeout(() => {
      this.#late = undefined;
      const now = performance.now();
      for (const decision of this.#awaited) {
        if (decision.by - now >= 1) return this.#endLate(decision.by - now);
        this.#awaited.delete(decision);
        decision.reject(new NotRecorded(`no decision was written down within ${RECORD_MS / 1000} s`));
      }
    }, afterMs);
  }

  /** The end of something that was recorded as decided: there are no more of them than of those. */
  ended(entry: EgressEntry): void {
    // what waits already goes as soon as it may, and this with it
    if (this.#waiting.length === 0) this.#later(ENDED_DELAY_MS);
    this.#waiting.push({ entry });
  }

  recorded(batch: number): void {
    for (const [number, { entries }] of this.#underWay) {
      if (number > batch) break;
      this.#underWay.delete(number);
      for (const { decision, journaled } of entries) {
        if (journaled !== undefined) this.#ahead--;
        if (!decision) continue;
        this.#untold--;
        this.#awaited.delete(decision);
        decision.resolve(); // without effect on one that was too late, or is over already
      }
    }
    if (this.#ahead === 0) this.#journal?.allTold();
    // what nobody waits for goes on waiting for company
    if (this.#waiting.length > 0 && this.#flushing !== "later") this.#soon();
  }

  /** With all that comes in this turn of the event loop. */
  #soon(): void {
    if (this.#flushing === "soon") return;
    clearTimeout(this.#timer);
    this.#flushing = "soon";
    setImmediate(() => {
      this.#writeDown();
      if (this.#waiting.length < MAX_ENTRIES && this.#waiting.every(({ decision, journaled }) => !decision || journaled !== undefined))
        this.#later(TELL_MS);
      else this.#flush();
    });
  }

  #later(ms: number): void {
    this.#flushing = "later";
    this.#timer = setTimeout(() => this.#flush(), ms);
  }

  /** Has the decisions of this turn over, where the journal takes them. */
  #writeDown(): void {
    const [oldest] = this.#underWay.values();
    if (!this.#journal || (oldest && performance.now() - oldest.from > AHEAD_MS)) return;
    const taken = this.#waiting.filter(({ decision, journaled }) => decision?.byAny && journaled === undefined);
    if (taken.length === 0 || this.#ahead + taken.length > MAX_AHEAD) return;
    const first = this.#journal.seq + 1;
    if (!this.#journal.write(taken.map(({ entry }) => entry))) return;
    this.#ahead += taken.length;
    for (const [at, waiting] of taken.entries()) {
      waiting.journaled = first + at;
      if (!waiting.decision) continue;
      this.#awaited.delete(waiting.decision);
      waiting.decision.resolve();
    }
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#flushing = undefined;
    while (this.#waiting.length > 0 && this.#underWay.size < MAX_BATCHES) {
      let chars = 0;
      let count = 0;
      for (const { entry } of this.#waiting) {
        chars += 512 + entry.request.path.length + entry.request.host.length + (entry.reason?.length ?? 0);
        if (count === MAX_ENTRIES || (count > 0 && chars > MAX_BATCH_CHARS)) break;
        count++;
      }
      const entries = this.#waiting.splice(0, count);
      this.#underWay.set(++this.#batch, { entries, from: performance.now() });
      this.#send(
        this.#batch,
        entries.map(({ entry }) => entry),
        entries.findLast(({ journaled }) => journaled !== undefined)?.journaled,
      );
    }
  }
}
