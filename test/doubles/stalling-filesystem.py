"""A filesystem as a cloud drive has it: it names its files at once, and fetches what is in some of them when they are read, which may
take for ever. Argument: where to mount it; needs root and /dev/fuse. `plain` is there; reading `placeholder-N` stands still, which is told on
standard output with the name. A line on standard input with such a name lets its reads have their answers. It ends with its standard input."""
import ctypes, errno, os, select, struct, sys

PLACE = sys.argv[1]
FILES = {2: b"plain", 3: b"placeholder-1", 4: b"placeholder-2", 5: b"placeholder-3"}
CONTENT = b"what is fetched\n"
waiting = {node: [] for node in FILES}
fetched = {2}

fuse = os.open("/dev/fuse", os.O_RDWR)
libc = ctypes.CDLL(None, use_errno=True)
options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0,allow_other"
if libc.mount(b"remote", PLACE.encode(), b"fuse.rclone", 0, options.encode()):
    raise OSError(ctypes.get_errno(), "mount")


def attributes(node):
    directory = node == 1
    size = 0 if directory else len(CONTENT)
    return struct.pack("<QQQQQQIIIIIIIIII", node, size, 1, 1, 1, 1, 0, 0, 0, 0o40755 if directory else 0o100644, 2 if directory else 1, 0, 0, 0, 4096, 0)


def listing(offset):
    entries = [(1, b".", 4), (1, b"..", 4), *((node, name, 8) for node, name in FILES.items())]
    data = b""
    for at, (node, name, kind) in list(enumerate(entries, 1))[offset:]:
        data += struct.pack("<QQII", node, at, len(name), kind) + name + b"\0" * (-len(name) % 8)
    return data


def answered(kind, node, body):
    """The answer's bytes, an errno, or nothing where none is given."""
    if kind == 26:  # INIT, asking for reads beside one another
        return struct.pack("<IIIIHHIIHHI7I", 7, 31, 65536, 1, 16, 12, 65536, 1, 16, 0, 0, *[0] * 7)
    if kind == 1:  # LOOKUP
        found = [number for number, name in FILES.items() if name == body.rstrip(b"\0")]
        return struct.pack("<QQQQII", found[0], 0, 1, 1, 0, 0) + attributes(found[0]) if found else errno.ENOENT
    if kind == 3:  # GETATTR
        return struct.pack("<QII", 1, 0, 0) + attributes(node)
    if kind in (14, 27):  # OPEN, OPENDIR; nothing is cached (1), so that whoever reads waits in the very call, where no signal ends it
        return struct.pack("<QII", 0, 1 if kind == 14 else 0, 0)
    if kind == 28:  # READDIR
        return listing(struct.unpack_from("<QQ", body)[1])
    if kind == 15:  # READ
        return CONTENT[struct.unpack_from("<QQ", body)[1]:]
    if kind == 17:  # STATFS
        return struct.pack("<QQQQQIIII6I", 1000, 500, 500, 1000, 500, 4096, 255, 4096, 0, *[0] * 6)
    if kind in (18, 25, 29):  # RELEASE, FLUSH, RELEASEDIR
        return b""
    return errno.ENOSYS


def answer(unique, what):
    error, data = (-what, b"") if isinstance(what, int) else (0, what)
    try:
        os.write(fuse, struct.pack("<IiQ", 16 + len(data), error, unique) + data)
    except FileNotFoundError:
        pass  # whoever asked is gone


print("mounted", flush=True)
while True:
    ready, _, _ = select.select([fuse, sys.stdin], [], [])
    if sys.stdin in ready:
        line = os.read(0, 4096)
        if not line:
            break
        for name in line.split():
            node = next(number for number, known in FILES.items() if known == name)
            fetched.add(node)
            for unique in waiting[node]:
                answer(unique, CONTENT)
            waiting[node] = []
        continue
    try:
        request = os.read(fuse, 1 << 20)
    except OSError:
        break  # it was unmounted
    _, kind, unique, node = struct.unpack_from("<IIQQ", request)
    if kind in (2, 36, 42):
        continue  # FORGET, INTERRUPT, BATCH_FORGET: nobody waits for an answer, and a fetch that hangs is not interrupted
    if kind == 15 and node not in fetched:
        waiting[node].append(unique)
        print(FILES[node].decode(), flush=True)
        continue
    answer(unique, answered(kind, node, request[40:]))
