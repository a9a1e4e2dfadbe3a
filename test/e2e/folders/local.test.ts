/** Dependency and cache folders of a shared project live on the guest's disk, unless they are kept in the folder. The verdict is the host's. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Cloche } from "../../harness/index.ts";

const cloche = new Cloche();
const project = cloche.folder("project");
const put = (path: string, text = "") => {
  mkdirSync(join(project, path, ".."), { recursive: true });
  writeFileSync(join(project, path), text);
};

async function inside(script: string): Promise<string> {
  const ended = await cloche.ok(["exec", "local", "--", "bash", "-euo", "pipefail", "-c", `cd ~/project; ${script}`]);
  return ended.stdout.trim();
}

// the package's program is a shell's, and npm is run without a compiler: its own start is slow enough under emulation
const pack = `mkdir ~/pkg; cd ~/pkg; echo '{"name":"hi","version":"1.0.0","bin":{"hi":"hi.sh"}}' > package.json; printf '#!/bin/sh\\necho hi\\n' > hi.sh
tar -czf hi-1.0.0.tgz --transform 's,^,package/,' package.json hi.sh`;
const install = "NODE_OPTIONS=--jitless npm install --offline --no-audit --silent --no-save ~/pkg/hi-1.0.0.tgz; ./node_modules/.bin/hi";

beforeAll(async () => {
  put("package.json", "{}");
  put("py/pyproject.toml");
  put("rust/Cargo.toml");
  put("kept/package.json", "{}");
  put("kept/node_modules/mine/index.js", "committed");
  put(".git/HEAD", "ref: refs/heads/main\n"); // git ignores in a repository only
  put("ignored/package.json", "{}");
  put("ignored/.gitignore", "node_modules\n");
  put("ignored/node_modules/host.js", "the host's");
  await cloche.ok(["new", "local", "--share", `${project}:rw`]);
  await cloche.ok(["start", "local"]);
  await inside(pack);
});
afterAll(async () => {
  expect(cloche.guestComplaints()).toEqual([]);
  await cloche.end();
});

it("npm install and a virtual environment work in the folder and land on the guest's disk", async () => {
  expect(await inside(install)).toBe("hi");
  expect(await inside("python3 -m venv --without-pip py/.venv; py/.venv/bin/python -c 'import sys; print(sys.prefix)'")).toBe(
    "/home/you/project/py/.venv",
  );
  expect(
    await inside("mkdir -p rust/target/debug; stat -f -c %T node_modules py/.venv rust/target .; stat -c %U node_modules py/.venv"),
  ).toBe("ext2/ext3\next2/ext3\next2/ext3\nv9fs\nyou\nyou");
  for (const path of ["node_modules", "py/.venv", "rust/target"]) expect(existsSync(join(project, path)), path).toBe(false);
  expect(readdirSync(join(project, "py"))).toEqual(["pyproject.toml"]);
});

it("what git ignores stays the host's own and is not shown; what is kept in the folder is shared", async () => {
  expect(
    await inside("ls -A ignored/node_modules | wc -l; cat kept/node_modules/mine/index.js; echo changed > kept/node_modules/mine/index.js"),
  ).toBe("0\ncommitted");
  expect(readFileSync(join(project, "kept/node_modules/mine/index.js"), "utf8")).toBe("changed\n");
  await inside("echo guest > ignored/node_modules/guest.js");
  expect(readdirSync(join(project, "ignored/node_modules"))).toEqual(["host.js"]);
});

it("they are kept over a stop and a start, and listed like any folder", async () => {
  await cloche.ok(["stop", "local"]);
  await cloche.ok(["start", "local"]);
  expect(await inside("./node_modules/.bin/hi; ls py/.venv/bin/python ignored/node_modules; ls | tr '\\n' ' '")).toBe(
    "hi\npy/.venv/bin/python\n\nignored/node_modules:\nguest.js\nignored kept node_modules package.json py rust",
  );
});

it("with the switch off they are the folder's, and with it on again the guest's are back", async () => {
  await cloche.ok(["folder", "set", "local", "project", "--no-local-folders"]);
  expect(await inside("ls ignored/node_modules; stat -f -c %T ignored/node_modules; ls -d node_modules 2>/dev/null || echo none")).toBe(
    "host.js\nv9fs\nnone",
  );
  expect(await inside(install)).toBe("hi");
  expect(readdirSync(join(project, "node_modules"))).toContain("hi");
  expect((await cloche.ok(["show", "local"])).stdout).toContain("dependency folders");
  await cloche.ok(["folder", "set", "local", "project", "--local-folders"]);
  // what was made in the folder meanwhile is kept in it, and shared
  expect(await inside("ls ignored/node_modules py/.venv/bin/python; stat -f -c %T ignored/node_modules node_modules")).toBe(
    "py/.venv/bin/python\n\nignored/node_modules:\nguest.js\next2/ext3\nv9fs",
  );
});
