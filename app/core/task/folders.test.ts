import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type DoubleLayer, shareServerDouble } from "../../../test/doubles/share-server.ts";
import { ProblemError } from "../../contract/index.ts";
import { AuditLog } from "../audit/index.ts";
import { Paths } from "../paths.ts";
import { Grants } from "../share/index.ts";
import { TaskFolders } from "./folders.ts";
import type { Machine } from "./machine.ts";
import { resolveTask } from "./names.ts";
import { type TaskFile, TaskStore } from "./store.ts";

let root: string;
let paths: Paths;
let audit: AuditLog;
let grants: Grants;
let store: TaskStore;
let folders: TaskFolders;
/** what stands in for the guest of a running task: the folders are served, and mounted nowhere */
let machine: Machine | undefined;
const actor = { kind: "user" } as const;
// each test starts real programs, which on a busy machine takes seconds
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), "folders-")));
  const home = join(root, "cloche");
  mkdirSync(join(home, "runtime"), { recursive: true });
  paths = new Paths({ home, runtime: join(home, "runtime") });
  store = new TaskStore(paths);
  audit = new AuditLog(paths);
  machine = undefined;
  const program = shareServerDouble(root);
  grants = new Grants({ file: program, log: join(root, "log") }, { data: [home], programs: [] });
  const resolve = (ref: string) => resolveTask(ref, store.all());
  folders = new TaskFolders({ paths, audit, grants, store, program, resolve, machine: () => machine, wall: () => "the wall" });
});
afterEach(async () => {
  await folders.endAll();
  rmSync(root, { recursive: true });
});

const picked = async (name: string) => {
  mkdirSync(join(root, name), { recursive: true });
  return (await grants.create(Buffer.from(join(root, name)))).grant;
};
async function task(...given: { folder: string; mode?: "ro" | "rw" | "review" }[]): Promise<TaskFile> {
  const wanted = await Promise.all(given.map(async ({ folder, mode }) => ({ grant: await picked(folder), ...(mode ? { mode } : {}) })));
  const shares = await folders.take(wanted);
  return store.create({ name: "t", ephemeral: false, shares, env: {}, cpus: 1, memoryMib: 512, diskGib: 16, sudo: true }, new Date());
}
const layerOf = (of: TaskFile, at = 0) => join(paths.task(of.id).layers, of.shares[at]?.id ?? "");
function changed(of: TaskFile, layer: DoubleLayer, at = 0) {
  mkdirSync(layerOf(of, at), { recursive: true });
  writeFileSync(join(layerOf(of, at), "layer.log"), JSON.stringify(layer));
}
const codeOf = async (work: Promise<unknown>) => {
  try {
    await work;
  } catch (error) {
    if (error instanceof ProblemError) return error.problem.code;
    throw error;
  }
  return "done";
};
const kinds = async () => (await audit.read({ after: 0, limit: 100, waitMs: 0 })).events.map(({ kind }) => kind);

describe("a folder as it is given", () => {
  it("is asked about first unless its user says otherwise", async () => {
    const { shares } = await task({ folder: "a" }, { folder: "b", mode: "ro" });
    expect(shares.map(({ mode, hideSecrets, localFolders }) => ({ mode, hideSecrets, localFolders }))).toEqual([
      { mode: "review", hideSecrets: false, localFolders: true },
      { mode: "ro", hideSecrets: false, localFolders: true },
    ]);
  });

  it("is refused when it was put into a sensitive place, or became a link to one, since it was picked", async () => {
    const grant = await picked("plain");
    renameSync(join(root, "plain"), join(root, "cloche/kept"));
    symlinkSync(join(root, "cloche/kept"), join(root, "plain"));
    expect(await codeOf(folders.take([{ grant }]))).toBe("share.moved");
    const made = await task({ folder: "later" });
    expect(await codeOf(folders.recheck(made))).toBe("done");
    rmSync(join(root, "later"), { recursive: true });
    symlinkSync(join(root, "cloche"), join(root, "later"));
    expect(await codeOf(folders.recheck(made))).toBe("share.moved");
    const [deep] = (await task({ folder: "above/deep" })).shares;
    renameSync(join(root, "above"), join(root, "cloche/above"));
    symlinkSync(join(root, "cloche/above"), join(root, "above"));
    expect(await codeOf(folders.recheck({ ...made, shares: deep ? [deep] : [] }))).toBe("share.moved");
  });

  it("overlaps with another one of its task are refused in both orders and when they come later", async () => {
    for (const [outer, inner] of [
      ["x", "x/y"],
      ["z/y", "z"],
    ] as const) {
      expect(await codeOf(task({ folder: outer, mode: "rw" }, { folder: inner, mode: "ro" }))).toBe("share.overlap");
    }
    const made = await task({ folder: "o", mode: "rw" });
    expect(await codeOf(folders.add({ task: made.id, grant: await picked("o/p"), mode: "ro" }, actor))).toBe("share.overlap");
    expect(await codeOf(folders.add({ task: made.id, grant: await picked("o/p"), mode: "rw" }, actor))).toBe("done");
    expect(await codeOf(folders.set({ task: made.id, folder: "p", mode: "review" }, actor))).toBe("share.overlap");
    expect(store.get(made.id)?.shares.map(({ mode }) => mode)).toEqual(["rw", "rw"]);
  });
});

describe("changes of a stopped task", () => {
  it("are listed, applied in slices until nothing remains, and counted", async () => {
    const made = await task({ folder: "a" });
    changed(made, { paths: ["1", "2", "3"] });
    expect(await folders.waiting(made)).toEqual(["a: 3"]);
    const { folders: listed } = await folders.list({ task: "t", limit: 10 });
    expect(listed[0]?.changes.map(({ path }) => path.text)).toEqual(["1", "2", "3"]);
    let slice = await folders.apply({ task: "t", folder: "a", what: { all: true, revision: listed[0]?.revision ?? 0 } }, actor);
    expect({ applied: slice.applied, remaining: slice.remaining }).toEqual({ applied: ["1", "2"], remaining: 1 });
    slice = await folders.apply({ task: "t", folder: "a", batch: slice.batch }, actor);
    expect({ applied: slice.applied, remaining: slice.remaining }).toEqual({ applied: ["3"], remaining: 0 });
    expect(folders.views(made)[0]?.waiting).toBe(0);
    expect((await kinds()).filter((kind) => kind === "changes.applied")).toHaveLength(2);
  });

  it("a count outlives the keeper for as long as the layer is the one that was counted", async () => {
    const made = await task({ folder: "a" });
    changed(made, { paths: ["1"] });
    await folders.look(made);
    await folders.endAll();
    const again = () => {
      const { name, mode } = made.shares[0] ?? { name: "", mode: "review" };
      const loaded = new TaskStore(paths).get(made.id) as TaskFile;
      expect({ name, mode }).toEqual({ name: "a", mode: "review" });
      return folders.views(loaded)[0]?.waiting;
    };
    expect(again()).toBe(1);
    changed(made, { paths: ["1", "2"] });
    expect(again()).toBeUndefined();
  });

  it("keep their task from being removed, and their folder from being taken out or given in another mode", async () => {
    const made = await task({ folder: "a" });
    changed(made, { paths: ["1"] });
    expect(await codeOf(folders.refuseWaiting(made))).toBe("task.changes-waiting");
    expect(await codeOf(folders.remove({ task: "t", folder: "a", discard: false }, actor))).toBe("task.changes-waiting");
    for (const mode of ["rw", "ro"] as const) {
      expect(await codeOf(folders.set({ task: "t", folder: "a", mode }, actor))).toBe("task.changes-waiting");
    }
    await folders.discard({ task: "t", folder: "a", what: { all: true, revision: 1 } }, actor);
    expect(await codeOf(folders.refuseWaiting(made))).toBe("done");
    expect(await codeOf(folders.set({ task: "t", folder: "a", mode: "rw" }, actor))).toBe("done");
  });

  it("are lost only when their user says so", async () => {
    const made = await task({ folder: "a" });
    changed(made, { paths: ["1"] });
    await folders.remove({ task: "t", folder: "a", discard: true }, actor);
    expect(existsSync(layerOf({ ...made, shares: made.shares })) && readdirSync(paths.task(made.id).layers).length > 0).toBe(false);
    expect(await kinds()).toContain("folder.removed");
  });

  it("what the share server refuses is told in the user's words, with its code", async () => {
    const made = await task({ folder: "a" });
    changed(made, { paths: ["1"] });
    const about = { task: "t", folder: "a" };
    expect(await codeOf(folders.diff({ ...about, id: "1", side: "change", context: 3, offset: 0, limit: 1000 }))).toBe(
      "share.change-moved-on",
    );
    expect(await codeOf(folders.undo(about, actor))).toBe("share.not-undoable");
    expect(await codeOf(folders.diff({ ...about, folder: "b", id: "1", side: "change", context: 3, offset: 0, limit: 1 }))).toBe(
      "share.unknown",
    );
    const gone = await folders.apply({ ...about, what: { changes: [{ id: "9", token: "t" }] } }, actor);
    expect(gone.refused).toEqual([{ path: { bytes: "OQ==", text: "9" }, code: "share.change-unknown", message: "It is not there." }]);
  });
});

describe("a folder that is served", () => {
  const served = async (made: TaskFile) => {
    const [placed] = folders.placed(made);
    if (!placed) throw new Error("no folder");
    return { folder: placed.folder, server: await placed.folder.serve(join(root, "socket")) };
  };

  it("its layer has one process at a time: work goes through the one that serves, and a worker ends first", async () => {
    const made = await task({ folder: "a" });
    changed(made, { paths: ["1", "2"] });
    await folders.list({ task: "t", limit: 1 });
    const worker = readFileSync(join(layerOf(made), "held"), "utf8");
    const { folder, server } = await served(made);
    expect(readFileSync(join(layerOf(made), "held"), "utf8")).not.toBe(worker);
    expect((await folders.list({ task: "t", limit: 1 })).folders[0]?.total).toBe(2);
    await folder.endServing();
    await server.exited;
    expect(folders.views(made)[0]?.waiting).toBe(2);
    expect((await folders.list({ task: "t", limit: 1 })).folders[0]?.total).toBe(2);
  });

  it("read only, it has no layer, and its versions can be asked for all the same", async () => {
    const made = await task({ folder: "a", mode: "ro" });
    const { folder } = await served(made);
    expect(existsSync(layerOf(made))).toBe(false);
    expect((await folders.history({ task: "t", folder: "a", path: "YQ==", below: false, limit: 10 })).versions).toHaveLength(1);
    await folder.endServing();
  });

  it("what the guest did becomes events, none dropped, refusals apart, names safe to show", async () => {
    const made = await task({ folder: "a" });
    const entry = (path: string) => ({ what: "created" as const, path: Buffer.from(path).toString("base64"), count: 1 });
    const long = Array.from({ length: 199 }, (_, at) => entry(`${"d".repeat(1000)}/${at}\x1b[31m`));
    const refusal = { what: "refused" as const, path: "Li4v", count: 3, reason: "a link\x07" };
    changed(made, { paths: [], activity: [...long, refusal] });
    const { folder } = await served(made);
    await folder.use(async (server) => server.ask("stats", {}));
    const { events } = await audit.read({ after: 0, limit: 100, waitMs: 1000 });
    const entries = events
      .filter(({ kind }) => kind === "files.activity")
      .flatMap(({ data }) => data.entries as { path: { text: string } }[]);
    expect(entries).toHaveLength(199);
    expect(JSON.stringify(entries)).not.toContain("\\u001b");
    expect(events.find(({ kind }) => kind === "files.refused")?.data.entries).toMatchObject([{ count: 3, reason: "a link␇" }]);
    for (const event of events) expect(JSON.stringify(event).length).toBeLessThan(131_072);
    await folder.endServing();
  });

  it("a write that waits for room is shown until it is answered, and why it failed stays", async () => {
    const made = await task({ folder: "a", mode: "rw" });
    const about = { neededBytes: 5, limitBytes: 10, usedBytes: 9, path: "Yg==" };
    changed(made, { paths: [], room: about, roomRefused: { ...about, what: "versions", why: "refused", count: 2 } });
    const { folder } = await served(made);
    await folder.use(async (server) => server.ask("stats", {}));
    expect(folders.views(made)[0]?.room?.path.text).toBe("b");
    await folders.answerRoom({ task: "t", folder: "a", answer: "refuse" }, actor);
    await folder.use(async (server) => server.ask("stats", {}));
    const shown = folders.views(made)[0];
    expect(shown?.room).toBeUndefined();
    expect(shown?.refused).toMatchObject({ what: "versions", problem: { code: "share.no-room" } });
    expect(shown?.refused?.problem.message).toContain('to b in the folder "a" (and 1 more just before) failed');
    expect(shown?.refused?.problem.next[0]).toContain("cloche folder room t a allow");
    await store.save(made); // after the one under way
    expect(new TaskStore(paths).get(made.id)?.shares[0]?.refused, "the next keeper knows it too").toEqual(shown?.refused);
    const after = (await audit.read({ after: 0, limit: 100, waitMs: 0 })).next;
    const heard = audit.read({ after, limit: 100, waitMs: 5_000 }).then(() => folders.views(made)[0]);
    await folders.answerRoom({ task: "t", folder: "a", answer: "allow" }, actor);
    expect((await heard)?.refused, "who hears of the answer sees what it changed").toBeUndefined();
    expect(folders.views(made)[0]).toMatchObject({ versionLimitBytes: 25 });
    expect(folders.views(made)[0]?.refused).toBeUndefined();
    expect(new TaskStore(paths).get(made.id)?.shares[0]?.refused).toBeUndefined();
    const [key] = readdirSync(join(paths.home, "folders"));
    expect(JSON.parse(readFileSync(paths.folder(key ?? "").file, "utf8")).versionLimitBytes).toBe(25);
    expect((await kinds()).filter((kind) => kind.startsWith("folder."))).toEqual([
      "folder.room",
      "folder.answered",
      "folder.refused",
      "folder.answered",
    ]);
    await folder.endServing();
  });

  it("an answer that nobody asked for is refused; the user's own limit holds for every task with the folder, and outlives the keeper", async () => {
    const made = await task({ folder: "a", mode: "rw" });
    for (const answer of ["allow", "refuse"] as const) {
      expect(await codeOf(folders.answerRoom({ task: "t", folder: "a", answer }, actor))).toBe("task.state");
    }
    const { id: _, version: __, created: ___, ...same } = made;
    const other = await store.create({ ...same, name: "u", shares: await folders.take([{ grant: await picked("a") }]) }, new Date());
    expect(folders.views(other)[0]?.versionLimitBytes).toBeUndefined();
    await folders.set({ task: "t", folder: "a", versionLimitBytes: 5000 }, actor);
    expect([made, other].map((each) => folders.views(each)[0]?.versionLimitBytes)).toEqual([5000, 5000]);
    await folders.endAll();
    expect(folders.views(made)[0]?.versionLimitBytes).toBe(5000);
  });

  it("a task whose changes have no room is told so until something is taken out of its layer", async () => {
    const made = await task({ folder: "a" });
    const about = { neededBytes: 5, limitBytes: 10, usedBytes: 9, path: "Yg==" };
    changed(made, { paths: ["1"], roomRefused: { ...about, what: "changes", why: "disk", count: 1 } });
    const { folder } = await served(made);
    await folder.use(async (server) => server.ask("stats", {}));
    expect(folders.views(made)[0]?.refused).toMatchObject({ what: "changes", problem: { code: "share.changes-full" } });
    expect(await codeOf(folders.answerRoom({ task: "t", folder: "a", answer: "allow" }, actor)), "there is nothing to allow").toBe(
      "task.state",
    );
    await folders.discard({ task: "t", folder: "a", what: { all: true, revision: 1 } }, actor);
    expect(folders.views(made)[0]?.refused).toBeUndefined();
    await folder.endServing();
  });

  it("a task that writes directly is told of the folder's disk, and no more once it starts again", async () => {
    const made = await task({ folder: "a", mode: "rw" });
    const about = { neededBytes: 5, limitBytes: 10, usedBytes: 9, path: "Yg==" };
    changed(made, { paths: ["1"], roomRefused: { ...about, what: "changes", why: "disk", count: 1 } });
    const { folder } = await served(made);
    await folder.use(async (server) => server.ask("stats", {}));
    const { problem } = folders.views(made)[0]?.refused ?? {};
    expect(problem?.code).toBe("share.changes-full");
    expect(problem?.message).toMatch(/^A write to b in the folder "a" failed in the task: the disk that the folder is on/);
    expect(problem?.next.join(" ")).not.toContain("discard");
    await folders.recheck(made);
    expect(folders.views(made)[0]?.refused).toBeUndefined();
    await folder.endServing();
  });

  it("two tasks share a folder: a layer each, one store", async () => {
    const one = await task({ folder: "a" });
    changed(one, { paths: ["1"] });
    const { id: _, version: __, created: ___, ...same } = one;
    const other = await store.create({ ...same, name: "u", shares: await folders.take([{ grant: await picked("a") }]) }, new Date());
    changed(other, { paths: ["1", "2"] });
    expect([await folders.waiting(one), await folders.waiting(other)]).toEqual([["a: 1"], ["a: 2"]]);
    expect(readdirSync(join(paths.home, "folders"))).toHaveLength(1);
  });
});

describe("names that look like secrets", () => {
  it("are listed once, after the task is made, and nothing is looked at before", async () => {
    await picked("a");
    const made = await task({ folder: "a" });
    expect(folders.views(made)[0]?.secrets).toBeUndefined();
    await folders.look(made);
    expect(folders.views(made)[0]?.secrets).toEqual({ names: [".env", "keys/id_rsa␊"], more: false });
    expect(new TaskStore(paths).get(made.id)?.shares[0]?.secrets).toBeDefined();
  });
});
