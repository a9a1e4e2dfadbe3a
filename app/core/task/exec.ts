/**
 * A command in a guest: a channel of the machine's ssh connection on one side, the client's stream on the other. Bytes are passed on
 * as they come; whoever cannot take more makes the other side wait, down to the program in the guest.
 */
import type { Socket } from "node:net";
import type { ClientChannel } from "ssh2";
import {
  encodeFrame,
  Frame,
  FrameDecoder,
  framesOf,
  MAX_FRAME_PAYLOAD,
  type Problem,
  ProblemError,
  toProblem,
} from "../../contract/index.ts";
import { resizeChannel, type SshConnection, signalChannel } from "../guest/index.ts";
import type { OutputLog } from "./output.ts";

export interface ExecRequest {
  readonly argv: readonly Uint8Array[] | undefined;
  readonly workingDirectory: string;
  readonly makeWorkingDirectory: boolean;
  readonly env: Readonly<Record<string, string>>;
  readonly terminal: { columns: number; rows: number; term: string } | undefined;
  readonly timeoutMs: number | undefined;
}

export interface ExecResult {
  /** as in a shell: the program's own, or 128 + n when a signal ended it */
  readonly status: number;
  readonly signal?: string;
}

/** Signal numbers of Linux, the guest's system, for the status that a shell would give. */
const SIGNAL_NUMBERS: Readonly<Record<string, number>> = {
  HUP: 1,
  INT: 2,
  QUIT: 3,
  ILL: 4,
  TRAP: 5,
  ABRT: 6,
  BUS: 7,
  FPE: 8,
  KILL: 9,
  USR1: 10,
  SEGV: 11,
  USR2: 12,
  PIPE: 13,
  ALRM: 14,
  TERM: 15,
};
/** TERM first, KILL after that, when a command's time is up, and no more waiting after that: each so many ms later. */
const TIMEOUT_GRACE_MS = 2_000;

/** A command for a person: what they typed, quoted where needed, cut to a line. */
export function commandText(argv: readonly Uint8Array[] | undefined): string {
  if (!argv) return "(login shell)";
  return argv
    .map((argument) =>
      Buffer.from(argument)
        .toString("utf8")
        .replace(/[\p{Cc}\p{Cf}]/gu, "\uFFFD"),
    )
    .map((word) => (/^[\w./:=@%+,-]+$/.test(word) ? word : JSON.stringify(word)))
    .join(" ")
    .slice(0, 4000);
}

/**
 * Runs the command and serves `client` until both are done. Resolves with the result; rejects when there is none. The request's time
 * counts from this call, whatever is waited for: a command whose time is up before it began does not begin.
 */
export async function runExec(
  connection: SshConnection | Promise<SshConnection>,
  request: ExecRequest,
  client: Socket,
  output: OutputLog,
): Promise<ExecResult> {
  const begin = new AbortController();
  const endBy = (name: "TERM" | "HUP") => begin.abort(name);
  let timeUp = () => endBy("TERM");
  const callOff = request.timeoutMs === undefined ? () => {} : after(request.timeoutMs, () => timeUp());
  const leave = () => endBy("HUP");
  client.once("close", leave);
  try {
    const opened = await open(connection, request, client, begin.signal);
    client.off("close", leave);
    const left = Promise.withResolvers<ExecResult>();
    let result: ExecResult;
    if ("ended" in opened) result = opened.ended;
    else {
      const { ssh, channel } = opened;
      channel.on("error", () => client.destroy()); // input after its end; an error that nobody takes would end the keeper
      serveInput(client, channel);
      timeUp = () => terminate(ssh, channel, client, left.resolve);
      result = await Promise.race([pump(channel, client, output), left.promise]);
    }
    const status = Buffer.alloc(4);
    status.writeUInt32BE(result.status);
    client.write(encodeFrame(Frame.exit, Buffer.concat([status, Buffer.from(result.signal ?? "")])));
    client.end();
    client.resume(); // what the client still sends is dropped: unread, it would keep its end from being noticed
    return result;
  } finally {
    client.off("close", leave);
    callOff();
  }
}

/** The longest that one of Node's timers waits: with more it goes off at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Calls `late` after `ms`, however long that is. Answers with what calls it off. */
function after(ms: number, late: () => void): () => void {
  let timer: NodeJS.Timeout;
  const wait = (left: number) => {
    timer = setTimeout(() => (left > MAX_TIMER_MS ? wait(left - MAX_TIMER_MS) : late()), Math.min(left, MAX_TIMER_MS));
  };
  wait(ms);
  return () => clearTimeout(timer);
}

/** The command's channel, or how a command ended that was not wanted any more before there was one: by the name with which `begin` is aborted. */
async function open(
  connection: SshConnection | Promise<SshConnection>,
  { argv, workingDirectory, makeWorkingDirectory, env, terminal }: ExecRequest,
  client: Socket,
  begin: AbortSignal,
): Promise<{ ssh: SshConnection; channel: ClientChannel } | { ended: ExecResult }> {
  const unwanted = Promise.withResolvers<never>();
  const give = () => unwanted.reject(begin.reason);
  begin.addEventListener("abort", give, { once: true });
  let ssh: SshConnection | undefined;
  try {
    ssh = await Promise.race([connection, unwanted.promise]);
    const channel = await ssh.command({ ...(argv ? { argv } : {}), workingDirectory, makeWorkingDirectory, env }, terminal, begin);
    return { ssh, channel };
  } catch (error) {
    if (begin.aborted) return { ended: endedBy(begin.reason) };
    if (ssh) sendProblem(client, toProblem(error));
    throw error;
  } finally {
    begin.removeEventListener("abort", give);
  }
}

const endedBy = (signal: string): ExecResult => ({ status: 128 + (SIGNAL_NUMBERS[signal] ?? 0), signal });

/** Ends a command by TERM, then by KILL; one that is not even ended then is `left`, as nothing in its guest works. */
function terminate(ssh: SshConnection, channel: ClientChannel, client: Socket, left: (result: ExecResult) => void): void {
  signalChannel(channel, "TERM");
  let stop = () => {};
  const kill = setTimeout(() => {
    signalChannel(channel, "KILL");
    const look = () => {
      // its end stands behind output that the client does not take: the guest may well have told of it
      if (client.writableNeedDrain) stop = ssh.afterAwake(TIMEOUT_GRACE_MS, look);
      else {
        channel.close();
        left(endedBy("KILL"));
      }
    };
    stop = ssh.afterAwake(TIMEOUT_GRACE_MS, look);
  }, TIMEOUT_GRACE_MS);
  channel.once("close", () => {
    clearTimeout(kill);
    stop();
  });
}

export function sendProblem(client: Socket, problem: Problem): void {
  // evidence may be a guest's console, of which each control character takes six bytes: it is cut until the whole fits
  let fitting = problem;
  let bytes = Buffer.from(JSON.stringify(fitting));
  while (bytes.length > MAX_FRAME_PAYLOAD && (fitting.evidence || fitting.cause)) {
    const { cause: _, evidence = "", ...rest } = fitting;
    fitting = evidence.length > 1 ? { ...rest, evidence: evidence.slice(Math.ceil(evidence.length / 2)) } : rest;
    bytes = Buffer.from(JSON.stringify(fitting));
  }
  client.write(encodeFrame(Frame.problem, bytes));
  client.end();
  client.resume(); // where no command read it, nobody else would notice that the client has gone
}

/** The client's frames into the channel. A client that is gone takes its command along: nobody could read it any more. */
function serveInput(client: Socket, channel: ClientChannel): void {
  const decoder = new FrameDecoder();
  let over = false;
  channel.once("close", () => {
    // input that nobody took is read and dropped: a paused socket would never notice that its client is gone
    over = true;
    client.resume();
  });
  client.on("data", (chunk: Buffer) => {
    if (over) return;
    try {
      for (const frame of decoder.push(chunk)) {
        if (frame.type === Frame.stdin) {
          if (!channel.write(Buffer.from(frame.payload))) {
            client.pause();
            channel.once("drain", () => client.resume());
          }
        } else if (frame.type === Frame.stdinEnd) channel.end();
        else if (frame.type === Frame.resize && frame.payload.length === 4) {
          const size = new DataView(frame.payload.buffer, frame.payload.byteOffset, 4);
          resizeChannel(channel, size.getUint16(2), size.getUint16(0));
        } else if (frame.type === Frame.signal) {
          const name = Buffer.from(frame.payload).toString("latin1");
          if (!Object.hasOwn(SIGNAL_NUMBERS, name)) throw new RangeError("unknown signal");
          signalChannel(channel, name);
        } else throw new RangeError("a frame of the keeper's from a client");
      }
    } catch {
      client.destroy();
    }
  });
  const leave = () => {
    signalChannel(channel, "HUP");
    channel.close();
  };
  if (client.destroyed) leave();
  else client.once("close", leave);
}

/** The guest's end of it is gone, and the machine may not be: what the guest runs in its place is a guess. */
const brokenOff = () =>
  new ProblemError({
    code: "guest.ssh",
    message: "The guest's ssh service, through which commands run, broke off before it told how the command ended.",
    next: ["Run the command again: it gets a new connection.", "Look at `cloche logs TASK --console`."],
  });

function pump(channel: ClientChannel, client: Socket, output: OutputLog): Promise<ExecResult> {
  return new Promise((resolve, reject) => {
    let result: ExecResult | undefined;
    const forward = (type: typeof Frame.stdout | typeof Frame.stderr, source: NodeJS.ReadableStream) => {
      source.on("data", (chunk: Buffer) => {
        output.append(chunk);
        if (client.destroyed || client.writableEnded) return;
        let room = true;
        for (const frame of framesOf(type, chunk)) room = client.write(frame);
        if (!room) {
          source.pause();
          client.once("drain", () => source.resume());
        }
      });
    };
    forward(Frame.stdout, channel);
    forward(Frame.stderr, channel.stderr);
    const ended = (status: number | null | undefined, signal?: string) => {
      if (result || status === undefined) return;
      const name = (signal ?? "").replace(/^SIG/, "");
      result = status === null ? endedBy(name.slice(0, 16)) : { status };
    };
    channel.on("exit", ended);
    // a paused side that will never be drained again must not hold the close back
    client.once("close", () => {
      channel.resume();
      channel.stderr.resume();
    });
    // a short command's exit can come in the same bytes as the answer to its start, before anybody listens; `close` tells it again
    channel.once("close", (status?: number | null, signal?: string) => {
      ended(status, signal);
      if (result) resolve(result);
      else reject(brokenOff());
    });
  });
}
