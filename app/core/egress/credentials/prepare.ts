import { fitsPaths } from "../policy/index.ts";
import type { BoundSecret } from "../protocol.ts";
import { type BodyPlan, planBody } from "./body.ts";
import { headerName, isBalancerCookie, isDownloadSignature, isKeyParameter, isRewriteParameter } from "./carriers.ts";
import { anyFits, grantingSegment, isLogin, looseSegments } from "./endpoints.ts";
import { decodeBasic, headerFor, putInHeader } from "./header.ts";
import { type HostProfile, profileOf } from "./profiles.ts";
import { quoted, type Refusal, refuse, some } from "./refusal.ts";
import { holdsKnownKey, looksRandom } from "./shapes.ts";

/** An allowed request as the guest sent it. Host and path are in the form that was decided and will be sent. */
export interface OutgoingRequest {
  scheme: "https" | "http" | "opaque";
  host: string;
  method: string;
  path: string;
  /** as sent, with or without its question mark */
  query: string;
  /** name, value, name, value, … */
  rawHeaders: readonly string[];
}

export interface Passed {
  kind: "pass";
  /** without the fields of HTTP/2 that begin with a colon */
  rawHeaders: string[];
  query: string;
  /** names of the keys that were put in */
  swapped: string[];
  /** names of those that may be put into the body */
  intoBody: string[];
  /** their values, those of keys that may be put into the body, and those that were storable: what the response is searched for */
  values: string[];
  body: BodyPlan;
}

/** What the deciding rule says about keys. */
export interface KeyRule {
  credentials?: "guest" | undefined;
  /** `storable` of the task's keys */
  storable?: readonly string[];
}

/**
 * Values of the keys that may be put into a body or a query. Whoever is sent such text may keep it and show it to anybody: in an answer to
 * a later request, without a key, of this host or another, and also of a later run.
 */
export const storable = (secrets: readonly BoundSecret[]): string[] =>
  secrets.filter(({ binding }) => binding.body || (binding.query ?? []).length > 0).map(({ value }) => value);

/**
 * Decides about every credential of an allowed request, and puts keys in their stand-ins' places. Three answers only: a stand-in at exactly the place
 * that its binding names becomes its key; anything else that is or may be a credential is refused, whatever host, unless the rule
 * lets the guest use its own; a request without any passes as it is. Never throws, whatever it is given.
 */
export function prepare(request: OutgoingRequest, secrets: readonly BoundSecret[], rule: KeyRule): Passed | Refusal {
  return new Preparation(request, secrets, rule).result();
}

/** A request that was sent on, with the keys that it goes on with. */
export interface KeysInUse {
  readonly request: OutgoingRequest;
  readonly rule: KeyRule;
  /** all that the task had then */
  readonly secrets: readonly BoundSecret[];
  /** names of those in its head */
  readonly head: readonly string[];
  /** names of those that were put into its body, or may be while it streams */
  body: readonly string[];
}

/**
 * Why what is under way may not go on now that the task has these keys; nothing where it may. One that came since has no part in it, and
 * one that has another value or stand-in by now is another key.
 */
export function keysGone({ request, rule, secrets, head, body }: KeysInUse, now: readonly BoundSecret[]): string | undefined {
  const still = now.filter((one) =>
    secrets.some(({ name, value, placeholder }) => name === one.name && value === one.value && placeholder === one.placeholder),
  );
  const gone = [...head, ...body].find((used) => !still.some(({ name }) => name === used));
  if (gone !== undefined) {
    return now.some(({ name }) => name === gone)
      ? `The key ${gone} has another value now.`
      : `The key ${gone} was taken away from this task.`;
  }
  const again = prepare(request, still, rule);
  if (again.kind === "refuse") return again.reason;
  const unbound = head.find((name) => !again.swapped.includes(name)) ?? body.find((name) => !again.intoBody.includes(name));
  return unbound === undefined ? undefined : `The key ${unbound} is no longer bound to this.`;
}

class Preparation {
  readonly #request: OutgoingRequest;
  readonly #secrets: readonly BoundSecret[];
  readonly #guest: boolean;
  readonly #storable: readonly string[];
  readonly #profile: HostProfile | undefined;
  readonly #segments: readonly string[] | undefined;
  readonly #bound: readonly BoundSecret[];
  readonly #used = new Map<string, BoundSecret>();
  readonly #pairs: readonly (readonly [name: string, value: string])[];
  readonly #login: boolean;

  constructor(request: OutgoingRequest, secrets: readonly BoundSecret[], rule: KeyRule) {
    this.#request = request;
    this.#secrets = secrets;
    this.#guest = rule.credentials === "guest";
    this.#storable = rule.storable ?? [];
    this.#profile = profileOf(request.host);
    this.#segments = looseSegments(request.path);
    this.#bound = secrets.filter(({ binding }) => binding.hosts.includes(request.host));
    this.#pairs = pairs(request.rawHeaders);
    this.#login = this.#isLogin();
  }

  result(): Passed | Refusal {
    const refusal = this.#malformed() ?? this.#rewritten() ?? this.#remote();
    if (refusal) return refusal;
    const headers = this.#headers();
    if ("kind" in headers) return headers;
    const query = this.#query();
    if (typeof query !== "string") return query;
    const path = this.#path();
    if (path) return path;
    return this.#pass(headers, query);
  }

  #pass(rawHeaders: string[], query: string): Passed | Refusal {
    const usable = this.#bound.filter((secret) => secret.binding.body && !this.#unusable(secret));
    const body = planBody({
      request: this.#request,
      profile: this.#profile,
      segments: this.#segments ?? [],
      guest: this.#guest,
      put: usable,
      login: this.#login,
      narrow: [...this.#used.values()].some(({ binding }) => !binding.paths),
    });
    if (body.kind === "refuse") return body;
    const swapped = [...this.#used.keys()];
    const values = [...new Set([...[...this.#used.values(), ...usable].map(({ value }) => value), ...this.#storable])];
    const intoBody = usable.map(({ name }) => name);
    return { kind: "pass", rawHeaders: values.length > 0 ? searchable(rawHeaders) : rawHeaders, query, swapped, intoBody, values, body };
  }

  #malformed(): Refusal | undefined {
    const { host, method, path, rawHeaders } = this.#request;
    if (/^(?:TRACE|TRACK|DEBUG)$/i.test(method)) {
      return refuse(
        "request.malformed",
        `The method ${quoted(method)} makes a server send back what it was sent, keys with it. It is never passed on: use GET or HEAD.`,
      );
    }
    if (host.includes("@") || !(path.startsWith("/") || path === "*") || rawHeaders.length % 2 !== 0) {
      return refuse(
        "request.malformed",
        "The request's address or headers are not of the form that HTTP asks for. Send an ordinary request.",
      );
    }
    for (const [name, value] of this.#pairs) {
      if (!/^:?[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name) || /[\0\r\n]/.test(value)) {
        return refuse("request.malformed", `The header ${quoted(name)} has characters that no header may have. Send an ordinary request.`);
      }
      if (/^(?:host|:authority)$/i.test(name) && value.includes("@")) {
        return refuse("credential.foreign", `A user name stands in the address of the request. ${this.#advice()}`);
      }
    }
    if (this.#segments === undefined && path !== "*" && (this.#profile || this.#bound.length > 0)) {
      return refuse(
        "request.malformed",
        `The path is encoded so that it can be read in more than one way, which is refused at ${quoted(host)}. Send it plainly.`,
      );
    }
    return undefined;
  }

  /** What was decided has to be what the server does. */
  #rewritten(): Refusal | undefined {
    const header = this.#pairs.find(([name]) => headerName(name).rewrites);
    if (header) {
      return refuse(
        "request.rewritten",
        `The header ${quoted(header[0])} tells the server another method, host or path than the one that was decided. Send the request itself as it is meant.`,
      );
    }
    const parameter = parameters(this.#request.query).find(({ name }) => isRewriteParameter(name));
    if (parameter) {
      return refuse(
        "request.rewritten",
        `The parameter ${quoted(parameter.name)} tells the server another method or header than the one that was decided. Send the request itself as it is meant.`,
      );
    }
    return undefined;
  }

  /** Headers by which a server fetches or calls an address that the guest names. */
  #remote(): Refusal | undefined {
    for (const [name, value] of this.#pairs) {
      const { plain, fetches } = headerName(name);
      if (fetches) {
        return refuse(
          "request.remote-fetch",
          `The header ${quoted(name)} makes the server fetch or call an address for this task, past its own rules. Leave it out.`,
        );
      }
      const remote = this.#profile?.remote?.find(({ header }) => header === plain);
      if (remote?.values.test(value)) {
        return refuse(
          "request.remote-fetch",
          `The header ${quoted(name)} switches on that ${this.#request.host} fetches, calls or runs something for this task, past its own rules. Leave that value out.`,
        );
      }
    }
    return undefined;
  }

  #headers(): string[] | Refusal {
    const out: string[] = [];
    const seen = new Set<string>();
    const own = new Set(this.#bound.map(({ binding }) => headerFor(binding.use).name));
    for (const [name, raw] of this.#pairs) {
      // method, path and host of HTTP/2: what is sent is made of what was decided
      if (name.startsWith(":")) continue;
      const value = raw.replace(/^[ \t]+|[ \t]+$/g, "");
      const lower = name.toLowerCase();
      const { plain, key } = headerName(name);
      const carries = own.has(lower) || plain === "cookie" || (key && !this.#profile?.harmless?.has(plain));
      if (carries && plain !== "cookie" && seen.has(plain)) {
        return refuse(
          "request.malformed",
          `The request has the header ${quoted(name)} more than once, so that servers differ in which they read. Send it once.`,
        );
      }
      seen.add(plain);
      const put = this.#put(lower, value);
      if (put && "kind" in put) return put;
      if (put) {
        out.push(name, put.value);
        continue;
      }
      const misplaced = this.#standInIn(value) ?? this.#standInIn(name);
      if (misplaced) return this.#misplaced(misplaced, `the header ${quoted(name)}`);
      const foreign = this.#guest ? undefined : this.#foreignHeader(name, value, carries);
      if (foreign) return refuse("credential.foreign", `${foreign} ${this.#advice()}`);
      out.push(name, raw);
    }
    return out;
  }

  /** The header with a key in it; a refusal where it is one of a stand-in that may not be used for this request. */
  #put(name: string, given: string): { value: string } | Refusal | undefined {
    for (const secret of this.#secrets) {
      const value = putInHeader(secret.binding.use, name, given, secret.placeholder, secret.value);
      if (value === undefined) continue;
      const unusable = this.#unusable(secret);
      if (unusable) return unusable;
      if (!/^[\x20-\x7e]+$/.test(value)) {
        return refuse(
          "credential.misplaced",
          `The key ${secret.name} has characters that a header cannot carry. Its user has to store it anew.`,
        );
      }
      this.#used.set(secret.name, secret);
      return { value };
    }
    return undefined;
  }

  #foreignHeader(name: string, value: string, carries: boolean): string | undefined {
    const { plain, random } = headerName(name);
    if (plain === "cookie") {
      const cookie = value
        .split(/[;,]/)
        .map((part) => part.split("=")[0]?.trim() ?? "")
        .find((part) => part !== "" && !isBalancerCookie(part));
      if (cookie !== undefined) return `The cookie ${quoted(cookie)} may be a login that is not this task's.`;
    } else if (carries && !this.#profile?.anonymous?.has(value)) {
      return `The header ${quoted(name)} carries a credential that is not a stand-in of this task.`;
    }
    if (holdsKnownKey(value) || holdsKnownKey(name) || (value.includes("%") && holdsKnownKey(decoded(value)))) {
      return `The header ${quoted(name)} has what looks like a key in it, and that is not a stand-in of this task.`;
    }
    if (/:\/\/[^\s/?#"'<>,;]{0,256}@/.test(value)) return `The header ${quoted(name)} has an address with a user name in it.`;
    if (
      plain === "sec-websocket-protocol" &&
      value.split(/[\s,.]+/).some((part) => looksRandom(part) || /^bearer|api-?key|^auth|token/i.test(part))
    ) {
      return `The header ${quoted(name)} has what looks like a key in it, and that is not a stand-in of this task.`;
    }
    if (!this.#profile?.model && !carries && !random && looksRandom(value)) {
      return `The header ${quoted(name)} has a long random value, as keys have, and that is not a stand-in of this task.`;
    }
    return undefined;
  }

  #query(): string | Refusal {
    const { query } = this.#request;
    if (query === "") return query;
    const start = query.startsWith("?") ? "?" : "";
    const own = new Set(this.#bound.flatMap(({ binding }) => binding.query ?? []));
    const out: string[] = [];
    for (const piece of query.slice(start.length).split("&")) {
      const [parameter] = parameters(piece);
      if (parameter && !piece.includes(";")) {
        const secret = this.#bound.find(
          ({ binding, placeholder }) => binding.query?.includes(parameter.name) && parameter.value === placeholder,
        );
        if (secret) {
          const unusable = this.#unusable(secret);
          if (unusable) return unusable;
          this.#used.set(secret.name, secret);
          out.push(`${piece.slice(0, piece.indexOf("="))}=${encodeURIComponent(secret.value.toWellFormed())}`);
          continue;
        }
      }
      const misplaced = this.#standInIn(piece.replaceAll("+", " ")) ?? this.#standInIn(piece);
      if (misplaced) return this.#misplaced(misplaced, "the query");
      for (const { name, value } of this.#guest ? [] : parameters(piece)) {
        if (this.#signsDownload(name)) continue;
        const named = own.has(name) || isKeyParameter(name, value) || (value !== "" && this.#profile?.queryKeys?.has(name.toLowerCase()));
        if (named || holdsKnownKey(value) || holdsKnownKey(name)) {
          return refuse(
            "credential.foreign",
            `The parameter ${quoted(name)} carries a credential that is not a stand-in of this task. ${this.#advice()}`,
          );
        }
      }
      out.push(piece);
    }
    return start + out.join("&");
  }

  #signsDownload(name: string): boolean {
    return this.#profile?.signedDownloads === true && /^(?:GET|HEAD)$/.test(this.#request.method) && isDownloadSignature(name);
  }

  #path(): Refusal | undefined {
    const { path, host } = this.#request;
    const misplaced = this.#standInIn(path);
    if (misplaced) return this.#misplaced(misplaced, "the path");
    if (this.#guest) return undefined;
    if (holdsKnownKey(path) || holdsKnownKey(decoded(path))) {
      return refuse(
        "credential.foreign",
        `The path has what looks like a key in it, and that is not a stand-in of this task. ${this.#advice()}`,
      );
    }
    for (const { name, value } of path.includes(";") ? parameters(path.slice(path.indexOf(";")).replaceAll("/", ";")) : []) {
      if (!isKeyParameter(name, value)) continue;
      return refuse(
        "credential.foreign",
        `The parameter ${quoted(name)} in the path carries a credential that is not a stand-in of this task. ${this.#advice()}`,
      );
    }
    if (this.#segments && this.#profile?.pathKeys && anyFits(this.#profile.pathKeys, this.#segments)) {
      return refuse(
        "credential.foreign",
        `Addresses like this one at ${host} are credentials themselves: who knows one may use it. ${this.#advice()}`,
      );
    }
    if (this.#login && !this.#bound.some((secret) => secret.binding.paths && !this.#unusable(secret))) {
      return refuse(
        "credential.login",
        `Logins happen at this address of ${host}, and what they hand out would be in this task. ${this.#advice()}`,
      );
    }
    return undefined;
  }

  #isLogin(): boolean {
    if (!this.#segments) return false;
    return isLogin(this.#segments) || (this.#profile?.logins !== undefined && anyFits(this.#profile.logins, this.#segments));
  }

  /** Why a key may not be put into this request, at whatever place. */
  #unusable(secret: BoundSecret): Refusal | undefined {
    const { host, method, path, scheme } = this.#request;
    const { name, binding } = secret;
    const misplaced = (reason: string) => refuse("credential.misplaced", reason);
    if (!binding.hosts.includes(host)) {
      return misplaced(
        `The stand-in of the key ${name} works at ${some(binding.hosts)} only, and not at ${quoted(host)}. Send the request there, or leave the stand-in out.`,
      );
    }
    if (scheme !== "https") {
      return misplaced(`The key ${name} is sent over https only, and this request is not encrypted. Use https://${host}.`);
    }
    if (binding.methods && !binding.methods.includes(method)) {
      return misplaced(
        `The key ${name} is for ${some(binding.methods)} at ${host}, and not for ${quoted(method)}. Your user can bind it to that method too.`,
      );
    }
    if (binding.paths) {
      if (!this.#segments || !fitsPaths(binding.paths, path, this.#request.query)) {
        return misplaced(
          `The key ${name} is for ${some(binding.paths)} at ${host}, and not for this path. Your user can bind it to that path too.`,
        );
      }
      return undefined;
    }
    return this.#excluded(name);
  }

  /** Why a key without paths of its own does not reach this endpoint. */
  #excluded(name: string): Refusal | undefined {
    const { host, method } = this.#request;
    const segments = this.#segments ?? [];
    const profile = this.#profile;
    const excluded = (what: string) =>
      refuse(
        "credential.excluded",
        `${what} The key ${name} is not put in there unless its user binds it to that path by name: ask your user, and do not retry.`,
      );
    if (profile?.reach) {
      if (anyFits(profile.reach, segments)) return undefined;
      return excluded(`This address is not one of those at ${host} that a key is ordinarily used for.`);
    }
    if (profile?.graphql && anyFits(profile.graphql, segments)) {
      return method === "POST" ? undefined : excluded("GraphQL is read from the body of a POST only.");
    }
    if (profile?.excluded) {
      if (!anyFits(profile.excluded, segments)) return undefined;
      return excluded(`This address of ${host} hands out or registers lasting access (keys, tokens, hooks, members).`);
    }
    const word = grantingSegment(segments);
    if (word === undefined) return undefined;
    return excluded(`An address with "${quoted(word)}" in its path may hand out or register lasting access.`);
  }

  #misplaced(secret: BoundSecret, where: string): Refusal {
    const unusable = this.#unusable(secret);
    if (unusable) return unusable;
    const { name, template } = headerFor(secret.binding.use);
    return refuse(
      "credential.misplaced",
      `The stand-in of the key ${secret.name} stands in ${where}, where the key is not put in. Send it as the header "${name}: ${template("…").replace(/^Basic .*/, "Basic …")}", and nothing beside it.${this.#otherUse(secret)}`,
    );
  }

  /** A key that was bound in another way than its host's tools send it works with none of them. */
  #otherUse({ binding }: BoundSecret): string {
    const key = this.#profile?.key;
    if (!key || headerFor(key.use).name === headerFor(binding.use).name) return "";
    return ` Tools of ${quoted(this.#request.host)} send it as ${key.use}: your user can bind it so.`;
  }

  /** The key whose stand-in is somewhere in a text, plainly, percent-encoded, or in the pair of a Basic authorization. */
  #standInIn(text: string): BoundSecret | undefined {
    if (this.#secrets.length === 0) return undefined;
    const forms = [text, decoded(text), decodeBasic(text) ?? ""];
    return this.#secrets.find(({ placeholder }) => forms.some((form) => form.includes(placeholder)));
  }

  #advice(): string {
    const env = this.#bound.map(({ binding }) => binding.env).find((name) => name !== undefined);
    const host = quoted(this.#request.host);
    const own = env === undefined ? this.#howToAdd() : `Use the stand-in in $${env}. `;
    return `${own}Keys that are not in the vault are refused at ${host} unless the rule for it says that the guest's own credentials pass; ask your user, and do not retry.`;
  }

  /** The command that makes a key for a host without one, where it is known how its tools send it. */
  #howToAdd(): string {
    const { host } = this.#request;
    const key = this.#bound.length === 0 ? this.#profile?.key : undefined;
    return key ? `Your user can add a key for it (cloche secret add NAME --host ${quoted(host)} --as ${key.use} --env ${key.env}). ` : "";
  }
}

/**
 * The answer to a request with a key in it is searched for the key, so it has to come whole and uncompressed: a part by part answer could hand the key
 * out in pieces. A server may ignore a range and an extension, so that every client copes.
 */
function searchable(rawHeaders: readonly string[]): string[] {
  const kept = pairs(rawHeaders).filter(([name]) => !/^(?:accept-encoding|range|if-range|sec-websocket-extensions)$/i.test(name));
  return [...kept.flat(), "accept-encoding", "identity"];
}

function pairs(rawHeaders: readonly string[]): [name: string, value: string][] {
  const found: [string, string][] = [];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) found.push([rawHeaders[at] ?? "", rawHeaders[at + 1] ?? ""]);
  return found;
}

/** Percent-decoded, twice where it was encoded twice; as it is where it does not decode. */
function decoded(text: string): string {
  let out = text;
  for (let round = 0; round < 2 && out.includes("%"); round++) {
    out = out.replaceAll(/(?:%[0-9A-Fa-f]{2})+/g, (run) => Buffer.from(run.replaceAll("%", ""), "hex").toString("latin1"));
  }
  return out;
}

/** A query's parameters as the most lenient server splits them. */
function parameters(query: string): { name: string; value: string }[] {
  if (query === "") return [];
  return query
    .replace(/^\?/, "")
    .split(/[&;]/)
    .filter((piece) => piece !== "")
    .map((piece) => {
      const at = piece.indexOf("=");
      const plain = (text: string) => decoded(text.replaceAll("+", " "));
      return at === -1 ? { name: plain(piece), value: "" } : { name: plain(piece.slice(0, at)), value: plain(piece.slice(at + 1)) };
    });
}
