/**
 * A command for the guest, with every byte of every argument kept: by its words, which the agent starts without a shell, or as one line
 * for bash where a terminal or the login shell is wanted. Both are ASCII, so no encoding between here and the guest can change them.
 */
import type { CommandParams } from "../../../helpers/contract/protocol.ts";
import { ProblemError } from "../../contract/index.ts";

/** What one request of ssh carries, less its own words (helpers/contract). */
const MAX_REQUEST_BYTES = 250_000;

const PLAIN = /^[A-Za-z0-9_./:=@%+,-]+$/;

/** One argument, quoted for bash. NUL cannot be part of an argument and throws. */
export function quote(argument: Uint8Array): string {
  refuseNul(argument);
  const text = Buffer.from(argument).toString("latin1");
  if (PLAIN.test(text)) return text;
  if (/^[\x20-\x7e]*$/.test(text)) return `'${text.replaceAll("'", "'\\''")}'`;
  let quoted = "$'";
  for (const byte of argument) {
    const char = String.fromCharCode(byte);
    if (byte < 0x20 || byte > 0x7e) quoted += `\\x${byte.toString(16).padStart(2, "0")}`;
    else quoted += char === "'" || char === "\\" ? `\\${char}` : char;
  }
  return `${quoted}'`;
}

export interface GuestCommand {
  /** program and arguments; absent: the login shell */
  readonly argv?: readonly Uint8Array[];
  readonly workingDirectory: string;
  /** make the folder when it is not there: a task without folders works in one of its own */
  readonly makeWorkingDirectory?: boolean;
  readonly env: Readonly<Record<string, string>>;
}

/** The subsystem of a command's words; undefined where only a shell will do. */
export function commandSubsystem({ argv, workingDirectory, makeWorkingDirectory = false, env }: GuestCommand): string | undefined {
  if (!argv || !workingDirectory.startsWith("/")) return undefined;
  for (const argument of argv) refuseNul(argument);
  const words = argv.map((argument) => Buffer.from(argument).toString("base64"));
  const params: CommandParams = { argv: words, directory: workingDirectory, make: makeWorkingDirectory, environment: env };
  return fitting(`command@cloche ${JSON.stringify(params)}`);
}

/** A longer request would end the whole connection, and with it the other commands of the task. */
function fitting(request: string): string {
  const bytes = Buffer.byteLength(request);
  if (bytes <= MAX_REQUEST_BYTES) return request;
  throw new ProblemError({
    code: "exec.too-long",
    message: "The command was not run: its arguments and variables are more than one command can carry.",
    evidence: `${bytes} bytes as they are sent, ${MAX_REQUEST_BYTES} at most`,
    next: [
      "Write the long part to a file in a folder that the task sees, and name the file.",
      "Or send it to the command's standard input.",
    ],
  });
}

function refuseNul(argument: Uint8Array): void {
  if (argument.includes(0)) throw new RangeError("an argument cannot hold a NUL byte");
}

/**
 * `cd`, the variables, then `exec`: the shell is replaced, so signals and the exit status are the program's own, and a program
 * that is missing or cannot be run gives 127 or 126 as in a shell.
 */
export function commandLine(command: GuestCommand): string {
  const bytes = (text: string) => quote(Buffer.from(text));
  const folder = bytes(command.workingDirectory);
  const enter = command.makeWorkingDirectory
    ? `{ cd -- ${folder} 2>/dev/null || { mkdir -p -- ${folder} && cd -- ${folder}; }; }`
    : `cd -- ${folder}`;
  const parts = [`${enter} || exit 125`];
  const assignments = Object.entries(command.env).map(([name, value]) => `${name}=${bytes(value)}`);
  if (assignments.length > 0) parts.push(`export ${assignments.join(" ")}`);
  parts.push(command.argv ? `exec -- ${command.argv.map(quote).join(" ")}` : 'exec -l "$SHELL"');
  return fitting(parts.join("; "));
}
