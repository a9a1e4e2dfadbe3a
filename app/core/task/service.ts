/** Tasks: made, listed, started, stopped, removed; commands in them. The one driver of each task's state. */
import { randomBytes } from "node:crypto";
import { lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { rm } from "node:fs/promises";
import type { Socket } from "node:net";
import { join } from "node:path";
import type { z } from "zod";
import {
  type Actor,
  type newTask,
  type Params,
  type Problem,
  ProblemError,
  type Result,
  type SshPurpose,
  type TaskState,
  type TaskView,
  toProblem,
} from "../../contract/index.ts";
import type { AuditLog } from "../audit/index.ts";
import { Networks } from "../egress/index.ts";
import { type Image, openImage } from "../image/index.ts";
import type { HelperPrograms } from "../machine/index.ts";
import { type MachineFacts, machineFacts } from "../machine/index.ts";
import type { Paths } from "../paths.ts";
import { type Grants, OWN_FOLDER } from "../share/index.ts";
import type { Vault } from "../vault/index.ts";
import { commandText, type ExecRequest, runExec, sendProblem } from "./exec.ts";
import { TaskFolders } from "./folders.ts";
import { GuestLogBudget } from "./guest-log.ts";
import { Machine } from "./machine.ts";
import { chooseName, resolveTask } from "./names.ts";
import { OutputLog } from "./output.ts";
import { type Input, next } from "./state.ts";
import { type TaskFile, TaskStore } from "./store.ts";
import { wallSentence } from "./wall.ts";

const DEFAULT_CPUS = 1;
const DEFAULT_MEMORY_MIB = 1024;
/** the size of the disk template; a smaller disk would have to be formatted in the guest */
const DEFAULT_DISK_GIB = 16;
/** random, hexadecimal: a machine's directory in the runtime directory */
const MACHINE_NAME = /^[0-9a-f]{8}$/;
/** a ticket that nobody uses is forgotten */
const TICKET_MS = 10_000;

export interface TaskServiceOptions {
  readonly paths: Paths;
  readonly audit: AuditLog;
  readonly grants: Grants;
  readonly programs: HelperPrograms & { readonly shareServer: string; readonly node: string; readonly app: { readonly proxy: string } };
  readonly vault: Vault;
  readonly imageDir: string;
  /** called when a task starts or stops running, for the keeper's own end */
  readonly onChange: () => void;
}

/** What is known of a task while the keeper lives. */
interface Live {
  state: TaskState;
  machine?: Machine;
  output: OutputLog;
  /** settles with the start or stop that is under way; those who join wait for it */
  moving?: Promise<void>;
  startedAt: number;
  execs: number;
}

/** `gone`: the client that asked has left; its stream may be one that nobody reads, which does not notice that itself */
type Ticket =
  | { kind: "exec"; task: string; exec: number; request: ExecRequest; actor: Actor; gone: AbortSignal }
  | { kind: "ssh"; task: string };

export class TaskService {
  readonly #options: TaskServiceOptions;
  readonly #store: TaskStore;
  readonly #live = new Map<string, Live>();
  /** ended runs that this keeper has tried to count */
  readonly #askedToCount = new Set<string>();
  readonly #tickets = new Map<string, Ticket>();
  /** removals under way, by task */
  readonly #removing = new Map<string, Promise<void>>();
  #image: Image | undefined;
  #facts: Promise<MachineFacts> | undefined;
  #nextExec = 1;
  readonly folders: TaskFolders;
  readonly networks: Networks;

  constructor(options: TaskServiceOptions) {
    const { paths, audit, grants, programs } = options;
    this.#options = options;
    this.#store = new TaskStore(paths);
    this.folders = new TaskFolders({
      paths,
      audit,
      grants,
      store: this.#store,
      program: programs.shareServer,
      resolve: (ref) => this.resolve(ref),
      machine: (task) => this.#foldersIn(task),
      wall: (task) => this.#wall(task),
    });
    this.networks = new Networks({
      paths,
      audit,
      vault: options.vault,
      programs: { node: programs.node, proxy: programs.app.proxy },
      resolve: (ref) => this.resolve(ref),
      wall: (id) => this.#wall(this.resolve(id)),
      setEnvironment: async (id) => {
        const { state, machine } = this.#liveOf(this.resolve(id));
        if (state.at === "running") await machine?.pushEnvironment();
      },
    });
  }

  #wall(task: TaskFile): string {
    return wallSentence(task.shares, this.networks.words(task.id));
  }

  /** Tasks whose machine is up or moving. */
  get busy(): number {
    return [...this.#live.values()].filter((live) => live.state.at !== "stopped" && live.state.at !== "failed").length;
  }
  get unreadable() {
    return this.#store.unreadable;
  }

  /**
   * Clears what a keeper that was killed has left: machines end with their helper, so there are directories and states to put right.
   * Answers with the names of the tasks that were interrupted.
   */
  async sweep(): Promise<string[]> {
    const swept: string[] = [];
    // first of all: some of these tasks end here
    for (const { id } of this.#store.all()) await tolerant(() => this.networks.recover(id));
    for (const n of readdirSync(this.#options.paths.runtime)) {
      // a machine's directory and nothing else: not a link, not a name that we would not have given
      const { directory } = this.#options.paths.machine(n);
      const marker = join(directory, "task");
      if (!MACHINE_NAME.test(n) || !lstatSync(directory).isDirectory() || !lstatSync(marker, { throwIfNoEntry: false })?.isFile()) continue;
      const task = this.#store.get(readFileSync(marker, "utf8"));
      rmSync(directory, { recursive: true, force: true });
      if (!task) continue;
      swept.push(task.name);
      const failure: Problem = {
        code: "task.interrupted",
        message: `The task ${task.name} ended because the keeper was ended from outside. Files in your folders are as the task last wrote them.`,
        next: [task.ephemeral ? "Run the command again." : `Start it again with \`cloche start ${task.name}\`.`],
      };
      this.#report("task.failed", { problem: failure }, task.id);
      await tolerant(() => (task.ephemeral ? this.#finish(task) : this.#store.save({ ...task, failure })));
    }
    for (const task of this.#store.all()) if (task.ephemeral && !task.ended) await tolerant(() => this.#finish(task));
    for (const task of this.#store.surplusRuns()) if (!this.#holdsChanges(task)) await tolerant(() => this.#delete(task));
    return swept;
  }

  nameOf(id: string): string | undefined {
    return this.#store.get(id)?.name;
  }

  /** Names of the tasks that may use a key. */
  usersOf(secret: string): string[] {
    return this.#store
      .all()
      .filter(({ id, ended }) => !ended && this.networks.uses(id, secret))
      .map(({ name }) => name);
  }

  /** Takes a key from every task: it works nowhere from here on. */
  async forgetSecret(secret: string, actor: Actor): Promise<void> {
    for (const { id } of this.#store.all()) if (this.networks.uses(id, secret)) await this.networks.detach(id, secret, actor);
  }

  async create(params: z.output<typeof newTask>, actor: Actor): Promise<TaskView> {
    const shares = await this.folders.take(params.shares);
    if (params.diskGib !== undefined && params.diskGib < DEFAULT_DISK_GIB) {
      throw new ProblemError({
        code: "usage",
        message: `A task's disk is at least ${DEFAULT_DISK_GIB} GiB; it is sparse and takes only the room it uses. The task was not made.`,
        next: [`Leave --disk out, or give ${DEFAULT_DISK_GIB} or more.`],
      });
    }
    const taken = new Set(
      this.#store
        .all()
        .filter((task) => !task.ended || this.#holdsChanges(task))
        .map((task) => task.name),
    );
    const task = await this.#store.create(
      {
        name: chooseName(params.name, shares[0]?.name ?? "task", taken),
        ephemeral: params.ephemeral,
        shares,
        env: params.env,
        cpus: params.cpus ?? DEFAULT_CPUS,
        memoryMib: params.memoryMib ?? DEFAULT_MEMORY_MIB,
        diskGib: params.diskGib ?? DEFAULT_DISK_GIB,
        sudo: params.sudo,
      },
      new Date(),
    );
    const named = shares.map(({ name, mode, guestPath }) => ({ name, mode, guestPath }));
    try {
      await this.networks.create(task.id, params.network ?? { presets: [], rules: [] }, params.secrets ?? [], params.trust ?? []);
      this.#record("task.created", { name: task.name, shares: named, wall: this.#wall(task) }, task.id, actor);
    } catch (error) {
      await this.#delete(task); // what cannot be written down is not made
      throw error;
    }
    return this.#view(task);
  }

  async list(): Promise<TaskView[]> {
    await this.#countEnded();
    return this.#store
      .all()
      .filter((task) => !task.ended || this.#holdsChanges(task))
      .sort((a, b) => (a.created < b.created ? -1 : 1))
      .map((task) => this.#view(task));
  }
  /**
   * A run that a killed keeper left behind was not counted when it ended, and is listed only for changes that wait: it is counted now,
   * once, as what cannot be counted (a folder that is gone) stays so.
   */
  async #countEnded(): Promise<void> {
    const uncounted = this.#store
      .all()
      .filter((task) => task.ended !== undefined && !this.#askedToCount.has(task.id) && this.#mayHoldChanges(task));
    for (const task of uncounted) {
      this.#askedToCount.add(task.id);
      await tolerant(async () => void (await this.folders.waiting(task)));
      await this.folders.release(task.id);
    }
  }
  #mayHoldChanges(task: TaskFile): boolean {
    return this.folders.views(task).some(({ waiting }) => waiting === undefined);
  }
  /** With everything that can be found out about its folders. */
  async view(ref: string): Promise<TaskView> {
    const task = this.resolve(ref);
    const { at } = this.#liveOf(task).state;
    // a machine that comes or goes has its folders' processes; they are not held up for a look
    if (at !== "starting" && at !== "stopping") await this.folders.look(task);
    return this.#view(task);
  }
  resolve(ref: string): TaskFile {
    return resolveTask(ref, this.#store.all());
  }

  /** Resolves when the task runs. Starts that come while one is under way wait for its outcome. */
  async start(ref: string, actor: Actor): Promise<TaskView> {
    const task = this.resolve(ref);
    if (task.ended) throw refused(task, "it was a one-off run and is over");
    const live = this.#liveOf(task);
    if (this.#move(task, live, "start") === "join") {
      await live.moving;
    } else {
      live.state = { at: "starting", steps: [] };
      live.moving = this.#bringUp(task, live, actor);
      live.moving.catch(() => {});
      this.#options.onChange();
      await live.moving;
    }
    if (live.state.at === "failed") throw new ProblemError(live.state.problem);
    return this.#view(task);
  }

  async #bringUp(task: TaskFile, live: Live, actor: Actor): Promise<void> {
    const { paths } = this.#options;
    live.startedAt = performance.now();
    try {
      this.#image ??= openImage(this.#options.imageDir);
      const facts = await this.#machineFacts(this.#image);
      await this.folders.recheck(task);
      if (live.state.at !== "starting") throw stopped(task);
      this.#record("task.starting", { wall: this.#wall(task), accelerator: facts.accelerator }, task.id, actor);
      const budget = new GuestLogBudget();
      const machine = new Machine({
        task,
        folders: this.folders.placed(task),
        paths,
        n: randomBytes(4).toString("hex"),
        image: this.#image,
        facts,
        programs: this.#options.programs,
        network: () => this.networks.open(task),
        environment: () => ({ ...task.env, ...this.networks.environment(task.id) }),
        events: {
          onStep: ({ step, waitingFor, beganMs, endedMs }, phase) => {
            if (live.state.at === "starting") live.state = { at: "starting", steps: machine.steps };
            this.#record("task.step", { step, phase, atMs: endedMs ?? beganMs, waitingFor }, task.id);
          },
          onHello: (claim) => this.#report("guest.hello", claim, task.id, { kind: "guest" }),
          onGuestLog: ({ level, message }) => {
            const kept = budget.take(message);
            if (kept) this.#report("guest.log", { level, message, ...kept }, task.id, { kind: "guest" });
          },
          onShareServed: ({ folder: { spec }, guestPath }, confinement) =>
            this.#record("share.served", { name: spec.name, mode: spec.mode, guestPath, confinement }, task.id),
          onShareRestarted: ({ folder: { spec } }, why) =>
            this.#report("folder.restarted", { folder: spec.id, name: spec.name, why: why.slice(0, 1024) }, task.id),
          onClock: (steppedMs) => this.#report("guest.clock", { steppedMs }, task.id),
          onDied: (problem) => void this.#failed(task, live, problem.problem),
        },
      });
      live.machine = machine;
      await machine.start();
      live.state = {
        at: "running",
        since: new Date().toISOString(),
        startMs: Math.round(performance.now() - live.startedAt),
        accelerator: facts.accelerator,
        steps: machine.steps,
      };
      this.#record("task.running", { startMs: live.state.startMs, accelerator: facts.accelerator }, task.id);
      if (task.failure) {
        delete task.failure;
        await this.#store.save(task);
      }
    } catch (error) {
      delete live.machine;
      // a stop that came in between has its own end; the one who asked for the start is told
      if ((live.state as TaskState).at === "stopping") throw error;
      await this.#failed(task, live, toProblem(error));
      throw error;
    } finally {
      if (live.state.at !== "stopping") delete live.moving;
    }
  }

  async #failed(task: TaskFile, live: Live, problem: Problem): Promise<void> {
    if (live.state.at === "failed" || live.state.at === "stopping") return;
    live.state = { at: "failed", problem };
    delete live.machine;
    live.output.close();
    this.#report("task.failed", { problem }, task.id);
    try {
      if (this.#store.get(task.id)) await this.#store.save({ ...task, failure: problem });
    } catch {
      // a full disk: the failure is told while this keeper lives, and the task's file stays as it was
    }
    this.#options.onChange();
  }

  /** Resolves when nothing of the machine is left. Works from every state; twice is harmless. */
  async stop(ref: string, how: "ask" | "sync" | "none", reason: string, actor: Actor): Promise<TaskView> {
    const task = this.resolve(ref);
    const live = this.#liveOf(task);
    if (this.#move(task, live, "stop") === "join") {
      await live.moving?.catch(() => {});
      return this.#view(task);
    }
    if (live.state.at === "failed") {
      live.state = { at: "stopped" };
      return this.#view(task);
    }
    const starting = live.state.at === "starting" ? live.moving : undefined;
    live.state = { at: "stopping" };
    this.#report("task.stopping", { reason }, task.id, actor); // a stop always works, on a full disk too
    live.moving = (async () => {
      if (starting) {
        live.machine?.abortStart(stopped(task));
        await starting.catch(() => {});
      } else await live.machine?.stop(how);
      delete live.machine;
      live.output.close();
      await tolerant(() => this.folders.remember(task));
      live.state = { at: "stopped" };
      this.#report("task.stopped", { reason, ranMs: Math.round(performance.now() - live.startedAt) }, task.id);
    })();
    try {
      await live.moving;
    } finally {
      delete live.moving;
      this.#options.onChange();
    }
    return this.#view(task);
  }

  async pause(ref: string, actor: Actor): Promise<TaskView> {
    const task = this.resolve(ref);
    const live = this.#liveOf(task);
    if (this.#move(task, live, "pause") === "move") {
      await live.machine?.pause();
      live.state = { at: "paused", since: new Date().toISOString() };
      this.#report("task.paused", {}, task.id, actor);
    }
    return this.#view(task);
  }

  async resume(ref: string, actor: Actor): Promise<TaskView> {
    const task = this.resolve(ref);
    const live = this.#liveOf(task);
    if (this.#move(task, live, "resume") === "move") {
      await live.machine?.resume();
      live.state = {
        at: "running",
        since: new Date().toISOString(),
        startMs: 0,
        accelerator: (await this.#facts)?.accelerator ?? "",
        steps: live.machine?.steps ?? [],
      };
      this.#report("task.resumed", {}, task.id, actor);
    }
    return this.#view(task);
  }

  /** Stops first. An ephemeral task keeps its events and output; any other goes whole. Those who come meanwhile wait for the same end. */
  remove(ref: string, discard: boolean, actor: Actor): Promise<void> {
    const task = this.resolve(ref);
    const under = this.#removing.get(task.id);
    if (under) return under;
    const removing = this.#remove(task, discard, actor).finally(() => this.#removing.delete(task.id));
    this.#removing.set(task.id, removing);
    return removing;
  }

  async #remove(task: TaskFile, discard: boolean, actor: Actor): Promise<void> {
    const kept = !task.ephemeral || task.ended !== undefined;
    if (kept && !discard) await this.folders.refuseWaiting(task); // before the stop, which the user then did not mean
    // a one-off run's disk goes with its machine, so without folders there is nothing that is worth being written back
    await this.stop(task.id, kept || task.shares.length > 0 ? "sync" : "none", "the task is removed", actor);
    if (!kept && !discard) return this.#finish(task);
    if (!kept) {
      // what it changed goes with the folders that it changed it in; events and output stay
      await this.#finish({ ...task, shares: [] });
      return rm(this.#options.paths.task(task.id).layers, { recursive: true, force: true });
    }
    if (!discard) await this.folders.refuseWaiting(task);
    this.#report("task.removed", { name: task.name }, task.id, actor); // removing is what makes room
    await this.#delete(task);
  }

  /** The end of a one-off run: machine and disk go; events, output and the changes that wait stay. */
  async #finish(task: TaskFile): Promise<void> {
    await rm(this.#options.paths.task(task.id).disk, { force: true });
    await this.#store.save({ ...task, ended: new Date().toISOString() });
    this.#options.audit.release(task.id);
    this.#live.get(task.id)?.output.close();
    this.#live.delete(task.id);
    await this.folders.release(task.id);
  }

  async #delete(task: TaskFile): Promise<void> {
    this.#live.get(task.id)?.output.close();
    this.#live.delete(task.id);
    this.#options.audit.release(task.id);
    await this.folders.release(task.id);
    this.networks.release(task.id);
    await this.#store.remove(task.id);
  }

  /** Removes the events and output of runs that are over. */
  async prune(actor: Actor): Promise<Result<"runs.prune">> {
    const runs = this.#store.all().filter((task) => task.ended !== undefined && !this.#holdsChanges(task));
    let sizeBytes = 0;
    for (const run of runs) {
      const { directory } = this.#options.paths.task(run.id);
      for (const name of readdirSync(directory)) sizeBytes += statSync(join(directory, name)).size;
      this.#report("task.removed", { name: run.name }, run.id, actor);
      await this.#delete(run);
    }
    return { removed: runs.length, sizeBytes };
  }

  recordProof({ task: ref, report }: Params<"prove.record">, actor: Actor): void {
    this.#record("prove.ended", { report }, this.resolve(ref).id, actor);
  }

  /** Prepares a command; its stream is opened with the ticket. */
  exec(
    params: z.output<typeof import("../../contract/index.ts").keeperProtocol["requests"]["tasks.exec"]["params"]>,
    actor: Actor,
    gone: AbortSignal,
  ) {
    const task = this.resolve(params.task);
    this.#running(task);
    const exec = this.#nextExec++;
    const request: ExecRequest = {
      argv: params.command?.map((argument) => Buffer.from(argument, "base64")),
      workingDirectory: params.workingDirectory ?? workingDirectory(task),
      makeWorkingDirectory: params.workingDirectory === undefined && task.shares.length === 0,
      env: params.env,
      terminal: params.terminal,
      timeoutMs: params.timeoutMs,
    };
    return { ticket: this.#ticket({ kind: "exec", task: task.id, exec, request, actor, gone }), exec };
  }

  ssh(ref: string, purpose: SshPurpose, actor: Actor): Result<"tasks.ssh"> {
    const task = this.resolve(ref);
    const machine = this.#running(task);
    this.#record("ssh.opened", { purpose }, task.id, actor);
    const { userPrivate, hostPublic } = machine.keys;
    return { ticket: this.#ticket({ kind: "ssh", task: task.id }), user: machine.user, privateKey: userPrivate, hostKey: hostPublic };
  }

  sshFiles(ref: string): Result<"tasks.sshFiles"> {
    const machine = this.#running(this.resolve(ref));
    return { user: machine.user, ...machine.keyFiles() };
  }

  /** Serves the stream that a ticket stands for; the socket is this call's from here on. */
  async stream(ticket: string, client: Socket): Promise<void> {
    const wanted = this.#tickets.get(ticket);
    this.#tickets.delete(ticket);
    const task = wanted && this.#store.get(wanted.task);
    if (!wanted || !task) {
      return sendProblem(client, {
        code: "exec.ticket",
        message: "The command's stream was asked for too late or twice. The command was not run.",
        next: ["Run the command again."],
      });
    }
    if (wanted.kind === "ssh") return this.#rawStream(task, client);
    const live = this.#liveOf(task);
    const began = performance.now();
    live.execs++;
    const leave = () => client.destroy();
    wanted.gone.addEventListener("abort", leave);
    if (wanted.gone.aborted) leave();
    try {
      const machine = this.#running(task);
      const { exec, request } = wanted;
      this.#record(
        "exec.started",
        { exec, command: commandText(request.argv), terminal: request.terminal !== undefined },
        task.id,
        wanted.actor,
      );
      let ended: { status: number; signal?: string } = { status: 125 };
      try {
        ended = await runExec(machine.ssh(), request, client, live.output);
      } finally {
        this.#report("exec.ended", { exec, ...ended, ranMs: Math.round(performance.now() - began) }, task.id);
      }
    } catch (error) {
      const problem = toProblem(error);
      const told = () => client.destroyed || client.writableEnded;
      // a guest that is silent is there: nothing more would be known of its machine
      const why = told() || problem.code === "guest.silent" ? undefined : await this.#whyGone(live);
      if (!told()) sendProblem(client, why ?? problem);
    } finally {
      wanted.gone.removeEventListener("abort", leave);
      live.execs--;
      this.#options.onChange();
    }
  }

  /** A command whose machine went away is told why the machine did, once that is known. */
  async #whyGone(live: Live): Promise<Problem | undefined> {
    for (let n = 0; n < 50 && live.state.at === "running"; n++) await new Promise((resolve) => setTimeout(resolve, 100));
    if (live.state.at === "failed") return live.state.problem;
    if (live.state.at === "running") return undefined;
    return {
      code: "machine.stopped",
      message: "The task was stopped while the command ran.",
      next: ["Start the task and run the command again."],
    };
  }

  async #rawStream(task: TaskFile, client: Socket): Promise<void> {
    try {
      const guest = await this.#running(task).dial();
      guest.pipe(client);
      client.pipe(guest);
      const end = () => {
        guest.destroy();
        client.destroy();
      };
      for (const socket of [guest, client]) socket.on("error", end).on("close", end);
    } catch {
      client.destroy(); // the ssh client at the other end reports the lost connection
    }
  }

  async stats(ref: string): Promise<Result<"tasks.stats">> {
    const { claim, hostProcesses } = await this.#running(this.resolve(ref)).stats();
    if (!claim) throw refused(this.resolve(ref), "its agent is not there");
    return { claim, hostProcesses };
  }

  async readLog(params: Params<"logs.read">): Promise<Result<"logs.read">> {
    const task = this.resolve(params.task);
    const live = this.#liveOf(task);
    const path = this.#options.paths.task(task.id).console;
    const log = params.log === "output" ? live.output : new OutputLog(path);
    const until = performance.now() + params.waitMs;
    for (;;) {
      const { bytes, next } = log.read(params.offset, params.limit);
      const ended = live.state.at === "stopped" || live.state.at === "failed";
      if (bytes.length > 0 || ended || performance.now() >= until) return { bytes: bytes.toString("base64"), next, ended };
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** Measures the host again, for `doctor`. */
  async facts(again: boolean): Promise<MachineFacts> {
    const image = openImage(this.#options.imageDir);
    return again ? machineFacts({ ...this.#factsOptions(image), again }) : this.#machineFacts(image);
  }

  /** Ends every machine, for the keeper's own end. */
  async stopAll(reason: string): Promise<void> {
    const busy = [...this.#live.entries()].filter(([, live]) => live.state.at !== "stopped" && live.state.at !== "failed");
    await Promise.all(busy.map(([id]) => this.stop(id, "ask", reason, { kind: "keeper" })));
    await this.folders.endAll();
  }

  #machineFacts(image: Image): Promise<MachineFacts> {
    this.#facts ??= machineFacts(this.#factsOptions(image)).catch((error) => {
      this.#facts = undefined;
      throw error;
    });
    return this.#facts;
  }

  #factsOptions(image: Image) {
    mkdirSync(this.#options.paths.home, { recursive: true, mode: 0o700 });
    return { paths: this.#options.paths, image, programs: this.#options.programs, log: this.#options.paths.keeperLog };
  }

  /** `move` when the task goes on to another state, `join` when there is nothing to do but to wait. Throws the table's refusal. */
  #move(task: TaskFile, live: Live, input: Input): "move" | "join" {
    const move = next(live.state.at, input);
    if ("refuse" in move) throw refused(task, move.refuse);
    return "to" in move ? "move" : "join";
  }

  #running(task: TaskFile): Machine {
    const live = this.#liveOf(task);
    if (live.state.at === "running" && live.machine) return live.machine;
    if (live.state.at === "failed") throw new ProblemError(live.state.problem);
    throw new ProblemError({
      code: "task.state",
      message: `The task ${task.name} is ${live.state.at}, so nothing can run in it.`,
      next: [
        live.state.at === "paused" ? `Resume it with \`cloche resume ${task.name}\`.` : `Start it with \`cloche start ${task.name}\`.`,
      ],
    });
  }

  #ticket(wanted: Ticket): string {
    const ticket = randomBytes(16).toString("hex");
    this.#tickets.set(ticket, wanted);
    setTimeout(() => this.#tickets.delete(ticket), TICKET_MS).unref();
    return ticket;
  }

  /** Whether changes of it may wait: what was not counted may be some. */
  #holdsChanges(task: TaskFile): boolean {
    return this.folders.views(task).some(({ waiting }) => waiting !== 0);
  }

  /** The machine in which a task's folders can be changed now; none when it is off. */
  #foldersIn(task: TaskFile): Machine | undefined {
    const { state, machine } = this.#liveOf(task);
    if (state.at === "stopped" || state.at === "failed") return undefined;
    if (state.at === "running" && machine) return machine;
    throw refused(task, `it is ${state.at}`);
  }

  #liveOf(task: TaskFile): Live {
    const held = this.#live.get(task.id);
    if (held) return held;
    const state: TaskState = task.failure ? { at: "failed", problem: task.failure } : { at: "stopped" };
    const live: Live = { state, output: new OutputLog(this.#options.paths.task(task.id).output), startedAt: 0, execs: 0 };
    this.#live.set(task.id, live);
    return live;
  }

  #view(task: TaskFile): TaskView {
    const live = this.#liveOf(task);
    return {
      id: task.id,
      name: task.name,
      created: task.created,
      ephemeral: task.ephemeral,
      state: live.state,
      shares: this.folders.views(task),
      cpus: task.cpus,
      memoryMib: task.memoryMib,
      diskGib: task.diskGib,
      sudo: task.sudo,
      network: this.networks.view(task.id),
      wall: this.#wall(task),
      workingDirectory: workingDirectory(task),
      running: live.execs,
    };
  }

  /** What is not recorded does not happen: throws when it cannot be. */
  #record<K extends Parameters<AuditLog["record"]>[0]>(
    kind: K,
    data: Parameters<AuditLog["record"]>[1],
    task: string,
    actor?: Actor,
  ): void {
    this.#options.audit.record(kind, data as never, about(task, actor));
  }

  /** Tells of what happened all the same; never throws. */
  #report<K extends Parameters<AuditLog["report"]>[0]>(
    kind: K,
    data: Parameters<AuditLog["report"]>[1],
    task: string,
    actor?: Actor,
  ): void {
    this.#options.audit.report(kind, data as never, about(task, actor));
  }
}

/** Putting right what an earlier keeper left must not keep this one from starting: on a full disk it is what lets its user make room. */
async function tolerant(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof ProblemError)) throw error;
  }
}

const about = (task: string, actor: Actor | undefined) => ({
  task,
  ...(actor ? { actor } : {}),
  ...(actor?.kind === "guest" ? { source: "guest" as const } : {}),
});

/** Commands begin in the first folder; without one in a folder of the task's own. */
const workingDirectory = (task: TaskFile) => task.shares[0]?.guestPath ?? OWN_FOLDER;

const refused = (task: TaskFile, why: string) =>
  new ProblemError({
    code: "task.state",
    message: `The task ${task.name} cannot do that: ${why}.`,
    next: [`See \`cloche show ${task.name}\`.`],
  });

const stopped = (task: TaskFile) =>
  new ProblemError({
    code: "machine.stopped",
    message: `The task ${task.name} was stopped while it started.`,
    next: [`Start it again with \`cloche start ${task.name}\`.`],
  });
