/** A client's way to the keeper: find it, start it when it is not there, prove the token, speak. */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createConnection, type Socket } from "node:net";
import { type Client, connectClient } from "../client.ts";
import type { ClientKind } from "../methods.ts";
import { ProblemError } from "../problem.ts";
import { type Endpoint, endpoint, privateDirectory } from "./endpoint.ts";
import { socketTransport } from "./lines.ts";
import { proveAsClient } from "./proof.ts";

/** First line after the proof: what the connection is for. */
export type Opening = { open: "rpc" } | { open: "stream"; ticket: string };

const START_DEADLINE_MS = 20_000;

function dial(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    socket.once("connect", () => resolve(socket.off("error", reject)));
    socket.once("error", reject);
  });
}

/** A proven connection to a running keeper; undefined when none runs. */
async function openConnection(at: Endpoint, opening: Opening): Promise<Socket | undefined> {
  let token: string;
  let socket: Socket;
  try {
    token = readFileSync(at.tokenFile, "utf8").trim();
    socket = await dial(at.socket);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT" || code === "ECONNREFUSED" || code === "ECONNRESET" || code === "EPIPE") return undefined;
    throw error;
  }
  try {
    await proveAsClient(socket, token);
  } catch (error) {
    socket.destroy();
    // A keeper that is just ending hangs up, and one that just started has written a new token: both mean "ask again".
    if (readTokenQuietly(at) !== token || (error as Error).message.includes("hung up")) return undefined;
    throw error;
  }
  socket.on("error", () => {}); // its end is reported by whoever reads it
  socket.write(`${JSON.stringify(opening)}\n`);
  return socket;
}

function readTokenQuietly(at: Endpoint): string | undefined {
  try {
    return readFileSync(at.tokenFile, "utf8").trim();
  } catch {
    return undefined;
  }
}

export interface KeeperProgram {
  /** absolute path of the Node that runs it */
  readonly node: string;
  /** absolute path of the keeper's entry */
  readonly entry: string;
}

/** Connects; starts a keeper first when none answers. */
export async function connectKeeper(kind: ClientKind, program: KeeperProgram, at: Endpoint = endpoint()): Promise<Client> {
  privateDirectory(at.runtime);
  const running = await openConnection(at, { open: "rpc" });
  if (running) return connectClient(socketTransport(running), kind);
  return connectClient(socketTransport(await startKeeper(program, at)), kind);
}

/**
 * Spawns a keeper and waits until one answers. The keeper says `ready` on the pipe, or one Problem as JSON, or `busy` when
 * another one won the race; so the wait is for a fact and not for a time.
 */
async function startKeeper(program: KeeperProgram, at: Endpoint): Promise<Socket> {
  const until = performance.now() + START_DEADLINE_MS;
  let said = "";
  while (performance.now() < until) {
    const child = spawn(program.node, [program.entry], { detached: true, stdio: ["ignore", "pipe", "ignore"], env: process.env });
    said = await firstLine(child.stdout, until - performance.now());
    child.stdout.destroy();
    child.unref();
    if (said.startsWith("{")) throw new ProblemError(JSON.parse(said));
    const socket = await openConnection(at, { open: "rpc" });
    if (socket) return socket;
  }
  throw new ProblemError({
    code: "keeper.unreachable",
    message: "The keeper, which runs the tasks, did not answer within 20 s. Nothing was started.",
    evidence: said === "" ? "the keeper said nothing" : `the keeper said: ${said}`,
    next: ["Run `cloche doctor`.", `Look at ${at.home}/keeper.log.`],
  });
}

function firstLine(stream: NodeJS.ReadableStream, timeoutMs: number): Promise<string> {
  return new Promise((resolve) => {
    let held = "";
    const timer = setTimeout(() => resolve(held), Math.max(1, timeoutMs));
    const done = () => {
      clearTimeout(timer);
      resolve(held.split("\n")[0] ?? "");
    };
    stream.on("data", (chunk: Buffer) => {
      held += chunk.toString("utf8");
      if (held.includes("\n")) done();
    });
    stream.on("end", done);
    stream.on("error", done);
  });
}

/** The byte stream that a ticket stands for. */
export async function openStream(ticket: string, at: Endpoint = endpoint()): Promise<Socket> {
  const socket = await openConnection(at, { open: "stream", ticket });
  if (socket) return socket;
  throw new ProblemError({
    code: "keeper.lost",
    message: "The keeper ended before the command's stream was opened.",
    next: ["Run `cloche ls` to see what is there."],
  });
}
