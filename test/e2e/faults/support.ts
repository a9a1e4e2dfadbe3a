/** What the fault suites share: the one shape of a problem, the chain of events, the parts of a machine in the host's process list. */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { CATALOGUE, type EventEnvelope, type Problem, problemSchema, type TaskView } from "../../../app/contract/index.ts";
import { type Cloche, type Finished, mountsOf } from "../../harness/index.ts";

export type Code = keyof typeof CATALOGUE;

/** Waits for a fact; the time is a bound for hung products, never the thing that is tested. */
export async function until<T>(what: string, probe: () => T | Promise<T>, withinMs = 60_000): Promise<NonNullable<T>> {
  const end = performance.now() + withinMs;
  for (;;) {
    const found = await probe();
    if (found !== undefined && found !== null && found !== false) return found as NonNullable<T>;
    if (performance.now() > end) throw new Error(`waited ${withinMs} ms in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** The problem is of the catalogue, says something, and tells what to do. */
export function wellFormed(problem: Problem | undefined, code: Code): Problem {
  const parsed = problemSchema.parse(problem);
  expect(parsed.code, JSON.stringify(parsed)).toBe(code);
  expect(Object.keys(CATALOGUE)).toContain(parsed.code);
  expect(parsed.message).toMatch(/^\S.*[.]$/s);
  expect(parsed.next.length).toBeGreaterThan(0);
  return parsed;
}

/** A command of ours that was refused or failed: 125, and exactly one problem, in the one shape, on standard error. */
export function refusedWith(finished: Finished, code: Code): Finished {
  const shown = [...finished.stderr.matchAll(/^cloche: (.+) \[([a-z.-]+)\]$/gm)].map((match) => match[2]);
  expect({ status: finished.status, shown }, finished.stderr).toEqual({ status: 125, shown: [code] });
  expect(finished.stderr).toMatch(/^ {2}→ \S/m);
  // what goes to a terminal cannot drive it
  expect(finished.stderr.replaceAll(/[\n\t]/g, "")).not.toMatch(/\p{Cc}/u);
  return finished;
}

export async function failedWith(cloche: Cloche, name: string, code: Code): Promise<Problem> {
  const { state } = await cloche.task(name);
  if (state.at !== "failed") throw new Error(`${name} is ${state.at}, not failed${cloche.diagnosis()}`);
  const problem = wellFormed(state.problem, code);
  const told = (await cloche.events(name)).filter((event) => event.kind === "task.failed").at(-1);
  expect(told?.data.problem, "the event tells what `show` tells").toEqual(problem);
  return problem;
}

export const isStopped = async (cloche: Cloche, name: string) => expect((await cloche.task(name)).state.at).toBe("stopped");

/** Processes of this Cloche that run a program of that name. */
export const running = (cloche: Cloche, ...programs: string[]) => cloche.hostState().processes.filter(runsOneOf(programs));

const runsOneOf = (programs: readonly string[]) => (line: string) =>
  programs.some((name) => line.split(" ")[1]?.split("/").at(-1)?.startsWith(name));

export function pidOf(cloche: Cloche, program: string): number {
  const [line] = running(cloche, program);
  if (line === undefined) throw new Error(`no process of this Cloche runs ${program}:\n${cloche.hostState().processes.join("\n")}`);
  return Number.parseInt(line, 10);
}

export const keeperPid = (cloche: Cloche) => Number.parseInt(readFileSync(join(cloche.runtime, "keeper.lock"), "utf8"), 10);

/** The proxy of a task's machine: told by the log that it was given. */
export function proxyPid(cloche: Cloche, taskId: string): number {
  const processes = cloche.hostState().processes.filter(isProxy);
  const [pid] = processes
    .map((line) => Number.parseInt(line, 10))
    .filter((each) => readFileSync(`/proc/${each}/environ`, "latin1").includes(join("tasks", taskId)));
  if (pid === undefined) throw new Error(`no proxy of the task ${taskId}:\n${processes.join("\n")}`);
  return pid;
}

/** What a process has in memory. */
export const megabytes = (pid: number) => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1]) / 1024;

/** The directory of a task's machine, in the runtime directory. */
export function machineDirectory(cloche: Cloche, taskId: string): string {
  const places = readdirSync(cloche.runtime).filter((name) => !name.startsWith("keeper."));
  const found = places.find((name) => readFileSync(join(cloche.runtime, name, "task"), "utf8") === taskId);
  if (found === undefined) throw new Error(`no machine of the task ${taskId}`);
  return join(cloche.runtime, found);
}

/** Ports of the host's that take the streams of a task's guest: of its way out, and of each folder. */
export const openPorts = (cloche: Cloche, taskId: string): number[] =>
  readdirSync(machineDirectory(cloche, taskId)).flatMap((name) => Number(/^v_(\d+)$/.exec(name)?.[1] ?? 0) || []);

const MACHINE_PROGRAMS = ["qemu-system", "vhost-device-vsock", "cloche-helper", "cloche-share"];
export const machineProcesses = (cloche: Cloche) => running(cloche, ...MACHINE_PROGRAMS);

const isProxy = (line: string) => line.includes("proxy.mjs");

/** Nothing of any machine is on the host: no process, its proxy neither, no socket, no mount, no directory. The keeper may live. */
export async function noMachineLeft(cloche: Cloche, withinMs = 5_000): Promise<void> {
  const end = performance.now() + withinMs;
  const ofMachines = runsOneOf(MACHINE_PROGRAMS);
  const look = () => {
    const { processes, sockets } = cloche.hostState();
    return {
      processes: processes.filter((line) => ofMachines(line) || isProxy(line)),
      mounts: mountsOf([cloche.runtime]),
      sockets: sockets.filter((path) => !path.endsWith("keeper.sock")),
      directories: existsSync(cloche.runtime) ? readdirSync(cloche.runtime).filter((name) => !name.startsWith("keeper.")) : [],
    };
  };
  const nothing = { processes: [], mounts: 0, sockets: [], directories: [] };
  while (JSON.stringify(look()) !== JSON.stringify(nothing) && performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  expect(look()).toEqual(nothing);
}

/** Every event file on disk: whole lines, ids that count up, a chain without a gap. Answers with all events. */
export function historyIsWhole(cloche: Cloche): EventEnvelope[] {
  const tasks = join(cloche.home, "tasks");
  const files = [join(cloche.home, "audit.jsonl"), ...readdirSync(tasks).map((id) => join(tasks, id, "audit.jsonl"))];
  return files.filter(existsSync).flatMap((file) => {
    const text = readFileSync(file, "utf8");
    expect(text.endsWith("\n"), file).toBe(true);
    let chain = "0".repeat(64);
    let id = 0;
    return text
      .trimEnd()
      .split("\n")
      .map((line) => {
        const { chain: found, ...body } = JSON.parse(line) as EventEnvelope;
        chain = createHash("sha256").update(chain).update(JSON.stringify(body)).digest("hex");
        expect(found, `${file}, event ${body.id}`).toBe(chain);
        expect(body.id).toBeGreaterThan(id);
        id = body.id;
        return { ...body, chain };
      });
  });
}

/** Events of tasks as they stand on disk, for looking at a start while it goes on. */
export function eventsOnDisk(cloche: Cloche): EventEnvelope[] {
  const tasks = join(cloche.home, "tasks");
  if (!existsSync(tasks)) return [];
  const events = readdirSync(tasks).flatMap((id) => {
    const file = join(tasks, id, "audit.jsonl");
    const text = existsSync(file) ? readFileSync(file, "utf8") : "";
    return text
      .slice(0, text.lastIndexOf("\n") + 1)
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as EventEnvelope);
  });
  return events.sort((a, b) => a.id - b.id);
}

export const sha256 = (bytes: string | Buffer) => createHash("sha256").update(bytes).digest("hex");

/** components.json with some programs changed; answers with its path. */
export function componentsWith(cloche: Cloche, name: string, changed: Record<string, string>): string {
  const path = join(cloche.directory, `${name}.json`);
  writeFileSync(path, JSON.stringify({ ...cloche.components, ...changed }));
  return path;
}

/** Ends the keeper, so that the next command starts one with other components. */
export async function keeperEnds(cloche: Cloche): Promise<void> {
  if (existsSync(join(cloche.runtime, "keeper.lock"))) process.kill(keeperPid(cloche), "SIGTERM");
  await until("the idle keeper's end", () => !existsSync(join(cloche.runtime, "keeper.lock")), 15_000);
}

export type { TaskView };
