/**
 * A client of HTTP/2 that sends whatever it is given: fields as literals that nobody looked at (RFC 7541, section 6.2.2), frames of any
 * length and order. Of the answers it reads what frames they were, and their bodies.
 */
import type { Duplex } from "node:stream";

const KINDS = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goaway: 7, continuation: 9 } as const;
const END_STREAM = 1;
const END_HEADERS = 4;

export type Fields = readonly (readonly [name: string, value: string])[];

export interface Part {
  readonly kind: keyof typeof KINDS;
  readonly fields?: Fields;
  readonly body?: string;
  /** the last of its stream */
  readonly end?: true;
  /** the block goes on in a CONTINUATION */
  readonly more?: true;
}

const integer = (value: number): number[] => {
  if (value < 127) return [value];
  const bytes = [127];
  let rest = value - 127;
  for (; rest >= 128; rest >>= 7) bytes.push((rest & 127) | 128);
  return [...bytes, rest];
};
const literal = (text: string): Buffer => {
  const bytes = Buffer.from(text, "latin1");
  return Buffer.concat([Buffer.from(integer(bytes.length)), bytes]);
};
const block = (fields: Fields): Buffer =>
  Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), literal(name), literal(value)]));

function frame(kind: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = kind;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

export interface RawAnswer {
  /** of the stream: its head came */
  readonly answered: boolean;
  readonly body: string;
  /** how the stream, or all of the connection, ended */
  readonly ended: "whole" | "reset" | "goaway" | "closed" | "quiet";
}

/** Sends one request on a connection of its own, as these parts, and reads until it has ended or `quietMs` are over. */
export function sendRaw(socket: Duplex, parts: readonly Part[], quietMs = 3_000): Promise<RawAnswer> {
  return new Promise((resolve) => {
    let held: Buffer = Buffer.alloc(0);
    let answered = false;
    let body = "";
    const done = (ended: RawAnswer["ended"]) => {
      clearTimeout(late);
      socket.destroy();
      resolve({ answered, body, ended });
    };
    const late = setTimeout(() => done("quiet"), quietMs);
    socket.on("close", () => done("closed"));
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => {
      held = Buffer.concat([held, chunk]);
      for (;;) {
        const length = held.length < 9 ? Number.POSITIVE_INFINITY : held.readUIntBE(0, 3);
        if (held.length < 9 + length) return;
        const [kind, flags, stream] = [held[3], held[4] ?? 0, held.readUInt32BE(5)];
        const payload = held.subarray(9, 9 + length);
        held = held.subarray(9 + length);
        if (kind === KINDS.settings && (flags & 1) === 0) socket.write(frame(KINDS.settings, 1, 0, Buffer.alloc(0)));
        if (kind === KINDS.goaway) return done("goaway");
        if (stream !== 1) continue;
        if (kind === KINDS.headers) answered = true;
        if (kind === KINDS.data) body += payload.toString("latin1");
        if (kind === KINDS.reset) return done("reset");
        if ((kind === KINDS.headers || kind === KINDS.data) && flags & END_STREAM) return done("whole");
      }
    });
    socket.write(Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(KINDS.settings, 0, 0, Buffer.alloc(0))]));
    for (const { kind, fields = [], body: text = "", end, more } of parts) {
      const payload = kind === "reset" ? Buffer.from([0, 0, 0, 0]) : kind === "data" ? Buffer.from(text, "latin1") : block(fields);
      const flags = (end ? END_STREAM : 0) | (kind !== "data" && kind !== "reset" && !more ? END_HEADERS : 0);
      socket.write(frame(KINDS[kind], flags, 1, payload));
    }
  });
}
