/** `doctor`, `image`, `web`, `completion`: the host's side. */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { ProblemError, visible } from "../../contract/index.ts";
import { componentsPath } from "../../contract/node/index.ts";
import { parse, usage } from "../args.ts";
import { completionScript } from "../help.ts";
import { columns, note, print, printJson, type Session } from "../session.ts";

export async function doctor(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, { "--json": "flag" });
  if (parsed.words.length > 0) throw usage("`cloche doctor` takes no word: cloche doctor [--json].");
  const { checks } = await (await session.keeper()).call("doctor", {});
  if (parsed.flags.has("--json")) await printJson({ checks });
  else {
    const mark = { ok: "ok", warning: "warning", failed: "FAILED" } as const;
    for (const check of checks) {
      await print(`${mark[check.status].padEnd(8)} ${check.name}: ${check.message}`);
      if (check.status !== "ok" && check.evidence) {
        for (const line of visible(check.evidence).trimEnd().split("\n").slice(-5)) await print(`         | ${line}`);
      }
      for (const step of check.next) await print(`         → ${step}`);
    }
  }
  return checks.some((check) => check.status === "failed") ? 125 : 0;
}

export async function image(session: Session, args: readonly Buffer[]): Promise<number> {
  const [verb, ...rest] = args;
  switch (verb?.toString()) {
    case "ls":
      return imageList(session, rest);
    case "verify": {
      const parsed = parse(rest, { "--json": "flag" });
      if (parsed.words.length > 0)
        throw usage("`cloche image verify` takes no word, as it looks at the whole image: cloche image verify [--json].");
      const { image: found } = await (await session.keeper()).call("images.verify", {});
      note(`cloche: image ${found.id.slice(0, 12)}: every byte of ${found.files.length} files matches the manifest.`);
      if (parsed.flags.has("--json")) await printJson({ image: found });
      return 0;
    }
    case "build":
      return imageBuild(rest);
    default:
      throw usage("`cloche image` takes ls, build or verify.");
  }
}

async function imageList(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, { "--json": "flag" });
  if (parsed.words.length > 0) throw usage("`cloche image ls` takes no word: cloche image ls [--json].");
  const { images } = await (await session.keeper()).call("images.list", {});
  if (parsed.flags.has("--json")) await printJson({ images });
  else {
    const rows = images.map((found) => [
      found.id.slice(0, 12),
      found.arch,
      found.guest,
      found.kernel,
      `${Math.round(found.sizeBytes / 1e6)} MB`,
    ]);
    await print(columns([["IMAGE", "ARCH", "GUEST", "KERNEL", "SIZE"], ...rows]));
  }
  return 0;
}

/** The image is built by the repository's own script; an installed Cloche fetches its image and has none. */
function imageBuild(args: readonly Buffer[]): Promise<number> {
  const script = join(dirname(componentsPath(process.argv[1] ?? "")), "..", "build", "image.mjs");
  if (!existsSync(script)) {
    throw new ProblemError({
      code: "image.missing",
      message: "This installation has no image sources, so it cannot build one.",
      next: ["Build it in the repository: npm run image."],
    });
  }
  return inherit(process.execPath, [script, ...args.map((argument) => argument.toString())]);
}

export async function web(session: Session, args: readonly Buffer[]): Promise<number> {
  return inherit(process.execPath, [session.components.app.web, ...args.map((argument) => argument.toString())]);
}

/** Runs a program of ours in this one's place: its streams, its status, our signals. */
function inherit(file: string, args: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { stdio: "inherit" });
    // a terminal's Ctrl-C reaches the child by itself; other signals are passed on
    const pass = (signal: NodeJS.Signals) => child.kill(signal);
    process.on("SIGINT", () => {});
    process.on("SIGTERM", pass);
    process.on("SIGHUP", pass);
    child.once("error", reject);
    child.once("exit", (status) => resolve(status ?? 125));
  });
}

/** Where each shell looks for completion of its user's own. */
const COMPLETION_FILES: Readonly<Record<string, readonly string[]>> = {
  bash: [".local", "share", "bash-completion", "completions", "cloche"],
  zsh: [".local", "share", "zsh", "site-functions", "_cloche"],
  fish: [".config", "fish", "completions", "cloche.fish"],
};

export async function completion(_session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, { "--install": "flag" });
  const shell = parsed.words[0] ?? "bash";
  const script = completionScript(shell);
  const place = COMPLETION_FILES[shell];
  if (script === undefined || place === undefined || parsed.words.length > 1) throw usage("`cloche completion` takes bash, zsh or fish.");
  if (!parsed.flags.has("--install")) {
    await print(script);
    return 0;
  }
  const file = join(homedir(), ...place);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${script}\n`);
  note(`cloche: wrote ${file}; a new ${shell} has it${shell === "zsh" ? " when that folder is in its fpath" : ""}.`);
  return 0;
}
