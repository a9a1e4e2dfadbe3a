/**
 * F06 on a host whose filesystem folds case and Unicode forms. Where this host's kernel can mount one, the folder of a task lies on it. Where
 * it cannot, the test says so and a guest stands in for such a host: guest root serves a directory of an ext4 with casefold by the
 * same share server, another mount is the attacker's, and the verdict is what stands on that ext4.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { serveInGuest } from "../e2e/folders/served-in-guest.ts";
import { Cloche, Steps } from "../harness/index.ts";

const cloche = new Cloche();
const FOLDING = "mkfs.ext4 -q -O casefold -E encoding=utf8";

/** Steps that attack, on a mount of the share; steps that look, on what lies below it. Both in Python. */
interface Place {
  readonly attacker: Steps;
  readonly look: Steps;
  /** the share as the attacker has it, and the directory below it that folds */
  readonly mounted: string;
  readonly below: string;
  /** everything that waits is applied, as far as it can be; answers with the paths that were refused */
  apply(): Promise<string[]>;
  end(): Promise<void>;
}

const HELPERS = `
PLANTED = b"PLANTED"
def outcome(f):
    try: f(); return "ok"
    except OSError as e: return errno.errorcode[e.errno]
def tree(root):
    found = {}
    for at, dirs, files in os.walk(root):
        for n in dirs + files:
            p = os.path.join(at, n)
            found[os.path.relpath(p, root)] = "link " + os.readlink(p) if os.path.islink(p) else "dir" if os.path.isdir(p) else read(p).decode("latin-1")
    return found
`;
/** What the user has in the folder. */
const USERS: Record<string, string> = {
  readme: "the user's readme",
  "caf\u00e9": "the user's coffee",
  "stra\u00dfe": "the user's street",
  "sub/inner": "the user's inner",
  ".git/config": "the user's config",
  ".git/hooks/pre-commit": "the user's hook",
  ".envrc": "the user's envrc",
  ".vscode/tasks.json": "the user's tasks",
  "CLAUDE.md": "the user's instructions",
};
/** Other spellings of them that the filesystem takes for the same: case, forms, what a comparison leaves out, full foldings. */
const SPELLINGS: Record<string, string[]> = {
  readme: ["README", "ReadMe", "read\u200dme", "rea\u00addme"],
  "caf\u00e9": ["cafe\u0301", "CAF\u00c9", "CAFE\u0301"],
  "stra\u00dfe": ["strasse", "STRASSE", "STRA\u1e9eE", "\u017ftrasse"],
  "sub/inner": ["SUB/inner", "Sub/INNER", "\u017fub/inner"],
  ".git/config": [".GIT/config", ".Git/CONFIG", ".g\u200cit/config", ".git/con\ufeffFig"],
  ".git/hooks/pre-commit": [".GIT/HOOKS/pre-commit", ".git/HOOK\u017f/PRE-COMMIT"],
  ".envrc": [".ENVRC", ".env\u00adrc"],
  ".vscode/tasks.json": [".VSCode/tasks.json", ".v\u017fcode/ta\u017f\u212as.json", ".vscode/tas\u212as.json"],
  "CLAUDE.md": ["claude.md", "Claude.MD", "CLAUDE\u200b.md"],
};
const prepare = (below: string) => `
for name, content in json.loads(${JSON.stringify(JSON.stringify(USERS))}).items():
    path = os.path.join(${JSON.stringify(below)}, name); os.makedirs(os.path.dirname(path), exist_ok=True); write(path, content.encode())
spellings = json.loads(${JSON.stringify(JSON.stringify(SPELLINGS))})
for name, others in spellings.items():
    for other in others: assert os.path.exists(os.path.join(${JSON.stringify(below)}, other)), "not folded: " + ascii(other)
`;

/** The user's files by the names that the user gives them: what a program on the host reads there. */
const hosts = (place: Place) =>
  place.look.do<Record<string, string>>(
    `result = {n: read(os.path.join(${JSON.stringify(place.below)}, n)) for n in json.loads(${JSON.stringify(JSON.stringify(Object.keys(USERS)))})}`,
  );
const below = (place: Place) => place.look.do<Record<string, string>>(`result = tree(${JSON.stringify(place.below)})`);

async function nested(name: string, mode: "rw" | "review"): Promise<Place> {
  const host = Steps.inGuest(cloche, "folds", "root");
  await host.do(serveInGuest);
  await host.do(HELPERS);
  await host.do(`disk("${name}", "${FOLDING}"); os.mkdir("/${name}/d"); run("chattr", "+F", "/${name}/d"); os.chmod("/${name}/d", 0o777)`);
  await host.do(prepare(`/${name}/d`));
  await host.do(`run("chown", "-R", "1000:1000", "/${name}/d"); serve("${name}", "mmap", "${mode}")`);
  const attacker = Steps.inGuest(cloche, "folds");
  await attacker.do(HELPERS);
  await attacker.do(`os.chdir("/mnt/${name}/d"); spellings = json.loads(${JSON.stringify(JSON.stringify(SPELLINGS))})`);
  return {
    attacker,
    look: host,
    mounted: `/mnt/${name}/d`,
    below: `/${name}/d`,
    apply: () =>
      host.do(`
call = asked["${name}"]; listed = call("changes", {"limit": 500}); refused = []
for change in listed["changes"]:
    answer = call("apply", {"what": {"changes": [{"id": change["id"], "token": change["token"]}]}})
    refused += [base64.b64decode(r["path"]).decode() + " " + r["code"] for r in answer["refused"]]
result = refused`),
    end: async () => {
      await attacker.do(`os.chdir("/")`);
      await host.do(`end("${name}")`);
      attacker.end();
      host.end();
    },
  };
}

/** Why this host cannot have such a folder, if it cannot. */
function hostFolds(): string | undefined {
  if (process.getuid?.() !== 0) return "only root can mount one";
  const image = join(cloche.directory, "probe.img");
  const at = join(cloche.directory, "probe");
  mkdirSync(at);
  try {
    execFileSync("truncate", ["-s", "64M", image]);
    execFileSync("mkfs.ext4", [...FOLDING.split(" ").slice(1), image]);
    execFileSync("mount", ["-o", "loop", image, at], { stdio: "pipe" });
  } catch (error) {
    const said = error instanceof Error ? error.message.split("\n").find((line) => line.startsWith("mount: ")) : undefined;
    return `its kernel cannot mount an ext4 with casefold: ${said ?? error}`;
  }
  execFileSync("umount", [at]);
  return undefined;
}

/** The host's own folder on such a filesystem, as a task of the host's has it. */
async function real(name: string, mode: "rw" | "review"): Promise<Place> {
  const folder = cloche.folder(name);
  const image = join(cloche.directory, `${name}.img`);
  execFileSync("truncate", ["-s", "64M", image]);
  execFileSync("mkfs.ext4", [...FOLDING.split(" ").slice(1), image]);
  execFileSync("mount", ["-o", "loop", image, folder]);
  const at = join(folder, "d");
  mkdirSync(at);
  execFileSync("chattr", ["+F", at]);
  const look = Steps.onHost("/");
  await look.do(HELPERS);
  await look.do(prepare(at));
  await cloche.ok(["new", name, "--share", `${folder}:${mode}`]);
  await cloche.ok(["start", name]);
  const attacker = Steps.inGuest(cloche, name);
  await attacker.do(HELPERS);
  await attacker.do(`os.chdir("/home/you/${name}/d"); spellings = json.loads(${JSON.stringify(JSON.stringify(SPELLINGS))})`);
  return {
    attacker,
    look,
    mounted: `/home/you/${name}/d`,
    below: at,
    apply: async () => {
      const { folders } = await cloche.json<{ folders: { changes: { path: { text: string } }[] }[] }>(["changes", name]);
      const refused: string[] = [];
      for (const { path } of folders.flatMap(({ changes }) => changes)) {
        const ended = await cloche.run(["apply", name, path.text]);
        for (const [, said, code] of ended.stderr.matchAll(/not done: (.+): .* \[([a-z.-]+)\]/g)) refused.push(`${said} ${code}`);
      }
      return refused;
    },
    end: async () => {
      attacker.end();
      look.end();
      await cloche.ok(["stop", "--now", name]);
      execFileSync("umount", ["-l", folder]);
    },
  };
}

const why = hostFolds();
if (why !== undefined) process.stderr.write(`IGNORED: F06 on this host's own folder: ${why}. A guest stands in for a host that folds.\n`);

beforeAll(async () => {
  if (why === undefined) return;
  await cloche.ok(["new", "folds"]);
  await cloche.ok(["start", "folds"]);
  await cloche.ok(["cp", cloche.components.shareServer, "folds:/home/you/cloche-share"]);
});
afterAll(() => cloche.end());

describe(
  why === undefined ? "a folder on a filesystem of the host's that folds" : "a folder on a filesystem of a guest's that folds",
  () => {
    it("F06: rw: no other spelling reads, changes, replaces or removes what the user has", async () => {
      const place = await (why === undefined ? real : nested)("folds-rw", "rw");
      const { attacker } = place;
      const done = await attacker.do<Record<string, Record<string, string>>>(`
result = {}
for name, others in spellings.items():
    for other in others:
        write("incoming", PLANTED)
        result[other] = {
            "read": outcome(lambda: read(other)), "stat": outcome(lambda: os.stat(other)), "unlink": outcome(lambda: os.unlink(other)),
            "truncate": outcome(lambda: os.truncate(other, 0)), "move": outcome(lambda: os.rename(other, "taken")),
            "chmod": outcome(lambda: os.chmod(other, 0o777)), "xattr": outcome(lambda: os.setxattr(other, "user.x", b"x")),
            "create": outcome(lambda: write(other, PLANTED)), "replace": outcome(lambda: os.rename("incoming", other)),
            "link": outcome(lambda: os.link("incoming", other)), "symlink": outcome(lambda: os.symlink("PLANTED", other)), "mkdir": outcome(lambda: os.mkdir(other)),
        }
        if os.path.exists("incoming"): os.unlink("incoming")`);
      expect(Object.keys(done)).toHaveLength(Object.values(SPELLINGS).flat().length);
      expect(await hosts(place)).toEqual(USERS);
      // An ordinary name: what is not there cannot be had, and there is no room for what would be another name for it.
      for (const name of ["readme", "caf\u00e9", "stra\u00dfe"]) {
        for (const other of SPELLINGS[name] ?? []) {
          const { read, stat, unlink, truncate, move, chmod, xattr, ...making } = done[other] ?? {};
          expect([other, new Set([read, stat, unlink, truncate, move, chmod, xattr])]).toEqual([other, new Set(["ENOENT"])]);
          expect([other, making]).toEqual([
            other,
            { create: "EEXIST", replace: "EEXIST", link: "EEXIST", symlink: "EEXIST", mkdir: "EEXIST" },
          ]);
        }
      }
      // control: by its own spelling it is read and written, and its owner may respell it
      expect(await attacker.do(`write("readme", b"written"); os.rename("readme", "README"); result = read("README")`)).toBe("written");
      expect((await below(place)).README).toBe("written");
      await place.end();
    });

    it("F06, F10: rw: a name that the host obeys is not reached by any spelling, where it is and where it is not yet", async () => {
      const place = await (why === undefined ? real : nested)("folds-plant", "rw");
      const tried = await place.attacker.do<number>(`
result = 0
for name, others in spellings.items():
    if not name.startswith((".", "CLAUDE")): continue
    for number, other in enumerate(others):
        for way in ("create", "rename", "carry", "symlink"):
            base = "%s-%d-%s" % (way, number, name.replace("/", "_")); os.makedirs(base + "/plain")
            target = os.path.join(base, other); first, _, rest = other.partition("/")
            def act():
                if way == "carry" and rest:
                    os.makedirs(os.path.dirname(base + "/plain/" + rest), exist_ok=True); write(base + "/plain/" + rest, PLANTED); os.rename(base + "/plain", base + "/" + first)
                    return
                os.makedirs(os.path.dirname(target), exist_ok=True)
                if way == "symlink": os.symlink("PLANTED", target)
                elif way == "create": write(target, PLANTED)
                else: write(base + "/plain/file", PLANTED); os.rename(base + "/plain/file", target)
            how = outcome(act)
            # the guest has it: the attempt was one. A directory is not moved to a name that gives what is in it a meaning.
            assert how == "ok" and os.path.lexists(target) or how == "EXDEV" and way == "carry" and rest, (way, ascii(other), how)
            result += how == "ok"`);
      expect(tried).toBeGreaterThan(40);
      // by the name that programs ask for, whatever spelling stands on the disk
      const reached = await place.look.do<string[]>(`
result = []
for entry in os.listdir(${JSON.stringify(place.below)}):
    way, _, rest = entry.partition("-")
    if way not in ("create", "rename", "carry", "symlink"): continue
    name = rest.partition("-")[2].replace("_", "/")
    if os.path.lexists(os.path.join(${JSON.stringify(place.below)}, entry, name)): result.append(entry)
    for path, content in tree(os.path.join(${JSON.stringify(place.below)}, entry)).items():
        if "PLANTED" in content and not path.startswith("plain"): result.append(entry + ": " + path)`);
      expect(reached).toEqual([]);
      expect(await hosts(place)).toEqual(USERS);
      await place.end();
    });

    it("F06: review: what the guest makes beside the user's files under other spellings is never applied over them, nor into their directories", async () => {
      const place = await (why === undefined ? real : nested)("folds-review", "review");
      const { attacker } = place;
      const outcomes = await attacker.do<Record<string, string>>(`
result = {}
for name, others in spellings.items():
    for other in others:
        def act():
            os.makedirs(os.path.dirname(other) or ".", exist_ok=True); write(other, PLANTED)
        result[other] = outcome(act)
for name in ("both", "BOTH", "Both"): result[name] = outcome(lambda: write(name, b"the guest's " + name.encode()))
write("plain", b"applied"); os.unlink("readme"); write("README", PLANTED)`);
      expect(await hosts(place), "nothing before it is applied").toEqual(USERS);
      const refused = await place.apply();
      const after = await below(place);
      // the user's files, but the one that was deleted and made anew in another spelling: that is the task's change, if it is done at all
      for (const [name, content] of Object.entries(USERS)) {
        if (name !== "readme") expect([name, (await hosts(place))[name]]).toEqual([name, content]);
      }
      expect(after.plain, "control").toBe("applied");
      const bothThere = Object.keys(after).filter((name) => name.toLowerCase() === "both");
      expect(bothThere).toHaveLength(1);
      expect(after[bothThere[0] ?? ""]).toBe(`the guest's ${bothThere[0]}`);
      // of those that are one name there, one is there at most, and each other was refused, at the guest's write or at the apply
      const readmes = Object.keys(after).filter((name) => after[name] === "PLANTED");
      expect(readmes.length).toBeLessThanOrEqual(1);
      for (const name of readmes) expect(["readme", ...(SPELLINGS.readme ?? [])]).toContain(name);
      const told = refused.join("\n");
      for (const [name, how] of Object.entries(outcomes)) {
        if (how === "ok" && !readmes.includes(name) && !bothThere.includes(name))
          expect(told, `${name} was refused`).toContain(name.split("/")[0]);
      }
      await place.end();
    });

    it("F06: names that another system takes for a path, a device, a stream or another name are names like any other, and lie where they were made", async () => {
      const place = await (why === undefined ? real : nested)("folds-names", "rw");
      const names = [
        "CON",
        "nul.txt",
        "aux",
        "COM1",
        "LPT1.log",
        "a:stream",
        "b::$DATA",
        "..\\\\up",
        "C:\\\\x",
        "\\\\\\\\server\\\\share",
        "trailing.",
        "trailing ",
        "...",
        "%2e%2e",
        "x\u2024y",
        "full\uff0fwidth",
      ];
      const done = await place.attacker.do<Record<string, string>>(`
os.mkdir("tricks"); os.chdir("tricks"); result = {}
for name in json.loads(r'''${JSON.stringify(names)}'''): result[name] = outcome(lambda: write(name, name.encode()))
os.chdir("..")`);
      expect(new Set(Object.values(done))).toEqual(new Set(["ok"]));
      const there = await place.look.do<Record<string, string>>(
        `result = {k: v.encode("latin-1").decode() for k, v in tree(${JSON.stringify(`${place.below}/tricks`)}).items()}`,
      );
      expect(there).toEqual(Object.fromEntries(names.map((name) => [name, name])));
      expect(await hosts(place)).toEqual(USERS);
      await place.end();
    });
  },
);
