/** The hybrid-vsock convention: unix sockets on the host, vsock ports in the guest. See helpers/contract/README.md ("Streams"). */
import { randomInt } from "node:crypto";
import { chmodSync } from "node:fs";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { NoAnswer, readFirstLine } from "../../contract/node/index.ts";

const CONNECT_DEADLINE_MS = 10_000;
/** Connections that a machine's guest has left unanswered, and may still answer: with so many of them it is asked for no more. */
const MAX_UNANSWERED = 16;
const unanswered = new Map<string, number>();

/**
 * How a socket listens at which a guest's streams arrive. The vsock device stands still with all streams of its machine while a listen
 * queue is full, so there is room for what a guest opens while this process is busy; a kernel that allows less takes less.
 */
export const forStreams = (path: string) => ({ path, backlog: 4096 });

/** `n` different ports, chosen anew for each machine: fixed ones have collided on Windows. */
export function choosePorts(n: number): number[] {
  const ports = new Set<number>();
  while (ports.size < n) ports.add(randomInt(10_000, 2 ** 31));
  return [...ports];
}

/** Connects to a port in the guest. Rejects with a plain Error, `NoAnswer` where the guest is silent; the caller words it. */
export async function dialGuest(streams: string, port: number, deadlineMs = CONNECT_DEADLINE_MS): Promise<Socket> {
  if ((unanswered.get(streams) ?? 0) >= MAX_UNANSWERED) throw new NoAnswer(`no answer to the last ${MAX_UNANSWERED} connections`);
  const socket = createConnection(streams);
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    socket.write(`CONNECT ${port}\n`);
    // bytes sent before OK may be dropped by the transport, so nothing follows until it is here
    const answer = await readFirstLine(socket, { maxBytes: 64, deadlineMs });
    if (!/^OK [0-9]+$/.test(answer)) throw new Error(`the transport answered ${JSON.stringify(answer)}`);
    return socket;
  } catch (error) {
    if (error instanceof NoAnswer) endWhenAnswered(streams, socket);
    else socket.destroy();
    throw error;
  }
}

/**
 * Closes a connection that was given up once the guest has answered it, or its machine is gone. Before that the vsock device must not
 * lose it: a guest that goes on and answers a connection that is not there any more gets nothing through on all its others.
 */
function endWhenAnswered(streams: string, socket: Socket): void {
  unanswered.set(streams, (unanswered.get(streams) ?? 0) + 1);
  socket.on("error", () => {}); // its close follows
  socket.once("close", () => {
    const left = (unanswered.get(streams) ?? 1) - 1;
    if (left > 0) unanswered.set(streams, left);
    else unanswered.delete(streams);
  });
  socket.once("data", () => socket.destroy());
}

/** Waits for the guest's first connection to a port and then stops listening: later ones find nobody. */
export class FirstConnection {
  readonly connection: Promise<Socket>;
  readonly #server: Server;

  private constructor(server: Server, connection: Promise<Socket>) {
    this.#server = server;
    this.connection = connection;
  }

  static async listen(path: string): Promise<FirstConnection> {
    const server = createServer({ pauseOnConnect: true });
    server.maxConnections = 1;
    const connection = new Promise<Socket>((resolve) => {
      server.once("connection", (socket) => {
        server.close(); // also removes the socket's file
        resolve(socket);
      });
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(forStreams(path), resolve);
    });
    chmodSync(path, 0o600);
    return new FirstConnection(server, connection);
  }

  close(): void {
    this.#server.close();
  }
}
