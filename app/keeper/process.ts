/**
 * The keeper's process. Started by a client, detached; says `ready`, `busy` or one Problem as JSON on stdout, once, and nothing after
 * that. Its own messages go to keeper.log.
 */
import { appendFileSync, renameSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";
import packageJson from "../../package.json" with { type: "json" };
import { toProblem } from "../contract/index.ts";
import { componentsPath, endpoint, makeDirectories, readComponents } from "../contract/node/index.ts";
import { Paths } from "../core/index.ts";
import { Keeper } from "./index.ts";

const LOG_PART_BYTES = 4 << 20;

const at = endpoint();
const { keeperLog, home } = new Paths(at);

function log(line: string): void {
  try {
    makeDirectories(home);
    appendFileSync(keeperLog, `${new Date().toISOString()} ${line}\n`, { mode: 0o600 });
    if (statSync(keeperLog).size > LOG_PART_BYTES) renameSync(keeperLog, `${keeperLog}.1`);
  } catch {
    // a full disk loses log lines; what matters is in the events, which do refuse
  }
}

const say = (line: string) => new Promise<void>((resolve) => process.stdout.write(`${line}\n`, () => resolve()));

process.stdout.on("error", () => {}); // the client that started us reads one line and goes
process.umask(0o077);
process.title = "cloche keeper";

process.on("uncaughtException", (error) => {
  log(`ended by a mistake of its own: ${error.stack ?? error.message}`);
  process.exit(1); // machines end with their helpers' stdin; the next keeper sweeps and says what was interrupted
});

try {
  const keeper = await Keeper.start({
    endpoint: at,
    components: readComponents(componentsPath(fileURLToPath(import.meta.url))),
    version: packageJson.version,
    onEnded: () => process.exit(0),
    log,
  });
  if (!keeper) {
    await say("busy");
    process.exit(0);
  }
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => void keeper.end(`got ${signal}`));
  process.on("SIGHUP", () => {}); // the terminal it was started from may close
  await say("ready");
} catch (error) {
  const problem = toProblem(error);
  log(`${problem.code}: ${problem.message} ${problem.evidence ?? ""}`);
  await say(JSON.stringify(problem));
  process.exit(1);
}
