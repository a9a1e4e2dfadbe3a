import { createReadStream, existsSync, readdirSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { basename, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Authority, makeAuthority } from "../../doubles/authority.ts";
import { answerStreams } from "../../doubles/hosts.ts";
import { BareGuest, toolChains } from "../../harness/index.ts";

/**
 * Tool chains that the image does not have, installed as the guest's user would install them: each trusts the authority of its task by
 * itself, and no other of the same name. Who was trusted is told by the request that arrives, which nobody sends before the handshake is
 * done.
 */
const HOST = "api.fixture.example";

let authority: Authority;
let issuing: Authority;
let guest: BareGuest;
let parts: string;
const requests: string[] = [];

function answer(request: IncomingMessage, response: ServerResponse): void {
  const part = join(parts, basename(decodeURIComponent(request.url ?? "")));
  if (request.headers.host === "deb.debian.org" && existsSync(part)) {
    createReadStream(part).pipe(response);
    return;
  }
  requests.push(request.url ?? "");
  response.end("hello\n");
}

const onStream = answerStreams([HOST, "deb.debian.org"], () => issuing, answer);

/** Each asks for `https://HOST/…`; what it makes of the answer is no matter. As little as possible is told to it: its store is the one it finds. */
const JAVA = `timeout 90 keytool -J-XX:TieredStopAtLevel=1 -printcrl -file https://${HOST}/list.crl`;
const chains: readonly [name: string, script: string, refusal: RegExp][] = [
  ["NSS", `timeout 90 vfyserv -d sql:/tmp/nss -p 443 ${HOST}`, /Peer's Certificate issuer is not recognized/],
  ["Go", `env -u SSL_CERT_FILE timeout 90 /tmp/go-client https://${HOST}/`, /certificate signed by unknown authority/],
];

/** What the program says, and whether its request arrived. */
async function asks(script: string): Promise<{ arrived: boolean; said: string }> {
  const before = requests.length;
  const { stdout, stderr } = await guest.run(script);
  return { arrived: requests.length > before, said: stdout + stderr };
}

beforeAll(async () => {
  parts = toolChains();
  authority = makeAuthority();
  issuing = authority;
  guest = await BareGuest.boot({ certificate: authority.certificate, onStream });
  const packages = readdirSync(parts).filter((name) => name.endsWith(".deb"));
  const urls = [...packages, "go-client"].map((name) => `-O http://deb.debian.org/${encodeURIComponent(name)}`);
  await guest.ok(`mkdir /tmp/parts; cd /tmp/parts; curl -sSf --max-time 120 ${urls.join(" ")}
    sudo dpkg --install *.deb >/tmp/dpkg 2>&1 || { cat /tmp/dpkg; exit 1; }
    install -m 755 go-client /tmp/go-client
    mkdir /tmp/nss; certutil -N --empty-password -d sql:/tmp/nss
    modutil -force -dbdir sql:/tmp/nss -add roots -libfile libnssckbi.so 2>&1`);
}, 600_000);
afterAll(() => guest?.end());

describe("the task's own authority is trusted, and another of the same name is not, by", () => {
  // what it does not trust: below, as each of its starts takes ten seconds and more
  it("Java", async () => {
    const trusted = await asks(JAVA);
    expect(trusted, trusted.said).toMatchObject({ arrived: true });
  });
  for (const [name, script, refusal] of chains) {
    it(name, async () => {
      const trusted = await asks(script);
      expect(trusted, trusted.said).toMatchObject({ arrived: true });
      issuing = makeAuthority();
      const refused = await asks(script);
      issuing = authority;
      expect(refused, refused.said).toMatchObject({ arrived: false });
      expect(refused.said).toMatch(refusal);
    });
  }
});

describe("at the next start of the same disk", () => {
  it("Java, whose store was made by the start before, trusts the new authority and no longer the old one", async () => {
    await guest.stop();
    const old = authority;
    authority = makeAuthority();
    issuing = authority;
    guest = await BareGuest.boot({ certificate: authority.certificate, onStream, directory: guest.directory });
    const trusted = await asks(JAVA);
    expect(trusted, trusted.said).toMatchObject({ arrived: true });
    issuing = old;
    const refused = await asks(JAVA);
    expect(refused, refused.said).toMatchObject({ arrived: false });
    expect(refused.said).toMatch(/PKIX path (building|validation) failed/);
  });
});
