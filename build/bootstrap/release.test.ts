import { execFileSync, spawn } from "node:child_process";
import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { chmodSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
// @ts-expect-error: the bootstrap is plain JavaScript, which has no types
import { packImage } from "./archive.mjs";
// @ts-expect-error: the bootstrap is plain JavaScript, which has no types
import { canonical } from "./image.mjs";
// @ts-expect-error: the bootstrap is plain JavaScript, which has no types
import { arch } from "./packages.mjs";
// @ts-expect-error: the bootstrap is plain JavaScript, which has no types
import { parseDescriptor } from "./release.mjs";
import { type Manifest, makeImage, remove, Site, sha256, temporaryFolder } from "./release-support.ts";

let site: Site;

beforeEach(async () => {
  site = await Site.open();
});

afterEach(() => site.end());

/** The whole way, in processes of their own as `npm start` is one: offer, trust, fetch, put into place. */
describe("an offered release", () => {
  let image: string;
  let manifest: Manifest;
  let keys: { privateKey: KeyObject; publicKey: KeyObject };
  let archive: Buffer;
  let env: NodeJS.ProcessEnv;
  let script: string;
  const module = (name: string) => JSON.stringify(new URL(`./${name}.mjs`, import.meta.url).href);

  let published: string;

  beforeAll(async () => {
    published = temporaryFolder();
    image = join(published, "image");
    manifest = makeImage(image);
    await packImage(image, join(published, "image.tar"));
    archive = readFileSync(join(published, "image.tar"));
  });

  afterAll(() => remove(published));

  beforeEach(() => {
    keys = generateKeyPairSync("ed25519");
    writeFileSync(join(site.folder, "key.pem"), keys.publicKey.export({ type: "spki", format: "pem" }));
    script = join(site.folder, "build.mjs");
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
      NODE_COMPILE_CACHE: join(import.meta.dirname, "../../node_modules/.cache/bootstrap"),
      CLOCHE_CACHE: join(site.folder, "cache"),
      CLOCHE_IMAGE_KEY: join(site.folder, "key.pem"),
      CLOCHE_IMAGE_RELEASE: join(site.folder, "release.json"),
    };
    site.serve(archive);
  });

  const descriptor = (edit: Record<string, unknown> = {}, key = keys.privateKey) => {
    const release = {
      version: 1,
      arch: arch.image,
      url: `${site.origin}/image.tar`,
      sizeBytes: archive.length,
      sha256: sha256(archive),
      imageId: manifest.id,
      sequence: 7,
      ...edit,
    };
    return { ...release, signature: sign(null, Buffer.from(canonical(release)), key).toString("base64") };
  };
  const offer = (release: unknown) => writeFileSync(join(site.folder, "release.json"), JSON.stringify(release));

  const build = async (more: NodeJS.ProcessEnv = {}) => {
    const child = spawn(process.execPath, [script], { env: { ...env, ...more }, stdio: ["ignore", "pipe", "inherit"] });
    site.children.push(child);
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
    expect(site.requests).toHaveLength(1);
    expect(readdirSync(join(site.folder, "cache", "downloads"))).toEqual([]);
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
    expect(site.requests).toEqual([]);
  });

  test("is not looked at without being asked for, nor when the user wants to build", async () => {
    offer(descriptor());
    expect(await build({ CLOCHE_IMAGE_RELEASE: "build", ASKED: "always" })).toBe("built\n");
    expect(await build({ CLOCHE_IMAGE_RELEASE: "" })).toBe("built\n");
    expect(site.requests).toEqual([]);
  });

  test("for another architecture is not used", async () => {
    offer(descriptor({ arch: arch.image === "arm64" ? "x86_64" : "arm64" }));
    expect(await build()).toMatch(/the image is built\nbuilt\n$/);
    expect(site.requests).toEqual([]);
  });

  test.each<[string, () => unknown, string]>([
    ["another key's signature", () => descriptor({}, generateKeyPairSync("ed25519").privateKey), "build.release-signature"],
    ["a field changed after signing", () => ({ ...descriptor(), sequence: 8 }), "build.release-signature"],
    ["an address changed after signing", () => ({ ...descriptor(), url: `${site.origin}/other.tar` }), "build.release-signature"],
    ["an unknown field", () => descriptor({ mirror: "http://a.test" }), "unknown field"],
  ])("with %s is refused before anything is downloaded", async (_, make, why) => {
    offer(make());
    expect(await build()).toContain(why);
    expect(site.requests).toEqual([]);
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
    expect(readdirSync(join(site.folder, "cache", "image")).filter((name) => !name.endsWith(".tmp"))).toEqual([]);
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
    expect(site.requests).toHaveLength(1);
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
    writeFileSync(join(site.folder, "other.pem"), other.publicKey.export({ type: "spki", format: "pem" }));
    offer(descriptor({ sequence: 1 }, other.privateKey));
    expect(await build({ CLOCHE_IMAGE_KEY: join(site.folder, "other.pem") })).toContain("fetched ");
  });

  test("is refused when what was noted of the last one cannot be read", async () => {
    offer(descriptor());
    await build();
    const notes = join(site.folder, "cache", "releases");
    for (const name of readdirSync(notes)) writeFileSync(join(notes, name), "{");
    expect(await build()).toContain("build.release-state");
  });

  test("may be offered at an address; when that is out of reach, the accepted one still counts", async () => {
    const whole = site.answer;
    site.answer = (request, response) =>
      request.url === "/release.json" ? response.end(JSON.stringify(descriptor())) : whole(request, response);
    const at = { CLOCHE_IMAGE_RELEASE: `${site.origin}/release.json` };
    expect(await build(at)).toContain("fetched ");
    site.answer = (_, response) => response.writeHead(500).end();
    const printed = await build(at);
    expect(printed).toContain("which was accepted before, still counts");
    expect(printed).toContain("fetched ");
    rmSync(join(site.folder, "cache"), { recursive: true });
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
    writeFileSync(join(site.folder, "key.pem"), text());
    expect(await build()).toContain("build.release-key");
    expect(site.requests).toEqual([]);
  });

  test("is published by one function and fetched by the other", async () => {
    const keyFile = join(site.folder, "private.pem");
    writeFileSync(keyFile, keys.privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
    const out = join(site.folder, "out");
    const publisher = join(site.folder, "publish.mjs");
    writeFileSync(
      publisher,
      `import { publish } from ${module("release")};
       import { formatProblem } from ${module("problem")};
       try { console.log(JSON.stringify(await publish(JSON.parse(process.argv[2])))); } catch (error) { console.log(formatProblem(error)); }`,
    );
    const publish = (more = {}) =>
      execFileSync(process.execPath, [publisher, JSON.stringify({ imageDir: image, keyFile, url: `${site.origin}/`, out, ...more })], {
        encoding: "utf8",
        env,
      });
    publish();
    const made = JSON.parse(publish());
    expect(made.release.sequence).toBe(2);
    expect(made.release.url).toBe(`${site.origin}/cloche-image-${arch.image}-2.tar`);
    expect(readFileSync(join(out, "release-key.pem"), "utf8")).toBe(readFileSync(join(site.folder, "key.pem"), "utf8"));
    site.serve(readFileSync(made.archive));
    expect(fetched(await build({ CLOCHE_IMAGE_RELEASE: made.descriptor }))).toContain(join(site.folder, "cache", "image"));
    chmodSync(keyFile, 0o644);
    expect(publish()).toContain("may be read by other users");
  });

  test("whose fetching process is killed goes on at that byte", async () => {
    offer(descriptor());
    site.serve(archive, () => ({ slow: 4000 }));
    const child = spawn(process.execPath, [script], { env, stdio: "ignore" });
    site.children.push(child);
    const part = join(site.folder, "cache", "downloads", `${sha256(archive)}.part`);
    await expect.poll(() => statSync(part, { throwIfNoEntry: false })?.size ?? 0, { timeout: 8000 }).toBeGreaterThan(50_000);
    child.kill("SIGKILL");
    await new Promise((ended) => child.on("exit", ended));
    const { size } = statSync(part);
    site.requests = [];
    site.serve(archive);
    expect(await build()).toContain("fetched ");
    expect(site.requests).toEqual([{ path: "/image.tar", range: `bytes=${size}-`, ifRange: '"one"' }]);
  });
});
