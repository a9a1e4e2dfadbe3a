/**
 * Looks for texts in bytes that nobody hands out: a guest's memory and disk, the memory of processes, files. Needs root.
 * `grep` does the search: it passes over the holes of sparse files and takes hundreds of texts at once.
 */
import { spawn } from "node:child_process";
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A process's regions are read in parts of that size. */
const PART_BYTES = 1 << 20;

/**
 * A text as it may lie about: plain, either half of it, base64 at each alignment in both alphabets, hexadecimal, percent-encoded in full and as
 * a form or address has it, and as JSON. `within` says what part of an encoding does not depend on what stands beside the text.
 */
export function formsOf(text: string): Map<string, string> {
  const bytes = Buffer.from(text);
  const half = bytes.length >> 1;
  const percent = [...bytes].map((byte) => `%${byte.toString(16).padStart(2, "0")}`).join("");
  const unicode = [...text].map((char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`).join("");
  const forms = new Map([
    ["plain", text],
    ["first half", bytes.subarray(0, half).toString()],
    ["second half", bytes.subarray(half).toString()],
    ["hex", bytes.toString("hex")],
    ["HEX", bytes.toString("hex").toUpperCase()],
    ["percent", percent],
    ["PERCENT", percent.toUpperCase()],
    ["address", encodeURIComponent(text)],
    ["json", JSON.stringify(text).slice(1, -1)],
    ["json, all escaped", unicode],
  ]);
  for (const before of [0, 1, 2]) {
    const encoded = within(Buffer.concat([Buffer.alloc(before), bytes]).toString("base64"), before, bytes.length);
    forms.set(`base64 behind ${before}`, encoded);
    forms.set(`base64url behind ${before}`, encoded.replaceAll("+", "-").replaceAll("/", "_"));
  }
  return forms;
}

/** The letters of a base64 that are made of the text's own bits alone. */
const within = (encoded: string, before: number, length: number): string =>
  encoded.slice(Math.ceil((before * 8) / 6), Math.floor(((before + length) * 8) / 6));

export class Search {
  readonly #labels = new Map<string, string[]>();
  readonly #directory = mkdtempSync(join(tmpdir(), "cloche-search-"));
  readonly #list = join(this.#directory, "texts");

  /** @param texts what to look for, by the name under which it is told when it is found; `formsOf` of each is looked for */
  constructor(texts: Readonly<Record<string, string>>) {
    for (const [name, text] of Object.entries(texts))
      for (const [form, encoded] of formsOf(text)) {
        if (encoded.includes("\n") || encoded.length < 12) throw new Error(`${name} cannot be looked for as ${form}`);
        this.#labels.set(encoded, [...(this.#labels.get(encoded) ?? []), `${name}: ${form}`]);
      }
    writeFileSync(this.#list, [...this.#labels.keys()].join("\n"), { mode: 0o600 });
  }

  /** What was found of them in files, and in all files below directories. Links are not followed. */
  inFiles(...paths: readonly string[]): Promise<string[]> {
    return this.#grep(["-r", "-h", ...paths], () => {});
  }

  /** What was found in the memory that a process has, but for what it shares with others by a memory file, which is a guest's. */
  inProcess(pid: number): Promise<string[]> {
    const regions = readFileSync(`/proc/${pid}/maps`, "latin1")
      .split("\n")
      .flatMap((line) => {
        const [, from, to, readable, path = ""] = /^([0-9a-f]+)-([0-9a-f]+) (.)\S+ \S+ \S+ \S+\s*(.*)$/.exec(line) ?? [];
        if (from === undefined || readable !== "r" || /^\/memfd:|^\[v(var|syscall)/.test(path)) return [];
        return [{ from: BigInt(`0x${from}`), to: BigInt(`0x${to}`) }];
      });
    return this.#grep(["-"], async (write) => {
      const memory = openSync(`/proc/${pid}/mem`, "r");
      try {
        for (const { from, to } of regions) {
          for (let at = from; at < to; at += BigInt(PART_BYTES)) {
            const part = Buffer.allocUnsafe(Math.min(PART_BYTES, Number(to - at)));
            let read = 0;
            try {
              read = readSync(memory, part, 0, part.length, at);
            } catch {
              break; // given back meanwhile, or a device's
            }
            await write(part.subarray(0, read));
          }
        }
      } finally {
        closeSync(memory);
      }
    });
  }

  /** What was found in all of a guest's memory, which its QEMU holds as a file of its own. The guest must be paused. */
  inGuestMemory(qemu: number, memoryMib: number): Promise<string[]> {
    const files = readdirSync(`/proc/${qemu}/fd`)
      .map((fd) => `/proc/${qemu}/fd/${fd}`)
      .filter((path) => readlinkSync(path).startsWith("/memfd:"));
    const sizes = files.map((path) => statSync(path).size);
    if (!sizes.includes(memoryMib << 20)) throw new Error(`no memory of ${memoryMib} MiB: ${sizes.join(", ")}`);
    return this.#grep(["-h", ...files], () => {});
  }

  /** What was found in a text. */
  inText(text: string): string[] {
    return [...this.#labels].flatMap(([encoded, labels]) => (text.includes(encoded) ? labels : [])).sort();
  }

  end(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** Between zero bytes, so that zeros, which are most of a memory, are passed over. */
  async #grep(args: readonly string[], feed: (write: (bytes: Buffer) => Promise<void>) => void | Promise<void>): Promise<string[]> {
    const child = spawn("/usr/bin/grep", ["-a", "-z", "-o", "-F", "-f", this.#list, ...args], {
      env: { LC_ALL: "C" },
      stdio: ["pipe", "pipe", "pipe"],
    });
    const found = new Set<string>();
    let [rest, errors] = ["", ""];
    child.stdout.setEncoding("latin1").on("data", (chunk: string) => {
      const lines = (rest + chunk).split("\0");
      rest = lines.pop() ?? "";
      for (const line of lines)
        for (const label of this.#labels.get(Buffer.from(line, "latin1").toString()) ?? [`unknown ${line}`]) found.add(label);
    });
    child.stderr.on("data", (chunk) => {
      errors += chunk;
    });
    child.stdin.on("error", () => {}); // told by the status
    const closed = new Promise<number>((resolve) => child.once("close", (status) => resolve(status ?? -1)));
    await feed(async (bytes) => {
      if (!child.stdin.write(bytes)) await new Promise((resolve) => child.stdin.once("drain", resolve));
    });
    child.stdin.end();
    const status = await closed;
    if (status > 1 || status < 0 || errors !== "") throw new Error(`the search ended with ${status}: ${errors.slice(0, 1000)}`);
    return [...found].sort();
  }
}
