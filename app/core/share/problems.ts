/** What a share server answered, and what is refused about folders before one is asked, in the user's words. */
import { errorData } from "../../../helpers/contract/protocol.ts";
import { type Problem, type ProblemCode, ProblemError, type RoomRefusal, RpcError, type ShareMode } from "../../contract/index.ts";

type Words = { code: ProblemCode; says: (name: string) => string; next: string };

/** By the share server's code. `name` is the folder's, quoted. What each says holds for serving and for working on changes alike. */
const WORDS: Readonly<Record<string, Words>> = {
  "share.not-found": {
    code: "share.not-found",
    says: (name) => `The folder ${name} is not there any more, so it was not shared.`,
    next: "Put it back where it was, or make a new task with a folder that is there.",
  },
  "share.not-a-folder": {
    code: "share.not-a-folder",
    says: (name) => `${name} is not a folder, so it was not shared. Files and links are not shared by themselves.`,
    next: "Give the folder itself, not a link to it.",
  },
  "share.unreadable": {
    code: "share.unreadable",
    says: (name) => `The folder ${name} cannot be opened with your rights, so it was not shared.`,
    next: "Look at the folder's permissions with `ls -ld`.",
  },
  "share.identity": {
    code: "share.moved",
    says: (name) => `The folder ${name} is not the one you picked: it was moved or replaced since. It was not shared.`,
    next: "Move it back, or make a new task with the folder that is there now.",
  },
  "share.change-unknown": {
    code: "share.change-unknown",
    says: (name) => `A change in ${name} is not there any more. Nothing was done.`,
    next: "Look at the changes again with `cloche changes TASK`.",
  },
  "share.change-moved-on": {
    code: "share.change-moved-on",
    says: (name) => `A change in ${name} is not the one that was shown: the task or you went on since. Nothing was done.`,
    next: "Look at the changes again with `cloche changes TASK`.",
  },
  "share.conflict": {
    code: "share.conflict",
    says: (name) => `A file in ${name} is not the one that the change was made from. It is as it was.`,
    next: "Look at both sides with `cloche diff TASK PATH`.",
  },
  "share.protected": {
    code: "share.protected",
    says: (name) => `A change in ${name} makes programs of this computer run something, so it is applied only by itself.`,
    next: "Look at it with `cloche diff TASK PATH`, then apply that path alone.",
  },
  "share.link-escapes": {
    code: "share.link-escapes",
    says: (name) => `A link in ${name} leads out of the folder, so it was not applied.`,
    next: "Look at where it leads with `cloche diff TASK PATH`.",
  },
  "share.ignored": {
    code: "share.ignored",
    says: (name) => `A change in ${name} is of files that git ignores, so it is applied only by itself.`,
    next: "Apply that path alone if you want it.",
  },
  "share.not-appliable": {
    code: "share.not-appliable",
    says: (name) => `A change in ${name} cannot be written to the folder, or not in parts. Nothing was done.`,
    next: "Look at it with `cloche diff TASK PATH`; copy it out with `cloche cp` if you need it.",
  },
  "share.not-undoable": {
    code: "share.not-undoable",
    says: (name) => `There is no apply in ${name} that could be taken back.`,
    next: "See the versions of a file with `cloche history TASK FILE`.",
  },
  "share.version-unknown": {
    code: "share.version-unknown",
    says: (name) => `That version of a file in ${name} is not kept. Nothing was done.`,
    next: "See the versions that are kept with `cloche history TASK FILE`.",
  },
  "share.busy": {
    code: "share.busy",
    says: (name) =>
      `Something else is at work in ${name}: another task's changes are being applied there, or what served it before still waits for a filesystem that does not answer. Nothing was done.`,
    next: "Try again in a moment. If it stays so, see whether the folder's files can be read: a network or cloud drive may have lost its connection.",
  },
  "share.layer": {
    code: "share.layer",
    says: (name) => `What the task changed in ${name} cannot be read whole. It was left as it is, and your folder too.`,
    next: "Keep the task's folder below Cloche's data as it is and report the evidence.",
  },
  "share.store": {
    code: "share.store",
    says: (name) => `The versions kept for ${name} cannot be read whole. They were left as they are, and your folder too.`,
    next: "Keep Cloche's data as it is and report the evidence.",
  },
  "share.no-room": {
    code: "share.no-room",
    says: (name) => `There is no room for what would be written to ${name}, or for versions of what it replaces, so it was not done.`,
    next: "Make room on the folder's disk and on that of Cloche's data (`cloche doctor` names it), then try again.",
  },
};

/** Why a task's write failed for want of room: which one, why, what still holds and what to do. */
export function roomProblem(
  task: string,
  { name: folder, mode }: { name: string; mode: ShareMode },
  { what, why, path, count, ...sizes }: RoomRefusal,
): Problem {
  const { neededBytes, limitBytes, usedBytes } = sizes;
  const more = count > 1 ? ` (and ${count - 1} more just before)` : "";
  const place = `A write to ${path.text} in the folder ${JSON.stringify(folder)}${more} failed in the task`;
  const where = `${task} ${folder}`;
  if (what === "versions") {
    const who = why === "refused" ? "more room for it was refused" : "nobody answered for a minute when more room for it was asked for";
    return {
      code: "share.no-room",
      message: `${place}: the version of what it would have destroyed had no room, and ${who}. The file is as it was. Writes that need room fail for ten minutes after that.`,
      evidence: `${usedBytes} bytes of versions are kept, at most ${limitBytes}, ${neededBytes} more were needed`,
      next: [
        `Allow more room with \`cloche folder room ${where} allow\`, or say how much: \`cloche folder set ${where} --versions 10g\`.`,
        "Or make room on the disk that holds Cloche's data, and let the task write again.",
      ],
    };
  }
  const evidence = `${why}: ${usedBytes} of ${limitBytes} are used, ${neededBytes} more were needed`;
  if (mode === "rw" && why !== "names") {
    // nearly all of what it writes is on the folder's disk; what the folder's layer keeps back is on that with Cloche's data
    const lacks = why === "files" ? "has hardly room for another file" : "is nearly full";
    return {
      code: "share.changes-full",
      message: `${place}: the disk that the folder is on, or the one that holds Cloche's data, ${lacks}, and a task leaves the rest to you. What was written before is whole.`,
      evidence,
      next: ["Make room on that disk (`df` tells of the folder's, `cloche doctor` of the other), and let the task write again."],
    };
  }
  const full = {
    names: "it has as many changed names, paths and attributes in this folder as a task may have",
    files: "the disk that holds Cloche's data has hardly room for another file",
  }[why as string];
  return {
    code: "share.changes-full",
    message: `${place}: ${full ?? "the disk that holds Cloche's data is nearly full"}. What it changed before waits as it was, and your folder too.`,
    evidence,
    next: [
      `Apply or discard what waits (\`cloche changes ${task}\`), which makes room.`,
      ...(why === "names" ? [] : ["Or make room on that disk (`cloche doctor` names it)."]),
    ],
  };
}

/** Why a task's writes wait: what it did cannot be written down. */
export const activityWaits = (): Problem => ({
  code: "disk.full",
  message:
    "The disk that holds Cloche's data is nearly full, so that what the task does in this folder cannot be written down: its writes wait until there is room.",
  next: ["Make room on that disk (`cloche doctor` names it); the task then goes on by itself."],
});

export const nothingAsked = (folder: string, task: string) =>
  new ProblemError({
    code: "task.state",
    message: `No write in the folder ${JSON.stringify(folder)} waits for room, and none was refused it. Nothing was changed.`,
    next: [`Say what its versions may take with \`cloche folder set ${task} ${folder} --versions 10g\`.`],
  });

/** What a call of a share server threw, as the user is told. */
export function shareProblem(error: unknown, name: string): ProblemError {
  if (error instanceof ProblemError) return error;
  const data = error instanceof RpcError ? errorData.safeParse(error.data).data : undefined;
  const evidence = [error instanceof Error ? error.message : String(error), data?.evidence].filter(Boolean).join("\n").slice(0, 16_384);
  const words = data && Object.hasOwn(WORDS, data.code) ? WORDS[data.code] : undefined;
  return new ProblemError({
    code: words?.code ?? "share.server",
    message:
      words?.says(JSON.stringify(name)) ??
      `The share server of the folder ${JSON.stringify(name)} failed, so what was asked for was not done.`,
    evidence,
    next: [words?.next ?? "Look at the task's host.log, then try again."],
  });
}

/** A share server is gone before it answered: what it was at is done in part, and whole file by file. */
export const endedMeanwhile = (error: Error, name: string) =>
  new ProblemError({
    code: "share.server",
    message: `The share server of the folder ${JSON.stringify(name)} ended before it had answered. What it was to do may be done in part; each file is whole, as it was before or as it was to be.`,
    evidence: error.message.slice(0, 16_384),
    next: ["See what still waits with `cloche changes TASK`, then ask for it again.", "Look at the task's host.log."],
  });

export const folderUnknown = (task: string, ref: string) =>
  new ProblemError({
    code: "share.unknown",
    message: `The task ${task} has no folder named ${JSON.stringify(ref)}.`,
    next: [`Run \`cloche folder ls ${task}\` to see its folders.`],
  });

export const changesWait = (task: string, waiting: readonly string[]) =>
  new ProblemError({
    code: "task.changes-waiting",
    message: `The task ${task} has changes that were neither applied nor discarded (${waiting.join(", ")}), so they were not removed.`,
    next: [
      `Look at them with \`cloche changes ${task}\`, then \`cloche apply ${task}\` or \`cloche discard ${task}\`.`,
      "To lose them, add --discard.",
    ],
  });

export const turnedIntoLink = (name: string) =>
  new ProblemError({
    code: "share.moved",
    message: `The folder ${JSON.stringify(name)} is not where you picked it: it or a folder above it is a link now. It was not shared.`,
    next: ["Put the folder itself back, or pick the place where it is now."],
  });

export const sensitiveFolder = (name: string, why: string, path: Buffer) =>
  new ProblemError({
    code: "share.sensitive",
    message: `The folder ${JSON.stringify(name)} is never given to a task: ${why}.`,
    evidence: path.toString("utf8"),
    next: ["Make a folder for the task and give that one."],
  });

export const overlap = (name: string, other: string) =>
  new ProblemError({
    code: "share.overlap",
    message: `The folders ${JSON.stringify(name)} and ${JSON.stringify(other)} lie one in the other and have different modes, so what holds for the inner one would be unclear. Nothing was shared.`,
    next: ["Give only one of them, or both with one mode."],
  });

export const givenTwice = (name: string) =>
  new ProblemError({
    code: "share.overlap",
    message: `The folder ${JSON.stringify(name)} is given twice with different modes, so what holds for it would be unclear. Nothing was shared.`,
    next: ["Give it once."],
  });
