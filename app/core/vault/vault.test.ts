import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { SecretBinding } from "../../contract/index.ts";
import { Paths } from "../paths.ts";
import { type Keychain, Vault } from "./index.ts";

const binding: SecretBinding = { hosts: ["API.example.com"], use: "bearer", env: "API_KEY" };
const canary = () => `canary-${randomBytes(16).toString("hex")}`;
let home: string;
let paths: Paths;
let kept: Map<string, string>;
let keychain: Keychain;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "vault-"));
  paths = new Paths({ home, runtime: home });
  kept = new Map();
  keychain = {
    get: async (name) => kept.get(name),
    set: async (name, value) => void kept.set(name, value),
    delete: async (name) => void kept.delete(name),
  };
});
afterEach(() => rmSync(home, { recursive: true }));

const open = (chain = keychain) => new Vault({ paths, keychain: chain });
const code = (code: string) => expect.objectContaining({ problem: expect.objectContaining({ code }) });

describe("the user's keys", () => {
  it("C01: no file below the data directory holds a value, wherever it is kept", async () => {
    const values = [canary(), canary(), canary()];
    const file = join(tmpdir(), `key-${process.pid}`);
    writeFileSync(file, `${values[2]}\n`, { mode: 0o600 });
    const vault = open();
    await vault.add({ name: "chain", source: { kind: "keychain" }, binding, value: values[0] ?? "" });
    await vault.add({ name: "memory", source: { kind: "memory" }, binding, value: values[1] ?? "" });
    await vault.add({ name: "file", source: { kind: "file", path: file }, binding });
    expect(await Promise.all(["chain", "memory", "file"].map((name) => vault.resolve(name)))).toEqual(values);
    for (const name of readdirSync(home)) for (const value of values) expect(readFileSync(join(home, name), "utf8")).not.toContain(value);
    rmSync(file);
  });

  it("one in the keychain is there for the next keeper; one in memory is listed, and told to be gone", async () => {
    const value = canary();
    await open().add({ name: "chain", source: { kind: "keychain" }, binding, value });
    await open().add({ name: "memory", source: { kind: "memory" }, binding, value: canary() });
    const next = open();
    expect(await next.resolve("chain")).toBe(value);
    await expect(next.resolve("memory")).rejects.toEqual(code("secret.value"));
    expect(await next.test("memory")).toMatchObject({ usable: false });
  });

  it("a host is taken in its one form, and a value is read anew at each use", async () => {
    const file = join(home, "key");
    const [first, second] = [canary(), canary()];
    writeFileSync(file, first);
    const vault = open();
    expect((await vault.add({ name: "file", source: { kind: "file", path: file }, binding })).binding.hosts).toEqual(["api.example.com"]);
    writeFileSync(file, `${second}\r\n`);
    expect(await vault.resolve("file")).toBe(second);
  });

  it("a program's output is a value, without a shell in between", async () => {
    const value = canary();
    const program = join(home, "give");
    writeFileSync(program, `#!/bin/sh\nprintf '%s\\n' "$1"\n`);
    chmodSync(program, 0o700);
    const vault = open();
    await vault.add({ name: "c", source: { kind: "command", argv: [program, value] }, binding });
    expect(await vault.resolve("c")).toBe(value);
    await expect(vault.add({ name: "d", source: { kind: "command", argv: ["give"] }, binding })).rejects.toEqual(code("secret.value"));
    await expect(vault.add({ name: "e", source: { kind: "command", argv: ["/bin/false"] }, binding })).rejects.toEqual(
      code("secret.value"),
    );
  });

  it("a FIFO in a file's place is refused at once", async () => {
    const fifo = join(home, "fifo");
    execFileSync("mkfifo", [fifo]);
    await expect(open().add({ name: "f", source: { kind: "file", path: fifo }, binding })).rejects.toEqual(code("secret.value"));
  });

  it("without a keychain it says so, keeps nothing, and the other ways work", async () => {
    const fail = async () => Promise.reject(new Error("no service"));
    const vault = open({ get: fail, set: fail, delete: fail });
    await expect(vault.add({ name: "a", source: { kind: "keychain" }, binding, value: canary() })).rejects.toEqual(code("secret.keychain"));
    expect(vault.list()).toEqual([]);
    expect(await vault.keychainStatus()).toMatchObject({ usable: false, text: expect.stringContaining("no service") });
    await vault.add({ name: "a", source: { kind: "memory" }, binding, value: canary() });
    expect(await open().keychainStatus()).toMatchObject({ usable: true });
    expect(kept.size).toBe(0);
  });

  it.each([
    ["a wildcard", { hosts: ["*.example.com"] }],
    ["a host that is none", { hosts: ["exa mple.com"] }],
    ["the header Host", { use: "header:Host" as const }],
    ["the header Cookie", { use: "header:cookie" as const }],
    ["the variable PATH", { env: "PATH" }],
    ["a variable of the loader's", { env: "LD_PRELOAD" }],
  ])("a binding with %s is refused", async (_, change) => {
    await expect(
      open().add({ name: "a", source: { kind: "memory" }, binding: { ...binding, ...change }, value: canary() }),
    ).rejects.toEqual(code("secret.binding"));
  });

  it.each(["tiny-value", `${"x".repeat(20)}\n`, ` ${"x".repeat(20)}`, `ü${"x".repeat(20)}`])(
    "a value that no header carries is refused, and not told: %j",
    async (value) => {
      await expect(open().add({ name: "a", source: { kind: "memory" }, binding, value })).rejects.toEqual(code("secret.value"));
      await open()
        .add({ name: "a", source: { kind: "memory" }, binding, value })
        .catch((error) => expect(JSON.stringify(error.problem)).not.toContain(value));
    },
  );

  it("a name is given once, and is free again when its key is removed, in the keychain too", async () => {
    const vault = open();
    await vault.add({ name: "a", source: { kind: "keychain" }, binding, value: canary() });
    await expect(vault.add({ name: "a", source: { kind: "memory" }, binding, value: canary() })).rejects.toEqual(code("secret.exists"));
    await vault.remove("a");
    expect(kept.size).toBe(0);
    await expect(vault.remove("a")).rejects.toEqual(code("secret.unknown"));
    await vault.add({ name: "a", source: { kind: "memory" }, binding, value: canary() });
  });

  it.each(["{}", "[]", "{", '{"version": 2}'])("a list that cannot be read is left as it is, and no key is used: %s", async (text) => {
    writeFileSync(paths.secrets, text);
    expect(() => open().list()).toThrow();
    await expect(open().add({ name: "a", source: { kind: "memory" }, binding, value: canary() })).rejects.toEqual(code("secret.file"));
    expect(readFileSync(paths.secrets, "utf8")).toBe(text);
  });
});
