/**
 * The proxy of the user's network that tasks' connections leave this computer through, where its user set one. It is said with
 * `cloche policy proxy` and by nothing else: no variable of the environment and no setting of the system's is read for it.
 */
import { readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { z } from "zod";
import { firstIssue, type OutgoingProxy, outgoingProxy, ProblemError } from "../../contract/index.ts";
import type { Vault } from "../vault/index.ts";
import { writeWhole } from "../whole-file.ts";
import { headerFor } from "./credentials/index.ts";
import { parseHost } from "./policy/index.ts";
import type { UpstreamProxy } from "./protocol.ts";

/** Version of outgoing-proxy.json. 1: 2026-11-26, first. */
const OUTGOING_FILE_VERSION = 1;

const outgoingFile = z.lazy(() => z.strictObject({ version: z.literal(OUTGOING_FILE_VERSION), proxy: outgoingProxy }));

export class Outgoing {
  readonly #file: string;
  readonly #vault: Pick<Vault, "get" | "resolve">;

  constructor(file: string, vault: Pick<Vault, "get" | "resolve">) {
    this.#file = file;
    this.#vault = vault;
  }

  /** What was set; undefined where connections leave directly. Throws egress.outgoing where that cannot be told: then none may leave. */
  get(): OutgoingProxy | undefined {
    let text: string;
    try {
      text = readFileSync(this.#file, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw unreadable((error as Error).message);
    }
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch {
      throw unreadable("it is not JSON");
    }
    const version = (json as { version?: unknown } | null)?.version;
    if (typeof version === "number" && version > OUTGOING_FILE_VERSION)
      throw unreadable(`it was written by a newer Cloche (version ${version}; this one reads up to ${OUTGOING_FILE_VERSION})`);
    const parsed = outgoingFile.safeParse(json);
    if (!parsed.success) throw unreadable(firstIssue(parsed.error));
    return parsed.data.proxy;
  }

  /** Sets it, or with nothing has connections leave directly. Throws egress.outgoing and secret.unknown; then it is as it was. */
  async set(wanted: OutgoingProxy | undefined): Promise<OutgoingProxy | undefined> {
    const proxy = wanted && this.#checked(wanted);
    try {
      if (proxy) await writeWhole(this.#file, `${JSON.stringify({ version: OUTGOING_FILE_VERSION, proxy }, null, 2)}\n`, true);
      else await rm(this.#file, { force: true });
    } catch (error) {
      throw new ProblemError({
        code: "disk.full",
        message: "The outgoing proxy could not be written down, so it is as it was.",
        evidence: (error as Error).message,
        next: ["Make room on the disk that holds Cloche's data (`cloche doctor` names it), then try again."],
      });
    }
    return proxy;
  }

  /** The setting as a machine's proxy needs it, with the key's value. Throws secret.value and secret.unknown too. */
  async resolve(): Promise<{ proxy: OutgoingProxy; upstream: UpstreamProxy } | undefined> {
    const found = this.get();
    if (!found) return undefined;
    try {
      // the key may have been removed, or added anew for another host, since
      const proxy = this.#checked(found);
      const { host, port, secret } = proxy;
      if (secret === undefined) return { proxy, upstream: { host, port } };
      const authorization = headerFor(this.#vault.get(secret).binding.use).template(await this.#vault.resolve(secret));
      return { proxy, upstream: { host, port, authorization } };
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      const { message, next, ...rest } = error.problem;
      throw new ProblemError({
        ...rest,
        message: `The outgoing proxy ${found.host}:${found.port} cannot be used. ${message}`,
        next: [...next, "Or set it anew: cloche policy proxy HOST:PORT [--secret NAME], or none."],
      });
    }
  }

  #checked({ host: typed, port, secret }: OutgoingProxy): OutgoingProxy {
    const host = parseHost(typed)?.host;
    if (host === undefined) throw unfit(`${JSON.stringify(typed)} is no host.`, "Write it as HOST:PORT, such as proxy.example.com:3128.");
    if (secret === undefined) return { host, port };
    const { hosts, use } = this.#vault.get(secret).binding;
    if (!hosts.includes(host) || (use !== "basic" && use !== "bearer"))
      throw unfit(
        `The key ${secret} works at ${hosts.join(", ")}, sent as ${use}; a proxy is given one that is added for its own host, as basic or bearer.`,
        `Add such a key: cloche secret add NAME --host ${host} --as basic, with user:password as its value.`,
      );
    return { host, port, secret };
  }
}

const unfit = (message: string, next: string) => new ProblemError({ code: "egress.outgoing", message, next: [next] });

const unreadable = (evidence: string) =>
  new ProblemError({
    code: "egress.outgoing",
    message: "The setting of the outgoing proxy cannot be read, so it is not known how connections are to leave, and none does.",
    evidence,
    next: ["Set it anew with `cloche policy proxy HOST:PORT`, or `cloche policy proxy none` for none."],
  });
