/** The folders of tasks: added, changed, taken out, also while the task runs; what waits in them. */
import {
  type Actor,
  MAX_SHARES,
  type NewFolder,
  type Params,
  ProblemError,
  type Result,
  type RoomRefusal,
  type ShareMode,
  type ShareView,
} from "../../contract/index.ts";
import type { AuditLog } from "../audit/index.ts";
import type { Paths } from "../paths.ts";
import {
  type Activity,
  activityEvents,
  activityWaits,
  Changes,
  changesWait,
  Folder,
  type FolderSpec,
  folderKey,
  folderUnknown,
  type Grants,
  guestPathFor,
  nothingAsked,
  refuseOverlaps,
  roomProblem,
} from "../share/index.ts";
import { Turns } from "../turns.ts";
import type { PlacedFolder } from "./guest-folders.ts";
import type { Machine } from "./machine.ts";
import { newShareId, type TaskFile, type TaskShare, type TaskStore } from "./store.ts";

export interface TaskFoldersOptions {
  readonly paths: Paths;
  readonly audit: AuditLog;
  readonly grants: Grants;
  readonly store: TaskStore;
  readonly program: string;
  readonly resolve: (ref: string) => TaskFile;
  /** the task's machine while its folders can be changed in it; throws when it is neither up nor off */
  readonly machine: (task: TaskFile) => Machine | undefined;
  /** the wall in one sentence, for the task with these folders */
  readonly wall: (task: TaskFile) => string;
}

/** Names that look like secrets are shown up to that many. */
const SHOWN_SECRETS = 16;

type Slice = "changes.apply" | "changes.discard" | "changes.undo" | "files.restore";

export class TaskFolders {
  readonly #options: TaskFoldersOptions;
  /** by task, then by the folder's id in it */
  readonly #held = new Map<string, Map<string, Folder>>();
  /** one change of a task's folders at a time */
  readonly #turns = new Map<string, Turns>();
  /** folders, by id, whose tasks wait for what they did to be written down */
  readonly #unrecorded = new Map<string, number>();

  constructor(options: TaskFoldersOptions) {
    this.#options = options;
  }

  /** The folders as a new task is given them. */
  async take(folders: readonly NewFolder[], others: readonly TaskShare[] = []): Promise<TaskShare[]> {
    const shares: TaskShare[] = [...others];
    for (const asked of folders) {
      const { path, name, identity, notes } = this.#options.grants.take(asked.grant);
      await this.#options.grants.refuseUnfit(path, name);
      const guestPath = guestPathFor(
        name,
        asked.guestPath,
        shares.map((share) => share.guestPath),
      );
      shares.push({
        id: newShareId(),
        path: path.toString("base64"),
        name: guestPath.slice(guestPath.lastIndexOf("/") + 1),
        identity,
        mode: asked.mode ?? "review",
        guestPath,
        hideSecrets: asked.hideSecrets ?? false,
        localFolders: asked.localFolders ?? true,
        notes,
      });
    }
    await refuseOverlaps(shares.map(specOf));
    return shares.slice(others.length);
  }

  /** Before a start. What was picked may have become something else since: throws when a folder may not be given any more. */
  async recheck(task: TaskFile): Promise<void> {
    for (const { path, name } of task.shares.map(specOf)) await this.#options.grants.refuseUnfit(path, name);
    await refuseOverlaps(task.shares.map(specOf));
    for (const share of task.shares) {
      // nothing is taken out of a layer here that would tell of room; the next write tells anew
      if (share.mode === "rw" && share.refused?.what === "changes") delete share.refused;
    }
  }

  /** A task's folders, to be served to its machine. */
  placed(task: TaskFile): PlacedFolder[] {
    return task.shares.map((share) => ({ folder: this.#folder(task, share), guestPath: share.guestPath }));
  }

  /** A task's folders as clients see them: without their place on the host. */
  views(task: TaskFile): ShareView[] {
    return task.shares.map((share) => {
      const { path: _, identity: __, counted, ...seen } = share;
      const folder = this.#folder(task, share);
      const waiting = folder.waiting(counted);
      const { room, versionLimit } = folder;
      const stuck = this.#options.audit.holding && this.#unrecorded.has(share.id);
      const problem = folder.problem ?? (stuck ? activityWaits() : undefined);
      return {
        ...seen,
        ...(waiting === undefined ? {} : { waiting }),
        ...(room === undefined ? {} : { room }),
        ...(versionLimit === undefined ? {} : { versionLimitBytes: versionLimit }),
        ...(problem === undefined ? {} : { problem }),
      };
    });
  }

  /** Finds out what is not known yet of a task's folders: how many changes wait, which names look like secrets. */
  async look(task: TaskFile): Promise<void> {
    for (const share of task.shares) {
      const folder = this.#folder(task, share);
      try {
        await folder.count(share.counted);
        if (share.secrets === undefined && !task.ended) await this.#findSecrets(task, share, folder);
      } catch (error) {
        // the folder may be gone or its disk away: the task is shown all the same, and this with it
        if (!(error instanceof ProblemError)) throw error;
        folder.problem = error.problem;
      }
    }
    await this.remember(task);
  }

  /** Writes down how many changes wait, so that the next keeper need not ask. */
  async remember(task: TaskFile): Promise<void> {
    let changed = false;
    for (const share of task.shares) {
      const { counted } = this.#folder(task, share);
      if (!counted || (counted.stamp === share.counted?.stamp && counted.changes === share.counted.changes)) continue;
      share.counted = counted;
      changed = true;
    }
    if (changed && this.#options.store.get(task.id)) await this.#options.store.save(task);
  }

  /** The folders in which changes wait, as `name: n`. */
  async waiting(task: TaskFile, shares: readonly TaskShare[] = task.shares): Promise<string[]> {
    const waiting: string[] = [];
    for (const share of shares) {
      const count = await this.#folder(task, share).count(share.counted);
      if (count > 0) waiting.push(`${share.name}: ${count}`);
    }
    await this.remember(task);
    return waiting;
  }

  /** Throws while changes wait. What cannot be counted may be changes. */
  async refuseWaiting(task: TaskFile, shares: readonly TaskShare[] = task.shares): Promise<void> {
    const waiting = await this.waiting(task, shares);
    if (waiting.length > 0) throw changesWait(task.name, waiting);
  }

  async add(params: Params<"folders.add">, actor: Actor): Promise<TaskFile> {
    const task = this.#options.resolve(params.task);
    return this.#inTurn(task, async () => {
      if (task.shares.length >= MAX_SHARES) throw tooMany(task);
      const machine = this.#options.machine(task);
      const { task: _, ...folder } = params;
      const [share] = await this.take([folder], task.shares);
      if (!share) return task;
      const shares = [...task.shares, share];
      const { id, name, mode, guestPath, hideSecrets, localFolders } = share;
      const data = { folder: id, name, mode, guestPath, hideSecrets, localFolders, wall: this.#options.wall({ ...task, shares }) };
      if (machine) await machine.folders.add({ folder: this.#folder(task, share), guestPath });
      this.#options.audit.record("folder.added", data, { task: task.id, actor });
      await this.#save(task, shares);
      return task;
    });
  }

  async set(params: Params<"folders.set">, actor: Actor): Promise<TaskFile> {
    const task = this.#options.resolve(params.task);
    return this.#inTurn(task, async () => {
      const share = find(task, params.folder);
      const { mode = share.mode, hideSecrets = share.hideSecrets, localFolders = share.localFolders, versionLimitBytes } = params;
      if (versionLimitBytes !== undefined) await this.#limitVersions(task, share, versionLimitBytes);
      if (params.mode === undefined && params.hideSecrets === undefined && params.localFolders === undefined) {
        const data = { folder: share.id, name: share.name, mode, hideSecrets, localFolders, wall: this.#options.wall(task) };
        this.#options.audit.report("folder.changed", { ...data, versionLimitBytes }, { task: task.id, actor });
        return task;
      }
      const changed: TaskShare = { ...share, mode, hideSecrets, localFolders };
      const shares = task.shares.map((one) => (one === share ? changed : one));
      await refuseOverlaps(shares.map(specOf));
      const folder = this.#folder(task, share);
      const machine = this.#options.machine(task);
      const check = async () => {
        // what waits was made to be asked about: it is not turned into something else by the way
        if (share.mode !== "ro" && mode !== share.mode && mode !== "review") await this.refuseWaiting(task, [share]);
      };
      await check();
      const swap = async () => {
        await check(); // once more, now that the guest cannot write
        await folder.endWorker();
        folder.spec = specOf(changed);
      };
      try {
        if (machine) await machine.folders.remount(share.id, swap);
        else await swap();
      } catch (error) {
        if (error instanceof ProblemError && error.problem.code !== "task.changes-waiting") folder.problem = error.problem;
        throw error;
      }
      const data = { folder: share.id, name: share.name, mode, hideSecrets, localFolders, wall: this.#options.wall({ ...task, shares }) };
      const limit = versionLimitBytes === undefined ? {} : { versionLimitBytes };
      this.#options.audit.record("folder.changed", { ...data, ...limit }, { task: task.id, actor });
      await this.#save(task, shares);
      return task;
    });
  }

  async remove(params: Params<"folders.remove">, actor: Actor): Promise<TaskFile> {
    const task = this.#options.resolve(params.task);
    return this.#inTurn(task, async () => {
      const share = find(task, params.folder);
      const folder = this.#folder(task, share);
      const machine = this.#options.machine(task);
      if (!params.discard) await this.refuseWaiting(task, [share]);
      await machine?.folders.remove(share.id);
      if (!params.discard) {
        try {
          await this.refuseWaiting(task, [share]); // the guest may have written until it was taken out
        } catch (error) {
          await machine?.folders.add({ folder, guestPath: share.guestPath });
          throw error;
        }
      }
      const shares = task.shares.filter((one) => one !== share);
      const data = { folder: share.id, name: share.name, discarded: params.discard, wall: this.#options.wall({ ...task, shares }) };
      this.#options.audit.record("folder.removed", data, { task: task.id, actor });
      await this.#save(task, shares);
      await folder.discardLayer();
      this.#held.get(task.id)?.delete(share.id);
      return task;
    });
  }

  async answerRoom(params: Params<"folders.room">, actor: Actor): Promise<void> {
    const { task, share, folder } = this.#find(params);
    const { answer } = params;
    if (answer === "refuse" ? !folder.room : params.untilBytes === undefined && folder.roomWanted === undefined) {
      throw nothingAsked(share.name, task.name);
    }
    const untilBytes = answer === "refuse" ? undefined : Math.max(1, params.untilBytes ?? folder.roomWanted ?? 1);
    const data = { folder: share.id, name: share.name, answer, ...(untilBytes === undefined ? {} : { untilBytes }) };
    if (untilBytes === undefined) {
      this.#options.audit.record("folder.answered", data, { task: task.id, actor });
      await folder.refuseRoom(); // whose end is told by an event of its own
      return;
    }
    // who hears of it looks at the task at once, and no further event follows: what the answer changes is there before
    await this.#limitVersions(task, share, untilBytes);
    this.#options.audit.report("folder.answered", data, { task: task.id, actor });
  }

  async list({ task: ref, folder, after, limit }: Params<"changes.list">): Promise<Result<"changes.list">> {
    const task = this.#options.resolve(ref);
    const shares = folder === undefined ? task.shares : [find(task, folder)];
    const folders: Result<"changes.list">["folders"] = [];
    for (const share of shares) {
      const held = this.#folder(task, share);
      // without a layer there is nothing to ask about, and no process is started for it
      if (held.waiting(share.counted) === 0 && held.pid === undefined) {
        folders.push({ folder: share.id, name: share.name, revision: 0, total: 0, changes: [] });
      } else folders.push(await this.#changes(held).list(after, limit));
    }
    return { folders };
  }

  async diff({ task, folder, ...wanted }: Params<"changes.diff">): Promise<Result<"changes.diff">> {
    return this.#changes(this.#find({ task, folder }).folder).diff(wanted);
  }

  apply({ task, folder, ...wanted }: Params<"changes.apply">, actor: Actor): Promise<Result<"changes.apply">> {
    return this.#slice<"changes.apply">(
      { task, folder },
      (changes) => changes.apply(wanted),
      (done, about, data) =>
        this.#options.audit.report("changes.applied", { ...data, apply: done.batch, applied: done.applied.length }, { ...about, actor }),
    );
  }

  discard({ task, folder, ...wanted }: Params<"changes.discard">, actor: Actor): Promise<Result<"changes.discard">> {
    return this.#slice<"changes.discard">(
      { task, folder },
      (changes) => changes.discard(wanted),
      (done, about, data) =>
        this.#options.audit.report("changes.discarded", { ...data, discarded: done.discarded.length }, { ...about, actor }),
    );
  }

  undo({ task, folder, ...wanted }: Params<"changes.undo">, actor: Actor): Promise<Result<"changes.undo">> {
    return this.#slice<"changes.undo">(
      { task, folder },
      (changes) => changes.undo(wanted),
      (done, about, data) =>
        this.#options.audit.report("changes.undone", { ...data, apply: done.apply, restored: done.restored }, { ...about, actor }),
    );
  }

  restore({ task, folder, ...wanted }: Params<"files.restore">, actor: Actor): Promise<Result<"files.restore">> {
    return this.#slice<"files.restore">(
      { task, folder },
      (changes) => changes.restore(wanted),
      (done, about, data) => this.#options.audit.report("files.restored", { ...data, restored: done.restored }, { ...about, actor }),
    );
  }

  async applies(params: Params<"changes.applies">): Promise<Result<"changes.applies">> {
    return this.#changes(this.#find(params).folder).applies();
  }

  async history({ task, folder, ...wanted }: Params<"files.history">): Promise<Result<"files.history">> {
    return this.#changes(this.#find({ task, folder }).folder).history(wanted);
  }

  /** Ends the processes that work on a task's changes, and forgets the task. */
  async release(task: string): Promise<void> {
    const folders = [...(this.#held.get(task)?.values() ?? [])];
    this.#held.delete(task);
    await Promise.all(folders.map((folder) => folder.endWorker()));
  }

  async endAll(): Promise<void> {
    await Promise.all([...this.#held.keys()].map((task) => this.release(task)));
  }

  async #slice<M extends Slice>(
    where: { task: string; folder: string },
    work: (changes: Changes) => Promise<Result<M>>,
    report: (done: Result<M>, about: { task: string }, data: { folder: string; name: string; refused: number; remaining: number }) => void,
  ): Promise<Result<M>> {
    const { task, share, folder } = this.#find(where);
    const done = await work(this.#changes(folder));
    const { refused, remaining } = done;
    report(done, { task: task.id }, { folder: share.id, name: share.name, refused: refused.length, remaining });
    if (remaining === 0) {
      if (share.refused?.what === "changes") delete share.refused; // what was taken out of the layer made room
      // the list of changes is another one now
      await folder.recount();
      await this.remember(task);
    }
    return done;
  }

  async #findSecrets(task: TaskFile, share: TaskShare, folder: Folder): Promise<void> {
    const { paths, more } = await folder.use((server) => server.ask("secrets", {}));
    const names = paths.slice(0, SHOWN_SECRETS).map((path) => Changes.shortName(path));
    share.secrets = { names, more: more || paths.length > names.length };
    if (this.#options.store.get(task.id)) await this.#options.store.save(task);
  }

  async #save(task: TaskFile, shares: TaskShare[]): Promise<void> {
    task.shares = shares;
    await this.#options.store.save(task);
  }

  #find(params: { task: string; folder: string }): { task: TaskFile; share: TaskShare; folder: Folder } {
    const task = this.#options.resolve(params.task);
    const share = find(task, params.folder);
    return { task, share, folder: this.#folder(task, share) };
  }

  #changes(folder: Folder): Changes {
    return new Changes(folder, (id) => this.#options.store.get(id)?.name);
  }

  #folder(task: TaskFile, share: TaskShare): Folder {
    const held = this.#held.get(task.id) ?? new Map<string, Folder>();
    this.#held.set(task.id, held);
    const known = held.get(share.id);
    if (known) return known;
    const about = { folder: share.id, name: share.name };
    const { audit, paths, program } = this.#options;
    const folder = new Folder({
      spec: specOf(share),
      task: task.id,
      paths,
      program,
      events: {
        onActivity: async (entries: Activity) => {
          this.#unrecorded.set(share.id, (this.#unrecorded.get(share.id) ?? 0) + 1);
          await Promise.all(
            [...activityEvents(entries)].map(({ kind, entries: part }) => audit.keep(kind, { ...about, entries: part }, { task: task.id })),
          );
          const left = (this.#unrecorded.get(share.id) ?? 1) - 1;
          if (left > 0) this.#unrecorded.set(share.id, left);
          else this.#unrecorded.delete(share.id);
        },
        onRoom: (question) => audit.report("folder.room", { ...about, ...question }, { task: task.id }),
        onRefused: (refusal) => {
          audit.report("folder.refused", { ...about, ...refusal }, { task: task.id });
          void this.#refused(task.id, share.id, refusal);
        },
      },
    });
    held.set(share.id, folder);
    return folder;
  }

  /** Notes why a write failed, for as long as it is so. */
  async #refused(id: string, shareId: string, refusal: RoomRefusal): Promise<void> {
    const task = this.#options.store.get(id);
    const share = task?.shares.find((one) => one.id === shareId);
    if (!task || !share) return;
    const problem = roomProblem(task.name, share, refusal);
    share.refused = { what: refusal.what, time: new Date().toISOString(), problem };
    await this.#remembered(task);
  }

  /** Writes down what the next keeper should know. On a full disk this one knows it all the same. */
  async #remembered(task: TaskFile): Promise<void> {
    try {
      await this.#options.store.save(task);
    } catch (error) {
      if (!(error instanceof ProblemError) && this.#options.store.get(task.id)) throw error;
    }
  }

  /** Versions belong to the folder: every task that has it is told. */
  async #limitVersions(task: TaskFile, share: TaskShare, bytes: number): Promise<void> {
    const folder = this.#folder(task, share);
    await folder.limitVersions(bytes);
    const others = [...this.#held.values()].flatMap((held) => [...held.values()]).filter((one) => one !== folder && one.key === folder.key);
    await Promise.all(others.map((one) => one.versionsLimited(bytes)));
    for (const each of this.#options.store.all()) {
      const refused = each.shares.filter((one) => one.refused?.what === "versions" && folderKey(one.identity) === folder.key);
      for (const one of refused) delete one.refused;
      if (refused.length > 0) await this.#remembered(each);
    }
  }

  #inTurn<T>(task: TaskFile, work: () => Promise<T>): Promise<T> {
    const turns = this.#turns.get(task.id) ?? new Turns();
    this.#turns.set(task.id, turns);
    return turns.take(work);
  }
}

/** By id, or by the name or guest path that only one of the task's folders has. */
function find(task: TaskFile, ref: string): TaskShare {
  const found = task.shares.filter(({ id, name, guestPath }) => id === ref || name === ref || guestPath === ref);
  const exact = found.find(({ id, guestPath }) => id === ref || guestPath === ref) ?? (found.length === 1 ? found[0] : undefined);
  if (exact) return exact;
  throw folderUnknown(task.name, ref);
}

export const specOf = ({ id, path, name, identity, mode, hideSecrets, localFolders }: TaskShare): FolderSpec & { mode: ShareMode } => ({
  id,
  path: Buffer.from(path, "base64"),
  name,
  identity,
  mode,
  hideSecrets,
  localFolders,
});

const tooMany = (task: TaskFile) =>
  new ProblemError({
    code: "task.state",
    message: `The task ${task.name} has ${MAX_SHARES} folders already, so no other one was added.`,
    next: [`Take one out with \`cloche folder rm ${task.name} NAME\`.`],
  });
