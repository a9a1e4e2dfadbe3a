/**
 * `/stream/<ticket>`: a command's frames between a page and the keeper, one frame per binary message, checked both ways.
 *
 * Back-pressure is by acknowledgement in each direction (see app/contract/web.ts). Pausing the WebSocket instead would also hold
 * up the page's acknowledgements, and a guest that writes before it reads would wait for ever.
 */
import type { Duplex } from "node:stream";
import type { WebSocket } from "ws";
import {
  ackMessage,
  encodeFrame,
  FRAME_HEADER_BYTES,
  Frame,
  FrameDecoder,
  parseAck,
  STREAM_WINDOW_BYTES,
  toProblem,
  WebClose,
} from "../contract/index.ts";

const FROM_PAGE = new Set<number>([Frame.stdin, Frame.stdinEnd, Frame.resize, Frame.signal]);
const FROM_KEEPER = new Set<number>([Frame.stdout, Frame.stderr, Frame.exit, Frame.problem]);

/** `connect` opens the ticket's stream. */
export async function relayStream(socket: WebSocket, connect: () => Promise<Duplex>): Promise<void> {
  socket.pause();
  let keeper: Duplex;
  try {
    keeper = await connect();
  } catch (error) {
    socket.send(encodeFrame(Frame.problem, Buffer.from(JSON.stringify(toProblem(error)))));
    return socket.close(1000);
  }
  if (socket.readyState !== socket.OPEN) return void keeper.destroy();

  const decoder = new FrameDecoder();
  let toPage = 0;
  let toKeeper = 0;
  const broken = (why: string) => {
    socket.close(WebClose.protocol, why);
    keeper.destroy();
  };

  keeper.on("data", (chunk: Buffer) => {
    try {
      for (const frame of decoder.push(chunk)) {
        if (!FROM_KEEPER.has(frame.type)) return broken("a frame that the keeper never sends");
        toPage += frame.payload.length;
        socket.send(encodeFrame(frame.type, frame.payload));
      }
    } catch (error) {
      return broken((error as Error).message);
    }
    if (toPage > STREAM_WINDOW_BYTES) keeper.pause();
  });
  keeper.on("close", () => socket.close(1000));

  socket.on("message", (data: Buffer, isBinary: boolean) => {
    if (!isBinary) {
      const taken = parseAck(data.toString("latin1"));
      if (taken === undefined || taken > toPage) return broken("a text message that is no acknowledgement");
      toPage -= taken;
      if (toPage <= STREAM_WINDOW_BYTES) keeper.resume();
      return;
    }
    if (!isOneFrame(data)) return broken("a message that is not one frame of a client");
    const bytes = data.length - FRAME_HEADER_BYTES;
    toKeeper += bytes;
    if (toKeeper > STREAM_WINDOW_BYTES) return broken("more input than the window allows");
    keeper.write(data, (error) => {
      toKeeper -= bytes;
      if (!error && bytes > 0 && socket.readyState === socket.OPEN) socket.send(ackMessage(bytes));
    });
  });
  socket.on("close", () => keeper.destroy());
  socket.resume();
}

function isOneFrame(message: Buffer): boolean {
  try {
    const [frame] = new FrameDecoder().push(message);
    return frame !== undefined && FROM_PAGE.has(frame.type) && message.length === FRAME_HEADER_BYTES + frame.payload.length;
  } catch {
    return false;
  }
}
