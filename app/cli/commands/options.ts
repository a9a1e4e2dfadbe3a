/** Options that `run` and `new` share: what a task is made of. */
import { resolve } from "node:path";
import {
  type Client,
  checkTaskName,
  MACHINE_BOUNDS,
  MAX_RULES,
  MAX_SHARES,
  MAX_TASK_SECRETS,
  type NewFolder,
  type NewTask,
  visible,
} from "../../contract/index.ts";
import {
  diskGib,
  environmentArguments,
  memoryMib,
  type OptionTable,
  type Parsed,
  type ShareArgument,
  shareArgument,
  usage,
  wholeNumber,
} from "../args.ts";
import { hostRules, presetArguments, texts } from "../rule-arguments.ts";
import { note } from "../session.ts";

export const TASK_OPTIONS: OptionTable = {
  "--share": "values",
  "--network": "value",
  "--allow": "values",
  "--deny": "values",
  "--secret": "values",
  "--env": "values",
  "--name": "value",
  "--cpus": "value",
  "--memory": "value",
  "--disk": "value",
  "--no-sudo": "flag",
  "--hide-secrets": "flag",
  "--no-local-folders": "flag",
};

/** What was typed of a new task: its folders are paths yet, and nothing of it has been asked of the keeper. */
interface TaskOptions extends Omit<NewTask, "shares" | "ephemeral"> {
  readonly folders: readonly ShareArgument[];
  readonly switches: Pick<NewFolder, "hideSecrets" | "localFolders">;
}

export function readTaskOptions(parsed: Parsed, name = parsed.values["--name"]): TaskOptions {
  const { values, lists, flags } = parsed;
  if (name !== undefined) checkTaskName(name);
  return {
    folders: atMost(MAX_SHARES, "--share", lists["--share"]).map(shareArgument),
    switches: {
      ...(flags.has("--hide-secrets") ? { hideSecrets: true } : {}),
      ...(flags.has("--no-local-folders") ? { localFolders: false } : {}),
    },
    sudo: !flags.has("--no-sudo"),
    env: environmentArguments(lists["--env"] ?? []),
    ...(name === undefined ? {} : { name }),
    ...(values["--cpus"] === undefined ? {} : { cpus: wholeNumber(values["--cpus"], "--cpus", MACHINE_BOUNDS.cpus) }),
    ...(values["--memory"] === undefined ? {} : { memoryMib: memoryMib(values["--memory"], "--memory", MACHINE_BOUNDS.memoryMib) }),
    ...networkOptions(parsed),
    ...(values["--disk"] === undefined ? {} : { diskGib: diskGib(values["--disk"], "--disk", MACHINE_BOUNDS.diskGib) }),
  };
}

/** Makes the grants and the request for a new task. */
export async function newTaskParams(keeper: Client, { folders, switches, ...wanted }: TaskOptions, ephemeral: boolean): Promise<NewTask> {
  const shares: NewTask["shares"] = [];
  for (const { path, mode, guestPath } of folders) {
    const { grant, notes } = await keeper.call("grants.create", { path: absolutePath(path).toString("base64") });
    for (const { text } of notes) note(`cloche: ${visible(path.toString())}: ${text}`);
    shares.push({ grant, ...(mode ? { mode } : {}), ...(guestPath === undefined ? {} : { guestPath }), ...switches });
  }
  return { ...wanted, shares, ephemeral };
}

function atMost<T>(max: number, option: string, given: readonly T[] = []): readonly T[] {
  if (given.length > max) throw usage(`A task takes ${option} ${max} times at most, not ${given.length} times.`);
  return given;
}

/** What the task may reach, and the keys that work for it. */
export function networkOptions(parsed: Parsed): Pick<NewTask, "network" | "secrets"> {
  const { "--network": typed } = parsed.values;
  const presets = typed === undefined ? [] : presetArguments(typed, "--network");
  const rules = atMost(MAX_RULES, "--allow and --deny", hostRules(parsed));
  const secrets = texts(atMost(MAX_TASK_SECRETS, "--secret", parsed.lists["--secret"]));
  return {
    ...(presets.length > 0 || rules.length > 0 ? { network: { presets, rules: [...rules] } } : {}),
    ...(secrets.length > 0 ? { secrets: [...new Set(secrets)] } : {}),
  };
}

/** A path's bytes made absolute by this process's folder; Node's own `resolve` would decode them. */
export function absolutePath(path: Buffer): Buffer {
  return path[0] === 0x2f || process.platform === "win32" ? path : Buffer.concat([Buffer.from(`${resolve(".")}/`), path]);
}
