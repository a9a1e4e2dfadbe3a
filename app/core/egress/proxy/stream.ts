/**
 * A guest's stream, from its first line on: what it names, what its bytes are, and which of the ways below it takes. TLS is ended here
 * whatever the host is, so that a program whose request is refused gets an answer it can read and not a broken connection.
 */
import { createServer, type IncomingMessage, METHODS, type Server, type ServerResponse } from "node:http";
import { performServerHandshake } from "node:http2";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { TLSSocket } from "node:tls";
import { hostAndPort, parseHost } from "../policy/index.ts";
import type { Leaves } from "./certificates.ts";
import { Http1Exchange, Http2Exchange } from "./exchange.ts";
import { type Connection, handle, type Task } from "./http.ts";
import {
  FIRST_BYTE_MS,
  FIRST_LINE_MS,
  HANDSHAKE_MS,
  HEAD_MS,
  HTTP2_NARROW_WINDOW,
  HTTP2_WINDOW,
  KEEP_ALIVE_MS,
  MAX_FIRST_LINE,
  MAX_HEAD,
  MAX_HEADERS,
  MAX_HTTP2_STREAMS,
  MAX_PIPELINED,
  MAX_STREAMS,
  MAX_WIDE_HTTP2,
} from "./limits.ts";
import { opaqueRequest, passOn } from "./opaque.ts";
import { NotRecorded } from "./record.ts";
import { handleUpgrade } from "./upgrade.ts";

type Named = { readonly host: string; readonly port: number };

/** CONNECT is for proxies, and PRI begins HTTP/2 without TLS. */
const PLAIN_METHODS = new Set(METHODS.filter((method) => method !== "CONNECT"));
const LONGEST_METHOD = Math.max(...METHODS.map(({ length }) => length));
const TLS_HANDSHAKE = 0x16;

/** What the first line of a stream says; nothing where it is none. */
export function parseFirstLine(line: string): { proxy: true } | Named | undefined {
  if (line === "proxy") return { proxy: true };
  const [, text = "", digits = ""] = /^connect ([^ ]{1,253}) ([1-9][0-9]{0,4})$/.exec(line) ?? [];
  const host = parseHost(text.includes(":") && !text.startsWith("[") ? `[${text}]` : text);
  const port = Number(digits);
  return host && port <= 65_535 ? { host: host.host, port } : undefined;
}

/** A stream on which the head of a request is waited for, while none is under way. */
interface Awaited {
  underWay: number;
  late: NodeJS.Timeout;
  /** the first one has come */
  begun: boolean;
}

export class Streams {
  readonly #task: Task;
  readonly #leaves: Leaves;
  readonly #http: Server;
  readonly #connections = new WeakMap<Duplex, Connection>();
  readonly #awaited = new WeakMap<Duplex, Awaited>();
  readonly #open = new Set<Socket>();
  /** HTTP/2 connections with a wide window */
  #wide = 0;
  /** requests since the process began */
  requests = 0;

  constructor(task: Task, leaves: Leaves) {
    this.#task = task;
    this.#leaves = leaves;
    this.#http = this.#serveHttp1();
  }

  get open(): number {
    return this.#open.size;
  }

  /** Takes a stream of which nothing was read. */
  take(stream: Socket): void {
    stream.on("error", () => stream.destroy());
    if (this.#open.size >= MAX_STREAMS) return void stream.destroy();
    this.#open.add(stream);
    stream.once("close", () => this.#open.delete(stream));
    this.#begin(stream).catch(() => stream.destroy());
  }

  async #begin(stream: Socket): Promise<void> {
    const line = await peek(stream, MAX_FIRST_LINE, FIRST_LINE_MS, (bytes) => bytes.indexOf(0x0a) + 1);
    if (!line) return void stream.destroy();
    const first = parseFirstLine(line.toString("latin1", 0, line.length - 1));
    if (!first) return void stream.destroy();
    if ("proxy" in first) return this.#speakHttp1(stream, { scheme: "http" });
    await this.#connected(stream, first);
  }

  /** The rest of a stream that goes to a host: also what is inside of a CONNECT. */
  async #connected(stream: Duplex, named: Named): Promise<void> {
    if (await passOn(this.#task, named, stream)) return;
    const kind = await this.#sniff(stream);
    if (kind === "tls") return this.#endTls(stream as Socket, named);
    if (kind === "http") return this.#speakHttp1(stream, { scheme: "http", named });
    const request = opaqueRequest(named);
    const verdict = this.#task.gate.decide(request);
    const what = kind === "silent" ? "The client waits for the server to speak first" : "The connection is neither TLS nor HTTP";
    const reason = `${what}, so nothing in it can be decided: it passes only by a rule for opaque connections.`;
    if (kind !== "gone") await this.#task.gate.opaqueRefused(request, verdict, reason).catch(swallowUnrecorded);
    stream.destroy();
  }

  async #sniff(stream: Duplex): Promise<"tls" | "http" | "silent" | "other" | "gone"> {
    const enough = (bytes: Buffer) => {
      if (bytes[0] === TLS_HANDSHAKE) return 1;
      const space = bytes.indexOf(0x20);
      if (space >= 0) return space + 1;
      return bytes.length > LONGEST_METHOD || !/^[A-Z-]*$/.test(bytes.toString("latin1")) ? bytes.length : 0;
    };
    const bytes = await peek(stream, LONGEST_METHOD + 1, FIRST_BYTE_MS, enough);
    if (!bytes) return stream.destroyed || stream.readableEnded ? "gone" : "silent";
    stream.unshift(bytes);
    if (bytes[0] === TLS_HANDSHAKE) return "tls";
    return bytes.at(-1) === 0x20 && PLAIN_METHODS.has(bytes.toString("latin1", 0, bytes.length - 1)) ? "http" : "other";
  }

  async #endTls(stream: Socket, named: Named): Promise<void> {
    const ready = await this.#leaves.for(named.host);
    if (stream.destroyed) return;
    const tls = new TLSSocket(stream, {
      isServer: true,
      secureContext: ready,
      ALPNProtocols: ["h2", "http/1.1"],
      // a client that asks for another name than it connected to gets a leaf for what it asked for, and each of its requests a 421
      SNICallback: (servername, done) => {
        const host = parseHost(servername);
        if (host?.kind !== "name") return done(new Error("no such name"));
        if (host.host === named.host) return done(null, ready);
        this.#leaves.for(host.host).then(
          (context) => done(null, context),
          (error: Error) => done(error),
        );
      },
    });
    const late = setTimeout(() => tls.destroy(), HANDSHAKE_MS);
    tls.on("error", () => tls.destroy());
    tls.once("close", () => {
      clearTimeout(late);
      stream.destroy();
    });
    tls.once("secure", () => {
      clearTimeout(late);
      const servername = typeof tls.servername === "string" ? tls.servername.toLowerCase() : undefined;
      const connection: Connection = { scheme: "https", named, servername };
      // Node says so itself only where it made the socket: HTTP/2 would wait for ever
      Object.assign(tls, { secureConnecting: false });
      if (tls.alpnProtocol === "h2") this.#speakHttp2(tls, connection);
      else this.#speakHttp1(tls, connection);
    });
  }

  #speakHttp1(stream: Duplex, connection: Connection): void {
    this.#connections.set(stream, connection);
    this.#awaited.set(stream, { underWay: 0, begun: false, late: setTimeout(() => stream.destroy(), HEAD_MS) });
    stream.once("close", () => clearTimeout(this.#awaited.get(stream)?.late));
    this.#http.emit("connection", stream);
  }

  /** A request's head is there, or what takes the stream over is; answers with what to call when it is over, unless it is one too many. */
  #arrived(stream: Duplex): (() => void) | undefined {
    const awaited = this.#awaited.get(stream);
    if (!awaited || stream.destroyed) return;
    if (++awaited.underWay > MAX_PIPELINED) return void stream.destroy();
    if (!awaited.begun) {
      clearTimeout(awaited.late);
      awaited.begun = true;
      // one for all the requests that follow, each of which has it begin anew with its end
      awaited.late = setTimeout(() => awaited.underWay === 0 && stream.destroy(), KEEP_ALIVE_MS);
    }
    return () => {
      if (--awaited.underWay === 0 && !stream.destroyed) awaited.late.refresh();
    };
  }

  #speakHttp2(tls: TLSSocket, connection: Connection): void {
    const wide = this.#wide < MAX_WIDE_HTTP2;
    const initialWindowSize = wide ? HTTP2_WINDOW : HTTP2_NARROW_WINDOW;
    const session = performServerHandshake(tls, {
      settings: { maxConcurrentStreams: MAX_HTTP2_STREAMS, initialWindowSize, maxHeaderListSize: MAX_HEAD },
      maxHeaderListPairs: MAX_HEADERS,
      maxSessionMemory: 64,
    });
    if (wide) {
      this.#wide++;
      session.once("close", () => this.#wide--);
      session.setLocalWindowSize(4 * HTTP2_WINDOW);
    }
    session.on("error", () => tls.destroy());
    session.setTimeout(KEEP_ALIVE_MS, () => session.close());
    session.on("stream", (stream, _headers, _flags, rawHeaders: unknown) => {
      this.requests++;
      void handle(this.#task, connection, new Http2Exchange(stream, rawHeaders as string[]));
    });
  }

  #serveHttp1(): Server {
    const server = createServer({
      maxHeaderSize: MAX_HEAD,
      // Node's own deadlines are of servers that listen: here they would end nothing
      headersTimeout: 0,
      requestTimeout: 0,
      keepAliveTimeout: 0,
      // one without a length and a coding has no body, and none is read
      optimizeEmptyRequests: true,
      insecureHTTPParser: false,
      requireHostHeader: false, // said in our words
      // the offer to go on in HTTP/2 without TLS is one that a server may leave, as every proxy does
      shouldUpgradeCallback: (request) => request.headers.upgrade?.toLowerCase() !== "h2c",
    });
    server.maxHeadersCount = 0; // bounded by size; beyond a count Node would drop them silently
    const answer = (request: IncomingMessage, response: ServerResponse, waits: boolean) => {
      this.requests++;
      const over = this.#arrived(request.socket);
      if (!over) return;
      response.on("close", over);
      void handle(this.#task, this.#connectionOf(request), new Http1Exchange(request, response, waits));
    };
    server.on("request", (request, response) => answer(request, response, false));
    server.on("checkContinue", (request, response) => answer(request, response, true));
    server.on("checkExpectation", (_request, response) => response.writeHead(417).end());
    server.on("upgrade", (request, socket, head) => {
      this.requests++;
      this.#arrived(socket);
      void handleUpgrade(this.#task, this.#connectionOf(request), request, socket, head);
    });
    server.on("connect", (request, socket, head) => this.#connect(request, socket, head));
    server.on("clientError", (error: NodeJS.ErrnoException, socket) => {
      const connection = this.#connections.get(socket);
      if (error.code?.startsWith("HPE_") && connection) this.#recordUnreadable(connection, error.code);
      if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
      else socket.destroy();
    });
    return server;
  }

  #recordUnreadable({ scheme, named }: Connection, code: string): void {
    const request = { scheme, host: named?.host ?? "unreadable", port: named?.port ?? 80, method: "", path: "", upgrade: false };
    this.#task.gate.refused(request, "form", `What the client sent is not HTTP as it has to be (${code}).`).catch(swallowUnrecorded);
  }

  #connectionOf(request: IncomingMessage): Connection {
    const connection = this.#connections.get(request.socket);
    if (!connection) throw new Error("a request of no stream");
    return connection;
  }

  /** To an explicit proxy. What is inside is decided as on any stream, so the tunnel itself is never refused for its host. */
  #connect(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on("error", () => socket.destroy());
    const named = hostAndPort(request.url ?? "", 0);
    if (this.#connectionOf(request).named !== undefined || !named || named.port === 0) {
      return void socket.end("HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    }
    this.#arrived(socket);
    socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
    if (head.length > 0) socket.unshift(head);
    this.#connected(socket, named).catch(() => socket.destroy());
  }
}

/** The keeper cannot write it down: the stream ends in either case, and nothing left. */
function swallowUnrecorded(error: unknown): void {
  if (!(error instanceof NotRecorded)) throw error;
}

/**
 * The first bytes of a stream, up to where `enough` says they end; what follows stays in it. Nothing when they do not come in time, or
 * are more than `most`, or the stream ends.
 * @param enough how many bytes belong to it, 0 while that cannot be told
 */
function peek(stream: Duplex, most: number, ms: number, enough: (bytes: Buffer) => number): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    let held: Buffer = Buffer.alloc(0);
    const done = (result?: Buffer) => {
      clearTimeout(timer);
      stream.off("readable", onReadable).off("end", onEnd).off("close", onEnd);
      resolve(result);
    };
    const onReadable = () => {
      for (let chunk = stream.read() as Buffer | null; chunk !== null; chunk = stream.read() as Buffer | null) {
        held = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
        const length = enough(held.subarray(0, most));
        if (length > 0) {
          if (held.length > length) stream.unshift(held.subarray(length));
          return done(held.subarray(0, length));
        }
        if (held.length >= most) return done();
      }
    };
    const onEnd = () => done();
    const timer = setTimeout(onEnd, ms);
    stream.on("readable", onReadable).on("end", onEnd).on("close", onEnd);
    onReadable();
  });
}
