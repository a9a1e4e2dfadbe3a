/** What is kept for a folder of the host's whichever task changed it: its versions, below a directory named by what the folder is. */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { z } from "zod";
import { type FolderIdentity, folderIdentity } from "../../../helpers/contract/protocol.ts";
import { firstIssue, ProblemError } from "../../contract/index.ts";
import type { Paths } from "../paths.ts";
import type { FolderSpec } from "./server.ts";

/** Version of folder.json. 1: 2026-11-25, first. */
const STORE_VERSION = 1;

const storeFile = z.strictObject({
  version: z.literal(STORE_VERSION),
  identity: folderIdentity,
  /** where it was when a task was last given it, as base64 of its bytes */
  path: z.string().max(8192),
  name: z.string().max(255),
  /** the user's own limit for versions, in bytes */
  versionLimitBytes: z.int().min(0).optional(),
});
type StoreFile = z.infer<typeof storeFile>;

/** The same for the same folder wherever it is moved on its disk; another one for every other folder. */
export function folderKey({ volume, file, bornNs }: FolderIdentity): string {
  return createHash("sha256")
    .update(`${volume}:${file}:${bornNs ?? ""}`)
    .digest("hex")
    .slice(0, 32);
}

export class FolderStore {
  readonly directory: string;
  readonly #file: string;
  #content: StoreFile;

  private constructor(place: { directory: string; file: string }, content: StoreFile) {
    this.directory = place.directory;
    this.#file = place.file;
    this.#content = content;
  }

  /** The folder's store, made when it is not there. */
  static open(paths: Paths, folder: FolderSpec): FolderStore {
    const place = paths.folder(folderKey(folder.identity));
    mkdirSync(place.directory, { recursive: true, mode: 0o700 });
    const today = { identity: folder.identity, path: folder.path.toString("base64"), name: folder.name };
    const before = readStore(place.file);
    const store = new FolderStore(place, { ...before, version: STORE_VERSION, ...today });
    if (before?.path !== today.path || before.name !== today.name) store.#save();
    return store;
  }

  /** The user's own limit for a folder's versions; nothing is made. */
  static limitOf(paths: Paths, folder: FolderSpec): number | undefined {
    try {
      return readStore(paths.folder(folderKey(folder.identity)).file)?.versionLimitBytes;
    } catch (error) {
      if (error instanceof ProblemError) return undefined; // told by whoever opens it
      throw error;
    }
  }

  get versionLimitBytes(): number | undefined {
    return this.#content.versionLimitBytes;
  }

  setVersionLimit(bytes: number): void {
    this.#content = { ...this.#content, versionLimitBytes: bytes };
    this.#save();
  }

  #save(): void {
    writeFileSync(`${this.#file}.new`, `${JSON.stringify(this.#content, null, 2)}\n`, { mode: 0o600, flush: true });
    renameSync(`${this.#file}.new`, this.#file);
  }
}

function readStore(file: string): StoreFile | undefined {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  let why: string;
  try {
    const parsed = storeFile.safeParse(JSON.parse(text));
    if (parsed.success) return parsed.data;
    why = firstIssue(parsed.error);
  } catch (error) {
    why = (error as Error).message;
  }
  throw new ProblemError({
    code: "share.store",
    message: "The record of a folder's versions cannot be read. It was left as it is, and your folder too.",
    evidence: `${file}: ${why}`,
    next: ["If a newer Cloche wrote it, update this one; else report the evidence."],
  });
}
