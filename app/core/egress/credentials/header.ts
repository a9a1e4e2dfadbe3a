import type { SecretUse } from "../../../contract/index.ts";
import { changes, holdsKnownKey } from "./shapes.ts";

/** The header of a use, and its whole value made of a key. */
export function headerFor(use: SecretUse): { name: string; template(value: string): string } {
  switch (use) {
    case "bearer":
      return { name: "authorization", template: (value) => `Bearer ${value}` };
    case "x-api-key":
      return { name: "x-api-key", template: (value) => value };
    case "basic":
      // a value without a colon is a password; hosts of that kind do not read the user's name
      return { name: "authorization", template: (value) => encodeBasic(value.includes(":") ? value : `x-access-token:${value}`) };
    default:
      return { name: use.slice("header:".length).toLowerCase(), template: (value) => value };
  }
}

const encodeBasic = (pair: string): string => `Basic ${Buffer.from(pair, "utf8").toString("base64")}`;

/** What a Basic authorization says, where it is one that every server reads the same. */
export function decodeBasic(value: string): string | undefined {
  const encoded = /^basic +([A-Za-z0-9+/]+={0,2})$/i.exec(value)?.[1];
  if (encoded === undefined) return undefined;
  const bytes = Buffer.from(encoded, "base64");
  return bytes.toString("base64").replace(/=+$/, "") === encoded.replace(/=+$/, "") ? bytes.toString("utf8") : undefined;
}

/** The other half of a Basic pair whose one half is a stand-in: a name of no account that a key could hide in. */
const harmlessUser = (text: string): boolean => /^[A-Za-z0-9._@+-]{0,64}$/.test(text) && changes(text) <= 2 && !holdsKnownKey(text);
const harmlessPassword = (text: string): boolean => ["", "x", "X", "x-oauth-basic"].includes(text);

/**
 * The header's value with the key in its stand-in's place, when it is exactly what the use sends. A key for `Authorization` works in every form in which
 * its host's tools send it: `Bearer`, GitHub's `token`, and as user or password of Basic, which is how git sends it.
 */
export function putInHeader(use: SecretUse, name: string, given: string, placeholder: string, value: string): string | undefined {
  if (name !== headerFor(use).name) return undefined;
  if (use !== "bearer" && use !== "basic") return given === placeholder ? value : undefined;
  const scheme = /^(bearer|token) +(\S+)$/i.exec(given);
  if (scheme) return use === "bearer" && scheme[2] === placeholder ? `${scheme[1]} ${value}` : undefined;
  const pair = decodeBasic(given);
  if (pair === undefined) return undefined;
  if (pair === placeholder) return value.includes(":") ? encodeBasic(value) : undefined;
  const colon = pair.indexOf(":");
  if (colon === -1) return undefined;
  const [user, password] = [pair.slice(0, colon), pair.slice(colon + 1)];
  if (password === placeholder && harmlessUser(user)) return encodeBasic(`${user}:${value}`);
  if (user === placeholder && harmlessPassword(password)) return encodeBasic(`${value}:${password}`);
  return undefined;
}
