/** Folders that are not there, are none, may not be read or have odd names; and what a mode keeps from a guest that is root. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { SHARE_PROTOCOL } from "../../../helpers/contract/protocol.ts";
import { Cloche } from "../../harness/index.ts";
import { failedWith, historyIsWhole, noMachineLeft, refusedWith, sha256 } from "./support.ts";

const cloche = new Cloche();
const at = (name: string) => join(cloche.directory, name);
afterAll(() => cloche.end());

const tried = (share: string) => cloche.run(["run", "--share", share, "--", "echo", "ran"]);
const noTaskWasMade = () => expect(existsSync(join(cloche.home, "tasks")) ? readdirSync(join(cloche.home, "tasks")) : []).toEqual([]);

describe("refused before there is a task", () => {
  it("what does not exist, what is no folder, and a way through a file", async () => {
    writeFileSync(at("file"), "x");
    symlinkSync("nowhere", at("dangling"));
    symlinkSync("loop", at("loop"));
    symlinkSync("file", at("to-file"));
    execFileSync("mkfifo", [at("fifo")]);
    refusedWith(await tried(`${at("none")}:ro`), "share.not-found");
    refusedWith(await tried(`${at("dangling")}:ro`), "share.not-found");
    refusedWith(await tried(`${at("loop")}:ro`), "share.not-found");
    refusedWith(await tried(`${at("file/below")}:ro`), "share.not-found");
    refusedWith(await tried(`${at("file")}:ro`), "share.not-a-folder");
    refusedWith(await tried(`${at("to-file")}:ro`), "share.not-a-folder");
    refusedWith(await tried(`${at("fifo")}:rw`), "share.not-a-folder");
    refusedWith(await tried("/dev/null:ro"), "share.not-a-folder");
    noTaskWasMade();
  });

  it("a folder without a path, and a mode that there is not", async () => {
    refusedWith(await tried(":ro"), "usage");
    refusedWith(await tried(`${cloche.folder("plain")}:rx`), "share.not-found");
    noTaskWasMade();
  });

  it("guest paths that would cover the guest's own or each other", async () => {
    for (const path of ["/etc", "/usr/x", "/proc/1", "/home/you", "/", "/work/../etc", "/work/./x"])
      refusedWith(await tried(`${cloche.folder("plain")}:ro=${path}`), "share.collision");
    const two = ["--share", `${cloche.folder("plain")}:ro=/work`, "--share", `${cloche.folder("other")}:ro=/work/inner`];
    refusedWith(await cloche.run(["run", ...two, "--", "true"]), "share.collision");
    noTaskWasMade();
  });

  // Root passes every permission: a folder without them opens. Another user is had only where `setpriv` and this checkout let one run.
  it("a folder that its user may not read (as another user; root itself cannot have this fault)", async () => {
    const closed = cloche.folder("closed");
    execFileSync("chmod", ["000", closed]);
    if (process.getuid?.() !== 0) {
      refusedWith(await tried(`${closed}:ro`), "share.unreadable");
      return;
    }
    // the share server itself, as user nobody, asked what the keeper asks it: the answer that becomes share.unreadable
    const lines = [
      { jsonrpc: "2.0", id: 1, method: "hello", params: { protocol: SHARE_PROTOCOL, client: "test" } },
      { jsonrpc: "2.0", id: 2, method: "identify", params: { root: Buffer.from(join(closed, "in")).toString("base64") } },
    ];
    const program = at("share-server");
    execFileSync("cp", [cloche.components.shareServer, program]);
    execFileSync("chmod", ["755", program, cloche.directory]);
    const answer = execFileSync("setpriv", ["--reuid=65534", "--regid=65534", "--clear-groups", program], {
      input: `${lines.map((line) => JSON.stringify(line)).join("\n")}\n`,
      encoding: "utf8",
    });
    expect(JSON.parse(answer.trim().split("\n").at(-1) ?? "")).toMatchObject({ id: 2, error: { data: { code: "share.unreadable" } } });
    execFileSync("chmod", ["700", closed]);
  });
});

describe("odd folders work end to end and are shown safely", () => {
  it("newline, control characters, invalid UTF-8, blanks, a leading dot and direction marks in their names", async () => {
    // bash makes names that Node cannot write: each gets a file, the guest answers, the host reads what the guest wrote
    const script = `
      names=($'new\\nline' $'bell\\a\\e[31m' $'bad\\xff\\xfe' ' blank ' '.hidden' $'rtl\\u202e' '-rf' "it's \\"q\\"" 'co:ro' 'eq=/x')
      args=()
      for name in "\${names[@]}"; do mkdir -p "odd/$name"; echo seen > "odd/$name/in"; args+=(--share "odd/$name:rw"); done
      cloche run "\${args[@]}" -- bash -c 'cd ~; shopt -s dotglob; n=0; for d in ./*/; do [ -f "$d/in" ] && cp "$d/in" "$d/out" && n=$((n+1)); done; echo $n; printf "%q\\n" */' || exit 1
      find odd -name out -exec cat {} + | sort | uniq -c
    `;
    const ended = await cloche.shell(script);
    expect(ended.status, ended.stderr).toBe(0);
    expect(ended.stdout.split("\n")[0]).toBe("10");
    expect(ended.stdout.trim().split("\n").at(-1)?.trim()).toBe("10 seen");
    expect(ended.stderr.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}\uFFFD]/u);
    expect((await cloche.ok(["events"])).stdout.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}]/u);
    await noMachineLeft(cloche, 0);
  });

  it("names that are refused are shown safely, too", async () => {
    const ended = await cloche.shell("cloche run --share $'no\\e]0;x\\a\\nne\\xff:ro' -- true");
    refusedWith(ended, "share.not-found");
  });

  it("a folder reached by a link is the folder that the link led to when it was picked", async () => {
    mkdirSync(at("real/inner"), { recursive: true });
    writeFileSync(at("real/inner/f"), "inner");
    symlinkSync("real/inner", at("link"));
    expect((await cloche.ok(["run", "--share", `${at("link")}:ro`, "--", "cat", "f"])).stdout).toBe("inner");
  });
});

describe("a folder changes between pick and start", () => {
  it("moved, replaced or gone: the start fails, another folder is never served; back in place it starts", async () => {
    const folder = cloche.folder("picked");
    writeFileSync(join(folder, "f"), "mine");
    await cloche.ok(["new", "picked", "--share", `${folder}:rw`]);
    renameSync(folder, at("aside"));
    refusedWith(await cloche.run(["start", "picked"]), "share.not-found");
    await failedWith(cloche, "picked", "share.not-found");
    mkdirSync(folder);
    writeFileSync(join(folder, "f"), "another's");
    refusedWith(await cloche.run(["start", "picked"]), "share.moved");
    await failedWith(cloche, "picked", "share.moved");
    rmSync(folder, { recursive: true });
    symlinkSync("/etc", folder);
    const { code } = await (async () => {
      const ended = await cloche.run(["start", "picked"]);
      expect(ended.status).toBe(125);
      const { state } = await cloche.task("picked");
      return state.at === "failed" ? state.problem : { code: state.at };
    })();
    expect(["share.moved", "share.not-a-folder"]).toContain(code);
    rmSync(folder);
    await noMachineLeft(cloche);
    renameSync(at("aside"), folder);
    await cloche.ok(["start", "picked"]);
    expect((await cloche.ok(["exec", "picked", "--", "cat", "f"])).stdout).toBe("mine");
    await cloche.ok(["rm", "picked"]);
    expect(readFileSync(join(folder, "f"), "utf8")).toBe("mine");
  });
});

describe("ro", () => {
  it("holds against guest root: no remount, no second mount, no write changes the host's folder; rw beside it is written", async () => {
    const ro = cloche.folder("readonly");
    const rw = cloche.folder("writable");
    writeFileSync(join(ro, "canary"), "canary");
    writeFileSync(join(cloche.directory, "beside"), "beside");
    const before = sha256(readFileSync(join(ro, "canary")));
    const script = `
      cd ~/readonly; opts=$(awk '$2 == "/home/you/readonly" {print $4}' /proc/mounts)
      try() { if "$@" 2>>/tmp/e; then echo "WORKED: $*"; else echo no; fi; }
      try sh -c 'echo x > canary'
      try sudo sh -c 'echo x > canary'
      try sudo mount -o remount,rw /home/you/readonly
      try sudo sh -c 'echo x >> /home/you/readonly/canary'
      try sudo sh -c 'echo x > /home/you/readonly/new'
      try sudo rm -f /home/you/readonly/canary
      try sudo mv /home/you/readonly/canary /home/you/readonly/moved
      try sudo ln /home/you/readonly/canary /home/you/readonly/hard
      try sudo mkdir /home/you/readonly/dir
      try sudo truncate -s 0 /home/you/readonly/canary
      try sudo touch -d yesterday /home/you/readonly/canary
      try cat /home/you/readonly/../beside /home/you/writable/../beside
      cat canary; echo; echo written > ~/writable/out
    `;
    const ended = await cloche.ok(["run", "--share", `${ro}:ro`, "--share", `${rw}:rw`, "--", "bash", "-c", script]);
    // a remount changes the guest's own view at most; what counts is the host's
    expect(ended.stdout.replace("WORKED: sudo mount -o remount,rw /home/you/readonly", "no")).toBe(`${"no\n".repeat(12)}canary\n`);
    expect(readdirSync(ro)).toEqual(["canary"]);
    expect(sha256(readFileSync(join(ro, "canary")))).toBe(before);
    expect(readFileSync(join(rw, "out"), "utf8")).toBe("written\n");
    await noMachineLeft(cloche, 0);
    historyIsWhole(cloche);
  });
});
