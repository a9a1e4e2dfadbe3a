/**
 * Each tool chain of the guest trusts the authority of its task by itself: its request arrives, is read, and is refused with words. What
 * does not trust it would never get to see a 403. The host is one that no rule allows, so nothing leaves.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Cloche } from "../../harness/index.ts";

const HOST = "registry.fixture.example";
const REFUSED = "No rule of this task allows";
/** a certificate of an authority that nobody made this task's */
const NOBODY = "/usr/share/ca-certificates/mozilla/ISRG_Root_X1.crt";

let cloche: Cloche;
beforeAll(async () => {
  cloche = new Cloche();
  await cloche.ok(["new", "trust"]);
  await cloche.ok(["start", "trust"]);
}, 120_000);
afterAll(() => cloche.end());

const sh = async (script: string) => {
  const { stdout, stderr } = await cloche.run(["exec", "trust", "--", "sh", "-c", `{ ${script}; } 2>&1`]);
  return stdout + stderr;
};
const url = `https://${HOST}/thing`;

describe("the task's authority is trusted by", () => {
  it.each<[string, string, string | RegExp]>([
    ["curl (OpenSSL)", `curl -sS ${url}`, REFUSED],
    ["wget (GnuTLS)", `wget -q -O - --content-on-error ${url}`, REFUSED],
    [
      "OpenSSL, by its hashed folder",
      `env -u SSL_CERT_FILE openssl s_client -no-CAfile -no-CAstore -CApath /etc/ssl/certs -verify_return_error -connect ${HOST}:443 </dev/null`,
      "Verify return code: 0 (ok)",
    ],
    [
      "Python",
      `python3 -c 'import urllib.request as r, urllib.error as e\ntry: r.urlopen("${url}")\nexcept e.HTTPError as x: print(x.read().decode())'`,
      REFUSED,
    ],
    ["pip", `pip download -vv --no-deps -d /tmp/pip --index-url https://${HOST}/simple thing --retries 0`, "403"],
    [
      "Node's https, and its fetch",
      // one after the other, in one process: a start of Node takes seconds under emulation
      `node -e 'require("https").get("${url}", (r) => r.on("end", () => fetch("${url}").then((r) => r.text()).then((t) => console.log("fetched " + t))).pipe(process.stdout))'`,
      new RegExp(`${REFUSED}[^]*fetched [^]*${REFUSED}`),
    ],
    // without a compiler, whose code would be emulated in its turn: whom it trusts is the same
    ["npm", `NODE_OPTIONS=--jitless npm view thing --registry https://${HOST}/ --fetch-retries 0`, "403"],
    ["git", `git ls-remote https://${HOST}/a/b.git`, "403"],
    ["git, by an ssh address of a large host", "git ls-remote git@github.com:a/b.git", "403"],
    [
      "apt, as root",
      `echo 'deb [trusted=yes] https://${HOST}/debian trixie main' | sudo tee /etc/apt/sources.list.d/fixture.list >/dev/null; sudo apt-get update -o Acquire::Retries=0`,
      "403",
    ],
  ])(
    "%s",
    async (_, script, said) => {
      if (typeof said === "string") expect(await sh(script)).toContain(said);
      else expect(await sh(script)).toMatch(said);
    },
    90_000,
  );

  it("none of them blindly: with another authority in its place the same requests fail before they are read", async () => {
    const other = await sh(
      `curl -sS --capath /nonexistent --cacert ${NOBODY} ${url}; SSL_CERT_DIR=/nonexistent SSL_CERT_FILE=${NOBODY} python3 -c 'import urllib.request as r; r.urlopen("${url}")' | tail -1`,
    );
    expect(other).toContain("certificate");
    expect(other).not.toContain(REFUSED);
  }, 60_000);
});
