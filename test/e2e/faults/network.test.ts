/**
 * What breaks on the way out of a task, as its guest sees it and as those see it who were reached: the proxy is killed, the origin is slow,
 * dead or false, the events cannot be written. Needs root, for an internet and a small filesystem of its own.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { EgressEntry } from "../../../app/contract/index.ts";
import { Internet } from "../../doubles/internet.ts";
import { Cloche, hostState } from "../../harness/index.ts";
import { historyIsWhole, keeperPid, proxyPid, until } from "./support.ts";

const API = "api.fixture.example";
const cloche = new Cloche({ inside: (file, args) => internet.command(file, args) });
const filler = join(cloche.home, "filler");
const mounts = hostState([cloche.home]).mounts;
let internet: Internet;

beforeAll(async () => {
  internet = await Internet.create();
  await internet.origin({ name: API });
  await internet.origin({ name: "expired.fixture.example", certificate: "expired" });
  await internet.origin({ name: "unknown.fixture.example", certificate: "unknown-authority" });
  await internet.port("93.184.216.99", 443, "reset");
  await internet.dns({ "reset.fixture.example": ["93.184.216.99"], "dead.fixture.example": ["93.184.216.98"] });
  await internet.port("93.184.216.98", 9, "silent"); // the address is somebody's, and nobody listens at 443
  mkdirSync(cloche.home, { mode: 0o700 });
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=400m,mode=0700", "none", cloche.home]);
  writeFileSync(join(cloche.home, "trusted.pem"), internet.authority);
  await cloche.ok(["new", "net", "--allow", "*.fixture.example"]);
  await cloche.ok(["start", "net"]);
});
afterAll(async () => {
  rmSync(filler, { force: true });
  try {
    await cloche.run(["stop", "--now", "net"]);
    await cloche.quiet(15_000);
  } finally {
    execFileSync("umount", ["-l", cloche.home]);
    await cloche.end();
    await internet?.close();
  }
  expect(hostState([cloche.home]).mounts).toBe(mounts);
});

const sh = (script: string) => cloche.run(["exec", "net", "--", "bash", "-c", script]);
const restarts = async () => (await cloche.events("net")).filter(({ kind }) => kind === "egress.restarted");

describe.skipIf(process.getuid?.() !== 0)("a guest's way out (needs root)", () => {
  it("an origin that is slow, absent, dead, resetting or falsely certified is told apart, in the guest", async () => {
    const ask = (path: string) => `curl -s -m 60 -w ' %{http_code}\\n' https://${path}`;
    const hosts = ["expired", "unknown", "reset", "dead", "absent"].map((name) => `${name}.fixture.example/`);
    const { stdout } = await sh([`${API}/events`, ...hosts].map(ask).join("; "));
    const answers = stdout.trim().split(/ (?=\d{3}$)|(?<= \d{3})\n/m);
    expect(answers[0]).toContain("data: 5");
    const codes = [...stdout.matchAll(/"code":"([a-z.-]+)"/g)].map(([, code]) => code);
    expect(codes).toEqual(["upstream.certificate", "upstream.certificate", "upstream.reset", "upstream.refused", "upstream.name"]);
    expect(stdout).toContain("expired");
    expect(stdout).toContain("not trusted");
    expect([...stdout.matchAll(/ (\d{3})$/gm)].map(([, status]) => status)).toEqual(["200", "502", "502", "502", "502", "502"]);
    expect((await internet.seen()).requests.map(({ origin }) => origin)).toEqual([API]);
  });

  it("its proxy is killed in the middle of a transfer each way: nothing more leaves, the next request passes, and one event tells", async () => {
    const { id } = await cloche.task("net");
    const before = proxyPid(cloche, id);
    await internet.forget();
    const time = "-w '%{time_total} '";
    const script = `yes canary-in-a-body | head -c 2000000000 | curl -sS -m 100 ${time} -T - https://${API}/up & up=$!
      curl -sS -m 100 ${time} -o /dev/null https://${API}/bytes/20000000000; echo "down $?"; wait $up; echo "up $?"`;
    const going = cloche.start(["exec", "net", "--", "bash", "-c", script]);
    await until("both transfers", async () => {
      const { requests } = await internet.seen();
      return requests.length === 2 && requests.some(({ bodyBytes }) => bodyBytes > 1_000_000);
    });
    process.kill(before, "SIGKILL");
    const { stdout } = await going.finished;
    expect(stdout).toMatch(/down [1-9]\d*$/m);
    expect(stdout).toMatch(/up [1-9]\d*$/m);
    const seconds = [...stdout.matchAll(/(\d+\.\d+) /g)].map(([, text]) => Number(text));
    expect(seconds, "both are told, and wait for no limit of their own").toHaveLength(2);
    expect(Math.max(...seconds)).toBeLessThan(60);
    const { requests } = await internet.seen();
    expect(requests.find(({ target }) => target === "/up")?.bodyBytes).toBeLessThan(2_000_000_000);
    expect(requests, "nothing was sent again").toHaveLength(2);

    await internet.forget();
    expect((await sh(`curl -s -o /dev/null -w '%{http_code}' https://${API}/after; curl -s https://no.other.example/`)).stdout).toMatch(
      /^200\{"error":\{"code":"policy.no-rule"/,
    );
    expect((await internet.seen()).requests.map(({ target }) => target)).toEqual(["/after"]);
    expect(proxyPid(cloche, id)).not.toBe(before);
    expect((await restarts()).map(({ data }) => data.why)).toEqual(["SIGKILL"]);
  });

  it("what it asks for cannot be written down: nothing leaves, and with room again it passes; the log is whole", async () => {
    const { bavail, bsize } = statfsSync(cloche.home);
    await sh("sync");
    await internet.forget();
    writeFileSync(filler, Buffer.alloc(bavail * bsize - (4 << 20))); // into the events' reserve, which is 8 MB of this disk
    const { stdout } = await sh(`for host in ${API} ${API} refused.example; do curl -s -m 60 https://$host/unrecorded & done; wait`);
    expect([...stdout.matchAll(/"code":"([a-z.-]+)"/g)].map(([, code]) => code)).toEqual(Array(3).fill("proxy.record"));
    expect(await internet.seen()).toEqual({ requests: [], connections: [], queries: [] });
    rmSync(filler);
    await until(
      "a request that passes",
      async () => (await sh(`curl -s -m 60 -o /dev/null -w '%{http_code}' https://${API}/again`)).stdout === "200",
    );
    expect((await internet.seen()).requests.every(({ target }) => target === "/again")).toBe(true);
    historyIsWhole(cloche);
    expect((await cloche.ok(["events", "verify"])).stdout).toMatch(/^ok .*nothing was changed/);
    const decided = (await cloche.events("net")).filter(({ kind }) => kind === "egress.decided");
    expect(JSON.stringify(decided), "and tells what was asked for meanwhile").toContain("/unrecorded");
  });

  it("the keeper hangs, and is killed: what left in its silence was written down; the next keeper tells of each request, once", async () => {
    await internet.forget();
    // one connection: a hung keeper hands no new one over
    const going = cloche.start(["exec", "net", "--", "sh", "-c", `curl -s -o /dev/null "https://${API}/silent/[1-100000]"`]);
    const seen = async () => (await internet.seen()).requests.map(({ target }) => target);
    await until("requests", async () => (await seen()).length > 20);
    const keeper = keeperPid(cloche);
    process.kill(keeper, "SIGSTOP");
    const before = (await seen()).length;
    // bounded: without a word from its keeper the proxy soon lets nothing leave
    let last = -1;
    await until("the end of requests", async () => {
      const now = (await seen()).length;
      const still = now === last;
      last = now;
      await new Promise((resolve) => setTimeout(resolve, still ? 0 : 1_500));
      return still;
    });
    expect(last, "it went on meanwhile").toBeGreaterThan(before);
    process.kill(keeper, "SIGKILL");
    await going.finished;
    const reached = await seen();
    expect(await cloche.task("net")).toMatchObject({ state: { at: "failed", problem: { code: "task.interrupted" } } });
    const told = (await cloche.events("net"))
      .filter(({ kind }) => kind === "egress.decided")
      .flatMap(({ data }) => (data.entries as EgressEntry[]).map(({ request }) => request.path))
      .filter((path) => path.startsWith("/silent/"));
    expect(new Set(told).size, "none twice").toBe(told.length);
    expect(reached.filter((path) => !told.includes(path))).toEqual([]);
    historyIsWhole(cloche);
    expect((await cloche.ok(["events", "verify"])).stdout).toMatch(/^ok .*nothing was changed/);
  });
});
