/**
 * Who may speak to the web host. Everything is loopback, so the danger is other pages in the same browser (DNS rebinding,
 * cross-site requests, a guest's server forwarded to another loopback port) and other users of the machine.
 *
 *   printed address, `#token=…`  ──POST /session──▶  cookie (HttpOnly, Strict)  +  key (kept by the page, per origin)
 *
 * The token works once. A WebSocket needs the exact Host, the exact Origin, the cookie and the key: a cookie alone is sent to
 * every port of the host, so whoever listens on another loopback port would see it; the key is never sent there.
 */
import { randomBytes, timingSafeEqual } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { keySubprotocol, WEB_SUBPROTOCOL } from "../contract/index.ts";

const secret = () => randomBytes(32).toString("hex");

function same(a: string, b: string): boolean {
  const left = Buffer.from(a);
  const right = Buffer.from(b);
  return left.length === right.length && timingSafeEqual(left, right);
}

/** Why a request was refused; says nothing of what would have been right. */
export type Refusal = "host" | "origin" | "session" | "token";

export class Session {
  readonly origin: string;
  readonly #host: string;
  readonly #cookieName: string;
  readonly #cookie = secret();
  readonly #key = secret();
  #token: string | undefined;

  constructor(port: number) {
    this.#host = `127.0.0.1:${port}`;
    this.origin = `http://${this.#host}`;
    this.#cookieName = `cloche-${port}`;
  }

  /** The address to print; its token replaces any earlier one. */
  address(): string {
    this.#token = secret();
    return `${this.origin}/#token=${this.#token}`;
  }

  /** For every request. `localhost` is refused too: one name means one origin. */
  checkHost(request: IncomingMessage): Refusal | undefined {
    return request.headers.host === this.#host ? undefined : "host";
  }

  checkOrigin(request: IncomingMessage): Refusal | undefined {
    return request.headers.origin === this.origin ? undefined : "origin";
  }

  /** Trades the token, once, for the cookie header and the page's key. */
  exchange(token: string): { setCookie: string; key: string } | undefined {
    if (this.#token === undefined || !same(token, this.#token)) return undefined;
    this.#token = undefined;
    return { setCookie: `${this.#cookieName}=${this.#cookie}; Path=/; HttpOnly; SameSite=Strict`, key: this.#key };
  }

  #cookieFits(request: IncomingMessage): boolean {
    const cookies = (request.headers.cookie ?? "").split(";").map((cookie) => cookie.trim());
    return cookies.some((given) => same(given, `${this.#cookieName}=${this.#cookie}`));
  }

  /** Does a page that was reloaded still hold the session? */
  checkKey(request: IncomingMessage, key: string): Refusal | undefined {
    return this.#cookieFits(request) && same(key, this.#key) ? undefined : "session";
  }

  /** For a WebSocket: Host, Origin, cookie and key. */
  checkSocket(request: IncomingMessage): Refusal | undefined {
    const offered = (request.headers["sec-websocket-protocol"] ?? "").split(",").map((protocol) => protocol.trim());
    const key = offered.includes(WEB_SUBPROTOCOL) && offered.some((given) => same(given, keySubprotocol(this.#key)));
    return this.checkHost(request) ?? this.checkOrigin(request) ?? (this.#cookieFits(request) && key ? undefined : "session");
  }
}
