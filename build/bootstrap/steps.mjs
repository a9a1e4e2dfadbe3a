// All steps, and which command needs which. A command makes only what it uses: `npm start` never fetches a browser.

import { mkdirSync } from "node:fs";
import { appStep, componentsStep } from "./app.mjs";
import { installHostPackages, missingHostPackages, unpackVsockDevice } from "./apt.mjs";
import { benchProgramsStep } from "./bench.mjs";
import { builderStep, checkNamespaces } from "./builder.mjs";
import { goStep } from "./go.mjs";
import { diskStep, hotStep, imageStep, layerStep, rootfsStep } from "./image.mjs";
import { kernelStep } from "./kernel.mjs";
import { guestNpmStep, nodeStep, npmPackagesStep } from "./npm.mjs";
import { arch, vsockDevice } from "./packages.mjs";
import { toolChainsStep } from "./tool-chains.mjs";

const hostStep = (name, command, title, seconds) => ({
  name,
  title,
  seconds,
  // apt's own lock would make a second installation fail instead of wait
  deps: name === "host" ? [] : ["host"],
  ready: async () => (await missingHostPackages(command)).length === 0,
  async run(ctx) {
    await installHostPackages(await missingHostPackages(command), ctx);
    await checkNamespaces();
  },
});

const vsockStep = {
  name: "vsock-device",
  title: "fetching vhost-device-vsock",
  deps: ["host"], // which sees to it that apt knows its archives
  seconds: 10,
  inputs: () => ["1", arch.debian, JSON.stringify(vsockDevice)],
  async run(ctx) {
    mkdirSync(ctx.out, { recursive: true });
    await unpackVsockDevice(ctx);
  },
};

export const steps = [
  hostStep("host", "start", "installing Debian packages on this machine", 20),
  hostStep("host-test", "test", "installing Debian packages that only the tests need", 60),
  hostStep("host-bench", "bench", "installing Debian packages that only the bench needs", 10),
  npmPackagesStep,
  nodeStep,
  guestNpmStep,
  vsockStep,
  builderStep,
  kernelStep(),
  goStep,
  rootfsStep,
  hotStep,
  layerStep(false),
  layerStep(true),
  diskStep,
  imageStep(false),
  imageStep(true),
  appStep,
  componentsStep,
  benchProgramsStep,
  toolChainsStep,
];

/** What a command makes before it does its work; dependencies come along. */
export const commands = {
  start: ["components"],
  check: ["npm-packages", "node", "builder"],
  test: ["components", "host-test", "tool-chains"],
  bench: ["components", "host-bench", "bench-programs"],
  image: ["image"],
  release: ["image-release"],
};
