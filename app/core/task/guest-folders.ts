/**
 * A machine's folders: each served by a process on the host at a port of its own, and mounted in the guest. They come and go while
 * the machine runs, and a folder whose process died is served and mounted anew.
 */
import { rm } from "node:fs/promises";
import { type Agent, choosePorts } from "../guest/index.ts";
import type { Helper } from "../machine/index.ts";
import type { Folder, ShareServer } from "../share/index.ts";

const MOUNT_DEADLINE_MS = 30_000;
/** how long the guest may take to write back and let go of a folder before its process is ended all the same */
const UNMOUNT_DEADLINE_MS = 10_000;
/** Deaths of one folder's process within the time below after which it is given up: a guest that kills it again and again gains nothing. */
const MAX_DEATHS = 5;
const DEATHS_WITHIN_MS = 60_000;

/** A folder with the place where the guest sees it. */
export interface PlacedFolder {
  readonly folder: Folder;
  readonly guestPath: string;
}

export interface GuestFoldersEvents {
  onServed(placed: PlacedFolder, confinement: string[]): void;
  onRestarted(placed: PlacedFolder, why: string): void;
  /** its process ended and the folder cannot be had back */
  onLost(placed: PlacedFolder, why: string): void;
}

interface Mounted extends PlacedFolder {
  port: number;
  deaths: number[];
}

/** `again`: until the folder comes again its place cannot be written; `dead`: its process has ended, so nothing is written back */
interface LettingGo {
  readonly again?: true;
  readonly dead?: true;
}

export class GuestFolders {
  readonly #streams: string;
  readonly #events: GuestFoldersEvents;
  readonly #mounted = new Map<string, Mounted>();
  readonly #awake: () => Promise<void>;
  #guest: { helper: Helper; agent: Agent } | undefined;
  #ending = false;

  /** @param awake resolves when the guest can answer: a paused one cannot */
  constructor(placed: readonly PlacedFolder[], streams: string, awake: () => Promise<void>, events: GuestFoldersEvents) {
    this.#streams = streams;
    this.#awake = awake;
    this.#events = events;
    const ports = choosePorts(placed.length);
    placed.forEach((one, at) => {
      this.#mounted.set(one.folder.spec.id, { ...one, port: ports[at] ?? 0, deaths: [] });
    });
  }

  /** The ports that the guest dials from the start. */
  get ports(): number[] {
    return [...this.#mounted.values()].map(({ port }) => port);
  }
  get processes(): { role: string; pid: number }[] {
    return [...this.#mounted.values()].flatMap(({ folder: { pid } }) => (pid === undefined ? [] : [{ role: "share", pid }]));
  }
  get size(): number {
    return this.#mounted.size;
  }

  /** Starts every folder's process. */
  async serveAll(): Promise<void> {
    await Promise.all([...this.#mounted.values()].map((mounted) => this.#serve(mounted)));
  }

  /** Mounts every folder in the guest; resolves when the guest has seen each. */
  async mountAll(helper: Helper, agent: Agent, onEach: () => void): Promise<void> {
    this.#guest = { helper, agent };
    await Promise.all([...this.#mounted.values()].map((mounted) => this.#mount(mounted, agent).then(onEach)));
  }

  /** Serves and mounts one more; on failure nothing of it is left. */
  async add(placed: PlacedFolder): Promise<void> {
    const mounted: Mounted = { ...placed, port: 0, deaths: [] };
    this.#mounted.set(placed.folder.spec.id, mounted);
    try {
      await this.#attach(mounted);
    } catch (error) {
      await this.remove(placed.folder.spec.id);
      throw error;
    }
  }

  /** Lets the guest write back and takes the folder out; a guest that does not let go loses it all the same. */
  async remove(id: string): Promise<void> {
    const mounted = this.#mounted.get(id);
    if (!mounted) return;
    this.#mounted.delete(id);
    await this.#detach(mounted);
  }

  /** Takes a folder out of the guest and, after `between`, mounts it as its spec then says. */
  async remount(id: string, between: () => Promise<void>): Promise<void> {
    const mounted = this.#mounted.get(id);
    if (!mounted) return between();
    this.#mounted.delete(id);
    await this.#detach(mounted, { again: true });
    try {
      await between();
    } finally {
      if (!this.#ending) await this.add(mounted);
    }
  }

  async endAll(): Promise<void> {
    this.#ending = true;
    await Promise.all([...this.#mounted.values()].map(({ folder }) => folder.endServing()));
  }

  async #serve(mounted: Mounted): Promise<void> {
    const server = await mounted.folder.serve(`${this.#streams}_${mounted.port}`);
    if (this.#ending) return mounted.folder.endServing();
    this.#events.onServed(
      mounted,
      server.served.confinement.filter((entry) => entry.active).map((entry) => entry.name),
    );
    void this.#watch(mounted, server);
  }

  async #watch(mounted: Mounted, server: ShareServer): Promise<void> {
    const { status, signal } = await server.exited;
    const { id } = mounted.folder.spec;
    if (this.#ending || this.#mounted.get(id) !== mounted) return;
    const why = signal === null ? `it ended with status ${status}` : `it was ended by ${signal}`;
    const now = performance.now();
    mounted.deaths = [...mounted.deaths.filter((at) => now - at < DEATHS_WITHIN_MS), now];
    if (!this.#guest || mounted.deaths.length > MAX_DEATHS) return this.#events.onLost(mounted, why);
    try {
      await this.#awake();
      await this.#letGo(mounted, { again: true, dead: true });
      await this.#attach(mounted);
      if (this.#ending || this.#mounted.get(id) !== mounted) return await this.#detach(mounted); // taken out meanwhile
      this.#events.onRestarted(mounted, why);
    } catch (error) {
      if (!this.#ending) this.#events.onLost(mounted, `${why}; it could not be started again: ${(error as Error).message}`);
    }
  }

  /** A port of its own each time: the guest's old mount may not find the new process. */
  async #attach(mounted: Mounted): Promise<void> {
    const { helper, agent } = this.#up();
    [mounted.port = 0] = choosePorts(1);
    await this.#serve(mounted);
    await helper.openPort(mounted.port);
    await this.#mount(mounted, agent);
  }

  async #detach(mounted: Mounted, how: LettingGo = {}): Promise<void> {
    await this.#letGo(mounted, how);
    await mounted.folder.endServing();
    await rm(`${this.#streams}_${mounted.port}`, { force: true });
  }

  async #letGo({ guestPath, port }: Mounted, how: LettingGo): Promise<void> {
    const { helper, agent } = this.#up();
    try {
      await agent.call("unmount", { guestPath, ...how }, UNMOUNT_DEADLINE_MS);
    } catch {
      // the guest has unmounted it itself, is silent or refuses: the process that serves it ends next, whatever it says
    }
    await helper.closePort(port);
  }

  async #mount({ folder, guestPath, port }: Mounted, agent: Agent): Promise<void> {
    const { id, mode } = folder.spec;
    const onGuestsDisk = [...folder.localFolders];
    await agent.call(
      "mount",
      {
        port,
        guestPath,
        mode: mode === "ro" ? "ro" : "rw",
        ...(onGuestsDisk.length === 0 ? {} : { localFolders: { disk: id, paths: onGuestsDisk } }),
      },
      MOUNT_DEADLINE_MS,
    );
  }

  #up(): { helper: Helper; agent: Agent } {
    if (!this.#guest) throw new Error("no guest is up");
    return this.#guest;
  }
}
