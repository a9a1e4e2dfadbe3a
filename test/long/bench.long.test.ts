/** The bench measures: nothing else would notice when it no longer does. Its numbers are not judged here, on a machine with other work. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, it } from "vitest";

const repo = join(import.meta.dirname, "..", "..");
/** `tree` takes 25 minutes of an emulated guest and is left to its reader. */
const SECTIONS = ["start", "exec", "share", "idle", "proxy"];

interface Report {
  sections: Record<string, { rows: unknown[] }>;
}

it("one round of each section gives a number for each of its rows", async () => {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [join(repo, "build/bench.mjs"), "--only", SECTIONS.join(","), "--rounds", "1", "--json"],
    { cwd: repo, maxBuffer: 1 << 26 },
  );
  const { sections } = JSON.parse(stdout) as Report;
  expect(Object.keys(sections)).toEqual(SECTIONS);
  for (const [name, { rows }] of Object.entries(sections)) {
    expect(rows, name).not.toEqual([]);
    for (const row of rows)
      expect(row, name).toMatchObject({ name: expect.any(String), ours: { median: expect.any(Number), min: expect.any(Number) } });
    expect(JSON.stringify(rows), "peers that were not measured").not.toContain("NOT MEASURED");
  }
});
