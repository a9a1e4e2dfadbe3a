/**
 * A child program: spawned by absolute path with a clean environment, spoken to in lines, its stderr appended to a log.
 * It ends when its stdin does, so it never outlives the keeper; `end` closes stdin and, after a grace, kills.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import type { Socket } from "node:net";
import { type NotificationListeners, RpcPeer, type RpcProtocol } from "../../contract/index.ts";
import { lineTransport } from "../../contract/node/index.ts";

type Nothing = { requests: Record<never, never>; notifications: Record<never, never> };

export interface ProgramExit {
  /** exit status; null when a signal ended it */
  readonly status: number | null;
  readonly signal: string | null;
}

/** Of `P` it answers and tells; of `T` it is told by `peer.notify`. */
export class Program<P extends RpcProtocol, T extends RpcProtocol = Nothing> {
  readonly peer: RpcPeer<P, T>;
  readonly pid: number;
  readonly exited: Promise<ProgramExit>;
  /** it has exited, and all that it said has come */
  readonly closed: Promise<void>;
  readonly #child: ChildProcess;
  /** of connections that are on their way to it: what ends that */
  readonly #handing = new Set<(error: Error) => void>();

  private constructor(child: ChildProcess, pid: number, peer: RpcPeer<P, T>) {
    this.#child = child;
    this.pid = pid;
    this.peer = peer;
    this.exited = new Promise((resolve) => child.once("exit", (status, signal) => resolve({ status, signal })));
    this.closed = new Promise((resolve) => child.once("close", () => resolve()));
    void this.exited.then(() => {
      for (const end of this.#handing) end(new Error("the program is gone"));
    });
  }

  /** Rejects with the system's error when the program cannot be run at all. */
  static async spawn<P extends RpcProtocol, T extends RpcProtocol = Nothing>(options: {
    file: string;
    args: readonly string[];
    protocol: P;
    notified: NotificationListeners<P>;
    log: string;
    /** connections are handed to it, over a channel of their own */
    handsOver?: true;
  }): Promise<Program<P, T>> {
    const log = openSync(options.log, "a", 0o600);
    let child: ChildProcess;
    try {
      child = spawn(options.file, options.args, {
        stdio: ["pipe", "pipe", log, ...(options.handsOver ? ["ipc" as const] : [])],
        // a program of ours needs no variable of the user's; the last one tells whose it is, in the host's process list
        env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LANG: "C.UTF-8", CLOCHE_LOG: options.log },
        cwd: "/",
      });
    } finally {
      closeSync(log);
    }
    await new Promise<void>((resolve, reject) => {
      child.once("spawn", resolve);
      child.once("error", reject);
    });
    const { stdin, stdout, pid } = child;
    if (!stdin || !stdout || pid === undefined) throw new Error("spawn gave no pipes");
    stdin.on("error", () => {}); // a dead child shows itself by `exited` and by the peer's close
    child.on("error", () => {});
    const transport = lineTransport(stdout, stdin, () => stdin.end());
    const peer = new RpcPeer<P, T>({ transport, remote: options.protocol, notified: options.notified });
    return new Program(child, pid, peer);
  }

  /**
   * Gives the program a connection of which nothing was read. It is closed here in any case; rejects when the program is gone. Node would
   * close it by itself once the program has it, and forget it when the program dies before: whoever waits on the other side would wait for
   * ever. So it is kept open, and closed when it is on its way, or when it cannot be any more.
   */
  async handOver(message: { stream: 1 }, connection: Socket): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#handing.add(reject);
    try {
      this.#child.send(message, connection, { keepOpen: true }, (error) => (error ? reject(error) : resolve()));
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) reject(new Error("the program is gone"));
      await promise;
    } finally {
      this.#handing.delete(reject);
      connection.destroy();
    }
  }

  /** Closes stdin and waits; kills after `graceMs`. Twice is harmless. */
  async end(graceMs: number): Promise<ProgramExit> {
    this.peer.close("ended by the keeper");
    this.#child.stdin?.end();
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), graceMs);
    try {
      return await this.exited;
    } finally {
      clearTimeout(timer);
    }
  }
}
