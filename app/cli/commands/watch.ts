/** `logs` and `events`: what a task did and said. Guest text is shown with its control characters made visible. */
import { type EventEnvelope, type TaskView, visible } from "../../contract/index.ts";
import { duration, parse, usage } from "../args.ts";
import { print, printJson, type Session } from "../session.ts";
import { many } from "../show-changes.ts";
import { eventLines } from "../show-events.ts";
import { oneLine } from "../show-network.ts";

const WAIT_MS = 10_000;
const CHUNK_BYTES = 196_608;

export async function logs(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, { "-f": "flag", "--console": "flag" });
  const [task, ...rest] = parsed.words;
  if (task === undefined || rest.length > 0) throw usage("`cloche logs` needs one task: cloche logs TASK [-f] [--console].");
  const keeper = await session.keeper();
  const log = parsed.flags.has("--console") ? ("console" as const) : ("output" as const);
  const follow = parsed.flags.has("-f");
  for (let offset = 0; ; ) {
    const part = await keeper.call("logs.read", { task, log, offset, limit: CHUNK_BYTES, waitMs: follow ? WAIT_MS : 0 });
    const bytes = Buffer.from(part.bytes, "base64");
    if (bytes.length > 0) await printBytes(bytes, log === "console");
    offset = part.next;
    if (bytes.length === 0 && (!follow || part.ended)) return 0;
  }
}

/** The workload's own bytes go out as they are to a file or pipe; a terminal gets them without what could drive it. */
function printBytes(bytes: Buffer, guestConsole: boolean): Promise<void> {
  const safe = process.stdout.isTTY || guestConsole ? Buffer.from(visible(bytes.toString("utf8"))) : bytes;
  return new Promise((resolve) => process.stdout.write(safe, () => resolve()));
}

export async function events(session: Session, args: readonly Buffer[]): Promise<number> {
  const [verb, ...more] = args;
  if (verb?.toString() === "verify") return verify(session, more);
  if (verb?.toString() === "export") return exportEvents(session, more);
  const parsed = parse(args, { "-f": "flag", "--since": "value", "--json": "flag" });
  const [task, ...rest] = parsed.words;
  if (rest.length > 0) throw usage("`cloche events` takes one task at most: cloche events [TASK] [-f] [--since 1h].");
  const keeper = await session.keeper();
  const names = new Map((await keeper.call("tasks.list", {})).tasks.map((view: TaskView) => [view.id, view.name]));
  const since = parsed.values["--since"];
  const follow = parsed.flags.has("-f");
  const json = parsed.flags.has("--json");
  const all: EventEnvelope[] = [];
  for (let after = 0; ; ) {
    const part = await keeper.call("events.read", {
      after,
      limit: 500,
      waitMs: follow ? WAIT_MS : 0,
      ...(task === undefined ? {} : { task }),
      ...(since === undefined ? {} : { sinceMs: duration(since, "--since") }),
    });
    after = part.next;
    // runs that are over are in no list, but their first event names them
    for (const { task: id, kind, data } of part.events) if (id !== undefined && kind === "task.created") names.set(id, String(data.name));
    if (json && !follow) all.push(...part.events);
    else for (const event of part.events) await print(json ? JSON.stringify(event) : eventLines(event, names).join("\n"));
    if (!follow && part.events.length === 0) break;
  }
  if (json) await printJson({ events: all });
  return 0;
}

/** Every event as one line of JSON, the oldest first: to a file or a pipe, with what was recorded and nothing left out. */
async function exportEvents(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, { "--since": "value" });
  const [task, ...rest] = parsed.words;
  if (rest.length > 0) throw usage("`cloche events export` takes one task at most: cloche events export [TASK] [--since 24h].");
  const since = parsed.values["--since"];
  const of = { ...(task === undefined ? {} : { task }), ...(since === undefined ? {} : { sinceMs: duration(since, "--since") }) };
  const keeper = await session.keeper();
  for (let after = 0; ; ) {
    const part = await keeper.call("events.read", { after, limit: 500, waitMs: 0, ...of });
    if (part.events.length === 0) return 0;
    await print(part.events.map((event) => JSON.stringify(event)).join("\n"));
    after = part.next;
  }
}

const FOUND = {
  changed: "was changed",
  missing: "lacks records",
  order: "is out of order",
  cut: "was cut off",
  unreadable: "cannot be read",
};

async function verify(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, { "--json": "flag" });
  if (parsed.words.length > 0) throw usage("`cloche events verify` takes no task: it looks at the whole log.");
  const result = await (await session.keeper()).call("events.verify", {});
  if (parsed.flags.has("--json")) await printJson(result);
  else {
    for (const { task, line, what, text } of result.findings)
      await print(oneLine(`FAILED   events of ${task ?? "the keeper"}, line ${line}: ${FOUND[what]}: ${text}`));
    const looked = `${many(result.events, "event")} in ${many(result.files, "file")}`;
    if (result.findings.length === 0) await print(`ok       ${looked}: nothing was changed, dropped, reordered or cut off`);
    else await print(`FAILED   ${looked}, ${many(result.findings.length, "finding")}`);
    await print(oneLine(`${result.anchored ? "ok      " : "warning "} ${result.anchor}`));
  }
  return result.findings.length > 0 ? 125 : 0;
}
