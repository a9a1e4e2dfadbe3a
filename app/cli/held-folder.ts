/**
 * A folder of the host's that is held open: what is named in it is looked up in that very folder, wherever it is by now and whatever has
 * taken its place, and no link in it is followed. Linux has paths that begin at a descriptor. Where there are none, names are looked up by
 * path: whoever can change the folder meanwhile can lead them elsewhere.
 */
import { constants, existsSync, type Stats } from "node:fs";
import { type FileHandle, lstat, mkdir, open, readdir, rename, rm } from "node:fs/promises";

const DESCRIPTORS = "/proc/self/fd";
const byDescriptor = existsSync(DESCRIPTORS);
/** absent where the system has none of the kind */
const { O_DIRECTORY = 0, O_NOFOLLOW = 0, O_NONBLOCK = 0 } = constants;

export class HeldFolder implements AsyncDisposable {
  readonly #handle: FileHandle | undefined;
  readonly #path: string;

  private constructor(handle: FileHandle | undefined, path: string) {
    this.#handle = handle;
    this.#path = handle ? `${DESCRIPTORS}/${handle.fd}` : path;
  }

  /** The folder at a path. Links above it are followed, and it itself may be one only where `link` says so. */
  static async open(path: string, link: "no link" | "or link"): Promise<HeldFolder> {
    if (!byDescriptor) return new HeldFolder(undefined, path);
    return new HeldFolder(await open(path, constants.O_RDONLY | O_DIRECTORY | (link === "no link" ? O_NOFOLLOW : 0)), path);
  }

  #at(name: string): string {
    return `${this.#path}/${name}`; // a slash after a descriptor's path is what leads through it
  }

  names(): Promise<string[]> {
    return readdir(this.#at(""));
  }

  look(name: string): Promise<Stats> {
    return lstat(this.#at(name));
  }

  /** A folder in it; made when nothing of that name is there and it may be. */
  async folder(name: string, make: "made" | "there"): Promise<HeldFolder> {
    if (make === "made") {
      await mkdir(this.#at(name), { mode: 0o755 }).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== "EEXIST") throw error;
      });
    }
    if (!(await this.look(name)).isDirectory()) throw new Error(`${JSON.stringify(name)} is there and is no folder`);
    return HeldFolder.open(this.#at(name), "no link");
  }

  /** A file in it, to be read. It is looked at before it is opened, as opening a device may do something, and again after. */
  async file(name: string): Promise<HeldFile> {
    const path = this.#at(name);
    if (!(await lstat(path)).isFile()) throw new Error(`${JSON.stringify(name)} is no file any more`);
    const handle = await open(path, constants.O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    if ((await handle.stat()).isFile()) return { handle, path: byDescriptor ? `${DESCRIPTORS}/${handle.fd}` : path };
    await handle.close();
    throw new Error(`${JSON.stringify(name)} is no file any more`);
  }

  /** A new file in it, of a name that nothing has. */
  create(name: string, mode: number): Promise<FileHandle> {
    return open(this.#at(name), constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, mode);
  }

  rename(from: string, to: string): Promise<void> {
    return rename(this.#at(from), this.#at(to));
  }

  remove(name: string): Promise<void> {
    return rm(this.#at(name), { force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle?.close();
  }
}

export interface HeldFile {
  readonly handle: FileHandle;
  /** opens the same file once more */
  readonly path: string;
}
