/** `new`, `start`, `stop`, `pause`, `resume`, `rm`, `ls`, `show`: tasks and their life. */
import { formatProblem, ProblemError, type TaskView } from "../../contract/index.ts";
import { type OptionTable, type Parsed, parse, usage } from "../args.ts";
import { showProgress } from "../progress.ts";
import { columns, note, noteProblem, print, printJson, type Session, stateWord } from "../session.ts";
import { waitingWords } from "../show-changes.ts";
import { folderFacts } from "../show-folder.ts";
import { networkRows } from "../show-network.ts";
import { onEndingSignal } from "../signals.ts";
import { newTaskParams, readTaskOptions, TASK_OPTIONS } from "./options.ts";

const JSON_OPTION: OptionTable = { "--json": "flag" };

export async function create(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, { ...TASK_OPTIONS, ...JSON_OPTION });
  const [name, ...rest] = parsed.words;
  if (rest.length > 0) throw usage("`cloche new` takes one name: cloche new NAME --share DIR.");
  if (name !== undefined && parsed.values["--name"] !== undefined) throw usage("The name was given twice.");
  const wanted = readTaskOptions(parsed, name);
  const keeper = await session.keeper();
  const task = await keeper.call("tasks.create", await newTaskParams(keeper, wanted, false));
  note(`cloche: ${task.wall}`);
  await (parsed.flags.has("--json") ? printJson(task) : print(task.name));
  return 0;
}

export async function start(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, JSON_OPTION);
  if (parsed.words.length === 0) throw usage("`cloche start` needs a task: cloche start TASK….");
  const json = parsed.flags.has("--json");
  const keeper = await session.keeper();
  const started: TaskView[] = [];
  // whoever stops waiting leaves the start to itself
  const left = Promise.withResolvers<undefined>();
  let leftBy: number | undefined;
  const off = onEndingSignal((_, code) => {
    leftBy ??= code;
    left.resolve(undefined);
  });
  const status = await each(parsed.words, async (task) => {
    if (leftBy !== undefined) return;
    const before = await keeper.call("tasks.get", { task });
    note(`cloche: ${before.wall}`);
    const starting = showProgress(keeper, before, () => keeper.call("tasks.start", { task: before.id, lease: "keeper" }));
    const running = await Promise.race([starting, left.promise]);
    if (running === undefined) {
      starting.catch(() => {}); // nobody waits for it here any more
      note(`cloche: ${before.name} goes on starting; \`cloche stop ${before.name}\` stops it.`);
      return;
    }
    started.push(running);
    if (!json && running.state.at === "running")
      note(`cloche: ${running.name} runs, started in ${(running.state.startMs / 1000).toFixed(1)} s (${running.state.accelerator}).`);
  }).finally(off);
  if (json) await printTasks(parsed.words.length, started);
  return leftBy ?? status;
}

export async function stop(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, { ...JSON_OPTION, "--now": "flag" });
  if (parsed.words.length === 0) throw usage("`cloche stop` needs a task: cloche stop TASK….");
  const keeper = await session.keeper();
  const stopped: TaskView[] = [];
  const status = await each(parsed.words, async (task) => {
    const view = await keeper.call("tasks.stop", { task, now: parsed.flags.has("--now") });
    stopped.push(view);
    note(`cloche: ${view.name} is stopped.`);
  });
  if (parsed.flags.has("--json")) await printTasks(parsed.words.length, stopped);
  return status;
}

export async function pause(session: Session, args: readonly Buffer[]): Promise<number> {
  const { task, parsed } = oneTask(args, "pause", JSON_OPTION);
  const view = await (await session.keeper()).call("tasks.pause", { task });
  note(`cloche: ${view.name} is paused.`);
  if (parsed.flags.has("--json")) await printJson(view);
  return 0;
}

export async function resume(session: Session, args: readonly Buffer[]): Promise<number> {
  const { task, parsed } = oneTask(args, "resume", JSON_OPTION);
  const view = await (await session.keeper()).call("tasks.resume", { task });
  note(`cloche: ${view.name} runs again.`);
  if (parsed.flags.has("--json")) await printJson(view);
  return 0;
}

export async function remove(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, { ...JSON_OPTION, "--discard": "flag" });
  const discard = parsed.flags.has("--discard");
  if (parsed.words.length === 0) throw usage("`cloche rm` needs a task: cloche rm TASK… [--discard].");
  const keeper = await session.keeper();
  const removed: string[] = [];
  const status = await each(parsed.words, async (task) => {
    const { name } = await keeper.call("tasks.get", { task });
    await keeper.call("tasks.remove", { task, discard });
    removed.push(name);
    note(`cloche: ${name} is removed. Your folders are as it left them; versions of what it overwrote stay.`);
  });
  if (parsed.flags.has("--json")) await printJson({ removed });
  return status;
}

export async function list(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, { ...JSON_OPTION, "--quiet": "flag", "-q": "flag" });
  if (parsed.words.length > 0) throw usage("`cloche ls` takes no task; `cloche show TASK` does.");
  const { tasks } = await (await session.keeper()).call("tasks.list", {});
  if (parsed.flags.has("--json")) await printJson({ tasks });
  else if (parsed.flags.has("--quiet") || parsed.flags.has("-q")) {
    if (tasks.length > 0) await print(tasks.map((task) => task.name).join("\n"));
  } else if (tasks.length === 0) note("cloche: no tasks. Make one: cloche new --share DIR, or run a command: cloche run -- COMMAND.");
  else await print(columns([["NAME", "STATE", "FOLDERS", "CHANGES"], ...tasks.map(row)]));
  return 0;
}

const row = (task: TaskView) => [
  task.name,
  stateWord(task),
  folders(task),
  waitingWords(task.shares) || (task.shares.some(({ waiting }) => waiting === undefined) ? "?" : "–"),
];
const folders = (task: TaskView) => task.shares.map((share) => `${share.name}:${share.mode}`).join(" ") || "–";

export async function show(session: Session, args: readonly Buffer[]): Promise<number> {
  const { task: ref, parsed } = oneTask(args, "show", JSON_OPTION);
  const task = await (await session.keeper()).call("tasks.get", { task: ref });
  if (parsed.flags.has("--json")) {
    await printJson(task);
    return 0;
  }
  const rows = [
    ["name", task.name],
    ["state", stateWord(task)],
    ["made", task.created],
    ["wall", task.wall],
    ...task.shares.flatMap((share) => [
      ["folder", `${share.name} (${share.mode}) at ${share.guestPath}`],
      ...folderFacts(task.name, share).map((fact) => ["", `  ${fact}`]),
    ]),
    ...networkRows(task.name, task.network),
    ["machine", `${task.cpus} CPU, ${task.memoryMib} MiB memory, ${task.diskGib} GiB disk (sparse), sudo ${task.sudo ? "on" : "off"}`],
    ["commands", `${task.running} running`],
  ];
  if (task.state.at === "running") {
    rows.push(["started", `in ${(task.state.startMs / 1000).toFixed(2)} s with ${task.state.accelerator}`]);
    for (const step of task.state.steps) rows.push([`  ${step.step}`, `${step.beganMs} – ${step.endedMs ?? "…"} ms`]);
  }
  await print(columns(rows));
  if (task.state.at === "failed") await print(`\n${formatProblem(task.state.problem)}`);
  return 0;
}

export async function prune(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, JSON_OPTION);
  if (parsed.words.length > 0) throw usage("`cloche prune` takes nothing; `cloche rm TASK` removes a task.");
  const { removed, sizeBytes } = await (await session.keeper()).call("runs.prune", {});
  note(
    `cloche: the records of ${removed} run${removed === 1 ? "" : "s"} are removed, ${(sizeBytes / 1e6).toFixed(1)} MB. Tasks and folders are as they were.`,
  );
  if (parsed.flags.has("--json")) await printJson({ removed, sizeBytes });
  return 0;
}

function oneTask(args: readonly Buffer[], verb: string, table: OptionTable): { task: string; parsed: Parsed } {
  const parsed = parse(args, table);
  const [task, ...rest] = parsed.words;
  if (task === undefined || rest.length > 0) throw usage(`\`cloche ${verb}\` needs one task: cloche ${verb} TASK.`);
  return { task, parsed };
}

/** A task by itself where one was named, whatever became of it; several as `cloche ls --json` has them. */
async function printTasks(named: number, done: readonly TaskView[]): Promise<void> {
  if (named > 1) await printJson({ tasks: done });
  else if (done[0]) await printJson(done[0]);
}

/** Does every one, tells of those that fail, and answers with the status of the whole. */
async function each(tasks: readonly string[], work: (task: string) => Promise<void>): Promise<number> {
  let status = 0;
  for (const task of tasks) {
    try {
      await work(task);
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      noteProblem(error.problem);
      status = 125;
    }
  }
  return status;
}
