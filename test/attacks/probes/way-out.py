"""Tries every way out of its machine that is no request by its proxy, and ends with JSON of what came of each. Its argument is JSON:
`canary`, which all of it carries; `addresses` and `port`, which it dials; `name`, which it asks for over TLS; `lift`: as root, what the
guest itself refuses is lifted before."""
import json, os, socket, ssl, struct, subprocess, sys, threading

wanted = json.loads(sys.argv[1])
canary = wanted["canary"].encode()
root = os.getuid() == 0
for name in [name for name in os.environ if "proxy" in name.lower()]:
    del os.environ[name]

if wanted.get("lift"):
    for command in ("nft flush ruleset", "ip route del default", "ip link add lifted type bridge", "ip link set lifted up",
                    "ip addr add 10.9.9.9/24 dev lifted", "ip route add default via 10.9.9.1 dev lifted"):
        subprocess.run(command.split(), stderr=subprocess.DEVNULL)

done = {}
lock = threading.Lock()


def attempt(what, way):
    def run():
        try:
            came = way() or "sent"
        except OSError as error:
            came = type(error).__name__
        with lock:
            done[what] = came

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def dialled(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    stream = socket.socket(family, socket.SOCK_STREAM)
    stream.settimeout(8)
    stream.connect((host, port))
    return stream


def plain(host, port):
    stream = dialled(host, port)
    stream.sendall(b"GET /%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (canary, host.encode()))
    return stream.recv(16).decode("latin1") or "closed"


def silent(host, port):
    """Another protocol than the proxy reads."""
    stream = dialled(host, port)
    stream.sendall(b"\x00\x01\x02 " + canary)
    return stream.recv(16).decode("latin1") or "closed"


def own_tls(host, port):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with context.wrap_socket(dialled(host, port), server_hostname=wanted["name"]) as stream:
        stream.sendall(b"GET /%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (canary, wanted["name"].encode()))
        return stream.recv(16).decode("latin1")


def datagram(host, port, payload):
    packets = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    packets.settimeout(2)
    packets.sendto(payload, (host, port))


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def echo():
    body = struct.pack("!BBHHH", 8, 0, 0, 1, 1) + canary
    return body[:2] + struct.pack("!H", checksum(body)) + body[4:]


def ping(host):
    kind = socket.SOCK_RAW if root else socket.SOCK_DGRAM
    socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP).sendto(echo(), (host, 0))


def raw_ip(host):
    packet = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 7, 0, 64, 253, 0, b"\0" * 4, socket.inet_aton(host)) + canary
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW).sendto(packet, (host, 0))


def frame(interface):
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    packets.bind((interface, 0))
    packets.send(b"\xff" * 6 + b"\x02\0\0\0\0\7" + b"\x88\xb5" + canary.ljust(64, b"."))


def arp(interface):
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    packets.bind((interface, 0))
    sender = b"\x02\0\0\0\0\7"
    packets.send(b"\xff" * 6 + sender + struct.pack("!HHHBBH", 0x806, 1, 0x800, 6, 4, 1) + sender + b"\0" * 4 + b"\0" * 6
                 + socket.inet_aton(wanted["arp"]) + canary.ljust(24, b"."))


def multicast(interface):
    packets = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    packets.sendto(canary, ("ff02::1", 9, 0, socket.if_nametoindex(interface)))


def to_the_host(first):
    """The stream that the agent makes, made without it."""
    stream = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    stream.settimeout(8)
    stream.connect((2, wanted["egress"]))
    stream.sendall(first)
    return stream.recv(16).decode("latin1") or "closed"


# QUIC's first packet: a long header, version 1, and the canary where its connection's id is
quic = b"\xc0\0\0\0\1" + bytes([min(20, len(canary))]) + canary[:20] + b"\0\0" + canary.ljust(1180, b"\0")
# a question for the canary's own name
question = b"\0\7\1\0\0\1\0\0\0\0\0\0" + bytes([len(canary)]) + canary + b"\7example\0\0\1\0\1"

devices = sorted(os.listdir("/sys/class/net"))
running = []
for host in wanted["addresses"]:
    running.append(attempt(f"tcp {host}", lambda host=host: plain(host, wanted["port"])))
    running.append(attempt(f"bytes {host}", lambda host=host: silent(host, wanted["port"])))
    running.append(attempt(f"udp {host}", lambda host=host: datagram(host, 9, canary)))
    if ":" not in host:
        running.append(attempt(f"icmp {host}", lambda host=host: ping(host)))
for host in wanted["resolvers"]:
    running.append(attempt(f"dns {host}", lambda host=host: datagram(host, 53, question)))
running.append(attempt("tls", lambda: own_tls(wanted["tls"], 443)))
running.append(attempt("quic", lambda: datagram(wanted["tls"], 443, quic)))
if root:
    running.append(attempt("ip", lambda: raw_ip(wanted["tls"])))
    for interface in devices:
        running.append(attempt(f"frame {interface}", lambda interface=interface: frame(interface)))
        running.append(attempt(f"arp {interface}", lambda interface=interface: arp(interface)))
for interface in devices:
    running.append(attempt(f"multicast {interface}", lambda interface=interface: multicast(interface)))
if "egress" in wanted:
    for host in wanted["addresses"] + ["127.0.0.1", "::1", "localhost"]:
        request = b"connect %s %d\nGET /%s HTTP/1.1\r\nHost: %s\r\n\r\n" % (
            host.encode(), wanted["port"], canary, (f"[{host}]" if ":" in host else host).encode() + b":%d" % wanted["port"])
        running.append(attempt(f"stream {host}", lambda request=request: to_the_host(request)))
for thread in running:
    thread.join(20)
print(json.dumps({"devices": devices, "done": done}))
