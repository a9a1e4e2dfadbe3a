/** The other side of `internet.ts`: origins and a DNS server in the outer namespace, told what to be over IPC, with logs of what arrived. */
import { createHash } from "node:crypto";
import { createSocket } from "node:dgram";
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createSecureServer, type Http2ServerRequest, type Http2ServerResponse } from "node:http2";
import { createServer as createHttpsServer } from "node:https";
import { connect, createServer as createTcpServer, isIPv4, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import { WebSocketServer } from "ws";

export interface SeenRequest {
  /** the origin's first name */
  readonly origin: string;
  readonly scheme: "http" | "https";
  readonly version: string;
  /** the name that TLS was asked for */
  readonly servername?: string;
  readonly method: string;
  readonly target: string;
  /** names and values as they came */
  readonly rawHeaders: string[];
  bodyBytes: number;
  bodySha256?: string;
  /** its first 64 KiB, as latin1 */
  body: string;
  trailers: string[];
  /** the whole request was received */
  whole: boolean;
}
export interface SeenConnection {
  readonly address: string;
  readonly port: number;
  /** first bytes, where the port is no origin's */
  first?: string;
  /** all that came by now, below TLS, where an origin keeps that */
  bytes?: string;
}
export interface SeenQuery {
  readonly name: string;
  readonly type: string;
}
export interface Seen {
  readonly requests: SeenRequest[];
  readonly connections: SeenConnection[];
  readonly queries: SeenQuery[];
}

type Request = IncomingMessage | Http2ServerRequest;
type Response = ServerResponse | Http2ServerResponse;
/** Answers a request; the log's entry grows while the body arrives. */
export type OriginHandler = (request: Request, response: Response, seen: SeenRequest) => void;

export interface OriginSpec {
  name: string;
  address: string;
  key: string;
  certificate: string;
  protocols: ("h2" | "http/1.1")[];
  tlsPort: number;
  plainPort: number;
  handler?: string;
  keepsBytes?: true;
}
type Answers = string[] | string[][] | "silent" | "broken";
export type ToOutside =
  | { what: "dns"; address: string }
  | { what: "origin"; spec: OriginSpec }
  | { what: "port"; address: string; port: number; behaviour: "silent" | "reset" | "echo" | "banner" | "proxy" }
  | { what: "names"; table: Record<string, Answers> }
  | { what: "seen" }
  | { what: "forget" };

const KEPT_BODY = 65_536;
let seen: Seen = { requests: [], connections: [], queries: [] };
const names = new Map<string, { answers: Answers; turn: number }>();

async function obey(message: ToOutside): Promise<void> {
  switch (message.what) {
    case "dns":
      return serveDns(message.address);
    case "origin":
      return serveOrigin(message.spec);
    case "port":
      return servePort(message.address, message.port, message.behaviour);
    case "names":
      for (const [name, answers] of Object.entries(message.table)) names.set(name, { answers, turn: 0 });
      return;
    case "seen":
      return;
    case "forget":
      seen = { requests: [], connections: [], queries: [] };
  }
}

async function serveOrigin(spec: OriginSpec): Promise<void> {
  const handler = spec.handler ? ((await import(spec.handler)) as { default: OriginHandler }).default : answerByPath;
  const take = (request: Request, response: Response) => {
    const socket = ("stream" in request && request.stream?.session ? request.stream.session.socket : request.socket) as Partial<TLSSocket>;
    const servername = socket.encrypted ? (socket.servername as string | false | undefined) : undefined;
    const entry: SeenRequest = {
      origin: spec.name,
      scheme: socket.encrypted ? "https" : "http",
      version: request.httpVersion,
      ...(servername ? { servername } : {}),
      method: request.method ?? "",
      target: request.url ?? "",
      rawHeaders: request.rawHeaders,
      bodyBytes: 0,
      body: "",
      trailers: [],
      whole: false,
    };
    seen.requests.push(entry);
    const hash = createHash("sha256");
    request.on("data", (chunk: Buffer) => {
      if (entry.bodyBytes < KEPT_BODY) entry.body += chunk.subarray(0, KEPT_BODY - entry.bodyBytes).toString("latin1");
      entry.bodyBytes += chunk.length;
      hash.update(chunk);
    });
    let brokenOff = false;
    request.on("aborted", () => {
      brokenOff = true;
    });
    request.on("end", () => {
      entry.bodySha256 = hash.digest("hex");
      entry.trailers = request.rawTrailers;
      // of a stream of HTTP/2 that was reset Node says that it ended, too
      entry.whole = !brokenOff;
    });
    request.on("error", () => {});
    response.on("error", () => {});
    handler(request, response, entry);
  };
  const large = { maxHeaderSize: 65_536 };
  const identity = { key: spec.key, cert: spec.certificate, ...large };
  const tls = spec.protocols.includes("h2")
    ? createSecureServer({ ...identity, allowHTTP1: spec.protocols.includes("http/1.1") }, take)
    : createHttpsServer(identity, take);
  const plain = createHttpServer(large, take);
  const webSockets = new WebSocketServer({ noServer: true });
  const upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const encrypted = Boolean((socket as Partial<TLSSocket>).encrypted);
    seen.requests.push({
      origin: spec.name,
      scheme: encrypted ? "https" : "http",
      version: request.httpVersion,
      method: request.method ?? "",
      target: request.url ?? "",
      rawHeaders: request.rawHeaders,
      bodyBytes: 0,
      body: "",
      trailers: [],
      whole: true,
    });
    if (request.url?.startsWith("/no-upgrade")) {
      socket.end("HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno");
      return;
    }
    webSockets.handleUpgrade(request, socket, head, (client) => {
      client.on("message", (data, isBinary) => client.send(data, { binary: isBinary }));
      client.on("error", () => {});
    });
  };
  // one that knows of no other protocol answers such requests as any
  if (!spec.keepsBytes) {
    tls.on("upgrade", upgrade);
    plain.on("upgrade", upgrade);
  }
  for (const server of [tls, plain]) {
    server.on("connection", (socket: Socket) => seen.connections.push({ address: spec.address, port: socket.localPort ?? 0 }));
    if (spec.keepsBytes) server.on(server === tls ? "secureConnection" : "connection", (socket: Socket) => keepBytes(spec.address, socket));
    server.on("tlsClientError", () => {});
    server.on("clientError", (_error: Error, socket: Duplex) => socket.destroy());
    server.on("sessionError", () => {});
  }
  await new Promise<void>((resolve, reject) => tls.once("error", reject).listen(spec.tlsPort, spec.address, resolve));
  await new Promise<void>((resolve, reject) => plain.once("error", reject).listen(spec.plainPort, spec.address, resolve));
}

/** What a connection brings is of the log that is kept at that moment. */
function keepBytes(address: string, socket: Socket): void {
  let entry: SeenConnection = { address, port: socket.localPort ?? 0 };
  socket.on("data", (chunk: Buffer) => {
    if (!seen.connections.includes(entry)) {
      entry = { address, port: entry.port, bytes: "" };
      seen.connections.push(entry);
    }
    entry.bytes += chunk.toString("latin1");
  });
}

/**
 * What an origin without a handler answers:
 * `/status/N`, `/redirect?to=URL`, `/bytes/N` (zeros), `/events` (five server-sent events), `/hang`, `/endless` (begins, without a length), `/reset` (after the response's
 * head), `/respond/BASE64URL` of {status, headers: [[name, value]], body, trailers?}; everything else: what it was sent, as JSON, once it has all of it.
 */
function answerByPath(request: Request, response: Response, entry: SeenRequest): void {
  const reply = response as ServerResponse;
  const url = new URL(entry.target, "http://origin");
  const [, verb = "", rest = ""] = url.pathname.split("/");
  if (verb === "status") return void reply.writeHead(Number(rest)).end();
  if (verb === "redirect") return void reply.writeHead(302, { location: url.searchParams.get("to") ?? "/" }).end();
  if (verb === "bytes") {
    let left = Number(rest);
    const zeros = Buffer.alloc(65_536);
    reply.writeHead(200, { "content-type": "application/octet-stream", "content-length": String(left) });
    const more = () => {
      while (left > 0) {
        const part = zeros.subarray(0, Math.min(left, zeros.length));
        left -= part.length;
        if (!reply.write(part)) return void reply.once("drain", more);
      }
      reply.end();
    };
    return more();
  }
  if (verb === "events") {
    reply.writeHead(200, { "content-type": "text/event-stream" });
    let n = 0;
    const timer = setInterval(() => {
      reply.write(`data: ${++n}\n\n`);
      if (n < 5) return;
      clearInterval(timer);
      reply.end();
    }, 50);
    return;
  }
  if (verb === "hang") return;
  if (verb === "endless") return void reply.writeHead(200).write("begun");
  if (verb === "reset") {
    reply.writeHead(200, { "content-length": "1000" });
    reply.write("begun");
    const { stream } = request as Partial<Http2ServerRequest>;
    setTimeout(() => ((stream?.session?.socket as Socket | undefined) ?? request.socket).destroy(), 50);
    return;
  }
  if (verb === "respond") {
    const { status, headers, body, trailers } = JSON.parse(Buffer.from(rest, "base64url").toString()) as {
      status: number;
      headers: [string, string][];
      body: string;
      trailers?: Record<string, string>;
    };
    for (const [name, value] of headers) reply.appendHeader(name, value);
    if (trailers && request.httpVersionMajor === 1) reply.setHeader("trailer", Object.keys(trailers).join(", "));
    reply.statusCode = status;
    reply.write(body);
    if (trailers) reply.addTrailers(trailers);
    return void reply.end();
  }
  request.on("end", () => {
    const { origin, scheme, version, method, target, rawHeaders, bodyBytes, bodySha256 } = entry;
    const text = JSON.stringify({ origin, scheme, version, method, target, rawHeaders, bodyBytes, bodySha256 });
    reply.writeHead(200, { "content-type": "application/json", "content-length": String(Buffer.byteLength(text)) });
    reply.end(request.method === "HEAD" ? undefined : text);
  });
}

async function servePort(address: string, port: number, behaviour: string): Promise<void> {
  const server = createTcpServer((socket) => {
    const entry: SeenConnection = { address, port };
    seen.connections.push(entry);
    socket.on("error", () => {});
    if (behaviour === "reset") return void socket.resetAndDestroy();
    if (behaviour === "proxy") socket.once("data", (chunk) => tunnel(socket, chunk.toString("latin1")));
    if (behaviour === "banner") socket.write("SSH-2.0-fixture\r\n");
    socket.on("data", (chunk) => {
      entry.first ??= chunk.subarray(0, 256).toString("latin1");
      if (behaviour === "echo") socket.write(chunk);
    });
  });
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(port, address, resolve));
}

/** RFC 9110 section 9.3.6, for names that DNS answers here. */
function tunnel(client: Socket, head: string): void {
  const [, name = "", port = "0"] = /^CONNECT ([^ :]+):(\d+) HTTP\/1\.1\r\n/.exec(head) ?? [];
  const answers = names.get(name)?.answers;
  const address = typeof answers === "object" ? answers.flat()[0] : undefined;
  if (address === undefined) return void client.end("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n");
  const origin = connect(Number(port), address, () => {
    client.write("HTTP/1.1 200 Connection established\r\n\r\n");
    client.pipe(origin).pipe(client);
  });
  origin.on("error", () => client.destroy());
}

const TYPES: Record<number, string> = { 1: "A", 28: "AAAA", 5: "CNAME", 12: "PTR", 15: "MX", 16: "TXT", 33: "SRV", 65: "HTTPS" };

/** RFC 1035 section 4: one question is answered with addresses. */
async function serveDns(address: string): Promise<void> {
  const udp = createSocket("udp4");
  udp.on("message", (query, from) => {
    const answer = answerQuery(query);
    if (answer) udp.send(answer, from.port, from.address);
  });
  const tcp = createTcpServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", (chunk) => {
      const answer = chunk.length > 14 ? answerQuery(chunk.subarray(2)) : undefined;
      if (!answer) return void socket.destroy();
      const length = Buffer.alloc(2);
      length.writeUInt16BE(answer.length);
      socket.end(Buffer.concat([length, answer]));
    });
  });
  await new Promise<void>((resolve) => udp.bind(53, address, resolve));
  await new Promise<void>((resolve) => tcp.listen(53, address, resolve));
}

function answerQuery(query: Buffer): Buffer | undefined {
  const labels: string[] = [];
  let at = 12;
  for (let length = query[at] ?? 0; length > 0 && length < 64; length = query[at] ?? 0) {
    labels.push(query.toString("latin1", at + 1, at + 1 + length));
    at += 1 + length;
  }
  const question = query.subarray(12, at + 5);
  const type = query.readUInt16BE(at + 1);
  const name = labels.join(".").toLowerCase();
  seen.queries.push({ name, type: TYPES[type] ?? String(type) });
  const known = names.get(name);
  if (known?.answers === "silent") return undefined;
  const code = known === undefined ? 3 : known.answers === "broken" ? 2 : 0;
  const wanted = addresses(known).filter((one) => (type === 1 ? isIPv4(one) : type === 28 && !isIPv4(one)));
  const head = Buffer.alloc(12);
  query.copy(head, 0, 0, 2);
  head.writeUInt16BE(0x8180 | code, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(wanted.length, 6);
  return Buffer.concat([head, question, ...wanted.map(record)]);
}

/** Of a sequence, the A and the AAAA query of one look-up share a turn. */
function addresses(known: { answers: Answers; turn: number } | undefined): string[] {
  if (!known || typeof known.answers === "string") return [];
  const { answers } = known;
  if (!Array.isArray(answers[0])) return answers as string[];
  const turn = Math.min(Math.floor(known.turn++ / 2), answers.length - 1);
  return (answers as string[][])[turn] ?? [];
}

function record(address: string): Buffer {
  const data = isIPv4(address) ? Buffer.from(address.split(".").map(Number)) : ipv6Bytes(address);
  const head = Buffer.alloc(12);
  head.writeUInt16BE(0xc00c, 0); // the question's name
  head.writeUInt16BE(isIPv4(address) ? 1 : 28, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt32BE(0, 6); // kept by nobody
  head.writeUInt16BE(data.length, 10);
  return Buffer.concat([head, data]);
}

function ipv6Bytes(address: string): Buffer {
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(address);
  const hex = (bytes: number[]) => [0, 2].map((i) => (((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0)).toString(16)).join(":");
  const text = dotted ? `${dotted[1]}${hex((dotted[2] ?? "").split(".").map(Number))}` : address;
  const [left = "", right] = text.split("::");
  const groups = (part: string) => (part ? part.split(":") : []);
  const ends = right === undefined ? [] : groups(right);
  const middle = right === undefined ? [] : Array<string>(8 - groups(left).length - ends.length).fill("0");
  const bytes = Buffer.alloc(16);
  [...groups(left), ...middle, ...ends].forEach((group, i) => {
    bytes.writeUInt16BE(Number.parseInt(group, 16), i * 2);
  });
  return bytes;
}

process.on("message", (message: ToOutside & { id: number }) => {
  obey(message).then(
    () => process.send?.({ id: message.id, seen }),
    (error: Error) => process.send?.({ id: message.id, failed: error.message }),
  );
});
process.on("disconnect", () => process.exit(0));
