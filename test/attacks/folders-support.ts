/** What the attacks on folders share: the guest's programs, and what the host sees of the places that must not change. */
import { createHash } from "node:crypto";
import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import type { Cloche } from "../harness/index.ts";

const probes = join(import.meta.dirname, "probes");
export const probe = (name: string) => readFileSync(join(probes, name), "utf8");

export type Who = "user" | "root";
export const WHO: readonly Who[] = ["user", "root"];

/** An attempt's end in the guest: `ok`, `["ok", what came of it]`, or an errno's name. */
export type Outcome = "ok" | [string, unknown] | string;

/** Runs a Python program in the guest, as its user or as root, and answers with the JSON it ends with. */
export async function inGuest<T>(cloche: Cloche, task: string, who: Who, program: string, ...args: string[]): Promise<T> {
  const sudo = who === "root" ? ["sudo"] : [];
  // from /, so that no working directory keeps a folder mounted that the program takes off
  const command = ["sh", "-c", 'cd / && exec "$@"', "sh", ...sudo, "python3", "-", ...args];
  const ended = await cloche.ok(["exec", task, "--", ...command], { input: program });
  return JSON.parse(ended.stdout.trim().split("\n").at(-1) ?? "") as T;
}

/** Ports on which this Cloche's share servers listen: a hostile kernel knows them, as it mounted the folders. */
export const sharePorts = (cloche: Cloche): string[] => cloche.hostState().sockets.flatMap((path) => /_([0-9]+)$/.exec(path)?.[1] ?? []);

/** All that can be told of a tree without changing it: names, kinds, modes, owners, links, times of change, and the hash of each content. */
export function fingerprint(root: string): string[] {
  const lines: string[] = [];
  const one = (path: string, name: string): void => {
    const found = lstatSync(path, { bigint: true });
    const content = found.isFile()
      ? createHash("sha256").update(readFileSync(path)).digest("hex")
      : found.isSymbolicLink()
        ? readlinkSync(path)
        : "";
    lines.push([name, found.mode.toString(8), found.uid, found.nlink, found.mtimeNs, found.ctimeNs, content].join(" "));
    if (found.isDirectory()) for (const entry of readdirSync(path).sort()) one(join(path, entry), `${name}/${entry}`);
  };
  one(root, ".");
  return lines;
}

/** Every outcome in a report that is not one of `allowed`, with the way to it. */
export function unlike(report: unknown, allowed: readonly string[], at = ""): string[] {
  if (typeof report === "string") return allowed.includes(report) ? [] : [`${at}: ${report}`];
  if (Array.isArray(report) && report[0] === "ok" && report.length === 2) return [`${at}: ok ${JSON.stringify(report[1])}`];
  if (report !== null && typeof report === "object")
    return Object.entries(report).flatMap(([name, value]) => unlike(value, allowed, `${at}/${name}`));
  return [`${at}: ${JSON.stringify(report)}`];
}

export const allRefused = (report: unknown, ...allowed: string[]) => expect(unlike(report, allowed)).toEqual([]);

/** What came of each way to bring something to a protected name. */
export type Planted = Record<string, Record<string, Outcome>>;

/** Everything in the folder whose content, or whose text if it is a link, the guest planted. */
function planted(root: string): string[] {
  const found: string[] = [];
  const one = (path: string, name: string): void => {
    const kind = lstatSync(path);
    if (kind.isDirectory()) for (const entry of readdirSync(path)) one(join(path, entry), `${name}/${entry}`);
    else if (kind.isFile() ? readFileSync(path).includes("PLANTED") : readlinkSync(path).includes("PLANTED")) found.push(name);
  };
  one(root, "");
  return found;
}

/** F10, F11: of what the guest planted `depth` directories below `top`, the folder has the ordinary file alone; the guest has it all. */
export function nothingPlanted(work: string, top: string, depth: number, done: Planted): void {
  // what a directory held before it was moved to a protected name may stay where it was, under a name that nobody obeys
  expect(planted(join(work, top)).filter((path) => !/\/plain(\/|$)/.test(path))).toEqual([`${"/deeper".repeat(depth)}/ordinary`]);
  for (const [name, ways] of Object.entries(done)) {
    // a link of a file and its protected name cannot be one file in the folder and in the layer at once
    allRefused({ [name]: ways }, "ok", "EXDEV", "EPERM", "EOPNOTSUPP");
    expect([name, ways.create, ways.rename_file]).toEqual([name, "ok", "ok"]);
  }
}
