/** `/rpc` as a typed client. */
import { connectWebClient, type LineTransport, type WebClient } from "../../contract/index.ts";
import { openSocket } from "./session.ts";

/** Rejects when the host does not accept, or answers the first request with a Problem (no keeper, another version). */
export async function connect(): Promise<WebClient> {
  const socket = openSocket("/rpc");
  await new Promise<void>((resolve, reject) => {
    socket.onopen = () => resolve();
    socket.onerror = () => reject(new Error("the web host did not accept the connection"));
  });
  return connectWebClient(lines(socket));
}

function lines(socket: WebSocket): LineTransport {
  return {
    send: (line) => socket.send(line),
    close: () => socket.close(),
    start({ onLine, onClose }) {
      socket.onmessage = ({ data }) => (typeof data === "string" ? onLine(data) : socket.close());
      socket.onclose = ({ reason }) => onClose(reason || "the connection to the web host ended");
      socket.onerror = null;
    },
  };
}
