/**
 * The protocols between the keeper and the programs beside it, as schemas. README.md here says what the messages mean,
 * in which order they may come and how they are framed. Every object is strict and every string and number bounded:
 * an unknown field is an error on both sides.
 */
import { z } from "zod";

export const HELPER_PROTOCOL = 1;
export const SHARE_PROTOCOL = 1;
export const AGENT_PROTOCOL = 3;

/** Longest line of any of the three protocols, newline included, in bytes. */
export const MAX_LINE_BYTES = 1_048_576;
/** Requests one side may have open at once. */
export const MAX_OPEN_REQUESTS = 64;

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

const disk = z.strictObject({
  /** virtio serial, by which the guest finds the disk */
  serial: z.string().regex(/^[a-z0-9-]{1,20}$/),
  path: hostPath,
  readOnly: z.boolean(),
});

export const helperFeature = z.enum(["pause", "powerdown", "balloon"]);

export const helper = {
  /** Requests of the keeper. */
  requests: {
    hello: {
      params: z.strictObject({ protocol: z.int().min(1), client: text(64) }),
      result: z.strictObject({
        protocol: z.int().min(1),
        name: text(64),
        version: text(64),
        platform: z.enum(["linux", "macos", "windows"]),
        features: z.array(helperFeature).max(16),
      }),
    },
    /** Finds out which accelerators work, by booting `kernel` until its first console byte. At most `timeoutMs` for each. */
    probe: {
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
    },
    start: {
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
    },
    openPort: { params: z.strictObject({ port: vsockPort }), result: nothing },
    closePort: { params: z.strictObject({ port: vsockPort }), result: nothing },
    pause: { params: nothing, result: nothing },
    resume: { params: nothing, result: nothing },
    /** Asks the guest's firmware to power down; helpers without the feature answer helper.unsupported. */
    powerdown: { params: nothing, result: nothing },
    /** Does not ask the guest. Answers when nothing of the machine is left. */
    terminate: { params: nothing, result: nothing },
    status: {
      params: nothing,
      result: z.strictObject({
        state: z.enum(["idle", "running", "paused", "exited"]),
        consoleBytes: count,
        processes: z.array(z.strictObject({ role: text(32), pid: z.int().min(1) })).max(16),
      }),
    },
    /** Sets the memory the guest may keep, in MiB. */
    balloon: { params: z.strictObject({ targetMib: z.int().min(64).max(1_048_576) }), result: nothing },
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

export const shareMode = z.enum(["ro", "rw"]);

/** What a folder is, beyond its path. Decimal strings, as the numbers may pass 2^53. */
export const folderIdentity = z.strictObject({
  volume: z.string().regex(/^[0-9]{1,20}$/),
  file: z.string().regex(/^[0-9]{1,20}$/),
  /** birth time; absent where the filesystem keeps none */
  bornNs: unixNs.optional(),
});

export const share = {
  requests: {
    hello: {
      params: z.strictObject({ protocol: z.int().min(1), client: text(64) }),
      result: z.strictObject({ protocol: z.int().min(1), name: text(64), version: text(64) }),
    },
    serve: {
      params: z.strictObject({
        root: base64(8192),
        mode: shareMode,
        /** refuse with share.identity when the folder is another one; absent at the grant */
        identity: folderIdentity.optional(),
        listen: hostPath,
        /** uid and gid that every file shows to the guest */
        owner: z.strictObject({ uid: z.int().min(0).max(65_535), gid: z.int().min(0).max(65_535) }),
      }),
      result: z.strictObject({
        identity: folderIdentity,
        /** what confines the server, and what could not be had, for `doctor` */
        confinement: z.array(z.strictObject({ name: text(64), active: z.boolean(), reason: text(512) })).max(16),
      }),
    },
    /** Reads a folder's identity and nothing in it. */
    identify: {
      params: z.strictObject({ root: base64(8192) }),
      result: z.strictObject({ identity: folderIdentity, filesystem: text(64), readOnly: z.boolean() }),
    },
    stats: {
      params: nothing,
      result: z.strictObject({ connections: count, fids: count, requests: count, bytesRead: count, bytesWritten: count }),
    },
  },
  notifications: {
    attached: nothing,
    detached: z.strictObject({ reason: text(512) }),
  },
} as const;

const environment = z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/), text(32_768));

export const agent = {
  requests: {
    configure: {
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
      }),
      result: z.strictObject({ rootMs: count, sshMs: count }),
    },
    /** Answers when the guest has mounted the folder and read its root's attributes. */
    mount: {
      params: z.strictObject({
        port: vsockPort,
        guestPath,
        mode: shareMode,
        /**
         * Directories of the folder in whose place the guest sees directories of its own disk: dependencies and caches. `disk` names
         * them there, so that the next start finds them; paths are below the folder, as base64 of at most 4096 bytes.
         */
        localFolders: z
          .strictObject({ disk: z.string().regex(/^[a-z0-9-]{1,64}$/), paths: z.array(base64(5464).min(1)).min(1).max(100) })
          .optional(),
      }),
      result: z.strictObject({ guestPath }),
    },
    unmount: { params: z.strictObject({ guestPath }), result: nothing },
    setEnvironment: { params: z.strictObject({ environment }), result: nothing },
    setTime: { params: z.strictObject({ timeUnixNs: unixNs }), result: z.strictObject({ steppedMs: z.int() }) },
    stats: {
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
    },
    ping: { params: nothing, result: nothing },
    /** Writes back everything the guest still holds for its folders and its disk. */
    sync: { params: nothing, result: nothing },
    /** Ends the guest's processes (TERM, `graceMs`, KILL), unmounts and powers off; the answer comes before the power-off. */
    shutdown: { params: z.strictObject({ graceMs: z.int().min(0).max(60_000) }), result: nothing },
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

export type Requests = Readonly<Record<string, { params: z.ZodType; result: z.ZodType }>>;
export type Notifications = Readonly<Record<string, z.ZodType>>;
export type Protocol = Readonly<{ requests: Requests; notifications: Notifications }>;
export type FolderIdentity = z.infer<typeof folderIdentity>;
export type MachineConfig = z.infer<(typeof helper.requests.start)["params"]>;
export type ExitedNotice = z.infer<typeof helper.notifications.exited>;
export type ProbeResult = z.infer<(typeof helper.requests.probe)["result"]>;
export type AgentHello = z.infer<typeof agent.notifications.hello>;
export type GuestConfig = z.infer<(typeof agent.requests.configure)["params"]>;
