/**
 * The keeper: one process per user, the only writer of tasks and events. It listens on a private socket, proves and asks for the
 * token, serves requests and command streams, and ends by itself when no task runs and no client is connected.
 */
import { randomBytes } from "node:crypto";
import { chmodSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { dirname, join } from "node:path";
import { z } from "zod";
import {
  type Actor,
  type ClientKind,
  CONTRACT_VERSION,
  FAILED,
  type Handlers,
  keeperProtocol,
  ProblemError,
  RpcError,
  RpcPeer,
  type SecretView,
  toProblem,
} from "../contract/index.ts";
import {
  type Components,
  dataDirectory,
  type Endpoint,
  proveAsServer,
  readFirstLine,
  runtimeDirectory,
  socketTransport,
} from "../contract/node/index.ts";
import {
  AuditLog,
  folderConfinement,
  Grants,
  imageView,
  openImage,
  Paths,
  runDoctor,
  type Secret,
  systemKeychain,
  TaskService,
  Vault,
  verifyImage,
} from "../core/index.ts";
import { releaseLock, takeLock } from "./lock.ts";

/** Time without a client and a running task after which the keeper ends: enough for the next command of a script to find it. */
const IDLE_END_MS = 2_000;
const MAX_CONNECTIONS = 512;

const opening = z.discriminatedUnion("open", [
  z.strictObject({ open: z.literal("rpc") }),
  z.strictObject({ open: z.literal("stream"), ticket: z.string().regex(/^[0-9a-f]{32}$/) }),
]);

export interface KeeperOptions {
  readonly endpoint: Endpoint;
  readonly components: Components;
  readonly version: string;
  /** called once, when everything has ended */
  readonly onEnded: () => void;
  /** for the log: what went wrong without anybody asking */
  readonly log: (line: string) => void;
}

export class Keeper {
  readonly #options: KeeperOptions;
  readonly #paths: Paths;
  readonly #audit: AuditLog;
  readonly #grants: Grants;
  readonly #vault: Vault;
  readonly #tasks: TaskService;
  readonly #token = randomBytes(32).toString("hex");
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  #idle: NodeJS.Timeout | undefined;
  #ending: Promise<void> | undefined;

  /** Answers with a listening keeper, or undefined when another one is there. */
  static async start(options: KeeperOptions): Promise<Keeper | undefined> {
    runtimeDirectory(options.endpoint);
    const paths = new Paths(options.endpoint);
    if (!takeLock(paths.lock)) return undefined;
    try {
      dataDirectory(paths.home);
      const keeper = new Keeper(options, paths);
      await keeper.#listen();
      return keeper;
    } catch (error) {
      releaseLock(paths.lock);
      throw error;
    }
  }

  private constructor(options: KeeperOptions, paths: Paths) {
    const { components } = options;
    this.#options = options;
    this.#paths = paths;
    this.#audit = new AuditLog(paths);
    this.#grants = new Grants(
      { file: components.shareServer, log: paths.keeperLog },
      {
        data: [paths.home, paths.runtime, components.imageDir],
        programs: [components.helper, components.shareServer, components.app.keeper].map(dirname),
      },
    );
    const keychain = systemKeychain(paths);
    this.#audit.protect(keychain);
    this.#vault = new Vault({ paths, keychain });
    this.#tasks = new TaskService({
      vault: this.#vault,
      paths,
      audit: this.#audit,
      grants: this.#grants,
      programs: components,
      imageDir: components.imageDir,
      onChange: () => this.#considerEnd(),
    });
  }

  async #listen(): Promise<void> {
    const { socket, tokenFile } = this.#options.endpoint;
    const swept = await this.#tasks.sweep();
    this.#audit.report("keeper.started", { pid: process.pid, swept: swept.slice(0, 64) });
    rmSync(socket, { force: true });
    rmSync(tokenFile, { force: true });
    writeFileSync(tokenFile, this.#token, { mode: 0o600, flag: "wx" });
    const server = createServer((connection) => void this.#accept(connection));
    server.on("error", (error) => this.#options.log(`the keeper's socket: ${error.message}`));
    server.maxConnections = MAX_CONNECTIONS;
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(socket, resolve);
    });
    chmodSync(socket, 0o600);
    this.#server = server;
    this.#considerEnd();
  }

  async #accept(connection: Socket): Promise<void> {
    this.#sockets.add(connection);
    clearTimeout(this.#idle);
    connection.on("error", () => {}); // its close follows
    connection.once("close", () => {
      this.#sockets.delete(connection);
      this.#considerEnd();
    });
    try {
      await proveAsServer(connection, this.#token);
      const line = await readFirstLine(connection, { maxBytes: 256, deadlineMs: 5_000 });
      const wanted = opening.parse(JSON.parse(line));
      if (wanted.open === "rpc") this.#serve(connection);
      else await this.#tasks.stream(wanted.ticket, connection);
    } catch (error) {
      this.#options.log(`a connection was refused: ${(error as Error).message}`);
      connection.destroy();
    }
  }

  /** One client's requests. Tasks that it leases end with its connection. */
  #serve(connection: Socket): void {
    const leases = new Set<string>();
    const gone = new AbortController();
    let client: ClientKind | undefined;
    const actor = (): Actor => ({ kind: "user", ...(client ? { via: client } : {}) });
    const tasks = this.#tasks;
    const { endpoint, components, version } = this.#options;
    const handlers: Handlers<typeof keeperProtocol> = {
      hello: async (params) => {
        client = params.client;
        return { contract: CONTRACT_VERSION, version, pid: process.pid, home: endpoint.home };
      },
      "grants.create": ({ path }) => this.#grants.create(Buffer.from(path, "base64")),
      "tasks.create": (params) => tasks.create(params, actor()),
      "tasks.list": async () => ({ tasks: await tasks.list() }),
      "tasks.get": ({ task }) => tasks.view(task),
      "tasks.start": async ({ task, lease }) => {
        const { id } = tasks.resolve(task);
        if (lease === "client") leases.add(id);
        return tasks.start(id, actor());
      },
      "tasks.stop": ({ task, now }) => tasks.stop(task, now ? "sync" : "ask", "asked by the user", actor()),
      "tasks.pause": ({ task }) => tasks.pause(task, actor()),
      "tasks.resume": ({ task }) => tasks.resume(task, actor()),
      "tasks.remove": async ({ task, discard }) => {
        await tasks.remove(task, discard, actor());
        return {};
      },
      "runs.prune": () => tasks.prune(actor()),
      "tasks.exec": async (params) => tasks.exec(params, actor(), gone.signal),
      "tasks.ssh": async ({ task, purpose }) => tasks.ssh(task, purpose, actor()),
      "tasks.sshFiles": async ({ task }) => tasks.sshFiles(task),
      "tasks.stats": ({ task }) => tasks.stats(task),
      "events.read": ({ task, ...query }) =>
        this.#audit.read({ ...query, ...(task === undefined ? {} : { task: tasks.resolve(task).id }) }),
      "logs.read": (params) => tasks.readLog(params),
      "folders.add": async (params) => tasks.view((await tasks.folders.add(params, actor())).id),
      "folders.set": async (params) => tasks.view((await tasks.folders.set(params, actor())).id),
      "folders.remove": async (params) => tasks.view((await tasks.folders.remove(params, actor())).id),
      "folders.room": async (params) => {
        await tasks.folders.answerRoom(params, actor());
        return {};
      },
      "policy.show": async ({ task }) => tasks.networks.show(task),
      "policy.add": (params) => tasks.networks.add(params, actor()),
      "policy.remove": (params) => tasks.networks.remove(params, actor()),
      "policy.setPresets": (params) => tasks.networks.setPresets(params, actor()),
      "policy.proxy": async () => tasks.networks.proxy(),
      "policy.setProxy": (params) => tasks.networks.setProxy(params, actor()),
      "policy.test": async (params) => tasks.networks.test(params),
      "policy.replay": (params) => tasks.networks.replay(params),
      "policy.import": (params) => tasks.networks.import(params, actor()),
      "policy.export": async ({ task }) => tasks.networks.export(task),
      "asks.list": (params) => tasks.networks.list(params),
      "asks.answer": (params) => tasks.networks.answer(params, actor()),
      "asks.watch": async ({ task }) => {
        tasks.networks.watch(task, gone.signal);
        return {};
      },
      "secrets.add": async ({ name, source, value, binding }) => {
        const added = await this.#vault.add({ name, source, binding, ...(value === undefined ? {} : { value }) });
        this.#audit.report("secret.added", { name, source: source.kind, binding }, { actor: actor() });
        return this.#secretView(added);
      },
      "secrets.list": async () => ({
        secrets: this.#vault.list().map((secret) => this.#secretView(secret)),
        keychain: await this.#vault.keychainStatus(),
      }),
      "secrets.remove": async ({ name }) => {
        this.#vault.get(name);
        await tasks.forgetSecret(name, actor());
        await this.#vault.remove(name);
        this.#audit.report("secret.removed", { name }, { actor: actor() });
        return {};
      },
      "secrets.test": ({ name }) => this.#vault.test(name),
      "secrets.attach": async ({ task, name }) => {
        await tasks.networks.attach(task, name, actor());
        return tasks.view(task);
      },
      "secrets.detach": async ({ task, name }) => {
        await tasks.networks.detach(task, name, actor());
        return tasks.view(task);
      },
      "prove.record": async (params) => {
        tasks.recordProof(params, actor());
        return {};
      },
      "events.verify": () => this.#audit.verify((id) => tasks.nameOf(id) ?? id),
      "changes.list": (params) => tasks.folders.list(params),
      "changes.diff": (params) => tasks.folders.diff(params),
      "changes.apply": (params) => tasks.folders.apply(params, actor()),
      "changes.discard": (params) => tasks.folders.discard(params, actor()),
      "changes.applies": (params) => tasks.folders.applies(params),
      "changes.undo": (params) => tasks.folders.undo(params, actor()),
      "files.history": (params) => tasks.folders.history(params),
      "files.restore": (params) => tasks.folders.restore(params, actor()),
      doctor: async () => ({ checks: await this.#doctor() }),
      "images.list": async () => ({ images: [imageView(openImage(components.imageDir))] }),
      "images.verify": async () => {
        const image = openImage(components.imageDir);
        await verifyImage(image);
        return { image: imageView(image) };
      },
      "keeper.end": async () => {
        if (tasks.busy > 0) {
          throw new ProblemError({
            code: "task.state",
            message: "The keeper was not ended: a task runs.",
            next: ["Stop the tasks that `cloche ls` shows as running, then try again."],
          });
        }
        setImmediate(() => void this.end("asked by a client"));
        return {};
      },
    };
    new RpcPeer({
      transport: socketTransport(connection),
      remote: { requests: {}, notifications: {} },
      local: { protocol: keeperProtocol, handlers, toError: (error) => this.#toError(error) },
      onClose: () => {
        gone.abort();
        for (const task of leases) void this.#endLease(task);
      },
    });
  }

  async #endLease(id: string): Promise<void> {
    try {
      const task = this.#tasks.resolve(id);
      if (task.ephemeral && !task.ended) await this.#tasks.remove(id, false, { kind: "keeper" });
      else await this.#tasks.stop(id, "sync", "the client that leased it is gone", { kind: "keeper" });
    } catch (error) {
      // the client removed it itself, which is the ordinary end of `run`
      if (!(error instanceof ProblemError && error.problem.code === "task.unknown")) this.#toError(error);
    }
  }

  #toError(error: unknown): RpcError {
    const problem = toProblem(error);
    if (problem.code === "bug") this.#options.log(problem.evidence ?? problem.message);
    return new RpcError(FAILED, problem.message, problem);
  }

  #secretView(secret: Secret): SecretView {
    return { ...secret, tasks: this.#tasks.usersOf(secret.name) };
  }

  #doctor() {
    const { components } = this.#options;
    const { helper, qemu, vsockDevice, shareServer } = components;
    return runDoctor({
      paths: this.#paths,
      programs: { helper, qemu, vsockDevice, shareServer },
      imageDir: components.imageDir,
      facts: () => this.#tasks.facts(true),
      confinement: () =>
        folderConfinement({
          program: shareServer,
          log: this.#paths.keeperLog,
          root: Buffer.from(this.#paths.tasks),
          listen: join(this.#paths.runtime, "doctor.sock"),
        }),
      unreadableTasks: this.#tasks.unreadable,
    });
  }

  #considerEnd(): void {
    clearTimeout(this.#idle);
    if (this.#ending || this.#sockets.size > 0 || this.#tasks.busy > 0) return;
    this.#idle = setTimeout(() => {
      if (this.#sockets.size === 0 && this.#tasks.busy === 0) void this.end("no task runs and no client is connected");
    }, IDLE_END_MS);
  }

  /** Stops every task and ends. Twice is harmless. */
  end(reason: string): Promise<void> {
    this.#ending ??= (async () => {
      clearTimeout(this.#idle);
      try {
        await this.#tasks.stopAll(reason);
      } catch (error) {
        this.#toError(error); // machines end with their helpers' stdin, whatever went wrong here
      }
      this.#audit.end();
      this.#audit.report("keeper.ended", { reason });
      // the socket goes first: a client that finds none starts a new keeper, which waits for the lock
      this.#server?.close();
      for (const socket of this.#sockets) socket.destroy();
      rmSync(this.#options.endpoint.tokenFile, { force: true });
      await this.#audit.close();
      releaseLock(this.#paths.lock);
      this.#options.onEnded();
    })();
    return this.#ending;
  }
}
