/** `cloche ssh-config`: what ssh and editors need to reach a task; `cloche ssh-stream` is the stream that it names. */
import { openStream } from "../../contract/node/index.ts";
import { parse, usage } from "../args.ts";
import { note, print, type Session } from "../session.ts";

export async function sshConfig(session: Session, args: readonly Buffer[]): Promise<number> {
  const [ref, ...rest] = parse(args, {}).words;
  if (rest.length > 0) throw usage("`cloche ssh-config` takes one task, or none for all that run: cloche ssh-config [TASK].");
  const keeper = await session.keeper();
  const named = ref === undefined ? (await keeper.call("tasks.list", {})).tasks : [await keeper.call("tasks.get", { task: ref })];
  const tasks = ref === undefined ? named.filter(({ state }) => state.at === "running") : named;
  if (tasks.length === 0) {
    note("cloche: no task runs, so there is nothing to reach. Start one: cloche start TASK.");
    return 0;
  }
  const hosts: string[] = [];
  for (const { id, name } of tasks) hosts.push(hostEntry(name, await keeper.call("tasks.sshFiles", { task: id })));
  await print(hosts.join("\n\n"));
  note(
    "cloche: an editor that you attach lets the task act in it: its extensions and terminals there are the task's, and it can open files and ports here. Attach only when you would run the task's code yourself.",
  );
  return 0;
}

interface SshFiles {
  readonly user: string;
  readonly identityFile: string;
  readonly knownHostsFile: string;
}

function hostEntry(name: string, { user, identityFile, knownHostsFile }: SshFiles): string {
  // ssh_config(5): `%` begins a token; a quote or a line break cannot be written at all, and no path of ours holds one
  const quoted = (path: string) => `"${path.replaceAll("%", "%%")}"`;
  return [
    `# The task ${name}, while it runs; the key is new at each start.`,
    `Host cloche-${name}`,
    `  User ${user}`,
    `  ProxyCommand ${quoted(process.execPath)} ${quoted(process.argv[1] ?? "")} ssh-stream ${name}`,
    `  IdentityFile ${quoted(identityFile)}`,
    `  UserKnownHostsFile ${quoted(knownHostsFile)}`,
    "  IdentitiesOnly yes",
    "  StrictHostKeyChecking yes",
    "  ForwardAgent no",
    "  ForwardX11 no",
  ].join("\n");
}

export async function sshStream(session: Session, args: readonly Buffer[]): Promise<number> {
  const [task, ...rest] = parse(args, {}).words;
  if (task === undefined || rest.length > 0) throw usage("`cloche ssh-stream` needs one task: cloche ssh-stream TASK.");
  const { ticket } = await (await session.keeper()).call("tasks.ssh", { task, purpose: "ssh" });
  const stream = await openStream(ticket);
  process.stdin.pipe(stream);
  stream.pipe(process.stdout);
  await new Promise<void>((resolve) => stream.once("close", () => resolve()));
  return 0;
}
