"""What a guest does at the ports where its host takes streams, without its agent. Arguments: what, and JSON of what that needs. Ends with
JSON. Every wait has a bound of its own, so that a host that never answers is told of and not waited for."""
import concurrent.futures, ctypes, json, os, socket, ssl, struct, sys, threading, time

what, wanted = sys.argv[1], json.loads(sys.argv[2])
HOST = 2


def stream(port, cid=HOST, wait=8):
    one = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    one.settimeout(wait)
    one.connect((cid, port))
    return one


def until_end(one, most=200):
    """What comes back, and how it ended."""
    got = b""
    try:
        while len(got) < most:
            more = one.recv(most)
            if not more:
                return got.decode("latin1"), "closed"
            got += more
        return got.decode("latin1"), "more"
    except TimeoutError:
        return got.decode("latin1"), "silent"
    except OSError as error:
        return got.decode("latin1"), "reset" if isinstance(error, ConnectionError) else type(error).__name__


def each(of, act, width):
    with concurrent.futures.ThreadPoolExecutor(width) as pool:
        return list(pool.map(act, of))


def lines():
    """Each as the first that a stream says; what came back."""
    def one(text):
        with stream(wanted["port"], wait=wanted["wait"]) as opened:
            try:
                opened.sendall(text.encode("latin1"))
            except OSError:
                pass  # it is closed while it still speaks
            return until_end(opened)
    return each([line * times for line, times in wanted["lines"]], one, 24)


def ports():
    """The same request to each place; what came back."""
    def one(place):
        cid, port = place
        try:
            with stream(port, cid, wait=3) as opened:
                opened.sendall(wanted["request"].encode())
                return until_end(opened)
        except OSError as error:
            return "", type(error).__name__
    return each(wanted["places"], one, 64)


def storm():
    """Streams that come and go, in turn by each way; how many were there."""
    request = wanted["request"].encode()
    def closed(one): pass
    def half(one): one.sendall(b"connect a.b")
    def request_and_gone(one): one.sendall(request)
    def shut(one): one.sendall(request); one.shutdown(socket.SHUT_RDWR)
    def much(one): one.sendall(b"\xff" * 65536)
    ways = [closed, half, request_and_gone, shut, much]
    until = time.monotonic() + wanted["seconds"]
    def one(n):
        if time.monotonic() > until:
            return 0
        try:
            if n % 6 == 5:
                # by the agent, and reset
                with socket.create_connection(("198.18.0.1", 3128), 8) as led:
                    led.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    led.sendall(b"GET http://")
                return 1
            with stream(wanted["port"]) as opened:
                ways[n % 6](opened)
            return 1
        except OSError:
            return 0
    print("begun", flush=True)
    return sum(each(range(wanted["count"]), one, 16))


def hold():
    """Streams that say a part of something and then nothing; for each how many seconds the host kept it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    def one(said):
        try:
            opened = stream(wanted["port"], wait=wanted["wait"])
            if isinstance(said, dict):
                opened.sendall(said["line"].encode("latin1"))
                opened = context.wrap_socket(opened, server_hostname=said["name"])
                said = said["rest"]
            opened.sendall(said.encode("latin1"))
            began = time.monotonic()
            got, end = until_end(opened, 4096)
            return [time.monotonic() - began, end, got]
        except OSError as error:
            return [0, repr(error), ""]
    with concurrent.futures.ThreadPoolExecutor(len(wanted["said"])) as pool:
        going = [pool.submit(one, said) for said in wanted["said"]]
        print("begun", flush=True)
        return [one.result() for one in going]


def unread():
    """Streams that are written to for as long as the host takes it, and never read; the bytes that each took."""
    def one(n):
        say, again = (wanted["says"][n % len(wanted["says"])][key].encode() for key in ("first", "rest"))
        took = 0
        opened = stream(wanted["port"])
        opened.settimeout(2)
        try:
            opened.sendall(say)
            while again and took < 64 << 20:
                took += opened.send(again)
        except OSError:
            pass
        return opened, took
    kept = each(range(wanted["count"]), one, wanted["count"])
    print("written", flush=True)
    sys.stdin.readline()
    return [took for _, took in kept]


def agents():
    """The agent's own streams to the host, by what they are. It is stopped: it would end its machine, or answer in our place."""
    libc = ctypes.CDLL(None, use_errno=True)
    process = libc.syscall(434, 1, 0)
    stopped = set()
    while new := set(os.listdir("/proc/1/task")) - stopped:
        for thread in new:
            libc.ptrace(16, int(thread), 0, 0)
        stopped |= new
    time.sleep(0.1)  # until the last of them has stopped
    found = {"listening": [], "accepted": [], "dialled": []}
    for n in os.listdir("/proc/1/fd"):
        descriptor = libc.syscall(438, process, int(n), 0)
        try:
            one = socket.socket(fileno=descriptor)
        except OSError:
            continue
        if one.family != socket.AF_VSOCK:
            continue
        if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            found["listening"].append(one)
            continue
        peer, own = one.getpeername(), one.getsockname()
        found["dialled" if own[1] > 2 ** 31 or peer[1] in wanted.get("ports", []) else "accepted"].append(one)
    return found


def control():
    """Asks for everything by the agent's stream to the keeper."""
    port = int(dict(pair.split("=") for pair in open("/proc/cmdline").read().split() if "=" in pair)["cloche.control"])
    wanted["ports"] = [port]
    [one] = [each for each in agents()["dialled"] if each.getpeername()[1] == port]
    one.setblocking(True)
    for line in wanted["lines"]:
        one.sendall(line.encode() + b"\n")
    time.sleep(30)


def ssh():
    """Serves the keeper's ssh connections in the agent's place, each in another way that is none."""
    found = agents()
    [listening] = found["listening"]
    port = listening.getsockname()[1]
    for one in found["accepted"]:
        if one.getsockname()[1] == port:
            one.setblocking(True)
            one.sendall(b"\x7f" * 4096)
    def endless(first, then):
        def serve(one):
            one.sendall(first)
            while True:
                one.sendall(then)
        return serve
    ways = [
        endless(b"", b"A" * 65536),
        endless(b"", b"A" * 200 + b"\r\n"),
        endless(b"SSH-2.0-Cloche\r\n", b"\x7f" * 65536),
        endless(b"SSH-2.0-Cloche\r\n", b"\0\0\0\x0c\x0a\x02" + b"\0" * 10),  # packets that say nothing
        lambda one: None,
    ]
    def serve(way, one):
        try:
            one.settimeout(20)
            way(one)
        except OSError:
            pass
        one.close()
    listening.setblocking(True)
    n = 0
    while True:
        one, _ = listening.accept()
        threading.Thread(target=serve, args=(ways[n % len(ways)], one), daemon=True).start()
        n += 1


print(json.dumps({"lines": lines, "ports": ports, "storm": storm, "hold": hold, "unread": unread, "control": control, "ssh": ssh}[what]()))
