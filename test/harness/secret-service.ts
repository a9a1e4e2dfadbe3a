/** A desktop session's keychain of its own: a bus that starts nothing by itself, and GNOME's keyring on it, unlocked. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";

const BUS = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:tmpdir=/tmp</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
`;

const STARTED_MS = 15_000;

export class SecretService {
  /** what a program of that session has in its environment */
  readonly env: Readonly<Record<string, string>>;
  readonly #directory: string;
  readonly #bus: ChildProcess;
  #keyring: ChildProcess | undefined;

  private constructor(directory: string, bus: ChildProcess, address: string) {
    this.#directory = directory;
    this.#bus = bus;
    this.env = { DBUS_SESSION_BUS_ADDRESS: address };
  }

  /** @param options.keyring false: a bus on which nobody keeps anything */
  static async start(options: { keyring: boolean } = { keyring: true }): Promise<SecretService> {
    const directory = mkdtempSync(join(tmpdir(), "session-"));
    const config = join(directory, "bus.conf");
    writeFileSync(config, BUS);
    const bus = spawn("dbus-daemon", [`--config-file=${config}`, "--nofork", "--print-address=1"], { stdio: ["ignore", "pipe", "ignore"] });
    const address = await firstLine(bus);
    const service = new SecretService(directory, bus, address);
    if (options.keyring) await service.#unlock();
    return service;
  }

  async #unlock(): Promise<void> {
    const home = join(this.#directory, "home");
    mkdirSync(home, { mode: 0o700 });
    const keyring = spawn("gnome-keyring-daemon", ["--unlock", "--foreground", "--components=secrets"], {
      stdio: ["pipe", "ignore", "ignore"],
      env: { PATH: "/usr/bin:/bin", HOME: home, XDG_RUNTIME_DIR: home, ...this.env },
    });
    this.#keyring = keyring;
    keyring.stdin?.end("a test's password");
    const until = performance.now() + STARTED_MS;
    while (!this.#isOwned()) {
      if (keyring.exitCode !== null) throw new Error(`gnome-keyring-daemon ended with ${keyring.exitCode}`);
      if (performance.now() > until) throw new Error("gnome-keyring-daemon did not come to its bus");
      await setTimeout(20);
    }
  }

  /** Whether a keychain stands on the bus. */
  #isOwned(): boolean {
    const bus = `--bus=${this.env.DBUS_SESSION_BUS_ADDRESS}`;
    const ask = [
      "--print-reply=literal",
      "--dest=org.freedesktop.DBus",
      "/",
      "org.freedesktop.DBus.NameHasOwner",
      "string:org.freedesktop.secrets",
    ];
    return execFileSync("dbus-send", [bus, ...ask], { encoding: "utf8" }).includes("true");
  }

  /** Ends both, and removes what was kept. */
  async end(): Promise<void> {
    for (const child of [this.#keyring, this.#bus]) {
      if (!child || child.exitCode !== null || child.signalCode !== null) continue;
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill();
      await gone;
    }
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (status) => reject(new Error(`${child.spawnfile} ended with ${status} before it said where it is`)));
    if (child.stdout) createInterface({ input: child.stdout }).once("line", resolve);
  });
}
