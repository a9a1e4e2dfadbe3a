/**
 * The folder dialog, which is the user's consent to share what they pick. A port: tests bring a double, the desktop app has
 * Electron's. It is opened by the host and filled in by the person in front of it; a page can ask for it and name nothing.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { ProblemError } from "../contract/index.ts";

export interface Dialogs {
  /** The picked folder's absolute path as bytes; undefined when the person closed the dialog. An abort closes it. */
  pickFolder(abort: AbortSignal): Promise<Uint8Array | undefined>;
}

const TITLE = "Cloche: pick a folder for the task";
/** Tried in this order; absolute, so that a PATH cannot bring another program. */
const PROGRAMS: readonly { path: string; args: readonly string[] }[] = [
  { path: "/usr/bin/zenity", args: ["--file-selection", "--directory", `--title=${TITLE}`] },
  { path: "/usr/bin/kdialog", args: ["--title", TITLE, "--getexistingdirectory", "."] },
];
/** All that a dialog needs to reach the screen and to speak the user's language. */
const KEPT = /^(HOME|USER|LANG|LC_[A-Z]+|DISPLAY|WAYLAND_DISPLAY|XAUTHORITY|XDG_[A-Z_]+|DBUS_SESSION_BUS_ADDRESS|DESKTOP_SESSION)$/;
const MAX_PATH_BYTES = 8192;

const unavailable = (evidence: string) =>
  new ProblemError({
    code: "web.dialog",
    message: "The folder dialog could not be shown, so no folder was picked.",
    evidence,
    next: [
      "Install `zenity` or `kdialog` and run `cloche web` in your desktop session.",
      "Or make the task with `cloche new --share DIR:ro`; it appears here by itself.",
    ],
  });

export function systemDialogs(env: NodeJS.ProcessEnv = process.env): Dialogs {
  return {
    async pickFolder(abort) {
      const program = PROGRAMS.find(({ path }) => existsSync(path));
      if (process.platform !== "linux") throw unavailable(`no folder dialog for ${process.platform} in the web host`);
      if (!program) throw unavailable(`neither of ${PROGRAMS.map(({ path }) => path).join(", ")} is installed`);
      if (!env.DISPLAY && !env.WAYLAND_DISPLAY) throw unavailable("neither DISPLAY nor WAYLAND_DISPLAY is set");
      const { status, output, errors } = await run(program, env, abort);
      if (status === 0 && output[0] === 0x2f) return output.at(-1) === 0x0a ? output.subarray(0, -1) : output;
      if (status === 1 || abort.aborted) return undefined;
      throw unavailable(`${program.path} ended with status ${status}: ${errors}`);
    },
  };
}

function run(program: (typeof PROGRAMS)[number], env: NodeJS.ProcessEnv, abort: AbortSignal) {
  const kept = Object.fromEntries(Object.entries(env).filter(([name]) => KEPT.test(name)));
  return new Promise<{ status: number | null; output: Buffer; errors: string }>((resolve) => {
    const child = spawn(program.path, program.args, { env: kept, signal: abort, stdio: ["ignore", "pipe", "pipe"], cwd: "/" });
    let output = Buffer.alloc(0);
    let errors = "";
    child.stdout.on("data", (chunk: Buffer) => {
      output = Buffer.concat([output, chunk]);
      if (output.length > MAX_PATH_BYTES) child.kill();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      errors = (errors + chunk.toString("utf8")).slice(-1024);
    });
    child.on("error", (error) => resolve({ status: null, output, errors: error.message }));
    child.on("close", (status) => resolve({ status, output, errors }));
  });
}
