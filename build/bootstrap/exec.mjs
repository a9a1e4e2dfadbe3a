// Child processes of the build. Output goes to the step's log, not to the screen: a bootstrap shows progress,
// and on a failure the log's tail becomes the problem's evidence.

import { spawn } from "node:child_process";
import { StringDecoder } from "node:string_decoder";
import { Problem } from "./problem.mjs";

/** Lines of a failed command's output that are shown; the whole is in the step's log. */
const EVIDENCE_LINES = 25;

const live = new Set();

/**
 * A child left behind would go on writing into a cache directory that the next run takes up, so a signal ends
 * them with us. Each child leads its own process group: make and mmdebstrap have many children themselves.
 * SIGKILL cannot be caught: for that every child asks the kernel to be killed with its parent (setpriv).
 */
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => {
    for (const child of live) endGroup(child, "SIGTERM");
    process.exit(128 + { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 }[signal]);
  });
}
process.on("exit", () => {
  for (const child of live) endGroup(child, "SIGKILL");
});

function endGroup(child, signal) {
  try {
    process.kill(-child.pid, signal);
  } catch {
    // already gone
  }
}

/**
 * Runs a command to its end; rejects with a Problem when it fails.
 *
 * @param {string[]} argv
 * @param {{cwd?: string, env?: object, log?: (text: string) => void, onLine?: (line: string) => void,
 *   stdin?: string, stdio?: "inherit", okStatus?: number[], code?: string, message?: string, next?: string[],
 *   extraFds?: number[]}} [options]
 * @returns {Promise<{stdout: string, status: number}>}
 */
export function exec(argv, options = {}) {
  const { cwd, log, onLine, stdin, okStatus = [0], extraFds = [] } = options;
  const env = options.env ?? process.env;
  const inherit = options.stdio === "inherit";
  return new Promise((resolve, reject) => {
    const command = inherit ? argv : ["setpriv", "--pdeathsig", "KILL", "--", ...argv];
    const child = spawn(command[0], command.slice(1), {
      cwd,
      env,
      // A command that talks to the user's terminal must stay in the terminal's foreground group.
      detached: !inherit,
      stdio: inherit ? "inherit" : [stdin === undefined ? "ignore" : "pipe", "pipe", "pipe", ...extraFds],
    });
    const tail = [];
    let stdout = "";
    const fail = (cause, evidence) =>
      reject(
        new Problem({
          code: options.code ?? "build.command-failed",
          message: options.message ?? `The command \`${shown(argv)}\` failed.`,
          cause,
          evidence,
          next: options.next ?? ["Read the evidence above, then run the same command again; finished steps are kept."],
        }),
      );
    child.on("error", (error) => {
      live.delete(child);
      fail(error);
    });
    if (child.pid !== undefined && !inherit) live.add(child);
    const take = (keep) => {
      const decoder = new StringDecoder("utf8");
      let partial = "";
      return (bytes) => {
        const text = decoder.write(bytes);
        if (keep) stdout += text;
        log?.(text);
        partial += text;
        const lines = partial.split(/\r\n|\n|\r/);
        partial = lines.pop() ?? "";
        for (const line of lines) {
          tail.push(line);
          if (tail.length > EVIDENCE_LINES) tail.shift();
          onLine?.(line);
        }
      };
    };
    if (!inherit) {
      child.stdout.on("data", take(true));
      child.stderr.on("data", take(false));
      if (stdin !== undefined) child.stdin.end(stdin);
    }
    child.on("close", (status, signal) => {
      live.delete(child);
      if (okStatus.includes(status)) return resolve({ stdout, status });
      const how = signal ? `it was ended by ${signal}` : `it ended with status ${status}`;
      fail(new Error(`\`${shown(argv)}\`: ${how}`), tail.join("\n"));
    });
  });
}

/** Like exec, but a failure is an answer: null. For probes. */
export async function probe(argv, options = {}) {
  try {
    return (await exec(argv, options)).stdout;
  } catch {
    return null;
  }
}

/** A command as a person would type it, cut when it is long. */
export function shown(argv, limit = 300) {
  const text = argv.map((word) => (/^[\w@%+=:,./~-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`)).join(" ");
  return text.length > limit ? `${text.slice(0, limit)} …` : text;
}
