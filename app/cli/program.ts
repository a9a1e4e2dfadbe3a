/** One verb, one exit status. 125 is ours; a workload's own passes through. */
import packageJson from "../../package.json" with { type: "json" };
import { ProblemError, toProblem } from "../contract/index.ts";
import { componentsPath, readComponents, type Spawned } from "../contract/node/index.ts";
import { parse, rawArguments, usage } from "./args.ts";
import * as asks from "./commands/asks.ts";
import * as changes from "./commands/changes.ts";
import { folder } from "./commands/folder.ts";
import { completion, doctor, image, web } from "./commands/host.ts";
import { policy } from "./commands/policy.ts";
import { exec, run, shell } from "./commands/run.ts";
import { secret } from "./commands/secret.ts";
import { sshConfig, sshStream } from "./commands/ssh-config.ts";
import * as tasks from "./commands/tasks.ts";
import { events, logs } from "./commands/watch.ts";
import { helpText } from "./help.ts";
import { noteProblem, openSession, print, type Session } from "./session.ts";

type Verb = (session: Session, args: readonly Buffer[]) => Promise<number>;

const help: Verb = async (_session, args) => {
  if (parse(args, {}).words.length > 0) throw usage("`cloche help` takes nothing: it is all on one screen.", "Run `cloche help`.");
  await print(helpText());
  return 0;
};

const version: Verb = async (_session, args) => {
  if (parse(args, {}).words.length > 0) throw usage("`cloche --version` takes nothing.");
  await print(`cloche ${packageJson.version}`);
  return 0;
};

/** Asked for behind a command, before anything else: what any other program shows then. */
const asksForHelp = (first: Buffer | undefined) => ["--help", "-h"].includes(first?.toString("utf8") ?? "");

const VERBS: Readonly<Record<string, Verb>> = {
  run,
  exec,
  shell,
  new: tasks.create,
  start: tasks.start,
  stop: tasks.stop,
  pause: tasks.pause,
  resume: tasks.resume,
  rm: tasks.remove,
  ls: tasks.list,
  show: tasks.show,
  prune: tasks.prune,
  folder,
  asks: asks.asks,
  allow: asks.allow,
  deny: asks.deny,
  policy,
  secret,
  changes: changes.changes,
  diff: changes.diff,
  apply: changes.apply,
  discard: changes.discard,
  undo: changes.undo,
  history: changes.history,
  restore: changes.restore,
  // its ssh library is loaded by this verb only
  cp: async (session, args) => (await import("./commands/cp.ts")).cp(session, args),
  forward: async (session, args) => (await import("./commands/forward.ts")).forward(session, args),
  "ssh-config": sshConfig,
  "ssh-stream": sshStream,
  logs,
  events,
  doctor,
  // its certificates' library is loaded by this verb only
  prove: async (session, args) => (await import("./prove/index.ts")).prove(session, args),
  image,
  web,
  completion,
  help,
  "--help": help,
  "-h": help,
  "--version": version,
};

const OURS = 125;

export async function main(begun: Promise<Spawned> | undefined): Promise<number> {
  const session = openSession(() => readComponents(componentsPath(import.meta.filename)), begun);
  try {
    return await runVerb(session, rawArguments());
  } finally {
    session.close();
  }
}

/** Runs the words of one command line; what goes wrong is told, and makes its status. */
export async function runVerb(session: Session, [verb, ...args]: readonly Buffer[]): Promise<number> {
  const name = verb?.toString("utf8") ?? "help";
  const handler = Object.hasOwn(VERBS, name) ? VERBS[name] : undefined;
  try {
    if (!handler) {
      throw new ProblemError({
        code: "usage",
        message: `There is no command ${JSON.stringify(name)}.`,
        next: ["Run `cloche help` for the commands."],
      });
    }
    return await (asksForHelp(args[0]) ? help(session, []) : handler(session, args));
  } catch (error) {
    noteProblem(toProblem(error));
    return OURS;
  }
}
