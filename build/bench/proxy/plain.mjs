// The floor under a proxy in Node that ends TLS: it passes on what it decrypts, looks at nothing and writes nothing down. It takes the
// line that ours takes. Arguments: its socket, the folder of the bench's certificates. One line on stdout says that it listens.

import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { pipeline } from "node:stream";
import { connect, createSecureContext, TLSSocket } from "node:tls";

const [listen, certificates] = process.argv.slice(2);
const read = (name) => readFileSync(join(certificates, name));
const leaf = createSecureContext({ key: read("origin.key"), cert: read("origin.pem") });
const trust = createSecureContext({ ca: read("ca.pem") });

const server = createServer((stream) => {
  stream.on("error", () => {});
  stream.once("readable", () => {
    const first = stream.read();
    if (!first) return stream.destroy();
    const end = first.indexOf("\n");
    const [, host, port] = first.toString("latin1", 0, end).split(" ");
    if (end + 1 < first.length) stream.unshift(first.subarray(end + 1));
    const client = new TLSSocket(stream, { isServer: true, secureContext: leaf, ALPNProtocols: ["h2", "http/1.1"] });
    client.on("error", () => {});
    client.once("secure", () => {
      const origin = connect({ host, port, servername: host, secureContext: trust, ALPNProtocols: [client.alpnProtocol || "http/1.1"] });
      pipeline(client, origin, client, () => {
        client.destroy();
        origin.destroy();
      });
    });
  });
});
server.listen(listen, () => process.stdout.write("listening\n"));
process.stdin.resume().on("end", () => process.exit());
