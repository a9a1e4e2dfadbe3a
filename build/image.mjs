// `npm run image [-- --release] [--json]`: makes the guest image and says what it weighs.
// `npm run image -- --release --sign KEY.pem --url URL --out DIR [--sequence N]`: packs it for others to fetch.

import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { manifestFiles, travelBytes } from "./bootstrap/archive.mjs";
import { main } from "./bootstrap/main.mjs";
import { Problem } from "./bootstrap/problem.mjs";
import { publish } from "./bootstrap/release.mjs";
import { size } from "./bootstrap/runner.mjs";
import { commands } from "./bootstrap/steps.mjs";

/** What a release may weigh to download. */
const LIMIT_BYTES = 150e6;

await main(async ({ make }) => {
  const { release, json, ...asked } = options();
  const outputs = await make(release ? commands.release : commands.image);
  const directory = outputs[release ? "image-release" : "image"];
  const manifest = JSON.parse(readFileSync(join(directory, "manifest.json"), "utf8"));
  const published = asked.sign
    ? await publish({ imageDir: directory, keyFile: asked.sign, url: asked.url, out: asked.out, sequence: asked.sequence })
    : null;
  const parts = published?.parts ?? [];
  if (!published) {
    for (const { file } of manifestFiles(manifest)) {
      const path = join(directory, file);
      parts.push({ file, sizeBytes: statSync(path).size, compressedBytes: await travelBytes(path) });
    }
  }
  const totalBytes = published?.sizeBytes ?? parts.reduce((sum, part) => sum + part.compressedBytes, 0);
  const report = {
    directory,
    id: manifest.id,
    release,
    parts,
    totalBytes,
    limitBytes: LIMIT_BYTES,
    withinLimit: totalBytes <= LIMIT_BYTES,
    ...(published && {
      archive: published.archive,
      descriptor: published.descriptor,
      key: published.key,
      sequence: published.release.sequence,
    }),
  };
  if (json) process.stdout.write(`${JSON.stringify(report)}\n`);
  else {
    for (const part of parts)
      process.stdout.write(
        `${part.file.padEnd(22)} ${size(part.sizeBytes).padStart(10)}   compressed ${size(part.compressedBytes).padStart(10)}\n`,
      );
    process.stdout.write(
      `${"to download".padEnd(22)} ${"".padStart(10)}              ${size(totalBytes).padStart(10)}   limit for a release ${size(LIMIT_BYTES)}\n`,
    );
    process.stdout.write(`${directory}\n`);
    if (published) {
      process.stdout.write(`
release ${published.release.sequence}, signed by the key ${published.key}
1. put ${published.archive} at ${published.release.url}
2. put ${published.descriptor} where it is offered: vm-image/release.json, or an address for CLOCHE_IMAGE_RELEASE
3. once: put ${join(asked.out, "release-key.pem")} (the public key) at vm-image/release-key.pem
`);
    }
  }
  if (release && !report.withinLimit) {
    throw new Problem({
      code: "build.image-too-big",
      message: `The release image is ${size(totalBytes)} to download; the limit is ${size(LIMIT_BYTES)}.`,
      next: ["Take packages out of vm-image/rootfs/packages.txt; `dpkg-query --show --showformat` in a guest shows the heavy ones."],
    });
  }
});

/** What was asked for; anything that is not understood stops before there is work. */
function options() {
  const usage = (message) =>
    new Problem({
      code: "build.usage",
      message,
      next: ["npm run image [-- --release] [--json]", "npm run image -- --release --sign KEY.pem --url URL --out DIR [--sequence N]"],
    });
  let values;
  try {
    const text = { type: "string" };
    const flag = { type: "boolean", default: false };
    ({ values } = parseArgs({ options: { release: flag, json: flag, sign: text, url: text, out: text, sequence: text } }));
  } catch (error) {
    throw usage(`npm run image: ${error.message}`);
  }
  const { sign, url, out, sequence } = values;
  const given = [sign, url, out].filter((value) => value !== undefined).length;
  if ((given > 0 || sequence !== undefined) && (given < 3 || !values.release)) {
    throw usage("To publish an image, --release, --sign, --url and --out belong together.");
  }
  if (url !== undefined && !/^https?:\/\//.test(url)) throw usage(`--url ${url} is no http or https address.`);
  if (sequence !== undefined && !/^[1-9]\d{0,14}$/.test(sequence)) throw usage(`--sequence ${sequence} is no number.`);
  return { ...values, sequence: sequence === undefined ? undefined : Number(sequence) };
}
