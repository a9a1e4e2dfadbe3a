/** The user's keys: where each works, which tasks have it. A value is typed here, handed over once, and kept nowhere in the page. */
import { type FormEvent, useEffect, useRef, useState } from "react";
import { type SecretView, secretName, secretUse, type TaskView } from "../../contract/index.ts";
import { useActions, usePageState } from "../page.ts";
import { ConfirmButton } from "../parts/ConfirmButton.tsx";
import { Field, hintOf } from "../parts/Field.tsx";
import { text } from "../text.ts";
import { visible } from "../visible.ts";

export function KeysPane({ task }: Readonly<{ task: TaskView }>) {
  const { listKeys } = useActions();
  const keys = usePageState((state) => state.keys);
  const changed = usePageState((state) => state.changed.keys);
  // biome-ignore lint/correctness/useExhaustiveDependencies: read again after each change of the keys, whoever made it
  useEffect(() => void listKeys(), [changed, listKeys]);
  if (keys === undefined) return <p role="status">{text.keys.reading}</p>;
  return (
    <>
      <section aria-labelledby="keys-title">
        <h2 id="keys-title">{text.keys.title}</h2>
        <p className="hint">{text.keys.hint}</p>
        {keys.secrets.length === 0 && <p className="hint">{text.keys.none}</p>}
        <ul className="change-list reached">
          {keys.secrets.map((secret) => (
            <Key key={secret.name} task={task} secret={secret} />
          ))}
        </ul>
      </section>
      <NewKey task={task} usable={keys.keychain.usable} keychain={keys.keychain.text} />
    </>
  );
}

function Key({ task, secret }: Readonly<{ task: TaskView; secret: SecretView }>) {
  const { attachKey, detachKey, removeKey } = useActions();
  const { name, binding, source, tasks } = secret;
  const given = task.network.secrets.some((one) => one.name === name);
  return (
    <li className="change">
      <div className="row">
        <strong className="path">{visible(name)}</strong>
        <button type="button" onClick={() => (given ? detachKey(task.id, name) : attachKey(task.id, name))}>
          {given ? text.keys.take : text.keys.give}
        </button>
        <ConfirmButton label={text.keys.remove} sure={text.keys.removeSure} disabled={false} act={() => removeKey(task.id, name)} />
      </div>
      <p className="hint">{text.keys.works(binding)}</p>
      <p className="hint">{text.keys.source[source.kind]}</p>
      <p className="hint">{text.keys.tasks(tasks)}</p>
    </li>
  );
}

function NewKey({ task, usable, keychain }: Readonly<{ task: TaskView; usable: boolean; keychain: string }>) {
  const { addKey } = useActions();
  const value = useRef<HTMLInputElement>(null);
  const [name, setName] = useState("");
  const [hosts, setHosts] = useState("");
  const [use, setUse] = useState("bearer");
  const [env, setEnv] = useState("");
  const [busy, setBusy] = useState(false);
  const how = secretUse.safeParse(use);
  const names = hosts.split(/[\s,]+/).filter((host) => host !== "");
  const fits = secretName.safeParse(name).success && names.length > 0 && how.success && /^([A-Za-z_][A-Za-z0-9_]{0,127})?$/.test(env);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    const typed = value.current?.value ?? "";
    if (!fits || !how.success || typed === "") return;
    setBusy(true);
    const added = await addKey(task.id, {
      name,
      source: { kind: usable ? "keychain" : "memory" },
      value: typed,
      binding: { hosts: names, use: how.data, ...(env === "" ? {} : { env }) },
    });
    setBusy(false);
    if (value.current) value.current.value = "";
    if (!added) return;
    setName("");
    setHosts("");
    setEnv("");
  };
  return (
    <section aria-labelledby="new-key-title">
      <form onSubmit={submit} className="new-key">
        <h2 id="new-key-title">{text.keys.add}</h2>
        <p className="hint">{visible(keychain)}</p>
        <Field id="key-name" label={text.keys.name}>
          <input
            id="key-name"
            value={name}
            onChange={(event) => setName(event.target.value)}
            maxLength={64}
            autoComplete="off"
            spellCheck={false}
          />
        </Field>
        <Field id="key-value" label={text.keys.value} hint={text.keys.valueHint}>
          <input id="key-value" ref={value} type="password" autoComplete="off" maxLength={16_384} aria-describedby={hintOf("key-value")} />
        </Field>
        <Field id="key-hosts" label={text.keys.hosts}>
          <input id="key-hosts" value={hosts} onChange={(event) => setHosts(event.target.value)} autoComplete="off" spellCheck={false} />
        </Field>
        <div className="pair">
          <Field id="key-use" label={text.keys.use}>
            <input
              id="key-use"
              value={use}
              onChange={(event) => setUse(event.target.value)}
              list="key-uses"
              autoComplete="off"
              aria-invalid={!how.success}
            />
            <datalist id="key-uses">
              {["bearer", "x-api-key", "basic", "header:NAME"].map((each) => (
                <option key={each} value={each} />
              ))}
            </datalist>
          </Field>
          <Field id="key-env" label={text.keys.env}>
            <input id="key-env" value={env} onChange={(event) => setEnv(event.target.value)} autoComplete="off" spellCheck={false} />
          </Field>
        </div>
        <div className="actions">
          <button type="submit" className="primary" disabled={busy || !fits}>
            {text.keys.addAndGive}
          </button>
        </div>
      </form>
    </section>
  );
}
