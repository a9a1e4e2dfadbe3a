/** The web host as an attacker in another page, another user's program or a broken page would meet it; each refusal with its control. */
import { spawnSync } from "node:child_process";
import { EventEmitter } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Duplex } from "node:stream";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import WebSocket from "ws";
import { type KeeperDouble, startKeeperDouble } from "../../test/doubles/keeper.ts";
import {
  ackMessage,
  connectWebClient,
  encodeFrame,
  Frame,
  FrameDecoder,
  keySubprotocol,
  type LineTransport,
  MAX_LINE_BYTES,
  ProblemError,
  parseAck,
  STREAM_WINDOW_BYTES,
  WEB_SUBPROTOCOL,
  type WebClient,
  WebClose,
} from "../contract/index.ts";
import { endpoint } from "../contract/node/index.ts";
import { runWeb, type WebHost } from "./index.ts";
import { relayStream } from "./stream.ts";

let root: string;
let keeper: KeeperDouble;
let host: WebHost;
let address: string;
let picks: (string | undefined)[];

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), "cloche-web-"));
  const uiDir = join(root, "ui");
  mkdirSync(join(uiDir, "assets"), { recursive: true });
  writeFileSync(join(uiDir, "index.html"), "<!doctype html>page");
  writeFileSync(join(uiDir, "assets", "page.js"), "code");
  writeFileSync(join(uiDir, "notes.txt"), "not a file of the page");
  writeFileSync(join(root, "secret.html"), "outside");
  mkdirSync(join(root, "picked"));
  picks = [];
  const at = endpoint({ CLOCHE_HOME: root, XDG_RUNTIME_DIR: root });
  keeper = await startKeeperDouble(at, 1);
  host = await runWeb({
    program: { node: "/nowhere/node", entry: "/nowhere/keeper" },
    uiDir,
    at,
    print: (line) => {
      address = line;
    },
    dialogs: { pickFolder: async () => (picks.length > 0 ? Buffer.from(picks.shift() ?? "") : undefined) },
  });
});
afterEach(async () => {
  await host.close();
  keeper.close();
  rmSync(root, { recursive: true, force: true });
});

interface Answer {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly body: string;
}
interface Ask {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string;
}
const origin = () => `http://127.0.0.1:${host.port}`;

function ask({ method = "GET", path = "/", headers = {}, body }: Ask): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: "127.0.0.1", port: host.port, method, path, headers, agent: false }, (response) => {
      let text = "";
      response.on("data", (chunk) => {
        text += chunk;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text }));
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

const tokenOf = (printed: string) => printed.split("#token=")[1] ?? "";
const trade = (token: string, headers: Record<string, string> = { Origin: origin() }) =>
  ask({ method: "POST", path: "/session", headers, body: JSON.stringify({ token }) });

interface Entry {
  readonly cookie: string;
  readonly key: string;
}
async function enter(): Promise<Entry> {
  const { headers, body } = await trade(tokenOf(address));
  return { cookie: String(headers["set-cookie"]).split(";")[0] ?? "", key: JSON.parse(body).key };
}

type Change = { headers?: Record<string, string | undefined>; protocols?: string[] };
/** Opens a WebSocket as a page with this session would, with some things changed; answers with it or with the refusal's status. */
function open(path: string, { cookie, key }: Entry, change: Change = {}): Promise<WebSocket | number> {
  const headers = { Origin: origin(), Cookie: cookie, ...change.headers };
  const kept = Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== undefined)) as Record<string, string>;
  const socket = new WebSocket(`ws://127.0.0.1:${host.port}${path}`, change.protocols ?? [WEB_SUBPROTOCOL, keySubprotocol(key)], {
    headers: kept,
  });
  return new Promise((resolve, reject) => {
    socket.on("open", () => resolve(socket));
    socket.on("unexpected-response", (_request, response) => resolve(response.statusCode ?? 0));
    socket.on("error", reject);
  });
}
async function opened(path: string, entry: Entry): Promise<WebSocket> {
  const socket = await open(path, entry);
  if (typeof socket === "number") throw new Error(`refused with ${socket}`);
  return socket;
}
const closed = (socket: WebSocket) => new Promise<number>((resolve) => socket.on("close", resolve));

function lines(socket: WebSocket): LineTransport {
  return {
    send: (line) => socket.send(line),
    close: () => socket.close(),
    start({ onLine, onClose }) {
      socket.on("message", (data) => onLine(String(data)));
      socket.on("close", (_code, reason) => onClose(String(reason)));
    },
  };
}
const client = async (entry: Entry): Promise<WebClient> => connectWebClient(lines(await opened("/rpc", entry)));
const codeOf = (error: unknown) => (error instanceof ProblemError ? error.problem.code : String(error));

test("the page is served to our own Host and to no other name", async () => {
  expect((await ask({})).body).toBe("<!doctype html>page");
  for (const name of [
    `localhost:${host.port}`,
    `evil.example:${host.port}`,
    "127.0.0.1",
    `127.0.0.1:${host.port + 1}`,
    `[::1]:${host.port}`,
  ])
    expect((await ask({ headers: { Host: name } })).status, name).toBe(403);
});

test("every answer carries the policy, without unsafe-* and without CORS", async () => {
  for (const answer of [
    await ask({}),
    await ask({ path: "/nothing" }),
    await ask({ headers: { Host: "x" } }),
    await trade("0".repeat(64)),
  ]) {
    const policy = String(answer.headers["content-security-policy"]);
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain("frame-ancestors 'none'");
    expect(policy).not.toContain("unsafe");
    expect(answer.headers["x-content-type-options"]).toBe("nosniff");
    expect(answer.headers["referrer-policy"]).toBe("no-referrer");
    expect(answer.headers["cache-control"]).toBe("no-store");
    expect(Object.keys(answer.headers).filter((name) => name.startsWith("access-control"))).toEqual([]);
  }
});

test("only the files found at start are served, however the path is spelled", async () => {
  expect((await ask({ path: "/assets/page.js" })).body).toBe("code");
  writeFileSync(join(root, "ui", "later.html"), "made later");
  const paths = [
    "/../secret.html",
    "/%2e%2e/secret.html",
    "/..%2fsecret.html",
    "/assets/../../secret.html",
    "//secret.html",
    "/assets/..\\..\\secret.html",
    "/index.html%00.js",
    "/notes.txt",
    "/later.html",
    "/assets",
    "/assets/",
    "/?x",
    "/INDEX.HTML",
  ];
  for (const path of paths) expect((await ask({ path })).status, path).toBe(404);
});

test("the token works once, from our own origin, and leaves a strict cookie", async () => {
  const token = tokenOf(address);
  expect((await trade(token, {})).status).toBe(403);
  expect((await trade(token, { Origin: "http://evil.example" })).status).toBe(403);
  expect((await trade(token, { Origin: `http://localhost:${host.port}` })).status).toBe(403);
  expect((await trade("0".repeat(64))).status).toBe(403);
  const first = await trade(token);
  expect(first.status).toBe(200);
  expect(String(first.headers["set-cookie"])).toMatch(/^cloche-\d+=[0-9a-f]{64}; Path=\/; HttpOnly; SameSite=Strict$/);
  expect((await trade(token)).status).toBe(403);
});

test("a session request that is long, broken or of another method is refused, and the token still works", async () => {
  const post = (body: string) => ask({ method: "POST", path: "/session", headers: { Origin: origin() }, body });
  expect((await post("x".repeat(5000))).status).toBe(413);
  expect((await post("{")).status).toBe(403);
  expect((await post(JSON.stringify({ token: tokenOf(address), more: 1 }))).status).toBe(403);
  for (const method of ["PUT", "DELETE", "OPTIONS", "HEAD"]) expect((await ask({ method, path: "/session" })).status, method).toBe(405);
  expect((await trade(tokenOf(address))).status).toBe(200);
});

test("a reloaded page is told whether its session still holds", async () => {
  const { cookie, key } = await enter();
  const check = (headers: Record<string, string>, given = key) =>
    ask({ method: "POST", path: "/session/check", headers, body: JSON.stringify({ key: given }) });
  expect((await check({ Origin: origin(), Cookie: cookie })).status).toBe(204);
  expect((await check({ Origin: origin() })).status).toBe(403);
  expect((await check({ Origin: origin(), Cookie: cookie }, "0".repeat(64))).status).toBe(403);
  expect((await check({ Cookie: cookie })).status).toBe(403);
});

test("a WebSocket needs Host, Origin, cookie and key; with all four it opens", async () => {
  const entry = await enter();
  const stranger = keySubprotocol("0".repeat(64));
  const cases: [string, Change][] = [
    ["another origin", { headers: { Origin: "http://evil.example" } }],
    ["another port of the same host", { headers: { Origin: `http://127.0.0.1:${host.port + 1}` } }],
    ["no origin", { headers: { Origin: undefined } }],
    ["the null origin", { headers: { Origin: "null" } }],
    ["another host", { headers: { Host: `evil.example:${host.port}` } }],
    ["no cookie", { headers: { Cookie: undefined } }],
    ["a made-up cookie", { headers: { Cookie: `cloche-${host.port}=${"0".repeat(64)}` } }],
    ["no key: a cookie seen by another port is not enough", { protocols: [WEB_SUBPROTOCOL] }],
    ["a made-up key", { protocols: [WEB_SUBPROTOCOL, stranger] }],
  ];
  for (const [what, change] of cases) expect(await open("/rpc", entry, change), what).toBe(403);
  const socket = await opened("/rpc", entry);
  expect(socket.protocol).toBe(WEB_SUBPROTOCOL);
  socket.close();
});

test("no other path upgrades, and a stream only with a ticket that a page was given", async () => {
  const entry = await enter();
  for (const path of ["/", "/rpc/", "/rpc?x", "/stream/", `/stream/${"0".repeat(32)}`, `/stream/${"0".repeat(32)}/../x`])
    expect(await open(path, entry), path).toBe(404);
});

test("methods outside of the page's list never reach the keeper; the connection goes on", async () => {
  const page = await client(await enter());
  const call = page.call as (method: string, params: object) => Promise<unknown>;
  const path = Buffer.from(root).toString("base64");
  for (const [method, params] of [
    ["grants.create", { path }],
    ["tasks.ssh", { task: "x" }],
    ["keeper.end", {}],
    ["hello", { contract: 1, client: "cli" }],
    ["constructor", {}],
    ["__proto__", {}],
  ] as const)
    expect(await call(method, params).catch(codeOf), method).toBe("contract.method");
  expect(keeper.called).not.toContain("grants.create");
  expect(await page.call("tasks.list", {})).toEqual({ tasks: [] });
});

test("a request that does not fit its schema is refused before the keeper hears of it", async () => {
  const page = await client(await enter());
  const call = page.call as (method: string, params: object) => Promise<unknown>;
  expect(await call("web.pickFolder", { path: "/etc" }).catch(codeOf)).toBe("contract.params");
  expect(await call("tasks.create", { shares: [{ path: "/etc", mode: "rw" }], env: {}, sudo: true, ephemeral: false }).catch(codeOf)).toBe(
    "contract.params",
  );
  expect(keeper.called).not.toContain("tasks.create");
});

test("what reaches further than hosts of the internet is the command line's: a page is refused it, and may do the rest", async () => {
  const page = await client(await enter());
  const call = page.call as (method: string, params: object) => Promise<unknown>;
  const made = { shares: [], env: {}, sudo: true, ephemeral: false };
  const rule = { decision: "allow", host: "api.example.com" };
  const binding = { hosts: ["api.example.com"], use: "bearer" };
  for (const [method, params] of [
    ["secrets.add", { name: "k", source: { kind: "file", path: "/etc/shadow" }, binding }],
    ["secrets.add", { name: "k", source: { kind: "command", argv: ["/bin/sh"] }, binding }],
    ["secrets.add", { name: "k", source: { kind: "env", name: "HOME" }, binding }],
    ["policy.add", { task: "x", rule: { ...rule, private: "10.0.0.0/8" }, scope: "task" }],
    ["policy.add", { task: "x", rule: { ...rule, credentials: "guest" }, scope: "task" }],
    ["asks.answer", { ask: "a1", answer: "allow", scope: "task", rule: { ...rule, private: "127.0.0.1/32" } }],
    ["asks.answer", { ask: "a1", answer: "allow", scope: "task" }],
    ["tasks.create", { ...made, network: { presets: [], rules: [{ ...rule, private: "10.0.0.0/8" }] } }],
    ["tasks.create", { ...made, trust: ["-----BEGIN CERTIFICATE-----"] }],
  ] as const)
    expect(await call(method, params).catch(codeOf), JSON.stringify(params)).toBe("contract.params");
  for (const method of ["secrets.add", "policy.add", "asks.answer", "tasks.create"]) expect(keeper.called).not.toContain(method);
  const task = await page.call("tasks.create", { ...made, network: { presets: ["packages"], rules: [] } });
  await page.call("policy.add", { task: task.id, rule: { decision: "allow", host: "api.example.com" }, scope: "task" });
  const value = "a made-up value of a key";
  await page.call("secrets.add", { name: "k", source: { kind: "memory" }, value, binding: { hosts: ["api.example.com"], use: "bearer" } });
  expect(JSON.stringify(await page.call("secrets.list", {}))).not.toContain(value);
});

test("a folder comes from the dialog only, as a grant and a name; a closed dialog is no problem", async () => {
  const page = await client(await enter());
  expect(await page.call("web.pickFolder", {})).toEqual({ cancelled: true });
  picks.push(join(root, "picked"));
  const picked = await page.call("web.pickFolder", {});
  expect(picked).toEqual({ grant: expect.stringMatching(/^[0-9a-f]{32}$/), name: "picked", notes: [] });
  picks.push(join(root, "gone"));
  expect(await page.call("web.pickFolder", {}).catch(codeOf)).toBe("share.not-found");
});

test("an oversized or binary message ends that page's connection; the next page is served", async () => {
  const entry = await enter();
  const big = await opened("/rpc", entry);
  big.send("x".repeat(MAX_LINE_BYTES + 1));
  expect(await closed(big)).toBe(1009);
  const binary = await opened("/rpc", entry);
  binary.send(Buffer.from(JSON.stringify({ jsonrpc: "2.0", id: 1, method: "web.hello", params: { contract: 1 } })));
  binary.on("message", () => binary.close(1000, "it was served"));
  expect(await closed(binary)).toBe(WebClose.protocol);
  const garbage = await opened("/rpc", entry);
  garbage.send("not json");
  expect(await closed(garbage)).toBe(WebClose.protocol);
  expect(await (await client(entry)).call("tasks.list", {})).toEqual({ tasks: [] });
});

test("a page too many is sent away and the others stay", async () => {
  const entry = await enter();
  const pages = await Promise.all(Array.from({ length: 16 }, () => opened("/rpc", entry)));
  expect(await closed(await opened("/rpc", entry))).toBe(WebClose.busy);
  expect(pages.every((page) => page.readyState === WebSocket.OPEN)).toBe(true);
  const gone = pages.pop();
  gone?.close();
  if (gone) await closed(gone);
  expect(await (await client(entry)).call("tasks.list", {})).toEqual({ tasks: [] });
});

test("when the keeper ends, the page is told and can come back", async () => {
  const entry = await enter();
  const socket = await opened("/rpc", entry);
  const page = await connectWebClient(lines(socket));
  const ended = closed(socket);
  keeper.close();
  expect(await ended).toBe(WebClose.keeperLost);
  expect(await page.call("tasks.list", {}).catch(codeOf)).toBe("keeper.lost");
  keeper = await startKeeperDouble(keeper.at, 1);
  expect(await (await client(entry)).call("tasks.list", {})).toEqual({ tasks: [] });
});

async function shell(page: WebClient, command: string): Promise<string> {
  const task = await page.call("tasks.create", { shares: [], env: {}, sudo: true, ephemeral: false });
  await page.call("tasks.start", { task: task.id, lease: "keeper" });
  const argv = ["sh", "-c", command].slice(2).map((word) => Buffer.from(word).toString("base64"));
  return (await page.call("tasks.exec", { task: task.id, command: argv, env: {} })).ticket;
}

test("a ticket opens one stream, once", async () => {
  const entry = await enter();
  const ticket = await shell(await client(entry), "echo out");
  const stream = await opened(`/stream/${ticket}`, entry);
  const text = await new Promise((resolve) => {
    stream.on("message", (data: Buffer) => resolve(new FrameDecoder().push(data)[0]?.payload.toString()));
  });
  expect(text).toContain("out");
  expect(await open(`/stream/${ticket}`, entry)).toBe(404);
});

test("a page that does not take output stops the flood; taking it goes on", async () => {
  const entry = await enter();
  const stream = await opened(`/stream/${await shell(await client(entry), "seq 1 400000")}`, entry);
  let received = 0;
  let unacknowledged = 0;
  stream.on("message", (data: Buffer) => {
    received += data.length - 5;
    unacknowledged += data.length - 5;
  });
  // However slow the machine is, the window is filled; that nothing comes beyond it can only be told by waiting.
  await expect.poll(() => received, { timeout: 9_000 }).toBeGreaterThan(STREAM_WINDOW_BYTES);
  await new Promise((resolve) => setTimeout(resolve, 150));
  const stopped = received;
  // One read of the keeper's socket may be over the window.
  expect(stopped).toBeLessThan(STREAM_WINDOW_BYTES + 262_144);
  stream.send(ackMessage(unacknowledged));
  unacknowledged = 0;
  await expect.poll(() => received, { timeout: 9_000 }).toBeGreaterThan(stopped);
}, 20_000);

test.each([
  ["a frame that only a keeper sends", () => encodeFrame(Frame.stdout, Buffer.from("x"))],
  ["two frames in one message", () => Buffer.concat([encodeFrame(Frame.stdinEnd), encodeFrame(Frame.stdinEnd)])],
  ["half a frame", () => encodeFrame(Frame.stdin, Buffer.from("xyz")).subarray(0, 6)],
  ["an unknown type", () => Buffer.from([0x7f, 0, 0, 0, 0])],
  ["an acknowledgement of what was never sent", () => ackMessage(9_999_999)],
  ["a text that is no acknowledgement", () => "hello"],
])("%s ends the stream", async (_what, message) => {
  const entry = await enter();
  const stream = await opened(`/stream/${await shell(await client(entry), "sleep 5")}`, entry);
  stream.send(message());
  expect(await closed(stream)).toBe(WebClose.protocol);
});

test("what is typed is acknowledged", async () => {
  const entry = await enter();
  const stream = await opened(`/stream/${await shell(await client(entry), "sleep 5")}`, entry);
  stream.send(encodeFrame(Frame.stdin, Buffer.from("hello")));
  const acknowledged = await new Promise<number | undefined>((resolve) => {
    stream.on("message", (data: Buffer, isBinary: boolean) => {
      if (!isBinary) resolve(parseAck(String(data)));
    });
  });
  expect(acknowledged).toBe(5);
});

/** A keeper's socket that takes nothing, as when the guest does not read. */
class Stuck extends Duplex {
  override _read(): void {}
  override _write(): void {}
}
/** As much of a page's WebSocket as the relay uses. */
class FakePage extends EventEmitter {
  readonly OPEN = 1;
  readyState = 1;
  closedWith: number | undefined;
  pause(): void {}
  resume(): void {}
  send(): void {}
  close(code: number): void {
    this.closedWith = code;
    this.readyState = 3;
    this.emit("close", code);
  }
}

test("input beyond the window is cut off while the guest takes none; up to the window it waits", async () => {
  const page = new FakePage();
  const keeperSocket = new Stuck();
  await relayStream(page as unknown as WebSocket, async () => keeperSocket);
  const frame = Buffer.from(encodeFrame(Frame.stdin, new Uint8Array(65_536)));
  for (let sent = 0; sent < STREAM_WINDOW_BYTES; sent += 65_536) page.emit("message", frame, true);
  expect(page.closedWith).toBeUndefined();
  page.emit("message", frame, true);
  expect(page.closedWith).toBe(WebClose.protocol);
  expect(keeperSocket.destroyed).toBe(true);
});

describe("the web host at a port of its own", () => {
  const next = "[web.port]\n  → Leave `--port` out: a free port is picked.\n";

  /** The program, as a user that may not open every port: root may unless the right to is taken from it. */
  function start(port: number) {
    const asAnyUser = process.getuid?.() === 0 ? ["setpriv", "--inh-caps=-net_bind_service", "--bounding-set=-net_bind_service"] : [];
    const none = "/nonexistent";
    const programs = { node: process.execPath, helper: none, shareServer: none, vsockDevice: none, qemu: none, imageDir: none };
    const app = { cli: none, keeper: none, web: none, proxy: none, ui: join(root, "ui") };
    const components = join(root, "components.json");
    writeFileSync(components, JSON.stringify({ version: 1, ...programs, app }));
    const [file = "", ...args] = [...asAnyUser, process.execPath, join(import.meta.dirname, "main.ts"), "--no-open", "--port", `${port}`];
    const env = { PATH: process.env.PATH, CLOCHE_COMPONENTS: components, CLOCHE_HOME: root, XDG_RUNTIME_DIR: root };
    const { status, stderr } = spawnSync(file, args, { env, encoding: "utf8", timeout: 30_000 });
    return { status, stderr };
  }

  test("that is taken says so, and what to do", () => {
    expect(start(host.port)).toEqual({
      status: 125,
      stderr: `cloche: Port ${host.port} is taken by another program. The web host was not started. ${next}`,
    });
  }, 60_000);

  test("that is not this user's to open says so, and what to do", ({ skip }) => {
    const firstForAll = Number(readFileSync("/proc/sys/net/ipv4/ip_unprivileged_port_start", "utf8"));
    if (firstForAll <= 81) skip("this system lets every user open every port, as containers often do");
    expect(start(81)).toEqual({
      status: 125,
      stderr: `cloche: Port 81 is not yours to open: most systems keep those below 1024 for root. The web host was not started. ${next}`,
    });
  }, 60_000);
});
