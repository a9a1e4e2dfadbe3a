import { defineConfig } from "vitest/config";

/**
 * Three projects. `unit` sits beside the code and never boots a machine; `machine` boots real guests, one file at a time,
 * because two cores under emulation do not carry two suites at once; `long` is what `npm run test:long` adds.
 */
export default defineConfig({
  test: {
    root: new URL("..", import.meta.url).pathname,
    projects: [
      {
        test: {
          name: "unit",
          root: new URL("..", import.meta.url).pathname,
          include: ["app/**/*.test.ts", "app/**/*.test.tsx", "helpers/**/*.test.ts", "build/**/*.test.ts", "test/structure/**/*.test.ts"],
          testTimeout: 10_000,
          // half of these files wait for programs that they started: one worker, the default on two cores, leaves one idle
          maxWorkers: 2,
        },
      },
      {
        test: {
          name: "machine",
          root: new URL("..", import.meta.url).pathname,
          include: ["test/conformance/**/*.test.ts", "test/e2e/**/*.test.ts", "test/attacks/**/*.test.ts"],
          exclude: ["**/*.long.test.ts"],
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
