/** Hosts by purpose: which of the presets a task has, on its own page and before it is made. */
import { type NetworkPreset, networkPreset } from "../../contract/index.ts";
import { Choice, choose } from "../parts/Choice.tsx";
import { text } from "../text.ts";

type Props = Readonly<{ presets: readonly NetworkPreset[]; disabled?: boolean; set: (presets: readonly NetworkPreset[]) => void }>;

export function PresetChoices({ presets, disabled = false, set }: Props) {
  return networkPreset.options
    .filter((each) => each !== "none")
    .map((each) => (
      <Choice key={each} checked={presets.includes(each)} disabled={disabled} set={(has) => set(choose(presets, each, has))}>
        {text.network.preset[each]}
      </Choice>
    ));
}
