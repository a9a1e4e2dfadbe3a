/** Where a folder lies: its ancestors by identity, and the filesystem that holds it. Nothing in the folder is read. */
import { readFileSync } from "node:fs";
import { stat } from "node:fs/promises";
import type { FolderNote } from "../../contract/index.ts";

/** A directory as the system knows it, under whatever path it is reached. */
export type PlaceId = `${bigint}:${bigint}`;

/** undefined when it is not there or cannot be looked at. */
export async function placeId(path: Buffer | string): Promise<PlaceId | undefined> {
  try {
    const { dev, ino } = await stat(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}

/** The paths from `path` up to the root, both included. */
export function upwards(path: Buffer): Buffer[] {
  const paths = [path];
  for (let end = path.lastIndexOf(0x2f); end > 0; end = path.lastIndexOf(0x2f, end - 1)) paths.push(path.subarray(0, end));
  if (path.length > 1) paths.push(Buffer.from("/"));
  return paths;
}

/** Identities of a resolved path, which comes first, and of everything above it. Empty when it is not there. */
export async function ancestry(path: Buffer): Promise<readonly PlaceId[]> {
  const [own, ...above] = await Promise.all(upwards(path).map(placeId));
  return own === undefined ? [] : [own, ...above.filter((id) => id !== undefined)];
}

export interface Mount {
  readonly point: Buffer;
  /** the mounted part of the filesystem; `/` is the whole of it */
  readonly root: string;
  readonly type: string;
}

/** The lines of /proc/self/mountinfo (proc_pid_mountinfo(5)); paths are bytes with some escaped in octal. */
export function parseMounts(mountinfo: Buffer): Mount[] {
  const literal = (field: string) => field.replace(/\\([0-7]{3})/g, (_, digits) => String.fromCharCode(Number.parseInt(digits, 8)));
  return mountinfo
    .toString("latin1")
    .split("\n")
    .flatMap((line) => {
      const [head = "", tail = ""] = line.split(" - ");
      const [, , , root, point] = head.split(" ");
      const type = tail.split(" ")[0];
      return root && point && type ? [{ point: Buffer.from(literal(point), "latin1"), root: literal(root), type }] : [];
    });
}

/** Empty where the system tells none. */
export function readMounts(): Mount[] {
  try {
    return parseMounts(readFileSync("/proc/self/mountinfo"));
  } catch {
    return [];
  }
}

/** The mount that a resolved path lies in: the deepest, and of several at one point the last, which covers the others. */
export function mountOf(path: Buffer, mounts: readonly Mount[]): Mount | undefined {
  let found: Mount | undefined;
  for (const mount of mounts) {
    const { point } = mount;
    const whole = point.length === 1 || path.equals(point);
    const covers = whole || (path.subarray(0, point.length).equals(point) && path[point.length] === 0x2f);
    if (covers && (found === undefined || point.length >= found.point.length)) found = mount;
  }
  return found;
}

const NETWORK = new Set(["nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "afs", "coda", "ncpfs", "gfs2", "ocfs2", "lustre"]);
const NETWORK_FUSE = /^fuse\.(sshfs|glusterfs|smbnetfs|curlftpfs|s3fs|goofys|moosefs|juicefs|cephfs|ceph-fuse)$/;
/** files there may be names whose content is fetched when they are opened */
const CLOUD_FUSE =
  /^fuse\.(rclone|onedriver|gvfsd-fuse|google-drive-ocamlfuse|gcsfuse|blobfuse2?|davfs2?|pcloud|insync|dropbox|icloud.*|seadrive|nextcloud.*|mega.*|portal)$/i;

export const isRemote = ({ type }: Pick<Mount, "type">) => NETWORK.has(type) || type === "fuse" || type.startsWith("fuse.");

/** What its user should know of the place before giving it away. */
export function placeNotes(mount: Pick<Mount, "type"> | undefined, seen: { readOnly: boolean; born: boolean }): FolderNote[] {
  const notes: FolderNote[] = [];
  const type = mount?.type ?? "";
  if (NETWORK.has(type) || NETWORK_FUSE.test(type)) {
    notes.push({ kind: "network", text: `It lies on another computer (${type}): the task waits when that one does not answer.` });
  } else if (CLOUD_FUSE.test(type)) {
    notes.push({
      kind: "cloud",
      text: `It lies in a cloud drive (${type}): files that are not on this computer are fetched when the task opens them, or fail to open.`,
    });
  } else if (type === "fuse" || type.startsWith("fuse.")) {
    notes.push({ kind: "user-filesystem", text: `A program on this computer serves it (${type}): the task waits when that program does.` });
  }
  if (seen.readOnly) notes.push({ kind: "read-only", text: "Its filesystem is read only, so nothing can be changed or applied in it." });
  if (!seen.born) {
    notes.push({
      kind: "no-birth-time",
      text: "Its filesystem keeps no birth times, so a folder put in its place is told from it by its number only.",
    });
  }
  return notes;
}
