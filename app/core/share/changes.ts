/** A folder's changes and versions as clients see them, asked of its share server. */
import type { z } from "zod";
import type { ShareChange, share } from "../../../helpers/contract/protocol.ts";
import {
  type ChangeView,
  type FileActivity,
  type FilePath,
  type Params,
  pathText,
  type RefusedChange,
  type Result,
} from "../../contract/index.ts";
import type { Folder } from "./folder.ts";
import type { Activity } from "./server.ts";

type Answer<M extends keyof (typeof share)["requests"]> = z.output<(typeof share)["requests"][M]["result"]>;
/** A request of a client's without what said whose folder it is about. */
type About<M extends "changes.diff" | "changes.apply" | "changes.discard" | "changes.undo" | "files.history" | "files.restore"> =
  Params<M> extends infer P ? (P extends unknown ? Omit<P, "task" | "folder"> : never) : never;

/** A path's bytes as the protocol has them, with a text that is safe to show. */
export const fileOf = (bytes: string): FilePath => ({ bytes, text: pathText(Buffer.from(bytes, "base64")) });

export class Changes {
  /** A path as a name in a short list. */
  static shortName(path: string): string {
    const { text } = fileOf(path);
    return text.length <= 256 ? text : `…${text.slice(-255)}`;
  }

  readonly #folder: Folder;
  /** the name of a task by its id, for who wrote a version */
  readonly #taskName: (id: string) => string | undefined;

  constructor(folder: Folder, taskName: (id: string) => string | undefined) {
    this.#folder = folder;
    this.#taskName = taskName;
  }

  async list(after: string | undefined, limit: number): Promise<Result<"changes.list">["folders"][number]> {
    const { id, name } = this.#folder.spec;
    const page = await this.#folder.use((server) => server.ask("changes", { limit, ...(after === undefined ? {} : { after }) }));
    const { revision, total, next } = page;
    return { folder: id, name, revision, total, changes: page.changes.map(changeOf), ...(next === undefined ? {} : { next }) };
  }

  diff(wanted: About<"changes.diff">): Promise<Result<"changes.diff">> {
    return this.#folder.use((server) => server.ask("diff", wanted));
  }

  async apply(wanted: About<"changes.apply">): Promise<Result<"changes.apply">> {
    const done = await this.#folder.use((server) => server.ask("apply", wanted));
    return { ...sliceOf(done), applied: done.applied };
  }

  async discard(wanted: About<"changes.discard">): Promise<Result<"changes.discard">> {
    const done = await this.#folder.use((server) => server.ask("discard", wanted));
    return { ...sliceOf(done), discarded: done.discarded };
  }

  async applies(): Promise<Result<"changes.applies">> {
    const { applies, more } = await this.#folder.use((server) => server.ask("applies", {}));
    return { applies: applies.map(({ timeMs, ...apply }) => ({ ...apply, time: moment(timeMs) })), more };
  }

  async undo(wanted: About<"changes.undo">): Promise<Result<"changes.undo">> {
    const done = await this.#folder.use((server) => server.ask("undo", wanted));
    return { ...sliceOf(done), apply: done.apply, restored: done.restored };
  }

  async history(wanted: About<"files.history">): Promise<Result<"files.history">> {
    const { versions, next } = await this.#folder.use((server) => server.ask("history", wanted));
    return {
      path: fileOf(wanted.path),
      versions: versions.map(({ path, timeMs, mtimeNs, writer, ...version }) => {
        const task = this.#taskName(writer.slice(0, 16));
        const modified = moment(Number(BigInt(mtimeNs) / 1_000_000n));
        return { ...version, path: fileOf(path), time: moment(timeMs), modified, ...(task === undefined ? {} : { task }) };
      }),
      ...(next === undefined ? {} : { next }),
    };
  }

  async restore(wanted: About<"files.restore">): Promise<Result<"files.restore">> {
    const done = await this.#folder.use((server) => server.ask("restore", wanted));
    return { ...sliceOf(done), restored: done.restored, ...(done.number === undefined ? {} : { number: done.number }) };
  }
}

/** A file's time may be any number; those that no date can hold are shown as the nearest one. */
const moment = (ms: number) => new Date(Math.min(Math.max(ms, 0), 253_402_300_799_999)).toISOString();

function sliceOf({ batch, refused, remaining }: Pick<Answer<"apply">, "batch" | "refused" | "remaining">) {
  return { batch, remaining, refused: refused.map((one): RefusedChange => ({ ...one, path: fileOf(one.path) })) };
}

/** Texts besides paths that may hold a guest's words are made safe to show here, once for all clients. */
function changeOf({ path, from, linkTarget, repository, ...change }: ShareChange): ChangeView {
  return {
    ...change,
    path: fileOf(path),
    ...(from === undefined ? {} : { from: fileOf(from) }),
    ...(linkTarget === undefined ? {} : { linkTarget: fileOf(linkTarget) }),
    ...(repository === undefined
      ? {}
      : {
          repository: {
            ...repository,
            branches: repository.branches.map((branch) => ({ ...branch, name: fileOf(branch.name) })),
            refused: repository.refused.map((text) => pathText(Buffer.from(text))),
            ...(repository.reason === undefined ? {} : { reason: pathText(Buffer.from(repository.reason)) }),
          },
        }),
  };
}

/** Bytes of paths that one event carries at most: an event is one line of a log, and a page of events one line of the contract. */
const EVENT_PATH_BYTES = 24_576;

/** What a share server saw, cut into events. None of it is dropped: what does not fit goes into the next. */
export function* activityEvents(entries: Activity): Generator<{ kind: "files.activity" | "files.refused"; entries: FileActivity[] }> {
  for (const kind of ["files.activity", "files.refused"] as const) {
    let part: FileActivity[] = [];
    let bytes = 0;
    for (const { path, to, reason, ...entry } of entries) {
      if ((entry.what === "refused") !== (kind === "files.refused")) continue;
      const size = path.length + (to?.length ?? 0) + 256;
      if (part.length > 0 && bytes + size > EVENT_PATH_BYTES) {
        yield { kind, entries: part };
        part = [];
        bytes = 0;
      }
      bytes += size;
      part.push({
        ...entry,
        path: fileOf(path),
        ...(to === undefined ? {} : { to: fileOf(to) }),
        ...(reason === undefined ? {} : { reason: pathText(Buffer.from(reason)) }),
      });
    }
    if (part.length > 0) yield { kind, entries: part };
  }
}
