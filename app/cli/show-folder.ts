/** What is to be said of a folder besides its name and mode, one short text each; safe to show. */
import { type ShareView, visible } from "../contract/index.ts";
import { size, waitingWords } from "./show-changes.ts";

export function folderFacts(share: ShareView): string[] {
  const { secrets, room, problem, notes, hideSecrets } = share;
  const facts: string[] = [];
  const waiting = waitingWords([share]);
  if (waiting !== "") facts.push(waiting);
  if (secrets && secrets.names.length > 0) {
    const names = `${secrets.names.join(", ")}${secrets.more ? ", …" : ""}`;
    facts.push(hideSecrets ? `hidden from the task: ${names}` : `looks like secrets: ${names} (hide them with --hide-secrets)`);
  } else if (hideSecrets) facts.push("names that look like secrets are hidden");
  if (!share.localFolders && share.mode !== "ro") facts.push("dependency folders are kept here");
  facts.push(...notes.map(({ text }) => text));
  if (room) facts.push(`a write to ${room.path.text} waits for ${size(room.neededBytes)} more room for versions: allow or refuse it`);
  if (problem) facts.push(`${problem.message} [${problem.code}]`);
  return facts.map((fact) => visible(fact).replaceAll("\n", " "));
}
