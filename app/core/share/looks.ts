/**
 * Looks at places on the host that may lie on a filesystem that does not answer: a hung network mount, a FUSE program that stands still.
 * Such a look holds one of the process's few threads for as long as it takes, for ever maybe. So each is given up after a while, a place
 * that has not answered yet is not looked at again, and there are never so many looks that no thread is left for the rest.
 */
import { ProblemError } from "../../contract/index.ts";

const DEADLINE_MS = 10_000;
/** half of the threads that the keeper's process has (its main.ts) */
export const MAX_LOOKS = 8;

export class Looks {
  readonly #deadlineMs: number;
  #open = 0;
  readonly #waiting: (() => void)[] = [];
  /** places whose look was given up and has not ended */
  readonly #silent = new Set<string>();

  constructor(deadlineMs = DEADLINE_MS) {
    this.#deadlineMs = deadlineMs;
  }

  /** The look's outcome, or a refusal when the filesystem does not answer in time. `name` is the folder's. */
  async at<T>(path: Buffer, name: string, look: () => Promise<T>): Promise<T> {
    const place = path.toString("latin1");
    if (this.#silent.has(place)) throw silent(name);
    let begun = false;
    const looked = this.#inTurn(() => {
      begun = true;
      return look();
    });
    const over = () => this.#silent.delete(place);
    looked.then(over, over);
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      if (begun) this.#silent.add(place);
      late.reject(silent(name));
    }, this.#deadlineMs);
    try {
      return await Promise.race([looked, late.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #inTurn<T>(look: () => Promise<T>): Promise<T> {
    if (this.#open >= MAX_LOOKS) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#open++;
    try {
      return await look();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#open--;
    }
  }
}

/** The threads are the process's, and so are the looks. */
export const looks = new Looks();

const silent = (name: string) =>
  new ProblemError({
    code: "share.unreadable",
    message: `The filesystem of the folder ${JSON.stringify(name)} does not answer, so it was not shared.`,
    next: ["See whether `ls` of that folder answers; a network or cloud drive may have lost its connection."],
  });
