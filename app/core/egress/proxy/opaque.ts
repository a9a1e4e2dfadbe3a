/** Connections that are passed on unread: by a rule that says so in its own words, and never with a key. */
import type { Duplex } from "node:stream";
import type { EgressRequest } from "../../../contract/index.ts";
import { Left } from "./gate.ts";
import { end, Quiet, type Task, targetOf } from "./http.ts";
import { pump } from "./pump.ts";

export const opaqueRequest = (named: { host: string; port: number }): EgressRequest => ({
  scheme: "opaque",
  ...named,
  method: "",
  path: "",
  upgrade: false,
});

/** Passes the connection on where a rule allows it; tells whether one did. The stream is over afterwards. Never rejects. */
export async function passOn(task: Task, named: { host: string; port: number }, guest: Duplex): Promise<boolean> {
  const request = opaqueRequest(named);
  if (task.gate.decide(request).decision !== "allow") return false;
  const control = new AbortController();
  const left = () => control.abort(new Left());
  guest.once("close", left);
  const live = task.gate.open(request, control);
  if ("decision" in live) return false;
  try {
    await task.gate.record(live);
    const origin = await task.upstream.connect(targetOf(live), control.signal);
    if (origin.remoteAddress !== undefined) live.address = origin.remoteAddress;
    const quiet = new Quiet(() => control.abort(new Left()));
    const cut = () => {
      origin.destroy();
      guest.destroy();
    };
    control.signal.addEventListener("abort", cut, { once: true });
    const count = (sent: number, received: number) => {
      quiet.stir();
      task.gate.count(live, sent, received);
    };
    try {
      const up = pump(guest, origin, { count: (bytes) => count(bytes, 0) }).then(() => origin.end());
      const down = pump(origin, guest, { count: (bytes) => count(0, bytes) }).then(() => guest.end());
      await Promise.all([up, down]);
    } finally {
      quiet.end();
      origin.destroy();
    }
    task.gate.close(live);
  } catch (error) {
    end(task, live, control.signal.aborted ? control.signal.reason : error);
  } finally {
    guest.destroy();
  }
  return true;
}
