/**
 * A task's real proxy process inside an `Internet`, with a keeper's part that writes decisions down at once, and clients that speak to
 * it as the guest's agent passes them on. Nothing of the product is replaced.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { type ClientHttp2Session, connect as connectHttp2, type IncomingHttpHeaders as Http2Headers } from "node:http2";
import { connect as connectSocket, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { connect as connectTls, type TLSSocket } from "node:tls";
import type { z } from "zod";
import { type EgressEntry, type EgressRequest, RpcPeer, type Rule, type RuleDraft } from "../../app/contract/index.ts";
import { componentsPath, lineTransport, readComponents } from "../../app/contract/node/index.ts";
import { type BoundSecret, type keeperNotices, PROXY_PROTOCOL, proxyProtocol, type UpstreamProxy } from "../../app/core/egress/protocol.ts";
import { type Authority, makeAuthority } from "../../app/core/egress/proxy/index.ts";
import type { Internet } from "./internet.ts";

/** The program as it was built, as the keeper starts it: from its sources it takes four times as long to be there. */
const { node, app } = readComponents(componentsPath(join(import.meta.dirname, "../../.build/app/cli.mjs")));

type Asked = z.infer<(typeof proxyProtocol.notifications)["asked"]>;
type Unasked = z.infer<(typeof proxyProtocol.notifications)["unasked"]>;

/** Rules in the order of their precedence, named r1, r2, … */
export const rulesOf = (...drafts: RuleDraft[]): Rule[] =>
  drafts.map((draft, at) => ({ id: `r${at + 1}`, scope: "task", from: "user", ...draft }));
export const allow = (host: string, more: Partial<RuleDraft> = {}): RuleDraft => ({ decision: "allow", host, ...more });

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly rawHeaders: string[];
  readonly trailers: Record<string, string | undefined>;
  readonly body: Buffer;
  readonly text: string;
  /** the refusal, where it is one of the proxy's */
  readonly error?: {
    code: string;
    host?: string;
    method?: string;
    path?: string;
    rule?: string;
    reason: string;
    ask?: string;
    retry: boolean;
  };
}

export interface Ask {
  readonly method?: string;
  readonly headers?: Record<string, string | string[]> | string[];
  readonly body?: Buffer | string | AsyncIterable<Buffer>;
  readonly servername?: string;
}

export class ProxyUnderTest {
  readonly process: ChildProcess;
  readonly peer: RpcPeer<typeof proxyProtocol, typeof keeperNotices>;
  readonly authority: Authority;
  readonly entries: EgressEntry[] = [];
  readonly asked: Asked[] = [];
  readonly unasked: Unasked[] = [];
  readonly unanswered: { request: EgressRequest; rule: string; reason: string }[] = [];
  /** false: decisions are taken and not written down */
  recording = true;
  #stderr = "";
  readonly #directory: string;
  readonly #listening: Server;
  readonly #path: string;
  readonly #accepted: ((stream: Socket) => void)[] = [];

  private constructor(child: ChildProcess, authority: Authority) {
    this.process = child;
    this.authority = authority;
    const { stdin, stdout, stderr } = child;
    if (!stdin || !stdout || !stderr) throw new Error("spawn gave no pipes");
    stdin.on("error", () => {});
    stderr.on("data", (chunk) => {
      this.#stderr += chunk;
    });
    this.peer = new RpcPeer({
      transport: lineTransport(stdout, stdin, () => stdin.end()),
      remote: proxyProtocol,
      notified: {
        activity: ({ batch, entries }) => {
          this.entries.push(...entries);
          if (this.recording) this.peer.notify("recorded", { batch });
        },
        asked: (notice) => this.asked.push(notice),
        unasked: (notice) => this.unasked.push(notice),
        unanswered: (notice) => this.unanswered.push(notice),
      },
    });
    this.#directory = mkdtempSync(join(tmpdir(), "cloche-proxy-"));
    this.#path = join(this.#directory, "s");
    this.#listening = createServer({ pauseOnConnect: true }, (stream) => this.#accepted.shift()?.(stream));
  }

  static async start(
    internet: Internet,
    options: {
      rules?: Rule[];
      secrets?: BoundSecret[];
      answering?: boolean;
      broken?: string;
      upstream?: UpstreamProxy;
      /** absent: every decision waits for `recording` */
      journal?: string;
    } = {},
  ): Promise<ProxyUnderTest> {
    const { file, args } = internet.command(node, [app.proxy]);
    const child = spawn(file, args, {
      stdio: ["pipe", "pipe", "pipe", "ipc"],
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LANG: "C.UTF-8" },
      cwd: "/",
    });
    const proxy = new ProxyUnderTest(child, await makeAuthority());
    await new Promise<void>((resolve) => proxy.#listening.listen(proxy.#path, resolve));
    const { rules = [], secrets = [], answering = false, broken, upstream, journal } = options;
    await proxy.peer.call("hello", { protocol: PROXY_PROTOCOL });
    await proxy.peer.call("start", {
      task: "sorter",
      authority: proxy.authority,
      policy: { rules, answering, ...(broken === undefined ? {} : { broken }) },
      secrets,
      trusted: [internet.authority],
      ...(upstream ? { upstream } : {}),
      ...(journal === undefined ? {} : { journal }),
    });
    return proxy;
  }

  get stderr(): string {
    return this.#stderr;
  }

  setRules(rules: Rule[], answering = false): Promise<{ closed: number }> {
    return this.peer.call("setPolicy", { policy: { rules, answering } });
  }

  /** A stream of which nothing has been sent. */
  async stream(): Promise<Socket> {
    const accepted = new Promise<Socket>((resolve) => this.#accepted.push(resolve));
    const client = connectSocket(this.#path);
    client.on("error", () => {});
    await once(client, "connect");
    const stream = await accepted;
    await new Promise<void>((resolve, reject) =>
      this.process.send({ stream: 1 }, stream, {}, (error) => (error ? reject(error) : resolve())),
    );
    return client;
  }

  /** A program's connection to a host. */
  async connect(host: string, port: number): Promise<Socket> {
    const stream = await this.stream();
    stream.write(`connect ${host} ${port}\n`);
    return stream;
  }

  async tls(host: string, options: { port?: number; servername?: string; protocols?: string[] } = {}): Promise<TLSSocket> {
    return this.tlsOver(await this.connect(host, options.port ?? 443), host, options);
  }

  async tlsOver(socket: Duplex, host: string, options: { servername?: string; protocols?: string[] } = {}): Promise<TLSSocket> {
    const secured = connectTls({
      socket,
      // an address is no name to ask for, and still what the certificate has to be for
      ...(options.servername === "" ? { host } : { servername: options.servername ?? host }),
      ALPNProtocols: options.protocols ?? ["http/1.1"],
      ca: this.authority.certificate,
    });
    await new Promise<void>((resolve, reject) => {
      secured.once("secureConnect", resolve);
      secured.once("error", reject);
      secured.once("close", () => reject(new Error("closed in the handshake")));
    });
    secured.on("error", () => {});
    return secured;
  }

  /** One request over HTTP/1.1 on a connection of its own, or on one that is given. */
  async http1(url: string, ask: Ask = {}, over?: Duplex): Promise<Answer> {
    const { protocol, hostname, port, pathname, search } = new URL(url);
    const secure = protocol === "https:";
    const number = Number(port) || (secure ? 443 : 80);
    const socket =
      over ??
      (secure
        ? await this.tls(hostname, { port: number, ...(ask.servername ? { servername: ask.servername } : {}) })
        : await this.connect(hostname, number));
    const host = port ? `${hostname}:${port}` : hostname;
    const headers = Array.isArray(ask.headers)
      ? ask.headers
      : Object.entries({ host, ...ask.headers }).flatMap(([name, values]) => [values].flat().flatMap((value) => [name, value]));
    return exchange1(socket, ask.method ?? "GET", pathname + search, headers, ask.body);
  }

  /** A session of HTTP/2 with a host. */
  async session(host: string, options: { servername?: string } = {}): Promise<ClientHttp2Session> {
    const secured = await this.tls(host, { protocols: ["h2"], ...options });
    const session = connectHttp2(`https://${host}`, { createConnection: () => secured });
    session.on("error", () => {});
    return session;
  }

  async http2(url: string, ask: Ask = {}, over?: ClientHttp2Session): Promise<Answer> {
    const { hostname, pathname, search } = new URL(url);
    const session = over ?? (await this.session(hostname, ask.servername ? { servername: ask.servername } : {}));
    try {
      return await exchange2(
        session,
        {
          ":method": ask.method ?? "GET",
          ":path": pathname + search,
          ":authority": hostname,
          ":scheme": "https",
          ...(ask.headers as Record<string, string>),
        },
        ask.body,
      );
    } finally {
      if (!over) session.close();
    }
  }

  /** Entries of one kind, once there are as many. */
  async until(count: number, what: EgressEntry["what"]): Promise<EgressEntry[]> {
    const deadline = Date.now() + 5_000;
    for (;;) {
      const found = this.entries.filter((entry) => entry.what === what);
      if (found.length >= count) return found;
      if (Date.now() > deadline) throw new Error(`${found.length} entries of kind ${what}, not ${count}: ${JSON.stringify(this.entries)}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  async close(): Promise<void> {
    const exited = this.process.exitCode === null && this.process.signalCode === null ? once(this.process, "exit") : undefined;
    this.peer.close("over");
    this.process.stdin?.end();
    await exited;
    this.#listening.close();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

function exchange1(socket: Duplex, method: string, path: string, headers: string[], body: Ask["body"]): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const framed = body === undefined || headers.some((text, at) => at % 2 === 0 && /^(content-length|transfer-encoding)$/i.test(text));
    const length =
      typeof body === "string" || Buffer.isBuffer(body)
        ? ["content-length", String(Buffer.byteLength(body))]
        : ["transfer-encoding", "chunked"];
    const sent = httpRequest({
      createConnection: () => socket as Socket,
      method,
      path,
      headers: framed ? headers : [...headers, ...length],
      setHost: false,
    });
    sent.on("error", reject);
    sent.on("response", (answer) => {
      const parts: Buffer[] = [];
      answer.on("data", (chunk) => parts.push(chunk));
      answer.on("error", reject);
      answer.on("end", () =>
        resolve(answerOf(answer.statusCode ?? 0, answer.headers, answer.rawHeaders, answer.trailers, Buffer.concat(parts))),
      );
    });
    if (body !== undefined && typeof body !== "string" && !Buffer.isBuffer(body)) {
      (async () => {
        for await (const chunk of body) if (!sent.write(chunk)) await once(sent, "drain");
        sent.end();
      })().catch(reject);
    } else sent.end(body);
  });
}

function exchange2(session: ClientHttp2Session, headers: Record<string, string>, body: Ask["body"]): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const stream = session.request(headers, { endStream: body === undefined });
    const parts: Buffer[] = [];
    let head: Http2Headers = {};
    let trailers: Record<string, string | undefined> = {};
    stream.on("response", (answer) => {
      head = answer;
    });
    stream.on("trailers", (fields) => {
      trailers = fields as Record<string, string>;
    });
    stream.on("data", (chunk) => parts.push(chunk));
    stream.on("error", reject);
    stream.on("close", () => {
      if (stream.rstCode !== 0) return reject(new Error(`the stream was reset with ${stream.rstCode}`));
      resolve(answerOf(Number(head[":status"]), head as IncomingHttpHeaders, [], trailers, Buffer.concat(parts)));
    });
    if (body !== undefined && typeof body !== "string" && !Buffer.isBuffer(body)) {
      (async () => {
        for await (const chunk of body) if (!stream.write(chunk)) await once(stream, "drain");
        stream.end();
      })().catch(reject);
    } else if (body !== undefined) stream.end(body);
  });
}

function answerOf(status: number, headers: IncomingHttpHeaders, rawHeaders: string[], trailers: Answer["trailers"], body: Buffer): Answer {
  const text = body.toString("utf8");
  const parsed =
    headers["content-type"] === "application/json" && text.startsWith('{"error"')
      ? (JSON.parse(text) as { error: Answer["error"] })
      : undefined;
  return { status, headers, rawHeaders, trailers, body, text, ...(parsed?.error ? { error: parsed.error } : {}) };
}
