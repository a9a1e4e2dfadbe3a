/**
 * The start's steps and its deadline. The deadline moves with every sign of progress (a step, a console byte, a call of the agent),
 * so a slow machine is waited for and a hung one is not. Time is the monotonic clock's: a jump of the wall clock changes nothing.
 */
import { ProblemError, type StartStep, type StepRecord } from "../../contract/index.ts";

/** Silence after which a start has failed, on a machine of speed factor 1; a healthy one is silent for 1 s at most. */
const SILENCE_MS = 20_000;
const LOOK_EVERY_MS = 250;

export class StartProgress {
  readonly #began = performance.now();
  readonly #steps: StepRecord[] = [];
  readonly #onStep: (record: StepRecord, phase: "began" | "ended") => void;
  #last = performance.now();
  #timer: NodeJS.Timeout | undefined;

  constructor(onStep: (record: StepRecord, phase: "began" | "ended") => void) {
    this.#onStep = onStep;
  }

  get steps(): StepRecord[] {
    return this.#steps.map((record) => ({ ...record }));
  }
  get elapsedMs(): number {
    return Math.round(performance.now() - this.#began);
  }

  /** Runs one step; its end is recorded only when it succeeds, so a failed start shows what it waited for. */
  async step<T>(step: StartStep, waitingFor: string, work: () => Promise<T>): Promise<T> {
    const record: StepRecord = { step, beganMs: this.elapsedMs, waitingFor };
    this.#steps.push(record);
    this.mark();
    this.#onStep(record, "began");
    const result = await work();
    record.endedMs = this.elapsedMs;
    this.mark();
    this.#onStep(record, "ended");
    return result;
  }

  /** Something happened. */
  mark(): void {
    this.#last = performance.now();
  }

  /** Calls `onSilence` once when nothing has happened for too long. */
  watch(speedFactor: number, onSilence: (problem: ProblemError) => void): void {
    const limit = SILENCE_MS * speedFactor;
    this.#timer = setInterval(() => {
      if (performance.now() - this.#last < limit) return;
      this.end();
      const open = this.#steps.filter((record) => record.endedMs === undefined);
      onSilence(
        new ProblemError({
          code: "machine.no-progress",
          message: `The start made no progress for ${Math.round(limit / 1000)} s while waiting for ${open.map((record) => record.waitingFor).join(" and ") || "the guest"}. It was given up; nothing of it is left.`,
          next: ["Start the task again.", "Run `cloche doctor`; `cloche logs TASK --console` shows how far the guest came."],
        }),
      );
    }, LOOK_EVERY_MS);
  }

  end(): void {
    clearInterval(this.#timer);
  }
}
