/** One change: what it is, its diff on demand, apply and discard. */
import { useState } from "react";
import type { ChangeView, ChosenChanges, ShareView, TaskView } from "../../contract/index.ts";
import { ConfirmButton } from "../parts/ConfirmButton.tsx";
import { bytes, text } from "../text.ts";
import { visible } from "../visible.ts";
import { DiffPane } from "./DiffPane.tsx";
import { discarding } from "./within.ts";

type Props = Readonly<{
  task: TaskView;
  share: ShareView;
  change: ChangeView;
  busy: boolean;
  /** what lies in it, where it is a directory that the task made: it is discarded with it */
  inside: readonly ChangeView[];
  apply: (what: ChosenChanges) => void;
  discard: (what: readonly ChosenChanges[]) => void;
}>;

/** Parts of a text file that were chosen; `token` is of the diff they were chosen in. */
export type ChosenHunks = Readonly<{ hunks: readonly number[]; of: number; token: string }>;

export function ChangeItem({ task, share, change, busy, inside, apply, discard }: Props) {
  const [open, setOpen] = useState(false);
  const [chosen, setChosen] = useState<ChosenHunks>();
  const some = chosen && chosen.hunks.length < chosen.of;
  const { id } = change;
  const token = chosen?.token ?? change.token;
  const applyThis = () => apply({ changes: [{ id, token, ...(some ? { hunks: [...chosen.hunks] } : {}) }] });
  const branch = `cloche/${task.name}`;
  return (
    <li className={`change is-${change.kind}`}>
      <div className="row">
        <button type="button" className="opener" aria-expanded={open} onClick={() => setOpen(!open)}>
          <span className="kind">{text.changes.kind[change.kind]}</span>
          <span className="path">{visible(change.path.text)}</span>
          <Facts change={change} />
        </button>
        <span className="buttons">
          <button type="button" disabled={busy || chosen?.hunks.length === 0} onClick={applyThis}>
            {some ? text.changes.applySome(chosen.hunks.length, chosen.of) : text.changes.apply}
          </button>
          <ConfirmButton
            label={text.changes.discard}
            sure={inside.length === 0 ? text.changes.discardSure : text.changes.discardWithSure(inside.length)}
            disabled={busy}
            act={() => discard(discarding(change, inside))}
          />
        </span>
      </div>
      {change.from && <p className="hint">{text.changes.movedFrom(change.from.text)}</p>}
      {change.linkTarget && <p className="hint">{text.changes.linkTo(change.linkTarget.text)}</p>}
      {change.flags.map((flag) => (
        <p key={flag} className="note">
          {text.changes.flag[flag]}
        </p>
      ))}
      {change.protected && <p className="note">{text.changes.protected}</p>}
      {change.repository && <Repository repository={change.repository} />}
      {change.conflict && (
        <div className="note conflict">
          <p>{change.repository?.reason === undefined ? text.changes.conflict[change.conflict] : visible(change.repository.reason)}</p>
          {change.repository && (
            <button type="button" disabled={busy} onClick={() => apply({ changes: [{ id, token, as: btoa(branch) }] })}>
              {text.changes.asBranch(branch)}
            </button>
          )}
        </div>
      )}
      {open && <DiffPane task={task.id} folder={share.id} change={change} choose={setChosen} />}
    </li>
  );
}

function Facts({ change }: Readonly<{ change: ChangeView }>) {
  const facts = [
    ...(change.type === "file" ? [] : [text.changes.type[change.type]]),
    ...(change.count === undefined ? [] : [text.changes.entries(change.count)]),
    ...(change.type === "file" && change.kind !== "deleted" ? [bytes(change.sizeBytes)] : []),
    ...(change.executable ? [text.changes.executable] : []),
  ];
  return facts.length === 0 ? null : <span className="hint">{facts.join(" · ")}</span>;
}

function Repository({ repository }: Readonly<{ repository: NonNullable<ChangeView["repository"]> }>) {
  return (
    <ul className="plain">
      {repository.branches.map(({ name, commits, behind, kind }) => (
        <li key={name.bytes}>{text.changes.branch(name.text, kind, commits, behind)}</li>
      ))}
      {repository.more > 0 && <li>{text.changes.moreBranches(repository.more)}</li>}
      {repository.refused.length > 0 && <li className="note">{text.changes.neverApplied(repository.refused)}</li>}
    </ul>
  );
}
