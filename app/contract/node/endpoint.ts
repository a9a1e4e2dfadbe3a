/** The check that nobody else can stand where the keeper is found. */
import { lstatSync, mkdirSync } from "node:fs";
import { ProblemError } from "../problem.ts";
import { isPrivate } from "./place.ts";

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
  if (isPrivate(found)) return;
  throw new ProblemError({
    code: "keeper.private-directory",
    message: "Cloche's runtime directory is not private to you, so nothing was started in it.",
    evidence: `${directory}: uid ${found.uid}, mode ${(found.mode & 0o7777).toString(8)}${found.isSymbolicLink() ? ", a link" : ""}`,
    next: [`Remove ${directory} if it is not yours, or set CLOCHE_HOME to a place of your own, then try again.`],
  });
}
