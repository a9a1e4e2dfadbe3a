/**
 * The user's keys: what they are called, where their values are and where they may be used. Values are with the system's keychain, in
 * this process's memory, or elsewhere and read at each use. No file of Cloche's ever holds one.
 */
import { readFileSync } from "node:fs";
import { open, rename } from "node:fs/promises";
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
import { type Keychain, probe } from "./keychain.ts";
import { readReference } from "./sources.ts";

/** Version of secrets.json. 1: 2026-11-25, first. */
const SECRETS_FILE_VERSION = 1;
const MAX_SECRETS = 1024;
/** What is shorter is no key, and would be found in texts that have nothing to do with it. */
const MIN_LENGTH = 12;

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
  readonly #memory = new Map<string, string>();
  #secrets: Secret[] | undefined;
  #turn: Promise<unknown> = Promise.resolve();

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
    return this.#inTurn(async () => {
      const { name, source, value } = added;
      if (this.find(name)) {
        throw new ProblemError({
          code: "secret.exists",
          message: `A key named ${JSON.stringify(name)} is there already; it was left as it is.`,
          next: [`Remove it first with \`cloche secret rm ${name}\`, or choose another name.`],
        });
      }
      if (this.list().length >= MAX_SECRETS) throw unfit(`There are ${MAX_SECRETS} keys already.`);
      const binding = checkBinding(added.binding);
      const secret: Secret = { name, source, binding, created: new Date().toISOString() };
      const kept = source.kind === "keychain" || source.kind === "memory";
      if (kept !== (value !== undefined))
        throw unfit(kept ? "The key's value is missing." : "A key that is read elsewhere is given no value.");
      if (value === undefined) await this.#resolve(secret);
      else checkValue(name, value);
      if (value !== undefined && source.kind === "memory") this.#memory.set(name, value);
      if (value !== undefined && source.kind === "keychain") {
        await this.#keychain.set(entryName(name), value).catch((error) => {
          throw noKeychain((error as Error).message);
        });
      }
      await this.#write([...this.list(), secret]);
      return secret;
    });
  }

  remove(name: string): Promise<void> {
    return this.#inTurn(async () => {
      const secret = this.get(name);
      await this.#write(this.list().filter((one) => one !== secret));
      this.#memory.delete(name);
      // one that the keychain does not give back is not removed there; the list has forgotten it all the same
      if (secret.source.kind === "keychain") await this.#keychain.delete(entryName(name)).catch(() => {});
    });
  }

  /** The value, for this use. Throws secret.value where it cannot be had. */
  resolve(name: string): Promise<string> {
    return this.#resolve(this.get(name));
  }

  /** Whether the value can be had. Nothing of it is told but its length. */
  async test(name: string): Promise<{ usable: boolean; text: string }> {
    try {
      const value = await this.resolve(name);
      return { usable: true, text: `The key ${name} can be had; it has ${value.length} characters.` };
    } catch (error) {
      if (!(error instanceof ProblemError) || error.problem.code === "secret.unknown") throw error;
      return { usable: false, text: `${error.problem.message} ${error.problem.evidence ?? ""}`.trim().slice(0, 512) };
    }
  }

  keychainStatus(): Promise<{ usable: boolean; text: string }> {
    return probe(this.#keychain);
  }

  async #resolve(secret: Secret): Promise<string> {
    let value: string | undefined;
    try {
      if (secret.source.kind === "memory") value = this.#memory.get(secret.name);
      else if (secret.source.kind === "keychain") value = await this.#keychain.get(entryName(secret.name));
      else value = await readReference(secret.source);
    } catch (error) {
      throw noValue(secret.name, (error as Error).message);
    }
    if (value === undefined)
      throw noValue(
        secret.name,
        secret.source.kind === "memory" ? "it was kept for as long as an earlier keeper ran" : "the keychain has no such entry",
      );
    checkValue(secret.name, value);
    return value;
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
      throw unreadable(`it was written by a newer Cloche (version ${version})`);
    const parsed = secretsFile.safeParse(json);
    if (!parsed.success) throw unreadable(firstIssue(parsed.error));
    return parsed.data.secrets;
  }

  async #write(secrets: readonly Secret[]): Promise<void> {
    {
      await using handle = await open(`${this.#file}.new`, "w", 0o600);
      await handle.writeFile(`${JSON.stringify({ version: SECRETS_FILE_VERSION, secrets }, null, 2)}\n`);
      await handle.sync();
    }
    await rename(`${this.#file}.new`, this.#file);
    this.#secrets = [...secrets];
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work, work);
    this.#turn = done.catch(() => {});
    return done;
  }
}

const entryName = (name: string) => `key-${name}`;

/** The binding in its canonical form. Throws secret.binding where the key could not be used in that way, or would be used too widely. */
export function checkBinding(binding: SecretBinding): SecretBinding {
  const hosts = binding.hosts.map((text) => {
    const parsed = parseHost(text);
    if (!parsed) throw unfit(`${JSON.stringify(text)} is no exact host name; a key works at exact hosts only.`);
    return parsed.host;
  });
  const header = binding.use.startsWith("header:") ? binding.use.slice("header:".length).toLowerCase() : undefined;
  if (header !== undefined && (RESERVED.has(header) || header.startsWith("proxy-") || header.startsWith("sec-"))) {
    throw unfit(`The header ${JSON.stringify(header)} carries no key.`);
  }
  if (binding.env !== undefined && /^(PATH|HOME|SHELL|USER|LD_.*|CLOCHE_.*)$/.test(binding.env))
    throw unfit(`The variable ${binding.env} is one that the guest needs.`);
  return { ...binding, hosts };
}

function checkValue(name: string, value: string): void {
  if (value.length < MIN_LENGTH) throw noValue(name, `it is shorter than ${MIN_LENGTH} characters`);
  if (!/^[\x20-\x7e]+$/.test(value) || value !== value.trim())
    throw noValue(name, "it holds characters that no header can carry, or blanks around it");
}

const unfit = (message: string) =>
  new ProblemError({
    code: "secret.binding",
    message: `The key was not added. ${message}`,
    next: ["Add it anew, as `cloche help` tells."],
  });

const noValue = (name: string, evidence: string) =>
  new ProblemError({
    code: "secret.value",
    message: `The value of the key ${JSON.stringify(name)} cannot be had or used.`,
    evidence,
    next: [`See \`cloche secret ls\` for where it is read; remove it with \`cloche secret rm ${name}\` and add it anew.`],
  });

const noKeychain = (evidence: string) =>
  new ProblemError({
    code: "secret.keychain",
    message: "The key was not added: the system's keychain cannot be used.",
    evidence,
    next: ["Add it with --from-file or --from-command, which read it at each use, or with --memory for as long as the keeper runs."],
  });

const unreadable = (evidence: string) =>
  new ProblemError({
    code: "secret.file",
    message: "The list of keys cannot be read, so no key can be used. It was left as it is.",
    evidence,
    next: ["Mend or move away secrets.json in Cloche's data directory."],
  });
