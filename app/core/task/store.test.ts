import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { emptyPolicy, readPolicy } from "../egress/index.ts";
import { Paths } from "../paths.ts";
import { TaskStore } from "./store.ts";

const v1 = readFileSync(join(import.meta.dirname, "fixtures/task.v1.json"), "utf8");
const v2 = readFileSync(join(import.meta.dirname, "fixtures/task.v2.json"), "utf8");
const v3 = readFileSync(join(import.meta.dirname, "fixtures/task.v3.json"), "utf8");
const v4 = readFileSync(join(import.meta.dirname, "fixtures/task.v4.json"), "utf8");
let home: string;
let paths: Paths;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "store-"));
  paths = new Paths({ home, runtime: home });
});
afterEach(() => rmSync(home, { recursive: true }));

function put(text: string): string {
  const { directory, file } = paths.task("0123456789abcdef");
  mkdirSync(directory, { recursive: true });
  writeFileSync(file, text);
  return file;
}

describe("tasks on disk", () => {
  it("a file of version 1 becomes today's once, and stays beside it as it was", () => {
    const file = put(v1);
    const task = new TaskStore(paths).get("0123456789abcdef");
    const { shares, ...rest } = JSON.parse(v1);
    const today = { id: expect.stringMatching(/^[0-9a-f]{8}$/), hideSecrets: false, localFolders: false, notes: [] };
    expect(task).toEqual({ ...rest, version: 4, shares: [{ ...shares[0], ...today }] });
    expect(JSON.parse(readFileSync(file, "utf8"))).toEqual(task);
    expect(readFileSync(join(paths.task("0123456789abcdef").directory, "task.v1.json"), "utf8")).toBe(v1);
    expect(new TaskStore(paths).get("0123456789abcdef")).toEqual(task);
  });

  it("a file of version 2 becomes today's once, and stays beside it as it was", () => {
    const file = put(v2);
    const task = new TaskStore(paths).get("0123456789abcdef");
    expect(task).toEqual({ ...JSON.parse(v2), version: 4 });
    expect(JSON.parse(readFileSync(file, "utf8"))).toEqual(task);
    expect(readFileSync(join(paths.task("0123456789abcdef").directory, "task.v2.json"), "utf8")).toBe(v2);
  });

  it("a file of version 3 becomes today's once, with a network through which nothing passes", () => {
    put(v3);
    const task = new TaskStore(paths).get("0123456789abcdef");
    expect(task).toEqual({ ...JSON.parse(v3), version: 4 });
    expect(readPolicy(paths.task("0123456789abcdef").policy)).toEqual(emptyPolicy());
  });

  it("a policy that is there already is not touched when its task's file becomes today's", () => {
    put(v3);
    const { policy } = paths.task("0123456789abcdef");
    writeFileSync(policy, "not JSON");
    new TaskStore(paths);
    expect(readFileSync(policy, "utf8")).toBe("not JSON");
  });

  it("a file of version 4 is read, and written back as it was", async () => {
    const file = put(v4);
    const store = new TaskStore(paths);
    const task = store.get("0123456789abcdef");
    expect(task).toEqual(JSON.parse(v4));
    if (task) await store.save(task);
    expect(JSON.parse(readFileSync(file, "utf8"))).toEqual(JSON.parse(v4));
  });

  it.each([
    ["a newer version", v4.replace('"version": 4', '"version": 5'), "newer Cloche"],
    ["an unknown field", v1.replace('"sudo"', '"pseudo": 1, "sudo"'), "does not fit"],
    ["half a file", v1.slice(0, 100), "JSON"],
    ["a copy of another task's", v1.replace("0123456789abcdef", "00000000000000aa"), "it is the file of task 00000000000000aa"],
  ])("%s is left as it is and named, and the other tasks are there", (_, text, why) => {
    const file = put(text);
    const other = paths.task("00000000000000aa");
    mkdirSync(other.directory);
    writeFileSync(other.file, v1.replace("0123456789abcdef", "00000000000000aa"));
    const store = new TaskStore(paths);
    expect(store.unreadable).toEqual([{ id: "0123456789abcdef", why: expect.stringContaining(why) }]);
    expect(readFileSync(file, "utf8")).toBe(text);
    expect(store.all()).toHaveLength(1);
  });
});
