/** The checks of `cloche doctor`. Each says what was looked at, what was found, and what to do; none changes anything but machine-facts.json. */
import { accessSync, constants, existsSync, statfsSync } from "node:fs";
import { type DoctorCheck, ProblemError } from "../../contract/index.ts";
import { openImage, verifyBootFiles } from "../image/index.ts";
import type { MachineFacts } from "../machine/index.ts";
import type { Paths } from "../paths.ts";

export interface DoctorOptions {
  readonly paths: Paths;
  readonly programs: Readonly<Record<"helper" | "qemu" | "vsockDevice" | "shareServer", string>>;
  readonly imageDir: string;
  /** measures the host anew */
  readonly facts: () => Promise<MachineFacts>;
  /** what a share server said of its confinement over a folder of Cloche's own */
  readonly confinement: () => Promise<{ name: string; active: boolean; reason: string }[]>;
  readonly unreadableTasks: readonly { id: string; why: string }[];
}

/** Free room below which a check warns. */
const LOW_DISK_BYTES = 2 * 2 ** 30;

const FIX: Record<"helper" | "qemu" | "vsockDevice" | "shareServer", string> = {
  helper: "Run `npm start` to build it.",
  qemu: "Install it: sudo apt-get install qemu-system-x86",
  vsockDevice: "Run `npm start` to fetch it.",
  shareServer: "Run `npm start` to build it.",
};

export async function runDoctor(options: DoctorOptions): Promise<DoctorCheck[]> {
  const checks: DoctorCheck[] = [];
  const say = (name: string, status: DoctorCheck["status"], message: string, more: { evidence?: string; next?: string[] } = {}) =>
    checks.push({
      name,
      status,
      message: message.slice(0, 1024),
      next: more.next ?? [],
      ...(more.evidence ? { evidence: more.evidence } : {}),
    });

  for (const [role, path] of Object.entries(options.programs) as [keyof typeof FIX, string][]) {
    try {
      accessSync(path, constants.X_OK);
      say(role, "ok", path);
    } catch (error) {
      say(role, "failed", `${path} cannot be run.`, { evidence: (error as Error).message, next: [FIX[role]] });
    }
  }

  try {
    const image = openImage(options.imageDir);
    await verifyBootFiles(image);
    say("image", "ok", `${image.manifest.id.slice(0, 12)}: ${image.manifest.guest.os}, kernel ${image.manifest.kernel.version}`);
  } catch (error) {
    sayProblem(checks, "image", error);
  }

  try {
    const facts = await options.facts();
    const emulated = facts.accelerator === "tcg";
    say("accelerator", emulated ? "warning" : "ok", `${facts.accelerator}: ${facts.reason}`, {
      ...(emulated ? { next: ["Tasks run, but slower: make hardware virtualization work as said below."] } : {}),
    });
    for (const refused of facts.refused) {
      say(`accelerator ${refused.name}`, "warning", refused.reason, {
        ...(refused.evidence ? { evidence: refused.evidence } : {}),
        next: kvmFix(),
      });
    }
    say("hypervisor", "ok", facts.hypervisor);
    say("vsock", "ok", facts.vsock);
  } catch (error) {
    sayProblem(checks, "accelerator", error);
  }

  try {
    for (const layer of await options.confinement()) {
      say(`confinement ${layer.name}`, layer.active ? "ok" : "warning", layer.reason, {
        ...(layer.active ? {} : { next: ["Folders are served without this layer; the others hold. A newer kernel may have it."] }),
      });
    }
  } catch (error) {
    sayProblem(checks, "confinement", error);
  }

  const { bavail, bsize } = statfsSync(options.paths.home);
  const free = bavail * bsize;
  const room = `${(free / 2 ** 30).toFixed(1)} GiB free in ${options.paths.home}`;
  if (free < LOW_DISK_BYTES) say("disk", "warning", room, { next: ["Make room on that disk: a task's disk grows as the task writes."] });
  else say("disk", "ok", room);
  for (const task of options.unreadableTasks) {
    say("task file", "failed", `The task in tasks/${task.id} cannot be read; it was left as it is.`, {
      evidence: task.why,
      next: [`Look at ${options.paths.task(task.id).file}.`],
    });
  }
  return checks;
}

function kvmFix(): string[] {
  if (!existsSync("/dev/kvm"))
    return ["Switch virtualization on in the firmware (VT-x, AMD-V), or nested virtualization in the outer machine."];
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
    return ["The device opens, yet a guest does not run: this host's own hypervisor has to offer nested virtualization."];
  } catch {
    return [
      "Let your user use it: sudo usermod -aG kvm $USER, then log in again and run `cloche doctor` once more: what was measured is remembered.",
    ];
  }
}

function sayProblem(checks: DoctorCheck[], name: string, error: unknown): void {
  if (!(error instanceof ProblemError)) throw error;
  const { message, evidence, next } = error.problem;
  checks.push({ name, status: "failed", message: message.slice(0, 1024), next: [...next], ...(evidence ? { evidence } : {}) });
}
