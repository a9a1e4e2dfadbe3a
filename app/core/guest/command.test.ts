import { execFileSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { commandLine, commandSubsystem, quote } from "./command.ts";

const bytes = (text: string) => Buffer.from(text, "latin1");
/** What a real bash makes of the line: its arguments, NUL-separated. */
const run = (line: string) => execFileSync("/bin/bash", ["-c", line], { env: {}, stdio: ["ignore", "pipe", "ignore"] });

describe("a command's arguments reach the guest's shell byte for byte", () => {
  it.each([
    ["plain words", ["ls", "-la", "a/b.c"]],
    ["an empty argument", ["x", ""]],
    ["spaces, quotes and dollars", ["a b", "it's", '"$HOME"', "`id`", "$(id)", "\\", "!x", "*", "~", "#"]],
    ["newlines and tabs", ["a\nb", "\t"]],
    ["every byte but NUL", [String.fromCharCode(...Array.from({ length: 255 }, (_, n) => n + 1))]],
    ["bytes before digits and letters", ["\x01f", "\xe90", "\x07a"]],
  ])("%s", (_, argv) => {
    const line = commandLine({ argv: ["printf", "%s\\0", ...argv].map(bytes), workingDirectory: "/", env: {} });
    expect(run(line).toString("latin1")).toBe(`${argv.join("\0")}\0`);
  });

  it("an argument with NUL is refused", () => {
    expect(() => quote(Buffer.from([0]))).toThrow(RangeError);
  });

  it("variables arrive as they are, and are not expanded", () => {
    const line = commandLine({ argv: ["env"].map(bytes), workingDirectory: "/", env: { A: "$HOME 'x'\n", B: "é" } });
    expect(run(line).toString()).toContain("A=$HOME 'x'\n\n");
    expect(run(line).toString()).toContain("B=é\n");
  });

  it("a missing folder ends with 125 and does not run the command", () => {
    const line = commandLine({ argv: ["touch", "/tmp/should-not-be"].map(bytes), workingDirectory: "/nowhere", env: {} });
    expect(() => run(line)).toThrow(expect.objectContaining({ status: 125 }));
  });

  it("a missing program ends with 127, one that cannot be run with 126", () => {
    const status = (program: string) => {
      try {
        execFileSync("/bin/bash", ["-c", commandLine({ argv: [bytes(program)], workingDirectory: "/", env: {} })], { stdio: "ignore" });
        return 0;
      } catch (error) {
        return (error as { status: number }).status;
      }
    };
    expect([status("/no/such/program"), status("/etc/passwd")]).toEqual([127, 126]);
  });
});

describe("a command by its words", () => {
  const command = { argv: ["true"].map(bytes), workingDirectory: "/home/you/files", env: {} };
  const said = (subsystem: string | undefined) => JSON.parse((subsystem ?? "").slice("command@cloche ".length));

  it("carries every byte but NUL, the directory and the variables, in ASCII", () => {
    const every = String.fromCharCode(...Array.from({ length: 255 }, (_, n) => n + 1));
    const subsystem = commandSubsystem({ ...command, argv: ["x", "", every].map(bytes), makeWorkingDirectory: true, env: { A: "$x\n" } });
    expect(subsystem).toMatch(/^command@cloche \{[\x20-\x7e]+\}$/);
    expect(said(subsystem)).toEqual({
      argv: ["x", "", every].map((word) => bytes(word).toString("base64")),
      directory: "/home/you/files",
      make: true,
      environment: { A: "$x\n" },
    });
  });

  it("is left to the shell for a login shell, and in a directory that is relative to home", () => {
    expect(commandSubsystem({ workingDirectory: "/", env: {} })).toBeUndefined();
    expect(commandSubsystem({ ...command, workingDirectory: "work" })).toBeUndefined();
  });

  it("an argument with NUL is refused", () => {
    expect(() => commandSubsystem({ ...command, argv: [Buffer.from([0])] })).toThrow(RangeError);
  });

  it("more than one request carries is refused, by words and as a line; a little less is not", () => {
    const refused = expect.objectContaining({ problem: expect.objectContaining({ code: "exec.too-long" }) });
    const long = { ...command, argv: ["echo", "x".repeat(250_000)].map(bytes) };
    expect(() => commandSubsystem(long)).toThrow(refused);
    expect(() => commandLine(long)).toThrow(refused);
    const shorter = { ...command, argv: ["echo", "x".repeat(180_000)].map(bytes) };
    expect(said(commandSubsystem(shorter)).argv).toHaveLength(2);
    expect(commandLine(shorter)).toContain("xxx");
  });
});
