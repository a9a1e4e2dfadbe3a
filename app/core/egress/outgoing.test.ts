import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ProblemError, type SecretBinding } from "../../contract/index.ts";
import { Outgoing } from "./outgoing.ts";

const CANARY = "employee:canary-password";
const HOST = "proxy.example.com";

let home: string;
let file: string;
let bindings: Record<string, SecretBinding>;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "cloche-outgoing-"));
  file = join(home, "outgoing-proxy.json");
  bindings = {
    corp: { hosts: [HOST], use: "basic" },
    token: { hosts: [HOST], use: "bearer" },
    elsewhere: { hosts: ["api.example.com"], use: "basic" },
    header: { hosts: [HOST], use: "x-api-key" },
  };
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

const outgoing = () =>
  new Outgoing(file, {
    get: (name) => {
      const binding = bindings[name];
      if (!binding) throw new ProblemError({ code: "secret.unknown", message: `There is no key named ${name}.`, next: [] });
      return { name, binding, source: { kind: "memory" }, created: "2026-11-26T00:00:00Z" };
    },
    resolve: async () => CANARY,
  });
const codeOf = (error: unknown) => (error instanceof ProblemError ? error.problem.code : String(error));

describe("the outgoing proxy", () => {
  it("is none until its user sets one, whatever the environment says; set, it is found again; none is as before", async () => {
    process.env.HTTPS_PROXY = `http://${HOST}:3128`;
    try {
      expect(outgoing().get()).toBeUndefined();
      expect(await outgoing().resolve()).toBeUndefined();
    } finally {
      delete process.env.HTTPS_PROXY;
    }
    expect(await outgoing().set({ host: "Proxy.example.com", port: 3128 })).toEqual({ host: HOST, port: 3128 });
    expect(outgoing().get()).toEqual({ host: HOST, port: 3128 });
    expect((await outgoing().resolve())?.upstream).toEqual({ host: HOST, port: 3128 });
    await outgoing().set(undefined);
    expect(existsSync(file)).toBe(false);
    expect(outgoing().get()).toBeUndefined();
  });

  it("is given a key that works at its own host, as Basic or Bearer; the value is in no file", async () => {
    await outgoing().set({ host: HOST, port: 3128, secret: "corp" });
    expect((await outgoing().resolve())?.upstream.authorization).toBe(`Basic ${Buffer.from(CANARY).toString("base64")}`);
    expect(readFileSync(file, "utf8")).not.toContain("canary");
    await outgoing().set({ host: HOST, port: 3128, secret: "token" });
    expect((await outgoing().resolve())?.upstream.authorization).toBe(`Bearer ${CANARY}`);
  });

  it.each([
    ["a pattern", { host: "*.example.com", port: 3128 }, "egress.outgoing"],
    ["an address of a page", { host: "http://proxy", port: 3128 }, "egress.outgoing"],
    ["a key of another host", { host: HOST, port: 3128, secret: "elsewhere" }, "egress.outgoing"],
    ["a key that goes in another header", { host: HOST, port: 3128, secret: "header" }, "egress.outgoing"],
    ["a key that is not there", { host: HOST, port: 3128, secret: "nobody" }, "secret.unknown"],
  ] as const)("%s is refused, and it is as it was", async (_, wanted, code) => {
    await outgoing().set({ host: "other.example.com", port: 8080 });
    expect(await outgoing().set(wanted).catch(codeOf)).toBe(code);
    expect(outgoing().get()).toEqual({ host: "other.example.com", port: 8080 });
  });

  it("a key that was taken away, or made for another host, since it was set, is not sent", async () => {
    await outgoing().set({ host: HOST, port: 3128, secret: "corp" });
    bindings.corp = { hosts: ["other.example.com"], use: "basic" };
    expect(await outgoing().resolve().catch(codeOf)).toBe("egress.outgoing");
    delete bindings.corp;
    const problem = await outgoing()
      .resolve()
      .catch((error: ProblemError) => error.problem);
    expect(problem).toMatchObject({
      code: "secret.unknown",
      message: `The outgoing proxy ${HOST}:3128 cannot be used. There is no key named corp.`,
      next: [expect.stringContaining("cloche policy proxy")],
    });
  });

  it("version 1 of its file is read", () => {
    writeFileSync(file, '{ "version": 1, "proxy": { "host": "proxy.example.com", "port": 3128, "secret": "corp" } }');
    expect(outgoing().get()).toEqual({ host: HOST, port: 3128, secret: "corp" });
  });

  it.each(["", "{}", '{"version": 2, "proxy": {}}', '{"version": 1, "proxy": {"host": "a.example", "port": 0}}'])(
    "a file that cannot be read is no permission to leave directly: %s",
    async (text) => {
      writeFileSync(file, text);
      expect(await outgoing().resolve().catch(codeOf)).toBe("egress.outgoing");
      expect(readFileSync(file, "utf8")).toBe(text);
      await outgoing().set(undefined);
      expect(await outgoing().resolve()).toBeUndefined();
    },
  );
});
