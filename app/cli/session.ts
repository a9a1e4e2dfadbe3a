/** What every verb needs: the keeper, a way to print, and where the parts are. */
import { randomBytes } from "node:crypto";
import { lstatSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { type Client, formatProblem, type Problem, ProblemError, type TaskView, taskRef, taskUnknown } from "../contract/index.ts";
import { type Components, connectKeeper, endpoint, type Spawned } from "../contract/node/index.ts";

export interface Session {
  readonly components: Components;
  /** connects on first use; starts the keeper when none runs */
  keeper(): Promise<Client>;
  close(): void;
}

/** `begun`: a keeper that was spawned before the program was read. */
export function openSession(components: () => Components, begun?: Promise<Spawned>): Session {
  let client: Promise<Client> | undefined;
  return {
    get components() {
      return components();
    },
    keeper() {
      const parts = components();
      client ??= connectKeeper("cli", { node: parts.node, entry: parts.app.keeper }, endpoint(), begun).then(forTypedTasks);
      return client;
    },
    close() {
      void client?.then((open) => open.close()).catch(() => {});
    },
  };
}

/** Tells of a word that can name no task as of one that names none; the keeper would refuse it as a request of another version's. */
export function forTypedTasks(client: Client): Client {
  return {
    ...client,
    async call(method, params) {
      const { task } = params as { readonly task?: unknown };
      if (typeof task === "string" && !taskRef.safeParse(task).success) throw taskUnknown(task);
      return client.call(method, params);
    },
  };
}

/** Ours, to the person: always standard error, so that standard output is the workload's alone. */
export function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

export function noteProblem(problem: Problem): void {
  note(`cloche: ${formatProblem(problem)}`);
}

/** A verb's result, on standard output. Resolves when it is written. */
export function print(text: string): Promise<void> {
  return new Promise((resolve) => process.stdout.write(text.endsWith("\n") ? text : `${text}\n`, () => resolve()));
}

export const printJson = (value: unknown) => print(JSON.stringify(value, null, 2));

/**
 * Refuses a place for a result that cannot be written, before anything is done that would have no other witness: a file is made there
 * and removed again, as rights, read-only filesystems and names that are too long are told by nothing else as surely.
 */
export function checkResultPlace(path: string): void {
  const refused = (why: string) =>
    new ProblemError({
      code: "usage",
      message: `--result ${JSON.stringify(path)} cannot be written, so nothing was started.`,
      evidence: why,
      next: ["Name a file, in a directory that is there and that you may write to."],
    });
  if (path === "" || path.endsWith("/")) throw refused("it names no file");
  const made = beside(path);
  let isDirectory: boolean | undefined;
  try {
    isDirectory = lstatSync(path, { throwIfNoEntry: false })?.isDirectory();
    writeFileSync(made, "", { mode: 0o600, flag: "wx" });
    rmSync(made);
  } catch (error) {
    throw refused((error as Error).message);
  }
  if (isDirectory) throw refused("it is a directory");
}

/**
 * A result where a workload cannot forge it: a file, written whole or not at all. The folder may be one that the workload writes to, so
 * the file is a new one of a name that it cannot know, and a link at the result's own name is replaced. A result that cannot be written
 * is told of and changes no status: that is the workload's.
 */
export function writeResult(path: string, value: unknown): void {
  const made = beside(path);
  try {
    writeFileSync(made, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600, flag: "wx" });
    renameSync(made, path);
  } catch (error) {
    noteProblem({
      code: "result.unwritten",
      message: `The result could not be written to ${path}; the exit status is the same as with it.`,
      evidence: (error as Error).message,
      next: ["See that the directory is there and has room before the next run."],
    });
    try {
      rmSync(made, { force: true });
    } catch {
      // a part of it is left at a place of which was just told that it cannot be used
    }
  }
}

/** A name beside the path that nobody can know. */
const beside = (path: string) => `${path}.${randomBytes(8).toString("hex")}`;

/** Columns padded to their widest cell, two spaces apart. */
export function columns(rows: readonly (readonly string[])[]): string {
  const widths = rows.reduce<number[]>((widest, row) => row.map((cell, index) => Math.max(widest[index] ?? 0, cell.length)), []);
  return rows
    .map((row) =>
      row
        .map((cell, index) => (index === row.length - 1 ? cell : cell.padEnd(widths[index] ?? 0)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

export function stateWord(task: TaskView): string {
  if (task.state.at !== "starting") return task.state.at;
  const open = task.state.steps.find((step) => step.endedMs === undefined);
  return open ? `starting (${open.step})` : "starting";
}
