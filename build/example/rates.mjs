// The service of exchange rates that the example's sorter asks: HTTPS on this computer's loopback, with a certificate authority of its
// own, and a key without which it answers nothing. What it was asked is what it tells at the end.

import { randomBytes, webcrypto, X509Certificate } from "node:crypto";
import { createServer } from "node:https";
import "reflect-metadata";
import * as x509 from "@peculiar/x509";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const RATES = { EUR: 1, USD: 1.08 };

async function certificates() {
  x509.cryptoProvider.set(webcrypto);
  const [authority, leaf] = await Promise.all([0, 1].map(() => webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"])));
  const day = 86_400_000;
  const times = { notBefore: new Date(Date.now() - day), notAfter: new Date(Date.now() + day) };
  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: randomBytes(8).toString("hex"),
    name: "CN=Example of an exchange rate service",
    ...times,
    keys: authority,
    signingAlgorithm: ALGORITHM,
    extensions: [new x509.BasicConstraintsExtension(true, 0, true), new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true)],
  });
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: randomBytes(8).toString("hex"),
    subject: "CN=127.0.0.1",
    issuer: ca.subject,
    ...times,
    signingKey: authority.privateKey,
    publicKey: leaf.publicKey,
    signingAlgorithm: ALGORITHM,
    extensions: [new x509.SubjectAlternativeNameExtension([{ type: "ip", value: "127.0.0.1" }])],
  });
  const key = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", leaf.privateKey)).toString("base64");
  return {
    ca: new X509Certificate(Buffer.from(ca.rawData)).toString(),
    cert: new X509Certificate(Buffer.from(certificate.rawData)).toString(),
    key: `-----BEGIN PRIVATE KEY-----\n${key.match(/.{1,64}/g).join("\n")}\n-----END PRIVATE KEY-----\n`,
  };
}

/** Listens; `asked` has each request with whether it came with the real key. */
export async function startRates() {
  const { ca, cert, key } = await certificates();
  const secret = `rates-${randomBytes(20).toString("hex")}`;
  const asked = [];
  const server = createServer({ cert, key }, (request, response) => {
    const currency = request.url.replace("/rates/", "");
    const right = request.headers.authorization === `Bearer ${secret}`;
    asked.push({ method: request.method, path: request.url, right });
    const rate = right ? RATES[currency] : undefined;
    response.writeHead(rate === undefined ? 401 : 200, { "content-type": "application/json" });
    response.end(JSON.stringify(rate === undefined ? { error: "no such rate, or not with this key" } : { currency, rate }));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { ca, secret, asked, port: server.address().port, close: () => server.close() };
}
