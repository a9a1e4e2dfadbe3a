import { describe, expect, it } from "vitest";
import { type At, type Input, next, TRANSITIONS } from "./state.ts";

const states = Object.keys(TRANSITIONS) as At[];
const inputs = Object.keys(TRANSITIONS.stopped) as Input[];

describe("a task's life cycle", () => {
  it.each(states.flatMap((at) => inputs.map((input) => [at, input] as const)))(
    "%s × %s moves, joins, or is refused with a reason",
    (at, input) => {
      const move = next(at, input);
      if ("to" in move) expect(states).toContain(move.to);
      else if ("refuse" in move) expect(move.refuse.length).toBeGreaterThan(5);
      else expect(move.join).toBe(true);
    },
  );

  it.each(states)("stop is never refused: %s", (at) => {
    expect(next(at, "stop")).not.toHaveProperty("refuse");
  });

  it("every state can reach stopped, and starting again from there", () => {
    for (const from of states) {
      const seen = new Set<At>([from]);
      const queue = [from];
      for (let at = queue.pop(); at; at = queue.pop()) {
        for (const input of inputs) {
          const move = next(at, input);
          if ("to" in move && !seen.has(move.to)) {
            seen.add(move.to);
            queue.push(move.to);
          }
        }
      }
      expect([...seen]).toEqual(expect.arrayContaining(["stopped", "starting", "running"]));
    }
  });

  it("running is entered only from starting, by ready, and from paused, by resume", () => {
    const entries = states.flatMap((at) =>
      inputs.filter((input) => (next(at, input) as { to?: At }).to === "running").map((input) => `${at} ${input}`),
    );
    expect(entries).toEqual(["starting ready", "paused resume"]);
  });
});
