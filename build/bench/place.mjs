// A Cloche of the bench's own: the command of the checkout, with a home that is removed at the end.

import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { Frame, FrameDecoder } from "../../app/contract/index.ts";
import { connectKeeper, endpoint, openStream, readComponents } from "../../app/contract/node/index.ts";

export const repo = resolve(import.meta.dirname, "../..");
const command = join(repo, "build/cloche");

export class Place {
  directory = mkdtempSync(join(tmpdir(), "cloche-bench-"));
  components = readComponents(process.env.CLOCHE_COMPONENTS ?? join(repo, ".build/components.json"));
  #at;
  #clients = [];
  #made = 0;

  constructor() {
    // the contract's client reads its place from the environment, as every client does
    process.env.CLOCHE_HOME = join(this.directory, "home");
    this.#at = endpoint();
  }

  /** Runs `cloche ARGS`; answers with its wall clock and when it began. Anything but status 0 ends the bench. */
  run(...args) {
    return new Promise((done, failed) => {
      const began = Date.now();
      const from = performance.now();
      const child = spawn(command, args, { cwd: this.directory, stdio: ["ignore", "pipe", "pipe"] });
      let said = "";
      for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (said += chunk));
      child.on("error", failed);
      child.on("close", (status) => {
        const took = performance.now() - from;
        if (status === 0) done({ took, began, ended: began + took, said });
        else failed(new Error(`cloche ${args.join(" ")} ended with ${status}:\n${said}${this.logs()}`));
      });
    });
  }

  async connect() {
    const client = await connectKeeper("cli", { node: this.components.node, entry: this.components.app.keeper }, this.#at);
    this.#clients.push(client);
    return client;
  }

  /** A task that runs until `end`. */
  async task(client, params = {}) {
    const task = await client.call("tasks.create", {
      name: `bench-${++this.#made}`,
      shares: [],
      ephemeral: true,
      env: {},
      sudo: true,
      ...params,
    });
    await client.call("tasks.start", { task: task.id, lease: "client" });
    return task;
  }

  /** A command over a connection that is there already; answers with its output. */
  async exec(client, task, argv) {
    const { ticket } = await client.call("tasks.exec", {
      task: task.id,
      env: {},
      command: argv.map((argument) => Buffer.from(argument).toString("base64")),
    });
    const stream = await openStream(ticket, this.#at);
    const decoder = new FrameDecoder();
    let out = "";
    let err = "";
    let status;
    await new Promise((done, failed) => {
      stream.on("data", (chunk) => {
        for (const { type, payload } of decoder.push(chunk)) {
          if (type === Frame.stdout) out += Buffer.from(payload).toString();
          else if (type === Frame.stderr) err += Buffer.from(payload).toString();
          else if (type === Frame.exit) status = Buffer.from(payload).readUInt32BE(0);
          else if (type === Frame.problem) err += Buffer.from(payload).toString();
          if (type === Frame.exit || type === Frame.problem) done();
        }
      });
      stream.once("close", () => (status === undefined ? failed(new Error(`no status: ${err}`)) : done()));
    });
    stream.destroy();
    if (status !== 0) throw new Error(`in the guest: ${argv.join(" ").slice(0, 200)} ended with ${status}: ${err}${out}`);
    return out;
  }

  folder(name) {
    const path = join(this.directory, name);
    mkdirSync(path, { recursive: true });
    return path;
  }

  openStream(ticket) {
    return openStream(ticket, this.#at);
  }

  async events(client, task) {
    return (await client.call("events.read", { task, after: 0, limit: 500, waitMs: 0 })).events;
  }

  keeperPid() {
    try {
      return Number.parseInt(readFileSync(join(this.#at.runtime, "keeper.lock"), "utf8"), 10);
    } catch {
      return undefined;
    }
  }

  /** Resolves when no keeper of this place runs. */
  async keeperGone() {
    while (alive(this.keeperPid())) await sleep(20);
  }

  /** The base socket of a task's streams. */
  streams(task) {
    const holder = readdirSync(this.#at.runtime).find((n) => {
      try {
        return readFileSync(join(this.#at.runtime, n, "task"), "utf8") === task.id;
      } catch {
        return false;
      }
    });
    return join(this.#at.runtime, holder, "v");
  }

  /** What explains a failure: the keeper's log, and console and host log of each task. */
  logs() {
    const home = process.env.CLOCHE_HOME;
    const tasks = join(home, "tasks");
    const ids = existsSync(tasks) ? readdirSync(tasks) : [];
    return [join(home, "keeper.log"), ...ids.flatMap((id) => [join(tasks, id, "console.log"), join(tasks, id, "host.log")])]
      .filter((path) => existsSync(path))
      .map((path) => ({ path, at: statSync(path).mtimeMs }))
      .sort((a, b) => a.at - b.at)
      .slice(-4)
      .map(({ path }) => `\n--- ${path}\n${readFileSync(path, "utf8").slice(-2000)}`)
      .join("");
  }

  async end() {
    for (const client of this.#clients) client.close(); // their tasks go with them
    await this.keeperGone();
    rmSync(this.directory, { recursive: true, force: true });
    rmSync(this.#at.runtime, { recursive: true, force: true });
  }
}

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

export function alive(pid) {
  if (!pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
