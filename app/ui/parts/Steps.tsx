/** The start as it goes: the steps that have begun, how long each took or takes, what the open ones wait for. No step is foretold. */
import type { StepRecord } from "../../contract/index.ts";
import { useNow } from "../page.ts";
import { duration, text } from "../text.ts";
import { visible } from "../visible.ts";

export function Steps({ steps, startedAt }: Readonly<{ steps: readonly StepRecord[]; startedAt: number | undefined }>) {
  const now = useNow();
  const elapsed = startedAt === undefined ? undefined : Math.max(0, now - startedAt);
  return (
    <section className="steps" aria-labelledby="steps-title">
      <header>
        <h2 id="steps-title">{text.steps.title}</h2>
        {elapsed !== undefined && <span className="hint">{text.steps.total(duration(elapsed))}</span>}
      </header>
      <StepList steps={steps} elapsed={elapsed} />
    </section>
  );
}

/** `elapsed`: ms since the start was asked for; undefined when it is over or not known. */
export function StepList({ steps, elapsed }: Readonly<{ steps: readonly StepRecord[]; elapsed?: number | undefined }>) {
  return (
    <ol>
      {steps.map((step) => {
        const until = step.endedMs ?? elapsed;
        const done = step.endedMs !== undefined;
        return (
          <li key={step.step} className={done ? "done" : "going"}>
            <span className="mark" role="img" aria-label={done ? text.steps.finished : text.steps.going} />
            <span className="what">
              {text.steps.name[step.step]}
              {!done && <span className="hint"> {text.steps.waits(visible(step.waitingFor))}</span>}
            </span>
            {until !== undefined && <span className="took">{duration(until - step.beganMs)}</span>}
          </li>
        );
      })}
    </ol>
  );
}
