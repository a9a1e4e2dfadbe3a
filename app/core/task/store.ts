/** Tasks on disk: one task.json each, written whole and renamed into place. */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { open, rename, rm } from "node:fs/promises";
import { z } from "zod";
import { folderIdentity } from "../../../helpers/contract/protocol.ts";
import { environment, FILE_VERSION, firstIssue, ProblemError, problemSchema, taskName } from "../../contract/index.ts";
import type { Paths } from "../paths.ts";

const taskFile = z.strictObject({
  version: z.literal(FILE_VERSION),
  id: z.string().regex(/^[0-9a-f]{16}$/),
  name: taskName,
  created: z.iso.datetime(),
  /** a task of `run` without `--keep` */
  ephemeral: z.boolean(),
  /** an ephemeral task that is over: its disk is gone, its events and output are kept */
  ended: z.iso.datetime().optional(),
  shares: z
    .array(
      z.strictObject({
        /** absolute path, base64 of its bytes */
        path: z.string(),
        name: z.string(),
        identity: folderIdentity,
        mode: z.enum(["ro", "rw"]),
        guestPath: z.string(),
      }),
    )
    .max(16),
  env: environment,
  cpus: z.int().min(1),
  memoryMib: z.int().min(128),
  diskGib: z.int().min(1),
  sudo: z.boolean(),
  /** why the last start or run failed; absent after a stop that was asked for */
  failure: problemSchema.optional(),
});
export type TaskFile = z.infer<typeof taskFile>;

/** Ended runs that are kept for their events and output; the oldest beyond that are removed at the keeper's start. */
const KEPT_RUNS = 50;

export class TaskStore {
  readonly #paths: Paths;
  readonly #tasks = new Map<string, TaskFile>();
  /** task folders that cannot be read; they are left as they are and named in `doctor` */
  readonly unreadable: { id: string; why: string }[] = [];

  constructor(paths: Paths) {
    this.#paths = paths;
    mkdirSync(paths.tasks, { recursive: true, mode: 0o700 });
    for (const id of readdirSync(paths.tasks)) {
      const file = paths.task(id).file;
      if (!existsSync(file)) continue;
      try {
        const task = readTask(readFileSync(file, "utf8"));
        // a copied folder would stand for the task it was copied from, and be written over it
        if (task.id !== id) throw new Error(`it is the file of task ${task.id}`);
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
    const task: TaskFile = { version: FILE_VERSION, id: randomBytes(8).toString("hex"), created: now.toISOString(), ...fields };
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
  async save(task: TaskFile): Promise<void> {
    const { file } = this.#paths.task(task.id);
    try {
      await using handle = await open(`${file}.new`, "w", 0o600);
      await handle.writeFile(`${JSON.stringify(task, null, 2)}\n`);
      // an ephemeral task is not worth a flush: after a power cut nothing of it is of use
      if (!task.ephemeral) await handle.sync();
    } catch (error) {
      throw diskFull(error, "The task could not be written down");
    }
    await rename(`${file}.new`, file);
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

function readTask(text: string): TaskFile {
  const json: unknown = JSON.parse(text);
  const version = (json as { version?: unknown } | null)?.version;
  if (typeof version === "number" && version > FILE_VERSION) {
    throw new ProblemError({
      code: "task.newer-file",
      message: `The task was written by a newer Cloche (file version ${version}; this one reads up to ${FILE_VERSION}). It was left as it is.`,
      next: ["Update Cloche."],
    });
  }
  const task = taskFile.safeParse(json);
  if (task.success) return task.data;
  throw new ProblemError({
    code: "task.file",
    message: "A task's file does not fit; it was left as it is.",
    evidence: firstIssue(task.error),
    next: ["Run `cloche doctor` to see which."],
  });
}

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
