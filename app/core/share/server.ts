/**
 * One share server process: one folder, confined, and gone with its keeper. With a socket it serves the folder to a machine; with a
 * layer and a store it also works on what the task changed, which is all it does without a socket.
 */
import { rm } from "node:fs/promises";
import type { z } from "zod";
import { type FolderIdentity, type ServeParams, SHARE_PROTOCOL, share } from "../../../helpers/contract/protocol.ts";
import { ProblemError, RpcClosed } from "../../contract/index.ts";
import { Program } from "../process/index.ts";
import { endedMeanwhile, shareProblem } from "./problems.ts";

const END_GRACE_MS = 1_000;
/** versions are kept for that long, or until their room is needed */
const KEEP_DAYS = 30;
/** the guest's user; every file shows as that user's */
const OWNER = { uid: 1000, gid: 1000 };

type Requests = (typeof share)["requests"];
type Served = z.infer<Requests["serve"]["result"]>;
export type Activity = z.infer<(typeof share.notifications)["activity"]>["entries"];
export type RefusedNotice = z.infer<(typeof share.notifications)["roomRefused"]>;
export type RoomNotice = z.infer<(typeof share.notifications)["room"]>;

/** A folder in a task, as its share server needs to know it. */
export interface FolderSpec {
  /** names its layer and its logs */
  readonly id: string;
  /** the folder's path on the host; paths are bytes */
  readonly path: Buffer;
  /** safe to show */
  readonly name: string;
  readonly identity: FolderIdentity;
  readonly mode: "ro" | "rw" | "review";
  readonly hideSecrets: boolean;
  readonly localFolders: boolean;
}

/** Where on the host what a task does to a folder is kept. */
export interface Kept {
  readonly layer: string;
  readonly store: string;
  readonly writer: string;
  readonly versionLimitBytes?: number;
}

export interface ServerEvents {
  /** resolves when it is written down; until then the guest may not do much more */
  onActivity(entries: Activity): Promise<void>;
  onRoom(notice: RoomNotice): void;
  onRefused(notice: RefusedNotice): void;
  /** how many changes there are now, where the server has counted them */
  onChanged(total: number | undefined): void;
}
const NOBODY: ServerEvents = { onActivity: async () => {}, onRoom: () => {}, onRefused: () => {}, onChanged: () => {} };

export class ShareServer {
  readonly #program: Program<typeof share>;
  readonly #name: string;
  readonly served: Served;

  private constructor(program: Program<typeof share>, name: string, served: Served) {
    this.#program = program;
    this.#name = name;
    this.served = served;
  }

  get pid(): number {
    return this.#program.pid;
  }
  /** resolves when the process has ended, for whatever reason */
  get exited() {
    return this.#program.exited;
  }

  /** @param kept needed in every mode but `ro` */
  static async start(options: {
    program: string;
    log: string;
    folder: FolderSpec;
    listen?: string;
    kept?: Kept;
    events?: ServerEvents;
  }): Promise<ShareServer> {
    const { folder } = options;
    const program = await spawnServer(options.program, options.log, options.events ?? NOBODY);
    try {
      const served = await program.peer.call("serve", serveParams(folder, options.listen, options.kept));
      return new ShareServer(program, folder.name, served);
    } catch (error) {
      await program.end(END_GRACE_MS);
      throw shareProblem(error, folder.name);
    }
  }

  /** Asks; what fails is told in the user's words. */
  async ask<M extends keyof Requests & string>(
    method: M,
    params: z.input<Requests[M]["params"]>,
  ): Promise<z.output<Requests[M]["result"]>> {
    try {
      return await this.#program.peer.call(method, params);
    } catch (error) {
      throw error instanceof RpcClosed ? endedMeanwhile(error, this.#name) : shareProblem(error, this.#name);
    }
  }

  async end(): Promise<void> {
    await this.#program.end(END_GRACE_MS);
  }
}

function serveParams(folder: FolderSpec, listen: string | undefined, kept: Kept | undefined): ServeParams {
  const { mode, hideSecrets, localFolders, identity } = folder;
  const always = { root: folder.path.toString("base64"), identity, owner: OWNER, hideSecrets, localFolders };
  const socket = listen === undefined ? {} : { listen };
  if (mode === "ro") {
    if (listen === undefined) throw new Error("a folder that is read only is served or not at all");
    return { mode, ...always, listen };
  }
  if (!kept) throw new Error(`what is done in a folder of mode ${mode} needs a place`);
  return { mode, ...always, ...socket, ...kept, keepDays: KEEP_DAYS };
}

/** A folder's identity and what its filesystem allows; nothing in the folder is read. */
export async function identifyFolder(options: {
  program: string;
  log: string;
  root: Buffer;
  name: string;
}): Promise<{ identity: FolderIdentity; readOnly: boolean }> {
  const program = await spawnServer(options.program, options.log, NOBODY);
  try {
    return await program.peer.call("identify", { root: options.root.toString("base64") });
  } catch (error) {
    throw shareProblem(error, options.name);
  } finally {
    await program.end(END_GRACE_MS);
  }
}

async function spawnServer(file: string, log: string, events: ServerEvents): Promise<Program<typeof share>> {
  try {
    const program: Program<typeof share> = await Program.spawn({
      file,
      args: [],
      protocol: share,
      notified: {
        // the guest's own mount answer is what tells that a folder is seen, so these two are for the server's log
        attached: () => {},
        detached: () => {},
        activity: async ({ batch, entries }) => {
          await events.onActivity(entries);
          await program.peer.call("recorded", { batch }).catch(() => {}); // it has ended: nobody waits any more
        },
        roomRefused: (notice) => events.onRefused(notice),
        room: (notice) => events.onRoom(notice),
        changed: ({ total }) => events.onChanged(total),
      },
      log,
    });
    await program.peer.call("hello", { protocol: SHARE_PROTOCOL, client: "keeper" });
    return program;
  } catch (error) {
    throw new ProblemError({
      code: "share.server",
      message: "The program that serves folders could not be started, so no folder was shared.",
      evidence: (error as Error).message,
      next: ["Run `npm start` to build it again, then `cloche doctor`."],
    });
  }
}

/** How far a share server is confined on this host: one is started over `root`, asked, and ended. */
export async function folderConfinement(options: {
  program: string;
  log: string;
  root: Buffer;
  listen: string;
}): Promise<Served["confinement"]> {
  const { program, log, root, listen } = options;
  const name = "test folder";
  const { identity } = await identifyFolder({ program, log, root, name });
  const folder = { id: "00000000", path: root, name, identity, mode: "ro", hideSecrets: false, localFolders: false } as const;
  const server = await ShareServer.start({ program, log, listen, folder });
  await server.end();
  await rm(listen, { force: true });
  return server.served.confinement;
}
