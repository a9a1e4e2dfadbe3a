/**
 * A guest without a keeper: booted by the helper, configured and entered here. What only the keeper adds (folders, policy, proxy) is
 * absent, and what leaves the guest arrives at the suite.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { componentsPath, readComponents, readFirstLine } from "../../app/contract/node/index.ts";
import { Agent, choosePorts, dialGuest, FirstConnection, type MachineKeys, makeKeys, SshConnection } from "../../app/core/guest/index.ts";
import { expandTemplate, openImage } from "../../app/core/image/index.ts";
import { bootCommandLine, DATA_SERIAL, Helper, layerSerial } from "../../app/core/machine/index.ts";

const components = readComponents(componentsPath(join(import.meta.dirname, "../../.build/app/cli.mjs")));
const image = openImage(components.imageDir);

export interface BareGuestOptions {
  /** the authority that the guest is to trust, in PEM; absent: nothing leaves it */
  readonly certificate?: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** gets each stream that leaves the guest, after its first line */
  readonly onStream?: (line: string, socket: Socket) => void;
  /** the folder with the disk of an earlier guest, which this one goes on with; `end` leaves it */
  readonly directory?: string;
  /** a further port of the host's that takes the guest's streams, once somebody listens at `pathOf(port)` */
  readonly port?: number;
  /** what is kept of its console */
  readonly consoleLimitBytes?: number;
}

export interface Ran {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly ms: number;
}

export class BareGuest {
  readonly directory: string;
  /** first lines of what left the guest, in order */
  readonly lines: string[] = [];
  readonly notes: string[] = [];
  /** guest clock, in ms: root there, ssh listening */
  times = { rootMs: 0, sshMs: 0 };
  readonly #options: BareGuestOptions;
  readonly #place: string;
  #helper!: Helper;
  #agent!: Agent;
  #ssh!: SshConnection;
  #egress: Server | undefined;
  #consoleAtStart = 0;
  readonly #sockets = new Set<Socket>();

  private constructor(options: BareGuestOptions) {
    this.#options = options;
    this.directory = options.directory ?? mkdtempSync("/tmp/cloche-guest-");
    this.#place = join(this.directory, "run");
  }

  static async boot(options: BareGuestOptions = {}): Promise<BareGuest> {
    const guest = new BareGuest(options);
    try {
      await guest.#start();
    } catch (error) {
      await guest.end();
      throw error;
    }
    return guest;
  }

  async #start(): Promise<void> {
    rmSync(this.#place, { recursive: true, force: true });
    mkdirSync(this.#place, { mode: 0o700 });
    const streams = join(this.#place, "v");
    const [controlPort = 0, sshPort = 0, egressPort = 0] = choosePorts(3);
    const disk = join(this.directory, "disk.raw");
    if (this.#options.directory === undefined) await expandTemplate(image, disk, 0);
    const control = await FirstConnection.listen(`${streams}_${controlPort}`);
    await this.#listen(`${streams}_${egressPort}`);
    const { helper, qemu, vsockDevice } = components;
    this.#helper = await Helper.spawn({ helper, qemu, vsockDevice }, join(this.directory, "host.log"), {
      onProgress: () => {},
      onExited: () => {},
    });
    await this.#helper.start({
      id: "bare",
      runDir: this.#place,
      kernel: join(image.directory, image.manifest.kernel.file),
      initramfs: join(image.directory, image.manifest.initramfs.file),
      cmdline: bootCommandLine(image.manifest, controlPort),
      memoryMib: 512,
      cpus: 1,
      disks: [
        ...image.manifest.layers.map((layer, index) => ({
          serial: layerSerial(index),
          path: join(image.directory, layer.file),
          readOnly: true,
        })),
        { serial: DATA_SERIAL, path: disk, readOnly: false },
      ],
      streams,
      openPorts: [controlPort, egressPort, ...(this.#options.port === undefined ? [] : [this.#options.port])],
      consoleLog: join(this.directory, "console.log"),
      consoleLimitBytes: this.#options.consoleLimitBytes ?? 1 << 20,
      accelerator: "tcg",
    });
    const keys: MachineKeys = await makeKeys();
    this.#agent = await Agent.greet(
      await control.connection,
      { image: image.manifest.id },
      { onLog: ({ level, message }) => this.notes.push(`${level}: ${message}`), onClose: () => {} },
    );
    const { certificate, environment = {} } = this.#options;
    this.times = await this.#agent.call(
      "configure",
      {
        protocol: this.#agent.hello.protocol,
        hostname: "bare",
        user: { name: "you", uid: 1000, gid: 1000, sudo: true },
        environment,
        timeUnixNs: (BigInt(Date.now()) * 1_000_000n).toString(),
        entropy: Buffer.from(crypto.getRandomValues(new Uint8Array(64))).toString("base64"),
        ssh: { port: sshPort, hostKey: keys.hostPrivate, authorizedKey: keys.userPublic },
        ...(certificate === undefined ? {} : { egress: { port: egressPort, certificate } }),
      },
      60_000,
    );
    this.#ssh = await SshConnection.connect(await dialGuest(streams, sshPort), keys, "you");
    this.#consoleAtStart = statSync(join(this.directory, "console.log")).size;
  }

  /** Where the guest's streams to a port of the host's arrive. */
  pathOf(port: number): string {
    return `${join(this.#place, "v")}_${port}`;
  }

  #listen(path: string): Promise<void> {
    const server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      socket.on("error", () => {});
      readFirstLine(socket, { maxBytes: 279, deadlineMs: 10_000 }).then(
        (line) => {
          this.lines.push(line);
          if (this.#options.onStream) this.#options.onStream(line, socket);
          else socket.destroy();
        },
        () => socket.destroy(),
      );
    });
    this.#egress = server;
    return new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen(path, resolve);
    });
  }

  /** Runs a bash script as the guest's user. */
  async run(script: string): Promise<Ran> {
    const began = performance.now();
    const channel = await this.#ssh.exec(script, undefined);
    channel.end();
    let [stdout, stderr] = ["", ""];
    channel.on("data", (chunk: Buffer) => {
      stdout += chunk.toString("utf8");
    });
    channel.stderr.on("data", (chunk: Buffer) => {
      stderr += chunk.toString("utf8");
    });
    let status = -1;
    channel.on("exit", (code: number | null) => {
      status = code ?? -1;
    });
    await new Promise((resolve) => channel.once("close", resolve));
    return { status, stdout, stderr, ms: performance.now() - began };
  }

  /** Runs a bash script, expects status 0 and answers with what it printed. */
  async ok(script: string): Promise<string> {
    const ran = await this.run(`set -euo pipefail\n${script}`);
    if (ran.status !== 0) throw new Error(this.#account(script, ran));
    return ran.stdout.trim();
  }

  async setEnvironment(environment: Readonly<Record<string, string>>): Promise<void> {
    await this.#agent.call("setEnvironment", { environment }, 10_000);
  }

  /** Stops listening at the port that the guest's streams go to, as a keeper that is gone. */
  async closeEgress(): Promise<void> {
    await new Promise((resolve) => {
      this.#egress?.close(resolve);
      for (const socket of this.#sockets) socket.destroy();
    });
  }

  /** What the guest told and wrote to its console since it is up; its start is of no use to a test that comes after it. */
  diagnosis(): string {
    const console = readFileSync(join(this.directory, "console.log"));
    // a console that was cut since is shorter than it was
    const since = console.subarray(console.length < this.#consoleAtStart ? 0 : this.#consoleAtStart).toString("utf8");
    return [...this.notes, since.slice(-3000)].filter((text) => text.trim() !== "").join("\n");
  }

  /** A command that failed; what it said comes last, as logs are cut from the front. */
  #account(script: string, { status, stdout, stderr, ms }: Ran): string {
    const parts = {
      "the guest": this.diagnosis(),
      "streams that left it, the last ones": this.lines.slice(-5).join("\n"),
      "standard output": stdout.slice(-3000),
      "standard error": stderr.slice(-3000),
      command: script.slice(0, 3000),
    };
    const told = Object.entries(parts).map(([name, text]) => `--- ${name}:\n${text.trim() || "(nothing)"}`);
    return ["a command in the guest failed", ...told, `--- status ${status} after ${Math.round(ms)} ms`].join("\n");
  }

  /** Shuts the guest down, so that its disk can be gone on with. */
  async stop(): Promise<void> {
    await this.#agent.call("shutdown", { graceMs: 500 }, 20_000);
    await this.#close();
  }

  async end(): Promise<void> {
    await this.#close();
    rmSync(this.directory, { recursive: true, force: true });
  }

  async #close(): Promise<void> {
    this.#ssh?.end();
    this.#agent?.close();
    await this.#helper?.end();
    for (const socket of this.#sockets) socket.destroy();
    this.#egress?.close();
  }
}
