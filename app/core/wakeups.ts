/** Who waits for something new: a bounded time each, all woken together. */
export class Wakeups {
  readonly #waiting = new Set<() => void>();

  wake(): void {
    for (const done of this.#waiting) done();
  }

  /** Resolves at the next `wake`, or after `ms`. */
  next(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.#waiting.add(done);
    });
  }
}
