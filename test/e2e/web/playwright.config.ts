/**
 * The page in Debian's Chromium, against the real web host, keeper and guest named by `CLOCHE_COMPONENTS`
 * (else `.build/components.json`). Counts: test-results/web.json, `stats.expected` passed and `stats.unexpected` failed.
 */
import { defineConfig } from "@playwright/test";

const root = new URL("../../..", import.meta.url).pathname;

export default defineConfig({
  testDir: import.meta.dirname,
  testMatch: "*.spec.ts",
  outputDir: `${root}test-results/web`,
  // each test has a keeper, a home and a browser page of its own, and two of them leave none of two cores idle
  fullyParallel: true,
  workers: 2,
  retries: 0,
  forbidOnly: true,
  // A guest starts within a minute under emulation on two cores; a busy machine takes a few.
  timeout: 300_000,
  expect: { timeout: 20_000 },
  reporter: [["list"], ["json", { outputFile: `${root}test-results/web.json` }]],
  use: {
    viewport: { width: 1280, height: 860 },
    actionTimeout: 30_000,
    trace: "retain-on-failure",
    launchOptions: {
      executablePath: process.env.CLOCHE_CHROMIUM ?? "/usr/bin/chromium",
      args: [
        // Chromium's own sandbox does not start as root.
        ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []),
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    },
  },
});
