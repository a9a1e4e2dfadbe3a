/**
 * One run of one task's machine: brought up in steps that overlap where they can, taken down in the reverse order, always whole.
 *
 * What the guest is given (its configuration, folders) waits until kernel and initramfs were compared with the manifest; the boot
 * itself does not wait. Every resource goes onto `#held` when it is there, so a start that fails half way, a stop in the middle and
 * the death of any part all end in the same `#release`.
 */
import { existsSync, mkdirSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { open, rm } from "node:fs/promises";
import type { Socket } from "node:net";
import { join } from "node:path";
import type { ExitedNotice } from "../../../helpers/contract/protocol.ts";
import { ProblemError, type StepRecord } from "../../contract/index.ts";
import { NoAnswer } from "../../contract/node/index.ts";
import type { MachineNetwork } from "../egress/index.ts";
import { Agent, choosePorts, dialGuest, FirstConnection, guestSilent, type MachineKeys, makeKeys, SshConnection } from "../guest/index.ts";
import { expandTemplate, type Image, verifyBootFiles } from "../image/index.ts";
import { bootCommandLine, DATA_SERIAL, Helper, type HelperPrograms, layerSerial, type MachineFacts } from "../machine/index.ts";
import type { Paths } from "../paths.ts";
import { OWN_FOLDER } from "../share/index.ts";
import { GuestFolders, type PlacedFolder } from "./guest-folders.ts";
import { StartProgress } from "./progress.ts";
import { diskFull, type TaskFile } from "./store.ts";

const USER = { name: "you", uid: 1000, gid: 1000 } as const;
const CONSOLE_LIMIT_BYTES = 4 << 20;
/** A start needs the template's few MB and room to begin with; below that it is refused before anything is made. */
const MIN_FREE_BYTES = 128 << 20;
const CONFIGURE_DEADLINE_MS = 60_000;
/** how long a guest is waited for when it is to stop; with the end by force after it, a stop takes no more than 5 s whatever the guest does */
const STOP_MS = 4_300;
/** how long it may take to write back what it holds before it counts as silent */
const SYNC_DEADLINE_MS = 4_000;
/** how long its processes may take to end when asked, before they are killed; and the time after it for unmounting */
const SHUTDOWN_GRACE_MS = 2_000;
const UNMOUNT_MS = 1_000;
const CLOCK_EVERY_MS = 60_000;

export interface MachineEvents {
  onStep(record: StepRecord, phase: "began" | "ended"): void;
  onHello(claim: { version: string; image: string; kernel: string; bootMs: number }): void;
  onGuestLog(line: { level: "info" | "warning" | "error"; message: string }): void;
  onShareServed(placed: PlacedFolder, confinement: string[]): void;
  /** a folder's process ended and another one serves it now */
  onShareRestarted(placed: PlacedFolder, why: string): void;
  onClock(steppedMs: number): void;
  /** the machine is gone without having been asked; called at most once, after everything was released */
  onDied(problem: ProblemError): void;
}

export interface MachineOptions {
  readonly task: TaskFile;
  readonly folders: readonly PlacedFolder[];
  readonly paths: Paths;
  /** the machine's short name in the runtime directory */
  readonly n: string;
  readonly image: Image;
  readonly facts: MachineFacts;
  readonly programs: HelperPrograms & { readonly shareServer: string };
  /** makes the machine's way out, while its guest boots */
  readonly network: () => Promise<MachineNetwork>;
  /** variables of the guest's processes, as they are when it is asked for */
  readonly environment: () => Record<string, string>;
  readonly events: MachineEvents;
}

export class Machine {
  readonly #options: MachineOptions;
  readonly #progress: StartProgress;
  readonly #place: { directory: string; streams: string };
  #keys: MachineKeys | undefined;
  readonly #abort = new AbortController();
  /** the folders that the guest sees; they come and go while it runs */
  readonly folders: GuestFolders;
  #helper: Helper | undefined;
  #control: FirstConnection | undefined;
  #agent: Agent | undefined;
  #ssh: SshConnection | undefined;
  #sshPort = 0;
  #egressPort = 0;
  #network: MachineNetwork | undefined;
  #clock: NodeJS.Timeout | undefined;
  #phase: "starting" | "up" | "ending" = "starting";
  /** settles when a paused machine goes on */
  #paused: PromiseWithResolvers<void> | undefined;
  #released: Promise<void> | undefined;
  /** work under way that may still make something; `#release` waits for it before it looks a last time */
  readonly #making: Promise<unknown>[] = [];

  constructor(options: MachineOptions) {
    this.#options = options;
    this.#place = options.paths.machine(options.n);
    this.#progress = new StartProgress((record, phase) => options.events.onStep(record, phase));
    const { onShareServed, onShareRestarted } = options.events;
    this.folders = new GuestFolders(options.folders, this.#place.streams, () => this.#paused?.promise ?? Promise.resolve(), {
      onServed: onShareServed,
      onRestarted: onShareRestarted,
      onLost: ({ folder }, why) =>
        void this.#died("share.server-died", `The program that serves the folder ${JSON.stringify(folder.spec.name)} ended.`, why),
    });
  }

  get steps(): StepRecord[] {
    return this.#progress.steps;
  }
  get elapsedMs(): number {
    return this.#progress.elapsedMs;
  }
  /** The machine's keys; there once its guest boots. */
  get keys(): MachineKeys {
    if (this.#keys) return this.#keys;
    throw new Error("the machine has no keys before its guest boots");
  }
  get user(): string {
    return USER.name;
  }

  /** Writes the machine's key and host key as ssh's own files (0600) into its private directory. */
  keyFiles(): { identityFile: string; knownHostsFile: string } {
    const identityFile = join(this.#place.directory, "ssh-key");
    const knownHostsFile = join(this.#place.directory, "ssh-known-hosts");
    writeFileSync(identityFile, this.keys.userPrivate, { mode: 0o600 });
    writeFileSync(knownHostsFile, `* ${this.keys.hostPublic}\n`, { mode: 0o600 });
    return { identityFile, knownHostsFile };
  }

  /** Resolves when the agent has called, the guest has seen every folder and ssh answers. On failure nothing is left. */
  async start(): Promise<void> {
    const { signal } = this.#abort;
    this.#progress.watch(this.#options.facts.speedFactor, (problem) => this.#abort.abort(problem));
    try {
      await Promise.race([this.#bringUp(), rejection(signal)]);
      signal.throwIfAborted();
      this.#phase = "up";
    } catch (error) {
      // the first cause is the abort's reason: what failed because of it says less
      const cause = signal.aborted ? signal.reason : error;
      this.#phase = "ending";
      this.#abort.abort(cause);
      await this.#release();
      throw cause;
    } finally {
      this.#progress.end();
    }
  }

  /** Ends a start that goes on; `start` then rejects with the problem. */
  abortStart(problem: ProblemError): void {
    this.#abort.abort(problem);
  }

  async #bringUp(): Promise<void> {
    const { task, paths, image } = this.#options;
    const progress = this.#progress;
    const { signal } = this.#abort;
    rmSync(this.#place.directory, { recursive: true, force: true });
    mkdirSync(this.#place.directory, { mode: 0o700 });
    // the sweep of a later keeper reads whose machine this was
    writeFileSync(join(this.#place.directory, "task"), task.id, { mode: 0o600 });

    const [controlPort = 0, sshPort = 0, egressPort = 0] = choosePorts(3);
    this.#sshPort = sshPort;
    this.#egressPort = egressPort;
    const disk = progress.step("disk", "the task's own disk", () => this.#prepareDisk());
    const helper = progress.step("helper", "the helper program", async () => {
      this.#helper = await Helper.spawn(this.#options.programs, paths.task(task.id).hostLog, {
        onProgress: () => progress.mark(),
        onExited: (notice) => void this.#machineExited(notice),
      });
      void this.#helper.exited.then(() => this.#died("machine.helper", "The helper, which runs the machine, ended."));
      return this.#helper;
    });
    const control = FirstConnection.listen(`${this.#place.streams}_${controlPort}`);
    this.#make(disk, helper, control);
    this.#control = await control;
    await disk;
    const running = await helper;
    signal.throwIfAborted();
    const boot = progress.step("boot", "the guest's kernel", () =>
      this.#boot(running, [controlPort, egressPort, ...this.folders.ports], controlPort),
    );
    // All of this takes its time of the thread that asks for the boot, and is needed only when the guest has called: it comes after.
    const verified = progress.step("image", "the kernel and initramfs to match their hashes", () => verifyBootFiles(image, signal));
    const shared = this.folders.serveAll();
    const network = progress.step("egress", "the way out, and the keys that go with it", () => this.#openNetwork());
    this.#make(boot, verified, shared, network);
    await boot;
    this.#keys = await makeKeys(); // while the guest's kernel boots
    const agent = await progress.step("agent", "the agent in the guest to call", () => this.#greet());
    const [opened] = await Promise.all([network, verified, running.closePort(controlPort)]);
    await this.#configure(agent, opened);
    const connected = this.#connectSsh();
    connected.catch(() => {});
    await progress.step("shares", this.folders.size === 0 ? "nothing: no folder is shared" : "the guest to see its folders", async () => {
      await shared;
      await this.folders.mountAll(running, agent, () => progress.mark());
    });
    await progress.step("ready", "the guest's ssh service", () => connected);
    // a paused guest would set its clock by what it hears when it goes on
    this.#clock = setInterval(() => void (this.#paused ?? this.pushTime()), CLOCK_EVERY_MS);
  }

  /** Each is awaited where its result is needed; a failure before that is no unhandled one. */
  #make(...parts: Promise<unknown>[]): void {
    for (const making of parts) {
      this.#making.push(making);
      making.catch(() => {});
    }
  }

  async #prepareDisk(): Promise<void> {
    const { task, paths, image } = this.#options;
    const { disk, directory } = paths.task(task.id);
    const { bavail, bsize } = statfsSync(directory);
    if (bavail * bsize < MIN_FREE_BYTES) {
      throw new ProblemError({
        code: "disk.full",
        message: "There is too little room on the disk that holds Cloche's data to start the task.",
        evidence: `${Math.floor((bavail * bsize) / (1 << 20))} MB are free, ${MIN_FREE_BYTES >> 20} MB are needed`,
        next: ["Make room on that disk (`cloche doctor` names it), then start the task again."],
      });
    }
    if (existsSync(disk)) return;
    try {
      await expandTemplate(image, disk, task.diskGib * 2 ** 30);
    } catch (error) {
      throw error instanceof ProblemError ? error : diskFull(error, "The task's disk could not be made");
    }
  }

  async #boot(helper: Helper, openPorts: number[], controlPort: number): Promise<void> {
    const { task, paths, image, facts } = this.#options;
    const files = paths.task(task.id);
    const layers = image.manifest.layers.map((layer, index) => ({
      serial: layerSerial(index),
      path: join(image.directory, layer.file),
      readOnly: true,
    }));
    await helper.start({
      id: `${task.name}-${task.id.slice(0, 6)}`,
      runDir: this.#place.directory,
      kernel: join(image.directory, image.manifest.kernel.file),
      initramfs: join(image.directory, image.manifest.initramfs.file),
      cmdline: bootCommandLine(image.manifest, controlPort),
      memoryMib: task.memoryMib,
      cpus: task.cpus,
      disks: [...layers, { serial: DATA_SERIAL, path: files.disk, readOnly: false }],
      streams: this.#place.streams,
      openPorts,
      consoleLog: files.console,
      consoleLimitBytes: CONSOLE_LIMIT_BYTES,
      accelerator: facts.accelerator,
    });
  }

  async #greet(): Promise<Agent> {
    const { image, events } = this.#options;
    const socket = await (this.#control as FirstConnection).connection;
    this.#progress.mark();
    const agent = await Agent.greet(
      socket,
      { image: image.manifest.id },
      {
        onLog: (line) => {
          this.#progress.mark();
          events.onGuestLog(line);
        },
        onClose: (reason) => void this.#died("guest.protocol", `The agent in the guest is gone: ${reason}.`),
      },
    );
    this.#agent = agent;
    events.onHello({ version: agent.hello.version, image: agent.hello.image, kernel: agent.hello.kernel, bootMs: agent.hello.bootMs });
    return agent;
  }

  async #openNetwork(): Promise<MachineNetwork> {
    const network = await this.#options.network();
    this.#network = network;
    await network.listen(`${this.#place.streams}_${this.#egressPort}`);
    return network;
  }

  async #configure(agent: Agent, network: MachineNetwork): Promise<void> {
    const { task } = this.#options;
    await agent.call(
      "configure",
      {
        protocol: agent.hello.protocol,
        hostname: task.name,
        user: { ...USER, sudo: task.sudo },
        environment: this.#options.environment(),
        timeUnixNs: unixNs(),
        entropy: Buffer.from(crypto.getRandomValues(new Uint8Array(64))).toString("base64"),
        ssh: { port: this.#sshPort, hostKey: this.keys.hostPrivate, authorizedKey: this.keys.userPublic },
        ...(task.shares.length === 0 ? { workingDirectory: OWN_FOLDER } : {}),
        egress: { port: this.#egressPort, certificate: network.certificate },
      },
      CONFIGURE_DEADLINE_MS,
    );
    this.#progress.mark();
  }

  async #connectSsh(): Promise<SshConnection> {
    const socket = await this.dial();
    const ssh = await SshConnection.connect(socket, this.keys, USER.name, {
      speedFactor: this.#options.facts.speedFactor,
      paused: () => this.#paused !== undefined,
    });
    if (this.#phase === "ending") ssh.end();
    this.#ssh = ssh;
    return ssh;
  }

  /** The ssh connection; made again when the guest dropped it. */
  async ssh(): Promise<SshConnection> {
    return this.#ssh?.alive ? this.#ssh : this.#connectSsh();
  }

  /** A raw stream to the guest's sshd. */
  async dial(): Promise<Socket> {
    try {
      return await dialGuest(this.#place.streams, this.#sshPort);
    } catch (error) {
      if (error instanceof NoAnswer)
        throw guestSilent("The guest did not take the connection to its ssh service, so nothing was run.", error.message);
      throw new ProblemError({
        code: "guest.ssh",
        message: "The guest's ssh service, through which commands run, could not be reached.",
        evidence: (error as Error).message,
        next: ["Look at `cloche logs TASK --console`.", "Stop the task and start it again."],
      });
    }
  }

  /** Sets the guest's clock by the host's; a guest that does not answer is left to its other signs. */
  async pushTime(): Promise<void> {
    try {
      const answer = await this.#agent?.call("setTime", { timeUnixNs: unixNs() }, 5_000);
      if (answer && Math.abs(answer.steppedMs) >= 1_000) this.#options.events.onClock(answer.steppedMs);
    } catch {
      // a lost agent ends the machine by its own way; a slow one gets the next minute's time
    }
  }

  /** Gives the variables as they are now to processes that start from here on. */
  async pushEnvironment(): Promise<void> {
    await this.#agent?.call("setEnvironment", { environment: this.#options.environment() }, CONFIGURE_DEADLINE_MS);
  }

  /** What was written is made durable first: a paused guest may never get to do it. One that is silent is paused all the same. */
  async pause(): Promise<void> {
    await this.#agent?.call("sync", {}, SYNC_DEADLINE_MS).catch(() => {});
    await this.#helper?.pause();
    this.#paused ??= Promise.withResolvers();
  }

  /** The guest slept without knowing, so its clock is set before anything else runs long. */
  async resume(): Promise<void> {
    await this.#helper?.resume();
    this.#paused?.resolve();
    this.#paused = undefined;
    await this.pushTime();
  }

  async stats() {
    const agent = this.#agent;
    const claim = await agent?.call("stats", {}, 5_000);
    const status = await this.#helper?.status();
    const hostProcesses = [
      ...(this.#helper ? [{ role: "helper", pid: this.#helper.pid }] : []),
      ...(status?.processes ?? []),
      ...this.folders.processes,
      ...(this.#network?.processes ?? []),
    ];
    return { claim, hostProcesses };
  }

  /**
   * Takes the machine down; resolves when nothing is left. `ask`: the guest ends its processes and unmounts; `sync`: it only writes
   * back what it holds; `none`: it is not asked. A guest that does not answer in time is ended all the same.
   */
  async stop(how: "ask" | "sync" | "none"): Promise<void> {
    if (this.#phase === "ending") return this.#release();
    this.#phase = "ending";
    const end = performance.now() + STOP_MS;
    const left = () => Math.max(1, end - performance.now());
    try {
      // a paused guest holds work that is not on its disk yet, and cannot answer
      if (this.#paused && how !== "none") await within(SYNC_DEADLINE_MS, this.#helper?.resume());
      // first of all what is written is made durable: a guest that then hangs in its shutdown loses nothing by being ended
      if (how !== "none") await this.#agent?.call("sync", {}, Math.min(SYNC_DEADLINE_MS, left()));
      const graceMs = Math.round(Math.max(0, Math.min(SHUTDOWN_GRACE_MS, left() - UNMOUNT_MS)));
      if (how === "ask") await this.#agent?.call("shutdown", { graceMs }, left());
    } catch {
      // the guest refused or is silent: stop works all the same, by force
    }
    await this.#release();
  }

  async #machineExited(notice: ExitedNotice): Promise<void> {
    const detail = [notice.signal && `signal ${notice.signal}`, notice.exitStatus !== undefined && `status ${notice.exitStatus}`]
      .filter(Boolean)
      .join(", ");
    const evidence = [detail, notice.evidence].filter(Boolean).join("\n");
    if (notice.reason === "guest-off") return this.#died("machine.died", "The machine switched itself off.", evidence);
    if (notice.reason === "vsock-died")
      return this.#died("machine.died", "The machine's connection to the host broke, so it was ended.", evidence);
    if (notice.reason === "disk-full")
      return this.#died("disk.full", "The disk that holds Cloche's data is full, so the task could not write on and was ended.", evidence);
    return this.#died("machine.died", "The machine's hypervisor ended unasked.", evidence);
  }

  /** A part that the machine cannot be without is gone. */
  async #died(
    code: "machine.died" | "disk.full" | "machine.helper" | "share.server-died" | "guest.protocol",
    message: string,
    evidence = "",
  ): Promise<void> {
    if (this.#phase === "ending") return;
    const wasUp = this.#phase === "up";
    // Several parts notice the same death and the machine's own report says most, so the others wait for it. An agent that lost its
    // host ends its machine within a second; a guest that does not is told of by the lost agent.
    const waitMs = { "machine.died": 0, "disk.full": 0, "share.server-died": 0, "machine.helper": 300, "guest.protocol": 2_000 }[code];
    await new Promise((resolve) => setTimeout(resolve, waitMs));
    if ((this.#phase as string) === "ending" || this.#abort.signal.aborted) return;
    const consoleTail = await tail(this.#options.paths.task(this.#options.task.id).console);
    const panic = code !== "disk.full" && /Kernel panic/.test(consoleTail);
    const problem = new ProblemError(
      panic
        ? {
            code: "machine.panic",
            message: "The guest's kernel panicked and the machine ended. Files in your folders are as the task last wrote them.",
            evidence: consoleTail,
            next: ["Start the task again.", "If it panics again, run `cloche image verify`."],
          }
        : {
            code,
            message: `${message} Files in your folders are as the task last wrote them.`,
            evidence: [evidence, consoleTail].filter(Boolean).join("\n").slice(-16_000),
            next:
              code === "disk.full"
                ? ["Make room on that disk (`cloche doctor` names it), then start the task again."]
                : ["Start the task again.", "Look at `cloche logs TASK --console` and the task's host.log."],
          },
    );
    if (!wasUp) return this.#abort.abort(problem);
    if ((this.#phase as string) === "ending") return;
    this.#phase = "ending";
    await this.#release();
    this.#options.events.onDied(problem);
  }

  #release(): Promise<void> {
    this.#released ??= (async () => {
      clearInterval(this.#clock);
      this.#progress.end();
      const endAll = async () => {
        this.#ssh?.end();
        this.#agent?.close();
        this.#control?.close();
        await this.#helper?.end();
        await this.#network?.end();
        await this.folders.endAll(); // last: what the guest still wrote is counted, too
      };
      await endAll();
      await Promise.allSettled(this.#making);
      await endAll();
      // sockets and keys; what cannot be removed now is swept at the keeper's next start
      await rm(this.#place.directory, { recursive: true, force: true }).catch(() => {});
    })();
    return this.#released;
  }
}

/** The work's outcome, or nothing when it takes longer. */
async function within(ms: number, work: Promise<void> | undefined): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work, late]).finally(() => clearTimeout(timer));
}

const unixNs = () => (BigInt(Date.now()) * 1_000_000n).toString();

function rejection(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

/** The last lines of the guest's console; empty when there is none. */
async function tail(path: string): Promise<string> {
  try {
    await using handle = await open(path, "r");
    const { size } = await handle.stat();
    const bytes = Buffer.alloc(Math.min(size, 4096));
    await handle.read(bytes, 0, bytes.length, size - bytes.length);
    return bytes.toString("utf8");
  } catch {
    return "";
  }
}
