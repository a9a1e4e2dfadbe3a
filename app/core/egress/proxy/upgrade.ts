/** WebSocket and other upgrades: a request like others, decided as an upgrade, after which bytes go both ways unread. */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { ResponseScrubber } from "../credentials/index.ts";
import { type Exchange, filterHeaders, valuesOf } from "./exchange.ts";
import { Left } from "./gate.ts";
import { admit, answerHeaders, type Connection, check, end, ordinaryHeaders, Quiet, refusalOf, type Task, targetOf } from "./http.ts";
import { pump } from "./pump.ts";
import { refusalBody, refusalHeaders } from "./refusal.ts";

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
  socket.once("close", () => control.abort(new Left()));
  if (head.length > 0) socket.unshift(head);
  const exchange = new UpgradeExchange(request, socket);
  try {
    await forward(task, connection, exchange, socket, control);
  } catch (error) {
    const told = refusalOf(control.signal.aborted ? control.signal.reason : error);
    if (!told || exchange.responded) return void socket.destroy();
    const body = refusalBody(told.refusal, told.request, task.name);
    exchange.answer(told.refusal.status, refusalHeaders(body), body);
  }
}

async function forward(
  task: Task,
  connection: Connection,
  exchange: UpgradeExchange,
  socket: Duplex,
  control: AbortController,
): Promise<void> {
  const checked = await check(task, connection, exchange, true);
  const protocol = valuesOf(exchange.rawHeaders, "upgrade");
  const headers = [...ordinaryHeaders(exchange), "Connection", "Upgrade", ...protocol.flatMap((value) => ["Upgrade", value])];
  const { live, passed, target, rawHeaders } = await admit(task, checked, exchange, headers, control);
  try {
    await task.gate.record(live);
    const searched = passed.values.length > 0;
    // compressed frames could not be searched for the key
    const sent = searched ? filterHeaders(rawHeaders, (name) => name !== "sec-websocket-extensions") : rawHeaders;
    const {
      response,
      socket: other,
      head,
    } = await task.upstream.upgrade({
      target: targetOf(live),
      method: live.request.method,
      path: target,
      rawHeaders: sent,
      signal: control.signal,
    });
    Object.assign(live, { status: response.status, ...(response.address === undefined ? {} : { address: response.address }) });
    const scrubber = searched ? new ResponseScrubber(passed.values) : undefined;
    const answered = answerHeaders(response.rawHeaders, live, passed);
    const quiet = new Quiet(() => control.abort(new Left()));
    const received = (bytes: number) => {
      quiet.stir();
      task.gate.count(live, 0, bytes);
    };
    const abort = () => {
      other?.destroy();
      response.destroy();
      socket.destroy();
    };
    control.signal.addEventListener("abort", abort, { once: true });
    try {
      if (!other) {
        exchange.writeHead(response.status, [...filterHeaders(answered, (name) => name !== "content-length"), "connection", "close"]);
        await pump(response.body, socket, { count: received, ...(scrubber ? { change: scrubber } : {}) });
        socket.end();
      } else {
        other.on("error", () => {});
        if (head && head.length > 0) other.unshift(head);
        exchange.writeHead(101, [
          ...answered,
          "connection",
          "Upgrade",
          ...valuesOf(response.rawHeaders, "upgrade").flatMap((value) => ["upgrade", value]),
        ]);
        const sentOn = (bytes: number) => {
          quiet.stir();
          task.gate.count(live, bytes, 0);
        };
        const up = pump(socket, other, { count: sentOn }).then(() => other.end());
        const down = pump(other, socket, { count: received, ...(scrubber ? { change: scrubber } : {}) }).then(() => socket.end());
        await Promise.race([up, down]).catch(() => {}); // one side has ended: so does the whole
        await Promise.allSettled([Promise.race([Promise.allSettled([up, down]), new Promise((resolve) => setTimeout(resolve, 2_000))])]);
      }
    } finally {
      quiet.end();
      control.signal.removeEventListener("abort", abort);
      other?.destroy();
    }
    const { reason } = control.signal;
    if (control.signal.aborted && !(reason instanceof Left)) throw reason;
    task.gate.close(live);
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
  onLeft(listener: () => void): void {
    this.#socket.once("close", listener);
  }
  writeHead(status: number, rawHeaders: string[]): void {
    this.responded = true;
    let head = `HTTP/1.1 ${status} ${status === 101 ? "Switching Protocols" : "Answer"}\r\n`;
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
