import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Cloche } from "../../harness/index.ts";

/** One guest for all: nothing here ends it or depends on its being fresh, but for the last test, which starts it again. */
const cloche = new Cloche();
const folder = cloche.folder("Work");

/** Runs a bash script in the guest, expects status 0 and answers with what it printed. */
async function inGuest(script: string): Promise<string> {
  const finished = await cloche.run(["exec", "work", "--", "bash", "-euo", "pipefail", "-c", script]);
  if (finished.status !== 0)
    throw new Error(`the guest's script ended with ${finished.status}\n${finished.stdout}\n${finished.stderr}${cloche.diagnosis()}`);
  return finished.stdout.trim();
}

beforeAll(async () => {
  writeFileSync(join(folder, "a.txt"), "TODO one\n");
  await cloche.ok(["new", "work", "--share", `${folder}:rw`]);
  await cloche.ok(["start", "work"]);
});
afterAll(async () => {
  expect(cloche.guestComplaints()).toEqual([]);
  await cloche.end();
});

describe("the guest is a Linux that people can work in", () => {
  it("the user is `you`, with sudo, at home in /home/you, working in the first folder", async () => {
    expect(await inGuest('echo "$(id -un) $(id -u) $(sudo -n id -u) $HOME $PWD $(hostname)"')).toBe(
      "you 1000 0 /home/you /home/you/Work work",
    );
  });

  it("has no network card, and loopback on IPv4 and IPv6", async () => {
    expect(await inGuest("ls /sys/class/net")).toBe("lo");
    const script = `python3 - <<'P'
import socket
for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    s = socket.socket(family); s.bind((host, 0)); s.listen()
    c = socket.create_connection((host, s.getsockname()[1])); a, _ = s.accept()
    a.sendall(b"ok"); print(c.recv(2).decode())
print(socket.getaddrinfo("localhost", 80)[0][4][0] in ("127.0.0.1", "::1"))
P`;
    expect(await inGuest(script)).toBe("ok\nok\nTrue");
  });

  it("git: init, commit, branch, clone, in the shared folder and beside it", async () => {
    const script = `git config --global user.email you@example.org; git config --global user.name You
      git init -q -b main repo; cd repo; cp ../a.txt .; git add .; git commit -qm first
      git switch -qc topic; echo two >> a.txt; git commit -qam second; git switch -q main; git merge -q topic
      git clone -q . ~/clone; git -C ~/clone log --format=%s; git status --porcelain; git fsck --no-progress`;
    expect(await inGuest(script)).toBe("second\nfirst");
    expect(readFileSync(join(folder, "repo/a.txt"), "utf8")).toBe("TODO one\ntwo\n");
  });

  it("Node: a dev server answers on loopback", async () => {
    const script = `cat > server.mjs <<'J'
import http from "node:http";
http.createServer((_, response) => response.end("hello from the guest")).listen(3000, "127.0.0.1", () => console.log("up"));
J
      exec 3< <(exec node server.mjs); pid=$!
      read -r -t 60 up <&3; curl -sS http://127.0.0.1:3000/; kill $pid`;
    expect(await inGuest(script)).toBe("hello from the guest");
  });

  // into a project: in the folders' suite, on the guest's disk and in the folder itself
  it("npm: a package from a file is installed globally", async () => {
    const script = `mkdir -p ~/pkg; cd ~/pkg
      echo '{"name":"hi","version":"1.0.0","bin":{"hi":"hi.js"}}' > package.json; printf '#!/usr/bin/env node\\nconsole.log("hi")\\n' > hi.js
      tar -czf hi-1.0.0.tgz --transform 's,^,package/,' package.json hi.js
      npm install -g --offline --no-audit --silent ~/pkg/hi-1.0.0.tgz; bash -lc hi`;
    expect(await inGuest(script)).toBe("hi");
  });

  // that pip is unpacked into it takes most of a minute: test/long
  it("Python: a virtual environment, and the pip that it would be given", async () => {
    expect(
      await inGuest(
        "python3 -m venv --without-pip ~/venv; . ~/venv/bin/activate; python -c 'import sys; print(sys.prefix)'; python -m ensurepip --version | cut -d' ' -f1",
      ),
    ).toBe("/home/you/venv\npip");
  });

  it("sqlite: a database with a write-ahead log, in the shared folder", async () => {
    const script = `sqlite3 data.db 'pragma journal_mode=wal; create table t(n); insert into t values (41); update t set n = n + 1; select n from t; pragma integrity_check'`;
    expect(await inGuest(script)).toBe("wal\n42\nok");
  });

  it("tmux: a session with a terminal of its own", async () => {
    const script = `tmux new-session -d -s s 'echo in tmux > ~/tmux.out; tty >> ~/tmux.out; sleep 60'
      for n in $(seq 100); do [ "$(wc -l < ~/tmux.out 2>/dev/null || echo 0)" = 2 ] && break; sleep 0.1; done
      tmux kill-session -t s; cat ~/tmux.out`;
    expect(await inGuest(script)).toMatch(/^in tmux\n\/dev\/pts\/\d+$/);
  });

  it("inotify: sees what the guest itself changes, in the shared folder too", async () => {
    const script = `for d in ~ ~/Work; do
        inotifywait -q -m -e create --format '%f' $d > ~/seen & pid=$!
        for n in $(seq 100); do grep -qs inotify /proc/$pid/fdinfo/* && break; sleep 0.1; done
        touch $d/new-file; for n in $(seq 100); do [ -s ~/seen ] && break; sleep 0.1; done
        kill $pid; cat ~/seen; done`;
    expect(await inGuest(script)).toBe("new-file\nnew-file");
  });

  it("bubblewrap: a sandbox in user namespaces", async () => {
    expect(
      await inGuest("bwrap --ro-bind / / --unshare-all --uid 5 --dev /dev --proc /proc sh -c 'id -u; ls /sys/class/net | wc -l'"),
    ).toMatch(/^5\n/);
  });

  it("apt: installs a package from a file, and its program runs", async () => {
    const script = `mkdir -p ~/deb/DEBIAN ~/deb/usr/bin; printf 'Package: hi-deb\\nVersion: 1.0\\nArchitecture: all\\nMaintainer: you\\nDescription: hi\\n' > ~/deb/DEBIAN/control
      printf '#!/bin/sh\\necho hi from apt\\n' > ~/deb/usr/bin/hi-deb; chmod +x ~/deb/usr/bin/hi-deb; dpkg-deb -b ~/deb /tmp/hi.deb >/dev/null
      sudo apt-get install -y -qq /tmp/hi.deb >/tmp/apt.log 2>&1 || { cat /tmp/apt.log; exit 1; }; hi-deb; dpkg -s hi-deb | grep Status`;
    expect(await inGuest(script)).toBe("hi from apt\nStatus: install ok installed");
  });

  it("documents: text out of a PDF, archives, file types, search", async () => {
    const script = `printf 'one TODO\\n' > b.txt; zip -q z.zip b.txt; unzip -p z.zip b.txt; file -b z.zip | cut -d, -f1; rg -c TODO b.txt; echo '{"a":[1,2]}' | jq '.a|length'`;
    expect(await inGuest(script)).toBe("one TODO\nZip archive data\n1\n2");
  });

  it("sftp: files and folders go in and out", async () => {
    const out = join(cloche.directory, "out");
    mkdirSync(join(cloche.directory, "tree/sub"), { recursive: true });
    writeFileSync(join(cloche.directory, "tree/sub/x.bin"), Buffer.from(Array.from({ length: 70_000 }, (_, n) => n % 251)));
    await cloche.ok(["cp", join(cloche.directory, "tree"), "work:tree"]);
    expect(await inGuest("sha256sum < ~/tree/sub/x.bin | cut -c1-16")).toHaveLength(16);
    await cloche.ok(["cp", "work:tree", out]);
    expect(readFileSync(join(out, "sub/x.bin")).equals(readFileSync(join(cloche.directory, "tree/sub/x.bin")))).toBe(true);
  });

  it("a shell reads a script from a pipe, ends with it, and passes its status on", async () => {
    expect(await cloche.run(["shell", "work"], { input: "pwd; tty; exit 7\n" })).toMatchObject({
      status: 7,
      stdout: "/home/you/Work\nnot a tty\n",
    });
    expect(await cloche.run(["shell", "work"])).toMatchObject({ status: 0, stdout: "" });
  });

  it("the outcome's own command counts the files with TODO", async () => {
    const finished = await cloche.ok(["exec", "work", "--", "sh", "-c", "grep -l TODO *.txt | wc -l"]);
    expect(finished.stdout.trim()).toBe("2");
  });

  it("what was installed survives stop and start", async () => {
    await cloche.ok(["stop", "work"]);
    expect((await cloche.task("work")).state.at).toBe("stopped");
    await cloche.ok(["start", "work"]);
    expect(await inGuest('hi-deb; bash -lc hi; ~/venv/bin/python -c "print(6*7)"; git -C ~/clone log -1 --format=%s')).toBe(
      "hi from apt\nhi\n42\nsecond",
    );
    expect(existsSync(join(folder, "new-file"))).toBe(true);
  });
});
