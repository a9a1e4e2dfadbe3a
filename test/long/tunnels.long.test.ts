/** E22, from real guests: one takes all that its way out can hold; the other one and the host notice little. Needs root, for an internet. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Internet } from "../doubles/internet.ts";
import { keeperPid, megabytes, openPorts, proxyPid } from "../e2e/faults/support.ts";
import { Cloche } from "../harness/index.ts";

const API = "api.fixture.example";
const cloche = new Cloche({ inside: (file, args) => internet.command(file, args) });
let internet: Internet;

beforeAll(async () => {
  internet = await Internet.create();
  await internet.origin({ name: API });
  mkdirSync(cloche.home, { mode: 0o700 });
  writeFileSync(join(cloche.home, "trusted.pem"), internet.authority);
  await cloche.ok(["new", "net", "--allow", API]);
  await cloche.ok(["start", "net"]);
});
afterAll(async () => {
  await cloche.end();
  await internet?.close();
});

it("E22: another task holds 10,000 half-open tunnels: its own way out and the host stay within bounds, this task's requests keep their latency", async () => {
  const measure = async () => {
    const { stdout } = await cloche.run([
      "exec",
      "net",
      "--",
      "bash",
      "-c",
      `for n in $(seq 15); do curl -s -o /dev/null -w '%{http_code} %{time_total}\\n' https://${API}/; done`,
    ]);
    const lines = stdout
      .trim()
      .split("\n")
      .map((line) => line.split(" "));
    expect(lines.map(([status]) => status)).toEqual(Array(15).fill("200"));
    return lines.map(([, seconds]) => Number(seconds) * 1000).sort((a, b) => a - b);
  };
  await cloche.ok(["new", "flood", "--allow", API]);
  await cloche.ok(["start", "flood"]);
  const flood = (await cloche.task("flood")).id;
  const [port] = openPorts(cloche, flood);
  const alone = await measure();
  const program = `
import resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
streams = []
for n in range(10000):
  s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM); s.settimeout(10)
  try: s.connect((2, ${port})); s.sendall(b"connect ${API} 443\\n" if n % 2 else b"connect ")
  except OSError: s.close(); continue
  streams.append(s)
  if n % 1000 == 0: print("opened", n, flush=True)
print("all", len(streams), flush=True)
sys.stdin.readline()`;
  const going = cloche.start(["exec", "flood", "--", "sudo", "python3", "-c", program]);
  await going.saw("opened 1000");
  const beside = await measure();
  await going.saw("all ");
  const memory = { keeper: megabytes(keeperPid(cloche)), proxy: megabytes(proxyPid(cloche, flood)) };
  going.process.stdin.end("\n");
  const { stdout } = await going.finished;
  const median = (of: number[]) => of[Math.floor(of.length / 2)] ?? 0;
  process.stderr.write(
    `E22: median ${median(alone).toFixed(0)} ms alone, ${median(beside).toFixed(0)} ms (slowest ${beside.at(-1)?.toFixed(0)} ms) beside ${/all (\d+)/.exec(stdout)?.[1]} streams; keeper ${memory.keeper.toFixed(0)} MB, its proxy ${memory.proxy.toFixed(0)} MB\n`,
  );
  expect(beside.at(-1), "each of them").toBeLessThan(10_000);
  expect(memory.keeper).toBeLessThan(400);
  expect(memory.proxy).toBeLessThan(500);
  const own = await cloche.run([
    "exec",
    "flood",
    "--",
    "curl",
    "-s",
    "-m",
    "60",
    "-o",
    "/dev/null",
    "-w",
    "%{http_code}",
    `https://${API}/own`,
  ]);
  expect(own.stdout, "its own requests pass once it has let go").toBe("200");
  expect((await cloche.events("flood")).filter(({ kind }) => kind === "egress.restarted" || kind === "task.failed")).toEqual([]);
});
