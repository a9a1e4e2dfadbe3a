import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { EgressEntry } from "../../contract/index.ts";
import { AuditLog } from "../audit/index.ts";
import { Paths } from "../paths.ts";
import type { Vault } from "../vault/index.ts";
import { Networks } from "./index.ts";
import { createJournal, Journal, journalsIn, readJournal } from "./journal.ts";

const entry = (id: number): EgressEntry => ({
  id,
  at: Date.now(),
  what: "decided",
  request: { scheme: "https", host: "a.example", port: 443, method: "GET", path: `/${id}`, upgrade: false },
  decision: "allow",
  rule: "r1",
});
const ids = (file: string) => readJournal(file).lines.map(({ seq, entry: { id } }) => [seq, id]);

let directory: string;
let file: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "journal-"));
  file = join(directory, "journals", "one.jsonl");
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe("a proxy's journal", () => {
  let orphaned = false;
  const open = () => {
    orphaned = false;
    createJournal(file);
    return new Journal(file, () => orphaned);
  };

  it("has what was written when `write` returns, in its order, for its owner only", () => {
    const journal = open();
    expect(journal.write([entry(7), entry(5)])).toBe(true);
    expect(journal.write([entry(8)])).toBe(true);
    expect(ids(file)).toEqual([
      [1, 7],
      [2, 5],
      [3, 8],
    ]);
    expect(journal.seq).toBe(3);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(statSync(join(directory, "journals")).mode & 0o777).toBe(0o700);
  });

  it("lets nothing leave that it has no room for", () => {
    expect(new Journal("/dev/full", () => false).write([entry(1)])).toBe(false);
    expect(open().write([entry(1)]), "with room").toBe(true);
  });

  it("lets nothing leave once its keeper is gone: the next one has read it", () => {
    const journal = open();
    expect(journal.write([entry(1)])).toBe(true);
    orphaned = true;
    expect(journal.write([entry(2)])).toBe(false);
    expect(ids(file)).toEqual([[1, 1]]);
  });

  it("is bounded, and goes on when all of it is told", () => {
    const journal = open();
    const many = Array.from({ length: 200 }, (_, at) => entry(at + 1));
    let written = 0;
    while (journal.write(many)) written += many.length;
    expect(statSync(file).size).toBeLessThan(1_200_000);
    expect(ids(file)).toHaveLength(written);
    journal.allTold();
    expect(ids(file)).toEqual([]);
    expect(journal.write([entry(1)])).toBe(true);
    expect(ids(file), "lines are numbered on").toEqual([[written + 1, 1]]);
  });

  it("is no file that was there before", () => {
    open();
    expect(() => createJournal(file)).toThrow("EEXIST");
  });

  it("leaves out a last line without its end, and counts lines that are none of its own", () => {
    open().write([entry(1)]);
    appendFileSync(file, `{"seq":2,"entry":{"id":"x"}}\n{"seq":3,"entr`);
    expect(readJournal(file)).toMatchObject({ lines: [{ seq: 1 }], unreadable: 1 });
    expect(readJournal(join(directory, "none"))).toEqual({ lines: [], unreadable: 0 });
    createJournal(`${file}2`);
    appendFileSync(`${file}2`, readFileSync(file, "utf8").replace('"journal":1', '"journal":2'));
    expect(readJournal(`${file}2`).lines, "of the header's version").toHaveLength(1);
  });

  it("of a version that is not known is not guessed at", () => {
    open().write([entry(1)]);
    const text = readFileSync(file, "utf8");
    rmSync(file);
    appendFileSync(file, text.replace('"journal":1', '"journal":2'));
    expect(readJournal(file)).toEqual({ lines: [], unreadable: 1 });
  });
});

describe("a keeper that comes after one that was killed", () => {
  const task = "0123456789abcdef";
  const setUp = () => {
    const paths = new Paths({ home: directory, runtime: directory });
    mkdirSync(paths.task(task).directory, { recursive: true });
    const audit = new AuditLog(paths);
    const networks = new Networks({
      paths,
      audit,
      vault: {} as Vault,
      programs: { node: "", proxy: "" },
      resolve: () => ({ id: task, name: "sorter" }),
      wall: () => "",
      setEnvironment: async () => {},
    });
    const journal = join(paths.task(task).journals, "one.jsonl");
    createJournal(journal);
    return { audit, networks, journal, journals: paths.task(task).journals, log: paths.task(task).audit };
  };
  const told = (log: string) =>
    (existsSync(log) ? readFileSync(log, "utf8") : "")
      .split("\n")
      .filter((text) => text.includes('"egress.decided"'))
      .flatMap((text) => (JSON.parse(text) as { data: { entries: EgressEntry[] } }).data.entries.map(({ id }) => id));

  it("P4: tells what proxies had written down, each decision once, and then forgets it", async () => {
    const { audit, networks, journal, journals, log } = setUp();
    const all = Array.from({ length: 450 }, (_, at) => entry(at + 1));
    new Journal(journal, () => false).write(all);
    await audit.keep("egress.decided", { entries: all.slice(0, 100) }, { task });
    await audit.keep("egress.decided", { entries: all.slice(300, 320) }, { task });
    await networks.recover(task);
    expect(told(log).sort((a, b) => a - b)).toEqual(all.map(({ id }) => id));
    expect(journalsIn(journals)).toEqual([]);
    await networks.recover(task);
    expect(told(log)).toHaveLength(450);
    expect((await audit.verify(() => "sorter")).findings).toEqual([]);
  });

  it("takes decisions of another proxy with the same numbers for others", async () => {
    const { audit, networks, journal, log } = setUp();
    await audit.keep("egress.decided", { entries: [{ ...entry(1), at: 1 }] }, { task });
    new Journal(journal, () => false).write([entry(1)]);
    await networks.recover(task);
    expect(told(log)).toEqual([1, 1]);
  });

  it("says once that lines could not be read, tells the others, and keeps the file", async () => {
    const { audit, networks, journal, journals, log } = setUp();
    appendFileSync(journal, "nonsense\n");
    new Journal(journal, () => false).write([entry(1)]);
    const text = readFileSync(journal, "utf8");
    for (let n = 0; n < 2; n++) await networks.recover(task);
    expect(told(log)).toEqual([1]);
    const lost = (await audit.read({ after: 0, limit: 100, waitMs: 0 })).events.filter(({ kind }) => kind === "events.lost");
    expect(lost).toMatchObject([{ data: { count: 1, why: expect.stringContaining("one.unreadable") } }]);
    expect(readFileSync(join(journals, "one.unreadable"), "utf8")).toBe(text);
  });

  it("leaves a journal that it cannot read where it is, for the next one", async () => {
    const { networks, journal, journals, log } = setUp();
    new Journal(journal, () => false).write([entry(1)]);
    const kept = `${journal}.kept`;
    renameSync(journal, kept);
    mkdirSync(journal); // reading it fails, whoever reads
    await expect(networks.recover(task)).rejects.toThrow("EISDIR");
    expect(journalsIn(journals)).toEqual([journal]);
    rmdirSync(journal);
    renameSync(kept, journal);
    await networks.recover(task);
    expect(told(log)).toEqual([1]);
    expect(journalsIn(journals)).toEqual([]);
  });
});
