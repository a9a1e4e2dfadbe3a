/** What a task may reach, and keys, on the real command line with a keeper without machines. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type CommandLine, startCommandLine, terminals } from "../../test/doubles/command-line.ts";
import type { EventEnvelope, TaskView } from "../contract/index.ts";

let line: CommandLine;
beforeEach(async () => {
  line = await startCommandLine();
});
afterEach(() => line.close());

// each test starts real programs, which on a busy machine takes seconds
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

/** Runs and expects status 0; what reads input is a program of its own. */
async function ok(args: readonly string[], input?: string) {
  const ended = await (input === undefined && args[0] !== "run" ? line.here(args) : line.cloche(args, input));
  expect(ended.stderr + ended.stdout, args.join(" ")).toSatisfy(() => ended.status === 0);
  return ended;
}
const task = async (name: string): Promise<TaskView> => JSON.parse((await ok(["show", name, "--json"])).stdout);

describe("a run that was refused something", () => {
  it("ends with the option that lets it through, as the task is gone; allowed, it ends without a word of it", async () => {
    const refused = await ok(["run", "-T", "--", "fetch", "https://api.example.com/v1/items"]);
    expect(refused.stdout).toContain("refused (default)");
    expect(refused.stderr).toContain("1 host was asked for and not allowed");
    expect(refused.stderr).toContain("  --allow api.example.com   # GET https://api.example.com/v1/items");
    const allowed = await ok(["run", "-T", "--allow", "api.example.com", "--", "fetch", "https://api.example.com/v1/items"]);
    expect(allowed.stdout).toContain("allowed (r");
    expect(allowed.stderr).not.toContain("--allow");
  });

  it("in a task that is kept, ends with the exact command, which works", async () => {
    const { stderr } = await ok(["run", "--keep", "--name", "kept", "-T", "--", "fetch", "https://api.example.com/v1/it'ems"]);
    const command = /^ {2}cloche (allow kept .*)$/m.exec(stderr)?.[1] ?? "";
    expect(command).toBe("allow kept api.example.com --method GET --path '/v1/it'\\''ems'");
    await ok(["allow", "kept", "api.example.com", "--method", "GET", "--path", "/v1/it'ems"]);
    expect((await ok(["asks", "kept"])).stderr).toContain("nothing was asked for");
    expect((await ok(["policy", "test", "kept", "get", "https://api.example.com/v1/it'ems"])).stdout).toContain(": allowed");
  });

  it("with --ask and no terminal is not started", async () => {
    const { status, stderr } = await line.cloche(["run", "--ask", "-T", "--", "true"]);
    expect(status).toBe(125);
    expect(stderr).toContain("Leave --ask out");
    expect(line.keeper.called).not.toContain("tasks.create");
  });

  const QUESTION = "or deny it (d)? ";
  const answers = (...typed: string[]) => typed.map((answer) => ({ question: QUESTION, answer }));
  it.runIf(terminals)("with --ask is asked between its lines: what is no answer is asked again, then the request goes on", async () => {
    const args = ["run", "--ask", "--keep", "--name", "asked", "--", "fetch https://api.example.com/v1"];
    const { shown, status } = await line.onTerminal(args, answers("yes", "a"));
    expect(status).toBe(0);
    expect(shown).toContain("asked asks for GET https://api.example.com/v1");
    expect(shown).toContain("the rule: allow GET api.example.com /v1");
    expect(shown).toContain("type a, once or d");
    expect(shown).toContain("fetch: https://api.example.com/v1: allowed");
    expect(shown).toMatch(/`cloche policy rm asked r\d+` takes it back/);
    expect((await task("asked")).network.rules).toMatchObject([
      { decision: "allow", scope: "task", host: "api.example.com", paths: ["/v1"] },
    ]);
  });
  it.runIf(terminals)("E27: makes the rule that was shown, whatever the task asks for before the answer arrives", async () => {
    const { network } = line.keeper;
    const answer = network.answer.bind(network);
    let id = "";
    const request = network.request.bind(network);
    network.request = (of, ...rest) => {
      id = of.id;
      return request(of, ...rest);
    };
    network.answer = (...given) => {
      const other = { scheme: "https", host: "api.example.com", port: 443, method: "POST", path: "/evil", upgrade: false } as const;
      void request({ id, name: "asked" }, other, () => {});
      return answer(...given);
    };
    const args = ["run", "--ask", "--keep", "--name", "asked", "--", "fetch https://api.example.com/v1"];
    const { shown } = await line.onTerminal(args, answers("a"));
    expect(shown).toContain("the rule: allow GET api.example.com /v1");
    expect((await task("asked")).network.rules).toMatchObject([
      { decision: "allow", host: "api.example.com", methods: ["GET"], paths: ["/v1"] },
    ]);
  });
  it.runIf(terminals).each([
    ["once", "allowed", 0],
    ["d", "refused", 1],
  ])("answers %s", async (answer, outcome, rules) => {
    const args = ["run", "--ask", "--keep", "--name", "asked", "--", "fetch https://api.example.com/v1"];
    const { shown } = await line.onTerminal(args, answers(answer));
    expect(shown).toContain(`fetch: https://api.example.com/v1: ${outcome}`);
    expect((await task("asked")).network.rules.filter(({ scope }) => scope === "task")).toHaveLength(rules);
  });
  it.runIf(terminals)("whose terminal is the command's is told in one line, and answered by `cloche allow` elsewhere", async () => {
    const going = line.onTerminal(["run", "--ask", "-t", "--keep", "--name", "raw", "--", "fetch https://api.example.com/v1"], []);
    await vi.waitFor(async () => expect((await line.keeper.network.asks(undefined, undefined, 0)).asks).toHaveLength(1), {
      timeout: 30_000,
    });
    await ok(["allow", "raw", "api.example.com"]);
    const { shown } = await going;
    expect(shown).toContain("in another terminal: cloche allow raw api.example.com --method GET --path /v1");
    expect(shown).not.toContain(QUESTION);
    expect(shown).toContain(": allowed");
  });
  it.runIf(terminals)("whose question is answered elsewhere goes on without an answer here", async () => {
    const going = line.onTerminal(["run", "--ask", "--keep", "--name", "asked", "--", "fetch https://api.example.com/v1"], []);
    await vi.waitFor(async () => expect((await line.keeper.network.asks(undefined, undefined, 0)).asks).toHaveLength(1), {
      timeout: 30_000,
    });
    await ok(["deny", "asked", "api.example.com"]);
    const { shown, status } = await going;
    expect(status).toBe(0);
    expect(shown).toContain("fetch: https://api.example.com/v1: refused");
    expect(shown, "asked and taken back, or never asked").toSatisfy(
      (text: string) => text.includes(QUESTION) === text.includes("nobody waits for that answer any more"),
    );
  });
  it.runIf(terminals)("is not answered by what was typed before the question", async () => {
    const going = line.onTerminal(
      ["asks", "-f"],
      [
        { question: "Ctrl-C ends it.", answer: "a" },
        { question: QUESTION, answer: "d" },
        { question: "takes it back", answer: "\x03" },
      ],
    );
    await vi.waitFor(() => expect(line.keeper.called).toContain("asks.watch"), { timeout: 30_000 });
    const { stdout } = await ok(["run", "-T", "--", "fetch https://api.example.com/v1"]);
    expect(stdout).toContain("refused");
    expect((await going).shown).toMatch(/rule r\d+: deny GET api\.example\.com/);
  });
  it("a terminal can be had for these tests", () => {
    if (!terminals) console.warn("IGNORED: script(1) is not installed, so the question on a terminal was not asked");
  });
});

describe("rules of a task", () => {
  it("are made, shown, explained and taken back; the wall says them", async () => {
    const made = await ok(["new", "work", "--network", "git,packages", "--allow", "api.example.com:8443", "--deny", "evil.example"]);
    expect(made.stderr).toContain("reach hosts for git, hosts for packages, api.example.com");
    const allowed = await ok([
      "allow",
      "work",
      "*.example.org",
      "--method",
      "get,head",
      "--path",
      "/repos/**",
      "--reason",
      "the issue tracker",
    ]);
    expect(allowed.stderr).toMatch(/rule r\d+: allow GET,HEAD \*\.example\.org \/repos\/\*\* \(the issue tracker\), for this task/);
    const { rules, presets } = (await task("work")).network;
    expect(presets).toEqual(["git", "packages"]);
    expect(rules.map(({ decision, host }) => `${decision} ${host}`)).toEqual([
      "allow *.example.org",
      "deny evil.example",
      "allow api.example.com",
    ]);
    const shown = await ok(["show", "work"]);
    expect(shown.stdout).toMatch(/network +git, packages/);
    expect(shown.stdout).toContain("deny evil.example, for this task");
    const policy = await ok(["policy", "show", "work"]);
    expect(policy.stdout).toContain("preset packages: 3 rules (--all shows them)");
    expect((await ok(["policy", "show", "work", "--all"])).stdout).toContain("packages/3");
    const tested = await ok(["policy", "test", "work", "GET", "https://evil.example/x"]);
    expect(tested.stdout).toMatch(/^GET https:\/\/evil\.example\/x: refused\n {2}rule r\d+: deny evil\.example\n/);
    await ok(["policy", "rm", "work", rules[0]?.id ?? ""]);
    await ok(["policy", "network", "work", "none"]);
    expect((await task("work")).network).toMatchObject({ presets: [], rules: [{ host: "evil.example" }, { host: "api.example.com" }] });
  });

  it("are imported and exported, and what has no counterpart is told", async () => {
    await ok(["new", "work"]);
    writeFileSync(join(line.directory, "srt.json"), '{"network": {"allowedDomains": ["a.example", "b.example"]}}');
    expect((await ok(["policy", "import", "work", join(line.directory, "srt.json")])).stderr).toContain("filesystem: ");
    expect(JSON.parse((await ok(["policy", "export", "work"])).stdout)).toEqual({
      network: { allowedDomains: ["b.example", "a.example"] },
    });
    await ok(["policy", "import", "work", "-"], '{"network": {"allowedDomains": []}}');
    expect((await task("work")).network.rules).toEqual([]);
    const missing = await line.here(["policy", "import", "work", "none.json"]);
    expect(missing).toMatchObject({ status: 125, stderr: expect.stringContaining("nothing was imported") });
  });

  it("replay tells what a rule would have changed, and only that", async () => {
    await ok(["run", "--keep", "--name", "work", "-T", "--", "fetch", "https://api.example.com/v1"]);
    expect((await ok(["policy", "replay", "work"])).stderr).toContain("1 request looked at, none would be decided otherwise");
    const { stdout } = await ok(["policy", "replay", "work", "--allow", "api.example.com", "--since", "24h"]);
    expect(stdout).toContain("GET https://api.example.com/v1: was refused (rule default), would be allowed");
  });

  it("every printing verb has --json", async () => {
    await ok(["run", "--keep", "--name", "work", "-T", "--", "fetch", "https://api.example.com/v1"]);
    await ok(["secret", "add", "api", "--host", "api.example.com"], "value");
    for (const args of [
      ["asks"],
      ["allow", "work", "a.example"],
      ["policy", "show", "work"],
      ["policy", "test", "work", "GET", "https://a.example/"],
      ["policy", "network", "work", "git"],
      ["policy", "replay", "work"],
      ["secret", "ls"],
      ["secret", "test", "api"],
      ["secret", "give", "work", "api"],
      ["secret", "take", "work", "api"],
      ["events", "verify"],
    ])
      expect(JSON.parse((await ok([...args, "--json"])).stdout), args.join(" ")).toBeTypeOf("object");
  });
});

describe("keys", () => {
  const VALUE = "sk-live-0123456789abcdef";

  it("come through a pipe, are given to tasks and taken away, and their values are printed nowhere", async () => {
    const said: string[] = [];
    const say = async (args: readonly string[], input?: string) => {
      const { stdout, stderr } = await ok(args, input);
      said.push(stdout, stderr);
    };
    await say(["secret", "add", "api", "--host", "api.example.com", "--as", "header:X-Key", "--env", "API_KEY"], `${VALUE}\n`);
    expect(line.keeper.network.values.get("api"), "the line's end is not part of it").toBe(VALUE);
    await say(["new", "work", "--secret", "api"]);
    expect((await task("work")).network.secrets).toEqual([{ name: "api", hosts: ["api.example.com"], env: "API_KEY" }]);
    for (const args of [
      ["secret", "ls"],
      ["secret", "test", "api"],
      ["show", "work"],
      ["secret", "take", "work", "api"],
      ["events"],
      ["events", "export"],
    ])
      await say(args);
    expect(said.join("")).toMatch(/key +api works at api\.example\.com, stand-in in \$API_KEY/);
    expect(said.join("")).toMatch(/secret\.added by cli {2}key api works at api\.example\.com, kept in: keychain/);
    expect((await task("work")).network.secrets).toEqual([]);
    await say(["secret", "rm", "api"]);
    expect(said.join("")).not.toContain(VALUE);
  });

  it("may be kept elsewhere, and then nothing is read here", async () => {
    await ok(["secret", "add", "one", "--host", "a.example", "--from-env", "TOKEN"]);
    await ok(["secret", "add", "two", "--host", "a.example", "--from-file", "/run/key.txt"]);
    await ok(["secret", "add", "three", "--host", "a.example", "--host", "b.example", "--from-command", "pass", "show", "--host", "it s"]);
    expect(line.keeper.network.secrets().map(({ source }) => source)).toEqual([
      { kind: "env", name: "TOKEN" },
      { kind: "file", path: "/run/key.txt" },
      { kind: "command", argv: ["pass", "show", "--host", "it s"] },
    ]);
    expect(line.keeper.network.values.size).toBe(0);
    expect((await ok(["secret", "ls"])).stdout).toContain("command pass show --host 'it s'");
  });

  it("as a word of the command line are refused, and not repeated", async () => {
    const { status, stderr, stdout } = await line.here(["secret", "add", "api", VALUE, "--host", "a.example"]);
    expect(status).toBe(125);
    expect(stderr).toContain("other programs can read a command line");
    expect(stderr + stdout).not.toContain(VALUE);
  });

  it.each([
    ["nothing", "\n", "No value came"],
    ["two lines", `${VALUE}\n${VALUE}\n`, "one line"],
    ["too much", "x".repeat(16_385), "at most"],
  ])("that are %s are refused", async (_, input, message) => {
    const { status, stderr } = await line.cloche(["secret", "add", "api", "--host", "a.example"], input);
    expect(status).toBe(125);
    expect(stderr).toContain(message);
    expect(stderr).not.toContain(VALUE);
    expect(line.keeper.called).not.toContain("secrets.add");
  });

  it("are not asked for where no keychain could keep them, unless they need none", async () => {
    line.keeper.network.keychain = { usable: false, text: "No keychain answers." };
    const { status, stderr } = await line.here(["secret", "add", "api", "--host", "a.example"]);
    expect(status).toBe(125);
    expect(stderr).toContain("--memory");
    await ok(["secret", "add", "api", "--host", "a.example", "--memory"], VALUE);
  });

  it.runIf(terminals)("are typed on a terminal without being shown", async () => {
    const { shown, status } = await line.onTerminal(
      ["secret", "add", "api", "--host", "a.example"],
      [{ question: "which is not shown: ", answer: `${VALUE}x\x7f` }],
    );
    expect(status).toBe(0);
    expect(shown).not.toContain(VALUE);
    expect(line.keeper.network.values.get("api")).toBe(VALUE);
  });
});

describe("the outgoing proxy", () => {
  it("is set for every task, shown with each and told in the events; none again, it is gone", async () => {
    await ok(["new", "work"]);
    expect((await ok(["policy", "proxy"])).stdout).toContain("leave directly");
    const { stderr } = await ok(["policy", "proxy", "Proxy.example.com:3128", "--secret", "corp"]);
    expect(stderr).toContain("tasks that start from now on leave through the proxy proxy.example.com:3128, with the key corp");
    expect((await ok(["policy", "proxy"])).stdout).toContain("leave through the proxy proxy.example.com:3128");
    expect((await ok(["show", "work"])).stdout).toMatch(/^leaves +through the proxy proxy\.example\.com:3128, with the key corp$/m);
    await ok(["policy", "proxy", "none"]);
    expect((await ok(["show", "work"])).stdout).not.toContain("leaves");
    expect(JSON.parse((await ok(["policy", "proxy", "--json"])).stdout)).toEqual({});
    const events = (await ok(["events"])).stdout;
    expect(events).toContain("connections of tasks leave through the proxy proxy.example.com:3128, with the key corp");
    expect(events).toContain("connections of tasks leave directly");
  });

  it.each([
    ["an address of a page", ["http://proxy.example.com:3128/"]],
    ["a host without its port", ["proxy.example.com"]],
    ["a user and password, which a list of programs would show", ["employee:canary@proxy.example.com:3128"]],
    ["a key for none", ["none", "--secret", "corp"]],
    ["two of them", ["a.example:1", "b.example:2"]],
  ])("%s is refused, and nothing is set", async (_, args) => {
    const { status, stderr } = await line.here(["policy", "proxy", ...args]);
    expect(status).toBe(125);
    expect(stderr).toMatch(/^ +→ /m);
    expect(stderr).not.toContain("canary");
    expect(line.keeper.called).not.toContain("policy.setProxy");
  });
});

describe("events of what a task reached", () => {
  it("are sentences, one object a line when exported, and verified", async () => {
    await ok(["run", "--keep", "--name", "work", "-T", "--", "fetch", "https://api.example.com/v1"]);
    const { stdout } = await ok(["events", "work"]);
    expect(stdout).toContain("egress.decided  refused GET https://api.example.com/v1: No rule says");
    expect(stdout).toContain("GET https://api.example.com/v1: no rule decides it, refused (a");
    const exported = (await ok(["events", "export", "work"])).stdout.trimEnd().split("\n");
    expect(exported.map((text) => (JSON.parse(text) as EventEnvelope).kind)).toContain("egress.decided");
    expect((await ok(["events", "verify"])).stdout).toMatch(/^ok .*nothing was changed.*\nwarning +unanchored: /);
  });
});
