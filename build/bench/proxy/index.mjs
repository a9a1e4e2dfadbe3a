// The proxy: what it adds to a request, what it lets through, what it holds, beside a floor and other proxies that end TLS. All of it
// runs in a network of its own (`inside.mjs`), where origins have addresses that look public: the product has no switch that would
// let it reach any other.

import { execFileSync, spawn } from "node:child_process";
import { cpSync } from "node:fs";
import { dirname, join } from "node:path";
import { median, row } from "../stats.mjs";

const TARGETS = { added50: 1, added99: 5, connect: 4, download: 0.5, rate: 1, memory: 100 };
/** In the order of the table. To be ahead of squid, which is C++, is no target. */
const PEERS = ["mitmproxy", "sandbox-runtime", "squid"];
const NO_TARGET = ["squid"];
const NAMES = { "http/1.1": "HTTP/1.1", h2: "HTTP/2" };

export async function benchProxy({ place, parts, rounds, log }) {
  const directory = place.folder("proxy");
  const given = {
    directory,
    rounds,
    load: join(parts, "load"),
    proxy: place.components.app.proxy,
    sandboxRuntime: installSandboxRuntime(place.folder("sandbox-runtime"), place.components.node, log),
  };
  const { samples, idle, missing, versions, concurrent, size } = await inside(given);
  const rows = Object.entries(NAMES).flatMap(([protocol, name]) => rowsOf(samples, protocol, name, { missing, concurrent, size }));
  const failed = missing.filter(({ why }) => why !== "not spoken");
  const grown = idle.map(({ before, after }) => after.proxy.pssMb - before.proxy.pssMb);
  rows.push(row("proxy", `${size.idle} idle connections: memory of the proxy`, { unit: "MB", ours: grown, target: TARGETS.memory }));
  const pss = (when, who) => median(idle.map((one) => one[when][who].pssMb)).toFixed(0);
  return {
    rows,
    notes: [
      `memory (PSS): proxy ${pss("before", "proxy")} MB before, ${pss("after", "proxy")} MB after; the keeper's side ${pss("before", "keeper")} and ${pss("after", "keeper")} MB`,
      `versions: ${PEERS.map((name) => `${name} ${versions[name] ?? "not there"}`).join(", ")}; ${concurrent} requests at once: over ${concurrent} connections with HTTP/1.1, one with HTTP/2`,
      ...(failed.length > 0
        ? [`NOT MEASURED: ${failed.map(({ side, protocol, why }) => `${side}, ${NAMES[protocol]}: ${why}`).join("; ")}`]
        : []),
    ],
    samples,
    idle,
    versions,
  };
}

function rowsOf(samples, protocol, name, { missing, concurrent, size }) {
  const of = (what, side) => samples[`${what} ${protocol}`][side];
  const direct = { baseName: "direct to the origin" };
  const kept = [
    ["p50", TARGETS.added50],
    ["p99", TARGETS.added99],
  ].map(([words, target]) =>
    row("proxy", `${name}: request on a kept connection, ${words}`, {
      ours: of(`latency ${words}`, "ours"),
      base: of(`latency ${words}`, "direct"),
      ...direct,
      judge: "added",
      target,
    }),
  );
  return [
    ...kept,
    row("proxy", `${name}: request on a new connection, p50`, {
      ours: of("connect", "ours"),
      base: of("connect", "direct"),
      ...direct,
      judge: "ours",
      target: TARGETS.connect,
    }),
    row("proxy", `${name}: download of ${size.bytes / 1e6} MB`, {
      unit: "MB/s",
      ours: of("download", "ours"),
      base: of("download", "plain"),
      baseName: "plain TLS proxy in Node",
      judge: "speed",
      target: TARGETS.download,
    }),
    ...["direct", ...PEERS].map((side) => {
      const base = of("rate", side);
      const why = missing.find((one) => one.side === side && one.protocol === protocol)?.why;
      return row("proxy", `${name}: small requests, ${concurrent} at once`, {
        unit: "/s",
        ours: of("rate", "ours"),
        base,
        baseName:
          side === "direct" ? direct.baseName : base ? side : `${side}: ${why === "not spoken" ? `speaks no ${name}` : "NOT MEASURED"}`,
        ...(base && side !== "direct" && !NO_TARGET.includes(side) ? { judge: "speed", target: TARGETS.rate } : {}),
      });
    }),
  ];
}

/** From the registry, as its lock file says; where that cannot be had its rows are empty. */
function installSandboxRuntime(folder, node, log) {
  cpSync(join(import.meta.dirname, "sandbox-runtime"), folder, { recursive: true, filter: (path) => !path.includes("node_modules") });
  const env = { ...process.env, PATH: `${dirname(node)}:${process.env.PATH}` };
  try {
    execFileSync("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], { cwd: folder, env, stdio: "ignore" });
  } catch (error) {
    log(`proxy: sandbox-runtime could not be installed: ${error.message}`);
  }
  return folder;
}

/** Runs `inside.mjs` as the first process of namespaces of its own, so that all it starts ends with it; answers with its result. */
async function inside(given) {
  const own = process.getuid() === 0 ? [] : ["--user", "--map-root-user"];
  const namespaces = [...own, "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
  const program = [process.execPath, join(import.meta.dirname, "inside.mjs"), JSON.stringify(given)];
  const child = spawn("unshare", [...namespaces, ...program], { stdio: ["ignore", "pipe", "inherit"] });
  const end = () => child.kill("SIGKILL");
  process.once("exit", end);
  let said = "";
  child.stdout.on("data", (chunk) => (said += chunk));
  const status = await new Promise((resolve, reject) => child.once("error", reject).once("close", resolve));
  process.off("exit", end);
  if (status !== 0) throw new Error(`the measurements ended with ${status}`);
  return JSON.parse(said);
}
