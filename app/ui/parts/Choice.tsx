/** One of several that can be chosen together, large enough for a finger; what is said of it stands below. */
import type { ReactNode } from "react";

type Props = Readonly<{ checked: boolean; disabled?: boolean; set: (checked: boolean) => void; hint?: string; children: ReactNode }>;

export function Choice({ checked, disabled = false, set, hint, children }: Props) {
  return (
    <label className="choice">
      <input type="checkbox" checked={checked} disabled={disabled} onChange={({ target }) => set(target.checked)} />
      <span>
        {children}
        {hint !== undefined && <span className="under hint">{hint}</span>}
      </span>
    </label>
  );
}

/** The list with the one in it, or without. */
export const choose = <T,>(chosen: readonly T[], one: T, has: boolean): readonly T[] =>
  has ? [...chosen.filter((other) => other !== one), one] : chosen.filter((other) => other !== one);
