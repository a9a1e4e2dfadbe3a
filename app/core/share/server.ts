/** One share server process: it serves one folder to one machine, confined, and ends with the machine. */
import { rm } from "node:fs/promises";
import type { z } from "zod";
import { type FolderIdentity, type ServeParams, SHARE_PROTOCOL, share } from "../../../helpers/contract/protocol.ts";
import { ProblemError } from "../../contract/index.ts";
import { Program } from "../process/index.ts";
import { shareProblem } from "./problems.ts";

const END_GRACE_MS = 1_000;
const KEEP_VERSIONS_DAYS = 30;

type Served = z.infer<(typeof share.requests.serve)["result"]>;

export class ShareServer {
  readonly #program: Program<typeof share>;
  readonly served: Served;

  private constructor(program: Program<typeof share>, served: Served) {
    this.#program = program;
    this.served = served;
  }

  get pid(): number {
    return this.#program.pid;
  }
  /** resolves when the process has ended, for whatever reason */
  get exited() {
    return this.#program.exited;
  }

  static async start(options: {
    program: string;
    log: string;
    /** the folder's path; paths are bytes */
    root: Buffer;
    name: string;
    mode: "ro" | "rw";
    identity: FolderIdentity;
    listen: string;
    owner: { uid: number; gid: number };
  }): Promise<ShareServer> {
    const program = await spawnServer(options.program, options.log);
    try {
      const folder = {
        root: options.root.toString("base64"),
        identity: options.identity,
        listen: options.listen,
        owner: options.owner,
        hideSecrets: false,
        localFolders: false,
      };
      const params: ServeParams =
        options.mode === "ro" ? { mode: "ro", ...folder } : { mode: options.mode, ...folder, keepDays: KEEP_VERSIONS_DAYS };
      const served = await program.peer.call("serve", params);
      return new ShareServer(program, served);
    } catch (error) {
      await program.end(END_GRACE_MS);
      throw shareProblem(error, options.name);
    }
  }

  stats() {
    return this.#program.peer.call("stats", {});
  }

  async end(): Promise<void> {
    await this.#program.end(END_GRACE_MS);
  }
}

/** A folder's identity and what its filesystem allows; nothing in the folder is read. */
export async function identifyFolder(options: {
  program: string;
  log: string;
  root: Buffer;
  name: string;
}): Promise<{ identity: FolderIdentity; readOnly: boolean }> {
  const program = await spawnServer(options.program, options.log);
  try {
    return await program.peer.call("identify", { root: options.root.toString("base64") });
  } catch (error) {
    throw shareProblem(error, options.name);
  } finally {
    await program.end(END_GRACE_MS);
  }
}

async function spawnServer(file: string, log: string): Promise<Program<typeof share>> {
  try {
    const program = await Program.spawn({
      file,
      args: [],
      protocol: share,
      // the guest's own mount answer is what tells that a folder is seen, so these two are for the server's log
      notified: { attached: () => {}, detached: () => {}, activity: () => {}, room: () => {}, changed: () => {} },
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
  const { identity } = await identifyFolder({ ...options, name: "test folder" });
  const server = await ShareServer.start({ ...options, identity, name: "test folder", mode: "ro", owner: { uid: 1000, gid: 1000 } });
  await server.end();
  await rm(options.listen, { force: true });
  return server.served.confinement;
}
