/** Rules, keys and requests as they are typed and as they are shown. */
import { describe, expect, it } from "vitest";
import type { AskView, EgressRequest, EventEnvelope, NetworkView, RuleDraft } from "../contract/index.ts";
import { ruleDraft, secretBinding } from "../contract/index.ts";
import { type OptionTable, parse } from "./args.ts";
import { answerOf, askWords } from "./ask-terminal.ts";
import { bindingArguments, sourceArguments } from "./commands/secret.ts";
import { hostArgument, hostRules, presetArguments, RULE_OPTIONS, ruleArguments } from "./rule-arguments.ts";
import { keyValue } from "./secret-value.ts";
import { eventLines } from "./show-events.ts";
import { allowLine, allowOption, networkRows, refusedLines, requestWords, ruleWords } from "./show-network.ts";

const words = (...args: string[]) => args.map((arg) => Buffer.from(arg));
const NOW = Date.parse("2026-11-25T12:00:00Z");
const rule = (decision: "allow" | "deny", host: string, ...args: string[]) =>
  ruleArguments(decision, host, parse(words(...args), RULE_OPTIONS), NOW);

describe("a rule as it is typed", () => {
  it("is every method and path of a host, for the task, when nothing else is said", () => {
    expect(rule("allow", "API.example.com")).toEqual({ rule: { decision: "allow", host: "api.example.com" }, scope: "task" });
    expect(rule("deny", "*.example.com").rule).toEqual({ decision: "deny", host: "*.example.com" });
  });

  it("takes all that a rule can say, as the contract has it", () => {
    const { rule: made, scope } = rule(
      "allow",
      "nas.example",
      ...["--method", "get,Head", "--method", "POST", "--path", "/repos/**", "--path=/x", "--port", "8443", "--for", "run", "--upgrade"],
      ...[
        "--credentials",
        "guest",
        "--private",
        "192.168.1.0/24",
        "--requests",
        "5",
        "--bytes",
        "10m",
        "--until",
        "2h",
        "--reason",
        "backup",
      ],
    );
    expect(made).toEqual({
      decision: "allow",
      host: "nas.example",
      methods: ["GET", "HEAD", "POST"],
      paths: ["/repos/**", "/x"],
      port: 8443,
      upgrade: true,
      credentials: "guest",
      private: "192.168.1.0/24",
      requests: 5,
      bytes: 10_485_760,
      until: "2026-11-25T14:00:00.000Z",
      reason: "backup",
    });
    expect(ruleDraft.parse(made)).toEqual(made);
    expect(scope).toBe("run");
  });

  it.each([
    ["https://api.example.com/v1/x", "api.example.com with --path '/v1/x'"],
    ["user@api.example.com", "Write the host alone"],
    ["2001:db8::1", "[2001:db8::1]"],
    ["bücher.example", "xn--bcher-kva.example"],
    ["", "HOST:PORT"],
    [":443", "HOST:PORT"],
  ])("a host %j is refused with what to write", (host, fix) => {
    expect(() => rule("allow", host)).toThrow(
      expect.objectContaining({ problem: expect.objectContaining({ next: [expect.stringContaining(fix)] }) }),
    );
  });
  it("a host may bring its port, and IPv6 its brackets", () => {
    expect(hostArgument("a.example:8080", "x")).toEqual({ host: "a.example", port: 8080 });
    expect(hostArgument("[2001:DB8::1]:53", "x")).toEqual({ host: "[2001:db8::1]", port: 53 });
    expect(hostArgument("[::1]", "x")).toEqual({ host: "[::1]" });
  });

  it.each([
    ["a second port", ["--port", "80"], "Two ports"],
    ["a port that is none", ["--port", "70000"], "1 to 65535"],
    ["an unknown lifetime", ["--for", "ever"], "once, run, task, always"],
    ["a path without its slash", ["--path", "repos"], "begins with /"],
    ["a method that is none", ["--method", "G T"], "such as GET"],
    ["keys of somebody else", ["--credentials", "mine"], "only `guest`"],
    ["no request at all", ["--requests", "0"], "from 1 on"],
  ])("refuses %s", (_, args, message) => {
    expect(() => rule("allow", "a.example:443", ...args)).toThrow(message);
  });

  it.each([["--opaque"], ["--upgrade"], ["--credentials", "guest"], ["--private", "10.0.0.0/8"], ["--bytes", "1m"]])(
    "that refuses takes no %s, as that says what passes",
    (...args) => {
      expect(() => rule("deny", "a.example", ...args)).toThrow("says what passes");
      expect(rule("allow", "a.example", ...args).rule.decision).toBe("allow"); // control
    },
  );

  it("presets are a list, of which none stands alone", () => {
    expect(presetArguments("models,git,git", "x")).toEqual(["models", "git"]);
    expect(presetArguments("none", "x")).toEqual([]);
    expect(() => presetArguments("none,git", "x")).toThrow("none stands alone");
    expect(() => presetArguments("all", "--network")).toThrow("models");
  });

  it("hosts of run and new are rules of every method, refusals first", () => {
    const parsed = parse(words("--allow", "a.example", "--deny", "b.example:80", "--allow", "*.c.example"), {
      "--allow": "values",
      "--deny": "values",
    });
    expect(hostRules(parsed)).toEqual([
      { decision: "deny", host: "b.example", port: 80 },
      { decision: "allow", host: "a.example" },
      { decision: "allow", host: "*.c.example" },
    ]);
  });
});

describe("a key as it is typed", () => {
  const TABLE: OptionTable = {
    ...{ "--host": "values", "--as": "value", "--env": "value", "--method": "values", "--path": "values", "--query": "values" },
    ...{ "--in-body": "flag", "--from-env": "value", "--from-file": "value", "--memory": "flag" },
  };
  const binding = (...args: string[]) => bindingArguments(parse(words(...args), TABLE));

  it("works at exact hosts, as a bearer token unless something else is said", () => {
    expect(binding("--host", "API.example.com")).toEqual({ hosts: ["api.example.com"], use: "bearer" });
    const full = binding(
      ...["--host", "a.example", "--host", "b.example", "--as", "header:X-Key", "--env", "KEY", "--method", "post", "--path", "/v1/**"],
      ...["--query", "key", "--in-body"],
    );
    expect(secretBinding.parse(full)).toEqual({
      hosts: ["a.example", "b.example"],
      use: "header:X-Key",
      env: "KEY",
      methods: ["POST"],
      paths: ["/v1/**"],
      query: ["key"],
      body: true,
    });
  });

  it.each([
    ["no host", [], "needs the host"],
    ["a wildcard", ["--host", "*.example.com"], "exact hosts only"],
    ["a port", ["--host", "a.example:8443"], "without a port"],
    ["an unknown way to be sent", ["--host", "a.example", "--as", "cookie"], "bearer, x-api-key, basic"],
  ])("refuses %s", (_, args, message) => {
    expect(() => binding(...args)).toThrow(message);
  });

  it("a value where a variable's name belongs is not repeated", () => {
    const wrong = () => binding("--host", "a.example", "--env", "API_KEY=sk-live-123");
    expect(wrong).toThrow("no value");
    expect(wrong).not.toThrow("sk-live");
    expect(() => sourceArguments(parse(words("--from-env", "sk-live-123"), TABLE), undefined)).not.toThrow("sk-live");
  });

  it("comes from one place", () => {
    expect(sourceArguments(parse([], TABLE), undefined)).toEqual({ kind: "keychain" });
    expect(sourceArguments(parse([], TABLE), ["pass", "show", "x"])).toEqual({ kind: "command", argv: ["pass", "show", "x"] });
    expect(() => sourceArguments(parse(words("--memory", "--from-env", "X"), TABLE), undefined)).toThrow("one place");
    expect(() => sourceArguments(parse([], TABLE), [])).toThrow("stands last");
  });

  it("a value is one line, without the end that an editor or echo puts behind it", () => {
    expect(keyValue(Buffer.from("sk-1\r\n"))).toBe("sk-1");
    expect(keyValue(Buffer.from(" sk 1 "))).toBe(" sk 1 ");
    for (const bad of ["", "\n", "a\nb", "a\r\n\r\n", "a\x00b", "a\x85b"]) expect(() => keyValue(Buffer.from(bad))).toThrow();
    expect(() => keyValue(Buffer.from([0x61, 0xff]))).toThrow("no text");
  });
});

const request = (more: Partial<EgressRequest> = {}): EgressRequest => ({
  scheme: "https",
  host: "api.example.com",
  port: 443,
  method: "GET",
  path: "/v1",
  upgrade: false,
  ...more,
});
const HOSTILE = "x\x1b]0;owned\x07\u202e\ny\tz";
const drives = /[\x00-\x08\x0b-\x1f\x7f\u202e]/;

describe("what a guest named, as a terminal shows it", () => {
  it("a request is its method and address, with the port only where it is not the usual one", () => {
    expect(requestWords(request())).toBe("GET https://api.example.com/v1");
    expect(requestWords(request({ scheme: "http", port: 80 }))).toBe("GET http://api.example.com/v1");
    expect(requestWords(request({ port: 8443, upgrade: true }))).toBe("GET https://api.example.com:8443/v1 (upgrade)");
    expect(requestWords(request({ scheme: "opaque", port: 5432, path: "", method: "" }))).toBe("a connection to api.example.com:5432");
  });

  it("drives nothing and stays one line, wherever it stands", () => {
    const hostile = request({ host: HOSTILE, method: HOSTILE, path: `/${HOSTILE}` });
    const offer: RuleDraft = { decision: "allow", host: HOSTILE, methods: [HOSTILE], paths: [`/${HOSTILE}`] };
    const ask: AskView = {
      ...{ id: "a1", task: "work", state: "refused", domain: HOSTILE, count: 2, first: "2026-11-25T12:00:00Z", request: hostile },
      ...{ rule: "default", reason: HOSTILE, offer },
    };
    const network: NetworkView = {
      presets: [],
      rules: [{ id: "r1", scope: "task", from: "user", ...offer }],
      secrets: [],
      asks: 1,
      proxy: { host: HOSTILE, port: 3128, secret: "corp" },
      problem: HOSTILE,
    };
    const event = (kind: string, data: object): EventEnvelope => ({
      ...{ version: 1, id: 1, time: "2026-11-25T12:00:00.000Z", task: "0123456789abcdef", kind, source: "host", actor: { kind: "keeper" } },
      ...{ data: data as EventEnvelope["data"], chain: "0".repeat(64) },
    });
    const lines = [
      requestWords(hostile),
      ruleWords(offer),
      allowLine("work", offer),
      allowOption(offer) ?? "",
      askWords(ask),
      ...refusedLines("work", [ask], false),
      ...refusedLines("work", [ask], true),
      ...networkRows("work", network).flat(),
      ...eventLines(event("ask.opened", { ask: "a1", request: { ...hostile, method: "GET" }, held: true }), new Map()),
      ...eventLines(event("ask.opened", { ask: "a1", request: hostile, more: HOSTILE }), new Map()),
      ...eventLines(
        event("egress.decided", {
          entries: [1, 2].map((id) => ({
            id,
            at: 1,
            what: "decided",
            request: hostile,
            decision: "deny",
            rule: "default",
            reason: HOSTILE,
          })),
        }),
        new Map(),
      ),
    ];
    for (const line of lines) {
      expect(line).not.toMatch(drives);
      expect(line).not.toContain("\n");
    }
    expect(lines.length).toBeGreaterThan(14);
  });

  it("a host in its ASCII form stays in it", () => {
    expect(askWords({ ...ask("xn--pple-43d.com") })).toContain("https://xn--pple-43d.com/v1");
  });

  it("the command that allows it is one that a shell takes apart as it was meant", () => {
    const quote: RuleDraft = { decision: "allow", host: "*.example.com", methods: ["GET"], paths: ['/a\'b $(touch x) `y` "z"/**'] };
    expect(allowLine("work", quote)).toBe("cloche allow work '*.example.com' --method GET --path '/a'\\''b $(touch x) `y` \"z\"/**'");
    expect(allowLine("work", { decision: "allow", host: "db.example", port: 5432, opaque: true })).toBe(
      "cloche allow work db.example --port 5432 --opaque",
    );
  });

  it("an option of run allows it only where one can", () => {
    expect(allowOption({ decision: "allow", host: "a.example", port: 8443, paths: ["/x"] })).toBe("--allow a.example:8443");
    expect(allowOption({ decision: "allow", host: "a.example", opaque: true })).toBeUndefined();
    expect(refusedLines("work", [], true)).toEqual([]);
    expect(
      refusedLines("work", [{ ...ask("a.example"), offer: { decision: "allow", host: "a.example", opaque: true } }], true)[1],
    ).toContain("in a task that stays: cloche allow TASK a.example --opaque");
  });
});

function ask(host: string): AskView {
  return {
    ...{ id: "a1", task: "work", state: "pending", domain: host, count: 1, first: "2026-11-25T12:00:00Z", request: request({ host }) },
    ...{ rule: "default", reason: "", offer: { decision: "allow", host } },
  };
}

describe("an answer to an ask", () => {
  it("is one of three words or their letter, and nothing else", () => {
    expect(["a", " Allow ", "once", "o", "d", "DENY"].map(answerOf)).toEqual(["allow", "allow", "once", "once", "deny", "deny"]);
    for (const other of ["", "y", "yes", "aa", "\x1b[?1;2ca", "a d"]) expect(answerOf(other)).toBeUndefined();
  });
});
