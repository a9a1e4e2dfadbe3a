/**
 * The command line, parsed strictly: what is not known is refused with the usage. Options end at `--`, or at the first word that is
 * no option where a workload follows; from there on every byte belongs to the workload.
 */
import { readFileSync } from "node:fs";
import { MAX_ENVIRONMENT_VALUE, ProblemError } from "../contract/index.ts";

/** What a verb takes. `flag`: no value; `value`: one; `values`: may be repeated. */
export type OptionTable = Readonly<Record<string, "flag" | "value" | "values">>;

export interface Parsed {
  readonly flags: ReadonlySet<string>;
  readonly values: Readonly<Record<string, string>>;
  readonly lists: Readonly<Record<string, readonly Buffer[]>>;
  /** words that are no options, before the workload */
  readonly words: readonly string[];
  readonly rawWords: readonly Buffer[];
  /** the workload's program and arguments */
  readonly workload: readonly Buffer[];
}

/**
 * The arguments as the system gave them. Node decodes them as UTF-8 and loses bytes that are none, so on Linux they are read from
 * the process's own command line; elsewhere arguments are Unicode anyway.
 */
export function rawArguments(): Buffer[] {
  const decoded = process.argv.slice(2);
  try {
    const all = splitAtNul(readFileSync("/proc/self/cmdline"));
    return decoded.length === 0 ? [] : all.slice(-decoded.length);
  } catch {
    return decoded.map((argument) => Buffer.from(argument));
  }
}

function splitAtNul(bytes: Buffer): Buffer[] {
  const parts: Buffer[] = [];
  for (let from = 0; from < bytes.length; ) {
    const end = bytes.indexOf(0, from);
    parts.push(bytes.subarray(from, end < 0 ? bytes.length : end));
    from = (end < 0 ? bytes.length : end) + 1;
  }
  return parts;
}

export function usage(message: string, next = "Run `cloche help` for the commands."): ProblemError {
  return new ProblemError({ code: "usage", message, next: [next] });
}

/**
 * @param workloadAfter words before the workload begins without `--`; absent: there is no workload
 */
export function parse(args: readonly Buffer[], table: OptionTable, workloadAfter?: number): Parsed {
  const flags = new Set<string>();
  const values: Record<string, string> = {};
  const lists: Record<string, Buffer[]> = {};
  const rawWords: Buffer[] = [];
  let workload: readonly Buffer[] = [];
  for (let at = 0; at < args.length; at++) {
    const raw = args[at] ?? Buffer.alloc(0);
    const word = raw.toString("utf8");
    if (word === "--") {
      workload = args.slice(at + 1);
      if (workloadAfter === undefined) rawWords.push(...workload);
      break;
    }
    if (!word.startsWith("-") || word === "-") {
      if (workloadAfter !== undefined && rawWords.length === workloadAfter) {
        workload = args.slice(at);
        break;
      }
      rawWords.push(raw);
      continue;
    }
    const equals = word.startsWith("--") ? raw.indexOf(0x3d) : -1;
    const name = equals < 0 ? word : raw.subarray(0, equals).toString("utf8");
    const kind = table[name];
    if (kind === undefined) throw usage(`There is no option ${JSON.stringify(name)} here.`);
    if (kind === "flag") {
      if (equals >= 0) throw usage(`The option ${name} takes no value.`);
      flags.add(name);
      continue;
    }
    const value = equals >= 0 ? raw.subarray(equals + 1) : args[++at];
    if (value === undefined) throw usage(`The option ${name} needs a value.`);
    if (kind === "values") {
      const list = lists[name] ?? [];
      list.push(value);
      lists[name] = list;
    } else if (name in values) throw usage(`The option ${name} was given twice.`);
    else values[name] = value.toString("utf8");
  }
  return {
    flags,
    values,
    lists,
    words: rawWords.map((word) => word.toString("utf8")),
    rawWords,
    workload: workloadAfter === undefined ? [] : workload,
  };
}

/** The least and the most that an option takes; the contract says them where the keeper checks them. */
export interface Bounds {
  readonly min: number;
  readonly max: number;
}

const DAY_MS = 86_400_000;
/** No moment that far away is beyond what a date can say. */
const MAX_DURATION_MS = 36_500 * DAY_MS;

/** `30s`, `5m`, `2h`, `1d` or a number of seconds, in ms. */
export function duration(text: string, option: string, maxMs = MAX_DURATION_MS): number {
  const match = /^([0-9]{1,9})(ms|s|m|h|d)?$/.exec(text);
  const unit = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: DAY_MS }[match?.[2] ?? "s"] ?? 1000;
  const value = Number(match?.[1] ?? 0) * unit;
  if (!match || value === 0) throw usage(`${option} takes a time such as 30s, 5m or 2h, not ${JSON.stringify(text)}.`);
  if (value > maxMs) throw usage(`${option} takes a time of ${Math.floor(maxMs / DAY_MS)}d at most, not ${JSON.stringify(text)}.`);
  return value;
}

export function wholeNumber(text: string, option: string, bounds?: Bounds): number {
  const value = /^[0-9]{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= (bounds?.min ?? 0) && value <= (bounds?.max ?? value))) {
    const range = bounds ? ` from ${bounds.min} to ${bounds.max}` : "";
    throw usage(`${option} takes a whole number${range}, not ${JSON.stringify(text)}.`);
  }
  return value;
}

/** `2g`, `512m` or a number of MiB, in MiB. */
export function memoryMib(text: string, option: string, bounds?: Bounds): number {
  const value = sizeMib(text, option);
  if (bounds && (value < bounds.min || value > bounds.max)) throw outside(text, option, bounds);
  return value;
}

/** The same as `memoryMib`, in GiB of which the last may be a part. */
export function diskGib(text: string, option: string, bounds: Bounds): number {
  const value = Math.ceil(sizeMib(text, option) / 1024);
  if (value < bounds.min || value > bounds.max) throw outside(text, option, { min: bounds.min * 1024, max: bounds.max * 1024 });
  return value;
}

function outside(text: string, option: string, { min, max }: Bounds): ProblemError {
  const written = (mib: number) => (mib % 1024 === 0 ? `${mib / 1024}g` : `${mib}m`);
  return usage(`${option} takes a size from ${written(min)} to ${written(max)}, not ${JSON.stringify(text)}.`);
}

function sizeMib(text: string, option: string): number {
  const match = /^([0-9]{1,7})([mMgG])?(i?[bB])?$/.exec(text);
  if (!match) throw usage(`${option} takes a size such as 512m or 2g, not ${JSON.stringify(text)}.`);
  return Number(match[1]) * ((match[2] ?? "m").toLowerCase() === "g" ? 1024 : 1);
}

/** `10g`, `500m`, `64k` or a number of bytes, in bytes: the units are powers of 1024. */
export function byteSize(text: string, option: string): number {
  const match = /^([0-9]{1,12})([kmgt])?(i?b)?$/.exec(text.toLowerCase());
  const value = Number(match?.[1] ?? 0) * 1024 ** " kmgt".indexOf(match?.[2] ?? " ");
  if (!match || value === 0 || !Number.isSafeInteger(value))
    throw usage(`${option} takes a size such as 500m or 10g, not ${JSON.stringify(text)}.`);
  return value;
}

export interface ShareArgument {
  readonly path: Buffer;
  readonly mode?: "ro" | "rw" | "review";
  readonly guestPath?: string;
}

/**
 * `DIR[:mode][=/guest/path]`. A mode is only a final `:ro`, `:rw` or `:review`, so `C:\x:rw` parses, and a guest path is only what
 * follows a `=/` after the mode; a folder whose own name holds such an end is written with the mode after it.
 */
export function shareArgument(argument: Buffer): ShareArgument {
  const text = argument.toString("latin1");
  const match = /^(.*?)(?::(ro|rw|review))(?:=(\/.*))?$/s.exec(text) ?? /^(.*?)()(?:=(\/.*))?$/s.exec(text);
  const [, path = "", mode = "", guest] = match ?? [];
  if (path === "") throw usage("--share needs a folder: --share DIR, --share DIR:ro or --share DIR:rw.");
  return {
    path: Buffer.from(path, "latin1"),
    ...(mode === "" ? {} : { mode: mode as "ro" | "rw" | "review" }),
    ...(guest === undefined ? {} : { guestPath: Buffer.from(guest, "latin1").toString("utf8") }),
  };
}

/** `K=V`, or `K` alone for the value that it has here. */
export function environmentArguments(list: readonly Buffer[]): Record<string, string> {
  const env: Record<string, string> = {};
  for (const entry of list) {
    const text = entry.toString("utf8");
    const equals = text.indexOf("=");
    const name = equals < 0 ? text : text.slice(0, equals);
    if (!/^[A-Za-z_][A-Za-z0-9_]{0,127}$/.test(name)) throw usage(`--env takes NAME=VALUE, not ${JSON.stringify(text)}.`);
    const value = equals < 0 ? process.env[name] : text.slice(equals + 1);
    if (value === undefined) throw usage(`--env ${name}: there is no variable of that name here.`);
    if (value.length > MAX_ENVIRONMENT_VALUE)
      throw usage(
        `--env ${name}: a value has ${MAX_ENVIRONMENT_VALUE} characters at most, not ${value.length}.`,
        "Put it into a file of a folder that the task sees.",
      );
    env[name] = value;
  }
  return env;
}
