/** All hosts of the internet for a bare guest: its streams arrive here, their TLS ends here, and one listener answers for every name. */
import { createServer, type RequestListener } from "node:http";
import type { Socket } from "node:net";
import { createSecureContext, TLSSocket } from "node:tls";
import type { Authority } from "./authority.ts";

/**
 * What `BareGuest` is to do with a stream. Port 443 is TLS with a certificate for `names` by whoever `issuer` says at that moment; what
 * is said to a proxy, and every other port, is HTTP.
 */
export function answerStreams(names: readonly string[], issuer: () => Authority, answer: RequestListener) {
  const leaves = new Map<Authority, { cert: string; key: string }>();
  const http = createServer(answer);
  http.on("connect", (_, socket) => socket.end("HTTP/1.1 403 Forbidden\r\n\r\n"));
  return (line: string, socket: Socket): void => {
    const [verb, , port] = line.split(" ");
    if (verb === "proxy" || port !== "443") {
      http.emit("connection", socket);
      return;
    }
    const by = issuer();
    const leaf = leaves.get(by) ?? by.issue(names);
    leaves.set(by, leaf);
    const tls = new TLSSocket(socket, { isServer: true, secureContext: createSecureContext(leaf) });
    tls.on("error", () => {});
    http.emit("connection", tls);
  };
}
