// The guest image, in steps that change at different rates, so that a new agent costs a second and not a minute:
//
//   rootfs (Debian packages) ──▶ layer (EROFS + dm-verity) ──┐
//   disk (empty ext4 template) ──────────────────────────────┼──▶ image (initramfs, manifest)
//   kernel, agent ───────────────────────────────────────────┘

import { createHash } from "node:crypto";
import {
  closeSync,
  copyFileSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { builderVersions, inBuilder, mmdebstrap, quote, seenInside } from "./builder.mjs";
import { repo } from "./cache.mjs";
import { characterDevice, cpio, directory, link, program, regular } from "./cpio.mjs";
import { exec } from "./exec.mjs";
import { packFromTar } from "./extents.mjs";
import { arch, trixie } from "./packages.mjs";

const folder = "vm-image/rootfs";

/** Times of files that the build itself makes; 2025-01-01. Files of packages keep their own. */
const epoch = "1735689600";

/** Ids of filesystems are names, not secrets, and fixed so that two builds give the same bytes. */
const layerUuid = "c10c4e00-0000-4000-8000-000000000001";
const diskUuid = "c10c4e00-0000-4000-8000-000000000002";
const diskHashSeed = "c10c4e00-0000-4000-8000-000000000003";

/** What a task may write at most; the file on the host is sparse and grows with use. */
const diskSizeGib = 16;

/** sha256 over blake2b: in releases of CPUs with SHA instructions it is the faster one, under TCG they are near. */
const verityAlgorithm = "sha256";
const blockSizeBytes = 4096;

export function guestPackages() {
  return readFileSync(join(repo, folder, "packages.txt"), "utf8")
    .split("\n")
    .filter((line) => !line.startsWith("#"))
    .flatMap((line) => line.split(/\s+/))
    .filter(Boolean);
}

/** Files of the root that lie in the initramfs too; the list says why. */
function hotFiles() {
  return readFileSync(join(repo, folder, "hot.txt"), "utf8")
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"));
}

export const hotStep = {
  name: "hot",
  title: "taking out what every start reads first",
  deps: ["rootfs"],
  seconds: 2,
  inputs: ({ outputs }) => ["2", { file: `${folder}/hot.txt` }, outputs.rootfs.split("/").at(-1)],
  async run(ctx) {
    // As whoever builds: the initramfs says by itself that all of it is root's. The directories are named too, so that they have
    // the archive's modes and not those of the umask.
    const names = hotFiles().flatMap((name) => [...directoriesAbove(name), name]);
    await exec(
      [
        "tar",
        "-xpf",
        join(ctx.outputs.rootfs, "root.tar"),
        "--no-same-owner",
        "--no-recursion",
        "-C",
        ctx.out,
        ...new Set(names.map((name) => `./${name}`)),
      ],
      { log: ctx.log },
    );
  },
};

/** usr, usr/bin, … of usr/bin/bash. */
function directoriesAbove(name) {
  const above = name.split("/").slice(0, -1);
  return above.map((_, depth) => above.slice(0, depth + 1).join("/"));
}

/** Entries of the hot layer, as `at/…`: every directory before what is in it. */
function hotEntries(from, at) {
  const seen = new Set();
  return hotFiles().flatMap((name) => {
    const directories = directoriesAbove(name).filter((each) => !seen.has(each));
    for (const each of directories) seen.add(each);
    const file = join(from, name);
    const stat = lstatSync(file);
    const mode = stat.mode & 0o7777;
    // The base has the same directories; the overlay shows the upper one's mode, so both must be plain.
    for (const each of directories)
      if ((lstatSync(join(from, each)).mode & 0o7777) !== 0o755)
        throw new Error(`${each} of the root is not 0755, so it cannot be in the hot layer`);
    if (stat.isSymbolicLink()) return [...directories.map((each) => directory(`${at}/${each}`)), link(`${at}/${name}`, readlinkSync(file))];
    if (!stat.isFile() || (mode !== 0o644 && mode !== 0o755))
      throw new Error(`${name} of the root is no plain file, so it cannot be in the hot layer`);
    return [...directories.map((each) => directory(`${at}/${each}`)), regular(`${at}/${name}`, mode, readFileSync(file))];
  });
}

export const rootfsStep = {
  name: "rootfs",
  title: "making the guest's Debian root",
  deps: ["host", "guest-npm"],
  seconds: 75,
  inputs: ({ outputs }) => [
    "1",
    arch.debian,
    { file: `${folder}/packages.txt` },
    { file: `${folder}/finish.sh` },
    { tree: `${folder}/overlay` },
    outputs["guest-npm"].split("/").at(-1),
  ],
  async run(ctx) {
    const tar = join(ctx.out, "root.tar");
    const npm = ctx.outputs["guest-npm"];
    await mmdebstrap({
      packages: guestPackages(),
      target: tar,
      format: "tar",
      ctx: { ...ctx, env: { SOURCE_DATE_EPOCH: epoch } },
      extra: [
        `--customize-hook=mkdir -p "$1/usr/lib/node_modules/npm" && ${copyTree(npm, "$1/usr/lib/node_modules/npm")}`,
        `--customize-hook=${copyTree(join(repo, folder, "overlay"), "$1")}`,
        `--customize-hook=${quote(join(repo, folder, "finish.sh"))} "$1"`,
        `--customize-hook=chroot "$1" dpkg-query -W -f '\${Package} \${Version}\\n' > ${quote(join(ctx.out, "packages.txt"))}`,
      ],
    });
  },
};

/** Copies files with plain modes and root as owner, whatever the checkout's umask and owner were. */
function copyTree(from, to) {
  return `tar -C ${quote(from)} --owner=0 --group=0 --mode=u=rwX,go=rX --mtime=@${epoch} -c . | tar -C "${to}" --no-overwrite-dir -x`;
}

/** How the layer is compressed: quickly while developing, small for a release. */
const compression = {
  dev: ["-zlz4hc,9", "-C65536"],
  release: ["-zzstd,level=15", "-C65536", "-Efragments,dedupe"],
};

export function layerStep(release) {
  return {
    name: release ? "layer-release" : "layer",
    title: release ? "packing the guest's root for a release (zstd)" : "packing the guest's root (lz4)",
    deps: ["builder", "rootfs"],
    seconds: release ? 600 : 60,
    inputs: async ({ outputs }) => [
      release ? "3" : "1",
      outputs.rootfs.split("/").at(-1),
      verityAlgorithm,
      ...compression[release ? "release" : "dev"],
      ...builderVersions(outputs.builder, ["erofs-utils", "cryptsetup-bin"]),
    ],
    async run(ctx) {
      const root = join(ctx.outputs.builder, "root");
      const file = join(ctx.out, "base.erofs");
      ctx.bytes(() => (statSync(file, { throwIfNoEntry: false })?.blocks ?? 0) * 512); // its apparent size is of no meaning while it grows
      const run = (argv, options) => inBuilder(root, argv, { readOnlyRepo: true, log: ctx.log, ...options });
      const tree = join(ctx.out, "tree");
      if (release) {
        // From a tree and not from the archive: mkfs.erofs 1.8 packs no tails from a tar and makes a layer of 247 MB.
        mkdirSync(tree);
        ctx.detail("unpacking");
        await run([
          "tar",
          "-xpf",
          `${seenInside(ctx.outputs.rootfs)}/root.tar`,
          "--numeric-owner",
          "--xattrs", // capabilities of programs
          "--xattrs-include=*",
          "--exclude=./dev/*",
          "-C",
          seenInside(tree),
        ]);
        ctx.detail("compressing on one core");
      }
      await run([
        "mkfs.erofs",
        "--quiet",
        ...compression[release ? "release" : "dev"],
        `-U${layerUuid}`,
        `-T${epoch}`,
        "--mkfs-time", // the superblock's time; files keep theirs
        "-Lcloche-base",
        ...(release ? [] : ["--tar=f"]),
        seenInside(file),
        release ? seenInside(tree) : `${seenInside(ctx.outputs.rootfs)}/root.tar`,
      ]);
      if (release) {
        await run(["rm", "-rf", seenInside(tree)]);
        fixPackedTime(file);
      }
      const verity = await addVerity(file, run);
      writeFileSync(join(ctx.out, "layer.json"), JSON.stringify({ ...verity, ...fileEntry(file) }));
    },
  };
}

/**
 * mkfs.erofs keeps the tails of files in an inode of its own and notes in it when it ran, whatever -T says: the only
 * bytes in which two layers of the same root differ. Nobody sees that time; it becomes the fixed one.
 *
 * Superblock at 1024: u32 magic at 0, u32 meta_blkaddr at 40, u64 packed_nid at 96. Inode: its bit 0 says that it is of
 * the extended form, with u64 mtime at 32 and u32 nanoseconds at 40.
 */
export function fixPackedTime(file) {
  const fd = openSync(file, "r+");
  try {
    const superblock = Buffer.alloc(128);
    readSync(fd, superblock, 0, superblock.length, 1024);
    if (superblock.readUInt32LE(0) !== 0xe0f5e1e2) throw new Error(`${file} is no EROFS`);
    const nid = superblock.readBigUInt64LE(96);
    if (nid === 0n) return; // no tails were packed
    const at = superblock.readUInt32LE(40) * blockSizeBytes + Number(nid) * 32;
    const inode = Buffer.alloc(64);
    readSync(fd, inode, 0, inode.length, at);
    const seconds = Number(inode.readBigUInt64LE(32));
    // Anything else than a time of this build means that mkfs.erofs has changed, and with it the place.
    if (!(inode[0] & 1) || Math.abs(seconds - Date.now() / 1000) > 86_400)
      throw new Error(`the packed inode of ${file} is not where it was`);
    inode.writeBigUInt64LE(BigInt(epoch), 32);
    inode.writeUInt32LE(0, 40);
    writeSync(fd, inode, 32, 12, at + 32);
  } finally {
    closeSync(fd);
  }
}

/** Appends the hash tree; its parameters stand in the manifest and not in the file, so nothing in the file is trusted. */
async function addVerity(file, run) {
  const content = createHash("sha256").update(readFileSync(file)).digest("hex");
  const dataBytes = Math.ceil(statSync(file).size / blockSizeBytes) * blockSizeBytes;
  await exec(["truncate", "-s", String(dataBytes), file]);
  const salt = createHash("sha256").update(`cloche layer ${content}`).digest("hex");
  const dataBlocks = dataBytes / blockSizeBytes;
  const inside = seenInside(file);
  const { stdout } = await run([
    "veritysetup",
    "format",
    "--no-superblock",
    `--hash=${verityAlgorithm}`,
    `--data-block-size=${blockSizeBytes}`,
    `--hash-block-size=${blockSizeBytes}`,
    `--data-blocks=${dataBlocks}`,
    `--hash-offset=${dataBytes}`,
    `--salt=${salt}`,
    inside,
    inside,
  ]);
  const rootHash = /Root hash:\s+([0-9a-f]{64})/.exec(stdout)?.[1];
  if (!rootHash) throw new Error(`veritysetup printed no root hash:\n${stdout}`);
  return { verity: { algorithm: verityAlgorithm, blockSizeBytes, dataBlocks, hashStartBlock: dataBlocks, rootHash, salt } };
}

export const diskStep = {
  name: "disk",
  title: "making the template of a task's disk",
  deps: ["builder"],
  seconds: 3,
  inputs: async ({ outputs }) => ["6", String(diskSizeGib), ...builderVersions(outputs.builder, ["e2fsprogs"])],
  async run(ctx) {
    const root = join(ctx.outputs.builder, "root");
    // In the builder's /tmp, which is memory: the file is 16 GiB of holes.
    const script = [
      "set -e",
      `truncate -s ${diskSizeGib}G /tmp/disk`,
      [
        "mke2fs -q -F -t ext4",
        "-L cloche-data",
        `-U ${diskUuid}`,
        "-m 0", // no blocks kept for root: the user is root here
        "-J size=16", // a small journal: 16 MiB is plenty for one user and less to write
        "-G 128", // one flex group: all inode tables together at the front, so the empty disk is a few extents
        // resize_inode: the guest grows it to the disk it got, up to the 1 TiB that `resize` below leaves room for
        // no orphan_file: its 512 blocks are read one by one at each mount, for the sake of many writers at once
        "-O resize_inode,^orphan_file,^huge_file,^uninit_bg,metadata_csum,64bit,fast_commit",
        // The host's file is holes, which read as zero: nothing is left to clear in the background of a first start.
        `-E lazy_itable_init=1,lazy_journal_init=1,assume_storage_prezeroed=1,packed_meta_blocks=1,resize=268435456,nodiscard,root_owner=0:0,hash_seed=${diskHashSeed}`,
        "/tmp/disk",
      ].join(" "),
      // What a first start would have to make before anything else: the overlay's folders, and the one that each writes names into.
      "printf 'mkdir upper\\nmkdir work\\nmkdir upper/etc\\n' | debugfs -w -f - /tmp/disk",
      // debugfs has no status of its own for a command that failed
      "for made in work upper/etc; do debugfs -R \"stat $made\" /tmp/disk | grep 'Mode:  0755'; done",
      "tar -C /tmp --sparse --format=pax --sparse-version=1.0 -cf /tmp/disk.tar disk",
      `cp /tmp/disk.tar ${seenInside(ctx.out)}/disk.tar`,
    ].join("\n");
    await inBuilder(root, ["sh", "-c", script], {
      log: ctx.log,
      readOnlyRepo: true,
      env: { SOURCE_DATE_EPOCH: epoch, E2FSPROGS_FAKE_TIME: epoch },
    });
    const file = join(ctx.out, `disk-${diskSizeGib}g.extents`);
    const sizes = packFromTar(join(ctx.out, "disk.tar"), file);
    rmSync(join(ctx.out, "disk.tar"));
    writeFileSync(join(ctx.out, "disk.json"), JSON.stringify({ ...fileEntry(file), diskSizeBytes: sizes.sizeBytes }));
  },
};

export function imageStep(release) {
  const layer = release ? "layer-release" : "layer";
  return {
    name: release ? "image-release" : "image",
    title: "putting the guest image together",
    deps: ["kernel", layer, "disk", "go-programs", "rootfs", "hot"],
    seconds: 3,
    inputs: ({ outputs }) => [
      "3",
      String(release),
      ...["kernel", layer, "disk", "hot"].map((name) => outputs[name].split("/").at(-1)),
      agentHash(outputs),
    ],
    run: (ctx) => assemble(ctx, release, layer),
  };
}

const agentFile = (outputs) => join(outputs["go-programs"], "cloche-agent");
const agentHash = (outputs) =>
  createHash("sha256")
    .update(readFileSync(agentFile(outputs)))
    .digest("hex");

async function assemble(ctx, release, layerName) {
  const { outputs, out } = ctx;
  const kernelName = arch.kernel === "x86_64" ? "vmlinux" : "Image";
  const layer = JSON.parse(readFileSync(join(outputs[layerName], "layer.json"), "utf8"));
  const disk = JSON.parse(readFileSync(join(outputs.disk, "disk.json"), "utf8"));
  place(join(outputs.kernel, kernelName), join(out, kernelName));
  place(join(outputs[layerName], layer.file), join(out, layer.file));
  place(join(outputs.disk, disk.file), join(out, disk.file));
  const initramfs = join(out, "initramfs.cpio");
  writeFileSync(
    initramfs,
    initramfsWith(readFileSync(agentFile(outputs)), ["cloche", "cloche/hot"].map(directory), hotEntries(outputs.hot, "cloche/hot")),
  );
  const packages = readFileSync(join(outputs.rootfs, "packages.txt"), "utf8").trim().split("\n");
  writeFileSync(join(out, "packages.txt"), `${packages.join("\n")}\n`);
  const manifest = {
    version: 1,
    arch: arch.image,
    release,
    kernel: { ...fileEntry(join(out, kernelName)), version: readFileSync(join(outputs.kernel, "version"), "utf8").trim() },
    initramfs: fileEntry(initramfs),
    layers: [{ name: "base", file: layer.file, sizeBytes: layer.sizeBytes, sha256: layer.sha256, verity: layer.verity }],
    diskTemplate: disk,
    agentSha256: agentHash(outputs),
    guest: { os: `Debian ${trixie}`, packages: packages.length },
  };
  const id = createHash("sha256").update(canonical(manifest)).digest("hex");
  writeFileSync(join(out, "manifest.json"), `${JSON.stringify({ version: manifest.version, id, ...manifest }, null, 2)}\n`);
}

/** PID 1 and what it needs before it can mount anything. */
export function initramfsWith(init, ...more) {
  return cpio([
    ...["dev", "proc", "sys", "run", "newroot"].map(directory),
    characterDevice("dev/console", 5, 1),
    characterDevice("dev/null", 1, 3),
    program("init", init),
    ...more.flat(),
  ]);
}

/** The manifest's id is the SHA-256 of this: JSON without `id`, keys sorted at each level, no white space. */
export function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value && typeof value === "object") {
    return `{${Object.keys(value)
      .sort()
      .map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`)
      .join(",")}}`;
  }
  return JSON.stringify(value);
}

function fileEntry(path) {
  const bytes = readFileSync(path);
  return { file: path.split("/").at(-1), sizeBytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
}

/** A second name instead of a second copy; outputs are never written after they are complete. */
function place(from, to) {
  try {
    linkSync(from, to);
  } catch (error) {
    if (!["EXDEV", "EPERM", "EMLINK"].includes(error.code)) throw error;
    copyFileSync(from, to);
  }
}
