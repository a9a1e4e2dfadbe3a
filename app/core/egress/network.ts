/** One task's network: its presets, rules and keys, what of them holds now, and the way out of its machine. */
import { rename } from "node:fs/promises";
import {
  type EgressEntry,
  type NetworkPreset,
  type NetworkView,
  type OutgoingProxy,
  ProblemError,
  type Rule,
  type RuleDraft,
  type RuleScope,
} from "../../contract/index.ts";
import { Turns } from "../turns.ts";
import type { Gateway } from "./gateway.ts";
import { checkDraft, presetRules } from "./policy/index.ts";
import type { BoundSecret, EffectivePolicy } from "./protocol.ts";
import { chosen, emptyPolicy, numbered, type PolicyFile, readPolicy, type Spent, writePolicy } from "./store.ts";

/** Orders rules by when they were made, newest first; those of one moment stay in their order. */
const newestFirst = (a: Rule, b: Rule) => ((a.created ?? "") < (b.created ?? "") ? 1 : (a.created ?? "") > (b.created ?? "") ? -1 : 0);

/** What rules have let through since they were made. */
class Budgets {
  readonly #spent: Map<string, Spent>;
  constructor(kept: Record<string, Spent>) {
    this.#spent = new Map(Object.entries(kept));
  }
  of(rule: Rule): Spent {
    return this.#spent.get(rule.id) ?? { requests: 0, bytes: 0 };
  }
  add(id: string, requests: number, bytes: number): void {
    const had = this.#spent.get(id) ?? { requests: 0, bytes: 0 };
    this.#spent.set(id, { requests: had.requests + requests, bytes: had.bytes + bytes });
  }
  kept(rules: readonly Rule[]): Record<string, Spent> {
    const wanted = rules.filter(({ id }) => this.#spent.has(id)).map((rule) => [rule.id, this.of(rule)] as const);
    return Object.fromEntries(wanted);
  }
}

/** The rules that belong to every task. */
export class SharedRules {
  readonly #file: string;
  #policy: PolicyFile | undefined;
  #broken: string | undefined;

  constructor(file: string) {
    this.#file = file;
  }

  /** Missing is no fault: nobody has made one yet. */
  get rules(): readonly Rule[] {
    return this.#read().rules;
  }
  get broken(): string | undefined {
    this.#read();
    return this.#broken;
  }

  /** Throws policy.file: one rule in place of those that cannot be read would drop what they refuse. */
  async add(draft: RuleDraft): Promise<Rule> {
    const policy = this.#read();
    if (this.#broken !== undefined) throw brokenForAll(this.#broken, this.#file);
    const rule: Rule = { id: `g${policy.next}`, scope: "always", from: "user", created: new Date().toISOString(), ...draft };
    await this.#write({ ...policy, next: policy.next + 1, rules: [rule, ...policy.rules] });
    return rule;
  }

  async remove(id: string): Promise<Rule | undefined> {
    const policy = this.#read();
    const rule = policy.rules.find((one) => one.id === id);
    if (rule) await this.#write({ ...policy, rules: policy.rules.filter((one) => one !== rule) });
    return rule;
  }

  #read(): PolicyFile {
    if (this.#policy) return this.#policy;
    const read = readPolicy(this.#file);
    if ("broken" in read && read.broken !== "the policy is missing") this.#broken = `rules of every task: ${read.broken}`;
    this.#policy = "broken" in read ? emptyPolicy() : read;
    return this.#policy;
  }

  async #write(policy: PolicyFile): Promise<void> {
    await writePolicy(this.#file, policy);
    this.#policy = policy;
  }
}

export class TaskNetwork {
  readonly id: string;
  readonly #file: string;
  readonly #shared: SharedRules;
  #policy: PolicyFile;
  #broken: string | undefined;
  /** rules for one request or one run of the machine, newest first */
  #passing: Rule[] = [];
  #budgets: Budgets;
  /** what had been spent when the proxy that runs began to count */
  #begun = new Map<string, Spent>();
  /** one write of the file at a time */
  readonly #writes = new Turns();
  /** someone can answer its asks */
  answering = false;
  gateway: Gateway | undefined;
  /** the way out of its machine, while there is one: through that proxy, or directly */
  way: { readonly proxy: OutgoingProxy | undefined } | undefined;
  /** the keys of its machine with their stand-ins, while there is one */
  secrets: BoundSecret[] = [];

  constructor(id: string, file: string, shared: SharedRules) {
    this.id = id;
    this.#file = file;
    this.#shared = shared;
    const read = readPolicy(file);
    this.#broken = "broken" in read ? read.broken : undefined;
    this.#policy = "broken" in read ? emptyPolicy() : read;
    this.#budgets = new Budgets(this.#policy.spent);
  }

  get broken(): string | undefined {
    return this.#broken ?? this.#shared.broken;
  }
  get presets(): readonly NetworkPreset[] {
    return this.#policy.presets;
  }
  get trust(): readonly string[] {
    return this.#policy.trust ?? [];
  }
  get secretNames(): readonly string[] {
    return this.#policy.secrets;
  }
  /** The task's own rules, newest first. */
  get own(): Rule[] {
    return [...this.#passing, ...this.#policy.rules].sort(newestFirst);
  }

  /** All rules that hold, newest first; those of presets last. */
  get rules(): Rule[] {
    if (this.broken !== undefined) return [];
    return [...this.#made.sort(newestFirst), ...this.#policy.presets.flatMap((preset) => presetRules(preset))];
  }

  /** Those that somebody made and that hold: only they have limits. */
  get #made(): Rule[] {
    return this.broken === undefined ? [...this.#passing, ...this.#policy.rules, ...this.#shared.rules] : [];
  }

  /** The policy for a proxy that starts now. It counts from here on, so budgets begin with what is left of them. */
  begin(): EffectivePolicy {
    this.#begun = new Map(this.rules.map((rule) => [rule.id, this.spent(rule)]));
    return this.policy;
  }

  /** The policy for the proxy that runs. */
  get policy(): EffectivePolicy {
    return {
      rules: this.rules.flatMap((rule) => this.#left(rule)),
      ...(this.broken ? { broken: this.broken } : {}),
      answering: this.answering,
    };
  }

  spent(rule: Rule): Spent {
    return this.#budgets.of(rule);
  }

  view(asks: number, proxy: OutgoingProxy | undefined, hosts: (secret: string) => { hosts: string[]; env?: string }): NetworkView {
    return {
      presets: [...this.#policy.presets],
      rules: this.own,
      secrets: this.#policy.secrets.map((name) => ({ name, ...hosts(name) })),
      asks,
      ...(proxy ? { proxy } : {}),
      ...(this.broken === undefined ? {} : { problem: this.broken }),
    };
  }

  /** Throws policy.rule: one rule that cannot be used would refuse everything. */
  async add(wanted: RuleDraft, scope: RuleScope, from: Rule["from"] = "user"): Promise<Rule> {
    const draft = scope === "once" ? { ...wanted, requests: 1 } : wanted;
    refuseUnfit(draft);
    if (scope === "always") return this.#shared.add(draft);
    if (this.#broken !== undefined) throw broken(this.#broken);
    return this.#writes.take(async () => {
      const created = new Date().toISOString();
      const rule: Rule = { id: `r${this.#policy.next}`, scope, from, created, ...draft };
      const policy = { ...this.#policy, next: this.#policy.next + 1 };
      if (scope === "task") policy.rules = [rule, ...policy.rules];
      await this.#write(policy);
      if (scope !== "task") this.#passing = [rule, ...this.#passing];
      return rule;
    });
  }

  async remove(id: string): Promise<Rule | undefined> {
    const rule = [...this.#passing, ...this.#policy.rules].find((one) => one.id === id);
    if (!rule) return this.#shared.remove(id);
    return this.#writes.take(async () => {
      this.#passing = this.#passing.filter((one) => one !== rule);
      if (this.#policy.rules.includes(rule))
        await this.#write({ ...this.#policy, rules: this.#policy.rules.filter((one) => one !== rule) });
      return rule;
    });
  }

  /** Sets presets and, where given, all rules of the task anew. It is also how a broken policy is mended. */
  async replace(presets: readonly NetworkPreset[], drafts?: readonly RuleDraft[], from: Rule["from"] = "user"): Promise<void> {
    await this.#writes.take(async () => {
      const own = drafts ? numbered(drafts, this.#policy.next, from) : {};
      if (drafts) this.#passing = [];
      // what could not be read may be of use to its user
      if (this.#broken !== undefined) await rename(this.#file, `${this.#file}.broken`).catch(() => {});
      await this.#write({ ...this.#policy, ...own, presets: chosen(presets) });
    });
  }

  async setSecretNames(names: readonly string[]): Promise<void> {
    if (this.#broken !== undefined) throw broken(this.#broken);
    await this.#writes.take(() => this.#write({ ...this.#policy, secrets: [...new Set(names)] }));
  }

  /** Counts what was let through. Rules that are spent go; tells whether any did. */
  async count(entries: readonly EgressEntry[]): Promise<boolean> {
    const limited = new Set(this.#made.filter(({ requests, bytes }) => requests !== undefined || bytes !== undefined).map(({ id }) => id));
    if (limited.size === 0) return false;
    let counted = false;
    for (const { what, decision, rule, sentBytes = 0, receivedBytes = 0 } of entries) {
      if (rule === undefined || !limited.has(rule)) continue;
      if (what === "decided" && decision === "allow") this.#budgets.add(rule, 1, 0);
      else if (what === "ended") this.#budgets.add(rule, 0, sentBytes + receivedBytes);
      else continue;
      counted = true;
    }
    if (!counted) return false;
    const passing = this.#passing.filter((rule) => this.#left(rule).length > 0);
    const gone = passing.length < this.#passing.length;
    this.#passing = passing;
    await this.#writes.take(() => this.#write(this.#policy));
    return gone;
  }

  /** The machine is gone: so are the rules that were for its run, and the stand-ins. */
  machineEnded(): void {
    this.#passing = [];
    this.secrets = [];
    this.gateway = undefined;
    this.way = undefined;
  }

  /** The rule with what is left of its budget; nothing when none is left. */
  #left(rule: Rule): Rule[] {
    const { requests, bytes } = this.spent(rule);
    if (rule.requests !== undefined && requests >= rule.requests) return [];
    if (rule.bytes !== undefined && bytes >= rule.bytes) return [];
    const begun = this.#begun.get(rule.id);
    return [
      {
        ...rule,
        ...(rule.requests === undefined ? {} : { requests: rule.requests - (begun?.requests ?? 0) }),
        ...(rule.bytes === undefined ? {} : { bytes: rule.bytes - (begun?.bytes ?? 0) }),
      },
    ];
  }

  async #write(policy: PolicyFile): Promise<void> {
    await writePolicy(this.#file, { ...policy, spent: this.#budgets.kept([...policy.rules]) });
    this.#policy = policy;
    this.#broken = undefined;
  }
}

const broken = (why: string) =>
  new ProblemError({
    code: "policy.file",
    message: `The task's network rules cannot be used, so nothing passes and none can be added: ${why}.`,
    next: ["Set them anew with `cloche policy network TASK none`; the file as it is stays beside it as policy.json.broken."],
  });

const brokenForAll = (why: string, file: string) =>
  new ProblemError({
    code: "policy.file",
    message: `The network rules of every task cannot be used, so nothing passes in any and none can be added: ${why}.`,
    next: [`Stop all tasks, then mend ${file}, or move it away: without it there are no such rules.`, "Try again."],
  });

export function refuseUnfit(draft: RuleDraft): void {
  const unfit = checkDraft(draft);
  if (unfit === undefined) return;
  throw new ProblemError({
    code: "policy.rule",
    message: `The rule was not made: ${unfit}`,
    next: ["Give the rule anew, as `cloche help` tells."],
  });
}
