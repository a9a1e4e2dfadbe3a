import { describe, expect, it } from "vitest";
import { guestFolderName, guestPathFor } from "./guest-path.ts";

describe("a folder's place in the guest", () => {
  it.each([
    ["/home/me/Receipts", "Receipts"],
    ["/a/.hidden", "hidden"],
    ["/a/...", "folder"],
    ["/a/two\nlines", "two_lines"],
    ["/a/esc\x1b[31m", "esc_[31m"],
    ["/a/abc\u202egnp.exe", "abc_gnp.exe"],
    ["/", "folder"],
  ])("%j is named %j", (path, name) => {
    expect(guestFolderName(Buffer.from(path))).toBe(name);
  });

  it("bytes that are not UTF-8 and names that are too long stay usable", () => {
    expect(guestFolderName(Buffer.from([0x2f, 0x61, 0xff, 0x62]))).toBe("a_b");
    expect(Buffer.byteLength(guestFolderName(Buffer.from(`/${"é".repeat(127)}`)))).toBeLessThanOrEqual(200);
  });

  it("gets -2 when the name is taken", () => {
    expect(guestPathFor("a", undefined, [])).toBe("/home/you/a");
    expect(guestPathFor("a", undefined, ["/home/you/a", "/home/you/a-2"])).toBe("/home/you/a-3");
  });

  it.each([
    "relative",
    "/",
    "/etc",
    "/etc/x",
    "/usr/local/x",
    "/proc/1",
    "/home/you",
    "/home",
    "/home/you/../../etc",
    "/work//x",
    "/work/./x",
    "/run/x",
    "/work\n",
  ])("%j is refused", (path) => {
    expect(() => guestPathFor("a", path, [])).toThrow("cannot appear at");
  });
  it.each(["/work", "/home/you/deep/er", "/srv/x", "/work/"])("%j is allowed", (path) => {
    expect(guestPathFor("a", path, [])).toBe(path.replace(/\/$/, ""));
  });
  it("one folder inside another is refused", () => {
    expect(() => guestPathFor("a", "/work/in", ["/work"])).toThrow("one inside the other");
    expect(() => guestPathFor("a", "/work", ["/work/in"])).toThrow("one inside the other");
    expect(guestPathFor("a", "/work-2", ["/work"])).toBe("/work-2");
  });
});
