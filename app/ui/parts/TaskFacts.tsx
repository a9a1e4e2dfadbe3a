/** Small parts that say what a task is: its state, its wall, its folders. */
import type { ShareView, TaskState, TaskView } from "../../contract/index.ts";
import { addressOf } from "../page.ts";
import { text } from "../text.ts";
import { visible } from "../visible.ts";

export function StateBadge({ state }: Readonly<{ state: TaskState }>) {
  return <span className={`badge ${state.at}`}>{text.state[state.at]}</span>;
}

export function Wall({ sentence }: Readonly<{ sentence: string }>) {
  return <p className="wall">{visible(sentence)}</p>;
}

/** Name and mode only, for the list. */
export function FolderChips({ shares }: Readonly<{ shares: readonly ShareView[] }>) {
  if (shares.length === 0) return null;
  return (
    <ul className="chips" aria-label={text.folders}>
      {shares.map((share) => (
        <li key={share.guestPath}>
          {visible(share.name)} <span className="mode">{text.mode[share.mode]}</span>
        </li>
      ))}
    </ul>
  );
}

/** The way to what waits; nothing when nothing does. */
export function Waiting({ task }: Readonly<{ task: TaskView }>) {
  const waiting = waitingIn(task.shares);
  if (waiting === 0) return null;
  return (
    <a className="waiting" href={addressOf({ at: "task", id: task.id, tab: "changes" })}>
      {text.changes.waiting(waiting)}
    </a>
  );
}

export const waitingIn = (shares: readonly ShareView[]): number => shares.reduce((sum, { waiting = 0 }) => sum + waiting, 0);

export function Folders({ shares }: Readonly<{ shares: readonly ShareView[] }>) {
  if (shares.length === 0) return <p>{text.noFolders}</p>;
  return (
    <ul className="folders">
      {shares.map((share) => (
        <li key={share.guestPath}>
          <strong>{visible(share.name)}</strong> <span className="mode">{text.mode[share.mode]}</span>
          <span className="hint">{text.inTask(share.guestPath)}</span>
          {share.secrets && share.secrets.names.length > 0 && (
            <span className="note">{text.secrets(share.secrets.names, share.secrets.more, share.hideSecrets)}</span>
          )}
          {share.notes.map((note) => (
            <span key={note.kind} className="note">
              {visible(note.text)}
            </span>
          ))}
          {share.problem && <span className="note">{visible(share.problem.message)}</span>}
        </li>
      ))}
    </ul>
  );
}

export function Resources({ task }: Readonly<{ task: TaskView }>) {
  return (
    <ul className="plain">
      <li>{text.cpus(task.cpus)}</li>
      <li>{text.memory(task.memoryMib)}</li>
      <li>{text.disk(task.diskGib)}</li>
      <li className="hint">{text.created(task.created)}</li>
    </ul>
  );
}
