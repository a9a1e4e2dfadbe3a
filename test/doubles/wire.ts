/**
 * An `Internet` below its origins: every frame that comes out of the namespace under test, whatever it holds; services of the host itself;
 * and a network card for a guest that is to have one, as the control of the guests that have none.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Internet } from "./internet.ts";

export interface Frame {
  /** the interface outside at which it arrived: `cable` leads to the namespace under test, `card` to a guest */
  readonly on: string;
  /** `arp`, `ipv4`, `ipv6`, or the number of another one */
  readonly kind: string;
  /** of IP: 6 is TCP, 17 UDP, 1 and 58 ICMP */
  readonly protocol?: number;
  readonly to?: string;
  readonly port?: number;
  /** the canary is somewhere in it */
  readonly canary: boolean;
}

/** A program in one of the namespaces that tells in lines what happens, until it is ended. */
class Teller<T> {
  readonly told: T[] = [];
  readonly #process: ChildProcess;

  private constructor(process: ChildProcess) {
    this.#process = process;
  }

  static async start<T>({ file, args }: { file: string; args: string[] }): Promise<Teller<T>> {
    const child = spawn(file, args, { stdio: ["ignore", "pipe", "inherit"] });
    const teller = new Teller<T>(child);
    await new Promise<void>((resolve, reject) => {
      child.once("exit", (status) => reject(new Error(`${args.join(" ")} ended with ${status}`)));
      createInterface({ input: child.stdout }).on("line", (line) => {
        const one = JSON.parse(line) as T & { ready?: true };
        if (one.ready) resolve();
        else teller.told.push(one);
      });
    });
    return teller;
  }

  async end(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const gone = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill();
    await gone;
  }
}

const program = (...args: string[]): [string, string[]] => ["/usr/bin/python3", ["-u", join(import.meta.dirname, "wire.py"), ...args]];
/** Where a frame is sent whose arrival shows that all before it has arrived. */
const MARK = "93.184.215.1";

export class Wire {
  readonly #internet: Internet;
  readonly #watching: Teller<Frame>;

  private constructor(internet: Internet, watching: Teller<Frame>) {
    this.#internet = internet;
    this.#watching = watching;
  }

  /** From now on, every frame that leaves the namespace under test. */
  static async watch(internet: Internet, canary: string): Promise<Wire> {
    return new Wire(internet, await Teller.start<Frame>(internet.commandOutside(...program("watch", canary))));
  }

  /** The kinds of frames that have arrived by now, each once. */
  async frames(): Promise<Frame[]> {
    const port = 20_000 + Math.floor(Math.random() * 40_000);
    const isMark = (frame: Frame) => frame.protocol === 17 && frame.port === port && frame.to === MARK;
    const send = `import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"mark", ("${MARK}", ${port}))`;
    const { file, args } = this.#internet.command("/usr/bin/python3", ["-c", send]);
    execFileSync(file, args);
    const until = performance.now() + 30_000;
    while (!this.#watching.told.some(isMark)) {
      if (performance.now() > until) throw new Error("the frame that marks the end did not arrive");
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return this.#watching.told.filter((frame) => !(frame.protocol === 17 && frame.to === MARK));
  }

  end(): Promise<void> {
    return this.#watching.end();
  }
}

export interface HostService {
  /** connections that it took: the address that was dialled, and what was said */
  readonly told: { readonly to: string; readonly first: string }[];
  end(): Promise<void>;
}

/** A service of the host's own: at its loopback, and at each of `addresses`, which the host has from now on. */
export async function hostService(internet: Internet, port: number, addresses: readonly string[]): Promise<HostService> {
  for (const address of addresses) internet.run("/usr/sbin/ip", ["addr", "add", `${address}/32`, "dev", "lo"]);
  return Teller.start<HostService["told"][number]>(internet.command(...program("serve", String(port))));
}

/** The host's end of a guest's network card: what the guest sends into the stream at `path` arrives outside as frames. */
export function plugCard(internet: Internet, path: string): Promise<{ end(): Promise<void> }> {
  return Teller.start(internet.commandOutside(...program("card", path)));
}
