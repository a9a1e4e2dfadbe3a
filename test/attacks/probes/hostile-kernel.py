"""What a guest does that speaks 9P itself. Arguments: the ports of the shares. Answers with JSON of every attempt's outcome."""
ports = [int(port) for port in sys.argv[1:]]
unmounted()
done = {}

nine = connected(ports, "marker-rw")
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
done["attach"] = {}
nine.stream.close()
for aname in ["/", "..", "/etc", OUTSIDE, "../outside"]:
    other = connected([nine.port], "marker-rw", aname=aname)
    done["attach"][aname] = sorted(other.names(other.walk()[0]).keys() & {"canary", "passwd", "outside", "marker-rw"})
    other.stream.close()

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
# Control: the same client writes where it may.
nine = connected(ports, "marker-rw")
done["control"] = {
    "read": outcome(lambda: nine.read(nine.open(nine.walk("inside")[0]))),
    "write": outcome(lambda: nine.write(nine.create(1, "written"), b"by hand")),
    "still lists": "marker-rw" in nine.names(nine.walk()[0]),
}
print(json.dumps(done))
