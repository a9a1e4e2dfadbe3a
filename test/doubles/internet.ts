/**
 * An internet of a suite's own, so that what leaves a task is judged by who received it and no check of the product is relaxed: two
 * network namespaces joined by a cable. Programs under test run `inside`, where a resolver and a route to everywhere are set up;
 * origins and a DNS server answer outside, at addresses that look public, with certificates of an authority of this internet's. Both
 * keep logs. Also addresses that must not be reached (10/8, 169.254.169.254 …) can have an origin, as a control that they could be.
 *
 * Needs root and `ip`. One of them takes about half a second; `close` leaves nothing behind.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { isIPv6 } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { OriginSpec, Seen, ToOutside } from "./internet-outside.ts";

export type { OriginHandler, Seen, SeenConnection, SeenQuery, SeenRequest } from "./internet-outside.ts";

const DNS_ADDRESS = "93.184.215.53";
const INSIDE = { v4: "93.184.215.2", v6: "2606:2800:220:1::2" };
const OUTSIDE = { v4: "93.184.215.1", v6: "2606:2800:220:1::1" };

export interface OriginOptions {
  /** its DNS name; further ones by `names`. It is answered for by DNS unless `dns` says otherwise */
  readonly name: string;
  readonly names?: readonly string[];
  /** absent: the next free one of 93.184.216.0/24 */
  readonly address?: string;
  /** absent: a good one for all names */
  readonly certificate?: "good" | "expired" | "other-name" | "unknown-authority";
  /** absent: both; what the origin agrees to on its TLS port */
  readonly protocols?: readonly ("h2" | "http/1.1")[];
  /** absent: TLS on 443, plain HTTP on 80 */
  readonly tlsPort?: number;
  readonly plainPort?: number;
  /** a module whose default export answers requests (`OriginHandler`); absent: what `internet-outside.ts` answers by path */
  readonly handler?: URL;
  /** also the bytes of each connection are kept in the log; for origins that speak HTTP/1.1 and no other protocol, WebSocket neither */
  readonly keepsBytes?: true;
}

/** What a port does that is no origin's. `proxy`: it is asked to CONNECT and resolves names by this internet's DNS. */
export type RawBehaviour = "silent" | "reset" | "echo" | "banner" | "proxy";

export class Internet {
  /** the namespace in which programs under test run */
  readonly inside: string;
  readonly #outside: string;
  readonly #directory: string;
  /** the authority of the origins' certificates, as PEM */
  readonly authority: string;
  readonly #process: ChildProcess;
  readonly #open = new Map<number, { resolve: (value: Seen) => void; reject: (error: Error) => void }>();
  #next = 1;
  #address = 10;

  private constructor(names: { inside: string; outside: string }, directory: string) {
    this.inside = names.inside;
    this.#outside = names.outside;
    this.#directory = directory;
    makeAuthority(directory);
    this.authority = readFileSync(join(directory, "ca.pem"), "utf8");
    this.#process = spawn("ip", ["netns", "exec", names.outside, process.execPath, join(import.meta.dirname, "internet-outside.ts")], {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    this.#process.on("message", (message: { id: number; seen?: Seen; failed?: string }) => {
      const open = this.#open.get(message.id);
      this.#open.delete(message.id);
      if (message.seen) open?.resolve(message.seen);
      else open?.reject(new Error(message.failed));
    });
    this.#process.on("exit", (status) => {
      for (const open of this.#open.values()) open.reject(new Error(`the outside ended with ${status}`));
    });
  }

  static async create(): Promise<Internet> {
    const mark = `${process.pid}-${Math.floor(Math.random() * 1e6)}`;
    const names = { inside: `cloche-in-${mark}`, outside: `cloche-out-${mark}` };
    const directory = mkdtempSync(join(tmpdir(), "cloche-internet-"));
    try {
      connect(names);
      mkdirSync(join("/etc/netns", names.inside), { recursive: true });
      writeFileSync(join("/etc/netns", names.inside, "resolv.conf"), `nameserver ${DNS_ADDRESS}\noptions timeout:2 attempts:1\n`);
      writeFileSync(join("/etc/netns", names.inside, "nsswitch.conf"), "hosts: files dns\n");
      writeFileSync(join("/etc/netns", names.inside, "hosts"), "127.0.0.1 localhost\n::1 localhost\n");
      const internet = new Internet(names, directory);
      await internet.#ask({ what: "dns", address: DNS_ADDRESS });
      return internet;
    } catch (error) {
      remove(names, directory);
      throw error;
    }
  }

  /** The command line that runs a program inside. The resolver's files are bound over those of /etc there. */
  command(file: string, args: readonly string[] = []): { file: string; args: string[] } {
    return { file: "/usr/sbin/ip", args: ["netns", "exec", this.inside, file, ...args] };
  }

  /** The same on the other side, among the origins. */
  commandOutside(file: string, args: readonly string[] = []): { file: string; args: string[] } {
    return { file: "/usr/sbin/ip", args: ["netns", "exec", this.#outside, file, ...args] };
  }

  /** Runs a program inside to its end and answers with its stdout. */
  run(file: string, args: readonly string[]): string {
    const command = this.command(file, args);
    return execFileSync(command.file, command.args, { encoding: "utf8" });
  }

  /** Makes an origin; answers with its address. */
  async origin(options: OriginOptions): Promise<string> {
    const address = options.address ?? `93.184.216.${this.#address++}`;
    const names = [options.name, ...(options.names ?? [])];
    this.#addAddress(address);
    const { key, certificate } = this.#certificate(names, address, options.certificate ?? "good");
    const spec: OriginSpec = {
      name: options.name,
      address,
      key,
      certificate,
      protocols: [...(options.protocols ?? (["h2", "http/1.1"] as const))],
      tlsPort: options.tlsPort ?? 443,
      plainPort: options.plainPort ?? 80,
      ...(options.handler ? { handler: options.handler.href } : {}),
      ...(options.keepsBytes ? { keepsBytes: true } : {}),
    };
    await this.#ask({ what: "origin", spec });
    await this.dns(Object.fromEntries(names.map((name) => [name, [address]])));
    return address;
  }

  /** Opens a port that is no origin's. */
  async port(address: string, port: number, behaviour: RawBehaviour): Promise<void> {
    this.#addAddress(address);
    await this.#ask({ what: "port", address, port, behaviour });
  }

  /**
   * Sets what DNS answers. A list of lists is answered in turn, the last one for ever; "silent" and "broken" stand for no answer
   * and SERVFAIL. Names that are not set do not exist.
   */
  async dns(table: Record<string, readonly string[] | readonly (readonly string[])[] | "silent" | "broken">): Promise<void> {
    await this.#ask({ what: "names", table: table as Extract<ToOutside, { what: "names" }>["table"] });
  }

  /** Everything that arrived outside so far. */
  seen(): Promise<Seen> {
    return this.#ask({ what: "seen" });
  }
  async forget(): Promise<void> {
    await this.#ask({ what: "forget" });
  }

  async close(): Promise<void> {
    const exited = new Promise((resolve) => this.#process.once("exit", resolve));
    if (this.#process.exitCode === null && this.#process.kill("SIGKILL")) await exited;
    remove({ inside: this.inside, outside: this.#outside }, this.#directory);
  }

  #ask(message: ToOutside): Promise<Seen> {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#open.set(id, { resolve, reject });
      this.#process.send({ id, ...message });
    });
  }

  #addAddress(address: string): void {
    const length = isIPv6(address) ? ["-6", "addr", "replace", `${address}/128`] : ["addr", "replace", `${address}/32`];
    ip("-n", this.#outside, ...length, "dev", "lo", ...(isIPv6(address) ? ["nodad"] : []));
  }

  #certificate(
    names: readonly string[],
    address: string,
    kind: NonNullable<OriginOptions["certificate"]>,
  ): { key: string; certificate: string } {
    const directory = this.#directory;
    const file = join(directory, `${names[0]}-${Math.floor(Math.random() * 1e6)}`);
    const subject =
      kind === "other-name" ? "DNS:somebody-else.example" : [...names.map((name) => `DNS:${name}`), `IP:${address}`].join(",");
    writeFileSync(`${file}.ext`, `subjectAltName=${subject}\nextendedKeyUsage=serverAuth\nbasicConstraints=critical,CA:FALSE\n`);
    openssl(
      "req",
      "-new",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-keyout",
      `${file}.key`,
      "-out",
      `${file}.csr`,
      "-subj",
      "/CN=origin",
    );
    let ca = join(directory, "ca");
    if (kind === "unknown-authority") {
      ca = join(directory, "unknown");
      makeAuthority(directory, "unknown");
    }
    writeFileSync(`${file}.index`, "");
    writeFileSync(
      `${file}.conf`,
      `[ca]\ndefault_ca=c\n[c]\ndatabase=${file}.index\nnew_certs_dir=${directory}\nrand_serial=yes\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n`,
    );
    const files = ["-config", `${file}.conf`, "-cert", `${ca}.pem`, "-keyfile", `${ca}.key`, "-in", `${file}.csr`, "-out", `${file}.pem`];
    const dates = kind === "expired" ? ["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"] : ["-days", "30"];
    // `openssl x509` of 3.0 cannot date a certificate into the past; `openssl ca` can
    openssl("ca", "-batch", ...files, "-extfile", `${file}.ext`, ...dates, "-notext");
    return { key: readFileSync(`${file}.key`, "utf8"), certificate: readFileSync(`${file}.pem`, "utf8") };
  }
}

function makeAuthority(directory: string, name = "ca"): void {
  const file = join(directory, name);
  openssl(
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
    "-keyout",
    `${file}.key`,
    "-out",
    `${file}.pem`,
    "-subj",
    `/CN=Authority of a test (${name})`,
    "-days",
    "30",
    "-addext",
    "basicConstraints=critical,CA:TRUE",
    "-addext",
    "keyUsage=critical,keyCertSign",
  );
}

const openssl = (...args: string[]) => execFileSync("openssl", args, { stdio: ["ignore", "ignore", "pipe"] });
const ip = (...args: string[]) => execFileSync("/usr/sbin/ip", args, { stdio: ["ignore", "ignore", "pipe"] });

function connect({ inside, outside }: { inside: string; outside: string }): void {
  for (const name of [inside, outside]) {
    ip("netns", "add", name);
    ip("-n", name, "link", "set", "lo", "up");
  }
  ip("link", "add", "cable", "netns", inside, "type", "veth", "peer", "name", "cable", "netns", outside);
  for (const [name, own, other] of [
    [inside, INSIDE, OUTSIDE],
    [outside, OUTSIDE, INSIDE],
  ] as const) {
    ip("-n", name, "addr", "add", `${own.v4}/24`, "dev", "cable");
    ip("-n", name, "-6", "addr", "add", `${own.v6}/64`, "dev", "cable", "nodad");
    ip("-n", name, "link", "set", "cable", "up");
    ip("-n", name, "route", "add", "default", "via", other.v4);
    ip("-n", name, "-6", "route", "add", "default", "via", other.v6);
  }
  ip("-n", outside, "addr", "add", `${DNS_ADDRESS}/32`, "dev", "lo");
}

function remove({ inside, outside }: { inside: string; outside: string }, directory: string): void {
  for (const name of [inside, outside]) {
    try {
      ip("netns", "del", name);
    } catch {
      // it was not made
    }
  }
  rmSync(join("/etc/netns", inside), { recursive: true, force: true });
  rmSync(directory, { recursive: true, force: true });
}
