import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { SecretBinding } from "../../contract/index.ts";
import { Paths } from "../paths.ts";
import { type Keychain, Vault } from "./index.ts";
import { SecretValue } from "./value.ts";

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
const isRunning = (pid: number) => existsSync(`/proc/${pid}`) && !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
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

  it("a program named without its folder is found among the system's, and from then on it is that one", async () => {
    const vault = open();
    const argv = ["printf", "%s", "x".repeat(20)];
    const { source } = await vault.add({ name: "c", source: { kind: "command", argv }, binding });
    expect(source).toEqual({ kind: "command", argv: ["/usr/bin/printf", ...argv.slice(1)] });
    expect(await vault.resolve("c")).toBe("x".repeat(20));
    for (const program of ["no-such-program", "./give", "bin/give", ""])
      await expect(vault.add({ name: "d", source: { kind: "command", argv: [program] }, binding })).rejects.toEqual(code("secret.value"));
  });

  it("a program that writes without end is ended, with what it started; what failed says nothing of its output", async () => {
    const value = canary();
    const script = (text: string) => ({ kind: "command" as const, argv: ["/bin/sh", "-c", text] });
    const pidFile = join(home, "pid");
    await expect(open().add({ name: "a", source: script(`sleep 60 & echo $! > ${pidFile}; exec cat /dev/zero`), binding })).rejects.toEqual(
      code("secret.value"),
    );
    await vi.waitFor(() => expect(isRunning(Number(readFileSync(pidFile, "utf8")))).toBe(false));
    const failed = await open()
      .add({ name: "b", source: script(`echo ${value}; echo ${value} >&2; exit 3`), binding })
      .catch((error) => error.problem);
    expect(failed.evidence).toContain("status 3");
    expect(JSON.stringify(failed)).not.toContain(value);
  });

  it("a program that does not end is ended after 10 s, with what it started", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    try {
      const pidFile = join(home, "pid");
      const source = {
        kind: "command" as const,
        argv: ["/bin/sh", "-c", `sleep 600 & echo $! > ${pidFile}.new; mv ${pidFile}.new ${pidFile}; wait`],
      };
      const refused = expect(open().add({ name: "a", source, binding })).rejects.toMatchObject({
        problem: { code: "secret.value", evidence: expect.stringContaining("did not end within 10 s") },
      });
      while (!existsSync(pidFile)) await new Promise((resolve) => setImmediate(resolve));
      await vi.advanceTimersByTimeAsync(10_000);
      await refused;
      while (isRunning(Number(readFileSync(pidFile, "utf8")))) await new Promise((resolve) => setImmediate(resolve));
    } finally {
      vi.useRealTimers();
    }
  });

  it("a variable that is not the keeper's is refused with what to do, and one that is works", async () => {
    const name = `CLOCHE_TEST_${randomBytes(4).toString("hex")}`;
    const source = { kind: "env" as const, name };
    await expect(open().add({ name: "a", source, binding })).rejects.toMatchObject({
      problem: {
        code: "secret.value",
        evidence: expect.stringContaining(name),
        next: expect.arrayContaining([expect.stringContaining("--memory")]),
      },
    });
    const value = canary();
    process.env[name] = value;
    try {
      const vault = open();
      await vault.add({ name: "a", source, binding });
      expect(await vault.resolve("a")).toBe(value);
    } finally {
      delete process.env[name];
    }
  });

  it.each([
    [
      "of another user",
      (file: string) => (process.getuid?.() === 0 ? chownSync(file, 12_345, 12_345) : undefined),
      () => (process.getuid?.() === 0 ? undefined : "/etc/passwd"),
    ],
    ["of more than 16 KiB", (file: string) => writeFileSync(file, "x".repeat(16_385)), () => undefined],
    ["of bytes that are no text", (file: string) => writeFileSync(file, Buffer.alloc(32, 0xff)), () => undefined],
    [
      "that is a folder",
      (file: string) => {
        rmSync(file);
        mkdirSync(file);
      },
      () => undefined,
    ],
    ["that is not there", (file: string) => rmSync(file), () => undefined],
  ])("a file %s is no key", async (_, change, instead) => {
    const file = join(home, "key");
    writeFileSync(file, `${canary()}\n`);
    const source = { kind: "file" as const, path: instead() ?? file };
    await open().add({ name: "control", source: { kind: "file", path: file }, binding });
    change(file);
    await expect(open().add({ name: "f", source, binding })).rejects.toEqual(code("secret.value"));
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

  it("a key that its keychain does not let go of stays listed, so that nobody believes it gone", async () => {
    const vault = open({ ...keychain, delete: async () => Promise.reject(new Error("it is locked")) });
    await vault.add({ name: "a", source: { kind: "keychain" }, binding, value: canary() });
    await expect(vault.remove("a")).rejects.toMatchObject({ problem: { code: "secret.keychain", evidence: "it is locked" } });
    expect(vault.list()).toHaveLength(1);
  });

  it("a key that cannot be listed is not left in the keychain", async () => {
    mkdirSync(`${paths.secrets}.new`); // nothing can be written there
    const vault = open();
    await expect(vault.add({ name: "a", source: { kind: "keychain" }, binding, value: canary() })).rejects.toEqual(code("disk.full"));
    expect({ kept: kept.size, listed: vault.list() }).toEqual({ kept: 0, listed: [] });
  });

  it("a value prints as its name, however it is printed", () => {
    const value = canary();
    const secret = new SecretValue("github", value);
    const printed = [
      String(secret),
      `${secret}`,
      "".concat(secret as unknown as string),
      JSON.stringify({ secret }),
      inspect({ secret }, { depth: 9, showHidden: true }),
    ];
    for (const text of printed) {
      expect(text).toContain("[key github]");
      expect(text).not.toContain(value);
    }
    expect(secret.reveal()).toBe(value);
  });

  it("the list is for its user alone", async () => {
    await open().add({ name: "a", source: { kind: "memory" }, binding, value: canary() });
    expect(statSync(paths.secrets).mode & 0o777).toBe(0o600);
  });

  it("names that differ by their case alone are one name", async () => {
    const vault = open();
    await vault.add({ name: "Key", source: { kind: "memory" }, binding, value: canary() });
    await expect(vault.add({ name: "key", source: { kind: "memory" }, binding, value: canary() })).rejects.toEqual(code("secret.exists"));
  });

  it.each([
    ["a wildcard", { hosts: ["*.example.com"] }],
    ["a host that is none", { hosts: ["exa mple.com"] }],
    ["a range of addresses", { hosts: ["192.0.2.0/24"] }],
    ["an address in another spelling", { hosts: ["0x7f.1"] }],
    ["one good host and one that is none", { hosts: ["api.example.com", "api.example.com."] }],
    ["the header Connection", { use: "header:Connection" as const }],
    ["the header Content-Length", { use: "header:content-length" as const }],
    ["a header for proxies", { use: "header:Proxy-Anything" as const }],
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

  it("a list of a newer Cloche is left as it is, and says what to do", () => {
    writeFileSync(paths.secrets, '{"version": 2, "secrets": []}');
    expect(() => open().list()).toThrow(
      expect.objectContaining({ problem: expect.objectContaining({ code: "secret.file", next: ["Update Cloche."] }) }),
    );
  });

  it.each(["{}", "[]", "{", '{"version": 2}'])("a list that cannot be read is left as it is, and no key is used: %s", async (text) => {
    writeFileSync(paths.secrets, text);
    expect(() => open().list()).toThrow();
    await expect(open().add({ name: "a", source: { kind: "memory" }, binding, value: canary() })).rejects.toEqual(code("secret.file"));
    expect(readFileSync(paths.secrets, "utf8")).toBe(text);
  });
});
