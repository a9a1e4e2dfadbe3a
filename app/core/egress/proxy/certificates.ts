/**
 * A task's certificate authority and the leaves under it: with them the guest's programs end their TLS here, where requests are
 * decided. The authority belongs to one machine's run and is trusted by that guest only.
 */
import "reflect-metadata"; // @peculiar/x509 needs it to be there first
import { randomBytes } from "node:crypto";
import { isIP } from "node:net";
import { createSecureContext, type SecureContext } from "node:tls";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const SUBJECT = "CN=Cloche task CA";
const DAY_MS = 86_400_000;
/** A guest's clock may lag, by days where its computer slept. */
const CLOCK_SKEW_MS = 7 * DAY_MS;
const AUTHORITY_DAYS = 1825;
const LEAF_DAYS = 60;
/** A leaf is made anew when it has less than this left. */
const RENEW_MS = 7 * DAY_MS;
const MAX_LEAVES = 512;

export interface Authority {
  /** as PEM, both */
  readonly certificate: string;
  readonly key: string;
}

/** The extensions that strict verifiers (Python 3.13, GnuTLS) ask for are all there. */
export async function makeAuthority(): Promise<Authority> {
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: serial(),
    name: SUBJECT,
    notBefore: new Date(Date.now() - CLOCK_SKEW_MS),
    notAfter: new Date(Date.now() + AUTHORITY_DAYS * DAY_MS),
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate: `${certificate.toString("pem")}\n`, key: await pemOf(keys.privateKey) };
}

interface Leaf {
  readonly context: Promise<SecureContext>;
  readonly renewAt: number;
}

/** Leaves by exact name, each with that name alone, all with one key. */
export class Leaves {
  readonly #authority: X509Certificate;
  readonly #signer: CryptoKey;
  readonly #keys: CryptoKeyPair;
  /** in the order of their last use */
  readonly #leaves = new Map<string, Leaf>();

  private constructor(authority: X509Certificate, signer: CryptoKey, keys: CryptoKeyPair) {
    this.#authority = authority;
    this.#signer = signer;
    this.#keys = keys;
  }

  static async create(authority: Authority): Promise<Leaves> {
    const der = Buffer.from(authority.key.replace(/-----[^-]+-----|\s/g, ""), "base64");
    const signer = await crypto.subtle.importKey("pkcs8", der, ALGORITHM, false, ["sign"]);
    const keys = await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
    return new Leaves(new X509Certificate(authority.certificate), signer, keys);
  }

  /** @param host a DNS name or IP literal in the form that `parseHost` gives */
  for(host: string): Promise<SecureContext> {
    const known = this.#leaves.get(host);
    if (known) this.#leaves.delete(host);
    const leaf = known && known.renewAt > Date.now() ? known : this.#make(host);
    this.#leaves.set(host, leaf);
    const oldest = this.#leaves.keys().next();
    if (this.#leaves.size > MAX_LEAVES && !oldest.done) this.#leaves.delete(oldest.value);
    return leaf.context;
  }

  #make(host: string): Leaf {
    const notAfter = Date.now() + LEAF_DAYS * DAY_MS;
    const context = this.#sign(host, new Date(notAfter));
    context.catch(() => this.#leaves.delete(host));
    return { context, renewAt: notAfter - RENEW_MS };
  }

  async #sign(host: string, notAfter: Date): Promise<SecureContext> {
    const address = host.replace(/^\[|\]$/g, "");
    const certificate = await X509CertificateGenerator.create({
      serialNumber: serial(),
      // the name that counts is the alternative one; a common name holds 64 characters at most
      subject: host.length <= 64 && !isIP(address) ? `CN=${host}` : "CN=Cloche task leaf",
      issuer: this.#authority.subject,
      notBefore: this.#authority.notBefore,
      notAfter,
      publicKey: this.#keys.publicKey,
      signingKey: this.#signer,
      signingAlgorithm: ALGORITHM,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
        new SubjectAlternativeNameExtension([isIP(address) ? { type: "ip", value: address } : { type: "dns", value: host }]),
        await SubjectKeyIdentifierExtension.create(this.#keys.publicKey),
        await AuthorityKeyIdentifierExtension.create(this.#authority.publicKey),
      ],
    });
    return createSecureContext({ key: await pemOf(this.#keys.privateKey), cert: certificate.toString("pem"), minVersion: "TLSv1.2" });
  }
}

async function pemOf(key: CryptoKey): Promise<string> {
  const der = Buffer.from(await crypto.subtle.exportKey("pkcs8", key));
  return `-----BEGIN PRIVATE KEY-----\n${der.toString("base64").replace(/.{64}/g, "$&\n")}\n-----END PRIVATE KEY-----\n`;
}

/** 127 bits of chance, positive. */
function serial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString("hex");
}
