#!/usr/bin/python3
"""An sftp server that gives other names and other files than were asked for. HOSTILE_NAMES: JSON list of names that its folders list."""
import json, os, stat, struct, sys

names = json.load(open("/tmp/hostile-names"))
out = sys.stdout.buffer


def string(value):
    value = value if isinstance(value, bytes) else value.encode("latin-1")
    return struct.pack(">I", len(value)) + value


def send(kind, body):
    out.write(struct.pack(">IB", len(body) + 1, kind) + body)
    out.flush()


def attributes(directory):
    return struct.pack(">IQI", 5, 7, (stat.S_IFDIR | 0o755) if directory else (stat.S_IFREG | 0o6777))


def exactly(n):
    data = sys.stdin.buffer.read(n)
    if len(data) < n:
        sys.exit(0)
    return data


listed = set()
while True:
    (size,) = struct.unpack(">I", exactly(4))
    kind, body = exactly(1)[0], exactly(size - 1)
    if kind == 1:
        send(2, struct.pack(">I", 3))
        continue
    request = body[:4]
    (length,) = struct.unpack(">I", body[4:8])
    path = body[8:8 + length]
    if kind in (7, 17):  # LSTAT, STAT: the folder that is asked for is a folder, what it lists are files
        send(105, request + attributes(path.endswith(b"/folder")))
    elif kind in (3, 11):
        send(102, request + string(path))
    elif kind == 12:
        if path in listed:
            send(101, request + struct.pack(">I", 1) + string("") + string(""))
        else:
            listed.add(path)
            send(104, request + struct.pack(">I", len(names)) + b"".join(string(n) + string(n) + attributes(False) for n in names))
    elif kind == 5:
        (offset,) = struct.unpack(">Q", body[8 + length:16 + length])
        if offset:
            send(101, request + struct.pack(">I", 1) + string("") + string(""))
        else:
            send(103, request + string("hostile"))
    elif kind == 8:
        send(105, request + attributes(False))
    else:
        send(101, request + struct.pack(">I", 0) + string("") + string(""))
