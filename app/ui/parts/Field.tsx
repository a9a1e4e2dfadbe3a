/** One input of a form with its label, and what is said of it. The input has the same `id`, and is described by `hintOf(id)` where there is a hint. */
import type { ReactNode } from "react";

type Props = Readonly<{ id: string; label: string; hint?: string; bad?: boolean; children: ReactNode }>;

export const hintOf = (id: string) => `${id}-hint`;

export function Field({ id, label, hint, bad = false, children }: Props) {
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      {children}
      {hint !== undefined && (
        <p id={hintOf(id)} className={bad ? "bad" : "hint"}>
          {hint}
        </p>
      )}
    </div>
  );
}
