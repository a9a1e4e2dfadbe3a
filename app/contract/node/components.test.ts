import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ProblemError } from "../problem.ts";
import { componentsPath, readComponents } from "./components.ts";

const good = {
  version: 1,
  node: "/b/node",
  helper: "/b/helper",
  shareServer: "/b/share",
  vsockDevice: "/b/vsock",
  qemu: "/usr/bin/qemu-system-x86_64",
  imageDir: "/b/image",
  app: { cli: "/b/app/cli.mjs", keeper: "/b/app/keeper.mjs", web: "/b/app/web.mjs", proxy: "/b/app/proxy.mjs", ui: "/b/ui" },
};
const file = join(mkdtempSync(join(tmpdir(), "components-")), "components.json");
const read = (content: string) => {
  writeFileSync(file, content);
  return readComponents(file);
};
const refusal = (content: string) => {
  try {
    read(content);
  } catch (error) {
    return error instanceof ProblemError ? `${error.problem.code}: ${error.problem.evidence}` : String(error);
  }
  return "accepted";
};

test("a complete list is read as it stands", () => {
  expect(read(JSON.stringify(good))).toEqual(good);
});

test.each([
  ["a relative path", JSON.stringify({ ...good, node: "node" }), "node: must be an absolute path"],
  ["a field nobody knows", JSON.stringify({ ...good, extra: "/x" }), "Unrecognized key"],
  ["another version", JSON.stringify({ ...good, version: 2 }), "version"],
  ["a missing program", JSON.stringify({ ...good, helper: undefined }), "helper"],
  ["what is not JSON", "{", "JSON"],
])("%s is refused and named", (_what, content, evidence) => {
  expect(refusal(content)).toMatch(/^components\.missing: /);
  expect(refusal(content)).toContain(evidence);
});

test("a missing file is a problem that says how to build it", () => {
  expect(() => readComponents(join(tmpdir(), "no-such-dir-of-cloche", "components.json"))).toThrow(ProblemError);
});

test("the environment names the file, else it lies above the bundle's directory", () => {
  expect(componentsPath("/r/.build/app/web.mjs", {})).toBe("/r/.build/components.json");
  expect(componentsPath("/r/.build/app/web.mjs", { CLOCHE_COMPONENTS: "/x.json" })).toBe("/x.json");
});
