import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { releaseLock, takeLock } from "./lock.ts";

let directory: string;
let lock: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "lock-"));
  lock = join(directory, "lock");
});
afterEach(() => rmSync(directory, { recursive: true }));

describe("one keeper per user", () => {
  it("a living holder keeps the lock, and it is free when released", () => {
    expect(takeLock(lock)).toBe(true);
    expect(takeLock(lock)).toBe(false);
    releaseLock(lock);
    expect(takeLock(lock)).toBe(true);
  });

  it("a killed holder's lock is taken over", async () => {
    const child = spawn("/bin/sleep", ["60"]);
    const stat = readFileSync(`/proc/${child.pid}/stat`, "latin1");
    writeFileSync(lock, `${child.pid} ${stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]}\n`);
    expect(takeLock(lock)).toBe(false);
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
    expect(takeLock(lock)).toBe(true);
  });

  it("another process with the holder's number does not keep it", () => {
    writeFileSync(lock, `${process.pid} 1\n`);
    expect(takeLock(lock)).toBe(true);
  });

  it.each(["", "x y\n", "-1 5\n", "0 0\n"])("a file that names no process does not keep it: %j", (text) => {
    writeFileSync(lock, text);
    expect(takeLock(lock)).toBe(true);
    expect(existsSync(`${lock}.${process.pid}`)).toBe(false);
  });
});
