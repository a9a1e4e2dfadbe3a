/**
 * C01, C07: a task uses its user's keys in every way there is, under origins that send back what they were sent, with programs in it that
 * crash and a proxy that does. Then everything of it is searched from the host: the guest's memory while it is paused, its disk, its
 * console, every file below Cloche's folders, the memory of every process. What the guest holds itself is found by the same
 * search in every form that is looked for, and so are the values where they may be.
 */
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Seen } from "../doubles/internet.ts";
import { until } from "../e2e/faults/support.ts";
import { formsOf, Search } from "../harness/index.ts";
import { inGuest, WHO } from "./folders-support.ts";
import { headerAt, type Online, oddKey, online, random } from "./keys-support.ts";

const api = "api.fixture.example";
const pair = "pair.fixture.example";
const later = "later.fixture.example";
const git = "github.com";
const MEMORY_MIB = 512;

const keys = { header: oddKey(), basic: `svc:${oddKey()}`, git: `ghp_${random()}${random().slice(0, 6)}`, late: `late-${random()}` };
type Key = keyof typeof keys;
/** what only the guest makes: they are looked for as the keys are */
const held = { "in memory": oddKey(), "on disk": oddKey(), "on the console": oddKey(), "in its output": oddKey() };
type Held = keyof typeof held;

/** A program of guest root's that keeps texts in its memory, in its file and on its console, in forms that it makes itself. */
const HOLD = `
import base64, json, os, sys, time, urllib.parse
def forms(t):
    b = t.encode(); h = len(b) // 2
    p = "".join("%%%02x" % c for c in b)
    made = [t, t[:h], t[h:], b.hex(), b.hex().upper(), p, p.upper(), urllib.parse.quote(t, safe="!'()*~"), json.dumps(t)[1:-1], "".join("\\\\u%04x" % c for c in b)]
    for k in range(3):
        around = b"<>?"[:k] + b + b"\\x7f\\x7f"
        made += [base64.b64encode(around).decode(), base64.urlsafe_b64encode(around).decode()]
    return made
given = {k: bytes.fromhex(v).decode() for k, v in json.loads(sys.argv[1]).items()}
environment = {}
for line in open("/run/cloche/environment"):
    name, _, value = line.removeprefix("export ").rstrip().partition("=")
    environment[name] = value.strip("'")
stand_ins = [environment[n] for n in ("HEADER_KEY", "BASIC_KEY", "LATE_KEY")]
with open("/var/held", "w") as f:
    f.write("\\n".join(x for t in [given["on disk"], *stand_ins] for x in forms(t))); f.flush(); os.fsync(f.fileno())
with open("/dev/console", "w") as f: f.write("\\n".join(forms(given["on the console"])) + "\\n")
for form in forms(given["in its output"]): print(form)
# many copies: one that lies over the end of a page is not in one piece in the machine's memory
copies = [[(x + chr(0)).encode() for x in forms(t)] for t in [given["in memory"], *stand_ins] for _ in range(16)]
sys.stdout.flush()
if os.fork(): os._exit(0)
os.setsid()
null = os.open("/dev/null", os.O_RDWR)
for fd in (0, 1, 2): os.dup2(null, fd)
while True: time.sleep(1000); len(copies)
`;

/** Environment and command line of every process that its user, or root, may look at. */
const PROCESSES = `
import json, os
found = {}
for pid in filter(str.isdigit, os.listdir("/proc")):
    try: found[pid] = [open(f"/proc/{pid}/{what}", errors="replace").read() for what in ("comm", "cmdline", "environ")]
    except OSError: pass
print(json.dumps(found))
`;
type Processes = Record<string, [comm: string, cmdline: string, environ: string]>;

let on: Online;
let search: Search;
let seen: Seen;
const stood: Partial<Record<Key, string>> = {};
const inSftp: { environ: string; said: string } = { environ: "", said: "" };
const ran: Record<string, string> = {};
const cloche = () => on.cloche;

const exec = async (...argv: string[]) => (await cloche().ok(["exec", "keys", "--", ...argv])).stdout;
const curl = (to: string, ...args: string[]) => `curl -sS -m 60 ${args.join(" ")} ${to}`;
const withHeader = (path: string) => curl(`https://${api}/${path}`, '-H "x-fixture-key: $HEADER_KEY"');

beforeAll(async () => {
  on = await online([
    { name: api },
    { name: pair },
    { name: later },
    { name: git, handler: new URL("origins/locked-git.ts", import.meta.url) },
  ]);
  // a user who wants core files of everything
  await cloche().shell("ulimit -c unlimited; cloche ls");
  const add = (name: Key, ...args: string[]) => cloche().ok(["secret", "add", name, "--memory", ...args], { input: keys[name] });
  await add("header", "--host", api, "--as", "header:x-fixture-key", "--env", "HEADER_KEY");
  await add("basic", "--host", pair, "--as", "basic", "--env", "BASIC_KEY");
  await add("git", "--host", git, "--as", "basic");
  await add("late", "--host", later, "--env", "LATE_KEY");
  const reach = [api, pair, later, git].flatMap((host) => ["--allow", host]);
  const has = (["header", "basic", "git"] as const).flatMap((name) => ["--secret", name]);
  await cloche().ok(["new", "keys", "--memory", `${MEMORY_MIB}m`, ...reach, ...has]);
  await cloche().ok(["start", "keys"]);

  ran.exec = await exec("sh", "-c", withHeader("exec"));
  ran.grandchild = await exec(
    "bash",
    "-c",
    `sh -c 'python3 -c "import os; os.system(os.environ[\\"DO\\"])"'`.replace("sh -c", `DO='${withHeader("grandchild")}' sh -c`),
  );
  ran.pair = await exec("sh", "-c", curl(`https://${pair}/pair`, '-u "$BASIC_KEY"'));
  ran.git = await exec("git", "ls-remote", `https://${git}/locked/repository`);
  ran.terminal = (await cloche().ok(["exec", "keys", "-t", "--", "sh", "-c", `test -t 1 && ${withHeader("terminal")}`])).stdout;
  ran.before = (await exec("sh", "-c", 'echo "[$LATE_KEY]"')).trim();
  await cloche().ok(["secret", "give", "keys", "late"]);
  ran.late = await exec("sh", "-c", curl(`https://${later}/late`, '-H "Authorization: Bearer $LATE_KEY"'));
  Object.assign(stood, {
    header: (await exec("printenv", "HEADER_KEY")).trim(),
    basic: (await exec("printenv", "BASIC_KEY")).trim(),
    late: (await exec("printenv", "LATE_KEY")).trim(),
    git: /x-access-token (\S+)/.exec(await exec("sudo", "cat", "/run/cloche/git-credentials"))?.[1],
  });
  await sftp();
  await crashes();
  ran.afterwards = await exec("sh", "-c", withHeader("afterwards"));
  const hex = Object.fromEntries(Object.entries(held).map(([name, text]) => [name, Buffer.from(text).toString("hex")]));
  ran.held = (await cloche().ok(["exec", "keys", "--", "sudo", "python3", "-c", HOLD, JSON.stringify(hex)])).stdout;
  seen = await on.internet.seen();
  search = new Search({ ...keys, ...held, ...Object.fromEntries(Object.entries(stood).map(([name, text]) => [`stand-in ${name}`, text])) });
});
afterAll(async () => {
  search?.end();
  await on?.end();
});

/** A session of OpenSSH's client, with a file up and down; its server's environment is read while it is there. */
async function sftp(): Promise<void> {
  const config = join(cloche().directory, "ssh_config");
  writeFileSync(config, (await cloche().ok(["ssh-config", "keys"])).stdout);
  const command = on.internet.command("/usr/bin/sftp", ["-q", "-b", "-", "-F", config, "cloche-keys"]);
  const child = spawn(command.file, command.args, { env: { ...cloche().env }, cwd: cloche().directory });
  const said = (chunk: Buffer) => {
    inSftp.said += chunk;
  };
  child.stdout.on("data", said);
  child.stderr.on("data", said);
  const closed = new Promise((resolve) => child.once("close", resolve));
  try {
    child.stdin.write(`put ${config} config\npwd\n`);
    await until("the session", () => inSftp.said.includes("Remote working directory"));
    inSftp.environ = await exec("sudo", "sh", "-c", "tr '\\0' '\\n' < /proc/$(pgrep -n sftp-server)/environ");
    child.stdin.end("get config copy\n");
    expect(await closed, inSftp.said).toBe(0);
  } finally {
    child.kill();
  }
}

const proxies = () =>
  cloche()
    .hostState()
    .processes.filter((line) => line.includes(cloche().components.app.proxy))
    .map((line) => Number.parseInt(line, 10));

/** A program in the guest that has the stand-in, and the proxy, which has the value. */
async function crashes(): Promise<void> {
  await cloche().run(["exec", "keys", "--", "bash", "-c", "cd ~; ulimit -c unlimited; exec python3 -c 'import os; os.abort()'"]);
  const [proxy = 0] = proxies();
  process.kill(proxy, "SIGSEGV");
  await until("word of the proxy's end", async () => (await cloche().events("keys")).some(({ kind }) => kind === "egress.restarted"));
}

const all = (name: string) => [...formsOf("-".repeat(20)).keys()].map((form) => `${name}: ${form}`);
/** What of a search's finds is a form of these. */
const of = (found: readonly string[], names: readonly string[]) => found.filter((label) => names.includes(label.split(": ")[0] ?? ""));
const values: readonly Key[] = ["header", "basic", "git", "late"];
const withValue: readonly string[] = values;

describe("a key that a task uses", () => {
  it("control: works in exec, its children, terminals, git's helper, as user and password, and when it is given while the task runs", () => {
    const requests = seen.requests.filter(({ origin }) => origin === api).map(({ target }) => target);
    expect(requests).toEqual(["/exec", "/grandchild", "/terminal", "/afterwards"]);
    expect(new Set(headerAt(seen, api, "x-fixture-key"))).toEqual(new Set([keys.header]));
    expect(headerAt(seen, pair, "authorization")).toEqual([`Basic ${Buffer.from(keys.basic).toString("base64")}`]);
    expect(headerAt(seen, later, "authorization")).toEqual([`Bearer ${keys.late}`]);
    expect(headerAt(seen, git, "authorization")).toEqual([`Basic ${Buffer.from(`x-access-token:${keys.git}`).toString("base64")}`]);
    expect(ran.before).toBe("[]");
    for (const way of ["exec", "grandchild", "terminal", "afterwards"]) expect(ran[way]).toContain('"x-fixture-key","xxxx');
    expect(ran.git).toContain("refs/heads/main");
  });

  it("has its stand-in in the variables of an sftp session too", () => {
    expect(inSftp.environ.split("\n")).toEqual(expect.arrayContaining([`HEADER_KEY=${stood.header}`, `LATE_KEY=${stood.late}`]));
    expect(readFileSync(join(cloche().directory, "copy"), "utf8")).toContain("Host cloche-keys");
  });

  it("C01: is in no variable and no command line of any process, and in nothing that the origins' answers brought", async () => {
    expect(of(search.inText(Object.values(ran).join("\n") + inSftp.environ), withValue)).toEqual([]);
    for (const who of WHO) {
      const processes = await inGuest<Processes>(cloche(), "keys", who, PROCESSES);
      const text = Object.values(processes).flat().join("\n");
      expect(of(search.inText(text), withValue)).toEqual([]);
      expect(search.inText(text), "what is looked for could be there").toContain("stand-in header: plain");
      expect(Object.keys(processes).length).toBeGreaterThan(who === "root" ? 3 : 0);
      if (who === "root") expect(processes["1"], "the agent's own are among them").toBeDefined();
    }
  });

  it("C01: is nowhere in the guest's memory and on its disk, in any form, and what the guest holds is found in every form", async () => {
    const { id, pids } = await machine();
    await exec("sync");
    await cloche().ok(["pause", "keys"]);
    try {
      const memory = await search.inGuestMemory(pids.qemu, MEMORY_MIB);
      expect(of(memory, withValue)).toEqual([]);
      expect(memory).toEqual(
        expect.arrayContaining([...all("in memory"), ...all("stand-in header"), ...all("stand-in late"), "stand-in git: plain"]),
      );
      const disk = await search.inFiles(join(cloche().home, "tasks", id, "disk.raw"));
      expect(of(disk, withValue)).toEqual([]);
      expect(disk).toEqual(expect.arrayContaining([...all("on disk"), ...all("stand-in header"), ...all("stand-in basic")]));
      expect(
        of(disk, ["in memory"]).filter((label) => label !== "in memory: hex"),
        "what is kept in memory alone is found there",
      ).toEqual([]);
    } finally {
      await cloche().ok(["resume", "keys"]);
    }
  });

  it("C01: is in the memory of the keeper and of the task's proxy, and of no other process of the machine", async () => {
    const { pids } = await machine();
    const { keeper, proxy, ...others } = pids;
    for (const pid of [keeper, proxy]) {
      const found = await search.inProcess(pid);
      for (const key of values) expect(found, `${pid}`).toContain(`${key}: plain`);
    }
    for (const [name, pid] of Object.entries(others)) expect([name, of(await search.inProcess(pid), withValue)]).toEqual([name, []]);
  });

  it("C07: leaves no core file behind, whatever its user's limit is: no process that has it may write one", async () => {
    const { pids } = await machine();
    for (const [name, pid] of Object.entries(pids)) {
      const limit = /^Max core file size +(\S+) +(\S+)/m.exec(readFileSync(`/proc/${pid}/limits`, "utf8"))?.slice(1);
      expect([name, limit]).toEqual([name, ["0", "0"]]);
    }
  });

  it("C07: is in no variable and no command line of Cloche's own processes", () => {
    const texts = cloche()
      .hostState()
      .processes.map((line) => Number.parseInt(line, 10))
      .map((pid) => readFileSync(`/proc/${pid}/cmdline`, "latin1") + readFileSync(`/proc/${pid}/environ`, "latin1"))
      .join("\n");
    expect(texts).toContain("host.log");
    expect(of(search.inText(texts), withValue)).toEqual([]);
  });

  it("C07: is in nothing that Cloche tells of the task", async () => {
    const say = async (...args: string[]) => {
      const { stdout, stderr } = await cloche().ok(args);
      return stdout + stderr;
    };
    const logs = await say("logs", "keys");
    expect(logs, "what was printed is told").toContain(held["in its output"]);
    const console = await say("logs", "keys", "--console");
    expect(console).toContain(Buffer.from(held["on the console"]).toString("hex"));
    const events = await say("events", "keys");
    expect(events).toContain("with key header");
    const others = [
      ["events"],
      ["events", "export", "keys"],
      ["events", "keys", "--json"],
      ["show", "keys", "--json"],
      ["secret", "ls", "--json"],
    ];
    const rest = await Promise.all(
      [...others, ["policy", "show", "keys"], ["asks", "keys"], ["secret", "test", "header"]].map((args) => say(...args)),
    );
    expect(of(search.inText([logs, console, events, ...rest].join("\n")), withValue)).toEqual([]);
  });

  it("C07: is in no file of the task, of its keeper's, or beside, after a keeper that crashed too; what the guest wrote is", async () => {
    const { id, pids } = await machine();
    process.kill(pids.keeper, "SIGSEGV");
    expect(await cloche().quiet(15_000), "its machine ends with it").toEqual([]);
    await cloche().ok(["events"]);
    const found = await search.inFiles(cloche().directory, cloche().runtime);
    expect(of(found, withValue)).toEqual([]);
    expect(found).toEqual(expect.arrayContaining([...all("on disk"), ...all("on the console"), ...all("in its output")]));
    const log = await search.inFiles(join(cloche().home, "tasks", id, "console.log"));
    expect(of(log, Object.keys(held) as Held[])).toEqual(all("on the console").sort());
  });
});

/** The task's id, and the processes that are its machine or serve it. */
async function machine(): Promise<{ id: string; pids: { keeper: number; proxy: number; qemu: number; vsock: number; helper: number } }> {
  const { id } = await cloche().task("keys");
  const { processes } = cloche().hostState();
  const { qemu, vsockDevice, helper, app } = cloche().components;
  const one = (program: string, at = 0) => {
    const found = processes.filter((line) => line.split(" ")[1 + at] === program);
    if (found.length !== 1) throw new Error(`${found.length} processes are ${program}:\n${processes.join("\n")}`);
    return Number.parseInt(found[0] ?? "", 10);
  };
  const keeper = Number.parseInt(readFileSync(join(cloche().runtime, "keeper.lock"), "utf8"), 10);
  return { id, pids: { keeper, proxy: one(app.proxy, 1), qemu: one(qemu), vsock: one(vsockDevice), helper: one(helper) } };
}
