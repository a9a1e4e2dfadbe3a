// All steps, and which command needs which. A command makes only what it uses: `npm start` never fetches a browser.

import { builderStep, checkNamespaces } from "./builder.mjs";
import { installHostPackages, missingHostPackages } from "./apt.mjs";

const hostStep = (name, command, title, seconds) => ({
  name,
  title,
  seconds,
  ready: async () => (await missingHostPackages(command)).length === 0,
  async run(ctx) {
    await installHostPackages(await missingHostPackages(command), ctx);
    await checkNamespaces();
  },
});

export const steps = [
  hostStep("host", "start", "installing Debian packages on this machine", 20),
  hostStep("host-test", "test", "installing Debian packages that only the tests need", 60),
  builderStep,
];
