import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

/** What `npm start` shows, as its user sees it: the example's own program on the parts that were built. */
const root = resolve(import.meta.dirname, "../../..");
let home: string;
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), "cloche-example-"));
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

describe("the example", () => {
  it("sorts with a key that the guest never had, sends nothing away, changes nothing before the apply, and takes it back", () => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, "build/example/main.mjs")], {
      env: { ...process.env, HOME: home, CLOCHE_HOME: undefined, CLOCHE_COMPONENTS: join(root, ".build/components.json") },
      encoding: "utf8",
      timeout: 150_000,
    });
    expect(status, stdout + stderr).toBe(0);
    expect(stdout.match(/^ {2}refused {2}/gm), stdout).toHaveLength(3);
    expect(stdout).toContain("The service was asked 2 times, 2 times with the real key.");
    expect(stdout.match(/, as before/g)).toHaveLength(2);
    expect(stderr).toContain("42 changes applied");
  }, 180_000);
});
