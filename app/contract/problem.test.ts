import { describe, expect, it } from "vitest";
import { formatProblem, ProblemError, problemSchema } from "./problem.ts";

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

describe("a problem can always be written down and sent", () => {
  const long = "x".repeat(1_000_000);

  it("whatever its texts quote, it fits the schema", () => {
    const cause = { code: "a", message: long, next: [long] };
    const { problem } = new ProblemError({ code: "a", message: long, cause, evidence: long, next: Array(20).fill(long) });
    expect(problemSchema.safeParse(problem).success).toBe(true);
    expect(problem.message).toHaveLength(4096);
  });

  it("one that fits is not changed", () => {
    const problem = { code: "a", message: "This.", cause: { code: "b", message: "That.", next: [] }, evidence: "one", next: ["Do it."] };
    expect(new ProblemError(problem).problem).toEqual(problem);
  });
});
