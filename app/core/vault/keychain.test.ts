import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Paths } from "../paths.ts";
import { systemKeychain, Vault } from "./index.ts";

let home: string;
let paths: Paths;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "keychain-"));
  paths = new Paths({ home, runtime: home });
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(home, { recursive: true });
});

/** Processes that have this home's bus in their environment. */
const processes = () =>
  readdirSync("/proc").filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/environ`, "utf8").includes(`${home}/bus`);
    } catch {
      return false;
    }
  });
const status = () => new Vault({ paths, keychain: systemKeychain(paths) }).keychainStatus();

describe.runIf(process.platform === "linux")("the system's keychain where there is none", () => {
  it("without a session nothing is started, and it says so at once", async () => {
    vi.stubEnv("DBUS_SESSION_BUS_ADDRESS", "");
    vi.stubEnv("XDG_RUNTIME_DIR", home);
    const began = performance.now();
    expect(await status()).toMatchObject({ usable: false, text: expect.stringContaining("outside of a desktop session") });
    expect(performance.now() - began).toBeLessThan(1_000);
  });

  it("a bus that is gone is told", async () => {
    vi.stubEnv("DBUS_SESSION_BUS_ADDRESS", `unix:path=${home}/bus`);
    expect(await status()).toMatchObject({ usable: false, text: expect.stringContaining("DBus error") });
  });

  describe("a bus that takes connections and never answers", () => {
    let server: Server;
    beforeEach(async () => {
      server = createServer();
      await new Promise<void>((resolve) => server.listen(join(home, "bus"), resolve));
      vi.stubEnv("DBUS_SESSION_BUS_ADDRESS", "");
      vi.stubEnv("XDG_RUNTIME_DIR", home); // a login's bus is found there
    });
    afterEach(() => new Promise((resolve) => server.close(resolve)));

    it("is given up after a second, holds nothing up meanwhile, and leaves no process", async () => {
      let longest = 0;
      let last = performance.now();
      const beat = setInterval(() => {
        longest = Math.max(longest, performance.now() - last);
        last = performance.now();
      }, 10);
      const sockets: { destroy(): void }[] = [];
      let connected = 0;
      server.on("connection", (socket) => {
        sockets.push(socket);
        connected = performance.now();
      });
      expect(await status()).toMatchObject({ usable: false, text: expect.stringContaining("within 1 s") });
      expect(performance.now() - connected).toBeLessThan(2_000);
      clearInterval(beat);
      expect(sockets).toHaveLength(1); // it was the bus that did not answer
      expect(longest).toBeLessThan(800);
      await vi.waitFor(() => expect(processes()).toEqual([]), 5_000);
      for (const socket of sockets) socket.destroy();
    });
  });
});
