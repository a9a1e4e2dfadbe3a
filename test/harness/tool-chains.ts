/** Tool chains that tests install in a guest: made by the build's step of that name, at once when it has been made before. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";

const bootstrap = (file: string) => JSON.stringify(join(import.meta.dirname, "../../build/bootstrap", file));

const script = `
  import { main } from ${bootstrap("main.mjs")};
  await main(async ({ make }) => { console.log((await make(["tool-chains"]))["tool-chains"]); });`;

/** The folder with Debian packages of the guest's release, `*.deb`, and a program made by Go, `go-client`. */
export function toolChains(): string {
  return execFileSync(process.execPath, ["--input-type=module", "-e", script], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  }).trim();
}
