/** One web host with a home and a keeper of its own per test, a folder dialog that the test answers, and a page that counts violations. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test as base, expect, type Page } from "@playwright/test";
import { CONTRACT_VERSION } from "../../../app/contract/index.ts";
import { componentsPath, connectKeeper, endpoint, readComponents } from "../../../app/contract/node/index.ts";
import { type Dialogs, runWeb, type WebHost } from "../../../app/web/index.ts";

const root = new URL("../../..", import.meta.url).pathname;
const SHOTS = `${root}test-results/web-shots`;

export interface Cloche {
  readonly host: WebHost;
  /** the address with the one-time token, as it was printed */
  readonly address: string;
  /** directory of the test's own, outside of Cloche's home */
  readonly files: string;
  /** what the dialog answers next; undefined closes it */
  answerDialog(path: string | undefined): void;
  keeperPid(): Promise<number>;
  /** what the versions of a folder may take, as its user says with the command line */
  limitVersions(folder: string, bytes: number): Promise<void>;
  /** CSP violations and page errors so far */
  readonly complaints: string[];
  shot(page: Page, name: string): Promise<void>;
}

function alive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

export const test = base.extend<{ cloche: Cloche }>({
  cloche: async ({ page }, use) => {
    const files = mkdtempSync(join(tmpdir(), "cloche-web-files-"));
    const home = mkdtempSync(join(tmpdir(), "cloche-web-home-"));
    process.env.CLOCHE_HOME = home;
    const components = readComponents(componentsPath(`${root}.build/app/web.mjs`));
    const program = { node: components.node, entry: components.app.keeper };
    const answers: (string | undefined)[] = [];
    const dialogs: Dialogs = {
      pickFolder: async () => {
        const path = answers.shift();
        return path === undefined ? undefined : Buffer.from(path);
      },
    };
    let address = "";
    const print = (line: string) => {
      address = line;
    };
    const at = endpoint();
    const host = await runWeb({ program, uiDir: components.app.ui, dialogs, print, at });

    const complaints: string[] = [];
    await page.exposeFunction("clocheViolation", (what: string) => void complaints.push(what));
    await page.addInitScript(() => {
      addEventListener("securitypolicyviolation", (event) => {
        const report = (window as unknown as { clocheViolation(what: string): void }).clocheViolation;
        report(`${event.violatedDirective}: ${event.blockedURI} ${event.sample} ${event.sourceFile}:${event.lineNumber}`);
      });
    });
    page.on("pageerror", (error) => complaints.push(`page error: ${error.message}`));
    page.on("console", (message) => {
      if (message.type() === "error") complaints.push(`console: ${message.text()}`);
    });

    await use({
      host,
      address,
      files,
      complaints,
      async keeperPid() {
        const client = await connectKeeper("web", program, at);
        const { pid } = await client.call("hello", { contract: CONTRACT_VERSION, client: "web" });
        client.close();
        return pid;
      },
      async limitVersions(folder, bytes) {
        const client = await connectKeeper("web", program, at);
        const [task] = (await client.call("tasks.list", {})).tasks;
        await client.call("folders.set", { task: task?.id ?? "", folder, versionLimitBytes: bytes });
        client.close();
      },
      answerDialog: (path) => void answers.push(path),
      shot: async (shown, name) => void (await shown.screenshot({ path: `${SHOTS}/${name}.png` })),
    });

    // Whatever the test left running ends here, and nothing is left behind.
    const client = await connectKeeper("web", program, at);
    for (const task of (await client.call("tasks.list", {})).tasks) await client.call("tasks.remove", { task: task.id, discard: true });
    const { pid } = await client.call("hello", { contract: CONTRACT_VERSION, client: "web" });
    await page.close();
    await host.close();
    await client.call("keeper.end", {});
    client.close();
    await expect.poll(() => alive(pid), { message: "the keeper has ended", intervals: [20] }).toBe(false);
    rmSync(files, { recursive: true, force: true });
    rmSync(home, { recursive: true, force: true });
    rmSync(at.runtime, { recursive: true, force: true });
  },
});
export { expect };
