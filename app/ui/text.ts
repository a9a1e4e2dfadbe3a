/** Every word on the screen. Architecture.md's table of words rules: folder, not share; AI agent, not agent. */
import type {
  ChangeView,
  EgressEntry,
  EgressRequest,
  EventEnvelope,
  EventKind,
  FileActivity,
  NetworkPreset,
  Rule,
  RuleDraft,
  RuleScope,
  SecretBinding,
  SecretSource,
  ShareMode,
  StartStep,
  TaskState,
} from "../contract/index.ts";
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

/** 812 B, 3.4 kB, 12 MB: in thousands, as file managers show them. */
export function bytes(n: number): string {
  if (n < 1000) return `${n} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let value = n;
  let unit = "B";
  for (const next of units) {
    if (value < 999.5) break;
    value /= 1000;
    unit = next;
  }
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ${unit}`;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

const scopes: Readonly<Record<RuleScope, string>> = {
  once: "for one request",
  run: "until it stops",
  task: "for this task",
  always: "for every task",
};

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
  modeMeans: {
    review: "The task works on a copy of its own. Your folder changes when you apply what it did.",
    rw: "Your folder changes at once. What the task overwrites or deletes is kept for 30 days.",
    ro: "The task can read the folder and change nothing.",
  } satisfies Record<ShareMode, string>,
  folders: "Folders",
  noFolders: "No folder of yours. The task works in ~/files, kept with the task.",
  secrets: (names: readonly string[], more: boolean, hidden: boolean) =>
    `${hidden ? "Hidden from the task" : "The task can read"}: ${names.map(visible).join(", ")}${more ? " and more" : ""}. These look like keys or passwords.`,
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

  tab: { label: "Parts of the task", work: "Work", changes: "Changes", network: "Network", keys: "Keys" },
  network: {
    asks: "Asks to be allowed",
    waiting: (n: number) => `${count(n, "request waits", "requests wait")} for your answer`,
    moreAsks: (n: number) => `and ${count(n, "more host", "more hosts")} that no rule decides`,
    held: "Waits",
    refused: "Refused",
    reached: "What it asked to reach",
    nothing: "Nothing in the last day. A task reaches only what its rules allow.",
    counts: (allowed: number, refused: number) => `${allowed} allowed, ${refused} refused`,
    times: (n: number) => `${n} times`,
    request: ({ scheme, host, port, method, path }: EgressRequest) => {
      const at = port === (scheme === "http" ? 80 : 443) ? host : `${host}:${port}`;
      return visible(scheme === "opaque" ? `${at} unread` : `${method} ${scheme}://${at}${path}`);
    },
    decision: { allow: "Allowed", deny: "Refused" },
    byRule: (rule: string) => `by rule ${visible(rule)}`,
    withKey: (name: string) => `with your key ${visible(name)}`,
    status: (status: number) => `answered ${status}`,
    sizes: (sent: string, received: string) => `${sent} sent, ${received} received`,
    change: "Make a rule…",
    allow: "Allow",
    deny: "Refuse",
    howLong: "For how long",
    scope: scopes,
    offer: (rule: RuleDraft) => `A rule for ${ruleWords(rule)}:`,
    rule: (rule: Rule) => `${{ allow: "Allows", deny: "Refuses", ask: "Asks about" }[rule.decision]} ${ruleWords(rule)}`,
    rules: "Rules",
    noRules: "No rule of its own.",
    ruleNow: ({ id, decision, scope }: Rule) =>
      `Rule ${visible(id)} ${{ allow: "allows", deny: "refuses", ask: "asks about" }[decision]} it now, ${scopes[scope]}.`,
    presets: "Hosts by purpose",
    presetsHint: "Each brings its own list of rules. What is under way and no longer allowed ends.",
    preset: {
      none: "Nothing",
      models: "Model APIs: inference only",
      packages: "Package registries: reading only",
      git: "Git hosts: clone and fetch, no push",
      web: "Documentation sites: reading only",
    } satisfies Record<NetworkPreset, string>,
    moreRules: (n: number) => `and ${count(n, "more rule", "more rules")}: cloche policy show lists them`,
    undo: "Take back",
    undoLabel: (id: string) => `Take back rule ${visible(id)}`,
    forgottenSites: (n: number) => `${count(n, "older host is", "older hosts are")} left out here; cloche events has them.`,
    forgottenRows: (n: number) => `${count(n, "older request is", "older requests are")} left out here.`,
  },
  keys: {
    title: "Keys",
    hint: "A task holds a stand-in. On the way out it becomes the key, at the hosts named here and nowhere else.",
    reading: "Reading…",
    none: "No key yet.",
    source: {
      keychain: "Kept in the keychain",
      memory: "Kept until the keeper ends",
      env: "Read from a variable at each start",
      file: "Read from a file at each start",
      command: "Printed by a command at each start",
    } satisfies Record<SecretSource["kind"], string>,
    works: ({ hosts, use, env }: SecretBinding) =>
      `Works at ${hosts.map(visible).join(", ")}, sent as ${visible(use)}${env === undefined ? "" : `, stand-in in $${visible(env)}`}`,
    tasks: (tasks: readonly string[]) =>
      tasks.length === 0 ? "No task may use it." : `Tasks that may use it: ${tasks.map(visible).join(", ")}`,
    give: "Give to this task",
    take: "Take from this task",
    remove: "Remove",
    removeSure: "Remove for good",
    add: "Add a key",
    name: "Name",
    value: "Value",
    valueHint: "It goes to the keeper and is shown nowhere again.",
    hosts: "Works at (exact hosts)",
    use: "Sent as",
    env: "Variable in the task",
    addAndGive: "Add and give to this task",
  },
  changes: {
    waiting: (n: number) => `${count(n, "change", "changes")} waiting`,
    noFolders: "The task has no folder of yours, so there is nothing to review.",
    reading: "Reading…",
    none: {
      review:
        "No changes are waiting. What the task does in this folder appears here, and nothing of it is in your folder until you apply it.",
      rw: "No changes are waiting. The task writes to this folder directly; only files that make programs on this computer run something, and links that lead out of it, wait here.",
      ro: "The task can only read this folder.",
    } satisfies Record<ShareMode, string>,
    applyAll: "Apply all",
    apply: "Apply",
    applySome: (n: number, of: number) => `Apply ${n} of ${of} parts`,
    discard: "Discard",
    discardSure: "Discard for good",
    discardWithSure: (n: number) => `Discard for good, with ${count(n, "change", "changes")} in it`,
    discardAll: "Discard all",
    discardAllSure: "Discard all for good",
    undo: "Undo",
    applied: (files: number, time: string) => `${count(files, "file", "files")} applied at ${clock.format(new Date(time))}.`,
    outcome: (did: "applied" | "discarded" | "undone", n: number) =>
      ({
        applied: `${count(n, "change", "changes")} applied.`,
        discarded: `${count(n, "change", "changes")} discarded.`,
        undone: `${count(n, "file is", "files are")} as before.`,
      })[did],
    refused: (n: number) => `${count(n, "was", "were")} left as ${n === 1 ? "it was" : "they were"}`,
    more: (shown: number, total: number) => `Show more (${shown} of ${total})`,
    kind: {
      modified: "Changed",
      new: "New",
      deleted: "Deleted",
      moved: "Moved",
      "type-changed": "Replaced",
      attributes: "Mode",
    } satisfies Record<ChangeView["kind"], string>,
    type: {
      directory: "folder",
      link: "link",
      repository: "Git repository",
      database: "database",
      ignored: "ignored by Git",
    } satisfies Record<Exclude<ChangeView["type"], "file">, string>,
    entries: (n: number) => count(n, "entry", "entries"),
    executable: "can be run as a program",
    movedFrom: (from: string) => `from ${visible(from)}`,
    linkTo: (target: string) => `points to ${visible(target)}`,
    flag: {
      "escaping-link": "This link points out of the folder. Apply all leaves it out.",
      "absolute-link": "This link names a place on whatever computer it is followed on. Apply all leaves it out.",
      quarantined: "It will carry the mark of a downloaded program.",
      "path-too-long": "The path is too long to be shown whole.",
    } satisfies Record<ChangeView["flags"][number], string>,
    protected: "Programs on this computer run or obey this file by themselves. Read it before you apply it; apply all leaves it out.",
    conflict: {
      changed: "Your file changed since the task began with it, so applying is refused.",
      gone: "Your file is gone since the task began with it, so applying is refused.",
      exists: "A file of that name has come into your folder since, so applying is refused.",
      "type-changed": "There is something else of that name in your folder now, so applying is refused.",
    } satisfies Record<NonNullable<ChangeView["conflict"]>, string>,
    asBranch: (branch: string) => `Apply as branch ${visible(branch)}`,
    branch: (name: string, kind: "moved" | "new" | "deleted" | "rewritten", commits: number, behind: number | undefined) => {
      const what = {
        moved: `+${count(commits, "commit", "commits")}`,
        new: `new, ${count(commits, "commit", "commits")}`,
        deleted: "deleted",
        rewritten: `rewritten, ${count(commits, "commit", "commits")} on another base`,
      }[kind];
      return `Branch ${visible(name)}: ${what}${behind === undefined || behind === 0 ? "" : `, ${behind} behind`}`;
    },
    moreBranches: (n: number) => `and ${count(n, "more branch", "more branches")}`,
    neverApplied: (names: readonly string[]) => `Never applied: ${names.map(visible).join(", ")}`,
    sides: "Compare",
    side: { change: "What the task did", theirs: "What happened in your folder since" },
    diff: "Difference",
    noDiff: "Nothing to compare.",
    binary: (before: string, after: string) => `Not text: ${before} before, ${after} now.`,
    tooLarge: (before: string, after: string) => `Too large to compare: ${before} before, ${after} now.`,
    hash: (before: boolean, hash: string) => `SHA-256 ${before ? "before" : "now"}: ${hash}`,
    moreDiff: (shown: string, total: string) => `Show more (${shown} of ${total})`,
    movedOn: "The task changed this file again while it was being read.",
    movedOnNext: "Close it and open it again.",
    part: (n: number, of: number) => `Part ${n} of ${of}`,
    line: { same: "", added: "added", removed: "removed" },
    room: (path: string, used: string, limit: string) =>
      `The task waits to change ${visible(path)}: what it would overwrite has to be kept, and kept versions already take ${used} of the ${limit} they may.`,
    roomRefused: "A write was refused room",
    roomAllow: "Allow more room",
    roomRefuse: "Refuse the write",
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
    network: "Network",
    keys: "Keys",
    keysHint: "The task holds a stand-in of each key chosen here. It works at the hosts named, and the task never sees the key.",
    noKeys: "There is no key yet. One is added on a task's page, under Keys.",
    networkHint: "Without a choice the task reaches nothing. What it asks for is listed on its page, under Network.",
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

function ruleWords({ host, port, methods, paths, upgrade, opaque }: RuleDraft): string {
  const what = [methods?.join(", ") ?? "everything", "at", port === undefined ? host : `${host}:${port}`, paths?.join(", ") ?? ""];
  const more = [upgrade ? "WebSocket too" : "", opaque ? "unread" : ""].filter((part) => part !== "");
  return visible([...what, more.length === 0 ? "" : `(${more.join(", ")})`].filter((part) => part !== "").join(" "));
}

type Data<K extends EventKind> = ReturnType<(typeof eventData)[K]["parse"]>;
type Sentences = { [K in EventKind]: (data: Data<K>) => string };

const clean = visible;
const left = (refused: number) => (refused === 0 ? "" : `, ${refused} refused`);
const modeWords = (mode: string) => (Object.hasOwn(text.mode, mode) ? text.mode[mode as ShareMode].toLowerCase() : clean(mode));

const DID = {
  "opened-for-write": "wrote",
  created: "made",
  deleted: "deleted",
  renamed: "moved",
  refused: "tried",
  metadata: "changed the mode of",
} satisfies Record<FileActivity["what"], string>;

/** The first entries by name; the event has all of them. */
function activity(entries: readonly FileActivity[]): string {
  const first = entries
    .slice(0, 3)
    .map(
      ({ what, path, to, reason }) =>
        `${DID[what]} ${clean(path.text)}${to ? ` to ${clean(to.text)}` : ""}${reason === undefined ? "" : ` (${clean(reason)})`}`,
    );
  return `${first.join(", ")}${entries.length > 3 ? ` and ${entries.length - 3} more` : ""}`;
}

/** The first requests by name; the event has all of them. */
function reached(entries: readonly EgressEntry[]): string {
  const first = entries.slice(0, 3).map(({ decision, request, rule, secret, fault }) => {
    const did = decision === "deny" ? "refused" : decision === "allow" ? "allowed" : "";
    const why = [
      rule === undefined ? "" : `rule ${clean(rule)}`,
      secret === undefined ? "" : `key ${clean(secret)}`,
      fault === undefined ? "" : clean(fault),
    ].filter(Boolean);
    return `${did} ${request.method} ${clean(request.host)}${clean(request.path)}${why.length === 0 ? "" : ` (${why.join(", ")})`}`.trim();
  });
  return `${first.join(", ")}${entries.length > 3 ? ` and ${entries.length - 3} more` : ""}`;
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
  "share.served": ({ name, mode, guestPath }) => `Folder ${clean(name)} is served (${modeWords(mode)}) at ${clean(guestPath)}`,
  "folder.added": ({ name, mode }) => `Folder ${clean(name)} added (${modeWords(mode)})`,
  "folder.changed": ({ name, mode, hideSecrets }) =>
    `Folder ${clean(name)} is now: ${modeWords(mode)}${hideSecrets ? ", names that look like secrets hidden" : ""}`,
  "folder.removed": ({ name, discarded }) => `Folder ${clean(name)} taken out${discarded ? ", its waiting changes discarded" : ""}`,
  "folder.restarted": ({ name, why }) => `Folder ${clean(name)} is served again: ${clean(why)}`,
  "folder.room": ({ name, path, usedBytes, limitBytes }) =>
    `A write to ${clean(path.text)} in ${clean(name)} waits for room: ${bytes(usedBytes)} of ${bytes(limitBytes)} are taken by kept versions`,
  "folder.refused": ({ name, what, path, count: writes }) =>
    `${count(writes, "write", "writes")} in ${clean(name)} failed for want of room for ${what === "versions" ? "kept versions" : "changes"}, the last one to ${clean(path.text)}`,
  "folder.answered": ({ name, answer }) => `More room for versions of ${clean(name)} ${answer === "allow" ? "allowed" : "refused"}`,
  "files.activity": ({ name, entries }) => `In ${clean(name)}: ${activity(entries)}`,
  "files.refused": ({ name, entries }) => `Refused in ${clean(name)}: ${activity(entries)}`,
  "changes.applied": ({ name, applied, refused }) => `${count(applied, "change", "changes")} applied to ${clean(name)}${left(refused)}`,
  "changes.discarded": ({ name, discarded, refused }) =>
    `${count(discarded, "change", "changes")} of ${clean(name)} discarded${left(refused)}`,
  "changes.undone": ({ name, restored, refused }) =>
    `An apply to ${clean(name)} was undone, ${count(restored, "file", "files")} as before${left(refused)}`,
  "files.restored": ({ name, restored, refused }) => `${count(restored, "file", "files")} of ${clean(name)} restored${left(refused)}`,
  "egress.decided": ({ entries }) => reached(entries),
  "egress.ended": ({ entries }) => `${count(entries.length, "request", "requests")} ended: ${reached(entries)}`,
  "egress.restarted": ({ why }) => `The program that decides connections ended, and those under way are gone: ${clean(why)}`,
  "ask.opened": ({ request }) => `Asks to reach ${clean(request.host)}`,
  "ask.answered": ({ answer }) => (answer === "none" ? "A question was not answered" : `A question was answered: ${answer}`),
  "policy.added": ({ rule }) => `Rule ${clean(rule.id)} added: ${rule.decision} ${clean(rule.host)}`,
  "policy.removed": ({ rule }) => `Rule ${clean(rule)} taken away`,
  "policy.replaced": ({ presets, rules }) =>
    `Network set: ${presets.length === 0 ? "no preset" : presets.join(", ")}, ${count(rules, "rule", "rules")}`,
  "policy.proxy-set": ({ proxy }) =>
    proxy ? `Connections leave through the proxy ${clean(proxy.host)}:${proxy.port}` : "Connections leave through no outgoing proxy",
  "secret.added": ({ name, binding }) => `Key ${clean(name)} added for ${binding.hosts.map(clean).join(", ")}`,
  "secret.removed": ({ name }) => `Key ${clean(name)} removed`,
  "secret.attached": ({ name }) => `Key ${clean(name)} given to the task`,
  "secret.detached": ({ name }) => `Key ${clean(name)} taken from the task`,
  "prove.ended": ({ report }) => {
    const broken = report.probes.filter(({ verdict }) => verdict !== "held").length;
    return `A self-test tried ${count(report.probes.length, "probe", "probes")}${broken === 0 ? ": all held" : `, of which ${broken} did not hold`}`;
  },
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
