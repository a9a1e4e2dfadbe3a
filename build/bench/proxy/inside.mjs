// What runs in the network of the bench's own: the origin, our proxy, the floor, the peers, and one client that drives each of them in
// turn. Argument: what index.mjs gives, as JSON. Its result is one line on stdout.

import { execFileSync, spawn } from "node:child_process";
import { copyFileSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { memory } from "../idle.mjs";
import { sleep } from "../place.mjs";

const HOST = "api.bench.example";
/** Looks public, so that no check is relaxed; every address of its range leads back here. */
const ORIGIN = { range: "93.184.216.0/24", address: "93.184.216.10" };
const CONCURRENT = 16;

const { directory, load, proxy, rounds, sandboxRuntime } = JSON.parse(process.argv[2]);
/** How much is done in a round. */
const SIZE = { requests: 2000, connections: 200, bytes: 1e9, ms: 2000, idle: 1000 };
/** and in the one that is thrown away */
const WARM = { ...SIZE, requests: 200, connections: 20, bytes: 50e6, ms: 500 };
const BOTH = ["http/1.1", "h2"];
const log = (line) => process.stderr.write(`bench: proxy: ${line}\n`);
const file = (...names) => join(directory, ...names);

network();
execFileSync(load, ["certificates", directory, HOST]);
await started(load, ["origin", directory, `${ORIGIN.address}:443`]);

const missing = [];
const sides = {
  direct: { via: `direct:${ORIGIN.address}:443`, ca: file("ca.pem") },
  ours: (await ours("ours")).side,
  plain: await plain(),
  ...(await peer("mitmproxy", mitmproxy)),
  ...(await peer("squid", squid)),
  ...(await peer("sandbox-runtime", sandbox)),
};

/** Lists by what was measured and over which protocol, and in that by side. */
const samples = {};
const add = (what, side, protocol, value) => {
  const name = `${what} ${protocol}`;
  samples[name] ??= {};
  samples[name][side] ??= [];
  samples[name][side].push(value);
};

/** Which protocols each side speaks: not all peers speak HTTP/2. */
const speaks = {};
for (const side of Object.keys(sides)) {
  speaks[side] = [];
  for (const protocol of BOTH) {
    try {
      client("latency", sides[side], protocol, { n: 10 });
      speaks[side].push(protocol);
    } catch (error) {
      if (["direct", "ours", "plain"].includes(side)) throw error;
      const said = String(error.stderr || error.message);
      if (/it speaks|no application protocol/.test(said)) missing.push({ side, protocol, why: "not spoken" });
      else missing.push({ side, protocol, why: said.trim().split("\n").at(-1) });
    }
  }
}

const idle = [];
for (let round = 0; round <= rounds; round++) {
  log(`round ${round} of ${rounds}${round === 0 ? " (not counted)" : ""}`);
  const turns = (names) => names.map((_, i) => names[(i + round) % names.length]);
  const keep = round === 0 ? () => {} : add;
  const part = round === 0 ? WARM : SIZE;
  for (const protocol of BOTH) {
    for (const side of turns(["direct", "ours"])) {
      const { us } = client("latency", sides[side], protocol, { n: part.requests });
      keep("latency p50", side, protocol, percentile(us, 0.5) / 1000);
      keep("latency p99", side, protocol, percentile(us, 0.99) / 1000);
    }
    for (const side of turns(["direct", "ours"]))
      keep("connect", side, protocol, percentile(client("connect", sides[side], protocol, { n: part.connections }).us, 0.5) / 1000);
    for (const side of turns(["plain", "ours"]))
      keep("download", side, protocol, client("download", sides[side], protocol, { n: part.bytes }).perSecond / 1e6);
    for (const side of turns(Object.keys(sides).filter((name) => name !== "plain" && speaks[name].includes(protocol))))
      keep("rate", side, protocol, client("rate", sides[side], protocol, { n: CONCURRENT, ms: part.ms }).perSecond);
  }
  if (round > 0) idle.push(await idleConnections(round));
}

const result = { samples, idle, missing, versions: versions(), concurrent: CONCURRENT, size: SIZE };
// and with it, as it is the first of its namespace, everything that was started here
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit());

/** A network of this process tree's own: loopback, and a range of addresses that look public on it. No name server is asked. */
function network() {
  const ip = (...args) => execFileSync("ip", args, { stdio: ["ignore", "ignore", "pipe"] });
  ip("link", "set", "lo", "up");
  // with loopback addresses alone a resolver may take the machine for one without a network
  ip("addr", "add", "93.184.215.2/32", "dev", "lo");
  ip("route", "add", "local", ORIGIN.range, "dev", "lo");
  for (const [name, text] of [
    ["hosts", `127.0.0.1 localhost\n${ORIGIN.address} ${HOST}\n`],
    ["resolv.conf", "nameserver 93.184.215.2\noptions timeout:1 attempts:1\n"],
    ["nsswitch.conf", "hosts: files dns\n"],
  ]) {
    writeFileSync(file(name), text);
    execFileSync("mount", ["--bind", file(name), `/etc/${name}`]);
  }
}

function percentile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}

/** One measurement by the client; answers with its line of JSON. */
function client(verb, side, protocol, { n, ms }) {
  const args = [verb, ...flags(side, protocol), "-n", String(n), ...(ms ? ["-ms", String(ms)] : [])];
  return JSON.parse(
    execFileSync(load, args, { encoding: "utf8", maxBuffer: 1 << 26, stdio: ["ignore", "pipe", "pipe"], timeout: 120_000 }),
  );
}

function flags({ via, ca, token }, protocol) {
  return ["-host", HOST, "-via", via, "-ca", ca, "-protocol", protocol, ...(token ? ["-token", token] : [])];
}

/** A program that says one line when it serves; answers with that line. It ends with its stdin, and in any case with this process. */
async function started(program, args, { env, cwd } = {}) {
  const said = [];
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"], env: { ...process.env, ...env }, cwd });
  child.stderr.on("data", (chunk) => said.push(chunk));
  const line = await new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).once("line", resolve);
    child.once("error", reject);
    child.once("exit", (status) => reject(new Error(`${program} ended with ${status}: ${Buffer.concat(said).toString().slice(-2000)}`)));
  });
  return { line, child };
}

/** Our proxy with a keeper's side of its own. */
async function ours(name) {
  const home = file(name);
  mkdirSync(home, { mode: 0o700 });
  writeFileSync(join(home, "trusted.pem"), readFileSync(file("ca.pem")));
  const { line, child } = await started(process.execPath, [join(import.meta.dirname, "keeper.mjs"), home, proxy, HOST]);
  const { stream, authority, proxy: pid } = JSON.parse(line);
  const ca = join(home, "ca.pem");
  writeFileSync(ca, authority);
  return { side: { via: `stream:${stream}`, ca }, pid, keeper: child };
}

async function plain() {
  await started(process.execPath, [join(import.meta.dirname, "plain.mjs"), file("plain"), directory]);
  return { via: `stream:${file("plain")}`, ca: file("ca.pem") };
}

/** A peer that is not there, or does not start, has no numbers. */
async function peer(name, start) {
  try {
    return { [name]: await start() };
  } catch (error) {
    for (const protocol of BOTH) missing.push({ side: name, protocol, why: error.message.trim().slice(0, 500) });
    return {};
  }
}

/** As it comes, but for the origin's authority, which it has to trust. */
async function mitmproxy() {
  const home = file("mitmproxy");
  mkdirSync(home);
  const out = { stdio: ["ignore", openSync(join(home, "flows.log"), "w"), "ignore"] };
  const set = ["--set", `confdir=${home}`, "--set", `ssl_verify_upstream_trusted_ca=${file("ca.pem")}`];
  const child = spawn("mitmdump", ["--listen-host", "127.0.0.1", "--listen-port", "8081", ...set], out);
  await listening(8081, child);
  return { via: "connect:127.0.0.1:8081", ca: join(home, "mitmproxy-ca-cert.pem") };
}

/** Debian's own configuration, and what ending TLS needs beside it: a port for that, an authority, and the origin's to trust. */
async function squid() {
  // it runs as a user of its own, who cannot look into ours; this is gone with the namespace
  const home = "/var/spool/squid";
  execFileSync("mount", ["-t", "tmpfs", "tmpfs", home], { stdio: ["ignore", "ignore", "pipe"] });
  for (const name of ["peer.pem", "peer.key", "ca.pem"]) copyFileSync(file(name), join(home, name));
  const certgen = "/usr/lib/squid/security_file_certgen";
  execFileSync(certgen, ["-c", "-s", join(home, "certificates"), "-M", "4MB"], { stdio: "ignore" });
  const conf = join(home, "squid.conf");
  const lines = [
    "include /etc/squid/squid.conf",
    `http_port 127.0.0.1:8082 ssl-bump tls-cert=${join(home, "peer.pem")} tls-key=${join(home, "peer.key")} generate-host-certificates=on`,
    `sslcrtd_program ${certgen} -s ${join(home, "certificates")} -M 4MB`,
    `tls_outgoing_options cafile=${join(home, "ca.pem")}`,
    "ssl_bump bump all",
    `pid_filename ${join(home, "pid")}`,
    `access_log daemon:${join(home, "access.log")} squid`,
    `cache_log ${join(home, "cache.log")}`,
  ];
  writeFileSync(conf, `${lines.join("\n")}\n`);
  execFileSync("chown", ["-R", "proxy:proxy", home]);
  const child = spawn("squid", ["-N", "-f", conf], { stdio: "ignore" });
  await listening(8082, child);
  return { via: "connect:127.0.0.1:8082", ca: file("peer.pem") };
}

/** As its library starts it. */
async function sandbox() {
  const env = { NODE_EXTRA_CA_CERTS: file("ca.pem") };
  const { line } = await started(process.execPath, [join(sandboxRuntime, "serve.mjs"), HOST, file("peer.pem"), file("peer.key")], { env });
  const { port, token } = JSON.parse(line);
  return { via: `connect:127.0.0.1:${port}`, ca: file("peer.pem"), token: `srt:${token}` };
}

async function listening(port, child) {
  const failed = new Promise((_, reject) => {
    child.once("error", reject);
    child.once("exit", (status) => reject(new Error(`it ended at once, with ${status}`)));
  });
  const up = async () => {
    for (;;) {
      const socket = connect(port, "127.0.0.1");
      const answer = await new Promise((resolve) => socket.once("connect", () => resolve(true)).once("error", () => resolve(false)));
      socket.destroy();
      if (answer) return;
      await sleep(100);
    }
  };
  await Promise.race([up(), failed]);
}

/** What a proxy of its own holds before and after so many connections came, had an answer each, and stayed. */
async function idleConnections(round) {
  const { side, pid, keeper } = await ours(`idle-${round}`);
  client("latency", side, "http/1.1", { n: 100 });
  await sleep(2_000);
  const look = () => ({ proxy: memory(pid), keeper: memory(keeper.pid) });
  const before = look();
  const { child } = await started(load, ["idle", ...flags(side, "http/1.1"), "-n", String(SIZE.idle)]);
  await sleep(2_000);
  const after = look();
  for (const one of [child, keeper]) {
    const gone = new Promise((resolve) => one.once("exit", resolve));
    one.stdin.end();
    await gone;
  }
  return { before, after };
}

function versions() {
  const first = (program, ...args) => {
    try {
      return execFileSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).match(/\d+(?:\.\d+)+/)?.[0];
    } catch {
      return undefined;
    }
  };
  return {
    mitmproxy: first("mitmdump", "--version"),
    squid: first("squid", "-v"),
    "sandbox-runtime": JSON.parse(readFileSync(join(sandboxRuntime, "package.json"), "utf8")).dependencies["@anthropic-ai/sandbox-runtime"],
  };
}
