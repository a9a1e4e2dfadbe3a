/**
 * A share server without a folder, for unit tests of core: it speaks the real protocol over its pipes, keeps its changes as a list in
 * its layer (`layer.log`, JSON), and refuses a layer that another process holds. Nothing is confined, served or written to a folder.
 *
 * Core runs it as a program by the script that `shareServerDouble` writes. What it tells unasked stands in the layer, too.
 */
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { argv, execPath, pid, stderr, stdin, stdout } from "node:process";
import type { z } from "zod";
import { FAILED, type Handlers, RpcError, RpcPeer } from "../../app/contract/index.ts";
import { lineTransport } from "../../app/contract/node/index.ts";
import { SHARE_PROTOCOL, type ShareChange, share } from "../../helpers/contract/protocol.ts";

type Notices = (typeof share)["notifications"];
/** What a layer of the double's holds. */
export interface DoubleLayer {
  paths: string[];
  /** sent when the folder is served */
  activity?: z.input<Notices["activity"]>["entries"];
  room?: z.input<Notices["room"]>;
  /** sent when the user has refused, and then each time the folder is served */
  roomRefused?: z.input<Notices["roomRefused"]>;
}

/** Writes a program that core can run; answers with its path. What Node has compiled once is kept: a start takes half the time. */
export function shareServerDouble(directory: string): string {
  const file = join(directory, "share-server");
  const compiled = join(import.meta.dirname, "../../node_modules/.cache/doubles");
  writeFileSync(file, `#!/bin/sh\nNODE_COMPILE_CACHE='${compiled}' exec '${execPath}' '${import.meta.filename}'\n`, { mode: 0o755 });
  return file;
}

const base64 = (text: string) => Buffer.from(text).toString("base64");
const refused = (code: string, message: string) => new RpcError(FAILED, message, { code });

function main(): void {
  let layer: string | undefined;
  let store: string | undefined;
  let mode = "";
  const log = () => join(layer ?? "", "layer.log");
  const read = (): DoubleLayer => (layer && existsSync(log()) ? (JSON.parse(readFileSync(log(), "utf8")) as DoubleLayer) : { paths: [] });
  const write = (content: DoubleLayer) => writeFileSync(log(), JSON.stringify(content));
  const change = (path: string, at: number): ShareChange => ({
    id: path,
    path: base64(path),
    kind: "modified",
    type: "file",
    sizeBytes: 1,
    binary: false,
    executable: false,
    protected: path.startsWith(".git/"),
    flags: [],
    seq: at,
    token: `token of ${path}`,
  });
  const kept = () => {
    if (layer === undefined) throw refused("protocol.order", "no layer");
  };
  type What = { all: true; revision: number } | { changes: { id: string; token: string }[] };
  /** Takes changes out of the layer, two at a time, so that the caller has to go on. */
  let rest: string[] = [];
  const slice = (params: { what: What } | { batch: string }) => {
    kept();
    const content = read();
    if ("what" in params) rest = "all" in params.what ? content.paths : params.what.changes.map(({ id }) => id);
    const now = rest.slice(0, 2);
    rest = rest.slice(2);
    const done = now.filter((path) => content.paths.includes(path));
    write({ ...content, paths: content.paths.filter((path) => !done.includes(path)) });
    const lost = now.filter((path) => !done.includes(path));
    const refusals = lost.map((path) => ({ path: base64(path), code: "share.change-unknown", message: "It is not there." }));
    return { batch: "batch", refused: refusals, remaining: rest.length, done };
  };
  const handlers: Handlers<typeof share> = {
    hello: async () => ({ protocol: SHARE_PROTOCOL, name: "double", version: "0" }),
    identify: async ({ root }) => ({ identity: identityOf(root), filesystem: "double", readOnly: false }),
    serve: async (params) => {
      mode = params.mode;
      const identity = identityOf(params.root);
      if (params.identity && params.identity.file !== identity.file) throw refused("share.identity", "another folder");
      if (params.mode !== "ro") {
        const held = join(params.layer, "held");
        if (existsSync(held)) throw refused("share.layer", `process ${readFileSync(held, "utf8")} holds the layer`);
        writeFileSync(held, String(pid));
        layer = params.layer;
        store = params.store;
      }
      const { activity, room, roomRefused } = read();
      setImmediate(() => {
        if (params.listen === undefined) return;
        if (activity) peer.notify("activity", { batch: 1, entries: activity });
        if (room) peer.notify("room", room);
        else if (roomRefused) peer.notify("roomRefused", roomRefused);
      });
      return { identity, confinement: [{ name: mode, active: true, reason: "" }], localFolders: [] };
    },
    stats: async () => ({ connections: 0, fids: 0, requests: 0, bytesRead: 0, bytesWritten: 0 }),
    changes: async ({ limit }) => {
      kept();
      const { paths } = read();
      return { revision: paths.length, changes: paths.slice(0, limit).map(change), total: paths.length };
    },
    diff: async () => {
      throw refused("share.change-moved-on", "it went on");
    },
    apply: async (params) => {
      const { done, ...how } = slice(params);
      return { ...how, applied: done };
    },
    discard: async (params) => {
      const { done, ...how } = slice(params);
      return { ...how, discarded: done };
    },
    applies: async () => ({ applies: [], more: false }),
    undo: async () => {
      throw refused("share.not-undoable", "nothing");
    },
    history: async ({ path }) => {
      const version = { path, number: 1, timeMs: 1, reason: "overwritten" as const, sizeBytes: 1, mode: 0o644, mtimeNs: "1", whole: true };
      return { versions: store === undefined ? [] : [{ ...version, writer: "0123456789abcdef-89abcdef" }] };
    },
    restore: async () => ({ batch: "batch", refused: [], remaining: 0, restored: 1 }),
    secrets: async () => ({ paths: [base64(".env"), base64("keys/id_rsa\n")], more: false }),
    recorded: async () => ({}),
    room: async ({ answer }) => {
      const { roomRefused } = read();
      if (answer === "refuse" && roomRefused) peer.notify("roomRefused", roomRefused);
      return {};
    },
  };
  const peer = new RpcPeer({
    transport: lineTransport(stdin, stdout, () => {
      if (layer !== undefined) rmSync(join(layer, "held"), { force: true });
      process.exit(0);
    }),
    remote: { requests: {}, notifications: {} },
    local: {
      protocol: share,
      handlers,
      toError: (error) => {
        stderr.write(`${String(error)}\n`);
        return new RpcError(FAILED, "the double broke", { code: "share.native" });
      },
    },
  });
}

function identityOf(root: string): { volume: string; file: string } {
  const { dev, ino } = statSync(Buffer.from(root, "base64"), { bigint: true });
  return { volume: String(dev), file: String(ino) };
}

if (argv[1] === import.meta.filename) main();
