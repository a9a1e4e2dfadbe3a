/** Tasks on disk: one task.json each, written whole and renamed into place. */
import { randomBytes } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { folderIdentity } from "../../../helpers/contract/protocol.ts";
import {
  environment,
  firstIssue,
  folderId,
  folderNote,
  ProblemError,
  problemSchema,
  refusedWrite,
  shareMode,
  TASK_FILE_VERSION,
  taskName,
} from "../../contract/index.ts";
import { emptyPolicy } from "../egress/index.ts";
import type { Paths, TaskPaths } from "../paths.ts";
import { writeWhole } from "../whole-file.ts";

const shareV1 = z.strictObject({
  /** absolute path, base64 of its bytes */
  path: z.string(),
  name: z.string(),
  identity: folderIdentity,
  mode: z.enum(["ro", "rw"]),
  guestPath: z.string(),
});

const shareV2 = shareV1.extend({
  /** names its layer, and with the task's id its logs in the folder's store; never given twice in a task */
  id: folderId,
  mode: shareMode,
  hideSecrets: z.boolean(),
  localFolders: z.boolean(),
  notes: z.array(folderNote).max(8),
  /** how many changes its layer had, for as long as the layer's files are those of the stamp */
  counted: z.strictObject({ changes: z.int().min(0), stamp: z.string().max(256) }).optional(),
  /** names in it that look like secrets, as they were when it was first looked through */
  secrets: z.strictObject({ names: z.array(z.string().max(256)).max(16), more: z.boolean() }).optional(),
});
const taskShare = shareV2.extend({
  /** the last write in it that failed for want of room */
  refused: refusedWrite.optional(),
});
export type TaskShare = z.infer<typeof taskShare>;

const fields = {
  id: z.string().regex(/^[0-9a-f]{16}$/),
  name: taskName,
  created: z.iso.datetime(),
  /** a task of `run` without `--keep` */
  ephemeral: z.boolean(),
  /** an ephemeral task that is over: its disk is gone, its events and output are kept */
  ended: z.iso.datetime().optional(),
  env: environment,
  cpus: z.int().min(1),
  memoryMib: z.int().min(128),
  diskGib: z.int().min(1),
  sudo: z.boolean(),
  /** why the last start or run failed; absent after a stop that was asked for */
  failure: problemSchema.optional(),
};
const taskFileV1 = z.strictObject({ version: z.literal(1), ...fields, shares: z.array(shareV1).max(16) });
const taskFileV2 = z.strictObject({ version: z.literal(2), ...fields, shares: z.array(shareV2).max(16) });
const taskFileV3 = z.strictObject({ version: z.literal(3), ...fields, shares: z.array(taskShare).max(16) });
const taskFile = z.strictObject({ version: z.literal(TASK_FILE_VERSION), ...fields, shares: z.array(taskShare).max(16) });
export type TaskFile = z.infer<typeof taskFile>;

/** Ended runs that are kept for their events and output; the oldest beyond that are removed at the keeper's start. */
const KEPT_RUNS = 50;

export class TaskStore {
  readonly #paths: Paths;
  readonly #tasks = new Map<string, TaskFile>();
  /** one write of a task's file at a time */
  readonly #saving = new Map<string, Promise<void>>();
  /** task folders that cannot be read; they are left as they are and named in `doctor` */
  readonly unreadable: { id: string; why: string }[] = [];

  constructor(paths: Paths) {
    this.#paths = paths;
    mkdirSync(paths.tasks, { recursive: true, mode: 0o700 });
    for (const id of readdirSync(paths.tasks)) {
      const file = paths.task(id).file;
      if (!existsSync(file)) continue;
      try {
        const { task, older } = readTask(readFileSync(file, "utf8"));
        // a copied folder would stand for the task it was copied from, and be written over it
        if (task.id !== id) throw new Error(`it is the file of task ${task.id}`);
        if (older !== undefined) migrate(paths.task(id), task, older);
        this.#tasks.set(task.id, task);
      } catch (error) {
        this.unreadable.push({ id, why: (error as Error).message });
      }
    }
  }

  all(): TaskFile[] {
    return [...this.#tasks.values()];
  }
  get(id: string): TaskFile | undefined {
    return this.#tasks.get(id);
  }

  /** Ended runs beyond the number that is kept, oldest first. */
  surplusRuns(): TaskFile[] {
    const ended = this.all().filter((task) => task.ended !== undefined);
    ended.sort((a, b) => ((a.ended ?? "") < (b.ended ?? "") ? 1 : -1));
    return ended.slice(KEPT_RUNS).reverse();
  }

  async create(fields: Omit<TaskFile, "version" | "id" | "created">, now: Date): Promise<TaskFile> {
    const task: TaskFile = { version: TASK_FILE_VERSION, id: randomBytes(8).toString("hex"), created: now.toISOString(), ...fields };
    this.#tasks.set(task.id, task); // before anything is waited for: its name is taken
    try {
      makeDirectory(this.#paths.task(task.id).directory);
      await this.save(task);
    } catch (error) {
      await this.remove(task.id);
      throw error;
    }
    return task;
  }

  /** Durable when it resolves. */
  save(task: TaskFile): Promise<void> {
    const write = () => this.#write(task);
    const saved = (this.#saving.get(task.id) ?? Promise.resolve()).then(write, write);
    const settled = saved.catch(() => {});
    this.#saving.set(task.id, settled);
    void settled.then(() => {
      if (this.#saving.get(task.id) === settled) this.#saving.delete(task.id);
    });
    return saved;
  }

  async #write(task: TaskFile): Promise<void> {
    const { file } = this.#paths.task(task.id);
    try {
      // an ephemeral task is not worth a flush: after a power cut nothing of it is of use
      await writeWhole(file, `${JSON.stringify(task, null, 2)}\n`, !task.ephemeral);
    } catch (error) {
      throw diskFull(error, "The task could not be written down");
    }
    this.#tasks.set(task.id, task);
  }

  /** Removes the task's folder. */
  async remove(id: string): Promise<void> {
    this.#tasks.delete(id);
    await rm(this.#paths.task(id).directory, { recursive: true, force: true });
  }
}

function makeDirectory(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    throw diskFull(error, "The task could not be made");
  }
}

/** The task, and the version it was written in where that is an older one. */
function readTask(text: string): { task: TaskFile; older?: number } {
  const json: unknown = JSON.parse(text);
  const version = (json as { version?: unknown } | null)?.version;
  if (typeof version === "number" && version > TASK_FILE_VERSION) {
    throw new ProblemError({
      code: "task.newer-file",
      message: `The task was written by a newer Cloche (file version ${version}; this one reads up to ${TASK_FILE_VERSION}). It was left as it is.`,
      next: ["Update Cloche."],
    });
  }
  if (version === 1) {
    const first = taskFileV1.safeParse(json);
    if (!first.success) throw unfit(first.error);
    const added = { hideSecrets: false, localFolders: false, notes: [] };
    const shares = first.data.shares.map((share) => ({ ...share, ...added, id: newShareId() }));
    return { task: { ...first.data, version: TASK_FILE_VERSION, shares }, older: version };
  }
  if (version === 2) {
    const second = taskFileV2.safeParse(json);
    if (!second.success) throw unfit(second.error);
    return { task: { ...second.data, version: TASK_FILE_VERSION }, older: version };
  }
  if (version === 3) {
    const third = taskFileV3.safeParse(json);
    if (!third.success) throw unfit(third.error);
    return { task: { ...third.data, version: TASK_FILE_VERSION }, older: version };
  }
  const task = taskFile.safeParse(json);
  if (task.success) return { task: task.data };
  throw unfit(task.error);
}

export const newShareId = () => randomBytes(4).toString("hex");

/** Writes the task in today's form; the file as it was stays beside it. Crashing between the two steps leaves the older form in place. */
function migrate({ file, directory, policy }: TaskPaths, task: TaskFile, older: number): void {
  // a task of before had no network: it has an empty policy, which is not the same as one that is gone
  if (!existsSync(policy)) writeFileSync(policy, `${JSON.stringify(emptyPolicy(), null, 2)}\n`, { mode: 0o600, flush: true });
  copyFileSync(file, join(directory, `task.v${older}.json`));
  writeFileSync(`${file}.new`, `${JSON.stringify(task, null, 2)}\n`, { mode: 0o600, flush: true });
  renameSync(`${file}.new`, file);
}

const unfit = (error: z.ZodError) =>
  new ProblemError({
    code: "task.file",
    message: "A task's file does not fit; it was left as it is.",
    evidence: firstIssue(error),
    next: ["Run `cloche doctor` to see which."],
  });

/** Wording of a failed write: a full disk is told as such, anything else as what the system said. */
export function diskFull(error: unknown, what: string): ProblemError {
  const { code = "", message } = error as NodeJS.ErrnoException;
  const full = code === "ENOSPC" || code === "EDQUOT";
  return new ProblemError({
    code: "disk.full",
    message: full ? `${what}: the disk that holds Cloche's data is full.` : `${what}: the disk did not take it.`,
    evidence: message,
    next: ["Make room on that disk (`cloche doctor` names it), then try again."],
  });
}
