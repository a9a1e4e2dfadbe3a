/**
 * Every path on disk that Cloche writes, named once. The table `PATHS` says who writes each and when it may be deleted;
 * nothing else in core, keeper or cli joins a path below these two directories.
 */
import { join } from "node:path";

/** For readers: what lies where. `home` is data, `runtime` is gone with the keeper. */
export const PATHS = [
  { path: "home/audit.jsonl", what: "events that belong to no task", writer: "keeper", deletable: "loses that history" },
  {
    path: "home/audit-heads.json",
    what: "the newest record of each log, MACed with the keychain's key",
    writer: "keeper",
    deletable: "never; `cloche events verify` tells of it from then on",
  },
  { path: "home/keeper.log", what: "the keeper's own messages", writer: "keeper", deletable: "any time" },
  {
    path: "home/machine-facts.json",
    what: "which accelerator works on this host",
    writer: "keeper",
    deletable: "any time; measured again",
  },
  { path: "home/images/<id>/", what: "fetched guest images, shared and read-only", writer: "keeper", deletable: "when no task uses it" },
  { path: "home/tasks/<id>/task.json", what: "the task", writer: "keeper", deletable: "by `cloche rm`" },
  {
    path: "home/tasks/<id>/disk.raw",
    what: "the task's own disk, sparse; written by the guest, never parsed here",
    writer: "guest",
    deletable: "by `cloche rm`",
  },
  {
    path: "home/tasks/<id>/layers/<folder id>/",
    what: "what the task changed in a folder and nobody applied yet",
    writer: "share server",
    deletable: "by `cloche discard` or `cloche rm --discard`",
  },
  {
    path: "home/policy.json",
    what: "network rules of every task",
    writer: "keeper",
    deletable: "when no keeper runs; loses those rules",
  },
  {
    path: "home/secrets.json",
    what: "names of keys, where their values are and where they may be used; never a value",
    writer: "keeper",
    deletable: "when no keeper runs; forgets the keys, those in the keychain stay there",
  },
  {
    path: "home/trusted.pem",
    what: "certificate authorities that proxies trust beside the system's, such as a company's own; read when a machine starts",
    writer: "its user",
    deletable: "any time; those authorities are then not trusted",
  },
  {
    path: "home/outgoing-proxy.json",
    what: "the proxy of the user's network that tasks' connections leave through; read when a machine starts",
    writer: "keeper",
    deletable: "when no machine runs; connections then leave directly",
  },
  {
    path: "home/tasks/<id>/policy.json",
    what: "what the task may reach and which keys it may use; without it nothing passes",
    writer: "keeper",
    deletable: "by `cloche rm`",
  },
  { path: "home/tasks/<id>/audit.jsonl", what: "the task's events", writer: "keeper", deletable: "by `cloche rm`" },
  {
    path: "home/tasks/<id>/journals/",
    what: "decisions that a proxy wrote down and the keeper has not put into the events yet",
    writer: "proxy",
    deletable: "by `cloche rm`",
  },
  {
    path: "home/tasks/<id>/output.log",
    what: "what its commands wrote; output.log.1 is the part before",
    writer: "keeper",
    deletable: "any time",
  },
  { path: "home/tasks/<id>/console.log", what: "the guest's console", writer: "helper", deletable: "any time" },
  {
    path: "home/tasks/<id>/host.log",
    what: "messages of the task's helper and share servers",
    writer: "helper, share server",
    deletable: "any time",
  },
  {
    path: "home/folders/<key>/folder.json",
    what: "which folder the versions beside it belong to, and how much room they may take",
    writer: "keeper",
    deletable: "with the versions",
  },
  {
    path: "home/folders/<key>/",
    what: "versions of what tasks overwrote or deleted in a folder, and the applies to take back",
    writer: "share server",
    deletable: "loses those versions",
  },
  { path: "runtime/keeper.sock", what: "the keeper's socket", writer: "keeper", deletable: "when no keeper runs" },
  { path: "runtime/keeper.token", what: "what clients prove (0600)", writer: "keeper", deletable: "when no keeper runs" },
  { path: "runtime/keeper.lock", what: "which process is the keeper", writer: "keeper", deletable: "when no keeper runs" },
  { path: "runtime/<n>/", what: "one machine's sockets", writer: "keeper, helper, share server", deletable: "when that machine is off" },
] as const;

export class Paths {
  readonly home: string;
  readonly runtime: string;

  constructor(place: { home: string; runtime: string }) {
    this.home = place.home;
    this.runtime = place.runtime;
  }

  get tasks(): string {
    return join(this.home, "tasks");
  }
  get images(): string {
    return join(this.home, "images");
  }
  get audit(): string {
    return join(this.home, "audit.jsonl");
  }
  get auditHeads(): string {
    return join(this.home, "audit-heads.json");
  }
  get policy(): string {
    return join(this.home, "policy.json");
  }
  get secrets(): string {
    return join(this.home, "secrets.json");
  }
  get trusted(): string {
    return join(this.home, "trusted.pem");
  }
  get outgoingProxy(): string {
    return join(this.home, "outgoing-proxy.json");
  }
  get keeperLog(): string {
    return join(this.home, "keeper.log");
  }
  get machineFacts(): string {
    return join(this.home, "machine-facts.json");
  }
  get lock(): string {
    return join(this.runtime, "keeper.lock");
  }

  task(id: string): TaskPaths {
    return new TaskPaths(join(this.tasks, id));
  }

  /** What is kept for a folder of the host's, whichever task changed it. */
  folder(key: string): { directory: string; file: string } {
    const directory = join(this.home, "folders", key);
    return { directory, file: join(directory, "folder.json") };
  }

  /** One machine's private directory. `n` is short: a socket's path ends at 104 bytes on macOS. */
  machine(n: string): { directory: string; streams: string } {
    const directory = join(this.runtime, n);
    return { directory, streams: join(directory, "v") };
  }
}

/** Each is made when it is asked for: a log's is, with every event. */
export class TaskPaths {
  readonly directory: string;

  constructor(directory: string) {
    this.directory = directory;
  }

  get file(): string {
    return join(this.directory, "task.json");
  }
  get disk(): string {
    return join(this.directory, "disk.raw");
  }
  get audit(): string {
    return join(this.directory, "audit.jsonl");
  }
  get policy(): string {
    return join(this.directory, "policy.json");
  }
  /** of its proxies: one file each, gone when all of it is in the log */
  get journals(): string {
    return join(this.directory, "journals");
  }
  get output(): string {
    return join(this.directory, "output.log");
  }
  get console(): string {
    return join(this.directory, "console.log");
  }
  get hostLog(): string {
    return join(this.directory, "host.log");
  }
  /** a directory for each of its folders, by the folder's id in the task */
  get layers(): string {
    return join(this.directory, "layers");
  }
}
