/** Where the keeper is found, and the check that nobody else can stand there. */
import { createHash } from "node:crypto";
import { lstatSync, mkdirSync } from "node:fs";
import { homedir, tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { ProblemError } from "../problem.ts";

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
  const home = env.CLOCHE_HOME ? env.CLOCHE_HOME : defaultHome(env);
  const uid = userInfo().uid;
  const label = env.CLOCHE_HOME ? `cloche-${createHash("sha256").update(env.CLOCHE_HOME).digest("hex").slice(0, 10)}` : "cloche";
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

/** Makes `directory` (0700) or refuses one that another user made, that others may enter, or that is a link. */
export function privateDirectory(directory: string): void {
  let failure: unknown;
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  } catch (error) {
    failure = error;
  }
  const found = lstatSync(directory, { throwIfNoEntry: false });
  if (!found) throw failure; // else a file or a link to nowhere stands there, which is refused below
  const uid = userInfo().uid;
  if (found.isDirectory() && (process.platform === "win32" || (found.uid === uid && (found.mode & 0o077) === 0))) return;
  throw new ProblemError({
    code: "keeper.private-directory",
    message: "Cloche's runtime directory is not private to you, so nothing was started in it.",
    evidence: `${directory}: uid ${found.uid}, mode ${(found.mode & 0o7777).toString(8)}${found.isSymbolicLink() ? ", a link" : ""}`,
    next: [`Remove ${directory} if it is not yours, or set CLOCHE_HOME to a place of your own, then try again.`],
  });
}
