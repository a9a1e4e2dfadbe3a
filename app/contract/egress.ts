/** What a task may reach, and the keys that work for it, as clients see and change them. */
import { z } from "zod";

const count = z.int().min(0);

/** A DNS name in its ASCII form, an IPv4 address, or an IPv6 address in brackets; `*.example.com` stands for every name below example.com. */
export const hostPattern = z.string().min(1).max(255);
/** Why or for what, in a person's words. */
const reason = z.string().min(1).max(512);
const httpMethod = z.string().regex(/^[A-Z]{1,32}$/);
/** `*` stands for what has no slash, `**` for anything. */
const pathPattern = z.string().min(1).max(1024).startsWith("/");

export const networkPreset = z.enum(["none", "models", "packages", "git", "web"]);
export type NetworkPreset = z.infer<typeof networkPreset>;

/** How long a rule holds: for one request, until the machine stops, as long as the task is there, or for every task. */
export const ruleScope = z.enum(["once", "run", "task", "always"]);
export type RuleScope = z.infer<typeof ruleScope>;

const ruleFields = {
  decision: z.enum(["allow", "deny", "ask"]),
  host: hostPattern,
  /** absent: 443 with TLS or unread and 80 without; of a rule that refuses, every port */
  port: z.int().min(1).max(65_535).optional(),
  /** absent: every method */
  methods: z.array(httpMethod).min(1).max(32).optional(),
  /** absent: every path */
  paths: z.array(pathPattern).min(1).max(64).optional(),
  /** WebSocket and other upgrades pass too; absent: they do not */
  upgrade: z.literal(true).optional(),
  /** passed on unread: nothing in it is decided, recorded or swapped but the connection itself */
  opaque: z.literal(true).optional(),
  /** keys of the guest's own pass at this host; absent: they are refused */
  credentials: z.literal("guest").optional(),
  /** the one range of private addresses that this exact host may resolve to */
  private: z.string().max(64).optional(),
  /** the rule holds for that many requests, and bytes both ways; absent: without an end */
  requests: z.int().min(1).optional(),
  bytes: z.int().min(1).optional(),
  /** the rule holds until then */
  until: z.iso.datetime().optional(),
  reason: reason.optional(),
} as const;

/** A rule as its maker gives it. */
export const ruleDraft = z.lazy(() => z.strictObject(ruleFields));
export type RuleDraft = z.infer<typeof ruleDraft>;

/** A rule that holds. `id` stands in events and refusals: `r7`, or `packages/3` for the third of a preset. */
export const rule = z.lazy(() =>
  z.strictObject({
    id: z.string().regex(/^[a-z0-9]{1,32}(\/[0-9]{1,4})?$/),
    scope: ruleScope,
    /** who made it */
    from: z.enum(["user", "preset", "import"]),
    created: z.iso.datetime().optional(),
    ...ruleFields,
  }),
);
export type Rule = z.infer<typeof rule>;

/** Rules a task can have, those of presets and of every task with it. */
export const MAX_RULES = 1024;

/** One request of a guest, as far as a decision needs it. */
export const egressRequest = z.lazy(() =>
  z.strictObject({
    /** `opaque`: nothing but host and port is known */
    scheme: z.enum(["https", "http", "opaque"]),
    host: z.string().min(1).max(255),
    port: z.int().min(1).max(65_535),
    method: z.string().max(32),
    /** the normal form, without its query */
    path: z.string().max(2048),
    upgrade: z.boolean(),
  }),
);
export type EgressRequest = z.infer<typeof egressRequest>;

/** The verdict on a request, with the rule that gave it: `default` where none fits. */
export const egressDecision = z.strictObject({
  decision: z.enum(["allow", "deny", "ask"]),
  rule: z.string().max(64),
  reason: z.string().max(1024),
});
export type EgressDecision = z.infer<typeof egressDecision>;

export const MAX_PENDING_ASKS = 5;

export const askId = z.string().regex(/^a[0-9]{1,12}$/);

/** A request that no rule decides. `pending`: it is held and waits for an answer; `refused`: it was refused and is listed. */
export const askView = z.lazy(() =>
  z.strictObject({
    id: askId,
    task: z.string().max(64),
    state: z.enum(["pending", "refused"]),
    /** registrable domain in ASCII (punycode) form. Each host is an ask; beyond a few hosts of one domain the others share its last one */
    domain: z.string().max(255),
    /** requests so far */
    count: z.int().min(1),
    first: z.iso.datetime(),
    /** the newest of them */
    request: egressRequest,
    rule: z.string().max(64),
    reason: z.string().max(1024),
    /** the narrowest rule under which it passes */
    offer: ruleDraft,
  }),
);
export type AskView = z.infer<typeof askView>;

/** How a key is sent: the header, and how its value is made of the key. */
export const secretUse = z.union([z.enum(["bearer", "x-api-key", "basic"]), z.string().regex(/^header:[A-Za-z0-9-]{1,64}$/)]);
export type SecretUse = z.infer<typeof secretUse>;

const SECRET_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
export const secretName = z.string().regex(SECRET_NAME, "a key's name is made of letters, digits, dots, - and _");

/** Where the value of a key is: with the system's keychain, in the keeper's memory only, or read at each use. */
export const secretSource = z.lazy(() =>
  z.discriminatedUnion("kind", [
    z.strictObject({ kind: z.literal("keychain") }),
    z.strictObject({ kind: z.literal("memory") }),
    z.strictObject({ kind: z.literal("env"), name: z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/) }),
    z.strictObject({ kind: z.literal("file"), path: z.string().min(1).max(4096) }),
    z.strictObject({ kind: z.literal("command"), argv: z.array(z.string().min(1).max(4096)).min(1).max(64) }),
  ]),
);
export type SecretSource = z.infer<typeof secretSource>;

/** Where a key may be used, and how. */
export const secretBinding = z.lazy(() =>
  z.strictObject({
    /** exact names */
    hosts: z.array(hostPattern).min(1).max(16),
    use: secretUse,
    /** absent: every method */
    methods: z.array(httpMethod).min(1).max(32).optional(),
    /** absent: every path that does not hand out or register lasting access at that host */
    paths: z.array(pathPattern).min(1).max(64).optional(),
    /** swapped in these query parameters too */
    query: z.array(z.string().min(1).max(64)).max(8).optional(),
    /** swapped in request bodies too */
    body: z.literal(true).optional(),
    /** variable that holds the stand-in in the guest */
    env: z
      .string()
      .regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/)
      .optional(),
  }),
);
export type SecretBinding = z.infer<typeof secretBinding>;

/** A key as clients see it: never its value. */
export const secretView = z.lazy(() =>
  z.strictObject({
    name: secretName,
    source: secretSource,
    binding: secretBinding,
    created: z.iso.datetime(),
    /** names of the tasks that may use it */
    tasks: z.array(z.string().max(64)).max(4096),
  }),
);
export type SecretView = z.infer<typeof secretView>;

/** A proxy of the user's network through which tasks' connections leave: HTTP, asked to CONNECT, and not for what a rule with a private range lets pass. */
export const outgoingProxy = z.lazy(() =>
  z.strictObject({
    /** a name, or an address, also of the user's own network */
    host: z.string().min(1).max(255),
    port: z.int().min(1).max(65_535),
    /** the key that it is given: one that works at this host, as `basic` or `bearer` */
    secret: secretName.optional(),
  }),
);
export type OutgoingProxy = z.infer<typeof outgoingProxy>;

/** What a task's network lets through. */
export const networkView = z.lazy(() =>
  z.strictObject({
    presets: z.array(networkPreset).max(8),
    /** the task's own rules, newest first; those of presets are listed by `policy.show` */
    rules: z.array(rule).max(MAX_RULES),
    secrets: z
      .array(z.strictObject({ name: secretName, hosts: z.array(hostPattern).max(16), env: z.string().max(128).optional() }))
      .max(64),
    asks: count,
    /** the outgoing proxy that the task's machine uses, or its next one will; absent: connections leave directly */
    proxy: outgoingProxy.optional(),
    /** why everything is refused, where the policy cannot be read */
    problem: z.string().max(1024).optional(),
  }),
);
export type NetworkView = z.infer<typeof networkView>;

/** One thing that a task's proxy decided or finished. Paths carry no query; nothing here was sent by a server. */
export const egressEntry = z.lazy(() =>
  z.strictObject({
    /** counts up per machine: an `ended` names its `decided` */
    id: z.int().min(1),
    at: z.int().min(0),
    what: z.enum(["decided", "ended"]),
    request: egressRequest,
    decision: z.enum(["allow", "deny"]).optional(),
    rule: z.string().max(64).optional(),
    reason: z.string().max(1024).optional(),
    /** the key that was put in on the way out */
    secret: secretName.optional(),
    /** who resolved the name: this computer, or the proxy that its user set */
    resolution: z.enum(["host", "upstream"]).optional(),
    address: z.string().max(64).optional(),
    status: z.int().min(0).max(999).optional(),
    sentBytes: count.optional(),
    receivedBytes: count.optional(),
    ms: count.optional(),
    /** why it ended early */
    fault: z.string().max(256).optional(),
  }),
);
export type EgressEntry = z.infer<typeof egressEntry>;

/** Entries of one record. */
export const MAX_ENTRIES = 200;

const oneByOne = z.lazy(() => z.array(egressEntry).min(1).max(MAX_ENTRIES));

/** Many a second: what fits at the first look is not taken apart. The schema has the last word on everything else. */
export const egressEntries = z.lazy(() =>
  z.custom<EgressEntry[]>().superRefine((value, context) => {
    if (fitAtFirstLook(value)) return;
    for (const issue of oneByOne.safeParse(value).error?.issues ?? []) context.addIssue({ ...issue });
  }),
);

/** @returns true only for what the schema takes as it is */
export function fitAtFirstLook(value: unknown): boolean {
  return Array.isArray(value) && value.length > 0 && value.length <= MAX_ENTRIES && value.every(isPlainEntry);
}

const isPlain = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;
const isText = (value: unknown, most: number): boolean => typeof value === "string" && value.length <= most;
const isCount = (value: unknown, least = 0, most = Number.MAX_SAFE_INTEGER): boolean =>
  Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most;

function isPlainEntry(entry: unknown): boolean {
  if (!isPlain(entry)) return false;
  for (const name in entry) if (!isPlainField(name, entry[name])) return false;
  return "id" in entry && "at" in entry && "what" in entry && "request" in entry;
}

function isPlainField(name: string, value: unknown): boolean {
  switch (name) {
    case "id":
      return isCount(value, 1);
    case "at":
    case "sentBytes":
    case "receivedBytes":
    case "ms":
      return isCount(value);
    case "what":
      return value === "decided" || value === "ended";
    case "request":
      return isPlainRequest(value);
    case "decision":
      return value === "allow" || value === "deny";
    case "rule":
    case "address":
      return isText(value, 64);
    case "reason":
      return isText(value, 1024);
    case "secret":
      return typeof value === "string" && SECRET_NAME.test(value);
    case "resolution":
      return value === "host" || value === "upstream";
    case "status":
      return isCount(value, 0, 999);
    case "fault":
      return isText(value, 256);
    default:
      return false;
  }
}

function isPlainRequest(request: unknown): boolean {
  if (!isPlain(request) || Object.keys(request).length !== 6) return false;
  const { scheme, host, port, method, path, upgrade } = request;
  return (
    (scheme === "https" || scheme === "http" || scheme === "opaque") &&
    isText(host, 255) &&
    host !== "" &&
    isCount(port, 1, 65_535) &&
    isText(method, 32) &&
    isText(path, 2048) &&
    typeof upgrade === "boolean"
  );
}
