import { execFileSync } from "node:child_process";
import { readlinkSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Authority, makeAuthority } from "../../doubles/authority.ts";
import { answerStreams } from "../../doubles/hosts.ts";
import { BareGuest } from "../../harness/index.ts";

/**
 * The guest's half of the way out, with a host that takes every stream and answers for every host itself: what programs with no settings
 * of a proxy reach, by which name it arrives, whom they trust, and what fails at once.
 */
/** whose certificate is always by another authority of the same name */
const STRANGER = "stranger.fixture.example";
const NAMES = ["api.fixture.example", STRANGER, "github.com", "gitlab.com"];

interface Request {
  readonly host: string;
  readonly path: string;
  readonly authorization: string | undefined;
}

let authority: Authority;
let guest: BareGuest;
const requests: Request[] = [];

function answer(request: IncomingMessage, response: ServerResponse): void {
  const host = request.headers.host ?? "";
  const path = request.url ?? "";
  requests.push({ host, path, authorization: request.headers.authorization });
  if (path.endsWith("/info/refs?service=git-upload-pack") || path.endsWith("/info/refs")) {
    if (path.startsWith("/locked/") && !request.headers.authorization) {
      response.writeHead(401, { "www-authenticate": 'Basic realm="git"' }).end();
      return;
    }
    response.end("1111111111111111111111111111111111111111\trefs/heads/main\n");
  } else response.end(`hello from ${host}${path}\n`);
}

let issuing: Authority;

/** Bytes that the kernel holds for a socket because nobody reads it. */
function unread(socket: Socket): number {
  const { fd } = (socket as unknown as { _handle: { fd: number } })._handle;
  const inode = /\d+/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[0];
  // columns: kind, bytes received and not read, bytes to be sent, its path, its inode, the other's
  const rows = execFileSync("ss", ["-xnH", "state", "established"], { encoding: "utf8" }).split("\n");
  const row = rows.map((each) => each.trim().split(/\s+/)).find((columns) => columns[4] === inode);
  return Number(row?.[1] ?? 0);
}

/** Breaks the stream off, once there is something in it that was not read. */
async function breakOffUnread(socket: Socket, answer: string): Promise<void> {
  if (answer !== "") await new Promise<void>((resolve) => socket.write(answer, () => resolve()));
  for (const until = Date.now() + 10_000; unread(socket) === 0 && Date.now() < until; )
    await new Promise((resolve) => setTimeout(resolve, 20));
  brokenOff.push(unread(socket));
  socket.destroy();
}

/** what lay unread in each of the streams that were broken off */
const brokenOff: number[] = [];

const serve = answerStreams(NAMES, () => issuing, answer);
let stranger: Authority;
const serveStranger = answerStreams(NAMES, () => stranger, answer);
function onStream(line: string, socket: Socket): void {
  const host = line.split(" ")[1];
  if (host === "refused.fixture.example") socket.destroy();
  else if (host === "unread.fixture.example") void breakOffUnread(socket, "");
  else if (host === "answered.fixture.example") void breakOffUnread(socket, "HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\nrefused\n");
  else if (host === STRANGER) serveStranger(line, socket);
  else serve(line, socket);
}

beforeAll(async () => {
  authority = makeAuthority();
  issuing = authority;
  stranger = makeAuthority();
  guest = await BareGuest.boot({ certificate: authority.certificate, onStream });
});
afterAll(async () => {
  expect(guest.notes.filter((note) => note.startsWith("error"))).toEqual([]);
  await guest.end();
});

beforeEach(() => {
  issuing = authority;
});

const since = async (work: () => Promise<unknown>): Promise<string[]> => {
  const before = guest.lines.length;
  await work();
  return guest.lines.slice(before);
};

describe("a program without settings of a proxy", () => {
  it("reaches a host by its name: one stream, which names it, and no other", async () => {
    const lines = await since(async () => {
      expect(await guest.ok("curl -sS --max-time 20 http://api.fixture.example/x?y")).toBe("hello from api.fixture.example/x?y");
    });
    expect(lines).toEqual(["connect api.fixture.example 80"]);
  });

  it("reaches what it dials by address, also as root, with that address as the stream's host", async () => {
    const lines = await since(async () => {
      expect(await guest.ok("curl -sS --max-time 20 http://203.0.113.9:8080/")).toBe("hello from 203.0.113.9:8080/");
      expect(await guest.ok("sudo curl -sS --max-time 20 http://169.254.169.254/")).toBe("hello from 169.254.169.254/");
    });
    expect(lines).toEqual(["connect 203.0.113.9 8080", "connect 169.254.169.254 80"]);
  });

  it("that is set to use one reaches it, and the host reads what it says", async () => {
    const lines = await since(async () => {
      expect(await guest.ok("curl -sS --max-time 20 -x http://198.18.0.1:3128 http://api.fixture.example/p")).toBe(
        "hello from api.fixture.examplehttp://api.fixture.example/p",
      );
      const refused = await guest.run("curl -sS --max-time 20 -x http://198.18.0.1:3128 https://api.fixture.example/p");
      expect(refused.stderr).toContain("403");
    });
    expect(lines).toEqual(["proxy", "proxy"]);
  });

  it("learns at once of a host that breaks it off, whether its bytes were read or not", async () => {
    await guest.ok("head -c 150000 /dev/zero > /tmp/upload"); // more than the suite's socket reads ahead, less than fills its kernel's
    brokenOff.length = 0;
    for (const host of ["refused", "unread", "refused", "unread"]) {
      const told = await guest.run(`curl -sS --max-time 60 --data-binary @/tmp/upload http://${host}.fixture.example/`);
      // the reset comes while curl connects, writes or reads: either is what a program is told of a broken connection
      expect([7, 55, 56], `${host}: ${told.stderr}`).toContain(told.status);
      expect(told.ms).toBeLessThan(20_000);
    }
    expect(brokenOff.map((bytes) => bytes > 0)).toEqual([true, true]);
  });

  it("gets an answer that comes in the middle of its upload, and the end of it", async () => {
    await guest.ok("head -c 150000 /dev/zero > /tmp/upload");
    brokenOff.length = 0;
    const told = await guest.run("curl -sS --max-time 60 --data-binary @/tmp/upload http://answered.fixture.example/");
    expect([told.status, told.stdout]).toEqual([0, "refused\n"]);
    expect(told.ms).toBeLessThan(20_000);
    expect(brokenOff.map((bytes) => bytes > 0)).toEqual([true]);
  });
});

describe("names", () => {
  it("of the internet have an address and nothing else; others do not exist; the address gives the name back", async () => {
    const script = `python3 - <<'P'
import socket
def lookup(name):
    try: return sorted({a[4][0] for a in socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)})
    except socket.gaierror as e: return e.args[0] == socket.EAI_NONAME and "none" or str(e)
a = lookup("api.fixture.example")
print(len(a), a[0].startswith("198.18."), socket.gethostbyaddr(a[0])[0])
for name in ("printer", "printer.local", "metadata.google.internal", "x.invalid", "x.onion", "_x y.example"): print(lookup(name))
print(lookup("localhost"), lookup("bare"))
P`;
    expect(await guest.ok(script)).toBe(
      ["1 True api.fixture.example", "none", "none", "none", "none", "none", "none", "['127.0.0.1', '::1'] ['127.0.1.1']"].join("\n"),
    );
  });

  it("never leave the guest but in a connection", async () => {
    const lines = await since(() =>
      guest.ok("getent ahosts secret-in-a-name.fixture.example; getent hosts another.fixture.example || true"),
    );
    expect(lines).toEqual([]);
  });
});

describe("what is no TCP connection to somewhere else", () => {
  it("UDP, QUIC, ICMP and IPv6 fail at once, and no stream comes of them", async () => {
    const script = `sudo python3 - <<'P'
import socket, time, errno
def attempt(what, f):
    began = time.monotonic()
    try: f(); got = "nothing"
    except OSError as e: got = errno.errorcode.get(e.errno, str(e))
    print(what, got, time.monotonic() - began < 1)
def udp(host, port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); s.connect((host, port)); s.send(b"x"); s.recv(1)
attempt("dns elsewhere", lambda: udp("8.8.8.8", 53))
attempt("quic", lambda: udp(socket.gethostbyname("api.fixture.example"), 443))
def icmp():
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); s.settimeout(5); s.sendto(b"\\x08\\x00\\xf7\\xff\\x00\\x00\\x00\\x00", ("8.8.8.8", 0)); s.recv(1)
attempt("ping", icmp)
def six(): socket.create_connection(("2001:db8::1", 443), 5)
attempt("ipv6", six)
P`;
    const lines = await since(async () => {
      expect(await guest.ok(script)).toMatch(
        /^dns elsewhere EPERM True\nquic EPERM True\nping EPERM True\nipv6 (ENETUNREACH|EADDRNOTAVAIL) True$/,
      );
    });
    expect(lines).toEqual([]);
  });

  it("loopback, the guest's own addresses and its bridges work as on any Linux", async () => {
    const script = `sudo sh -ec 'ip link add br7 type bridge; ip addr add 10.7.0.1/24 dev br7; ip link set br7 up
      ip netns add box; ip link add v0 type veth peer name v1 netns box; ip link set v0 master br7 up
      ip -n box addr add 10.7.0.2/24 dev v1; ip -n box link set v1 up; ip -n box link set lo up; ip -n box route add default via 10.7.0.1
      sysctl -qw net.ipv4.ip_forward=1'
      cat > /tmp/serve.py <<'P'
import socket, sys, threading
def serve(host):
    listening = socket.create_server((host, 8099), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    while True:
        one, _ = listening.accept(); one.recv(4096); one.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nmine\\n"); one.close()
for host in sys.argv[1:]: threading.Thread(target=serve, args=(host,)).start()
P
      python3 /tmp/serve.py 127.0.0.1 127.9.9.9 ::1 10.7.0.1 198.18.0.1 >/dev/null 2>&1 &
      sudo ip netns exec box python3 /tmp/serve.py 10.7.0.2 >/dev/null 2>&1 &
      get() { for n in $(seq 100); do curl -sS --max-time 5 "$1" 2>/dev/null && return; sleep 0.1; done; echo "nothing from $1"; }
      for url in 127.0.0.1 127.9.9.9 '[::1]' 10.7.0.1 198.18.0.1 10.7.0.2; do get "http://$url:8099/"; done
      sudo ip netns exec box curl -sS --max-time 5 http://10.7.0.1:8099/`;
    const lines = await since(async () => {
      expect(await guest.ok(script)).toBe(Array(7).fill("mine").join("\n"));
    });
    expect(lines).toEqual([]);
  });

  it("from behind a bridge, names and public addresses are captured, UDP and strange private addresses refused at once", async () => {
    const lines = await since(async () => {
      const inBox = (command: string) =>
        guest.ok(
          `sudo mkdir -p /etc/netns/box; echo nameserver 198.18.0.1 | sudo tee /etc/netns/box/resolv.conf >/dev/null; sudo ip netns exec box ${command}`,
        );
      expect(await inBox("curl -sS --max-time 10 http://api.fixture.example/box")).toBe("hello from api.fixture.example/box");
      expect(await inBox("curl -sS --max-time 10 http://203.0.113.10/box")).toBe("hello from 203.0.113.10/box");
      const began = performance.now();
      expect((await guest.run("sudo ip netns exec box curl -sS --max-time 10 http://10.99.0.1/")).status).toBe(7);
      const udp = `sudo ip netns exec box python3 -c 'import socket
for host in ("8.8.8.8", socket.gethostbyname("quic.fixture.example")):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); s.connect((host, 443)); s.send(b"x")
    try: s.recv(1)
    except OSError as e: print(type(e).__name__)'`;
      expect(await guest.ok(udp)).toBe("ConnectionRefusedError\nConnectionRefusedError");
      expect(performance.now() - began).toBeLessThan(5_000);
    });
    expect(lines).toEqual(["connect api.fixture.example 80", "connect 203.0.113.10 80"]);
  });
});

describe("the task's own authority is trusted, and no other, by", () => {
  // and, with the product's own authority and its proxy in the place of these hosts, by pip, npm and apt: trust.test.ts
  const programs: [string, string, string | RegExp][] = [
    ["curl (OpenSSL)", "curl -sS --max-time 20 https://api.fixture.example/x", "hello from api.fixture.example/x"],
    ["wget (GnuTLS)", "wget -q -O - https://api.fixture.example/x", "hello from api.fixture.example/x"],
    [
      "openssl, by its hashed folder alone",
      "openssl s_client -CApath /etc/ssl/certs -no-CAfile -no-CAstore -verify_return_error -connect api.fixture.example:443 </dev/null 2>/dev/null | grep -q 'Verify return code: 0' && echo verified",
      "verified",
    ],
    ["git", "git ls-remote https://github.com/a/b", /refs\/heads\/main$/],
    [
      "Python",
      'python3 -c \'import urllib.request as u; print(u.urlopen("https://api.fixture.example/x").read().decode(), end="")\'',
      "hello from api.fixture.example/x",
    ],
    [
      "Python's requests with roots of its own",
      'python3 -c \'from pip._vendor import requests as r; print(r.get("https://api.fixture.example/x").text, end="")\'',
      "hello from api.fixture.example/x",
    ],
    [
      "Node",
      // and what the others are asked below, in the same process, as its start takes seconds
      `node -e 'const get = (host) => fetch("https://" + host + "/x").then((r) => r.text(), (e) => "refused: " + e.cause.code);
get("api.fixture.example").then(async (said) => console.log(said + await get("${STRANGER}")))'`,
      /^hello from api\.fixture\.example\/x\nrefused: [A-Z_]*(CERT|SIGNATURE)[A-Z_]*$/,
    ],
  ];
  for (const [program, script, expected] of programs) {
    it(program, async () => {
      const got = await guest.ok(script);
      if (typeof expected === "string") expect(got).toBe(expected);
      else expect(got).toMatch(expected);
      expect(requests.length).toBeGreaterThan(0);
    });
  }

  it("none of them takes a certificate by another authority of the same name", async () => {
    issuing = makeAuthority();
    const reached = requests.length;
    for (const [program, script] of programs) {
      if (program.startsWith("openssl") || program === "Node") continue; // by the library of the others; above
      const ran = await guest.run(`set -o pipefail; ${script}`);
      expect([program, ran.stdout.includes("hello from") || ran.stdout.includes("refs")]).toEqual([program, false]);
    }
    expect(requests.length).toBe(reached);
    expect(requests.map(({ host }) => host)).not.toContain(STRANGER);
  });

  it("each of them without its variables, but for those with roots of their own", async () => {
    const bare = "env -u SSL_CERT_FILE -u REQUESTS_CA_BUNDLE -u NODE_EXTRA_CA_CERTS -u AWS_CA_BUNDLE -u GRPC_DEFAULT_SSL_ROOTS_FILE_PATH";
    expect(await guest.ok(`${bare} curl -sS https://api.fixture.example/x; ${bare} wget -q -O - https://api.fixture.example/x`)).toBe(
      "hello from api.fixture.example/x\nhello from api.fixture.example/x",
    );
    expect(await guest.ok(`${bare} git ls-remote https://github.com/a/b`)).toMatch(/main$/);
  });

  it("Chromium's policy, which has it in one line", async () => {
    const policy = JSON.parse(await guest.ok("cat /etc/opt/chrome/policies/managed/cloche.json")) as { CACertificates: string[] };
    expect(policy.CACertificates).toEqual([authority.certificate.replace(/-----[A-Z ]+-----|\s/g, "")]);
  });
});

describe("git", () => {
  it("an ssh address of a large host is reached over https", async () => {
    const lines = await since(async () => {
      for (const address of ["git@github.com:a/b", "ssh://git@gitlab.com/a/b"])
        expect(await guest.ok(`git ls-remote ${address}`)).toMatch(/main$/);
    });
    expect(new Set(lines)).toEqual(new Set(["connect github.com 443", "connect gitlab.com 443"]));
  });

  it("a locked repository gets the stand-in of its host, as soon as there is one, and no other host does", async () => {
    const asks = () => guest.run("GIT_TERMINAL_PROMPT=0 git ls-remote https://github.com/locked/b");
    expect((await asks()).status).toBe(128);
    await guest.setEnvironment({ CLOCHE_GIT_CREDENTIALS: "github.com x-access-token ghp_standin\n", OTHER: "1" });
    expect(await guest.ok('echo "$OTHER"; printenv CLOCHE_GIT_CREDENTIALS || echo unset')).toBe("1\nunset");
    requests.length = 0;
    expect((await asks()).status).toBe(0);
    expect(requests.at(-1)?.authorization).toBe(`Basic ${Buffer.from("x-access-token:ghp_standin").toString("base64")}`);
    expect((await guest.run("GIT_TERMINAL_PROMPT=0 git ls-remote https://gitlab.com/locked/b")).status).toBe(128);
    await guest.setEnvironment({});
    expect((await asks()).status).toBe(128);
  });
});

describe("at the next start of the same disk", () => {
  it("the new authority is trusted and the old one gone, also where its user has made the bundle anew", async () => {
    // of a dozen authorities: its scripts take two minutes for all of them under emulation
    await guest.ok(
      `sudo sh -ec 'find /etc/ssl/certs -type l -delete; sed -i 20q /etc/ca-certificates.conf; update-ca-certificates --fresh >/dev/null 2>&1'`,
    );
    expect(await guest.ok("curl -sS --max-time 20 https://api.fixture.example/x")).toBe("hello from api.fixture.example/x");
    const count = Number(await guest.ok("grep -c 'BEGIN CERT' /etc/ssl/certs/ca-certificates.crt"));
    await guest.stop();
    const old = authority;
    authority = makeAuthority();
    issuing = authority;
    const { directory } = guest;
    guest = await BareGuest.boot({ certificate: authority.certificate, onStream, directory });
    expect(await guest.ok("curl -sS --max-time 20 https://api.fixture.example/y; wget -q -O - https://api.fixture.example/y")).toBe(
      "hello from api.fixture.example/y\nhello from api.fixture.example/y",
    );
    expect(Number(await guest.ok("grep -c 'BEGIN CERT' /etc/ssl/certs/ca-certificates.crt"))).toBe(count);
    issuing = old;
    expect((await guest.run("curl -sS --max-time 20 https://api.fixture.example/z")).status).toBe(60);
  });

  it("without a way out there is no name and no host, and all fails at once", async () => {
    await guest.stop();
    const { directory } = guest;
    guest = await BareGuest.boot({ directory });
    const name = await guest.run("curl -sS --max-time 20 http://api.fixture.example/");
    const address = await guest.run("curl -sS --max-time 20 http://203.0.113.9/");
    expect([name.status, name.ms < 3_000, address.status, address.ms < 3_000]).toEqual([6, true, 7, true]);
    expect(guest.lines).toEqual([]);
  });
});
