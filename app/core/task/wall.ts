/**
 * The wall in one sentence, made from what the task's share servers and network really let through, never from intentions.
 * Names are shown as they are in the guest, so they carry no control characters.
 */
import type { ShareView } from "../../contract/index.ts";

/** What the policy says of a task's network. */
export interface NetworkWords {
  /** what it may reach and with which keys; empty: nothing */
  readonly reaches: string;
  /** names of the keys it was given for hosts that it may not reach */
  readonly idleKeys: readonly string[];
  /** why its policy cannot be used, where it cannot: then nothing is reached */
  readonly broken?: string;
}

export function wallSentence(
  shares: readonly Pick<ShareView, "name" | "mode">[],
  { reaches, idleKeys, broken }: NetworkWords = { reaches: "", idleKeys: [] },
): string {
  const named = (mode: ShareView["mode"]) => shares.filter((share) => share.mode === mode).map((share) => share.name);
  const parts: string[] = [];
  if (named("review").length > 0) parts.push(`propose changes in ${list(named("review"))}`);
  if (named("rw").length > 0) parts.push(`change files directly in ${list(named("rw"))}`);
  if (named("ro").length > 0) parts.push(`read ${list(named("ro"))}`);
  if (reaches !== "") parts.push(reaches);
  const idle = idleKeys.length === 0 ? "" : `your ${idleKeys.length === 1 ? "key" : "keys"} ${list(idleKeys)} can go nowhere`;
  const why = broken === undefined ? "" : ` Nothing passes, as its network rules cannot be used: ${broken}.`;
  if (parts.length === 0)
    return `This task sees none of your folders, has no network${idle === "" ? " and no keys" : `, and ${idle}`}.${why}`;
  const lacks = [
    shares.length === 0 ? "it sees none of your folders" : "",
    reaches === "" ? `it has no network${idle === "" ? " and no keys" : ""}` : "",
    idle,
  ].filter(Boolean);
  return `This task can ${parts.join(", ")}, and nothing else${lacks.length > 0 ? `: ${lacks.join(", ")}` : ""}.${why}`;
}

function list(names: readonly string[]): string {
  const last = names.at(-1) ?? "";
  return names.length === 1 ? last : `${names.slice(0, -1).join(", ")} and ${last}`;
}
