// `cloche run -- true` against the bare boot of the same kernel.

import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { formatSplit, row } from "./stats.mjs";

const TARGET = 2.5;

export async function benchStart({ place, parts, rounds, log }) {
  const bare = await bareBoot(place, parts);
  const warm = [];
  const cold = [];
  const floor = [];
  const splits = { warm: [], cold: [] };
  for (let round = 0; round <= rounds; round++) {
    log(`start: round ${round} of ${rounds}${round === 0 ? " (not counted)" : ""}`);
    await place.keeperGone();
    const first = await place.run("run", "--", "true");
    const holder = await place.connect();
    const second = await place.run("run", "--", "true");
    const third = await bare();
    if (round > 0) {
      cold.push(first.took);
      warm.push(second.took);
      floor.push(third);
      const events = (await holder.call("events.read", { after: 0, limit: 1000, waitMs: 0 })).events;
      splits.cold.push(split(first, events));
      splits.warm.push(split(second, events));
    }
    holder.close();
  }
  const made = (name, ours) => row("start", name, { ours, base: floor, baseName: "bare boot", target: TARGET });
  return {
    rows: [made("run -- true, keeper warm", warm), made("run -- true, keeper cold", cold)],
    notes: [
      formatSplit("run -- true, keeper warm, is", splits.warm),
      formatSplit("run -- true, keeper cold, is", splits.cold),
      `aim ≤ 2.0x; the first round, in which the accelerators are probed, is not counted`,
    ],
    splits,
  };
}

/** Where one run spent its time; the parts add up to the whole. */
function split(run, events) {
  const at = (event) => new Date(event.time).getTime();
  const created = events.find((event) => event.kind === "task.created" && at(event) >= run.began - 1 && at(event) <= run.ended + 1);
  const own = events.filter((event) => event.task === created.task);
  const time = (kind, match = () => true) => at(own.find((event) => event.kind === kind && match(event.data)));
  const step = (name, phase) => time("task.step", (data) => data.step === name && data.phase === phase);
  const marks = [
    ["cloche's process until the task is made (cold: and the keeper's start)", time("task.created")],
    ["helper, disk, QEMU's start, until the guest's first instruction", step("boot", "ended")],
    ["kernel and agent, until its hello", time("guest.hello")],
    ["configure: root, user, names", step("shares", "began")],
    ["shares (none)", step("shares", "ended")],
    ["ssh: service's start and handshake", time("task.running")],
    ["request of the command", time("exec.started")],
    ["the command", time("exec.ended")],
    ["teardown: disk written back, machine gone", time("task.stopped")],
    ["task removed, cloche's end", run.ended],
  ];
  let last = run.began;
  const parts = {};
  for (const [name, until] of marks) {
    parts[name] = until - last;
    last = until;
  }
  return parts;
}

/**
 * The bare boot: QEMU's arguments are those of a real run, read from its process, less what needs a partner that a floor has not:
 * the QMP socket (and -S, which waits for it), the vsock device, and the helper, which lays the kernel out in the memory: QEMU loads it
 * here, with the real run's command line. The console goes to QEMU's stdout.
 */
async function bareBoot(place, parts) {
  const client = await place.connect();
  const task = await place.task(client);
  const { hostProcesses } = await client.call("tasks.stats", { task: task.id });
  const { pid } = hostProcesses.find((entry) => entry.role === "hypervisor");
  const [program, ...argv] = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1);
  const said = await place.exec(client, task, ["cat", "/proc/cmdline"]);
  const cmdline = said.trim().replace(/ virtio_mmio\.device=\S+/g, ""); // QEMU names its devices itself
  await client.call("tasks.remove", { task: task.id, discard: true });
  client.close();

  const manifest = JSON.parse(readFileSync(join(place.components.imageDir, "manifest.json"), "utf8"));
  const disk = join(place.directory, "bare.raw");
  closeSync(openSync(disk, "a"));
  truncateSync(disk, manifest.diskTemplate.diskSizeBytes);
  const files = [...manifest.layers.map((layer) => join(place.components.imageDir, layer.file)), disk];
  const boot = { kernel: join(place.components.imageDir, "vmlinux"), initramfs: join(parts, "bare-init.cpio"), cmdline };
  const args = bareArguments(argv, boot, files);

  return () =>
    new Promise((done, failed) => {
      const from = performance.now();
      const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], env: {} });
      let said = "";
      child.stdout.on("data", (chunk) => (said += chunk));
      child.stderr.on("data", (chunk) => (said += chunk));
      child.on("error", failed);
      child.on("close", (status) => {
        const took = performance.now() - from;
        if (status === 0 && said.includes("bare-init: here")) done(took);
        else failed(new Error(`the bare boot ended with ${status}:\n${said}\n${args.join(" ")}`));
      });
    });
}

export function bareArguments(argv, { kernel, initramfs, cmdline }, files) {
  const args = [];
  const disks = [...files];
  for (let i = 0; i < argv.length; i++) {
    const [flag, value] = [argv[i], argv[i + 1]];
    if (flag === "-S") continue;
    if (!["-nodefaults", "-no-user-config", "-no-reboot"].includes(flag))
      i++; // flags with a value
    else {
      args.push(flag);
      continue;
    }
    if (flag === "-mon" || flag === "-add-fd") continue;
    if (flag === "-chardev" && value.includes("id=console")) args.push(flag, "stdio,id=console,signal=off");
    else if (flag === "-chardev") continue;
    else if (flag === "-device" && value.includes("vsock")) continue;
    else if (flag === "-bios") args.push("-kernel", kernel, "-initrd", initramfs, "-append", cmdline);
    else if (flag === "-object" && value.startsWith("memory-backend-file")) {
      const size = /,size=(\d+M),/.exec(value)[1];
      args.push(flag, `memory-backend-memfd,id=mem,size=${size},share=on`);
    } else if (flag === "-blockdev") {
      const node = JSON.parse(value);
      node.file.filename = disks.shift();
      args.push(flag, JSON.stringify(node));
    } else args.push(flag, value);
  }
  return args;
}
