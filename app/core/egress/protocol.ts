/**
 * What the keeper and a task's proxy say to each other on the proxy's stdin and stdout: JSON-RPC, one message a line, as all programs
 * of Cloche do. The guest's streams come as handles over the process's IPC channel, each with the message `stream`; the keeper has
 * not read a byte of them.
 *
 * Order: `hello`, `start` once, then the others at will. What a request does is decided by the policy that was set last.
 *
 * A decision is told (`activity`) and written down before anything of an allowed request leaves: by the keeper (`recorded`), or by the
 * proxy itself in its journal, up to a bound of what the keeper has not written yet. While neither can, requests wait, bounded, and then
 * fail. Versions. 1: 2026-11-25, first. 2: 2026-11-26, `upstream` has what it is given as its
 * Proxy-Authorization. 3: 2026-11-26, `recorded` has no answer: it comes with each batch, and nobody waited for one. 4: 2026-11-28,
 * the proxy has a journal.
 */
import { z } from "zod";
import { egressEntries, egressRequest, MAX_RULES, method, rule, secretBinding, secretName } from "../../contract/index.ts";

export const PROXY_PROTOCOL = 4;
/** Batches of activity that may be under way unrecorded: with one more than the keeper writes, neither side waits for the other. */
export const MAX_BATCHES = 2;

const nothing = z.strictObject({});
const pem = z.string().max(8192);

/** Everything that decides about a task's requests: rules in the order of their precedence, newest first. */
export const effectivePolicy = z.lazy(() =>
  z.strictObject({
    rules: z.array(rule).max(MAX_RULES),
    /** why nothing may pass, where the policy could not be read; then `rules` is empty */
    broken: z.string().max(1024).optional(),
    /** someone can answer: a request that no rule decides is held and asked about; else it is refused at once */
    answering: z.boolean(),
  }),
);
export type EffectivePolicy = z.infer<typeof effectivePolicy>;

/** A key as the proxy needs it. It lives in the memory of keeper and proxy, and nowhere else. */
export const boundSecret = z.lazy(() =>
  z.strictObject({
    name: secretName,
    binding: secretBinding,
    /** what the guest holds in its place */
    placeholder: z.string().min(16).max(4096),
    value: z.string().min(1).max(16_384),
  }),
);
export type BoundSecret = z.infer<typeof boundSecret>;

/** The outgoing proxy that the user set, as a task's proxy needs it. */
export const upstreamProxy = z.lazy(() =>
  z.strictObject({
    host: z.string().max(255),
    port: z.int().min(1).max(65_535),
    /** the value of its Proxy-Authorization. It lives in the memory of keeper and proxy, as keys do */
    authorization: z.string().max(32_768).optional(),
  }),
);
export type UpstreamProxy = z.infer<typeof upstreamProxy>;

/** What the keeper tells without an answer. */
export const keeperNotices = {
  requests: {},
  notifications: {
    /** Everything of `activity` up to this batch is written down. */
    recorded: z.strictObject({ batch: z.int().min(1) }),
  },
} as const;

/** What the proxy answers and tells. */
export const proxyProtocol = {
  requests: {
    hello: method(() => ({
      params: z.strictObject({ protocol: z.int().min(1) }),
      result: z.strictObject({ protocol: z.int().min(1) }),
    })),
    start: method(() => ({
      params: z.strictObject({
        task: z.string().max(64),
        /** the task's certificate authority, as PEM; leaves are made from it in the proxy */
        authority: z.strictObject({ certificate: pem, key: pem }),
        policy: effectivePolicy,
        secrets: z.array(boundSecret).max(64),
        upstream: upstreamProxy.optional(),
        /** certificate authorities that are trusted upstream beside the system's own, as PEM */
        trusted: z.array(z.string().max(65_536)).max(64).optional(),
        /** a file of `journal.ts`; absent: every decision waits for the keeper */
        journal: z.string().max(4096).optional(),
      }),
      result: nothing,
    })),
    /** Holds for every request from here on; what is under way and no longer allowed is closed before the answer. */
    setPolicy: method(() => ({ params: z.strictObject({ policy: effectivePolicy }), result: z.strictObject({ closed: z.int().min(0) }) })),
    setSecrets: method(() => ({ params: z.strictObject({ secrets: z.array(boundSecret).max(64) }), result: nothing })),
    /** An asked request is decided again by the policy as it is now; what no rule allows is then refused. */
    release: method(() => ({ params: z.strictObject({ ask: z.int().min(1) }), result: nothing })),
    stats: method(() => ({
      params: nothing,
      result: z.strictObject({ streams: z.int().min(0), requests: z.int().min(0), pendingAsks: z.int().min(0) }),
    })),
  },
  notifications: {
    /** `journaled` is the newest line of the journal that is in here or was told before; absent: none since the last batch. */
    activity: z.strictObject({ batch: z.int().min(1), entries: egressEntries, journaled: z.int().min(1).optional() }),
    /** A request is held. `ask` is the proxy's own number for `release`. */
    asked: z.strictObject({ ask: z.int().min(1), request: egressRequest, rule: z.string().max(64), reason: z.string().max(1024) }),
    /** It is held no longer: its client left, or it waited too long and was refused. */
    unasked: z.strictObject({ ask: z.int().min(1), why: z.enum(["left", "time", "answered"]) }),
    /** Refused as no rule decides it and nobody can answer, or as too many wait; for the list of asks. */
    unanswered: z.strictObject({ request: egressRequest, rule: z.string().max(64), reason: z.string().max(1024) }),
  },
} as const;
