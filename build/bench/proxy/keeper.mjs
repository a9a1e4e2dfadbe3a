// The keeper's side of a machine's network without the machine: core's own networks, policy, audit log and gateway, which starts the
// proxy as a real keeper does. Argument one is a home of its own, two the proxy's program, three the host that may be reached.
// One line on stdout says where the guest's connections arrive; it ends with its stdin.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Networks } from "../../../app/core/egress/index.ts";
import { AuditLog, Paths, Vault } from "../../../app/core/index.ts";
import { sleep } from "../place.mjs";

const [home, proxy, host] = process.argv.slice(2);
const TASK = { id: "bench", name: "bench" };

const paths = new Paths({ home, runtime: join(home, "runtime") });
for (const directory of [paths.runtime, paths.task(TASK.id).directory]) mkdirSync(directory, { recursive: true, mode: 0o700 });
const audit = new AuditLog(paths);
const keychain = { get: async () => undefined, set: async () => {}, delete: async () => {} }; // no key is used, and none is asked for
const networks = new Networks({
  paths,
  audit,
  vault: new Vault({ paths, keychain }),
  programs: { node: process.execPath, proxy },
  resolve: () => TASK,
  wall: () => "",
  setEnvironment: async () => {},
});
// as `--network models,packages,git --allow HOST`: what is asked for is decided among a task's usual rules
await networks.create(TASK.id, { presets: ["models", "packages", "git"], rules: [{ decision: "allow", host }] }, [], []);
const network = await networks.open(TASK);
const stream = join(paths.runtime, "egress");
await network.listen(stream);
while (network.processes.length === 0) await sleep(10);
process.stdout.write(`${JSON.stringify({ stream, authority: network.certificate, proxy: network.processes[0].pid })}\n`);

process.stdin.resume().on("end", async () => {
  await network.end();
  audit.end();
  process.exit();
});
