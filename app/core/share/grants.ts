/**
 * Grants: opaque tokens for folders that their user picked. Made by a folder dialog or the CLI, held in memory until a task
 * takes them over; a grant says which folder (by identity) and never opens it.
 */
import { randomBytes } from "node:crypto";
import { realpath } from "node:fs";
import { promisify } from "node:util";
import type { FolderIdentity } from "../../../helpers/contract/protocol.ts";
import { type FolderNote, ProblemError } from "../../contract/index.ts";
import { guestFolderName } from "./guest-path.ts";
import { looks } from "./looks.ts";
import { ancestry, mountOf, placeNotes, readMounts } from "./places.ts";
import { givenTwice, overlap, sensitiveFolder, turnedIntoLink } from "./problems.ts";
import { knownPlaces, type OwnPlaces, whySensitive } from "./sensitive.ts";
import { identifyFolder } from "./server.ts";

/** Grants not yet taken by a task; the oldest goes when there are more. */
const MAX_GRANTS = 1024;

export interface Grant {
  /** absolute, with links resolved; bytes */
  readonly path: Buffer;
  /** safe to show */
  readonly name: string;
  readonly identity: FolderIdentity;
  readonly notes: FolderNote[];
}

/** What may be given to a task is asked twice: when a folder is picked and each time that it is used. */
export class Grants {
  readonly #held = new Map<string, Grant>();
  readonly #program: { file: string; log: string };
  readonly #own: OwnPlaces;

  constructor(program: { file: string; log: string }, own: OwnPlaces) {
    this.#program = program;
    this.#own = own;
  }

  /** Resolves links in `path` once, now, while its user looks: what is granted is the folder that they lead to. */
  async create(path: Buffer): Promise<{ grant: string; name: string; notes: FolderNote[] }> {
    const resolved = await resolveFolder(path);
    const name = guestFolderName(resolved);
    const mounts = readMounts();
    await this.refuseUnfit(resolved, name);
    const { identity, readOnly } = await looks.at(resolved, name, () =>
      identifyFolder({ program: this.#program.file, log: this.#program.log, root: resolved, name }),
    );
    const notes = placeNotes(mountOf(resolved, mounts), { readOnly, born: identity.bornNs !== undefined });
    const grant = randomBytes(16).toString("hex");
    this.#held.set(grant, { path: resolved, name, identity, notes });
    for (const oldest of this.#held.keys()) {
      if (this.#held.size <= MAX_GRANTS) break;
      this.#held.delete(oldest);
    }
    return { grant, name, notes };
  }

  /**
   * Throws when what is at a resolved path is not given to a task: it may have become a link, or something sensitive, since it was
   * picked. That it is the picked folder and still there is its share server's to tell.
   */
  async refuseUnfit(path: Buffer, name: string): Promise<void> {
    const leads = await looks.at(path, name, () => realpathBytes(path, { encoding: "buffer" }).catch(() => path));
    if (!leads.equals(path)) throw turnedIntoLink(name);
    const why = await looks.at(path, name, () => whySensitive(path, knownPlaces(this.#own), readMounts()));
    if (why !== undefined) throw sensitiveFolder(name, why, path);
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

/** What a task may do in a folder; two folders of which one lies in the other must agree in all of it. */
interface Given {
  readonly name: string;
  readonly path: Buffer;
  readonly mode: string;
  readonly hideSecrets: boolean;
}

/** Throws when one of a task's folders lies in another one that is given otherwise; told by identity, not by spelling. */
export async function refuseOverlaps(folders: readonly Given[]): Promise<void> {
  const chains = await Promise.all(folders.map(({ name, path }) => looks.at(path, name, () => ancestry(path))));
  folders.forEach((outer, at) => {
    const [id] = chains[at] ?? [];
    folders.forEach((inner, other) => {
      const same = inner.mode === outer.mode && inner.hideSecrets === outer.hideSecrets;
      if (other === at || id === undefined || same || !chains[other]?.includes(id)) return;
      throw chains[other]?.[0] === id ? givenTwice(inner.name) : overlap(inner.name, outer.name);
    });
  });
}

// this one keeps bytes that are no UTF-8; the promise's own decodes the path
const realpathBytes = promisify(realpath.native) as unknown as (path: Buffer, options: { encoding: "buffer" }) => Promise<Buffer>;

async function resolveFolder(path: Buffer): Promise<Buffer> {
  const name = guestFolderName(path);
  if (path[0] !== 0x2f || path.includes(0)) {
    throw new ProblemError({
      code: "share.not-found",
      message: `${JSON.stringify(name)} was given without its full path, so it was not shared.`,
      next: ["Give an absolute path."],
    });
  }
  try {
    return await looks.at(path, name, () => realpathBytes(path, { encoding: "buffer" }));
  } catch (error) {
    if (error instanceof ProblemError) throw error;
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
