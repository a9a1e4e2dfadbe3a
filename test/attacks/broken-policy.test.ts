/**
 * E08: whatever is wrong with a policy's file, nothing passes: the keeper's own part reads it and hands it to the task's real proxy. That
 * a guest and its user are told is shown with one of these in `presets`; more ways to be broken are in `app/core/egress/network.test.ts`.
 */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { AuditLog } from "../../app/core/audit/index.ts";
import { Networks } from "../../app/core/egress/index.ts";
import { Paths } from "../../app/core/paths.ts";
import { Vault } from "../../app/core/vault/index.ts";
import { Internet } from "../doubles/internet.ts";

const HOST = "api.fixture.example";
const task = { id: "0123456789abcdef", name: "sorter" };

let internet: Internet;
let home: string;
let paths: Paths;
beforeAll(async () => {
  internet = await Internet.create();
  await internet.origin({ name: HOST });
  home = mkdtempSync(join(tmpdir(), "broken-policy-"));
  // the proxy runs where a name leads to the fixture
  const { file, args } = internet.command(process.execPath);
  writeFileSync(join(home, "node"), `#!/bin/sh\nexec ${[file, ...args].join(" ")} "$@"\n`);
  chmodSync(join(home, "node"), 0o700);
  paths = new Paths({ home, runtime: home });
  mkdirSync(paths.task(task.id).directory, { recursive: true });
});
afterAll(async () => {
  await internet?.close();
  rmSync(home, { recursive: true, force: true });
});
beforeEach(() => internet.forget());

/** A keeper that has read nothing yet. */
const networks = () =>
  new Networks({
    paths,
    audit: new AuditLog(paths),
    vault: new Vault({ paths, keychain: { get: async () => undefined, set: async () => {}, delete: async () => {} } }),
    programs: { node: join(home, "node"), proxy: join(import.meta.dirname, "../../app/core/egress/proxy/main.ts") },
    resolve: () => task,
    wall: () => "the wall",
    setEnvironment: async () => {},
  });

/** What a guest's program is answered. */
function ask(socket: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const stream = connect(socket, () =>
      stream.write(`connect ${HOST} 80\nGET /asked HTTP/1.1\r\nHost: ${HOST}\r\nConnection: close\r\n\r\n`),
    );
    stream.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
    });
    stream.on("error", reject);
    stream.on("close", () => resolve(text));
  });
}

/** A task that is started now: the answer to its request, and what its user is told. */
async function started(): Promise<{ answer: string; told: string | undefined; wall: string | undefined }> {
  const all = networks();
  const machine = await all.open(task);
  try {
    const socket = join(home, "way-out");
    await machine.listen(socket);
    return { answer: await ask(socket), told: all.view(task.id).problem, wall: all.words(task.id).broken };
  } finally {
    await machine.end();
  }
}

const RULE = { id: "r1", scope: "task", from: "user", decision: "allow", host: HOST, port: 80 };
const whole = { version: 1, next: 2, presets: [], rules: [RULE], secrets: [], spent: {} };
const text = JSON.stringify(whole);
it("a control: a whole one lets its request pass", async () => {
  writeFileSync(paths.task(task.id).policy, text);
  const control = await started();
  expect(control.answer).toMatch(/^HTTP\/1.1 200/);
  expect([control.told, control.wall]).toEqual([undefined, undefined]);
  expect((await internet.seen()).requests.map(({ target }) => target)).toEqual(["/asked"]);
});

it.each<[what: string, file: string | undefined, why: string]>([
  ["an empty object", "{}", "does not fit"],
  ["a list", "[]", "does not fit"],
  ["cut in the middle", text.slice(0, text.length / 2), "not JSON"],
  ["deleted", undefined, "missing"],
  ["of a later version", JSON.stringify({ ...whole, version: 2 }), "newer Cloche"],
  ["of a rule for every host", JSON.stringify({ ...whole, rules: [RULE, { ...RULE, id: "r2", host: "*" }] }), "cannot be used"],
])("E08: a policy's file that is %s lets nothing pass and says so", async (_, file, why) => {
  const path = paths.task(task.id).policy;
  if (file === undefined) rmSync(path, { force: true });
  else writeFileSync(path, file);
  const broken = await started();
  expect(broken.answer).toMatch(/^HTTP\/1.1 403/);
  expect(broken.answer).toContain("network rules cannot be used, so nothing passes");
  expect([broken.told, broken.wall]).toEqual([expect.stringContaining(why), expect.stringContaining(why)]);
  expect(await internet.seen()).toEqual({ requests: [], connections: [], queries: [] });
  if (file !== undefined) expect(readFileSync(path, "utf8")).toBe(file);
});

it("E08: rules of every task that were cut let nothing pass either, also what the task's own rules allow", async () => {
  writeFileSync(paths.task(task.id).policy, text);
  writeFileSync(paths.policy, text.slice(0, 40));
  const broken = await started();
  expect(broken.answer).toMatch(/^HTTP\/1.1 403/);
  expect(broken.told).toContain("rules of every task");
  expect(await internet.seen()).toEqual({ requests: [], connections: [], queries: [] });
  rmSync(paths.policy);
  expect((await started()).answer).toMatch(/^HTTP\/1.1 200/);
});
