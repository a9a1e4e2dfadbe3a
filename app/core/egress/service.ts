/** The networks of all tasks: what they may reach, what their users are asked, and what becomes of it in the machines that run. */
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import {
  type Actor,
  type EgressDecision,
  type EgressEntry,
  type EgressRequest,
  type EventEnvelope,
  type NetworkPreset,
  type NetworkView,
  type OutgoingProxy,
  type Params,
  ProblemError,
  type Result,
  type Rule,
  type RuleDraft,
} from "../../contract/index.ts";
import type { AuditLog } from "../audit/index.ts";
import type { Paths } from "../paths.ts";
import type { Vault } from "../vault/index.ts";
import { type Asked, Asks } from "./asks.ts";
import { makePlaceholder } from "./credentials/index.ts";
import { type Authority, Gateway } from "./gateway.ts";
import { journalsIn, takeOver } from "./journal.ts";
import { refuseUnfit, SharedRules, TaskNetwork } from "./network.ts";
import { Outgoing } from "./outgoing.ts";
import { decide, exportSettings, idleKeys, importSettings, narrowestRule, networkWords, parseUrl, presetRules } from "./policy/index.ts";
import type { UpstreamProxy } from "./protocol.ts";
import { newPolicy, writePolicy } from "./store.ts";

/** Decisions that `policy.replay` looks at, newest last, and differences that it tells. */
const MAX_REPLAYED = 100_000;
const MAX_DIFFERENCES = 500;
/** Hosts of git services, which take a key as the password of Basic. */
const GIT_HOSTS = new Set(["github.com", "gitlab.com", "codeberg.org", "bitbucket.org"]);

/** Certificates of the user's own file. */
const MAX_TRUSTED = 64;

/** What a clock is set back by, at most, while decisions are looked for. */
const CLOCK_SET_MS = 60_000;
/** An id counts up in one proxy. */
const keyOf = ({ id, at }: EgressEntry): string => `${id} ${at}`;

type Named = { readonly id: string; readonly name: string };

export interface NetworksOptions {
  readonly paths: Paths;
  readonly audit: AuditLog;
  readonly vault: Vault;
  readonly programs: { readonly node: string; readonly proxy: string };
  readonly resolve: (ref: string) => Named;
  /** what the wall lets through, as it is now */
  readonly wall: (taskId: string) => string;
  /** gives processes that are started from here on in the task's machine their variables, where it runs */
  readonly setEnvironment: (taskId: string) => Promise<void>;
}

/** What a machine needs of its task's network. */
export interface MachineNetwork {
  /** the certificate authority that the guest trusts, as PEM */
  readonly certificate: string;
  /** what the proxy's processes are, for `tasks.stats` */
  readonly processes: { role: string; pid: number }[];
  /** Takes the guest's connections at `path`. */
  listen(path: string): Promise<void>;
  end(): Promise<void>;
}

export class Networks {
  readonly #options: NetworksOptions;
  readonly #networks = new Map<string, TaskNetwork>();
  readonly #shared: SharedRules;
  readonly #outgoing: Outgoing;
  readonly #asks = new Asks();
  /** clients that answer asks: of one task, or of all */
  readonly #watchers = new Set<{ readonly taskId: string | undefined }>();

  constructor(options: NetworksOptions) {
    this.#options = options;
    this.#shared = new SharedRules(options.paths.policy);
    this.#outgoing = new Outgoing(options.paths.outgoingProxy, options.vault);
  }

  /** Writes a new task's policy down. Throws policy.rule and secret.unknown. */
  async create(
    taskId: string,
    network: { presets: readonly NetworkPreset[]; rules: readonly RuleDraft[] },
    secrets: readonly string[],
    trust: readonly string[],
  ): Promise<void> {
    for (const draft of network.rules) refuseUnfit(draft);
    for (const name of secrets) this.#options.vault.get(name);
    await writePolicy(this.#options.paths.task(taskId).policy, newPolicy(network.presets, network.rules, secrets, trust));
  }

  release(taskId: string): void {
    this.#networks.delete(taskId);
    this.#asks.end(taskId, true);
  }

  view(taskId: string): NetworkView {
    return this.#network(taskId).view(this.#asks.count(taskId), this.#proxy(taskId), (name) => {
      const binding = this.#options.vault.find(name)?.binding;
      return { hosts: binding?.hosts ?? [], ...(binding?.env === undefined ? {} : { env: binding.env }) };
    });
  }

  /** What the wall's sentence says of network and keys: what may be reached, the keys that have no place to go to, why no rule can be used. */
  words(taskId: string): { reaches: string; idleKeys: string[]; broken?: string } {
    const { rules, broken } = this.#network(taskId);
    const { secrets } = this.view(taskId);
    const now = new Date();
    return {
      reaches: networkWords(rules, secrets, now, this.#proxy(taskId)),
      idleKeys: idleKeys(rules, secrets, now),
      // it may have words of the file's
      ...(broken === undefined ? {} : { broken: broken.replaceAll(/\p{Cc}/gu, " ").slice(0, 300) }),
    };
  }

  /** The outgoing proxy of the task's machine, or of its next one. A setting that cannot be read is told at the start that it refuses. */
  #proxy(taskId: string): OutgoingProxy | undefined {
    const { way } = this.#network(taskId);
    if (way) return way.proxy;
    try {
      return this.#outgoing.get();
    } catch {
      return undefined;
    }
  }

  /** Whether the task may use a key. */
  uses(taskId: string, name: string): boolean {
    return this.#network(taskId).secretNames.includes(name);
  }

  // The machine's side.

  /**
   * Puts into the log what proxies wrote down whose keeper was ended before it had done so. Nothing of the task runs any more. What cannot be
   * put there now stays where it is. Throws disk.full.
   */
  async recover(taskId: string): Promise<void> {
    const { audit, paths } = this.#options;
    const reason = "written down by the proxy, whose keeper was ended before it took this over; each entry has its own time";
    for (const journal of journalsIn(paths.task(taskId).journals))
      await takeOver(journal, {
        left: async (lines) => {
          const known = await this.#decidedSince(taskId, lines[0]?.entry.at);
          return lines.filter(({ entry }) => !known.has(keyOf(entry)));
        },
        tell: (entries) => void audit.record("egress.decided", { entries }, { task: taskId, reason }),
        lost: (count, why) => void audit.record("events.lost", { count, why }, { task: taskId }),
      });
  }

  /** Which decisions the log has from a moment on, and shortly before: the clock may have been set. */
  async #decidedSince(taskId: string, from: number | undefined): Promise<Set<string>> {
    const known = new Set<string>();
    if (from === undefined) return known;
    const sinceMs = Math.max(0, Date.now() - from) + CLOCK_SET_MS;
    for await (const { entry } of this.#decisions(taskId, sinceMs)) known.add(keyOf(entry));
    return known;
  }

  /** What the log has of a task's decisions, oldest first, each with its event. */
  async *#decisions(taskId: string, sinceMs: number | undefined): AsyncGenerator<{ event: EventEnvelope; entry: EgressEntry }> {
    for (let after = 0; ; ) {
      const { events, next } = await this.#options.audit.read({ task: taskId, after, limit: 1000, waitMs: 0, sinceMs });
      if (events.length === 0) return;
      for (const event of events)
        if (event.kind === "egress.decided") for (const entry of event.data.entries as EgressEntry[]) yield { event, entry };
      after = next;
    }
  }

  /** Makes what a machine that starts needs. Throws secret.value where a key cannot be had, and egress.outgoing: a task must not start without them. */
  async open(task: Named): Promise<MachineNetwork> {
    const network = this.#network(task.id);
    const authority = await makeAuthority();
    const trusted = [...readTrusted(this.#options.paths.trusted), ...network.trust];
    const outgoing = await this.#outgoing.resolve();
    network.secrets = await Promise.all(network.secretNames.map((name) => this.#bind(name)));
    network.way = { proxy: outgoing?.proxy };
    const self = this;
    return {
      certificate: authority.certificate,
      get processes() {
        return network.gateway?.processes ?? [];
      },
      async listen(path) {
        network.gateway = await self.#listen(task, network, { authority, trusted, upstream: outgoing?.upstream }, path);
        if (network.rules.length > 0) network.gateway.warm();
      },
      async end() {
        const { gateway } = network;
        network.machineEnded();
        await gateway?.end();
        self.#asks.end(task.id, false);
      },
    };
  }

  /** The variables of a task's machine that hold stand-ins. */
  environment(taskId: string): Record<string, string> {
    const environment: Record<string, string> = {};
    let git = "";
    for (const { binding, placeholder } of this.#network(taskId).secrets) {
      if (binding.env !== undefined) environment[binding.env] = placeholder;
      for (const host of binding.hosts) if (GIT_HOSTS.has(host)) git += `${host} x-access-token ${placeholder}\n`;
    }
    return git === "" ? environment : { ...environment, CLOCHE_GIT_CREDENTIALS: git };
  }

  async #bind(name: string) {
    const { binding } = this.#options.vault.get(name);
    const value = await this.#options.vault.resolve(name);
    return { name, binding, value, placeholder: makePlaceholder(value, binding.hosts[0] ?? "") };
  }

  #listen(
    task: Named,
    network: TaskNetwork,
    outside: { authority: Authority; trusted: string[]; upstream: UpstreamProxy | undefined },
    path: string,
  ): Promise<Gateway> {
    const { audit, paths, programs } = this.#options;
    const keep = async (kind: "egress.decided" | "egress.ended", entries: readonly EgressEntry[]) => {
      await audit.keep(kind, { entries: [...entries] }, { task: task.id });
      if (await network.count(entries)) await this.#apply(network);
    };
    return Gateway.listen(path, {
      programs,
      log: paths.task(task.id).hostLog,
      journals: paths.task(task.id).journals,
      task: task.name,
      ...outside,
      policy: () => network.begin(),
      secrets: () => network.secrets,
      events: {
        onDecided: (entries) => keep("egress.decided", entries),
        onEnded: (entries) => keep("egress.ended", entries),
        onAsked: ({ ask, ...asked }) => this.#ask(task, { ...asked, held: ask }),
        onUnasked: (ask) => this.#asks.letGo(task.id, ask),
        onUnanswered: (refused) => void this.#asks.add(task, refused),
        onLost: (count, why) => audit.report("events.lost", { count, why: why.slice(0, 1024) }, { task: task.id }),
        onDied: (why) => audit.report("egress.restarted", { why: why.slice(0, 1024) }, { task: task.id }),
      },
    });
  }

  /** A request is held until its user answers. */
  #ask(task: Named, held: Asked & { held: number }): void {
    const { opened, id: ask, request } = this.#asks.add(task, held);
    if (!opened) return;
    const by = { task: task.id, source: "guest", actor: { kind: "guest" } } as const;
    this.#options.audit.report("ask.opened", { ask, request, held: true }, by);
  }

  /** Has the machine's proxy decide by the policy as it is now. */
  #apply(network: TaskNetwork): Promise<number> {
    return network.gateway?.setPolicy(network.policy) ?? Promise.resolve(0);
  }
  async #applyEverywhere(): Promise<number> {
    let closed = 0;
    for (const network of this.#networks.values()) closed += await this.#apply(network);
    return closed;
  }

  // The user's side.

  show(ref: string): Result<"policy.show"> {
    const { id } = this.#options.resolve(ref);
    return { network: this.view(id), effective: this.#network(id).rules, wall: this.#options.wall(id) };
  }

  async add({ task: ref, rule: draft, scope }: Params<"policy.add">, actor: Actor): Promise<Result<"policy.add">> {
    const { id } = this.#options.resolve(ref);
    refuseUnfit(draft);
    const network = this.#network(id);
    if (scope === "run" || scope === "once") this.#needsMachine(network, ref, scope);
    const rule = await network.add(draft, scope);
    const closed = scope === "always" ? await this.#applyEverywhere() : await this.#apply(network);
    await this.#releaseAnswered(id);
    this.#options.audit.report("policy.added", { rule, wall: this.#options.wall(id) }, { task: id, actor });
    return { rule, closed };
  }

  async remove({ task: ref, rule: wanted }: Params<"policy.remove">, actor: Actor): Promise<Result<"policy.remove">> {
    const { id, name } = this.#options.resolve(ref);
    const network = this.#network(id);
    const rule = await network.remove(wanted);
    if (!rule) {
      throw new ProblemError({
        code: "policy.rule-unknown",
        message: `The task ${name} has no rule ${JSON.stringify(wanted)} that can be taken away.`,
        next: [`Run \`cloche policy show ${name}\` to see its rules; those of presets go with \`cloche policy network\`.`],
      });
    }
    const closed = rule.scope === "always" ? await this.#applyEverywhere() : await this.#apply(network);
    this.#options.audit.report("policy.removed", { rule: rule.id, scope: rule.scope, wall: this.#options.wall(id) }, { task: id, actor });
    return { rule, closed };
  }

  async setPresets({ task: ref, presets }: Params<"policy.setPresets">, actor: Actor): Promise<NetworkView> {
    const { id } = this.#options.resolve(ref);
    return this.#replace(id, presets, undefined, actor);
  }

  /** The outgoing proxy for every task, where one is set. */
  proxy(): Result<"policy.proxy"> {
    const proxy = this.#outgoing.get();
    return proxy ? { proxy } : {};
  }

  async setProxy({ proxy: wanted }: Params<"policy.setProxy">, actor: Actor): Promise<Result<"policy.setProxy">> {
    const proxy = await this.#outgoing.set(wanted);
    const set = proxy ? { proxy } : {};
    this.#options.audit.report("policy.proxy-set", set, { actor });
    return set;
  }

  async import({ task: ref, settings }: Params<"policy.import">, actor: Actor): Promise<Result<"policy.import">> {
    const { id } = this.#options.resolve(ref);
    const imported = importSettings(settings);
    if ("problem" in imported) {
      throw new ProblemError({
        code: "policy.settings",
        message: `The settings were not imported: ${imported.problem} The task's rules are as they were.`,
        next: ["Mend the settings and import them again."],
      });
    }
    for (const draft of imported.rules) refuseUnfit(draft);
    return { network: await this.#replace(id, imported.presets, imported.rules, actor, "import"), notes: imported.notes };
  }

  export(ref: string): Result<"policy.export"> {
    return exportSettings(this.#network(this.#options.resolve(ref).id).rules);
  }

  async #replace(
    id: string,
    presets: readonly NetworkPreset[],
    rules: readonly RuleDraft[] | undefined,
    actor: Actor,
    from: Rule["from"] = "user",
  ) {
    const network = this.#network(id);
    await network.replace(presets, rules, from);
    await this.#apply(network);
    await this.#releaseAnswered(id);
    const data = { presets: [...network.presets], rules: network.own.length, wall: this.#options.wall(id) };
    this.#options.audit.report("policy.replaced", data, { task: id, actor });
    return this.view(id);
  }

  test({ task: ref, method, url }: Params<"policy.test">): Result<"policy.test"> {
    const network = this.#network(this.#options.resolve(ref).id);
    const request = parseUrl(method, url);
    if (!request) {
      throw new ProblemError({
        code: "policy.rule",
        message: `${JSON.stringify(url)} is no address of a request: it is an http, https, ws or wss URL with a strict host name.`,
        next: ["Try again with an address such as https://example.com/path."],
      });
    }
    return { ...this.#decide(network, request), request, offer: narrowestRule(request) };
  }

  #decide(network: TaskNetwork, request: EgressRequest): EgressDecision & { matched?: Rule } {
    if (network.broken !== undefined) return { decision: "deny", rule: "default", reason: `Nothing passes: ${network.broken}.` };
    return decide(request, network.rules, new Date(), (rule) => network.spent(rule));
  }

  async replay({ task: ref, sinceMs, presets, rules: drafts }: Params<"policy.replay">): Promise<Result<"policy.replay">> {
    const { id } = this.#options.resolve(ref);
    for (const draft of drafts) refuseUnfit(draft);
    const made = drafts.map((draft, at): Rule => ({ id: `t${at + 1}`, scope: "task", from: "user", ...draft }));
    const rules = [...made, ...presets.flatMap((preset) => presetRules(preset))];
    const differ: Result<"policy.replay">["differ"] = [];
    let requests = 0;
    let more = false;
    for await (const { event, entry } of this.#decisions(id, sinceMs)) {
      if (entry.decision === undefined) continue;
      if (++requests > MAX_REPLAYED) break;
      const was = { decision: entry.decision, rule: entry.rule ?? "default", reason: entry.reason ?? "" };
      const { matched: _, ...would } = decide(entry.request, rules, new Date(event.time));
      // without somebody to answer, what asks is refused
      const now = would.decision === "ask" ? "deny" : would.decision;
      if (now === was.decision) continue;
      if (differ.length < MAX_DIFFERENCES) differ.push({ event: event.id, request: entry.request, was, would });
      else more = true;
    }
    return { requests: Math.min(requests, MAX_REPLAYED), differ, more: more || requests > MAX_REPLAYED };
  }

  // Asks.

  list({ task: ref, revision, waitMs }: Params<"asks.list">): Promise<Result<"asks.list">> {
    const taskId = ref === undefined ? undefined : this.#options.resolve(ref).id;
    return this.#asks.list({ taskId, revision, waitMs });
  }

  async answer({ ask, answer, scope, rule: given }: Params<"asks.answer">, actor: Actor): Promise<Result<"asks.answer">> {
    const { view, taskId } = this.#asks.get(ask);
    const draft = { ...given, decision: answer };
    refuseUnfit(draft);
    const network = this.#network(taskId);
    if (scope === "run" || scope === "once") this.#needsMachine(network, view.task, scope);
    const rule = await network.add(draft, scope);
    if (scope === "always") await this.#applyEverywhere();
    else await this.#apply(network);
    await this.#settle(network, { id: taskId, name: view.task }, ask);
    this.#options.audit.report("ask.answered", { ask, answer, rule: rule.id }, { task: taskId, actor });
    this.#options.audit.report("policy.added", { rule, wall: this.#options.wall(taskId) }, { task: taskId, actor });
    return { rule };
  }

  /** What a rule that came by another way decides now is no question any more. */
  async #releaseAnswered(taskId: string): Promise<void> {
    const network = this.#network(taskId);
    const { asks } = await this.#asks.list({ taskId, waitMs: 0 });
    for (const { id, task, request } of asks) {
      if (this.#decide(network, request).decision !== "ask") await this.#settle(network, { id: taskId, name: task }, id);
    }
  }

  /** A question is answered. What it held and the answer says nothing of is a question of its own, and goes on waiting. */
  async #settle(network: TaskNetwork, task: Named, ask: string): Promise<void> {
    for (const one of this.#asks.take(ask)) {
      if (this.#decide(network, one.request).decision === "ask") this.#ask(task, one);
      else await network.gateway?.release([one.held]);
    }
  }

  /** Until the signal comes, a client answers the asks of that task, or of all. */
  watch(ref: string | undefined, gone: AbortSignal): void {
    const watcher = { taskId: ref === undefined ? undefined : this.#options.resolve(ref).id };
    if (gone.aborted) return;
    this.#watchers.add(watcher);
    this.#watched();
    gone.addEventListener("abort", () => {
      this.#watchers.delete(watcher);
      this.#watched();
    });
  }

  #watched(): void {
    for (const network of this.#networks.values()) {
      const answering = this.#answering(network.id);
      if (answering === network.answering) continue;
      network.answering = answering;
      void this.#apply(network).catch(() => {}); // a proxy that is gone has nobody waiting
    }
  }

  #answering(taskId: string): boolean {
    return [...this.#watchers].some((watcher) => watcher.taskId === undefined || watcher.taskId === taskId);
  }

  // Keys.

  async attach(ref: string, name: string, actor: Actor): Promise<void> {
    const { id } = this.#options.resolve(ref);
    this.#options.vault.get(name);
    const network = this.#network(id);
    if (network.secretNames.includes(name)) return;
    const bound = network.gateway ? await this.#bind(name) : undefined;
    await network.setSecretNames([...network.secretNames, name]);
    if (bound) network.secrets = [...network.secrets, bound];
    await this.#keysChanged(network);
    this.#options.audit.report("secret.attached", { name, wall: this.#options.wall(id) }, { task: id, actor });
  }

  async detach(ref: string, name: string, actor: Actor): Promise<void> {
    const { id } = this.#options.resolve(ref);
    const network = this.#network(id);
    if (!network.secretNames.includes(name)) throw unknownKey(name);
    await network.setSecretNames(network.secretNames.filter((one) => one !== name));
    network.secrets = network.secrets.filter((one) => one.name !== name);
    await this.#keysChanged(network);
    this.#options.audit.report("secret.detached", { name, wall: this.#options.wall(id) }, { task: id, actor });
  }

  async #keysChanged(network: TaskNetwork): Promise<void> {
    await network.gateway?.setSecrets(network.secrets);
    await this.#options.setEnvironment(network.id);
  }

  #needsMachine(network: TaskNetwork, ref: string, scope: string): void {
    if (network.gateway) return;
    throw new ProblemError({
      code: "policy.rule",
      message: `A rule for ${scope === "once" ? "one request" : "one run"} needs a task that runs; ${JSON.stringify(ref)} does not.`,
      next: ["Leave --for out: the rule then holds as long as the task is there."],
    });
  }

  #network(taskId: string): TaskNetwork {
    const held = this.#networks.get(taskId);
    if (held) return held;
    const network = new TaskNetwork(taskId, this.#options.paths.task(taskId).policy, this.#shared);
    network.answering = this.#answering(taskId);
    this.#networks.set(taskId, network);
    return network;
  }
}

/** The library that makes certificates takes a while to load, so it is loaded when a machine starts. */
const makeAuthority = async (): Promise<Authority> => (await import("./proxy/certificates.ts")).makeAuthority();

/** The certificates of the user's own file; none when there is no such file. */
function readTrusted(file: string): string[] {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw unusable(file, (error as Error).message);
  }
  const found = text.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? [];
  if (found.length === 0 || found.length > MAX_TRUSTED)
    throw unusable(file, `it holds ${found.length} certificates, not 1 to ${MAX_TRUSTED}`);
  try {
    for (const pem of found) new X509Certificate(pem);
  } catch (error) {
    throw unusable(file, (error as Error).message);
  }
  return found;
}

const unusable = (file: string, evidence: string) =>
  new ProblemError({
    code: "egress.trusted",
    message: "The file of certificate authorities that you trust cannot be used, so the task was not started.",
    evidence: `${file}: ${evidence}`,
    next: ["Mend the file, or take it away.", "Start the task again."],
  });

const unknownKey = (name: string) =>
  new ProblemError({
    code: "secret.unknown",
    message: `There is no key named ${JSON.stringify(name)} here.`,
    next: ["Run `cloche secret ls` to see the keys there are."],
  });
