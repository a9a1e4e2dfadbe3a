import type { Socket } from "node:net";
import { PassThrough } from "node:stream";
import { describe, expect, it } from "vitest";
import { Frame, FrameDecoder, problemSchema } from "../../contract/index.ts";
import { sendProblem } from "./exec.ts";

function sent(problem: Parameters<typeof sendProblem>[1]) {
  const client = new PassThrough({ highWaterMark: 1 << 20 });
  sendProblem(client as unknown as Socket, problem);
  const [frame] = new FrameDecoder().push(client.read());
  expect(frame?.type).toBe(Frame.problem);
  return problemSchema.parse(JSON.parse(Buffer.from(frame?.payload ?? []).toString("utf8")));
}

describe("a problem on a command's stream", () => {
  it("arrives as it is", () => {
    const problem = { code: "a", message: "It ended.", evidence: "one\ntwo", next: ["Start it."] };
    expect(sent(problem)).toEqual(problem);
  });

  it("is whole JSON with the end of its evidence, however the guest's console swells", () => {
    const evidence = `${"\u001b".repeat(16_380)}end`;
    const arrived = sent({ code: "a", message: "It ended.", evidence, next: ["Start it."] });
    expect(arrived).toMatchObject({ code: "a", message: "It ended.", next: ["Start it."] });
    expect(arrived.evidence).toMatch(/end$/);
  });
});
