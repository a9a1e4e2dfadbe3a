/** What waits in the task's folders: each folder's changes, with apply and discard for one or all, and undo for what was applied. */
import { useEffect, useRef, useState } from "react";
import type { ChosenChanges, EventEnvelope, RefusedChange, ShareView, TaskView } from "../../contract/index.ts";
import type { Outcome } from "../actions.ts";
import { useActions, usePageState } from "../page.ts";
import { ConfirmButton } from "../parts/ConfirmButton.tsx";
import { ProblemNote } from "../parts/ProblemNote.tsx";
import type { FolderChanges } from "../store/changes.ts";
import { bytes, text } from "../text.ts";
import { visible } from "../visible.ts";
import { ChangeItem } from "./ChangeItem.tsx";
import { within } from "./within.ts";

/** A task that writes a thousand files makes as many events; the list is fetched at most this often. */
const REFRESH_MS = 1_000;

export function ChangesPane({ task }: Readonly<{ task: TaskView }>) {
  const known = usePageState((state) => state.changes[task.id]);
  useFreshChanges(task.id);
  if (task.shares.length === 0) return <p className="idle">{text.changes.noFolders}</p>;
  if (known === undefined) return <p role="status">{text.changes.reading}</p>;
  return (
    <>
      {task.shares.map((share) => (
        <FolderPane key={share.id} task={task} share={share} changes={known[share.id]} />
      ))}
    </>
  );
}

/** Lists when the pane opens and after whatever happened in the folders. */
function useFreshChanges(task: string): void {
  const { listChanges } = useActions();
  const latest = usePageState((state) => state.events[task]?.findLast(concernsChanges)?.id ?? 0);
  const read = useRef({ at: 0, asked: -1 });
  useEffect(() => {
    if (read.current.asked === latest) return;
    const wait = Math.max(0, read.current.at + REFRESH_MS - Date.now());
    const timer = setTimeout(() => {
      read.current = { at: Date.now(), asked: latest };
      void listChanges(task);
    }, wait);
    return () => clearTimeout(timer);
  }, [task, latest, listChanges]);
}

const concernsChanges = ({ kind }: EventEnvelope) => ["changes.", "files.", "folder."].some((about) => kind.startsWith(about));

type FolderProps = Readonly<{ task: TaskView; share: ShareView; changes: FolderChanges | undefined }>;

function FolderPane({ task, share, changes }: FolderProps) {
  const actions = useActions();
  const [outcome, setOutcome] = useState<Readonly<{ did: "applied" | "discarded" | "undone" }> & Outcome>();
  const [busy, setBusy] = useState(false);
  const title = `changes-${share.id}`;
  const work = async (did: "applied" | "discarded" | "undone", ask: () => Promise<Outcome | undefined>) => {
    if (busy) return;
    setBusy(true);
    setOutcome(undefined);
    const came = await ask();
    await actions.listChanges(task.id);
    setBusy(false);
    if (came) setOutcome({ did, ...came });
  };
  const apply = (what: ChosenChanges) => work("applied", () => actions.apply(task.id, share.id, what));
  const discard = (parts: readonly ChosenChanges[]) =>
    work("discarded", async () => {
      let all: Outcome = { done: 0, refused: [] };
      for (const what of parts) {
        const came = await actions.discard(task.id, share.id, what);
        if (!came) return undefined;
        all = { done: all.done + came.done, refused: [...all.refused, ...came.refused] };
      }
      return all;
    });
  const undoable = changes?.applies.find(({ undone }) => !undone);
  const all: ChosenChanges = { all: true, revision: changes?.revision ?? 0 };
  return (
    <section className="changes" aria-labelledby={title} aria-busy={busy}>
      <header>
        <h2 id={title}>
          {visible(share.name)} <span className="mode">{text.mode[share.mode]}</span>
        </h2>
        {changes !== undefined && changes.total > 0 && (
          <span className="buttons">
            <button type="button" className="primary" disabled={busy} onClick={() => apply(all)}>
              {text.changes.applyAll}
            </button>
            <ConfirmButton label={text.changes.discardAll} sure={text.changes.discardAllSure} disabled={busy} act={() => discard([all])} />
          </span>
        )}
      </header>
      {share.room && <RoomQuestion task={task} share={share} room={share.room} />}
      {!share.room && share.refused && <RoomRefusal task={task} share={share} refused={share.refused} />}
      {outcome && (
        <div className="outcome" role="status">
          <p>{text.changes.outcome(outcome.did, outcome.done)}</p>
          <RefusedList refused={outcome.refused} />
        </div>
      )}
      {undoable && (
        <p className="undo">
          <span>{text.changes.applied(undoable.files, undoable.time)}</span>
          <button type="button" disabled={busy} onClick={() => work("undone", () => actions.undo(task.id, share.id, undoable.apply))}>
            {text.changes.undo}
          </button>
        </p>
      )}
      {changes === undefined || changes.total === 0 ? (
        <p className="hint">{text.changes.none[share.mode]}</p>
      ) : (
        <>
          <ul className="change-list">
            {changes.shown.map((change) => (
              <ChangeItem
                key={change.id}
                task={task}
                share={share}
                change={change}
                busy={busy}
                inside={within(change, changes.shown)}
                apply={apply}
                discard={discard}
              />
            ))}
          </ul>
          {changes.next !== undefined && (
            <button type="button" onClick={() => actions.moreChanges(task.id, share.id, changes.next ?? "")}>
              {text.changes.more(changes.shown.length, changes.total)}
            </button>
          )}
        </>
      )}
    </section>
  );
}

/** Why single changes were left out, one line each. */
function RefusedList({ refused }: Readonly<{ refused: readonly RefusedChange[] }>) {
  if (refused.length === 0) return null;
  return (
    <details open={refused.length <= 5}>
      <summary>{text.changes.refused(refused.length)}</summary>
      <ul>
        {refused.slice(0, 100).map(({ path, code, message }) => (
          <li key={path.bytes + code}>
            <code>{visible(path.text)}</code> {visible(message)}
          </li>
        ))}
      </ul>
    </details>
  );
}

type RoomProps = Readonly<{ task: TaskView; share: ShareView; room: NonNullable<ShareView["room"]> }>;

/** A write of the task waits; the answer decides whether the kept versions may take more of this computer's room. */
function RoomQuestion({ task, share, room }: RoomProps) {
  const { answerRoom } = useActions();
  return (
    <div className="room" role="alert">
      <p>{text.changes.room(room.path.text, bytes(room.usedBytes), bytes(room.limitBytes))}</p>
      <span className="buttons">
        <button type="button" onClick={() => answerRoom(task.id, share.id, "allow")}>
          {text.changes.roomAllow}
        </button>
        <button type="button" onClick={() => answerRoom(task.id, share.id, "refuse")}>
          {text.changes.roomRefuse}
        </button>
      </span>
    </div>
  );
}

type RefusalProps = Readonly<{ task: TaskView; share: ShareView; refused: NonNullable<ShareView["refused"]> }>;

/** Why a write of the task failed, for as long as the next one would too. */
function RoomRefusal({ task, share, refused: { what, problem } }: RefusalProps) {
  const { answerRoom } = useActions();
  return (
    <div className="room" role="alert" aria-label={text.changes.roomRefused}>
      <ProblemNote problem={problem} />
      {what === "versions" && (
        <span className="buttons">
          <button type="button" onClick={() => answerRoom(task.id, share.id, "allow")}>
            {text.changes.roomAllow}
          </button>
        </span>
      )}
    </div>
  );
}
