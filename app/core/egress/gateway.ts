/**
 * One machine's way out: the socket at which the guest's connections arrive, and the process that decides them.
 *
 * The keeper accepts each connection, reads no byte of it, and hands it to the proxy over the process's IPC channel. So the socket is
 * there for as long as the machine is, whatever becomes of the proxy: it is started with the first connection, or beforehand where
 * the task has rules, and a dead one is followed by another. What arrives while none is up waits, bounded; nothing passes without one.
 */

import { rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { type EgressEntry, type EgressRequest, ProblemError } from "../../contract/index.ts";
import { forStreams } from "../guest/index.ts";
import { Program } from "../process/index.ts";
import { createJournal, type JournalLine, journalIn, takeOver } from "./journal.ts";
import {
  type BoundSecret,
  type EffectivePolicy,
  type keeperNotices,
  PROXY_PROTOCOL,
  proxyProtocol,
  type UpstreamProxy,
} from "./protocol.ts";

/** Connections that wait for a proxy, or for being handed over. Further ones are closed. */
const MAX_WAITING = 512;
const END_GRACE_MS = 1_000;
/** for a proxy to answer for the first time; it takes a fraction of a second */
const START_MS = 30_000;
/** Deaths within the time below after which the proxy is left dead for that time: what kills it gains nothing by doing it again. */
const MAX_DEATHS = 5;
const DEATHS_WITHIN_MS = 60_000;

/** How far a proxy's decisions have come into the log. */
interface Kept {
  readonly journal: string;
  /** the newest line of the journal that the proxy told of */
  told: number;
  /** what it told last is in the log, and so is what it told before */
  written: Promise<void>;
}

type ProxyProgram = Program<typeof proxyProtocol, typeof keeperNotices>;

export interface Authority {
  readonly certificate: string;
  readonly key: string;
}

export interface GatewayEvents {
  /** resolves when the entries are written down: what they allow, and is in no journal, leaves only then */
  onDecided(entries: readonly EgressEntry[]): Promise<void>;
  onEnded(entries: readonly EgressEntry[]): Promise<void>;
  onAsked(asked: { ask: number; request: EgressRequest; rule: string; reason: string }): void;
  onUnasked(ask: number): void;
  onUnanswered(refused: { request: EgressRequest; rule: string; reason: string }): void;
  /** the proxy ended unasked: the connections that it had are gone, and the next one starts another, or `why` says that none will for now */
  onDied(why: string): void;
  /** so many decisions, or what of them is not known, cannot be told */
  onLost(count: number, why: string): void;
}

export interface GatewayOptions {
  readonly programs: { readonly node: string; readonly proxy: string };
  readonly log: string;
  /** the directory of its proxies' journals */
  readonly journals: string;
  readonly task: string;
  readonly authority: Authority;
  /** certificate authorities that are trusted upstream beside the system's, as PEM */
  readonly trusted: readonly string[];
  /** the outgoing proxy that connections leave through; absent: they leave directly */
  readonly upstream?: UpstreamProxy | undefined;
  /** the policy for a proxy that starts now */
  readonly policy: () => EffectivePolicy;
  readonly secrets: () => readonly BoundSecret[];
  readonly events: GatewayEvents;
}

export class Gateway {
  readonly #options: GatewayOptions;
  readonly #server: Server;
  readonly #path: string;
  #proxy: Promise<ProxyProgram> | undefined;
  #up: ProxyProgram | undefined;
  /** one that was spawned and has not answered yet */
  #starting: ProxyProgram | undefined;
  readonly #waiting = new Set<Socket>();
  #deaths: number[] = [];
  #ending = false;

  private constructor(path: string, options: GatewayOptions) {
    this.#path = path;
    this.#options = options;
    this.#server = createServer({ pauseOnConnect: true }, (stream) => void this.#take(stream));
    this.#server.on("error", () => {}); // of a single accept: that connection is lost, the others are not
  }

  static async listen(path: string, options: GatewayOptions): Promise<Gateway> {
    const gateway = new Gateway(path, options);
    await new Promise<void>((resolve, reject) => {
      gateway.#server.once("error", reject);
      gateway.#server.listen(forStreams(path), resolve);
    });
    return gateway;
  }

  get processes(): { role: string; pid: number }[] {
    return this.#up ? [{ role: "proxy", pid: this.#up.pid }] : [];
  }

  /** Starts the proxy before there is a connection. A failure shows with the first one. */
  warm(): void {
    this.#running().catch(() => {});
  }

  /** Tells the proxy of a changed policy; resolves when what is no longer allowed was closed. */
  async setPolicy(policy: EffectivePolicy): Promise<number> {
    const proxy = this.#proxy && (await this.#proxy.catch(() => undefined));
    return proxy ? (await proxy.peer.call("setPolicy", { policy })).closed : 0;
  }

  async setSecrets(secrets: readonly BoundSecret[]): Promise<void> {
    const proxy = this.#proxy && (await this.#proxy.catch(() => undefined));
    await proxy?.peer.call("setSecrets", { secrets: [...secrets] });
  }

  /** Has held requests decided again. */
  async release(asks: readonly number[]): Promise<void> {
    for (const ask of asks) await this.#up?.peer.call("release", { ask });
  }

  /** Ends the proxy with every connection. Twice is harmless. */
  async end(): Promise<void> {
    this.#ending = true;
    this.#server.close();
    for (const stream of this.#waiting) stream.destroy();
    await this.#starting?.end(END_GRACE_MS); // whose answer may never come
    const proxy = await this.#proxy?.catch(() => undefined);
    await proxy?.end(END_GRACE_MS);
    await proxy?.closed; // and what it had not told is
    await rm(this.#path, { force: true });
  }

  async #take(stream: Socket): Promise<void> {
    stream.on("error", () => stream.destroy());
    if (this.#ending || this.#waiting.size >= MAX_WAITING) return void stream.destroy();
    this.#waiting.add(stream);
    stream.once("close", () => this.#waiting.delete(stream));
    try {
      await (await this.#running()).handOver({ stream: 1 }, stream);
    } catch {
      stream.destroy(); // the guest's program sees a connection that was reset; why the proxy is not there was told
    } finally {
      this.#waiting.delete(stream);
    }
  }

  #running(): Promise<ProxyProgram> {
    this.#proxy ??= this.#start().catch((error) => {
      this.#proxy = undefined;
      throw error;
    });
    return this.#proxy;
  }

  async #start(): Promise<ProxyProgram> {
    const now = performance.now();
    this.#deaths = this.#deaths.filter((at) => now - at < DEATHS_WITHIN_MS);
    if (this.#deaths.length >= MAX_DEATHS) throw proxyProblem("it ended again and again, so it is left off for a minute");
    const { programs, log, journals, task, authority, trusted, upstream, policy, secrets, events } = this.#options;
    const kept: Kept = { journal: journalIn(journals), told: 0, written: Promise.resolve() };
    let program: ProxyProgram | undefined;
    let late: NodeJS.Timeout | undefined;
    try {
      const started = await Program.spawn<typeof proxyProtocol, typeof keeperNotices>({
        file: programs.node,
        args: [programs.proxy],
        protocol: proxyProtocol,
        log,
        handsOver: true,
        notified: {
          activity: async ({ batch, entries, journaled = kept.told }) => {
            kept.told = journaled;
            const decided = entries.filter(({ what }) => what === "decided");
            const ended = entries.filter(({ what }) => what === "ended");
            const recorded = () => started.peer.notify("recorded", { batch });
            if (decided.length > 0) {
              kept.written = events.onDecided(decided);
              await kept.written;
              recorded(); // somebody waits for it; for the ends nobody does, but the next decisions are written after them
            }
            if (ended.length > 0) await events.onEnded(ended);
            if (decided.length === 0) recorded();
          },
          asked: (asked) => events.onAsked(asked),
          unasked: ({ ask }) => events.onUnasked(ask),
          unanswered: (refused) => events.onUnanswered(refused),
        },
      });
      program = started;
      this.#starting = started;
      late = setTimeout(() => started.peer.close(`it did not answer within ${START_MS / 1000} s`), START_MS);
      void started.exited.then(({ status, signal }) => this.#ended(started, signal ?? `status ${status}`));
      void started.closed.then(() => this.#takeOver(kept));
      await started.peer.call("hello", { protocol: PROXY_PROTOCOL });
      const way = upstream ? { upstream } : {};
      const begin = { task, authority, policy: policy(), secrets: [...secrets()], trusted: [...trusted], ...way };
      await started.peer.call("start", { ...begin, ...made(kept.journal) });
      if (this.#ending) throw new Error("the machine ends");
      this.#up = started;
      return started;
    } catch (error) {
      await program?.end(END_GRACE_MS);
      throw proxyProblem((error as Error).message);
    } finally {
      clearTimeout(late);
      this.#starting = undefined;
    }
  }

  async #takeOver({ journal, told, written }: Kept): Promise<void> {
    const { onDecided, onLost } = this.#options.events;
    const left = async (lines: readonly JournalLine[]) => {
      await written; // until then the journal alone has what was told last
      return lines.filter(({ seq }) => seq > told);
    };
    try {
      await takeOver(journal, { left, tell: onDecided, lost: onLost });
    } catch (error) {
      onLost(1, `${(error as Error).message} (${journal})`);
    }
  }

  #ended(program: ProxyProgram, why: string): void {
    const wasUp = this.#up === program;
    if (wasUp) {
      this.#up = undefined;
      this.#proxy = undefined;
    }
    if (this.#ending) return;
    const now = performance.now();
    this.#deaths = [...this.#deaths.filter((at) => now - at < DEATHS_WITHIN_MS), now];
    const leftOff = this.#deaths.length >= MAX_DEATHS;
    if (leftOff) this.#options.events.onDied(`${why}; ${MAX_DEATHS} times within a minute, so nothing leaves the task for a minute`);
    else if (wasUp) this.#options.events.onDied(why);
  }
}

/** Where there is no room for a journal, every decision waits for the keeper. */
function made(journal: string): { journal?: string } {
  try {
    createJournal(journal);
    return { journal };
  } catch {
    return {};
  }
}

const proxyProblem = (evidence: string) =>
  new ProblemError({
    code: "egress.proxy",
    message: "The program that decides the task's connections could not be started, so nothing leaves the task.",
    evidence,
    next: ["Run `npm start` to build it again, then `cloche doctor`.", "Stop the task and start it again."],
  });
