import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { AuditLog } from "../audit/index.ts";
import { Paths } from "../paths.ts";
import { Vault } from "../vault/index.ts";
import { type MachineNetwork, Networks } from "./index.ts";

const VALUE = "ghp_0123456789abcdefghijABCDEFGHIJ012345";
const task = { id: "0123456789abcdef", name: "sorter" };
const user = { kind: "user", via: "cli" } as const;

let home: string;
let networks: Networks;
/** how often the machine was told of its variables */
let told: number;
let machine: MachineNetwork | undefined;
beforeEach(async () => {
  home = mkdtempSync(join(tmpdir(), "networks-"));
  const paths = new Paths({ home, runtime: home });
  mkdirSync(paths.task(task.id).directory, { recursive: true });
  const vault = new Vault({ paths, keychain: { get: async () => undefined, set: async () => {}, delete: async () => {} } });
  for (const [name, host, env] of [
    ["api", "api.example.com", "API_KEY"],
    ["hub", "github.com", "HUB_KEY"],
  ] as const)
    await vault.add({ name, source: { kind: "memory" }, binding: { hosts: [host], use: "bearer", env }, value: VALUE });
  told = 0;
  networks = new Networks({
    paths,
    audit: new AuditLog(paths),
    vault,
    programs: { node: process.execPath, proxy: join(home, "no-proxy") },
    resolve: () => task,
    wall: () => "the wall",
    setEnvironment: async () => {
      told++;
    },
  });
  await networks.create(task.id, { presets: [], rules: [] }, ["api", "hub"], []);
});
afterEach(async () => {
  await machine?.end();
  machine = undefined;
  rmSync(home, { recursive: true });
});

/** A machine's network, with the socket that makes it one that runs; nobody connects, so that there is no proxy. */
async function start(): Promise<Record<string, string>> {
  machine = await networks.open(task);
  await machine.listen(join(home, "way-out"));
  return networks.environment(task.id);
}

describe("the variables of a task's machine", () => {
  it("C01: hold a stand-in for each key, git's too, and no value", async () => {
    const environment = await start();
    expect(Object.keys(environment).sort()).toEqual(["API_KEY", "CLOCHE_GIT_CREDENTIALS", "HUB_KEY"]);
    // git's helper in the guest reads whole lines
    expect(environment.CLOCHE_GIT_CREDENTIALS).toBe(`github.com x-access-token ${environment.HUB_KEY}\n`);
    expect(environment.API_KEY).toMatch(/^ghp_[A-Za-z0-9]{36}$/);
    expect(environment.API_KEY).not.toBe(environment.HUB_KEY);
    expect(JSON.stringify(environment)).not.toContain(VALUE);
  });

  it("C04: hold others at each start, and none while no machine runs", async () => {
    expect(networks.environment(task.id)).toEqual({});
    const first = await start();
    await machine?.end();
    expect(networks.environment(task.id)).toEqual({});
    const second = await start();
    for (const name of ["API_KEY", "HUB_KEY"]) {
      expect(second[name]).toMatch(/^ghp_/);
      expect(second[name]).not.toBe(first[name]);
    }
  });

  it("C04: lose a stand-in when its key is taken from the task, get another when it is given again; the machine is told of both", async () => {
    const first = await start();
    await networks.detach(task.name, "api", user);
    expect(Object.keys(networks.environment(task.id)).sort()).toEqual(["CLOCHE_GIT_CREDENTIALS", "HUB_KEY"]);
    expect(networks.environment(task.id).HUB_KEY).toBe(first.HUB_KEY);
    await networks.attach(task.name, "api", user);
    expect(networks.environment(task.id).API_KEY).toMatch(/^ghp_/);
    expect(networks.environment(task.id).API_KEY).not.toBe(first.API_KEY);
    expect(told).toBe(2);
    const paths = new Paths({ home, runtime: home });
    const log = readFileSync(paths.task(task.id).audit, "utf8");
    expect(log).toContain("secret.attached");
    expect(log).not.toContain(VALUE);
  });
});
