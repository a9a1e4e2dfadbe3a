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
        openssl("req", ...newKey, "-keyout", at("key"), "-out", at("request"), "-subj", "/CN=leaf");
        const by = ["-CA", at("ca"), "-CAkey", at("ca-key"), "-CAcreateserial", "-days", "1", "-extfile", at("extensions")];
        openssl("x509", "-req", "-in", at("request"), ...by, "-out", at("cert"));
        return { cert: read(at("cert")), key: read(at("key")) };
      }),
  };
}
