import { createHash, createHmac, type KeyObject } from "node:crypto";
import { EVENT_VERSION } from "../../contract/index.ts";

/** What a file's first record is chained to. */
export const GENESIS = "0".repeat(64);

/** A record's place in a log. */
export interface Head {
  readonly id: number;
  readonly chain: string;
}

/**
 * The chain value of a record, over the previous one and the record's JSON without its own: HMAC-SHA256 with the keychain's key, or SHA-256
 * where that cannot be had. Every value is made of all records before it, so those without the key are held by the first one with it.
 */
export function chainOf(previous: string, body: string, key?: KeyObject): string {
  return (key ? createHmac("sha256", key) : createHash("sha256")).update(previous).update(body).digest("hex");
}

/** A record says by its version which of the two it has. */
export const versionOf = (key: KeyObject | undefined): number => (key ? EVENT_VERSION : UNKEYED_VERSION);
export const UNKEYED_VERSION = 1;

const SUFFIX = /^,"chain":"([0-9a-f]{64})"\}$/;
const SUFFIX_LENGTH = ',"chain":""}'.length + 64;

/** A record's line: its JSON, the chain value last. */
export const lineOf = (body: string, chain: string): string => `${body.slice(0, -1)},"chain":"${chain}"}`;

/** The two parts of a line, byte for byte as it was chained; undefined: it is no record's. */
export function partsOf(line: string): { body: string; chain: string } | undefined {
  const chain = SUFFIX.exec(line.slice(-SUFFIX_LENGTH))?.[1];
  return chain === undefined ? undefined : { body: `${line.slice(0, -SUFFIX_LENGTH)}}`, chain };
}
