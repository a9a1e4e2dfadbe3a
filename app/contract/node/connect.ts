/** A client's way to the keeper: find it, start it when it is not there, prove the token, speak. */
import { readFileSync } from "node:fs";
import { createConnection, type Socket } from "node:net";
import { type Client, connectClient } from "../client.ts";
import type { ClientKind } from "../methods.ts";
import { ProblemError } from "../problem.ts";
import { runtimeDirectory } from "./endpoint.ts";
import { socketTransport } from "./lines.ts";
import { type Endpoint, endpoint } from "./place.ts";
import { proveAsClient } from "./proof.ts";
import { type KeeperProgram, type Spawned, spawnKeeper } from "./spawn.ts";

/** First line after the proof: what the connection is for. */
export type Opening = { open: "rpc" } | { open: "stream"; ticket: string };

const START_DEADLINE_MS = 20_000;
const BUSY_PAUSE_MS = 25;

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

/** Connects; starts a keeper first when none answers. `begun` is one that was spawned already (spawn.ts). */
export async function connectKeeper(
  kind: ClientKind,
  program: KeeperProgram,
  at: Endpoint = endpoint(),
  begun?: Promise<Spawned>,
): Promise<Client> {
  runtimeDirectory(at);
  const running = begun ? undefined : await openConnection(at, { open: "rpc" });
  if (running) return connectClient(socketTransport(running), kind);
  return connectClient(socketTransport(await startKeeper(program, at, begun)), kind);
}

/**
 * Spawns a keeper and waits until one answers. The keeper says `ready` on the pipe, or one Problem as JSON, or `busy` when
 * another one won the race; so the wait is for a fact and not for a time.
 */
async function startKeeper(program: KeeperProgram, at: Endpoint, begun: Promise<Spawned> | undefined): Promise<Socket> {
  const until = performance.now() + START_DEADLINE_MS;
  for (let first = begun; performance.now() < until; first = undefined) {
    const said = saidBy(await (first ?? spawnKeeper(program, until - performance.now())));
    if (said.startsWith("{")) throw new ProblemError(JSON.parse(said));
    const socket = await openConnection(at, { open: "rpc" });
    if (socket) return socket;
    await new Promise((resolve) => setTimeout(resolve, BUSY_PAUSE_MS)); // another one is starting or ending
  }
  throw unreachable(at, "did not answer within 20 s", "");
}

const unreachable = (at: Endpoint, what: string, evidence: string) =>
  new ProblemError({
    code: "keeper.unreachable",
    message: `The keeper, which runs the tasks, ${what}. Nothing was started.`,
    ...(evidence === "" ? {} : { evidence }),
    next: [`Look at ${at.home}/keeper.log.`, "Run `npm start` to build what may be missing."],
  });

/** The line that a keeper said, as it was spawned by `spawnKeeper`; throws when it ended without a word. */
function saidBy(spawned: Spawned): string {
  if (spawned.at === "said") return spawned.line;
  throw unreachable(endpoint(), spawned.what, spawned.evidence);
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
