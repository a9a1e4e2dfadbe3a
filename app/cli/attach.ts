/** Joins this process's standard streams to a command in a guest. */
import type { Socket } from "node:net";
import { type Client, encodeFrame, Frame, FrameDecoder, framesOf, type Problem, ProblemError, problemSchema } from "../contract/index.ts";
import { openStream } from "../contract/node/index.ts";

/** What the command's signal may take to leave, when our own output is gone. */
const BROKEN_GRACE_MS = 500;

export interface AttachOptions {
  readonly task: string;
  /** absent: the login shell */
  readonly command?: readonly Uint8Array[];
  readonly env: Readonly<Record<string, string>>;
  readonly terminal: boolean;
  readonly timeoutMs?: number;
  /** told of the running command, so that signals can reach it; undefined when it is over */
  readonly onCommand?: (command: RunningCommand | undefined) => void;
}

export interface RunningCommand {
  signal(name: string): void;
  /** leaves the command's stream; the keeper then ends the command, as nobody could read it any more */
  leave(): void;
  /**
   * Nothing of the command's is written and nothing typed goes to it, from the beginning of a line until the returned function is
   * called: the terminal is ours meanwhile.
   */
  hold(): () => void;
}

export interface Ended {
  readonly status: number;
  readonly signal?: string;
}

/** Runs the command to its end. Throws a ProblemError when there is no status to tell of. */
export async function attach(client: Client, options: AttachOptions): Promise<Ended> {
  const size = () => ({ columns: process.stdout.columns || 80, rows: process.stdout.rows || 24 });
  const { ticket } = await client.call("tasks.exec", {
    task: options.task,
    env: { ...options.env },
    ...(options.command ? { command: options.command.map((argument) => Buffer.from(argument).toString("base64")) } : {}),
    ...(options.terminal ? { terminal: { ...size(), term: terminalName() } } : {}),
    ...(options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }),
  });
  const stream = await openStream(ticket);
  const resize = () => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt16BE(size().columns, 0);
    bytes.writeUInt16BE(size().rows, 2);
    stream.write(encodeFrame(Frame.resize, bytes));
  };
  const raw = options.terminal && process.stdin.isTTY;
  if (raw) process.stdin.setRawMode(true);
  if (options.terminal) process.stdout.on("resize", resize);
  const gate = new Gate();
  const stopInput = forwardInput(stream, gate);
  options.onCommand?.({
    signal: (name) => stream.write(encodeFrame(Frame.signal, Buffer.from(name))),
    leave: () => stream.destroy(),
    hold: () => gate.hold(stream),
  });
  try {
    return await serveOutput(stream, gate);
  } finally {
    options.onCommand?.(undefined);
    stopInput();
    process.stdout.off("resize", resize);
    if (raw) process.stdin.setRawMode(false);
    stream.destroy();
  }
}

const terminalName = () => (/^[A-Za-z0-9._+-]{1,64}$/.test(process.env.TERM ?? "") ? (process.env.TERM ?? "xterm") : "xterm");

/** Who may read and write the terminal: the command, or we between its lines. */
class Gate {
  held = false;
  /** the last byte written ended a line */
  atLineStart = true;
  inputEnded = false;

  hold(stream: Socket): () => void {
    this.held = true;
    stream.pause();
    process.stdin.pause();
    if (!this.atLineStart) process.stderr.write("\n");
    this.atLineStart = true;
    return () => {
      this.held = false;
      stream.resume();
      if (!this.inputEnded) process.stdin.resume();
    };
  }
}

function forwardInput(stream: Socket, gate: Gate): () => void {
  const onData = (chunk: Buffer) => {
    let room = true;
    for (const frame of framesOf(Frame.stdin, chunk)) room = stream.write(frame);
    if (!room) {
      process.stdin.pause();
      stream.once("drain", () => {
        if (!gate.held) process.stdin.resume();
      });
    }
  };
  const onEnd = () => {
    gate.inputEnded = true;
    stream.write(encodeFrame(Frame.stdinEnd));
  };
  process.stdin.on("data", onData).once("end", onEnd).once("error", onEnd);
  return () => {
    gate.inputEnded = true;
    process.stdin.off("data", onData).off("end", onEnd).off("error", onEnd);
    process.stdin.pause();
    process.stdin.unref?.();
  };
}

/** Writes what the command writes, at the pace at which it is taken, until its end. */
function serveOutput(stream: Socket, gate: Gate): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const decoder = new FrameDecoder();
    let outcome: { ended: Ended } | { problem: Problem } | undefined;
    const finish = () => {
      if (!outcome) {
        return reject(
          new ProblemError({
            code: "keeper.lost",
            message:
              "The connection to the keeper ended while the command ran. Machines end with the keeper; files in your folders are as the task last wrote them.",
            next: ["Run `cloche ls` to see what is there."],
          }),
        );
      }
      if ("problem" in outcome) return reject(new ProblemError(outcome.problem));
      resolve(outcome.ended);
    };
    const onBroken = () => {
      // whoever read our output is gone (`| head`): the command is told as a shell would tell it
      outcome = { ended: { status: 141, signal: "PIPE" } };
      stream.end(encodeFrame(Frame.signal, Buffer.from("PIPE")), () => stream.destroy());
      setTimeout(() => stream.destroy(), BROKEN_GRACE_MS); // input that the command does not take may stand before it
    };
    process.stdout.once("error", onBroken);
    stream.on("data", (chunk: Buffer) => {
      for (const { type, payload } of decoder.push(chunk)) {
        if (type === Frame.stdout || type === Frame.stderr) {
          const target = type === Frame.stdout ? process.stdout : process.stderr;
          if (payload.length > 0) gate.atLineStart = payload.at(-1) === 0x0a;
          if (!target.write(payload)) {
            stream.pause();
            target.once("drain", () => {
              if (!gate.held) stream.resume();
            });
          }
        } else if (type === Frame.exit) {
          const bytes = Buffer.from(payload);
          const signal = bytes.toString("latin1", 4);
          outcome = { ended: { status: bytes.readUInt32BE(0), ...(signal === "" ? {} : { signal }) } };
        } else if (type === Frame.problem) outcome = { problem: problemSchema.parse(JSON.parse(Buffer.from(payload).toString("utf8"))) };
      }
    });
    stream.once("close", () => {
      process.stdout.off("error", onBroken);
      finish();
    });
    // the keeper has said all; input that the command did not take goes nowhere any more
    stream.once("end", () => stream.destroy());
  });
}
