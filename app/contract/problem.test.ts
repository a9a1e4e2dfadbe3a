import { describe, expect, it } from "vitest";
import { formatProblem } from "./problem.ts";

describe("a problem in a terminal", () => {
  it("shows message, causes, evidence and next steps", () => {
    const cause = { code: "b", message: "That.", evidence: "deep", next: ["never shown"] };
    expect(formatProblem({ code: "a", message: "This.", cause, evidence: "one\ntwo\n", next: ["Do it."] })).toBe(
      "This. [a]\n  because: That. [b]\n  | one\n  | two\n  | deep\n  → Do it.",
    );
  });

  it("lets nothing of a guest's console drive the terminal", () => {
    const evidence = "\x1b]0;title\x07\x1b[2J\r\nover\rwritten \u202Eback \x9b1m";
    const shown = formatProblem({ code: "machine.died", message: "It ended.", evidence, next: ["Start it."] });
    expect(shown).toBe("It ended. [machine.died]\n  | ␛]0;title␇␛[2J\n  | over␍written \uFFFDback \uFFFD1m\n  → Start it.");
  });
});
