// The main job on real input: 24 receipts in a folder, a sorter in a guest that sees only that folder, the sorted folder
// and a summary out. Every line printed comes from the events of the run or from files; nothing is assumed to have worked.

import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { makeReceipts } from "./receipts.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const { app, node } = JSON.parse(readFileSync(process.env.CLOCHE_COMPONENTS, "utf8"));

/** A folder of its own for each run: what an earlier run or the user put there stays. */
function freshFolder() {
  const parent = join(homedir(), "cloche-example");
  mkdirSync(parent, { recursive: true });
  for (let n = 1; ; n++) {
    const folder = join(parent, n === 1 ? "Receipts" : `Receipts-${n}`);
    if (!existsSync(folder)) return folder;
  }
}

function cloche(args, stdout) {
  return new Promise((resolve, reject) => {
    const child = spawn(node, [app.cli, ...args], { stdio: ["ignore", stdout, "inherit"] });
    let text = "";
    child.stdout?.on("data", (chunk) => {
      text += chunk;
    });
    child.once("error", reject);
    child.once("close", (status) => resolve({ status, text }));
  });
}

function tree(folder, indent = "  ") {
  const entries = readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of entries) {
    console.log(`${indent}${entry.name}${entry.isDirectory() ? "/" : ""}`);
    if (entry.isDirectory()) tree(join(folder, entry.name), `${indent}  `);
  }
}

const count = (folder) => readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).length;

const folder = freshFolder();
makeReceipts(folder);
console.log(`Receipts to sort: ${count(folder)} files in ${folder}`);
console.log("");

const result = join(dirname(process.env.CLOCHE_COMPONENTS), "example.json");
const { status } = await cloche(
  [
    "run",
    "--share",
    `${folder}:rw`,
    "--share",
    `${join(here, "sorter")}:ro`,
    "--result",
    result,
    "--",
    "python3",
    "/home/you/sorter/sort.py",
  ],
  "inherit",
);
const { task } = JSON.parse(readFileSync(result, "utf8"));
const { events } = JSON.parse((await cloche(["events", task, "--json"], "pipe")).text);
const of = (kind) => events.filter((event) => event.kind === kind);

console.log(`\nThe start of ${task}, step by step:`);
for (const { data } of of("task.step").filter((event) => event.data.phase === "ended")) {
  const began = of("task.step").find((event) => event.data.step === data.step && event.data.phase === "began");
  console.log(
    `  ${data.step.padEnd(7)} ${String(began.data.atMs).padStart(5)} – ${String(data.atMs).padStart(5)} ms  waited for ${data.waitingFor}`,
  );
}
for (const { data } of of("task.running")) console.log(`  running after ${data.startMs} ms (${data.accelerator})`);
for (const { data } of of("share.served"))
  console.log(`  served ${data.name} (${data.mode}) at ${data.guestPath}, confined by ${data.confinement.join(", ")}`);
for (const { data } of of("exec.ended")) console.log(`  the sorter ended with status ${data.status} after ${data.ranMs} ms`);
for (const { data } of of("task.failed")) console.log(`  failed: ${data.problem.message}`);
for (const { data } of of("task.stopped")) console.log(`  stopped: ${data.reason}`);

if (status !== 0) process.exit(status);
console.log(`\nThe sorted folder, ${count(folder)} files:`);
tree(folder);
const summary = join(folder, "summary.md");
console.log(`\n${relative(folder, summary)}:\n${readFileSync(summary, "utf8")}`);
