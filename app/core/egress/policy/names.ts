/**
 * Names of hosts, strictly: what two programs could read differently is no name. Everything that is matched, resolved or sent has come
 * through here, in one canonical form.
 */
import { isIPv6 } from "node:net";
import { domainToASCII, domainToUnicode } from "node:url";
import { getDomain, getPublicSuffix } from "tldts";

export interface Host {
  readonly kind: "name" | "ipv4" | "ipv6";
  /** lower case; IPv6 in its shortest form, in brackets */
  readonly host: string;
}

const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
/** A last label that URL parsers take for a part of an IPv4 address: decimal, octal or hexadecimal. */
const NUMERIC = /^([0-9]+|0x[0-9a-f]*)$/;
const IPV4 = /^(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})$/;

/** A strict DNS name in ASCII, a dotted IPv4 address, or an IPv6 address in brackets without a zone. */
export function parseHost(text: string): Host | undefined {
  if (text.length === 0 || text.length > 253) return undefined;
  if (text.startsWith("[")) return parseIpv6(text);
  const octets = IPV4.exec(text);
  if (octets) return octets.slice(1).every((octet) => Number(octet) <= 255) ? { kind: "ipv4", host: text } : undefined;
  // before the case is folded: letters of other scripts fold to ASCII ones
  if (!/^[A-Za-z0-9.-]+$/.test(text)) return undefined;
  const host = text.toLowerCase();
  const labels = host.split(".");
  if (!labels.every((label) => LABEL.test(label)) || NUMERIC.test(labels.at(-1) ?? "")) return undefined;
  return labels.some((label) => label.startsWith("xn--")) && !isPunycode(host) ? undefined : { kind: "name", host };
}

/** Whether the name is what its own Unicode form is written as: others are shown as one name and looked up as another. */
function isPunycode(host: string): boolean {
  const unicode = domainToUnicode(host);
  return unicode !== "" && unicode !== host && domainToASCII(unicode) === host;
}

function parseIpv6(text: string): Host | undefined {
  const inner = text.slice(1, -1);
  if (!text.endsWith("]") || inner.includes("%") || !isIPv6(inner)) return undefined;
  return { kind: "ipv6", host: new URL(`http://[${inner}]/`).hostname };
}

/** A host, or `*.` and a name that is more than a public suffix. The canonical form, or why it is none. */
export function parsePattern(text: string): { host: string; below: boolean } | { unfit: string } {
  const below = text.startsWith("*.");
  const parsed = parseHost(below ? text.slice(2) : text);
  if (!parsed) return { unfit: `${JSON.stringify(text)} is no host name, no address and no pattern such as *.example.com.` };
  if (!below) return { host: parsed.host, below };
  if (parsed.kind !== "name") return { unfit: `${JSON.stringify(text)}: an address has no names below it.` };
  if (!parsed.host.includes(".") || getPublicSuffix(parsed.host, { allowPrivateDomains: true }) === parsed.host) {
    return { unfit: `${JSON.stringify(text)} would stand for names of many owners; name the hosts that are needed.` };
  }
  return { host: parsed.host, below };
}

/** Whether a canonical host is what the canonical pattern stands for: the same labels, or one or more labels before the pattern's. */
export function matchesHost(pattern: string, host: string): boolean {
  if (!pattern.startsWith("*.")) return pattern === host;
  const wanted = pattern.slice(2).split(".");
  const labels = host.split(".");
  return labels.length > wanted.length && wanted.every((label, at) => labels[labels.length - wanted.length + at] === label);
}

/** The part of a name that somebody registered; the host itself where there is none. */
export function registrableDomain(host: string): string {
  if (parseHost(host)?.kind !== "name") return host;
  return getDomain(host, { allowPrivateDomains: true }) ?? host;
}
