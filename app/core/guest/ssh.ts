/**
 * The ssh connection to a guest: the agent serves it (vm-image/agent/ssh.go), ssh2 speaks it here, over a vsock stream. Keys are made per
 * machine on the host; the guest's side is as hostile as the guest, so it opens no channels to us, and what it sends is bounded by ssh2's
 * windows.
 */
import type { Socket } from "node:net";
import type ssh2 from "ssh2";
import type { ClientChannel, ConnectConfig } from "ssh2";
import { ProblemError } from "../../contract/index.ts";

/** Read when a machine is made and not before: a keeper answers its first request 25 ms sooner, and the guest's boot leaves the time. */
const library = async (): Promise<typeof ssh2> => (await import("ssh2")).default;

const READY_DEADLINE_MS = 30_000;

export interface MachineKeys {
  /** the guest's own private key, in OpenSSH's form */
  readonly hostPrivate: string;
  /** `ssh-ed25519 …` */
  readonly hostPublic: string;
  readonly userPrivate: string;
  readonly userPublic: string;
}

/** New keys, for one machine only. Making them in the guest would take 0.4 s of its start. */
export async function makeKeys(): Promise<MachineKeys> {
  const { utils } = await library();
  const host = makeKeyPair(utils);
  const user = makeKeyPair(utils);
  return { hostPrivate: host.private, hostPublic: host.public, userPrivate: user.private, userPublic: user.public };
}

type KeyPair = Pick<ssh2.utils.KeyPairReturn, "private" | "public">;

/** ssh2 1.17 writes about 3 of 1000 private keys in a form that nobody can read, so each is read before it is given away. */
export function makeKeyPair(utils: typeof ssh2.utils, generate: () => KeyPair = () => utils.generateKeyPairSync("ed25519")): KeyPair {
  for (let tries = 0; tries < 20; tries++) {
    const pair = generate();
    const parsed = utils.parseKey(pair.private);
    const expected = Buffer.from(pair.public.split(" ")[1] ?? "", "base64");
    if (!(parsed instanceof Error) && !Array.isArray(parsed) && parsed.isPrivateKey() && parsed.getPublicSSH().equals(expected))
      return pair;
  }
  throw new Error("no readable ssh key was made in 20 tries");
}

/** Algorithms that both sides have, the cheapest under emulation first (vm-image/agent/README.md): no choice is left to the guest. */
const ALGORITHMS: NonNullable<ConnectConfig["algorithms"]> = {
  kex: ["curve25519-sha256"],
  serverHostKey: ["ssh-ed25519"],
  cipher: ["chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com"],
  compress: ["none"],
};

export class SshConnection {
  readonly #client: ssh2.Client;
  #ended: string | undefined;

  private constructor(client: ssh2.Client) {
    this.#client = client;
    client.on("close", () => {
      this.#ended ??= "the connection closed";
    });
    // for its whole life: an error that nobody hears, as a second one of a connection that failed, would end the keeper
    client.on("error", (error) => {
      this.#ended ??= error.message;
    });
  }

  get alive(): boolean {
    return this.#ended === undefined;
  }

  static async connect(sock: Socket, keys: MachineKeys, user: string): Promise<SshConnection> {
    const { Client } = await library();
    const client = new Client();
    const connection = new SshConnection(client);
    const expected = Buffer.from(keys.hostPublic.split(" ")[1] ?? "", "base64");
    try {
      await new Promise<void>((resolve, reject) => {
        client.once("ready", resolve);
        client.once("error", reject);
        client.once("close", () => reject(new Error("the guest closed the connection")));
        client.connect({
          sock,
          username: user,
          privateKey: keys.userPrivate,
          hostVerifier: (key: Buffer) => key.equals(expected),
          algorithms: ALGORITHMS,
          // not "none" first: under emulation each round of questions costs the start 10 ms and more
          authHandler: ["publickey"],
          readyTimeout: READY_DEADLINE_MS,
        });
      });
    } catch (error) {
      client.destroy();
      throw sshProblem(error);
    }
    return connection;
  }

  /** Opens a channel and runs a line in bash there. */
  exec(line: string, terminal: { columns: number; rows: number; term: string } | undefined): Promise<ClientChannel> {
    const pty = terminal && { cols: terminal.columns, rows: terminal.rows, term: terminal.term, width: 0, height: 0 };
    return new Promise((resolve, reject) => {
      this.#client.exec(line, pty ? { pty } : {}, (error, channel) => (error ? reject(sshProblem(error)) : resolve(channel)));
    });
  }

  end(): void {
    this.#ended ??= "ended by the keeper";
    this.#client.destroy();
  }
}

/** What of ssh2's channel its own `signal` and `setWindow` are made of. */
interface OpenChannel {
  readonly outgoing: { readonly id: number; readonly state: string };
  readonly _client: {
    readonly _protocol: {
      signal(id: number, name: string): void;
      windowChange(id: number, rows: number, columns: number, height: number, width: number): void;
    };
  };
}

/** ssh2 drops signals and sizes without a word once the input has ended; the protocol takes them until the channel is closed. */
function whileOpen(channel: ClientChannel, send: (open: OpenChannel) => void): void {
  const open = channel as unknown as OpenChannel;
  if (open.outgoing.state === "open" || open.outgoing.state === "eof") send(open);
}

export function signalChannel(channel: ClientChannel, name: string): void {
  whileOpen(channel, ({ outgoing, _client }) => _client._protocol.signal(outgoing.id, name));
}

export function resizeChannel(channel: ClientChannel, rows: number, columns: number): void {
  whileOpen(channel, ({ outgoing, _client }) => _client._protocol.windowChange(outgoing.id, rows, columns, 0, 0));
}

function sshProblem(error: unknown): ProblemError {
  return new ProblemError({
    code: "guest.ssh",
    message: "The guest's ssh service, through which commands run, did not accept the connection.",
    evidence: error instanceof Error ? error.message : String(error),
    next: ["Look at `cloche logs TASK --console`.", "Stop the task and start it again."],
  });
}
