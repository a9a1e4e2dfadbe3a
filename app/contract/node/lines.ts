/** Lines over a byte stream, bounded before they are text. */
import type { Duplex, Readable, Writable } from "node:stream";
import { type LineTransport, MAX_LINE_BYTES } from "../rpc.ts";

/** Bytes that may wait to be written before the other side is taken for dead. */
const MAX_WAITING_BYTES = 16 * MAX_LINE_BYTES;

/** A LineTransport over one stream, or over a child's stdout and stdin. A line that is too long or not UTF-8 ends it. */
export function lineTransport(readable: Readable, writable: Writable, end: () => void): LineTransport {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }); // a mark at a line's start is no JSON
  let parts: Buffer[] = [];
  let held = 0;
  let over = false;
  let onClose: (reason: string) => void = () => {};
  const finish = (reason: string) => {
    if (over) return;
    over = true;
    onClose(reason);
    end();
  };
  return {
    send(line) {
      if (over) return;
      writable.write(`${line}\n`);
      if (writable.writableLength > MAX_WAITING_BYTES) finish("the other side does not read");
    },
    close: () => finish("closed by this side"),
    start(handlers) {
      onClose = handlers.onClose;
      readable.on("data", (chunk: Buffer) => {
        let from = 0;
        while (!over) {
          const newline = chunk.indexOf(0x0a, from);
          const until = newline < 0 ? chunk.length : newline;
          held += until - from;
          if (held >= MAX_LINE_BYTES) return finish(`a line is longer than ${MAX_LINE_BYTES} bytes`);
          if (until > from) parts.push(chunk.subarray(from, until));
          if (newline < 0) return;
          const bytes = parts.length === 1 && parts[0] ? parts[0] : Buffer.concat(parts);
          parts = [];
          held = 0;
          from = newline + 1;
          let line: string;
          try {
            line = decoder.decode(bytes);
          } catch {
            return finish("a line is not UTF-8");
          }
          handlers.onLine(line);
        }
      });
      readable.on("end", () => finish("the other side ended the connection"));
      readable.on("error", (error) => finish(error.message));
      readable.on("close", () => finish("the connection closed"));
      if (writable !== (readable as unknown)) writable.on("error", (error) => finish(error.message));
    },
  };
}

export function socketTransport(socket: Duplex): LineTransport {
  return lineTransport(socket, socket, () => socket.destroy());
}
