/** A command's stream in the page: frames both ways, each direction held to its window (see app/contract/web.ts). */
import {
  ackMessage,
  encodeFrame,
  FRAME_HEADER_BYTES,
  Frame,
  FrameDecoder,
  type FrameType,
  framesOf,
  type Problem,
  parseAck,
  problemSchema,
  STREAM_WINDOW_BYTES,
  type TerminalSize,
} from "../../contract/index.ts";
import { openSocket } from "./session.ts";

export type StreamEnd =
  | { readonly why: "exit"; readonly status: number; readonly signal: string }
  | { readonly why: "problem"; readonly problem: Problem }
  | { readonly why: "lost" };

export interface StreamHandlers {
  /** `taken` is to be called when the bytes have been dealt with; until then they count against the window */
  onOutput(bytes: Uint8Array, taken: () => void): void;
  /** called once */
  onEnd(end: StreamEnd): void;
}

/** Acknowledgements are gathered up to an eighth of the window. */
const ACK_BYTES = STREAM_WINDOW_BYTES / 8;

export class TerminalStream {
  readonly #socket: WebSocket;
  readonly #handlers: StreamHandlers;
  /** input frames that the window does not let out yet */
  readonly #waiting: Uint8Array[] = [];
  #underWay = 0;
  #taken = 0;
  #ended = false;

  constructor(ticket: string, handlers: StreamHandlers) {
    this.#handlers = handlers;
    this.#socket = openSocket(`/stream/${ticket}`);
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onopen = () => this.#flush();
    this.#socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
      if (typeof data === "string") return this.#acknowledged(data);
      for (const { type, payload } of new FrameDecoder().push(new Uint8Array(data))) this.#received(type, payload);
    };
    this.#socket.onclose = () => this.#end({ why: "lost" });
  }

  input(bytes: Uint8Array): void {
    this.#waiting.push(...framesOf(Frame.stdin, bytes));
    this.#flush();
  }

  resize({ columns, rows }: TerminalSize): void {
    const size = new DataView(new ArrayBuffer(4));
    size.setUint16(0, columns);
    size.setUint16(2, rows);
    this.#waiting.push(encodeFrame(Frame.resize, new Uint8Array(size.buffer)));
    this.#flush();
  }

  close(): void {
    this.#ended = true;
    this.#socket.close();
  }

  #flush(): void {
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    for (let frame = this.#waiting[0]; frame !== undefined; frame = this.#waiting[0]) {
      const bytes = frame.length - FRAME_HEADER_BYTES;
      if (this.#underWay + bytes > STREAM_WINDOW_BYTES) return;
      this.#waiting.shift();
      this.#underWay += bytes;
      this.#socket.send(frame as Uint8Array<ArrayBuffer>);
    }
  }

  #acknowledged(text: string): void {
    const bytes = parseAck(text);
    if (bytes === undefined || bytes > this.#underWay) return this.#socket.close();
    this.#underWay -= bytes;
    this.#flush();
  }

  #received(type: FrameType, payload: Uint8Array): void {
    switch (type) {
      case Frame.stdout:
      case Frame.stderr:
        return this.#handlers.onOutput(payload, () => this.#acknowledge(payload.length));
      case Frame.exit: {
        const status = new DataView(payload.buffer, payload.byteOffset, payload.length).getUint32(0);
        return this.#end({ why: "exit", status, signal: new TextDecoder().decode(payload.subarray(4)) });
      }
      case Frame.problem: {
        const problem = problemSchema.safeParse(JSON.parse(new TextDecoder().decode(payload)));
        return this.#end(problem.success ? { why: "problem", problem: problem.data } : { why: "lost" });
      }
      default:
        this.#socket.close();
    }
  }

  #acknowledge(bytes: number): void {
    this.#taken += bytes;
    if (this.#taken < ACK_BYTES || this.#socket.readyState !== WebSocket.OPEN) return;
    this.#socket.send(ackMessage(this.#taken));
    this.#taken = 0;
  }

  #end(end: StreamEnd): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#handlers.onEnd(end);
  }
}
