/**
 * The way to origins. A name is resolved here, after its request was allowed and recorded; every address it has is classed, and those
 * that were are the ones dialled. Connections are kept and used again for the same host and port under the same kind of rule only.
 */
import { lookup } from "node:dns";
import { Agent, type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2, constants } from "node:http2";
import { connect as connectTcp, isIP, isIPv6, type LookupFunction, type Socket } from "node:net";
import { networkInterfaces } from "node:os";
import type { Duplex, Readable, Writable } from "node:stream";
import { setTimeout as after } from "node:timers/promises";
import { connect as connectTls, createSecureContext, getCACertificates, type SecureContext, type TLSSocket } from "node:tls";
import { refuseAddress } from "../policy/index.ts";
import type { UpstreamProxy } from "../protocol.ts";
import { CONNECT_MS, HTTP2_WINDOW, LOCAL_LOOKUP_MS, LOOKUP_MS, MAX_IDLE_PER_ORIGIN, MAX_POOLS, UPSTREAM_IDLE_MS } from "./limits.ts";

/** Why an allowed request did not reach its origin, or did not come back. */
export type FaultKind =
  | "name"
  | "resolver"
  | "address"
  | "refused"
  | "unreachable"
  | "timeout"
  | "reset"
  | "certificate"
  | "tls"
  | "answer"
  | "proxy";

export class UpstreamFault extends Error {
  readonly kind: FaultKind;
  readonly address: string | undefined;
  constructor(kind: FaultKind, message: string, address?: string) {
    super(message);
    this.kind = kind;
    this.address = address;
  }
}

export interface Target {
  readonly scheme: "http" | "https" | "opaque";
  /** a DNS name or IP literal in the form that `parseHost` gives */
  readonly host: string;
  readonly port: number;
  /** the one range of private addresses that the deciding rule lets this host resolve to */
  readonly private?: string | undefined;
}

export interface UpstreamRequest {
  readonly target: Target;
  readonly version: 1 | 2;
  readonly method: string;
  /** path and query */
  readonly path: string;
  /** without host and hop-by-hop headers; with content-length where the body's length is known */
  readonly rawHeaders: string[];
  /** writes the body, once, when it is called; absent: there is none */
  readonly body?: ((to: Writable) => Promise<void>) | undefined;
  readonly signal: AbortSignal;
  /** told before the head leaves another time */
  readonly onAgain?: () => void;
}

export interface UpstreamResponse {
  readonly status: number;
  readonly rawHeaders: string[];
  readonly body: Readable;
  /** The body that has not been read, where all of it is here; then it is read by this. */
  rest(): Buffer | undefined;
  readonly address: string | undefined;
  /** those that came after the body */
  trailers(): string[];
  /** Once the body has ended: that it was its own end, and not the connection's. */
  readonly whole: boolean;
  /** breaks it off */
  destroy(): void;
}

interface Address {
  readonly address: string;
  readonly family: number;
}

/** Connections to one host and port. */
interface Pool {
  readonly target: Target;
  readonly agent: Agent;
  /** connections that were made for HTTP/2 and whose origin speaks HTTP/1.1 */
  readonly spare: Socket[];
  speaks?: "h2" | "http/1.1";
  session?: Promise<ClientHttp2Session | undefined> | undefined;
  tlsSession?: Buffer;
}

export class Upstream {
  readonly #trust: SecureContext;
  readonly #proxy: UpstreamProxy | undefined;
  /** in the order of their last use */
  readonly #pools = new Map<string, Pool>();
  readonly #lookups = new Map<string, Promise<Address[]>>();

  constructor(options: { trusted?: readonly string[] | undefined; proxy?: UpstreamProxy | undefined }) {
    const ca = new Set([...getCACertificates("system"), ...getCACertificates("bundled"), ...(options.trusted ?? [])]);
    this.#trust = createSecureContext({ ca: [...ca], minVersion: "TLSv1.2" });
    this.#proxy = options.proxy;
  }

  /** Resolves with the head of the answer; rejects with UpstreamFault, or with the signal's reason. */
  async request(request: UpstreamRequest): Promise<UpstreamResponse> {
    const pool = this.#pool(request.target);
    for (let attempt = 1; ; attempt++) {
      if (request.signal.aborted) throw request.signal.reason;
      const again = { used: false };
      try {
        const session = request.version === 2 && request.target.scheme === "https" ? await this.#session(pool) : undefined;
        return session ? await this.#overHttp2(session, request, again) : await this.#overHttp1(pool, request, again);
      } catch (error) {
        if (request.signal.aborted) throw request.signal.reason;
        const fault = asFault(error);
        // the origin closed a kept connection while the request was on its way: nothing of it was answered
        const idempotent = ["GET", "HEAD", "OPTIONS"].includes(request.method) && !request.body;
        if (fault.kind !== "reset" || !again.used || !idempotent || attempt >= 3) throw fault;
        request.onAgain?.();
      }
    }
  }

  /** A connection of its own, for a tunnel. */
  async connect(target: Target, signal: AbortSignal): Promise<Socket> {
    try {
      return await this.#dial(target, [], signal);
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      throw asFault(error);
    }
  }

  /** An HTTP/1.1 request that changes the connection's protocol. Resolves with the connection, or with an ordinary answer. */
  async upgrade(
    request: Omit<UpstreamRequest, "version" | "body">,
  ): Promise<{ response: UpstreamResponse; socket?: Duplex; head?: Buffer }> {
    const pool = this.#pool(request.target);
    const { signal, method, path, rawHeaders } = request;
    try {
      return await new Promise((resolve, reject) => {
        const sent = httpRequest({ agent: pool.agent, method, path, headers: withHost(request.target, rawHeaders) });
        const abort = () => sent.destroy(signal.reason as Error);
        signal.addEventListener("abort", abort, { once: true });
        sent.on("close", () => {
          signal.removeEventListener("abort", abort);
          reject(closedUnanswered());
        });
        sent.on("upgrade", (answer, socket, head) => resolve({ response: new Http1Response(answer, sent), socket, head }));
        sent.on("response", (answer) => resolve({ response: new Http1Response(answer, sent) }));
        sent.on("error", reject);
        sent.end();
      });
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      throw asFault(error);
    }
  }

  /** Closes what nobody uses at the moment. */
  dropIdle(): void {
    for (const { agent, spare, session } of this.#pools.values()) {
      for (const sockets of Object.values(agent.freeSockets)) for (const socket of sockets ?? []) socket.destroy();
      for (const socket of spare.splice(0)) socket.destroy();
      void session?.then((one) => one?.close()).catch(() => {});
    }
  }

  #pool(target: Target): Pool {
    const name = `${target.scheme} ${target.host} ${target.port} ${target.private ?? ""}`;
    const known = this.#pools.get(name);
    if (known) this.#pools.delete(name);
    const pool = known ?? this.#newPool(target);
    this.#pools.set(name, pool);
    const oldest = this.#pools.keys().next();
    if (this.#pools.size > MAX_POOLS && !oldest.done) this.#pools.delete(oldest.value); // its connections end when they are idle
    return pool;
  }

  #newPool(target: Target): Pool {
    const spare: Socket[] = [];
    const agent = new OriginAgent({ keepAlive: true, maxFreeSockets: MAX_IDLE_PER_ORIGIN, timeout: UPSTREAM_IDLE_MS, scheduling: "lifo" });
    const pool: Pool = { target, agent, spare };
    agent.createConnection = (_options, done) => {
      const kept = pool.spare.pop();
      if (kept && !kept.destroyed) return kept.setTimeout(0);
      this.#dial(target, ["http/1.1"], undefined, pool).then(
        (socket) => done?.(null, socket),
        (error: Error) => done?.(error, undefined as never),
      );
      return undefined;
    };
    return pool;
  }

  async #overHttp1(pool: Pool, request: UpstreamRequest, again: { used: boolean }): Promise<UpstreamResponse> {
    const { signal, method, path, body } = request;
    const headers = withHost(request.target, request.rawHeaders);
    // without a length the body is framed by us whatever the method is: Node would send it bare after a GET or DELETE
    if (body && !has(headers, "content-length")) headers.push("transfer-encoding", "chunked");
    return await new Promise<UpstreamResponse>((resolve, reject) => {
      const sent = httpRequest({ agent: pool.agent, method, path, headers, insecureHTTPParser: false });
      let answered = false; // an error costs more than all the rest of this
      const abort = () => sent.destroy(signal.reason as Error);
      signal.addEventListener("abort", abort, { once: true });
      sent.on("close", () => {
        signal.removeEventListener("abort", abort);
        if (!answered) reject(closedUnanswered());
      });
      sent.on("response", (answer) => {
        answered = true;
        resolve(new Http1Response(answer, sent));
      });
      sent.on("error", (error) => {
        again.used = sent.reusedSocket;
        reject(error);
      });
      if (!body) return void sent.end();
      body(sent).then(
        () => sent.end(),
        (error: Error) => sent.destroy(error),
      );
    });
  }

  async #overHttp2(session: ClientHttp2Session, request: UpstreamRequest, again: { used: boolean }): Promise<UpstreamResponse> {
    const { signal, method, path, rawHeaders, body, target } = request;
    again.used = true;
    return await new Promise<UpstreamResponse>((resolve, reject) => {
      const head = [":method", method, ":scheme", "https", ":authority", authority(target), ":path", path, ...lower(rawHeaders)];
      const stream = session.request(head as never, { endStream: !body });
      // `close` of a stream that still writes would end it first, and the origin took a part of the request for the whole
      const abort = () => stream.destroy(signal.reason as Error);
      signal.addEventListener("abort", abort, { once: true });
      let answered = false;
      stream.on("close", () => {
        signal.removeEventListener("abort", abort);
        if (!answered) reject(closedUnanswered());
      });
      stream.on("error", reject);
      stream.on("response", (_headers, _flags, rawAnswer: unknown) => {
        answered = true;
        resolve(http2Response(stream, rawAnswer as string[], session));
      });
      body?.(stream).then(
        () => stream.end(),
        (error: Error) => stream.destroy(error),
      );
    });
  }

  /** An HTTP/2 session with the origin, or undefined where it speaks HTTP/1.1 only. */
  async #session(pool: Pool): Promise<ClientHttp2Session | undefined> {
    if (pool.speaks === "http/1.1") return undefined;
    const had = pool.session;
    const known = await had?.catch(() => undefined);
    if (known && !known.closed && !known.destroyed) return known;
    if (pool.session === had) {
      const making = this.#newSession(pool);
      pool.session = making;
      making.catch(() => {
        if (pool.session === making) pool.session = undefined;
      });
    }
    return await pool.session;
  }

  /** Everybody's who asks meanwhile: it does not end with the first of them. */
  async #newSession(pool: Pool): Promise<ClientHttp2Session | undefined> {
    const socket = (await this.#dial(pool.target, ["h2", "http/1.1"], undefined, pool)) as TLSSocket;
    if (socket.alpnProtocol !== "h2") {
      pool.speaks = "http/1.1";
      pool.spare.push(socket.setTimeout(UPSTREAM_IDLE_MS, () => pool.spare.includes(socket) && socket.destroy()));
      socket.once("close", () => pool.spare.splice(pool.spare.indexOf(socket) >>> 0, 1));
      return undefined;
    }
    pool.speaks = "h2";
    const session = connectHttp2(`https://${authority(pool.target)}`, {
      createConnection: () => socket,
      settings: { enablePush: false, initialWindowSize: HTTP2_WINDOW },
    });
    session.on("error", () => {}); // its streams tell
    session.setTimeout(UPSTREAM_IDLE_MS, () => session.close());
    session.once("connect", () => session.setLocalWindowSize(16 * HTTP2_WINDOW));
    return session;
  }

  /** @param protocols for ALPN; empty: no TLS is spoken, whatever the scheme */
  async #dial(target: Target, protocols: readonly string[], signal?: AbortSignal, pool?: Pool): Promise<Socket> {
    const { host, port, scheme } = target;
    const literal = unbracketed(host);
    const timeout = AbortSignal.timeout(CONNECT_MS);
    const ends = signal ? AbortSignal.any([signal, timeout]) : timeout;
    // what a rule lets have a private address is of this computer's network: no proxy leads there
    const proxied = this.#proxy !== undefined && target.private === undefined;
    const base = proxied ? await this.#throughProxy(target, this.#proxy, ends) : undefined;
    const addresses = base ? [] : await this.#addresses(target, literal);
    if (ends.aborted) throw signal?.aborted ? signal.reason : new UpstreamFault("timeout", `No connection within ${CONNECT_MS / 1000} s.`);
    // all of them were classed, and no other look-up is made
    const checked: LookupFunction = (_name, options, done) =>
      options.all ? done(null, addresses) : done(null, addresses[0]?.address ?? "", addresses[0]?.family);
    const where = {
      host: literal,
      port,
      lookup: checked,
      autoSelectFamilyAttemptTimeout: 2_000,
      noDelay: true,
    };
    const encrypted = scheme === "https" && protocols.length > 0;
    const socket = encrypted
      ? connectTls({
          ...(base ? { socket: base, host: literal } : where),
          secureContext: this.#trust,
          ALPNProtocols: [...protocols],
          ...(isIP(literal) ? {} : { servername: host }),
          ...(pool?.tlsSession ? { session: pool.tlsSession } : {}),
        })
      : (base ?? connectTcp(where));
    if (encrypted && pool) (socket as TLSSocket).on("session", (session) => Object.assign(pool, { tlsSession: session }));
    if (!encrypted && base) return base;
    return await new Promise<Socket>((resolve, reject) => {
      const fail = (error: Error) => {
        ends.removeEventListener("abort", late);
        socket.destroy();
        const tried = addresses.map(({ address }) => address).join(", ");
        reject(asFault(error, tried));
      };
      const late = () =>
        fail(signal?.aborted ? (signal.reason as Error) : Object.assign(new Error("no connection in time"), { code: "ETIMEDOUT" }));
      const closed = () => fail(Object.assign(new Error("it was closed"), { code: "ECONNRESET" }));
      ends.addEventListener("abort", late, { once: true });
      socket.once("error", fail);
      socket.once("close", closed);
      socket.once(encrypted ? "secureConnect" : "connect", () => {
        ends.removeEventListener("abort", late);
        socket.off("close", closed).off("error", fail);
        socket.on("error", () => {}); // whoever uses it has a listener of its own
        resolve(socket);
      });
    });
  }

  /** The addresses of a host, each of which may be dialled; a single one that may not refuses them all. */
  async #addresses(target: Target, literal: string): Promise<Address[]> {
    if (isIP(literal)) return refuseLocal(target, [{ address: literal, family: isIPv6(literal) ? 6 : 4 }]);
    return refuseLocal(target, await this.#resolve(target.host));
  }

  #resolve(host: string): Promise<Address[]> {
    const known = this.#lookups.get(host);
    if (known) return known;
    const looking = new Promise<Address[]>((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new UpstreamFault("resolver", `No name server answered for ${host} within ${LOOKUP_MS / 1000} s.`)),
        LOOKUP_MS,
      );
      lookup(host, { all: true, order: "verbatim" }, (error, found) => {
        clearTimeout(timer);
        if (error) reject(error);
        else resolve(found);
      });
    }).finally(() => this.#lookups.delete(host));
    this.#lookups.set(host, looking);
    return looking;
  }

  /**
   * A tunnel of the outgoing proxy. It resolves the name, in a network that is not ours to see: so addresses are not asked for at all, nor
   * names that this computer itself knows as local ones. That it knows nothing of a name says nothing: behind such proxies names of the
   * internet are often not resolved.
   */
  async #throughProxy(target: Target, proxy: UpstreamProxy, signal: AbortSignal): Promise<Socket> {
    const { host } = target;
    if (isIP(unbracketed(host))) {
      throw new UpstreamFault("address", `${host} is an address, and the outgoing proxy is asked for names only.`);
    }
    if (!host.includes(".") || LOCAL_NAME.test(host)) {
      throw new UpstreamFault("address", `${host} is a name of a local network, and the outgoing proxy would resolve it there.`);
    }
    const known = this.#resolve(host).catch((): Address[] => []);
    refuseLocal(target, await Promise.race([known, after(LOCAL_LOOKUP_MS, [] as Address[], { ref: false })]));
    if (signal.aborted) throw signal.reason;
    return await new Promise<Socket>((resolve, reject) => {
      const path = authority(target, true);
      const sent = httpRequest({
        host: unbracketed(proxy.host),
        port: proxy.port,
        method: "CONNECT",
        path,
        headers: ["host", path, ...(proxy.authorization === undefined ? [] : ["proxy-authorization", proxy.authorization])],
        agent: false,
        signal,
      });
      sent.on("connect", (answer, socket, head) => {
        if (answer.statusCode !== 200) {
          socket.destroy();
          const wants = answer.statusCode === 407 ? `wants ${proxy.authorization === undefined ? "a" : "another"} key` : "refused";
          return reject(
            new UpstreamFault("proxy", `The outgoing proxy ${proxy.host}:${proxy.port} ${wants} (status ${answer.statusCode}).`),
          );
        }
        if (head.length > 0) socket.unshift(head);
        resolve(socket as Socket);
      });
      sent.on("response", () => reject(new UpstreamFault("proxy", `The outgoing proxy ${proxy.host}:${proxy.port} is no proxy.`)));
      sent.on("error", (error) =>
        reject(new UpstreamFault("proxy", `The outgoing proxy ${proxy.host}:${proxy.port} failed: ${error.message}`)),
      );
      sent.end();
    });
  }
}

/** The addresses, none of which may be one that the target's rule does not let it have. */
function refuseLocal({ host, private: range }: Target, addresses: Address[]): Address[] {
  const interfaces = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  const own = new Set(interfaces.map(({ address }) => address));
  const networks = interfaces.flatMap(({ cidr }) => cidr ?? []);
  for (const { address } of addresses) {
    const kind = refuseAddress(address, own, range, networks);
    if (kind === undefined) continue;
    const what = isIP(unbracketed(host)) ? `${host} is ${kind}` : `${host} resolves to ${address}, which is ${kind}`;
    throw new UpstreamFault(
      "address",
      `${what}: such addresses are reached only by a rule for this exact host that names their range.`,
      address,
    );
  }
  return addresses;
}

/** The name under which an agent of one origin keeps all its connections. */
const ONE = "one";

/** The connections to one origin: which of them a request may use needs no comparing, which Node's own way spends most of its time on. */
class OriginAgent extends Agent {
  override getName(): string {
    return ONE;
  }

  /** Called by Node for each request. */
  addRequest(request: ClientRequest, options: unknown): void {
    const free = this.freeSockets[ONE] as Socket[] | undefined;
    let socket = free?.pop();
    while (socket?.destroyed) socket = free?.pop();
    if (!socket) return void base.addRequest.call(this, request, options);
    this.reuseSocket(socket, request);
    request.onSocket(socket);
    const used = this.sockets as Record<string, Socket[]>;
    const inUse = used[ONE];
    if (inUse) inUse.push(socket);
    else used[ONE] = [socket];
  }
}
/** What Node gives its agents and its types leave out. */
const base = Agent.prototype as unknown as { addRequest(this: Agent, request: ClientRequest, options: unknown): void };

const unbracketed = (host: string) => host.replace(/^\[|\]$/g, "");

const LOCAL_NAME = /\.(?:local|localhost|internal|intranet|lan|home|corp|private|home\.arpa)$/;

/** As it stands in Host: without the port that the scheme has anyway. */
function authority({ scheme, host, port }: Target, always = false): string {
  const usual = scheme === "https" ? 443 : 80;
  return port === usual && !always ? host : `${host}:${port}`;
}

const withHost = (target: Target, rawHeaders: readonly string[]): string[] => ["Host", authority(target), ...rawHeaders];
const lower = (rawHeaders: readonly string[]): string[] => rawHeaders.map((text, at) => (at % 2 === 0 ? text.toLowerCase() : text));
const has = (rawHeaders: readonly string[], name: string): boolean =>
  rawHeaders.some((text, at) => at % 2 === 0 && text.toLowerCase() === name);

const NO_BYTES = Buffer.alloc(0);

/** A class, as an object of so many functions costs more to make than all that is asked of it. */
class Http1Response implements UpstreamResponse {
  readonly status: number;
  readonly rawHeaders: string[];
  readonly body: IncomingMessage;
  readonly address: string | undefined;
  readonly #sent: ClientRequest;

  constructor(answer: IncomingMessage, sent: ClientRequest) {
    answer.on("error", () => {}); // whoever reads it has a listener of its own
    this.status = answer.statusCode ?? 0;
    this.rawHeaders = answer.rawHeaders;
    this.body = answer;
    this.address = answer.socket.remoteAddress;
    this.#sent = sent;
  }

  get whole(): boolean {
    return this.body.complete;
  }

  rest(): Buffer | undefined {
    const { body } = this;
    return body.complete && !body.destroyed ? ((body.read() as Buffer | null) ?? NO_BYTES) : undefined;
  }

  trailers(): string[] {
    return this.body.rawTrailers;
  }

  destroy(): void {
    this.#sent.destroy();
  }
}

function http2Response(stream: ClientHttp2Stream, rawAnswer: string[], session: ClientHttp2Session): UpstreamResponse {
  let trailers: string[] = [];
  stream.on("trailers", (fields) => {
    trailers = Object.entries(fields).flatMap(([name, values]) => [values ?? []].flat().flatMap((value) => [name, String(value)]));
  });
  const status = rawAnswer[rawAnswer.indexOf(":status") + 1];
  return {
    status: Number(status),
    rawHeaders: rawAnswer.filter((_, at) => !(rawAnswer[at - (at % 2)] ?? "").startsWith(":")),
    body: stream,
    rest: () => undefined,
    address: session.socket?.remoteAddress,
    trailers: () => trailers,
    get whole() {
      return stream.rstCode === constants.NGHTTP2_NO_ERROR;
    },
    destroy: () => stream.destroy(),
  };
}

const closedUnanswered = () => Object.assign(new Error("it was closed unanswered"), { code: "ECONNRESET" });

const CERTIFICATE =
  /^(?:CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|ERR_TLS_CERT_|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH|CRL_)/;

/** An error of Node's in the words that a client is told. No text of the origin's is in it. */
function asFault(error: unknown, tried?: string): UpstreamFault {
  if (error instanceof UpstreamFault) return error;
  const all = error instanceof AggregateError ? (error.errors as NodeJS.ErrnoException[]) : [error as NodeJS.ErrnoException];
  const { code = "", message = String(error) } = all[0] ?? {};
  const at = tried ? ` (${tried})` : "";
  if (code === "ENOTFOUND" || code === "ENODATA") return new UpstreamFault("name", "The name does not exist, or has no address.");
  if (code === "EAI_AGAIN" || code === "EAI_FAIL" || code === "ESERVFAIL")
    return new UpstreamFault("resolver", "The name servers did not answer.");
  if (code === "ECONNREFUSED") return new UpstreamFault("refused", `The origin refuses connections${at}.`, tried);
  if (code === "ETIMEDOUT") return new UpstreamFault("timeout", `The origin does not answer${at}.`, tried);
  if (["ENETUNREACH", "EHOSTUNREACH", "EADDRNOTAVAIL", "ENETDOWN", "EHOSTDOWN"].includes(code)) {
    return new UpstreamFault("unreachable", `There is no way to the origin${at}.`, tried);
  }
  if (CERTIFICATE.test(code))
    return new UpstreamFault("certificate", `The origin's certificate cannot be trusted: ${certificateWords(code)}.`, tried);
  if (code.startsWith("HPE_")) return new UpstreamFault("answer", `The origin's answer is not HTTP (${code}).`, tried);
  if (code === "EPROTO" || code.startsWith("ERR_SSL_")) return new UpstreamFault("tls", `TLS with the origin failed (${code}).`, tried);
  if (
    [
      "ECONNRESET",
      "EPIPE",
      "ERR_STREAM_PREMATURE_CLOSE",
      "ERR_HTTP2_STREAM_ERROR",
      "ERR_HTTP2_SESSION_ERROR",
      "ERR_HTTP2_GOAWAY_SESSION",
    ].includes(code)
  ) {
    return new UpstreamFault("reset", "The origin broke the connection off.", tried);
  }
  if (code.startsWith("ERR_HTTP2_")) return new UpstreamFault("answer", `HTTP/2 with the origin failed (${code}).`, tried);
  return new UpstreamFault("reset", `The connection to the origin failed (${code || message.slice(0, 80)}).`, tried);
}

function certificateWords(code: string): string {
  const words: Record<string, string> = {
    CERT_HAS_EXPIRED: "it has expired",
    CERT_NOT_YET_VALID: "it is not valid yet",
    ERR_TLS_CERT_ALTNAME_INVALID: "it is for another name",
    DEPTH_ZERO_SELF_SIGNED_CERT: "it is signed by itself",
    SELF_SIGNED_CERT_IN_CHAIN: "its authority is not trusted by this computer",
    UNABLE_TO_VERIFY_LEAF_SIGNATURE: "its authority is not trusted by this computer",
    UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "its authority is not trusted by this computer",
    CERT_REVOKED: "it was revoked",
  };
  return words[code] ?? code;
}
