/**
 * One request, whatever protocol brought it: checked, decided, recorded, sent on, and its answer sent back. Each step has to be over
 * before the next begins, and nothing of the request leaves before the fourth.
 */
import type { Writable } from "node:stream";
import type { EgressRequest } from "../../../contract/index.ts";
import {
  type BodyFilter,
  type Refusal as CredentialRefusal,
  type HoldingRoom,
  type Passed,
  prepare,
  ResponseScrubber,
  scrubHeaders,
  unsearchable,
  withoutLogins,
} from "../credentials/index.ts";
import { hostAndPort, normalPath } from "../policy/index.ts";
import type { BoundSecret } from "../protocol.ts";
import { type Exchange, filterHeaders, headBytes, valuesOf } from "./exchange.ts";
import { Cut, type Gate, Left, type Live } from "./gate.ts";
import { MAX_HEADERS } from "./limits.ts";
import { pump } from "./pump.ts";
import { NotRecorded } from "./record.ts";
import { type Refusal, type RefusalCode, refusal, refusalBody, refusalHeaders } from "./refusal.ts";
import { type Target, type Upstream, UpstreamFault, type UpstreamResponse } from "./upstream.ts";

/** What a task's proxy works with. */
export interface Task {
  readonly name: string;
  readonly gate: Gate;
  readonly upstream: Upstream;
  readonly secrets: readonly BoundSecret[];
  /** of the keys that it has and had in this process's time: what was stored with one goes on to be there when it is taken away */
  readonly storable: readonly string[];
  readonly room: HoldingRoom;
}

/** What is known of a request's connection. */
export interface Connection {
  readonly scheme: "http" | "https";
  /** where the guest's program connected to; absent: the client speaks to an explicit proxy and names it in each request */
  readonly named?: { readonly host: string; readonly port: number };
  /** the name that TLS was asked for */
  readonly servername?: string | undefined;
}

export interface Checked {
  readonly request: EgressRequest;
  /** in its normal form, which is what is sent */
  readonly path: string;
  /** with its question mark, or empty */
  readonly query: string;
}

export class Refused extends Error {
  readonly refusal: Refusal;
  readonly request: EgressRequest | undefined;
  constructor(refusal: Refusal, request?: EgressRequest) {
    super(refusal.reason);
    this.refusal = refusal;
    this.request = request;
  }
}

/** Answers the request; never rejects. */
export async function handle(task: Task, connection: Connection, exchange: Exchange): Promise<void> {
  const control = new AbortController();
  exchange.onLeft(() => control.abort(new Left()));
  try {
    const checked = await check(task, connection, exchange, false);
    await decideAndForward(task, checked, exchange, control);
  } catch (error) {
    refuse(task, exchange, control.signal.aborted ? control.signal.reason : error);
  }
}

/** The request as it is decided, where its form lets no doubt; every other is recorded and rejected with Refused. */
export async function check(task: Task, connection: Connection, exchange: Exchange, upgrade: boolean): Promise<Checked> {
  const found = read(connection, exchange, upgrade);
  if (!("refusal" in found)) return found;
  await task.gate.refused(found.request, "form", found.refusal.reason);
  throw new Refused(found.refusal, found.request);
}

function read(
  { scheme, named, servername }: Connection,
  exchange: Exchange,
  upgrade: boolean,
): Checked | { refusal: Refusal; request: EgressRequest } {
  const { method, authorities, rawHeaders, version } = exchange;
  const usual = scheme === "https" ? 443 : 80;
  const absolute = /^([a-z]+):\/\/([^/?#]*)(.*)$/i.exec(exchange.target);
  const own = absolute?.[2] === undefined ? undefined : hostAndPort(absolute[2], usual);
  const where = named ?? own ?? { host: "unreadable", port: usual };
  const shown = /^[A-Z-]{1,32}$/.test(method) ? method : "";
  const origin = absolute ? (/^[/?]/.test(absolute[3] ?? "") ? (absolute[3] ?? "") : `/${absolute[3] ?? ""}`) : exchange.target;
  const target = normalPath(origin.startsWith("?") ? `/${origin}` : origin);
  const request: EgressRequest = { scheme, ...where, method: shown, path: target?.decided ?? "", upgrade };
  const no = (status: Refusal["status"], code: RefusalCode, reason: string) => ({ refusal: refusal(status, code, reason), request });

  if (named === undefined && !own) return no(400, "request.form", "A request to a proxy names its whole URL, with http:// and a host.");
  if (absolute && (absolute[1]?.toLowerCase() !== scheme || !own))
    return no(400, "request.form", `The request's URL is not one of ${scheme}.`);
  if (shown === "" || ["CONNECT", "TRACE", "TRACK"].includes(method))
    return no(403, "request.method", `The method ${shown || "of the request"} is never passed on.`);
  if (rawHeaders.length / 2 > MAX_HEADERS) return no(431, "request.form", `The request has more than ${MAX_HEADERS} headers.`);
  if (upgrade && framesBody(rawHeaders))
    return no(400, "request.form", "A request for another protocol on its connection has no body: what follows it is that protocol.");
  if (upgrade && valuesOf(rawHeaders, "upgrade").some((names) => HTTP_AGAIN.test(names)))
    return no(
      400,
      "request.form",
      "What would follow is HTTP again, and none of its requests could be decided. Send them as they are meant.",
    );
  if (authorities.length === 0 || (version === 1 && authorities.length > 1))
    return no(400, "request.form", "The request has to name its host exactly once.");
  // the most usual one is read without taking it apart: `where` is in its canonical form
  const plain = (text: string) => (text === where.host && where.port === usual ? where : hostAndPort(text, usual));
  const hosts = [...authorities.map(plain), ...(own ? [own] : [])];
  const differs = hosts.find((one) => one?.host !== where.host || one.port !== where.port);
  if (differs !== undefined || hosts.includes(undefined)) {
    const other = differs ? `${differs.host}:${differs.port}` : "another host";
    return no(
      421,
      "request.host",
      `This connection is to ${where.host}:${where.port}, and the request is for ${other}. Open a connection to that host.`,
    );
  }
  if (servername !== undefined && servername !== where.host) {
    return no(421, "request.host", `TLS was asked for ${servername}, and the connection is to ${where.host}. Both have to be the same.`);
  }
  if (!target)
    return no(
      400,
      "request.path",
      "The request's path is too long, or can be read in more than one way (dot segments, backslashes, bytes that are not UTF-8).",
    );
  return { request, path: target.path, query: target.query };
}

/**
 * Of a request that is sent without one: an origin that answers it as an ordinary request would take the beginning of the next one on the
 * connection for its body, and what is behind that for a request that nobody decided.
 */
const framesBody = (rawHeaders: readonly string[]): boolean =>
  valuesOf(rawHeaders, "transfer-encoding").length > 0 || valuesOf(rawHeaders, "content-length").some((length) => length !== "0");

/** Protocols of `Upgrade` in which requests follow: h2c, HTTP/2.0, TLS/1.2. */
const HTTP_AGAIN = /(?:^|[\s,])(?:h2c?|h3|https?(?:\/[^,\s]*)?|tls(?:\/[^,\s]*)?)(?:$|[\s,])/i;

async function decideAndForward(task: Task, checked: Checked, exchange: Exchange, control: AbortController): Promise<void> {
  const outgoing = await admit(task, checked, exchange, ordinaryHeaders(exchange), control);
  const { live } = outgoing;
  try {
    await task.gate.record(live, outgoing.head);
    const response = await task.upstream.request({
      target: targetOf(live),
      version: exchange.version,
      method: live.request.method,
      path: outgoing.target,
      rawHeaders: outgoing.rawHeaders,
      body: outgoing.body,
      signal: control.signal,
      onAgain: () => task.gate.countHead(live, outgoing.head),
    });
    await sendBack(task, outgoing, response, exchange);
    task.gate.close(live);
  } catch (error) {
    end(task, live, control.signal.aborted ? control.signal.reason : error);
    throw error;
  } finally {
    outgoing.release();
  }
}

/** `GET / HTTP/1.1` and `Host: ` beyond what stands in them, with their lines' ends. */
const REQUEST_WORDS = 20;
const STATUS_LINE = 15;

/** Counts an answer's head as it came. */
export const countAnswer = (gate: Gate, live: Live, { rawHeaders }: UpstreamResponse): void =>
  gate.count(live, 0, headBytes(STATUS_LINE, rawHeaders));

export interface Outgoing {
  readonly live: Live;
  readonly passed: Passed;
  /** path and query as sent */
  readonly target: string;
  readonly rawHeaders: string[];
  /** bytes of the head as sent */
  readonly head: number;
  readonly body: ((to: Writable) => Promise<void>) | undefined;
  /** leaves the rest of the body unsent */
  stopBody(): void;
  /** gives back what was held; called in every case */
  release(): void;
}

/** Decides a request, by its rule and by what it carries, up to where it may be recorded as allowed. Rejects with Refused. */
export async function admit(
  task: Task,
  { request, path, query }: Checked,
  exchange: Exchange,
  headers: string[],
  control: AbortController,
): Promise<Outgoing> {
  const { gate } = task;
  const verdict = await gate.judge(request, control.signal);
  if (verdict.decision !== "allow") throw await refusedBy(task, request, verdict);
  const { secrets } = task;
  const asked = { ...request, path, query, rawHeaders: headers };
  const rule = { credentials: verdict.matched?.credentials, storable: task.storable };
  const passed = prepare(asked, secrets, rule);
  const refuseCredential = async ({ code, reason }: CredentialRefusal) => {
    await gate.refused(request, verdict.rule, reason);
    return new Refused(refusal(403, code, reason, { rule: verdict.rule }), request);
  };
  if (passed.kind === "refuse") throw await refuseCredential(passed);

  const filter = passed.body.kind === "filter" && exchange.body ? passed.body.open(task.room) : undefined;
  try {
    let whole: Buffer | undefined;
    if (filter && passed.body.kind === "filter" && passed.body.held) {
      exchange.proceed();
      const gathered = await gather(exchange, filter, control.signal);
      if (!Buffer.isBuffer(gathered)) throw await refuseCredential(gathered);
      whole = gathered;
    }
    const live = gate.open(request, control);
    if ("decision" in live) throw await refusedBy(task, request, live);
    const secret = passed.swapped[0] ?? [...(filter?.swapped ?? [])][0];
    if (secret !== undefined) live.secret = secret;
    const body = whole ? [...(filter?.swapped ?? [])] : filter ? passed.intoBody : [];
    if (passed.swapped.length + body.length > 0) {
      live.keys = { request: asked, rule, secrets, head: passed.swapped, body };
      // while its body was gathered nobody could have cut it
      if (task.secrets !== secrets) gate.holdTo(live, task.secrets);
    }
    exchange.proceed();
    const stop = exchange.body && new AbortController();
    const target = path + passed.query;
    const rawHeaders = withLength(passed, whole);
    return {
      live,
      passed,
      target,
      rawHeaders,
      head: headBytes(request.method.length + target.length + request.host.length + REQUEST_WORDS, rawHeaders),
      body: exchange.body && bodyOf(task, exchange, live, { filter, whole, signal: stop?.signal }),
      stopBody: () => stop?.abort(),
      release: () => filter?.close(),
    };
  } catch (error) {
    filter?.close();
    throw error;
  }
}

async function refusedBy(
  task: Task,
  request: EgressRequest,
  { decision, rule, reason }: { decision: string; rule: string; reason: string },
): Promise<Refused> {
  await task.gate.refused(request, rule, reason);
  const allowable = decision === "ask";
  return new Refused(refusal(403, allowable ? "policy.no-rule" : "policy.refused", reason, { rule, allowable }), request);
}

/** Reads a body whole through its filter, which holds it and bounds it. */
async function gather(exchange: Exchange, filter: BodyFilter, signal: AbortSignal): Promise<Buffer | CredentialRefusal> {
  const parts: Buffer[] = [];
  // its end here is not the connection's: a refusal is still to be sent
  for await (const chunk of exchange.body?.iterator({ destroyOnReturn: false }) ?? []) {
    if (signal.aborted) throw signal.reason;
    const out = filter.push(chunk as Buffer);
    if (!Buffer.isBuffer(out)) return out;
    parts.push(out);
  }
  const rest = filter.end();
  return Buffer.isBuffer(rest) ? Buffer.concat([...parts, rest]) : rest;
}

function withLength(passed: Passed, whole: Buffer | undefined): string[] {
  const { rawHeaders, body } = passed;
  if (whole) return [...filterHeaders(rawHeaders, (name) => name !== "content-length"), "Content-Length", String(whole.length)];
  if (body.kind === "filter" && body.length === "changes") return filterHeaders(rawHeaders, (name) => name !== "content-length");
  return rawHeaders;
}

interface BodyMeans {
  readonly filter: BodyFilter | undefined;
  readonly whole: Buffer | undefined;
  readonly signal: AbortSignal | undefined;
}

function bodyOf(task: Task, exchange: Exchange, live: Live, { filter, whole, signal }: BodyMeans): (to: Writable) => Promise<void> {
  const { body } = exchange;
  const count = (bytes: number) => task.gate.count(live, bytes, 0);
  if (whole) {
    return async (to) => {
      count(whole.length);
      to.write(whole);
    };
  }
  const take = (out: ReturnType<BodyFilter["push"]>): Buffer => {
    if (Buffer.isBuffer(out)) {
      const [put] = filter?.swapped ?? [];
      if (put !== undefined) live.secret ??= put;
      return out;
    }
    live.control.abort(new Cut(refusal(403, out.code, out.reason, { rule: live.matched.id }), out.reason));
    throw live.control.signal.reason;
  };
  const change = filter && { push: (chunk: Buffer) => take(filter.push(chunk)), end: () => take(filter.end()) };
  return async (to) => {
    if (body) await pump(body, to, { count, ...(signal ? { signal } : {}), ...(change ? { change } : {}) });
    if (live.keys && filter) live.keys.body = [...filter.swapped];
  };
}

/** @param response whose head is there */
async function sendBack(task: Task, outgoing: Outgoing, response: UpstreamResponse, exchange: Exchange): Promise<void> {
  const { live, passed, stopBody } = outgoing;
  const { signal } = live.control;
  const { status, rawHeaders, body } = response;
  live.status = status;
  if (response.address !== undefined) live.address = response.address;
  countAnswer(task.gate, live, response);
  if (signal.aborted) throw signal.reason;
  const unsafe = passed.values.length > 0 ? unsearchable(status, rawHeaders) : undefined;
  if (unsafe !== undefined) {
    response.destroy();
    throw new Refused(refusal(502, "credential.unsearchable", unsafe, { rule: live.matched.id }), live.request);
  }
  const trailers = exchange.version === 2 && isGrpc(rawHeaders);
  const to = exchange.respond(status, answerHeaders(rawHeaders, live, passed), { trailers });
  const scrubber = passed.values.length > 0 ? new ResponseScrubber(passed.values) : undefined;
  const cut = () => {
    response.destroy();
    exchange.abort();
  };
  signal.addEventListener("abort", cut, { once: true });
  try {
    const count = (bytes: number) => task.gate.count(live, 0, bytes);
    let last = response.rest();
    if (last) {
      count(last.length);
      if (scrubber) last = Buffer.concat([scrubber.push(last), scrubber.end()]);
    } else await pump(body, to, { count, ...(scrubber ? { change: scrubber } : {}) });
    if (signal.aborted) throw signal.reason;
    if (!response.whole) throw new UpstreamFault("reset", "The origin broke its answer off.");
    // an answer that is whole may come before the request is
    stopBody();
    const late = trailers ? response.trailers() : [];
    if (trailers) count(headBytes(0, late));
    if (signal.aborted) throw signal.reason;
    exchange.finish(scrubHeaders(late, passed.values), last);
    await sent(to);
    if (signal.aborted) throw signal.reason;
  } finally {
    signal.removeEventListener("abort", cut);
  }
}

/** Resolves when all of an answer that was ended is with its client, or nothing more will be. */
function sent(to: Writable): Promise<void> {
  return new Promise((resolve) => {
    if (to.writableFinished || to.destroyed) resolve();
    else to.on("finish", resolve).on("close", resolve);
  });
}

export const targetOf = ({ request, matched }: Live): Target => ({
  scheme: request.scheme,
  host: request.host,
  port: request.port,
  private: matched.private,
});

/** Records how something allowed ended that did not end well. */
export function end(task: Task, live: Live, error: unknown): void {
  if (error instanceof UpstreamFault) {
    if (error.address !== undefined) live.address = error.address;
    task.gate.close(live, `${error.kind}: ${error.message}`, error.kind === "address" ? { reason: error.message } : undefined);
  } else if (error instanceof Cut) task.gate.close(live, error.fault, { reason: error.refusal.reason });
  else if (error instanceof Refused) task.gate.close(live, error.refusal.code, { reason: error.refusal.reason });
  else if (error instanceof Left) task.gate.close(live, "the client left");
  else if (error instanceof NotRecorded) task.gate.close(live, "not recorded in time, so nothing left");
  else task.gate.close(live, `broken off: ${(error as NodeJS.ErrnoException).code ?? "error"}`);
}

/** Tells the client why it gets nothing, or breaks off where its answer has begun. */
export function refuse(task: Task, exchange: Exchange, error: unknown): void {
  if (error instanceof Left) return;
  const told = refusalOf(error);
  if (!told) process.stderr.write(`proxy: ${String(error).slice(0, 300)}\n`);
  if (!told || exchange.responded) return exchange.abort();
  const body = refusalBody(told.refusal, told.request, task.name);
  exchange.answer(told.refusal.status, refusalHeaders(body), body);
}

const FAULT_STATUS: Partial<Record<UpstreamFault["kind"], Refusal["status"]>> = { address: 403, timeout: 504, resolver: 504 };
const MAY_PASS = new Set<UpstreamFault["kind"]>(["resolver", "timeout", "reset", "unreachable", "refused"]);

export function refusalOf(error: unknown): { refusal: Refusal; request?: EgressRequest | undefined } | undefined {
  if (error instanceof Refused) return error;
  if (error instanceof Cut) return { refusal: error.refusal };
  if (error instanceof UpstreamFault) {
    const { kind, message } = error;
    return { refusal: refusal(FAULT_STATUS[kind] ?? 502, `upstream.${kind}`, message, { retry: MAY_PASS.has(kind) }) };
  }
  if (error instanceof NotRecorded) {
    const reason = "What leaves this task is written down first, and that is not possible at the moment.";
    return { refusal: refusal(503, "proxy.record", reason, { retry: true }) };
  }
  const { code } = error as NodeJS.ErrnoException;
  if (code === "ECONNRESET" || code === "EPIPE" || code === "ERR_STREAM_PREMATURE_CLOSE") {
    return { refusal: refusal(502, "upstream.reset", "The connection was broken off.", { retry: true }) };
  }
  return undefined;
}

/** RFC 9110 7.6.1, and what is between two neighbours only. */
const HOP_BY_HOP = new Set(
  "connection keep-alive proxy-connection te trailer transfer-encoding upgrade http2-settings expect host proxy-authenticate proxy-authentication-info".split(
    " ",
  ),
);
/** By these an origin sends clients to other places and other protocols, past their next request's decision. */
const STEERING = new Set(["alt-svc", "alt-used", "origin-trial-alt-svc"]);

/** What a message says is for its connection only; framing is ours: without its length, a body that leaves is chunked. */
function listed(rawHeaders: readonly string[]): ReadonlySet<string> {
  const values = valuesOf(rawHeaders, "connection");
  if (values.length === 0) return NONE;
  const names = new Set(values.flatMap((value) => value.toLowerCase().split(/[\s,]+/)));
  names.delete("content-length");
  return names;
}
const NONE: ReadonlySet<string> = new Set();

const isGrpc = (rawHeaders: readonly string[]): boolean =>
  valuesOf(rawHeaders, "content-type").some((type) => /^application\/grpc/i.test(type));

/** A request's headers as they are decided and sent. */
export function ordinaryHeaders({ rawHeaders, version, target }: Exchange): string[] {
  const dropped = listed(rawHeaders);
  // to an explicit proxy; on other connections it is looked at as any credential
  const explicit = version === 1 && !target.startsWith("/");
  const grpc = version === 2 && isGrpc(rawHeaders);
  return filterHeaders(
    rawHeaders,
    (name, value) =>
      (grpc && name === "te" && value === "trailers") ||
      !(HOP_BY_HOP.has(name) || dropped.has(name) || (explicit && name === "proxy-authorization")),
  );
}

/** An answer's headers as the guest gets them. */
export function answerHeaders(rawHeaders: readonly string[], live: Live, passed: Passed): string[] {
  const dropped = listed(rawHeaders);
  const kept = filterHeaders(rawHeaders, (name) => !HOP_BY_HOP.has(name) && !STEERING.has(name) && !dropped.has(name));
  return scrubHeaders(withoutLogins(kept, { credentials: live.matched.credentials }), passed.values);
}
