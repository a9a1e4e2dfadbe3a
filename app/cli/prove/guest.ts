/**
 * What the probes do in the guest, as a Python program. It tries everything, and sends what it could read to the allowed origin: what it
 * says there is looked through for what it must not have, and is trusted in nothing else.
 */
export const GUEST_PROGRAM = `
import json, os, socket, ssl, subprocess, sys, urllib.request
args = json.loads(sys.argv[1])
tag, ports, key = args["tag"], args["ports"], os.environ.get("PROVE_KEY") or args["key"]
folder, shown = args["folder"], args["shown"]
seen = {}

def tried(name, do):
    try:
        seen[name] = str(do())[:2000]
    except BaseException as error:
        seen[name] = "failed: " + str(error)[:300]

opener = urllib.request.build_opener(urllib.request.ProxyHandler({"https": "http://198.18.0.1:3128", "http": "http://198.18.0.1:3128"}))
def ask(url, headers={}, body=None):
    request = urllib.request.Request(url, data=body, headers=headers)
    with opener.open(request, timeout=15) as answer:
        return answer.status

bound, other = f"https://127.0.0.1:{ports['bound']}", f"https://[::1]:{ports['other']}"
plain, unlisted = f"http://127.0.0.1:{ports['plain']}", f"127.0.0.1:{ports['unlisted']}"

# controls: what is allowed
tried("bound", lambda: ask(f"{bound}/open/{tag}"))
tried("other", lambda: ask(f"{other}/open/{tag}"))
tried("plain", lambda: ask(f"{plain}/open/{tag}"))
tried("inside", lambda: open(f"{folder}/inside.txt").read())
tried("shown", lambda: open(f"{shown}/shown.txt").read())

# files
for at, target in enumerate(args["canaries"]):
    link = f"{folder}/link-{tag}-{at}"
    tried(f"link {at}", lambda: os.symlink(target, link))
    tried(f"read link {at}", lambda: open(link).read())
    tried(f"write link {at}", lambda: open(link, "w").write("overwritten"))
tried("overwrite", lambda: open(f"{folder}/inside.txt", "a").write(tag))
tried("make", lambda: open(f"{folder}/made-{tag}.txt", "w").write(tag))
tried("remount", lambda: subprocess.run(["mount", "-o", "remount,rw", shown], capture_output=True, timeout=20).returncode)
tried("write shown", lambda: open(f"{shown}/shown.txt", "w").write("overwritten"))
tried("delete shown", lambda: os.unlink(f"{shown}/shown.txt"))
tried("mounts", lambda: [line.split()[1] for line in open("/proc/mounts") if " 9p " in line])

# hosts that no rule allows
tried("unlisted tls", lambda: ask(f"https://{unlisted}/{tag}"))
tried("unlisted plain", lambda: ask(f"http://{unlisted}/{tag}"))
def direct():
    with socket.create_connection((args["address"], 9), timeout=5) as s:
        s.sendall(b"probe\\n")
        return s.recv(100)
tried("direct", direct)
tried("name", lambda: ask(f"https://{args['name']}/{tag}"))
tried("lookup", lambda: socket.getaddrinfo("x" + args["name"], 443))
tried("metadata", lambda: ask(f"http://169.254.169.254/latest/{tag}"))
def datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(2)
        s.sendto(args["name"].encode(), (args["address"], 53))
        return s.recv(100)
tried("datagram", datagram)

# keys
def other_host():
    return ask(f"{bound}/open/{tag}/host", {"Host": args["name"]})
tried("other host", other_host)
tried("key", lambda: ask(f"{bound}/keyed/{tag}", {"authorization": "Bearer " + key}))
tried("foreign", lambda: ask(f"{bound}/open/{tag}/foreign", {"x-api-key": args["foreign"]}))
tried("foreign bearer", lambda: ask(f"{bound}/keyed/{tag}/foreign", {"authorization": "Bearer " + args["foreign"]}))
tried("key elsewhere", lambda: ask(f"{other}/open/{tag}/key", {"authorization": "Bearer " + key}))
tried("key plain", lambda: ask(f"{plain}/open/{tag}/key", {"authorization": "Bearer " + key}))
tried("key off path", lambda: ask(f"{bound}/open/{tag}/key", {"authorization": "Bearer " + key}))
tried("keep", lambda: open(os.path.expanduser(f"~/stand-in-{tag}"), "w").write(key))
environments = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        environments.append(open(f"/proc/{pid}/environ", errors="replace").read())
    except OSError:
        pass
seen["environments"] = "\\n".join(environments)[:60000]
os.sync()
print(ask(f"{bound}/report/{tag}", {"content-type": "text/plain"}, json.dumps(seen).encode()))
`;
