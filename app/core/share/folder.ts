/**
 * One folder of one task while the keeper lives: the process that serves it to the machine, and the one that works on its changes
 * when no machine runs.
 *
 * A layer has one process at a time, so both take their turn: serving waits until the work under way is done and ends the worker
 * first. A worker stays a while, as long work (an apply in slices) lives in its process.
 */
import { existsSync, mkdirSync, statSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Problem, RoomQuestion, RoomRefusal } from "../../contract/index.ts";
import type { Paths } from "../paths.ts";
import { fileOf } from "./changes.ts";
import { type Activity, type FolderSpec, type Kept, type RefusedNotice, type RoomNotice, ShareServer } from "./server.ts";
import { FolderStore, folderKey } from "./store.ts";

/** what a process may take to finish the work under way, or to count, before it is ended all the same: a stop always works */
const PATIENCE_MS = 1_500;
/** a worker that nobody asked for that long ends */
const WORKER_IDLE_MS = 15_000;

export interface FolderEvents {
  /** resolves when it is written down */
  onActivity(entries: Activity): Promise<void>;
  onRoom(question: RoomQuestion): void;
  onRefused(refusal: RoomRefusal): void;
}

export interface FolderOptions {
  readonly spec: FolderSpec;
  readonly task: string;
  readonly paths: Paths;
  readonly program: string;
  readonly events: FolderEvents;
}

/** A count of changes, and what layer and journal were when it was made: a count of others is none. */
export interface Counted {
  readonly changes: number;
  readonly stamp: string;
}

export class Folder {
  readonly #options: FolderOptions;
  readonly #layer: string;
  /** whose logs in the folder's store are this task's */
  readonly #writer: string;
  #spec: FolderSpec;
  #serving: ShareServer | undefined;
  #worker: ShareServer | undefined;
  #idle: NodeJS.Timeout | undefined;
  /** calls under way in either process */
  #using = 0;
  #quiet: (() => void)[] = [];
  /** what starts or ends a process comes one after the other */
  #turn: Promise<unknown> = Promise.resolve();
  #counted: Counted | undefined;
  #room: RoomQuestion | undefined;
  /** the sizes of the last write that was refused room for versions, for an answer that comes later */
  #refused: RoomRefusal | undefined;
  #versionLimit: number | undefined;
  /** why it does not do all it should; told by `cloche show` */
  problem: Problem | undefined;

  constructor(options: FolderOptions) {
    this.#options = options;
    this.#spec = options.spec;
    this.#layer = join(options.paths.task(options.task).layers, options.spec.id);
    this.#writer = `${options.task}-${options.spec.id}`;
    this.#versionLimit = FolderStore.limitOf(options.paths, options.spec);
  }

  get spec(): FolderSpec {
    return this.#spec;
  }
  /** What holds from the next serving on. */
  set spec(spec: FolderSpec) {
    this.#spec = spec;
  }
  get #keeps(): boolean {
    return this.#spec.mode !== "ro";
  }
  get room(): RoomQuestion | undefined {
    return this.#room;
  }
  /** The user's own limit for versions of this folder. */
  get versionLimit(): number | undefined {
    return this.#versionLimit;
  }
  /** The same for two tasks with the same folder. */
  get key(): string {
    return folderKey(this.#spec.identity);
  }
  /** Directories below it that the guest has on its own disk, as the server that serves it found them. */
  get localFolders(): readonly string[] {
    return this.#serving?.served.localFolders ?? [];
  }
  get pid(): number | undefined {
    return this.#serving?.pid;
  }

  /** How many changes wait, when that is known without asking. `kept` is a count that was written down. */
  waiting(kept: Counted | undefined): number | undefined {
    if (!existsSync(this.#layer)) return 0;
    const stamp = this.#stamp();
    if (this.#counted?.stamp === stamp) return this.#counted.changes;
    return kept?.stamp === stamp ? kept.changes : undefined;
  }
  get counted(): Counted | undefined {
    return this.#counted;
  }

  /** How many changes wait. */
  async count(kept: Counted | undefined): Promise<number> {
    return this.waiting(kept) ?? (await this.use(async (server) => this.#count(server)));
  }

  /** Serves the folder to a machine at a socket; answers with the process, whose end is the caller's to watch. */
  serve(listen: string): Promise<ShareServer> {
    return this.#inTurn(async () => {
      if (this.#serving) throw new Error(`folder ${this.#spec.id} is served already`);
      const kept = this.#keeps ? await this.#takeLayer() : undefined;
      const server = await this.#start(this.#spec, listen, kept);
      this.#serving = server;
      this.problem = undefined;
      void server.exited.then(() => {
        if (this.#serving !== server) return;
        this.#serving = undefined;
        this.#room = undefined; // what waited failed with it
      });
      return server;
    });
  }

  /** Ends the serving, after the work under way. What waits is counted first. */
  endServing(): Promise<void> {
    return this.#inTurn(async () => {
      const server = this.#serving;
      if (!server) return;
      await this.#untilQuiet();
      // Its answer comes after all that it had to tell. A dead or hung server has not counted: that is done when somebody asks.
      const last = this.#keeps ? this.#count(server) : server.ask("stats", {});
      await within(PATIENCE_MS, last).catch(() => {});
      this.#serving = undefined;
      await server.end();
      this.#recount();
    });
  }

  /** Works on the folder's changes and versions, through the process that serves it or one started for it. */
  async use<T>(work: (server: ShareServer) => Promise<T>): Promise<T> {
    const server = await this.#inTurn(async () => {
      const there = this.#spec.mode === "ro" ? undefined : this.#serving;
      const server = there ?? (await this.#work());
      this.#using++;
      return server;
    });
    try {
      return await work(server);
    } finally {
      this.#using--;
      if (this.#using === 0) for (const wake of this.#quiet.splice(0)) wake();
      if (server === this.#worker) this.#idle = setTimeout(() => void this.endWorker(), WORKER_IDLE_MS).unref();
    }
  }

  /** Counts again after what changed the layer. */
  async recount(): Promise<void> {
    await this.use((server) => this.#count(server));
  }

  endWorker(): Promise<void> {
    return this.#inTurn(() => this.#retireWorker());
  }

  /** The limit that an unqualified yes stands for: as much again as there is, and what the write needs. Undefined: nothing was asked. */
  get roomWanted(): number | undefined {
    const about = this.#room ?? this.#refused;
    return about && Math.max(about.limitBytes, about.usedBytes) * 2 + about.neededBytes;
  }

  /** The user refuses more room to the write that waits. */
  async refuseRoom(): Promise<void> {
    await this.use((server) => server.ask("room", { answer: "refuse" }));
    this.#room = undefined;
  }

  /** What versions of the folder may take: written down, and told to the processes that work on it now. */
  async limitVersions(bytes: number): Promise<void> {
    FolderStore.open(this.#options.paths, this.#spec).setVersionLimit(bytes);
    await this.versionsLimited(bytes);
  }

  /** The same, written down already. */
  async versionsLimited(bytes: number): Promise<void> {
    this.#versionLimit = bytes;
    this.#room = undefined;
    this.#refused = undefined;
    const serving = this.#keeps ? this.#serving : undefined;
    if (serving ?? this.#worker) await this.use((server) => server.ask("room", { answer: "allow", untilBytes: bytes }));
  }

  /** Removes the layer and with it what nobody applied. */
  async discardLayer(): Promise<void> {
    await this.endWorker();
    await rm(this.#layer, { recursive: true, force: true });
    this.#counted = undefined;
  }

  async #work(): Promise<ShareServer> {
    clearTimeout(this.#idle);
    if (this.#worker) return this.#worker;
    // changes and versions are worked on in one way, whatever the machine is given
    const server = await this.#start({ ...this.#spec, mode: this.#spec.mode === "rw" ? "rw" : "review" }, undefined, this.#kept());
    this.#worker = server;
    void server.exited.then(() => {
      if (this.#worker === server) this.#worker = undefined;
    });
    return server;
  }

  async #retireWorker(): Promise<void> {
    clearTimeout(this.#idle);
    const worker = this.#worker;
    if (!worker) return;
    await this.#untilQuiet();
    this.#worker = undefined;
    await worker.end();
    this.#recount();
  }

  async #takeLayer(): Promise<Kept> {
    await this.#retireWorker();
    return this.#kept();
  }

  #kept(): Kept {
    const { paths } = this.#options;
    mkdirSync(this.#layer, { recursive: true, mode: 0o700 });
    const store = FolderStore.open(paths, this.#spec);
    const limit = store.versionLimitBytes;
    return {
      layer: this.#layer,
      store: store.directory,
      writer: this.#writer,
      ...(limit === undefined ? {} : { versionLimitBytes: limit }),
    };
  }

  #start(folder: FolderSpec, listen: string | undefined, kept: Kept | undefined): Promise<ShareServer> {
    const { paths, task, program, events } = this.#options;
    return ShareServer.start({
      program,
      log: paths.task(task).hostLog,
      folder,
      ...(listen === undefined ? {} : { listen }),
      ...(kept === undefined ? {} : { kept }),
      events: {
        onActivity: (entries) => events.onActivity(entries),
        onRoom: (notice) => this.#roomAsked(notice),
        onRefused: (notice) => this.#roomRefused(notice),
        onChanged: (total) => {
          this.#counted = total === undefined ? undefined : { changes: total, stamp: this.#stamp() };
        },
      },
    });
  }

  async #count(server: ShareServer): Promise<number> {
    const { total } = await server.ask("changes", { limit: 1 });
    this.#counted = { changes: total, stamp: this.#stamp() };
    return total;
  }

  /** The ended process may have written the layer once more; what it counted still holds. */
  #recount(): void {
    if (this.#counted) this.#counted = { ...this.#counted, stamp: this.#stamp() };
  }

  /**
   * What the layer's files and the journal of applies and undos are: another layer has another one. An undo that its process did not live
   * to end has written to the journal alone, and whoever opens it next takes that back.
   */
  #stamp(): string {
    const journal = join(this.#options.paths.folder(this.key).directory, "applies", `${this.#writer}.log`);
    return [join(this.#layer, "layer.log"), join(this.#layer, "layer.snapshot"), journal]
      .map((file) => {
        const found = statSync(file, { bigint: true, throwIfNoEntry: false });
        return found ? `${found.ino}.${found.size}.${found.mtimeNs}` : "";
      })
      .join(",");
  }

  #roomAsked({ path, ...sizes }: RoomNotice): void {
    this.#room = { ...sizes, path: fileOf(path) };
    this.#options.events.onRoom(this.#room);
  }

  #roomRefused({ path, ...about }: RefusedNotice): void {
    const refusal: RoomRefusal = { ...about, path: fileOf(path) };
    if (refusal.what === "versions") {
      this.#room = undefined;
      this.#refused = refusal;
    }
    this.#options.events.onRefused(refusal);
  }

  async #untilQuiet(): Promise<void> {
    if (this.#using > 0) await within(PATIENCE_MS, new Promise<void>((resolve) => this.#quiet.push(resolve)));
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work, work);
    this.#turn = done.catch(() => {});
    return done;
  }
}

/** The work's outcome, or nothing when it takes longer. */
async function within(ms: number, work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  work.catch(() => {});
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
