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

  const decided = async (path: string) =>
    (await cloche.events("net"))
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
});
