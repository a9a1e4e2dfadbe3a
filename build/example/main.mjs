// The main job on real input: 24 receipts in a folder, a sorter in a guest that may only propose changes in it, and may ask one service
// with a key that it never sees. One receipt orders it to send a file away, and it obeys. Every line printed comes from the events of
// the task, from what the commands answer, from files, or from the service; nothing is assumed to have worked.

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { startRates } from "./rates.mjs";
import { makeReceipts } from "./receipts.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const { app, node } = JSON.parse(readFileSync(process.env.CLOCHE_COMPONENTS, "utf8"));
/** The guest's way for programs that are told of a proxy; others need none, but 127.0.0.1 is the guest itself to them. */
const GUEST_PROXY = "http://198.18.0.1:3128";

const parent = join(homedir(), "cloche-example");
/** The example's own data, so that the certificate of its service is trusted by its tasks and by no other. */
const home = join(parent, "data");

/** A folder of its own for each run: what an earlier run or the user put there stays. */
function freshFolder() {
  for (let n = 1; ; n++) {
    const folder = join(parent, n === 1 ? "Receipts" : `Receipts-${n}`);
    if (!existsSync(folder)) return folder;
  }
}

function cloche(args, { stdout = "pipe", input } = {}) {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, CLOCHE_HOME: home };
    const child = spawn(node, [app.cli, ...args], { stdio: [input === undefined ? "ignore" : "pipe", stdout, "inherit"], env });
    let text = "";
    child.stdout?.on("data", (chunk) => {
      text += chunk;
    });
    child.stdin?.end(input);
    child.once("error", reject);
    child.once("close", (status) => resolve({ status, text }));
  });
}
/** What fails was told by the command itself; a machine that runs is not left behind. */
async function must(args, options) {
  const done = await cloche(args, options);
  if (done.status === 0) return done.text;
  if (task) await cloche(["stop", task]);
  process.exit(done.status ?? 125);
}
let task;

function tree(folder, indent = "  ") {
  const entries = readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of entries) {
    console.log(`${indent}${entry.name}${entry.isDirectory() ? "/" : ""}`);
    if (entry.isDirectory()) tree(join(folder, entry.name), `${indent}  `);
  }
}

const files = (folder) => readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
/** One hash over every file's path and bytes. */
function hash(folder) {
  const sum = createHash("sha256");
  for (const path of files(folder)
    .map((file) => relative(folder, join(file.parentPath, file.name)))
    .sort()) {
    sum.update(`${path}\0`).update(
      createHash("sha256")
        .update(readFileSync(join(folder, path)))
        .digest(),
    );
  }
  return sum.digest("hex").slice(0, 16);
}

mkdirSync(home, { recursive: true, mode: 0o700 });
const rates = await startRates();
writeFileSync(join(home, "trusted.pem"), rates.certificate);
const folder = freshFolder();
makeReceipts(folder, rates.port);
const before = hash(folder);
console.log(`Receipts to sort: ${files(folder).length} files in ${folder}, hash ${before}`);

({ name: task } = JSON.parse(await must(["new", "--json", "--share", folder, "--share", `${join(here, "sorter")}:ro`])));
const secret = `rates-${task}`;
const service = ["127.0.0.1", "--port", String(rates.port)];
await must(["secret", "add", secret, "--memory", "--host", "127.0.0.1", "--as", "bearer", "--env", "RATES_KEY"], { input: rates.secret });
await must(["secret", "give", task, secret]);
await must(["allow", task, ...service, "--method", "GET", "--path", "/rates/*", "--private", "127.0.0.1/32"]);
console.log("");
await must(["start", task]);
console.log("");
const sorter = await cloche(
  [
    "exec",
    task,
    "--env",
    `RATES_URL=https://127.0.0.1:${rates.port}`,
    "--env",
    `https_proxy=${GUEST_PROXY}`,
    "--",
    "python3",
    "/home/you/sorter/sort.py",
  ],
  { stdout: "inherit" },
);

const { events } = JSON.parse(await must(["events", task, "--json"]));
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
if (sorter.status !== 0) {
  await cloche(["stop", task]);
  process.exit(sorter.status ?? 125);
}

const decided = of("egress.decided").flatMap(({ data }) => data.entries);
const address = ({ scheme, host, port, path }) => `${scheme}://${host}:${port}${path}`;
console.log("\nWhat it reached, by the events:");
for (const { request, rule, secret } of decided.filter(({ decision }) => decision === "allow"))
  console.log(`  allowed  ${request.method} ${address(request)}  rule ${rule}${secret ? `, key ${secret}` : ""}`);
for (const { request, rule, reason } of decided.filter(({ decision }) => decision === "deny"))
  console.log(`  refused  ${request.method} ${address(request)}  rule ${rule}: ${reason}`);
const right = rates.asked.filter((one) => one.right).length;
console.log(`The service was asked ${rates.asked.length} times, ${right} times with the real key.`);

const { folders } = JSON.parse(await must(["changes", task, "--json"]));
const waiting = folders.reduce((sum, { total }) => sum + total, 0);
console.log(
  `\nIts changes: ${waiting} wait; the folder's hash is ${hash(folder)}${hash(folder) === before ? ", as before" : ": CHANGED"}.`,
);
console.log("\nApplied:");
await must(["apply", task, "--all"], { stdout: "inherit" });
tree(folder);
console.log(`\nsummary.md:\n${readFileSync(join(folder, "summary.md"), "utf8")}`);
console.log("Taken back:");
await must(["undo", task], { stdout: "inherit" });
console.log(`The folder's hash is ${hash(folder)}${hash(folder) === before ? ", as before" : ": CHANGED"}.`);
await must(["stop", task]);
await must(["secret", "rm", secret]);
rates.close();
console.log(`\nThe task is kept: CLOCHE_HOME=${home} cloche changes ${task}`);
if (hash(folder) !== before || right !== 2 || decided.filter(({ decision }) => decision === "deny").length !== 3) process.exit(1);
