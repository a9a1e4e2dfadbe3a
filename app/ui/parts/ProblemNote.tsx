/** A problem, wherever it comes from: what happened, what to do, the evidence folded. */
import type { Problem } from "../../contract/index.ts";
import { text } from "../text.ts";
import { visible } from "../visible.ts";

type Props = Readonly<{ problem: Problem; onDismiss?: () => void }>;

function chain(problem: Problem): Problem[] {
  return problem.cause ? [problem, ...chain(problem.cause)] : [problem];
}

export function ProblemNote({ problem, onDismiss }: Props) {
  const [, ...causes] = chain(problem);
  const evidence = chain(problem).flatMap((part) => (part.evidence ? [part.evidence] : []));
  return (
    <section className="problem" role="alert">
      <p className="message">{visible(problem.message)}</p>
      {causes.map((cause) => (
        <p key={cause.code + cause.message}>
          {text.problem.because}: {visible(cause.message)}
        </p>
      ))}
      {problem.next.length > 0 && (
        <>
          <p className="label">{text.problem.next}</p>
          <ul>
            {problem.next.map((step) => (
              <li key={step}>
                <WithCommands sentence={step} />
              </li>
            ))}
          </ul>
        </>
      )}
      <details>
        <summary>{text.problem.details}</summary>
        <p>
          {text.problem.code}: <code>{visible(problem.code)}</code>
        </p>
        {evidence.map((excerpt) => (
          <pre key={excerpt}>{excerpt.split("\n").map(visible).join("\n")}</pre>
        ))}
      </details>
      {onDismiss && (
        <button type="button" onClick={onDismiss}>
          {text.problem.dismiss}
        </button>
      )}
    </section>
  );
}

/** Every second part between backticks is a command. */
function WithCommands({ sentence }: Readonly<{ sentence: string }>) {
  const parts = visible(sentence).split("`");
  // biome-ignore lint/suspicious/noArrayIndexKey: the parts of one sentence never move
  return parts.map((part, at) => (at % 2 === 1 ? <code key={at}>{part}</code> : part));
}
