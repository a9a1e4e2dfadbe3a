/** What is to be said of a folder besides its name and mode, one short text each; safe to show. */
import { type ShareView, visible } from "../contract/index.ts";
import { size, waitingWords } from "./show-changes.ts";

export function folderFacts(task: string, share: ShareView): string[] {
  const { secrets, room, refused, problem, notes, hideSecrets, versionLimitBytes } = share;
  const facts: string[] = [];
  const waiting = waitingWords([share]);
  if (waiting !== "") facts.push(waiting);
  if (secrets && secrets.names.length > 0) {
    const names = `${secrets.names.join(", ")}${secrets.more ? ", …" : ""}`;
    facts.push(hideSecrets ? `hidden from the task: ${names}` : `looks like secrets: ${names} (hide them with --hide-secrets)`);
  } else if (hideSecrets) facts.push("names that look like secrets are hidden");
  if (!share.localFolders && share.mode !== "ro") facts.push("dependency folders are kept here");
  facts.push(...notes.map(({ text }) => text));
  if (versionLimitBytes !== undefined) facts.push(`its versions may take ${size(versionLimitBytes)}`);
  if (room) {
    facts.push(
      `a write to ${room.path.text} waits up to a minute: what it would destroy needs ${size(room.neededBytes)}, and versions take ${size(room.usedBytes)} of the ${size(room.limitBytes)} they may`,
      `→ \`cloche folder room ${task} ${share.name} allow\` (or refuse)`,
    );
  }
  for (const one of [refused?.problem, problem]) {
    if (one) facts.push(`${one.message} [${one.code}]`, ...one.next.map((step) => `→ ${step}`));
  }
  return facts.map((fact) => visible(fact).replaceAll("\n", " "));
}
