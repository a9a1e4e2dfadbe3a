/** The part of a disk that what guests do leaves to what the user does. */
import { statfsSync } from "node:fs";

/** 256 MiB, or a fiftieth of a smaller disk. */
const RESERVE_BYTES = 268_435_456;
const RESERVE_SHARE = 50;
/** What the disk has left is looked at once in that time, in ms: guests fill a small part of the reserve in it. */
const ROOM_MS = 100;

export type Disk = { readonly bsize: number; readonly blocks: number; readonly bavail: number };

export class DiskReserve {
  readonly #directory: string;
  readonly #disk: (directory: string) => Disk;
  #roomUntil = 0;

  constructor(directory: string, disk: (directory: string) => Disk = statfsSync) {
    this.#directory = directory;
    this.#disk = disk;
  }

  /** Whether nothing but the reserve is left. */
  reached(): boolean {
    const now = performance.now();
    if (now < this.#roomUntil) return false;
    const { bsize, blocks, bavail } = this.#disk(this.#directory);
    const reached = bavail * bsize < Math.min(RESERVE_BYTES, (blocks * bsize) / RESERVE_SHARE);
    if (!reached) this.#roomUntil = now + ROOM_MS;
    return reached;
  }
}
