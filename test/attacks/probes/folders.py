"""What a program in the guest does to the folders through the guest's own kernel. Arguments: what to do, then its own.
Answers with JSON."""
import ctypes, errno, json, mmap, os, socket, stat, subprocess, sys, time

WORK, LOOK = "/home/you/work", "/home/you/look"


def outcome(attempt):
    try:
        result = attempt()
        return "ok" if result is None else ["ok", result if not isinstance(result, bytes) else result.decode(errors="replace")]
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    except subprocess.CalledProcessError as error:
        return "failed"


def get(path):
    with open(path, "rb") as file:
        return file.read(4096)


def put(path, data=b"hostile", mode="wb"):
    with open(path, mode) as file:
        file.write(data)


def links(outside):
    """F01, F02, F04 as programs meet them: the guest's kernel resolves links, in the guest."""
    os.chdir(WORK)
    mine = f"mine-{os.getuid()}"
    os.symlink(outside + "/canary", mine)
    os.symlink(outside, mine + "-dir")
    names = ["absolute", "relative", "chained", "by-parent", mine]
    return {
        "read": {name: outcome(lambda: get(name)) for name in names},
        "write": {name: outcome(lambda: put(name, mode="r+b")) for name in names},
        "below": {name: outcome(lambda: os.makedirs(f"{name}/new/deeper") or put(f"{name}/new/deeper/file")) for name in ["directory", mine + "-dir"]},
        "canary by its own path": outcome(lambda: get(outside + "/canary")),
        "up": outcome(lambda: get("/home/you/work/../outside/canary")),
        "control": outcome(lambda: get("inside")),
    }


def kinds():
    """F12 as programs meet it."""
    os.chdir(WORK)
    tag = f"k{os.getuid()}"
    done = {
        "block": outcome(lambda: os.mknod(tag + "-block", stat.S_IFBLK | 0o666, os.makedev(8, 0))),
        "char": outcome(lambda: os.mknod(tag + "-char", stat.S_IFCHR | 0o666, os.makedev(1, 1))),
        "fifo": outcome(lambda: os.mkfifo(tag + "-fifo")),
        "socket": outcome(lambda: socket.socket(socket.AF_UNIX).bind(tag + "-socket")),
        "file": outcome(lambda: put(tag + "-file")),
    }
    done["set-id"] = outcome(lambda: os.chmod(tag + "-file", 0o6755))
    done["owner"] = outcome(lambda: os.chown(tag + "-file", 12345, 12345))
    done["capability"] = outcome(lambda: os.setxattr(tag + "-file", "security.capability", b"\x01\0\0\2" + b"\xff" * 16))
    return done


def race(outside, seconds):
    """F03: a directory and a link change places while files in the directory are made and written."""
    os.chdir(WORK)
    os.makedirs("swap", exist_ok=True)
    put("swap/canary", b"inside")
    os.symlink(outside, "swap-link")
    until = time.time() + float(seconds)
    read, write = os.pipe()
    children = []
    for worker in range(3):
        pid = os.fork()
        if pid == 0:
            opened = missed = 0
            while time.time() < until:
                for attempt in (lambda: put("swap/canary", b"inside", "r+b"), lambda: put(f"swap/made-{worker}"), lambda: os.unlink(f"swap/made-{worker}"), lambda: get("swap/canary")):
                    try:
                        attempt()
                        opened += 1
                    except OSError:
                        missed += 1
            os.write(write, json.dumps([opened, missed]).encode() + b"\n")
            os._exit(0)
        children.append(pid)
    swaps = 0
    while time.time() < until:
        for one, other in (("swap", "swap-dir"), ("swap-link", "swap"), ("swap", "swap-link"), ("swap-dir", "swap")):
            try:
                os.rename(one, other)
            except OSError:
                pass
        swaps += 1
    for pid in children:
        os.waitpid(pid, 0)
    os.close(write)
    for name in ("swap", "swap-dir", "swap-link"):
        if os.path.islink(name):
            os.unlink(name)  # no file of the folder's, from where the host could take it
    results = [json.loads(line) for line in os.fdopen(read)]
    return {"swaps": swaps, "opened": sum(r[0] for r in results), "missed": sum(r[1] for r in results)}


def read_only():
    """F07: guest root makes its own view of a read-only folder writable; the host's answer stays."""
    def mounted(*args):
        return outcome(lambda: subprocess.run(["mount", *args], check=True, capture_output=True) and None)
    os.makedirs("/tmp/second", exist_ok=True)
    done = {"remount": mounted("-o", "remount,rw", LOOK), "bind": mounted("--bind", LOOK, "/tmp/second"), "remount of the bind": mounted("-o", "remount,bind,rw", "/tmp/second")}
    for place in (LOOK, "/tmp/second") if os.getuid() == 0 else (LOOK,):
        kept = place + "/kept"
        done[place] = {
            "overwrite": outcome(lambda: put(kept, mode="r+b")),
            "append": outcome(lambda: put(kept, mode="ab")),
            "create": outcome(lambda: put(place + "/planted")),
            "unlink": outcome(lambda: os.unlink(kept)),
            "rename": outcome(lambda: os.rename(kept, place + "/moved")),
            "link": outcome(lambda: os.link(kept, place + "/linked")),
            "symlink": outcome(lambda: os.symlink("x", place + "/linked")),
            "mkdir": outcome(lambda: os.mkdir(place + "/made")),
            "truncate": outcome(lambda: os.truncate(kept, 0)),
            "chmod": outcome(lambda: os.chmod(kept, 0)),
            "times": outcome(lambda: os.utime(kept, (0, 0))),
            "xattr": outcome(lambda: os.setxattr(kept, "user.hostile", b"x")),
            "shared mapping": outcome(lambda: mapped(kept)),
            "read": outcome(lambda: get(kept)),
        }
    return done


def mapped(path):
    with open(path, "r+b") as file:
        with mmap.mmap(file.fileno(), 0) as view:
            view[:7] = b"hostile"
            view.flush()


def exports():
    """F09: all that the machine offers that could be a filesystem of the host's."""
    devices = {}
    for name in sorted(os.listdir("/sys/bus/virtio/devices")):
        devices[name] = int(get(f"/sys/bus/virtio/devices/{name}/device"), 16)
    return {
        "virtio": sorted(set(devices.values())),
        "tags": [name for name in devices if os.path.exists(f"/sys/bus/virtio/devices/{name}/mount_tag")],
        "mounts": sorted(line.split()[1] for line in open("/proc/self/mounts") if line.split()[2] in ("9p", "virtiofs", "fuse")),
        "work": sorted(os.listdir(WORK))[:200],
    }


def kinds_there():
    """F23: what already lies in the folder and is no file."""
    os.chdir(WORK)
    def opened(name):
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return os.read(descriptor, 100)
        finally:
            os.close(descriptor)
    done = {name: outcome(lambda: opened(name)) for name in ("device", "mounted/secret", "socket")}
    done["list mounted"] = outcome(lambda: os.listdir("mounted"))
    return {**done, "control": outcome(lambda: get("inside"))}


def in_hooks():
    """F10: a folder that is a git directory's hooks."""
    os.chdir("/home/you/hooks")
    name = f"pre-commit-{os.getuid()}"
    done = {"create": outcome(lambda: put(name)), "replace": outcome(lambda: put("incoming", b"replaced") or os.rename("incoming", name))}
    return {**done, "read": outcome(lambda: get(name))}


def fill():
    """F13: writes until it is refused, in one file and then in small ones."""
    os.chdir("/home/you/small")

    def flood():
        with open("flood", "wb", buffering=0) as file:
            for _ in range(1000):
                file.write(os.urandom(1 << 20))

    def many():
        for n in range(5000):
            put(f"small-{n}", b"x" * 4096)

    def over():
        with open("flood", "r+b", buffering=0) as file:
            file.write(b"over what is there")

    return {"flood": outcome(flood), "small": outcome(many), "overwrite": outcome(over)}


def unfill():
    """F13, control: what makes room goes on, and then there is some."""
    os.chdir("/home/you/small")
    return {"unlink": outcome(lambda: [os.unlink(name) for name in os.listdir(".")] and None), "write": outcome(lambda: put("after"))}


def hard_link(share):
    """F05: second names for what lies outside of the folder: on the guest's disk, in another folder, where a link leads, by a descriptor."""
    os.chdir("/home/you/" + share)
    tag = f"hard-{os.getuid()}"
    kept = os.open(LOOK + "/kept", os.O_RDONLY)
    ends = os.open("absolute", os.O_PATH | os.O_NOFOLLOW)
    libc = ctypes.CDLL(None, use_errno=True)

    def at(directory, name, flags):
        if libc.linkat(directory, name, -100, f"{tag}-at".encode(), flags):
            raise OSError(ctypes.get_errno(), "")

    def command(*words):
        ended = subprocess.run(["ln", *words, tag + "-ln"], capture_output=True, text=True, env={"LC_ALL": "C"})
        if ended.returncode:
            raise OSError(next((number for number in (errno.EXDEV, errno.EPERM, errno.ENOENT, errno.EROFS) if os.strerror(number) in ended.stderr), 0), ended.stderr)

    FOLLOW, EMPTY = 0x400, 0x1000
    done = {
        "of the guest's disk": outcome(lambda: os.link("/etc/hostname", tag + "-disk")),
        "of another folder": outcome(lambda: os.link(LOOK + "/kept", tag + "-other")),
        "of a link": outcome(lambda: os.link("absolute", tag + "-link", follow_symlinks=False)),
        "of what a link leads to": outcome(lambda: at(-100, b"absolute", FOLLOW)),
        "by ln": outcome(lambda: command(LOOK + "/kept")),
        "by ln, of what a link leads to": outcome(lambda: command("-L", "relative")),
        "by ln, of a link": outcome(lambda: command("-P", "relative")),
        "by a descriptor in /proc": outcome(lambda: at(-100, f"/proc/self/fd/{kept}".encode(), FOLLOW)),
        "by a descriptor": outcome(lambda: at(kept, b"", EMPTY)),
        "by a descriptor of a link": outcome(lambda: at(ends, b"", EMPTY)),
        "by a descriptor of a link in /proc": outcome(lambda: at(-100, f"/proc/self/fd/{ends}".encode(), FOLLOW)),
        "through the root of a process": outcome(lambda: os.link("/proc/self/root" + LOOK + "/kept", tag + "-root")),
    }
    if os.getuid() == 0:
        # the other folder in this one's place: what is linked there is the other's, and that is read only
        os.makedirs("dir/bound", exist_ok=True)
        subprocess.run(["mount", "--bind", LOOK, "dir/bound"], check=True)
        done["of a folder bound below it"] = outcome(lambda: os.link("dir/bound/kept", tag + "-bound"))
        done["into a folder bound below it"] = outcome(lambda: os.link("inside", f"dir/bound/{tag}"))
        subprocess.run(["umount", "dir/bound"], check=True)
        os.rmdir("dir/bound")
    inside = {"link": outcome(lambda: os.link("inside", tag + "-inside")), "copy": outcome(lambda: subprocess.run(["cp", "inside", tag + "-copy"], check=True) and None)}
    # what the host has by another name outside: a further name of it, and whatever is done by that
    joined, again = f"joined-{'root' if os.getuid() == 0 else 'user'}", tag + "-again"
    inside["further name"] = outcome(lambda: os.link(joined, again))
    name = again if inside["further name"] == "ok" else joined
    inside["write"] = outcome(lambda: put(name, b"hostile", "r+b"))
    inside["chmod"] = outcome(lambda: os.chmod(name, 0o600))
    inside["xattr"] = outcome(lambda: os.setxattr(name, "user.hostile", b"x"))
    inside["truncate"] = outcome(lambda: os.truncate(joined, 3))
    return {"outside": done, "inside": inside}


print(json.dumps({f.__name__: f for f in (links, kinds, race, read_only, exports, kinds_there, in_hooks, fill, unfill, hard_link)}[sys.argv[1]](*sys.argv[2:])))
