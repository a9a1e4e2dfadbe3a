/** Every word on the screen. Architecture.md's table of words rules: folder, not share; AI agent, not agent. */
import type { EventEnvelope, EventKind, FileActivity, ShareMode, StartStep, TaskState } from "../contract/index.ts";
import { eventData } from "../contract/index.ts";
import { visible } from "./visible.ts";

const count = (n: number, one: string, many: string) => (n === 1 ? `1 ${one}` : `${n} ${many}`);

/** 820 ms, 4.2 s, 75 s, 3 min 5 s. */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 20_000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  return seconds < 120 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

export const text = {
  brand: "Cloche",
  skip: "Skip to the content",
  allTasks: "All tasks",
  newTask: "New task",
  tasks: "Tasks",
  time: (iso: string) => clock.format(new Date(iso)),
  moment: (iso: string) => day.format(new Date(iso)),

  connection: {
    connecting: "Connecting…",
    lost: "The connection to the keeper ended. Connecting again; running tasks go on if the keeper does.",
    lockedTitle: "This page needs its own address",
    locked: "The address that opens Cloche works once, in one browser. Run this in a terminal and open what it prints:",
    goneTitle: "The web host has ended",
    gone: "Running tasks are not touched by that. To see them here again, run this in a terminal and open what it prints:",
    command: "cloche web",
  },
  offline: {
    message: "The page is not connected, so nothing was asked for.",
    next: "Wait until it is connected again, then try once more.",
  },

  empty: {
    title: "No task yet",
    body: "A task is a small Linux computer of its own. It sees only the folders you pick and reaches only what you allow.",
  },
  missingTask: "This task is not there any more.",

  state: {
    stopped: "Stopped",
    starting: "Starting",
    running: "Running",
    paused: "Paused",
    stopping: "Stopping",
    failed: "Failed",
  } satisfies Record<TaskState["at"], string>,
  start: "Start",
  stop: "Stop",
  stopNow: "Stop now",
  stoppingHint: "The guest has been asked to end. Stop now does not wait for it.",

  mode: { ro: "Read only", rw: "Change directly", review: "Ask before changing" } satisfies Record<ShareMode, string>,
  modeReason: "Ask before changing is not in this version. Change directly writes to your folder at once.",
  reviewOption: "Ask before changing (not in this version)",
  folders: "Folders",
  noFolders: "No folder of yours. The task works in ~/files, kept with the task.",
  inTask: (guestPath: string) => `in the task: ${visible(guestPath)}`,
  wall: "What the wall lets through",
  resources: "Computer",
  cpus: (n: number) => count(n, "processor", "processors"),
  memory: (mib: number) => (mib % 1024 === 0 ? `${mib / 1024} GiB memory` : `${mib} MiB memory`),
  disk: (gib: number) => `${gib} GiB disk at most`,
  created: (iso: string) => `Made ${day.format(new Date(iso))}`,

  steps: {
    title: "Starting",
    total: (elapsed: string) => `${elapsed} so far`,
    done: (elapsed: string) => `Started in ${elapsed}`,
    waits: (what: string) => `waits for ${what}`,
    name: {
      image: "Image",
      disk: "Disk",
      helper: "Helper",
      boot: "Boot",
      agent: "First call from inside",
      shares: "Folders",
      egress: "Network access",
      ready: "Ready",
    } satisfies Record<StartStep, string>,
    finished: "done",
    going: "going on",
  },

  terminal: {
    title: "Terminal",
    label: (task: string) => `Terminal of ${task}`,
    leave: "Ctrl+F6 leaves the terminal for the top of the page. Ctrl+Shift+C copies, Ctrl+Shift+V pastes.",
    opening: "Opening a shell…",
    exited: (status: number, signal: string) =>
      signal ? `The shell was ended by SIG${visible(signal)}.` : `The shell ended with status ${status}.`,
    lost: "The shell's connection ended.",
    again: "New shell",
    idle: "The terminal opens when the task runs.",
  },

  activity: {
    title: "Activity",
    empty: "Nothing happened in the last day.",
    span: "Of the last day. In a terminal, cloche events tells all of it.",
    claim: "Claim of the guest",
  },

  form: {
    title: "New task",
    pick: "Pick a folder…",
    pickAnother: "Pick another folder…",
    picking: "The folder dialog is open on this computer.",
    foldersHint: "The task sees the folders picked here and nothing else of this computer.",
    mode: (folder: string) => `What the task may do in ${visible(folder)}`,
    remove: "Take out",
    removeLabel: (folder: string) => `Take out ${visible(folder)}`,
    name: "Name",
    nameHint: "a-z, 0-9 and -. Left empty, the task is named after its first folder.",
    nameBad: "A name is made of a-z, 0-9 and -, and starts with a letter or digit.",
    more: "Size of the computer",
    cpus: "Processors",
    memory: "Memory in GiB",
    sizeHint: "Left empty, Cloche's own sizes are used.",
    create: "Create task",
    creating: "Creating…",
    cancel: "Cancel",
  },

  problem: {
    details: "Details",
    because: "Because",
    next: "What to do",
    code: "Code",
    dismiss: "Dismiss",
  },
} as const;

type Data<K extends EventKind> = ReturnType<(typeof eventData)[K]["parse"]>;
type Sentences = { [K in EventKind]: (data: Data<K>) => string };

const clean = visible;

const modeWord = (mode: string) => (Object.hasOwn(text.mode, mode) ? text.mode[mode as ShareMode] : clean(mode));
const refusals = (refused: number) => (refused === 0 ? "" : `, ${refused} refused`);

/** What was done to one file; entries of one kind on one path stand for `count` of them. */
function fileWords({ what, path, to, count: times, reason }: FileActivity): string {
  const word = {
    "opened-for-write": "written",
    created: "created",
    deleted: "deleted",
    renamed: "renamed",
    refused: "refused",
    metadata: "mode or time changed",
  }[what];
  const more = [to ? `to ${to.text}` : "", times > 1 ? `${times} times` : "", reason === undefined ? "" : `(${clean(reason)})`];
  return [path.text, word, ...more].filter((part) => part !== "").join(" ");
}

/** One sentence per kind of event. What a guest said is quoted, never stated. */
const sentences: Sentences = {
  "keeper.started": () => "The keeper started",
  "keeper.ended": ({ reason }) => `The keeper ended: ${clean(reason)}`,
  "events.lost": ({ count: lost, why }) => `${count(lost, "event", "events")} could not be written: ${clean(why)}`,
  "task.created": ({ shares }) => `Created with ${count(shares.length, "folder", "folders")}`,
  "task.removed": () => "Removed",
  "task.starting": ({ accelerator }) => `Start asked for (${clean(accelerator)})`,
  "task.step": ({ step, phase, atMs, waitingFor }) =>
    phase === "began"
      ? `${text.steps.name[step]} began: waits for ${clean(waitingFor)}`
      : `${text.steps.name[step]} done at ${duration(atMs)}`,
  "task.running": ({ startMs, accelerator }) => `Running after ${duration(startMs)} (${clean(accelerator)})`,
  "task.paused": () => "Paused",
  "task.resumed": () => "Resumed",
  "task.stopping": ({ reason }) => `Stopping: ${clean(reason)}`,
  "task.stopped": ({ reason }) => `Stopped: ${clean(reason)}`,
  "task.failed": ({ problem }) => clean(problem.message),
  "share.served": ({ name, mode, guestPath }) =>
    `Folder ${clean(name)} is served ${mode === "ro" ? "read only" : "to be changed directly"} at ${clean(guestPath)}`,
  "folder.added": ({ name, mode }) => `Folder ${clean(name)} added: ${modeWord(mode)}`,
  "folder.changed": ({ name, mode, hideSecrets }) =>
    `Folder ${clean(name)} changed: ${modeWord(mode)}${hideSecrets ? ", names that look like secrets are hidden" : ""}`,
  "folder.removed": ({ name, discarded }) => `Folder ${clean(name)} taken out${discarded ? ", with its waiting changes" : ""}`,
  "folder.restarted": ({ name, why }) => `The program that serves ${clean(name)} was started again: ${clean(why)}`,
  "folder.room": ({ name, path }) => `A write to ${path.text} in ${clean(name)} waits for room for its older version`,
  "folder.answered": ({ name, answer }) =>
    `${answer === "allow" ? "More room allowed" : "More room refused"} for versions of ${clean(name)}`,
  "files.activity": ({ name, entries }) => `In ${clean(name)}: ${entries.map(fileWords).join(", ")}`,
  "files.refused": ({ name, entries }) => `Refused in ${clean(name)}: ${entries.map(fileWords).join(", ")}`,
  "changes.applied": ({ name, applied, refused }) => `${count(applied, "change", "changes")} applied to ${clean(name)}${refusals(refused)}`,
  "changes.discarded": ({ name, discarded, refused }) =>
    `${count(discarded, "change", "changes")} discarded in ${clean(name)}${refusals(refused)}`,
  "changes.undone": ({ name, restored, refused }) =>
    `An apply taken back: ${count(restored, "file", "files")} in ${clean(name)}${refusals(refused)}`,
  "files.restored": ({ name, restored, refused }) =>
    `${count(restored, "file", "files")} brought back in ${clean(name)}${refusals(refused)}`,
  "exec.started": ({ command, terminal }) => `${terminal ? "Opened a terminal" : "Ran"}: ${clean(command)}`,
  "exec.ended": ({ status, signal, ranMs }) =>
    `Command ended with ${signal ? `SIG${clean(signal)}` : `status ${status}`} after ${duration(ranMs)}`,
  "ssh.opened": ({ purpose }) =>
    ({ copy: "Files are copied", forward: "A port of the task is open on this computer", ssh: "An ssh client is connected" })[purpose],
  "guest.hello": ({ version, kernel, bootMs }) => `“agent ${clean(version)}, kernel ${clean(kernel)}, up after ${duration(bootMs)}”`,
  "guest.log": ({ level, message, lost }) =>
    `“${clean(level)}: ${clean(message)}”${lost === undefined ? "" : ` (${count(lost, "line", "lines")} before it not kept)`}`,
  "guest.clock": ({ steppedMs }) => `“the clock was set by ${duration(Math.abs(steppedMs))}”`,
};

/** The event as a sentence; a kind from a newer keeper is shown by its name, never dropped. */
export function sentence(event: EventEnvelope): string {
  if (!Object.hasOwn(sentences, event.kind)) return clean(event.kind);
  const kind = event.kind as EventKind;
  const data = eventData[kind].safeParse(event.data);
  return data.success ? (sentences[kind] as (data: unknown) => string)(data.data) : clean(kind);
}
