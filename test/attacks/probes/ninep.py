"""A 9P client for a guest whose kernel is hostile: it sends what no kernel would. Needs guest root, for the folder has to be
unmounted first (the share server serves one connection at a time)."""
import errno, json, os, socket, struct, subprocess, sys, time

NOFID = 0xFFFFFFFF


def text(value):
    value = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<H", len(value)) + value


class Nine:
    def __init__(self, port, seconds=10, aname="", uid=0):
        self.stream = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        self.stream.settimeout(seconds)
        self.stream.connect((2, port))
        self.next = 100
        self.call(100, struct.pack("<I", 65536) + text("9P2000.L"), tag=0xFFFF)
        self.root = self.qid(self.call(104, struct.pack("<II", 1, NOFID) + text("root") + text(aname) + struct.pack("<I", uid)))

    def attach(self, aname):
        """One more attach in the same session; answers with its fid."""
        fid = self.fid()
        self.call(104, struct.pack("<II", fid, NOFID) + text("root") + text(aname) + struct.pack("<I", 0))
        return fid

    def qid(self, body):
        return struct.unpack_from("<BIQ", body)[2]

    def frame(self):
        head = self.exactly(7)
        size, kind, _tag = struct.unpack("<IBH", head)
        return kind, self.exactly(size - 7)

    def exactly(self, n):
        got = b""
        while len(got) < n:
            more = self.stream.recv(n - len(got))
            if not more:
                raise ConnectionError("the server hung up")
            got += more
        return got

    def call(self, kind, body, tag=1):
        self.stream.sendall(struct.pack("<IBH", 7 + len(body), kind, tag) + body)
        answer, reply = self.frame()
        if answer == 7:
            raise OSError(struct.unpack("<I", reply)[0], "")
        assert answer == kind + 1, (answer, kind)
        return reply

    def fid(self):
        self.next += 1
        return self.next

    def walk(self, *names, start=1):
        """All of the names or an error; answers with the fid and the last qid's path."""
        fid = self.fid()
        reply = self.call(110, struct.pack("<IIH", start, fid, len(names)) + b"".join(text(n) for n in names))
        (count,) = struct.unpack_from("<H", reply)
        if count != len(names):
            raise OSError(errno.ENOENT, "walked a part")
        return fid, (self.qid(reply[2 + 13 * (count - 1):]) if count else self.root)

    def open(self, fid, flags=0):
        self.call(12, struct.pack("<II", fid, flags))
        return fid

    def create(self, directory, name, flags=2, mode=0o644):
        fid = self.walk(start=directory)[0]
        self.call(14, struct.pack("<I", fid) + text(name) + struct.pack("<III", flags, mode, 0))
        return fid

    def read(self, fid, count=4096, offset=0):
        return self.call(116, struct.pack("<IQI", fid, offset, count))[4:]

    def write(self, fid, data, offset=0):
        return struct.unpack("<I", self.call(118, struct.pack("<IQI", fid, offset, len(data)) + data))[0]

    def symlink(self, directory, name, target):
        self.call(16, struct.pack("<I", directory) + text(name) + text(target) + struct.pack("<I", 0))

    def mknod(self, directory, name, mode, major=1, minor=3):
        self.call(18, struct.pack("<I", directory) + text(name) + struct.pack("<IIII", mode, major, minor, 0))

    def mkdir(self, directory, name):
        self.call(72, struct.pack("<I", directory) + text(name) + struct.pack("<II", 0o755, 0))

    def link(self, directory, fid, name):
        self.call(70, struct.pack("<II", directory, fid) + text(name))

    def rename(self, old, name, new, new_name):
        self.call(74, struct.pack("<I", old) + text(name) + struct.pack("<I", new) + text(new_name))

    def move(self, fid, directory, name):
        """Trename, by which what a fid stands for is moved, where rename names it."""
        self.call(20, struct.pack("<II", fid, directory) + text(name))

    def unlink(self, directory, name, flags=0):
        self.call(76, struct.pack("<I", directory) + text(name) + struct.pack("<I", flags))

    def setattr(self, fid, valid, mode=0, uid=0, gid=0, size=0):
        self.call(26, struct.pack("<IIIIIQQQQQ", fid, valid, mode, uid, gid, size, 0, 0, 0, 0))

    def xattr(self, fid, name, value, size=None, flags=0):
        copy = self.walk(start=fid)[0]
        self.call(32, struct.pack("<I", copy) + text(name) + struct.pack("<QI", len(value) if size is None else size, flags))
        self.write(copy, value)
        self.clunk(copy)

    def get_xattr(self, fid, name):
        copy = self.fid()
        self.call(30, struct.pack("<II", fid, copy) + text(name))
        return self.read(copy)

    def readlink(self, fid):
        reply = self.call(22, struct.pack("<I", fid))
        return reply[2:].decode(errors="replace")

    def clunk(self, fid):
        self.call(120, struct.pack("<I", fid))

    def names(self, fid):
        """What a directory lists, and the qid path of each."""
        self.open(fid)
        found, offset = {}, 0
        while True:
            data = self.call(40, struct.pack("<IQI", fid, offset, 8192))[4:]
            if not data:
                return found
            while data:
                path, offset, kind = struct.unpack_from("<QQB", data, 5)
                (size,) = struct.unpack_from("<H", data, 22)
                found[data[24:24 + size].decode(errors="replace")] = path
                data = data[24 + size:]


def outcome(attempt):
    """ok with what came of it, or the errno's name."""
    try:
        result = attempt()
        if isinstance(result, bytes):
            result = result.decode(errors="replace")
        return "ok" if result is None else ["ok", result]
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))


def unmounted():
    """Takes every shared folder off, as guest root may."""
    for line in open("/proc/self/mounts"):
        if line.split()[2] == "9p":
            subprocess.run(["umount", "-l", line.split()[1]], check=True)


def connected(ports, marker, seconds=10, **options):
    """The share whose root holds the marker; the server takes the next connection when the mount's has ended."""
    until = time.time() + 30
    last = {}
    while time.time() < until:
        for port in ports:
            try:
                nine = Nine(port, 3, **options)
                nine.port = port
                if marker in nine.names(nine.walk()[0]):
                    nine.stream.settimeout(seconds)
                    return nine
                nine.stream.close()
                last[port] = "another share"
            except (OSError, ConnectionError) as error:
                last[port] = str(error)
    raise SystemExit(f"no share has {marker} at its root: {last}")
