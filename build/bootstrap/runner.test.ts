import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";

// Each test runs the runner in a process of its own: the cache's place is fixed when it is loaded.
const runner = new URL("./runner.mjs", import.meta.url).href;
const problem = new URL("./problem.mjs", import.meta.url).href;

function script(steps: string, make: string): { folder: string; file: string; env: NodeJS.ProcessEnv } {
  const folder = mkdtempSync(join(tmpdir(), "cloche-runner-"));
  const file = join(folder, "build.mjs");
  writeFileSync(
    file,
    `import { createRunner } from ${JSON.stringify(runner)};
     import { formatProblem } from ${JSON.stringify(problem)};
     import { appendFileSync, writeFileSync } from "node:fs";
     import { setTimeout } from "node:timers/promises";
     const note = (text) => appendFileSync(${JSON.stringify(join(folder, "notes"))}, text + "\\n");
     const runner = createRunner({ context: { isRoot: true }, steps: ${steps} });
     try { console.log(JSON.stringify(await runner.make(${make}))); } catch (error) { console.log(formatProblem(error)); process.exit(1); }`,
  );
  return { folder, file, env: { ...process.env, CLOCHE_CACHE: join(folder, "cache") } };
}

const notes = (folder: string) =>
  execFileSync("cat", [join(folder, "notes")], { encoding: "utf8" })
    .trim()
    .split("\n");

test("a step runs once, after its dependencies, and again only when an input changes", () => {
  const steps = (input: string) => `[
    { name: "a", title: "a", seconds: 1, inputs: () => ["1"], run: async ({ out }) => { note("a"); writeFileSync(out + "/file", "a"); } },
    { name: "b", title: "b", seconds: 1, deps: ["a"], inputs: ({ outputs }) => [outputs.a, process.env.INPUT ?? ${JSON.stringify(input)}], run: async () => note("b") },
  ]`;
  const { folder, file, env } = script(steps("1"), '["b"]');
  const run = (more = {}) => execFileSync(process.execPath, [file], { env: { ...env, ...more }, stdio: ["ignore", "pipe", "ignore"] });
  run();
  run();
  expect(notes(folder)).toEqual(["a", "b"]);
  run({ INPUT: "2" });
  expect(notes(folder)).toEqual(["a", "b", "b"]);
});

test("a step that is killed leaves no output and is made again", async () => {
  const { folder, file, env } = script(
    `[{ name: "slow", title: "slow", seconds: 1, inputs: () => ["1"],
        run: async ({ out }) => { writeFileSync(out + "/half", ""); note("began"); if (process.env.SLOW) await setTimeout(60_000); writeFileSync(out + "/whole", ""); } }]`,
    '["slow"]',
  );
  const child = spawn(process.execPath, [file], { env: { ...env, SLOW: "1" }, stdio: "ignore" });
  await expect.poll(() => existsSync(join(folder, "notes")), { timeout: 8000 }).toBe(true);
  child.kill("SIGKILL");
  await new Promise((done) => child.on("exit", done));
  expect(readdirSync(join(folder, "cache", "slow")).filter((name) => !name.endsWith(".tmp"))).toEqual([]);
  const made = JSON.parse(execFileSync(process.execPath, [file], { env, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
  expect(readdirSync(made.slow).sort()).toEqual(["half", "whole"]);
  expect(notes(folder)).toEqual(["began", "began"]);
});

test("two builds at once make a step once", async () => {
  const { folder, file, env } = script(
    '[{ name: "one", title: "one", seconds: 1, inputs: () => ["1"], run: async () => { note("made"); await setTimeout(500); } }]',
    '["one"]',
  );
  const ends = [1, 2].map(() => new Promise((done) => spawn(process.execPath, [file], { env, stdio: "ignore" }).on("exit", done)));
  expect(await Promise.all(ends)).toEqual([0, 0]);
  expect(notes(folder)).toEqual(["made"]);
});

test("a failing command becomes a problem with its output, the log and a next step", () => {
  const { file, env } = script(
    `[{ name: "bad", title: "bad", seconds: 1, inputs: () => ["1"],
        run: async (ctx) => { const { exec } = await import(${JSON.stringify(new URL("./exec.mjs", import.meta.url).href)}); await exec(["sh", "-c", "echo the reason >&2; exit 3"], { log: ctx.log }); } }]`,
    '["bad"]',
  );
  let printed = "";
  try {
    execFileSync(process.execPath, [file], { env, stdio: ["ignore", "pipe", "ignore"] });
  } catch (error) {
    printed = String((error as { stdout: Buffer }).stdout);
  }
  expect(printed).toContain("build.command-failed");
  expect(printed).toContain("it ended with status 3");
  expect(printed).toContain("| the reason");
  expect(printed).toMatch(/next: The whole output of this step is in .*bad\.log/);
});
