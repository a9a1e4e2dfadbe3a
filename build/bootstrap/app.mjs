// Our TypeScript as files that Node 24 and a browser run, and the list of all parts that core reads.

import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { removeTree, repo } from "./cache.mjs";
import { exec } from "./exec.mjs";
import { nodeBinary } from "./npm.mjs";
import { arch } from "./packages.mjs";

const built = join(repo, ".build");
/** Our programs by their names in the list of parts, and where each begins. */
export const entries = {
  cli: "app/cli/main.ts",
  keeper: "app/keeper/main.ts",
  web: "app/web/main.ts",
  proxy: "app/core/egress/proxy/main.ts",
};

const test = (path) => /(\.test\.tsx?|\.md)$/.test(path);

export const appStep = {
  name: "app",
  title: "bundling the app",
  deps: ["npm-packages", "node"],
  seconds: 5,
  inputs: () => [
    "1",
    { tree: "app", skip: test },
    { tree: "helpers/contract", skip: (path) => /\.(go|md|mod|sum)$/.test(path) },
    { file: "package-lock.json" },
    { file: "tsconfig.json" },
    { file: "build/bootstrap/bundle.mjs" },
  ],
  async run(ctx) {
    await exec([nodeBinary(ctx.outputs.node), join(repo, "build/bootstrap/bundle.mjs"), ctx.out], {
      cwd: repo,
      log: ctx.log,
      code: "build.app",
      message: "The app could not be bundled.",
      next: ["See the bundler's output above; `npm run check` tells more about types."],
    });
  },
};

/**
 * `.build/app` is a copy of the newest bundle and `.build/components.json` says, absolute, where each part of
 * Cloche is: the one thing the app learns from the build.
 */
export const componentsStep = {
  name: "components",
  title: "writing the list of parts",
  deps: ["host", "npm-packages", "node", "go-programs", "vsock-device", "image", "app"],
  seconds: 1,
  ready: ({ outputs }) =>
    read(join(built, "components.json")) === componentsText(outputs) && read(join(built, "app", stamp)) === outputs.app,
  async run({ outputs }) {
    mkdirSync(built, { recursive: true });
    const fresh = join(built, `app.${process.pid}`);
    cpSync(outputs.app, fresh, { recursive: true });
    writeFileSync(join(fresh, stamp), outputs.app);
    const old = join(built, `app.old.${process.pid}`);
    if (existsSync(join(built, "app"))) renameSync(join(built, "app"), old);
    renameSync(fresh, join(built, "app"));
    removeTree(old);
    const temporary = join(built, `components.json.${process.pid}`);
    writeFileSync(temporary, componentsText(outputs));
    renameSync(temporary, join(built, "components.json"));
  },
};

/** Says which output of the `app` step was copied. */
const stamp = ".from";

function read(file) {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return null;
  }
}

function componentsText(outputs) {
  const components = {
    version: 1,
    node: nodeBinary(outputs.node),
    helper: join(outputs["go-programs"], "cloche-helper"),
    shareServer: join(outputs["go-programs"], "cloche-share"),
    vsockDevice: join(outputs["vsock-device"], "usr/bin/vhost-device-vsock"),
    qemu: `/usr/bin/qemu-system-${arch.qemu}`,
    imageDir: outputs.image,
    app: {
      ...Object.fromEntries(Object.keys(entries).map((name) => [name, join(built, "app", `${name}.mjs`)])),
      ui: join(built, "app", "ui"),
    },
  };
  return `${JSON.stringify(components, null, 2)}\n`;
}
