import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Paths, systemKeychain } from "../../../app/core/index.ts";
import { Cloche, SecretService } from "../../harness/index.ts";

/** A key that is given on the command line, with a desktop session's real keychain, and without one. No machine is needed. */
describe.runIf(process.platform === "linux")("a key in the system's keychain", () => {
  let cloche: Cloche;
  let session: SecretService | undefined;
  beforeEach(() => {
    cloche = new Cloche();
  });
  afterEach(async () => {
    await cloche.end();
    await session?.end();
    session = undefined;
  });

  const canary = `canary-${randomBytes(16).toString("hex")}`;
  const add = (env: Readonly<Record<string, string>>, ...more: string[]) =>
    cloche.run(["secret", "add", "api", "--host", "api.example.com", ...more], { input: `${canary}\n`, env });
  const files = () =>
    readdirSync(cloche.home, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name));

  it("C01: is kept there and nowhere below the data directory, is had by the next keeper, and goes with `rm`", async () => {
    session = await SecretService.start();
    const { env } = session;
    const added = await add(env);
    expect(added.status, added.stderr + cloche.diagnosis()).toBe(0);
    expect(added.stderr).toContain("api works at api.example.com");
    expect(await cloche.quiet(30_000), "the keeper ends by itself, and its helpers with it").toEqual([]);
    expect(files()).not.toEqual([]);
    for (const file of files()) expect(readFileSync(file, "utf8"), file).not.toContain(canary);

    const tested = await cloche.run(["secret", "test", "api"], { env });
    expect(`${tested.status} ${tested.stdout}`).toContain(`0 The key api can be had; it has ${canary.length} characters`);
    const entry = await inSession(session, () => systemKeychain({ home: cloche.home } as Paths).get("key-api"));
    expect(entry).toBe(canary);

    expect((await cloche.run(["secret", "rm", "api"], { env })).status).toBe(0);
    expect(await inSession(session, () => systemKeychain({ home: cloche.home } as Paths).get("key-api"))).toBeUndefined();
  });

  it("P08: holds the log: one whose end was cut off between two keepers is found", async () => {
    session = await SecretService.start();
    const { env } = session;
    await add(env, "--memory");
    expect(await cloche.quiet(30_000)).toEqual([]);
    const log = join(cloche.home, "audit.jsonl");
    const clean = await cloche.run(["events", "verify"], { env });
    expect(`${clean.status} ${clean.stdout}`).toMatch(/^0 ok .*nothing was changed.*\nok +anchored: /);
    expect(await cloche.quiet(30_000)).toEqual([]);

    const lines = readFileSync(log, "utf8").trimEnd().split("\n");
    writeFileSync(log, `${lines.slice(0, -1).join("\n")}\n`);
    const cut = await cloche.run(["events", "verify"], { env });
    expect(`${cut.status} ${cut.stdout}`).toMatch(/^125 FAILED .*cut off/);
  });

  it.each([
    ["without a session", async () => ({})],
    [
      "in a session that has none",
      async () => {
        session = await SecretService.start({ keyring: false });
        return session.env;
      },
    ],
  ])("%s it is refused with the reason before it is asked for, and a key in memory works", async (_, start) => {
    const env = await start();
    const refused = await add(env);
    expect(refused.status).toBe(125);
    expect(refused.stderr).toContain("There is no keychain here");
    expect(refused.stderr).toContain("--memory");
    expect(refused.stderr).not.toContain(canary);
    const kept = await add(env, "--memory");
    expect(kept.status, kept.stderr).toBe(0);
    expect((await cloche.run(["secret", "test", "api"], { env })).status).toBe(0);
    for (const file of files()) expect(readFileSync(file, "utf8"), file).not.toContain(canary);
  });
});

async function inSession<T>(session: SecretService, work: () => Promise<T>): Promise<T> {
  const before = process.env.DBUS_SESSION_BUS_ADDRESS;
  Object.assign(process.env, session.env);
  try {
    return await work();
  } finally {
    if (before === undefined) delete process.env.DBUS_SESSION_BUS_ADDRESS;
    else process.env.DBUS_SESSION_BUS_ADDRESS = before;
  }
}
