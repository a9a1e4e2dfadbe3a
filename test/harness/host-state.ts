/** What of a Cloche is on the host: processes, sockets, mounts. Read from /proc, so that nothing of ours is asked. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

export interface HostState {
  readonly processes: string[];
  readonly sockets: string[];
  readonly mounts: number;
}

/** A process that was given no path of this Cloche's holds its files all the same: QEMU has the task's disk open. */
function holds(pid: string, carries: (text: string) => boolean): boolean {
  return readdirSync(`/proc/${pid}/fd`).some((fd) => {
    try {
      return carries(readlinkSync(`/proc/${pid}/fd/${fd}`));
    } catch {
      return false; // closed in between
    }
  });
}

/** How many mounts of this process's namespace carry one of the marks. */
export const mountsOf = (marks: readonly string[]): number =>
  readFileSync("/proc/self/mounts", "latin1")
    .split("\n")
    .filter((line) => marks.some((mark) => line.includes(mark))).length;

/**
 * Another suite's come and go beside it, so all that is counted carries a mark.
 * @param marks texts that only this Cloche's processes, sockets and mounts carry: its home and its runtime directory
 */
export function hostState(marks: readonly string[]): HostState {
  const carries = (text: string) => marks.some((mark) => text.includes(mark));
  const processes: string[] = [];
  for (const pid of readdirSync("/proc").filter((name) => /^[0-9]+$/.test(name))) {
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, "latin1");
      const environment = readFileSync(`/proc/${pid}/environ`, "latin1");
      const state = /^State:\s+(\S)/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1];
      if (state === "Z" || Number(pid) === process.pid) continue;
      if (carries(command) || carries(environment) || holds(pid, carries)) {
        processes.push(`${pid} ${command.replaceAll("\0", " ").slice(0, 160)}`);
      }
    } catch {
      // the process ended while it was looked at
    }
  }
  const sockets = readFileSync("/proc/net/unix", "latin1")
    .split("\n")
    .map((line) => line.trim().split(/\s+/)[7] ?? "")
    .filter(carries);
  return {
    processes,
    sockets: [...new Set(sockets)],
    mounts: mountsOf(marks),
  };
}
