/**
 * G05, G08: a guest that opens streams by the thousand, as its user and as its root, to each port where its host takes them: of its folders and of
 * its way out. The host takes each at once and closes what is surplus, so that nothing else of the machine's waits: commands, folders, `stop`.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openPorts } from "../e2e/faults/support.ts";
import { Cloche } from "../harness/index.ts";
import { probe, WHO } from "./folders-support.ts";

const cloche = new Cloche();
const crowd = probe("crowd.py");
const work = cloche.folder("work");
/** under emulation, beside a guest whose processors have all they can do with the crowd */
const ANSWER_MS = 15_000;
/** A guest that is not reached is ended by force, after 4 s. */
const FORCED_MS = 4_000;

beforeAll(async () => {
  writeFileSync(join(work, "inside"), "inside");
  await cloche.ok(["new", "crowded", "--share", `${work}:rw`, "--cpus", "2"]);
});
afterAll(() => cloche.end());

/** From the request to the machine's end, as the keeper tells. */
async function stop(): Promise<number> {
  await cloche.ok(["stop", "crowded"]);
  const events = await cloche.events("crowded");
  const at = (kind: string) => Date.parse(events.findLast((event) => event.kind === kind)?.time ?? "");
  return at("task.stopped") - at("task.stopping");
}
const ports = async () => openPorts(cloche, (await cloche.task("crowded")).id).map(String);
async function works(): Promise<number> {
  const { stdout, ms } = await cloche.ok([
    "exec",
    "crowded",
    "--",
    "sh",
    "-c",
    "cat ~/work/inside; echo inside > ~/work/written; cat ~/work/written",
  ]);
  expect(stdout).toBe("insideinside\n");
  return ms;
}

it("control: without a crowd a command answers, and the guest ends by itself when it is asked", async () => {
  await cloche.ok(["start", "crowded"]);
  expect(await ports(), "its folder's and its way out").toHaveLength(2);
  const answered = await works();
  const stopped = await stop();
  process.stderr.write(`crowd: none: answered in ${Math.round(answered)} ms, stopped in ${stopped} ms\n`);
  expect(stopped).toBeLessThan(FORCED_MS);
});

it.each(WHO)(
  "as %s: commands and the folder answer beside the crowd and after it, and `stop` in the midst of one is not forced",
  async (who) => {
    await cloche.ok(["start", "crowded"]);
    const sudo = who === "root" ? ["sudo"] : [];
    const attack = async (seconds: number) => {
      const going = cloche.start(["exec", "crowded", "--", ...sudo, "python3", "-c", crowd, `${seconds}`, ...(await ports())]);
      await going.saw("begun");
      return going;
    };
    const first = await attack(10);
    const answered = [];
    for (let times = 0; times < 3; times++) answered.push(await works());
    const opened = Object.values(JSON.parse((await first.finished).stdout.split("\n").at(-2) ?? "") as Record<string, number>);
    answered.push(await works());
    const second = await attack(60);
    answered.push(await works());
    const stopped = await stop();
    await second.finished;
    process.stderr.write(
      `crowd: ${who}: ${opened.join(" and ")} streams; answered in ${answered.map(Math.round).join(", ")} ms, stopped in ${stopped} ms\n`,
    );
    for (const each of opened) expect(each, "it is a crowd").toBeGreaterThan(1_000);
    expect(Math.max(...answered)).toBeLessThan(ANSWER_MS);
    expect(stopped).toBeLessThan(FORCED_MS);
  },
);
