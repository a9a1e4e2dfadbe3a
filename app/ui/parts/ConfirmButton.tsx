/** A button for what cannot be taken back: the first click asks on the button itself, the second acts. It forgets when it loses the focus. */
import { useState } from "react";

type Props = Readonly<{ label: string; sure: string; disabled: boolean; act: () => void }>;

export function ConfirmButton({ label, sure, disabled, act }: Props) {
  const [asked, setAsked] = useState(false);
  const click = () => {
    setAsked(!asked);
    if (asked) act();
  };
  return (
    <button type="button" className={asked ? "danger" : ""} disabled={disabled} onClick={click} onBlur={() => setAsked(false)}>
      {asked ? sure : label}
    </button>
  );
}
