/**
 * How much of what a guest says is kept in its events. The guest may say anything at any pace, and each line is written to the
 * host's disk: a burst is kept whole, beyond it a trickle, and the next line that is kept tells how many were not.
 */
const BURST_BYTES = 262_144;
/** 256 B/s is 22 MB a day, the most that a task's guest can make its events grow by logging. */
const BYTES_PER_SECOND = 256;
/** what a line's envelope takes beside its message */
const ENVELOPE_BYTES = 320;

export class GuestLogBudget {
  readonly #now: () => number;
  #left = BURST_BYTES;
  #at: number;
  #lost = 0;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#at = now();
  }

  /** Whether a line is kept, and how many before it were not. */
  take(message: string): { lost?: number } | undefined {
    const now = this.#now();
    this.#left = Math.min(BURST_BYTES, this.#left + ((now - this.#at) / 1000) * BYTES_PER_SECOND);
    this.#at = now;
    const cost = ENVELOPE_BYTES + Buffer.byteLength(JSON.stringify(message));
    if (cost > this.#left) {
      this.#lost++;
      return undefined;
    }
    this.#left -= cost;
    const lost = this.#lost;
    this.#lost = 0;
    return lost === 0 ? {} : { lost };
  }
}
