// One idle task: what its processes hold and burn on the host.

import { readdirSync, readFileSync } from "node:fs";
import { sleep } from "./place.mjs";
import { formatColumns, row } from "./stats.mjs";

const SETTLE_MS = 5_000;
const WATCH_MS = 30_000;
const WORK = "node -e 1; npm --version; python3 -c 'import json, email'; git --version; find / -xdev -name x | sort | grep y; true";
const TARGET_MB = 200;
const TARGET_CPU = 1;

export async function benchIdle({ place, log }) {
  const client = await place.connect();
  const folder = place.folder("idle");
  const { grant } = await client.call("grants.create", { path: Buffer.from(folder).toString("base64") });
  const task = await place.task(client, { shares: [{ grant, mode: "rw" }] });
  await place.exec(client, task, ["true"]);
  log(`idle: ${(SETTLE_MS + WATCH_MS) / 1000} s`);
  await sleep(SETTLE_MS);
  const { hostProcesses } = await client.call("tasks.stats", { task: task.id });
  // what the keeper names, and whatever else descends from it (a share server is two processes)
  const named = [{ role: "keeper", pid: place.keeperPid() }, ...hostProcesses];
  const others = descendants(place.keeperPid()).filter((pid) => !named.some((entry) => entry.pid === pid));
  const seen = [...named, ...others.map((pid) => ({ role: `other: ${nameOf(pid)}`, pid }))];
  const interrupts = guestInterrupts(place, client, task, WATCH_MS / 1000 + 2);
  await sleep(1_500);
  const before = seen.map(({ pid }) => cpuMs(pid));
  const from = performance.now();
  await sleep(WATCH_MS);
  const elapsed = performance.now() - from;
  const after = seen.map(({ pid }) => cpuMs(pid));
  const perSecond = await interrupts;
  const parts = seen.map((entry, i) => ({ ...entry, ...memory(entry.pid), cpuPercent: ((after[i] - before[i]) * 100) / elapsed }));
  // translated code stays with QEMU until its cache is full, so a task that has worked holds more than a fresh one
  await place.exec(client, task, ["bash", "-c", WORK]);
  const worked = seen.map(({ pid }) => memory(pid));
  client.close();

  const sum = (key) => parts.reduce((total, part) => total + part[key], 0);
  const touched = Math.max(...parts.map((part) => part.guestRssMb));
  const beyond = sum("pssMb") - sum("guestPssMb");
  const beyondWorked = worked.reduce((total, part) => total + part.pssMb - part.guestPssMb, 0);
  return {
    rows: [
      row("idle", "memory beyond what the guest touched (PSS)", { unit: "MB", ours: [beyond], target: TARGET_MB }),
      row("idle", "the same after node, python and git have run", { unit: "MB", ours: [beyondWorked], target: TARGET_MB }),
      row("idle", "guest memory touched", { unit: "MB", ours: [touched] }),
      row("idle", `CPU of all its processes over ${WATCH_MS / 1000} s`, { unit: "%", ours: [sum("cpuPercent")], target: TARGET_CPU }),
    ],
    notes: [
      formatColumns([
        ["  process", "PSS", "of it guest's", "RSS without guest's", "CPU"],
        ...parts.map((p) => [
          `  ${p.role} ${p.pid}`,
          `${p.pssMb.toFixed(1)} MB`,
          `${p.guestPssMb.toFixed(1)} MB`,
          `${(p.rssMb - p.guestRssMb).toFixed(1)} MB`,
          `${p.cpuPercent.toFixed(2)} %`,
        ]),
      ]),
      `beyond = sum of PSS less the PSS of the guest's memory (the memfd, mapped by QEMU and the vsock device); touched = its RSS in QEMU`,
      `were no page shared with programs outside: ${(sum("rssMb") - sum("guestRssMb")).toFixed(0)} MB`,
      `in the guest, per second: ${perSecond.toFixed(0)} interrupts`,
    ],
    parts,
  };
}

/** Interrupts of all kinds that the guest takes in a second, counted by a shell that sleeps in it. */
async function guestInterrupts(place, client, task, seconds) {
  const count = `awk '$1 == "intr" { print $2 }' /proc/stat`; // the timer's among them
  const [from, to] = (await place.exec(client, task, ["bash", "-c", `${count}; sleep ${seconds}; ${count}`])).split("\n").map(Number);
  return (to - from) / seconds;
}

const nameOf = (pid) => readFileSync(`/proc/${pid}/comm`, "utf8").trim();

function descendants(pid) {
  const found = [];
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const children = readFileSync(`/proc/${pid}/task/${thread}/children`, "utf8").trim();
    for (const child of children === "" ? [] : children.split(" ").map(Number)) found.push(child, ...descendants(child));
  }
  return found;
}

/** CPU time that a process has used, of the system's own account in clock ticks of 10 ms. */
function cpuMs(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** What a process holds, and what of it is a guest's memory, in MB. */
export function memory(pid) {
  const kb = (text, name) =>
    [...text.matchAll(new RegExp(`^${name}:\\s+(\\d+) kB`, "gm"))].reduce((sum, found) => sum + Number(found[1]), 0);
  const maps = readFileSync(`/proc/${pid}/smaps`, "utf8");
  const guest = maps
    .split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)
    .filter((map) => map.split("\n", 1)[0].includes("/memfd:"))
    .join("");
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const mb = (value) => (value * 1024) / 1e6;
  return {
    pssMb: mb(kb(rollup, "Pss")),
    rssMb: mb(kb(rollup, "Rss")),
    guestPssMb: mb(kb(guest, "Pss")),
    guestRssMb: mb(kb(guest, "Rss")),
  };
}
