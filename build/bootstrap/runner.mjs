// The step runner. A step is a name, what it depends on, what it is made from, and a run() that fills a directory:
//
//   absent ──lock──▶ making (out.tmp) ──rename──▶ complete, found by the hash of its inputs from then on
//
// Steps start as soon as their dependencies are there. A kill at any point leaves either a complete output or
// none; long steps may keep a work directory of their own, so that they go on where they stopped.

import { appendFileSync, mkdirSync, readFileSync, renameSync, statSync } from "node:fs";
import { join } from "node:path";
import { cacheRoot, hashInputs, isComplete, lock, outputDir, prune, removeTree, touch } from "./cache.mjs";
import { exec } from "./exec.mjs";
import { Problem } from "./problem.mjs";

/** Seconds between two lines of one long step: often enough to trust, rare enough to read. */
const HEARTBEAT_S = 15;

/**
 * @typedef {object} Step
 * @property {string} name also its folder in the cache
 * @property {string} title what the progress line says
 * @property {string[]} [deps] steps whose output this one uses
 * @property {number} seconds what it takes on two cores, cold; summed into the printed budget
 * @property {(ctx: object) => any[] | Promise<any[]>} [inputs] what its output depends on, see hashInputs; computed when deps are there
 * @property {(ctx: object) => boolean | Promise<boolean>} [ready] for steps that change the machine or the work tree instead of the cache
 * @property {(ctx: object) => Promise<void>} run
 */

export function createRunner({ steps, say = defaultSay, context = {} }) {
  const byName = new Map(steps.map((step) => [step.name, step]));
  const started = new Map();
  const results = {};
  const began = Date.now();
  let announced = false;

  /** Makes the named steps and all they need; resolves to { name: output directory }. */
  async function make(names) {
    const outcomes = await Promise.allSettled(names.map((name) => start(name)));
    const failed = outcomes.find((outcome) => outcome.status === "rejected");
    if (failed) throw failed.reason;
    return results;
  }

  function start(name) {
    let running = started.get(name);
    if (!running) {
      const step = byName.get(name);
      if (!step) throw new Error(`no step named ${name}`);
      running = Promise.all((step.deps ?? []).map(start)).then(() => makeStep(step));
      started.set(name, running);
    }
    return running;
  }

  async function makeStep(step) {
    const ctx = { ...context, step: step.name, outputs: results };
    if (step.ready) {
      if (await step.ready(ctx)) return;
      const release = await lock(step.name, () => say(step.name, `waiting: another build is at work on: ${step.title}`));
      try {
        if (!(await step.ready(ctx))) await timed(step, ctx);
      } finally {
        await release();
      }
      return;
    }
    const hash = hashInputs([step.name, ...(await step.inputs(ctx))]);
    const out = outputDir(step.name, hash);
    results[step.name] = out;
    if (!isComplete(out)) {
      const release = await lock(step.name, () => say(step.name, `waiting: another build is at work on: ${step.title}`));
      try {
        if (!isComplete(out)) await makeOutput(step, ctx, out, hash);
      } finally {
        await release();
      }
    }
    touch(out);
  }

  async function makeOutput(step, ctx, out, hash) {
    const temporary = `${out}.tmp`;
    await removeOutput(temporary, ctx);
    mkdirSync(temporary, { recursive: true });
    await timed(step, { ...ctx, out: temporary, hash });
    renameSync(temporary, out);
    await prune(step.name, (path) => removeOutput(path, ctx));
  }

  async function timed(step, ctx) {
    if (!announced) {
      announced = true;
      const total = [...byName.values()].reduce((sum, each) => sum + (started.has(each.name) ? each.seconds : 0), 0);
      say("bootstrap", `preparing what is missing; all of it from nothing is ${minutes(total)} of work on two cores, in part side by side`);
      say("bootstrap", `kept in ${cacheRoot}; may be interrupted at any time, finished parts are not made again`);
    }
    const from = Date.now();
    const elapsed = () => Math.round((Date.now() - from) / 1000);
    const logFile = join(cacheRoot, "logs", `${step.name}.log`);
    mkdirSync(join(cacheRoot, "logs"), { recursive: true });
    appendFileSync(logFile, `\n=== ${new Date().toISOString()} ${step.name} ${ctx.hash ?? ""}\n`);
    if (statSync(logFile).size > 8 << 20) renameSync(logFile, `${logFile}.old`);
    let detail = "";
    let bytes = null;
    const beat = setInterval(() => {
      const amount = bytes ? `, ${size(bytes())}` : "";
      say(step.name, `${elapsed()} s${amount}${detail ? `, ${detail}` : ""}`);
    }, HEARTBEAT_S * 1000);
    beat.unref();
    say(step.name, `${step.title} (about ${step.seconds} s)`);
    try {
      await step.run({
        ...ctx,
        log: (text) => appendFileSync(logFile, text),
        detail: (text) => {
          detail = text;
        },
        bytes: (measure) => {
          bytes = measure;
        },
        say: (text) => say(step.name, text),
      });
    } catch (error) {
      if (error instanceof Problem) error.next.push(`The whole output of this step is in ${logFile}.`);
      throw error;
    } finally {
      clearInterval(beat);
    }
    const amount = bytes ? `, ${size(bytes())}` : "";
    say(step.name, `done in ${elapsed()} s${amount} (${Math.round((Date.now() - began) / 1000)} s since the beginning)`);
  }

  return { make };
}

/** An output made by a user-namespace build holds files of sub-uids, which only that namespace may remove. */
async function removeOutput(path, ctx) {
  if (!isComplete(path)) return;
  try {
    removeTree(path);
  } catch (error) {
    if (ctx.isRoot || error.code !== "EACCES") throw error;
    await exec(["unshare", "--map-root-user", "--map-auto", "rm", "-rf", path]);
  }
}

/** A line of progress on stderr. */
export function defaultSay(step, text) {
  process.stderr.write(`cloche: ${step.padEnd(13)} ${text}\n`);
}

function minutes(seconds) {
  return seconds < 90 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}

export function size(bytes) {
  if (bytes < 1e6) return `${Math.round(bytes / 1e3)} kB`;
  if (bytes < 1e9) return `${(bytes / 1e6).toFixed(1)} MB`;
  return `${(bytes / 1e9).toFixed(2)} GB`;
}

export function readText(file) {
  return readFileSync(file, "utf8");
}
