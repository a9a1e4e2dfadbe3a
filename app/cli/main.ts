/**
 * The command line's entry. Reading the program takes as long as a keeper's start, so where a keeper will be needed and none has a
 * socket it is spawned first, and both go on beside each other.
 */
import { existsSync, readFileSync } from "node:fs";
import { keepCompiled } from "../contract/node/compiled.ts";
import { endpoint, isFreeForKeeper } from "../contract/node/place.ts";
import { type Spawned, spawnKeeper } from "../contract/node/spawn.ts";

/** Verbs that always end up asking the keeper. */
const ASKING = new Set([
  ...["run", "new", "start", "ls", "shell", "exec", "changes", "diff", "apply", "discard", "undo", "history", "restore"],
  ...["asks", "allow", "deny"],
]);
const START_DEADLINE_MS = 20_000;

function beginKeeper(): Promise<Spawned> | undefined {
  const list = process.env.CLOCHE_COMPONENTS;
  const at = endpoint();
  if (!list || !ASKING.has(process.argv[2] ?? "") || existsSync(at.socket) || !isFreeForKeeper(at.runtime)) return undefined;
  try {
    const { node, app } = JSON.parse(readFileSync(list, "utf8"));
    if (typeof node === "string" && typeof app?.keeper === "string") return spawnKeeper({ node, entry: app.keeper }, START_DEADLINE_MS);
  } catch {
    // the program reads the list again and says what is wrong with it
  }
  return undefined;
}

const begun = beginKeeper();
keepCompiled(import.meta);
const { main } = await import("./program.ts");
process.exitCode = await main(begun);
// streams that are still open (a terminal's input, a pipe nobody writes to) must not hold the process
if (process.stdout.writableLength === 0 && process.stderr.writableLength === 0) process.exit();
else process.stdout.once("drain", () => process.exit());
