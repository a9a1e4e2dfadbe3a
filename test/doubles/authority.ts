/** A certificate authority with the subject of a task's own, and certificates by it, for suites that end the guest's TLS themselves. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Authority {
  readonly certificate: string;
  /** a server's certificate and key for these names */
  issue(names: readonly string[]): { cert: string; key: string };
}

const HOUR_MS = 3_600_000;

/** ASN.1's way to write a time, so many milliseconds from now. */
const generalizedTime = (fromNowMs: number): string => `${new Date(Date.now() + fromNowMs).toISOString().replace(/\D/g, "").slice(0, 14)}Z`;

export function makeAuthority(): Authority {
  const inFolder = <T>(work: (at: (name: string) => string) => T): T => {
    const folder = mkdtempSync(join(tmpdir(), "authority-"));
    try {
      return work((name) => join(folder, name));
    } finally {
      rmSync(folder, { recursive: true });
    }
  };
  const openssl = (...args: string[]) => execFileSync("openssl", args, { stdio: "pipe" });
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  const read = (path: string) => readFileSync(path, "utf8");
  const own = inFolder((at) => {
    const extensions = ["-addext", "basicConstraints=critical,CA:true", "-addext", "keyUsage=critical,keyCertSign"];
    openssl(
      "req",
      "-x509",
      ...newKey,
      "-keyout",
      at("key"),
      "-out",
      at("cert"),
      "-subj",
      "/CN=Cloche task CA",
      "-days",
      "2",
      ...extensions,
    );
    return { certificate: read(at("cert")), key: read(at("key")) };
  });
  return {
    certificate: own.certificate,
    issue: (names) =>
      inFolder((at) => {
        writeFileSync(at("ca"), own.certificate);
        writeFileSync(at("ca-key"), own.key);
        writeFileSync(at("extensions"), `subjectAltName=${names.map((name) => `DNS:${name}`).join(",")}\nextendedKeyUsage=serverAuth\n`);
        writeFileSync(at("index"), "");
        writeFileSync(
          at("conf"),
          `[ca]\ndefault_ca=c\n[c]\ndatabase=${at("index")}\nnew_certs_dir=${at(".")}\nrand_serial=yes\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n`,
        );
        openssl("req", ...newKey, "-keyout", at("key"), "-out", at("request"), "-subj", "/CN=leaf");
        const by = ["-config", at("conf"), "-cert", at("ca"), "-keyfile", at("ca-key"), "-extfile", at("extensions")];
        // From an hour ago, as a task's own: a guest's clock lags, and one that is made now would not be valid there yet. Only
        // `openssl ca` can date one so.
        const dates = ["-startdate", generalizedTime(-HOUR_MS), "-enddate", generalizedTime(24 * HOUR_MS)];
        openssl("ca", "-batch", ...by, "-in", at("request"), "-out", at("cert"), ...dates, "-notext");
        return { cert: read(at("cert")), key: read(at("key")) };
      }),
  };
}
