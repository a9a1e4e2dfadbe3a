import { describe, expect, it } from "vitest";
import { GuestLogBudget } from "./guest-log.ts";

describe("a guest cannot fill the host's disk with what it says", () => {
  it("an ordinary guest's lines are all kept", () => {
    const budget = new GuestLogBudget(() => 0);
    for (let n = 0; n < 200; n++) expect(budget.take("the clock was stepped by 3 ms")).toEqual({});
  });

  it("a flood of an hour leaves less than 2 MB, and the loss is told", () => {
    let now = 0;
    const budget = new GuestLogBudget(() => now);
    const line = "\u0001".repeat(4096);
    let kept = 0;
    let lost = 0;
    let last: { lost?: number } | undefined;
    for (let n = 0; n < 10_000; n++, now += 360) {
      const taken = budget.take(line);
      if (!taken) continue;
      kept += JSON.stringify(line).length;
      lost += taken.lost ?? 0;
      last = taken;
    }
    expect(kept).toBeGreaterThan(0);
    expect(kept).toBeLessThan(2_000_000);
    expect(last?.lost).toBeGreaterThan(0);
    expect(lost).toBeGreaterThan(9_000);
  });

  it("a guest that has calmed down is heard again", () => {
    let now = 0;
    const budget = new GuestLogBudget(() => now);
    while (budget.take("x".repeat(4096)));
    now += 60_000;
    expect(budget.take("fine")).toEqual({ lost: 1 });
    expect(budget.take("fine")).toEqual({});
  });
});
