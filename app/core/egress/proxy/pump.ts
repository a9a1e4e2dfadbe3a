/** Moves a body from one side to the other, no faster than the other takes it. */
import type { Readable, Writable } from "node:stream";

export interface PumpOptions {
  /** told of the bytes that came, and of those that go on */
  readonly count: (bytes: number) => void;
  /** what goes on in place of a chunk; throws to break off */
  readonly change?: { push(chunk: Buffer): Buffer; end(): Buffer };
}

/** Resolves when `from` has ended and all of it was written; `to` is left open. Rejects when either side breaks. */
export function pump(from: Readable, to: Writable, { count, change }: PumpOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const finish = (error?: Error) => {
      from.off("data", onData).off("end", onEnd).off("error", finish).off("close", onClose).off("aborted", onClose);
      to.off("drain", onDrain).off("error", finish).off("close", onOtherClose);
      if (error) {
        from.pause();
        reject(error);
      } else resolve();
    };
    const onData = (chunk: Buffer) => {
      let out = chunk;
      try {
        count(chunk.length);
        if (change) out = change.push(chunk);
      } catch (error) {
        return finish(error as Error);
      }
      if (out.length > 0 && !to.write(out)) from.pause();
    };
    const onDrain = () => from.resume();
    const onEnd = () => {
      try {
        const rest = change?.end();
        if (rest && rest.length > 0) to.write(rest);
        finish();
      } catch (error) {
        finish(error as Error);
      }
    };
    const onClose = () => finish(Object.assign(new Error("it was broken off"), { code: "ECONNRESET" }));
    const onOtherClose = () => finish(Object.assign(new Error("the other side closed"), { code: "EPIPE" }));
    to.on("drain", onDrain).on("error", finish).on("close", onOtherClose);
    from.on("data", onData).on("end", onEnd).on("error", finish).on("close", onClose).on("aborted", onClose);
    if (to.destroyed) onOtherClose();
    else if (from.destroyed && !from.readableEnded) onClose();
    else from.resume();
  });
}
