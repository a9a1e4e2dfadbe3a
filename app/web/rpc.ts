/**
 * `/rpc`: one page, one keeper connection of its own. Not a pipe: each request is parsed, its method looked up in the page's
 * list (app/contract/web.ts) and its parameters checked before the keeper hears of it, and each answer is checked on the way back.
 */
import type { WebSocket } from "ws";
import {
  type Client,
  CONTRACT_VERSION,
  FAILED,
  type Handlers,
  type LineTransport,
  MAX_LINE_BYTES,
  type Method,
  ProblemError,
  pageKeeperRequests,
  RpcError,
  RpcPeer,
  toProblem,
  WebClose,
  webProtocol,
} from "../contract/index.ts";
import type { Dialogs } from "./dialogs.ts";

/** Bytes that may wait for a page that does not read before it is given up. */
const MAX_WAITING_BYTES = 16 * MAX_LINE_BYTES;

export interface RpcRelayOptions {
  readonly socket: WebSocket;
  readonly connect: () => Promise<Client>;
  readonly dialogs: Dialogs;
  /** called with each ticket that a page was given */
  readonly onTicket: (ticket: string) => void;
}

export function relayRpc({ socket, connect, dialogs, onTicket }: RpcRelayOptions): void {
  const gone = new AbortController();
  let dialogOpen = false;
  const keeper = connect();
  keeper.then(
    (client) => {
      if (gone.signal.aborted) return client.close();
      gone.signal.addEventListener("abort", () => client.close(), { once: true });
      client.closed.then(() => socket.close(WebClose.keeperLost, "the connection to the keeper ended"));
    },
    () => {}, // the page learns why from its first request
  );

  const forward = (method: Method) => async (params: never) => {
    const result = await (await keeper).call(method, params);
    if (method === "tasks.exec") onTicket((result as { ticket: string }).ticket);
    return result;
  };
  const forwarded = Object.fromEntries(Object.keys(pageKeeperRequests).map((method) => [method, forward(method as Method)]));
  const handlers = {
    ...forwarded,
    "web.hello": async () => {
      await keeper;
      return { contract: CONTRACT_VERSION };
    },
    "web.pickFolder": async () => {
      if (dialogOpen)
        throw new ProblemError({
          code: "web.dialog",
          message: "A folder dialog is open already, so no second one was shown.",
          next: ["Look for it behind the other windows; pick a folder there or close it."],
        });
      dialogOpen = true;
      try {
        const path = await dialogs.pickFolder(gone.signal);
        if (path === undefined) return { cancelled: true as const };
        return await (await keeper).call("grants.create", { path: Buffer.from(path).toString("base64") });
      } finally {
        dialogOpen = false;
      }
    },
  } as unknown as Handlers<typeof webProtocol>;

  new RpcPeer({
    transport: socketLines(socket, () => gone.abort()),
    remote: { requests: {}, notifications: {} },
    local: { protocol: webProtocol, handlers, toError },
    onClose: () => socket.close(WebClose.protocol),
  });
}

function toError(error: unknown): RpcError {
  const problem = toProblem(error);
  return new RpcError(FAILED, problem.message, problem);
}

/** One text message is one line; ws has bounded its size before it is text. */
function socketLines(socket: WebSocket, onGone: () => void): LineTransport {
  return {
    send(line) {
      if (socket.readyState !== socket.OPEN) return;
      socket.send(line);
      if (socket.bufferedAmount > MAX_WAITING_BYTES) socket.terminate();
    },
    close: () => socket.close(WebClose.protocol),
    start({ onLine, onClose }) {
      socket.on("message", (data: Buffer, isBinary: boolean) => {
        if (isBinary) return socket.close(WebClose.protocol, "a binary message on /rpc");
        onLine(data.toString("utf8"));
      });
      socket.on("close", () => {
        onGone();
        onClose("the page went away");
      });
    },
  };
}
