/** `logs` and `events`: what a task did and said. Guest text is shown with its control characters made visible. */
import { type EventEnvelope, type Problem, type TaskView, visible } from "../../contract/index.ts";
import { duration, parse, usage } from "../args.ts";
import { print, printJson, type Session } from "../session.ts";

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
    else for (const event of part.events) await print(json ? JSON.stringify(event) : eventLine(event, names));
    if (!follow && part.events.length === 0) break;
  }
  if (json) await printJson({ events: all });
  return 0;
}

function eventLine(event: EventEnvelope, names: ReadonlyMap<string, string>): string {
  const about = event.task === undefined ? "keeper" : (names.get(event.task) ?? String(event.data.name ?? event.task));
  const claim = event.source === "guest" ? " (the guest says)" : "";
  const by = event.actor.kind === "user" ? ` by ${event.actor.via ?? "user"}` : "";
  return visible(`${event.time.slice(0, 23).replace("T", " ")}  ${about}  ${event.kind}${claim}${by}  ${eventDetail(event)}`)
    .replaceAll("\n", " ⏎ ")
    .trimEnd();
}

function eventDetail(event: EventEnvelope): string {
  const { data } = event;
  if (event.kind === "task.failed") {
    const { message, code } = data.problem as Problem;
    return `${message} [${code}]`;
  }
  return Object.entries(data)
    .map(([key, value]) => `${key}=${typeof value === "string" && /^[\w.:/-]+$/.test(value) ? value : JSON.stringify(value)}`)
    .join(" ");
}
