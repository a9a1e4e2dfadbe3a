/**
 * The user's keys: what they are called, where their values are and where they may be used. Values are with the system's keychain, in
 * this process's memory, or elsewhere and read at each use. No file of Cloche's ever holds one.
 */
import { readFileSync } from "node:fs";
import { z } from "zod";
import {
  firstIssue,
  ProblemError,
  type SecretBinding,
  type SecretSource,
  secretBinding,
  secretName,
  secretSource,
} from "../../contract/index.ts";
import { parseHost } from "../egress/index.ts";
import type { Paths } from "../paths.ts";
import { Turns } from "../turns.ts";
import { writeWhole } from "../whole-file.ts";
import { type Keychain, probe } from "./keychain.ts";
import { readReference, settled } from "./sources.ts";
import { SecretValue } from "./value.ts";

/** Version of secrets.json. 1: 2026-11-25, first. */
const SECRETS_FILE_VERSION = 1;
const MAX_SECRETS = 1024;
/** What is shorter is no key, and would be found in texts that have nothing to do with it. */
const MIN_LENGTH = 12;
/** one header line that servers take */
const MAX_LENGTH = 16_384;

const entry = z.lazy(() => z.strictObject({ name: secretName, source: secretSource, binding: secretBinding, created: z.iso.datetime() }));
const secretsFile = z.lazy(() => z.strictObject({ version: z.literal(SECRETS_FILE_VERSION), secrets: z.array(entry).max(MAX_SECRETS) }));
export interface Secret {
  readonly name: string;
  readonly source: SecretSource;
  readonly binding: SecretBinding;
  readonly created: string;
}

/** Headers that decide about the request or its connection, and are nobody's credential. */
const RESERVED = new Set([
  "host",
  "content-length",
  "transfer-encoding",
  "connection",
  "upgrade",
  "te",
  "trailer",
  "cookie",
  "expect",
  "keep-alive",
  "proxy-authorization",
  "content-type",
]);

export class Vault {
  readonly #file: string;
  readonly #keychain: Keychain;
  /** values that live as long as this process */
  readonly #memory = new Map<string, SecretValue>();
  /** the keychain has kept what it was given; it is not asked to show it again */
  #usable: { usable: boolean; text: string } | undefined;
  #secrets: Secret[] | undefined;
  readonly #turns = new Turns();

  constructor(options: { paths: Paths; keychain: Keychain }) {
    this.#file = options.paths.secrets;
    this.#keychain = options.keychain;
  }

  /** Those whose value is in this process's memory are forgotten with it, so after a restart they are listed and cannot be had. */
  list(): readonly Secret[] {
    this.#secrets ??= this.#read();
    return this.#secrets;
  }

  find(name: string): Secret | undefined {
    return this.list().find((secret) => secret.name === name);
  }

  get(name: string): Secret {
    const secret = this.find(name);
    if (secret) return secret;
    throw new ProblemError({
      code: "secret.unknown",
      message: `There is no key named ${JSON.stringify(name)}.`,
      next: ["Run `cloche secret ls` to see the keys there are, or add it with `cloche secret add`."],
    });
  }

  /** @param value for the sources `keychain` and `memory`; others are read once, to see that they can be */
  add(added: { name: string; source: SecretSource; binding: SecretBinding; value?: string }): Promise<Secret> {
    return this.#turns.take(async () => {
      const { name } = added;
      // a keychain may take names that differ by their case for one
      const same = this.list().find((secret) => secret.name.toLowerCase() === name.toLowerCase());
      if (same) {
        throw new ProblemError({
          code: "secret.exists",
          message: `A key named ${JSON.stringify(same.name)} is there already; it was left as it is.`,
          next: [`Remove it first with \`cloche secret rm ${same.name}\`, or choose another name.`],
        });
      }
      if (this.list().length >= MAX_SECRETS) throw unfit(`There are ${MAX_SECRETS} keys already.`);
      const binding = checkBinding(added.binding);
      const kept = added.source.kind === "keychain" || added.source.kind === "memory";
      if (kept !== (added.value !== undefined))
        throw unfit(kept ? "The key's value is missing." : "A key that is read elsewhere is given no value.");
      let source: SecretSource;
      try {
        source = settled(added.source);
      } catch (error) {
        throw noValue({ name, source: added.source }, (error as Error).message);
      }
      const secret: Secret = { name, source, binding, created: new Date().toISOString() };
      if (added.value === undefined) await this.#resolve(secret);
      else await this.#keep(secret, checked(secret, added.value));
      try {
        await this.#write([...this.list(), secret]);
      } catch (error) {
        if (kept) await this.#forget(secret).catch(() => {}); // what is told is why the key was not added
        throw error;
      }
      return secret;
    });
  }

  /** Forgets a key, first where its value is: one that stays there unseen would outlive its user's decision. */
  remove(name: string): Promise<void> {
    return this.#turns.take(async () => {
      const secret = this.get(name);
      await this.#forget(secret).catch((error) => {
        throw noKeychain(`The key ${JSON.stringify(name)} was not removed: the keychain that holds it cannot be used.`, error as Error, [
          "Unlock the keychain, or run the command in the desktop session that the keychain belongs to, then try again.",
        ]);
      });
      await this.#write(this.list().filter((one) => one !== secret));
    });
  }

  /** The value, read for this use. Throws secret.value, with why it cannot be had. */
  async resolve(name: string): Promise<string> {
    return (await this.#resolve(this.get(name))).reveal();
  }

  /** Whether the value can be had. Nothing of it is told but its length. */
  async test(name: string): Promise<{ usable: boolean; text: string }> {
    try {
      const { length } = await this.resolve(name);
      return { usable: true, text: `The key ${name} can be had; it has ${length} characters.` };
    } catch (error) {
      if (!(error instanceof ProblemError) || error.problem.code === "secret.unknown") throw error;
      return { usable: false, text: `${error.problem.message} ${error.problem.evidence ?? ""}`.trim().slice(0, 512) };
    }
  }

  /** Whether keys can be kept in the system's keychain, and why not. An entry of chance is written, read and removed. */
  async keychainStatus(): Promise<{ usable: boolean; text: string }> {
    if (this.#usable) return this.#usable;
    const found = await probe(this.#keychain);
    if (found.usable) this.#usable = found; // one that is not may be unlocked later
    return found;
  }

  async #keep({ name, source }: Secret, value: SecretValue): Promise<void> {
    if (source.kind === "memory") this.#memory.set(name, value);
    else
      await this.#keychain.set(entryName(name), value.reveal()).catch((error) => {
        throw noKeychain("The key was not added: the system's keychain cannot be used.", error as Error, [
          "Add it with --from-file or --from-command, which read it at each use, or with --memory for as long as the keeper runs.",
        ]);
      });
  }

  async #forget({ name, source }: Secret): Promise<void> {
    this.#memory.delete(name);
    if (source.kind === "keychain") await this.#keychain.delete(entryName(name));
  }

  async #resolve(secret: Secret): Promise<SecretValue> {
    const { name, source } = secret;
    if (source.kind === "memory") {
      const value = this.#memory.get(name);
      if (value) return value;
      throw noValue(secret, "it was kept for as long as an earlier keeper ran");
    }
    let value: string | undefined;
    try {
      value = source.kind === "keychain" ? await this.#keychain.get(entryName(name)) : await readReference(source);
    } catch (error) {
      throw noValue(secret, (error as Error).message);
    }
    if (value === undefined) throw noValue(secret, "the keychain has no such entry");
    return checked(secret, value);
  }

  #read(): Secret[] {
    let text: string;
    try {
      text = readFileSync(this.#file, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
      throw unreadable((error as Error).message);
    }
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch {
      throw unreadable("it is not JSON");
    }
    const version = (json as { version?: unknown } | null)?.version;
    if (typeof version === "number" && version > SECRETS_FILE_VERSION)
      throw unreadable(`it was written by a newer Cloche (file version ${version}; this one reads up to ${SECRETS_FILE_VERSION})`, [
        "Update Cloche.",
      ]);
    const parsed = secretsFile.safeParse(json);
    if (!parsed.success) throw unreadable(firstIssue(parsed.error));
    return parsed.data.secrets;
  }

  async #write(secrets: readonly Secret[]): Promise<void> {
    try {
      await writeWhole(this.#file, `${JSON.stringify({ version: SECRETS_FILE_VERSION, secrets }, null, 2)}\n`, true);
    } catch (error) {
      throw new ProblemError({
        code: "disk.full",
        message: "The list of keys could not be written, so it is as it was.",
        evidence: (error as Error).message,
        next: ["Make room on the disk that holds Cloche's data, then try again."],
      });
    }
    this.#secrets = [...secrets];
  }
}

const entryName = (name: string) => `key-${name}`;

/** The binding in its canonical form. Throws secret.binding where the key could not be used in that way, or would be used too widely. */
export function checkBinding(binding: SecretBinding): SecretBinding {
  const hosts = binding.hosts.map((text) => {
    const parsed = parseHost(text);
    // an address is as exact as a name: a service of the user's own network may have no other
    if (!parsed) throw unfit(`${JSON.stringify(text)} is no exact host; a key works at exact names and addresses only.`);
    return parsed.host;
  });
  const header = binding.use.startsWith("header:") ? binding.use.slice("header:".length).toLowerCase() : undefined;
  if (header !== undefined && (RESERVED.has(header) || header.startsWith("proxy-") || header.startsWith("sec-"))) {
    throw unfit(`The header ${JSON.stringify(header)} carries no key.`);
  }
  if (binding.env !== undefined && /^(PATH|HOME|SHELL|USER|LD_.*|CLOCHE_.*)$/.test(binding.env))
    throw unfit(`The variable ${binding.env} is one that the guest needs.`);
  return { ...binding, hosts: [...new Set(hosts)] };
}

/** The value, when a request can carry it. What does not fit is told in words that hold nothing of it. */
function checked(secret: Pick<Secret, "name" | "source">, value: string): SecretValue {
  if (value.length < MIN_LENGTH) throw noValue(secret, `it is shorter than ${MIN_LENGTH} characters`);
  if (value.length > MAX_LENGTH) throw noValue(secret, `it is longer than ${MAX_LENGTH} characters`);
  if (!/^[\x20-\x7e]+$/.test(value) || value !== value.trim())
    throw noValue(secret, "it holds characters that no header can carry, or blanks around it");
  return new SecretValue(secret.name, value);
}

const unfit = (message: string) =>
  new ProblemError({
    code: "secret.binding",
    message: `The key was not added. ${message}`,
    next: ["Add it anew, as `cloche help` tells."],
  });

const noValue = ({ name, source }: Pick<Secret, "name" | "source">, evidence: string) =>
  new ProblemError({
    code: "secret.value",
    message: `The value of the key ${JSON.stringify(name)} cannot be had or used.`,
    evidence,
    next: [
      ...(NEXT[source.kind] ?? []),
      `See \`cloche secret ls\` for where it is read; remove it with \`cloche secret rm ${name}\` and add it anew.`,
    ],
  });

/** What helps first, by where the value should have been. */
const NEXT: { readonly [kind in SecretSource["kind"]]?: readonly string[] } = {
  env: [
    "Set the variable where the keeper is started: end every task and client, wait until the keeper has ended, and run `cloche` with it set.",
    "Or hand the value over once: `cloche secret add NAME --memory`, which reads it from standard input.",
  ],
  keychain: ["Unlock the keychain, or run the command in the desktop session that the keychain belongs to."],
};

const noKeychain = (message: string, { message: evidence }: Error, next: readonly string[]) =>
  new ProblemError({ code: "secret.keychain", message, evidence, next: [...next] });

const unreadable = (evidence: string, next = ["Mend or move away secrets.json in Cloche's data directory."]) =>
  new ProblemError({
    code: "secret.file",
    message: "The list of keys cannot be read, so no key can be used. It was left as it is.",
    evidence,
    next,
  });
