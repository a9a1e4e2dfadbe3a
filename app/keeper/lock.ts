/** One keeper per user: a file that names its process, and a check that the named process is still that one. */
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";

/**
 * When a process began, in clock ticks since the host's boot: with the pid it names one process for good. Empty where it cannot be had,
 * and for one that is dead and only waits for its parent to notice: in a container without an init nobody ever does.
 */
function beganAt(pid: number): string {
  try {
    // fields 3 and 22 of /proc/PID/stat (proc(5)); the command in field 2 may hold spaces and brackets
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" || fields[0] === "X" ? "" : (fields[19] ?? "");
  } catch {
    return "";
  }
}

function isAlive(owner: string): boolean {
  const [pid = 0, began = ""] = owner
    .trim()
    .split(" ")
    .map((part, index) => (index === 0 ? Number(part) : part)) as [number, string];
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
  }
  return process.platform !== "linux" || beganAt(pid) === began;
}

/** Takes the lock; false when a living process holds it. */
export function takeLock(path: string): boolean {
  const mine = `${path}.${process.pid}`;
  writeFileSync(mine, `${process.pid} ${beganAt(process.pid)}\n`, { mode: 0o600 });
  try {
    for (;;) {
      try {
        linkSync(mine, path); // fails when it is there: exactly one of two wins
        return true;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      }
      let owner: string;
      try {
        owner = readFileSync(path, "utf8");
      } catch {
        continue; // released in between
      }
      if (isAlive(owner)) return false;
      // The dead one's file is moved away and looked at once more: if it was a living one's by now, it is put back.
      const aside = `${mine}.stale`;
      try {
        renameSync(path, aside);
      } catch {
        continue;
      }
      if (readFileSync(aside, "utf8") !== owner) linkSync(aside, path);
      rmSync(aside);
    }
  } finally {
    rmSync(mine, { force: true });
  }
}

export function releaseLock(path: string): void {
  rmSync(path, { force: true });
}
