import { describe, expect, it } from "vitest";
import { wallSentence } from "./wall.ts";

const share = (name: string, mode: "ro" | "rw") => ({ name, mode });

describe("the wall in one sentence", () => {
  it.each([
    [[], "This task sees none of your folders, has no network and no keys."],
    [[share("Receipts", "rw")], "This task can change files directly in Receipts, and nothing else: it has no network and no keys."],
    [[share("Docs", "ro")], "This task can read Docs, and nothing else: it has no network and no keys."],
    [
      [share("a", "rw"), share("b", "ro"), share("c", "ro"), share("d", "ro")],
      "This task can change files directly in a, read b, c and d, and nothing else: it has no network and no keys.",
    ],
  ])("%j", (shares, sentence) => {
    expect(wallSentence(shares)).toBe(sentence);
  });

  it.each([
    [[share("Docs", "ro")], "This task can read Docs, reach api.example.com, and nothing else."],
    [[], "This task can reach api.example.com, and nothing else: it sees none of your folders."],
  ])("%j and a host", (shares, sentence) => {
    expect(wallSentence(shares, { reaches: "reach api.example.com", idleKeys: [] })).toBe(sentence);
  });

  it.each([
    [[], "", ["work"], "This task sees none of your folders, has no network, and your key work can go nowhere."],
    [
      [share("Docs", "ro")],
      "",
      ["a", "b"],
      "This task can read Docs, and nothing else: it has no network, your keys a and b can go nowhere.",
    ],
    [
      [share("Docs", "ro")],
      "reach api.example.com",
      ["work"],
      "This task can read Docs, reach api.example.com, and nothing else: your key work can go nowhere.",
    ],
  ])("%j, %j and keys %j that no host is reached for: it does not say that there are none", (shares, reaches, idleKeys, sentence) => {
    expect(wallSentence(shares, { reaches, idleKeys })).toBe(sentence);
  });

  it.each([
    [[], "This task sees none of your folders, has no network and no keys."],
    [[share("Docs", "ro")], "This task can read Docs, and nothing else: it has no network and no keys."],
  ])("E08: %j and a policy that cannot be used: why it has no network", (shares, sentence) => {
    const broken = "the policy is not JSON";
    expect(wallSentence(shares, { reaches: "", idleKeys: [], broken })).toBe(
      `${sentence} Nothing passes, as its network rules cannot be used: the policy is not JSON.`,
    );
  });
});
