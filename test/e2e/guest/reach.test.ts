import { spawn } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Cloche } from "../../harness/index.ts";

const cloche = new Cloche();

beforeAll(async () => {
  await cloche.ok(["new", "reach", "--disk", "40g"]);
  await cloche.ok(["start", "reach"]);
});
afterAll(() => cloche.end());

/** A port of this machine that was free a moment ago. */
function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

describe("a running task is reached from this machine, when its user asks for it", () => {
  it("without folders, commands begin in ~/files", async () => {
    expect((await cloche.ok(["exec", "reach", "--", "sh", "-c", "echo kept > note; pwd"])).stdout).toBe("/home/you/files\n");
    expect((await cloche.ok(["exec", "reach", "--", "cat", "note"])).stdout).toBe("kept\n");
  });

  it("a disk that is larger than the template is there to its size", async () => {
    const { stdout } = await cloche.ok(["exec", "reach", "--", "df", "--output=size", "-BG", "/"]);
    expect(Number.parseInt(stdout.split("\n")[1] ?? "", 10)).toBeGreaterThanOrEqual(39);
    expect((await cloche.run(["new", "small", "--disk", "1g"])).stderr).toContain("at least 16 GiB");
  });

  it("a forwarded port answers while the command runs, and is closed after it", async () => {
    const server = cloche.start(["exec", "reach", "--", "python3", "-u", "-m", "http.server", "3000", "--bind", "127.0.0.1"]);
    await server.saw("Serving HTTP");
    const port = await freePort();
    await expect(fetch(`http://127.0.0.1:${port}/`)).rejects.toThrow();
    const forward = cloche.start(["forward", "reach", `3000:${port}`]);
    await forward.saw("leads to port 3000");
    const page = await fetch(`http://127.0.0.1:${port}/`);
    expect(await page.text()).toContain("note");
    forward.process.kill("SIGINT");
    expect((await forward.finished).status).toBe(0);
    await expect(fetch(`http://127.0.0.1:${port}/`)).rejects.toThrow();
    server.process.kill("SIGTERM");
    await server.finished;
    expect((await cloche.events("reach")).filter((event) => event.kind === "ssh.opened").map((event) => event.data.purpose)).toEqual([
      "forward",
    ]);
  });

  it("a port that is in use here, and one that is none, are refused", async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
    const { port } = taken.address() as { port: number };
    const finished = await cloche.run(["forward", "reach", `3000:${port}`]);
    taken.close();
    expect([finished.status, finished.stderr]).toEqual([125, expect.stringContaining("is in use")]);
    expect((await cloche.run(["forward", "reach", "70000"])).status).toBe(125);
  });

  it("ssh-config is enough for OpenSSH's own client, warns of attached editors, and its key goes with the machine", async () => {
    const { stdout, stderr } = await cloche.ok(["ssh-config", "reach"]);
    expect(stderr).toContain("an editor that you attach lets the task act in it");
    const file = join(cloche.directory, "ssh_config");
    writeFileSync(file, stdout);
    const child = spawn("/usr/bin/ssh", ["-F", file, "cloche-reach", "hostname; id -un"], {
      env: { ...cloche.env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let seen = "";
    child.stdout.on("data", (chunk) => {
      seen += chunk;
    });
    child.stderr.on("data", (chunk) => {
      seen += chunk;
    });
    const status = await new Promise((resolve) => child.once("close", resolve));
    expect([status, seen]).toEqual([0, "reach\nyou\n"]);
    const key = /IdentityFile "(.*)"/.exec(stdout)?.[1] ?? "";
    expect(existsSync(key)).toBe(true);
    await cloche.ok(["stop", "reach"]);
    expect(existsSync(key)).toBe(false);
  });
});
