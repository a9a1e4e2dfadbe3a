/**
 * Cloche in a browser: `runWeb` wires the loopback host to the keeper. `cloche web` and `main.ts` call it; so do the tests, with
 * a dialog of their own. What it prints is the one address that lets a browser in, once.
 */
import { connectKeeper, type Endpoint, endpoint, type KeeperProgram, openStream } from "../contract/node/index.ts";
import { type Dialogs, systemDialogs } from "./dialogs.ts";
import { readPage } from "./files.ts";
import { startWebHost, type WebHost } from "./host.ts";
import { openInBrowser } from "./open.ts";

export type { Dialogs, WebHost };
export { systemDialogs };

export interface WebOptions {
  /** the keeper that is started when none runs */
  readonly program: KeeperProgram;
  /** directory of the built page */
  readonly uiDir: string;
  /** 0 or absent: the system picks one */
  readonly port?: number;
  /** absent: the system's dialog */
  readonly dialogs?: Dialogs;
  readonly print: (line: string) => void;
  /** show the page in the user's browser; absent: no */
  readonly open?: boolean;
  /** absent: this user's */
  readonly at?: Endpoint;
}

/** Answers when the page can be opened. The caller keeps the process alive and closes the host at the end. */
export async function runWeb(options: WebOptions): Promise<WebHost> {
  const at = options.at ?? endpoint();
  const host = await startWebHost({
    port: options.port ?? 0,
    page: readPage(options.uiDir),
    dialogs: options.dialogs ?? systemDialogs(),
    connectKeeper: () => connectKeeper("web", options.program, at),
    openStream: (ticket) => openStream(ticket, at),
  });
  const address = host.address();
  options.print(address);
  if (options.open) openInBrowser(address, at.runtime);
  return host;
}
