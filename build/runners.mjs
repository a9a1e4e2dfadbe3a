// Test runners, each behind one shape: { name, passed, failed, seconds, output, failures }. A runner that ends badly
// without having counted a failure has crashed, and a crash is a failure. `failures` are told again at the very end: of
// a long run often only its last lines are kept.

import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { inBuilder } from "./bootstrap/builder.mjs";
import { repo } from "./bootstrap/cache.mjs";
import { exec } from "./bootstrap/exec.mjs";
import { goModules } from "./bootstrap/go.mjs";

const anyStatus = Array.from({ length: 256 }, (_, n) => n);
const bin = (name) => join(repo, "node_modules", name);

/** Runs a program and keeps its output; `live` shows it as it comes, for suites that take minutes. */
async function run(argv, { live = false, env = {} } = {}) {
  let output = "";
  let status;
  try {
    ({ status } = await exec(argv, {
      cwd: repo,
      env: { ...process.env, ...env },
      okStatus: anyStatus,
      log(text) {
        output += text;
        if (live) process.stderr.write(text);
      },
    }));
  } catch (error) {
    // It could not start, or a signal ended it.
    status = 1;
    output += `\n${error.message}${error.cause ? `: ${error.cause.message}` : ""}\n`;
  }
  return { status, output };
}

async function counted(name, body) {
  const from = Date.now();
  const result = await body();
  const crashed = result.status !== 0 && result.failed === 0;
  return {
    name: crashed && result.counts ? `${name} (ended with status ${result.status} without counting a failure)` : name,
    passed: result.passed,
    failed: result.failed + (crashed ? 1 : 0),
    seconds: (Date.now() - from) / 1000,
    output: result.output,
    failures: result.failures ?? [],
  };
}

/** A check that has no tests of its own counts as one. */
const whole = (name, argv) =>
  counted(name, async () => {
    const { status, output } = await run(argv);
    return { status, output, passed: status === 0 ? 1 : 0, failed: 0 };
  });

/** What did not change since the last time is not checked again; errors that were found are told again. */
export const types = (node) =>
  whole("types", [
    node,
    bin("typescript/bin/tsc"),
    "--noEmit",
    "--incremental",
    "--tsBuildInfoFile",
    join(repo, ".build", "types.tsbuildinfo"),
  ]);
export const lint = (node) => whole("lint", [node, bin("@biomejs/biome/bin/biome"), "check", "--error-on-warnings"]);

export const vitest = (node, project, { live = false, env = {} } = {}) =>
  counted(`vitest ${project}`, async () => {
    const folder = mkdtempSync(join(tmpdir(), "cloche-vitest-"));
    const report = join(folder, "report.json");
    try {
      const { status, output } = await run(
        [
          node,
          bin("vitest/vitest.mjs"),
          "run",
          "--config",
          "test/vitest.config.ts",
          "--project",
          project,
          "--reporter=default",
          "--reporter=json",
          `--outputFile.json=${report}`,
        ],
        { live, env },
      );
      if (!existsSync(report)) return { status: status || 1, output, passed: 0, failed: 0, counts: true };
      const { numPassedTests, numFailedTests, testResults } = JSON.parse(readFileSync(report, "utf8"));
      return { status, output, passed: numPassedTests, failed: numFailedTests, failures: vitestFailures(testResults), counts: true };
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

function vitestFailures(files) {
  return files.flatMap(({ name, message, assertionResults }) => {
    const failed = assertionResults.filter(({ status }) => status === "failed");
    const file = relative(repo, name);
    // A file that could not be loaded has no test to blame.
    if (failed.length === 0) return message ? [{ name: file, message }] : [];
    return failed.map(({ fullName, failureMessages }) => ({ name: `${file}: ${fullName}`, message: failureMessages.join("\n") }));
  });
}

/** One file's unit tests whose names fit a pattern, each with its verdict; the sources that `CLOCHE_MUTANT` names are replaced. */
export async function vitestNamed(node, file, pattern, env) {
  const folder = mkdtempSync(join(tmpdir(), "cloche-vitest-"));
  const report = join(folder, "report.json");
  try {
    const { status, output } = await run(
      [
        node,
        bin("vitest/vitest.mjs"),
        "run",
        "--config",
        "test/mutants/vitest.config.ts",
        file,
        "--testNamePattern",
        pattern,
        "--reporter=json",
        `--outputFile.json=${report}`,
      ],
      { env },
    );
    const { testResults = [] } = existsSync(report) ? JSON.parse(readFileSync(report, "utf8")) : {};
    return { status, output, results: testResults.flatMap(({ assertionResults }) => assertionResults) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export const playwright = (node, { env = {} } = {}) =>
  counted("playwright", async () => {
    const folder = mkdtempSync(join(tmpdir(), "cloche-playwright-"));
    const report = join(folder, "report.json");
    try {
      const { status, output } = await run(
        [node, bin("@playwright/test/cli.js"), "test", "--config", "test/playwright.config.ts", "--reporter=list,json"],
        { live: true, env: { ...env, PLAYWRIGHT_JSON_OUTPUT_FILE: report, PLAYWRIGHT_JSON_OUTPUT_NAME: report } },
      );
      if (!existsSync(report)) return { status: status || 1, output, passed: 0, failed: 0, counts: true };
      const { stats, suites } = JSON.parse(readFileSync(report, "utf8"));
      const failures = suites.flatMap(playwrightFailures);
      return { status, output, passed: stats.expected, failed: stats.unexpected + stats.flaky, failures, counts: true };
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

const playwrightFailures = ({ specs = [], suites = [] }) => [
  ...specs
    .filter(({ ok }) => !ok)
    .map(({ file, title, tests }) => ({
      name: `${file}: ${title}`,
      message: tests.flatMap(({ results }) => results.flatMap(({ errors }) => errors.map(({ message }) => message))).join("\n"),
    })),
  ...suites.flatMap(playwrightFailures),
];

const go = (node, module, args, options) => run([node, join(repo, "build/go.mjs"), module, ...args], options);

export const goVet = (node, module) =>
  counted(`go vet ${module}`, async () => {
    const { status, output } = await go(node, module, ["vet", "./..."]);
    return { status, output, passed: status === 0 ? 1 : 0, failed: 0 };
  });

/** Names the Go files that are not as gofmt has them. */
export const goFormat = (builder, modules) =>
  counted("gofmt", async () => {
    try {
      const { stdout } = await inBuilder(join(builder, "root"), ["gofmt", "-l", ...modules], { readOnlyRepo: true });
      const failed = stdout === "" ? 0 : 1;
      return { status: failed, output: stdout, passed: 1 - failed, failed };
    } catch (error) {
      return { status: 1, output: `${error.message}\n${error.evidence ?? ""}`, passed: 0, failed: 1 };
    }
  });

/** `long`: with the seeds, moves and kill points that are too many for every day. */
export const goTest = (node, module, { long = false } = {}) =>
  counted(`go test ${module}${long ? " (long)" : ""}`, async () => {
    // goVet looks at all of it, and tests need no debugger's tables: each package would be read and linked for longer
    const args = ["test", "-json", "-vet=off", "-ldflags=-s -w", "-timeout", long ? "3600s" : "120s", "./..."];
    const { status, output } = await go(node, module, args, long ? { env: { CLOCHE_LONG: "1" } } : {});
    let passed = 0;
    let failed = 0;
    const text = [];
    const failedPackages = [];
    const failures = [];
    const saidBy = new Map();
    for (const line of output.split("\n")) {
      if (!line.startsWith("{")) {
        if (line) text.push(`${line}\n`);
        continue;
      }
      const event = JSON.parse(line);
      if (event.Output && !/^(=== |--- PASS|\s+--- PASS|PASS$|ok\s|\?\s)/.test(event.Output)) text.push(event.Output);
      const test = `${event.Package}: ${event.Test}`;
      if (event.Test && event.Output) saidBy.set(test, (saidBy.get(test) ?? "") + event.Output);
      if (event.Test && event.Action === "pass") {
        passed += 1;
        saidBy.delete(test);
      }
      if (event.Test && event.Action === "fail") {
        failed += 1;
        failures.push({ name: test, message: saidBy.get(test) ?? "" });
      }
      if (!event.Test && event.Action === "fail") failedPackages.push(event.Package);
    }
    return { status, output: text.join(""), passed, failed: failed || failedPackages.length, failures, counts: true };
  });

/** Fuzz targets with the number of cases that a long run tries; the seeds run with every `go test`. */
const FUZZ = [
  ["helpers/share", "./internal/wire", "FuzzDecode", 1_000_000],
  ["helpers/share", "./internal/ninep", "FuzzSession", 1_000_000],
  ["helpers/share", "./internal/broker", "FuzzBroker", 200_000],
  ["helpers/share", "./internal/layer", "FuzzLog", 200_000],
  ["helpers/share", "./internal/diff", "FuzzDiff", 200_000],
  ["helpers/share", "./internal/gitrepo", "FuzzWhatAGuestWrites", 200_000],
  ["helpers/share", "./internal/ignore", "FuzzIgnored", 200_000],
  ["helpers/share", "./internal/names", "FuzzProtected", 200_000],
  ["helpers/contract/go", ".", "FuzzParseMessage", 1_000_000],
  ["helpers/linux", "./internal/pvh", "FuzzEntry", 200_000],
  ["vm-image/agent", ".", "FuzzCommandLine", 200_000],
  ["vm-image/agent", ".", "FuzzSetEnv", 200_000],
  ["vm-image/agent", ".", "FuzzDNS", 200_000],
  ["vm-image/agent", ".", "FuzzJavaKeystore", 200_000],
];

/** One fuzz target counts as one test. */
export const goFuzz = (node) =>
  FUZZ.map(
    ([module, folder, target, cases]) =>
      () =>
        counted(`go fuzz ${module} ${target} (${cases} cases)`, async () => {
          const { status, output } = await go(node, module, [
            "test",
            folder,
            "-run",
            "^$",
            "-fuzz",
            `^${target}$`,
            "-fuzztime",
            `${cases}x`,
          ]);
          return { status, output, passed: status === 0 ? 1 : 0, failed: 0 };
        }),
  );

export const existingGoModules = () => goModules.filter((module) => existsSync(join(repo, module, "go.mod")));

/** Prints a result as a line, and all that the runner said if something failed. */
export function show(result, { quietOutput = false } = {}) {
  const verdict = result.failed ? "FAILED" : "ok";
  process.stderr.write(
    `${verdict.padEnd(7)} ${result.name}: ${result.passed} passed, ${result.failed} failed (${result.seconds.toFixed(1)} s)\n`,
  );
  if (result.failed && !quietOutput) process.stderr.write(`${result.output.trimEnd()}\n\n`);
}

/** Tells each failure with at most 2,000 characters of what it said; then all of them by name, a line each. */
export function showFailures(results) {
  const names = results.flatMap(({ name, failures }) => failures.map((failure) => `${name}: ${failure.name}`));
  for (const { name, failures } of results) {
    for (const failure of failures) {
      const message = failure.message.trim();
      process.stderr.write(
        `\nFAILED  ${name}: ${failure.name}\n${message.length > 2000 ? `${message.slice(0, 1000)}\n…\n${message.slice(-1000)}` : message}\n`,
      );
    }
  }
  if (names.length > 0) process.stderr.write(`\n${names.map((name) => `FAILED  ${name}\n`).join("")}`);
}

/** Runs jobs with at most `width` at once: two cores do not get faster with more. */
export async function pool(jobs, width, each) {
  const results = [];
  const queue = [...jobs];
  await Promise.all(
    Array.from({ length: width }, async () => {
      for (let job = queue.shift(); job; job = queue.shift()) {
        const result = await job();
        results.push(result);
        each(result);
      }
    }),
  );
  return results;
}
