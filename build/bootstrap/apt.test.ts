/** Who is asked before Debian packages are installed, by `installHostPackages` in a process of its own on a real terminal. */
import { execFileSync, spawn } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, it } from "vitest";

const COMMAND = "apt-get install -y --no-install-recommends cloche-absent-one cloche-absent-two";
const QUESTION = "Run it now? [y/N]";
const apt = fileURLToPath(new URL("apt.mjs", import.meta.url));
let place: string;
let ran: string;

beforeEach(() => {
  place = mkdtempSync(join(tmpdir(), "cloche-apt-"));
  ran = join(place, "ran");
  // sudo, for a machine that may have none, or one that asks for a password: it writes down what it was asked to do
  writeFileSync(join(place, "sudo"), `#!/bin/sh\n[ "$1 $2" = "-n true" ] && exit "\${SUDO_PROBE:-1}"\necho "$*" >> ${ran}\n`);
  chmodSync(join(place, "sudo"), 0o755);
  writeFileSync(
    join(place, "install.mjs"),
    `import { installHostPackages } from ${JSON.stringify(apt)};
const ctx = { isRoot: false, log() {}, detail() {} };
await installHostPackages(["cloche-absent-one", "cloche-absent-two"], ctx).then(
  () => console.log("INSTALLED"),
  (problem) => console.log("REFUSED", problem.code, problem.next.join(" | ")),
);`,
  );
});
afterEach(() => rmSync(place, { recursive: true, force: true }));

const environment = (more: NodeJS.ProcessEnv = {}) => ({ ...process.env, PATH: `${place}:${process.env.PATH}`, ...more });

/** Runs it on a terminal of its own and types `answer` when it is asked. */
function onATerminal(answer: string): Promise<string> {
  const terminal = spawn("script", ["-qec", `${process.execPath} ${join(place, "install.mjs")}`, "/dev/null"], { env: environment() });
  let shown = "";
  let answered = false;
  terminal.stdout.on("data", (chunk: Buffer) => {
    shown += chunk.toString();
    if (answered || !shown.includes(QUESTION)) return;
    answered = true;
    terminal.stdin.write(`${answer}\n`);
  });
  return new Promise((resolve, reject) => {
    terminal.on("error", reject);
    terminal.on("close", () => resolve(shown));
  });
}

it("a person at a terminal sees the exact command and is asked; what was agreed to is what runs", async () => {
  const shown = await onATerminal("y");
  expect(shown).toContain(`  sudo ${COMMAND}`);
  expect(shown).toContain(QUESTION);
  expect(shown).toContain("INSTALLED");
  expect(readFileSync(ran, "utf8")).toBe(`${COMMAND}\n`);
});

it.each(["n", "", "yes please"])("answered with %j nothing runs, and the refusal names the command", async (answer) => {
  const shown = await onATerminal(answer);
  expect(shown).toContain("REFUSED build.packages-missing");
  expect(shown).toContain(`Install them: sudo ${COMMAND}`);
  expect(existsSync(ran)).toBe(false);
});

it("without a terminal nobody is asked: sudo that needs a password is not used, and the command is named", () => {
  const shown = execFileSync(process.execPath, [join(place, "install.mjs")], {
    env: environment(),
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  expect(shown).not.toContain(QUESTION);
  expect(shown).toContain(`Install them: sudo ${COMMAND}`);
  expect(existsSync(ran)).toBe(false);
});

it("without a terminal sudo that needs no password installs", () => {
  const shown = execFileSync(process.execPath, [join(place, "install.mjs")], {
    env: environment({ SUDO_PROBE: "0" }),
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  expect(shown).toContain("INSTALLED");
  expect(readFileSync(ran, "utf8")).toContain(`-n ${COMMAND}\n`);
}, 30_000);
