// `npm run image [-- --release] [--json]`: makes the guest image and says what it weighs.

import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import * as zlib from "node:zlib";
import { main } from "./bootstrap/main.mjs";
import { Problem } from "./bootstrap/problem.mjs";
import { size } from "./bootstrap/runner.mjs";
import { commands } from "./bootstrap/steps.mjs";

/** What a release may weigh to download. */
const LIMIT_BYTES = 150e6;

await main(async ({ make }) => {
  const args = process.argv.slice(2);
  const unknown = args.find((arg) => !["--release", "--json"].includes(arg));
  if (unknown) {
    throw new Problem({
      code: "build.usage",
      message: `npm run image does not know ${unknown}.`,
      next: ["It takes --release and --json: npm run image -- --release"],
    });
  }
  const release = args.includes("--release");
  const outputs = await make(release ? commands.release : commands.image);
  const directory = outputs[release ? "image-release" : "image"];
  const manifest = JSON.parse(readFileSync(join(directory, "manifest.json"), "utf8"));
  const parts = [manifest.kernel, manifest.initramfs, ...manifest.layers, manifest.diskTemplate].map(({ file }) => {
    const path = join(directory, file);
    // A layer is compressed already, except for its hash tree, which nothing compresses.
    return {
      file,
      sizeBytes: statSync(path).size,
      compressedBytes: file.endsWith(".erofs") ? statSync(path).size : compressed(readFileSync(path)),
    };
  });
  const totalBytes = parts.reduce((sum, part) => sum + part.compressedBytes, 0);
  const report = {
    directory,
    id: manifest.id,
    release,
    parts,
    totalBytes,
    limitBytes: LIMIT_BYTES,
    withinLimit: totalBytes <= LIMIT_BYTES,
  };
  if (args.includes("--json")) process.stdout.write(`${JSON.stringify(report)}\n`);
  else {
    for (const part of parts)
      process.stdout.write(
        `${part.file.padEnd(22)} ${size(part.sizeBytes).padStart(10)}   compressed ${size(part.compressedBytes).padStart(10)}\n`,
      );
    process.stdout.write(
      `${"to download".padEnd(22)} ${"".padStart(10)}              ${size(totalBytes).padStart(10)}   limit for a release ${size(LIMIT_BYTES)}\n`,
    );
    process.stdout.write(`${directory}\n`);
  }
  if (release && !report.withinLimit) {
    throw new Problem({
      code: "build.image-too-big",
      message: `The release image is ${size(totalBytes)} to download; the limit is ${size(LIMIT_BYTES)}.`,
      next: ["Take packages out of vm-image/rootfs/packages.txt; `dpkg-query --show --showformat` in a guest shows the heavy ones."],
    });
  }
});

/** As the parts travel: zstd where this Node has it (22.15), else gzip, which overstates. */
function compressed(bytes) {
  if (zlib.zstdCompressSync) return zlib.zstdCompressSync(bytes, { params: { [zlib.constants.ZSTD_c_compressionLevel]: 19 } }).length;
  return zlib.gzipSync(bytes, { level: 9 }).length;
}
