import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { HeldFolder } from "./held-folder.ts";

let directory: string;
const at = (name: string) => join(directory, name);
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "held-folder-"));
  for (const name of ["place/in", "outside/in"]) mkdirSync(at(name), { recursive: true });
  for (const name of ["place/file", "place/in/file", "outside/file", "outside/in/file"]) writeFileSync(at(name), name.split("/")[0] ?? "");
});
afterEach(() => rmSync(directory, { recursive: true }));

/** A link to outside takes the place of `name`, which is elsewhere then. */
function replaced(name: string): void {
  renameSync(at(name), at("aside"));
  symlinkSync(at("outside"), at(name));
}

it.skipIf(!existsSync("/proc/self/fd"))(
  "a folder that is held is that one, whatever takes its place: read, made and renamed in",
  async () => {
    await using held = await HeldFolder.open(at("place"), "no link");
    replaced("place");
    const { handle, path } = await held.file("file");
    expect(readFileSync(path, "utf8")).toBe("place");
    await handle.close();
    await (await held.create("new", 0o644)).close();
    await held.rename("new", "renamed");
    await using made = await held.folder("made", "made");
    await (await made.create("deeper", 0o644)).close();
    expect((await held.names()).sort()).toEqual(["file", "in", "made", "renamed"]);
    expect(readdirSync(at("aside/made"))).toEqual(["deeper"]);
    expect(readdirSync(at("outside")).sort()).toEqual(["file", "in"]);
  },
);

it.each(["made", "there"] as const)(
  "no link in it is a folder (%s) or a file, and it may be none itself but where that is meant",
  async (how) => {
    replaced("place/in");
    symlinkSync("../outside/file", at("place/link"));
    await using held = await HeldFolder.open(at("place"), "no link");
    await expect(held.folder("in", how)).rejects.toThrow("is no folder");
    await expect(held.file("link")).rejects.toThrow("is no file");
    symlinkSync("place", at("to-place"));
    if (existsSync("/proc/self/fd")) await expect(HeldFolder.open(at("to-place"), "no link")).rejects.toThrow(/ELOOP|ENOTDIR/);
    await using meant = await HeldFolder.open(at("to-place"), "or link");
    expect(await meant.names()).toContain("file"); // control
  },
);
