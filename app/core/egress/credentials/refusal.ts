/** Why a request may not leave. The codes are stable: programs, events and tests name them. */
export const REFUSALS = {
  "credential.foreign": "a credential that is not a stand-in of this task",
  "credential.misplaced": "a stand-in at a place where its key may not be put in",
  "credential.excluded": "a stand-in at an endpoint that hands out or registers access",
  "credential.login": "an endpoint that takes or hands out credentials in its bodies",
  "request.remote-fetch": "a header or field that makes the server fetch, call or run something for the guest",
  "request.unreadable-body": "a body that has to be judged and cannot be read",
  "request.rewritten": "a header or parameter that makes the server see another request than was decided",
  "request.malformed": "a request that no program sends by accident",
} as const;
export type RefusalCode = keyof typeof REFUSALS;

export interface Refusal {
  kind: "refuse";
  code: RefusalCode;
  /** Whole sentences for a person and a model: what it was, and what to do. Never any part of a value. */
  reason: string;
}

export const refuse = (code: RefusalCode, reason: string): Refusal => ({ kind: "refuse", code, reason });

/** A guest's own word inside a reason: short, and of harmless characters. */
export function quoted(word: string): string {
  const shown = word.replaceAll(/[^A-Za-z0-9._~$/@*{}-]/g, "?");
  return shown.length <= 64 ? shown : `${shown.slice(0, 63)}…`;
}

/** The first of a list inside a reason, and how many more there are: a reason has at most 1024 characters. */
export function some(list: readonly string[]): string {
  const shown = list.slice(0, 3).map(quoted).join(", ");
  return list.length <= 3 ? shown : `${shown} and ${list.length - 3} more`;
}
