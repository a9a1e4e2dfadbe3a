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
    expect(wallSentence(shares, "reach api.example.com")).toBe(sentence);
  });
});
