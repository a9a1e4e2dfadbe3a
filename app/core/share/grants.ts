/**
 * Grants: opaque tokens for folders that their user picked. Made by a folder dialog or the CLI, held in memory until a task
 * takes them over; a grant says which folder (by identity) and never opens it.
 */
import { randomBytes } from "node:crypto";
import { realpathSync } from "node:fs";
import type { FolderIdentity } from "../../../helpers/contract/protocol.ts";
import { type FolderNote, ProblemError } from "../../contract/index.ts";
import { guestFolderName } from "./guest-path.ts";
import { identifyFolder } from "./server.ts";

/** Grants not yet taken by a task; the oldest goes when there are more. */
const MAX_GRANTS = 1024;

export interface Grant {
  /** absolute, with links resolved; bytes */
  readonly path: Buffer;
  /** safe to show */
  readonly name: string;
  readonly identity: FolderIdentity;
}

export class Grants {
  readonly #held = new Map<string, Grant>();
  readonly #program: { file: string; log: string };

  constructor(program: { file: string; log: string }) {
    this.#program = program;
  }

  /** Resolves links in `path` once, now, while its user looks: what is granted is the folder that they lead to. */
  async create(path: Buffer): Promise<{ grant: string; name: string; notes: FolderNote[] }> {
    const resolved = resolveFolder(path);
    const name = guestFolderName(resolved);
    const identity = await identifyFolder({ program: this.#program.file, log: this.#program.log, root: resolved, name });
    const grant = randomBytes(16).toString("hex");
    this.#held.set(grant, { path: resolved, name, identity });
    for (const oldest of this.#held.keys()) {
      if (this.#held.size <= MAX_GRANTS) break;
      this.#held.delete(oldest);
    }
    return { grant, name, notes: [] };
  }

  /** The folder behind a token. A grant may be taken by several tasks while the keeper lives. */
  take(grant: string): Grant {
    const found = this.#held.get(grant);
    if (found) return found;
    throw new ProblemError({
      code: "share.grant",
      message: "The folder was picked in another session of the keeper, so it must be picked again. The task was not made.",
      next: ["Pick the folder again."],
    });
  }
}

function resolveFolder(path: Buffer): Buffer {
  const name = guestFolderName(path);
  if (path[0] !== 0x2f || path.includes(0)) {
    throw new ProblemError({
      code: "share.not-found",
      message: `${JSON.stringify(name)} was given without its full path, so it was not shared.`,
      next: ["Give an absolute path."],
    });
  }
  try {
    return realpathSync.native(path, { encoding: "buffer" }); // the other one decodes the path and loses bytes that are no UTF-8
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "EACCES" || code === "EPERM") {
      throw new ProblemError({
        code: "share.unreadable",
        message: `The folder ${JSON.stringify(name)} cannot be opened with your rights, so it was not shared.`,
        evidence: message,
        next: ["Look at the permissions of the folder and of those above it with `ls -ld`."],
      });
    }
    throw new ProblemError({
      code: "share.not-found",
      message: `The folder ${JSON.stringify(name)} does not exist, so it was not shared.`,
      evidence: message,
      next: ["Check the path; a relative path starts at the folder you are in."],
    });
  }
}
