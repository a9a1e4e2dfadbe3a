/**
 * A keeper without machines, for unit tests of its clients and for looking at the page: it speaks the whole contract over the
 * real socket with the real proof, moves tasks through their states, writes events, and has a toy shell that runs each line with
 * `sh -c` in a home folder made of links to the shared folders; `fetch URL` in it asks for a request and says what became of it. Nothing is confined: never a promise's test.
 *
 * As a program (`node test/doubles/keeper.ts`) it is what `connectKeeper` starts. `CLOCHE_DOUBLE_STEP_MS` slows each start step.
 */
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { argv } from "node:process";
import {
  type Actor,
  type ClientKind,
  CONTRACT_VERSION,
  type EgressEntry,
  type EventEnvelope,
  type EventKind,
  encodeFrame,
  FAILED,
  Frame,
  FrameDecoder,
  framesOf,
  type Handlers,
  keeperProtocol,
  type NewFolder,
  type Problem,
  ProblemError,
  RpcError,
  RpcPeer,
  type Rule,
  type RuleDraft,
  type ShareView,
  type StepRecord,
  startStep,
  type TaskState,
  type TaskView,
  toProblem,
} from "../../app/contract/index.ts";
import { type Endpoint, endpoint, privateDirectory, proveAsServer, socketTransport } from "../../app/contract/node/index.ts";
import { ChangesDouble } from "./changes.ts";
import { NetworkDouble, offerFor, requestOf } from "./network.ts";

const WAITS: Record<string, string> = {
  image: "the image's files to be compared with their manifest",
  disk: "the task's disk",
  helper: "the helper's hello",
  boot: "the guest's kernel",
  agent: "the agent's call",
  shares: "the guest to see the folders",
  egress: "the proxy",
  ready: "ssh to answer",
};

interface Task {
  /** without what is made when it is asked for */
  view: Omit<TaskView, "network" | "wall">;
  paths: string[];
  /** by folder id, for folders in review */
  changes: Map<string, ChangesDouble>;
  home: string | undefined;
  stops: Set<() => void>;
}

export interface KeeperDouble {
  readonly at: Endpoint;
  /** connections that are open */
  clients(): number;
  /** every method that reached it, in order */
  readonly called: string[];
  readonly network: NetworkDouble;
  close(): void;
}

const refusal = (code: Problem["code"], message: string, next: string, evidence?: string) =>
  new ProblemError({ code, message, next: [next], ...(evidence ? { evidence } : {}) });

export async function startKeeperDouble(at: Endpoint, stepMs = Number(process.env.CLOCHE_DOUBLE_STEP_MS ?? "10")): Promise<KeeperDouble> {
  privateDirectory(at.runtime);
  const token = randomBytes(32).toString("hex");
  rmSync(at.socket, { force: true });
  const called: string[] = [];
  const tasks = new Map<string, Task>();
  const grants = new Map<string, string>();
  const tickets = new Map<string, { task: Task; columns: number; rows: number; exec: number; command: string[] | undefined }>();
  const events: EventEnvelope[] = [];
  const sockets = new Set<Socket>();
  const network = new NetworkDouble();
  let wake = Promise.withResolvers<void>();
  let execs = 0;

  const emit = (kind: EventKind, task: Task | undefined, data: Record<string, unknown>, by: Actor = { kind: "keeper" }) => {
    const bare = {
      version: 1,
      id: events.length + 1,
      time: new Date().toISOString(),
      ...(task ? { task: task.view.id } : {}),
      kind,
      source: kind.startsWith("guest.") ? ("guest" as const) : ("host" as const),
      actor: by,
      data,
    };
    const chain = createHash("sha256")
      .update(`${events.at(-1)?.chain}${JSON.stringify(bare)}`)
      .digest("hex");
    events.push({ ...bare, chain });
    wake.resolve();
    wake = Promise.withResolvers<void>();
  };
  const find = (ref: string) => {
    const task = [...tasks.values()].find(({ view }) => view.id === ref || view.name === ref);
    if (task) return task;
    throw refusal("task.unknown", `No task is called ${ref}.`, "Run `cloche ls`.");
  };
  const set = (task: Task, state: TaskState) => {
    task.view = { ...task.view, state };
  };
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

  async function start(task: Task, by: Actor): Promise<void> {
    const began = performance.now();
    const since = () => Math.round(performance.now() - began);
    emit("task.starting", task, { wall: wallOf(task), accelerator: "double" }, by);
    const steps: StepRecord[] = [];
    for (const step of startStep.options) {
      const waitingFor = WAITS[step] ?? step;
      const record: StepRecord = { step, beganMs: since(), waitingFor };
      steps.push(record);
      set(task, { at: "starting", steps: [...steps] });
      emit("task.step", task, { step, phase: "began", atMs: since(), waitingFor });
      await pause(stepMs);
      if (task.view.state.at !== "starting")
        throw refusal("machine.stopped", `The start of ${task.view.name} was stopped.`, "Start it again when you want it.");
      const lost = step === "shares" ? task.paths.find((path) => !isFolder(path)) : undefined;
      if (lost !== undefined) {
        const problem: Problem = {
          code: "share.not-found",
          message: `Folder ${basename(lost)} is not where it was picked, so ${task.view.name} was not started. Its disk and other folders are as they were.`,
          evidence: `stat: ENOENT: no such file or directory (${basename(lost)})`,
          next: ["Put the folder back where it was, then start the task again.", "Or make a new task with the folder's new place."],
        };
        set(task, { at: "failed", problem });
        emit("task.failed", task, { problem });
        throw new ProblemError(problem);
      }
      steps[steps.length - 1] = { ...record, endedMs: since() };
      set(task, { at: "starting", steps: [...steps] });
      emit("task.step", task, { step, phase: "ended", atMs: since(), waitingFor });
      if (step === "agent") emit("guest.hello", task, { version: "1", image: "double", kernel: "6.12.57", bootMs: since() });
    }
    task.home = mkdtempSync(join(tmpdir(), "cloche-double-home-"));
    task.view.shares.forEach((share, at) => {
      symlinkSync(task.paths[at] ?? "/nowhere", join(task.home ?? "", basename(share.guestPath)));
    });
    set(task, { at: "running", since: new Date().toISOString(), startMs: since(), accelerator: "double", steps });
    emit("task.running", task, { startMs: since(), accelerator: "double" });
  }

  async function stop(task: Task, by: Actor): Promise<void> {
    if (task.view.state.at === "stopped" || task.view.state.at === "failed") return;
    set(task, { at: "stopping" });
    emit("task.stopping", task, { reason: "the user asked" }, by);
    for (const end of task.stops) end();
    await pause(stepMs);
    set(task, { at: "stopped" });
    if (task.home) rmSync(task.home, { recursive: true, force: true });
    task.home = undefined;
    emit("task.stopped", task, { reason: "the user asked", ranMs: 1 });
  }

  function handlersFor(socket: Socket): Handlers<typeof keeperProtocol> {
    let kind: ClientKind = "cli";
    const by = (): Actor => ({ kind: "user", via: kind });
    return {
      hello: async ({ client }) => {
        kind = client;
        return { contract: CONTRACT_VERSION, version: "double", pid: process.pid, home: at.home };
      },
      "grants.create": async ({ path }) => {
        const text = Buffer.from(path, "base64").toString("utf8");
        if (!isFolder(text))
          throw refusal("share.not-found", `Folder ${basename(text)} does not exist, so it was not shared.`, "Pick another.", text);
        const grant = randomBytes(16).toString("hex");
        grants.set(grant, text);
        const notes = basename(text) === "network" ? [{ kind: "network" as const, text: "It lies on another computer (nfs4)." }] : [];
        return { grant, name: basename(text), notes };
      },
      "tasks.create": async (wanted) => {
        const shares = wanted.shares.map(shareOf);
        const name =
          wanted.name ??
          freeName(
            (shares[0]?.name ?? "task")
              .toLowerCase()
              .replace(/[^a-z0-9-]+/g, "-")
              .slice(0, 40),
          );
        if ([...tasks.values()].some(({ view }) => view.name === name))
          throw refusal("task.exists", `A task called ${name} is there already. Nothing was made.`, "Choose another name.");
        const view: Task["view"] = {
          id: randomBytes(8).toString("hex"),
          name,
          created: new Date().toISOString(),
          ephemeral: wanted.ephemeral,
          state: { at: "stopped" },
          shares,
          cpus: wanted.cpus ?? 2,
          memoryMib: wanted.memoryMib ?? 2048,
          diskGib: wanted.diskGib ?? 16,
          sudo: wanted.sudo,
          workingDirectory: shares[0]?.guestPath ?? "/home/you/files",
          running: 0,
        };
        const paths = wanted.shares.map(({ grant }) => grants.get(grant) ?? "");
        const task: Task = { view, paths, changes: new Map(), home: undefined, stops: new Set() };
        network.make(view.id, { ...wanted.network, secrets: wanted.secrets ?? [] });
        for (const share of shares) if (share.mode === "review") task.changes.set(share.id, new ChangesDouble());
        tasks.set(view.id, task);
        const named = shares.map(({ name, mode, guestPath }) => ({ name, mode, guestPath }));
        emit("task.created", task, { name, shares: named, wall: wallOf(task) }, by());
        return viewOf(task);
      },
      "tasks.list": async () => ({ tasks: [...tasks.values()].map(viewOf) }),
      "tasks.get": async ({ task }) => viewOf(find(task)),
      "tasks.start": async ({ task }) => {
        const found = find(task);
        if (found.view.state.at === "stopped" || found.view.state.at === "failed") await start(found, by());
        return viewOf(found);
      },
      "tasks.stop": async ({ task }) => {
        const found = find(task);
        await stop(found, by());
        return viewOf(found);
      },
      "tasks.pause": async ({ task }) => {
        const found = find(task);
        set(found, { at: "paused", since: new Date().toISOString() });
        emit("task.paused", found, {}, by());
        return viewOf(found);
      },
      "tasks.resume": async ({ task }) => viewOf(find(task)),
      "tasks.remove": async ({ task, discard }) => {
        const found = find(task);
        const waits = [...found.changes.values()].some(({ total }) => total > 0);
        if (found.view.ephemeral && waits && !discard) {
          await stop(found, by()); // a one-off run's changes outlive it
          return {};
        }
        if (!discard) noneWaits(found, found.view.shares);
        await stop(found, by());
        tasks.delete(found.view.id);
        network.remove(found.view.id);
        emit("task.removed", found, { name: found.view.name }, by());
        return {};
      },
      "tasks.exec": async ({ task, terminal, command }) => {
        const found = find(task);
        if (found.view.state.at !== "running")
          throw refusal("task.state", `${found.view.name} is not running, so no command was started.`, "Start the task first.");
        const ticket = randomBytes(16).toString("hex");
        const exec = ++execs;
        const argv = command?.map((word) => Buffer.from(word, "base64").toString("utf8"));
        tickets.set(ticket, { task: found, exec, columns: terminal?.columns ?? 80, rows: terminal?.rows ?? 24, command: argv });
        emit("exec.started", found, { exec, command: argv?.join(" ") ?? "login shell", terminal: terminal !== undefined }, by());
        return { ticket, exec };
      },
      "runs.prune": async () => ({ removed: 0, sizeBytes: 0 }),
      "tasks.ssh": async () => ({ ticket: "0".repeat(32), user: "you", privateKey: "", hostKey: "" }),
      "tasks.sshFiles": async () => ({ user: "you", identityFile: "/none", knownHostsFile: "/none" }),
      "tasks.stats": async () => {
        throw refusal("guest.silent", "The double has no guest.", "Use a real one.");
      },
      "events.read": async ({ task, after, limit, waitMs }) => {
        const id = task === undefined ? undefined : find(task).view.id;
        const fresh = () => events.slice(after).filter((event) => id === undefined || event.task === id);
        const until = performance.now() + waitMs;
        while (fresh().length === 0 && performance.now() < until) {
          const timer = Promise.withResolvers<void>();
          const handle = setTimeout(timer.resolve, until - performance.now());
          await Promise.race([wake.promise, timer.promise]);
          clearTimeout(handle);
        }
        const found = fresh().slice(0, limit);
        return { events: found, next: found.at(-1)?.id ?? Math.max(after, task === undefined ? events.length : after) };
      },
      "folders.add": async ({ task, ...folder }) => {
        const found = find(task);
        const share = shareOf(folder);
        found.paths.push(grants.get(folder.grant) ?? "");
        if (share.mode === "review") found.changes.set(share.id, new ChangesDouble());
        return folders(found, [...found.view.shares, share], "folder.added", share, { guestPath: share.guestPath }, by());
      },
      "folders.set": async ({ task, folder, ...wanted }) => {
        const { found, share } = folderOf(task, folder);
        const changed = { ...share, ...wanted } as ShareView;
        if (changed.mode === "review" && !found.changes.has(share.id)) found.changes.set(share.id, new ChangesDouble());
        const shares = found.view.shares.map((other) => (other.id === share.id ? changed : other));
        return folders(found, shares, "folder.changed", changed, {}, by());
      },
      "folders.remove": async ({ task, folder, discard }) => {
        const { found, share } = folderOf(task, folder);
        if (!discard) noneWaits(found, [share]);
        found.changes.delete(share.id);
        const left = found.view.shares.filter((other) => other.id !== share.id);
        found.view = { ...found.view, shares: left };
        emit("folder.removed", found, { folder: share.id, name: share.name, discarded: discard, wall: wallOf(found) }, by());
        return viewOf(found);
      },
      "folders.room": async ({ task, folder, answer }) => {
        const { found, share } = folderOf(task, folder);
        emit("folder.answered", found, { folder: share.id, name: share.name, answer }, by());
        return {};
      },
      "changes.list": async ({ task, folder, after, limit }) => {
        const found = find(task);
        const shares = folder === undefined ? found.view.shares : [folderOf(task, folder).share];
        return {
          folders: shares.flatMap(({ id, name }) => {
            const changes = found.changes.get(id);
            return changes ? [{ folder: id, name, ...changes.list(after, limit) }] : [];
          }),
        };
      },
      "changes.diff": async ({ task, folder, id, side, context, offset, limit }) => {
        const diff = folderOf(task, folder).changes.diff(id, side, context, offset, limit);
        if (diff) return diff;
        throw refusal("share.change-unknown", "This change is not there any more.", "Look at the list again.");
      },
      "changes.apply": async (params) => {
        const { found, share, changes } = folderOf(params.task, params.folder);
        if (!("what" in params)) throw refusal("share.change-unknown", "No such apply goes on.", "Look at the list again.");
        const done = changes.apply(params.what);
        const { batch, applied, refused, remaining } = done;
        const data = { folder: share.id, name: share.name, apply: batch, applied: applied.length, refused: refused.length, remaining };
        emit("changes.applied", found, data, by());
        return done;
      },
      "changes.discard": async (params) => {
        const { found, share, changes } = folderOf(params.task, params.folder);
        if (!("what" in params)) throw refusal("share.change-unknown", "Nothing is being discarded.", "Look at the list again.");
        const done = changes.discard(params.what);
        const { discarded, refused, remaining } = done;
        const data = { folder: share.id, name: share.name, discarded: discarded.length, refused: refused.length, remaining };
        emit("changes.discarded", found, data, by());
        return done;
      },
      "changes.applies": async ({ task, folder }) => ({ applies: folderOf(task, folder).changes.applies(), more: false }),
      "changes.undo": async (params) => {
        const { found, share, changes } = folderOf(params.task, params.folder);
        const done = changes.undo("apply" in params ? params.apply : undefined);
        if (!done) throw refusal("share.not-undoable", "Nothing was applied that could be taken back.", "Look at the list again.");
        const { apply, restored, remaining } = done;
        emit("changes.undone", found, { folder: share.id, name: share.name, apply, restored, refused: 0, remaining }, by());
        return done;
      },
      "files.history": async ({ task, folder, path }) => folderOf(task, folder).changes.history(path),
      "files.restore": async ({ task, folder }) => {
        const { found, share } = folderOf(task, folder);
        emit("files.restored", found, { folder: share.id, name: share.name, restored: 1, refused: 0, remaining: 0 }, by());
        return { batch: "restore", refused: [], remaining: 0, restored: 1 };
      },
      "policy.show": async ({ task }) => {
        const found = find(task);
        const { id } = found.view;
        return { network: network.view(id), effective: network.effective(id), wall: wallOf(found) };
      },
      "policy.add": async ({ task, rule: draft, scope }) => {
        const found = find(task);
        const rule = network.add(found.view.id, draft, scope);
        emit("policy.added", found, { rule, wall: wallOf(found) }, by());
        return { rule, closed: 0 };
      },
      "policy.remove": async ({ task, rule: id }) => {
        const found = find(task);
        const rule = network.takeAway(found.view.id, id);
        emit("policy.removed", found, { rule: rule.id, scope: rule.scope, wall: wallOf(found) }, by());
        return { rule, closed: 0 };
      },
      "policy.setPresets": async ({ task, presets }) => {
        const found = find(task);
        network.setPresets(found.view.id, presets);
        const view = network.view(found.view.id);
        emit("policy.replaced", found, { presets: view.presets, rules: view.rules.length, wall: wallOf(found) }, by());
        return view;
      },
      "policy.proxy": async () => network.outgoing(),
      "policy.setProxy": async ({ proxy }) => {
        network.proxy = proxy;
        emit("policy.proxy-set", undefined, network.outgoing(), by());
        return network.outgoing();
      },
      "policy.test": async ({ task, method, url }) => {
        const request = requestOf(method, url);
        if (!request) throw refusal("policy.rule", `${JSON.stringify(url)} is no address.`, "Try https://example.com/.");
        return { ...network.decide(find(task).view.id, request), request, offer: offerFor(request) };
      },
      "policy.replay": async ({ task, rules }) => {
        const { id } = find(task).view;
        const drafted = rules.map((draft, at): Rule => ({ id: `t${at + 1}`, scope: "task", from: "user", ...draft }));
        const decided = events.filter((event) => event.task === id && event.kind === "egress.decided");
        const differ = decided.flatMap(({ id: event, data }) => {
          const [entry] = data.entries as EgressEntry[];
          if (!entry?.decision) return [];
          const was = { decision: entry.decision, rule: entry.rule ?? "default", reason: entry.reason ?? "" };
          const { matched: _, ...would } = network.decide(id, entry.request, drafted);
          return (would.decision === "allow") === (was.decision === "allow") ? [] : [{ event, request: entry.request, was, would }];
        });
        return { requests: decided.length, differ, more: false };
      },
      "policy.import": async ({ task, settings }) => {
        const found = find(task);
        const hosts = /"allowedDomains":\s*\[([^\]]*)\]/.exec(settings)?.[1];
        if (hosts === undefined) throw refusal("policy.settings", "The settings name no hosts. The rules are as they were.", "Mend them.");
        const rules = [...hosts.matchAll(/"([^"]+)"/g)].map(([, host = ""]): RuleDraft => ({ decision: "allow", host }));
        network.setPresets(found.view.id, [], rules);
        return { network: network.view(found.view.id), notes: ["filesystem: folders are given with --share"] };
      },
      "policy.export": async ({ task }) => {
        const allowed = network.effective(find(task).view.id).filter(({ decision }) => decision === "allow");
        return { settings: JSON.stringify({ network: { allowedDomains: allowed.map(({ host }) => host) } }), notes: [] };
      },
      "asks.list": async ({ task, revision, waitMs }) =>
        network.asks(task === undefined ? undefined : find(task).view.id, revision, waitMs),
      "asks.answer": async ({ ask, answer, scope, rule: draft }) => {
        const { rule, task } = network.answer(ask, answer, scope, draft);
        emit("ask.answered", find(task), { ask, answer, rule: rule.id }, by());
        emit("policy.added", find(task), { rule, wall: wallOf(find(task)) }, by());
        return { rule };
      },
      "asks.watch": async () => {
        network.watching++;
        socket.once("close", () => network.watching--);
        return {};
      },
      "secrets.add": async ({ name, source, binding, value }) => {
        const made = network.addSecret(name, source, binding, value);
        emit("secret.added", undefined, { name, source: source.kind, binding }, by());
        return made;
      },
      "secrets.list": async () => ({ secrets: network.secrets().map(({ name }) => secretView(name)), keychain: network.keychain }),
      "secrets.remove": async ({ name }) => {
        network.removeSecret(name);
        emit("secret.removed", undefined, { name }, by());
        return {};
      },
      "secrets.test": async ({ name }) => {
        secretView(name);
        return { usable: true, text: `The key ${name} can be had.` };
      },
      "secrets.attach": async ({ task, name }) => {
        const found = find(task);
        network.attach(found.view.id, name, true);
        emit("secret.attached", found, { name, wall: wallOf(found) }, by());
        return viewOf(found);
      },
      "secrets.detach": async ({ task, name }) => {
        const found = find(task);
        network.attach(found.view.id, name, false);
        emit("secret.detached", found, { name, wall: wallOf(found) }, by());
        return viewOf(found);
      },
      "prove.record": async () => ({}),
      "events.verify": async () => ({
        files: 1,
        events: events.length,
        anchored: false,
        anchor: "unanchored: the double has no keychain",
        findings: [],
      }),
      "logs.read": async ({ offset }) => ({ bytes: "", next: offset, ended: true }),
      doctor: async () => ({ checks: [] }),
      "images.list": async () => ({ images: [] }),
      "images.verify": async () => {
        throw refusal("image.missing", "The double has no image.", "Use a real one.");
      },
      "keeper.end": async () => ({}),
    };
  }

  function shareOf({ grant, mode = "review", hideSecrets = false, localFolders = true }: NewFolder): ShareView {
    const path = grants.get(grant);
    if (!path) throw refusal("share.grant", "A folder of this task is not known any more.", "Pick it again.");
    const name = basename(path);
    const seen = { hideSecrets, localFolders, secrets: { names: [".env"], more: false }, notes: [] };
    return { id: randomBytes(4).toString("hex"), name, mode, guestPath: `/home/you/${name}`, ...seen };
  }

  function folderOf(ref: string, folder: string) {
    const found = find(ref);
    const share = found.view.shares.find(({ id, name }) => id === folder || name === folder);
    if (!share) throw refusal("share.unknown", `${found.view.name} has no folder called ${folder}.`, "Run `cloche show`.");
    return { found, share, changes: found.changes.get(share.id) ?? new ChangesDouble() };
  }

  function folders(task: Task, shares: ShareView[], kind: EventKind, share: ShareView, more: object, actor: Actor): TaskView {
    task.view = { ...task.view, shares };
    const { id, name, mode, hideSecrets, localFolders } = share;
    emit(kind, task, { folder: id, name, mode, hideSecrets, localFolders, wall: wallOf(task), ...more }, actor);
    return viewOf(task);
  }

  function noneWaits(task: Task, shares: readonly ShareView[]): void {
    if (shares.every(({ id }) => (task.changes.get(id)?.total ?? 0) === 0)) return;
    throw refusal("task.changes-waiting", `Changes of ${task.view.name} wait.`, "Apply or discard them first.");
  }

  /** The view with what waits now. */
  function viewOf(task: Task): TaskView {
    const { view, changes } = task;
    const shares = view.shares.map((share) => ({ ...share, waiting: changes.get(share.id)?.total ?? 0 }));
    return { ...view, shares, network: network.view(view.id), wall: wallOf(task) };
  }

  function wallOf({ view }: Task): string {
    const words = { ro: "read", rw: "change files in", review: "propose changes in" };
    const can = view.shares.map((share) => `${words[share.mode]} ${share.name}`);
    return `This task can ${can.length > 0 ? can.join(", ") : "see no folder of yours"}, ${network.words(view.id)}, and nothing else.`;
  }

  /** One request of a task's toy shell. */
  async function fetched(task: Task, url: string): Promise<string> {
    const request = requestOf("GET", url);
    if (!request) return `fetch: ${url}: no address`;
    const { id, name } = task.view;
    const decided = await network.request({ id, name }, request, (ask, held) =>
      emit("ask.opened", task, { ask: ask.id, request, held }, { kind: "guest" }),
    );
    const decision = decided.decision === "allow" ? ("allow" as const) : ("deny" as const);
    emit("egress.decided", task, { entries: [{ id: execs + 1, at: Date.now(), what: "decided", request, ...decided, decision }] });
    return `fetch: ${url}: ${decision === "allow" ? "allowed" : "refused"} (${decided.rule})`;
  }

  const secretView = (name: string) => {
    const view = network.secretView(name);
    return { ...view, tasks: view.tasks.map((id) => find(id).view.name) };
  };

  function freeName(base: string): string {
    const taken = new Set([...tasks.values()].map(({ view }) => view.name));
    let name = base;
    for (let n = 2; taken.has(name); n++) name = `${base}-${n}`;
    return name;
  }

  const server = createServer(async (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket)).on("error", () => {});
    try {
      await proveAsServer(socket, token);
    } catch {
      return socket.destroy();
    }
    socket.once("readable", () => {
      const first = readLine(socket);
      const opening = JSON.parse(first) as { open: string; ticket?: string };
      if (opening.open === "stream") {
        const given = tickets.get(opening.ticket ?? "");
        tickets.delete(opening.ticket ?? "");
        if (!given) {
          const problem = { code: "exec.ticket", message: "This stream's ticket is not known.", next: ["Ask for a new one."] };
          return socket.end(encodeFrame(Frame.problem, Buffer.from(JSON.stringify(problem))));
        }
        return toyShell(
          socket,
          given,
          (url) => fetched(given.task, url),
          () => emit("exec.ended", given.task, { exec: given.exec, status: 0, ranMs: 1 }),
        );
      }
      const handlers = handlersFor(socket);
      for (const [method, handler] of Object.entries(handlers))
        Object.assign(handlers, {
          [method]: (params: never) => {
            called.push(method);
            return (handler as (params: never) => Promise<unknown>)(params);
          },
        });
      new RpcPeer({
        transport: socketTransport(socket),
        remote: { requests: {}, notifications: {} },
        local: {
          protocol: keeperProtocol,
          handlers,
          toError: (error) => new RpcError(FAILED, toProblem(error).message.slice(0, 8192), toProblem(error)),
        },
      });
    });
  });
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(at.socket, resolve));
  writeFileSync(at.tokenFile, token, { mode: 0o600 });
  emit("keeper.started", undefined, { pid: process.pid, swept: [] });
  return {
    at,
    clients: () => sockets.size,
    called,
    network,
    close() {
      for (const socket of sockets) socket.destroy();
      for (const { home } of tasks.values()) if (home) rmSync(home, { recursive: true, force: true });
      server.close();
      rmSync(at.tokenFile, { force: true });
    },
  };
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

function readLine(socket: Socket): string {
  const bytes = (socket.read() as Buffer | null) ?? Buffer.from("{}");
  const newline = bytes.indexOf(0x0a);
  if (newline >= 0 && newline + 1 < bytes.length) socket.unshift(bytes.subarray(newline + 1));
  return bytes.subarray(0, newline < 0 ? bytes.length : newline).toString("utf8");
}

/** Echoes what is typed, runs each line with sh, and knows the terminal's size. */
function toyShell(
  socket: Socket,
  given: { task: Task; columns: number; rows: number; command: string[] | undefined },
  fetched: (url: string) => Promise<string>,
  ended: () => void,
): void {
  const { task } = given;
  let { columns, rows } = given;
  let line = "";
  const write = (bytes: Uint8Array | string) => {
    for (const frame of framesOf(Frame.stdout, typeof bytes === "string" ? Buffer.from(bytes) : bytes)) socket.write(frame);
  };
  const exit = () => {
    if (socket.writable) socket.end(encodeFrame(Frame.exit, new Uint8Array(4)));
  };
  const prompt = () => write(`\x1b[32myou@${task.view.name}\x1b[0m:\x1b[38;2;120;140;255m~\x1b[0m$ `);
  const execute = (command: string) => {
    if (command === "exit") return exit();
    const url = /^fetch (.*)$/.exec(command)?.[1];
    if (url !== undefined) {
      void fetched(url).then((said) => {
        write(`${said}\r\n`);
        if (given.command) exit();
        else prompt();
      });
      return;
    }
    const script = command.replace("stty size", `echo ${rows} ${columns}`);
    const child = spawn("sh", ["-c", script], { env: { HOME: task.home ?? "/", PATH: "/usr/bin:/bin" }, cwd: task.home });
    const show = (chunk: Buffer) => {
      write(chunk.toString("latin1").replaceAll("\n", "\r\n"));
      if (socket.writableLength > 1_048_576) {
        child.stdout.pause();
        socket.once("drain", () => child.stdout.resume());
      }
    };
    child.stdout.on("data", show);
    child.stderr.on("data", show);
    child.on("close", given.command ? exit : prompt);
    socket.once("close", () => child.kill());
  };
  const decoder = new FrameDecoder();
  socket.on("data", (chunk: Buffer) => {
    for (const { type, payload } of decoder.push(chunk)) {
      if (type === Frame.resize) {
        const size = new DataView(payload.buffer, payload.byteOffset, 4);
        columns = size.getUint16(0);
        rows = size.getUint16(2);
      }
      if (type === Frame.stdinEnd && !given.command) exit();
      if (type !== Frame.stdin) continue;
      for (const character of Buffer.from(payload).toString("utf8")) {
        if (character === "\r") {
          write("\r\n");
          const typed = line;
          line = "";
          execute(typed);
        } else if (character === "\x04") exit();
        else if (character === "\x7f") {
          if (line.length > 0) write("\b \b");
          line = line.slice(0, -1);
        } else {
          line += character;
          write(character);
        }
      }
    }
  });
  task.stops.add(exit);
  task.view = { ...task.view, running: task.view.running + 1 };
  socket.on("close", () => {
    task.stops.delete(exit);
    task.view = { ...task.view, running: task.view.running - 1 };
    ended();
  });
  if (given.command) execute(given.command.join(" "));
  else prompt();
}

if (argv[1] === import.meta.filename) {
  const at = endpoint();
  mkdirSync(at.home, { recursive: true });
  const double = await startKeeperDouble(at);
  console.log("ready");
  setInterval(() => {
    if (double.clients() > 0) return;
    double.close();
    process.exit(0);
  }, 5_000);
}
