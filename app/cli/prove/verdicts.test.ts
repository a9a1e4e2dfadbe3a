import { describe, expect, it } from "vitest";
import type { Origin, Origins } from "./origins.ts";
import { judge, PROBES, type Seen } from "./verdicts.ts";

const VALUE = "the-real-key";
const arrived = (path: string, more = "", body = "") => ({ method: "GET", path, body, everything: `${path}\n${more}\n${body}` });
const origin = (...all: ReturnType<typeof arrived>[]): Origin => ({ port: 1, arrived: all, connections: () => 0 });

/** What this computer sees when everything holds. */
function whole(change: Partial<Seen> = {}, origins: Partial<Origins> = {}): Seen {
  const request = (host: string) => ({ scheme: "https", host, port: 443, method: "GET", path: "/", upgrade: false }) as const;
  return {
    as: "user",
    origins: {
      certificate: "",
      bound: origin(arrived("/open/user"), arrived("/keyed/user", VALUE), arrived("/report/user", "", "inside-text shown-text")),
      other: origin(arrived("/open/user")),
      plain: origin(arrived("/open/user")),
      unlisted: origin(),
      close: () => {},
      ...origins,
    },
    entries: [
      { id: 1, at: 0, what: "decided", request: request("x.example.net"), decision: "deny" },
      { id: 2, at: 0, what: "decided", request: request("169.254.169.254"), decision: "allow" },
      { id: 2, at: 0, what: "ended", request: request("169.254.169.254"), fault: "not public" },
    ],
    changes: ["inside.txt", "made-user.txt"],
    canary: "canary-text",
    inside: "inside-text",
    shown: "shown-text",
    now: { canary: "canary-text", inside: "inside-text", shown: "shown-text" },
    value: VALUE,
    foreign: "a-foreign-key",
    name: "x.example.net",
    onDisk: { value: 0, standIn: 1 },
    ...change,
  };
}
const verdicts = (seen: Seen) => Object.fromEntries(judge(seen).map(({ id, verdict }) => [id, verdict]));
const bound = (...more: ReturnType<typeof arrived>[]) => ({ bound: origin(...whole().origins.bound.arrived, ...more) });

describe("the verdicts of a self-test", () => {
  it("are `held` for all twelve when everything holds", () => {
    expect(judge(whole())).toHaveLength(12);
    expect(new Set(Object.values(verdicts(whole())))).toEqual(new Set(["held"]));
  });

  it.each([
    [
      "F01",
      whole(
        {},
        { bound: origin(arrived("/open/user"), arrived("/keyed/user", VALUE), arrived("/report/user", "", "inside-text canary-text")) },
      ),
    ],
    ["F02", whole({ now: { canary: "overwritten", inside: "inside-text", shown: "shown-text" } })],
    ["F07", whole({ now: { canary: "canary-text", inside: "inside-text", shown: "" } })],
    ["P5", whole({ now: { canary: "canary-text", inside: "inside-textuser", shown: "shown-text" } })],
    ["E03", whole({}, { unlisted: { ...origin(), connections: () => 1 } })],
    ["E04", whole({ entries: whole().entries.map((entry) => ({ ...entry, address: "93.184.216.34" })) })],
    ["E05", whole({ entries: whole().entries.map((entry) => ({ ...entry, status: 200 })) })],
    ["E09", whole({}, bound(arrived("/open/user/host")))],
    ["E01", whole({}, bound(arrived("/open/user/foreign", "x-api-key: a-foreign-key")))],
    ["C02", whole({}, { other: origin(arrived("/open/user"), arrived("/open/user/key")) })],
    ["C03", whole({}, { plain: origin(arrived("/open/user"), arrived("/x", VALUE)) })],
    ["C01", whole({ onDisk: { value: 1, standIn: 1 } })],
  ])("%s is `broken` when it is", (id, seen) => {
    expect(verdicts(seen)[id]).toBe("broken");
  });

  it("are `void` and never `held` where the control failed: a guest that did nothing proves nothing", () => {
    const nothing = origin();
    const seen = whole(
      { entries: [], changes: [], onDisk: { value: 0, standIn: 0 } },
      { bound: nothing, other: nothing, plain: nothing, unlisted: nothing },
    );
    expect(new Set(Object.values(verdicts(seen)))).toEqual(new Set(["void"]));
    expect(PROBES).toHaveLength(12);
  });
});
