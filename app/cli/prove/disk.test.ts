import { mkdtempSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { searchFile } from "./disk.ts";

const MIB = 1 << 20;
const VALUE = "the-value-of-a-key-0123456789";
const OTHER = "a-stand-in";

let place: string;
beforeEach(() => {
  place = mkdtempSync(join(tmpdir(), "cloche-disk-"));
});
afterEach(() => rmSync(place, { recursive: true, force: true }));

/** A sparse file of a length with texts at places. */
async function disk(length: number, ...written: readonly (readonly [number, string])[]): Promise<string> {
  const path = join(place, "disk.raw");
  await using file = await open(path, "w");
  await file.truncate(length);
  for (const [at, text] of written) await file.write(Buffer.from(text), 0, undefined, at);
  return path;
}
const search = async (path: string) => searchFile(path, { value: VALUE, other: OTHER });

describe("a key on a task's disk", () => {
  it("is found wherever it stands: at the beginning, at the end, between holes and between other bytes", async () => {
    for (const at of [0, 1, 5 * MIB, 9 * MIB - VALUE.length])
      expect(await search(await disk(9 * MIB, [at, VALUE])), `at ${at}`).toEqual({ value: 1, other: 0 });
    const path = await disk(64 * MIB, [3 * MIB, `${"x".repeat(MIB - 7)}${VALUE}${"y".repeat(2 * MIB)}`], [40 * MIB, OTHER]);
    expect(await search(path)).toEqual({ value: 1, other: 1 });
  });

  it("is found across every border of what is read at once", async () => {
    for (let before = 1; before < VALUE.length; before++)
      for (const border of [4096, 65_536])
        expect((await search(await disk(MIB, [0, "x".repeat(border - before) + VALUE]))).value, `${before} before ${border}`).toBe(1);
  });

  it("is not found where it is not: in nothing, in a part of it, in one that a hole divides", async () => {
    expect(await search(await disk(64 * MIB))).toEqual({ value: 0, other: 0 });
    expect(await search(await disk(0))).toEqual({ value: 0, other: 0 });
    expect(await search(await disk(9 * MIB, [MIB, VALUE.slice(0, 10)], [5 * MIB, VALUE.slice(1)]))).toEqual({ value: 0, other: 0 });
    expect(await searchFile(await disk(MIB, [0, "x"]), { value: "" })).toEqual({ value: 0 });
  });

  it("16 GiB that were never written are not read", async () => {
    const path = await disk(16 * 1024 * MIB, [12 * 1024 * MIB, VALUE]);
    const began = process.cpuUsage();
    expect(await search(path)).toEqual({ value: 1, other: 0 });
    expect(process.cpuUsage(began).user / 1e6, "reading them would take several seconds of a processor").toBeLessThan(2);
  });

  it("is not said to be absent where the disk could not be read", async () => {
    await expect(search(join(place, "nothing.raw"))).rejects.toThrow("could not be looked through");
  });
});
