import { PassThrough } from "node:stream";
import { describe, expect, it } from "vitest";
import { MAX_LINE_BYTES } from "../rpc.ts";
import { lineTransport } from "./lines.ts";

function receive() {
  const input = new PassThrough({ highWaterMark: 1 << 24 });
  const lines: string[] = [];
  let reason: string | undefined;
  lineTransport(input, new PassThrough(), () => {}).start({
    onLine: (line) => lines.push(line),
    onClose: (why) => {
      reason = why;
    },
  });
  return { input, lines, reason: () => reason };
}

describe("lines from a hostile side", () => {
  it("arrive whole, however they are cut", async () => {
    const { input, lines } = receive();
    for (const part of ["a", "b\nc", "é".slice(0, 1), "d\n\n"]) input.write(part);
    await expect.poll(() => lines).toEqual(["ab", "céd", ""]);
  });

  it("the longest one passes, one byte more ends the connection", async () => {
    const whole = receive();
    whole.input.write(Buffer.alloc(MAX_LINE_BYTES - 1, 0x61));
    whole.input.write("\n");
    await expect.poll(() => whole.lines[0]?.length).toBe(MAX_LINE_BYTES - 1);
    const over = receive();
    over.input.write(Buffer.alloc(MAX_LINE_BYTES, 0x61));
    await expect.poll(over.reason).toContain("longer than");
    expect(over.lines).toEqual([]);
  });

  it("a byte order mark stays in its line, where it is no JSON", async () => {
    const { input, lines } = receive();
    input.write("\uFEFF{}\n{}\n");
    await expect.poll(() => lines).toEqual(["\uFEFF{}", "{}"]);
  });

  it("bytes that are not UTF-8 end the connection", async () => {
    const { input, lines, reason } = receive();
    input.write(Buffer.from([0xff, 0x0a, 0x61, 0x0a]));
    await expect.poll(reason).toBe("a line is not UTF-8");
    expect(lines).toEqual([]);
  });
});
