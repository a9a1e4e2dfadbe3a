import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Paths } from "../paths.ts";
import { AuditLog } from "./log.ts";

const task = "0123456789abcdef";
let home: string;
let paths: Paths;
let log: AuditLog;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "verify-"));
  paths = new Paths({ home, runtime: home });
  mkdirSync(paths.task(task).directory, { recursive: true });
  log = new AuditLog(paths);
  for (let n = 0; n < 6; n++) log.record("task.stopping", { reason: `reason ${n}` }, { task });
  log.record("keeper.ended", { reason: "test" });
});
afterEach(() => rmSync(home, { recursive: true }));

const file = () => paths.task(task).audit;
const lines = () => readFileSync(file(), "utf8").trimEnd().split("\n");
const rewrite = (changed: string[]) => writeFileSync(file(), `${changed.join("\n")}\n`);
const verify = (by = log) => by.verify(() => "receipts");

describe("P08: what was done to a log is found", () => {
  it("nothing, in one that nobody touched, and it says that it is not anchored", async () => {
    expect(await verify()).toMatchObject({
      files: 2,
      events: 7,
      findings: [],
      anchored: false,
      anchor: expect.stringContaining("unanchored"),
    });
  });

  it.each([
    [
      "a word of a record",
      (all: string[]) => all.map((line, at) => (at === 2 ? line.replace("reason 2", "reason X") : line)),
      "changed",
      3,
    ],
    ["a record taken out", (all: string[]) => all.filter((_, at) => at !== 2), "changed", 3],
    ["two records in each other's place", (all: string[]) => [all[1] ?? "", all[0] ?? "", ...all.slice(2)], "order", 2],
    ["a line that is no record", (all: string[]) => [...all.slice(0, 2), "{}", ...all.slice(2)], "unreadable", 3],
    ["the last record cut off", (all: string[]) => all.slice(0, -1), "cut", 5],
  ])("%s", async (_, change, what, line) => {
    rewrite(change(lines()));
    expect((await verify()).findings).toContainEqual({ task: "receipts", line, what, text: expect.any(String) });
  });

  it("a line that a crash cut short is no finding: it was never acknowledged", async () => {
    appendFileSync(file(), '{"version": 1, "id"');
    expect((await verify(new AuditLog(paths))).findings).toEqual([]);
  });
});
