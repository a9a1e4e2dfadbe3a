/** What a task's commands wrote, newest bytes kept: output.log and the part before it, output.log.1. */
import { closeSync, existsSync, fstatSync, openSync, readSync, renameSync, rmSync, statSync, writeSync } from "node:fs";

/** Size at which output.log becomes output.log.1. */
const PART_BYTES = 8 << 20;

export class OutputLog {
  readonly #path: string;
  #fd: number | undefined;
  #size = 0;
  /** bytes that are on disk no more; offsets count from the first byte ever written in this keeper's life */
  #dropped = 0;
  #full = false;

  constructor(path: string) {
    this.#path = path;
  }

  /** Appends. A full disk loses log lines, never the command's own stream; the loss stands in the log when there is room again. */
  append(bytes: Uint8Array): void {
    try {
      if (this.#fd === undefined) {
        this.#fd = openSync(this.#path, "a", 0o600);
        this.#size = fstatSync(this.#fd).size;
      }
      if (this.#full) this.#size += writeSync(this.#fd, "\n[some output was not kept: the disk was full]\n");
      this.#full = false;
      this.#size += writeSync(this.#fd, bytes);
      if (this.#size >= PART_BYTES) this.#rotate();
    } catch {
      this.#full = true;
    }
  }

  /** Bytes from a logical offset; an offset that is no longer kept reads from the oldest byte there is. */
  read(offset: number, limit: number): { bytes: Buffer; next: number } {
    const older = `${this.#path}.1`;
    const olderSize = existsSync(older) ? statSync(older).size : 0;
    const size = existsSync(this.#path) ? statSync(this.#path).size : 0;
    let at = Math.max(0, offset - this.#dropped);
    const [file, position] = at < olderSize ? [older, at] : [this.#path, at - olderSize];
    const available = at < olderSize ? olderSize - at : size - position;
    if (available <= 0) return { bytes: Buffer.alloc(0), next: Math.max(offset, this.#dropped) };
    const fd = openSync(file, "r");
    try {
      const bytes = Buffer.alloc(Math.min(limit, available));
      const read = readSync(fd, bytes, 0, bytes.length, position);
      at += read;
      return { bytes: bytes.subarray(0, read), next: this.#dropped + at };
    } finally {
      closeSync(fd);
    }
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #rotate(): void {
    const older = `${this.#path}.1`;
    if (existsSync(older)) this.#dropped += statSync(older).size;
    rmSync(older, { force: true });
    this.close();
    renameSync(this.#path, older);
    this.#size = 0;
  }
}
