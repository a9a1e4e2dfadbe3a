/** Places that the keeper cannot use, each with its control. */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ProblemError } from "../problem.ts";
import { dataDirectory, runtimeDirectory } from "./endpoint.ts";
import { endpoint, isFreeForKeeper } from "./place.ts";

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "endpoint-"));
  writeFileSync(join(root, "file"), "");
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function refusal(call: () => void): string {
  try {
    call();
  } catch (error) {
    if (error instanceof ProblemError) return `${error.problem.code}: ${error.problem.message} → ${error.problem.next}`;
    throw error;
  }
  return "none";
}
const at = (runtime: string) => ({ ...endpoint({ CLOCHE_HOME: join(root, "home") }), runtime });

describe("the directory for data", () => {
  it("below a file, or a file itself, is refused with what to set", () => {
    for (const home of ["file/home", "file"])
      expect(refusal(() => dataDirectory(join(root, home)))).toMatch(/^keeper\.data-directory: .* → Set CLOCHE_HOME/);
  });

  it("where the system lets nobody make one is refused at once", () => {
    for (const home of ["/proc/x", "/proc/x/y"])
      expect(refusal(() => dataDirectory(home))).toMatch(/^keeper\.data-directory: .* → Set CLOCHE_HOME/);
  });

  it("is made, for its user alone", () => {
    dataDirectory(join(root, "a", "home"));
    expect(statSync(join(root, "a", "home")).mode & 0o777).toBe(0o700);
  });

  it("is one however it is written, with one runtime directory", () => {
    const home = join(root, "home");
    const of = (written: string) => endpoint({ CLOCHE_HOME: written, XDG_RUNTIME_DIR: root });
    for (const written of [relative(process.cwd(), home), `${home}/`, join(root, "x/../home")]) expect(of(written)).toEqual(of(home));
    expect(of(join(root, "other")).runtime).not.toBe(of(home).runtime); // control
  });
});

describe("the directory for sockets", () => {
  it("whose path leaves no room for a machine's sockets is refused with what to set", () => {
    const socket = "/12345678/vd/s_4294967294";
    const fits = join(root, "x".repeat(103 - socket.length - root.length - 1));
    expect(refusal(() => runtimeDirectory(at(`${fits}x`)))).toMatch(
      /^keeper\.private-directory: .*1 bytes too long.* → Set XDG_RUNTIME_DIR/,
    );
    expect(existsSync(`${fits}x`)).toBe(false);
    expect(refusal(() => runtimeDirectory(at(fits)))).toBe("none");
  });

  it("below a file is refused with what to set, also before the keeper is begun", () => {
    const runtime = join(root, "file", "run");
    expect(isFreeForKeeper(runtime)).toBe(false);
    expect(refusal(() => runtimeDirectory(at(runtime)))).toMatch(/^keeper\.private-directory: .*cannot be made.* → Set XDG_RUNTIME_DIR/);
  });

  it("that others may enter is refused, and its user's own is taken", () => {
    const runtime = join(root, "run");
    mkdirSync(runtime, { mode: 0o700 });
    chmodSync(runtime, 0o755);
    expect(refusal(() => runtimeDirectory(at(runtime)))).toContain("not private to you");
    chmodSync(runtime, 0o700);
    expect([refusal(() => runtimeDirectory(at(runtime))), isFreeForKeeper(runtime)]).toEqual(["none", true]);
  });
});
