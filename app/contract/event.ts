/** The event envelope. The keeper is the only writer; capabilities add kinds. */
import { z } from "zod";
import { fileActivity, folderId, opaque, roomQuestion, roomRefusal } from "./change.ts";
import { egressEntries, egressRequest, networkPreset, outgoingProxy, rule, ruleScope, secretBinding, secretName } from "./egress.ts";
import { problemSchema } from "./problem.ts";
import { startStep } from "./task.ts";

const name = z.string().max(255);
const ms = z.int().min(0);

const count = z.int().min(0);
const wall = z.string().max(4096);
const inFolder = { folder: folderId, name };
const folderAccess = { mode: z.string().max(16), hideSecrets: z.boolean(), localFolders: z.boolean() };

/** A kind's data; its schema is made when the first event of that kind is. */
const carries = <Shape extends z.ZodRawShape>(shape: () => Shape) => z.lazy(() => z.strictObject(shape()));

/** What a self-test of the wall found: a probe is `held`, `broken`, or `void` where its control failed, so that it proves nothing. */
export const proofReport = z.lazy(() =>
  z.strictObject({
    probes: z
      .array(
        z.strictObject({
          id: z.string().max(16),
          as: z.enum(["user", "root"]),
          verdict: z.enum(["held", "broken", "void"]),
          text: z.string().max(512),
        }),
      )
      .min(1)
      .max(64),
    tookMs: ms,
  }),
);
export type ProofReport = z.infer<typeof proofReport>;

/** What each kind carries. Text under a kind whose source is `guest` is the guest's claim. */
export const eventData = {
  "keeper.started": carries(() => ({ pid: z.int(), swept: z.array(name).max(64) })),
  "keeper.ended": carries(() => ({ reason: z.string().max(256) })),
  /** events of things that happened all the same could not be written before this one */
  "events.lost": carries(() => ({ count: z.int().min(1), why: z.string().max(1024) })),
  "task.created": carries(() => ({
    name,
    shares: z.array(z.strictObject({ name, mode: z.string(), guestPath: z.string() })).max(16),
    wall,
  })),
  "task.removed": carries(() => ({ name })),
  "task.starting": carries(() => ({ wall, accelerator: z.string().max(16) })),
  "task.step": carries(() => ({ step: startStep, phase: z.enum(["began", "ended"]), atMs: ms, waitingFor: z.string().max(256) })),
  "task.running": carries(() => ({ startMs: ms, accelerator: z.string().max(16) })),
  "task.paused": carries(() => ({})),
  "task.resumed": carries(() => ({})),
  "task.stopping": carries(() => ({ reason: z.string().max(256) })),
  "task.stopped": carries(() => ({ reason: z.string().max(256), ranMs: ms })),
  "task.failed": carries(() => ({ problem: problemSchema })),
  "share.served": carries(() => ({ name, mode: z.string(), guestPath: z.string(), confinement: z.array(z.string().max(64)).max(16) })),
  "folder.added": carries(() => ({ ...inFolder, ...folderAccess, guestPath: z.string(), wall })),
  "folder.changed": carries(() => ({ ...inFolder, ...folderAccess, versionLimitBytes: count.optional(), wall })),
  "folder.removed": carries(() => ({ ...inFolder, discarded: z.boolean(), wall })),
  /** its share server had ended and another one serves it now; files that were open in the guest answer EIO */
  "folder.restarted": carries(() => ({ ...inFolder, why: z.string().max(1024) })),
  /** a write waits for room for the version of what it would destroy */
  "folder.room": carries(() => ({ ...inFolder, ...roomQuestion.shape })),
  /** writes failed for want of room */
  "folder.refused": carries(() => ({ ...inFolder, ...roomRefusal.shape })),
  "folder.answered": carries(() => ({ ...inFolder, answer: z.enum(["allow", "refuse"]), untilBytes: count.optional() })),
  /** what the guest did in a folder, as the share server saw it */
  "files.activity": carries(() => ({ ...inFolder, entries: z.array(fileActivity).min(1).max(200) })),
  /** what the share server refused the guest */
  "files.refused": carries(() => ({ ...inFolder, entries: z.array(fileActivity).min(1).max(200) })),
  /** one slice of an apply; `apply` names the whole */
  "changes.applied": carries(() => ({ ...inFolder, apply: opaque, applied: count, refused: count, remaining: count })),
  "changes.discarded": carries(() => ({ ...inFolder, discarded: count, refused: count, remaining: count })),
  "changes.undone": carries(() => ({ ...inFolder, apply: opaque, restored: count, refused: count, remaining: count })),
  "files.restored": carries(() => ({ ...inFolder, restored: count, refused: count, remaining: count })),
  /** what the task's proxy decided before it let anything out, and how what it let out ended */
  "egress.decided": carries(() => ({ entries: egressEntries })),
  "egress.ended": carries(() => ({ entries: egressEntries })),
  /** the proxy had ended and another one takes its connections; those under way are gone */
  "egress.restarted": carries(() => ({ why: z.string().max(1024) })),
  "ask.opened": carries(() => ({ ask: z.string().max(16), request: egressRequest, held: z.boolean() })),
  "ask.answered": carries(() => ({
    ask: z.string().max(16),
    answer: z.enum(["allow", "deny", "none"]),
    rule: z.string().max(64).optional(),
  })),
  "policy.added": carries(() => ({ rule, wall })),
  "policy.removed": carries(() => ({ rule: z.string().max(64), scope: ruleScope, wall })),
  "policy.replaced": carries(() => ({ presets: z.array(networkPreset).max(8), rules: count, wall })),
  /** the outgoing proxy for every task was set; without `proxy`: connections leave directly from now on */
  "policy.proxy-set": carries(() => ({ proxy: outgoingProxy.optional() })),
  "secret.added": carries(() => ({ name: secretName, source: z.string().max(16), binding: secretBinding })),
  "secret.removed": carries(() => ({ name: secretName })),
  "secret.attached": carries(() => ({ name: secretName, wall })),
  "secret.detached": carries(() => ({ name: secretName, wall })),
  "prove.ended": carries(() => ({ report: proofReport })),
  "exec.started": carries(() => ({ exec: z.int(), command: z.string().max(4096), terminal: z.boolean() })),
  "exec.ended": carries(() => ({ exec: z.int(), status: z.int(), signal: z.string().max(32).optional(), ranMs: ms })),
  /** a raw ssh stream into the guest, beside the commands that the keeper runs itself */
  "ssh.opened": carries(() => ({ purpose: z.enum(["copy", "forward", "ssh"]) })),
  "guest.hello": carries(() => ({ version: z.string().max(64), image: z.string().max(64), kernel: z.string().max(128), bootMs: ms })),
  /** `lost`: earlier lines of the guest's that were not kept, as it sent too many */
  "guest.log": carries(() => ({ level: z.string().max(16), message: z.string().max(4096), lost: z.int().min(1).optional() })),
  "guest.clock": carries(() => ({ steppedMs: z.int() })),
} as const;

export type EventKind = keyof typeof eventData;
export const eventKinds = Object.keys(eventData) as EventKind[];

export const actor = z.lazy(() =>
  z.strictObject({
    kind: z.enum(["user", "keeper", "guest"]),
    /** the client that a user's act came through */
    via: z.enum(["cli", "web", "desktop"]).optional(),
  }),
);
export type Actor = z.infer<typeof actor>;

export const eventEnvelope = z.lazy(() =>
  z.strictObject({
    version: z.int().min(1),
    /** counts up over all tasks; never reused */
    id: z.int().min(1),
    time: z.iso.datetime(),
    /** the task's id; absent for what concerns the keeper */
    task: z.string().max(16).optional(),
    kind: z.string().max(64),
    source: z.enum(["host", "guest"]),
    actor,
    decision: z.enum(["allow", "deny"]).optional(),
    rule: z.string().max(256).optional(),
    reason: z.string().max(1024).optional(),
    data: z.record(z.string(), z.unknown()),
    /** over the previous record's chain value and this record without its chain, in hex: version 1 SHA-256, version 2 HMAC-SHA256 with the keychain's key */
    chain: z.string().regex(/^[0-9a-f]{64}$/),
  }),
);
export type EventEnvelope = z.infer<typeof eventEnvelope>;
/** An event of a known kind, with its data typed. */
export type EventOf<K extends EventKind> = Omit<EventEnvelope, "kind" | "data"> & { kind: K; data: z.infer<(typeof eventData)[K]> };
