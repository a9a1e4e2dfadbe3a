/** The form for a new task. Folders come from the dialog on the host; the page only ever holds a grant and a name. */
import { type FormEvent, useEffect, useState } from "react";
import { type NetworkPreset, type ShareMode, taskName } from "../../contract/index.ts";
import type { PickedFolder } from "../actions.ts";
import { PresetChoices } from "../network/PresetChoices.tsx";
import { addressOf, useActions, usePageState } from "../page.ts";
import { Choice, choose } from "../parts/Choice.tsx";
import { Field, hintOf } from "../parts/Field.tsx";
import { ProblemNote } from "../parts/ProblemNote.tsx";
import { text } from "../text.ts";
import { visible } from "../visible.ts";

type Folder = PickedFolder & { readonly mode: ShareMode };

export function NewTask() {
  const actions = useActions();
  const problem = usePageState((state) => state.problems.new);
  const [folders, setFolders] = useState<readonly Folder[]>([]);
  const [name, setName] = useState("");
  const [presets, setPresets] = useState<readonly NetworkPreset[]>([]);
  const [secrets, setSecrets] = useState<readonly string[]>([]);
  const keys = usePageState((state) => state.keys)?.secrets;
  const changed = usePageState((state) => state.changed.keys);
  const connected = usePageState((state) => state.connection.at === "connected");
  const { listKeys } = actions;
  // biome-ignore lint/correctness/useExhaustiveDependencies: read again after each change of the keys, whoever made it
  useEffect(() => {
    if (connected) void listKeys();
  }, [connected, changed, listKeys]);
  const [cpus, setCpus] = useState("");
  const [memory, setMemory] = useState("");
  const [busy, setBusy] = useState<"picking" | "creating">();
  const nameFits = name === "" || taskName.safeParse(name).success;

  const pick = async () => {
    setBusy("picking");
    const picked = await actions.pickFolder();
    setBusy(undefined);
    if (picked) setFolders((before) => [...before, { ...picked, mode: "review" }]);
  };
  const create = async (event: FormEvent) => {
    event.preventDefault();
    if (busy || !nameFits) return;
    setBusy("creating");
    const task = await actions.create({
      ...(name === "" ? {} : { name }),
      shares: folders.map(({ grant, mode }) => ({ grant, mode })),
      env: {},
      ...(cpus === "" ? {} : { cpus: Number(cpus) }),
      ...(memory === "" ? {} : { memoryMib: Math.round(Number(memory) * 1024) }),
      sudo: true,
      ephemeral: false,
      ...(secrets.length === 0 ? {} : { secrets: secrets.filter((name) => keys?.some((key) => key.name === name)) }),
      ...(presets.length === 0 ? {} : { network: { presets: [...presets], rules: [] } }),
    });
    setBusy(undefined);
    if (task) location.hash = addressOf({ at: "task", id: task.id, tab: "work" });
  };

  return (
    <form className="new" onSubmit={create}>
      <h1>{text.form.title}</h1>
      {problem && <ProblemNote problem={problem} onDismiss={() => actions.dismiss("new")} />}
      <fieldset>
        <legend>{text.folders}</legend>
        <p className="hint">{text.form.foldersHint}</p>
        {folders.length > 0 && (
          <ul className="picked">
            {folders.map((folder) => (
              <FolderRow
                key={folder.grant}
                folder={folder}
                setMode={(mode) => setFolders(folders.map((other) => (other === folder ? { ...folder, mode } : other)))}
                remove={() => setFolders(folders.filter((other) => other !== folder))}
              />
            ))}
          </ul>
        )}
        <button type="button" onClick={pick} disabled={busy !== undefined}>
          {folders.length === 0 ? text.form.pick : text.form.pickAnother}
        </button>
        {busy === "picking" && <p role="status">{text.form.picking}</p>}
      </fieldset>
      <Field id="name" label={text.form.name} hint={nameFits ? text.form.nameHint : text.form.nameBad} bad={!nameFits}>
        <input
          id="name"
          value={name}
          onChange={(event) => setName(event.target.value)}
          maxLength={48}
          autoComplete="off"
          spellCheck={false}
          aria-describedby={hintOf("name")}
          aria-invalid={!nameFits}
        />
      </Field>
      <fieldset>
        <legend>{text.form.network}</legend>
        <p className="hint">{text.form.networkHint}</p>
        <PresetChoices presets={presets} set={setPresets} />
      </fieldset>
      <fieldset>
        <legend>{text.form.keys}</legend>
        <p className="hint">{keys?.length === 0 ? text.form.noKeys : text.form.keysHint}</p>
        {keys?.map(({ name, binding }) => (
          <Choice
            key={name}
            checked={secrets.includes(name)}
            set={(has) => setSecrets(choose(secrets, name, has))}
            hint={text.keys.works(binding)}
          >
            {visible(name)}
          </Choice>
        ))}
      </fieldset>
      <details>
        <summary>{text.form.more}</summary>
        <p className="hint">{text.form.sizeHint}</p>
        <div className="pair">
          <Field id="cpus" label={text.form.cpus}>
            <input id="cpus" type="number" min="1" max="64" step="1" value={cpus} onChange={(event) => setCpus(event.target.value)} />
          </Field>
          <Field id="memory" label={text.form.memory}>
            <input
              id="memory"
              type="number"
              min="0.25"
              max="256"
              step="0.25"
              value={memory}
              onChange={(event) => setMemory(event.target.value)}
            />
          </Field>
        </div>
      </details>
      <div className="actions">
        <button type="submit" className="primary" disabled={busy !== undefined || !nameFits}>
          {busy === "creating" ? text.form.creating : text.form.create}
        </button>
        <a className="button" href={addressOf({ at: "list" })}>
          {text.form.cancel}
        </a>
      </div>
    </form>
  );
}

type RowProps = Readonly<{ folder: Folder; setMode: (mode: ShareMode) => void; remove: () => void }>;

function FolderRow({ folder, setMode, remove }: RowProps) {
  const modes: readonly ShareMode[] = ["review", "rw", "ro"];
  return (
    <li>
      <strong>{visible(folder.name)}</strong>
      <select
        aria-label={text.form.mode(folder.name)}
        value={folder.mode}
        onChange={(event) => setMode(modes.find((mode) => mode === event.target.value) ?? "review")}
      >
        {modes.map((mode) => (
          <option key={mode} value={mode}>
            {text.mode[mode]}
          </option>
        ))}
      </select>
      <button type="button" onClick={remove} aria-label={text.form.removeLabel(folder.name)}>
        {text.form.remove}
      </button>
      <p className="hint">{text.modeMeans[folder.mode]}</p>
      {folder.notes.map((note) => (
        <p key={note.kind} className="note">
          {visible(note.text)}
        </p>
      ))}
    </li>
  );
}
