/**
 * What a client is answered in place of what it asked for: JSON that says to a person and to a model what was refused, by which rule,
 * why, and what to do about it. No answer has a word in it that a server sent.
 */
import type { EgressRequest } from "../../../contract/index.ts";
import { allowLine } from "../policy/index.ts";

export interface Refusal {
  /** 403 refused, 421 not for this connection, 400 and 431 not a request, 502 to 504 allowed and yet not done */
  readonly status: 400 | 403 | 421 | 431 | 502 | 503 | 504;
  /** stable; `policy.` a rule's verdict, `credential.` a key's, `request.` its form, `upstream.` the origin's fault, `proxy.` ours */
  readonly code: string;
  readonly reason: string;
  /** the rule that decided */
  readonly rule?: string;
  /** a rule of the user's would let it pass */
  readonly allowable?: boolean;
  /** the same request may work later, with nothing changed by anybody */
  readonly retry?: boolean;
}

/** The body, as JSON. */
export function refusalBody(refusal: Refusal, request: EgressRequest | undefined, task: string): Buffer {
  const { code, reason, rule, allowable, retry } = refusal;
  const where = request && {
    host: request.host,
    port: request.port,
    method: request.method,
    path: request.path,
  };
  const ask =
    request && allowable
      ? `Tell your user what this request is for, and that on their own computer they can allow it with: ${allowLine(task, request)}`
      : retry
        ? undefined
        : "Tell your user about this refusal if the task cannot do without the request.";
  const error = {
    code,
    ...where,
    ...(rule === undefined ? {} : { rule }),
    reason,
    ...(ask === undefined ? {} : { ask }),
    retry: retry ?? false,
  };
  return Buffer.from(`${JSON.stringify({ error })}\n`);
}

export const refusalHeaders = (body: Buffer): string[] => [
  "content-type",
  "application/json",
  "content-length",
  String(body.length),
  "cache-control",
  "no-store",
];
