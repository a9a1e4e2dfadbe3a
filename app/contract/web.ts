/**
 * What a page may ask of the web host that served it: part of the keeper's contract, and `web.pickFolder`.
 *
 * The list below is the whole of it and grows with what the page can do. Never to be in it: `grants.create` (a page can never
 * name a host path), `tasks.ssh` (it hands out a private key) and `keeper.end`. Grants come only from a dialog that the web host opens.
 *
 * A page shows text that guests chose, so it has to be thought of as one that a guest might speak through. It decides about hosts
 * on the internet, as that is what it is for; what would reach further is the command line's alone, and the schemas below refuse it:
 * a key whose value a file, a variable or a command of this computer holds, a rule for addresses of the user's own network,
 * a rule that lets keys of the guest's own pass. It can set a key and never read one: no method gives a value back.
 *
 * `/rpc` carries one JSON-RPC line per WebSocket text message. `/stream/<ticket>` carries one frame per binary message; a page
 * cannot stop reading a WebSocket, so both sides acknowledge with text messages (`ackMessage`) what they have taken, and neither
 * sends while more than STREAM_WINDOW_BYTES are unacknowledged. Each direction counts for itself: input that the guest does not
 * take never holds up its output.
 */
import { z } from "zod";
import { asProblem } from "./client.ts";
import { type RuleDraft, ruleDraft, secretSource } from "./egress.ts";
import { keeperProtocol } from "./methods.ts";
import { ProblemError } from "./problem.ts";
import { type LineTransport, method, RpcPeer } from "./rpc.ts";
import { CONTRACT_VERSION } from "./version.ts";

const keeper = keeperProtocol.requests;

/** Whether a page may make the rule. */
const isPagesOwn = (rule: RuleDraft) => rule.private === undefined && rule.credentials === undefined;
const pageRule = z.lazy(() =>
  ruleDraft.refine(isPagesOwn, "rules for private addresses, and for keys of the guest's own, are made with the command line"),
);
const pageSource = z.lazy(() =>
  secretSource.refine(
    ({ kind }) => kind === "keychain" || kind === "memory",
    "a key that a file, a variable or a command holds is added with the command line",
  ),
);

/** The keeper's methods that a page may call, through the web host: those the page uses and no other. */
export const pageKeeperRequests = {
  "tasks.create": method(() => ({
    params: keeper["tasks.create"].params.refine(
      ({ network, trust }) => trust === undefined && (network?.rules.every(isPagesOwn) ?? true),
      "rules for private addresses, for keys of the guest's own, and authorities to trust are given with the command line",
    ),
    result: keeper["tasks.create"].result,
  })),
  "tasks.list": keeper["tasks.list"],
  "tasks.start": keeper["tasks.start"],
  "tasks.stop": keeper["tasks.stop"],
  "tasks.exec": keeper["tasks.exec"],
  "events.read": keeper["events.read"],
  "folders.set": keeper["folders.set"],
  "folders.room": keeper["folders.room"],
  "changes.list": keeper["changes.list"],
  "changes.diff": keeper["changes.diff"],
  "changes.apply": keeper["changes.apply"],
  "changes.discard": keeper["changes.discard"],
  "changes.applies": keeper["changes.applies"],
  "changes.undo": keeper["changes.undo"],
  "policy.show": keeper["policy.show"],
  "policy.add": method(() => ({
    params: keeper["policy.add"].params.extend({ rule: pageRule }),
    result: keeper["policy.add"].result,
  })),
  "policy.remove": keeper["policy.remove"],
  "policy.setPresets": keeper["policy.setPresets"],
  "policy.test": keeper["policy.test"],
  "asks.list": keeper["asks.list"],
  "asks.answer": method(() => ({
    params: keeper["asks.answer"].params.extend({ rule: pageRule }),
    result: keeper["asks.answer"].result,
  })),
  "asks.watch": keeper["asks.watch"],
  "secrets.list": keeper["secrets.list"],
  "secrets.add": method(() => ({
    params: keeper["secrets.add"].params.extend({ source: pageSource }),
    result: keeper["secrets.add"].result,
  })),
  "secrets.remove": keeper["secrets.remove"],
  "secrets.attach": keeper["secrets.attach"],
  "secrets.detach": keeper["secrets.detach"],
} as const;

export const webProtocol = {
  requests: {
    ...pageKeeperRequests,
    "web.hello": method(() => ({
      params: z.strictObject({ contract: z.int().min(1) }),
      result: z.strictObject({ contract: z.int().min(1) }),
    })),
    /** Opens the system's folder dialog on the host and waits for the person in front of it. */
    "web.pickFolder": method(() => ({
      params: z.strictObject({}),
      result: z.union([keeper["grants.create"].result, z.strictObject({ cancelled: z.literal(true) })]),
    })),
  },
  notifications: {},
} as const;

export type WebRequests = (typeof webProtocol)["requests"];
export type WebMethod = keyof WebRequests;
export type WebParams<M extends WebMethod> = z.input<WebRequests[M]["params"]>;
export type WebResult<M extends WebMethod> = z.output<WebRequests[M]["result"]>;

export interface WebClient {
  call<M extends WebMethod>(method: M, params: WebParams<M>): Promise<WebResult<M>>;
  close(): void;
  /** resolves when the connection has ended */
  readonly closed: Promise<string>;
}

/** The page's end of `/rpc`. */
export async function connectWebClient(transport: LineTransport): Promise<WebClient> {
  let ended: (reason: string) => void = () => {};
  const closed = new Promise<string>((resolve) => {
    ended = resolve;
  });
  const peer = new RpcPeer({ transport, remote: webProtocol, onClose: (reason) => ended(reason) });
  const client: WebClient = {
    closed,
    close: () => peer.close(),
    async call<M extends WebMethod>(method: M, params: WebParams<M>): Promise<WebResult<M>> {
      try {
        return (await peer.call(method, params as never)) as WebResult<M>;
      } catch (error) {
        throw new ProblemError(asProblem(error));
      }
    },
  };
  const { contract } = await client.call("web.hello", { contract: CONTRACT_VERSION });
  if (contract === CONTRACT_VERSION) return client;
  client.close();
  throw new ProblemError({
    code: "contract.version",
    message: `This page speaks contract version ${CONTRACT_VERSION}, the program that served it version ${contract}.`,
    next: ["Reload the page."],
  });
}

/** What a page sends to `/session` to trade the one-time token, and what it gets besides the cookie. */
export const sessionRequest = z.strictObject({ token: z.string().regex(/^[0-9a-f]{64}$/) });
/** What it sends to `/session/check` after a reload: 204 when cookie and key still fit, 403 when not. */
export const sessionCheck = z.strictObject({ key: z.string().regex(/^[0-9a-f]{64}$/) });
export const sessionResult = z.strictObject({ key: z.string().regex(/^[0-9a-f]{64}$/) });

/** WebSocket subprotocol, offered together with `key.<session key>`. */
export const WEB_SUBPROTOCOL = "cloche1";
export const keySubprotocol = (key: string) => `key.${key}`;

/** Payload bytes of a stream that may be under way in one direction and not yet acknowledged. A page that sends more is cut off. */
export const STREAM_WINDOW_BYTES = 524_288;
/** A text message on a stream: payload bytes that this side has taken since its last one. */
export const ackMessage = (bytes: number) => `ack ${bytes}`;
const ACK = /^ack ([0-9]{1,7})$/;
/** The bytes an acknowledgement names; undefined when it is none. */
export const parseAck = (text: string): number | undefined => {
  const found = ACK.exec(text);
  return found ? Number(found[1]) : undefined;
};

/** Why a web host ends a page's WebSocket. */
export const WebClose = {
  /** the keeper ended; connect again and it starts anew */
  keeperLost: 4001,
  /** a message that is not of the contract */
  protocol: 4002,
  /** too many connections */
  busy: 4003,
} as const;
