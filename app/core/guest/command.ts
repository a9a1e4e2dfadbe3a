/**
 * A command as one line for the guest's login shell (bash), with every byte of every argument kept.
 * The line itself is ASCII, so no encoding between here and the guest can change it.
 */

const PLAIN = /^[A-Za-z0-9_./:=@%+,-]+$/;

/** One argument, quoted for bash. NUL cannot be part of an argument and throws. */
export function quote(argument: Uint8Array): string {
  if (argument.includes(0)) throw new RangeError("an argument cannot hold a NUL byte");
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
  return parts.join("; ");
}
