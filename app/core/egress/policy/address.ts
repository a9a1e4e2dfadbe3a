/**
 * Addresses: whether one is of the public internet. Everything else (this computer, its networks, link-local and metadata services,
 * ranges that mean something special) is refused after a name was resolved, in every form that hides an IPv4 address in an IPv6 one.
 * Source of the ranges: the IANA registries of special-purpose addresses for IPv4 and IPv6.
 */
import { isIPv4, isIPv6 } from "node:net";

type Range = readonly [bytes: readonly number[], bits: number, what: string];

const v4 = (cidr: string, what: string): Range => {
  const [address = "", bits = "32"] = cidr.split("/");
  return [bytesOf(address) ?? [], Number(bits), what];
};

/** Read at the first question: a keeper starts for many that never ask one. */
function lazily<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

const SPECIAL_V4 = lazily((): readonly Range[] => [
  v4("0.0.0.0/8", "this network"),
  v4("10.0.0.0/8", "a private network"),
  v4("100.64.0.0/10", "a provider's private network"),
  v4("127.0.0.0/8", "this computer"),
  v4("169.254.0.0/16", "a link-local or metadata service"),
  v4("168.63.129.16/32", "a metadata service"),
  v4("172.16.0.0/12", "a private network"),
  v4("192.0.0.0/24", "a protocol's own range"),
  v4("192.0.2.0/24", "a range for documentation"),
  v4("192.88.99.0/24", "a relay for IPv6"),
  v4("192.168.0.0/16", "a private network"),
  v4("198.18.0.0/15", "a range for benchmarks"),
  v4("198.51.100.0/24", "a range for documentation"),
  v4("203.0.113.0/24", "a range for documentation"),
  v4("224.0.0.0/4", "multicast"),
  v4("240.0.0.0/4", "reserved"),
]);

const SPECIAL_V6 = lazily((): readonly Range[] => [
  v4("2001::/23", "a protocol's own range"),
  v4("2001:db8::/32", "a range for documentation"),
  v4("2002::/16", "an IPv4 address in an IPv6 one"),
  v4("3fff::/20", "a range for documentation"),
]);
/** Where clouds give keys to whoever asks from within. No rule opens them. */
const METADATA = lazily((): readonly Range[] => [
  v4("169.254.0.0/16", ""),
  v4("168.63.129.16/32", ""),
  v4("192.0.0.192/32", ""),
  v4("100.100.100.200/32", ""),
  v4("fd00:ec2::/32", ""),
  v4("fd20:ce::254/128", ""),
]);

/** What a rule's `private` may lie in: networks that a person has. */
const OWNABLE = lazily((): readonly Range[] => [
  v4("10.0.0.0/8", ""),
  v4("100.64.0.0/10", ""),
  v4("127.0.0.0/8", ""),
  v4("172.16.0.0/12", ""),
  v4("192.168.0.0/16", ""),
  v4("::1/128", ""),
  v4("fc00::/7", ""),
]);

const GLOBAL_V6 = lazily(() => v4("2000::/3", ""));
/** NAT64's own prefix: on networks that have nothing but IPv6, public IPv4 hosts resolve to it. The address within decides. */
const NAT64 = lazily(() => v4("64:ff9b::/96", ""));

export type AddressClass = { readonly public: true } | { readonly public: false; readonly what: string };

/** @param own addresses of this computer's interfaces, in the form that the system gives them */
export function addressClass(ip: string, own: ReadonlySet<string>): AddressClass {
  const bytes = bytesOf(ip);
  if (!bytes) return { public: false, what: "no address" };
  for (const one of own) if (same(bytesOf(one), bytes)) return { public: false, what: "this computer" };
  if (bytes.length === 4) return classV4(bytes);
  if (within(bytes, NAT64())) return classNat64(bytes.slice(12), own);
  const special = SPECIAL_V6().find((range) => within(bytes, range));
  if (special) return { public: false, what: special[2] };
  if (within(bytes, GLOBAL_V6()) && !isIsatap(bytes)) return { public: true };
  return { public: false, what: whatV6(bytes) };
}

/**
 * Why an address may not be dialled; nothing where it may: it is public, or lies in `range`, the `private` of the rule that allowed
 * the request.
 * @param networks those of this computer's interfaces, each as an address with its prefix: what is in one is a neighbour, a router or a
 * store of files, however public its address looks
 */
export function refuseAddress(ip: string, own: ReadonlySet<string>, range?: string, networks: readonly string[] = []): string | undefined {
  const kind = addressClass(ip, own);
  const bytes = bytesOf(ip);
  const near = kind.public && bytes !== undefined && isNear(bytes, networks);
  if (kind.public && !near) return undefined;
  const ownable = near || (bytes !== undefined && isIn(OWNABLE(), bytes));
  const opened = range !== undefined && bytes !== undefined && ownable && !isIn(METADATA(), bytes) && inRange(ip, range);
  if (opened) return undefined;
  return kind.public ? "on a network of this computer" : kind.what;
}

/** What is wider is no network of neighbours, and a prefix of all bits is of an end of a line and says nothing of the other. */
const WIDEST = { 4: 8, 16: 32 } as const;

function isNear(bytes: readonly number[], networks: readonly string[]): boolean {
  const reached = bytes.length === 16 && within(bytes, NAT64()) ? bytes.slice(12) : bytes;
  return networks.some((network) => {
    const [address = "", bits = ""] = network.split("/");
    const prefix = bytesOf(address);
    if (!prefix || prefix.length !== reached.length || !/^[0-9]{1,3}$/.test(bits)) return false;
    return Number(bits) >= widest(prefix) && Number(bits) < prefix.length * 8 && within(reached, [prefix, Number(bits), ""]);
  });
}

const widest = ({ length }: readonly number[]) => (length === 4 ? WIDEST[4] : WIDEST[16]);

/** Why a range cannot be a rule's `private`; nothing where it can: it is one of private addresses, or a network of public ones. */
export function checkPrivate(cidr: string): string | undefined {
  const range = parseCidr(cidr);
  if (!range) return `${JSON.stringify(cidr)} is no range of addresses such as 10.1.2.0/24.`;
  const inside = OWNABLE().some((wide) => wide[0].length === range[0].length && wide[1] <= range[1] && within(range[0], wide));
  return inside || isPublic(range) ? undefined : `${cidr} does not lie within a range of addresses that a network of a person's can have.`;
}

/** All of a range is: for neighbours, since all others with such addresses need no rule to say so. */
function isPublic(range: Range): boolean {
  const [bytes, bits] = range;
  if (bits < widest(bytes) || (bytes.length === 16 && !within(bytes, GLOBAL_V6()))) return false;
  const special = bytes.length === 4 ? SPECIAL_V4() : SPECIAL_V6();
  return !special.some(([other, length]) => within(bytes, [other, Math.min(length, bits), ""]));
}

const isIn = (ranges: readonly Range[], bytes: readonly number[]) =>
  ranges.some((range) => range[0].length === bytes.length && within(bytes, range));

function classV4(bytes: readonly number[]): AddressClass {
  const special = SPECIAL_V4().find((range) => within(bytes, range));
  return special ? { public: false, what: special[2] } : { public: true };
}

const classNat64 = (inner: readonly number[], own: ReadonlySet<string>) => addressClass(inner.join("."), own);

/** An interface identifier that holds an IPv4 address (RFC 5214, section 6.1). */
const isIsatap = (bytes: readonly number[]) =>
  (bytes[8] === 0 || bytes[8] === 2) && bytes[9] === 0 && bytes[10] === 0x5e && bytes[11] === 0xfe;

function whatV6(bytes: readonly number[]): string {
  if (bytes.slice(0, 15).every((byte) => byte === 0) && (bytes[15] ?? 0) <= 1) return "this computer";
  if (isIsatap(bytes) || bytes.slice(0, 8).every((byte) => byte === 0) || (bytes[0] === 0 && bytes[1] === 0x64))
    return "an IPv4 address in an IPv6 one";
  if (((bytes[0] ?? 0) & 0xfe) === 0xfc) return "a private network";
  if (bytes[0] === 0xfe) return "a link-local service";
  if (bytes[0] === 0xff) return "multicast";
  return "reserved";
}

/** Whether an address lies in a range such as 10.0.0.0/8. False for a range that is none, and for one of the other family. */
export function inRange(ip: string, cidr: string): boolean {
  const range = parseCidr(cidr);
  const bytes = bytesOf(ip);
  return range !== undefined && bytes !== undefined && bytes.length === range[0].length && within(bytes, range);
}

/** The range, or nothing where it is none: an address of which bits beyond its prefix are set is none. */
export function parseCidr(text: string): Range | undefined {
  const found = /^([0-9A-Fa-f:.]+)\/(0|[1-9][0-9]{0,2})$/.exec(text);
  const bytes = found?.[1] === undefined ? undefined : bytesOf(found[1]);
  const bits = Number(found?.[2]);
  if (!bytes || bits > bytes.length * 8) return undefined;
  return within(bytes, [bytes.map((byte, at) => byte & maskOf(bits, at)), bytes.length * 8, ""]) ? [bytes, bits, ""] : undefined;
}

const maskOf = (bits: number, at: number) => (0xff << (8 - Math.max(0, Math.min(8, bits - at * 8)))) & 0xff;

function within(bytes: readonly number[], [prefix, bits]: Range): boolean {
  return prefix.every((byte, at) => (((bytes[at] ?? 0) ^ byte) & maskOf(bits, at)) === 0);
}

const same = (a: readonly number[] | undefined, b: readonly number[]) =>
  a !== undefined && a.length === b.length && a.every((byte, at) => byte === b[at]);

/** 4 or 16 bytes. */
function bytesOf(ip: string): number[] | undefined {
  if (isIPv4(ip)) return ip.split(".").map(Number);
  if (!isIPv6(ip) || ip.includes("%")) return undefined;
  const dotted = /^(.*:)([0-9.]+)$/.exec(ip);
  const inner = dotted?.[2]?.includes(".") ? dotted[2].split(".").map(Number) : undefined;
  const text = inner && dotted ? `${dotted[1]}${hex(inner, 0)}:${hex(inner, 2)}` : ip;
  const [head = "", tail] = text.split("::");
  const groups = (part: string) => (part === "" ? [] : part.split(":").map((group) => Number.parseInt(group, 16)));
  const before = groups(head);
  const after = tail === undefined ? [] : groups(tail);
  const all = [...before, ...new Array<number>(8 - before.length - after.length).fill(0), ...after];
  return all.flatMap((group) => [group >> 8, group & 0xff]);
}

const hex = (bytes: readonly number[], at: number) => (((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)).toString(16);
