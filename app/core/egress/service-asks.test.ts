/** Questions and their answers, with the real proxy process. Every answer here refuses, so nothing is looked up or dialled. */
import { mkdtempSync, rmSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { request } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { AskView } from "../../contract/index.ts";
import type { AuditLog } from "../audit/index.ts";
import { Paths } from "../paths.ts";
import type { Vault } from "../vault/index.ts";
import { type MachineNetwork, Networks } from "./service.ts";

const task = { id: "0123456789abcdef", name: "sorter" };
const user = { kind: "user", via: "cli" } as const;

let home: string;
let networks: Networks;
let machine: MachineNetwork;
let socket: string;
const told: string[] = [];
const gone = new AbortController();

beforeEach(async () => {
  home = mkdtempSync(join(tmpdir(), "cloche-networks-"));
  told.length = 0;
  const paths = new Paths({ home, runtime: home });
  await mkdir(dirname(paths.task(task.id).policy), { recursive: true });
  networks = new Networks({
    paths,
    audit: { keep: async () => {}, report: (kind: string) => void told.push(kind) } as unknown as AuditLog,
    vault: {} as Vault,
    programs: { node: process.execPath, proxy: join(import.meta.dirname, "proxy/main.ts") },
    resolve: () => task,
    wall: () => "the wall",
    setEnvironment: async () => {},
  });
  await networks.create(task.id, { presets: [], rules: [] }, [], []);
  networks.watch(undefined, gone.signal);
  machine = await networks.open(task);
  socket = join(home, "s");
  await machine.listen(socket);
});
afterEach(async () => {
  await machine.end();
  rmSync(home, { recursive: true, force: true });
});

/** A guest's request; resolves with its status and which rule refused it. */
function ask(host: string, path = "/"): Promise<string> {
  return new Promise((resolve, reject) => {
    const stream = connect(socket);
    stream.write(`connect ${host} 80\n`);
    const sent = request({ createConnection: () => stream, path, headers: { host } }, (answer) => {
      let body = "";
      answer.on("data", (chunk) => (body += chunk));
      answer.on("end", () => resolve(`${answer.statusCode} ${(JSON.parse(body) as { error: { rule: string } }).error.rule}`));
    });
    sent.on("error", reject);
    sent.end();
  });
}

const pending = async () => (await networks.list({ waitMs: 0 })).asks.filter(({ state }) => state === "pending");
async function until(count: number): Promise<AskView[]> {
  await vi.waitFor(async () => expect(await pending()).toHaveLength(count), { timeout: 30_000 });
  return pending();
}
const deny = ({ id, offer }: AskView) => networks.answer({ ask: id, answer: "deny", scope: "task", rule: offer }, user);

describe("an answer", { timeout: 60_000 }, () => {
  it("is for the host that was shown: a neighbour under the same domain waits on, and has a line of its own", async () => {
    const api = ask("api.example.com");
    const cdn = ask("cdn.example.com");
    const asks = await until(2);
    const [about, other] = ["api.example.com", "cdn.example.com"].map((host) => asks.find(({ offer }) => offer.host === host));
    if (!about || !other) throw new Error(`asked about ${JSON.stringify(asks)}`);
    const { rule } = await deny(about);
    expect(await api).toBe(`403 ${rule.id}`);
    expect((await pending()).map(({ id }) => id)).toEqual([other.id]);
    const second = await deny(other);
    expect(await cdn).toBe(`403 ${second.rule.id}`);
    expect((await networks.list({ waitMs: 0 })).asks).toEqual([]);
  });

  it("leaves another request to its host, of which it says nothing, waiting as a question of its own", async () => {
    const one = ask("api.example.com", "/one");
    const [shown] = await until(1);
    const two = ask("api.example.com", "/two");
    await vi.waitFor(async () => expect((await pending())[0]?.count).toBe(2), { timeout: 30_000 });
    if (!shown) throw new Error("nothing was asked");
    const { rule } = await deny(shown);
    expect(rule.paths).toEqual(["/one"]);
    expect(await one).toBe(`403 ${rule.id}`);
    const [rest] = await until(1);
    expect(rest).toMatchObject({ offer: { host: "api.example.com", paths: ["/two"] }, count: 1 });
    expect(rest?.id).not.toBe(shown.id);
    // a rule that comes by another way decides it
    const wide = await networks.add({ task: "sorter", scope: "task", rule: { decision: "deny", host: "api.example.com" } }, user);
    expect(await two).toBe(`403 ${wide.rule.id}`);
    expect(await pending()).toEqual([]);
    expect(told.filter((kind) => kind === "ask.opened")).toHaveLength(2);
  });
});
