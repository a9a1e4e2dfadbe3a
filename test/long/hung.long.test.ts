/** What takes as long as a hung guest is given to answer. */
import { afterAll, expect, it } from "vitest";
import { pidOf, refusedWith } from "../e2e/faults/support.ts";
import { Cloche } from "../harness/index.ts";

const cloche = new Cloche();
afterAll(() => cloche.end());

it("a command without a limit is told that its guest is silent, and does not run when that goes on", async () => {
  await cloche.ok(["new", "hung"]);
  await cloche.ok(["start", "hung"]);
  await cloche.ok(["exec", "hung", "--", "true"]);
  const hypervisor = pidOf(cloche, "qemu-system");
  process.kill(hypervisor, "SIGSTOP");
  try {
    const silent = await cloche.run(["exec", "hung", "--", "touch", "/home/you/asked-of-a-hung-guest"]);
    refusedWith(silent, "guest.silent");
    expect(silent.stderr).toContain("cloche stop");
    expect((await cloche.task("hung")).running, "nothing is left of it in the keeper").toBe(0);
  } finally {
    process.kill(hypervisor, "SIGCONT");
  }
  // asked over the same connection after the one that was given up, so it is answered after that
  expect((await cloche.ok(["exec", "hung", "--", "sh", "-c", "test ! -e ~/asked-of-a-hung-guest && echo goes on"])).stdout).toBe(
    "goes on\n",
  );
}, 400_000);
