/** What the probes aim at: servers on this computer's loopback that write down everything that arrives. Each verdict rests on these logs. */
import { createServer as createHttp, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createHttps } from "node:https";
import { type AddressInfo, createServer as createTcp, type Server } from "node:net";
import { selfSigned } from "./certificate.ts";

const MAX_BODY_BYTES = 1 << 20;
const MAX_LOGGED = 1000;

export interface Arrived {
  readonly method: string;
  readonly path: string;
  /** every header's name and value, and the body, as one text: what must not be in it is looked for in all of it */
  readonly everything: string;
  readonly body: string;
}

export interface Origin {
  readonly port: number;
  readonly arrived: Arrived[];
  /** connections, whatever came over them */
  readonly connections: () => number;
}

export interface Origins {
  /** trusted by the task of the probes, and by no other */
  readonly certificate: string;
  /** allowed, with TLS, on 127.0.0.1; the key works here */
  readonly bound: Origin;
  /** allowed, with TLS, on ::1; the key does not work here */
  readonly other: Origin;
  /** allowed, without TLS, on 127.0.0.1 */
  readonly plain: Origin;
  /** on 127.0.0.1, and no rule speaks of it */
  readonly unlisted: Origin;
  close(): void;
}

export async function startOrigins(): Promise<Origins> {
  const { certificate, key } = await selfSigned("Cloche self-test");
  const servers: Server[] = [];
  const listen = async (
    host: string,
    make: (onRequest: (request: IncomingMessage, response: ServerResponse) => void) => Server,
  ): Promise<Origin> => {
    const arrived: Arrived[] = [];
    let connections = 0;
    const server = make((request, response) => void log(request, response, arrived));
    server.on("connection", () => connections++);
    server.on("clientError" as "error", (_: Error, socket?: { destroy(): void }) => socket?.destroy());
    servers.push(server);
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(0, host, resolve);
    });
    return { port: (server.address() as AddressInfo).port, arrived, connections: () => connections };
  };
  const tls = (onRequest: (request: IncomingMessage, response: ServerResponse) => void) =>
    createHttps({ cert: certificate, key }, onRequest);
  return {
    certificate,
    bound: await listen("127.0.0.1", tls),
    other: await listen("::1", tls),
    plain: await listen("127.0.0.1", (onRequest) => createHttp(onRequest)),
    unlisted: await listen("127.0.0.1", () => createTcp((socket) => socket.destroy())),
    close: () => {
      for (const server of servers) server.close();
    },
  };
}

async function log(request: IncomingMessage, response: ServerResponse, arrived: Arrived[]): Promise<void> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size <= MAX_BODY_BYTES) chunks.push(chunk);
  }
  const body = Buffer.concat(chunks).toString("utf8");
  const { method = "", url = "" } = request;
  if (arrived.length < MAX_LOGGED)
    arrived.push({ method, path: url, body, everything: [method, url, ...request.rawHeaders, body].join("\n") });
  response.writeHead(200, { "content-type": "text/plain" }).end("noted\n");
}
