/**
 * E03, E16, E17, E04, E12, H03: a guest has no network card, and what its programs send reaches nobody but by its proxy, as its user and as a
 * root who has lifted what the guest itself refuses. What leaves the host is looked at frame by frame (`test/doubles/wire.ts`). The same
 * program gets out, in each of its ways, where there is a card: on the host itself, and in a guest that the suite gives one. Our kernel
 * drives no card, so that one is a TAP whose other end is a stream to the fixture.
 */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { dirname, join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { EgressEntry } from "../../app/contract/index.ts";
import { Internet } from "../doubles/internet.ts";
import { type Frame, type HostService, hostService, plugCard, Wire } from "../doubles/wire.ts";
import { machineDirectory, openPorts } from "../e2e/faults/support.ts";
import { BareGuest, Cloche } from "../harness/index.ts";
import { inGuest, probe } from "./folders-support.ts";

const ALLOWED = "api.fixture.example";
/** another name of its, that only one test asks for */
const SECOND = "second.fixture.example";
const OTHER = "other.fixture.example";
/** by which guests of others reach their host, and where clouds keep their keys */
const GATEWAYS = ["10.0.2.2", "192.168.64.1", "172.17.0.1"];
const METADATA = "169.254.169.254";
const LAN = "192.168.77.5";
const SIX = "2606:2800:221::66";
const DNS = "93.184.215.53";
/** nobody has it: only who asks for it shows */
const ARP = "198.51.100.77";
const PORT = 80;

const wayOut = probe("way-out.py");
let internet: Internet;
let host: HostService;
let cloche: Cloche;
let task: string;
let allowed: string;
let other: string;
let canary: string;
let wire: Wire;

beforeAll(async () => {
  internet = await Internet.create();
  allowed = await internet.origin({ name: ALLOWED, names: [SECOND] });
  other = await internet.origin({ name: OTHER });
  await internet.origin({ name: "six.fixture.example", address: SIX });
  await internet.origin({ name: "lan.fixture.example", address: LAN });
  await internet.origin({ name: "metadata.fixture.example", address: METADATA });
  host = await hostService(internet, PORT, GATEWAYS);
  cloche = new Cloche({ inside: (file, args) => internet.command(file, args) });
  mkdirSync(cloche.home, { mode: 0o700 });
  writeFileSync(join(cloche.home, "trusted.pem"), internet.authority);
  await cloche.ok(["new", "net", "--allow", ALLOWED, "--allow", SECOND]);
  await cloche.ok(["start", "net"]);
  task = (await cloche.task("net")).id;
});
afterAll(async () => {
  await cloche?.end();
  await host?.end();
  await internet?.close();
});
beforeEach(async () => {
  canary = `c${Math.random().toString(36).slice(2, 14)}${Math.random().toString(36).slice(2, 14)}`;
  wire = await Wire.watch(internet, canary);
  await internet.forget();
  host.told.length = 0;
});
afterEach(() => wire.end());

interface Report {
  readonly devices: string[];
  readonly done: Record<string, string>;
}
const wanted = (more: object) =>
  JSON.stringify({
    canary,
    addresses: [other, SIX, LAN, METADATA, ...GATEWAYS],
    port: PORT,
    resolvers: [DNS, "198.18.0.1"],
    tls: other,
    name: `${canary}.example`,
    arp: ARP,
    ...more,
  });

/** Ways in which the probe got out, by what arrived. */
async function arrived(): Promise<Set<string>> {
  const frames = await wire.frames();
  const { requests, queries } = await internet.seen();
  const named: [string, (frame: Frame) => boolean][] = [
    ["udp", ({ protocol, port, canary }) => protocol === 17 && port === 9 && canary],
    ["quic", ({ protocol, port, canary }) => protocol === 17 && port === 443 && canary],
    ["icmp", ({ kind, protocol, canary }) => kind === "ipv4" && protocol === 1 && canary],
    ["ip", ({ protocol, canary }) => protocol === 253 && canary],
    ["frame", ({ kind, canary }) => kind === "0x88b5" && canary],
    ["arp", ({ kind, to }) => kind === "arp" && to === ARP],
    ["multicast", ({ kind, to, canary }) => kind === "ipv6" && to === "ff02::1" && canary],
    ["bytes", ({ protocol, port, canary }) => protocol === 6 && port === PORT && canary],
  ];
  const ways = named.filter(([, is]) => frames.some(is)).map(([name]) => name);
  for (const { origin, target, scheme } of requests) if (target.includes(canary)) ways.push(`${scheme} ${origin}`);
  if (queries.some(({ name }) => name.includes(canary))) ways.push("dns");
  for (const { to, first } of host.told) if (first.includes(canary)) ways.push(`host ${to}`);
  return new Set(ways);
}
const AS_USER = ["udp", "quic", "multicast", "bytes", "dns", `https ${OTHER}`, `http ${OTHER}`];
const TO_HOSTS = [
  "http six.fixture.example",
  "http lan.fixture.example",
  "http metadata.fixture.example",
  ...GATEWAYS.map((at) => `host ${at}`),
];
const AS_ROOT = ["icmp", "ip", "frame", "arp"];

describe("what the probe sends arrives where there is a card (controls):", () => {
  it("of the host's own, also at services of its loopback", async () => {
    const { file, args } = internet.command("/usr/bin/python3", [
      "-",
      wanted({ addresses: [other, SIX, LAN, METADATA, ...GATEWAYS, "127.0.0.1"] }),
    ]);
    execFileSync(file, args, { input: wayOut, encoding: "utf8" });
    const ways = await arrived();
    for (const way of [...AS_USER, ...AS_ROOT, ...TO_HOSTS, "host 127.0.0.1"]) expect(ways).toContain(way);
  });

  it("of a guest's", async () => {
    const port = 4_000_000;
    const guest = await BareGuest.boot({ port });
    const card = await plugCard(internet, guest.pathOf(port));
    try {
      const source = (text: string) => `echo ${Buffer.from(text).toString("base64")} | base64 -d`;
      await guest.ok(
        `${source(readFileSync(join(import.meta.dirname, "../doubles/wire.py"), "utf8"))} > /tmp/wire.py; sudo python3 /tmp/wire.py guest ${port}`,
      );
      const run = async (sudo: string) => JSON.parse(await guest.ok(`${source(wayOut)} | ${sudo} python3 - '${wanted({})}'`)) as Report;
      expect((await run("")).devices).toEqual(["card", "lo"]);
      const user = await arrived();
      for (const way of [...AS_USER, ...TO_HOSTS]) expect(user).toContain(way);
      await run("sudo");
      const root = await arrived();
      for (const way of AS_ROOT) expect(root).toContain(way);
    } finally {
      await card.end();
      await guest.end();
    }
  });
});

/** All that left the host since the wire is watched, but for the neighbours' own small talk. */
async function packets(): Promise<string[]> {
  const frames = (await wire.frames()).filter(
    ({ kind, protocol, to, on }) =>
      on === "cable" && !(kind === "arp" && to !== ARP) && !(kind === "ipv6" && protocol === 58) && !(kind === "ipv6" && protocol === 0),
  );
  return [
    ...new Set(
      frames.map(({ kind, protocol, to, port, canary }) => `${kind} ${protocol} ${to} ${port}${canary ? " with the canary" : ""}`),
    ),
  ];
}
const decided = async () =>
  (await cloche.events("net")).filter(({ kind }) => kind === "egress.decided").flatMap(({ data }) => data.entries as EgressEntry[]);

/** A proxy of the guest's own, as a program inside of a sandbox would use: it passes on what it is told, whoever asks. */
const RELAY = `
import socket, threading
def copy(a, b):
    try:
        while data := a.recv(65536): b.sendall(data)
    except OSError: pass
    b.close()
listening = socket.create_server(("127.0.0.1", 8888))
print("ready", flush=True)
while True:
    a, _ = listening.accept(); b = socket.create_connection(("198.18.0.1", 3128))
    for pair in ((a, b), (b, a)): threading.Thread(target=copy, args=pair, daemon=True).start()
`;
const QUESTIONS = String.raw`
import socket, sys
for server in ("198.18.0.1", "${DNS}"):
    for kind in (1, 12, 15, 16, 28, 33, 65):
        label = ("%s-raw%d" % (sys.argv[1], kind)).encode()
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
        try: s.sendto(b"\0\7\1\0\0\1\0\0\0\0\0\0" + bytes([len(label)]) + label + b"\3api\7fixture\7example\0\0" + bytes([kind]) + b"\0\1", (server, 53)); s.recv(512)
        except OSError: pass
`;

it("E04, E12: no name leaves a guest, not as a question, not in a CONNECT, not through a proxy of its own; an allowed one is asked for by the host", async () => {
  const names = (sudo: string, urls: string) => `
    for name in ${canary}-1.${ALLOWED} ${canary}-2.example.com; do ${sudo} getent ahosts $name; ${sudo} getent hosts $name; done >/dev/null
    ${sudo} python3 -c '${QUESTIONS}' ${canary}
    for proxy in '' http://198.18.0.1:3128 http://127.0.0.1:8888; do
      for url in ${urls}; do
        ${sudo} curl -s -m 20 -x "$proxy" -o /dev/null -w '%{http_code} ' $url
      done
    done`;
  const script = `cd /tmp; python3 -c '${RELAY}' > relay & until grep -q ready relay; do sleep 0.05; done
    ${names("", `https://${canary}-3.${ALLOWED}/ https://${OTHER}/`)} ${names("sudo", `https://${canary}-4.${ALLOWED}/`)}
    for url in http://${canary}-5.${ALLOWED}/ https://${canary}-6.example.com:8443/; do curl -s -m 20 -o /dev/null -w '%{http_code} ' $url; done
    curl -s -x http://127.0.0.1:8888 -o /dev/null -w '%{http_code}' https://${SECOND}/relayed; kill %1`;
  const { stdout } = await cloche.run(["exec", "net", "--", "bash", "-c", script]);
  expect(stdout.trim().split(" ")).toEqual([...Array(11).fill("403"), "200"]);
  const { requests, queries } = await internet.seen();
  expect(
    requests.map(
      ({ target, rawHeaders }) => `${rawHeaders[rawHeaders.findIndex((text) => /^(host|:authority)$/i.test(text)) + 1]}${target}`,
    ),
  ).toEqual([`${SECOND}/relayed`]);
  expect([...new Set(queries.map(({ name }) => name))]).toEqual([SECOND]);
  expect((await wire.frames()).filter((frame) => frame.canary)).toEqual([]);
});

/** What of a process others could connect to or send to: TCP, UDP, raw and packet sockets, and unix sockets that listen. */
function opened(pid: number): string[] {
  const mine = new Set(
    readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? [];
      } catch {
        return []; // closed in between
      }
    }),
  );
  const table = (name: string) =>
    readFileSync(`/proc/${pid}/net/${name}`, "latin1")
      .trim()
      .split("\n")
      .slice(1)
      .map((line) => line.trim().split(/\s+/));
  const found: string[] = [];
  for (const name of ["tcp", "tcp6", "udp", "udp6", "raw", "raw6"])
    for (const [, local, , state, , , , , , inode] of table(name)) {
      const takesFromAnybody = name.startsWith("tcp") ? state === "0A" : state === "07";
      if (takesFromAnybody && mine.has(inode ?? "")) found.push(`${name} ${local}`);
    }
  for (const fields of table("packet")) if (mine.has(fields[8] ?? "")) found.push("packet");
  for (const [, , , flags, , , inode, path = ""] of table("unix"))
    if (flags === "00010000" && mine.has(inode ?? "")) found.push(`unix ${path}`);
  return found;
}

it("H03, H06: while a request is under way, no process of Cloche's listens but at unix sockets in private directories", async () => {
  const going = cloche.start(["exec", "net", "--", "curl", "-s", "-m", "60", `https://${ALLOWED}/hang`]);
  await expect.poll(async () => (await internet.seen()).requests.map(({ target }) => target), { timeout: 30_000 }).toContain("/hang");
  const processes = cloche.hostState().processes.filter((line) => Number.parseInt(line, 10) !== going.process.pid);
  expect(
    processes.some((line) => line.includes("proxy.mjs")),
    processes.join("\n"),
  ).toBe(true);
  const listening = processes.flatMap((line) => opened(Number.parseInt(line, 10)));
  expect(listening.length, "it has some, or this looks at nothing").toBeGreaterThanOrEqual(3);
  for (const one of listening) {
    expect(one).toMatch(/^unix \//);
    const path = one.slice("unix ".length);
    expect(path.startsWith(cloche.runtime), path).toBe(true);
    expect(statSync(dirname(path)).mode & 0o777, path).toBe(0o700);
  }
  // who gets at one all the same hears nothing before it has said what it has to say
  const said = await firstByte(join(machineDirectory(cloche, task), `v_${egressPort()}`));
  expect(said).toBe("");
  going.process.kill();
  await going.finished;
  // the control: what does listen is found
  const script =
    'import socket\nkeep = [socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_UNIX)]\nkeep[1].bind(("", 0)); keep[2].bind("\\0cloche-test"); keep[2].listen(); print("ready", flush=True); input()';
  const other = spawn("python3", ["-c", script], { stdio: "pipe" });
  await once(other.stdout, "data");
  expect(
    opened(other.pid ?? 0)
      .map((one) => one.replace(/ [0-9A-F:]+$/, ""))
      .sort(),
  ).toEqual(["tcp", "udp", "unix @cloche-test"]);
  other.kill();
});

/** What a socket sends on its own within a moment, to somebody who says nothing and then something that it does not know. */
function firstByte(path: string): Promise<string> {
  return new Promise((resolve) => {
    let said = "";
    const socket = createConnection(path, () => socket.write("hello\n"));
    socket.on("data", (chunk: Buffer) => {
      said += chunk.toString("latin1");
    });
    socket.on("error", () => {});
    socket.once("close", () => resolve(said));
  });
}

describe.each([
  ["its user", "user", false],
  ["root", "root", false],
  ["root, who lifted what the guest refuses", "root", true],
] as const)("of a task as %s", (_, who, lift) => {
  it("nothing arrives but the request that a rule allows, and the guest has no card", async () => {
    const egress = egressPort();
    const { status, stdout } = await cloche.run([
      "exec",
      "net",
      "--",
      "curl",
      "-s",
      "-o",
      "/dev/null",
      "-w",
      "%{http_code}",
      `https://${ALLOWED}/control`,
    ]);
    expect({ status, stdout }).toEqual({ status: 0, stdout: "200" });
    const { devices, done } = await inGuest<Report>(cloche, "net", who, wayOut, wanted({ egress, lift }));
    expect(devices).toEqual(lift ? ["lifted", "lo"] : ["lo"]);
    expect(Object.keys(done).length, "every way was tried").toBeGreaterThan(35);
    expect([...(await arrived())]).toEqual([]);
    const toOrigin = `ipv4 6 ${allowed} 443`;
    const sent = await packets();
    expect(sent).toContain(toOrigin);
    // its name is not asked for again while a connection to it is kept
    expect(sent.filter((one) => one !== toOrigin && one !== `ipv4 17 ${DNS} 53`)).toEqual([]);
    const { requests, queries } = await internet.seen();
    expect(requests.map(({ origin, target }) => `${origin}${target}`)).toEqual([`${ALLOWED}/control`]);
    expect(queries.map(({ name }) => name).filter((name) => name !== ALLOWED)).toEqual([]);
    expect(host.told).toEqual([]);
    const entries = await decided();
    expect(entries.filter(({ decision, request }) => decision === "allow" && ![ALLOWED, SECOND].includes(request.host))).toEqual([]);
    // the streams that were made without the agent were decided as any other
    for (const at of [...GATEWAYS, "127.0.0.1"])
      expect(
        entries.some(({ decision, request }) => decision === "deny" && request.host === at && request.path === `/${canary}`),
        at,
      ).toBe(true);
  });
});

/** The one port of the host's that takes the guest's streams: the machine has no folder, and the control port is closed. */
function egressPort(): number {
  const [port = 0, ...others] = openPorts(cloche, task);
  expect(others).toEqual([]);
  return port;
}
