/** Moves bytes from one side to the other, no faster than the other takes them. */
import { type Duplex, finished, type Readable, type Writable } from "node:stream";

export interface PumpOptions {
  /** told of the bytes that came, and of those that go on */
  readonly count: (bytes: number) => void;
  /** what goes on in place of a chunk; throws to break off */
  readonly change?: { push(chunk: Buffer): Buffer; end(): Buffer };
  /** stops it where it is */
  readonly signal?: AbortSignal;
}

/** Resolves when `from` has ended and all of it was written; `to` is left open. Rejects when either side breaks. */
export function pump(from: Readable, to: Writable, { count, change, signal }: PumpOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const finish = (error?: Error) => {
      from.off("data", onData).off("end", onEnd).off("error", finish).off("close", onClose).off("aborted", onClose);
      to.off("drain", onDrain).off("error", finish).off("close", onOtherClose);
      signal?.removeEventListener("abort", onStop);
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
    const onStop = () => finish(new Error("stopped"));
    const onOtherClose = () => finish(Object.assign(new Error("the other side closed"), { code: "EPIPE" }));
    signal?.addEventListener("abort", onStop, { once: true });
    to.on("drain", onDrain).on("error", finish).on("close", onOtherClose);
    from.on("data", onData).on("end", onEnd).on("error", finish).on("close", onClose).on("aborted", onClose);
    if (to.destroyed) onOtherClose();
    else if (from.readableEnded)
      onEnd(); // a stream of HTTP/2 without a byte ends while nobody reads it
    else if (from.destroyed) onClose();
    else from.resume();
  });
}

/** How long the one direction of a tunnel may go on after the other has ended: no protocol on a guest's stream relies on half-closing. */
const LAST_BYTES_MS = 5_000;

/** Joins two connections until either ends. Resolves when both are over; never rejects. */
export async function tunnel(guest: Duplex, origin: Duplex, up: PumpOptions, down: PumpOptions): Promise<void> {
  const sent = pump(guest, origin, up).then(() => origin.end());
  const received = pump(origin, guest, down).then(() => guest.end());
  await Promise.race([sent, received]).catch(() => {});
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise((resolve) => {
    timer = setTimeout(resolve, LAST_BYTES_MS);
  });
  await Promise.race([Promise.allSettled([sent, received]), late]);
  clearTimeout(timer);
  if (!guest.writableFinished && guest.writableEnded && !guest.destroyed)
    await new Promise((resolve) => finished(guest, { readable: false }, resolve));
  guest.destroy();
  origin.destroy();
}
