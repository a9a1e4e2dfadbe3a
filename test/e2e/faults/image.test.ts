/** A byte of the image is flipped, or a program of ours is not what it should be: the start is refused or ends by itself, and says which. */
import {
  chmodSync,
  copyFileSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Cloche } from "../../harness/index.ts";
import { componentsWith, failedWith, historyIsWhole, keeperEnds, noMachineLeft, refusedWith } from "./support.ts";

const cloche = new Cloche();
const original = cloche.components.imageDir;
const manifest = JSON.parse(readFileSync(join(original, "manifest.json"), "utf8"));
afterAll(() => cloche.end());

/** The image with one file changed, as components.json of its own. The other files are the original's. */
function imageWith(name: string, file: string, change: (path: string) => void): string {
  const directory = join(cloche.directory, `image-${name}`);
  mkdirSync(directory);
  for (const entry of readdirSync(original)) {
    const path = join(directory, entry);
    if (entry === file) copyFileSync(join(original, entry), path);
    else {
      try {
        linkSync(join(original, entry), path);
      } catch {
        copyFileSync(join(original, entry), path); // another filesystem
      }
    }
  }
  change(join(directory, file));
  return componentsWith(cloche, name, { imageDir: directory });
}

function flip(path: string, position: number): void {
  chmodSync(path, 0o644);
  const fd = openSync(path, "r+");
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, position);
  writeSync(fd, Buffer.from([(byte[0] ?? 0) ^ 0x01]), 0, 1, position);
}

const withComponents = async (components: string, args: string[]) => {
  await keeperEnds(cloche);
  return cloche.run(args, { env: { CLOCHE_COMPONENTS: components } });
};
const control = async () => {
  await keeperEnds(cloche);
  expect((await cloche.ok(["run", "--", "echo", "works"])).stdout).toBe("works\n");
};

describe("one flipped byte", () => {
  it("the unchanged image starts and verifies", async () => {
    await control();
    await cloche.ok(["image", "verify"]);
  });

  it.each([
    // late in the file, where it is loaded and changes nothing that the boot would notice by itself
    ["kernel", manifest.kernel.file, manifest.kernel.sizeBytes - 100, "image.changed"],
    ["initramfs", manifest.initramfs.file, manifest.initramfs.sizeBytes - 600, "image.changed"],
    ["disk template", manifest.diskTemplate.file, manifest.diskTemplate.sizeBytes >> 1, "image.changed"],
  ] as const)("in the %s: the task does not start", async (what, file, position, code) => {
    const name = what.replace(" ", "-");
    const components = imageWith(name, file, (path) => flip(path, position));
    const run = refusedWith(await withComponents(components, ["run", "--share", `${cloche.folder("seen")}:ro`, "--", "echo", "ran"]), code);
    expect(run.stdout).toBe("");
    expect(run.stderr).toContain(file);
    await noMachineLeft(cloche);
    refusedWith(await cloche.run(["image", "verify"], { env: { CLOCHE_COMPONENTS: components } }), "image.changed");
  });

  it("in the root layer's filesystem: the guest refuses what it reads; `image verify` names the file", async () => {
    const layer = manifest.layers[0];
    const components = imageWith("layer", layer.file, (path) => flip(path, 1024 + 12)); // in EROFS's superblock, which the mount reads
    refusedWith(await withComponents(components, ["run", "--", "echo", "ran"]), "guest.corrupt-root");
    await noMachineLeft(cloche);
    const verified = refusedWith(await cloche.run(["image", "verify"], { env: { CLOCHE_COMPONENTS: components } }), "image.changed");
    expect(verified.stderr).toContain(layer.file);
    await control();
  });

  it("in the root layer's hashes: the same", async () => {
    const layer = manifest.layers[0];
    const components = imageWith("hashes", layer.file, (path) => flip(path, layer.verity.hashStartBlock * 4096 + 4096));
    refusedWith(await withComponents(components, ["run", "--", "echo", "ran"]), "guest.corrupt-root");
    await noMachineLeft(cloche);
  });

  it("in the manifest: refused before anything starts", async () => {
    const change = (path: string) =>
      writeFileSync(
        path,
        readFileSync(path, "utf8").replace(/"rootHash": ?"(.)/, (all, first) => all.slice(0, -1) + (first === "0" ? "1" : "0")),
      );
    const components = imageWith("manifest", "manifest.json", (path) => {
      const copy = readFileSync(path);
      rmSync(path);
      writeFileSync(path, copy);
      change(path);
      expect(readFileSync(path)).not.toEqual(copy);
    });
    const run = refusedWith(await withComponents(components, ["run", "--", "true"]), "image.manifest");
    expect(run.stderr).toContain("id does not match");
  });

  it("a newer manifest, and no image at all", async () => {
    const newer = imageWith("newer", "manifest.json", (path) => writeFileSync(path, JSON.stringify({ ...manifest, version: 99 })));
    refusedWith(await withComponents(newer, ["run", "--", "true"]), "task.newer-file");
    const none = componentsWith(cloche, "none", { imageDir: join(cloche.directory, "nowhere") });
    refusedWith(await withComponents(none, ["run", "--", "true"]), "image.missing");
    await control();
  });
});

describe("a program that Cloche is made of is not there, or not what it should be", () => {
  const program = (name: string, text: string) => {
    const path = join(cloche.directory, name);
    writeFileSync(path, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
    return path;
  };
  it.each([
    ["no helper", () => ({ helper: "/nonexistent/helper" }), "machine.helper"],
    ["a helper that is none", () => ({ helper: program("helper", "echo hello; exec cat") }), "machine.helper"],
    ["a helper that ends at once", () => ({ helper: program("helper-ends", "exit 1") }), "machine.helper"],
    ["no hypervisor", () => ({ qemu: "/nonexistent/qemu" }), "machine.hypervisor"],
    ["a hypervisor that ends at once", () => ({ qemu: program("qemu-ends", "echo broken >&2; exit 1") }), "machine.hypervisor"],
    ["no vsock device", () => ({ vsockDevice: "/nonexistent/vsock" }), "machine.hypervisor"],
  ] as const)("%s", async (name, changed, code) => {
    const components = componentsWith(cloche, name.replaceAll(" ", "-"), changed());
    await keeperEnds(cloche);
    await cloche.run(["new", "broken"]);
    await keeperEnds(cloche);
    refusedWith(await cloche.run(["start", "broken"], { env: { CLOCHE_COMPONENTS: components } }), code);
    await failedWith(cloche, "broken", code);
    await noMachineLeft(cloche);
    await cloche.ok(["rm", "broken"]);
  });

  it("no share server: refused before there is a task", async () => {
    const components = componentsWith(cloche, "no-share", { shareServer: "/nonexistent/share" });
    refusedWith(await withComponents(components, ["run", "--share", `${cloche.folder("x")}:ro`, "--", "true"]), "share.server");
  });

  it("no list of programs, and one that does not fit", async () => {
    await keeperEnds(cloche);
    refusedWith(await cloche.run(["ls"], { env: { CLOCHE_COMPONENTS: "/nonexistent" } }), "components.missing");
    refusedWith(
      await cloche.run(["ls"], { env: { CLOCHE_COMPONENTS: componentsWith(cloche, "bad", { helper: "relative" }) } }),
      "components.missing",
    );
    refusedWith(
      await cloche.run(["ls"], {
        env: {
          CLOCHE_COMPONENTS: componentsWith(cloche, "no-keeper", { app: { ...cloche.components.app, keeper: "/nonexistent" } as never }),
        },
      }),
      "keeper.unreachable",
    );
    await control();
    historyIsWhole(cloche);
  });
});
