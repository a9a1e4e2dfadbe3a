"""What a program in the guest does in a folder that it may change. Arguments: what to do, then its own. Answers with JSON."""
import ctypes, errno, json, mmap, os, subprocess, sys

WORK = "/home/you/work"
PLANTED = b"PLANTED"
NAMES = [
    ".git/hooks/pre-commit", ".git/config", ".git/info/attributes", ".git/objects/info/alternates", ".git/config.worktree", ".git/commondir", ".git/modules/sub/hooks/post-checkout",
    ".gitmodules", ".gitconfig", ".vscode/tasks.json", ".idea/workspace.xml", ".exrc", ".mcp.json", ".claude/settings.json", "CLAUDE.md", ".cursor/mcp.json", ".bashrc", ".zshenv",
    ".config/fish/config.fish", ".envrc", ".ripgreprc", ".npmrc", "Library/LaunchAgents/x.plist", ".config/autostart/x.desktop", "Start.desktop", ".husky/pre-commit", ".pre-commit-config.yaml",
    ".GIT/hooks/post-merge", ".g\u200cit/config", ".VSCode/Tasks.json", "GIT~1/hooks/x", ".ENVRC", "HEAD",
]


def outcome(attempt):
    try:
        return attempt() or "ok"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))


def put(path, data=PLANTED, mode="wb"):
    with open(path, mode) as file:
        file.write(data)


def plant(depth, which, top):
    """F10, F11: every way to bring something to a protected name, `depth` directories below `top`."""
    done = {}
    base = f"{WORK}/{top}" + "/deeper" * int(depth)
    for name in NAMES if which == "all" else NAMES[int(depth) % 4::4]:
        first, _, rest = name.partition("/")

        def fresh(way):
            place = f"{base}/{way}"
            os.makedirs(place, exist_ok=True)
            return place

        def read_back(path):
            with open(path, "rb") as file:
                return "ok" if file.read().startswith(PLANTED) else "other content"

        def create():
            path = f"{fresh('create')}/{name}"
            os.makedirs(os.path.dirname(path), exist_ok=True)
            put(path)
            return read_back(path)

        def rename_file():
            place = fresh("rename")
            os.makedirs(os.path.dirname(f"{place}/{name}"), exist_ok=True)
            put(f"{place}/plain")
            os.rename(f"{place}/plain", f"{place}/{name}")
            return read_back(f"{place}/{name}")

        def rename_open():
            place = fresh("open")
            os.makedirs(os.path.dirname(f"{place}/{name}"), exist_ok=True)
            with open(f"{place}/plain", "wb") as file:
                os.rename(f"{place}/plain", f"{place}/{name}")
                file.write(PLANTED)
            return read_back(f"{place}/{name}")

        def rename_directory():
            if not rest:
                return "ok"
            place = fresh("carry")
            os.makedirs(os.path.dirname(f"{place}/plain/{rest}"), exist_ok=True)
            put(f"{place}/plain/{rest}")
            os.rename(f"{place}/plain", f"{place}/{first}")
            return read_back(f"{place}/{name}")

        def hard_link():
            place = fresh("link")
            os.makedirs(os.path.dirname(f"{place}/{name}"), exist_ok=True)
            put(f"{place}/plain", b"before")
            os.link(f"{place}/plain", f"{place}/{name}")
            put(f"{place}/{name}")
            return read_back(f"{place}/{name}")

        def symbolic_link():
            place = fresh("symlink")
            os.makedirs(os.path.dirname(f"{place}/{name}"), exist_ok=True)
            os.symlink("PLANTED", f"{place}/{name}")
            return "ok" if os.readlink(f"{place}/{name}") == "PLANTED" else "other text"

        done[name] = {way.__name__: outcome(way) for way in (create, rename_file, rename_open, rename_directory, hard_link, symbolic_link)}
    put(f"{base}/ordinary")
    return done


def change_names(depth, top):
    """F10: what the host has at each protected name, a copy of it for each way to change it."""
    base = f"{WORK}/{top}" + "/deeper" * int(depth)
    scratch = f"{WORK}/scratch-{top}-{depth}"
    os.makedirs(scratch)

    def replaced(path):
        put(f"{scratch}/incoming")
        os.rename(f"{scratch}/incoming", path)

    def linked_over(path):
        os.symlink("PLANTED", f"{scratch}/incoming")
        os.rename(f"{scratch}/incoming", path)

    def mapped(path):
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
            view[:7] = PLANTED
            view.flush()

    ways = {
        "append": lambda path: put(path, mode="ab"),
        "overwrite": lambda path: put(path, mode="r+b"),
        "truncate": lambda path: os.truncate(path, 0),
        "map": mapped,
        "replace": replaced,
        "replace-by-link": linked_over,
        "unlink": os.unlink,
        "move-away": lambda path: os.rename(path, f"{scratch}/taken"),
        "chmod": lambda path: os.chmod(path, 0o777),
        "times": lambda path: os.utime(path, (1, 1)),
    }
    return {way: {name: outcome(lambda: act(f"{base}/{way}/{name}")) for name in NAMES} for way, act in ways.items()}


def change_protected():
    """F10: what the host has at such names is changed, replaced, truncated, removed, moved."""
    os.chdir(WORK)
    done = {}
    for name in (".envrc", ".git/config", ".git/hooks/pre-commit", "store/config", "store/hooks/update", "editor/tasks.json"):
        done[name] = [
            outcome(lambda: put(name, mode="ab")),
            outcome(lambda: put(name, mode="r+b")),
            outcome(lambda: put("incoming") or os.rename("incoming", name)),
            outcome(lambda: os.chmod(name, 0o777)),
            outcome(lambda: os.truncate(name, 7)),
        ]
        with open(name, "rb") as file:
            done[name].append(file.read().decode())
    done["moved"] = outcome(lambda: os.rename(".git/hooks", ".git/hooks-away"))
    done["removed"] = outcome(lambda: os.unlink(".envrc"))
    return done


def repository():
    """F10: a git directory of the guest's own, whose config runs a command, in places whose names are no git directory's."""
    made = {}
    config = b'[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = .\n\tfsmonitor = "touch $RAN; false"\n'
    head = b"ref: refs/heads/main\n"
    for place in (f"evil-{os.getuid()}", f"x-{os.getuid()}.git/src", f"x-{os.getuid()}.git/refs/remotes/origin"):
        here = f"{WORK}/{place}"
        os.makedirs(f"{here}/objects")
        os.makedirs(f"{here}/refs", exist_ok=True)
        made[place] = {"config": outcome(lambda: put(f"{here}/config", config))}
        ways = {
            "linked": lambda: put(f"{WORK}/plain", head) or os.link(f"{WORK}/plain", f"{here}/HEAD"),
            "moved": lambda: put(f"{WORK}/plain", head) or os.rename(f"{WORK}/plain", f"{here}/HEAD"),
            "symlink": lambda: os.unlink(f"{here}/HEAD") or os.symlink("refs/heads/main", f"{here}/HEAD"),
            "made": lambda: os.unlink(f"{here}/HEAD") or put(f"{here}/HEAD", head),
        }
        for way, do in ways.items():
            made[place][way] = outcome(do)
    return made


def link_out(canary):
    """F20: a link to a file beside the folder comes in the place of one that a program of the host's writes to, in every way there is."""
    os.chdir(WORK)
    mine = f"log-{'root' if os.getuid() == 0 else 'user'}"
    os.makedirs(f"{mine}/deep/er", exist_ok=True)

    def replaced(name):
        os.unlink(name)
        os.symlink(canary, name)

    def renamed_over(name):
        os.symlink("../../outside/canary", f"{mine}/incoming")
        os.rename(f"{mine}/incoming", name)

    def moved_up(name):
        os.unlink(name)
        os.symlink("../../../outside/canary", f"{mine}/deep/er/{os.path.basename(name)}")
        os.rename(f"{mine}/deep/er/{os.path.basename(name)}", name)

    def carried(name):
        os.unlink(name)
        os.symlink("../../../outside/canary", f"{mine}/deep/er/link")
        subprocess.run(["mv", f"{mine}/deep/er", f"{mine}/er"], check=True)
        os.rename(f"{mine}/er/link", name)

    def users_own(name):
        os.unlink(name)
        os.rename(f"{mine}/own", name)

    ways = {"replaced": replaced, "renamed-over": renamed_over, "moved-up": moved_up, "carried": carried, "users-own": users_own}
    done = {}
    for way, act in ways.items():
        made = outcome(lambda: act(f"{mine}/{way}"))
        done[way] = os.readlink(f"{mine}/{way}") if made == "ok" else made
    os.symlink("deep", f"{mine}/inside")
    return done


def git(which):
    """Must hold: a repository is made and, with `all`, cloned and worked in as always."""
    os.chdir(WORK)
    name = f"repository-{os.getuid()}"
    environment = {**os.environ, "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t", "HOME": "/tmp"}

    def run(*args, cwd=WORK):
        ended = subprocess.run(["git", "-c", "safe.directory=*", *args], cwd=cwd, env=environment, capture_output=True, text=True)
        return "ok" if ended.returncode == 0 else ended.stderr[-500:]

    made = {"init": run("init", "-b", "main", name)}
    here = f"{WORK}/{name}"
    put(f"{here}/file", b"content\n")
    made["add"] = run("add", ".", cwd=here)
    made["commit"] = run("commit", "-m", "first", cwd=here)
    made["remote"] = run("remote", "add", "elsewhere", "https://example.invalid/x.git", cwd=here)
    if which == "all":
        made["clone"] = run("clone", here, f"{name}-clone")
        clone = f"{WORK}/{name}-clone"
        made["switch"] = run("switch", "-c", "other", "--track", "origin/main", cwd=clone)
        made["status"] = run("status", cwd=clone)
        made["fsck"] = run("fsck", cwd=clone)
    urls = subprocess.run(["git", "-c", "safe.directory=*", "config", "--get", "remote.elsewhere.url"], cwd=here, env=environment, capture_output=True, text=True)
    return {**made, "url": urls.stdout.strip()}


def destroy():
    """F08: every operation that takes content away, each on a file of its own: lost-<who>-<way>."""
    os.chdir(WORK)
    libc = ctypes.CDLL(None, use_errno=True)
    mine = f"lost-{'root' if os.getuid() == 0 else 'user'}-"

    def exchange(name):
        put("other-file")
        if libc.renameat2(-100, b"other-file", -100, name.encode(), 2) != 0:
            code = ctypes.get_errno()
            os.unlink("other-file")
            raise OSError(code, "")

    def mapped(name):
        with open(name, "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
            view[:7] = PLANTED
            view.flush()

    def renamed_over(name):
        put("incoming-" + name)
        os.rename("incoming-" + name, name)

    def punched(name):
        with open(name, "r+b") as file:
            if libc.fallocate(file.fileno(), 3, ctypes.c_long(0), ctypes.c_long(4)) != 0:
                raise OSError(ctypes.get_errno(), "")

    def directory(name):
        os.rename(name, name + "-moved")
        os.unlink(name + "-moved")

    ways = {
        "unlink": os.unlink,
        "truncate": lambda name: os.truncate(name, 0),
        "open-truncate": lambda name: put(name),
        "overwrite": lambda name: put(name, mode="r+b"),
        "rename-over": renamed_over,
        "exchange": exchange,
        "map": mapped,
        "punch": punched,
        "move-and-unlink": directory,
        "twice": lambda name: put(name) or put(name, b"again") or os.unlink(name),
    }
    return {way: outcome(lambda: act(mine + way)) for way, act in ways.items()}


def write(name, data):
    put(f"{WORK}/{name}", data.encode())
    return "ok"


def replace(name):
    """F08, F22: a file is removed, and another one renamed to its name."""
    os.chdir(WORK)
    os.unlink(name)
    put("incoming-" + name)
    os.rename("incoming-" + name, name)
    return "ok"


def names():
    return NAMES


print(json.dumps({f.__name__: f for f in (names, plant, change_names, change_protected, repository, link_out, git, destroy, write, replace)}[sys.argv[1]](*sys.argv[2:])))
