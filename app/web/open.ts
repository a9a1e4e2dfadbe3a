/** Shows the page in the user's browser without putting the token on a command line, where other users could read it. */
import { spawn } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { privateDirectory } from "../contract/node/index.ts";

const OPENERS: Readonly<Record<string, string>> = { linux: "/usr/bin/xdg-open", darwin: "/usr/bin/open" };
/** Browsers read the file within seconds; the token in it works once anyway. */
const REMOVE_AFTER_MS = 30_000;

/** Opens `address` through a file that only this user can read. Without a desktop nothing happens: the address is printed as well. */
export function openInBrowser(address: string, runtime: string): void {
  const opener = OPENERS[process.platform];
  if (!opener || (process.platform === "linux" && !process.env.DISPLAY && !process.env.WAYLAND_DISPLAY)) return;
  privateDirectory(runtime);
  const file = join(runtime, "open-page.html");
  rmSync(file, { force: true });
  writeFileSync(file, `<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=${address}">\n`, {
    mode: 0o600,
    flag: "wx",
  });
  spawn(opener, [file], { stdio: "ignore", detached: true })
    .on("error", () => {}) // no opener: the printed address is there
    .unref();
  setTimeout(() => rmSync(file, { force: true }), REMOVE_AFTER_MS).unref();
}
