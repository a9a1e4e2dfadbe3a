/** The check that nobody else can stand where the keeper is found. */
import { accessSync, constants, lstatSync, mkdirSync, type Stats, statSync } from "node:fs";
import { dirname } from "node:path";
import { ProblemError } from "../problem.ts";
import { type Endpoint, isPrivate } from "./place.ts";

/** Bytes of a socket's path on macOS, without the zero behind it (sys/un.h); Linux takes four more. */
const MAX_SOCKET_PATH = 103;
/** The longest socket below the runtime directory is a machine's: its device's, for a stream with a port of 32 bits. */
const LONGEST_SOCKET = "/12345678/vd/s_4294967294";

/** Makes the private directory for the endpoint's sockets, or refuses the place: also one whose path leaves no room for a socket's name. */
export function runtimeDirectory({ runtime }: Endpoint): void {
  const length = Buffer.byteLength(runtime + LONGEST_SOCKET);
  if (process.platform !== "win32" && length > MAX_SOCKET_PATH) {
    throw new ProblemError({
      code: "keeper.private-directory",
      message: `The path of Cloche's runtime directory is ${length - MAX_SOCKET_PATH} bytes too long for the sockets in it, so nothing was started.`,
      evidence: runtime,
      next: ["Set XDG_RUNTIME_DIR to a directory with a shorter path, or leave it out: a directory below /tmp is used then."],
    });
  }
  privateDirectory(runtime);
}

/**
 * Makes a directory, private as all that are missing above it. Node's own way of making those tries for ever where a filesystem says
 * "not found" of what it lets nobody make, as /proc does.
 */
export function makeDirectories(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST" && statSync(path).isDirectory()) return;
    const above = dirname(path);
    if (code !== "ENOENT" || above === path) throw error;
    makeDirectories(above);
    mkdirSync(path, { mode: 0o700 });
  }
}

/** Makes the directory for Cloche's data, or refuses one that cannot be made or written to. */
export function dataDirectory(home: string): void {
  try {
    makeDirectories(home);
    accessSync(home, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw new ProblemError({
      code: "keeper.data-directory",
      message: "Cloche's data directory cannot be made or written to, so nothing was started.",
      evidence: (error as Error).message,
      next: ["Set CLOCHE_HOME to a directory that you may write to, or leave it out for your own data directory."],
    });
  }
}

/** Makes `directory` (0700) or refuses one that another user made, that others may enter, or that is a link. */
export function privateDirectory(directory: string): void {
  let failure: unknown;
  try {
    makeDirectories(directory);
  } catch (error) {
    failure = error;
  }
  let found: Stats | undefined;
  try {
    found = lstatSync(directory, { throwIfNoEntry: false });
  } catch (error) {
    failure = error;
  }
  // else a file or a link to nowhere may stand there, which is refused below
  if (!found) {
    throw new ProblemError({
      code: "keeper.private-directory",
      message: "Cloche's runtime directory cannot be made, so nothing was started.",
      evidence: (failure as Error).message,
      next: ["Set XDG_RUNTIME_DIR to a directory of your own, or leave it out: a directory below /tmp is used then."],
    });
  }
  if (isPrivate(found)) return;
  throw new ProblemError({
    code: "keeper.private-directory",
    message: "Cloche's runtime directory is not private to you, so nothing was started in it.",
    evidence: `${directory}: uid ${found.uid}, mode ${(found.mode & 0o7777).toString(8)}${found.isSymbolicLink() ? ", a link" : ""}`,
    next: [`Remove ${directory} if it is not yours, or set CLOCHE_HOME to a place of your own, then try again.`],
  });
}
