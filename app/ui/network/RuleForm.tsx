/** The rule that would be made, in words, before it is: for how long, and whether it allows or refuses. */
import { useState } from "react";
import { type Rule, type RuleDraft, ruleScope } from "../../contract/index.ts";
import { text } from "../text.ts";

type Props = Readonly<{
  offer: RuleDraft;
  /** undefined when it was refused; the task's problem says why */
  make: (decision: "allow" | "deny", scope: Rule["scope"]) => Promise<Rule | undefined>;
}>;

export function RuleForm({ offer, make }: Props) {
  const [scope, setScope] = useState<Rule["scope"]>("task");
  const [busy, setBusy] = useState(false);
  const click = async (decision: "allow" | "deny") => {
    setBusy(true);
    await make(decision, scope);
    setBusy(false);
  };
  return (
    <div className="buttons">
      <span>{text.network.offer(offer)}</span>
      <select
        aria-label={text.network.howLong}
        value={scope}
        onChange={(event) => setScope(ruleScope.options.find((each) => each === event.target.value) ?? "task")}
      >
        {ruleScope.options.map((each) => (
          <option key={each} value={each}>
            {text.network.scope[each]}
          </option>
        ))}
      </select>
      <button type="button" disabled={busy} onClick={() => click("allow")}>
        {text.network.allow}
      </button>
      {/* one that refused once would let pass what comes after */}
      <button type="button" disabled={busy || scope === "once"} onClick={() => click("deny")}>
        {text.network.deny}
      </button>
    </div>
  );
}
