import { spawn } from "node:child_process";
import { readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
// @ts-expect-error: the bootstrap is plain JavaScript, which has no types
import { download, progressMeter, redirectTarget } from "./download.mjs";
import { code, noise, Site, sha256 } from "./release-support.ts";

let site: Site;

beforeEach(async () => {
  site = await Site.open();
});

afterEach(() => site.end());

const fetchFile = (file: Buffer, more = {}): Promise<string> =>
  download({
    url: `${site.origin}/image.tar`,
    sizeBytes: file.length,
    sha256: sha256(file),
    folder: join(site.folder, "downloads"),
    backoffMs: 1,
    progressBytes: 1,
    ...more,
  });

describe("a download", () => {
  const file = noise(3_000_000, "image");

  test("brings the whole file", async () => {
    site.serve(file);
    expect(readFileSync(await fetchFile(file)).equals(file)).toBe(true);
    expect(site.requests).toEqual([{ path: "/image.tar" }]);
  });

  test("that is cut goes on at the very byte, as often as it takes", async () => {
    const cuts = [1, 700_001, 65_536, 1_234_567];
    const left = [...cuts];
    site.serve(file, () => ({ cutAfter: left.shift() }));
    expect(readFileSync(await fetchFile(file)).equals(file)).toBe(true);
    const expected = cuts.map((_, n) => {
      const at = cuts.slice(0, n + 1).reduce((sum, cut) => sum + cut);
      return { path: "/image.tar", range: `bytes=${at}-`, ifRange: '"one"' };
    });
    expect(site.requests).toEqual([{ path: "/image.tar" }, ...expected]);
  });

  test("starts anew when the server has another file by now", async () => {
    const old = noise(file.length, "old");
    site.serve(old, () => ({ etag: '"old"', cutAfter: 1_000_000 }));
    expect(await code(fetchFile(file, { attempts: 1 }))).toContain("build.release-unreachable");
    expect(statSync(join(site.folder, "downloads", `${sha256(file)}.part`)).size).toBe(1_000_000);
    site.serve(file, () => ({ etag: '"new"' }));
    site.requests = [];
    expect(readFileSync(await fetchFile(file)).equals(file)).toBe(true);
    expect(site.requests).toEqual([{ path: "/image.tar", range: "bytes=1000000-", ifRange: '"old"' }]);
  });

  test("finds a mixture of two files also where the server names no version, and fetches the file whole", async () => {
    site.serve(noise(file.length, "old"), () => ({ etag: null, cutAfter: 1_000_000 }));
    expect(await code(fetchFile(file, { attempts: 1 }))).toContain("build.release-unreachable");
    site.serve(file, () => ({ etag: null }));
    site.requests = [];
    expect(readFileSync(await fetchFile(file)).equals(file)).toBe(true);
    expect(site.requests).toEqual([{ path: "/image.tar", range: "bytes=1000000-" }, { path: "/image.tar" }]);
  });

  test("works with a server that knows no ranges", async () => {
    let first = true;
    site.serve(file, () => {
      const cut = first;
      first = false;
      return { ignoreRange: true, cutAfter: cut ? 500_000 : undefined };
    });
    expect(readFileSync(await fetchFile(file)).equals(file)).toBe(true);
    expect(site.requests).toHaveLength(2);
  });

  test("ends after a bounded number of attempts that bring it no further, and keeps what it has", async () => {
    site.serve(file, () => ({ ignoreRange: true, cutAfter: 500_000 }));
    expect(await code(fetchFile(file, { attempts: 4 }))).toContain("build.release-unreachable");
    expect(site.requests).toHaveLength(4);
    expect(site.parts()).toEqual([`${sha256(file)}.part`, `${sha256(file)}.part.json`]);
  });

  test("gives up a connection that brings nothing, not one that is slow", async () => {
    site.serve(file.subarray(0, 3000), () => ({ slow: 60 })); // half a second
    await fetchFile(file.subarray(0, 3000), { stallMs: 250, attempts: 1 });
    let hung = 0;
    site.answer = (_, response) => {
      hung += 1;
      response.writeHead(200, { "content-length": file.length });
      response.write(file.subarray(0, 1000));
    };
    expect(await code(fetchFile(file, { stallMs: 100, attempts: 2 }))).toContain("build.release-unreachable");
    expect(hung).toBeGreaterThan(1);
  });

  test.each([
    ["says another size", (response: ServerResponse) => response.writeHead(200, { "content-length": 5 }).end("short")],
    ["sends more than was signed", (response: ServerResponse) => response.writeHead(200).end(Buffer.concat([file, Buffer.from("x")]))],
  ])("refuses a server that %s", async (_, reply) => {
    site.answer = (_request, response) => reply(response);
    expect(await code(fetchFile(file))).toContain("build.release-size");
    expect(site.requests).toHaveLength(1);
    site.serve(file);
    await fetchFile(file); // the control
  });

  test("refuses one flipped byte, keeps nothing of it, and fetches the right file later", async () => {
    const flipped = Buffer.from(file);
    flipped[2_000_000] = (flipped[2_000_000] ?? 0) ^ 1;
    site.serve(flipped);
    expect(await code(fetchFile(file))).toContain("build.release-hash");
    expect(site.requests).toHaveLength(1);
    expect(site.parts()).toEqual([]);
    site.serve(file);
    expect(readFileSync(await fetchFile(file)).equals(file)).toBe(true);
  });

  test("does not use a part that was spoilt on this disk", async () => {
    site.serve(file, () => ({ cutAfter: 1_000_000 }));
    await code(fetchFile(file, { attempts: 1 }));
    const part = join(site.folder, "downloads", `${sha256(file)}.part`);
    truncateSync(part, 999_000);
    truncateSync(part, 1_000_000); // its end is zeros now, as after a loss of power
    site.serve(file);
    expect(readFileSync(await fetchFile(file)).equals(file)).toBe(true);
  });

  test("tries again when a server is busy, and not when it refuses", async () => {
    let busy = 2;
    const good = () => site.serve(file);
    site.answer = (request, response) => {
      if (--busy === 0) good();
      if (busy < 0) return site.answer(request, response);
      response.writeHead(503, { "retry-after": "0" }).end();
    };
    await fetchFile(file);
    expect(site.requests).toHaveLength(3);
    rmSync(join(site.folder, "downloads"), { recursive: true });
    site.requests = [];
    site.answer = (_, response) => response.writeHead(404).end();
    expect(await code(fetchFile(file))).toContain("build.release-refused");
    expect(site.requests).toHaveLength(1);
  });

  test("follows a redirect, and none to another scheme or without end", async () => {
    const redirect = (location: string) => {
      site.answer = (request, response) => {
        if (request.url === "/there") {
          site.serve(file);
          site.answer(request, response);
        } else response.writeHead(302, { location }).end();
      };
    };
    redirect("/there");
    await fetchFile(file);
    rmSync(join(site.folder, "downloads"), { recursive: true });
    for (const bad of ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://user:pass@127.0.0.1/", "http://[", "/again"]) {
      redirect(bad);
      expect(await code(fetchFile(file))).toContain("build.release-redirect");
    }
    const to = (from: string, location: string) => redirectTarget(new URL(from), location).href;
    expect(to("http://a.test/x", "https://b.test/y")).toBe("https://b.test/y");
    expect(() => to("https://a.test/x", "http://a.test/x")).toThrow("may not come from");
  });

  test("of a process that is killed goes on in the next one", async () => {
    const script = join(site.folder, "fetch.mjs");
    writeFileSync(
      script,
      `import { download } from ${JSON.stringify(new URL("./download.mjs", import.meta.url).href)};
       await download(${JSON.stringify({ url: `${site.origin}/image.tar`, sizeBytes: file.length, sha256: sha256(file), folder: join(site.folder, "downloads") })});`,
    );
    site.serve(file, () => ({ slow: 10_000 }));
    const child = spawn(process.execPath, [script], { stdio: "ignore" });
    site.children.push(child);
    const part = join(site.folder, "downloads", `${sha256(file)}.part`);
    await expect.poll(() => statSync(part, { throwIfNoEntry: false })?.size ?? 0, { timeout: 8000 }).toBeGreaterThan(100_000);
    child.kill("SIGKILL");
    await new Promise((ended) => child.on("exit", ended));
    const { size } = statSync(part);
    expect(size).toBeLessThan(file.length);
    site.requests = [];
    site.serve(file);
    const second = spawn(process.execPath, [script], { stdio: "ignore" });
    site.children.push(second);
    expect(await new Promise((ended) => second.on("exit", ended))).toBe(0);
    expect(site.requests).toEqual([{ path: "/image.tar", range: `bytes=${size}-`, ifRange: '"one"' }]);
    expect(readFileSync(part).equals(file)).toBe(true);
  });

  test("tells bytes, speed and the time that is left", () => {
    const lines: string[] = [];
    let now = 0;
    const meter = progressMeter(
      100e6,
      (line: string) => lines.push(line),
      () => now,
    );
    for (let have = 0; have <= 40e6; have += 10e6, now += 1000) meter(have);
    expect(lines.at(-1)).toBe("40.0 MB of 100.0 MB, 10.0 MB/s, 6 s left");
  });
});
