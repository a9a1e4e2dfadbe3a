import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { RpcError, RpcPeer } from "../../app/contract/index.ts";
import { componentsPath, lineTransport, readComponents } from "../../app/contract/node/index.ts";
import { expandTemplate, openImage } from "../../app/core/image/index.ts";
import { bootCommandLine, DATA_SERIAL, layerSerial } from "../../app/core/machine/index.ts";
import { type ExitedNotice, HELPER_PROTOCOL, helper, type MachineConfig } from "../../helpers/contract/protocol.ts";
import { hostState } from "../harness/index.ts";

/**
 * What every helper must do, on any system: driven over its pipe, with the real guest image, by the contract alone.
 * On this system it is the Linux helper that the build made.
 */
const components = readComponents(componentsPath(resolve(import.meta.dirname, "../../.build/app/cli.mjs")));
const image = openImage(components.imageDir);
const CONTROL = 12_345;

let directory: string;
let child: ChildProcessWithoutNullStreams;
let peer: RpcPeer<typeof helper>;
let exits: ExitedNotice[];
let progress: number;
let ended: Promise<unknown>;

beforeEach(() => {
  directory = mkdtempSync("/tmp/conformance-");
  mkdirSync(join(directory, "run"), { mode: 0o700 });
  // Its streams may end after the process, in the next test's time: they must not end the next helper.
  const spawned = spawn(components.helper, ["--qemu", components.qemu, "--vsock-device", components.vsockDevice]);
  child = spawned;
  ended = new Promise((done) => spawned.once("close", done));
  spawned.stdin.on("error", () => {});
  exits = [];
  progress = 0;
  peer = new RpcPeer({
    transport: lineTransport(spawned.stdout, spawned.stdin, () => spawned.stdin.end()),
    remote: helper,
    notified: {
      exited: (notice) => exits.push(notice),
      progress: ({ consoleBytes }) => {
        progress = consoleBytes;
      },
    },
  });
});
afterEach(async () => {
  child.stdin.end();
  const timer = setTimeout(() => child.kill("SIGKILL"), 5_000);
  await ended;
  clearTimeout(timer);
  await expect.poll(() => hostState([directory]).processes, { timeout: 5_000 }).toEqual([]);
  rmSync(directory, { recursive: true });
});

const hello = () => peer.call("hello", { protocol: HELPER_PROTOCOL, client: "conformance" });
/** the code with which a call is refused */
const refusal = async (call: Promise<unknown>) => {
  const error = await call.then(
    () => undefined,
    (failed: unknown) => failed,
  );
  if (!(error instanceof RpcError)) throw new Error(`not refused: ${String(error)}`);
  return (error.data as { code: string }).code;
};

async function config(change: Partial<MachineConfig> = {}): Promise<MachineConfig> {
  const disk = join(directory, "disk.raw");
  if (!existsSync(disk)) await expandTemplate(image, disk, 0);
  const layers = image.manifest.layers.map((layer, index) => ({
    serial: layerSerial(index),
    path: join(image.directory, layer.file),
    readOnly: true,
  }));
  return {
    id: "conformance",
    runDir: join(directory, "run"),
    kernel: join(image.directory, image.manifest.kernel.file),
    initramfs: join(image.directory, image.manifest.initramfs.file),
    cmdline: bootCommandLine(image.manifest, CONTROL),
    memoryMib: 512,
    cpus: 1,
    disks: [...layers, { serial: DATA_SERIAL, path: disk, readOnly: false }],
    streams: join(directory, "run/v"),
    openPorts: [CONTROL],
    consoleLog: join(directory, "console.log"),
    consoleLimitBytes: 65_536,
    accelerator: "tcg",
    ...change,
  };
}

/** Resolves with the agent's first line, which only a guest that runs can send. */
function guestCalls(): Promise<string> {
  return new Promise((done, reject) => {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", (bytes) => {
        done(bytes.toString("utf8"));
        server.close();
      });
    });
    server.once("error", reject);
    server.listen(join(directory, `run/v_${CONTROL}`));
  });
}

describe("a helper, by its contract", () => {
  it("says who it is, and refuses another protocol version", async () => {
    expect(await refusal(peer.call("hello", { protocol: 999, client: "x" }))).toBe("protocol.version");
    expect(await hello()).toMatchObject({ protocol: HELPER_PROTOCOL, platform: "linux" });
  });

  it("refuses calls that do not fit its state, and can be used after each", async () => {
    expect(await refusal(peer.call("status", {}))).toBe("protocol.order");
    await hello();
    expect(await refusal(peer.call("pause", {}))).toBe("helper.not-running");
    expect(await peer.call("status", {})).toMatchObject({ state: "idle" });
    await peer.call("terminate", {});
  });

  it("refuses what its schema does not know", async () => {
    await hello();
    expect(await refusal(peer.call("status", { extra: 1 } as never))).toBe("protocol.params");
    expect(await refusal(peer.call("nonsense" as never, {} as never))).toBe("protocol.params");
  });

  it("boots a guest that calls; pause, resume and status tell the truth; terminate twice leaves nothing", async () => {
    const { features } = await hello();
    const called = guestCalls();
    const { processes } = await peer.call("start", await config());
    expect(JSON.parse((await called).split("\n")[0] ?? "")).toMatchObject({ method: "hello", params: { image: image.manifest.id } });
    expect(await peer.call("status", {})).toMatchObject({ state: "running" });
    for (const { pid } of processes) expect(existsSync(`/proc/${pid}`)).toBe(true);
    await expect.poll(() => progress).toBeGreaterThan(0);
    expect(statSync(join(directory, "console.log")).mode & 0o777).toBe(0o600);

    expect(features).toContain("pause");
    await peer.call("pause", {});
    expect(await peer.call("status", {})).toMatchObject({ state: "paused" });
    await peer.call("resume", {});
    expect(await peer.call("status", {})).toMatchObject({ state: "running" });
    if (!features.includes("powerdown")) expect(await refusal(peer.call("powerdown", {}))).toBe("helper.unsupported");

    await peer.call("terminate", {});
    await peer.call("terminate", {});
    expect(exits).toMatchObject([{ reason: "terminated" }]);
    expect(await peer.call("status", {})).toMatchObject({ state: "exited" });
    for (const { pid } of processes) expect(existsSync(`/proc/${pid}`)).toBe(false);
    child.stdin.end();
    await ended;
    // the one socket left is the test's own
    expect(readdirSync(join(directory, "run")).filter((name) => name !== `v_${CONTROL}`)).toEqual([]);
  });

  it("confines its hypervisor: no new privileges, no capabilities, seccomp on", async () => {
    await hello();
    const { processes } = await peer.call("start", await config());
    const qemu = processes.find(({ role }) => role === "hypervisor") ?? processes[0];
    const status = readFileSync(`/proc/${qemu?.pid}/status`, "latin1");
    expect(status).toMatch(/^NoNewPrivs:\s+1$/m);
    expect(status).toMatch(/^CapEff:\s+0+$/m);
    expect(status).toMatch(/^Seccomp:\s+2$/m);
  });

  it("a hypervisor that is killed is told of once, as such", async () => {
    await hello();
    const called = guestCalls();
    const { processes } = await peer.call("start", await config());
    await called;
    const victim = processes.find(({ role }) => role === "hypervisor") ?? processes[0];
    process.kill(victim?.pid ?? 0, "SIGKILL");
    await expect.poll(() => exits, { timeout: 5_000 }).toMatchObject([{ reason: "hypervisor-died" }]);
  });

  it("killed itself, it takes the machine along", async () => {
    await hello();
    const { processes } = await peer.call("start", await config());
    child.kill("SIGKILL");
    await expect.poll(() => processes.filter(({ pid }) => existsSync(`/proc/${pid}/exe`)), { timeout: 5_000 }).toEqual([]);
  });

  it("a start that cannot be is refused with the reason, and leaves nothing", async () => {
    await hello();
    expect(await refusal(peer.call("start", await config({ kernel: join(directory, "none") })))).toBe("helper.start-failed");
    expect(hostState([directory]).processes.filter((line) => !line.includes("cloche-helper"))).toEqual([]);
  });

  it("a probe tells which accelerators work, and leaves nothing", async () => {
    await hello();
    const { kernel, initramfs, runDir } = await config();
    const { accelerators, vsock } = await peer.call("probe", { kernel, initramfs, runDir, timeoutMs: 5_000 });
    const usable = accelerators.filter((entry) => entry.usable);
    expect(usable.length).toBeGreaterThan(0);
    for (const entry of accelerators) expect(entry.reason.length).toBeGreaterThan(5);
    expect(vsock.transport).not.toBe("none");
    expect(readdirSync(runDir)).toEqual([]);
  });
});
