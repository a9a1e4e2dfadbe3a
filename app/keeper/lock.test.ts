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

  it("a killed holder whose parent never noticed does not keep it", async () => {
    // the shell starts a child that ends, and turns into a program that never waits for it
    const parent = spawn("/bin/bash", ["-c", "sleep 0.1 & echo $!; exec sleep 60"]);
    try {
      const pid = Number(await new Promise((resolve) => parent.stdout.once("data", (chunk) => resolve(String(chunk)))));
      const fields = () => {
        const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
        return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      };
      writeFileSync(lock, `${pid} ${fields()[19]}\n`);
      expect(takeLock(lock)).toBe(false);
      while (fields()[0] !== "Z") await new Promise((resolve) => setTimeout(resolve, 10));
      expect(takeLock(lock)).toBe(true);
    } finally {
      parent.kill("SIGKILL");
    }
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
