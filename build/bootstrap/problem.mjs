// The one error shape of the build, the same as everywhere in Cloche: a stable code, one sentence for the
// user, what is behind it, the excerpt that shows it, and at least one next step. A build that stops with
// a stack trace has told nobody what to do.

export class Problem extends Error {
  /**
   * @param {{code: string, message: string, next: string[], evidence?: string, cause?: unknown}} problem
   */
  constructor({ code, message, next, evidence, cause }) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "Problem";
    this.code = code;
    this.evidence = evidence;
    this.next = next;
  }
}

/** The printed form; anything that is not a Problem is a bug of ours and keeps its stack. */
export function formatProblem(error) {
  if (!(error instanceof Problem)) {
    return `build.bug: this is a mistake in Cloche's build, not yours.\n${indent(String(error?.stack ?? error))}`;
  }
  const lines = [`${error.code}: ${error.message}`];
  for (let cause = error.cause; cause; cause = cause.cause) {
    lines.push(`  because: ${cause.code ? `${cause.code}: ` : ""}${cause.message ?? cause}`);
  }
  if (error.evidence) lines.push("  evidence:", indent(error.evidence, "    | "));
  for (const step of error.next) lines.push(`  next: ${step}`);
  return lines.join("\n");
}

function indent(text, by = "  ") {
  return text
    .trimEnd()
    .split("\n")
    .map((line) => by + line)
    .join("\n");
}
