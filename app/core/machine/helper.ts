/** The helper's client: spawns it, says hello, words its failures for the user. */

import {
  type ExitedNotice,
  errorData,
  HELPER_PROTOCOL,
  helper,
  type MachineConfig,
  type ProbeResult,
} from "../../../helpers/contract/protocol.ts";
import { ProblemError, RpcClosed, RpcError } from "../../contract/index.ts";
import { Program } from "../process/index.ts";

/** What the helper needs to end its children after stdin has closed. */
const END_GRACE_MS = 4_000;

export interface HelperPrograms {
  readonly helper: string;
  readonly qemu: string;
  readonly vsockDevice: string;
}

export interface HelperEvents {
  /** the console has grown: the boot makes progress */
  onProgress(consoleBytes: number): void;
  /** the machine has ended; sent once after a successful start */
  onExited(notice: ExitedNotice): void;
}

export class Helper {
  readonly #program: Program<typeof helper>;
  readonly features: readonly string[];

  private constructor(program: Program<typeof helper>, features: readonly string[]) {
    this.#program = program;
    this.features = features;
  }

  get pid(): number {
    return this.#program.pid;
  }
  get exited() {
    return this.#program.exited;
  }

  static async spawn(programs: HelperPrograms, log: string, events: HelperEvents): Promise<Helper> {
    try {
      const program = await Program.spawn({
        file: programs.helper,
        args: ["--qemu", programs.qemu, "--vsock-device", programs.vsockDevice],
        protocol: helper,
        notified: { progress: ({ consoleBytes }) => events.onProgress(consoleBytes), exited: (notice) => events.onExited(notice) },
        log,
      });
      const { features } = await program.peer.call("hello", { protocol: HELPER_PROTOCOL, client: "keeper" });
      return new Helper(program, features);
    } catch (error) {
      throw helperProblem(error, "The machine was not started");
    }
  }

  probe(params: { kernel: string; initramfs: string; runDir: string; timeoutMs: number }): Promise<ProbeResult> {
    return this.#wording("The accelerators could not be tried", () => this.#program.peer.call("probe", params));
  }
  start(config: MachineConfig) {
    return this.#wording("The machine was not started", () => this.#program.peer.call("start", config));
  }
  async pause(): Promise<void> {
    await this.#wording("The machine was not paused", () => this.#program.peer.call("pause", {}));
  }
  async resume(): Promise<void> {
    await this.#wording("The machine was not resumed", () => this.#program.peer.call("resume", {}));
  }
  status() {
    return this.#wording("The machine's state could not be read", () => this.#program.peer.call("status", {}));
  }
  /** From then on the guest may dial that port. */
  async openPort(port: number): Promise<void> {
    await this.#wording("A port could not be opened to the guest", () => this.#program.peer.call("openPort", { port }));
  }
  /** From then on the guest finds nobody at that port. */
  async closePort(port: number): Promise<void> {
    await this.#wording("A port could not be closed to the guest", () => this.#program.peer.call("closePort", { port }));
  }

  /** Ends machine and helper; answers when both are gone. Never fails: a helper that cannot be asked is killed, and its children die with it. */
  async end(): Promise<void> {
    await this.#program.end(END_GRACE_MS);
  }

  async #wording<T>(what: string, call: () => Promise<T>): Promise<T> {
    try {
      return await call();
    } catch (error) {
      throw helperProblem(error, what);
    }
  }
}

function helperProblem(error: unknown, what: string): ProblemError {
  const data = error instanceof RpcError ? errorData.safeParse(error.data).data : undefined;
  const detail = error instanceof Error ? error.message : String(error);
  const evidence = [detail, data?.evidence, data?.native && `${data.native.domain} ${data.native.code}`]
    .filter(Boolean)
    .join("\n")
    .slice(0, 16_384);
  const doctor = "Run `cloche doctor`; it names what is missing and the fix.";
  if (error instanceof RpcError) {
    return new ProblemError({
      code: "machine.hypervisor",
      message: `${what}: the hypervisor refused or failed.`,
      evidence,
      next: [doctor],
    });
  }
  const gone = error instanceof RpcClosed ? "the helper ended or broke its protocol" : "the helper program could not be run";
  return new ProblemError({
    code: "machine.helper",
    message: `${what}: ${gone}.`,
    evidence,
    next: [doctor, "Look at the task's host.log."],
  });
}
