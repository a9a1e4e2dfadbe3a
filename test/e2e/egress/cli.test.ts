import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { AskView, EgressEntry } from "../../../app/contract/index.ts";
import { Internet } from "../../doubles/internet.ts";
import { Cloche } from "../../harness/index.ts";

/** One task that runs once: what it was refused, what its user then allows, and what the end of the run says. */
describe("a run's network, from the command line", () => {
  const HOST = "api.fixture.example";
  const OTHER = "another-origin.example";
  let internet: Internet;
  let cloche: Cloche;

  beforeAll(async () => {
    internet = await Internet.create();
    await internet.origin({ name: HOST });
    await internet.origin({ name: OTHER });
    cloche = new Cloche({ inside: (file, args) => internet.command(file, args) });
  });
  afterAll(async () => {
    await cloche?.end();
    await internet?.close();
  });

  const decided = async (path: string, task = "net") =>
    (await cloche.events(task))
      .filter(({ kind }) => kind === "egress.decided")
      .flatMap(({ data }) => data.entries as EgressEntry[])
      .filter(({ request }) => request.path === path);

  it("is refused at once, says what allows it, and passes when that is done", async () => {
    const script = `curl -s -o /dev/null -w 'first %{http_code}\\n' https://${HOST}/v1/items
      curl -s https://${OTHER}/x; echo; echo asked; read -r _
      curl -s -o /dev/null -w 'second %{http_code}\\n' https://${HOST}/v1/items`;
    const going = cloche.start(["run", "--keep", "--name", "net", "-T", "--", "bash", "-c", script]);
    await going.saw("asked\n");
    const { asks } = await cloche.json<{ asks: AskView[] }>(["asks", "net"]);
    expect(asks.map(({ state, request }) => `${state} ${request.host}`).sort()).toEqual([`refused ${OTHER}`, `refused ${HOST}`]);
    await cloche.ok(["allow", "net", HOST, "--method", "GET", "--path", "/v1/items"]);
    going.process.stdin.end("\n");
    const { status, stdout, stderr } = await going.finished;
    expect(status, stderr + cloche.diagnosis()).toBe(0);
    expect(stdout).toContain("first 403\n");
    expect(stdout, "a refusal tells what to ask for").toContain(`cloche allow net ${OTHER}`);
    expect(stderr, "the end of the run names what is still refused").toMatch(
      new RegExp(`^ {2}cloche allow net ${OTHER.replaceAll(".", "\\.")} --method GET --path /x$`, "m"),
    );
    expect(stderr).not.toContain(`cloche allow net ${HOST}`);
    expect((await decided("/v1/items")).map(({ decision }) => decision)).toEqual(["deny", "allow"]);
    expect((await decided("/x")).map(({ decision }) => decision)).toEqual(["deny"]);
    const { queries, requests } = await internet.seen();
    expect(
      queries.map(({ name }) => name),
      "nothing of a refused host is resolved",
    ).not.toContain(OTHER);
    expect(requests.map(({ origin }) => origin).filter((origin) => origin !== HOST)).toEqual([]);
  });

  it("a decision is explained without a request", async () => {
    const allowed = await cloche.ok(["policy", "test", "net", "GET", `https://${HOST}/v1/items`]);
    expect(allowed.stdout).toMatch(/: allowed\n {2}rule r\d+: allow GET api\.fixture\.example \/v1\/items/);
    const asked = await cloche.ok(["policy", "test", "net", "POST", `https://${HOST}/v1/items`]);
    expect(asked.stdout).toContain("no rule decides it");
  });

  it("a key is kept without a trace of its value, and the log verifies", async () => {
    const value = `sk-canary-${"0123456789abcdef".repeat(2)}`;
    await cloche.ok(["secret", "add", "canary", "--host", HOST, "--env", "CANARY", "--memory"], { input: value });
    const said = [
      await cloche.ok(["secret", "give", "net", "canary"]),
      await cloche.ok(["secret", "ls"]),
      await cloche.ok(["show", "net"]),
      await cloche.ok(["events"]),
      await cloche.ok(["events", "export"]),
    ].map(({ stdout, stderr }) => stdout + stderr);
    expect(said.join("\n")).toContain("canary");
    expect(said.join("\n")).not.toContain(value);
    const { stdout } = await cloche.ok(["events", "verify"]);
    expect(stdout).toMatch(/^ok .*nothing was changed/);
  });

  it("E25: connections leave through the outgoing proxy that its user set, which the wall says and which is given its key; taken back, directly", async () => {
    const proxy = "proxy.fixture.example";
    const value = "employee:canary-password";
    const key = join(cloche.directory, "corp");
    writeFileSync(key, value);
    writeFileSync(join(cloche.home, "trusted.pem"), internet.authority);
    await internet.port("93.184.216.80", 3128, "proxy");
    await internet.dns({ [proxy]: ["93.184.216.80"] });
    await cloche.ok(["secret", "add", "corp", "--host", proxy, "--as", "basic", "--from-file", key]);
    await cloche.ok(["policy", "proxy", `${proxy}:3128`, "--secret", "corp"]);
    const fetched = (name: string) => [
      ...["run", "--keep", "--name", name, "--allow", HOST, "--"],
      ...["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", `https://${HOST}/${name}`],
    ];
    const connects = async () =>
      (await internet.seen()).connections.flatMap(({ first = "" }) => (first.startsWith("CONNECT ") ? first : []));

    const through = await cloche.ok(fetched("through"));
    expect(through.stdout, through.stderr).toBe("200");
    expect(through.stderr).toContain(`reach ${HOST} through your proxy ${proxy}:3128, and nothing else`);
    expect(await connects()).toEqual([expect.stringContaining(`CONNECT ${HOST}:443 HTTP/1.1`)]);
    expect((await connects()).join().toLowerCase()).toContain(
      `proxy-authorization: basic ${Buffer.from(value).toString("base64")}`.toLowerCase(),
    );
    expect(await decided("/through", "through")).toMatchObject([{ decision: "allow", resolution: "upstream" }]);
    const shown = await cloche.ok(["show", "through"]);
    expect(shown.stdout).toContain(`through the proxy ${proxy}:3128, with the key corp`);

    await cloche.ok(["policy", "proxy", "none"]);
    const directly = await cloche.ok(fetched("directly"));
    expect(directly.stdout, directly.stderr).toBe("200");
    expect(directly.stderr).not.toContain("through your proxy");
    expect(await connects()).toHaveLength(1);
    expect(await decided("/directly", "directly")).toMatchObject([{ decision: "allow", resolution: "host" }]);
    const events = (await cloche.ok(["events"])).stdout;
    expect(events).toContain(`connections of tasks leave through the proxy ${proxy}:3128, with the key corp`);
    expect(events).not.toContain(Buffer.from(value).toString("base64"));
  });
});
