/**
 * Policies on disk: one `policy.json` for each task, and one for the rules of every task. Written whole and renamed into place.
 *
 * A policy that is missing, cannot be read or does not fit is `broken`: nothing passes until its user sets it anew. It is never taken
 * for an empty one, although both let nothing through: an empty one asks, a broken one says what is wrong.
 */
import { readFileSync } from "node:fs";
import { z } from "zod";
import {
  firstIssue,
  MAX_RULES,
  type NetworkPreset,
  networkPreset,
  ProblemError,
  type Rule,
  type RuleDraft,
  rule,
  secretName,
} from "../../contract/index.ts";
import { writeWhole } from "../whole-file.ts";
import { checkDraft } from "./policy/index.ts";

/** Version of policy.json. 1: 2026-11-25, first. */
export const POLICY_FILE_VERSION = 1;
const MAX_FILE_BYTES = 4 << 20;

const spent = z.strictObject({ requests: z.int().min(0), bytes: z.int().min(0) });
export type Spent = z.infer<typeof spent>;

const policyFile = z.lazy(() =>
  z.strictObject({
    version: z.literal(POLICY_FILE_VERSION),
    /** the number in the next rule's id; ids are never given twice */
    next: z.int().min(1),
    presets: z.array(networkPreset).max(8),
    /** newest first */
    rules: z.array(rule).max(MAX_RULES),
    /** keys that the task may use */
    secrets: z.array(secretName).max(64),
    /** certificate authorities that the task's proxy trusts upstream beside the others, as PEM; absent: none */
    trust: z.array(z.string().max(16_384)).max(4).optional(),
    /** what rules with a budget have let through, by id */
    spent: z.record(z.string().max(64), spent),
  }),
);
export type PolicyFile = z.infer<typeof policyFile>;

export const emptyPolicy = (): PolicyFile => ({ version: POLICY_FILE_VERSION, next: 1, presets: [], rules: [], secrets: [], spent: {} });

/** Rules that a task has for as long as it is there, with the ids from `next` on, and the id that follows. */
export function numbered(drafts: readonly RuleDraft[], next: number, from: Rule["from"]): Pick<PolicyFile, "next" | "rules"> {
  const created = new Date().toISOString();
  const rules = drafts.map((draft, at): Rule => ({ id: `r${next + at}`, scope: "task", from, created, ...draft }));
  return { next: next + rules.length, rules };
}

/** Each once; `none` is the absence of the others. */
export const chosen = (presets: readonly NetworkPreset[]) => [...new Set(presets)].filter((preset) => preset !== "none");

/** The policy of a task that is made. */
export const newPolicy = (
  presets: readonly NetworkPreset[],
  drafts: readonly RuleDraft[],
  secrets: readonly string[],
  trust: readonly string[],
): PolicyFile => ({
  ...emptyPolicy(),
  ...numbered(drafts, 1, "user"),
  presets: chosen(presets),
  secrets: [...new Set(secrets)],
  ...(trust.length > 0 ? { trust: [...trust] } : {}),
});

/** The policy, or why it cannot be used. */
export function readPolicy(file: string): PolicyFile | { broken: string } {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
    return { broken: missing ? "the policy is missing" : `the policy cannot be read: ${(error as Error).message}` };
  }
  if (text.length > MAX_FILE_BYTES) return { broken: `the policy is longer than ${MAX_FILE_BYTES} bytes` };
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return { broken: "the policy is not JSON" };
  }
  const version = (json as { version?: unknown } | null)?.version;
  if (typeof version === "number" && version > POLICY_FILE_VERSION) {
    return { broken: `the policy was written by a newer Cloche (version ${version}; this one reads up to ${POLICY_FILE_VERSION})` };
  }
  const parsed = policyFile.safeParse(json);
  if (!parsed.success) return { broken: `the policy does not fit: ${firstIssue(parsed.error).slice(0, 500)}` };
  for (const { id, scope: _, from: __, created: ___, ...draft } of parsed.data.rules) {
    const unfit = checkDraft(draft);
    if (unfit !== undefined) return { broken: `the policy's rule ${id} cannot be used: ${unfit}` };
  }
  return parsed.data;
}

/** Durable when it resolves. */
export async function writePolicy(file: string, policy: PolicyFile): Promise<void> {
  try {
    await writeWhole(file, `${JSON.stringify(policy, null, 2)}\n`, true);
  } catch (error) {
    throw new ProblemError({
      code: "disk.full",
      message: "The task's network rules could not be written down, so they are as they were.",
      evidence: (error as Error).message,
      next: ["Make room on the disk that holds Cloche's data (`cloche doctor` names it), then try again."],
    });
  }
}
