/** Steps of guest root that serve a directory of a disk within the guest by the share server itself, and mount it beside. */
import { SHARE_PROTOCOL } from "../../../helpers/contract/protocol.ts";

export const serveInGuest = `
import base64, queue, threading
served = {}; asked = {}
def run(*args): return subprocess.run(args, check=True, capture_output=True, text=True).stdout
def disk(name, make):
    image = "/var/tmp/%s.img" % name
    with open(image, "wb") as f: f.truncate(64 << 20)
    run(*make.split(), image); os.makedirs("/" + name, exist_ok=True); run("mount", "-o", "loop", image, "/" + name)
def serve(name, cache, mode="rw"):
    path = "/run/serve-" + name; shutil.rmtree(path, ignore_errors=True); os.makedirs(path, mode=0o700)
    for kept in ("layer", "store"): os.mkdir(path + "/" + kept, mode=0o700)
    p = subprocess.Popen(["/home/you/cloche-share"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    answers, sending, numbers = queue.Queue(), threading.Lock(), iter(range(1, 1 << 30))
    def send(method, params):
        with sending:
            n = next(numbers)
            p.stdin.write(json.dumps({"jsonrpc": "2.0", "id": n, "method": method, "params": params}) + "\\n"); p.stdin.flush()
            return n
    def listen():
        for line in p.stdout:
            told = json.loads(line)
            if "id" in told: answers.put(told)
            elif told["method"] == "activity":
                try: send("recorded", {"batch": told["params"]["batch"]})
                except (OSError, ValueError): return
    def call(method, params):
        n = send(method, params)
        while True:
            answer = answers.get(timeout=60)
            if answer["id"] == n: break
        assert "error" not in answer, answer
        return answer["result"]
    threading.Thread(target=listen, daemon=True).start()
    call("hello", {"protocol": ${SHARE_PROTOCOL}, "client": "test"})
    call("serve", {"mode": mode, "root": base64.b64encode(("/" + name).encode()).decode(), "listen": path + "/s", "keepDays": 30,
        "layer": path + "/layer", "store": path + "/store", "writer": "test",
        "owner": {"uid": 1000, "gid": 1000}, "hideSecrets": False, "localFolders": False})
    os.makedirs("/mnt/" + name, exist_ok=True)
    run("mount", "-t", "9p", "-o", "trans=unix,version=9p2000.L,msize=524288,access=any,cache=%s,locktimeout=1" % cache, path + "/s", "/mnt/" + name)
    served[name] = p; asked[name] = call
def end(name):
    run("umount", "/mnt/" + name); p = served.pop(name); p.stdin.close(); p.wait(); run("umount", "/" + name); os.unlink("/var/tmp/%s.img" % name)
def on_disk(name, mark):
    device = [l.split()[0] for l in open("/proc/mounts") if l.split()[1] == "/" + name][0]
    fd = os.open(device, os.O_RDONLY | os.O_DIRECT); buffer = mmap.mmap(-1, 1 << 20); found = False
    while not found:
        n = os.readv(fd, [buffer])
        if n == 0: break
        found = mark in buffer[:n]
    os.close(fd); return found
`;
