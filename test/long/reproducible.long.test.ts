import { type ExecFileException, execFile, execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";

/**
 * Two builds of the same inputs give the same bytes, so that anybody can check that a published image is made from this tree.
 *
 * The second build is as different as it can be without being of other inputs: another cache, another umask, another time zone and
 * language, later. Shared are the builder root and the guest's npm, which are inputs. The first build takes the kernel of
 * the cache that is in use, made some time ago; the second compiles it (about 16 minutes of CPU).
 */
const inUse = process.env.CLOCHE_CACHE ?? join(homedir(), ".cache", "cloche");
const repo = join(import.meta.dirname, "..", "..");

// In a folder beside the cache: /tmp may be a small memory disk, and outputs are placed by hard links.
const folder = mkdtempSync(`${inUse}-reproducible-`);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Entry {
  file: string;
  sizeBytes: number;
  sha256: string;
}
interface Manifest {
  id: string;
  kernel: Entry;
  initramfs: Entry;
  layers: Entry[];
  diskTemplate: Entry;
}

const module = (path: string) => JSON.stringify(join(repo, "build/bootstrap", path));

const make = (steps: string[]) => `
  import { main } from ${module("main.mjs")};
  await main(async ({ make }) => { console.log(JSON.stringify(await make(${JSON.stringify(steps)}))); });`;

/** The step that packs a release's layer, over a small root: the whole one takes ten minutes each time. */
const smallRelease = `
  import { copyFileSync } from "node:fs";
  import { builderStep, isRoot } from ${module("builder.mjs")};
  import { layerStep } from ${module("image.mjs")};
  import { createRunner } from ${module("runner.mjs")};
  const root = { name: "rootfs", title: "a small root", seconds: 1, inputs: () => ["small"], run: async ({ out }) => {
    copyFileSync(${JSON.stringify(join(folder, "small.tar"))}, out + "/root.tar");
  } };
  const steps = [{ ...builderStep, deps: [] }, root, layerStep(true)];
  console.log(JSON.stringify(await createRunner({ steps, context: { isRoot } }).make(["layer-release"])));`;

/** Makes steps in a cache of their own that begins with some outputs of the cache in use. */
async function build(name: string, steps: string[], shared: string[], umask: string, env: NodeJS.ProcessEnv, body = make(steps)) {
  const cache = join(folder, name);
  for (const step of shared) {
    mkdirSync(join(cache, step), { recursive: true });
    for (const output of readdirSync(join(inUse, step)).filter((each) => /^[0-9a-f]{20}$/.test(each))) {
      symlinkSync(join(inUse, step, output), join(cache, step, output));
    }
  }
  const script = join(cache, "make.mjs");
  writeFileSync(script, body);
  const printed = await new Promise<string>((resolve, reject) => {
    execFile(
      "sh",
      ["-c", 'umask "$1"; exec "$2" "$3"', "sh", umask, process.execPath, script],
      { env: { ...process.env, ...env, CLOCHE_CACHE: cache }, maxBuffer: 1 << 24 },
      (error: ExecFileException | null, stdout, stderr) => (error ? reject(new Error(`${error.message}\n${stderr}`)) : resolve(stdout)),
    );
  });
  return JSON.parse(printed) as Record<string, string>;
}

/** What an image is made of, by name, with the hash of each part. */
function partsOf(image: string) {
  const manifest = JSON.parse(readFileSync(join(image, "manifest.json"), "utf8")) as Manifest;
  const { kernel, initramfs, layers, diskTemplate } = manifest;
  return { id: manifest.id, files: [kernel, initramfs, ...layers, diskTemplate].map(({ file, sha256 }) => `${file} ${sha256}`) };
}

test("two builds of the same inputs give the same image, byte for byte", async ({ skip }) => {
  const first = await build("a", ["image"], ["builder", "guest-npm", "kernel"], "022", {});
  const second = await build("b", ["image"], ["builder", "guest-npm"], "077", { TZ: "Asia/Tokyo", LANG: "de_DE.UTF-8" });
  const packages = [first, second].map(({ rootfs = "" }) => readFileSync(join(rootfs, "packages.txt"), "utf8"));
  // Debian published something between the two: the inputs were not the same.
  if (packages[0] !== packages[1]) skip("the Debian archive changed between the two builds; run the test again");
  const [a, b] = [first, second].map(({ image = "" }) => partsOf(image));
  expect(b?.files).toEqual(a?.files);
  expect(b?.id).toBe(a?.id);
});

test("two release layers of the same root are the same bytes", async () => {
  // With an entry for the root itself, as a real one has.
  execFileSync("tar", [
    "-C",
    repo,
    "--mtime=@0",
    "-cf",
    join(folder, "small.tar"),
    "--no-recursion",
    ".",
    "--recursion",
    "./app",
    "./build",
  ]);
  const outputs = [
    await build("c", [], ["builder"], "022", {}, smallRelease),
    await build("d", [], ["builder"], "077", { TZ: "Asia/Tokyo" }, smallRelease),
  ];
  const [c, d] = outputs.map((made) => readFileSync(join(made["layer-release"] ?? "", "base.erofs")));
  expect(c?.length).toBeGreaterThan(100_000);
  expect(c?.equals(d ?? Buffer.alloc(0))).toBe(true);
});
