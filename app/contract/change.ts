/** What a task did to a folder, as clients see it: changes, their diffs, applies, versions. Mirrors the share server's protocol. */
import { z } from "zod";

const count = z.int().min(0);
const base64 = (max: number) =>
  z
    .string()
    .max(max)
    .regex(/^[A-Za-z0-9+/]*={0,2}$/);

/** Longest text of a path; a longer one is cut in its middle. */
const MAX_PATH_TEXT = 1024;

/** A path below a folder, without leading slash, as base64 of its bytes; empty is the folder itself. Paths are bytes. */
export const pathBytes = base64(5464);
/** A path below a folder: its bytes to ask with, and a text that is safe to show and names nothing. */
export const filePath = z.strictObject({ bytes: pathBytes, text: z.string().max(MAX_PATH_TEXT + 1) });
export type FilePath = z.infer<typeof filePath>;

/** A folder of a task: its id, or its name where no other folder of the task has it. */
export const folderRef = z.string().min(1).max(255);
export const folderId = z.string().regex(/^[0-9a-f]{8}$/);
/** An id, token, cursor or batch that the share server made. */
export const opaque = z.string().min(1).max(64);
/** A branch's name as base64 of its bytes. */
const branchBytes = base64(1024);

/** Bytes of a path or name for the screen: each control, direction or line character and each invalid byte is spelled as a picture. */
export function pathText(bytes: Uint8Array): string {
  const text = new TextDecoder("utf-8", { fatal: false, ignoreBOM: true }).decode(bytes).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (char) => {
    const code = char.codePointAt(0) ?? 0;
    if (code < 0x20) return String.fromCodePoint(0x2400 + code);
    return code === 0x7f ? "\u2421" : "\uFFFD";
  });
  if (text.length <= MAX_PATH_TEXT) return text;
  const half = MAX_PATH_TEXT / 2;
  return `${text.slice(0, half)}…${text.slice(-half)}`.replace(/[\uD800-\uDBFF]…/, "…").replace(/…[\uDC00-\uDFFF]/, "…");
}

export const changeView = z.lazy(() =>
  z.strictObject({
    id: opaque,
    path: filePath,
    /** where it was, for `moved` */
    from: filePath.optional(),
    kind: z.enum(["modified", "new", "deleted", "moved", "type-changed", "attributes"]),
    /** `repository`, `database` and `ignored` are groups: one line, applied together */
    type: z.enum(["file", "directory", "link", "repository", "database", "ignored"]),
    sizeBytes: count,
    binary: z.boolean(),
    executable: z.boolean(),
    /** a name that makes programs of the host run something; never applied by `all` */
    protected: z.boolean(),
    linkTarget: filePath.optional(),
    flags: z.array(z.enum(["escaping-link", "absolute-link", "quarantined", "path-too-long"])).max(4),
    /** why an apply would be refused now: the folder's file is not the one that the change was made from */
    conflict: z.enum(["changed", "gone", "exists", "type-changed"]).optional(),
    /** entries that this one line stands for */
    count: count.optional(),
    repository: z
      .strictObject({
        branches: z
          .array(
            z.strictObject({
              /** to ask with; `text` is safe to show */
              name: z.strictObject({ bytes: branchBytes, text: z.string().max(MAX_PATH_TEXT + 1) }),
              commits: count,
              behind: count.optional(),
              kind: z.enum(["moved", "new", "deleted", "rewritten"]),
            }),
          )
          .max(64),
        /** branches beyond those */
        more: count,
        /** what is never applied: hooks, config */
        refused: z.array(z.string().max(256)).max(32),
        /** why it cannot be read, or be applied but as a branch; safe to show */
        reason: z.string().max(1024).optional(),
      })
      .optional(),
    seq: count,
    /** over what layer and folder hold: an apply with this token applies what was shown, or nothing */
    token: opaque,
  }),
);
export type ChangeView = z.infer<typeof changeView>;

const chosenChange = () =>
  z.strictObject({
    id: opaque,
    token: opaque,
    /** indexes of the diff's hunks, for a text file */
    hunks: z.array(z.int().min(0).max(1_000_000)).min(1).max(5000).optional(),
    /** for a repository whose host side moved: the new branch to apply as */
    as: branchBytes.optional(),
  });
const chosenOf = <T extends z.ZodType>(change: T) =>
  z.union([
    z.strictObject({ all: z.literal(true), revision: count }),
    /** with a revision: what came after it is refused, though its token be of now */
    z.strictObject({ changes: z.array(change).min(1).max(500), revision: count.optional() }),
  ]);
/** What to discard. */
export const chosenChanges = z.lazy(() => chosenOf(chosenChange()));
export type ChosenChanges = z.infer<typeof chosenChanges>;
/**
 * What to apply. `all` leaves out what must be chosen one by one and tells each in `refused`; so does what was chosen by the name of a
 * directory above it (`below`).
 */
export const chosenToApply = z.lazy(() => chosenOf(chosenChange().extend({ below: z.literal(true).optional() })));
export type ChosenToApply = z.infer<typeof chosenToApply>;

export const refusedChange = z.lazy(() =>
  z.strictObject({
    id: opaque.optional(),
    path: filePath,
    /** one of the catalogue's, such as share.conflict */
    code: z.string().max(64),
    message: z.string().max(512),
  }),
);
export type RefusedChange = z.infer<typeof refusedChange>;

/** Every answer to long work. While `remaining` is above 0 the caller asks again with `batch`; one batch is one step of undo. */
export const workSlice = { batch: opaque, refused: z.array(refusedChange).max(500), remaining: count };

export const diffHunk = z.lazy(() => z.strictObject({ index: count, oldStart: count, oldLines: count, newStart: count, newLines: count }));
export type DiffHunk = z.infer<typeof diffHunk>;
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

export const diffSlice = z.lazy(() =>
  z.strictObject({
    kind: z.enum(["text", "binary", "link", "none", "too-large"]),
    token: opaque,
    /** part of the unified diff, from the asked offset */
    bytes: base64(349_528),
    next: count.optional(),
    totalBytes: count,
    /** with the first slice only */
    hunks: z.array(diffHunk).max(5000),
    summary: z.strictObject({ oldSizeBytes: count, newSizeBytes: count, oldSha256: sha256.optional(), newSha256: sha256.optional() }),
  }),
);
export type DiffSlice = z.infer<typeof diffSlice>;

export const applyView = z.lazy(() => z.strictObject({ apply: opaque, time: z.iso.datetime(), files: count, undone: z.boolean() }));
export type ApplyView = z.infer<typeof applyView>;

export const versionView = z.lazy(() =>
  z.strictObject({
    path: filePath,
    number: z.int().min(1),
    time: z.iso.datetime(),
    /** what happened to the file, which is why this version was kept */
    reason: z.enum(["overwritten", "replaced", "deleted", "applied", "undone", "restored"]),
    sizeBytes: count,
    mode: z.int().min(0).max(0o7777),
    modified: z.iso.datetime(),
    /** name of the task that did it; absent when that task is gone */
    task: z.string().max(48).optional(),
    /** false: only the bytes that were overwritten are kept */
    whole: z.boolean(),
  }),
);
export type VersionView = z.infer<typeof versionView>;

/** One thing the guest did or was refused, coalesced per open and close. */
export const fileActivity = z.lazy(() =>
  z.strictObject({
    what: z.enum(["opened-for-write", "created", "deleted", "renamed", "refused", "metadata"]),
    path: filePath,
    to: filePath.optional(),
    count,
    bytes: count.optional(),
    reason: z.string().max(256).optional(),
  }),
);
export type FileActivity = z.infer<typeof fileActivity>;

/** A write that waits for room for the version of what it would destroy. */
export const roomQuestion = z.strictObject({ neededBytes: count, limitBytes: count, usedBytes: count, path: filePath });
export type RoomQuestion = z.infer<typeof roomQuestion>;

/** Writes of the task failed for want of room, the last one at `path`: for versions of what they would destroy, or for its own changes. */
export const roomRefusal = roomQuestion.extend({
  what: z.enum(["versions", "changes"]),
  /** by the user, within ten minutes; or the disk, its number of files, or the number and length of names that a layer holds */
  why: z.enum(["refused", "unanswered", "disk", "files", "names"]),
  /** since the last time it was told */
  count: z.int().min(1),
});
export type RoomRefusal = z.infer<typeof roomRefusal>;
