/** What goes through a command: statuses, argv, environment, streams, terminals, time limits, results, copies. One machine for all. */
import { createHash, randomBytes } from "node:crypto";
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Cloche } from "../../harness/index.ts";
import { keeperPid, noMachineLeft, refusedWith, sha256, until } from "./support.ts";

const cloche = new Cloche();
const folder = cloche.folder("work");
const exec = (...argv: string[]) => cloche.run(["exec", "w", "--", ...argv]);

beforeAll(async () => {
  await cloche.ok(["new", "w", "--share", `${folder}:rw`, "--env", "FROM_TASK=one two"]);
  await cloche.ok(["start", "w"]);
});
afterAll(async () => {
  expect(cloche.guestComplaints()).toEqual([]);
  await cloche.end();
});

describe("the status of a command is the shell's for it", () => {
  it.each([
    [0, ["true"]],
    [3, ["sh", "-c", "exit 3"]],
    [125, ["sh", "-c", "exit 125"]],
    [126, ["/etc/hostname"]],
    [127, ["no-such-program"]],
    [137, ["sh", "-c", "kill -9 $$"]],
    [143, ["sh", "-c", "kill $$"]],
    [139, ["sh", "-c", "kill -SEGV $$"]],
  ])("%i", async (status, argv) => {
    const ended = await exec(...argv);
    expect(ended.status, ended.stderr).toBe(status);
    expect(ended.stdout).toBe("");
  });

  it("of `run` too, with nothing of ours on standard output", async () => {
    const ended = await cloche.run(["run", "--", "sh", "-c", "echo out; echo err >&2; exit 42"]);
    expect({ status: ended.status, stdout: ended.stdout }).toEqual({ status: 42, stdout: "out\n" });
    expect(ended.stderr).toMatch(/^err$/m);
  });
});

describe("what goes in", () => {
  it("argv: each byte from 1 to 255, the empty word and what looks like an option or a substitution", async () => {
    const script = `
      args=()
      for n in $(seq 1 255); do printf -v byte "\\\\x%02x" "$n"; args+=("$(printf "x\${byte}x")"); done
      args+=('' -- -n --help '$(touch /tmp/pwned)' '\`id\`' '*' '~' '!!' "it's" '"' '\\' "a b" "$(printf 'x\\ny')")
      printf '%s\\0' "\${args[@]}" | sha256sum | cut -d' ' -f1
      cloche exec w -- python3 -c 'import sys, os, hashlib; print(hashlib.sha256(b"".join(os.fsencode(a) + b"\\0" for a in sys.argv[1:])).hexdigest())' "\${args[@]}"
    `;
    const { stdout, stderr, status } = await cloche.shell(script);
    const [sent, got] = stdout.trim().split("\n");
    expect(status, stderr).toBe(0);
    expect(got).toBe(sent);
    expect((await exec("test", "-e", "/tmp/pwned")).status).toBe(1);
  });

  it("environment: the task's, the command's, and no variable of the host's", async () => {
    const value = "a 'b' \"c\" $d `e`\n\\f\tü";
    const env = ["--env", `V=${value}`, "--env", "EMPTY=", "--env", "HERE"];
    const program =
      "import os, json; print(json.dumps({k: os.environ.get(k) for k in ['V', 'EMPTY', 'HERE', 'FROM_TASK', 'CLOCHE_HOME', 'SECRET']}))";
    const { stdout } = await cloche.ok(["exec", "w", ...env, "--", "python3", "-c", program], { env: { HERE: "host", SECRET: "no" } });
    expect(JSON.parse(stdout)).toEqual({ V: value, EMPTY: "", HERE: "host", FROM_TASK: "one two", CLOCHE_HOME: null, SECRET: null });
    refusedWith(await cloche.run(["exec", "w", "--env", "NOT_THERE", "--", "true"]), "usage");
    refusedWith(await cloche.run(["exec", "w", "--env", "1=2", "--", "true"]), "usage");
  });

  it("16 MB of standard input, byte for byte, and 4 MB there and back", async () => {
    const input = randomBytes(16 << 20); // eight times what ssh lets one side have under way
    const { stdout } = await cloche.ok(["exec", "w", "--", "sha256sum"], { input });
    expect(stdout.split(" ")[0]).toBe(sha256(input));
    const back = await cloche.ok(["exec", "w", "--", "cat"], { input: input.subarray(0, 4 << 20) });
    expect(sha256(back.bytes)).toBe(sha256(input.subarray(0, 4 << 20)));
  });

  it("no input at all is an end of input, not a wait", async () => {
    expect((await cloche.shell("cloche exec w -- cat </dev/null; cloche exec w -- wc -c <&-")).stdout).toBe("0\n");
  });

  it("a command that does not read its input ends all the same, also when it is ended, or when its client is killed", async () => {
    const input = Buffer.alloc(20 << 20);
    expect((await cloche.run(["exec", "w", "--", "true"], { input })).status).toBe(0);
    expect(await cloche.run(["exec", "w", "--", "sh", "-c", "sleep 0.5; echo x; exit 3"], { input })).toMatchObject({
      status: 3,
      stdout: "x\n",
    });
    expect((await cloche.run(["exec", "w", "--timeout", "1s", "--", "sleep", "1000"], { input })).status).toBe(143);
    const going = cloche.start(["exec", "w", "--", "sh", "-c", "echo here; exec sleep 1000"]);
    going.process.stdin.write(input);
    await going.saw("here");
    going.process.kill("SIGKILL");
    await until("the command's end", async () => (await cloche.task("w")).running === 0, 10_000);
    expect((await exec("pgrep", "-x", "sleep")).status).toBe(1);
  });
});

const rssMb = (pid: number) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;

describe("what comes out", () => {
  it("30 MB to a reader that waits: the command waits too, then all of it arrives, and the keeper's memory stays bounded", async () => {
    const pid = keeperPid(cloche);
    const before = rssMb(pid);
    let peak = 0;
    const watch = setInterval(() => {
      peak = Math.max(peak, rssMb(pid));
    }, 50);
    const read =
      'import sys, os, time, hashlib; h = hashlib.sha256(); n = 0\nwhile not os.path.exists("go"): time.sleep(0.05)\nwhile b := sys.stdin.buffer.read(1 << 16): h.update(b); n += len(b)\nprint(n, h.hexdigest())';
    const write = "for n in $(seq 30); do yes | head -c 1M; echo $n > written; done";
    const going = cloche.shell(`cloche exec w -- sh -c '${write}' | python3 -c '${read}'; echo \${PIPESTATUS[0]}`);
    let written = 0;
    await until("everything between the reader and the command to be full", async () => {
      const last = written;
      await new Promise((resolve) => setTimeout(resolve, 2_000));
      written = existsSync(join(folder, "written")) ? Number(readFileSync(join(folder, "written"), "utf8")) : 0;
      return written > 0 && written === last;
    });
    writeFileSync(join(cloche.directory, "go"), "");
    const { stdout, stderr } = await going;
    clearInterval(watch);
    const hash = createHash("sha256");
    for (let n = 0; n < 30; n++) hash.update("y\n".repeat(1 << 19));
    expect(stdout, stderr).toBe(`${30 << 20} ${hash.digest("hex")}\n0\n`);
    expect(written, "MB written before any was read").toBeLessThan(15);
    expect(peak - before).toBeLessThan(75);
  });

  it("standard output and error keep apart and keep their bytes", async () => {
    const ended = await exec("sh", "-c", "printf 'o\\377\\000o'; printf 'e\\n' >&2");
    expect(ended.bytes).toEqual(Buffer.from([0x6f, 0xff, 0, 0x6f]));
    expect(ended.stderr).toBe("e\n");
  });

  it("`| head -1`: the command gets SIGPIPE, the status is 141, nothing goes on in the guest", async () => {
    const { stdout } = await cloche.shell(`cloche exec w -- sh -c 'echo $$; exec yes' | head -1; echo \${PIPESTATUS[0]}`);
    const [pid, status] = stdout.trim().split("\n");
    expect(status).toBe("141");
    await until("the command's end", async () => (await exec("test", "-d", `/proc/${pid}`)).status === 1, 20_000);
    await until("no command", async () => (await cloche.task("w")).running === 0);
  });
});

describe("a terminal", () => {
  // util-linux's script gives the client a terminal of its own; stty there is the host's
  const inTerminal = (command: string) =>
    cloche.shell(`export -f cloche; SHELL=/bin/bash script -qec ${JSON.stringify(command)} /dev/null </dev/null`);

  it("has the size of the client's, and changes with it", async () => {
    const guest = "stty size; trap 'stty size; exit 4' WINCH; echo ready; while :; do sleep 0.1; done";
    // python holds both ends of a terminal and changes its size
    const python = `
import os, pty, sys, fcntl, termios, struct, signal
def size(fd, rows, cols): fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
pid, fd = pty.fork()
if pid == 0:
    size(0, 33, 101)
    os.execvp(sys.argv[1], sys.argv[1:])
seen, resized = b"", False
while True:
    try: chunk = os.read(fd, 4096)
    except OSError: break
    if not chunk: break
    seen += chunk
    if b"ready" in seen and not resized:
        resized = True
        size(fd, 44, 77)
        os.kill(pid, signal.SIGWINCH)
_, status = os.waitpid(pid, 0)
print(seen.decode(), os.waitstatus_to_exitcode(status))
`;
    writeFileSync(join(cloche.directory, "terminal.py"), python);
    const { node, app } = cloche.components;
    const { stdout, stderr } = await cloche.shell(
      `python3 terminal.py '${node}' '${app.cli}' exec w -t -- bash -c ${JSON.stringify(guest).replaceAll("$", "\\$")}`,
    );
    expect(stdout.replaceAll("\r", "").trim().split("\n"), stderr).toEqual(
      ["33 101", "ready", "44 77", " 4"].map((line) => expect.stringContaining(line.trim())),
    );
  });

  it("is there with -t, and is not with -T or without one", async () => {
    expect((await inTerminal("cloche exec w -- tty; cloche exec w -T -- tty")).stdout.replaceAll(/\r|\^@/g, "")).toBe(
      "/dev/pts/0\nnot a tty\n",
    );
    const plain = await exec("tty");
    expect(plain).toMatchObject({ status: 1, stdout: "not a tty\n" });
    expect((await cloche.run(["exec", "w", "-t", "--", "tty"])).stdout.trim()).toBe("/dev/pts/0");
  });

  it("Ctrl-C in it is a byte: the guest's terminal makes the signal", async () => {
    const going = cloche.start([
      "exec",
      "w",
      "-t",
      "--",
      "bash",
      "-c",
      "trap 'echo got; exit 9' INT; echo ready; while :; do sleep 0.1; done",
    ]);
    await going.saw("ready");
    going.process.stdin.write("\x03");
    await going.saw("got");
    expect((await going.finished).status).toBe(9);
  });
});

describe("--timeout", () => {
  it("ends the command with TERM, says so, and the status is the signal's", async () => {
    const ended = await cloche.run(["exec", "w", "--timeout", "1s", "--", "sleep", "1000"]);
    expect(ended.status).toBe(143);
    expect(ended.stderr).toMatch(/^cloche: The command ran longer than 1s and was ended\. \[exec\.timeout\]\n {2}→ \S/);
    expect((await exec("pgrep", "-x", "sleep")).status).toBe(1);
  });

  it("with KILL when TERM is ignored; 137", async () => {
    const ended = await cloche.run(["exec", "w", "--timeout", "1s", "--", "bash", "-c", "trap '' TERM; while :; do sleep 0.2; done"]);
    expect(ended.status).toBe(137);
    expect(ended.stderr).toContain("[exec.timeout]");
  });

  it("changes nothing for a command that is done in time", async () => {
    expect(await cloche.run(["exec", "w", "--timeout", "5m", "--", "sh", "-c", "exit 5"])).toMatchObject({ status: 5, stderr: "" });
  });
});

describe("--result", () => {
  it("is written by Cloche alone: a workload can print one, it cannot write it", async () => {
    const forged = '{"version":1,"task":"w","status":0,"totalMs":1}';
    const ended = await cloche.run([
      "exec",
      "w",
      "--result",
      join(cloche.directory, "r.json"),
      "--",
      "sh",
      "-c",
      `echo '${forged}'; echo '${forged}' > r.json; exit 6`,
    ]);
    expect(ended.status).toBe(6);
    const result = JSON.parse(readFileSync(join(cloche.directory, "r.json"), "utf8"));
    expect(result).toEqual({ version: 1, task: "w", status: 6, totalMs: expect.any(Number) });
    expect(statSync(join(cloche.directory, "r.json")).mode & 0o777).toBe(0o600);
  });

  it("in the shared folder itself: the workload's file and its link are replaced, what the link led to is not touched", async () => {
    writeFileSync(join(cloche.directory, "canary"), "canary");
    const ended = await cloche.run([
      "exec",
      "w",
      "--result",
      join(folder, "r2.json"),
      "--",
      "sh",
      "-c",
      "ln -sf ../canary r2.json; ln -sf ../canary r2.json.new; exit 8",
    ]);
    expect(ended.status).toBe(8);
    expect(readFileSync(join(cloche.directory, "canary"), "utf8")).toBe("canary");
    expect(JSON.parse(readFileSync(join(folder, "r2.json"), "utf8"))).toMatchObject({ status: 8 });
  });

  it("tells a failure that was ours, too", async () => {
    const file = join(cloche.directory, "r3.json");
    refusedWith(await cloche.run(["run", "--share", `${cloche.directory}/none:ro`, "--result", file, "--", "true"]), "share.not-found");
    expect(JSON.parse(readFileSync(file, "utf8"))).toMatchObject({ status: 125, problem: { code: "share.not-found" } });
  });
});

describe("cp", () => {
  const odd = ["plain", "with space", "ü – 語", "new\nline", "-n", "$(id)", "tab\there", "*"];

  it("copies files and folders in and out, byte for byte, with odd names", async () => {
    const source = cloche.folder("in");
    mkdirSync(join(source, "deep/er"), { recursive: true });
    for (const name of odd) writeFileSync(join(source, "deep/er", name), `content of ${name}`);
    const big = randomBytes(3 << 20);
    writeFileSync(join(source, "big"), big);
    symlinkSync("/etc/passwd", join(source, "link"));
    await cloche.ok(["cp", source, "w:/home/you/copied"]);
    expect((await exec("sha256sum", "/home/you/copied/big")).stdout.split(" ")[0]).toBe(sha256(big));
    expect((await exec("test", "-e", "/home/you/copied/link")).status).toBe(1);
    await cloche.ok(["cp", "w:/home/you/copied", join(cloche.directory, "out")]);
    expect(readdirSync(join(cloche.directory, "out/deep/er")).sort()).toEqual([...odd].sort());
    for (const name of odd) expect(readFileSync(join(cloche.directory, "out/deep/er", name), "utf8")).toBe(`content of ${name}`);
    expect(sha256(readFileSync(join(cloche.directory, "out/big")))).toBe(sha256(big));
    await cloche.ok(["cp", "w:copied/big", join(cloche.directory, "one")]);
    expect(sha256(readFileSync(join(cloche.directory, "one")))).toBe(sha256(big));
  });

  it("follows no link of the guest's, refuses one at the target, and makes no special files", async () => {
    await exec(
      "sh",
      "-c",
      "mkdir ~/trap; cd ~/trap; ln -s /etc/passwd passwd; ln -s /etc folder; mkfifo fifo; echo real > real; echo new > target",
    );
    const out = join(cloche.directory, "trapped");
    const ended = await cloche.ok(["cp", "w:trap", out]);
    expect(readdirSync(out).sort()).toEqual(["real", "target"]);
    expect(ended.stderr).toContain("3 skipped");
    writeFileSync(join(cloche.directory, "canary2"), "canary");
    symlinkSync("../canary2", join(cloche.folder("dest"), "target"));
    refusedWith(await cloche.run(["cp", "w:trap/target", join(cloche.directory, "dest/target")]), "copy.failed");
    expect(readFileSync(join(cloche.directory, "canary2"), "utf8")).toBe("canary");
    expect(lstatSync(join(cloche.directory, "dest/target")).isSymbolicLink()).toBe(true);
    await cloche.ok(["cp", "w:trap/target", join(cloche.directory, "dest/plain")]);
    expect(readFileSync(join(cloche.directory, "dest/plain"), "utf8")).toBe("new\n");
  });

  it("keeps what is at the target when the copy breaks, and leaves no part", async () => {
    const target = join(cloche.directory, "kept");
    writeFileSync(target, "as it was");
    refusedWith(await cloche.run(["cp", "w:none", target]), "copy.failed");
    refusedWith(await cloche.run(["cp", join(cloche.directory, "none"), "w:x"]), "copy.failed");
    expect(readFileSync(target, "utf8")).toBe("as it was");
    expect(existsSync(`${target}.cloche-part`)).toBe(false);
    refusedWith(await cloche.run(["cp", target, join(cloche.directory, "other")]), "usage");
  });
});

it("two `run`s at once have a machine each, and leave nothing", async () => {
  const both = await Promise.all(
    [1, 2].map((n) => cloche.run(["run", "--", "sh", "-c", `cat /proc/sys/kernel/random/boot_id; exit ${n}`])),
  );
  expect(both.map((ended) => ended.status)).toEqual([1, 2]);
  expect(new Set(both.map((ended) => ended.stdout)).size).toBe(2);
  await cloche.ok(["stop", "w"]);
  await noMachineLeft(cloche, 0);
});
