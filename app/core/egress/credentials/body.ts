import type { BoundSecret } from "../protocol.ts";
import { plainName } from "./carriers.ts";
import { anyFits } from "./endpoints.ts";
import { judgeForm } from "./form.ts";
import { CONTENT_CHANGES, operations } from "./graphql.ts";
import { JsonReader, type JsonVisitor, plainField } from "./json.ts";
import { Patterns } from "./matcher.ts";
import { formVisitor, modelVisitor } from "./model.ts";
import type { HostProfile } from "./profiles.ts";
import { quoted, type Refusal, refuse } from "./refusal.ts";

/**
 * What happens to a request's body. `forward`: it passes unread. `filter`: every byte goes through a `BodyFilter`. `held`: nothing of the request,
 * its head included, leaves before the filter's `end`, because the verdict is on the whole. `length`: whether the length that the
 * guest told stays true; where it does not, the body is sent on in chunks of unknown total, or with the length it has once it is whole.
 */
export type BodyPlan =
  | { kind: "forward" }
  | { kind: "filter"; held: boolean; length: "same" | "changes"; open(room: HoldingRoom): BodyFilter };

export interface BodyFilter {
  /** What of the body may leave now. After a refusal nothing is asked any more. */
  push(chunk: Uint8Array): Buffer | Refusal;
  end(): Buffer | Refusal;
  /** Gives back what was held. Called in every case, once, also when the request was broken off. */
  close(): void;
  /** names of the keys that were put in so far */
  readonly swapped: ReadonlySet<string>;
}

/** Memory for bodies that wait for their verdict, one for all requests of a task. */
export class HoldingRoom {
  #free: number;

  constructor(bytes = 96 * 1024 * 1024) {
    this.#free = bytes;
  }

  take(bytes: number): boolean {
    if (bytes > this.#free) return false;
    this.#free -= bytes;
    return true;
  }

  give(bytes: number): void {
    this.#free += bytes;
  }
}

/** Largest body of a request to a model API: what the largest of them takes. */
const MAX_MODEL_BODY = 32 * 1024 * 1024;
const MAX_FIELDS_BODY = 1024 * 1024;

/** Fields of a login's body that are credentials wherever it is. */
const LOGIN_FIELDS: ReadonlySet<string> = new Set(
  "token accesstoken refreshtoken idtoken clientsecret password secret assertion clientassertion code devicecode codeverifier apikey key subjecttoken actortoken".split(
    " ",
  ),
);

export interface BodyQuestion {
  request: { host: string; method: string; rawHeaders: readonly string[] };
  profile: HostProfile | undefined;
  segments: readonly string[];
  /** the guest may use keys of its own */
  guest: boolean;
  /** keys that may be put into this body */
  put: readonly BoundSecret[];
  /** the request passes although it is a login, as a key is bound to it */
  login: boolean;
  /** a key was put into the head that has no paths of its own */
  narrow: boolean;
}

export function planBody(question: BodyQuestion): BodyPlan | Refusal {
  const { request, put, profile, guest } = question;
  const type = contentType(request.rawHeaders);
  if (profile?.signedForms && !guest && type.startsWith("multipart/")) {
    return refuse(
      "credential.foreign",
      `A form with parts is an upload for whoever signed it at ${request.host}, and that is not this task. Ask your user to let the guest's own credentials pass there; do not retry.`,
    );
  }
  const judge = judgeFor(question);
  if (!judge) {
    if (put.length === 0) return { kind: "forward" };
    return { kind: "filter", held: false, length: "changes", open: () => new SwapFilter(put, type) };
  }
  // of two, servers differ in which they read
  const named = request.rawHeaders.filter((name, at) => at % 2 === 0 && plainName(name) === "content-type");
  if (named.length > 1) return unreadable(request.host, "it has more than one type");
  const encoded = header(request.rawHeaders, "content-encoding");
  if (encoded !== undefined && encoded.toLowerCase() !== "identity")
    return unreadable(request.host, `it is compressed (${quoted(encoded)})`);
  const upgrades = ["upgrade", "sec-websocket-key", ":protocol"].some((name) => header(request.rawHeaders, name) !== undefined);
  if (profile?.model && (upgrades || request.method === "CONNECT")) {
    return unreadable(request.host, "it would be a connection of its own kind (an upgrade)");
  }
  return {
    kind: "filter",
    held: true,
    length: put.length > 0 ? "changes" : "same",
    open: (room) => new HeldFilter(room, judge, request.host, type, put),
  };
}

/** What a held body is judged by. */
interface Judge {
  limit: number;
  /** media types that it can read; an empty body has none */
  types: readonly string[];
  /** told of each value of a JSON body, and of each field of a form, while it comes */
  visit?: JsonVisitor;
  /** told of the whole at last */
  whole?: (body: Buffer) => Refusal | undefined;
}

function judgeFor({ profile, request, segments, guest, put, login, narrow }: BodyQuestion): Judge | undefined {
  if (profile?.model) {
    const type = header(request.rawHeaders, "content-type") ?? "";
    if (profile.forms && /^multipart\//i.test(type) && anyFits(profile.forms, segments)) {
      const visit = formVisitor(request.host);
      const whole = (body: Buffer) => judgeForm(body, type, visit, (why) => unreadable(request.host, why, ""));
      return { limit: MAX_MODEL_BODY, types: [contentType(request.rawHeaders)], whole };
    }
    return { limit: MAX_MODEL_BODY, types: ["json"], visit: modelVisitor(profile.model, request.host, segments) };
  }
  if (narrow && profile?.graphql && anyFits(profile.graphql, segments)) {
    return { limit: MAX_FIELDS_BODY, types: ["json"], whole: (body) => judgeGraphql(body, request.host) };
  }
  const fields = login ? LOGIN_FIELDS : profile?.bodyKeys;
  if (guest || !fields) return undefined;
  const standIns = new Set(put.map(({ placeholder }) => placeholder));
  return {
    limit: MAX_FIELDS_BODY,
    types: ["json", "form"],
    visit: (path, kind, text) => {
      const name = path.at(-1) ?? "";
      if (!fields.has(name) || kind === "object" || kind === "array" || text === "" || standIns.has(text)) return undefined;
      if (kind === "other" && /^(?:null|true|false)$/.test(text)) return undefined;
      return refuse(
        "credential.foreign",
        `The field "${quoted(name)}" of the body carries a credential that is not a stand-in of this task, or one that is not put into bodies. Leave it out, or ask your user to let the guest's own credentials pass at ${request.host}; do not retry.`,
      );
    },
  };
}

function judgeGraphql(body: Buffer, host: string): Refusal | undefined {
  if (body.length === 0) return undefined;
  const document = JSON.parse(body.toString("utf8")) as { query?: unknown } | null;
  const query = typeof document === "object" && document !== null ? document.query : undefined;
  const read = typeof query === "string" ? operations(query) : undefined;
  if (!read) return unreadable(host, "it is not a single GraphQL document");
  const change = read.changes.find((name) => !CONTENT_CHANGES.has(name));
  if (change === undefined) return undefined;
  return refuse(
    "credential.excluded",
    `The GraphQL change "${quoted(change)}" is not one of those that only work on content. No key is put in there unless its user binds it to that path by name: ask your user, and do not retry.`,
  );
}

const unreadable = (host: string, why: string, advice = " Send it as plain JSON."): Refusal =>
  refuse(
    "request.unreadable-body",
    `Bodies of such requests to ${host} are read before they pass, and this one cannot be: ${why}.${advice}`,
  );

const NOTHING = Buffer.alloc(0);

class HeldFilter implements BodyFilter {
  readonly swapped = new Set<string>();
  readonly #room: HoldingRoom;
  readonly #judge: Judge;
  readonly #host: string;
  readonly #type: string;
  readonly #put: readonly BoundSecret[];
  readonly #json: JsonReader | undefined;
  #held: Buffer[] = [];
  #bytes = 0;

  constructor(room: HoldingRoom, judge: Judge, host: string, type: string, put: readonly BoundSecret[]) {
    this.#room = room;
    this.#judge = judge;
    this.#host = host;
    this.#type = type;
    this.#put = put;
    if (type === "json") this.#json = new JsonReader(judge.visit ?? (() => undefined), (why) => unreadable(host, why));
  }

  push(chunk: Uint8Array): Buffer | Refusal {
    if (chunk.length === 0) return NOTHING;
    if (!this.#judge.types.includes(this.#type)) {
      return unreadable(this.#host, `it is of the type ${this.#type === "" ? "that nobody named" : `"${quoted(this.#type)}"`}`);
    }
    if (this.#bytes + chunk.length > this.#judge.limit)
      return unreadable(this.#host, `it is larger than ${this.#judge.limit / 1024 / 1024} MiB`);
    if (!this.#room.take(chunk.length))
      return unreadable(this.#host, "too many large requests of this task are under way at once; send fewer");
    this.#bytes += chunk.length;
    this.#held.push(Buffer.from(chunk));
    return this.#json?.push(chunk) ?? NOTHING;
  }

  end(): Buffer | Refusal {
    const body = Buffer.concat(this.#held);
    const refusal = body.length === 0 ? undefined : (this.#json?.end() ?? this.#form(body) ?? this.#judge.whole?.(body));
    if (refusal) return refusal;
    if (this.#put.length === 0) return body;
    const swap = new SwapFilter(this.#put, this.#type);
    const out = Buffer.concat([swap.push(body), swap.end()]);
    for (const name of swap.swapped) this.swapped.add(name);
    return out;
  }

  #form(body: Buffer): Refusal | undefined {
    if (this.#type !== "form") return undefined;
    for (const [name, value] of new URLSearchParams(body.toString("latin1").replaceAll(";", "&"))) {
      // a[b] is the field b of a to many servers
      const path = name.split(/[[\].]+/).filter((part) => part !== "");
      const refusal = this.#judge.visit?.(path.map(plainField), "string", value);
      if (refusal) return refusal;
    }
    return undefined;
  }

  close(): void {
    this.#room.give(this.#bytes);
    this.#bytes = 0;
    this.#held = [];
  }
}

/** Puts keys in their stand-ins' places as a body streams by, written as the body's type wants it. */
export class SwapFilter implements BodyFilter {
  readonly swapped = new Set<string>();
  readonly #patterns: Patterns;
  readonly #put: { name: string; text: Buffer }[] = [];
  #state = 0;
  #kept: Buffer = NOTHING;

  constructor(secrets: readonly BoundSecret[], type: string) {
    const wanted: Buffer[] = [];
    for (const { name, placeholder, value } of secrets) {
      const written =
        type === "json" ? JSON.stringify(value).slice(1, -1) : type === "form" ? encodeURIComponent(value.toWellFormed()) : value;
      const forms = type === "form" ? [placeholder, encodeURIComponent(placeholder)] : [placeholder];
      for (const form of new Set(forms)) {
        wanted.push(Buffer.from(form));
        this.#put.push({ name, text: Buffer.from(written) });
      }
    }
    this.#patterns = new Patterns(wanted);
  }

  push(chunk: Uint8Array): Buffer {
    const kept = this.#kept.length;
    const bytes = kept === 0 ? Buffer.from(chunk) : Buffer.concat([this.#kept, chunk]);
    const out: Buffer[] = [];
    let from = 0;
    this.#state = this.#patterns.scan(this.#state, chunk, (end, length, pattern) => {
      const put = this.#put[pattern];
      if (!put) return 0;
      out.push(bytes.subarray(from, kept + end - length), put.text);
      from = kept + end;
      this.swapped.add(put.name);
      return 0;
    });
    const ready = bytes.length - this.#patterns.depth(this.#state);
    out.push(bytes.subarray(from, ready));
    this.#kept = Buffer.from(bytes.subarray(ready));
    return out.length === 1 ? (out[0] ?? NOTHING) : Buffer.concat(out);
  }

  end(): Buffer {
    const rest = this.#kept;
    this.#kept = NOTHING;
    this.#state = 0;
    return rest;
  }

  close(): void {
    this.#kept = NOTHING;
  }
}

function header(rawHeaders: readonly string[], wanted: string): string | undefined {
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) if (plainName(rawHeaders[at] ?? "") === wanted) return rawHeaders[at + 1]?.trim();
  return undefined;
}

/** "json" and "form" for what can be read as such; else the media type as it was given, "" where none is. */
function contentType(rawHeaders: readonly string[]): string {
  const given = header(rawHeaders, "content-type")?.toLowerCase() ?? "";
  const [, type = "", charset] = /^([a-z0-9.+-]+\/[a-z0-9.+-]+)\s*(?:;\s*charset="?([a-z0-9-]+)"?\s*)?$/.exec(given) ?? [];
  if (charset !== undefined && charset !== "utf-8" && charset !== "utf8" && charset !== "us-ascii") return given;
  if (type === "application/json") return "json";
  if (type === "application/x-www-form-urlencoded") return "form";
  return given;
}
