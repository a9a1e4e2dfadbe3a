/** Reads a socket's first line byte-exactly: what follows it stays in the socket. */
import type { Socket } from "node:net";

/** Nothing came in time from who holds the other end. */
export class NoAnswer extends Error {}

/** Rejects with a plain Error that says why: too long, hung up; with `NoAnswer` when its time is up. The line comes without its newline, as latin1. */
export function readFirstLine(socket: Socket, bounds: { maxBytes: number; deadlineMs: number }): Promise<string> {
  return new Promise((resolve, reject) => {
    let held = Buffer.alloc(0);
    const done = (error?: Error, line = "") => {
      clearTimeout(timer);
      socket.off("readable", onReadable).off("end", onEnd).off("close", onEnd).off("error", onError);
      if (error) reject(error);
      else resolve(line);
    };
    const onReadable = () => {
      for (let chunk = socket.read() as Buffer | null; chunk !== null; chunk = socket.read() as Buffer | null) {
        const newline = chunk.indexOf(0x0a);
        held = Buffer.concat([held, newline < 0 ? chunk : chunk.subarray(0, newline)]);
        if (held.length > bounds.maxBytes) return done(new Error("its first line is too long"));
        if (newline >= 0) {
          const rest = chunk.subarray(newline + 1);
          if (rest.length > 0) socket.unshift(rest);
          return done(undefined, held.toString("latin1"));
        }
      }
    };
    const onEnd = () => done(new Error("it hung up"));
    const onError = (error: Error) => done(error);
    const timer = setTimeout(() => done(new NoAnswer(`no answer within ${bounds.deadlineMs / 1000} s`)), bounds.deadlineMs);
    socket.on("readable", onReadable).on("end", onEnd).on("close", onEnd).on("error", onError);
    onReadable();
  });
}
