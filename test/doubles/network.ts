/**
 * What tasks of the keeper's double may reach: rules, asks and keys with the contract's answers. It decides by host, method and the
 * beginning of a path only, and nothing is sent anywhere: never a promise's test.
 */
import {
  type AskView,
  type EgressDecision,
  type EgressRequest,
  type NetworkPreset,
  type NetworkView,
  type OutgoingProxy,
  ProblemError,
  type Rule,
  type RuleDraft,
  type RuleScope,
  type SecretBinding,
  type SecretSource,
  type SecretView,
} from "../../app/contract/index.ts";

const refusal = (code: string, message: string, next: string) => new ProblemError({ code, message, next: [next] });

/** Hosts that each preset stands for in the double. */
const PRESET_HOSTS: Readonly<Record<NetworkPreset, readonly string[]>> = {
  none: [],
  models: ["api.anthropic.com", "api.openai.com"],
  packages: ["registry.npmjs.org", "pypi.org", "deb.debian.org"],
  git: ["github.com"],
  web: ["*"],
};

interface TaskNetwork {
  presets: NetworkPreset[];
  rules: Rule[];
  secrets: string[];
}

interface Held {
  readonly task: string;
  view: AskView;
  readonly answered: ((decision: EgressDecision) => void)[];
}

export class NetworkDouble {
  readonly #tasks = new Map<string, TaskNetwork>();
  readonly #asks = new Map<string, Held>();
  readonly #secrets = new Map<string, Omit<SecretView, "tasks">>();
  /** what `secrets.add` was given, for tests that look where it went */
  readonly values = new Map<string, string>();
  #shared: Rule[] = [];
  #next = 1;
  #wake = Promise.withResolvers<void>();
  revision = 0;
  /** clients that can answer */
  watching = 0;
  proxy: OutgoingProxy | undefined;
  keychain = { usable: true, text: "Keys are kept in the double's memory." };

  make(task: string, wanted: { presets?: readonly NetworkPreset[]; rules?: readonly RuleDraft[]; secrets?: readonly string[] }): void {
    for (const name of wanted.secrets ?? []) this.#secret(name);
    const of: TaskNetwork = { presets: [...(wanted.presets ?? [])], rules: [], secrets: [...(wanted.secrets ?? [])] };
    this.#tasks.set(task, of);
    for (const draft of [...(wanted.rules ?? [])].reverse()) this.add(task, draft, "task");
  }

  outgoing(): { proxy?: OutgoingProxy } {
    return this.proxy ? { proxy: this.proxy } : {};
  }

  remove(task: string): void {
    this.#tasks.delete(task);
    for (const [id, ask] of this.#asks)
      if (ask.task === task) this.#take(id, { decision: "deny", rule: "default", reason: "The task is gone." });
  }

  view(task: string): NetworkView {
    const { presets, rules, secrets } = this.#of(task);
    return {
      presets,
      rules,
      secrets: secrets.map((name) => {
        const { hosts, env } = this.#secret(name).binding;
        return { name, hosts, ...(env === undefined ? {} : { env }) };
      }),
      asks: [...this.#asks.values()].filter((ask) => ask.task === task).length,
      ...this.outgoing(),
    };
  }

  effective(task: string): Rule[] {
    const { presets, rules } = this.#of(task);
    const of = (preset: NetworkPreset) =>
      PRESET_HOSTS[preset].map(
        (host, at): Rule => ({ id: `${preset}/${at + 1}`, scope: "task", from: "preset", decision: "allow", host, methods: ["GET"] }),
      );
    return [...rules, ...this.#shared, ...presets.flatMap(of)];
  }

  words(task: string): string {
    const { presets, rules, secrets } = this.#of(task);
    const hosts = [
      ...presets.map((preset) => `hosts for ${preset}`),
      ...rules.filter(({ decision }) => decision === "allow").map(({ host }) => host),
    ];
    const keys = secrets.length > 0 ? ` with your ${secrets.join(", ")} (it never sees it)` : "";
    return hosts.length > 0 ? `reach ${hosts.join(", ")}${keys}` : "reach no host";
  }

  add(task: string, draft: RuleDraft, scope: RuleScope): Rule {
    const id = this.#next++;
    const created = new Date().toISOString();
    const rule: Rule = {
      id: scope === "always" ? `g${id}` : `r${id}`,
      scope,
      from: "user",
      created,
      ...draft,
      ...(scope === "once" ? { requests: 1 } : {}),
    };
    if (scope === "always") this.#shared = [rule, ...this.#shared];
    else this.#of(task).rules.unshift(rule);
    for (const [ask, { task: of, view }] of this.#asks) {
      const decided = this.decide(of, view.request);
      if (decided.decision !== "ask") this.#take(ask, decided);
    }
    return rule;
  }

  takeAway(task: string, id: string): Rule {
    const of = this.#of(task);
    const rule = [...of.rules, ...this.#shared].find((one) => one.id === id);
    if (!rule) throw refusal("policy.rule-unknown", `The task has no rule ${JSON.stringify(id)}.`, "Run `cloche policy show`.");
    of.rules = of.rules.filter((one) => one !== rule);
    this.#shared = this.#shared.filter((one) => one !== rule);
    return rule;
  }

  setPresets(task: string, presets: readonly NetworkPreset[], rules?: readonly RuleDraft[]): void {
    const of = this.#of(task);
    of.presets = presets.filter((preset) => preset !== "none");
    if (!rules) return;
    of.rules = [];
    for (const draft of rules) this.add(task, draft, "task");
  }

  decide(task: string, request: EgressRequest, rules = this.effective(task)): EgressDecision & { matched?: Rule } {
    const fits = (rule: Rule) =>
      (rule.host === "*" || rule.host === request.host || (rule.host.startsWith("*.") && request.host.endsWith(rule.host.slice(1)))) &&
      (rule.port ?? 443) === request.port &&
      (rule.methods?.includes(request.method) ?? true) &&
      (rule.paths?.some((path) => request.path.startsWith(path.replace(/\*.*$/, ""))) ?? true);
    const matched = rules.find((rule) => rule.decision === "deny" && fits(rule)) ?? rules.find(fits);
    if (!matched) return { decision: "ask", rule: "default", reason: "No rule says that this host may be reached." };
    return { decision: matched.decision, rule: matched.id, reason: matched.reason ?? `Rule ${matched.id} says so.`, matched };
  }

  /** One request of a task, to its end: held while somebody can answer. */
  async request(
    task: { id: string; name: string },
    request: EgressRequest,
    onAsk: (ask: AskView, held: boolean) => void,
  ): Promise<EgressDecision> {
    const { matched, ...decided } = this.decide(task.id, request);
    if (matched?.requests === 1) this.takeAway(task.id, matched.id);
    if (decided.decision !== "ask") return decided;
    const held = this.watching > 0;
    const known = [...this.#asks.values()].find((ask) => ask.task === task.id && ask.view.domain === request.host);
    const ask: Held = known ?? {
      task: task.id,
      answered: [],
      view: {
        id: `a${this.#next++}`,
        task: task.name,
        state: "refused",
        domain: request.host,
        count: 0,
        first: new Date().toISOString(),
        request,
        rule: decided.rule,
        reason: decided.reason,
        offer: offerFor(request),
      },
    };
    ask.view = { ...ask.view, state: held ? "pending" : "refused", count: ask.view.count + 1, request, offer: offerFor(request) };
    this.#asks.set(ask.view.id, ask);
    this.#changed();
    if (!known) onAsk(ask.view, held);
    if (!held) return { ...decided, decision: "deny" };
    return new Promise((resolve) => ask.answered.push(resolve));
  }

  async asks(task: string | undefined, revision: number | undefined, waitMs: number) {
    if (revision === this.revision && waitMs > 0) {
      const timer = Promise.withResolvers<void>();
      const handle = setTimeout(timer.resolve, waitMs);
      await Promise.race([this.#wake.promise, timer.promise]);
      clearTimeout(handle);
    }
    const asks = [...this.#asks.values()].filter((ask) => task === undefined || ask.task === task);
    return { asks: asks.map(({ view }) => view), revision: this.revision };
  }

  /** The rule of the answer, and the task whose ask it was. */
  answer(id: string, answer: "allow" | "deny", scope: RuleScope, draft: RuleDraft): { rule: Rule; task: string } {
    const ask = this.#asks.get(id);
    if (!ask) throw refusal("ask.unknown", `There is no open question ${id} any more.`, "Run `cloche asks`.");
    const rule = this.add(ask.task, { ...draft, decision: answer }, scope);
    this.#take(id, { decision: answer, rule: rule.id, reason: "Its user answered." });
    return { rule, task: ask.task };
  }

  addSecret(name: string, source: SecretSource, binding: SecretBinding, value: string | undefined): SecretView {
    if (this.#secrets.has(name))
      throw refusal("secret.exists", `A key called ${name} is there already. Nothing was kept.`, "Choose another name.");
    this.#secrets.set(name, { name, source, binding, created: new Date().toISOString() });
    if (value !== undefined) this.values.set(name, value);
    return this.secretView(name);
  }

  secretView(name: string): SecretView {
    const tasks = [...this.#tasks].filter(([, { secrets }]) => secrets.includes(name)).map(([id]) => id);
    return { ...this.#secret(name), tasks };
  }

  secrets(): SecretView[] {
    return [...this.#secrets.keys()].map((name) => this.secretView(name));
  }

  removeSecret(name: string): void {
    this.#secret(name);
    this.#secrets.delete(name);
    this.values.delete(name);
    for (const task of this.#tasks.values()) task.secrets = task.secrets.filter((one) => one !== name);
  }

  attach(task: string, name: string, has: boolean): void {
    this.#secret(name);
    const of = this.#of(task);
    of.secrets = [...of.secrets.filter((one) => one !== name), ...(has ? [name] : [])];
  }

  #secret(name: string) {
    const found = this.#secrets.get(name);
    if (found) return found;
    throw refusal("secret.unknown", `There is no key called ${name}.`, "Run `cloche secret ls`.");
  }

  #of(task: string): TaskNetwork {
    const found = this.#tasks.get(task);
    if (!found) throw new Error(`no network of ${task}`);
    return found;
  }

  #take(id: string, decided: EgressDecision): void {
    const ask = this.#asks.get(id);
    this.#asks.delete(id);
    this.#changed();
    for (const resolve of ask?.answered ?? []) resolve(decided);
  }

  #changed(): void {
    this.revision++;
    this.#wake.resolve();
    this.#wake = Promise.withResolvers<void>();
  }
}

export const offerFor = ({ host, port, method, path }: EgressRequest): RuleDraft => ({
  decision: "allow",
  host,
  ...(port === 443 ? {} : { port }),
  methods: [method],
  paths: [path],
});

/** What a URL asks for, as `policy.test` and the toy shell's `fetch` name it; undefined for what is none. */
export function requestOf(method: string, url: string): EgressRequest | undefined {
  if (!URL.canParse(url)) return undefined;
  const { protocol, hostname: host, port, pathname: path } = new URL(url);
  if (protocol !== "https:" && protocol !== "http:") return undefined;
  const scheme = protocol === "https:" ? "https" : "http";
  return { scheme, host, port: Number(port) || (scheme === "https" ? 443 : 80), method, path, upgrade: false };
}
