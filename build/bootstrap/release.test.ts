import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createHash, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { brotliCompressSync, constants } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
// @ts-expect-error: the bootstrap is plain JavaScript, which has no types
import { header, packImage, unpackImage } from "./archive.mjs";
// @ts-expect-error: the bootstrap is plain JavaScript, which has no types
import { download, progressMeter, redirectTarget } from "./download.mjs";
// @ts-expect-error: the bootstrap is plain JavaScript, which has no types
import { canonical } from "./image.mjs";
// @ts-expect-error: the bootstrap is plain JavaScript, which has no types
import { arch } from "./packages.mjs";
// @ts-expect-error: the bootstrap is plain JavaScript, which has no types
import { parseDescriptor } from "./release.mjs";

const sha256 = (bytes: Buffer | string) => createHash("sha256").update(bytes).digest("hex");

/** Bytes that do not repeat, so that a piece at the wrong place is seen; the same for the same seed. */
function noise(length: number, seed: string): Buffer {
  const parts: Buffer[] = [];
  for (let n = 0; n * 32 < length; n++) parts.push(createHash("sha256").update(`${seed} ${n}`).digest());
  return Buffer.concat(parts).subarray(0, length);
}

let folder: string;
let server: Server;
let origin: string;
let requests: { path: string; range?: string; ifRange?: string }[];
let answer: (request: IncomingMessage, response: ServerResponse) => void;
const children: ChildProcess[] = [];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "cloche-release-"));
  requests = [];
  server = createServer((request, response) => {
    const { range, "if-range": ifRange } = request.headers;
    requests.push({
      path: request.url ?? "",
      ...(range && { range }),
      ...(typeof ifRange === "string" && { ifRange }),
    });
    answer(request, response);
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterEach(async () => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  server.closeAllConnections();
  await new Promise((closed) => server.close(closed));
  rmSync(folder, { recursive: true, force: true });
});

interface Fault {
  etag?: string | null;
  /** ends the connection after so many bytes of this answer */
  cutAfter?: number | undefined;
  ignoreRange?: boolean;
  /** bytes per 10 ms */
  slow?: number;
}

/** A server of one file that does ranges right, but for what `fault` says; asked anew for each request. */
function serve(file: Buffer, fault: () => Fault = () => ({})) {
  answer = (request, response) => {
    const { etag = '"one"', cutAfter, ignoreRange = false, slow } = fault();
    if (etag !== null) response.setHeader("etag", etag);
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? -1);
    const fresh = request.headers["if-range"] === undefined || request.headers["if-range"] === etag;
    const partial = from >= 0 && fresh && !ignoreRange;
    const body = partial ? file.subarray(from) : file;
    response.writeHead(partial ? 206 : 200, {
      "content-length": body.length,
      ...(partial && { "content-range": `bytes ${from}-${file.length - 1}/${file.length}` }),
    });
    if (cutAfter !== undefined && cutAfter < body.length) {
      response.flushHeaders();
      response.write(body.subarray(0, cutAfter));
      cutWhenKept(response, (partial ? from : 0) + cutAfter);
    } else if (slow) {
      let at = 0;
      const timer = setInterval(() => {
        if (at >= body.length || response.destroyed) {
          clearInterval(timer);
          response.end();
        } else {
          response.write(body.subarray(at, at + slow));
          at += slow;
        }
      }, 10);
    } else response.end(body);
  };
}

/** Cuts when the client has all that was sent on its disk: of what is under way at a cut, a part may be lost. */
function cutWhenKept(response: ServerResponse, sizeBytes: number) {
  const kept = parts().find((name) => name.endsWith(".part"));
  if (response.destroyed || (kept && statSync(join(folder, "downloads", kept)).size === sizeBytes)) response.destroy();
  else setTimeout(() => cutWhenKept(response, sizeBytes), 2);
}

const fetchFile = (file: Buffer, more = {}): Promise<string> =>
  download({
    url: `${origin}/image.tar`,
    sizeBytes: file.length,
    sha256: sha256(file),
    folder: join(folder, "downloads"),
    backoffMs: 1,
    progressBytes: 1,
    ...more,
  });

const code = async (promise: Promise<unknown>): Promise<string> => {
  try {
    await promise;
  } catch (error) {
    const { code: got, next, evidence } = error as { code?: string; next?: string[]; evidence?: string };
    if (!got?.startsWith("build.")) throw error;
    expect(next?.length).toBeGreaterThan(0);
    return `${got} ${evidence ?? ""}`;
  }
  return "accepted";
};

const parts = () => (existsSync(join(folder, "downloads")) ? readdirSync(join(folder, "downloads")).sort() : []);

describe("a download", () => {
  const file = noise(3_000_000, "image");

  test("brings the whole file", async () => {
    serve(file);
    expect(readFileSync(await fetchFile(file)).equals(file)).toBe(true);
    expect(requests).toEqual([{ path: "/image.tar" }]);
  });

  test("that is cut goes on at the very byte, as often as it takes", async () => {
    const cuts = [1, 700_001, 65_536, 1_234_567];
    const left = [...cuts];
    serve(file, () => ({ cutAfter: left.shift() }));
    expect(readFileSync(await fetchFile(file)).equals(file)).toBe(true);
    const expected = cuts.map((_, n) => {
      const at = cuts.slice(0, n + 1).reduce((sum, cut) => sum + cut);
      return { path: "/image.tar", range: `bytes=${at}-`, ifRange: '"one"' };
    });
    expect(requests).toEqual([{ path: "/image.tar" }, ...expected]);
  });

  test("starts anew when the server has another file by now", async () => {
    const old = noise(file.length, "old");
    serve(old, () => ({ etag: '"old"', cutAfter: 1_000_000 }));
    expect(await code(fetchFile(file, { attempts: 1 }))).toContain("build.release-unreachable");
    expect(statSync(join(folder, "downloads", `${sha256(file)}.part`)).size).toBe(1_000_000);
    serve(file, () => ({ etag: '"new"' }));
    requests = [];
    expect(readFileSync(await fetchFile(file)).equals(file)).toBe(true);
    expect(requests).toEqual([{ path: "/image.tar", range: "bytes=1000000-", ifRange: '"old"' }]);
  });

  test("finds a mixture of two files also where the server names no version, and fetches the file whole", async () => {
    serve(noise(file.length, "old"), () => ({ etag: null, cutAfter: 1_000_000 }));
    expect(await code(fetchFile(file, { attempts: 1 }))).toContain("build.release-unreachable");
    serve(file, () => ({ etag: null }));
    requests = [];
    expect(readFileSync(await fetchFile(file)).equals(file)).toBe(true);
    expect(requests).toEqual([{ path: "/image.tar", range: "bytes=1000000-" }, { path: "/image.tar" }]);
  });

  test("works with a server that knows no ranges", async () => {
    let first = true;
    serve(file, () => {
      const cut = first;
      first = false;
      return { ignoreRange: true, cutAfter: cut ? 500_000 : undefined };
    });
    expect(readFileSync(await fetchFile(file)).equals(file)).toBe(true);
    expect(requests).toHaveLength(2);
  });

  test("ends after a bounded number of attempts that bring it no further, and keeps what it has", async () => {
    serve(file, () => ({ ignoreRange: true, cutAfter: 500_000 }));
    expect(await code(fetchFile(file, { attempts: 4 }))).toContain("build.release-unreachable");
    expect(requests).toHaveLength(4);
    expect(parts()).toEqual([`${sha256(file)}.part`, `${sha256(file)}.part.json`]);
  });

  test("gives up a connection that brings nothing, not one that is slow", async () => {
    serve(file.subarray(0, 3000), () => ({ slow: 60 })); // half a second
    await fetchFile(file.subarray(0, 3000), { stallMs: 250, attempts: 1 });
    let hung = 0;
    answer = (_, response) => {
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
    answer = (_request, response) => reply(response);
    expect(await code(fetchFile(file))).toContain("build.release-size");
    expect(requests).toHaveLength(1);
    serve(file);
    await fetchFile(file); // the control
  });

  test("refuses one flipped byte, keeps nothing of it, and fetches the right file later", async () => {
    const flipped = Buffer.from(file);
    flipped[2_000_000] = (flipped[2_000_000] ?? 0) ^ 1;
    serve(flipped);
    expect(await code(fetchFile(file))).toContain("build.release-hash");
    expect(requests).toHaveLength(1);
    expect(parts()).toEqual([]);
    serve(file);
    expect(readFileSync(await fetchFile(file)).equals(file)).toBe(true);
  });

  test("does not use a part that was spoilt on this disk", async () => {
    serve(file, () => ({ cutAfter: 1_000_000 }));
    await code(fetchFile(file, { attempts: 1 }));
    const part = join(folder, "downloads", `${sha256(file)}.part`);
    truncateSync(part, 999_000);
    truncateSync(part, 1_000_000); // its end is zeros now, as after a loss of power
    serve(file);
    expect(readFileSync(await fetchFile(file)).equals(file)).toBe(true);
  });

  test("tries again when a server is busy, and not when it refuses", async () => {
    let busy = 2;
    const good = () => serve(file);
    answer = (request, response) => {
      if (--busy === 0) good();
      if (busy < 0) return answer(request, response);
      response.writeHead(503, { "retry-after": "0" }).end();
    };
    await fetchFile(file);
    expect(requests).toHaveLength(3);
    rmSync(join(folder, "downloads"), { recursive: true });
    requests = [];
    answer = (_, response) => response.writeHead(404).end();
    expect(await code(fetchFile(file))).toContain("build.release-refused");
    expect(requests).toHaveLength(1);
  });

  test("follows a redirect, and none to another scheme or without end", async () => {
    const redirect = (location: string) => {
      answer = (request, response) => {
        if (request.url === "/there") {
          serve(file);
          answer(request, response);
        } else response.writeHead(302, { location }).end();
      };
    };
    redirect("/there");
    await fetchFile(file);
    rmSync(join(folder, "downloads"), { recursive: true });
    for (const bad of ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://user:pass@127.0.0.1/", "http://[", "/again"]) {
      redirect(bad);
      expect(await code(fetchFile(file))).toContain("build.release-redirect");
    }
    const to = (from: string, location: string) => redirectTarget(new URL(from), location).href;
    expect(to("http://a.test/x", "https://b.test/y")).toBe("https://b.test/y");
    expect(() => to("https://a.test/x", "http://a.test/x")).toThrow("may not come from");
  });

  test("of a process that is killed goes on in the next one", async () => {
    const script = join(folder, "fetch.mjs");
    writeFileSync(
      script,
      `import { download } from ${JSON.stringify(new URL("./download.mjs", import.meta.url).href)};
       await download(${JSON.stringify({ url: `${origin}/image.tar`, sizeBytes: file.length, sha256: sha256(file), folder: join(folder, "downloads") })});`,
    );
    serve(file, () => ({ slow: 10_000 }));
    const child = spawn(process.execPath, [script], { stdio: "ignore" });
    children.push(child);
    const part = join(folder, "downloads", `${sha256(file)}.part`);
    await expect.poll(() => statSync(part, { throwIfNoEntry: false })?.size ?? 0, { timeout: 8000 }).toBeGreaterThan(100_000);
    child.kill("SIGKILL");
    await new Promise((ended) => child.on("exit", ended));
    const { size } = statSync(part);
    expect(size).toBeLessThan(file.length);
    requests = [];
    serve(file);
    const second = spawn(process.execPath, [script], { stdio: "ignore" });
    children.push(second);
    expect(await new Promise((ended) => second.on("exit", ended))).toBe(0);
    expect(requests).toEqual([{ path: "/image.tar", range: `bytes=${size}-`, ifRange: '"one"' }]);
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

interface Manifest {
  id: string;
  arch: string;
  [field: string]: unknown;
}

/** An image in small: its files are noise, its manifest is as true as a real one. */
function makeImage(at: string, edit: (manifest: Record<string, unknown>) => void = () => undefined): Manifest {
  mkdirSync(at, { recursive: true });
  const file = (name: string, bytes: Buffer) => {
    writeFileSync(join(at, name), bytes);
    return { file: name, sizeBytes: bytes.length, sha256: sha256(bytes) };
  };
  const content: Record<string, unknown> = {
    version: 1,
    arch: arch.image,
    release: true,
    kernel: { ...file("vmlinux", Buffer.alloc(200_000, "kernel")), version: "6.12" },
    initramfs: file("initramfs.cpio", noise(30_000, "initramfs")),
    layers: [{ name: "base", ...file("base.erofs", noise(400_001, "layer")), verity: {} }],
    diskTemplate: { ...file("disk-16g.extents", Buffer.alloc(100_000)), diskSizeBytes: 1 << 20 },
    agentSha256: "a".repeat(64),
    guest: { os: "Debian", packages: 1 },
  };
  edit(content);
  const manifest = { ...content, id: sha256(canonical(content)) } as unknown as Manifest;
  writeFileSync(join(at, "manifest.json"), JSON.stringify(manifest));
  writeFileSync(join(at, "packages.txt"), "bash 5\n");
  return manifest;
}

describe("an archive", () => {
  const files = ["base.erofs", "disk-16g.extents", "initramfs.cpio", "manifest.json", "packages.txt", "vmlinux"];
  let manifest: Manifest;
  let image: string;

  beforeEach(() => {
    image = join(folder, "image");
    manifest = makeImage(image);
  });

  const unpack = async (archive: string, expected = manifest.id) => {
    const target = mkdtempSync(join(folder, "out-"));
    await unpackImage(archive, target, { imageId: expected, arch: arch.image });
    return target;
  };

  const entry = (name: string, bytes: Buffer, type?: string, link?: string) =>
    Buffer.concat([header(name, bytes.length, type, link), bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]);
  const read = (name: string) => readFileSync(join(image, name));
  const end = Buffer.alloc(1024);

  /** The entries of a good archive, for tests to spoil one of. */
  const good = () => [
    entry("manifest.json", read("manifest.json")),
    entry("packages.txt", read("packages.txt")),
    entry("vmlinux.br", brotliCompressSync(read("vmlinux"))),
    entry("initramfs.cpio", read("initramfs.cpio")),
    entry("base.erofs", read("base.erofs")),
    entry("disk-16g.extents.br", brotliCompressSync(read("disk-16g.extents"))),
  ];
  const write = (...pieces: Buffer[]) => {
    const at = join(folder, "a.tar");
    writeFileSync(at, Buffer.concat(pieces));
    return at;
  };

  test("holds all files of an image, twice the same bytes, and tar can read it", async () => {
    const packed = await packImage(image, join(folder, "one.tar"));
    await packImage(image, join(folder, "two.tar"));
    expect(readFileSync(join(folder, "one.tar")).equals(readFileSync(join(folder, "two.tar")))).toBe(true);
    expect(packed.sizeBytes).toBe(statSync(join(folder, "one.tar")).size);
    const target = await unpack(join(folder, "one.tar"));
    expect(readdirSync(target).sort()).toEqual(files);
    for (const name of files) expect(readFileSync(join(target, name)).equals(read(name))).toBe(true);
    const listed = execFileSync("tar", ["-tf", join(folder, "one.tar")], { encoding: "utf8" });
    expect(listed.trim().split("\n").sort()).toEqual([
      "base.erofs",
      "disk-16g.extents.br",
      "initramfs.cpio.br",
      "manifest.json",
      "packages.txt",
      "vmlinux.br",
    ]);
  });

  test("made by hand in the same form is accepted: the control of what follows", async () => {
    expect(readdirSync(await unpack(write(...good(), end))).sort()).toEqual(files);
  });

  const x = Buffer.from("x");
  test.each<[string, () => Buffer[], string]>([
    ["a name that leads out", () => [...good(), entry("../evil", x), end], "the name"],
    ["an absolute name", () => [...good(), entry("/etc/evil", x), end], "the name"],
    ["a name in a folder", () => [...good(), entry("sub/evil", x), end], "the name"],
    ["a hidden name", () => [...good(), entry(".evil", x), end], "the name"],
    ["a name that the manifest does not list", () => [...good(), entry("evil", x), end], "does not list"],
    ["a symbolic link", () => [...good(), entry("evil", Buffer.alloc(0), "2", "/etc"), end], "no ordinary file"],
    ["a hard link", () => [...good(), entry("evil", Buffer.alloc(0), "1", "vmlinux"), end], "no ordinary file"],
    ["a folder", () => [...good(), entry("evil", Buffer.alloc(0), "5"), end], "no ordinary file"],
    ["a device", () => [...good(), entry("evil", Buffer.alloc(0), "4"), end], "no ordinary file"],
    ["a long name of GNU", () => [...good(), entry("././@LongLink", x, "L"), end], "no ordinary file"],
    ["a pax header", () => [entry("pax", x, "x"), ...good(), end], "no ordinary file"],
    ["a file twice", () => [...good(), entry("base.erofs", read("base.erofs")), end], "came before"],
    ["a file twice, packed and not", () => [...good(), entry("vmlinux", read("vmlinux")), end], "came before"],
    ["the list of packages twice", () => [...good(), entry("packages.txt", x), end], "twice"],
    ["a second manifest", () => [...good(), entry("manifest.json", x), end], "does not list"],
    ["no manifest", () => [...good().slice(1), end], "does not begin with a manifest"],
    ["a manifest too late", () => [...good().slice(1), ...good().slice(0, 1), end], "does not begin with a manifest"],
    ["nothing", () => [end], "it is empty"],
    ["a file too few", () => [...good().slice(0, -1), end], "it lacks disk-16g.extents"],
    ["no end", () => good(), "it is cut"],
    ["an entry that is cut", () => [Buffer.concat(good()).subarray(0, -200_000)], "is cut"],
    ["bytes behind its end", () => [...good(), end, Buffer.from("more")], "something follows"],
    ["a header with a wrong checksum", () => [Buffer.from(Buffer.concat([...good(), end]).fill("9", 124, 125))], "checksum"],
    ["no tar at all", () => [noise(5000, "no")], "no ustar"],
  ])("with %s is refused", async (_, make, why) => {
    expect(await code(unpack(write(...make())))).toContain(why);
    expect(existsSync(join(folder, "evil"))).toBe(false);
  });

  const instead = (index: number, bytes: Buffer) => good().map((piece, at) => (at === index ? bytes : piece));
  test.each<[string, () => Buffer[], string]>([
    ["of another content", () => instead(4, entry("base.erofs", noise(400_001, "other"))), "SHA-256"],
    ["of another size", () => instead(4, entry("base.erofs", noise(400_000, "layer"))), "400000 bytes instead of 400001"],
    ["that unpacks to another content", () => instead(2, entry("vmlinux.br", brotliCompressSync(noise(200_000, "k")))), "SHA-256"],
    ["that unpacks to less", () => instead(2, entry("vmlinux.br", brotliCompressSync(x))), "1 bytes instead of 200000"],
    ["that is cut", () => instead(2, entry("vmlinux.br", brotliCompressSync(read("vmlinux")).subarray(0, 20))), "cannot be unpacked"],
    ["that is no brotli", () => instead(2, entry("vmlinux.br", noise(500, "no"))), "cannot be unpacked"],
  ])("with a file %s is refused", async (_, make, why) => {
    expect(await code(unpack(write(...make(), end)))).toContain(why);
  });

  test("that unpacks to far more than was signed is stopped at that size", async () => {
    const bomb = brotliCompressSync(Buffer.alloc(64 << 20), { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } });
    expect(bomb.length).toBeLessThan(20_000);
    const archive = write(...instead(2, entry("vmlinux.br", bomb)), end);
    const target = mkdtempSync(join(folder, "bomb-"));
    expect(await code(unpackImage(archive, target, { imageId: manifest.id, arch: arch.image }))).toContain("becomes larger");
    expect(statSync(join(target, "vmlinux")).size).toBeLessThanOrEqual(200_000);
  });

  test("of another image than the one that was signed is refused", async () => {
    expect(await code(unpack(write(...good(), end), "b".repeat(64)))).toContain("was signed");
    const edited = read("manifest.json").toString().replace("Debian", "Evil");
    const archive = write(entry("manifest.json", Buffer.from(edited)), ...good().slice(1), end);
    expect(await code(unpack(archive))).toContain("does not match");
  });

  type Files = { kernel: { file: string; sizeBytes: number } };
  test.each<[string, (content: Files) => void]>([
    ["a name that leads out", (content) => Object.assign(content.kernel, { file: "../vmlinux" })],
    ["the manifest's own name", (content) => Object.assign(content.kernel, { file: "manifest.json" })],
    ["a size that is none", (content) => Object.assign(content.kernel, { sizeBytes: -1 })],
    ["a size beyond any image", (content) => Object.assign(content.kernel, { sizeBytes: 2 ** 40 })],
  ])("whose manifest lists %s is refused", async (_, edit) => {
    manifest = makeImage(image, (content) => edit(content as unknown as Files));
    expect(await code(unpack(write(...good(), end)))).toMatch(/its manifest lists|larger than any image/);
  });
});

/** The whole way, in processes of their own as `npm start` is one: offer, trust, fetch, put into place. */
describe("an offered release", () => {
  let image: string;
  let manifest: Manifest;
  let keys: { privateKey: KeyObject; publicKey: KeyObject };
  let archive: Buffer;
  let env: NodeJS.ProcessEnv;
  let script: string;
  const module = (name: string) => JSON.stringify(new URL(`./${name}.mjs`, import.meta.url).href);

  beforeEach(async () => {
    image = join(folder, "image");
    manifest = makeImage(image);
    await packImage(image, join(folder, "image.tar"));
    archive = readFileSync(join(folder, "image.tar"));
    keys = generateKeyPairSync("ed25519");
    writeFileSync(join(folder, "key.pem"), keys.publicKey.export({ type: "spki", format: "pem" }));
    script = join(folder, "build.mjs");
    writeFileSync(
      script,
      `import { createRunner } from ${module("runner")};
       import { formatProblem } from ${module("problem")};
       import { offeredImage } from ${module("release")};
       try {
         const say = (text) => console.log("say " + text);
         const fetched = await offeredImage({ asked: process.env.ASKED || "explicitly", say });
         if (!fetched) { console.log("built"); process.exit(0); }
         const made = await createRunner({ steps: [fetched], say: (step, text) => say(text), context: { isRoot: true } }).make(["image"]);
         console.log("fetched " + made.image);
       } catch (error) { console.log(formatProblem(error)); process.exit(1); }`,
    );
    env = {
      PATH: process.env.PATH,
      CLOCHE_CACHE: join(folder, "cache"),
      CLOCHE_IMAGE_KEY: join(folder, "key.pem"),
      CLOCHE_IMAGE_RELEASE: join(folder, "release.json"),
    };
    serve(archive);
  });

  const descriptor = (edit: Record<string, unknown> = {}, key = keys.privateKey) => {
    const release = {
      version: 1,
      arch: arch.image,
      url: `${origin}/image.tar`,
      sizeBytes: archive.length,
      sha256: sha256(archive),
      imageId: manifest.id,
      sequence: 7,
      ...edit,
    };
    return { ...release, signature: sign(null, Buffer.from(canonical(release)), key).toString("base64") };
  };
  const offer = (release: unknown) => writeFileSync(join(folder, "release.json"), JSON.stringify(release));

  const build = async (more: NodeJS.ProcessEnv = {}) => {
    const child = spawn(process.execPath, [script], { env: { ...env, ...more }, stdio: ["ignore", "pipe", "inherit"] });
    children.push(child);
    let printed = "";
    child.stdout.on("data", (text) => {
      printed += text;
    });
    await new Promise((ended) => child.on("close", ended));
    return printed;
  };
  const fetched = (printed: string) => /^fetched (.*)$/m.exec(printed)?.[1] ?? printed;

  test("is fetched once, verified, and put into place; the archive is gone", async () => {
    offer(descriptor());
    const at = fetched(await build());
    expect(at).toBe(fetched(await build()));
    expect(readdirSync(at).sort()).toEqual(readdirSync(image).sort());
    for (const name of readdirSync(image)) expect(readFileSync(join(at, name)).equals(readFileSync(join(image, name)))).toBe(true);
    expect(requests).toHaveLength(1);
    expect(readdirSync(join(folder, "cache", "downloads"))).toEqual([]);
  });

  test("says which key it trusts, and how far it is", async () => {
    offer(descriptor());
    const printed = await build();
    expect(printed).toMatch(/say releases are trusted by the key [0-9a-f]{16} of CLOCHE_IMAGE_KEY/);
    expect(printed).toContain("say fetching the guest image, release 7");
  });

  test("of nobody whom this checkout trusts is not used: the image is built, and it says why", async () => {
    offer(descriptor());
    const printed = await build({ CLOCHE_IMAGE_KEY: "" });
    // Until somebody publishes, the repository has no key. With one, this test offers a release that it did not sign.
    expect(printed).toMatch(/no key here that says which one to trust[\s\S]*built\n$|build\.release-signature/);
    expect(requests).toEqual([]);
  });

  test("is not looked at without being asked for, nor when the user wants to build", async () => {
    offer(descriptor());
    expect(await build({ CLOCHE_IMAGE_RELEASE: "build", ASKED: "always" })).toBe("built\n");
    expect(await build({ CLOCHE_IMAGE_RELEASE: "" })).toBe("built\n");
    expect(requests).toEqual([]);
  });

  test("for another architecture is not used", async () => {
    offer(descriptor({ arch: arch.image === "arm64" ? "x86_64" : "arm64" }));
    expect(await build()).toMatch(/the image is built\nbuilt\n$/);
    expect(requests).toEqual([]);
  });

  test.each<[string, () => unknown, string]>([
    ["another key's signature", () => descriptor({}, generateKeyPairSync("ed25519").privateKey), "build.release-signature"],
    ["a field changed after signing", () => ({ ...descriptor(), sequence: 8 }), "build.release-signature"],
    ["an address changed after signing", () => ({ ...descriptor(), url: `${origin}/other.tar` }), "build.release-signature"],
    ["an unknown field", () => descriptor({ mirror: "http://a.test" }), "unknown field"],
  ])("with %s is refused before anything is downloaded", async (_, make, why) => {
    offer(make());
    expect(await build()).toContain(why);
    expect(requests).toEqual([]);
  });

  test.each<[string, () => unknown, string]>([
    ["an unknown field", () => descriptor({ mirror: "http://a.test" }), "unknown field"],
    ["a field too few", () => ({ ...descriptor(), sha256: undefined }), "no sha256"],
    ["a newer version", () => descriptor({ version: 2 }), "build.release-newer"],
    ["a file's address", () => descriptor({ url: "file:///etc/passwd" }), "build.release-descriptor"],
    ["a password in its address", () => descriptor({ url: "http://a:b@127.0.0.1/" }), "build.release-descriptor"],
    ["a size beyond any image", () => descriptor({ sizeBytes: 2 ** 40 }), "build.release-descriptor"],
    ["a number that is text", () => descriptor({ sequence: "7" }), "build.release-descriptor"],
    ["no object", () => [], "it is no object"],
  ])("with %s has a descriptor that is refused", (_, make, why) => {
    const problem = (text: string) => {
      try {
        parseDescriptor(text);
      } catch (error) {
        const { code: got, evidence } = error as { code: string; evidence?: string };
        return `${got} ${evidence}`;
      }
      return "accepted";
    };
    expect(problem(JSON.stringify(make()))).toContain(why);
    expect(problem(JSON.stringify(descriptor()))).toBe("accepted");
    expect(problem("{")).toContain("no JSON");
  });

  test("whose archive holds another image than the signed one is not put into place", async () => {
    offer(descriptor({ imageId: "c".repeat(64) }));
    expect(await build()).toContain("build.release-archive");
    expect(readdirSync(join(folder, "cache", "image")).filter((name) => !name.endsWith(".tmp"))).toEqual([]);
  });

  test("older than the last accepted one is refused, also after it was the newest; the same and a newer one are not", async () => {
    const old = descriptor({ sequence: 6 });
    offer(descriptor());
    await build();
    offer(old);
    expect(await build()).toContain("build.release-rollback");
    offer(descriptor());
    expect(await build()).toContain("fetched ");
    offer(descriptor({ sequence: 8 })); // the same image again, of which nothing is fetched
    expect(await build()).toContain("fetched ");
    offer(descriptor());
    expect(await build()).toContain("build.release-rollback");
    expect(requests).toHaveLength(1);
  });

  test("with a number that was used for another image is refused", async () => {
    offer(descriptor());
    await build();
    offer(descriptor({ imageId: "d".repeat(64) }));
    expect(await build()).toContain("with other content");
  });

  test("counts per key: the numbers of one publisher say nothing about another's", async () => {
    offer(descriptor());
    await build();
    const other = generateKeyPairSync("ed25519");
    writeFileSync(join(folder, "other.pem"), other.publicKey.export({ type: "spki", format: "pem" }));
    offer(descriptor({ sequence: 1 }, other.privateKey));
    expect(await build({ CLOCHE_IMAGE_KEY: join(folder, "other.pem") })).toContain("fetched ");
  });

  test("is refused when what was noted of the last one cannot be read", async () => {
    offer(descriptor());
    await build();
    const notes = join(folder, "cache", "releases");
    for (const name of readdirSync(notes)) writeFileSync(join(notes, name), "{");
    expect(await build()).toContain("build.release-state");
  });

  test("may be offered at an address; when that is out of reach, the accepted one still counts", async () => {
    const whole = answer;
    answer = (request, response) =>
      request.url === "/release.json" ? response.end(JSON.stringify(descriptor())) : whole(request, response);
    const at = { CLOCHE_IMAGE_RELEASE: `${origin}/release.json` };
    expect(await build(at)).toContain("fetched ");
    answer = (_, response) => response.writeHead(500).end();
    const printed = await build(at);
    expect(printed).toContain("which was accepted before, still counts");
    expect(printed).toContain("fetched ");
    rmSync(join(folder, "cache"), { recursive: true });
    expect(await build(at)).toContain("build.release-unreachable");
  });

  test.each<[string, () => string]>([
    ["a private key", () => String(keys.privateKey.export({ type: "pkcs8", format: "pem" }))],
    [
      "a key of another kind",
      () => String(generateKeyPairSync("rsa", { modulusLength: 2048 }).publicKey.export({ type: "spki", format: "pem" })),
    ],
    ["no key", () => "hello"],
  ])("is not trusted by %s", async (_, text) => {
    offer(descriptor());
    writeFileSync(join(folder, "key.pem"), text());
    expect(await build()).toContain("build.release-key");
    expect(requests).toEqual([]);
  });

  test("is published by one function and fetched by the other", async () => {
    const keyFile = join(folder, "private.pem");
    writeFileSync(keyFile, keys.privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
    const out = join(folder, "out");
    const publisher = join(folder, "publish.mjs");
    writeFileSync(
      publisher,
      `import { publish } from ${module("release")};
       import { formatProblem } from ${module("problem")};
       try { console.log(JSON.stringify(await publish(JSON.parse(process.argv[2])))); } catch (error) { console.log(formatProblem(error)); }`,
    );
    const publish = (more = {}) =>
      execFileSync(process.execPath, [publisher, JSON.stringify({ imageDir: image, keyFile, url: `${origin}/`, out, ...more })], {
        encoding: "utf8",
        env,
      });
    publish();
    const made = JSON.parse(publish());
    expect(made.release.sequence).toBe(2);
    expect(made.release.url).toBe(`${origin}/cloche-image-${arch.image}-2.tar`);
    expect(readFileSync(join(out, "release-key.pem"), "utf8")).toBe(readFileSync(join(folder, "key.pem"), "utf8"));
    serve(readFileSync(made.archive));
    expect(fetched(await build({ CLOCHE_IMAGE_RELEASE: made.descriptor }))).toContain(join(folder, "cache", "image"));
    chmodSync(keyFile, 0o644);
    expect(publish()).toContain("may be read by other users");
  });

  test("whose fetching process is killed goes on at that byte", async () => {
    offer(descriptor());
    serve(archive, () => ({ slow: 4000 }));
    const child = spawn(process.execPath, [script], { env, stdio: "ignore" });
    children.push(child);
    const part = join(folder, "cache", "downloads", `${sha256(archive)}.part`);
    await expect.poll(() => statSync(part, { throwIfNoEntry: false })?.size ?? 0, { timeout: 8000 }).toBeGreaterThan(50_000);
    child.kill("SIGKILL");
    await new Promise((ended) => child.on("exit", ended));
    const { size } = statSync(part);
    requests = [];
    serve(archive);
    expect(await build()).toContain("fetched ");
    expect(requests).toEqual([{ path: "/image.tar", range: `bytes=${size}-`, ifRange: '"one"' }]);
  });
});
