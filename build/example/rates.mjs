// The service of exchange rates that the example's sorter asks: HTTPS on this computer's loopback, with a certificate that stands for
// itself, and a key without which it answers nothing. What it was asked is what it tells at the end.

import { randomBytes } from "node:crypto";
import { createServer } from "node:https";
import { selfSigned } from "../../app/cli/prove/certificate.ts";

const RATES = { EUR: 1, USD: 1.08 };

/** Listens; `asked` has each request with whether it came with the real key. */
export async function startRates() {
  const { certificate, key } = await selfSigned("Example of an exchange rate service");
  const secret = `rates-${randomBytes(20).toString("hex")}`;
  const asked = [];
  const server = createServer({ cert: certificate, key }, (request, response) => {
    const currency = request.url.replace("/rates/", "");
    const right = request.headers.authorization === `Bearer ${secret}`;
    asked.push({ method: request.method, path: request.url, right });
    const rate = right ? RATES[currency] : undefined;
    response.writeHead(rate === undefined ? 401 : 200, { "content-type": "application/json" });
    response.end(JSON.stringify(rate === undefined ? { error: "no such rate, or not with this key" } : { currency, rate }));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { certificate, secret, asked, port: server.address().port, close: () => server.close() };
}
