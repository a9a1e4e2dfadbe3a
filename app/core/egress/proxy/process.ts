/** The proxy process: told what holds by its keeper over stdin and stdout, given the guest's streams over its IPC channel. */
import type { Socket } from "node:net";
import { stderr, stdin, stdout } from "node:process";
import { FAILED, type Handlers, RpcError, RpcPeer } from "../../../contract/index.ts";
import { lineTransport } from "../../../contract/node/index.ts";
import { forgetScrubbed, HoldingRoom, storable } from "../credentials/index.ts";
import { Journal } from "../journal.ts";
import { type BoundSecret, keeperNotices, PROXY_PROTOCOL, proxyProtocol } from "../protocol.ts";
import { Leaves } from "./certificates.ts";
import { Gate } from "./gate.ts";
import type { Task } from "./http.ts";
import { Recorder } from "./record.ts";
import { Streams } from "./stream.ts";
import { Upstream } from "./upstream.ts";

/** What there is after `start`. */
interface Started {
  readonly gate: Gate;
  readonly upstream: Upstream;
  readonly recorder: Recorder;
  readonly streams: Streams;
  secrets: readonly BoundSecret[];
  storable: readonly string[];
}

let started: Started | undefined;
/** who started this process; one whose keeper was killed is given another parent */
const keeper = process.ppid;

function running(): Started {
  if (!started) throw new RpcError(FAILED, "not started");
  return started;
}

const handlers: Handlers<typeof proxyProtocol> = {
  hello: async ({ protocol }) => {
    if (protocol !== PROXY_PROTOCOL) throw new RpcError(FAILED, `this proxy speaks protocol ${PROXY_PROTOCOL}, not ${protocol}`);
    return { protocol: PROXY_PROTOCOL };
  },
  start: async ({ task: name, authority, policy, secrets, upstream: proxy, trusted, journal }) => {
    if (started) throw new RpcError(FAILED, "started already");
    const leaves = await Leaves.create(authority);
    const recorder = new Recorder(
      (batch, entries, journaled) => peer.notify("activity", { batch, entries, ...(journaled === undefined ? {} : { journaled }) }),
      journal === undefined ? undefined : new Journal(journal, () => process.ppid !== keeper),
    );
    const gate = new Gate(policy, recorder, {
      asked: (notice) => peer.notify("asked", notice),
      unasked: (notice) => peer.notify("unasked", notice),
      unanswered: (notice) => peer.notify("unanswered", notice),
    });
    gate.proxied = proxy !== undefined;
    const upstream = new Upstream({ trusted, proxy });
    const room = new HoldingRoom();
    const task: Task = {
      name,
      gate,
      upstream,
      room,
      get secrets() {
        return running().secrets;
      },
      get storable() {
        return running().storable;
      },
    };
    started = { gate, upstream, recorder, secrets, storable: storable(secrets), streams: new Streams(task, leaves) };
    return {};
  },
  setPolicy: async ({ policy }) => {
    const { gate, upstream } = running();
    const closed = gate.setPolicy(policy);
    upstream.dropIdle();
    return { closed };
  },
  setSecrets: async ({ secrets }) => {
    const holder = running();
    holder.secrets = secrets;
    holder.storable = [...new Set([...holder.storable, ...storable(secrets)])];
    holder.gate.setSecrets(secrets);
    forgetScrubbed();
    return {};
  },
  release: async ({ ask }) => {
    running().gate.release(ask);
    return {};
  },
  stats: async () => {
    const { streams, gate } = running();
    return { streams: streams.open, requests: streams.requests, pendingAsks: gate.pendingAsks };
  },
};

const peer = new RpcPeer({
  transport: lineTransport(stdin, stdout, () => process.exit(0)),
  remote: keeperNotices,
  notified: { recorded: ({ batch }) => running().recorder.recorded(batch) },
  local: {
    protocol: proxyProtocol,
    handlers,
    toError: (error) => {
      stderr.write(`proxy: ${String(error)}\n`);
      return new RpcError(FAILED, (error as Error).message);
    },
  },
});

process.on("message", (message: { stream?: unknown }, stream: Socket | undefined) => {
  if (!stream) return;
  if (message.stream !== 1 || !started) stream.destroy();
  else started.streams.take(stream);
});
