/**
 * A command's stream: binary frames, both ways, on a connection of its own (a socket of the keeper, or a binary WebSocket message each).
 *
 *   frame = type (1 byte) · length (4 bytes, big endian, at most 65,536) · payload
 *
 * Back-pressure is the transport's: whoever cannot take more stops reading. After `exit` or `problem` the keeper closes.
 */
export const MAX_FRAME_PAYLOAD = 65_536;
export const FRAME_HEADER_BYTES = 5;

/** Frame types; spelled here once, never reused. */
export const Frame = {
  /** client → keeper: bytes for standard input */
  stdin: 0x01,
  /** client → keeper: standard input has ended */
  stdinEnd: 0x02,
  /** client → keeper: terminal size, columns and rows as two 16-bit big endian numbers */
  resize: 0x03,
  /** client → keeper: a signal's name without SIG, ASCII */
  signal: 0x04,
  /** keeper → client */
  stdout: 0x11,
  /** keeper → client */
  stderr: 0x12,
  /** keeper → client: status as a 32-bit big endian number, then a signal's name or nothing */
  exit: 0x13,
  /** keeper → client: a Problem as JSON */
  problem: 0x14,
} as const;
export type FrameType = (typeof Frame)[keyof typeof Frame];

const KNOWN = new Set<number>(Object.values(Frame));

export type StreamFrame = Readonly<{ type: FrameType; payload: Uint8Array }>;

/** Header and payload as one buffer. Payloads above the maximum are the caller's mistake. */
export function encodeFrame(type: FrameType, payload: Uint8Array = new Uint8Array(0)): Uint8Array {
  if (payload.length > MAX_FRAME_PAYLOAD) throw new RangeError(`a frame carries at most ${MAX_FRAME_PAYLOAD} bytes`);
  const frame = new Uint8Array(FRAME_HEADER_BYTES + payload.length);
  frame[0] = type;
  new DataView(frame.buffer).setUint32(1, payload.length);
  frame.set(payload, FRAME_HEADER_BYTES);
  return frame;
}

/** `bytes` cut into frames of one type. */
export function* framesOf(type: FrameType, bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += MAX_FRAME_PAYLOAD) yield encodeFrame(type, bytes.subarray(at, at + MAX_FRAME_PAYLOAD));
}

/** Decodes a byte stream. Holds at most one frame; an unknown type or a longer payload throws before the payload is read. */
export class FrameDecoder {
  #held = new Uint8Array(0);

  /** The frames that `chunk` completes, in order. */
  push(chunk: Uint8Array): StreamFrame[] {
    let bytes = chunk;
    if (this.#held.length > 0) {
      bytes = new Uint8Array(this.#held.length + chunk.length);
      bytes.set(this.#held);
      bytes.set(chunk, this.#held.length);
    }
    const frames: StreamFrame[] = [];
    let at = 0;
    while (bytes.length - at >= FRAME_HEADER_BYTES) {
      const type = bytes[at] ?? 0;
      const length = new DataView(bytes.buffer, bytes.byteOffset + at + 1, 4).getUint32(0);
      if (!KNOWN.has(type)) throw new RangeError(`unknown frame type ${type}`);
      if (length > MAX_FRAME_PAYLOAD) throw new RangeError(`a frame announces ${length} bytes`);
      if (bytes.length - at - FRAME_HEADER_BYTES < length) break;
      frames.push({ type: type as FrameType, payload: bytes.subarray(at + FRAME_HEADER_BYTES, at + FRAME_HEADER_BYTES + length) });
      at += FRAME_HEADER_BYTES + length;
    }
    this.#held = bytes.slice(at);
    return frames;
  }
}
