/** A task as clients see it. */
import { z } from "zod";
import { folderId, roomQuestion, roomRefusal } from "./change.ts";
import { networkView } from "./egress.ts";
import { ProblemError, problemSchema } from "./problem.ts";

export const MAX_SHARES = 16;

/** Starting, in the order in which the steps end. Several may be under way at once. */
export const startStep = z.enum(["image", "disk", "helper", "boot", "agent", "shares", "egress", "ready"]);
export type StartStep = z.infer<typeof startStep>;

/** What a task may do in a folder: nothing (`ro`), propose changes that wait on the host (`review`), change files at once (`rw`). */
export const shareMode = z.enum(["ro", "rw", "review"]);
export type ShareMode = z.infer<typeof shareMode>;

const MAX_TASK_NAME = 48;
/** One name, as a person types it. */
export const taskName = z
  .string()
  .min(1)
  .max(MAX_TASK_NAME)
  .regex(/^[a-z0-9][a-z0-9-]*$/, "a task name is made of a-z, 0-9 and -, and starts with a letter or digit");
/** Throws for what cannot be a task's name, in the words of whoever typed it. */
export function checkTaskName(asked: string): void {
  if (taskName.safeParse(asked).success) return;
  throw new ProblemError({
    code: "task.name",
    message: `${JSON.stringify(asked)} cannot be a task's name: it is made of a-z, 0-9 and -, starts with a letter or digit, and has at most ${MAX_TASK_NAME} characters.`,
    next: ["Choose another name."],
  });
}

/** What is answered to a word that names no task, or can name none. */
export const taskUnknown = (ref: string) =>
  new ProblemError({
    code: "task.unknown",
    message: `There is no task named ${JSON.stringify(ref)}.`,
    next: ["Run `cloche ls` to see the tasks there are."],
  });

/** A task's name, a unique prefix of it, or its id. */
export const taskRef = z.string().min(1).max(64);

/** characters of one variable's value */
export const MAX_ENVIRONMENT_VALUE = 32_768;
export const environment = z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/), z.string().max(MAX_ENVIRONMENT_VALUE));

/** What a task's machine may be made of. */
export const MACHINE_BOUNDS = {
  cpus: { min: 1, max: 64 },
  memoryMib: { min: 256, max: 262_144 },
  diskGib: { min: 1, max: 4096 },
} as const;

const stepRecord = z.lazy(() =>
  z.strictObject({
    step: startStep,
    /** ms since the start was asked for */
    beganMs: z.int().min(0),
    /** absent while the step goes on */
    endedMs: z.int().min(0).optional(),
    /** what the step waits for, in the user's words */
    waitingFor: z.string().max(256),
  }),
);
export type StepRecord = z.infer<typeof stepRecord>;

/**
 * stopped → starting(step) → running ⇄ paused; starting, running and paused → stopping → stopped;
 * failed(problem) from any of the three that move. Only `stopped` and `failed` survive the keeper.
 */
export const taskState = z.lazy(() =>
  z.discriminatedUnion("at", [
    z.strictObject({ at: z.literal("stopped") }),
    z.strictObject({ at: z.literal("starting"), steps: z.array(stepRecord).max(16) }),
    /** the agent has called, the folders are seen by the guest, ssh answers */
    z.strictObject({
      at: z.literal("running"),
      since: z.iso.datetime(),
      startMs: z.int().min(0),
      accelerator: z.string().max(16),
      steps: z.array(stepRecord).max(16),
    }),
    z.strictObject({ at: z.literal("paused"), since: z.iso.datetime() }),
    z.strictObject({ at: z.literal("stopping") }),
    z.strictObject({ at: z.literal("failed"), problem: problemSchema }),
  ]),
);
export type TaskState = z.infer<typeof taskState>;

/** What its user should know of a folder before giving it to a task, as it may be slow, absent or shared. */
export const folderNote = z.lazy(() =>
  z.strictObject({
    kind: z.enum(["network", "user-filesystem", "cloud", "read-only", "no-birth-time"]),
    text: z.string().max(512),
  }),
);
export type FolderNote = z.infer<typeof folderNote>;

/** The last write of the task in a folder that failed for want of room, until there is some. It is kept with the task. */
export const refusedWrite = z.lazy(() => z.strictObject({ what: roomRefusal.shape.what, time: z.iso.datetime(), problem: problemSchema }));

export const shareView = z.lazy(() =>
  z.strictObject({
    /** the folder's name, safe to show: control characters and invalid bytes are replaced */
    name: z.string().min(1).max(255),
    mode: shareMode,
    guestPath: z.string().min(1).max(1024),
    id: folderId,
    /** changes that wait to be applied or discarded; absent while they have not been counted */
    waiting: z.int().min(0).optional(),
    /** names that look like secrets are not shown to the guest */
    hideSecrets: z.boolean(),
    /** dependency and cache folders that are not kept here live on the task's own disk */
    localFolders: z.boolean(),
    /** the first names in it that look like secrets; absent until the folder was looked through */
    secrets: z.strictObject({ names: z.array(z.string().max(256)).max(16), more: z.boolean() }).optional(),
    notes: z.array(folderNote).max(8),
    /** a write of the task waits for room for versions, and for the user's answer */
    room: roomQuestion.optional(),
    refused: refusedWrite.optional(),
    /** the user's own limit for the versions kept of the folder, in bytes; absent: 10 % of the free room, at most 5 GB */
    versionLimitBytes: z.int().min(1).optional(),
    /** why the folder does not do all it should */
    problem: problemSchema.optional(),
  }),
);
export type ShareView = z.infer<typeof shareView>;

export const taskView = z.lazy(() =>
  z.strictObject({
    id: z.string().regex(/^[0-9a-f]{16}$/),
    name: taskName,
    created: z.iso.datetime(),
    /** a task of `run` without `--keep`: removed when it stops */
    ephemeral: z.boolean(),
    state: taskState,
    shares: z.array(shareView).max(MAX_SHARES),
    cpus: z.int().min(1),
    memoryMib: z.int().min(128),
    diskGib: z.int().min(1),
    sudo: z.boolean(),
    network: networkView,
    /** what the wall lets through, in one sentence */
    wall: z.string().min(1).max(4096),
    /** folder in which commands begin */
    workingDirectory: z.string().min(1).max(1024),
    /** commands under way */
    running: z.int().min(0),
  }),
);
export type TaskView = z.infer<typeof taskView>;
