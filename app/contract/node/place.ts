/** Where the keeper is found. Without the schemas' library, so that a command knows it at once. */
import { createHash } from "node:crypto";
import { lstatSync, type Stats } from "node:fs";
import { homedir, tmpdir, userInfo } from "node:os";
import { join, resolve } from "node:path";

export interface Endpoint {
  /** data of this user's Cloche */
  readonly home: string;
  /** private directory for sockets; short, as socket paths end at 104 bytes on macOS */
  readonly runtime: string;
  readonly socket: string;
  /** 0600; the keeper writes it anew at each start */
  readonly tokenFile: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

export function endpoint(env: Environment = process.env): Endpoint {
  // the same place however it is written, so that one home has one keeper
  const chosen = env.CLOCHE_HOME ? resolve(env.CLOCHE_HOME) : undefined;
  const home = chosen ?? defaultHome(env);
  const uid = userInfo().uid;
  const label = chosen ? `cloche-${createHash("sha256").update(chosen).digest("hex").slice(0, 10)}` : "cloche";
  const runtime =
    process.platform === "linux" && env.XDG_RUNTIME_DIR ? join(env.XDG_RUNTIME_DIR, label) : join(shortTemporary(), `${label}-${uid}`);
  return { home, runtime, socket: join(runtime, "keeper.sock"), tokenFile: join(runtime, "keeper.token") };
}

function defaultHome(env: Environment): string {
  if (process.platform === "darwin") return join(homedir(), "Library", "Application Support", "Cloche");
  if (process.platform === "win32") return join(env.LOCALAPPDATA ?? join(homedir(), "AppData", "Local"), "Cloche");
  return join(env.XDG_DATA_HOME || join(homedir(), ".local", "share"), "cloche");
}

/** macOS's per-user temporary directory is private but too long for sockets with names of their own; /tmp is short everywhere else. */
function shortTemporary(): string {
  return process.platform === "win32" ? tmpdir() : "/tmp";
}

/** Whether `found` is a directory that this user alone may enter; false for a link to one. */
export function isPrivate(found: Stats): boolean {
  return found.isDirectory() && (process.platform === "win32" || (found.uid === userInfo().uid && (found.mode & 0o077) === 0));
}

/** Whether nothing stands at `directory` that a keeper would refuse to start in. */
export function isFreeForKeeper(directory: string): boolean {
  try {
    const found = lstatSync(directory, { throwIfNoEntry: false });
    return found === undefined || isPrivate(found);
  } catch {
    return false; // it lies below a file, or where nobody may look: the keeper says which
  }
}
