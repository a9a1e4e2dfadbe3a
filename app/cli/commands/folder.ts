/** `cloche folder`: a task's folders, also while it runs. */
import type { Params, TaskView } from "../../contract/index.ts";
import { byteSize, type OptionTable, type Parsed, parse, shareArgument, usage } from "../args.ts";
import { columns, note, print, printJson, type Session } from "../session.ts";
import { size } from "../show-changes.ts";
import { folderFacts } from "../show-folder.ts";
import { absolutePath } from "./options.ts";

const SWITCHES: OptionTable = {
  "--json": "flag",
  "--hide-secrets": "flag",
  "--show-secrets": "flag",
  "--local-folders": "flag",
  "--no-local-folders": "flag",
};

export async function folder(session: Session, args: readonly Buffer[]): Promise<number> {
  const [verb, ...rest] = args;
  switch (verb?.toString()) {
    case "add":
      return add(session, rest);
    case "set":
      return set(session, rest);
    case "rm":
      return remove(session, rest);
    case "room":
      return room(session, rest);
    case "ls":
      return list(session, rest);
    default:
      throw usage("`cloche folder` takes add, set, rm, room or ls: cloche folder add TASK DIR[:mode].");
  }
}

async function add(session: Session, args: readonly Buffer[]): Promise<number> {
  const { task, word, parsed } = taskAndFolder(args, "add", SWITCHES);
  const { path, mode, guestPath } = shareArgument(word);
  const keeper = await session.keeper();
  const { grant, notes } = await keeper.call("grants.create", { path: absolutePath(path).toString("base64") });
  for (const { text } of notes) note(`cloche: ${text}`);
  const given = { ...(mode ? { mode } : {}), ...(guestPath === undefined ? {} : { guestPath }) };
  return told(parsed, await keeper.call("folders.add", { task, grant, ...given, ...switches(parsed) }));
}

async function set(session: Session, args: readonly Buffer[]): Promise<number> {
  const { task, word, parsed } = taskAndFolder(args, "set", { ...SWITCHES, "--versions": "value" });
  const { path, mode } = shareArgument(word);
  const versions = parsed.values["--versions"];
  const limit = versions === undefined ? {} : { versionLimitBytes: byteSize(versions, "--versions") };
  const wanted = { ...(mode ? { mode } : {}), ...switches(parsed), ...limit };
  if (Object.keys(wanted).length === 0) throw usage("`cloche folder set` needs a mode or a switch: cloche folder set TASK FOLDER:ro.");
  const keeper = await session.keeper();
  return told(parsed, await keeper.call("folders.set", { task, folder: folderName(path), ...wanted }));
}

async function remove(session: Session, args: readonly Buffer[]): Promise<number> {
  const { task, word, parsed } = taskAndFolder(args, "rm", { "--json": "flag", "--discard": "flag" });
  const keeper = await session.keeper();
  return told(parsed, await keeper.call("folders.remove", { task, folder: folderName(word), discard: parsed.flags.has("--discard") }));
}

/** The answer to a write that waits for room for versions, or was refused it. */
async function room(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, { "--versions": "value" });
  const [task, , answer, ...rest] = parsed.words;
  const [, word] = parsed.rawWords;
  const versions = parsed.values["--versions"];
  if (task === undefined || word === undefined || (answer !== "allow" && answer !== "refuse") || rest.length > 0) {
    throw usage("`cloche folder room` needs a task, a folder and an answer: cloche folder room TASK FOLDER allow|refuse [--versions 10g].");
  }
  if (versions !== undefined && answer === "refuse") throw usage("--versions goes with allow.");
  const until = versions === undefined ? {} : { untilBytes: byteSize(versions, "--versions") };
  const keeper = await session.keeper();
  const name = folderName(word);
  await keeper.call("folders.room", { task, folder: name, answer, ...until });
  const limit = (await keeper.call("tasks.get", { task })).shares.find((share) => [share.name, share.guestPath].includes(name));
  note(
    answer === "refuse"
      ? "cloche: the write fails; what it would have destroyed is as it was."
      : `cloche: versions of ${name} may take ${size(limit?.versionLimitBytes ?? 0)} from now on. A write that failed has to be done again.`,
  );
  return 0;
}

async function list(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, { "--json": "flag" });
  const [task, ...rest] = parsed.words;
  if (task === undefined || rest.length > 0) throw usage("`cloche folder ls` needs one task: cloche folder ls TASK.");
  const view = await (await session.keeper()).call("tasks.get", { task });
  if (parsed.flags.has("--json")) await printJson({ folders: view.shares });
  else if (view.shares.length === 0) note(`cloche: ${view.name} has no folder of yours.`);
  else await print(columns([["FOLDER", "MODE", "IN THE TASK", "WAITING", "ABOUT"], ...view.shares.map((share) => row(view.name, share))]));
  return 0;
}

const row = (task: string, share: TaskView["shares"][number]) => [
  share.name,
  share.mode,
  share.guestPath,
  share.waiting === undefined ? "?" : String(share.waiting),
  folderFacts(task, share).join("; "),
];

async function told(parsed: Parsed, task: TaskView): Promise<number> {
  if (parsed.flags.has("--json")) await printJson(task);
  else note(`cloche: ${task.wall}`);
  return 0;
}

function switches(parsed: Parsed): Pick<Params<"folders.set">, "hideSecrets" | "localFolders"> {
  const one = (on: string, off: string) => {
    if (parsed.flags.has(on) && parsed.flags.has(off)) throw usage(`${on} and ${off} exclude each other.`);
    return parsed.flags.has(on) ? true : parsed.flags.has(off) ? false : undefined;
  };
  const hideSecrets = one("--hide-secrets", "--show-secrets");
  const localFolders = one("--local-folders", "--no-local-folders");
  return { ...(hideSecrets === undefined ? {} : { hideSecrets }), ...(localFolders === undefined ? {} : { localFolders }) };
}

/** A folder that a task has already is named as the task names it; a path's last part is that name. */
function folderName(word: Buffer): string {
  const text = word.toString("utf8").replace(/\/+$/, "");
  return text.startsWith("/home/you/") || !text.includes("/") ? text : text.slice(text.lastIndexOf("/") + 1);
}

function taskAndFolder(args: readonly Buffer[], verb: string, table: OptionTable) {
  const parsed = parse(args, table);
  const [task] = parsed.words;
  const [, word] = parsed.rawWords;
  if (task === undefined || word === undefined || parsed.words.length > 2) {
    throw usage(`\`cloche folder ${verb}\` needs a task and a folder: cloche folder ${verb} TASK DIR${verb === "rm" ? "" : "[:mode]"}.`);
  }
  return { task, word, parsed };
}
