"""What `wire.ts` runs in an Internet's namespaces. `watch CANARY`: prints each kind of frame that arrives, once. `card PATH`: a network
card whose other end is a stream at PATH, of frames behind their lengths. `guest PORT`: that other end, in a guest, whose card it becomes.
`serve PORT`: takes connections at every address, and tells."""
import fcntl, json, os, socket, struct, subprocess, sys, threading


def say(**what):
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def told(frame, canary):
    """Where a frame goes, as far as its headers tell."""
    kind = struct.unpack_from("!H", frame, 12)[0]
    one = {"kind": hex(kind), "canary": canary in frame}
    if kind == 0x0806:
        one |= {"kind": "arp", "to": socket.inet_ntoa(frame[38:42])}
    elif kind == 0x0800:
        header = (frame[14] & 15) * 4
        one |= {"kind": "ipv4", "protocol": frame[23], "to": socket.inet_ntoa(frame[30:34])}
        if frame[23] in (6, 17):
            one["port"] = struct.unpack_from("!H", frame, 14 + header + 2)[0]
    elif kind == 0x86DD:
        one |= {"kind": "ipv6", "protocol": frame[20], "to": socket.inet_ntop(socket.AF_INET6, frame[38:54])}
        if frame[20] in (6, 17):
            one["port"] = struct.unpack_from("!H", frame, 56)[0]
    return one


def watch(canary):
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    packets.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)  # SO_RCVBUFFORCE
    say(ready=True)
    known = set()
    while True:
        frame, (interface, _, way, _, _) = packets.recvfrom(65535)
        if way == socket.PACKET_OUTGOING or interface == "lo" or len(frame) < 42:
            continue
        one = told(frame, canary.encode()) | {"on": interface}
        text = json.dumps(one)
        if text not in known:
            known.add(text)
            say(**one)


def tap(name):
    """A card of this machine's, and the file that its frames are in."""
    file = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(file, 0x400454CA, struct.pack("16sH22s", name.encode(), 0x1002, b""))
    return file


def carry(file, stream):
    """Both ways, until one of them ends."""

    def outwards():
        while True:
            frame = os.read(file, 65535)
            stream.sendall(struct.pack("!H", len(frame)) + frame)

    threading.Thread(target=outwards, daemon=True).start()
    frames = stream.makefile("rb")
    while head := frames.read(2):
        os.write(file, frames.read(struct.unpack("!H", head)[0]))


def ip(*commands):
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True)


def card(path):
    file = tap("card")
    ip("link set card up", "addr add 93.184.219.1/24 dev card", "-6 addr add 2606:2800:222::1/64 dev card nodad")
    for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        open("/proc/sys/" + name.replace(".", "/"), "w").write("1")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()
    say(ready=True)
    carry(file, listening.accept()[0])


def guest(port):
    stream = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    stream.connect((2, port))
    file = tap("card")
    ip("link set card up", "addr add 93.184.219.2/24 dev card", "-6 addr add 2606:2800:222::2/64 dev card nodad")
    ip("route replace default via 93.184.219.1", "-6 route replace default via 2606:2800:222::1")
    if os.fork() > 0:
        return
    os.setsid()
    for number in (0, 1, 2):
        os.close(number)
    carry(file, stream)


def serve(port):
    listening = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    say(ready=True)
    while True:
        stream, _ = listening.accept()
        to = stream.getsockname()[0]
        stream.settimeout(5)
        try:
            first = stream.recv(256).decode("latin1")
        except OSError:
            first = ""
        say(to=to.removeprefix("::ffff:"), first=first)
        stream.close()


if __name__ == "__main__":
    mode, argument = sys.argv[1:]
    if mode in ("guest", "serve"):
        {"guest": guest, "serve": serve}[mode](int(argument))
    else:
        {"watch": watch, "card": card}[mode](argument)
