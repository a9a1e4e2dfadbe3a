"""What a guest does that speaks 9P itself. Arguments: the ports of the shares. Answers with JSON of every attempt's outcome."""
ports = [int(port) for port in sys.argv[1:]]
unmounted()


def across(nine):
    """One session may attach many times, also to what it names outside: each fid stands for something in the folder or for nothing."""
    other = nine.attach(OUTSIDE)
    link, inside = nine.walk("directory", start=other)[0], nine.walk("inside", start=other)[0]
    nowhere = nine.fid()
    return {
        "walk on": outcome(lambda: nine.walk("canary", start=other) and None),
        "up": outcome(lambda: nine.walk("..", "outside", start=other) and None),
        "link of nothing": outcome(lambda: nine.link(1, nowhere, "planted")),
        "link into nothing": outcome(lambda: nine.link(nowhere, inside, "planted")),
        "link into a link": outcome(lambda: nine.link(link, inside, "planted")),
        "link by a path": outcome(lambda: nine.link(other, inside, "../outside/planted")),
        "rename out of a link": outcome(lambda: nine.rename(link, "canary", other, "planted")),
        "rename into a link": outcome(lambda: nine.rename(other, "inside", link, "planted")),
        "rename by a path": outcome(lambda: nine.rename(other, "../outside/canary", 1, "planted")),
        "move into a link": outcome(lambda: nine.move(nine.walk("inside")[0], link, "planted")),
        "move by a path": outcome(lambda: nine.move(nine.walk("inside")[0], other, "../outside/planted")),
        "move the root": outcome(lambda: nine.move(other, other, "planted")),
        "move into itself": outcome(lambda: nine.rename(1, "dir", nine.walk("dir")[0], "planted")),
        "unlink in a link": outcome(lambda: nine.unlink(link, "canary")),
        "create on a file": outcome(lambda: nine.create(inside, "planted") and None),
        "symlink in a link": outcome(lambda: nine.symlink(link, "planted", OUTSIDE)),
    }


STRANGE = {"all": 0xFFFFFFFF, "path": 0o10000000, "temporary": 0o20200000, "directory": 0o200000, "exclusive": 0o302, "no access mode": 3, "direct": 0o40002, "async": 0o20002}


def strange(nine):
    """Flags no kernel would send; on a link they must not make it anything else, and what is made is a plain file or nothing."""
    def made(flags, name, mode=0o644):
        return outcome(lambda: nine.clunk(nine.create(1, name, flags, mode)))
    return {
        "open a link": {name: outcome(lambda: nine.read(nine.open(nine.walk("absolute")[0], flags))) for name, flags in STRANGE.items()},
        "list a link": {name: outcome(lambda: nine.call(40, struct.pack("<IQI", nine.open(nine.walk("directory")[0], flags), 0, 8192)) and None) for name, flags in STRANGE.items()},
        "create over a link": {name: outcome(lambda: nine.write(nine.create(1, "absolute", flags), b"hostile")) for name, flags in STRANGE.items()},
        "create in a link": {name: outcome(lambda: nine.create(nine.walk("directory")[0], "planted", flags) and None) for name, flags in STRANGE.items()},
        "create": {name: made(flags, "strange-" + name) for name, flags in STRANGE.items()} | {"mode": made(2, "strange-mode", 0xFFFFFFFF)},
    }


def attributes(nine):
    nine.clunk(nine.create(1, "attributed"))
    file, link = nine.walk("attributed")[0], nine.walk("absolute")[0]
    names = ["security.capability", "security.selinux", "trusted.x", "system.posix_acl_access", "user.", "", "x", b"user.a\0b", "user." + "n" * 300]
    return {
        "set": {repr(name): outcome(lambda: nine.xattr(file, name, b"x")) for name in names},
        "too much": {str(size): outcome(lambda: nine.xattr(file, "user.huge", b"x", size)) for size in (1 << 20, 1 << 40, (1 << 64) - 1)},
        "set on a link": outcome(lambda: nine.xattr(link, "user.x", b"x")),
        "get of a link": outcome(lambda: nine.get_xattr(link, "user.x")),
        "kept": outcome(lambda: nine.xattr(file, "user.plain", b"x") or nine.get_xattr(file, "user.plain")),
    }


def counts(nine):
    def at(kind, offset, count, body=b""):
        return outcome(lambda: len(nine.call(kind, struct.pack("<IQI", opened, offset, count) + body)) - 4)
    nine.write(nine.create(1, "counted"), b"0123456789")
    opened = nine.open(nine.walk("counted")[0], 2)
    done = {
        "read all there is": at(116, 0, 0xFFFFFFFF),
        "read at the end of numbers": at(116, (1 << 64) - 1, 0xFFFFFFFF),
        "write at the end of numbers": at(118, (1 << 64) - 1, 1, b"x"),
        "write behind the largest file": at(118, (1 << 63) - 1, 1, b"x"),
        "grow to the end of numbers": outcome(lambda: nine.setattr(nine.walk("counted")[0], 8, size=(1 << 64) - 1)),
    }
    opened = nine.open(nine.walk()[0])
    done["list all there is"] = at(40, 0, 0xFFFFFFFF)
    done["list from nowhere"] = at(40, (1 << 64) - 1, 8192)
    return done


def frames(port, marker):
    """Bytes that are no request: the connection ends or the request is refused, and the next one is served."""
    walk = lambda names: struct.pack("<IIH", 1, 77, names) + text("inside") * min(names, 64)
    bad = {
        "of no length": struct.pack("<IBH", 0, 110, 1),
        "shorter than its head": struct.pack("<IBH", 6, 110, 1),
        "as long as can be said": struct.pack("<IBH", 0xFFFFFFFF, 110, 1) + b"x" * 100,
        "longer than agreed": struct.pack("<IBH", (1 << 20) + 7, 118, 1) + b"x" * (1 << 20),
        "with a tail": struct.pack("<IBH", 7 + 4 + 9, 120, 1) + struct.pack("<I", 1) + b"and more.",
        "of an unknown kind": struct.pack("<IBH", 7, 255, 1),
        "an answer": struct.pack("<IBH", 7, 111, 1),
        "an open of old": struct.pack("<IBHIB", 12, 112, 1, 1, 0),
        "many names": struct.pack("<IBH", 7 + len(walk(17)), 110, 1) + walk(17),
        "more names than there are bytes": struct.pack("<IBH", 7 + len(walk(65535)), 110, 1) + walk(65535),
        "a name longer than the frame": struct.pack("<IBHIIHH", 19, 110, 1, 1, 77, 1, 65535),
        "a write of more than it carries": struct.pack("<IBHIQI", 24, 118, 1, 1, 0, 0x7FFFFFFF) + b"x",
    }
    done = {}
    for name, data in bad.items():
        nine = connected([port], marker)
        def answered():
            nine.stream.sendall(data)
            kind, reply = nine.frame()
            if kind == 7:
                raise OSError(struct.unpack("<I", reply)[0], "")
            return kind
        done[name] = outcome(answered)
        nine.stream.close()
    return done


def hostile(marker):
    """All that can be asked of a folder that is written, whether its changes wait or not."""
    done = {}
    nine = connected(ports, marker)
    root = nine.root

    def through(name):
        """Each way to reach what a link leads to."""
        link = nine.walk(name)[0]
        return {
            "text": outcome(lambda: nine.readlink(link)),
            "open": outcome(lambda: nine.read(nine.open(nine.walk(name)[0]))),
            "overwrite": outcome(lambda: nine.write(nine.open(nine.walk(name)[0], 0o1001), b"hostile")),
            "truncate": outcome(lambda: nine.setattr(nine.walk(name)[0], 8)),
            "chmod": outcome(lambda: nine.setattr(nine.walk(name)[0], 1, mode=0o777)),
            "create over": outcome(lambda: nine.write(nine.create(1, name, 0o1002), b"hostile")),
            "walk on": outcome(lambda: nine.walk("canary", start=link)[1]),
            "walk on in one": outcome(lambda: nine.walk(name, "canary")[1]),
            "two below": outcome(lambda: nine.walk(name, "new", "deeper")[1]),
            "create in": outcome(lambda: nine.create(link, "planted") and None),
            "mkdir in": outcome(lambda: nine.mkdir(link, "planted")),
            "rename into": outcome(lambda: nine.rename(1, "inside", link, "planted")),
            "list": outcome(lambda: list(nine.names(nine.walk(name)[0]))),
            "xattr": outcome(lambda: nine.xattr(link, "user.hostile", b"x")),
        }


    done["links of the host"] = {name: through(name) for name in ["absolute", "relative", "chained", "by-parent", "directory", "proc"]}
    for name, target in [("mine-absolute", OUTSIDE + "/canary"), ("mine-relative", "../outside/canary"), ("mine-directory", OUTSIDE)]:
        nine.symlink(1, name, target)
    done["links of the guest"] = {name: through(name) for name in ["mine-absolute", "mine-relative", "mine-directory"]}

    done["up"] = {
        "/".join(names): outcome(lambda: nine.walk(*names)[1] == root)
        for names in [("..",), ("..", "..", ".."), ("dir", "..", ".."), ("dir", "..", "..", "outside"), ("..", "outside", "canary")]
    }
    done["not a name"] = {
        repr(name): [
            outcome(lambda: nine.walk(name) and None),
            outcome(lambda: nine.create(1, name) and None),
            outcome(lambda: nine.mkdir(1, name)),
            outcome(lambda: nine.symlink(1, name, "x")),
            outcome(lambda: nine.rename(1, "inside", 1, name)),
            outcome(lambda: nine.unlink(1, name)),
        ]
        for name in [b"../outside/canary", b"/etc/passwd", b"dir/../../outside/canary", b"a\0b", b"", b".", b"dir/inside", b"n" * 256]
    }
    nine.mkdir(1, "tricks")
    tricks = nine.walk("tricks")[0]
    done["bytes"] = {
        repr(name): outcome(lambda: nine.clunk(nine.create(tricks, name)))
        for name in [b"back\\slash", b"..\\..\\outside", b"CON", b"NUL", b"a:b", b"::$DATA", b"\\\\?\\C:", b"\xff\xfe", b"\xe2\x80\xae", b"caf\xc3\xa9", b"cafe\xcc\x81", b"...", b" ", b"~", b"n" * 255]
    }

    inside = nine.walk("inside")[0]
    done["hard links"] = {
        "of a file of the folder": outcome(lambda: nine.link(1, inside, "second-name")),
        "of a link to outside": outcome(lambda: nine.link(1, nine.walk("absolute")[0], "second-link")),
        "through that": outcome(lambda: nine.read(nine.open(nine.walk("second-link")[0]))),
        "of a directory": outcome(lambda: nine.link(1, nine.walk("dir")[0], "second-dir")),
    }
    done["kinds"] = {
        "block device": outcome(lambda: nine.mknod(1, "made-block", 0o60666, 8, 0)),
        "character device": outcome(lambda: nine.mknod(1, "made-char", 0o20666, 1, 1)),
        "fifo": outcome(lambda: nine.mknod(1, "made-fifo", 0o10666)),
        "socket": outcome(lambda: nine.mknod(1, "made-socket", 0o140666)),
        "set-id at create": outcome(lambda: nine.clunk(nine.create(1, "made-setid", 2, 0o6777))),
        "set-id by chmod": outcome(lambda: nine.setattr(nine.walk("made-setid")[0], 1, mode=0o104777)),
        "sticky directory": outcome(lambda: nine.mkdir(1, "made-dir") or nine.setattr(nine.walk("made-dir")[0], 1, mode=0o41777)),
        "owner": outcome(lambda: nine.setattr(nine.walk("made-setid")[0], 6, uid=12345, gid=12345)),
        "capability": outcome(lambda: nine.xattr(nine.walk("made-setid")[0], "security.capability", b"\x01\0\0\2" + b"\xff" * 16)),
        "trusted": outcome(lambda: nine.xattr(nine.walk("made-setid")[0], "trusted.overlay.opaque", b"y")),
        "acl": outcome(lambda: nine.xattr(nine.walk("made-setid")[0], "system.posix_acl_access", b"\2\0\0\0")),
    }
    done["what lies there"] = {
        name: {
            "open": outcome(lambda: nine.read(nine.open(nine.walk(name)[0]))),
            "write": outcome(lambda: nine.write(nine.open(nine.walk(name)[0], 1), b"x")),
            "create over": outcome(lambda: nine.write(nine.create(1, name), b"x")),
            "truncate": outcome(lambda: nine.setattr(nine.walk(name)[0], 8)),
            "link": outcome(lambda: nine.link(1, nine.walk(name)[0], name + "-again")),
        }
        for name in ["pipe", "socket", "device", "mounted"]
        if outcome(lambda: nine.walk(name) and None) in ("ok", "EACCES")
    }
    done["fids of another attach"] = across(nine)
    done["flags"] = strange(nine)
    done["attributes"] = attributes(nine)
    done["counts"] = counts(nine)
    done["attach"] = {}
    nine.stream.close()
    for aname in ["/", "..", "/etc", OUTSIDE, "../outside"]:
        other = connected([nine.port], marker, aname=aname)
        done["attach"][aname] = sorted(other.names(other.walk()[0]).keys() & {"canary", "passwd", "outside", marker})
        other.stream.close()
    done["frames"] = frames(nine.port, marker)
    # Control: the same client reads and writes where it may.
    nine = connected([nine.port], marker)
    done["control"] = {
        "read": outcome(lambda: nine.read(nine.open(nine.walk("inside")[0]))),
        "write": outcome(lambda: nine.write(nine.create(1, "written"), b"by hand")),
        "read again": outcome(lambda: nine.read(nine.open(nine.walk("written")[0]))),
        "still lists": marker in nine.names(nine.walk()[0]),
    }
    nine.stream.close()
    return done


done = {"rw": hostile("marker-rw"), "review": hostile("marker-review")}

nine = connected(ports, "marker-ro")
kept = nine.walk("kept")[0]
done["read only"] = {
    "read": outcome(lambda: nine.read(nine.open(nine.walk("kept")[0]))),
    "open to write": outcome(lambda: nine.open(nine.walk("kept")[0], 1) and None),
    "open to write and read": outcome(lambda: nine.open(nine.walk("kept")[0], 2) and None),
    "open to truncate": outcome(lambda: nine.open(nine.walk("kept")[0], 0o1000) and None),
    "write to what is open to read": outcome(lambda: nine.write(nine.open(nine.walk("kept")[0]), b"hostile")),
    "create": outcome(lambda: nine.create(1, "planted") and None),
    "mkdir": outcome(lambda: nine.mkdir(1, "planted")),
    "mknod": outcome(lambda: nine.mknod(1, "planted", 0o100644)),
    "symlink": outcome(lambda: nine.symlink(1, "planted", "x")),
    "link": outcome(lambda: nine.link(1, kept, "planted")),
    "rename": outcome(lambda: nine.rename(1, "kept", 1, "planted")),
    "unlink": outcome(lambda: nine.unlink(1, "kept")),
    "truncate": outcome(lambda: nine.setattr(kept, 8)),
    "chmod": outcome(lambda: nine.setattr(kept, 1, mode=0)),
    "times": outcome(lambda: nine.setattr(kept, 0x30)),
    "xattr": outcome(lambda: nine.xattr(kept, "user.hostile", b"x")),
}
nine.stream.close()
print(json.dumps(done))
