/**
 * What holds the log from outside: a key and a number with the system's keychain. The key makes the records' chain; a list of the head of
 * each file's chain, MACed with it, stands beside the log; the number says which list is the newest. So one small entry, written once per
 * list, holds any number of files, and neither log nor list can be put back to what it was.
 */
import { createHmac, createSecretKey, type KeyObject, randomBytes, timingSafeEqual } from "node:crypto";
import { open, readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { z } from "zod";
import { firstIssue } from "../../contract/index.ts";
import type { Keychain } from "../vault/index.ts";
import { writeWhole } from "../whole-file.ts";
import type { Head } from "./chain.ts";

/** Version of audit-heads.json and of the key's entry. 1: 2026-11-26, first. */
const HEADS_VERSION = 1;
const KEY_ENTRY = "audit-key";
const GENERATION_ENTRY = "audit-generation";
/** Breaks that are kept; the first of them say what happened. */
const MAX_BREAKS = 64;
/** A list of all tasks' heads is far below this. */
const MAX_LIST_BYTES = 67_108_864;

const headSchema = z.strictObject({ id: z.int().min(1), chain: z.string().regex(/^[0-9a-f]{64}$/) });
const breakSchema = z.strictObject({
  /** the task's id; absent: the keeper's own events */
  task: z.string().max(16).optional(),
  what: z.enum(["changed", "missing", "cut"]),
  text: z.string().max(512),
});
/** Something that was found when the list was to go on, and would be covered by the next one. */
export type Break = z.infer<typeof breakSchema>;

const listSchema = z.strictObject({
  version: z.literal(HEADS_VERSION),
  generation: z.int().min(1),
  /** by the file's name: a task's id, or `keeper` */
  heads: z.record(z.string().max(16), headSchema),
  breaks: z.array(breakSchema).max(MAX_BREAKS),
});
const keySchema = z.strictObject({
  version: z.literal(HEADS_VERSION),
  key: z.string().regex(/^[0-9a-f]{64}$/),
  /** the first record that can have been made with it */
  since: z.int().min(1),
});

export class Anchor {
  readonly key: KeyObject;
  readonly since: number;
  readonly heads: Map<string, Head>;
  readonly breaks: Break[];
  /** the list on the disk, or the keychain's number, is not that of heads and breaks */
  unwritten = true;
  readonly #file: string;
  readonly #keychain: Keychain;
  #generation: number;

  private constructor(file: string, keychain: Keychain, key: z.infer<typeof keySchema>) {
    this.#file = file;
    this.#keychain = keychain;
    this.key = createSecretKey(Buffer.from(key.key, "hex"));
    this.since = key.since;
    this.heads = new Map();
    this.breaks = [];
    this.#generation = 0;
  }

  /**
   * Rejects with why there is none.
   * @param nextId the id of the next record: a key that is made now has made none before it
   */
  static async load(file: string, keychain: Keychain, nextId: number): Promise<Anchor> {
    const anchor = new Anchor(file, keychain, await keyOf(keychain, nextId));
    const text = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return undefined;
      throw error;
    });
    const newest = Number((await keychain.get(GENERATION_ENTRY)) ?? 0);
    if (!Number.isSafeInteger(newest) || newest < 0) throw new Error("the keychain's number of the newest list is none");
    anchor.#generation = newest;
    if (text !== undefined) anchor.#read(text, newest);
    else if (newest > 0)
      anchor.break({ what: "missing", text: "The list of the log's heads was gone: what was written before cannot be told." });
    return anchor;
  }

  #read(text: string, newest: number): void {
    let list: z.infer<typeof listSchema>;
    try {
      const [mac = "", json = ""] = text.trimEnd().split("\n");
      if (text.length > MAX_LIST_BYTES || !same(mac, this.#mac(json))) throw new Error("its MAC is not the key's");
      const parsed = JSON.parse(json);
      if (parsed.version > HEADS_VERSION) throw new NewerList(`it was written by a newer Cloche (version ${parsed.version})`);
      const checked = listSchema.safeParse(parsed);
      if (!checked.success) throw new Error(firstIssue(checked.error));
      list = checked.data;
    } catch (error) {
      if (error instanceof NewerList) throw error;
      this.break({ what: "changed", text: `The list of the log's heads was not the one that was written: ${(error as Error).message}.` });
      return;
    }
    for (const [name, head] of Object.entries(list.heads)) this.heads.set(name, head);
    this.breaks.push(...list.breaks);
    // one that is newer than the keychain knows was written when a keeper ended in between
    this.#generation = Math.max(newest, list.generation);
    this.unwritten = list.generation !== newest;
    if (list.generation < newest)
      this.break({ what: "cut", text: "The list of the log's heads was an older one than the keychain knows: the log was put back." });
  }

  /** Kept for good: the next list would cover it. */
  break(found: Break): void {
    const known = this.breaks.some(({ task, text }) => task === found.task && text === found.text);
    if (known || this.breaks.length >= MAX_BREAKS) return;
    this.breaks.push(found);
    this.unwritten = true;
  }

  /** Writes heads and breaks as they are now; what the heads stand for must be on the disk. */
  async write(): Promise<void> {
    const generation = this.#generation + 1;
    const list: z.input<typeof listSchema> = {
      version: HEADS_VERSION,
      generation,
      heads: Object.fromEntries(this.heads),
      breaks: this.breaks,
    };
    const json = JSON.stringify(list);
    await writeWhole(this.#file, `${this.#mac(json)}\n${json}\n`, true);
    if (process.platform !== "win32") {
      // the keychain must not know of a list that a power cut takes back
      await using directory = await open(dirname(this.#file), "r");
      await directory.sync();
    }
    this.#generation = generation;
    await this.#keychain.set(GENERATION_ENTRY, String(generation));
    this.unwritten = false;
  }

  #mac(json: string): string {
    return createHmac("sha256", this.key).update("cloche audit heads\n").update(json).digest("hex");
  }
}

class NewerList extends Error {}

async function keyOf(keychain: Keychain, nextId: number): Promise<z.infer<typeof keySchema>> {
  const entry = await keychain.get(KEY_ENTRY);
  if (entry === undefined) {
    const made = { version: HEADS_VERSION, key: randomBytes(32).toString("hex"), since: nextId } as const;
    await keychain.set(KEY_ENTRY, JSON.stringify(made));
    return made;
  }
  let json: unknown;
  try {
    json = JSON.parse(entry);
  } catch {
    throw new Error("the keychain's entry of the log's key is not one");
  }
  const version = (json as { version?: unknown } | null)?.version;
  if (typeof version === "number" && version > HEADS_VERSION)
    throw new Error(`the log's key was kept by a newer Cloche (version ${version})`);
  const checked = keySchema.safeParse(json);
  if (!checked.success) throw new Error("the keychain's entry of the log's key is not one");
  return checked.data;
}

const same = (a: string, b: string): boolean => a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));
