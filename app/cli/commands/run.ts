/** `cloche run`: a task made, started, worked in, and gone. `cloche exec` and `cloche shell` work in one that is there. */
import { type AskView, type Client, MAX_EXEC_MS, type Problem, ProblemError, type TaskView, toProblem } from "../../contract/index.ts";
import { duration, environmentArguments, type OptionTable, type Parsed, parse, usage } from "../args.ts";
import { AskTerminal, hasTerminal } from "../ask-terminal.ts";
import { type AttachOptions, attach, type Ended, type RunningCommand } from "../attach.ts";
import { showProgress } from "../progress.ts";
import { checkResultPlace, note, noteProblem, type Session, writeResult } from "../session.ts";
import { refusedLines } from "../show-network.ts";
import { type EndingSignal, onEndingSignal } from "../signals.ts";
import { endWithChanges } from "./after-run.ts";
import { newTaskParams, readTaskOptions, TASK_OPTIONS } from "./options.ts";

const EXEC_OPTIONS: OptionTable = { "--env": "values", "--timeout": "value", "--result": "value", "-t": "flag", "-T": "flag" };
const RUN_OPTIONS: OptionTable = { ...TASK_OPTIONS, ...EXEC_OPTIONS, "--keep": "flag", "--ask": "flag" };

/** status of everything that is ours and not the workload's */
const OURS = 125;
/** what an interrupted command may take to end by itself before the task is stopped under it */
const INTERRUPT_GRACE_MS = 3_000;

interface RunResult {
  version: 1;
  task: string;
  status: number;
  signal?: string;
  startMs?: number;
  totalMs: number;
  /** changes that wait to be applied or discarded */
  waiting?: number;
  problem?: Problem;
}

export async function run(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, RUN_OPTIONS, 0);
  if (parsed.workload.length === 0) throw usage("`cloche run` needs a command: cloche run --share DIR -- COMMAND.");
  const began = performance.now();
  const keep = parsed.flags.has("--keep");
  if (parsed.flags.has("--ask") && !hasTerminal()) {
    throw usage(
      "--ask asks on a terminal, and there is none.",
      "Leave --ask out: what was refused is listed at the end, with what allows it.",
    );
  }
  // all of it is read before anything is made, so that a slip of the pen costs no task and no start
  const wanted = readTaskOptions(parsed);
  const command = readCommandOptions(parsed);
  const result: RunResult = { version: 1, task: "", status: OURS, totalMs: 0 };
  const interrupts = new Interrupts();
  let keeper: Client | undefined;
  let task: TaskView | undefined;
  let asking: AskTerminal | undefined;
  let refused: readonly AskView[] = [];
  let ending: Promise<void> | undefined;
  // once, and by its id: a name may by then be the beginning of another task's
  const endOnce = (): Promise<void> => {
    if (task) ending ??= end(keeper, task.id, keep);
    return ending ?? Promise.resolve();
  };
  try {
    keeper = await session.keeper();
    interrupts.check();
    task = await keeper.call("tasks.create", await newTaskParams(keeper, wanted, !keep));
    const { id, name, wall } = task;
    result.task = name;
    interrupts.onStop = () => {
      asking?.stop();
      return endOnce().catch(() => {}); // told below
    };
    interrupts.check();
    note(`cloche: ${wall}`);
    const running = await showProgress(keeper, task, () => (keeper as Client).call("tasks.start", { task: id, lease: "client" }));
    if (running.state.at === "running") result.startMs = running.state.startMs;
    const options = attachOptions(command, id, parsed.workload, interrupts);
    if (parsed.flags.has("--ask")) {
      const hold = () => interrupts.command?.hold() ?? (() => {});
      asking = new AskTerminal(keeper, { task: id, hold, tellOnly: () => options.terminal });
      await asking.begin();
    }
    const ended = await attach(keeper, options);
    finishTimeout(command, ended, began);
    Object.assign(result, ended);
  } catch (error) {
    result.status = interrupts.status ?? OURS;
    if (interrupts.status === undefined) {
      result.problem = toProblem(error);
      noteProblem(result.problem);
    }
  }
  if (interrupts.status !== undefined && result.signal === undefined) result.status = interrupts.status;
  asking?.stop();
  try {
    // with the task go the asks of a run that is not kept
    if (keeper && task && !ending) refused = await asksOf(keeper, task.id);
    await endOnce();
    if (keep && task) note(`cloche: kept as ${task.name}; \`cloche start ${task.name}\` starts it again.`);
  } catch (error) {
    noteProblem(toProblem(error));
  }
  interrupts.end();
  for (const line of refusedLines(task?.name ?? "", refused, !keep)) note(line);
  try {
    if (keeper && task) result.waiting = await endWithChanges(keeper, task.id, interrupts.status === undefined);
  } catch (error) {
    noteProblem(toProblem(error));
  }
  result.totalMs = Math.round(performance.now() - began);
  if (command.resultPath !== undefined) writeResult(command.resultPath, result);
  return result.status;
}

export async function exec(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, EXEC_OPTIONS, 1);
  if (parsed.words.length !== 1 || parsed.workload.length === 0)
    throw usage("`cloche exec` needs a task and a command: cloche exec TASK -- COMMAND.");
  return inTask(session, parsed, parsed.workload, false);
}

export async function shell(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, EXEC_OPTIONS);
  if (parsed.words.length !== 1) throw usage("`cloche shell` needs a task: cloche shell TASK.");
  return inTask(session, parsed, undefined, true);
}

async function inTask(session: Session, parsed: Parsed, command: readonly Buffer[] | undefined, terminal: boolean): Promise<number> {
  const options = readCommandOptions(parsed, terminal);
  const keeper = await session.keeper();
  const task = parsed.words[0] ?? "";
  const began = performance.now();
  const interrupts = new Interrupts();
  interrupts.onStop = async () => interrupts.command?.leave();
  try {
    const ended = await attach(keeper, attachOptions(options, task, command, interrupts));
    finishTimeout(options, ended, began);
    const result: RunResult = { version: 1, task, ...ended, totalMs: Math.round(performance.now() - began) };
    if (options.resultPath !== undefined) writeResult(options.resultPath, result);
    return ended.status;
  } catch (error) {
    if (interrupts.status !== undefined) return interrupts.status;
    throw error;
  } finally {
    interrupts.end();
  }
}

/** What was typed of how a command runs. */
interface CommandOptions extends Pick<AttachOptions, "env" | "terminal" | "timeoutMs"> {
  /** the time limit as it was typed */
  readonly timeLimit?: string;
  /** where the result is written; it was possible when the options were read */
  readonly resultPath?: string;
}

function readCommandOptions({ flags, values, lists }: Parsed, terminal = false): CommandOptions {
  if (flags.has("-t") && flags.has("-T")) throw usage("-t and -T exclude each other.");
  // where nobody types, only a command without a terminal learns that its input has ended
  const typed = process.stdin.isTTY === true;
  const timeLimit = values["--timeout"];
  const resultPath = values["--result"];
  if (resultPath !== undefined) checkResultPlace(resultPath);
  return {
    env: environmentArguments(lists["--env"] ?? []),
    // whoever wants to be asked keeps the terminal, unless it is given away by -t
    terminal: flags.has("-t") || (!flags.has("-T") && !flags.has("--ask") && typed && (terminal || process.stdout.isTTY === true)),
    ...(timeLimit === undefined ? {} : { timeLimit, timeoutMs: duration(timeLimit, "--timeout", MAX_EXEC_MS) }),
    ...(resultPath === undefined ? {} : { resultPath }),
  };
}

function attachOptions(
  { env, terminal, timeoutMs }: CommandOptions,
  task: string,
  command: readonly Buffer[] | undefined,
  interrupts: Interrupts,
): AttachOptions {
  return {
    task,
    env,
    terminal,
    ...(command ? { command } : {}),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    onCommand: (running) => {
      interrupts.command = running;
    },
  };
}

/** A command that was ended because its time was up says so; its status stays the signal's. */
function finishTimeout({ timeLimit, timeoutMs }: CommandOptions, ended: Ended, began: number): void {
  if (timeoutMs === undefined || ended.status < 128 || performance.now() - began < timeoutMs) return;
  noteProblem({
    code: "exec.timeout",
    message: `The command ran longer than ${timeLimit} and was ended.`,
    next: ["Give it more time with --timeout."],
  });
}

/** None where the task or the keeper is gone: that is told as what it is, and what follows is done all the same. */
async function asksOf(keeper: Client, task: string): Promise<readonly AskView[]> {
  try {
    return (await keeper.call("asks.list", { task, waitMs: 0 })).asks;
  } catch (error) {
    if (error instanceof ProblemError && ["task.unknown", "keeper.lost"].includes(error.problem.code)) return [];
    throw error;
  }
}

async function end(keeper: Client | undefined, task: string, keep: boolean): Promise<void> {
  if (!keeper) return;
  try {
    if (keep) await keeper.call("tasks.stop", { task, now: false });
    else await keeper.call("tasks.remove", { task, discard: false });
  } catch (error) {
    // already gone, by an interrupt that came first
    if (!(error instanceof ProblemError && ["task.unknown", "keeper.lost"].includes(error.problem.code))) throw error;
  }
}

/**
 * Ctrl-C and friends. While a command runs the first one goes to the command, as in a shell; a second one, or one that nothing takes,
 * stops the task. A terminal in raw mode sends its Ctrl-C as a byte and never comes here.
 */
class Interrupts {
  command: RunningCommand | undefined;
  onStop: () => Promise<void> = async () => {};
  /** the status a shell gives for the signal that came, once the task is stopped for it */
  status: number | undefined;
  #forwarded = false;
  /** no signal comes here any more */
  readonly end = onEndingSignal((name, status) => this.#got(name, status));

  /** Throws when a signal came before there was anything to stop. */
  check(): void {
    if (this.status !== undefined) throw new ProblemError({ code: "machine.stopped", message: "Interrupted.", next: [] });
  }

  #got(name: EndingSignal, status: number): void {
    if (this.command && name === "SIGINT" && !this.#forwarded) {
      this.#forwarded = true;
      this.command.signal("INT");
      setTimeout(() => {
        if (this.command) this.#stop(status);
      }, INTERRUPT_GRACE_MS).unref();
      return;
    }
    this.#stop(status);
  }

  #stop(status: number): void {
    if (this.status !== undefined) return;
    this.status = status;
    void this.onStop();
  }
}
