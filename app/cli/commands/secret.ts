/** `cloche secret`: keys, where they work, and which tasks may use them. Their values are read here and printed nowhere. */
import { resolve } from "node:path";
import {
  type Client,
  ProblemError,
  type SecretBinding,
  type SecretSource,
  type SecretView,
  secretName,
  secretUse,
} from "../../contract/index.ts";
import { type OptionTable, type Parsed, parse, usage } from "../args.ts";
import { hostArgument, texts } from "../rule-arguments.ts";
import { readValue } from "../secret-value.ts";
import { columns, note, print, printJson, type Session } from "../session.ts";
import { oneLine, sourceWords } from "../show-network.ts";

const JSON_OPTION: OptionTable = { "--json": "flag" };
const ADD_OPTIONS: OptionTable = {
  ...JSON_OPTION,
  "--host": "values",
  "--as": "value",
  "--env": "value",
  "--method": "values",
  "--path": "values",
  "--query": "values",
  "--in-body": "flag",
  "--from-env": "value",
  "--from-file": "value",
  "--memory": "flag",
};
const FROM_COMMAND = "--from-command";
const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;

export const SECRET_VERBS = { add, ls: list, rm: remove, test, give, take } as const;

export async function secret(session: Session, args: readonly Buffer[]): Promise<number> {
  const [verb, ...rest] = args;
  const name = verb?.toString() ?? "";
  if (!Object.hasOwn(SECRET_VERBS, name))
    throw usage(`\`cloche secret\` takes ${Object.keys(SECRET_VERBS).join(", ")}: cloche secret add NAME --host api.example.com.`);
  return SECRET_VERBS[name as keyof typeof SECRET_VERBS](session, rest);
}

async function add(session: Session, args: readonly Buffer[]): Promise<number> {
  const at = args.findIndex((word) => word.toString() === FROM_COMMAND);
  const command = at < 0 ? undefined : texts(args.slice(at + 1));
  const parsed = parse(at < 0 ? args : args.slice(0, at), ADD_OPTIONS);
  const [name, ...rest] = parsed.words;
  if (rest.length > 0) {
    // what is too much here may be the key, so it is not repeated
    throw usage(
      "`cloche secret add` takes a name and no value: other programs can read a command line.",
      "Leave the value out and type it when asked, or pipe it in: cloche secret add NAME --host HOST < FILE.",
    );
  }
  if (name === undefined) throw usage("`cloche secret add` needs a name: cloche secret add NAME --host api.example.com.");
  const checked = secretName.safeParse(name);
  if (!checked.success) throw usage(`${JSON.stringify(name)} cannot be a name: ${checked.error.issues[0]?.message}.`);
  const binding = bindingArguments(parsed);
  const source = sourceArguments(parsed, command);
  const keeper = await session.keeper();
  if (source.kind === "keychain") await needKeychain(keeper);
  const value = source.kind === "keychain" || source.kind === "memory" ? { value: await readValue(name) } : {};
  const made = await keeper.call("secrets.add", { name, source, binding, ...value });
  if (parsed.flags.has("--json")) await printJson(made);
  else {
    note(
      `cloche: ${oneLine(`${made.name} works at ${made.binding.hosts.join(", ")} (${sentWords(made)}), kept in: ${sourceWords(made.source)}.`)}`,
    );
    note(`cloche: no task has it yet: \`cloche secret give TASK ${made.name}\`, or \`cloche run --secret ${made.name} …\`.`);
  }
  return 0;
}

export function bindingArguments({ lists, values, flags }: Parsed): SecretBinding {
  const hosts = texts(lists["--host"]).map((text) => {
    const { host, port } = hostArgument(text, "--host");
    if (port !== undefined)
      throw usage("--host takes a host without a port: a key goes out over TLS, to port 443.", `Write --host ${host}.`);
    if (host.includes("*"))
      throw usage(`A key works at exact hosts only, not at ${JSON.stringify(host)}.`, "Name each host with a --host of its own.");
    return host;
  });
  if (hosts.length === 0) throw usage("A key needs the host that it works at: --host api.example.com.");
  const use = secretUse.safeParse(values["--as"] ?? "bearer");
  if (!use.success) throw usage(`--as takes bearer, x-api-key, basic or header:NAME, not ${JSON.stringify(values["--as"])}.`);
  const env = values["--env"];
  if (env !== undefined && !VARIABLE.test(env))
    throw usage("--env takes the name of the variable that holds the stand-in, and no value: --env API_KEY.");
  const methods = texts(lists["--method"]).map((method) => method.toUpperCase());
  for (const method of methods)
    if (!/^[A-Z]{1,32}$/.test(method)) throw usage(`--method takes a method such as GET, not ${JSON.stringify(method)}.`);
  const paths = texts(lists["--path"]);
  for (const path of paths) if (!path.startsWith("/")) throw usage(`--path takes a path that begins with /, not ${JSON.stringify(path)}.`);
  const query = texts(lists["--query"]);
  return {
    hosts,
    use: use.data,
    ...(methods.length > 0 ? { methods } : {}),
    ...(paths.length > 0 ? { paths } : {}),
    ...(query.length > 0 ? { query } : {}),
    ...(flags.has("--in-body") ? { body: true as const } : {}),
    ...(env === undefined ? {} : { env }),
  };
}

export function sourceArguments({ values, flags }: Parsed, command: readonly string[] | undefined): SecretSource {
  const { "--from-env": env, "--from-file": file } = values;
  const given = [env, file, command, flags.has("--memory") || undefined].filter((source) => source !== undefined);
  if (given.length > 1) throw usage("A key comes from one place: one of --from-env, --from-file, --from-command and --memory.");
  if (env !== undefined) {
    if (!VARIABLE.test(env)) throw usage("--from-env takes the name of a variable and no value.");
    return { kind: "env", name: env };
  }
  if (file !== undefined) return { kind: "file", path: resolve(file) };
  if (command) {
    if (command.length === 0 || command[0] === "")
      throw usage("--from-command needs a command, and stands last: --from-command pass show api.");
    return { kind: "command", argv: [...command] };
  }
  return flags.has("--memory") ? { kind: "memory" } : { kind: "keychain" };
}

/** Asked before a person types the key for nothing. */
async function needKeychain(keeper: Client): Promise<void> {
  const { keychain } = await keeper.call("secrets.list", {});
  if (keychain.usable) return;
  throw new ProblemError({
    code: "secret.keychain",
    message: "There is no keychain here that the key could be kept in, so it was not asked for.",
    evidence: keychain.text,
    next: [
      "Keep it until the keeper ends with --memory.",
      "Or have it read at each use: --from-env VAR, --from-file FILE, or --from-command CMD….",
    ],
  });
}

async function list(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, JSON_OPTION);
  if (parsed.words.length > 0) throw usage("`cloche secret ls` takes no name; `cloche secret test NAME` looks at one.");
  const found = await (await session.keeper()).call("secrets.list", {});
  if (parsed.flags.has("--json")) {
    await printJson(found);
    return 0;
  }
  if (found.secrets.length === 0) note("cloche: no keys. Add one: cloche secret add NAME --host api.example.com.");
  else {
    const rows = found.secrets.map((view) => [
      view.name,
      view.binding.hosts.join(" "),
      sentWords(view),
      view.binding.env ?? "–",
      sourceWords(view.source),
      view.tasks.join(" ") || "–",
    ]);
    await print(columns([["NAME", "WORKS AT", "SENT AS", "VARIABLE", "KEPT IN", "TASKS"], ...rows.map((row) => row.map(oneLine))]));
  }
  note(`cloche: ${oneLine(found.keychain.text)}`);
  return 0;
}

function sentWords({ binding }: SecretView): string {
  const { use, methods, paths, query, body } = binding;
  const words: string[] = [use];
  if (query) words.push(`or in ?${query.join(", ?")}`);
  if (body) words.push("or in the body");
  if (methods) words.push(`with ${methods.join(",")} only`);
  if (paths) words.push(`under ${paths.join(" ")} only`);
  return words.join(" ");
}

async function remove(session: Session, args: readonly Buffer[]): Promise<number> {
  const { words } = parse(args, {});
  if (words.length === 0) throw usage("`cloche secret rm` needs a name: cloche secret rm NAME….");
  const keeper = await session.keeper();
  for (const name of words) {
    await keeper.call("secrets.remove", { name });
    note(`cloche: ${oneLine(name)} is gone here. At its host it works on until you take it back there.`);
  }
  return 0;
}

async function test(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, JSON_OPTION);
  const [name, ...rest] = parsed.words;
  if (name === undefined || rest.length > 0) throw usage("`cloche secret test` needs one name: cloche secret test NAME.");
  const tested = await (await session.keeper()).call("secrets.test", { name });
  await (parsed.flags.has("--json") ? printJson(tested) : print(oneLine(tested.text)));
  return tested.usable ? 0 : 125;
}

async function give(session: Session, args: readonly Buffer[]): Promise<number> {
  const { task, name, parsed } = taskAndKey(args, "give");
  const view = await (await session.keeper()).call("secrets.attach", { task, name });
  if (parsed.flags.has("--json")) await printJson(view);
  else note(`cloche: ${oneLine(view.wall)} Commands started from now on have the stand-in.`);
  return 0;
}

async function take(session: Session, args: readonly Buffer[]): Promise<number> {
  const { task, name, parsed } = taskAndKey(args, "take");
  const view = await (await session.keeper()).call("secrets.detach", { task, name });
  if (parsed.flags.has("--json")) await printJson(view);
  else note(`cloche: ${oneLine(view.wall)} The stand-in that ${view.name} still holds works no longer.`);
  return 0;
}

function taskAndKey(args: readonly Buffer[], verb: string) {
  const parsed = parse(args, JSON_OPTION);
  const [task, name, ...rest] = parsed.words;
  if (task === undefined || name === undefined || rest.length > 0)
    throw usage(`\`cloche secret ${verb}\` needs a task and a key: cloche secret ${verb} TASK NAME.`);
  return { task, name, parsed };
}
