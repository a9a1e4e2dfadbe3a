/** Spawning a keeper. Without the schemas' library, so that a command can begin it before it has read its own program. */
import { spawn } from "node:child_process";

export interface KeeperProgram {
  /** absolute path of the Node that runs it */
  readonly node: string;
  /** absolute path of the keeper's entry */
  readonly entry: string;
}

export type Spawned =
  /** the one line that a new keeper says: `ready`, `busy` or a Problem; empty when it said nothing in time */
  { readonly at: "said"; readonly line: string } | { readonly at: "failed"; readonly what: string; readonly evidence: string };

/** The keeper and the proxies that it starts hold keys' values, which a core file would lay beside whatever their user works on. */
function withoutCoreFiles(command: readonly string[]): readonly string[] {
  return process.platform === "win32" ? command : ["/bin/sh", "-c", 'ulimit -c 0 && exec "$@"', "sh", ...command];
}

/**
 * V8 gives a young generation 16 MiB for each of its halves as soon as much is allocated, and keeps them. A keeper moves bytes in buffers
 * outside of that heap, and is idle most of the time: with 2 MiB it rests at 10 MB less after some tasks have come and gone.
 */
const V8_OPTIONS = ["--max-semi-space-size=2"];

/** Never rejects. */
export function spawnKeeper(program: KeeperProgram, timeoutMs: number): Promise<Spawned> {
  return new Promise((resolve) => {
    const [file = "", ...args] = withoutCoreFiles([program.node, ...V8_OPTIONS, program.entry]);
    const child = spawn(file, args, { detached: true, stdio: ["ignore", "pipe", "pipe"], env: process.env });
    let said = "";
    let complaint = "";
    const done = (spawned: Spawned) => {
      clearTimeout(timer);
      child.stdout.destroy();
      child.stderr.destroy();
      child.unref();
      resolve(spawned);
    };
    const timer = setTimeout(() => done({ at: "said", line: "" }), Math.max(1, timeoutMs));
    child.once("error", (error) => done({ at: "failed", what: "could not be run", evidence: error.message }));
    child.stderr.on("data", (chunk: Buffer) => {
      complaint = (complaint + chunk.toString("utf8")).slice(-4_000);
    });
    child.stdout.on("data", (chunk: Buffer) => {
      said += chunk.toString("utf8");
      if (said.includes("\n")) done({ at: "said", line: said.split("\n")[0] ?? "" });
    });
    child.once("close", () => done({ at: "failed", what: "ended at once", evidence: complaint }));
  });
}
