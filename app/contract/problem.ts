/**
 * The one error shape. `code` is stable and listed in `catalogue.ts`; `message` is one sentence in the user's words that says
 * which thing, what did not happen and what still holds; `evidence` is an excerpt for the details; `next` is what to do.
 */
import { z } from "zod";

export const problemSchema: z.ZodType<Problem> = z.lazy(() =>
  z.strictObject({
    code: z.string().min(1).max(64),
    message: z.string().min(1).max(4096),
    cause: problemSchema.optional(),
    evidence: z.string().max(16_384).optional(),
    next: z.array(z.string().min(1).max(512)).max(8),
  }),
);

export interface Problem {
  /** dotted and stable; an unknown code from a newer keeper is shown, never fatal */
  readonly code: string;
  readonly message: string;
  readonly cause?: Problem | undefined;
  readonly evidence?: string | undefined;
  /** what the user can do, each a full sentence or a command; never empty for a problem that we raise */
  readonly next: readonly string[];
}

/** A `Problem` on its way up. The only exception that our code throws for refusals and failures; anything else is a bug. */
export class ProblemError extends Error {
  readonly problem: Problem;
  constructor(problem: Problem) {
    super(problem.message);
    this.name = "ProblemError";
    this.problem = bounded(problem);
  }
}

/** Causes below that depth are left out. */
const MAX_CAUSES = 4;

/** Cut to what the schema takes: texts may quote a guest, and a problem that cannot be written down or sent would be a second one. */
function bounded(problem: Problem, depth = 0): Problem {
  const { code, message, cause, evidence, next } = problem;
  return {
    code: code.slice(0, 64),
    message: message.slice(0, 4096),
    ...(cause && depth < MAX_CAUSES ? { cause: bounded(cause, depth + 1) } : {}),
    ...(evidence === undefined ? {} : { evidence: evidence.slice(0, 16_384) }),
    next: next.slice(0, 8).map((step) => step.slice(0, 512)),
  };
}

/** Any thrown value as a Problem; what is not a ProblemError is a bug of ours and says so. */
export function toProblem(error: unknown): Problem {
  if (error instanceof ProblemError) return error.problem;
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return {
    code: "bug",
    message: "Cloche made a mistake of its own. Your files and tasks are as they were before this step.",
    evidence: text.slice(0, 16_384),
    next: ["Run the command again; if it fails the same way, report it with `cloche doctor --json` and the evidence."],
  };
}

// Besides controls and formatting: separators of lines, and letters and marks that show nothing, of which a variable's name may be made.
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\u115f\u1160\u2800\u3164\uffa0]|\u034f|\u17b4|\u17b5|[\u180b-\u180f]|[\u{e0100}-\u{e01ef}]/gu;

/** Text of any origin for a terminal: control, direction and unseen characters as pictures; newlines and tabs stay. */
export function visible(text: string): string {
  return text.replaceAll("\r\n", "\n").replace(UNSEEN, (char) => {
    if (char === "\n" || char === "\t") return char;
    const code = char.codePointAt(0) ?? 0;
    return code < 0x20 ? String.fromCodePoint(0x2400 + code) : "\uFFFD";
  });
}

/**
 * The problem as a person reads it in a terminal: message, evidence indented, causes, next steps. No trailing newline. Evidence may be
 * the guest's console, so nothing of it reaches the terminal as it is.
 */
export function formatProblem(problem: Problem): string {
  const lines = [`${problem.message} [${problem.code}]`];
  for (let cause = problem.cause; cause; cause = cause.cause) lines.push(`  because: ${cause.message} [${cause.code}]`);
  for (let at: Problem | undefined = problem; at; at = at.cause) {
    if (at.evidence) for (const line of at.evidence.trimEnd().split("\n").slice(-12)) lines.push(`  | ${line}`);
  }
  for (const step of problem.next) lines.push(`  → ${step}`);
  return visible(lines.join("\n"));
}
