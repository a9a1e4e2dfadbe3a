/**
 * `cloche prove`: tries to get out of a task of its own on this computer, as the guest's user and as its root, and tells what held. The
 * verdicts are this computer's: its files, the logs of its servers, the task's events, the task's disk.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Client,
  type EgressEntry,
  Frame,
  FrameDecoder,
  ProblemError,
  type ProofReport,
  problemSchema,
  type RuleDraft,
} from "../../contract/index.ts";
import { endpoint, openStream } from "../../contract/node/index.ts";
import { parse, usage } from "../args.ts";
import { columns, note, print, printJson, type Session } from "../session.ts";
import { searchFile } from "./disk.ts";
import { GUEST_PROGRAM } from "./guest.ts";
import { type Origins, startOrigins } from "./origins.ts";
import { judge, type Verdict } from "./verdicts.ts";

/** The longest a round of probes may take; most of it is the guest's time under emulation. */
const ROUND_MS = 45_000;
/** A public address at which nothing is reached, as nothing gets there: it is in no rule. */
const ADDRESS = "192.88.98.1";

export async function prove(session: Session, args: readonly Buffer[]): Promise<number> {
  const { flags, words } = parse(args, { "--json": "flag" });
  if (words.length > 0) throw usage("`cloche prove` takes no word: cloche prove [--json].");
  const began = performance.now();
  const keeper = await session.keeper();
  const place = mkdtempSync(join(tmpdir(), "cloche-prove-"));
  const origins = await startOrigins();
  const secret = `prove-${randomBytes(4).toString("hex")}`;
  let task: string | undefined;
  let report: ProofReport;
  try {
    note("cloche: a task is made that tries to get out of itself, as its user and as its root.");
    const files = makeFiles(place);
    const value = randomBytes(24).toString("hex");
    const path = (name: string) => Buffer.from(join(place, name)).toString("base64");
    await keeper.call("secrets.add", {
      name: secret,
      source: { kind: "memory" },
      value,
      binding: { hosts: ["127.0.0.1"], use: "bearer", paths: ["/keyed/*"], env: "PROVE_KEY" },
    });
    const { grant: folder } = await keeper.call("grants.create", { path: path("folder") });
    const { grant: shown } = await keeper.call("grants.create", { path: path("shown") });
    const made = await keeper.call("tasks.create", {
      shares: [{ grant: folder }, { grant: shown, mode: "ro" }],
      ephemeral: true,
      sudo: true,
      env: {},
      network: { presets: [], rules: rulesFor(origins) },
      secrets: [secret],
      trust: [origins.certificate],
    });
    task = made.id;
    await keeper.call("tasks.start", { task, lease: "client" });
    note(`cloche: ${made.wall}`);
    const rounds: Round[] = [];
    let standIn = "";
    for (const as of ["user", "root"] as const) {
      const round = { as, foreign: randomBytes(20).toString("hex"), name: `${randomBytes(8).toString("hex")}.example.net` };
      standIn = await runRound(keeper, task, { ...round, origins, files, shares: made.shares });
      rounds.push(round);
    }
    const [onDisk, entries, changes] = [
      await searchFile(join(endpoint().home, "tasks", task, "disk.raw"), { value, standIn }), // which the guest was told to write back
      await entriesOf(keeper, task),
      await changesOf(keeper, task),
    ];
    const now = {
      canary: readFileSync(files.canaryFile, "utf8"),
      inside: readFileSync(files.insideFile, "utf8"),
      shown: readIfThere(files.shownFile),
    };
    const probes = rounds.flatMap((round) => judge({ ...round, origins, entries, changes, ...files, now, value, onDisk }));
    report = { probes, tookMs: Math.round(performance.now() - began) };
    await keeper.call("prove.record", { task, report });
  } finally {
    if (task) await keeper.call("tasks.remove", { task, discard: true }).catch(() => {});
    await keeper.call("secrets.remove", { name: secret }).catch(() => {});
    origins.close();
    rmSync(place, { recursive: true, force: true });
  }
  if (flags.has("--json")) await printJson({ version: 1, ...report });
  else await print(table(report));
  return report.probes.every(({ verdict }) => verdict === "held") ? 0 : 1;
}

function makeFiles(place: string) {
  for (const name of ["folder", "shown", "beside"]) mkdirSync(join(place, name));
  const text = () => randomBytes(16).toString("hex");
  const files = {
    canary: text(),
    inside: text(),
    shown: text(),
    canaryFile: join(place, "beside", "canary.txt"),
    insideFile: join(place, "folder", "inside.txt"),
    shownFile: join(place, "shown", "shown.txt"),
  };
  writeFileSync(files.canaryFile, files.canary);
  writeFileSync(files.insideFile, files.inside);
  writeFileSync(files.shownFile, files.shown);
  return files;
}
type Files = ReturnType<typeof makeFiles>;
/** One round of probes, with texts that no other has. */
type Round = { readonly as: "user" | "root"; readonly foreign: string; readonly name: string };

/** This computer's own addresses are private: each rule names the one that its host may have. */
function rulesFor({ bound, other, plain }: Origins): RuleDraft[] {
  const allow = (host: string, port: number, range: string): RuleDraft => ({ decision: "allow", host, port, private: range });
  return [
    allow("127.0.0.1", bound.port, "127.0.0.1/32"),
    allow("127.0.0.1", plain.port, "127.0.0.1/32"),
    allow("[::1]", other.port, "::1/128"),
    { decision: "allow", host: "169.254.169.254" },
  ];
}

/** Runs the guest's program; answers with what it holds in the key's place. */
async function runRound(
  keeper: Client,
  task: string,
  round: Round & { origins: Origins; files: Files; shares: readonly { guestPath: string }[] },
): Promise<string> {
  const { as, origins, files, foreign, name, shares } = round;
  const standIn = (await output(keeper, task, ["printenv", "PROVE_KEY"])).trim();
  const given = {
    tag: as,
    key: standIn,
    ports: { bound: origins.bound.port, other: origins.other.port, plain: origins.plain.port, unlisted: origins.unlisted.port },
    folder: shares[0]?.guestPath,
    shown: shares[1]?.guestPath,
    canaries: [files.canaryFile, "../beside/canary.txt"],
    address: ADDRESS,
    foreign,
    name,
  };
  await output(keeper, task, [...(as === "root" ? ["sudo", "-n"] : []), "python3", "-c", GUEST_PROGRAM, JSON.stringify(given)]);
  return standIn;
}

/** What a command wrote, both of its outputs. Its status says nothing here: the verdicts are not the guest's. */
async function output(keeper: Client, task: string, argv: readonly string[]): Promise<string> {
  const command = argv.map((argument) => Buffer.from(argument).toString("base64"));
  const { ticket } = await keeper.call("tasks.exec", { task, command, env: {}, timeoutMs: ROUND_MS });
  const stream = await openStream(ticket);
  const decoder = new FrameDecoder();
  let text = "";
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    for (const { type, payload } of decoder.push(chunk)) {
      if ((type === Frame.stdout || type === Frame.stderr) && text.length < 65_536) text += Buffer.from(payload).toString("utf8");
      if (type === Frame.problem) throw new ProblemError(problemSchema.parse(JSON.parse(Buffer.from(payload).toString("utf8"))));
    }
  }
  return text;
}

async function entriesOf(keeper: Client, task: string): Promise<EgressEntry[]> {
  const entries: EgressEntry[] = [];
  for (let after = 0; ; ) {
    const { events, next } = await keeper.call("events.read", { task, after, limit: 1000, waitMs: 0 });
    for (const { kind, data } of events)
      if (kind === "egress.decided" || kind === "egress.ended") entries.push(...(data.entries as EgressEntry[]));
    if (events.length === 0) return entries;
    after = next;
  }
}

async function changesOf(keeper: Client, task: string): Promise<string[]> {
  const { folders } = await keeper.call("changes.list", { task, limit: 500 });
  return folders.flatMap(({ changes }) => changes.map(({ path }) => path.text));
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return ""; // it was deleted, which is a verdict of its own
  }
}

function table({ probes, tookMs }: ProofReport): string {
  const words = { held: "held", broken: "BROKEN", void: "VOID" } as const;
  const rows = probes.map(({ id, as, verdict, text }) => [words[verdict], as, id, text]);
  const count = (verdict: Verdict["verdict"]) => probes.filter((probe) => probe.verdict === verdict).length;
  const lines = [
    columns(rows),
    `${count("held")} held, ${count("broken")} broken, ${count("void")} void (the control failed, so nothing is proved); ${(tookMs / 1000).toFixed(1)} s`,
  ];
  return lines.join("\n");
}
