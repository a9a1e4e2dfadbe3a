import { describe, expect, it } from "vitest";
import { encodeFrame, Frame, FrameDecoder, framesOf, MAX_FRAME_PAYLOAD } from "./stream.ts";

describe("a command's stream", () => {
  it("comes out as it went in, however it is cut", () => {
    const payload = crypto.getRandomValues(new Uint8Array(5000));
    const bytes = Buffer.concat([
      encodeFrame(Frame.stdout, payload),
      encodeFrame(Frame.stdinEnd),
      encodeFrame(Frame.stderr, payload.subarray(0, 1)),
    ]);
    for (const step of [1, 3, 7, 4096, bytes.length]) {
      const decoder = new FrameDecoder();
      const frames = [];
      for (let at = 0; at < bytes.length; at += step) {
        for (const { type, payload: part } of decoder.push(bytes.subarray(at, at + step))) frames.push({ type, bytes: Buffer.from(part) });
      }
      expect(frames.map((frame) => frame.type)).toEqual([Frame.stdout, Frame.stdinEnd, Frame.stderr]);
      expect(frames[0]?.bytes.equals(payload)).toBe(true);
    }
  });

  it("cuts long output into frames of the largest size", () => {
    const sizes = [...framesOf(Frame.stdout, new Uint8Array(MAX_FRAME_PAYLOAD + 1))].map((frame) => frame.length - 5);
    expect(sizes).toEqual([MAX_FRAME_PAYLOAD, 1]);
  });

  it("refuses an unknown type and a payload over the bound before reading it", () => {
    expect(() => new FrameDecoder().push(Uint8Array.of(0x7f, 0, 0, 0, 0))).toThrow("unknown frame type");
    expect(() => new FrameDecoder().push(Uint8Array.of(Frame.stdout, 0, 1, 0, 1))).toThrow("announces 65537");
    expect(() => encodeFrame(Frame.stdout, new Uint8Array(MAX_FRAME_PAYLOAD + 1))).toThrow(RangeError);
    expect(new FrameDecoder().push(Uint8Array.of(Frame.stdout, 0, 1, 0, 0))).toEqual([]);
  });
});
