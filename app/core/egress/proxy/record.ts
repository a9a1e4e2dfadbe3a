/**
 * What is told to the keeper: decisions before anything of them leaves, ends after. Entries go in batches, a few at a time unrecorded,
 * so under load the cost of being written down is one round trip for all that waits.
 */
import { type EgressEntry, MAX_ENTRIES } from "../../../contract/index.ts";
import { MAX_BATCHES } from "../protocol.ts";
import { MAX_UNTOLD, RECORD_MS } from "./limits.ts";

/** Characters of one batch: as JSON it must fit a line, and a character may become two there. */
const MAX_BATCH_CHARS = 300_000;
/** What `ended` waits for company, in ms: nobody waits for it. */
const ENDED_DELAY_MS = 50;

/** The keeper did not write a decision down in time, or too many wait for it. */
export class NotRecorded extends Error {}

interface Decision {
  /** when it is too late to write it down */
  readonly by: number;
  readonly resolve: () => void;
  readonly reject: (error: NotRecorded) => void;
}

interface Waiting {
  readonly entry: EgressEntry;
  readonly decision?: Decision;
}

export class Recorder {
  readonly #send: (batch: number, entries: EgressEntry[]) => void;
  #waiting: Waiting[] = [];
  #untold = 0;
  /** those that somebody waits for, oldest first */
  readonly #awaited = new Set<Decision>();
  #late: NodeJS.Timeout | undefined;
  readonly #underWay = new Map<number, Waiting[]>();
  #batch = 0;
  #flushing: "soon" | "later" | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(send: (batch: number, entries: EgressEntry[]) => void) {
    this.#send = send;
  }

  /** Resolves when the entry is written down; rejects with NotRecorded. */
  decided(entry: EgressEntry): Promise<void> {
    if (this.#untold >= MAX_UNTOLD) return Promise.reject(new NotRecorded("too many decisions wait to be written down"));
    this.#untold++;
    return new Promise((resolve, reject) => {
      const decision = { by: performance.now() + RECORD_MS, resolve, reject };
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
    if (this.#waiting.length === 0) {
      this.#flushing = "later";
      this.#timer = setTimeout(() => this.#flush(), ENDED_DELAY_MS);
    }
    this.#waiting.push({ entry });
  }

  recorded(batch: number): void {
    for (const [number, entries] of this.#underWay) {
      if (number > batch) break;
      this.#underWay.delete(number);
      for (const { decision } of entries) {
        if (!decision) continue;
        this.#untold--;
        this.#awaited.delete(decision);
        decision.resolve(); // without effect on one that was too late
      }
    }
    // ends alone go on waiting for company
    if (this.#waiting.length > 0 && this.#flushing !== "later") this.#soon();
  }

  /** With all that comes in this turn of the event loop. */
  #soon(): void {
    if (this.#flushing === "soon") return;
    this.#flushing = "soon";
    setImmediate(() => this.#flush());
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
      const batch = this.#waiting.splice(0, count);
      this.#underWay.set(++this.#batch, batch);
      this.#send(
        this.#batch,
        batch.map(({ entry }) => entry),
      );
    }
  }
}
