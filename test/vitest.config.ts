import { defineConfig } from "vitest/config";

/**
 * Four projects. `unit` sits beside the code and never boots a machine. `machine` boots real guests, two files at a time: an emulated guest
 * keeps one core busy, and a host of two has another. `machine-alone` does so one file at a time: what takes all of a machine, or is held
 * against the clock while it does. `long` is what `npm run test:long` adds.
 */
const ALONE = ["test/attacks/{crowd,exhaustion,streams}.test.ts", "test/e2e/faults/moments.test.ts"];

export default defineConfig({
  test: {
    root: new URL("..", import.meta.url).pathname,
    projects: [
      {
        test: {
          name: "unit",
          root: new URL("..", import.meta.url).pathname,
          include: ["app/**/*.test.ts", "app/**/*.test.tsx", "helpers/**/*.test.ts", "build/**/*.test.ts", "test/structure/**/*.test.ts"],
          // ends what hangs: a test that plays thousands of cases takes 3 s on an idle machine, and several times that on a busy one
          testTimeout: 30_000,
          // half of these files wait for programs that they started: one worker, the default on two cores, leaves one idle
          maxWorkers: 2,
          // threads that take one file after the other: what a file keeps in a module or in `process.env` is the next one's too, and a
          // thread for each file is a third of all the work
          pool: "threads",
          isolate: false,
        },
      },
      {
        test: {
          name: "machine",
          root: new URL("..", import.meta.url).pathname,
          include: ["test/conformance/**/*.test.ts", "test/e2e/**/*.test.ts", "test/attacks/**/*.test.ts"],
          exclude: ["**/*.long.test.ts", ...ALONE],
          testTimeout: 180_000,
          hookTimeout: 180_000,
          maxWorkers: 2,
        },
      },
      {
        test: {
          name: "machine-alone",
          root: new URL("..", import.meta.url).pathname,
          include: ALONE,
          testTimeout: 180_000,
          hookTimeout: 180_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: "long",
          root: new URL("..", import.meta.url).pathname,
          include: ["test/**/*.long.test.ts"],
          testTimeout: 1_800_000,
          hookTimeout: 1_800_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
