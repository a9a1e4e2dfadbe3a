/**
 * What this host can do, measured once and remembered: an accelerator is proved by a boot that makes progress, not by a device
 * that opens. The key is what the result depends on; when the host's kernel or the hypervisor changes, it is measured again.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { release } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { accelerator, type ProbeResult } from "../../../helpers/contract/protocol.ts";
import { FILE_VERSION, ProblemError } from "../../contract/index.ts";
import type { Image } from "../image/index.ts";
import type { Paths } from "../paths.ts";
import { Helper, type HelperPrograms } from "./helper.ts";

export type Accelerator = z.infer<typeof accelerator>;

/** An accelerator that gives no console byte in this time does not work. A working one needs about 0.1 s, emulation about 0.5 s. */
const PROBE_TIMEOUT_MS = 5_000;
/** First console byte under emulation on an idle machine of 2026, in ms: what a speed factor of 1 means. */
const REFERENCE_FIRST_BYTE_MS = 400;

const factsSchema = z.strictObject({
  version: z.literal(FILE_VERSION),
  /** host kernel and helper's version of the hypervisor file: size and time stand for it, as asking it costs a start */
  key: z.string().max(512),
  accelerator,
  reason: z.string().max(512),
  /** ≥ 1; deadlines that cannot follow progress are multiplied by it */
  speedFactor: z.number().min(1).max(100),
  /** what does not work, and why */
  refused: z.array(z.strictObject({ name: accelerator, reason: z.string().max(512), evidence: z.string().max(16_384).optional() })).max(4),
  hypervisor: z.string().max(256),
  vsock: z.string().max(600),
});
export type MachineFacts = z.infer<typeof factsSchema>;

export async function machineFacts(options: {
  paths: Paths;
  image: Image;
  programs: HelperPrograms;
  log: string;
  /** measure even when a result is remembered */
  again?: boolean;
}): Promise<MachineFacts> {
  const key = `${release()} ${options.programs.qemu} ${options.image.manifest.kernel.sha256}`;
  const file = options.paths.machineFacts;
  if (!options.again && existsSync(file)) {
    // a file that cannot be read or fits no more is measured anew: it holds nothing of the user's
    const facts = factsSchema.safeParse(parsedOrUndefined(readFileSync(file, "utf8")));
    if (facts.success && facts.data.key === key) return facts.data;
  }
  const probed = await probe(options);
  const usable = probed.accelerators.filter((entry) => entry.usable);
  const best = usable[0];
  const refused = probed.accelerators.filter((entry) => !entry.usable).map(({ name, reason, evidence }) => ({ name, reason, evidence }));
  if (!best) {
    throw new ProblemError({
      code: "machine.no-accelerator",
      message: "Neither hardware virtualization nor emulation starts a machine on this host.",
      evidence: refused.map((entry) => `${entry.name}: ${entry.reason}\n${entry.evidence ?? ""}`).join("\n"),
      next: ["Run `cloche doctor` for the details of each."],
    });
  }
  const facts: MachineFacts = {
    version: FILE_VERSION,
    key,
    accelerator: best.name,
    reason: best.reason,
    speedFactor: Math.min(100, Math.max(1, (best.firstByteMs ?? 0) / REFERENCE_FIRST_BYTE_MS)),
    refused,
    hypervisor: `${probed.hypervisor.name} ${probed.hypervisor.version}`,
    vsock: `${probed.vsock.transport}: ${probed.vsock.reason}`,
  };
  writeFileSync(`${file}.new`, `${JSON.stringify(facts, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
  return facts;
}

async function probe(options: { paths: Paths; image: Image; programs: HelperPrograms; log: string }): Promise<ProbeResult> {
  const { directory } = options.paths.machine("probe");
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { mode: 0o700 });
  const helper = await Helper.spawn(options.programs, options.log, { onProgress: () => {}, onExited: () => {} });
  try {
    return await helper.probe({
      kernel: join(options.image.directory, options.image.manifest.kernel.file),
      initramfs: join(options.image.directory, options.image.manifest.initramfs.file),
      runDir: directory,
      timeoutMs: PROBE_TIMEOUT_MS,
    });
  } finally {
    await helper.end();
    rmSync(directory, { recursive: true, force: true });
  }
}

function parsedOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
