/**
 * The protocols between the keeper and the programs beside it, as schemas. README.md here says what the messages mean,
 * in which order they may come and how they are framed. Every object is strict and every string and number bounded:
 * an unknown field is an error on both sides.
 */
import { z } from "zod";

export const HELPER_PROTOCOL = 1;
export const SHARE_PROTOCOL = 4;
export const AGENT_PROTOCOL = 6;

/** Longest line of any of the three protocols, newline included, in bytes. */
export const MAX_LINE_BYTES = 1_048_576;
/** Requests one side may have open at once. */
export const MAX_OPEN_REQUESTS = 64;

/** One method's schemas, made when they are first used: a keeper that starts does not wait for all of them. */
function method<P extends z.ZodType, R extends z.ZodType>(
  make: () => { params: P; result: R },
): { readonly params: P; readonly result: R } {
  let made: { params: P; result: R } | undefined;
  const schemas = () => {
    made ??= make();
    return made;
  };
  return {
    get params() {
      return schemas().params;
    },
    get result() {
      return schemas().result;
    },
  };
}

const nothing = z.strictObject({});
const text = (max: number) => z.string().max(max);
const hostPath = text(4096).min(1);
const count = z.int().min(0);
/** A vsock port; below 1024 is left to others, the top value means "any". */
export const vsockPort = z.int().min(1024).max(0xffff_fffe);
const guestPath = text(1024).regex(/^\/[^\0]*$/);
/** Bytes as base64, for host paths that are not UTF-8. */
const base64 = (max: number) =>
  z
    .string()
    .max(max)
    .regex(/^[A-Za-z0-9+/]*={0,2}$/);
const unixNs = z.string().regex(/^[0-9]{1,20}$/);

export const accelerator = z.enum(["kvm", "tcg", "vz", "hcs"]);

export const nativeError = z.strictObject({ domain: text(64), code: text(64) });
/** `data` of a JSON-RPC error. */
export const errorData = z.strictObject({
  code: text(64),
  evidence: text(16_384).optional(),
  native: nativeError.optional(),
});

const disk = z.lazy(() =>
  z.strictObject({
    /** virtio serial, by which the guest finds the disk */
    serial: z.string().regex(/^[a-z0-9-]{1,20}$/),
    path: hostPath,
    readOnly: z.boolean(),
  }),
);

export const helperFeature = z.enum(["pause", "powerdown", "balloon"]);

export const helper = {
  /** Requests of the keeper. */
  requests: {
    hello: method(() => ({
      params: z.strictObject({ protocol: z.int().min(1), client: text(64) }),
      result: z.strictObject({
        protocol: z.int().min(1),
        name: text(64),
        version: text(64),
        platform: z.enum(["linux", "macos", "windows"]),
        features: z.array(helperFeature).max(16),
      }),
    })),
    /** Finds out which accelerators work, by booting `kernel` until its first console byte. At most `timeoutMs` for each. */
    probe: method(() => ({
      params: z.strictObject({ kernel: hostPath, initramfs: hostPath, runDir: hostPath, timeoutMs: z.int().min(100).max(60_000) }),
      result: z.strictObject({
        hypervisor: z.strictObject({ name: text(64), version: text(128) }),
        accelerators: z
          .array(
            z.strictObject({
              name: accelerator,
              usable: z.boolean(),
              reason: text(512),
              /** time to the first console byte, in ms; absent when none came */
              firstByteMs: count.optional(),
              evidence: text(16_384).optional(),
            }),
          )
          .max(4),
        vsock: z.strictObject({ transport: z.enum(["vhost-vsock", "vhost-user", "native", "none"]), reason: text(512) }),
      }),
    })),
    start: method(() => ({
      params: z.strictObject({
        /** names the machine in logs and process titles */
        id: z.string().regex(/^[a-z0-9-]{1,64}$/),
        /** private directory (0700) for sockets and scratch files; short: socket paths end at 104 bytes */
        runDir: hostPath,
        kernel: hostPath,
        initramfs: hostPath,
        cmdline: text(2048),
        memoryMib: z.int().min(128).max(1_048_576),
        cpus: z.int().min(1).max(256),
        disks: z.array(disk).max(16),
        /** base path of the hybrid-vsock sockets */
        streams: hostPath,
        /** ports of the host that the guest may dial from the start */
        openPorts: z.array(vsockPort).max(64),
        /** the helper makes it (0600) and keeps its newest bytes when `consoleLimitBytes` is passed */
        consoleLog: hostPath,
        consoleLimitBytes: z.int().min(4096).max(1_073_741_824),
        accelerator,
      }),
      result: z.strictObject({ accelerator, processes: z.array(z.strictObject({ role: text(32), pid: z.int().min(1) })).max(16) }),
    })),
    openPort: method(() => ({ params: z.strictObject({ port: vsockPort }), result: nothing })),
    closePort: method(() => ({ params: z.strictObject({ port: vsockPort }), result: nothing })),
    pause: method(() => ({ params: nothing, result: nothing })),
    resume: method(() => ({ params: nothing, result: nothing })),
    /** Asks the guest's firmware to power down; helpers without the feature answer helper.unsupported. */
    powerdown: method(() => ({ params: nothing, result: nothing })),
    /** Does not ask the guest. Answers when nothing of the machine is left. */
    terminate: method(() => ({ params: nothing, result: nothing })),
    status: method(() => ({
      params: nothing,
      result: z.strictObject({
        state: z.enum(["idle", "running", "paused", "exited"]),
        consoleBytes: count,
        processes: z.array(z.strictObject({ role: text(32), pid: z.int().min(1) })).max(16),
      }),
    })),
    /** Sets the memory the guest may keep, in MiB. */
    balloon: method(() => ({ params: z.strictObject({ targetMib: z.int().min(64).max(1_048_576) }), result: nothing })),
  },
  /** Notifications of the helper. */
  notifications: {
    /** sent at most four times a second while the console grows */
    progress: z.strictObject({ consoleBytes: count }),
    exited: z.strictObject({
      reason: z.enum(["guest-off", "terminated", "hypervisor-died", "vsock-died", "disk-full"]),
      exitStatus: z.int().optional(),
      signal: text(32).optional(),
      /** the tail of the hypervisor's own messages */
      evidence: text(16_384).optional(),
    }),
  },
} as const;

export const shareMode = z.enum(["ro", "rw", "review"]);
/** How the guest mounts a folder; what a write to it does is decided on the host. */
export const mountMode = z.enum(["ro", "rw"]);

/** What a folder is, beyond its path. Decimal strings, as the numbers may pass 2^53. */
export const folderIdentity = z.lazy(() =>
  z.strictObject({
    volume: z.string().regex(/^[0-9]{1,20}$/),
    file: z.string().regex(/^[0-9]{1,20}$/),
    /** birth time; absent where the filesystem keeps none */
    bornNs: unixNs.optional(),
  }),
);

/** A path below the folder: components joined by `/`, as base64 of at most 4096 bytes; no leading slash, empty is the folder itself. */
const innerPath = base64(5464);
/** An id, token or cursor that the share server made. */
const opaque = text(64).min(1);
const branchName = base64(1024);

const serveAlways = {
  root: base64(8192),
  /** refuse with share.identity when the folder is another one; absent at the grant */
  identity: folderIdentity.optional(),
  /** uid and gid that every file shows to the guest */
  owner: z.strictObject({ uid: z.int().min(0).max(65_535), gid: z.int().min(0).max(65_535) }),
  /** names that look like secrets are not shown to the guest */
  hideSecrets: z.boolean(),
  /** dependency and cache folders that the user does not keep here live on the guest's disk */
  localFolders: z.boolean(),
};
const writerName = z.string().regex(/^[a-z0-9-]{1,64}$/);
/** Where what a task does to a folder is kept. Without `listen` nothing is served and the folder's changes and versions are worked on. */
const serveKept = {
  listen: hostPath.optional(),
  /** how many bytes of versions the folder keeps; absent: min(5 GB, 10 % of the free space) */
  versionLimitBytes: count.optional(),
  keepDays: z.int().min(1).max(3650),
};

/** One difference between the layer and the folder. */
export const shareChange = z.lazy(() =>
  z.strictObject({
    id: opaque,
    path: innerPath,
    /** where it was, for `moved` */
    from: innerPath.optional(),
    kind: z.enum(["modified", "new", "deleted", "moved", "type-changed", "attributes"]),
    type: z.enum(["file", "directory", "link", "repository", "database", "ignored"]),
    sizeBytes: count,
    binary: z.boolean(),
    executable: z.boolean(),
    protected: z.boolean(),
    linkTarget: innerPath.optional(),
    /** path-too-long: `path` is the end of it, and it is never applied */
    flags: z.array(z.enum(["escaping-link", "absolute-link", "quarantined", "path-too-long"])).max(4),
    /** why an apply would be refused now: the folder's file is not the one that the change was made from */
    conflict: z.enum(["changed", "gone", "exists", "type-changed"]).optional(),
    /** entries that this one line stands for */
    count: count.optional(),
    repository: z
      .strictObject({
        branches: z
          .array(
            z.strictObject({
              name: branchName,
              commits: count,
              behind: count.optional(),
              kind: z.enum(["moved", "new", "deleted", "rewritten"]),
            }),
          )
          .max(64),
        /** branches beyond those */
        more: count,
        /** what is never applied: hooks, config */
        refused: z.array(text(256)).max(32),
        /** why it cannot be read, or be applied but as a branch; with `conflict` */
        reason: text(512).optional(),
      })
      .optional(),
    seq: count,
    /** over what the layer and the folder hold: what is shown is what is applied */
    token: opaque,
  }),
);

const chosenChange = () =>
  z.strictObject({
    id: opaque,
    token: opaque,
    /** indexes of `diff`'s hunks, for a text file */
    hunks: z.array(z.int().min(0).max(1_000_000)).min(1).max(5000).optional(),
    /** for a repository whose host side moved: the name of a new branch */
    as: branchName.optional(),
  });
const chosenOf = <T extends z.ZodType>(change: T) =>
  z.union([
    /** everything as it stood at `revision` */
    z.strictObject({ all: z.literal(true), revision: count }),
    /** with a revision: what came after it is refused, though its token be of now */
    z.strictObject({ changes: z.array(change).min(1).max(500), revision: count.optional() }),
  ]);
const chosen = z.lazy(() => chosenOf(chosenChange()));
/** below: chosen by the name of a directory above it, and so only as far as `all` would take it over */
const chosenToApply = z.lazy(() => chosenOf(chosenChange().extend({ below: z.literal(true).optional() })));
/** Work that is done in slices: asked for once with what to do, then with the batch that the answer named until `remaining` is 0. */
const more = z.strictObject({ batch: opaque });
const slice = {
  batch: opaque,
  refused: z.array(z.strictObject({ id: opaque.optional(), path: innerPath, code: text(64), message: text(512) })).max(500),
  remaining: count,
};

export const versionReason = z.enum(["overwritten", "replaced", "deleted", "applied", "undone", "restored"]);

export const share = {
  requests: {
    hello: method(() => ({
      params: z.strictObject({ protocol: z.int().min(1), client: text(64) }),
      result: z.strictObject({ protocol: z.int().min(1), name: text(64), version: text(64) }),
    })),
    serve: method(() => ({
      params: z.discriminatedUnion("mode", [
        z.strictObject({ mode: z.literal("ro"), ...serveAlways, listen: hostPath }),
        z.strictObject({
          mode: z.enum(["rw", "review"]),
          ...serveAlways,
          ...serveKept,
          /** directory of this task's layer for this folder */
          layer: hostPath,
          /** directory of the folder's versions, shared by all tasks */
          store: hostPath,
          /** whose logs in the store are this process's */
          writer: writerName,
        }),
      ]),
      result: z.strictObject({
        identity: folderIdentity,
        /** what confines the server, and what could not be had, for `doctor` */
        confinement: z.array(z.strictObject({ name: text(64), active: z.boolean(), reason: text(512) })).max(16),
        /** where the guest shall mount directories of its own disk; the server shows empty directories there */
        localFolders: z.array(innerPath).max(100),
      }),
    })),
    /** Reads a folder's identity and nothing in it. */
    identify: method(() => ({
      params: z.strictObject({ root: base64(8192) }),
      result: z.strictObject({ identity: folderIdentity, filesystem: text(64), readOnly: z.boolean() }),
    })),
    stats: method(() => ({
      params: nothing,
      result: z.strictObject({
        connections: count,
        fids: count,
        requests: count,
        bytesRead: count,
        bytesWritten: count,
        /** on the host's disk; absent where the mode has none */
        layerBytes: count.optional(),
        storeBytes: count.optional(),
      }),
    })),
    /** Changes in the order of their paths. A page ends early where its line would be too long. */
    changes: method(() => ({
      params: z.strictObject({ after: opaque.optional(), limit: z.int().min(1).max(500) }),
      result: z.strictObject({ revision: count, changes: z.array(shareChange).max(500), next: opaque.optional(), total: count }),
    })),
    /** `theirs` is what happened in the folder since the change was made: with `change`, the three-way view. */
    diff: method(() => ({
      params: z.strictObject({
        id: opaque,
        side: z.enum(["change", "theirs"]),
        context: z.int().min(0).max(100),
        offset: count,
        limit: z.int().min(1).max(262_144),
      }),
      result: z.strictObject({
        kind: z.enum(["text", "binary", "link", "none", "too-large"]),
        token: opaque,
        /** a slice of the unified diff */
        bytes: base64(349_528),
        next: count.optional(),
        totalBytes: count,
        /** with the first slice only */
        hunks: z.array(z.strictObject({ index: count, oldStart: count, oldLines: count, newStart: count, newLines: count })).max(5000),
        summary: z.strictObject({
          oldSizeBytes: count,
          newSizeBytes: count,
          oldSha256: z
            .string()
            .regex(/^[0-9a-f]{64}$/)
            .optional(),
          newSha256: z
            .string()
            .regex(/^[0-9a-f]{64}$/)
            .optional(),
        }),
      }),
    })),
    /** One batch is one step of undo; its name is the apply's. */
    apply: method(() => ({
      params: z.union([z.strictObject({ what: chosenToApply }), more]),
      result: z.strictObject({ ...slice, applied: z.array(opaque).max(500) }),
    })),
    discard: method(() => ({
      params: z.union([z.strictObject({ what: chosen }), more]),
      result: z.strictObject({ ...slice, discarded: z.array(opaque).max(500) }),
    })),
    /** Newest first. */
    applies: method(() => ({
      params: nothing,
      result: z.strictObject({
        applies: z.array(z.strictObject({ apply: opaque, timeMs: count, files: count, undone: z.boolean() })).max(200),
        more: z.boolean(),
      }),
    })),
    /** The newest apply that is not undone, when none is named. */
    undo: method(() => ({
      params: z.union([z.strictObject({ apply: opaque.optional() }), more]),
      result: z.strictObject({ ...slice, apply: opaque, restored: count }),
    })),
    /** Versions of a file, or of everything below a directory, newest first. */
    history: method(() => ({
      params: z.strictObject({ path: innerPath, below: z.boolean(), after: opaque.optional(), limit: z.int().min(1).max(500) }),
      result: z.strictObject({
        versions: z
          .array(
            z.strictObject({
              path: innerPath,
              number: z.int().min(1),
              timeMs: count,
              reason: versionReason,
              sizeBytes: count,
              mode: z.int().min(0).max(0o7777),
              mtimeNs: unixNs,
              writer: writerName,
              /** false: only the bytes that were overwritten are kept */
              whole: z.boolean(),
            }),
          )
          .max(500),
        next: opaque.optional(),
      }),
    })),
    /** Without a number, the newest version of each file; what is replaced becomes a version itself. */
    restore: method(() => ({
      params: z.union([z.strictObject({ path: innerPath, number: z.int().min(1).optional(), below: z.boolean() }), more]),
      /** `number`: the version that was brought back, where one file was asked for */
      result: z.strictObject({ ...slice, restored: count, number: z.int().min(1).optional() }),
    })),
    /** Files whose names look like secrets, and `.git/config` where a remote's URL holds a token. */
    secrets: method(() => ({ params: nothing, result: z.strictObject({ paths: z.array(innerPath).max(100), more: z.boolean() }) })),
    /** Everything of `activity` up to this batch is written down: the guest may do as much again. */
    recorded: method(() => ({ params: z.strictObject({ batch: z.int().min(1) }), result: nothing })),
    /** The user's answer to the notification `room`, or another limit unasked. Without `untilBytes`, as much as there is room for. */
    room: method(() => ({
      params: z.strictObject({ answer: z.enum(["allow", "refuse"]), untilBytes: count.optional() }),
      result: nothing,
    })),
  },
  notifications: {
    attached: nothing,
    detached: z.strictObject({ reason: text(512) }),
    /**
     * What the guest did, coalesced per open and close. Batches count up from 1. At most 8 are under way without `recorded`; what the
     * guest does meanwhile waits.
     */
    activity: z.strictObject({
      batch: z.int().min(1),
      entries: z
        .array(
          z.strictObject({
            what: z.enum(["opened-for-write", "created", "deleted", "renamed", "refused", "metadata"]),
            path: innerPath,
            to: innerPath.optional(),
            count,
            bytes: count.optional(),
            reason: text(256).optional(),
          }),
        )
        .min(1)
        .max(200),
    }),
    /** A write waits for room for the version of what it would destroy. */
    room: z.strictObject({ neededBytes: count, limitBytes: count, usedBytes: count, path: innerPath }),
    /**
     * Writes failed with ENOSPC, the last one at `path`: for want of room for `versions` of what they would destroy, or for the task's
     * own `changes`, in the layer or in a folder that it changes directly. At most once a second for each; `count` is how many since the last.
     */
    roomRefused: z.strictObject({
      what: z.enum(["versions", "changes"]),
      /**
       * `refused`, `unanswered`: by the user, within the last ten minutes; `disk`: the host would be left with too little room; `files`: or
       * with too few files; `names`: the layer holds as many names, paths and attributes as it may
       */
      why: z.enum(["refused", "unanswered", "disk", "files", "names"]),
      path: innerPath,
      count: z.int().min(1),
      neededBytes: count,
      limitBytes: count,
      usedBytes: count,
    }),
    /** The list of changes is another one; at most four times a second. */
    changed: z.strictObject({ revision: count, total: count.optional() }),
  },
} as const;

/** One certificate in PEM. */
const pemCertificate = text(8192).regex(/^-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/=]{1,76}\n)+-----END CERTIFICATE-----\n?$/);

const environment = z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/), text(32_768));

export const agent = {
  requests: {
    configure: method(() => ({
      params: z.strictObject({
        protocol: z.int().min(1),
        hostname: z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/),
        user: z.strictObject({
          name: z.string().regex(/^[a-z][a-z0-9-]{0,31}$/),
          uid: z.int().min(1000).max(65_535),
          gid: z.int().min(1000).max(65_535),
          sudo: z.boolean(),
        }),
        environment,
        timeUnixNs: unixNs,
        /** host randomness for the guest's pool */
        entropy: base64(256),
        ssh: z.strictObject({ port: vsockPort, hostKey: text(4096), authorizedKey: text(1024) }),
        /** a folder that shall be there for the user before the first command; absent: none is made */
        workingDirectory: guestPath.optional(),
        /**
         * What leaves the guest goes to this port of the host, a stream per connection ("Egress streams"), and the certificate of the
         * task's own authority is trusted; absent: nothing leaves.
         */
        egress: z.strictObject({ port: vsockPort, certificate: pemCertificate }).optional(),
      }),
      result: z.strictObject({ rootMs: count, sshMs: count }),
    })),
    /** Answers when the guest has mounted the folder and read its root's attributes. */
    mount: method(() => ({
      params: z.strictObject({
        port: vsockPort,
        guestPath,
        mode: mountMode,
        /**
         * Directories of the folder in whose place the guest sees directories of its own disk: dependencies and caches. `disk` names
         * them there, so that the next start finds them; paths are below the folder, as base64 of at most 4096 bytes.
         */
        localFolders: z
          .strictObject({ disk: z.string().regex(/^[a-z0-9-]{1,64}$/), paths: z.array(base64(5464).min(1)).min(1).max(100) })
          .optional(),
      }),
      result: z.strictObject({ guestPath }),
    })),
    /**
     * Writes back and takes the folder out. `again`: another `mount` at the same place follows, and until then nothing can be made there.
     * `dead`: the process that served it has ended, so there is nobody to write back to.
     */
    unmount: method(() => ({
      params: z.strictObject({ guestPath, again: z.boolean().optional(), dead: z.boolean().optional() }),
      result: nothing,
    })),
    setEnvironment: method(() => ({ params: z.strictObject({ environment }), result: nothing })),
    /**
     * The one request that does not come on the control stream: a session of the ssh service has it as its subsystem, `command@cloche`, a
     * space and the params. The session is its answer.
     */
    command: method(() => ({
      params: z.strictObject({
        /** program and arguments, each as base64 of its bytes, of which none is NUL; no shell reads them */
        argv: z.array(base64(262_144)).min(1).max(4096),
        directory: guestPath,
        /** make the directory when it is not there */
        make: z.boolean(),
        /** over the task's own */
        environment,
      }),
      result: nothing,
    })),
    setTime: method(() => ({ params: z.strictObject({ timeUnixNs: unixNs }), result: z.strictObject({ steppedMs: z.int() }) })),
    stats: method(() => ({
      params: nothing,
      result: z.strictObject({
        uptimeMs: count,
        processes: count,
        memoryTotalBytes: count,
        memoryAvailableBytes: count,
        diskTotalBytes: count,
        diskUsedBytes: count,
        loadPercent: count,
      }),
    })),
    ping: method(() => ({ params: nothing, result: nothing })),
    /** Writes back everything the guest still holds for its folders and its disk. */
    sync: method(() => ({ params: nothing, result: nothing })),
    /** Ends the guest's processes (TERM, `graceMs`, KILL), unmounts and powers off; the answer comes before the power-off. */
    shutdown: method(() => ({ params: z.strictObject({ graceMs: z.int().min(0).max(60_000) }), result: nothing })),
  },
  notifications: {
    hello: z.strictObject({
      protocol: z.int().min(1),
      version: text(64),
      image: z.string().regex(/^[0-9a-f]{64}$/),
      kernel: text(128),
      /** guest clock from kernel start to this line */
      bootMs: count,
    }),
    log: z.strictObject({ level: z.enum(["info", "warning", "error"]), message: text(4096) }),
  },
} as const;

export type Requests = Readonly<Record<string, { readonly params: z.ZodType; readonly result: z.ZodType }>>;
export type Notifications = Readonly<Record<string, z.ZodType>>;
export type Protocol = Readonly<{ requests: Requests; notifications: Notifications }>;
export type FolderIdentity = z.infer<typeof folderIdentity>;
export type MachineConfig = z.infer<(typeof helper.requests.start)["params"]>;
export type ExitedNotice = z.infer<typeof helper.notifications.exited>;
export type ProbeResult = z.infer<(typeof helper.requests.probe)["result"]>;
export type AgentHello = z.infer<typeof agent.notifications.hello>;
export type CommandParams = z.infer<(typeof agent.requests.command)["params"]>;
export type GuestConfig = z.infer<(typeof agent.requests.configure)["params"]>;
export type ServeParams = z.infer<(typeof share.requests.serve)["params"]>;
export type ShareChange = z.infer<typeof shareChange>;
