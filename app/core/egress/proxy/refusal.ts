/**
 * What a client is answered in place of what it asked for: JSON that says to a person and to a model what was refused, by which rule,
 * why, and what to do about it. No answer has a word in it that a server sent.
 */
import type { EgressRequest } from "../../../contract/index.ts";
import type { RefusalCode as CredentialCode } from "../credentials/index.ts";
import { allowLine } from "../policy/index.ts";

/** Codes are stable: programs, records and tests name them. The credentials have theirs beside these. */
export const REFUSALS = {
  "policy.no-rule": "no rule of the task allows it",
  "policy.refused": "a rule of the task refuses it, or is used up",
  "policy.budget": "the rule that allowed it has no bytes left for it",
  "policy.changed": "the rules were changed while it was under way",
  "policy.over": "the rule that allowed it held until now",
  "request.form": "not a request as HTTP asks for, or too large in its head",
  "request.method": "a method that is never passed on",
  "request.host": "host, TLS name and connection differ",
  "request.path": "a path that can be read in more than one way",
  "credential.changed": "the key that it went on with was taken away, or is no longer for it",
  "credential.unsearchable": "an answer that cannot be searched for the key that went with its request",
  "upstream.name": "the name does not exist",
  "upstream.resolver": "no name server answers",
  "upstream.address": "the name resolves to an address that is not public",
  "upstream.refused": "the origin refuses connections",
  "upstream.unreachable": "there is no way to the origin",
  "upstream.timeout": "the origin does not answer in time",
  "upstream.reset": "the origin broke the connection off",
  "upstream.certificate": "the origin's certificate cannot be trusted",
  "upstream.tls": "TLS with the origin failed",
  "upstream.answer": "the origin's answer is not HTTP",
  "upstream.proxy": "the outgoing proxy of this computer refused or failed",
  "proxy.record": "the decision could not be written down",
} as const;
export type RefusalCode = keyof typeof REFUSALS | CredentialCode;

export interface Refusal {
  /** 403 refused, 421 not for this connection, 400 and 431 not a request, 502 to 504 allowed and yet not done */
  readonly status: 400 | 403 | 421 | 431 | 502 | 503 | 504;
  readonly code: RefusalCode;
  readonly reason: string;
  /** the rule that decided */
  readonly rule?: string;
  /** a rule of the user's would let it pass */
  readonly allowable?: boolean;
  /** the same request may work later, with nothing changed by anybody */
  readonly retry?: boolean;
}

export const refusal = (
  status: Refusal["status"],
  code: RefusalCode,
  reason: string,
  more: Pick<Refusal, "rule" | "allowable" | "retry"> = {},
): Refusal => ({ status, code, reason, ...more });

/** The body, as JSON. */
export function refusalBody({ code, reason, rule, allowable, retry }: Refusal, request: EgressRequest | undefined, task: string): Buffer {
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
