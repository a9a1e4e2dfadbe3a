/**
 * JSON-RPC 2.0 over lines: one peer for the keeper's clients, the helper, the share server and the agent in the guest.
 *
 * The other side may be hostile, so a library that ignores what it does not know is not enough: each line is bounded before it
 * is parsed, each envelope and payload is checked against a strict schema, and the first thing that does not fit ends the
 * connection with every open call rejected. No I/O here: a `LineTransport` brings lines and takes lines.
 */
import { z } from "zod";

/** Longest line, newline included, in bytes. The same number stands in helpers/contract. */
export const MAX_LINE_BYTES = 1_048_576;
/** Requests one side may have open at once. */
export const MAX_OPEN_REQUESTS = 64;

export interface LineTransport {
  /** Sends one line; the newline is the transport's. */
  send(line: string): void;
  /** Ends the connection; `onClose` follows. Twice is harmless. */
  close(): void;
  /** Called once, before any line is delivered. */
  start(handlers: { onLine: (line: string) => void; onClose: (reason: string) => void }): void;
}

type Schemas = Readonly<Record<string, { readonly params: z.ZodType; readonly result: z.ZodType }>>;
/** The requests one side answers and the notifications it sends. */
export interface RpcProtocol {
  readonly requests: Schemas;
  readonly notifications: Readonly<Record<string, z.ZodType>>;
}

/**
 * One method's schemas, made when they are first used: a command calls a few of many methods, and making the schemas of all of them
 * took longer than everything else it did. For the same reason the larger schemas of the contract are `z.lazy`.
 */
export function method<P extends z.ZodType, R extends z.ZodType>(
  make: () => { params: P; result: R },
): { readonly params: P; readonly result: R } {
  let made: { params: P; result: R } | undefined;
  const schemas = () => {
    made ??= make();
    return made;
  };
  return {
    get params() {
      return schemas().params;
    },
    get result() {
      return schemas().result;
    },
  };
}

export type Handlers<P extends RpcProtocol> = {
  [M in keyof P["requests"]]: (params: z.output<P["requests"][M]["params"]>) => Promise<z.input<P["requests"][M]["result"]>>;
};
export type NotificationListeners<P extends RpcProtocol> = {
  [N in keyof P["notifications"]]: (params: z.output<P["notifications"][N]>) => void;
};

/** What a failed request answered. `data` is whatever the protocol puts there; it has been parsed as JSON and nothing more. */
export class RpcError extends Error {
  readonly number: number;
  readonly data: unknown;
  constructor(number: number, message: string, data?: unknown) {
    super(message);
    this.name = "RpcError";
    this.number = number;
    this.data = data;
  }
}

/** The connection ended, or was ended because the other side broke the protocol; `message` says which. */
export class RpcClosed extends Error {
  constructor(reason: string) {
    super(reason);
    this.name = "RpcClosed";
  }
}

export const METHOD_NOT_FOUND = -32_601;
export const INVALID_PARAMS = -32_602;
export const FAILED = -32_000;

const id = z.int().min(1);
const requestEnvelope = z.strictObject({
  jsonrpc: z.literal("2.0"),
  id,
  method: z.string().max(64),
  params: z.record(z.string(), z.unknown()),
});
const notificationEnvelope = z.strictObject({
  jsonrpc: z.literal("2.0"),
  method: z.string().max(64),
  params: z.record(z.string(), z.unknown()),
});
const resultEnvelope = z.strictObject({ jsonrpc: z.literal("2.0"), id, result: z.record(z.string(), z.unknown()) });
const errorEnvelope = z.strictObject({
  jsonrpc: z.literal("2.0"),
  id,
  error: z.strictObject({ code: z.int(), message: z.string().max(8192), data: z.unknown().optional() }),
});

type Open = { method: string; resolve: (value: unknown) => void; reject: (error: Error) => void };

export interface RpcOptions<Remote extends RpcProtocol, Local extends RpcProtocol> {
  readonly transport: LineTransport;
  /** what the other side answers and sends */
  readonly remote: Remote;
  readonly notified?: NotificationListeners<Remote>;
  /** what this side answers; absent: any request from the other side is a violation */
  readonly local?: { readonly protocol: Local; readonly handlers: Handlers<Local>; readonly toError: (error: unknown) => RpcError };
  readonly onClose?: (reason: string) => void;
}

export class RpcPeer<
  Remote extends RpcProtocol,
  Local extends RpcProtocol = { requests: Record<never, never>; notifications: Record<never, never> },
> {
  readonly #options: RpcOptions<Remote, Local>;
  readonly #open = new Map<number, Open>();
  #nextId = 1;
  #serving = 0;
  #closed: string | undefined;

  constructor(options: RpcOptions<Remote, Local>) {
    this.#options = options;
    options.transport.start({ onLine: (line) => this.#receive(line), onClose: (reason) => this.#ended(reason) });
  }

  /** Why the connection ended, or undefined while it is up. */
  get closedBecause(): string | undefined {
    return this.#closed;
  }

  call<M extends keyof Remote["requests"] & string>(
    method: M,
    params: z.input<Remote["requests"][M]["params"]>,
  ): Promise<z.output<Remote["requests"][M]["result"]>> {
    if (this.#closed !== undefined) return Promise.reject(new RpcClosed(this.#closed));
    if (this.#open.size >= MAX_OPEN_REQUESTS)
      return Promise.reject(new RpcError(FAILED, `more than ${MAX_OPEN_REQUESTS} requests are open`));
    const number = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#open.set(number, { method, resolve: resolve as (value: unknown) => void, reject });
      this.#options.transport.send(JSON.stringify({ jsonrpc: "2.0", id: number, method, params }));
    });
  }

  /** Sends a notification of this side's protocol. */
  notify<N extends keyof Local["notifications"] & string>(method: N, params: z.input<Local["notifications"][N]>): void {
    if (this.#closed === undefined) this.#options.transport.send(JSON.stringify({ jsonrpc: "2.0", method, params }));
  }

  close(reason = "closed by this side"): void {
    this.#ended(reason);
    this.#options.transport.close();
  }

  #violation(what: string): void {
    this.close(`the other side broke the protocol: ${what}`);
  }

  #ended(reason: string): void {
    if (this.#closed !== undefined) return;
    this.#closed = reason;
    for (const open of this.#open.values()) open.reject(new RpcClosed(reason));
    this.#open.clear();
    this.#options.onClose?.(reason);
  }

  #receive(line: string): void {
    if (this.#closed !== undefined) return;
    let message: unknown;
    try {
      message = JSON.parse(line);
    } catch {
      return this.#violation("a line is not JSON");
    }
    if (typeof message !== "object" || message === null || Array.isArray(message)) return this.#violation("a line is not one object");
    if ("method" in message) {
      if ("id" in message) {
        const request = requestEnvelope.safeParse(message);
        return request.success ? void this.#serve(request.data) : this.#violation(firstIssue(request.error));
      }
      const notification = notificationEnvelope.safeParse(message);
      return notification.success ? this.#notified(notification.data) : this.#violation(firstIssue(notification.error));
    }
    if ("error" in message) {
      const failed = errorEnvelope.safeParse(message);
      if (!failed.success) return this.#violation(firstIssue(failed.error));
      const { code, message: text, data } = failed.data.error;
      return this.#answered(failed.data.id, (open) => open.reject(new RpcError(code, text, data)));
    }
    const done = resultEnvelope.safeParse(message);
    if (!done.success) return this.#violation(firstIssue(done.error));
    this.#answered(done.data.id, (open) => {
      const schema = this.#options.remote.requests[open.method];
      const result = schema?.result.safeParse(done.data.result);
      if (result?.success) return open.resolve(result.data);
      open.reject(new RpcClosed(`the answer to ${open.method} does not fit: ${result ? firstIssue(result.error) : "unknown method"}`));
      this.#violation(`the answer to ${open.method} does not fit its schema`);
    });
  }

  #answered(number: number, settle: (open: Open) => void): void {
    const open = this.#open.get(number);
    if (!open) return this.#violation(`an answer to request ${number}, which is not open`);
    this.#open.delete(number);
    settle(open);
  }

  #notified(message: { method: string; params: unknown }): void {
    const schema = Object.hasOwn(this.#options.remote.notifications, message.method)
      ? this.#options.remote.notifications[message.method]
      : undefined;
    const listener = this.#options.notified?.[message.method as keyof Remote["notifications"]];
    if (!schema || !listener) return this.#violation(`unknown notification ${message.method}`);
    const params = schema.safeParse(message.params);
    if (!params.success) return this.#violation(`${message.method}: ${firstIssue(params.error)}`);
    try {
      listener(params.data as never);
    } catch (error) {
      // ours, but brought on by this connection's other side: it ends this connection and not the process
      this.close(`${message.method} could not be taken: ${(error as Error).message}`.slice(0, 512));
    }
  }

  async #serve(request: { id: number; method: string; params: unknown }): Promise<void> {
    const local = this.#options.local;
    if (!local) return this.#violation(`a request (${request.method}) from a side that may not ask`);
    if (this.#serving >= MAX_OPEN_REQUESTS) return this.#violation(`more than ${MAX_OPEN_REQUESTS} requests are open`);
    this.#serving++;
    try {
      const schema = Object.hasOwn(local.protocol.requests, request.method) ? local.protocol.requests[request.method] : undefined;
      const handler = local.handlers[request.method as keyof Local["requests"]];
      if (!schema || !handler) throw new RpcError(METHOD_NOT_FOUND, `unknown method ${request.method}`);
      const params = schema.params.safeParse(request.params);
      if (!params.success) throw new RpcError(INVALID_PARAMS, `${request.method}: ${firstIssue(params.error)}`);
      const result = await handler(params.data as never);
      this.#answer({ jsonrpc: "2.0", id: request.id, result });
    } catch (error) {
      const failed = error instanceof RpcError ? error : local.toError(error);
      this.#answer({ jsonrpc: "2.0", id: request.id, error: { code: failed.number, message: failed.message, data: failed.data } });
    } finally {
      this.#serving--;
    }
  }

  #answer(message: object): void {
    if (this.#closed === undefined) this.#options.transport.send(JSON.stringify(message));
  }
}

/** Longest text of a first issue: it quotes what the other side sent, which may be a line long. */
const MAX_ISSUE_CHARS = 256;

/** The first thing wrong with a value: where and what. */
export function firstIssue(error: z.ZodError): string {
  const issue = error.issues[0];
  if (!issue) return "does not fit";
  const where = issue.path.map(String).join(".");
  return (where ? `${where}: ${issue.message}` : issue.message).slice(0, MAX_ISSUE_CHARS);
}
