/**
 * Asks answered on the terminal: while it watches, requests that no rule decides are held, and each is asked about in a line of its own.
 * What a workload sent to the terminal before, or a person typed for it, answers nothing.
 */
import { closeSync, constants, openSync, readSync } from "node:fs";
import { ReadStream } from "node:tty";
import { type AskView, type Client, toProblem } from "../contract/index.ts";
import { note, noteProblem } from "./session.ts";
import { allowLine, holds, oneLine, requestWords, ruleWords } from "./show-network.ts";

const WAIT_MS = 10_000;
const TERMINAL = "/dev/tty";

export type Answer = "allow" | "once" | "deny";

/** Whether there is a terminal to ask on, whatever standard input and output are. */
export function hasTerminal(): boolean {
  try {
    closeSync(openSync(TERMINAL, constants.O_RDWR | constants.O_NOCTTY));
    return true;
  } catch {
    return false;
  }
}

export interface AskOptions {
  /** absent: the asks of every task */
  readonly task?: string;
  /** takes the terminal from whoever writes to it, and gives it back */
  readonly hold: () => () => void;
  /** the terminal is the workload's, so that an ask is told of and answered elsewhere */
  readonly tellOnly: () => boolean;
}

/** Asks until it is stopped. */
export class AskTerminal {
  readonly #keeper: Client;
  readonly #options: AskOptions;
  readonly #told = new Set<string>();
  #pending: readonly AskView[] = [];
  #prompt: { ask: string; cancel: AbortController } | undefined;
  #stopped = false;

  constructor(keeper: Client, options: AskOptions) {
    this.#keeper = keeper;
    this.#options = options;
  }

  /** Resolves when asks are held for this client; asking goes on beside. */
  async begin(): Promise<void> {
    const task = this.#options.task === undefined ? {} : { task: this.#options.task };
    await this.#keeper.call("asks.watch", task);
    void this.#watch(task);
  }

  stop(): void {
    this.#stopped = true;
    this.#prompt?.cancel.abort();
  }

  async #watch(task: { task?: string }): Promise<void> {
    let revision: number | undefined;
    try {
      while (!this.#stopped) {
        const list = await this.#keeper.call("asks.list", { ...task, waitMs: WAIT_MS, ...(revision === undefined ? {} : { revision }) });
        revision = list.revision;
        this.#pending = list.asks.filter(({ state }) => state === "pending");
        this.#look();
      }
    } catch (error) {
      this.stop();
      const problem = toProblem(error);
      // the task's end, and the keeper's, are told by whoever waits for them
      if (!["task.unknown", "keeper.lost"].includes(problem.code)) noteProblem(problem);
    }
  }

  #look(): void {
    if (this.#stopped) return;
    if (this.#options.tellOnly()) {
      for (const ask of this.#pending) this.#tell(ask);
    } else if (this.#prompt) {
      if (!this.#pending.some(({ id }) => id === this.#prompt?.ask)) this.#prompt.cancel.abort();
    } else if (this.#pending[0]) void this.#ask(this.#pending[0]);
  }

  #tell(ask: AskView): void {
    if (this.#told.has(ask.id)) return;
    this.#told.add(ask.id);
    note(`\r${askWords(ask)}; in another terminal: ${allowLine(ask.task, ask.offer)}`);
  }

  async #ask(ask: AskView): Promise<void> {
    const prompt = { ask: ask.id, cancel: new AbortController() };
    this.#prompt = prompt;
    const release = this.#options.hold();
    try {
      const answer = await question(ask, prompt.cancel.signal);
      if (answer !== undefined) await this.#answer(ask, answer);
    } catch (error) {
      noteProblem(toProblem(error));
    }
    release();
    this.#prompt = undefined;
    this.#pending = this.#pending.filter(({ id }) => id !== ask.id);
    this.#look();
  }

  async #answer(ask: AskView, answer: Answer): Promise<void> {
    const scope = answer === "once" ? "once" : "task";
    const { rule } = await this.#keeper.call("asks.answer", {
      ask: ask.id,
      answer: answer === "deny" ? "deny" : "allow",
      scope,
      rule: ask.offer, // the one that was shown: later requests to the domain change the keeper's offer
    });
    const undo = answer === "once" ? "" : `; \`cloche policy rm ${ask.task} ${rule.id}\` takes it back`;
    note(`cloche: rule ${rule.id}: ${ruleWords(rule)}, ${holds(rule.scope)}${undo}`);
  }
}

export const askWords = (ask: AskView): string =>
  oneLine(`cloche: ${ask.task} asks for ${requestWords(ask.request)}${ask.count > 1 ? ` (request ${ask.count} to ${ask.domain})` : ""}`);

/** The answer, or undefined when the question was taken back. */
async function question(ask: AskView, cancelled: AbortSignal): Promise<Answer | undefined> {
  const fd = openSync(TERMINAL, constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK);
  dropTyped(fd);
  const terminal = new ReadStream(fd);
  const write = (text: string) => process.stderr.write(text);
  try {
    note(askWords(ask));
    note(`cloche: the rule: ${ruleWords(ask.offer)}`);
    const prompt = "cloche: allow it (a), this one request (once), or deny it (d)? ";
    write(prompt);
    for (;;) {
      const line = await nextLine(terminal, cancelled);
      if (line === undefined) {
        write("\n");
        note("cloche: nobody waits for that answer any more.");
        return undefined;
      }
      const answer = answerOf(line);
      if (answer) return answer;
      write(`cloche: type a, once or d, then Enter. ${prompt.slice("cloche: ".length)}`);
    }
  } finally {
    terminal.destroy();
  }
}

export function answerOf(line: string): Answer | undefined {
  const word = line.trim().toLowerCase();
  if (word === "a" || word === "allow") return "allow";
  if (word === "o" || word === "once") return "once";
  return word === "d" || word === "deny" ? "deny" : undefined;
}

/** Lines that stood in the terminal before the question did. */
function dropTyped(fd: number): void {
  const bytes = Buffer.alloc(4096);
  try {
    while (readSync(fd, bytes) > 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
  }
}

/** Undefined when it was cancelled, or the terminal is gone. */
function nextLine(terminal: ReadStream, cancelled: AbortSignal): Promise<string | undefined> {
  return new Promise((resolve) => {
    let typed = "";
    const done = (line: string | undefined) => {
      terminal.off("data", onData).off("end", onGone).off("error", onGone).pause();
      cancelled.removeEventListener("abort", onGone);
      resolve(line);
    };
    const onGone = () => done(undefined);
    const onData = (chunk: Buffer) => {
      typed = `${typed}${chunk.toString("utf8")}`.slice(-4096);
      const end = typed.indexOf("\n");
      if (end >= 0) done(typed.slice(0, end));
    };
    if (cancelled.aborted) return resolve(undefined);
    terminal.on("data", onData).once("end", onGone).once("error", onGone).resume();
    cancelled.addEventListener("abort", onGone);
  });
}
