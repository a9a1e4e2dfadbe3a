import { readdirSync, readFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { describe, expect, it } from "vitest";

/**
 * No switch relaxes the check of addresses: fixtures of tests have addresses that look public in place of one. So the check has one caller,
 * which every dialled address goes through; it looks at nothing but its arguments; and who could hand a switch to the proxy does not.
 */
const root = resolve(import.meta.dirname, "../..");
/** a sabotage's file in place of the real one (`test/mutants`) */
const overlay = process.env.CLOCHE_MUTANT;
const replaced = overlay === undefined ? {} : (JSON.parse(readFileSync(overlay, "utf8")) as { Replace: Record<string, string> }).Replace;
const source = (file: string) => readFileSync(replaced[join(root, file)] ?? join(root, file), "utf8");

/** Files of the product in a folder, without tests and what is made for them. */
const files = (folder: string, ending = /\.(?:tsx?|go|mjs)$/): string[] =>
  readdirSync(join(root, folder), { withFileTypes: true, recursive: true })
    .filter(({ name }) => ending.test(name) && !/\.test\.tsx?$|_test\.go$/.test(name))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .filter((file) => !/\/fixtures\/|\/node_modules\//.test(file));

const app = files("app");
const egress = app.filter((file) => file.startsWith("app/core/egress/"));
const everything = [...app, ...files("helpers"), ...files("vm-image/agent")];

/** Every place at which a pattern stands, as `file: what stands there`. Comments are left out. */
function places(among: readonly string[], pattern: RegExp): string[] {
  return among.flatMap((file) => {
    const code = source(file)
      .replaceAll(/\/\*[\s\S]*?\*\//g, "")
      .replaceAll(/(^|\s)\/\/.*$/gm, "");
    return [...code.matchAll(pattern)].map(([found]) => `${file}: ${found}`);
  });
}

const UPSTREAM = "app/core/egress/proxy/upstream.ts";
/** A top-level function's text. */
function functionOf(file: string, name: string): string {
  const [found = ""] = new RegExp(`^(?:export )?function ${name}\\([\\s\\S]*?^}$`, "m").exec(source(file)) ?? [];
  expect(found, `${name} of ${file}`).not.toBe("");
  return found;
}

describe("no switch relaxes the check of addresses", () => {
  it("looks at files", () => {
    expect(egress.length).toBeGreaterThan(40);
    expect(everything.filter((file) => file.endsWith(".go")).length).toBeGreaterThan(50);
  });

  it("it is asked at one place, for every address, with what it needs and no more", () => {
    expect(places(everything, /\b[\w.]*refuseAddress\(.*/g)).toEqual([
      "app/core/egress/policy/address.ts: refuseAddress(ip: string, own: ReadonlySet<string>, range?: string, networks: readonly string[] = []): string | undefined {",
      `${UPSTREAM}: refuseAddress(address, own, range, networks);`,
    ]);
    expect(places(everything, /\brefuseLocal\(.*/g)).toEqual([
      `${UPSTREAM}: refuseLocal(target, [{ address: literal, family: isIPv6(literal) ? 6 : 4 }]);`,
      `${UPSTREAM}: refuseLocal(target, await this.#resolve(target.host));`,
      `${UPSTREAM}: refuseLocal(target, await Promise.race([known, after(LOCAL_LOOKUP_MS, [] as Address[], { ref: false })]));`,
      `${UPSTREAM}: refuseLocal({ host, private: range }: Target, addresses: Address[]): Address[] {`,
    ]);
    // one way past it: an address of which it has nothing to say
    expect(functionOf(UPSTREAM, "refuseLocal").match(/\b(?:if|continue|return|break)\b.*/g)).toEqual([
      "if (kind === undefined) continue;",
      "return addresses;",
    ]);
  });

  it("what dials is behind it: no other part of the way out resolves a name or connects", () => {
    const imported = /import [^;]*\bfrom "node:(?:net|tls|dns|dns\/promises|dgram|http|http2|https)"/g;
    const connecting = places(egress, imported)
      .filter((place) =>
        /\b(?:connect|createConnection|Agent|request|get|lookup|resolve\w*|Resolver|fetch)\b/.test(place.replace(/^\S+ /, "")),
      )
      .map((place) => place.split(":")[0]);
    expect([...new Set(connecting)]).toEqual([UPSTREAM]);
    expect(places(egress, /\bfetch\(|\bnew WebSocket\(/g)).toEqual([]);
    expect(places([UPSTREAM], /\b(?:connectTcp|connectTls|lookup)\(/g).sort()).toEqual([
      `${UPSTREAM}: connectTcp(`,
      `${UPSTREAM}: connectTls(`,
      `${UPSTREAM}: lookup(`,
    ]);
  });

  it("nothing of the way out looks at the environment, its arguments, or whether it is tested", () => {
    const looked = places(egress, /\bprocess\.(?:env|argv|execArgv|execPath|title)\b[.\w]*|\bimport\.meta\.env\b|\b(?:NODE_ENV|VITEST)\b/g);
    expect(looked).toEqual(["app/core/egress/proxy/main.ts: process.env.UV_THREADPOOL_SIZE"]);
  });

  it("its keeper tells the proxy its task, authority, rules, keys, the user's proxy and authorities, a file to write to, and nothing else", () => {
    const [, params = ""] =
      /start: method\(\(\) => \(\{\n {6}params: z\.strictObject\(\{([\s\S]*?)\n {6}\}\),/.exec(source("app/core/egress/protocol.ts")) ?? [];
    expect([...params.matchAll(/^ {8}(\w+):/gm)].map(([, name]) => name)).toEqual([
      "task",
      "authority",
      "policy",
      "secrets",
      "upstream",
      "trusted",
      "journal",
    ]);
    const [, fields = ""] = /^const ruleFields = \{([\s\S]*?)^\} as const/m.exec(source("app/contract/egress.ts")) ?? [];
    expect([...fields.matchAll(/^ {2}(\w+):/gm)].map(([, name]) => name).join(" ")).toBe(
      "decision host port methods paths upgrade opaque credentials private requests bytes until reason",
    );
  });

  it("the product reads the variables that are listed here, none of which is about addresses", () => {
    const read = places(everything, /\bprocess\.env\.\w+|\b(?:Getenv|LookupEnv)\([^)]*\)|"CLOCHE_[A-Z_]+"|\bCLOCHE_[A-Z_]+\b/g);
    const names = new Set(read.map((place) => /\w+"?\)?$/.exec(place)?.[0].replaceAll(/["()]/g, "") ?? place));
    expect([...names].sort().join(" ")).toBe(
      "CLOCHE_COMPONENTS CLOCHE_GIT_CREDENTIALS CLOCHE_HOME CLOCHE_LOG CLOCHE_UI_OUT DBUS_SESSION_BUS_ADDRESS DISPLAY NO_COLOR TERM UV_THREADPOOL_SIZE WAYLAND_DISPLAY XDG_RUNTIME_DIR",
    );
  });

  it("no name in it says that a check is left out", () => {
    const words =
      /\b\w*(?:(?:allow|permit|accept|trust)_?(?:private(?!domains)|local|loopback|internal|lan|any_?address|all_?addresses)|(?:skip|ignore|disable|relax|bypass|without|no)_?(?:address|local|private)?_?(?:check|classes|classification)|for_?tests?|under_?test|test_?mode|insecure(?!HTTPParser: false)|rejectUnauthorized)\w*/gi;
    expect(places(everything, words)).toEqual([]);
  });
});
