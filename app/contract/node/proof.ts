/**
 * Both sides of a keeper socket prove that they hold the token before any other byte:
 *
 *   client → `cloche1 <client nonce>`
 *   server → `<server nonce> <HMAC-SHA256(token, "server" nonces)>`
 *   client → `<HMAC-SHA256(token, "client" nonces)>`
 *
 * Lines end with `\n`, all values are 64 hex digits. Node offers no peer credentials, so the token, readable by its owner only, is
 * what tells this user's programs from another's. Nonces keep a recorded proof from being of use; the labels keep it from being mirrored.
 */
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import type { Socket } from "node:net";
import { ProblemError } from "../problem.ts";
import { readFirstLine } from "./first-line.ts";

const HEX64 = /^[0-9a-f]{64}$/;
/** Longest line of the proof: 64 + 1 + 64. */
const MAX_PROOF_LINE_BYTES = 160;
const PROOF_DEADLINE_MS = 5_000;

function proof(token: string, side: "client" | "server", clientNonce: string, serverNonce: string): string {
  return createHmac("sha256", token).update(`${side} ${clientNonce} ${serverNonce}`).digest("hex");
}

const same = (a: string, b: string) => HEX64.test(a) && HEX64.test(b) && timingSafeEqual(Buffer.from(a), Buffer.from(b));

const refused = (what: string) =>
  new ProblemError({
    code: "keeper.refused",
    message: `The other side of the keeper's socket was not accepted: ${what}. Nothing was sent to it.`,
    next: ["Check who owns the runtime directory that `cloche doctor` names; it must be private to you."],
  });

async function readProofLine(socket: Socket): Promise<string> {
  try {
    return await readFirstLine(socket, { maxBytes: MAX_PROOF_LINE_BYTES, deadlineMs: PROOF_DEADLINE_MS });
  } catch (error) {
    throw refused((error as Error).message);
  }
}

/** The connecting side. Throws keeper.refused when the listener does not hold the token. */
export async function proveAsClient(socket: Socket, token: string): Promise<void> {
  const clientNonce = randomBytes(32).toString("hex");
  socket.write(`cloche1 ${clientNonce}\n`);
  const [serverNonce = "", theirs = ""] = (await readProofLine(socket)).split(" ");
  if (!same(theirs, proof(token, "server", clientNonce, serverNonce))) throw refused("it does not hold the token");
  socket.write(`${proof(token, "client", clientNonce, serverNonce)}\n`);
}

/** The listening side. Throws when the caller does not hold the token. */
export async function proveAsServer(socket: Socket, token: string): Promise<void> {
  const [word, clientNonce = ""] = (await readProofLine(socket)).split(" ");
  if (word !== "cloche1" || !HEX64.test(clientNonce)) throw refused("it speaks something else");
  const serverNonce = randomBytes(32).toString("hex");
  socket.write(`${serverNonce} ${proof(token, "server", clientNonce, serverNonce)}\n`);
  if (!same(await readProofLine(socket), proof(token, "client", clientNonce, serverNonce))) throw refused("it does not hold the token");
}
