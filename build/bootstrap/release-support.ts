/** What the tests of fetching an image share: a server of one file with faults, an image in small, a problem's code. */
import type { ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
// @ts-expect-error: the bootstrap is plain JavaScript, which has no types
import { canonical } from "./image.mjs";
// @ts-expect-error: the bootstrap is plain JavaScript, which has no types
import { arch } from "./packages.mjs";

export const sha256 = (bytes: Buffer | string) => createHash("sha256").update(bytes).digest("hex");

/** Bytes that do not repeat, so that a piece at the wrong place is seen; the same for the same seed. */
export function noise(length: number, seed: string): Buffer {
  const known = made.get(`${length} ${seed}`);
  if (known !== undefined) return Buffer.from(known);
  const parts: Buffer[] = [];
  for (let n = 0; n * 32 < length; n++) parts.push(createHash("sha256").update(`${seed} ${n}`).digest());
  const bytes = Buffer.concat(parts).subarray(0, length);
  made.set(`${length} ${seed}`, bytes);
  return Buffer.from(bytes);
}
const made = new Map<string, Buffer>();

/** A folder that is gone with `remove`. */
export const temporaryFolder = () => mkdtempSync(join(tmpdir(), "cloche-release-"));
export const remove = (folder: string) => rmSync(folder, { recursive: true, force: true });

interface Fault {
  etag?: string | null;
  /** ends the connection after so many bytes of this answer */
  cutAfter?: number | undefined;
  ignoreRange?: boolean;
  /** bytes per 10 ms */
  slow?: number;
}

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

/** A server on loopback and the folder of the one who fetches from it. */
export class Site {
  requests: { path: string; range?: string; ifRange?: string }[] = [];
  answer: Answer = (_, response) => response.writeHead(500).end();
  /** programs that fetch; killed at the end */
  readonly children: ChildProcess[] = [];
  readonly folder = temporaryFolder();
  readonly #server: Server = createServer((request, response) => {
    const { range, "if-range": ifRange } = request.headers;
    this.requests.push({
      path: request.url ?? "",
      ...(range && { range }),
      ...(typeof ifRange === "string" && { ifRange }),
    });
    this.answer(request, response);
  });

  static async open(): Promise<Site> {
    const site = new Site();
    await new Promise<void>((listening) => site.#server.listen(0, "127.0.0.1", listening));
    return site;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async end(): Promise<void> {
    for (const child of this.children) child.kill("SIGKILL");
    this.#server.closeAllConnections();
    await new Promise((closed) => this.#server.close(closed));
    remove(this.folder);
  }

  /** Names in the folder of downloads. */
  parts(): string[] {
    const downloads = join(this.folder, "downloads");
    return existsSync(downloads) ? readdirSync(downloads).sort() : [];
  }

  /** Answers with one file and does ranges right, but for what `fault` says; asked anew for each request. */
  serve(file: Buffer, fault: () => Fault = () => ({})): void {
    this.answer = (request, response) => {
      const { etag = '"one"', cutAfter, ignoreRange = false, slow } = fault();
      if (etag !== null) response.setHeader("etag", etag);
      const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? -1);
      const fresh = request.headers["if-range"] === undefined || request.headers["if-range"] === etag;
      const partial = from >= 0 && fresh && !ignoreRange;
      const body = partial ? file.subarray(from) : file;
      response.writeHead(partial ? 206 : 200, {
        "content-length": body.length,
        ...(partial && { "content-range": `bytes ${from}-${file.length - 1}/${file.length}` }),
      });
      if (cutAfter !== undefined && cutAfter < body.length) {
        response.flushHeaders();
        response.write(body.subarray(0, cutAfter));
        this.#cutWhenKept(response, (partial ? from : 0) + cutAfter);
      } else if (slow) {
        let at = 0;
        const timer = setInterval(() => {
          if (at >= body.length || response.destroyed) {
            clearInterval(timer);
            response.end();
          } else {
            response.write(body.subarray(at, at + slow));
            at += slow;
          }
        }, 10);
      } else response.end(body);
    };
  }

  /** Cuts when the client has all that was sent on its disk: of what is under way at a cut, a part may be lost. */
  #cutWhenKept(response: ServerResponse, sizeBytes: number): void {
    const kept = this.parts().find((name) => name.endsWith(".part"));
    if (response.destroyed || (kept && statSync(join(this.folder, "downloads", kept)).size === sizeBytes)) response.destroy();
    else setTimeout(() => this.#cutWhenKept(response, sizeBytes), 2);
  }
}

/** The code and evidence of the problem that a promise ends with, or "accepted". */
export async function code(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    const { code: got, next, evidence } = error as { code?: string; next?: string[]; evidence?: string };
    if (!got?.startsWith("build.")) throw error;
    expect(next?.length).toBeGreaterThan(0);
    return `${got} ${evidence ?? ""}`;
  }
  return "accepted";
}

export interface Manifest {
  id: string;
  arch: string;
  [field: string]: unknown;
}

/** An image in small: its files are noise, its manifest is as true as a real one. */
export function makeImage(at: string, edit: (manifest: Record<string, unknown>) => void = () => undefined): Manifest {
  mkdirSync(at, { recursive: true });
  const file = (name: string, bytes: Buffer) => {
    writeFileSync(join(at, name), bytes);
    return { file: name, sizeBytes: bytes.length, sha256: sha256(bytes) };
  };
  const content: Record<string, unknown> = {
    version: 1,
    arch: arch.image,
    release: true,
    kernel: { ...file("vmlinux", Buffer.alloc(200_000, "kernel")), version: "6.12" },
    initramfs: file("initramfs.cpio", noise(30_000, "initramfs")),
    layers: [{ name: "base", ...file("base.erofs", noise(400_001, "layer")), verity: {} }],
    diskTemplate: { ...file("disk-16g.extents", Buffer.alloc(100_000)), diskSizeBytes: 1 << 20 },
    agentSha256: "a".repeat(64),
    guest: { os: "Debian", packages: 1 },
  };
  edit(content);
  const manifest = { ...content, id: sha256(canonical(content)) } as unknown as Manifest;
  writeFileSync(join(at, "manifest.json"), JSON.stringify(manifest));
  writeFileSync(join(at, "packages.txt"), "bash 5\n");
  return manifest;
}
