/** What clients may ask of the keeper. Requests are strict and bounded both ways; a failed one answers with a Problem. */
import { z } from "zod";
import {
  applyView,
  changeView,
  chosenChanges,
  chosenToApply,
  diffSlice,
  filePath,
  folderId,
  folderRef,
  opaque,
  pathBytes,
  versionView,
  workSlice,
} from "./change.ts";
import {
  askId,
  askView,
  egressDecision,
  egressRequest,
  MAX_RULES,
  networkPreset,
  networkView,
  outgoingProxy,
  rule,
  ruleDraft,
  ruleScope,
  secretBinding,
  secretName,
  secretSource,
  secretView,
} from "./egress.ts";
import { eventEnvelope, proofReport } from "./event.ts";
import { method } from "./rpc.ts";
import { environment, folderNote, MACHINE_BOUNDS, MAX_SHARES, shareMode, taskName, taskRef, taskView } from "./task.ts";

const nothing = z.strictObject({});
const base64 = (max: number) =>
  z
    .string()
    .max(max)
    .regex(/^[A-Za-z0-9+/]*={0,2}$/);
const intWithin = ({ min, max }: { readonly min: number; readonly max: number }) => z.int().min(min).max(max);
const byTask = z.strictObject({ task: taskRef });
/** How long a reading call may wait for something new, in ms. */
const waitMs = z.int().min(0).max(30_000);
const ticket = z.string().regex(/^[0-9a-f]{32}$/);

/** A token for one folder, made by a folder dialog or the CLI. Opaque; the folder's path is not in it. */
export const grant = z.string().regex(/^[0-9a-f]{32}$/);

export const terminalSize = z.strictObject({ columns: z.int().min(1).max(2000), rows: z.int().min(1).max(2000) });
export type TerminalSize = z.infer<typeof terminalSize>;

export const clientKind = z.enum(["cli", "web", "desktop"]);
export type ClientKind = z.infer<typeof clientKind>;

/** What a raw ssh stream is for; it stands in the events. */
export const sshPurpose = z.enum(["copy", "forward", "ssh"]);
export type SshPurpose = z.infer<typeof sshPurpose>;

export const doctorCheck = z.strictObject({
  name: z.string().max(64),
  status: z.enum(["ok", "warning", "failed"]),
  message: z.string().max(1024),
  evidence: z.string().max(16_384).optional(),
  next: z.array(z.string().max(512)).max(8),
});
export type DoctorCheck = z.infer<typeof doctorCheck>;

export const imageView = z.lazy(() =>
  z.strictObject({
    id: z.string().regex(/^[0-9a-f]{64}$/),
    arch: z.string().max(16),
    kernel: z.string().max(64),
    guest: z.string().max(64),
    packages: z.int().min(0),
    sizeBytes: z.int().min(0),
    files: z.array(z.strictObject({ file: z.string().max(255), sizeBytes: z.int().min(0), sha256: z.string().length(64) })).max(32),
  }),
);
export type ImageView = z.infer<typeof imageView>;

/** A folder as its user gives it to a task. */
export const newFolder = z.strictObject({
  grant,
  /** absent: `review` */
  mode: shareMode.optional(),
  guestPath: z.string().min(1).max(1024).optional(),
  /** absent: false */
  hideSecrets: z.boolean().optional(),
  /** absent: true */
  localFolders: z.boolean().optional(),
});
export type NewFolder = z.input<typeof newFolder>;
const byFolder = byTask.extend({ folder: folderRef });
/** Long work is asked for once, then with the batch that the answer named until nothing remains. */
const moreOf = byFolder.extend({ batch: opaque });

/** keys that one task may use from its start */
export const MAX_TASK_SECRETS = 64;
/** the longest time limit of a command: a year */
export const MAX_EXEC_MS = 31_536_000_000;

export const newTask = z.lazy(() =>
  z.strictObject({
    /** absent: made from the first folder's name, or `task` */
    name: taskName.optional(),
    shares: z.array(newFolder).max(MAX_SHARES),
    env: environment,
    cpus: intWithin(MACHINE_BOUNDS.cpus).optional(),
    memoryMib: intWithin(MACHINE_BOUNDS.memoryMib).optional(),
    diskGib: intWithin(MACHINE_BOUNDS.diskGib).optional(),
    sudo: z.boolean(),
    ephemeral: z.boolean(),
    /** absent: no preset and no rule, so nothing is reached */
    network: z.strictObject({ presets: z.array(networkPreset).max(8), rules: z.array(ruleDraft).max(MAX_RULES) }).optional(),
    /** keys that the task may use */
    secrets: z.array(secretName).max(MAX_TASK_SECRETS).optional(),
    /** certificate authorities, as PEM, that this task's proxy trusts upstream beside the system's and the user's */
    trust: z.array(z.string().max(16_384)).max(4).optional(),
  }),
);
export type NewTask = z.input<typeof newTask>;

export const keeperProtocol = {
  requests: {
    hello: method(() => ({
      params: z.strictObject({ contract: z.int().min(1), client: clientKind }),
      result: z.strictObject({ contract: z.int().min(1), version: z.string().max(32), pid: z.int(), home: z.string().max(4096) }),
    })),
    /** Notes a folder by its identity; nothing in it is read. `path` is absolute, as base64 because paths are bytes. */
    "grants.create": method(() => ({
      params: z.strictObject({ path: base64(8192) }),
      result: z.strictObject({ grant, name: z.string().max(255), notes: z.array(folderNote).max(8) }),
    })),
    "tasks.create": method(() => ({ params: newTask, result: taskView })),
    "tasks.list": method(() => ({ params: nothing, result: z.strictObject({ tasks: z.array(taskView).max(4096) }) })),
    "tasks.get": method(() => ({ params: byTask, result: taskView })),
    /**
     * Answers when the task runs. `client`: the machine is gone within 5 s after this connection; `keeper`: it stays.
     * A second start of a starting or running task waits for the same result.
     */
    "tasks.start": method(() => ({ params: z.strictObject({ task: taskRef, lease: z.enum(["client", "keeper"]) }), result: taskView })),
    /** Asks the guest, then forces. Answers when nothing is left. Twice is harmless. `now` does not ask the guest but lets it write back. */
    "tasks.stop": method(() => ({ params: z.strictObject({ task: taskRef, now: z.boolean() }), result: taskView })),
    "tasks.pause": method(() => ({ params: byTask, result: taskView })),
    "tasks.resume": method(() => ({ params: byTask, result: taskView })),
    /** Stops first when needed. Refused with task.changes-waiting while changes wait, unless `discard`. */
    "tasks.remove": method(() => ({ params: byTask.extend({ discard: z.boolean() }), result: nothing })),
    /** Removes the records of one-off runs that are over. Tasks stay. */
    "runs.prune": method(() => ({ params: nothing, result: z.strictObject({ removed: z.int().min(0), sizeBytes: z.int().min(0) }) })),
    /** Prepares a command; the answer's ticket opens its stream (see stream.ts) within 10 s. */
    "tasks.exec": method(() => ({
      params: z.strictObject({
        task: taskRef,
        /** program and arguments, each as base64 of its bytes; absent: the user's login shell */
        command: z.array(base64(262_144)).min(1).max(4096).optional(),
        workingDirectory: z.string().min(1).max(1024).optional(),
        env: environment,
        terminal: terminalSize.extend({ term: z.string().regex(/^[A-Za-z0-9._+-]{1,64}$/) }).optional(),
        /** kill the command after that many ms; absent means never */
        timeoutMs: z.int().min(1).max(MAX_EXEC_MS).optional(),
      }),
      result: z.strictObject({ ticket, exec: z.int() }),
    })),
    /** A raw stream to the guest's ssh service, with the key of this machine. */
    "tasks.ssh": method(() => ({
      params: byTask.extend({ purpose: sshPurpose }),
      result: z.strictObject({ ticket, user: z.string().max(32), privateKey: z.string().max(4096), hostKey: z.string().max(4096) }),
    })),
    /** The same key as files, for programs that take no other: they lie in the machine's private directory and go with it. */
    "tasks.sshFiles": method(() => ({
      params: byTask,
      result: z.strictObject({ user: z.string().max(32), identityFile: z.string().max(4096), knownHostsFile: z.string().max(4096) }),
    })),
    "tasks.stats": method(() => ({
      params: byTask,
      result: z.strictObject({
        /** the guest's own words */
        claim: z.strictObject({
          uptimeMs: z.int(),
          processes: z.int(),
          memoryTotalBytes: z.int(),
          memoryAvailableBytes: z.int(),
          diskTotalBytes: z.int(),
          diskUsedBytes: z.int(),
          loadPercent: z.int(),
        }),
        hostProcesses: z.array(z.strictObject({ role: z.string().max(32), pid: z.int() })).max(64),
      }),
    })),
    /** `after` is the last id seen, 0 for all; answers at once when there is something, else within `waitMs`. */
    "events.read": method(() => ({
      params: z.strictObject({
        task: taskRef.optional(),
        after: z.int().min(0),
        limit: z.int().min(1).max(1000),
        waitMs,
        sinceMs: z.int().min(0).optional(),
      }),
      result: z.strictObject({ events: z.array(eventEnvelope).max(1000), next: z.int().min(0) }),
    })),
    /** `output`: what commands wrote; `console`: the guest's console. Both are the guest's bytes. */
    "logs.read": method(() => ({
      params: z.strictObject({
        task: taskRef,
        log: z.enum(["output", "console"]),
        offset: z.int().min(0),
        limit: z.int().min(1).max(262_144),
        waitMs,
      }),
      result: z.strictObject({ bytes: base64(400_000), next: z.int().min(0), ended: z.boolean() }),
    })),
    /** Adds a folder, also while the task runs: then the answer comes when the guest sees it. */
    "folders.add": method(() => ({ params: newFolder.extend({ task: taskRef }), result: taskView })),
    /** Changes what is given. While the task runs, the folder is taken out of the guest for a moment and mounted anew. */
    "folders.set": method(() => ({
      params: byFolder.extend({
        mode: shareMode.optional(),
        hideSecrets: z.boolean().optional(),
        localFolders: z.boolean().optional(),
        /** what the versions of the folder may take on this computer, whichever task made them; holds at once */
        versionLimitBytes: z.int().min(1).optional(),
      }),
      result: taskView,
    })),
    /** Takes a folder from the task. Refused with task.changes-waiting while changes wait in it, unless `discard`. */
    "folders.remove": method(() => ({ params: byFolder.extend({ discard: z.boolean() }), result: taskView })),
    /**
     * The user's answer to a folder whose writes wait for room for versions, or were refused it. `untilBytes`: the new limit, for `allow`;
     * absent: as much again, and what the write needs. Without a question or refusal it is refused itself.
     */
    "folders.room": method(() => ({
      params: byFolder.extend({ answer: z.enum(["allow", "refuse"]), untilBytes: z.int().min(0).optional() }),
      result: nothing,
    })),
    /** Changes by path. Without a folder, the first page of each; `after` is for one folder. */
    "changes.list": method(() => ({
      params: byTask.extend({ folder: folderRef.optional(), after: opaque.optional(), limit: z.int().min(1).max(500) }),
      result: z.strictObject({
        folders: z
          .array(
            z.strictObject({
              folder: folderId,
              name: z.string().max(255),
              /** of the layer, for an apply of all as it was shown */
              revision: z.int().min(0),
              total: z.int().min(0),
              changes: z.array(changeView).max(500),
              next: opaque.optional(),
            }),
          )
          .max(MAX_SHARES),
      }),
    })),
    /** `theirs`: what happened in the folder since the change was made; with `change` it is the three-way view of a conflict. */
    "changes.diff": method(() => ({
      params: byFolder.extend({
        id: opaque,
        side: z.enum(["change", "theirs"]),
        context: z.int().min(0).max(100),
        offset: z.int().min(0),
        limit: z.int().min(1).max(262_144),
      }),
      result: diffSlice,
    })),
    /** Writes changes into the folder. The batch is the apply's name for `changes.undo`. */
    "changes.apply": method(() => ({
      params: z.union([byFolder.extend({ what: chosenToApply }), moreOf]),
      result: z.strictObject({ ...workSlice, applied: z.array(opaque).max(500) }),
    })),
    /** Takes changes out of the layer: the task then sees the folder's own files. */
    "changes.discard": method(() => ({
      params: z.union([byFolder.extend({ what: chosenChanges }), moreOf]),
      result: z.strictObject({ ...workSlice, discarded: z.array(opaque).max(500) }),
    })),
    /** Newest first. */
    "changes.applies": method(() => ({
      params: byFolder,
      result: z.strictObject({ applies: z.array(applyView).max(200), more: z.boolean() }),
    })),
    /** Takes an apply back, the newest one that is not undone when none is named: exact bytes, modes and times. What it wrote waits again. */
    "changes.undo": method(() => ({
      params: z.union([byFolder.extend({ apply: opaque.optional() }), moreOf]),
      result: z.strictObject({ ...workSlice, apply: opaque, restored: z.int().min(0) }),
    })),
    /** Versions of a file, or of everything `below` a folder, newest first. */
    "files.history": method(() => ({
      params: byFolder.extend({ path: pathBytes, below: z.boolean(), after: opaque.optional(), limit: z.int().min(1).max(500) }),
      result: z.strictObject({ path: filePath, versions: z.array(versionView).max(500), next: opaque.optional() }),
    })),
    /** Brings a version back; without a number the newest of each file. What it replaces becomes a version itself. */
    "files.restore": method(() => ({
      params: z.union([byFolder.extend({ path: pathBytes, number: z.int().min(1).optional(), below: z.boolean() }), moreOf]),
      /** `number`: the version that was brought back, where one file was asked for */
      result: z.strictObject({ ...workSlice, restored: z.int().min(0), number: z.int().min(1).optional() }),
    })),
    /** The rules that decide, newest first, those of presets and of every task with them. */
    "policy.show": method(() => ({
      params: byTask,
      result: z.strictObject({ network: networkView, effective: z.array(rule).max(MAX_RULES), wall: z.string().max(4096) }),
    })),
    /** Adds a rule; it holds for requests from here on, and what is under way and no longer allowed is closed. */
    "policy.add": method(() => ({
      params: byTask.extend({ rule: ruleDraft, scope: ruleScope }),
      result: z.strictObject({ rule, closed: z.int().min(0) }),
    })),
    "policy.remove": method(() => ({
      params: byTask.extend({ rule: z.string().max(64) }),
      result: z.strictObject({ rule, closed: z.int().min(0) }),
    })),
    "policy.setPresets": method(() => ({ params: byTask.extend({ presets: z.array(networkPreset).max(8) }), result: networkView })),
    /** The outgoing proxy that is set for every task; absent: none is. */
    "policy.proxy": method(() => ({ params: nothing, result: z.strictObject({ proxy: outgoingProxy.optional() }) })),
    /** Holds for machines that start from here on; without `proxy` their connections leave directly. */
    "policy.setProxy": method(() => ({
      params: z.strictObject({ proxy: outgoingProxy.optional() }),
      result: z.strictObject({ proxy: outgoingProxy.optional() }),
    })),
    /** What would be decided, without anything being sent. */
    "policy.test": method(() => ({
      params: byTask.extend({ method: z.string().max(32), url: z.string().min(1).max(4096) }),
      /** `offer`: the narrowest rule under which it passes */
      result: egressDecision.extend({ request: egressRequest, matched: rule.optional(), offer: ruleDraft }),
    })),
    /** Decides what a task asked for once more, by a policy of these presets and rules, and tells what would be different. */
    "policy.replay": method(() => ({
      params: byTask.extend({
        sinceMs: z.int().min(0).optional(),
        presets: z.array(networkPreset).max(8),
        rules: z.array(ruleDraft).max(MAX_RULES),
      }),
      result: z.strictObject({
        requests: z.int().min(0),
        differ: z
          .array(z.strictObject({ event: z.int().min(1), request: egressRequest, was: egressDecision, would: egressDecision }))
          .max(500),
        more: z.boolean(),
      }),
    })),
    /** Replaces a task's rules by those of sandbox-runtime settings; what has no counterpart is told. */
    "policy.import": method(() => ({
      params: byTask.extend({ settings: z.string().max(262_144) }),
      result: z.strictObject({ network: networkView, notes: z.array(z.string().max(512)).max(64) }),
    })),
    "policy.export": method(() => ({
      params: byTask,
      result: z.strictObject({ settings: z.string().max(262_144), notes: z.array(z.string().max(512)).max(64) }),
    })),
    /** Without a task those of all tasks. Answers at once, or within `waitMs` when the list is no longer the one of `revision`. */
    "asks.list": method(() => ({
      params: z.strictObject({ task: taskRef.optional(), revision: z.int().min(0).optional(), waitMs }),
      result: z.strictObject({ asks: z.array(askView).max(500), revision: z.int().min(0) }),
    })),
    /**
     * Makes a rule of the answer: the one that its user was shown, whatever its `decision` said. The keeper's own offer follows the
     * newest request, so a guest could change it between the reading and the answer.
     */
    "asks.answer": method(() => ({
      params: z.strictObject({
        ask: askId,
        answer: z.enum(["allow", "deny"]),
        scope: ruleScope,
        rule: ruleDraft,
      }),
      result: z.strictObject({ rule }),
    })),
    /** While this client is connected it answers the asks of that task, or of all: their requests are held until then. */
    "asks.watch": method(() => ({ params: z.strictObject({ task: taskRef.optional() }), result: nothing })),
    /** `value` for the sources `keychain` and `memory`, and for no other. */
    "secrets.add": method(() => ({
      params: z.strictObject({
        name: secretName,
        source: secretSource,
        value: z.string().min(1).max(16_384).optional(),
        binding: secretBinding,
      }),
      result: secretView,
    })),
    /** `keychain`: what keys are kept in, and why not where there is none. */
    "secrets.list": method(() => ({
      params: nothing,
      result: z.strictObject({
        secrets: z.array(secretView).max(1024),
        keychain: z.strictObject({ usable: z.boolean(), text: z.string().max(512) }),
      }),
    })),
    "secrets.remove": method(() => ({ params: z.strictObject({ name: secretName }), result: nothing })),
    /** Whether its value can be had and has its provider's shape. Nothing is sent anywhere. */
    "secrets.test": method(() => ({
      params: z.strictObject({ name: secretName }),
      result: z.strictObject({ usable: z.boolean(), text: z.string().max(512) }),
    })),
    /** Gives a key to a task, or takes it away; processes started after the answer have its variable. */
    "secrets.attach": method(() => ({ params: byTask.extend({ name: secretName }), result: taskView })),
    "secrets.detach": method(() => ({ params: byTask.extend({ name: secretName }), result: taskView })),
    /** Looks for records that were changed, dropped, put in another order or cut off. */
    "events.verify": method(() => ({
      params: nothing,
      result: z.strictObject({
        files: z.int().min(0),
        events: z.int().min(0),
        /** the chain's key and its heads are with the keychain: without it a log that was rewritten whole cannot be told */
        anchored: z.boolean(),
        anchor: z.string().max(512),
        findings: z
          .array(
            z.strictObject({
              /** the task's name or id; absent: the keeper's own events */
              task: z.string().max(64).optional(),
              line: z.int().min(1),
              what: z.enum(["changed", "missing", "order", "cut", "unreadable"]),
              text: z.string().max(512),
            }),
          )
          .max(200),
      }),
    })),
    /** Writes down what a self-test of the wall found. */
    "prove.record": method(() => ({ params: byTask.extend({ report: proofReport }), result: nothing })),
    doctor: method(() => ({ params: nothing, result: z.strictObject({ checks: z.array(doctorCheck).max(64) }) })),
    "images.list": method(() => ({ params: nothing, result: z.strictObject({ images: z.array(imageView).max(64) }) })),
    /** Reads every byte of the image and compares. */
    "images.verify": method(() => ({ params: nothing, result: z.strictObject({ image: imageView }) })),
    /** Ends the keeper when no task runs; refused otherwise. */
    "keeper.end": method(() => ({ params: nothing, result: nothing })),
  },
  notifications: {},
} as const;

export type KeeperRequests = (typeof keeperProtocol)["requests"];
export type Method = keyof KeeperRequests;
export type Params<M extends Method> = z.input<KeeperRequests[M]["params"]>;
export type Result<M extends Method> = z.output<KeeperRequests[M]["result"]>;
