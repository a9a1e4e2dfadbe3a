/** What a guest, another user or another process finds of Cloche on the host: private directories, sockets that are silent, no listener on TCP. */
import {
  chmodSync,
  chownSync,
  closeSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { createConnection } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Cloche } from "../../harness/index.ts";
import { keeperEnds, noMachineLeft, pidOf, refusedWith, running, sha256 } from "./support.ts";

const cloche = new Cloche();
const folder = cloche.folder("work");

let silent: ReturnType<typeof answerTo>;
beforeAll(async () => {
  await cloche.ok(["new", "t", "--share", `${folder}:rw`]);
  silent = answerTo(""); // it waits, while the machine starts
  await cloche.ok(["start", "t"]);
});
afterAll(() => cloche.end());

/** What the keeper sends to a connection that sends `bytes`, and after how long it hangs up. */
function answerTo(bytes: string): Promise<{ said: string; ms: number }> {
  return new Promise((resolve) => {
    const began = performance.now();
    let said = "";
    const socket = createConnection(join(cloche.runtime, "keeper.sock"), () => socket.write(bytes));
    socket.on("data", (chunk: Buffer) => {
      said += chunk.toString("latin1");
    });
    socket.on("error", () => {});
    socket.once("close", () => resolve({ said, ms: performance.now() - began }));
  });
}

describe("H06: the keeper's socket", () => {
  it("says nothing to who sends nothing, and hangs up within its 5 s", async () => {
    const { said, ms } = await silent;
    expect(said).toBe("");
    expect(ms).toBeLessThan(8_000);
  });

  it("hangs up at once on who speaks something else, and answers nothing", async () => {
    for (const bytes of ['{"jsonrpc":"2.0","id":1,"method":"tasks.list","params":{}}\n', "GET / HTTP/1.1\r\n\r\n", "x".repeat(100_000)]) {
      expect(await answerTo(bytes)).toMatchObject({ said: "" });
    }
  });

  it("tells who asks for its proof nothing but the proof, and takes none that is wrong", async () => {
    const { said } = await answerTo(`cloche1 ${"a".repeat(64)}\n${"0".repeat(64)}\n{"open":"rpc"}\n`);
    expect(said).toMatch(/^[0-9a-f]{64} [0-9a-f]{64}\n$/);
    expect(said).not.toContain(readFileSync(join(cloche.runtime, "keeper.token"), "utf8").trim());
    expect((await cloche.ok(["ls", "-q"])).stdout).toBe("t\n"); // the control
  });

  it("stands in directories of mode 0700; every file and socket is 0600", () => {
    const bad: string[] = [];
    const walk = (directory: string) => {
      for (const name of readdirSync(directory)) {
        const path = join(directory, name);
        const found = lstatSync(path);
        if (!found.isSymbolicLink() && (found.mode & 0o077) !== 0) bad.push(`${path} ${(found.mode & 0o7777).toString(8)}`);
        if (found.isDirectory()) walk(path);
      }
    };
    expect(lstatSync(cloche.runtime).mode & 0o777).toBe(0o700);
    expect(lstatSync(cloche.home).mode & 0o777).toBe(0o700);
    walk(cloche.runtime);
    walk(cloche.home);
    expect(bad).toEqual([]);
  });
});

describe("H01: a runtime directory that is not ours", () => {
  const other = new Cloche();
  afterAll(() => other.end());
  const refused = async () => {
    const ended = refusedWith(await other.run(["ls"]), "keeper.private-directory");
    expect(ended.stderr).toContain(other.runtime);
    expect(other.hostState().processes).toEqual([]);
  };

  it("a link, a file, an open directory, another user's: nothing is started in it; removed, everything works", async () => {
    symlinkSync(other.folder("trap"), other.runtime);
    await refused();
    expect(readdirSync(other.folder("trap"))).toEqual([]);
    rmSync(other.runtime);
    writeFileSync(other.runtime, "");
    await refused();
    rmSync(other.runtime);
    symlinkSync("/nonexistent/place", other.runtime);
    await refused();
    rmSync(other.runtime);
    mkdirSync(other.runtime);
    chmodSync(other.runtime, 0o755);
    await refused();
    if (process.getuid?.() === 0) {
      chmodSync(other.runtime, 0o700);
      chownSync(other.runtime, 65_534, 65_534);
      await refused();
    }
    rmSync(other.runtime, { recursive: true });
    await other.ok(["ls"]);
  });

  it("a socket planted where the keeper's belongs, and an old token: never spoken to without its proof", async () => {
    await keeperEnds(other);
    const seen = join(other.directory, "seen");
    const listener = `
import socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print("ready", flush=True)
while True:
    c, _ = s.accept(); data = c.recv(65536); open(sys.argv[2], "ab").write(data)
    c.sendall(b"0" * 64 + b" " + b"0" * 64 + b"\\n"); open(sys.argv[2], "ab").write(c.recv(65536)); c.close()
`;
    writeFileSync(join(other.directory, "listener.py"), listener);
    writeFileSync(join(other.runtime, "keeper.token"), "f".repeat(64), { mode: 0o600 });
    const planted = other.shell(
      `timeout 20 python3 listener.py '${join(other.runtime, "keeper.sock")}' '${seen}' & until [ -S '${join(other.runtime, "keeper.sock")}' ]; do sleep 0.05; done; cloche ls; echo "status $?"; kill %1`,
    );
    const ended = await planted;
    expect(ended.stdout).toContain("status 125");
    expect(ended.stderr).toContain("[keeper.refused]");
    expect(readFileSync(seen, "latin1")).toMatch(/^cloche1 [0-9a-f]{64}\n$/); // a nonce, and nothing after the false proof
    rmSync(join(other.runtime, "keeper.sock"));
    rmSync(join(other.runtime, "keeper.token"));
    await other.ok(["ls"]);
  });
});

/** Inodes of the sockets that a process holds. */
const socketsOf = (pid: number) =>
  readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? [];
    } catch {
      return [];
    }
  });

it("H03: no process of Cloche's has a TCP or UDP socket of any kind", () => {
  const inodes = new Set(
    ["tcp", "tcp6", "udp", "udp6", "raw", "packet"].flatMap((table) =>
      readFileSync(`/proc/net/${table}`, "latin1")
        .trim()
        .split("\n")
        .slice(1)
        .map((line) => line.trim().split(/\s+/)[table === "packet" ? 8 : 9] ?? ""),
    ),
  );
  const processes = cloche.hostState().processes;
  expect(processes.length).toBeGreaterThanOrEqual(5);
  expect(processes.filter((line) => socketsOf(Number.parseInt(line, 10)).some((inode) => inodes.has(inode)))).toEqual([]);
  // the control: they do have sockets
  expect(socketsOf(pidOf(cloche, "qemu-system")).length).toBeGreaterThan(0);
});

it("G09: QEMU, the vsock device and the share server run without new privileges; QEMU and the share server under a seccomp filter", () => {
  const field = (pid: number, name: string) =>
    new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  const qemu = pidOf(cloche, "qemu-system");
  expect({ seccomp: field(qemu, "Seccomp"), nnp: field(qemu, "NoNewPrivs") }).toEqual({ seccomp: "2", nnp: "1" });
  expect(field(pidOf(cloche, "vhost-device-vsock"), "NoNewPrivs")).toBe("1");
  const shares = running(cloche, "cloche-share").map((line) => Number.parseInt(line, 10));
  expect(shares.map((pid) => `${field(pid, "Seccomp")} ${field(pid, "NoNewPrivs")}`)).toContain("2 1");
  const commandLine = readFileSync(`/proc/${qemu}/cmdline`, "latin1").split("\0");
  expect(commandLine).toEqual(expect.arrayContaining(["-nodefaults", "-no-user-config", "-sandbox"]));
  expect(commandLine.filter((word) => /netdev|virtio-net|usb|vnc|spice|gdb|virtfs/.test(word))).toEqual([]);
});

describe("G03, G04: vsock", () => {
  it("guest root finds no port of the host's: not the control port once it was used, none beside the folder's, none at random; nor another machine", async () => {
    const control = /cloche\.control=(\d+)/.exec((await cloche.ok(["exec", "t", "--", "cat", "/proc/cmdline"])).stdout)?.[1];
    expect(control).toBeDefined();
    const opened = readdirSync(cloche.runtime)
      .filter((name) => !name.startsWith("keeper."))
      .flatMap((n) => readdirSync(join(cloche.runtime, n)));
    expect(opened.filter((name) => name === `v_${control}`)).toEqual([]);
    // what is open is the share server's; it serves one connection
    const ports = opened.flatMap((name) => /^v_(\d+)$/.exec(name)?.[1] ?? []);
    const probe = `
import socket, sys, json, threading
found = {}
def dial(cid, port):
    s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM); s.settimeout(3)
    try:
        s.connect((cid, port)); s.sendall(b"x"); found[f"{cid}:{port}"] = "open" if s.recv(1) else "closed at once"
    except OSError as e: found[f"{cid}:{port}"] = "no"
    s.close()
places = [(2, int(p)) for p in sys.argv[1:]] + [(2, 22), (2, 1024), (2, 4000000000), (0, 1024), (42, 1024)]
threads = [threading.Thread(target=dial, args=place) for place in places]
for each in threads: each.start()
for each in threads: each.join()
print(json.dumps(found))
`;
    const { stdout } = await cloche.ok(["exec", "t", "--", "sudo", "python3", "-c", probe, String(control), ...ports]);
    const found = Object.entries(JSON.parse(stdout) as Record<string, string>);
    expect(found.filter(([, answer]) => answer === "open")).toEqual([]);
    expect(found.find(([place]) => place === `2:${control}`)?.[1]).not.toBe("open");
    expect(found.length).toBeGreaterThanOrEqual(6);
    // the control: the folder that came over vsock works on
    expect((await cloche.ok(["exec", "t", "--", "sh", "-c", "echo works > f; cat f"])).stdout).toBe("works\n");
  });
});

it("the guest has no network at all, and its own loopback works", async () => {
  const script =
    'cd /sys/class/net; echo *; python3 -c \'import socket; s = socket.create_server(("127.0.0.1", 8080)); c = socket.create_connection(("127.0.0.1", 8080)); print("loopback")\'';
  expect((await cloche.ok(["exec", "t", "--", "sh", "-c", script])).stdout).toBe("lo\nloopback\n");
});

it("G11: what one task wrote in its guest, another does not find; it is there again after a crash of its own", async () => {
  await cloche.ok(["exec", "t", "--", "sh", "-c", "echo secret-7 > ~/mine; sudo sh -c 'echo secret-7 > /etc/mine'; sync"]);
  expect(
    (await cloche.ok(["run", "--", "sh", "-c", "ls ~ /etc/mine 2>&1; grep -c secret-7 -r ~ /tmp /etc/mine 2>/dev/null; true"])).stdout,
  ).not.toContain("secret-7");
  process.kill(pidOf(cloche, "qemu-system"), "SIGKILL");
  await noMachineLeft(cloche);
  await cloche.ok(["start", "t"]);
  expect((await cloche.ok(["exec", "t", "--", "cat", "/home/you/mine", "/etc/mine"])).stdout).toBe("secret-7\nsecret-7\n");
});

it("G13: another format's header on the raw disk gets the guest no file of the host's: the disk stays raw", async () => {
  await cloche.ok(["stop", "t"]);
  const canary = join(cloche.directory, "canary");
  writeFileSync(canary, "canary-of-the-host ".repeat(100));
  // A qcow2 header with a backing file. A hostile guest kernel can write it; ours lets not even root write to a mounted disk, so the
  // test writes what such a guest would have written. The filesystem begins at 1024 and stays whole.
  const name = Buffer.from(canary);
  const header = Buffer.alloc(1024);
  header.write("QFI\xfb", "latin1");
  header.writeUInt32BE(2, 4);
  header.writeBigUInt64BE(512n, 8); // backing file's name at 512
  header.writeUInt32BE(name.length, 16);
  header.writeUInt32BE(16, 20);
  header.writeBigUInt64BE(BigInt(1 << 20), 24);
  header.writeUInt32BE(1, 36);
  header.writeBigUInt64BE(65_536n, 40);
  header.writeBigUInt64BE(131_072n, 48);
  header.writeUInt32BE(1, 56);
  name.copy(header, 512);
  const { id } = await cloche.task("t");
  const fd = openSync(join(cloche.home, "tasks", id, "disk.raw"), "r+");
  writeSync(fd, header, 0, header.length, 0);
  closeSync(fd);
  await cloche.ok(["start", "t"]);
  const script =
    'd=$(for b in /sys/block/vd*; do [ "$(cat $b/serial)" = data ] && basename $b; done); sudo head -c 1024 /dev/$d | sha256sum; sudo head -c 2M /dev/$d | grep -c canary-of-the-host; sudo blockdev --getsize64 /dev/$d';
  const [hash, found, size] = (await cloche.ok(["exec", "t", "--", "sh", "-c", script])).stdout.trim().split("\n");
  expect({ hash: hash?.split(" ")[0], found, size: Number(size) }).toEqual({ hash: sha256(header), found: "0", size: 16 * 2 ** 30 });
  expect((await cloche.ok(["exec", "t", "--", "cat", "/home/you/mine"])).stdout).toBe("secret-7\n");
});
