/** Files that are read whole or not at all: written beside their place, private to the user, and renamed into it. */
import { open, rename } from "node:fs/promises";

/** @param flush durable when it resolves; without it, after a power cut the file may be empty or the one before */
export async function writeWhole(file: string, text: string, flush: boolean): Promise<void> {
  {
    await using handle = await open(`${file}.new`, "w", 0o600);
    await handle.writeFile(text);
    if (flush) await handle.sync();
  }
  await rename(`${file}.new`, file);
}
