/**
 * The loopback web host: serves the built page, trades its one-time token for a session, and relays WebSockets to the keeper.
 * Host and Origin are checked before a request is looked at; what is not expected is refused without saying more.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import type { z } from "zod";
import {
  CATALOGUE,
  type Client,
  FRAME_HEADER_BYTES,
  MAX_FRAME_PAYLOAD,
  MAX_LINE_BYTES,
  ProblemError,
  sessionCheck,
  sessionRequest,
  WEB_SUBPROTOCOL,
  WebClose,
} from "../contract/index.ts";
import type { Dialogs } from "./dialogs.ts";
import type { StaticFile } from "./files.ts";
import { securityHeaders } from "./headers.ts";
import { relayRpc } from "./rpc.ts";
import { Session } from "./session.ts";
import { relayStream } from "./stream.ts";

/** Pages at once; each holds a keeper connection. */
const MAX_PAGES = 16;
/** Terminals at once over all pages. */
const MAX_STREAMS = 64;
const MAX_CONNECTIONS = 256;
const MAX_SESSION_REQUEST_BYTES = 1024;
/** A page that does not answer two pings in a row is gone. */
const PING_MS = 20_000;
/** The keeper's own limit for a ticket, and as many as one page could sensibly hold. */
const TICKET_MS = 10_000;
const MAX_TICKETS = 256;

export interface WebHostOptions {
  readonly port: number;
  readonly page: ReadonlyMap<string, StaticFile>;
  readonly dialogs: Dialogs;
  readonly connectKeeper: () => Promise<Client>;
  readonly openStream: (ticket: string) => Promise<Socket>;
}

export interface WebHost {
  readonly port: number;
  /** A new address with a new one-time token; the one before stops working. */
  address(): string;
  close(): Promise<void>;
}

export async function startWebHost(options: WebHostOptions): Promise<WebHost> {
  const server = createServer({ maxHeaderSize: 8192, headersTimeout: 10_000, requestTimeout: 10_000 });
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => reject(portProblem(options.port, error) ?? error));
    server.listen({ host: "127.0.0.1", port: options.port, exclusive: true }, resolve);
  });
  const { port } = server.address() as AddressInfo;
  const session = new Session(port);
  serveHttp(server, session, options.page);
  const sockets = serveSockets(server, session, options);
  return {
    port,
    address: () => session.address(),
    async close() {
      sockets.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const PORT_REFUSALS: Readonly<Record<string, string>> = {
  EADDRINUSE: "is taken by another program",
  EACCES: "is not yours to open: most systems keep those below 1024 for root",
};

function portProblem(port: number, { code = "" }: NodeJS.ErrnoException): ProblemError | undefined {
  const why = PORT_REFUSALS[code];
  if (why === undefined) return undefined;
  return new ProblemError({
    code: "web.port",
    message: `Port ${port} ${why}. The web host was not started.`,
    next: ["Leave `--port` out: a free port is picked."],
  });
}

function serveHttp(server: Server, session: Session, page: ReadonlyMap<string, StaticFile>): void {
  const headers = securityHeaders(session.origin);
  const answer = (response: ServerResponse, status: number, type: string, body: string | Buffer, more: Record<string, string> = {}) => {
    response.writeHead(status, { ...headers, ...more, "Content-Type": type, "Content-Length": Buffer.byteLength(body) }).end(body);
  };
  const refuse = (response: ServerResponse, status: number, why: string) =>
    answer(response, status, "text/plain; charset=utf-8", `${why}\n`, { Connection: "close" });

  server.on("request", async (request: IncomingMessage, response: ServerResponse) => {
    if (session.checkHost(request)) return refuse(response, 403, CATALOGUE["web.forbidden"]);
    if (request.method === "GET") {
      const file = page.get(request.url ?? "");
      return file ? answer(response, 200, file.type, file.body) : refuse(response, 404, "nothing here");
    }
    const { url } = request;
    if (request.method !== "POST" || (url !== "/session" && url !== "/session/check"))
      return refuse(response, 405, "not a request of the page");
    if (session.checkOrigin(request)) return refuse(response, 403, CATALOGUE["web.forbidden"]);
    const body = await readBody(request);
    if (body === undefined) return refuse(response, 413, "too long");
    if (url === "/session/check") {
      const refused = session.checkKey(request, fieldOf(sessionCheck, body, "key"));
      return refused ? refuse(response, 403, CATALOGUE["web.forbidden"]) : void response.writeHead(204, headers).end();
    }
    const granted = session.exchange(fieldOf(sessionRequest, body, "token"));
    if (!granted) return refuse(response, 403, CATALOGUE["web.forbidden"]);
    answer(response, 200, "application/json", JSON.stringify({ key: granted.key }), { "Set-Cookie": granted.setCookie });
  });
}

function fieldOf<F extends string>(schema: z.ZodType<Record<F, string>>, body: string, field: F): string {
  try {
    return schema.parse(JSON.parse(body))[field];
  } catch {
    return "";
  }
}

async function readBody(request: IncomingMessage): Promise<string | undefined> {
  let body = "";
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      body += chunk.toString("latin1");
      if (body.length > MAX_SESSION_REQUEST_BYTES) return undefined;
    }
  } catch {
    return undefined; // it went away in the middle
  }
  return body;
}

function serveSockets(server: Server, session: Session, options: WebHostOptions): { close(): void } {
  const selected = { noServer: true, perMessageDeflate: false, handleProtocols: () => WEB_SUBPROTOCOL };
  const pages = new WebSocketServer({ ...selected, maxPayload: MAX_LINE_BYTES });
  const streams = new WebSocketServer({ ...selected, maxPayload: FRAME_HEADER_BYTES + MAX_FRAME_PAYLOAD });
  /** Tickets that a page of this host was given, with when they end. Only these open a stream, once. */
  const tickets = new Map<string, number>();

  const onTicket = (ticket: string) => {
    const now = performance.now();
    for (const [old, until] of tickets) if (until < now || tickets.size >= MAX_TICKETS) tickets.delete(old);
    tickets.set(ticket, now + TICKET_MS);
  };
  const takeTicket = (url: string) => {
    const ticket = /^\/stream\/([0-9a-f]{32})$/.exec(url)?.[1] ?? "";
    const until = tickets.get(ticket);
    tickets.delete(ticket);
    return until !== undefined && until > performance.now() ? ticket : undefined;
  };

  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on("error", () => socket.destroy());
    const refuse = (status: string) => socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
    if (session.checkSocket(request)) return refuse("403 Forbidden");
    if (request.url === "/rpc") {
      return pages.handleUpgrade(request, socket, head, (page) => {
        if (pages.clients.size > MAX_PAGES) return page.close(WebClose.busy, "too many pages are open");
        watch(page);
        relayRpc({ socket: page, connect: options.connectKeeper, dialogs: options.dialogs, onTicket });
      });
    }
    const ticket = takeTicket(request.url ?? "");
    if (ticket === undefined) return refuse("404 Not Found");
    streams.handleUpgrade(request, socket, head, (stream) => {
      if (streams.clients.size > MAX_STREAMS) return stream.close(WebClose.busy, "too many terminals are open");
      watch(stream);
      void relayStream(stream, () => options.openStream(ticket));
    });
  });

  const alive = new WeakSet<WebSocket>();
  const watch = (socket: WebSocket) => {
    alive.add(socket);
    socket.on("pong", () => alive.add(socket));
    socket.on("error", () => socket.terminate()); // an oversized or broken message; the close that follows is what counts
  };
  const pings = setInterval(() => {
    for (const socket of [...pages.clients, ...streams.clients]) {
      if (!alive.delete(socket)) socket.terminate();
      else socket.ping();
    }
  }, PING_MS);
  pings.unref();

  return {
    close() {
      clearInterval(pings);
      for (const socket of [...pages.clients, ...streams.clients]) socket.terminate();
    },
  };
}
