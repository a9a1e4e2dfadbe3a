/** What has happened in a task, newest first. What the guest claims is marked and quoted. */
import type { EventEnvelope } from "../../contract/index.ts";
import { sentence, text } from "../text.ts";

const NONE: readonly EventEnvelope[] = [];

export function Activity({ events = NONE }: Readonly<{ events?: readonly EventEnvelope[] | undefined }>) {
  return (
    <section className="activity" aria-labelledby="activity-title">
      <h2 id="activity-title">{text.activity.title}</h2>
      {events.length === 0 ? (
        <p className="hint">{text.activity.empty}</p>
      ) : (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls must be reachable with the keyboard
        <ol tabIndex={0} aria-labelledby="activity-title">
          {events.toReversed().map((event) => (
            <li key={event.id} className={event.source}>
              <time dateTime={event.time}>{text.time(event.time)}</time>
              <span>
                {event.source === "guest" && <span className="claim">{text.activity.claim}</span>} {sentence(event)}
              </span>
            </li>
          ))}
        </ol>
      )}
      {events.length > 0 && <p className="hint">{text.activity.span}</p>}
    </section>
  );
}
