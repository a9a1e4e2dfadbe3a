// The bench under Node 24: argument one is the folder of the bench's own programs, the rest is the user's.

import { cpus, loadavg } from "node:os";
import { parseArgs } from "node:util";
import { benchExec } from "./exec.mjs";
import { benchIdle } from "./idle.mjs";
import { Place } from "./place.mjs";
import { benchProxy } from "./proxy/index.mjs";
import { benchNpmCi, benchShare, benchTree } from "./share.mjs";
import { benchStart } from "./start.mjs";
import { formatTable } from "./stats.mjs";

const SECTIONS = {
  start: benchStart,
  exec: benchExec,
  share: benchShare,
  idle: benchIdle,
  proxy: benchProxy,
  tree: benchTree,
  "npm-ci": benchNpmCi,
};
const DEFAULT_ROUNDS = { start: 5, exec: 5, share: 3, idle: 1, proxy: 3, tree: 1, "npm-ci": 1 };

const [parts, ...args] = process.argv.slice(2);
function usage(what) {
  process.stderr.write(`${what}\nnpm run bench takes --only ${Object.keys(SECTIONS).join("|")}, --rounds N (1 or more) and --json\n`);
  process.exit(2);
}
function parsed() {
  try {
    return parseArgs({
      args,
      options: { only: { type: "string" }, rounds: { type: "string" }, json: { type: "boolean", default: false } },
    }).values;
  } catch (error) {
    return usage(error.message);
  }
}
const values = parsed();
// npm-ci is of tree
const wanted = values.only === undefined ? Object.keys(SECTIONS).filter((name) => name !== "npm-ci") : values.only.split(",");
const unknown = wanted.find((name) => !Object.hasOwn(SECTIONS, name));
const given = values.rounds === undefined ? undefined : Number(values.rounds);
if (unknown !== undefined) usage(`There is no section ${unknown}.`);
if (given !== undefined && !(Number.isInteger(given) && given > 0)) usage(`${values.rounds} is no number of rounds.`);

const log = (line) => process.stderr.write(`bench: ${line}\n`);
const place = new Place();
// children of ours end with us: machines by their keeper, which ends when its clients are gone
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(128 + (signal === "SIGINT" ? 2 : 15)));

const report = { version: 1, when: new Date().toISOString(), cores: cpus().length, load: { before: loadavg()[0] }, sections: {} };
const say = values.json ? () => {} : (text) => process.stdout.write(`${text}\n`);
const rows = [];
try {
  for (const name of wanted) {
    const from = performance.now();
    const made = await SECTIONS[name]({ place, parts, rounds: given ?? DEFAULT_ROUNDS[name], log });
    log(`${name}: done in ${((performance.now() - from) / 1000).toFixed(0)} s`);
    rows.push(...made.rows);
    report.sections[name] = { rounds: given ?? DEFAULT_ROUNDS[name], ...made };
    say(`\n${formatTable(made.rows)}\n\n${made.notes.join("\n\n")}`);
  }
  report.load.after = loadavg()[0];
  const missed = rows.filter((row) => row.met === false);
  say(
    `\n${cpus().length} cores; load ${report.load.before.toFixed(1)} before, ${report.load.after.toFixed(1)} after: other work on the machine makes every number worse`,
  );
  say(missed.length === 0 ? "all targets met" : `MISSED: ${missed.map((row) => row.name).join("; ")}`);
  if (values.json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
} finally {
  await place.end();
}
