/** A start that makes no progress: a file of its own, as it waits for most of its time. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Cloche } from "../../harness/index.ts";
import { componentsWith, eventsOnDisk, failedWith, keeperEnds, noMachineLeft, refusedWith, until } from "./support.ts";

const cloche = new Cloche();
beforeAll(async () => {
  await cloche.ok(["new", "t", "--share", `${cloche.folder("work")}:rw`]);
});
afterAll(() => cloche.end());

describe("a start that makes no progress", () => {
  it("is given up with what it waited for; speed factor 1 makes that 20 s of silence", async () => {
    await keeperEnds(cloche);
    // the probe boots real machines; after that every machine's processors are never told to go
    const path = join(cloche.directory, "qemu-hangs");
    const { qemu } = cloche.components;
    writeFileSync(path, `#!/bin/sh\nfor a in "$@"; do case $a in cloche-t-*) exec sleep 1000;; esac; done\nexec ${qemu} "$@"\n`, {
      mode: 0o755,
    });
    const env = { CLOCHE_COMPONENTS: componentsWith(cloche, "hangs", { qemu: path }) };
    const ended = refusedWith(await cloche.run(["start", "t"], { env }), "machine.no-progress");
    expect(ended.stderr).toContain("the guest's kernel");
    await failedWith(cloche, "t", "machine.no-progress");
    await noMachineLeft(cloche);
    // the one that hangs can be stopped while it hangs
    const before = eventsOnDisk(cloche).at(-1)?.id ?? 0;
    const hanging = cloche.start(["start", "t"], { env });
    // the boot's step may be followed by the end of another one, so it is looked for in all that is new
    await until("the step", () => eventsOnDisk(cloche).some((event) => event.id > before && event.data.step === "boot"));
    await cloche.ok(["stop", "t"], { env });
    refusedWith(await hanging.finished, "machine.stopped");
    await noMachineLeft(cloche);
    await keeperEnds(cloche);
    await cloche.ok(["start", "t"]);
    await cloche.ok(["stop", "t"]);
  });
});
