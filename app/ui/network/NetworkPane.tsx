/** What the task asked to reach: questions first, then every host with what was decided, and the rules that were made here. */
import { useEffect, useState } from "react";
import type { AskView, NetworkPreset, Rule, RuleDraft, RuleScope, TaskView } from "../../contract/index.ts";
import { useActions, usePageState } from "../page.ts";
import { NOTHING, type Row, rulesAbout, type Site } from "../store/network.ts";
import { bytes, text } from "../text.ts";
import { visible } from "../visible.ts";
import { PresetChoices } from "./PresetChoices.tsx";
import { RuleForm } from "./RuleForm.tsx";

/** Rules shown below the hosts; a task with more is for the command line. */
const SHOWN_RULES = 50;
/** Questions shown at once: the first ones wait. */
const SHOWN_ASKS = 20;

export function NetworkPane({ task }: Readonly<{ task: TaskView }>) {
  const { watchAsks, listRules } = useActions();
  const asks = usePageState((state) => state.asks)?.filter((ask) => ask.task === task.name) ?? [];
  const { sites, forgotten } = usePageState((state) => state.reached[task.id]) ?? NOTHING;
  const rules = usePageState((state) => state.rules[task.id]);
  const changed = usePageState((state) => state.changed.policy);
  const connected = usePageState((state) => state.connection.at === "connected");
  useEffect(() => {
    if (connected) void watchAsks(task.id); // a new connection watches nothing yet
  }, [connected, task.id, watchAsks]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: read again after each change of the policy, whoever made it
  useEffect(() => void listRules(task.id), [task.id, changed, listRules]);
  const own = rules?.filter(({ from }) => from !== "preset") ?? [];
  return (
    <>
      {task.network.problem !== undefined && <p className="note">{visible(task.network.problem)}</p>}
      {asks.length > 0 && (
        <section aria-labelledby="asks-title">
          <h2 id="asks-title">{text.network.asks}</h2>
          <ul className="change-list reached">
            {asks.slice(0, SHOWN_ASKS).map((ask) => (
              <Ask key={ask.id} task={task.id} ask={ask} />
            ))}
          </ul>
          {asks.length > SHOWN_ASKS && <p className="hint">{text.network.moreAsks(asks.length - SHOWN_ASKS)}</p>}
        </section>
      )}
      <section aria-labelledby="reached-title">
        <h2 id="reached-title">{text.network.reached}</h2>
        {sites.length === 0 && <p className="hint">{text.network.nothing}</p>}
        {sites.map((site) => (
          <SiteRows key={site.domain} task={task} site={site} own={own} />
        ))}
        {forgotten > 0 && <p className="hint">{text.network.forgottenSites(forgotten)}</p>}
      </section>
      <section aria-labelledby="rules-title">
        <h2 id="rules-title">{text.network.rules}</h2>
        {own.length === 0 && <p className="hint">{text.network.noRules}</p>}
        <ul className="change-list reached">
          {own.slice(0, SHOWN_RULES).map((rule) => (
            <RuleRow key={rule.id} task={task.id} rule={rule} />
          ))}
        </ul>
        {own.length > SHOWN_RULES && <p className="hint">{text.network.moreRules(own.length - SHOWN_RULES)}</p>}
        <Presets task={task} />
      </section>
    </>
  );
}

function Presets({ task }: Readonly<{ task: TaskView }>) {
  const { setPresets } = useActions();
  // what was clicked is shown until the keeper has it, or refused it
  const [wanted, setWanted] = useState<readonly NetworkPreset[]>();
  const had = task.network.presets.join();
  // biome-ignore lint/correctness/useExhaustiveDependencies: the keeper has others now, whoever set them
  useEffect(() => setWanted(undefined), [had]);
  const set = async (presets: readonly NetworkPreset[]) => {
    setWanted(presets);
    if (!(await setPresets(task.id, presets))) setWanted(undefined);
  };
  return (
    <fieldset className="presets">
      <legend>{text.network.presets}</legend>
      <p className="hint">{text.network.presetsHint}</p>
      <PresetChoices presets={wanted ?? task.network.presets} disabled={wanted !== undefined} set={set} />
    </fieldset>
  );
}

function Ask({ task, ask }: Readonly<{ task: string; ask: AskView }>) {
  const { answerAsk } = useActions();
  // Later requests to the domain change the question, so the one that was read first is the one that is answered.
  const [{ request, offer }] = useState(ask);
  return (
    <li className="change">
      <div className="row">
        <span className="kind">{ask.state === "pending" ? text.network.held : text.network.refused}</span>
        <span className="path">{text.network.request(request)}</span>
        {ask.count > 1 && <span className="hint">{text.network.times(ask.count)}</span>}
      </div>
      <RuleForm offer={offer} make={(decision, scope) => answerAsk(task, ask.id, offer, decision, scope)} />
    </li>
  );
}

function SiteRows({ task, site, own }: Readonly<{ task: TaskView; site: Site; own: readonly Rule[] }>) {
  return (
    <details className="site" open={site.rows.length <= 5}>
      <summary>
        <strong>{visible(site.domain)}</strong> <span className="hint">{text.network.counts(site.allowed, site.refused)}</span>
      </summary>
      <ul className="change-list reached">
        {site.rows.map((row) => (
          <ReachedRow key={row.key} task={task} row={row} rules={rulesAbout(row, own)} />
        ))}
      </ul>
      {site.forgotten > 0 && <p className="hint">{text.network.forgottenRows(site.forgotten)}</p>}
    </details>
  );
}

/** @param rules those of the user's that speak of it, to be taken back where their effect is seen */
function ReachedRow({ task, row, rules }: Readonly<{ task: TaskView; row: Row; rules: readonly Rule[] }>) {
  const { offerFor, addRule } = useActions();
  const [offer, setOffer] = useState<RuleDraft>();
  const { request, decision, rule, reason, count, secret, status, fault, sentBytes, receivedBytes } = row;
  const said = [
    rule === "default" ? "" : text.network.byRule(rule),
    secret === undefined ? "" : text.network.withKey(secret),
    status === undefined ? "" : text.network.status(status),
    fault === undefined ? "" : visible(fault),
    sentBytes + receivedBytes === 0 ? "" : text.network.sizes(bytes(sentBytes), bytes(receivedBytes)),
  ].filter((part) => part !== "");
  return (
    <li className={`change ${decision === "allow" ? "is-new" : "is-deleted"}`}>
      <div className="row">
        <span className="kind">{text.network.decision[decision]}</span>
        <span className="path">{text.network.request(request)}</span>
        {count > 1 && <span className="hint">{text.network.times(count)}</span>}
        {offer === undefined && (
          <button type="button" onClick={async () => setOffer(await offerFor(task.id, request))}>
            {text.network.change}
          </button>
        )}
      </div>
      {said.length > 0 && <p className="hint">{said.join(" · ")}</p>}
      {decision === "deny" && <p className="hint">{visible(reason)}</p>}
      {rules.length > 0 && (
        <div>
          {rules.map((one) => (
            <div key={one.id} className="row">
              <span className="hint">{text.network.ruleNow(one)}</span>
              <TakeBack task={task.id} rule={one.id} />
            </div>
          ))}
        </div>
      )}
      {offer && (
        <RuleForm
          offer={offer}
          make={async (chosen, scope) => {
            const made = await addRule(task.id, { ...offer, decision: chosen }, scope);
            if (made) setOffer(undefined);
            return made;
          }}
        />
      )}
    </li>
  );
}

function TakeBack({ task, rule }: Readonly<{ task: string; rule: string }>) {
  const { removeRule } = useActions();
  return (
    <button type="button" onClick={() => removeRule(task, rule)} aria-label={text.network.undoLabel(rule)}>
      {text.network.undo}
    </button>
  );
}

function RuleRow({ task, rule }: Readonly<{ task: string; rule: Rule }>) {
  return (
    <li className="change">
      <div className="row">
        <span className="kind">{visible(rule.id)}</span>
        <span className="path">{text.network.rule(rule)}</span>
        <TakeBack task={task} rule={rule.id} />
      </div>
      <p className="hint">{text.network.scope[rule.scope satisfies RuleScope]}</p>
    </li>
  );
}
