/** Looks through a task's disk: a sparse file of many GiB, of which a few hundred MiB were ever written. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { basename, dirname } from "node:path";
import { ProblemError } from "../../contract/index.ts";

/**
 * How many pieces of the file's data hold each text. Node cannot ask where a file's holes are, and reading them takes most of a minute; tar
 * can, and gives what lies between them. A text may stand anywhere in that, and has no NUL. Throws prove.disk.
 */
export async function searchFile<Name extends string>(path: string, texts: Readonly<Record<Name, string>>): Promise<Record<Name, number>> {
  const wanted = Object.entries<string>(texts).flatMap(([name, text]) => (text === "" ? [] : [{ name, text: Buffer.from(text) }]));
  const found = Object.fromEntries(Object.keys(texts).map((name) => [name, 0])) as Record<string, number>;
  const overlap = Math.max(...wanted.map(({ text }) => text.length), 1) - 1;
  const tar = spawn(
    "tar",
    ["--create", "--sparse", "--hole-detection=seek", "--file=-", `--directory=${dirname(path)}`, "--", basename(path)],
    {
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  const ended = once(tar, "close").then(
    ([status]) => Number(status ?? 2),
    (error: Error) => error.message,
  );
  let said = "";
  tar.stderr.on("data", (chunk) => {
    said = `${said}${chunk}`.slice(0, 4096);
  });
  let before = Buffer.alloc(0);
  for await (const chunk of tar.stdout as AsyncIterable<Buffer>) {
    const bytes = Buffer.concat([before, chunk]);
    for (const { name, text } of wanted) if (bytes.includes(text)) found[name] = (found[name] ?? 0) + 1;
    before = bytes.subarray(Math.max(0, bytes.length - overlap));
  }
  const status = await ended;
  // 1: the file changed meanwhile, as the disk of a machine that runs may
  if (status === 0 || status === 1) return found as Record<Name, number>;
  throw new ProblemError({
    code: "prove.disk",
    message: "The disk of the self-test's task could not be looked through, so nothing is said about keys on it.",
    evidence: typeof status === "string" ? status : said,
    next: ["See that GNU tar 1.29 or newer is installed and that Cloche's data can be read, then run `cloche prove` again."],
  });
}
