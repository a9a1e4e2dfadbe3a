import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Cloche } from "../../harness/index.ts";

/** The self-test that a user runs, on the real product: twelve probes, as the guest's user and as its root. */
let cloche: Cloche;
beforeAll(() => {
  cloche = new Cloche();
});
afterAll(() => cloche.end());

describe("cloche prove", () => {
  it("holds with every control, leaves no task and no key, and its report stands in the events", async () => {
    const { status, stdout, stderr } = await cloche.run(["prove", "--json"]);
    const { probes, tookMs } = JSON.parse(stdout) as { probes: { id: string; as: string; verdict: string }[]; tookMs: number };
    expect(
      probes.filter(({ verdict }) => verdict !== "held"),
      stderr,
    ).toEqual([]);
    expect([status, probes.length, new Set(probes.map(({ as }) => as)).size]).toEqual([0, 24, 2]);
    expect(tookMs).toBeLessThan(120_000);
    expect(JSON.parse((await cloche.ok(["secret", "ls", "--json"])).stdout).secrets).toEqual([]);
    expect(JSON.parse((await cloche.ok(["ls", "--json"])).stdout).tasks).toEqual([]);
    const { events } = JSON.parse((await cloche.ok(["events", "--json"])).stdout) as { events: { kind: string }[] };
    expect(events.some(({ kind }) => kind === "prove.ended")).toBe(true);
  }, 180_000);
});
