"""Opens streams to each of the host's ports that it is given, by the thousand and at once, and keeps those that the host keeps. Arguments:
seconds, and the ports. Prints `begun` with the first hundred streams, and ends with JSON: for each port how many were opened."""
import concurrent.futures, json, resource, socket, sys, threading, time

seconds, ports = float(sys.argv[1]), [int(port) for port in sys.argv[2:]]
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192), most))
until = time.monotonic() + seconds
opened = dict.fromkeys(ports, 0)
lock = threading.Lock()
KEPT = 300


def crowd(port):
    kept = []
    while time.monotonic() < until:
        one = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        one.settimeout(5)
        try:
            one.connect((2, port))
        except OSError:
            one.close()
            continue
        one.setblocking(False)
        kept.append(one)
        with lock:
            opened[port] += 1
            if sum(opened.values()) == 100:
                print("begun", flush=True)
        if len(kept) > KEPT:
            kept.pop(0).close()


with concurrent.futures.ThreadPoolExecutor(4 * len(ports)) as pool:
    list(pool.map(crowd, ports * 4))
print(json.dumps(opened))
