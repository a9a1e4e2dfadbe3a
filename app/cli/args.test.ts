import { describe, expect, it } from "vitest";
import { duration, memoryMib, parse, shareArgument } from "./args.ts";

const words = (...args: string[]) => args.map((arg) => Buffer.from(arg, "latin1"));
const table = { "--share": "values", "--name": "value", "-t": "flag" } as const;

describe("a command line", () => {
  it("ends our options at -- and keeps every byte behind it", () => {
    const parsed = parse(words("--name", "x", "--", "sh", "-t", "--name", "\xff", ""), table, 0);
    expect(parsed.workload).toEqual(words("sh", "-t", "--name", "\xff", ""));
    expect(parsed.values).toEqual({ "--name": "x" });
  });

  it("ends our options at the workload's first word, too", () => {
    expect(parse(words("-t", "sh", "--name", "y"), table, 0).workload).toEqual(words("sh", "--name", "y"));
    expect(parse(words("task", "sh", "--name"), table, 1)).toMatchObject({ words: ["task"], workload: words("sh", "--name") });
  });

  it.each([
    ["an unknown option", ["--nam", "x"], 'no option "--nam"'],
    ["a missing value", ["--name"], "--name needs a value"],
    ["a value for a flag", ["-t", "--name=x", "--name=y"], "given twice"],
  ])("refuses %s", (_, args, message) => {
    expect(() => parse(words(...args), table, 0)).toThrow(message);
  });

  it.each([
    ["dir", { path: "dir" }],
    ["dir:ro", { path: "dir", mode: "ro" }],
    ["C:\\x:rw", { path: "C:\\x", mode: "rw" }],
    ["a:b", { path: "a:b" }],
    ["dir:rw=/work", { path: "dir", mode: "rw", guestPath: "/work" }],
    ["dir=/work", { path: "dir", guestPath: "/work" }],
    ["od\nd:ro", { path: "od\nd", mode: "ro" }],
    ["x:ro:rw", { path: "x:ro", mode: "rw" }],
  ])("reads the folder %j", (text, expected) => {
    const { path, ...rest } = shareArgument(Buffer.from(text, "latin1"));
    expect({ path: path.toString("latin1"), ...rest }).toEqual(expected);
  });

  it("keeps a folder's bytes when they are not UTF-8", () => {
    expect(shareArgument(Buffer.from([0x61, 0xff, 0x3a, 0x72, 0x77])).path).toEqual(Buffer.from([0x61, 0xff]));
  });

  it("reads times and sizes, and refuses others", () => {
    expect([duration("30m", "x"), duration("90", "x"), duration("250ms", "x")]).toEqual([1_800_000, 90_000, 250]);
    expect([memoryMib("2g", "x"), memoryMib("512", "x"), memoryMib("1GiB", "x")]).toEqual([2048, 512, 1024]);
    for (const bad of ["", "0", "-1", "1w", "1.5h"]) expect(() => duration(bad, "--timeout")).toThrow("--timeout");
    expect(() => memoryMib("lots", "--memory")).toThrow("--memory");
  });
});
