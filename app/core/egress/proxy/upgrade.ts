/** WebSocket and other upgrades: a request like others, decided as an upgrade, after which bytes go both ways unread. */
import { type IncomingMessage, STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import { ResponseScrubber, unsearchable } from "../credentials/index.ts";
import { type Exchange, filterHeaders, valuesOf } from "./exchange.ts";
import { Left } from "./gate.ts";
import {
  admit,
  answerHeaders,
  type Connection,
  check,
  countAnswer,
  end,
  ordinaryHeaders,
  Refused,
  refusalOf,
  type Task,
  targetOf,
} from "./http.ts";
import { pump, tunnel } from "./pump.ts";
import { refusal, refusalBody, refusalHeaders } from "./refusal.ts";

/** Takes the connection over; never rejects. */
export async function handleUpgrade(
  task: Task,
  connection: Connection,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  const control = new AbortController();
  socket.on("error", () => {});
  const left = () => control.abort(new Left());
  socket.once("close", left);
  if (head.length > 0) socket.unshift(head);
  const exchange = new UpgradeExchange(request, socket);
  try {
    await forward(task, connection, exchange, { socket, control, left });
  } catch (error) {
    const told = refusalOf(control.signal.aborted ? control.signal.reason : error);
    if (!told || exchange.responded) return void socket.destroy();
    const body = refusalBody(told.refusal, told.request, task.name);
    exchange.answer(told.refusal.status, refusalHeaders(body), body);
  }
}

interface Guest {
  readonly socket: Duplex;
  readonly control: AbortController;
  readonly left: () => void;
}

async function forward(task: Task, connection: Connection, exchange: UpgradeExchange, guest: Guest): Promise<void> {
  const { socket, control, left } = guest;
  const checked = await check(task, connection, exchange, true);
  const protocol = valuesOf(exchange.rawHeaders, "upgrade");
  const headers = [...ordinaryHeaders(exchange), "Connection", "Upgrade", ...protocol.flatMap((value) => ["Upgrade", value])];
  const { live, passed, target, rawHeaders, head: size } = await admit(task, checked, exchange, headers, control);
  const { gate } = task;
  try {
    await gate.record(live, size);
    const searched = passed.values.length > 0;
    // compressed frames could not be searched for the key
    const sent = searched ? filterHeaders(rawHeaders, (name) => name !== "sec-websocket-extensions") : rawHeaders;
    const { method } = live.request;
    const upgraded = await task.upstream.upgrade({
      target: targetOf(live),
      method,
      path: target,
      rawHeaders: sent,
      signal: control.signal,
    });
    const { response, socket: origin, head } = upgraded;
    Object.assign(live, { status: response.status, ...(response.address === undefined ? {} : { address: response.address }) });
    socket.off("close", left); // from here on that is how it ends
    const cut = () => {
      origin?.destroy();
      response.destroy();
      socket.destroy();
    };
    control.signal.addEventListener("abort", cut, { once: true });
    if (control.signal.aborted) cut();
    else countAnswer(gate, live, response);
    const answered = answerHeaders(response.rawHeaders, live, passed);
    const down = {
      count: (bytes: number) => gate.count(live, 0, bytes),
      ...(searched ? { change: new ResponseScrubber(passed.values) } : {}),
    };
    if (origin) {
      origin.on("error", () => {});
      if (head && head.length > 0) origin.unshift(head);
      const protocols = valuesOf(response.rawHeaders, "upgrade").flatMap((value) => ["upgrade", value]);
      exchange.writeHead(101, [...answered, "connection", "Upgrade", ...protocols]);
      await tunnel(socket, origin, { count: (bytes) => gate.count(live, bytes, 0) }, down);
    } else {
      const unsafe = searched ? unsearchable(response.status, response.rawHeaders) : undefined;
      if (unsafe !== undefined) throw new Refused(refusal(502, "credential.unsearchable", unsafe, { rule: live.matched.id }), live.request);
      exchange.writeHead(response.status, [...filterHeaders(answered, (name) => name !== "content-length"), "connection", "close"]);
      await pump(response.body, socket, down);
      socket.end();
    }
    if (control.signal.aborted) throw control.signal.reason;
    gate.close(live);
  } catch (error) {
    end(task, live, control.signal.aborted ? control.signal.reason : error);
    throw error;
  }
}

/** The request's side of it: nothing but a head is read and written. */
class UpgradeExchange implements Exchange {
  readonly version = 1;
  readonly method: string;
  readonly target: string;
  readonly authorities: readonly string[];
  readonly rawHeaders: string[];
  readonly body = undefined;
  readonly #socket: Duplex;
  responded = false;

  constructor(request: IncomingMessage, socket: Duplex) {
    this.method = request.method ?? "";
    this.target = request.url ?? "";
    this.rawHeaders = request.rawHeaders;
    this.authorities = valuesOf(request.rawHeaders, "host");
    this.#socket = socket;
  }

  proceed(): void {}
  onLeft(): void {}
  writeHead(status: number, rawHeaders: string[]): void {
    this.responded = true;
    let head = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\n`;
    for (let at = 0; at + 1 < rawHeaders.length; at += 2) head += `${rawHeaders[at]}: ${rawHeaders[at + 1]}\r\n`;
    this.#socket.write(`${head}\r\n`, "latin1");
  }
  respond(status: number, rawHeaders: string[]): Duplex {
    this.writeHead(status, rawHeaders);
    return this.#socket;
  }
  finish(): void {
    this.#socket.end();
  }
  answer(status: number, rawHeaders: string[], body: Buffer): void {
    this.writeHead(status, [...rawHeaders, "connection", "close"]);
    this.#socket.end(body);
  }
  abort(): void {
    this.#socket.destroy();
  }
}
