/** What a real guest does to a folder waits on the host until its user has decided; what the user decided can be taken back. */
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import type { ChangeView, TaskView } from "../../../app/contract/index.ts";
import { Cloche } from "../../harness/index.ts";
import { historyIsWhole, noMachineLeft, refusedWith } from "../faults/support.ts";

const cloche = new Cloche();
let folder: string;
let number = 0;

/** Every file of a folder with bytes, mode and times: what an undo has to bring back. */
function fingerprint(of: string): Record<string, string> {
  return Object.fromEntries(
    readdirSync(of, { recursive: true, withFileTypes: true })
      .map((entry) => join(entry.parentPath, entry.name))
      .sort()
      .map((path) => {
        const { mode, mtimeNs } = lstatSync(path, { bigint: true });
        const stat = lstatSync(path);
        const content = stat.isFile() ? readFileSync(path, "base64") : stat.isSymbolicLink() ? readlinkSync(path) : "";
        return [path.slice(of.length + 1), `${mode} ${stat.isDirectory() ? "" : mtimeNs} ${content}`];
      }),
  );
}

beforeEach(() => {
  folder = cloche.folder(`work${++number}`);
  mkdirSync(join(folder, "notes"));
  writeFileSync(join(folder, "notes/list.txt"), "one\ntwo\nthree\n");
  writeFileSync(join(folder, "old.txt"), "old\n");
  writeFileSync(join(folder, "script.sh"), "echo hi\n");
  chmodSync(join(folder, "script.sh"), 0o640);
  for (const name of ["notes/list.txt", "old.txt", "script.sh"]) utimesSync(join(folder, name), 1_600_000_000, 1_600_000_000.25);
});
afterAll(() => cloche.end());

const WORK = `
  sed -i 's/two/2/' notes/list.txt
  printf 'new\\n' > notes/new.txt
  rm old.txt
  chmod 755 script.sh
  ln -s /etc/passwd passwords
`;
/** A one-off run in review, as a script runs it; answers with the name under which its changes wait. */
async function worked(script = WORK): Promise<string> {
  const before = fingerprint(folder);
  const ended = await cloche.ok(["run", "--share", folder, "--", "sh", "-ec", script]);
  expect(fingerprint(folder), "nothing is changed before it is applied").toEqual(before);
  const name = /cloche changes ([a-z0-9-]+)/.exec(ended.stderr)?.[1];
  if (name === undefined) throw new Error(`the run told of no changes:\n${ended.stderr}`);
  return name;
}
async function waiting(name: string): Promise<Record<string, ChangeView>> {
  const { folders } = await cloche.json<{ folders: { changes: ChangeView[] }[] }>(["changes", name]);
  return Object.fromEntries(folders.flatMap(({ changes }) => changes).map((change) => [change.path.text, change]));
}
const refusedSingly = ({ status, stderr }: { status: number; stderr: string }, code: string) =>
  expect([status, stderr]).toEqual([125, expect.stringContaining(`[${code}]`)]);
const kinds = (changes: Record<string, ChangeView>) => Object.fromEntries(Object.entries(changes).map(([path, { kind }]) => [path, kind]));

describe("a one-off run whose folder is asked about", () => {
  it("changes nothing, says how many changes wait and how to go on; its machine and disk are gone, its changes stay", async () => {
    const name = await worked();
    await noMachineLeft(cloche);
    expect(kinds(await waiting(name))).toEqual({
      "notes/list.txt": "modified",
      "notes/new.txt": "new",
      "old.txt": "deleted",
      passwords: "new",
      "script.sh": "attributes",
    });
    const shown = (await cloche.ok(["ls"])).stdout;
    expect(shown).toContain(`5 changes wait in work${number}`);
    refusedWith(await cloche.run(["rm", name]), "task.changes-waiting");
    await cloche.ok(["prune"]);
    expect(Object.keys(await waiting(name))).toHaveLength(5);
    await cloche.ok(["rm", "--discard", name]);
    refusedWith(await cloche.run(["changes", name]), "task.unknown");
  });

  it("its changes are shown, applied and taken back: exact bytes, modes and times", async () => {
    const before = fingerprint(folder);
    const name = await worked();
    const shown = kinds(await waiting(name));
    const diff = (await cloche.ok(["diff", name, "notes/list.txt"])).stdout;
    expect(diff).toContain("-two\n+2\n");
    await cloche.ok(["apply", name, "notes"]);
    expect(readFileSync(join(folder, "notes/list.txt"), "utf8")).toBe("one\n2\nthree\n");
    expect(existsSync(join(folder, "old.txt"))).toBe(true);
    const all = await cloche.run(["apply", name, "--all"]);
    expect(all.stderr, "a link that leads out is not applied with the rest").toContain("not done: passwords");
    expect(existsSync(join(folder, "old.txt"))).toBe(false);
    expect(statSync(join(folder, "script.sh")).mode & 0o777).toBe(0o755);
    expect(existsSync(join(folder, "passwords"))).toBe(false);
    await cloche.ok(["undo", name]);
    await cloche.ok(["undo", name]);
    expect(fingerprint(folder)).toEqual(before);
    refusedWith(await cloche.run(["undo", name]), "share.not-undoable");
    expect(kinds(await waiting(name)), "what was taken back waits again").toEqual(shown);
    expect((await cloche.ok(["diff", name, "notes/list.txt"])).stdout).toBe(diff);
    await cloche.ok(["apply", name, "notes/list.txt"]);
    expect(readFileSync(join(folder, "notes/list.txt"), "utf8"), "and can be applied once more").toBe("one\n2\nthree\n");
    await cloche.ok(["undo", name]);
    expect(fingerprint(folder)).toEqual(before);
    const events = (await cloche.events()).map(({ kind }) => kind);
    for (const kind of ["changes.applied", "changes.undone"]) expect(events).toContain(kind);
    await cloche.ok(["rm", "--discard", name]);
  });

  it("one hunk of a file is applied and the rest waits on", async () => {
    writeFileSync(join(folder, "long"), `${Array.from({ length: 40 }, (_, at) => `line ${at}`).join("\n")}\n`);
    const name = await worked("sed -i 's/^line 3$/three/; s/^line 30$/thirty/' long");
    await cloche.ok(["apply", name, "long", "--hunks", "2"]);
    const text = readFileSync(join(folder, "long"), "utf8");
    expect(text).toContain("thirty\n");
    expect(text).toContain("line 3\n");
    expect((await cloche.ok(["diff", name, "long"])).stdout).toContain("+three");
    await cloche.ok(["discard", name, "--all"]);
    expect((await cloche.ok(["ls", "-q"])).stdout).not.toContain(name);
  });

  it("a file that its user changed meanwhile is a conflict: both sides are shown, the file stays", async () => {
    const name = await worked();
    writeFileSync(join(folder, "notes/list.txt"), "one\ntwo\nthree\nfour\n");
    expect((await waiting(name))["notes/list.txt"]?.conflict).toBe("changed");
    const shown = (await cloche.ok(["diff", name, "notes/list.txt"])).stdout;
    expect(shown).toContain("+2\n");
    expect(shown).toContain("+four\n");
    const refused = await cloche.run(["apply", name, "notes/list.txt"]);
    expect(refused.status).toBe(125);
    expect(refused.stderr).toContain("share.conflict");
    expect(readFileSync(join(folder, "notes/list.txt"), "utf8")).toBe("one\ntwo\nthree\nfour\n");
    await cloche.ok(["rm", "--discard", name]);
  });

  it("names that would drive a terminal are shown harmless, and applied with their own bytes", async () => {
    const name = await worked("touch \"$(printf 'bell\\007\\033[31mred')\" \"$(printf 'bytes\\377')\"");
    const { stdout } = await cloche.ok(["changes", name]);
    expect(stdout.replaceAll("\n", "")).not.toMatch(/\p{Cc}/u);
    await cloche.ok(["apply", name, "--all"]);
    expect(readdirSync(folder, { encoding: "buffer" }).map((entry) => entry.toString("latin1"))).toEqual(
      expect.arrayContaining(["bell\x07\x1b[31mred", "bytes\xff"]),
    );
    await cloche.ok(["rm", name]);
  });
});

describe("a task that runs", () => {
  it("changes are applied and discarded under it: what was applied stays as it sees it, what was discarded is the folder's own again", async () => {
    await cloche.ok(["new", "going", "--share", folder]);
    await cloche.ok(["start", "going"]);
    const inside = async (script: string) => (await cloche.ok(["exec", "going", "--", "sh", "-ec", script])).stdout;
    await inside(WORK);
    const { folders } = await cloche.json<{ folders: { revision: number }[] }>(["changes", "going"]);
    const shown = ["--revision", String(folders[0]?.revision)];
    await inside("echo more >> notes/list.txt");
    refusedSingly(await cloche.run(["apply", "going", "notes/list.txt", ...shown]), "share.change-moved-on");
    expect(readFileSync(join(folder, "notes/list.txt"), "utf8"), "what went on since it was shown").toBe("one\ntwo\nthree\n");
    await inside("sed -i '$d' notes/list.txt");
    await cloche.ok(["apply", "going", "notes/list.txt"]);
    await cloche.ok(["discard", "going", "old.txt", ...shown]);
    expect(await inside("cat notes/list.txt old.txt")).toBe("one\n2\nthree\nold\n");
    expect(readFileSync(join(folder, "notes/list.txt"), "utf8")).toBe("one\n2\nthree\n");
    refusedWith(await cloche.run(["folder", "set", "going", `work${number}:rw`]), "task.changes-waiting");
    refusedWith(await cloche.run(["folder", "rm", "going", `work${number}`]), "task.changes-waiting");
    expect(await inside("cat notes/new.txt")).toBe("new\n");
    await cloche.ok(["stop", "going"]);
    await cloche.ok(["start", "going"]);
    expect(await inside("cat notes/new.txt; ls")).toContain("new\n");
    const share = (await cloche.json<TaskView>(["show", "going"])).shares[0];
    expect(share).toMatchObject({ mode: "review", waiting: 3 });
    await cloche.ok(["rm", "--discard", "going"]);
  });

  it("what it overwrites and deletes with rw is kept, and comes back", async () => {
    await cloche.ok(["new", "direct", "--share", `${folder}:rw`]);
    await cloche.ok(["start", "direct"]);
    const before = fingerprint(folder);
    await cloche.ok(["exec", "direct", "--", "sh", "-ec", "echo changed > notes/list.txt; rm old.txt"]);
    expect(readFileSync(join(folder, "notes/list.txt"), "utf8")).toBe("changed\n");
    const { versions } = await cloche.json<{ versions: { number: number }[] }>(["history", "direct", "old.txt"]);
    expect(versions).toHaveLength(1);
    await cloche.ok(["restore", "direct", `old.txt@${versions[0]?.number}`]);
    await cloche.ok(["stop", "direct"]);
    await cloche.ok(["restore", "direct", "notes/list.txt"]);
    expect(fingerprint(folder)).toEqual(before);
    await cloche.ok(["rm", "direct"]);
    expect(readdirSync(join(cloche.home, "folders")).length, "versions outlive the task").toBeGreaterThan(0);
  });

  it("names that look like secrets are listed, and hidden when its user says so", async () => {
    writeFileSync(join(folder, ".env"), "TOKEN=1\n");
    await cloche.ok(["new", "quiet", "--share", `${folder}:ro`]);
    expect((await cloche.ok(["show", "quiet"])).stdout).toContain(".env");
    await cloche.ok(["start", "quiet"]);
    const read = () => cloche.run(["exec", "quiet", "--", "cat", ".env"]);
    expect((await read()).stdout).toBe("TOKEN=1\n");
    await cloche.ok(["folder", "set", "quiet", `work${number}`, "--hide-secrets"]);
    expect((await read()).status).not.toBe(0);
    await cloche.ok(["rm", "quiet"]);
  });

  it("its history is whole, with what the runs wrote and what became of it", async () => {
    const kept = historyIsWhole(cloche).map(({ kind }) => kind);
    for (const kind of ["files.activity", "changes.applied", "changes.discarded"]) expect(kept).toContain(kind);
    rmSync(folder, { recursive: true });
  });
});
