/** Paths in a task's folders as a person types them: `FOLDER/path`, or the path alone where only one folder can be meant. */
import type { FilePath, ShareView } from "../contract/index.ts";
import { usage } from "./args.ts";

type Named = Pick<ShareView, "id" | "name">;

/** Where a typed path may point: in each folder whose name it begins with, and in each folder as it stands. */
export function places(folders: readonly Named[], typed: Buffer): { folder: string; path: Buffer }[] {
  const path = trimmed(typed);
  const found: { folder: string; path: Buffer }[] = [];
  for (const { id, name } of folders) {
    const prefix = Buffer.from(`${name}/`);
    if (path.equals(Buffer.from(name))) found.push({ folder: id, path: Buffer.alloc(0) });
    else if (path.subarray(0, prefix.length).equals(prefix)) found.push({ folder: id, path: path.subarray(prefix.length) });
    found.push({ folder: id, path });
  }
  return found;
}

/** The one place that a typed path means without anything to compare it with. */
export function onePlace(folders: readonly Named[], typed: Buffer): { folder: string; path: Buffer } {
  const all = places(folders, typed);
  const named = all.filter(({ path }) => path.length < trimmed(typed).length);
  if (named.length === 1 && named[0]) return named[0];
  if (named.length === 0 && folders.length === 1 && all[0]) return all[0];
  throw usage(
    `It is not clear in which folder ${JSON.stringify(typed.toString())} lies.`,
    "Write the folder's name before it: FOLDER/path.",
  );
}

/** Whether a path is the place or lies below it. */
export function covers(place: Buffer, path: FilePath): boolean {
  const bytes = Buffer.from(path.bytes, "base64");
  if (place.length === 0 || place.equals(bytes)) return true;
  return bytes.length > place.length && bytes[place.length] === 0x2f && bytes.subarray(0, place.length).equals(place);
}

/** Without `./` before and slashes after it. */
function trimmed(typed: Buffer): Buffer {
  let from = 0;
  let to = typed.length;
  while (typed[from] === 0x2e && typed[from + 1] === 0x2f) from += 2;
  while (to > from && typed[to - 1] === 0x2f) to--;
  const path = typed.subarray(from, to);
  return path.length === 1 && path[0] === 0x2e ? Buffer.alloc(0) : path;
}
