/**
 * The system's keychain, through one library on all systems: Keychain on macOS, Credential Manager on Windows, the Secret Service on
 * Linux. It is loaded when it is first asked, as most keepers never need it.
 */
import { createHash, randomBytes } from "node:crypto";
import type { Paths } from "../paths.ts";

/** A port: what Cloche needs of a keychain. Every call may reject with what the system says. */
export interface Keychain {
  get(name: string): Promise<string | undefined>;
  set(name: string, value: string): Promise<void>;
  delete(name: string): Promise<void>;
}

/** How long a keychain may take: one that asks its user takes longer, one that is not there must not hold anything up. */
const DEADLINE_MS = 30_000;
const PROBE_MS = 3_000;

/** Entries of one home are apart from those of another. */
export function systemKeychain(paths: Paths): Keychain {
  const service = `cloche-${createHash("sha256").update(paths.home).digest("hex").slice(0, 12)}`;
  const entry = async (name: string) => {
    // without a session bus there is no Secret Service, and the library would look for one for long
    if (process.platform === "linux" && !process.env.DBUS_SESSION_BUS_ADDRESS)
      throw new Error("there is no session bus, so there is no Secret Service");
    const { AsyncEntry } = await import("@napi-rs/keyring");
    return new AsyncEntry(service, name);
  };
  return {
    get: async (name) => (await bounded(DEADLINE_MS, (await entry(name)).getPassword())) ?? undefined,
    set: async (name, value) => void (await bounded(DEADLINE_MS, (await entry(name)).setPassword(value))),
    delete: async (name) => void (await bounded(DEADLINE_MS, (await entry(name)).deleteCredential())),
  };
}

/** Whether the keychain works: a random entry is written, read and removed. */
export async function probe(keychain: Keychain): Promise<{ usable: boolean; text: string }> {
  const name = `probe-${randomBytes(8).toString("hex")}`;
  const value = randomBytes(16).toString("hex");
  try {
    await bounded(
      PROBE_MS,
      (async () => {
        await keychain.set(name, value);
        const read = await keychain.get(name);
        await keychain.delete(name);
        if (read !== value) throw new Error("it gave another value than it was given");
      })(),
    );
    return { usable: true, text: "The system's keychain keeps keys." };
  } catch (error) {
    const why = (error as Error).message.slice(0, 256);
    return {
      usable: false,
      text: `The system's keychain cannot be used (${why}), so keys are read where they are, or kept for as long as the keeper runs.`,
    };
  }
}

async function bounded<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it did not answer within ${ms / 1000} s`)), ms);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}
