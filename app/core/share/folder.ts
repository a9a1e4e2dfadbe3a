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
import { type Problem, ProblemError, type RoomQuestion } from "../../contract/index.ts";
import type { Paths } from "../paths.ts";
import { fileOf } from "./changes.ts";
import { type Activity, type FolderSpec, type Kept, type RoomNotice, ShareServer } from "./server.ts";
import { FolderStore } from "./store.ts";

/** what a process may take to finish the work under way, or to count, before it is ended all the same: a stop always works */
const PATIENCE_MS = 1_500;
/** a worker that nobody asked for that long ends */
const WORKER_IDLE_MS = 15_000;
/** how long a write waits for its user's answer, plus what the server needs to tell */
const ROOM_WAIT_MS = 60_000;

export interface FolderEvents {
  onActivity(entries: Activity): void;
  onRoom(question: RoomQuestion): void;
}

export interface FolderOptions {
  readonly spec: FolderSpec;
  readonly task: string;
  readonly paths: Paths;
  readonly program: string;
  readonly events: FolderEvents;
}

/** A count of changes, and what the layer's files were when it was made: a count of another layer is none. */
export interface Counted {
  readonly changes: number;
  readonly stamp: string;
}

export class Folder {
  readonly #options: FolderOptions;
  readonly #layer: string;
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
  #roomTimer: NodeJS.Timeout | undefined;
  /** why it does not do all it should; told by `cloche show` */
  problem: Problem | undefined;

  constructor(options: FolderOptions) {
    this.#options = options;
    this.#spec = options.spec;
    this.#layer = join(options.paths.task(options.task).layers, options.spec.id);
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
        if (this.#serving === server) this.#serving = undefined;
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

  /** The user's answer to a write that waits for room. */
  async answerRoom(answer: "allow" | "refuse", untilBytes: number | undefined): Promise<void> {
    if (untilBytes !== undefined) FolderStore.open(this.#options.paths, this.#spec).setVersionLimit(untilBytes);
    await this.use((server) => server.ask("room", { answer, ...(untilBytes === undefined ? {} : { untilBytes }) }));
    this.#roomAnswered(answer === "allow" ? undefined : "its user refused more room");
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
    const { paths, task } = this.#options;
    mkdirSync(this.#layer, { recursive: true, mode: 0o700 });
    const store = FolderStore.open(paths, this.#spec);
    const limit = store.versionLimitBytes;
    return {
      layer: this.#layer,
      store: store.directory,
      writer: `${task}-${this.#spec.id}`,
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

  /** What the layer's files are: another layer has another one. */
  #stamp(): string {
    return ["layer.log", "layer.snapshot"]
      .map((file) => {
        const found = statSync(join(this.#layer, file), { bigint: true, throwIfNoEntry: false });
        return found ? `${found.ino}.${found.size}.${found.mtimeNs}` : "";
      })
      .join(",");
  }

  #roomAsked({ path, ...sizes }: RoomNotice): void {
    this.#room = { ...sizes, path: fileOf(path) };
    this.#options.events.onRoom(this.#room);
    clearTimeout(this.#roomTimer);
    this.#roomTimer = setTimeout(() => this.#roomAnswered("nobody answered for a minute"), ROOM_WAIT_MS).unref();
  }

  #roomAnswered(refusedAs: string | undefined): void {
    clearTimeout(this.#roomTimer);
    const asked = this.#room;
    this.#room = undefined;
    if (refusedAs === undefined) this.problem = undefined;
    else if (asked) {
      this.problem = new ProblemError({
        code: "share.no-room",
        message: `A write to ${asked.path.text} in the folder ${JSON.stringify(this.#spec.name)} failed in the task: there is no room for the version that it would overwrite, and ${refusedAs}. The file is as it was.`,
        evidence: `${asked.usedBytes} bytes of versions, at most ${asked.limitBytes}, ${asked.neededBytes} more needed`,
        next: ["Allow more room when you are asked again, or make room on the disk that holds Cloche's data."],
      }).problem;
    }
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
