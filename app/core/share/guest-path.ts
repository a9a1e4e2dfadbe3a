/** Where a folder appears in the guest. */
import { ProblemError } from "../../contract/index.ts";

export const GUEST_HOME = "/home/you";
/** Where a task without folders works; on its own disk. */
export const OWN_FOLDER = `${GUEST_HOME}/files`;

/** Places a folder must not cover, because the guest itself lives there. */
const SYSTEM = ["bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "root", "run", "sbin", "sys", "tmp", "usr", "var"];

/**
 * A folder's name as the guest and the screen show it: the last component of its path, without leading dots, with control
 * characters, bidirectional marks and invalid bytes replaced by `_`. Never empty, never `.` or `..`.
 */
export function guestFolderName(path: Buffer): string {
  const last = path.subarray(path.lastIndexOf(0x2f) + 1).toString("utf8");
  const safe = last
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\uFFFD/]/gu, "_")
    .replace(/^[.\s]+/, "")
    .trim();
  return safe === "" ? "folder" : clipUtf8(safe, 200);
}

/** `text` cut to at most `max` bytes of UTF-8, at a character's end. */
function clipUtf8(text: string, max: number): string {
  let clipped = text;
  while (Buffer.byteLength(clipped) > max) clipped = clipped.slice(0, -1);
  return clipped.replace(/[\uD800-\uDBFF]$/, "");
}

/** The guest path of a folder: the asked one, checked, or `~/<name>`, `-2` on collision. `taken` holds the paths given out so far. */
export function guestPathFor(name: string, asked: string | undefined, taken: readonly string[]): string {
  if (asked !== undefined) {
    const path = checkedGuestPath(asked);
    const other = taken.find((at) => at === path || at.startsWith(`${path}/`) || path.startsWith(`${at}/`));
    if (other === undefined) return path;
    throw new ProblemError({
      code: "share.collision",
      message: `Two folders would appear at ${path} and ${other}, one inside the other. The task was not made.`,
      next: ["Give one of them another guest path: --share DIR:mode=/guest/path."],
    });
  }
  for (let n = 1; ; n++) {
    const path = `${GUEST_HOME}/${n === 1 ? name : `${name}-${n}`}`;
    if (!taken.includes(path)) return path;
  }
}

function checkedGuestPath(asked: string): string {
  const refuse = (why: string) =>
    new ProblemError({
      code: "share.collision",
      message: `A folder cannot appear at ${JSON.stringify(asked)} in the guest: ${why}. The task was not made.`,
      next: [`Give a path such as ${GUEST_HOME}/work or /work.`],
    });
  const path = asked.replace(/\/+$/, "");
  if (!path.startsWith("/")) throw refuse("the path is not absolute");
  const parts = path.slice(1).split("/");
  if (parts.some((part) => part === "" || part === "." || part === "..")) throw refuse("it has an empty, `.` or `..` component");
  if (/\p{Cc}/u.test(path)) throw refuse("it has control characters");
  if (SYSTEM.includes(parts[0] ?? "")) throw refuse(`/${parts[0]} belongs to the guest's own system`);
  if (path === "/home" || path === GUEST_HOME) throw refuse("it would cover the user's home folder");
  return path;
}
