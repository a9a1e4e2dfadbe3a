// The share server against its peers: natively by one Go client, and in one guest by the kernel's own clients, side by side.

import { execFileSync, spawn } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { endpoint } from "../../app/contract/node/index.ts";
import { Agent, choosePorts, dialGuest, FirstConnection, makeKeys, SshConnection } from "../../app/core/guest/index.ts";
import { expandTemplate, openImage } from "../../app/core/image/index.ts";
import { bootCommandLine, DATA_SERIAL, Helper, layerSerial, machineFacts } from "../../app/core/machine/index.ts";
import { Paths } from "../../app/core/paths.ts";
import { identifyFolder, ShareServer } from "../../app/core/share/server.ts";
import { alive, sleep } from "./place.mjs";
import { formatColumns, median, row } from "./stats.mjs";

const TARGET = 1;
/** Of `ro` for reads and of plain for writes. */
const MODE_TARGET = 1.3;
const TASK_TARGET_MS = 1000;
const FIRST_TOUCH = /^first touch/;
const VIRTIOFSD = "/usr/lib/qemu/virtiofsd";
/** microvm's first place for virtio devices: the helper fills them from the last, and tells the guest's kernel of those it filled */
const FS_PLACE = { bus: "virtio-mmio-bus.0", cmdline: "virtio_mmio.device=512@0xfeb00000:5" };

export async function benchShare(context) {
  const native = await benchNative(context);
  const guest = await benchGuest(context);
  return { rows: [...native.rows, ...guest.rows], notes: [...native.notes, ...guest.notes], native: native.samples, guest: guest.samples };
}

/** helpers/share/bench does the measuring; its samples are shown as ours against diod. */
async function benchNative({ place, parts, rounds, log }) {
  log(`share: natively, ${rounds} rounds of 256 MiB and thousands of small files, for each of diod and ours`);
  const text = execFileSync(
    join(parts, "cloche-share-bench"),
    ["-share", place.components.shareServer, "-diod", "/usr/sbin/diod", "-dir", place.folder("native"), "-rounds", String(rounds)],
    { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"], maxBuffer: 1 << 24 },
  );
  const { results, tasks } = JSON.parse(text);
  return {
    rows: [...results.flatMap(peerRows), ...results.flatMap(modeRows), ...tasks.map(taskRow)],
    notes: [
      `native: one Go 9P client, unix socket, turns by round; -64k: frames as diod's 64 KiB at most, -512k: as the guest's; ro, rw and review: our modes`,
      `plain: the same sessions and handles with nothing kept and no confinement; a first touch keeps what it overwrites, so it has no target\n${formatColumns(
        [["  the guest's side of", "took"], ...tasks.map(({ task, prepareMs }) => [`  ${task}`, `${median(prepareMs).toFixed(0)} ms`])],
      )}`,
    ],
    samples: { results, tasks },
  };
}

/** Ours beside diod; judged are diod's own frames, the others are shown. */
function peerRows({ workload, ms }) {
  return ["ours-ro-64k", "ours-rw-64k", "ours-rw-512k"]
    .filter((name) => ms[name])
    .map((name) =>
      row("share", `native, ${name}: ${workload}`, {
        ours: ms[name],
        base: ms.diod,
        baseName: "diod",
        ...(name === "ours-rw-64k" && !FIRST_TOUCH.test(workload) ? { target: TARGET } : {}),
      }),
    );
}

/** What a mode costs: reads beside `ro`, writes beside plain. */
function modeRows({ workload, ms }) {
  const baseName = ms["ours-ro-512k"] ? "ours-ro-512k" : "plain-512k";
  return ["ours-rw-512k", "ours-review-512k"].map((name) =>
    row("share", `native, ${name}: ${workload}`, {
      ours: ms[name],
      base: ms[baseName],
      baseName,
      ...(FIRST_TOUCH.test(workload) ? {} : { target: MODE_TARGET }),
    }),
  );
}

const taskRow = ({ task, ms }) =>
  row("share", `native: ${task}`, { ours: ms, ...(task.startsWith("restore") ? {} : { target: TASK_TARGET_MS }) });

/** What is done in a mounted folder; $1 is the mount. Everything runs as root, so that the servers' ideas of owners play no part. */
const workloads = {
  "write 64 MiB (dd, fsync)": {
    before: 'rm -f "$1/written"',
    work: 'dd if=/dev/zero of="$1/written" bs=1M count=64 conv=fsync 2>/dev/null',
  },
  "read 64 MiB (cat)": { before: "cold", work: 'cat "$1/big" >/dev/null' },
  "create 200 files": { before: 'rm -rf "$1/new"; mkdir "$1/new"; cold', work: 'for ((i = 0; i < 200; i++)); do : >"$1/new/$i"; done' },
  "walk and stat 1000 files (find)": { before: "cold", work: `find "$1/tree" -printf '%s\\n' >/dev/null` },
  "git status, 200 files": { before: "cold", work: 'git -c safe.directory="*" -C "$1/repo" status --porcelain >/dev/null' },
};

/** Runs one workload on one mount and prints what it took in ms; the tools are read in before, as their pages are dropped too. */
const timed = `
cold() { echo 3 >/proc/sys/vm/drop_caches; for t in cat find git dd; do $t --version >/dev/null; done; }
set -e
eval "$2"
from=$EPOCHREALTIME
eval "$3"
to=$EPOCHREALTIME
echo $(( (\${to/./} - \${from/./}) ))
`;

/** The contenders in the guest; the first is ours in `rw`, and what the others are judged by. */
const CONTENDERS = ["ours", "review", "diod", "null", "virtiofsd"];

const OURS = CONTENDERS.slice(0, 2);
const PEERS = CONTENDERS.slice(2);

/** One folder of the same content for each contender. */
function contenders(place, section, fillOne) {
  const folders = Object.fromEntries(CONTENDERS.map((name) => [name, place.folder(`${section}/${name}`)]));
  fillOne(folders.ours);
  for (const name of CONTENDERS.slice(1)) execFileSync("cp", ["-a", `${folders.ours}/.`, folders[name]]);
  return folders;
}

async function benchGuest({ place, parts, rounds, log }) {
  const folders = contenders(place, "share", fill);
  const guest = await boot(place, folders, parts);
  return measure("share", guest, workloads, { rounds, log });
}

/** Every workload on every mount, in turns; the first round is not counted unless it is the only one. */
async function measure(section, guest, work, { rounds, log, warm = true, only = Object.keys(guest.mounts) }) {
  const names = Object.keys(guest.mounts).filter((name) => only.includes(name));
  const samples = Object.fromEntries(Object.keys(work).map((name) => [name, Object.fromEntries(names.map((m) => [m, []]))]));
  try {
    for (let round = warm ? 0 : 1; round <= rounds; round++) {
      log(`${section}: in the guest, round ${round} of ${rounds}${round === 0 ? " (not counted)" : ""}`);
      const order = names.map((_, i) => names[(i + round) % names.length]);
      for (const [workload, { before, work: command }] of Object.entries(work)) {
        for (const name of order) {
          try {
            const us = Number(await guest.root(timed, guest.mounts[name], before, command));
            if (round > 0) samples[workload][name].push(us / 1000);
            if (!warm) log(`${section}: ${workload}: ${name} ${(us / 1e6).toFixed(2)} s`); // each takes minutes
          } catch (error) {
            if (!PEERS.includes(name)) throw error;
            // A peer that cannot do it has no number: virtiofsd holds a descriptor for each file and may meet the host's limit.
            guest.missing.push(`${name}, ${workload}: ${error.message.trim().split("\n").at(-1)}`);
          }
        }
      }
    }
  } finally {
    await guest.end();
  }
  const rows = Object.entries(samples).flatMap(([workload, by]) =>
    OURS.filter((name) => by[name]).map((name) =>
      row(section, `guest${name === "ours" ? "" : ", review"}: ${workload}`, {
        ours: by[name],
        base: by.diod?.length ? by.diod : undefined,
        baseName: "diod in the guest",
      }),
    ),
  );
  const columns = ["null", "ours", "review", "diod", "virtiofsd"];
  const table = Object.entries(samples).map(([workload, by]) => [
    `  ${workload}`,
    ...columns.map((name) => (by[name]?.length ? `${median(by[name]).toFixed(0)} ms (${Math.min(...by[name]).toFixed(0)})` : "–")),
  ]);
  return {
    rows,
    notes: [
      `in one guest, side by side, median (min); ours is rw:\n${formatColumns([["  ", ...columns], ...table])}`,
      `9P mounts: ${guest.options}; virtiofs: cache=auto${guest.missing.length ? `; NOT MEASURED: ${guest.missing.join("; ")}` : ""}`,
    ],
    samples,
  };
}

const NPM_CI = "npm ci, 341 packages";

/** Work on trees of many files, as projects have them. $1 is the mount. */
const trees = {
  "git status, 20,000 files": { before: "cold", work: 'git -c safe.directory="*" -C "$1/repo" status --porcelain >/dev/null' },
  "untar 10,000 files": {
    before: 'rm -rf "$1/untarred"; mkdir "$1/untarred"; cold; tar --version >/dev/null',
    work: 'tar -xf /tmp/tree.tar -C "$1/untarred"',
  },
  [NPM_CI]: {
    before: 'rm -rf "$1/app/node_modules"; cold',
    work: 'cd "$1/app" && npm ci --offline --cache /tmp/npm-cache --ignore-scripts --no-audit --no-fund --silent >/dev/null',
  },
};

/** `npm run bench -- --only tree`: most of an hour, as the guest is emulated. */
export const benchTree = (asked) => benchTrees("tree", trees, CONTENDERS, asked);

/** `npm run bench -- --only npm-ci`: its last part alone, in `rw` beside the two peers, in a quarter of that. */
export const benchNpmCi = (asked) => benchTrees("npm-ci", { [NPM_CI]: trees[NPM_CI] }, ["ours", "diod", "virtiofsd"], asked);

async function benchTrees(section, work, only, { place, parts, rounds, log }) {
  const project = join(import.meta.dirname, "tree");
  const made = place.folder(`${section}-made`);
  log(`${section}: 20,000 files in a repository, an archive of 10,000, and a cache of npm packages from the registry`);
  execFileSync(
    "bash",
    [
      "-c",
      `set -e; mkdir files; for ((d = 0; d < 100; d++)); do mkdir files/$d; for ((f = 0; f < 100; f++)); do echo "file $d $f" >files/$d/$f.txt; done; done
      tar -cf tree.tar files; mkdir app; cp "$1"/package*.json app; cd app
      npm ci --cache ../npm-cache --ignore-scripts --no-audit --no-fund --silent && rm -rf node_modules && npm config get registry >../registry`,
      "fill",
      project,
    ],
    { cwd: made, stdio: ["ignore", "ignore", "inherit"] },
  );
  const folders = contenders(place, section, (folder) => {
    chmodSync(folder, 0o777);
    execFileSync(
      "bash",
      [
        "-c",
        `set -e; umask 0; mkdir app; cp "$1"/app/package*.json app; git init -q repo; cd repo
        for ((d = 0; d < 200; d++)); do mkdir $d; for ((f = 0; f < 100; f++)); do echo file $d $f >$d/$f.txt; done; done
        # so many loose objects would have git pack them in the background, under the copying
        git add . && git -c gc.auto=0 -c maintenance.auto=false -c user.name=bench -c user.email=bench@localhost commit -qm bench`,
        "fill",
        made,
      ],
      { cwd: folder, stdio: "ignore" },
    );
  });
  const guest = await boot(place, folders, parts);
  // The guest has no network: what npm would fetch comes as its cache, through the folder that is served anyway.
  execFileSync("cp", ["-a", join(made, "tree.tar"), join(made, "npm-cache"), join(made, "registry"), folders.ours]);
  await guest.root(
    `cp -r ${guest.mounts.ours}/tree.tar ${guest.mounts.ours}/npm-cache /tmp/ && npm config set --location=global registry "$(cat ${guest.mounts.ours}/registry)"`,
  );
  return measure(section, guest, work, { rounds, log, warm: false, only });
}

function fill(folder) {
  chmodSync(folder, 0o777);
  execFileSync(
    "bash",
    [
      "-c",
      `set -e; umask 0; head -c 67108864 /dev/urandom >big
      for ((d = 0; d < 20; d++)); do mkdir -p tree/$d; for ((f = 0; f < 50; f++)); do echo $d $f >tree/$d/$f; done; done
      git init -q repo; cd repo; for ((d = 0; d < 10; d++)); do mkdir $d; for ((f = 0; f < 20; f++)); do echo file $d $f >$d/$f.txt; done; done
      git add . && git -c user.name=bench -c user.email=bench@localhost commit -qm bench`,
    ],
    { cwd: folder, stdio: "ignore" },
  );
}

/**
 * A machine of the bench's own, booted by the product's helper. The product has no hook for foreign servers, so the helper is given
 * a script as its QEMU, which adds one virtio-fs device, and the mounts are asked for here.
 */
async function boot(place, folders, parts) {
  const { components } = place;
  const missing = [];
  const servers = [];
  const work = place.folder("guest");
  const at = endpoint();
  for (const needed of [at.home, at.runtime]) mkdirSync(needed, { recursive: true, mode: 0o700 });
  const paths = new Paths(at);
  const { directory, streams } = paths.machine("bench");
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { mode: 0o700 });
  const image = openImage(components.imageDir);
  const facts = await machineFacts({ paths, image, programs: components, log: join(work, "log") });

  const fs = await startVirtiofsd(folders.virtiofsd, join(work, "fs.sock"), missing);
  if (fs) servers.push(fs);
  const qemu = join(work, "qemu");
  const extra = fs
    ? `-chardev socket,id=fs,path=${join(work, "fs.sock")} -device vhost-user-fs-device,chardev=fs,tag=bench,bus=${FS_PLACE.bus}`
    : "";
  writeFileSync(qemu, `#!/bin/sh\nexec ${components.qemu} "$@" ${extra}\n`, { mode: 0o755 });

  const [control, sshPort, ...ports] = choosePorts(6);
  const port = { ours: ports[0], diod: ports[1], null: ports[2], review: ports[3] };
  for (const [name, mode] of [
    ["ours", "rw"],
    ["review", "review"],
  ])
    servers.push(await startOurs(components.shareServer, folders[name], mode, `${streams}_${port[name]}`, join(work, name)));
  servers.push(await startServer(join(parts, "null9p"), [folders.null, `${streams}_${port.null}`], `${streams}_${port.null}`));
  const diodArgs = ["-f", "-n", "-S", "-U", "root", "-c", "/dev/null", "-L", "stderr", "-e", folders.diod, "-l", `${streams}_${port.diod}`];
  servers.push(await startServer("/usr/sbin/diod", diodArgs, `${streams}_${port.diod}`));

  const disk = join(work, "disk.raw");
  await expandTemplate(image, disk, image.manifest.diskTemplate.diskSizeBytes);
  const first = await FirstConnection.listen(`${streams}_${control}`);
  const helper = await Helper.spawn({ ...components, qemu }, join(work, "log"), { onProgress() {}, onExited() {} });
  const end = async () => {
    await helper.end();
    for (const server of servers) await server.end();
    first.close();
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    await helper.start({
      id: "bench-share",
      runDir: directory,
      kernel: join(image.directory, image.manifest.kernel.file),
      initramfs: join(image.directory, image.manifest.initramfs.file),
      cmdline: `${bootCommandLine(image.manifest, control)}${fs ? ` ${FS_PLACE.cmdline}` : ""}`,
      memoryMib: 1024,
      cpus: 1,
      disks: [
        ...image.manifest.layers.map((layer, i) => ({ serial: layerSerial(i), path: join(image.directory, layer.file), readOnly: true })),
        { serial: DATA_SERIAL, path: disk, readOnly: false },
      ],
      streams,
      openPorts: [control, ...Object.values(port)],
      consoleLog: join(work, "console"),
      consoleLimitBytes: 1 << 20,
      accelerator: facts.accelerator,
    });
    const agent = await Agent.greet(await first.connection, { image: image.manifest.id }, { onLog() {}, onClose() {} });
    const keys = await makeKeys();
    await agent.call(
      "configure",
      {
        protocol: agent.hello.protocol,
        hostname: "bench",
        user: { name: "you", uid: 1000, gid: 1000, sudo: true },
        environment: {},
        timeUnixNs: (BigInt(Date.now()) * 1_000_000n).toString(),
        entropy: Buffer.from(crypto.getRandomValues(new Uint8Array(64))).toString("base64"),
        ssh: { port: sshPort, hostKey: keys.hostPrivate, authorizedKey: keys.userPublic },
      },
      60_000,
    );
    const ssh = await SshConnection.connect(await dialGuest(streams, sshPort), keys, "you");
    const root = (script, ...args) => rootShell(ssh, script, args);
    const mounts = {};
    for (const name of ["ours", "review", "null"]) {
      mounts[name] = `/home/you/${name}`;
      await agent.call("mount", { port: port[name], guestPath: mounts[name], mode: "rw" }, 30_000);
    }
    // diod wants the export's name, which our agent has no use for: mounted by hand, by the agent's own options
    const options = (await root("grep ' /home/you/ours 9p ' /proc/mounts")).split(" ")[3]; // below it is its read-only cover
    mounts.diod = "/mnt/diod";
    await root(`mkdir -p ${mounts.diod}; python3 -c "$1" "$2" "$3" "$4"`, mount9p, String(port.diod), mounts.diod, folders.diod);
    if (fs) {
      mounts.virtiofsd = "/mnt/virtiofs";
      await root(`mkdir -p ${mounts.virtiofsd} && mount -t virtiofs bench ${mounts.virtiofsd}`);
    }
    const endAll = async () => {
      ssh.end();
      agent.close();
      await end();
    };
    return { root, mounts, options, missing, end: endAll };
  } catch (error) {
    await end();
    throw error;
  }
}

const mount9p = `
import ctypes, os, socket, sys
s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
s.connect((2, int(sys.argv[1])))
o = f"trans=fd,rfdno={s.fileno()},wfdno={s.fileno()},version=9p2000.L,msize=524288,access=any,cache=mmap,uname=root,dfltuid=0,aname={sys.argv[3]}"
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"diod", sys.argv[2].encode(), b"9p", 2 | 4 | 1024, o.encode()) != 0:
    sys.exit("mount: " + os.strerror(ctypes.get_errno()))
`;

/** A bash script as root in the guest; answers with what it prints. */
async function rootShell(ssh, script, args) {
  const quoted = [script, "bench", ...args].map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(" ");
  const channel = await ssh.exec(`sudo bash -c ${quoted}`, undefined);
  let out = "";
  let err = "";
  channel.on("data", (chunk) => (out += chunk));
  channel.stderr.on("data", (chunk) => (err += chunk));
  const status = await new Promise((done) => {
    let code;
    channel.on("exit", (value) => (code = value));
    channel.on("close", () => done(code));
    channel.end();
  });
  if (status !== 0) throw new Error(`in the guest, status ${status}: ${script}\n${err}`);
  return out.trim();
}

/** Our server as core starts it, confinement and all. */
async function startOurs(program, folder, mode, listen, work) {
  const path = Buffer.from(folder);
  const kept = { layer: join(work, "layer"), store: join(work, "store"), writer: "bench" };
  for (const needed of [work, kept.layer, kept.store]) mkdirSync(needed, { mode: 0o700 });
  const log = join(work, "log");
  const { identity } = await identifyFolder({ program, log, root: path, name: "bench" });
  const spec = { id: "00000000", path, name: "bench", identity, mode, hideSecrets: false, localFolders: false };
  // Versions of all rounds stay, so the limit must not decide what is measured.
  return ShareServer.start({ program, log, folder: spec, listen, kept: { ...kept, versionLimitBytes: 2 ** 40 } });
}

async function startServer(program, args, socket) {
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"] });
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill); // they serve a socket and would outlive us
  let said = "";
  child.stderr.on("data", (chunk) => (said += chunk));
  child.on("error", (error) => (said += error.message));
  while (!existsSync(socket)) {
    if (child.exitCode !== null || !alive(child.pid)) throw new Error(`${program} ended at once: ${said}`);
    await sleep(20);
  }
  return {
    end: async () => {
      process.off("exit", kill);
      kill();
    },
  };
}

/** As its maker ships it: cache=auto. It needs root and namespaces of its own; without them it is left out, and said so. */
async function startVirtiofsd(folder, socket, missing) {
  try {
    return await startServer(VIRTIOFSD, [`--socket-path=${socket}`, "-o", `source=${folder},cache=auto`], socket);
  } catch (error) {
    missing.push(`virtiofsd: ${error.message.trim()}`);
    return undefined;
  }
}
