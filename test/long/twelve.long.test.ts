import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Cloche } from "../harness/index.ts";

const cloche = new Cloche();
afterAll(() => cloche.end());

describe("twelve tasks at once", () => {
  it("each runs in a machine of its own, sees its own folder only, and leaves nothing", async () => {
    const numbers = Array.from({ length: 12 }, (_, n) => n);
    for (const n of numbers) {
      mkdirSync(join(cloche.directory, `folder-${n}`));
      writeFileSync(join(cloche.directory, `folder-${n}/in`), String(n));
    }
    const before = cloche.hostState();
    const runs = await Promise.all(
      numbers.map((n) =>
        cloche.run([
          "run",
          "--share",
          `${join(cloche.directory, `folder-${n}`)}:rw`,
          "--memory",
          "512m",
          "--",
          "sh",
          "-c",
          "cat in; ls ~; cat in > out; sleep 5",
        ]),
      ),
    );
    expect(runs.map(({ status, stdout, stderr }) => (status === 0 ? stdout : stderr))).toEqual(numbers.map((n) => `${n}folder-${n}\n`));
    expect(numbers.map((n) => readFileSync(join(cloche.directory, `folder-${n}/out`), "utf8"))).toEqual(numbers.map(String));
    expect(await cloche.quiet(15_000)).toEqual(before.processes);
    expect(cloche.hostState().mounts).toBe(before.mounts);
  });
});
