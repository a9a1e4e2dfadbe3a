/** The wall's words about the network: made of the rules that decide, never of intentions. */
import type { Rule } from "../../../contract/index.ts";
import { matchesHost } from "./names.ts";

/** Hosts that a sentence names; of more it says how many there are. */
const NAMED = 6;

/**
 * Such as "reach api.example.com with your key (it never sees it), and the hosts of the preset packages"; empty where nothing may
 * be reached. A host that a rule refuses whole is not named; one of which a part is refused is.
 */
export function networkWords(
  rules: readonly Rule[],
  secrets: readonly { readonly name: string; readonly hosts: readonly string[] }[],
): string {
  const refused = rules.filter(({ decision, port, methods, paths }) => decision === "deny" && !port && !methods && !paths);
  const allowing = rules.filter(({ decision, host }) => decision === "allow" && !refused.some((deny) => covers(deny.host, host)));
  const own = allowing.filter(({ from }) => from !== "preset");
  const hosts = new Map<string, string>();
  for (const { host, port, opaque } of own) {
    const shown = port === undefined ? host : `${host}:${port}`;
    const keys = secrets.filter(({ hosts }) => !opaque && hosts.some((bound) => matchesHost(host, bound)));
    const key =
      keys.length === 0
        ? ""
        : ` with your ${keys.length === 1 ? "key" : "keys"} ${keys.map(({ name }) => name).join(" and ")} (it never sees ${keys.length === 1 ? "it" : "them"})`;
    hosts.set(shown, `${shown}${opaque ? " unread" : ""}${key}`);
  }
  const presets = [...new Set(allowing.filter(({ from }) => from === "preset").map(({ id }) => id.slice(0, id.indexOf("/"))))];
  const named = [...hosts.values()].slice(0, NAMED);
  if (hosts.size > NAMED) named.push(`${hosts.size - NAMED} more hosts`);
  for (const preset of presets) {
    const of = allowing.filter(({ id }) => id.startsWith(`${preset}/`));
    const keys = secrets.filter(({ hosts }) =>
      hosts.some(
        (bound) => of.some(({ host }) => matchesHost(host, bound)) && !hosts.some((one) => own.some(({ host }) => matchesHost(host, one))),
      ),
    );
    const key =
      keys.length === 0
        ? ""
        : ` with your ${keys.length === 1 ? "key" : "keys"} ${keys.map(({ name }) => name).join(" and ")} (it never sees ${keys.length === 1 ? "it" : "them"})`;
    named.push(`${new Set(of.map(({ host }) => host)).size} hosts of ${preset}${key}`);
  }
  if (named.length === 0) return "";
  const last = named.at(-1) ?? "";
  return `reach ${named.length === 1 ? last : `${named.slice(0, -1).join(", ")} and ${last}`}`;
}

/** Whether everything that one pattern stands for is what another one stands for. */
const covers = (wide: string, narrow: string) =>
  wide === narrow || (wide.startsWith("*.") && (narrow.startsWith("*.") ? narrow.endsWith(wide.slice(1)) : matchesHost(wide, narrow)));
