/** One request and its answer, alike for HTTP/1.1 and HTTP/2, as the guest's side of it. Headers are names and values in turn. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { constants, type ServerHttp2Stream } from "node:http2";
import type { Readable, Writable } from "node:stream";
import { DRAIN_MS } from "./limits.ts";

export interface Exchange {
  readonly version: 1 | 2;
  readonly method: string;
  /** as sent: a path with its query, or a whole URL to an explicit proxy */
  readonly target: string;
  /** every authority that the request names: each Host header, and :authority */
  readonly authorities: readonly string[];
  /** without pseudo-headers */
  readonly rawHeaders: string[];
  readonly body: Readable | undefined;
  /** Says that the body may come, where the client waits for that. */
  proceed(): void;
  /** Calls when the client left before it had its answer. */
  onLeft(listener: () => void): void;
  /** Sends the head; the body is written to what it answers with. */
  respond(status: number, rawHeaders: string[], options?: { trailers: boolean }): Writable;
  readonly responded: boolean;
  /** @param last goes with the end, and with a head that has not gone */
  finish(trailers: string[], last?: Buffer): void;
  /** Answers whole, and lets what is left of the request's body go by. */
  answer(status: number, rawHeaders: string[], body: Buffer): void;
  /** Breaks off, so that the client sees that its answer is not whole. */
  abort(): void;
}

export class Http1Exchange implements Exchange {
  readonly version = 1;
  readonly method: string;
  readonly target: string;
  readonly authorities: readonly string[];
  readonly rawHeaders: string[];
  readonly body: Readable | undefined;
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  #waits: boolean;
  #alone: NodeJS.Immediate | undefined;

  constructor(request: IncomingMessage, response: ServerResponse, waits: boolean) {
    this.#request = request;
    this.#response = response;
    this.#waits = waits;
    this.method = request.method ?? "";
    this.target = request.url ?? "";
    this.rawHeaders = request.rawHeaders;
    this.authorities = valuesOf(request.rawHeaders, "host");
    const { "content-length": length, "transfer-encoding": coding } = request.headers;
    this.body = coding !== undefined || (length !== undefined && Number(length) > 0) ? request : undefined;
    // a client that breaks off shows itself by the response's close
    request.on("error", () => {});
    response.on("error", () => {});
  }

  proceed(): void {
    if (this.#waits) this.#response.writeContinue();
    this.#waits = false;
  }

  onLeft(listener: () => void): void {
    this.#response.on("close", () => {
      if (!this.#response.writableFinished) listener();
    });
  }

  get responded(): boolean {
    return this.#response.headersSent;
  }

  respond(status: number, rawHeaders: string[]): Writable {
    this.#response.sendDate = false;
    this.#response.writeHead(status, rawHeaders);
    // the head goes with the first bytes of the body, or alone where those are not here yet
    this.#alone = setImmediate(() => {
      if (!this.#response.destroyed) this.#response.flushHeaders();
    });
    return this.#response;
  }

  finish(_trailers: string[], last?: Buffer): void {
    clearImmediate(this.#alone);
    if (last && last.length > 0) this.#response.end(last);
    else this.#response.end();
    if (this.body && !this.#request.complete) this.#drain();
  }

  answer(status: number, rawHeaders: string[], body: Buffer): void {
    // a client that waits for its 100 may send its body or not: what comes next cannot be told from a next request
    const headers = this.#waits ? [...rawHeaders, "connection", "close"] : rawHeaders;
    this.#response.writeHead(status, headers);
    this.#response.end(this.method === "HEAD" ? undefined : body);
    if (this.body && !this.#waits && !this.#request.complete) this.#drain();
  }

  abort(): void {
    this.#response.destroy();
  }

  #drain(): void {
    this.#request.resume();
    const timer = setTimeout(() => this.#request.socket.destroy(), DRAIN_MS);
    const done = () => clearTimeout(timer);
    this.#request.once("end", done).once("close", done);
  }
}

export class Http2Exchange implements Exchange {
  readonly version = 2;
  readonly method: string;
  readonly target: string;
  readonly authorities: readonly string[];
  readonly rawHeaders: string[];
  readonly body: Readable | undefined;
  readonly #stream: ServerHttp2Stream;
  #waits = false;
  #trailers: string[] = [];

  constructor(stream: ServerHttp2Stream, rawHeaders: string[]) {
    this.#stream = stream;
    this.method = valuesOf(rawHeaders, ":method")[0] ?? "";
    this.target = valuesOf(rawHeaders, ":path")[0] ?? "";
    this.authorities = [...valuesOf(rawHeaders, ":authority"), ...valuesOf(rawHeaders, "host")];
    this.#waits = valuesOf(rawHeaders, "expect").some((value) => value.toLowerCase() === "100-continue");
    this.rawHeaders = joinCookies(filterHeaders(rawHeaders, (name) => !name.startsWith(":")));
    this.body = stream.endAfterHeaders ? undefined : stream;
    stream.on("error", () => {});
  }

  proceed(): void {
    if (this.#waits && !this.#stream.destroyed) this.#stream.additionalHeaders({ ":status": 100 });
    this.#waits = false;
  }

  onLeft(listener: () => void): void {
    this.#stream.once("close", () => {
      if (!this.#stream.writableFinished) listener();
    });
  }

  get responded(): boolean {
    return this.#stream.headersSent;
  }

  respond(status: number, rawHeaders: string[], options?: { trailers: boolean }): Writable {
    const stream = this.#stream;
    if (options?.trailers) stream.once("wantTrailers", () => stream.sendTrailers(fields(this.#trailers)));
    const head = [":status", String(status), ...lowerNames(rawHeaders)];
    stream.respond(head as never, { waitForTrailers: options?.trailers ?? false });
    return stream;
  }

  finish(trailers: string[], last?: Buffer): void {
    this.#trailers = trailers;
    if (last && last.length > 0) this.#stream.end(last);
    else this.#stream.end();
    this.#drain();
  }

  answer(status: number, rawHeaders: string[], body: Buffer): void {
    if (this.#stream.destroyed || this.#stream.closed) return;
    this.respond(status, rawHeaders);
    this.#stream.end(this.method === "HEAD" ? undefined : body);
    this.#drain();
  }

  #drain(): void {
    const stream = this.#stream;
    if (!this.body || stream.readableEnded) return;
    stream.resume();
    const timer = setTimeout(() => stream.close(constants.NGHTTP2_NO_ERROR), DRAIN_MS);
    stream.once("close", () => clearTimeout(timer));
  }

  abort(): void {
    // `close` of a stream that still writes would end it first, and the client took a part of its answer for the whole
    this.#stream.destroy(new Error("broken off"));
  }
}

/**
 * A head's bytes as HTTP/1.1 writes them, whatever carries it: HTTP/2 packs them, and what they say is as much.
 * @param line its first line's, end included
 */
export function headBytes(line: number, rawHeaders: readonly string[]): number {
  let bytes = line + 2;
  // a name has its colon and blank behind it, a value its line's end
  for (const text of rawHeaders) bytes += text.length + 2;
  return bytes;
}

/** Each value of a header. */
export function valuesOf(rawHeaders: readonly string[], name: string): string[] {
  const found: string[] = [];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const one = rawHeaders[at] ?? "";
    if (one.length === name.length && one.toLowerCase() === name) found.push(rawHeaders[at + 1] ?? "");
  }
  return found;
}

/** @param keep is asked with the name in lower case */
export function filterHeaders(rawHeaders: readonly string[], keep: (name: string, value: string) => boolean): string[] {
  const kept: string[] = [];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] ?? "";
    const value = rawHeaders[at + 1] ?? "";
    if (keep(name.toLowerCase(), value)) kept.push(name, value);
  }
  return kept;
}

const lowerNames = (rawHeaders: readonly string[]): string[] => rawHeaders.map((text, at) => (at % 2 === 0 ? text.toLowerCase() : text));

/** HTTP/2 may split cookies over fields (RFC 9113 8.2.3); they are decided, and sent on over HTTP/1.1, as one. */
function joinCookies(rawHeaders: string[]): string[] {
  const cookies = valuesOf(rawHeaders, "cookie");
  return cookies.length < 2 ? rawHeaders : [...filterHeaders(rawHeaders, (name) => name !== "cookie"), "cookie", cookies.join("; ")];
}

function fields(rawHeaders: readonly string[]): Record<string, string[]> {
  const result: Record<string, string[]> = {};
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const name = (rawHeaders[at] ?? "").toLowerCase();
    result[name] = [...(result[name] ?? []), rawHeaders[at + 1] ?? ""];
  }
  return result;
}
