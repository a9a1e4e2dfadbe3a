/**
 * `cloche cp`: files and folders into and out of a task, over sftp. The guest's sftp server is hostile: a name that it gives may be
 * anything, so only plain names are made on the host, below the place that was asked for, and no link of the guest's is followed. Others
 * may change the place meanwhile, a task that has it in `rw` among them: once it is found, nothing is reached but what lies in it.
 */
import { randomBytes } from "node:crypto";
import { type FileHandle, lstat } from "node:fs/promises";
import { basename, dirname } from "node:path";
import type { SFTPWrapper, Stats } from "ssh2";
import { ProblemError } from "../../contract/index.ts";
import { parse, usage } from "../args.ts";
import { connectGuest } from "../guest-ssh.ts";
import { HeldFolder } from "../held-folder.ts";
import { note, type Session } from "../session.ts";

const CHUNK_BYTES = 32_768;
const GUEST_HOME = "/home/you";
/** folders deeper than that are not copied out: a guest can make them without end */
const MAX_DEPTH = 64;
const MAX_ENTRIES = 1_000_000;

type Place = { readonly task: string; readonly path: string } | { readonly task?: undefined; readonly path: string };

export async function cp(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, {});
  const [from, to, ...rest] = parsed.words;
  if (from === undefined || to === undefined || rest.length > 0)
    throw usage("`cloche cp` takes two places: cloche cp SRC TASK:PATH, or TASK:PATH DEST.");
  const source = place(from);
  const target = place(to);
  if ((source.task === undefined) === (target.task === undefined))
    throw usage("One place of `cloche cp` is in a task, written TASK:PATH; the other is here.");
  const task = source.task ?? target.task ?? "";
  const guest = await openSftp(session, task);
  let copied: Counts;
  try {
    copied =
      source.task === undefined ? await copyIn(guest.sftp, source.path, target.path) : await copyOut(guest.sftp, source.path, target.path);
  } finally {
    guest.end();
  }
  note(
    `cloche: ${copied.files} file${copied.files === 1 ? "" : "s"}, ${copied.bytes} bytes copied${copied.skipped > 0 ? `; ${copied.skipped} skipped (links and special files)` : ""}.`,
  );
  return 0;
}

/** `TASK:PATH`, unless a path separator comes before the colon: that is a path here. */
function place(text: string): Place {
  const colon = text.indexOf(":");
  if (colon <= 0 || text.slice(0, colon).includes("/")) return { path: text };
  const path = text.slice(colon + 1);
  return { task: text.slice(0, colon), path: path.startsWith("/") ? path : `${GUEST_HOME}/${path.replace(/^~\//, "")}` };
}

interface Counts {
  files: number;
  bytes: number;
  skipped: number;
}

const failed = (what: string, error: unknown, next: string) =>
  new ProblemError({ code: "copy.failed", message: what, evidence: error instanceof Error ? error.message : String(error), next: [next] });

async function openSftp(session: Session, task: string): Promise<{ sftp: SFTPWrapper; end: () => void }> {
  const client = await connectGuest(session, task, "copy");
  try {
    const sftp = await new Promise<SFTPWrapper>((resolve, reject) =>
      client.sftp((error, opened) => (error ? reject(error) : resolve(opened))),
    );
    return { sftp, end: () => client.destroy() };
  } catch (error) {
    client.destroy();
    throw failed("The guest's file service did not answer, so nothing was copied.", error, "Look at `cloche logs TASK --console`.");
  }
}

// ssh2's calls as promises; each rejects with the server's status

const stat = (sftp: SFTPWrapper, path: string) =>
  new Promise<Stats>((resolve, reject) => sftp.lstat(path, (error, found) => (error ? reject(error) : resolve(found))));

async function guestKind(sftp: SFTPWrapper, path: string): Promise<"folder" | "file" | "other" | "missing"> {
  try {
    const found = await stat(sftp, path);
    return found.isDirectory() ? "folder" : found.isFile() ? "file" : "other";
  } catch {
    return "missing";
  }
}

async function copyIn(sftp: SFTPWrapper, from: string, to: string): Promise<Counts> {
  const counts: Counts = { files: 0, bytes: 0, skipped: 0 };
  const target = (await guestKind(sftp, to)) === "folder" ? `${to.replace(/\/+$/, "")}/${basename(from)}` : to;
  const one = async (folder: HeldFolder, name: string, path: string): Promise<void> => {
    const found = await folder.look(name);
    if (found.isDirectory()) {
      if ((await guestKind(sftp, path)) !== "folder") {
        await new Promise<void>((resolve, reject) =>
          sftp.mkdir(path, { mode: found.mode & 0o777 }, (error) => (error ? reject(error) : resolve())),
        );
      }
      await using inner = await folder.folder(name, "there");
      for (const entry of await inner.names()) await one(inner, entry, `${path}/${entry}`);
    } else if (found.isFile()) {
      const { handle, path: source } = await folder.file(name);
      try {
        await new Promise<void>((resolve, reject) =>
          sftp.fastPut(source, path, { mode: found.mode & 0o777 }, (error) => (error ? reject(error) : resolve())),
        );
        counts.bytes += (await handle.stat()).size;
      } finally {
        await handle.close();
      }
      counts.files++;
    } else counts.skipped++;
  };
  try {
    // with a slash at its end a link is what it leads to
    const [place, name] = from.endsWith("/") ? [from, "."] : [dirname(from), basename(from)];
    await using above = await HeldFolder.open(place, "or link");
    await one(above, name, target);
  } catch (error) {
    throw failed(
      `${JSON.stringify(from)} was not copied whole into the task.`,
      error,
      "Check both paths; what was copied so far is there.",
    );
  }
  return counts;
}

async function copyOut(sftp: SFTPWrapper, from: string, to: string): Promise<Counts> {
  const counts: Counts = { files: 0, bytes: 0, skipped: 0 };
  let entries = 0;
  const existing = await lstat(to).catch(() => undefined);
  // it would be replaced by what comes, and what it leads to may have been chosen by a task that can write here
  if (existing?.isSymbolicLink()) {
    throw failed(`${JSON.stringify(to)} is a link, so nothing was copied.`, "a link", "Give the place that it leads to.");
  }
  const one = async (source: string, folder: HeldFolder, name: string, depth: number): Promise<void> => {
    if (++entries > MAX_ENTRIES || depth > MAX_DEPTH) throw new Error("the folder is too large or too deep");
    const found = await stat(sftp, source);
    if (found.isDirectory()) {
      await using inner = await folder.folder(name, "made");
      for (const entry of await guestNames(sftp, source)) await one(`${source}/${entry}`, inner, entry, depth + 1);
    } else if (found.isFile()) {
      counts.bytes += await receive(sftp, source, folder, name, found.mode & 0o777);
      counts.files++;
    } else counts.skipped++;
  };
  try {
    const into = existing?.isDirectory() ?? false;
    await using folder = into ? await HeldFolder.open(to, "no link") : await HeldFolder.open(dirname(to), "or link");
    await one(from, folder, basename(into ? from : to), 0);
  } catch (error) {
    throw failed(
      `${JSON.stringify(from)} was not copied whole out of the task.`,
      error,
      "Check both paths; what was copied so far is there.",
    );
  }
  return counts;
}

/** The names in a folder of the guest's; one that is no plain name ends the copy. */
async function guestNames(sftp: SFTPWrapper, path: string): Promise<string[]> {
  const list = await new Promise<{ filename: string }[]>((resolve, reject) =>
    sftp.readdir(path, (error, found) => (error ? reject(error) : resolve(found))),
  );
  const names = list.map((entry) => entry.filename).filter((name) => name !== "." && name !== "..");
  const bad = names.find((name) => name === "" || /[/\\\0]/.test(name));
  if (bad !== undefined) throw new Error(`the guest gave a name that is none: ${JSON.stringify(bad)}`);
  return names;
}

/** Receives beside the target and renames: a copy that breaks leaves what was there. A link at the target is replaced, not followed. */
async function receive(sftp: SFTPWrapper, source: string, folder: HeldFolder, name: string, mode: number): Promise<number> {
  const partial = `.cloche-${randomBytes(8).toString("hex")}`; // a name that nobody else's file has
  let file: FileHandle | undefined;
  let made = false;
  let bytes = 0;
  try {
    file = await folder.create(partial, mode & 0o755);
    made = true;
    const stream = sftp.createReadStream(source, { highWaterMark: CHUNK_BYTES });
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      await file.writeFile(chunk); // goes on from where it is, and writes all of it
      bytes += chunk.length;
    }
    await file.sync();
    await file.close();
    file = undefined;
    await folder.rename(partial, name);
    return bytes;
  } catch (error) {
    await file?.close();
    if (made) await folder.remove(partial);
    throw error;
  }
}
