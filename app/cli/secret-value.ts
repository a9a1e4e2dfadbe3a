/** A key's value as its user gives it: through a pipe, or typed unseen. It stands in no argument, no output and no error. */
import { ProblemError } from "../contract/index.ts";

/** As much as the contract takes. */
const MAX_BYTES = 16_384;

const unusable = (message: string, next: string) => new ProblemError({ code: "secret.value", message, next: [next] });

export async function readValue(name: string): Promise<string> {
  const bytes = process.stdin.isTTY ? await typedUnseen(`cloche: the value of ${name}, which is not shown: `) : await piped();
  return keyValue(bytes);
}

/** The value without the line's end behind it. */
export function keyValue(bytes: Buffer): string {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw unusable("The key is no text, so nothing was kept.", "Give a key of letters, digits and signs.");
  }
  const value = text.replace(/\r?\n$/, "");
  if (value === "") throw unusable("No value came, so nothing was kept.", "Type it when asked, or write it to standard input.");
  if (Buffer.byteLength(value) > MAX_BYTES)
    throw unusable(`A key has at most ${MAX_BYTES} bytes; nothing was kept.`, "Give the key alone.");
  // it goes into a header, where a line's end would begin another one
  if (/\p{Cc}/u.test(value)) throw unusable("A key is one line without control characters; nothing was kept.", "Give the key alone.");
  return value;
}

async function piped(): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of process.stdin) {
    chunks.push(chunk);
    length += chunk.length;
    if (length > MAX_BYTES + 2) break;
  }
  return Buffer.concat(chunks);
}

const ENTER = new Set([0x0a, 0x0d, 0x04]);
const INTERRUPT = 0x03;
const ERASE = new Set([0x7f, 0x08]);

function typedUnseen(prompt: string): Promise<Buffer> {
  const { stdin } = process;
  // whoever answers at once would still see an echo, the other way round
  stdin.setRawMode(true);
  process.stderr.write(prompt);
  return new Promise((resolve, reject) => {
    const typed: number[] = [];
    const done = () => {
      stdin.off("data", onData).off("end", onEnd).pause();
      stdin.setRawMode(false);
      process.stderr.write("\n");
    };
    const onEnd = () => {
      done();
      resolve(Buffer.from(typed));
    };
    const onData = (chunk: Buffer) => {
      for (const byte of chunk) {
        if (byte === INTERRUPT) {
          done();
          return reject(unusable("Interrupted, so nothing was kept.", "Run the command again when you have the key."));
        }
        if (ENTER.has(byte)) return onEnd();
        if (ERASE.has(byte)) eraseLast(typed);
        else if (typed.length <= MAX_BYTES) typed.push(byte);
      }
    };
    stdin.on("data", onData).once("end", onEnd).resume();
  });
}

/** Takes the last character away, which in UTF-8 may be several bytes. */
function eraseLast(typed: number[]): void {
  for (let byte = typed.pop(); byte !== undefined && (byte & 0xc0) === 0x80; ) byte = typed.pop();
}
