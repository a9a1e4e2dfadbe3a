/**
 * The ssh connection to a guest: the agent serves it (vm-image/agent/ssh.go), ssh2 speaks it here, over a vsock stream. Keys are made per
 * machine on the host; the guest's side is as hostile as the guest, so it opens no channels to us, and what it makes us hold is bounded:
 * ssh2 announces windows and does not look whether the other side keeps to them.
 */
import type { Socket } from "node:net";
import type ssh2 from "ssh2";
import type { ClientChannel, ConnectConfig } from "ssh2";
import { ProblemError } from "../../contract/index.ts";
import { commandLine, commandSubsystem, type GuestCommand } from "./command.ts";
import { guestSilent } from "./silent.ts";

/** Read when a machine is made and not before: a keeper answers its first request 25 ms sooner, and the guest's boot leaves the time. */
const library = async (): Promise<typeof ssh2> => (await import("ssh2")).default;

const READY_DEADLINE_MS = 30_000;
/**
 * How long a guest may leave the request for a command unanswered, on a machine of speed factor 1. A healthy one takes 0.1 s, and one
 * whose processors have all they can do was seen to take several: who is cut off for being slow has lost more than who waits for a dead one.
 */
const ANSWER_DEADLINE_MS = 60_000;
/** So many times within a span of a guest's time it is looked whether the guest is awake. */
const LOOKS = 60;
/** Requests that were given up and that the guest has not even read, as far as we know: more are not sent to it. */
const MAX_UNREAD_REQUESTS = 16;

/** As ssh2 has it, and as the agent gives it to us. */
const WINDOW_BYTES = 2 << 20;
/** Unread data of one channel: of an honest service at most a window under way, and ssh2's buffers of its two outputs. */
const MAX_UNREAD_BYTES = 4 * WINDOW_BYTES;
/** What waits to be written to the guest beside the input of its channels: answers to what it asks. */
const MAX_UNSENT_BYTES = 64 << 10;
/**
 * Input of one channel that waits so: what is just being written counts until the last byte of it is, and for what of it has arrived an
 * honest service may have given room already.
 */
const MAX_UNSENT_INPUT_BYTES = 2 * (WINDOW_BYTES + MAX_UNSENT_BYTES);

/** All that comes until the keeper is let in: a few KB of an honest service. ssh2 reads greetings without an end. */
const MAX_HANDSHAKE_BYTES = 1 << 20;

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

interface Terminal {
  readonly columns: number;
  readonly rows: number;
  readonly term: string;
}

/** How the silence of a guest is judged. */
export interface Patience {
  /** what a deadline is multiplied with: how much slower than usual the machine is */
  readonly speedFactor: number;
  /** whether the guest is paused: its sleep is no silence */
  paused(): boolean;
}

export class SshConnection {
  readonly #client: ssh2.Client;
  readonly #sock: Socket;
  readonly #patience: Patience;
  #ended: string | undefined;
  #heardAt = performance.now();
  /** see MAX_UNREAD_REQUESTS */
  #unread = 0;

  private constructor(client: ssh2.Client, sock: Socket, patience: Patience) {
    this.#client = client;
    this.#sock = sock;
    this.#patience = patience;
    client.on("close", () => {
      this.#ended ??= "the connection closed";
    });
    // for its whole life: an error that nobody hears, as a second one of a connection that failed, would end the keeper
    client.on("error", (error) => {
      this.#ended ??= error.message;
      sock.destroy(); // ssh2 only says that it will send no more, and would read on
    });
  }

  /** Ends the connection when the guest makes us hold more than an honest service ever does. */
  #bound(): void {
    const sock = this.#sock;
    const end = (why: string) => void this.#client.emit("error", new Error(why));
    let greeting = 0;
    const greeted = (chunk: Buffer) => {
      greeting += chunk.length;
      if (greeting > MAX_HANDSHAKE_BYTES) end("it greets without an end");
    };
    // whose input may wait to be written: what a command left unread when it ended goes out all the same
    const writing = new Set<OpenChannel>();
    const look = () => {
      this.#heardAt = performance.now();
      const channels = openChannels(this.#client);
      if (sock.writableLength <= MAX_UNSENT_BYTES) writing.clear();
      for (const channel of channels) writing.add(channel);
      for (const { outgoing } of channels) outgoing.window = Math.min(outgoing.window, WINDOW_BYTES);
      if (channels.some((channel) => channel.readableLength + channel.stderr.readableLength > MAX_UNREAD_BYTES))
        end("it sent more than it was given room for");
      if (sock.writableLength > MAX_UNSENT_BYTES + writing.size * MAX_UNSENT_INPUT_BYTES) end("it does not read what it is answered");
    };
    sock.on("data", greeted);
    // from here on after ssh2's own listener: a window that the guest just gave is cut before anything is written into it
    this.#client.once("ready", () => sock.off("data", greeted).on("data", look));
  }

  get alive(): boolean {
    return this.#ended === undefined;
  }

  static async connect(
    sock: Socket,
    keys: MachineKeys,
    user: string,
    patience: Patience = { speedFactor: 1, paused: () => false },
  ): Promise<SshConnection> {
    const { Client } = await library();
    const client = new Client();
    const connection = new SshConnection(client, sock, patience);
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
        connection.#bound(); // now that ssh2 has paused it: before, it would begin to flow
      });
    } catch (error) {
      connection.end();
      if ((error as { level?: unknown }).level === "client-timeout")
        throw guestSilent(`The guest did not let the keeper in within ${READY_DEADLINE_MS / 1000} s, so the command was not run.`);
      throw sshProblem(error);
    }
    return connection;
  }

  /** Opens a channel and runs the command there, through a shell only where one is wanted. `unwanted` gives the request up. */
  async command(command: GuestCommand, terminal: Terminal | undefined, unwanted?: AbortSignal): Promise<ClientChannel> {
    const subsystem = terminal ? undefined : commandSubsystem(command);
    if (subsystem === undefined) return this.exec(commandLine(command), terminal, unwanted);
    return this.#open((answered) => {
      this.#client.subsys(subsystem, (error, channel) =>
        // ssh2's own words repeat the request, with all variables
        answered(error?.message.startsWith("Unable to start subsystem") ? "the guest's agent refused the command" : error, channel),
      );
    }, unwanted);
  }

  /** Opens a channel and runs a line in bash there. */
  exec(line: string, terminal: Terminal | undefined, unwanted?: AbortSignal): Promise<ClientChannel> {
    const pty = terminal && { cols: terminal.columns, rows: terminal.rows, term: terminal.term, width: 0, height: 0 };
    return this.#open((answered) => {
      this.#client.exec(line, pty ? { pty } : {}, answered);
    }, unwanted);
  }

  /** Asks for a channel and a command in it. A request that is given up leaves no command behind: none begins later, or it is killed as it does. */
  async #open(
    ask: (answered: (error: unknown, channel?: ClientChannel) => void) => void,
    unwanted: AbortSignal | undefined,
  ): Promise<ClientChannel> {
    unwanted?.throwIfAborted();
    if (this.#unread >= MAX_UNREAD_REQUESTS) throw this.#silent("The guest has answered none of the last requests for a command");
    const { promise, resolve, reject } = Promise.withResolvers<ClientChannel>();
    try {
      ask((error, channel) => (channel ? resolve(channel) : reject(sshProblem(error))));
    } catch (error) {
      throw sshProblem(error); // the connection is gone
    }
    const id = channelManager(this.#client)?._cur ?? -1;
    const giveUp = (why: unknown) => {
      this.#forsake(id);
      reject(why);
    };
    const deadlineMs = ANSWER_DEADLINE_MS * this.#patience.speedFactor;
    const answered = this.afterAwake(deadlineMs, () =>
      giveUp(this.#silent(`The guest did not begin the command within ${Math.round(deadlineMs / 1000)} s`)),
    );
    const leave = () => giveUp(unwanted?.reason);
    unwanted?.addEventListener("abort", leave, { once: true });
    try {
      return await promise;
    } finally {
      answered();
      unwanted?.removeEventListener("abort", leave);
    }
  }

  /** What becomes of the channel of a request that was given up. */
  #forsake(id: number): void {
    const channels = channelManager(this.#client)?._channels ?? {};
    const asked = channels[id];
    if (isChannel(asked)) {
      signalChannel(asked, "KILL"); // the guest reads it after the command, which it was asked to begin
      asked.close();
    } else if (asked !== undefined) {
      this.#unread++;
      // in the place of ssh2's own, which would ask for the command in the channel once there is one
      const opened = (_error: unknown, channel?: ClientChannel) => {
        this.#unread--;
        channel?.close();
      };
      channels[id] = Object.assign(opened, { type: "session" });
    }
  }

  #silent(what: string): ProblemError {
    const silentS = Math.round((performance.now() - this.#heardAt) / 1000);
    return guestSilent(`${what}, so it was given up and will not run.`, `nothing came over the guest's ssh connection for ${silentS} s`);
  }

  /** Calls `late` when the guest has been awake for `ms` in all. Answers with what calls it off. */
  afterAwake(ms: number, late: () => void): () => void {
    let looks = 0;
    const timer = setInterval(() => {
      if (this.#patience.paused() || ++looks < LOOKS) return;
      clearInterval(timer);
      late();
    }, ms / LOOKS);
    return () => clearInterval(timer);
  }

  end(): void {
    this.#ended ??= "ended by the keeper";
    this.#client.destroy();
    this.#sock.destroy(); // which ssh2 leaves open where it has ended its own side
  }
}

/** What of ssh2's channel its own `signal` and `setWindow` are made of, and what it may send. */
interface OpenChannel extends Pick<ClientChannel, "readableLength" | "stderr"> {
  readonly outgoing: { readonly id: number; readonly state: string; window: number };
  readonly _client: {
    readonly _protocol: {
      signal(id: number, name: string): void;
      windowChange(id: number, rows: number, columns: number, height: number, width: number): void;
    };
  };
}

/** Where ssh2 keeps its channels by their ids; in the place of one that is only asked for stands what it calls with the answer. */
interface ChannelManager {
  readonly _channels: Record<number, unknown>;
  /** the id that was given last */
  readonly _cur: number;
}

const channelManager = (client: ssh2.Client) => (client as unknown as { _chanMgr?: ChannelManager })._chanMgr;

const isChannel = (value: unknown): value is ClientChannel => typeof value === "object" && value !== null;

/** Channels that are open, and not those that are only asked for. */
function openChannels(client: ssh2.Client): OpenChannel[] {
  return Object.values(channelManager(client)?._channels ?? {})
    .filter(isChannel)
    .map((channel) => channel as unknown as OpenChannel);
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
