/**
 * F18: what a guest calls its files and writes into them, on the terminal of who looks at it. The verdict is the bytes that the command line
 * sends to a terminal of its own: nothing there but text and the command line's own colours, whatever the guest has put into names, contents,
 * links, branches and messages. That it was put there shows in the same diff when it goes to a file.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Cloche } from "../harness/index.ts";
import { inGuest, WHO } from "./folders-support.ts";

const cloche = new Cloche();
afterAll(() => cloche.end());

/** A terminal on the host: runs a command in it and gives every byte that the terminal was sent. */
const IN_TERMINAL = `
import os, pty, sys
pid, fd = pty.fork()
if pid == 0: os.execvp(sys.argv[1], sys.argv[1:])
while True:
    try: chunk = os.read(fd, 65536)
    except OSError: break
    if not chunk: break
    sys.stdout.buffer.write(chunk)
os.waitpid(pid, 0)
`;
/** What drives a terminal: title, clipboard, link, colours (the command line's own red, too), clear, answer-back, strings of each kind, charset, eight-bit and bare controls. */
const DRIVES = [
  "\x1b]0;OWNED\x07",
  "\x1b]52;c;T1dORUQ=\x07",
  "\x1b]8;;https://owned.example\x1b\\OWNED\x1b]8;;\x1b\\",
  "\x1b[35;5mOWNED",
  "\x1b[31mOWNED\x1b[0m",
  "\x1b[2J\x1b[H",
  "\x1b[6n\x1b[c",
  "\x1bP$q\x22p\x1b\\",
  "\x1b_OWNED\x1b\\",
  "\x1b^OWNED\x1b\\",
  "\x1bc",
  "\x1b(0",
  "\x9b31mOWNED",
  "\x9d0;OWNED\x9c",
  "\x0e\x0f\x08\x7f\x0b\x0c\x05",
  "safe\rOWNED",
  "\u202egnp.exe\u202c",
  "\u2066OWNED\u2069",
  "\u200bOWNED\ufeff",
  "\u{e0041}\u{e0042}",
];
const SCRIPT = `
import json, os, subprocess, sys
os.chdir("/home/you/" + sys.argv[1])
drives = json.loads(sys.argv[2])
for n, text in enumerate(drives):
    open("name " + text.replace("/", "|"), "w").write("plain content\\n")
    open("content-%02d" % n, "w").write("first\\n" + text + "\\nlast\\n")
    os.symlink("to " + text, "link-%02d" % n)
    os.symlink("/out " + text, "out " + text.replace("/", "|"))
    open("notes", "a").write(text + "\\n")
os.mkdir("directory " + drives[0]); open("directory " + drives[0] + "/in", "w").write("x")
os.rename("moved", "moved " + drives[3])
open(b"raw \\x9b31m\\xff\\x1b[31m", "wb").write(b"raw \\x9b31m\\xff\\x1b[31m\\n")
open("new\\nname\\n+forged", "w").write("x\\n")
def git(*args): subprocess.run(["git", "-c", "safe.directory=*", "-c", "user.name=n " + drives[3], "-c", "user.email=e@e", "-C", "repository", *args], check=True, capture_output=True)
open("repository/file", "a").write(drives[3] + "\\n")
git("commit", "-am", "message " + drives[0] + drives[3])
open("repository/.git/refs/heads/branch" + drives[3], "wb").write(open("repository/.git/refs/heads/main", "rb").read())
print("true")
`;

/** The command line's own: one of its colours around a text, and the line that it draws while it waits. */
const OWN = /\x1b\[(?:31|32|33|36|1|0)m|\r\x1b\[K/g;
const DRIVEN = /[\p{Cc}\p{Cf}]/u;

async function shown(args: readonly string[], env: Record<string, string>): Promise<string> {
  const command = ["python3", join(cloche.directory, "terminal.py"), cloche.components.node, cloche.components.app.cli, ...args];
  const quoted = command.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
  const { bytes, status, stderr } = await cloche.shell(quoted, { env });
  expect([status, stderr]).toEqual([0, ""]);
  // the terminal's own line ends, and its echo of the end of its input
  return bytes.toString("latin1").replaceAll("\r\n", "\n");
}
/** The bytes as text; what is no UTF-8 would stand out as itself. */
const text = (bytes: string) => Buffer.from(bytes, "latin1").toString("utf8");

beforeAll(() => writeFileSync(join(cloche.directory, "terminal.py"), IN_TERMINAL));

describe.each(WHO)("what guest %s writes", (who) => {
  const task = `writes-${who}`;
  beforeAll(async () => {
    const folder = cloche.folder(task);
    writeFileSync(join(folder, "notes"), "the user's\n");
    writeFileSync(join(folder, "moved"), "moved\n");
    const made = await cloche.shell(
      `cd ${folder} && git init -q -b main repository && cd repository && echo one > file && git add . && git -c user.name=u -c user.email=u@u commit -q -m first`,
    );
    expect(made.status, made.stderr).toBe(0);
    await cloche.ok(["new", task, "--share", folder]);
    await cloche.ok(["start", task]);
    await inGuest(cloche, task, who, SCRIPT, task, JSON.stringify(DRIVES));
  });

  it.each(["changes", "diff", "show", "history", "events"])(
    "`cloche %s` sends text and its own colours to a terminal, and nothing of the guest's",
    async (command) => {
      const args = command === "history" ? [command, task, "notes"] : [command, task];
      const plain = text(await shown(args, { NO_COLOR: "1" }));
      expect(plain.replaceAll(/\r\x1b\[K/g, "").replaceAll(/[\n\t]/g, "")).not.toMatch(DRIVEN);
      const coloured = text(await shown(args, {}));
      // each colour is one of the command line's around a text; without them it is what stands there without colours
      expect(coloured.replaceAll(OWN, "").replaceAll(/[\n\t]/g, "")).not.toMatch(DRIVEN);
      if (command === "diff" || command === "changes") {
        expect(coloured.replaceAll(OWN, "")).toBe(plain.replaceAll(OWN, ""));
        expect(coloured, "control: there are colours").toMatch(/\x1b\[(?:1|32)m/);
        expect(plain, "control: the guest's text is there").toContain("OWNED");
      }
    },
  );

  it("a name with line ends in it is one line, and forges none", async () => {
    const listed = text(await shown(["changes", task], { NO_COLOR: "1" })).split("\n");
    expect(listed.filter((line) => line.includes("forged"))).toHaveLength(1);
    expect(listed.filter((line) => line.startsWith("+"))).toEqual([]);
    const diff = text(await shown(["diff", task], { NO_COLOR: "1" })).split("\n");
    expect(diff.filter((line) => line.startsWith("+forged"))).toEqual([]);
  });

  it("control: the same diff into a file has the guest's own bytes, as `patch` wants them", async () => {
    const { bytes } = await cloche.ok(["diff", task, "content-00", "content-02", "notes"]);
    for (const text of [DRIVES[0], DRIVES[2], DRIVES[4], DRIVES[16]]) expect(bytes.includes(Buffer.from(text ?? ""))).toBe(true);
  });

  it("`cloche apply` and what it refuses say it harmlessly, too", async () => {
    const said = text(await shown(["apply", task, "--all"], { NO_COLOR: "1" }));
    expect(said.replaceAll(/\r\x1b\[K/g, "").replaceAll(/[\n\t]/g, "")).not.toMatch(DRIVEN);
    expect(said, "control: it says something of them").toContain("OWNED");
  });
});
