/** Daily work in a guest that takes too long for each run. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { Cloche } from "../harness/index.ts";

const cloche = new Cloche();
beforeAll(async () => {
  await cloche.ok(["new", "work", "--share", `${cloche.folder("Work")}:rw`]);
  await cloche.ok(["start", "work"]);
});
afterAll(async () => {
  expect(cloche.guestComplaints()).toEqual([]);
  await cloche.end();
});

it.each(["~", "~/Work"])("Python: a virtual environment in %s has a pip of its own, which lists itself", async (place) => {
  const script = `cd ${place}; python3 -m venv venv; . venv/bin/activate; python -c 'import sys; print(sys.prefix)'; pip list --format=freeze | cut -d= -f1`;
  const { stdout } = await cloche.ok(["exec", "work", "--", "bash", "-euo", "pipefail", "-c", script]);
  expect(stdout.trim()).toBe(`${place.replace("~", "/home/you")}/venv\npip`);
});
