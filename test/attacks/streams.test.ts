/**
 * G05, G06, G14: what a guest, as its user and as its root, does at the ports where its host takes its streams: it says what it likes
 * there, or half of it, or nothing; comes and goes by the thousand; writes and never reads; tries the ports of others; and serves the
 * keeper's ssh in its agent's place. The verdict is the host's: what its processes hold, what was recorded, who was reached, and how
 * long another task's requests took meanwhile. Needs root, for an internet.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { readdirSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type EgressEntry, keeperProtocol } from "../../app/contract/index.ts";
import { agent, helper, share } from "../../helpers/contract/protocol.ts";
import { keeperPid, machineDirectory, megabytes, openPorts, proxyPid, refusedWith, running, until } from "../e2e/faults/support.ts";
import type { Going } from "../harness/index.ts";
import { probe, WHO, type Who } from "./folders-support.ts";
import { type Online, online } from "./keys-support.ts";

const API = "api.fixture.example";
const ADDRESS = "93.184.216.50";
/** where one listens that reads nothing */
const DEAF_PORT = 8081;
const streams = probe("streams.py");
const REQUEST = (path: string) => `connect ${API} 80\nGET /${path} HTTP/1.1\r\nHost: ${API}\r\nConnection: close\r\n\r\n`;
const GET_MUCH = (bytes: number) => `GET /bytes/${bytes} HTTP/1.1\r\nHost: ${API}\r\n\r\n`;
/** Requests of a connection that may be under way. */
const MAX_PIPELINED = 32;
/** of one request of another task's, beside whatever goes on */
const BESIDE_MS = 10_000;
const STOP_MS = 5_000;
/** descriptors that come and go with kept connections to origins, and with commands */
const SOME = 24;
const SOME_MB = 128;

let on: Online;
let deaf: ChildProcess;
const ids: Record<string, string> = {};
const ports: Record<string, number> = {};
let halves: Awaited<ReturnType<typeof holdHalves>>;

beforeAll(async () => {
  on = await online([{ name: API, address: ADDRESS }]);
  const listen = `import socket; s = socket.create_server(("${ADDRESS}", ${DEAF_PORT})); kept = []\nwhile True: kept.append(s.accept())`;
  const { file, args } = on.internet.commandOutside("/usr/bin/python3", ["-c", listen]);
  deaf = spawn(file, args, { stdio: "ignore" });
  on.cloche.folder("docs");
  for (const name of ["bystander", "hostile", "half"]) {
    const folder = name === "bystander" ? ["--share", `${on.cloche.directory}/docs:rw`] : [];
    await on.cloche.ok(["new", name, "--allow", API, "--allow", `${API}:${DEAF_PORT}`, ...folder]);
  }
  await Promise.all(["bystander", "hostile", "half"].map((name) => on.cloche.ok(["start", name])));
  for (const name of ["bystander", "hostile", "half"]) {
    ids[name] = (await on.cloche.task(name)).id;
    ports[name] = openPorts(on.cloche, ids[name])[0] ?? 0;
  }
  halves = await holdHalves();
});
afterAll(async () => {
  deaf?.kill();
  await on?.end();
});

/** Runs the probe in a task, still going. It ends by itself, whatever its host does. */
function attack(task: string, who: Who, what: string, wanted: object): Going {
  const sudo = who === "root" ? ["sudo"] : [];
  return on.cloche.start(["exec", task, "--", ...sudo, "timeout", "100", "python3", "-c", streams, what, JSON.stringify(wanted)]);
}
const report = async <T>(going: Going): Promise<T> => {
  const { stdout, stderr, status } = await going.finished;
  expect(status, stderr).toBe(0);
  return JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as T;
};
/** The task's own request passes: what was refused before was not refused for want of a way. */
async function passes(task: string, path: string): Promise<void> {
  const { stdout } = await on.cloche.run([
    "exec",
    task,
    "--",
    "curl",
    "-s",
    "-m",
    "30",
    "-o",
    "/dev/null",
    "-w",
    "%{http_code}",
    `http://${API}/${path}`,
  ]);
  expect(stdout, on.cloche.diagnosis()).toBe("200");
}

/** What the host's processes hold for a task. */
function held(task: string) {
  const id = ids[task] ?? "";
  const directory = machineDirectory(on.cloche, id);
  const [device = ""] = running(on.cloche, "vhost-device-vsock").filter((line) => line.includes(directory));
  const pids = { keeper: keeperPid(on.cloche), proxy: proxyPid(on.cloche, id), device: Number.parseInt(device, 10) };
  const of = <T>(look: (pid: number) => T) =>
    Object.fromEntries(Object.entries(pids).map(([role, pid]) => [role, look(pid)])) as Record<keyof typeof pids, T>;
  return { pids, files: of((pid) => readdirSync(`/proc/${pid}/fd`).length), memory: of(megabytes) };
}
type Held = ReturnType<typeof held>;
/** The same processes as before, with as many files again, and little more memory. */
async function asBefore(task: string, before: Held): Promise<void> {
  const more = () => {
    const { files } = held(task);
    return (Object.keys(files) as (keyof Held["files"])[])
      .filter((role) => files[role] > before.files[role] + SOME)
      .map((role) => `${role} ${files[role]}`);
  };
  // connections to an origin that were made for requests which went meanwhile are kept for the next one, for 55 s
  await until("the host's files to be closed", () => more().length === 0, 70_000).catch(() => {});
  expect(more()).toEqual([]);
  const now = held(task);
  expect(now.pids).toEqual(before.pids);
  for (const role of ["keeper", "proxy", "device"] as const) expect(now.memory[role] - before.memory[role], role).toBeLessThan(SOME_MB);
}

/** The other task's requests for as long as `work` goes on: all of them pass, each in time. */
async function beside<T>(what: string, work: () => Promise<T>): Promise<T> {
  const loop = `while read -t 0.05; [ $? -gt 128 ]; do curl -s -m 20 -o /dev/null -w '%{http_code} %{time_total}\\n' https://${API}/beside; done`;
  const going = on.cloche.start(["exec", "bystander", "--", "bash", "-c", loop]);
  await going.saw("200 ");
  let done: T;
  try {
    done = await work();
  } finally {
    going.process.stdin.end();
  }
  const { stdout } = await going.finished;
  const requests = stdout
    .trim()
    .split("\n")
    .map((line) => line.split(" "));
  expect(new Set(requests.map(([status]) => status))).toEqual(new Set(["200"]));
  const slowest = Math.max(...requests.map(([, seconds]) => Number(seconds) * 1000));
  process.stderr.write(`streams: ${what}: ${requests.length} requests beside it, the slowest ${slowest.toFixed(0)} ms\n`);
  expect(slowest).toBeLessThan(BESIDE_MS);
  return done;
}

/** What the hostile task's user and its root come to with the same attack, while another task's requests go on. */
const both = <T>(what: string, wanted: object): Promise<T[]> =>
  beside(what, () => Promise.all(WHO.map((who) => report<T>(attack("hostile", who, what, wanted)))));

const entries = async (task: string): Promise<EgressEntry[]> =>
  (await on.cloche.events(task)).filter(({ kind }) => kind === "egress.decided").flatMap(({ data }) => data.entries as EgressEntry[]);
/** All that a user gave and set; what tasks asked for is theirs to make more of. */
const powers = async () => ({
  tasks: (await on.cloche.json<{ tasks: { name: string; state: { at: string } }[] }>(["ls"])).tasks.map(({ name, state }) => [
    name,
    state.at,
  ]),
  shown: await Promise.all(
    ["bystander", "hostile", "half"].map(async (name) => await on.cloche.json<{ network: object; shares: object }>(["show", name])),
  ).then((all) => all.map(({ network, shares }) => ({ network: { ...network, asks: 0 }, shares }))),
  secrets: (await on.cloche.ok(["secret", "ls"])).stdout,
});

/** Every method that any part of Cloche answers, as a request for it. */
const everyMethod = [keeperProtocol, helper, agent, share].flatMap(({ requests }) => Object.keys(requests));
const asked = (method: string, id = 1) =>
  JSON.stringify({ jsonrpc: "2.0", id, method, params: { task: "hostile", host: "evil.example", ask: "a1" } });

/** What no stream may begin with; with how often it is said. */
const LINES: [string, number][] = [
  ...[
    "\n",
    "proxy \n",
    "proxy\r\n",
    "PROXY\n",
    " proxy\n",
    "proxy proxy\n",
    "connect\n",
    "connect \n",
    `connect ${API}\n`,
    `connect ${API} \n`,
    `connect ${API} 0\n`,
    `connect ${API} 65536\n`,
    `connect ${API} 080\n`,
    `connect ${API} -80\n`,
    `connect ${API} 80 80\n`,
    `connect  ${API} 80\n`,
    `connect\t${API}\t80\n`,
    `connect ${API} 80\r\n`,
    `connect ${API}\0.example 80\n`,
    `connect \xff\xfe 80\n`,
    `connect ${API}/ 80\n`,
    `connect you@${API} 80\n`,
    `connect [::1 80\n`,
    `connect ${"a.".repeat(127)}example 80\n`,
    "CONNECT 1024\n",
    "OK 1024\n",
    `GET http://${API}/line HTTP/1.1\r\nHost: ${API}\r\n\r\n`,
    `CONNECT ${API}:80 HTTP/1.1\r\n\r\n`,
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\n",
    "\0\0\0\x13d\xff\xff\0\0\x08\0\x08\x009P2000.L\n",
    "SSH-2.0-x\r\n",
    "{}\n",
    "[]\n",
    `${"[".repeat(200)}\n`,
  ].map((line): [string, number] => [line, 1]),
  ...everyMethod.map((method): [string, number] => [`${asked(method)}\n`, 1]),
  // what has no end
  ["connect ", 1_000],
  ["\0", 65_536],
  ["\xff", 1 << 20],
  [`connect ${"a".repeat(280)}`, 1],
  ["proxy", 200_000],
];

/** What becomes of the ways in which the probe serves ssh; one of the greetings has no end in lines, one in packets. */
const SSH_WAYS = [
  "Header line too long",
  "it greets without an end",
  "Bad packet length",
  "it greets without an end",
  "Connection lost before handshake",
];
/** What streams say before they say no more, and the seconds after which the proxy ends them. */
const HALVES: [number, unknown][] = [
  [10, ""],
  [10, "conn"],
  [10, `connect ${API} 443\n`],
  [20, `connect ${API} 443\n\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03`],
  [30, `connect ${API} 80\nGET / HTTP/1.1\r\nHost: ${API}\r\nX-Half: `],
  [30, "proxy\n"],
  [30, `proxy\nGET http://${API}/half HTTP/1.1\r\n`],
  [30, { line: `connect ${API} 443\n`, name: API, rest: `GET / HTTP/1.1\r\nHost: ${API}\r\n` }],
];
const HALVES_EACH = 12;
/** A task of its own holds them while the others are at work. */
async function holdHalves(): Promise<{ going: Going; before: Held }> {
  const before = held("half");
  const going = attack("half", "user", "hold", {
    port: ports.half,
    wait: 60,
    said: HALVES.flatMap(([, said]) => Array(HALVES_EACH).fill(said)),
  });
  await going.saw("begun");
  await until("the streams to be there", () => held("half").files.proxy > before.files.proxy + (HALVES.length - 2) * HALVES_EACH);
  await passes("half", "beside-halves");
  return { going, before };
}

describe("a guest, as its user and as its root at once,", () => {
  it("G05, G06: that begins a stream with what is no line of one gets not a byte and no power, and nothing is looked up, decided or sent for it", async () => {
    await passes("hostile", "before-lines");
    const [before, had] = [held("hostile"), await powers()];
    const decided = (await entries("hostile")).length;
    await on.internet.forget();
    const wanted = { port: ports.hostile, wait: 8, lines: LINES };
    for (const answers of await both<[string, string][]>("lines", wanted)) {
      expect(answers.filter(([got, end]) => got !== "" || !["closed", "reset"].includes(end))).toEqual([]);
      expect(answers).toHaveLength(LINES.length);
    }
    expect((await entries("hostile")).length).toBe(decided);
    const seen = await on.internet.seen();
    expect(seen.requests.filter(({ target }) => target !== "/beside")).toEqual([]);
    expect(seen.queries.filter(({ name }) => name !== API)).toEqual([]);
    expect(await powers()).toEqual(had);
    await asBefore("hostile", before);
    await passes("hostile", "after-lines");
  });

  it("finds nobody at the ports and addresses of others, and of nobody: only its own port is its own", async () => {
    const others = openPorts(on.cloche, ids.bystander ?? "");
    expect(others, "its way out, and its folder").toHaveLength(2);
    const own = ports.hostile ?? 0;
    const closed = [
      22,
      111,
      1023,
      1024,
      2049,
      5000,
      9999,
      own + 1,
      own - 1,
      ...Array.from({ length: 40 }, () => randomInt(10_000, 2 ** 31)),
    ];
    const places = [...others, ...closed].map((port) => [2, port]).concat([0, 1, 3, 4, 5, 65_536, 2 ** 31].map((cid) => [cid, own]));
    await on.internet.forget();
    for (const answers of await both<[string, string][]>("ports", { request: REQUEST("claimed"), places: [[2, own], ...places] })) {
      const [alone = "", ...found] = answers.map(([got]) => got.split("\r\n")[0]);
      expect(alone, "the control: at its own port it is answered").toBe("HTTP/1.1 200 OK");
      expect(found.filter((got) => got !== "")).toEqual([]);
    }
    expect((await on.internet.seen()).requests.filter(({ target }) => target === "/claimed").length).toBe(WHO.length);
    expect(JSON.stringify(await on.cloche.events("bystander"))).not.toContain("claimed");
  });

  it("G05: that comes and goes by the thousand, with half a word or none, leaves nothing behind", async () => {
    const before = held("hostile");
    const came = await both<number>("storm", { port: ports.hostile, count: 700, seconds: 12, request: REQUEST("gone") });
    process.stderr.write(`streams: ${came.join(" and ")} came and went\n`);
    for (const each of came) expect(each).toBeGreaterThan(300);
    await asBefore("hostile", before);
    await passes("hostile", "after-storm");
  });
});

describe("a guest's streams", () => {
  it("G05: that are written to without an end and never read hold their writer, and nothing of the host's", async () => {
    const before = held("hostile");
    await on.internet.forget();
    const says = [
      // answers that nobody reads, of as many requests as a client may send ahead, and of more; refusals; a body that its origin does not read
      { first: `connect ${API} 80\n${GET_MUCH(4_000_000).repeat(20)}`, rest: "" },
      { first: `connect ${API} 80\n`, rest: GET_MUCH(4_000_001).repeat(100) },
      { first: "connect no.example 80\n", rest: "GET /unread HTTP/1.1\r\nHost: no.example\r\n\r\n".repeat(100) },
      {
        first: `connect ${API} ${DEAF_PORT}\nPOST / HTTP/1.1\r\nHost: ${API}:${DEAF_PORT}\r\nContent-Length: 9000000000\r\n\r\n`,
        rest: "x".repeat(65_536),
      },
    ];
    const count = 24;
    const took = await beside("unread", async () => {
      const going = attack("hostile", "root", "unread", { port: ports.hostile, count, says });
      await going.saw("written");
      const now = held("hostile");
      for (const role of ["keeper", "proxy", "device"] as const) expect(now.memory[role] - before.memory[role], role).toBeLessThan(SOME_MB);
      going.process.stdin.end("\n");
      return report<number[]>(going);
    });
    process.stderr.write(`streams: taken unread, at most ${Math.max(...took)} bytes of one\n`);
    expect(Math.max(...took)).toBeLessThan(16 << 20);
    const { requests } = await on.internet.seen();
    const sentOn = (bytes: number) => requests.filter(({ target }) => target === `/bytes/${bytes}`).length;
    expect(sentOn(4_000_000), "some were sent on").toBeGreaterThan(0);
    expect(sentOn(4_000_000), "each at most once").toBeLessThanOrEqual(20 * (count / 4));
    // a request leaves before the next is read: of a client that asks for too much, what is beyond ends it, and not what it asked before
    expect(sentOn(4_000_001), "of too many, not more than may be under way").toBeLessThanOrEqual(MAX_PIPELINED * (count / 4));
    await asBefore("hostile", before);
    await passes("hostile", "after-unread");
  });

  it("G05, L05: wait, bounded, for a proxy that hangs, and go on when it does", async () => {
    const before = held("hostile");
    process.kill(before.pids.proxy, "SIGSTOP");
    try {
      await beside("a hung proxy", async () => {
        const going = attack("hostile", "root", "hold", { port: ports.hostile, wait: 2, said: Array(600).fill("") });
        const ended = await report<[number, string, string][]>(going);
        const silent = ended.filter(([, end]) => end === "silent").length;
        expect(silent, "some wait").toBeGreaterThan(100);
        expect(ended.length - silent, "and no more than some").toBeGreaterThan(600 - 512 - SOME);
        expect(held("hostile").files.keeper).toBeLessThanOrEqual(before.files.keeper + 512 + SOME);
        expect((await on.cloche.ok(["ls"])).ms).toBeLessThan(BESIDE_MS);
      });
    } finally {
      process.kill(before.pids.proxy, "SIGCONT");
    }
    await passes("hostile", "after-hung");
    await asBefore("hostile", before);
  });

  it("G05, L05: that outlive their proxy again and again find none for a while, with one clear event; `stop` ends it in time, and nothing is left", async () => {
    const going = attack("hostile", "user", "storm", { port: ports.hostile, count: 1_000_000, seconds: 60, request: REQUEST("reconnect") });
    await going.saw("begun");
    await beside("a proxy that dies", async () => {
      let last = 0;
      for (let deaths = 0; deaths < 5; deaths++) {
        last = await until("another proxy", () => alive(last));
        process.kill(last, "SIGKILL");
      }
      const told = await until("the event that none is started", async () => {
        const all = (await on.cloche.events("hostile"))
          .filter(({ kind }) => kind === "egress.restarted")
          .map(({ data }) => String(data.why));
        return all.at(-1)?.includes("nothing leaves") ? all : undefined;
      });
      expect(told.length, "those that died before they had answered are told of with the last").toBeLessThanOrEqual(5);
      expect(told.filter((why) => why.includes("nothing leaves"))).toEqual([told.at(-1)]);
      const { stdout } = await on.cloche.run([
        "exec",
        "hostile",
        "--",
        "curl",
        "-s",
        "-m",
        "20",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        `http://${API}/left-off`,
      ]);
      expect(stdout).toBe("000");
      expect(running(on.cloche, "node").filter((line) => line.includes("proxy.mjs")).length, "of the two others").toBe(2);
      await stops("hostile");
    });
    await going.finished;
    await on.cloche.ok(["start", "hostile"]);
    await passes("hostile", "again");
  });
  /** a proxy of the hostile task's that is not the one before */
  const alive = (last: number) => {
    try {
      const pid = proxyPid(on.cloche, ids.hostile ?? "");
      return pid === last ? undefined : pid;
    } catch {
      return undefined; // none at this moment
    }
  };
  /** From the request to the machine's end, as the keeper tells; nothing of it is on the host then. */
  async function stops(task: string): Promise<void> {
    const directory = machineDirectory(on.cloche, ids[task] ?? "");
    const of = () =>
      [...on.cloche.hostState().processes, ...on.cloche.hostState().sockets].filter(
        (line) => line.includes(directory) || line.includes(`tasks/${ids[task]}`),
      );
    expect(of().length).toBeGreaterThan(0);
    await on.cloche.ok(["stop", task]);
    const events = await on.cloche.events(task);
    const at = (kind: string) => Date.parse(events.findLast((event) => event.kind === kind)?.time ?? "");
    expect(at("task.stopped") - at("task.stopping")).toBeLessThan(STOP_MS);
    await until("its last socket", () => of().length === 0, 5_000);
  }

  it("G14: of the keeper's to its commands, served by root in the agent's place, are refused one by one and make the keeper hold nothing; `stop` ends it in time", async () => {
    expect((await on.cloche.ok(["exec", "hostile", "--", "echo", "here"])).stdout).toBe("here\n");
    const before = held("hostile");
    const ended = (await on.cloche.events("hostile")).filter(({ kind }) => kind === "exec.ended").length;
    const cut = on.cloche.start(["exec", "hostile", "--", "sh", "-c", "echo here; sleep 100"]);
    await cut.saw("here");
    const serve = on.cloche.start(["exec", "hostile", "--", "sudo", "timeout", "100", "python3", "-c", streams, "ssh", "{}"]);
    await beside("another ssh", async () => {
      await until(
        "both to have ended",
        async () => (await on.cloche.events("hostile")).filter(({ kind }) => kind === "exec.ended").length >= ended + 2,
      );
      const answers = await Promise.all(SSH_WAYS.map(() => on.cloche.run(["exec", "hostile", "--", "echo", "here"])));
      for (const answer of answers) refusedWith(answer, "guest.ssh");
      expect(new Set(answers.map(({ stderr }) => /^ {2}\| (.*)$/m.exec(stderr)?.[1]))).toEqual(new Set(SSH_WAYS));
      // and what ran over the connection that was broken is told so
      for (const broken of [cut, serve]) refusedWith(await broken.finished, "guest.ssh");
      expect(megabytes(before.pids.keeper) - before.memory.keeper).toBeLessThan(SOME_MB);
      expect(keeperPid(on.cloche)).toBe(before.pids.keeper);
      await stops("hostile");
    });
  });

  it("G05: that are half of anything ended with their time, and no more of them than were there, while others of their task passed", async () => {
    const ended = await report<[number, string, string][]>(halves.going);
    HALVES.forEach(([seconds, said], at) => {
      for (const [lived, end, got] of ended.slice(at * HALVES_EACH, (at + 1) * HALVES_EACH)) {
        expect(["closed", "reset"], JSON.stringify([said, end, got])).toContain(end);
        expect(lived, JSON.stringify(said)).toBeGreaterThan(seconds - 5);
        expect(lived, JSON.stringify(said)).toBeLessThan(seconds + 15);
      }
    });
    await asBefore("half", halves.before);
    expect((await entries("half")).filter(({ decision }) => decision === "allow").map(({ request }) => request.path)).toEqual([
      "/beside-halves",
    ]);
  });

  it("G06: of the agent's to the keeper, taken over by root to ask for power, end their own machine at the first question and change nothing", async () => {
    const had = await powers();
    const claim = JSON.stringify({ jsonrpc: "2.0", method: "log", params: { level: "info", message: "claimed by root" } });
    await on.cloche.run([
      "exec",
      "half",
      "--",
      "sudo",
      "timeout",
      "60",
      "python3",
      "-c",
      streams,
      "control",
      JSON.stringify({ lines: [claim, ...everyMethod.map(asked)] }),
    ]);
    const { state } = await on.cloche.task("half");
    expect(state).toMatchObject({ at: "failed", problem: { code: "guest.protocol" } });
    const events = await on.cloche.events("half");
    const log = events.find(({ data }) => JSON.stringify(data).includes("claimed by root"));
    expect(log, "the control: what came before was heard, as the guest's claim").toMatchObject({ kind: "guest.log", source: "guest" });
    const after = await powers();
    expect({ ...after, tasks: [] }).toEqual({ ...had, tasks: [] });
    // the control: what the guest asked for is there for its user
    await on.cloche.ok(["allow", "half", "other.example"]);
    expect((await powers()).shown).not.toEqual(had.shown);
    expect((await on.cloche.task("bystander")).state.at).toBe("running");
    expect((await on.cloche.ok(["exec", "bystander", "--", "echo", "here"])).stdout).toBe("here\n");
    expect((await on.cloche.events("bystander")).filter(({ kind }) => kind === "egress.restarted" || kind === "task.failed")).toEqual([]);
  });
});
