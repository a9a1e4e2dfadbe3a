/** F17 at length: 10,000 changes of one file by the guest and the host in turns; what the other side reads is always what was written. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { changeTogether } from "../e2e/folders/integrity.ts";
import { Cloche, Steps } from "../harness/index.ts";

const cloche = new Cloche();
afterAll(() => cloche.end());

it("10,000 rounds of growing, cutting and replacing leave no stale and no torn byte", async () => {
  const folder = cloche.folder("Long");
  await cloche.ok(["new", "long", "--share", `${folder}:rw`]);
  await cloche.ok(["start", "long"]);
  const guest = Steps.inGuest(cloche, "long");
  const host = Steps.onHost(folder);
  await guest.do(`os.chdir("/home/you/Long")`);
  await changeTogether(guest, host, 10_000);
  expect(await guest.do(`result = hashlib.sha256(read("together")).hexdigest()`)).toBe(
    createHash("sha256")
      .update(readFileSync(join(folder, "together")))
      .digest("hex"),
  );
  for (const steps of [guest, host]) steps.end();
});
