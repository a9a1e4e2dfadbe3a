/** Connections that are passed on unread: by a rule that says so in its own words, and never with a key. */
import type { Duplex } from "node:stream";
import type { EgressRequest } from "../../../contract/index.ts";
import { Left } from "./gate.ts";
import { end, type Task, targetOf } from "./http.ts";
import { tunnel } from "./pump.ts";

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
    guest.off("close", left); // from here on that is how a tunnel ends
    const cut = () => {
      origin.destroy();
      guest.destroy();
    };
    control.signal.addEventListener("abort", cut, { once: true });
    if (control.signal.aborted) cut();
    const { gate } = task;
    await tunnel(guest, origin, { count: (bytes) => gate.count(live, bytes, 0) }, { count: (bytes) => gate.count(live, 0, bytes) });
    if (control.signal.aborted) throw control.signal.reason;
    gate.close(live);
  } catch (error) {
    end(task, live, control.signal.aborted ? control.signal.reason : error);
  } finally {
    guest.destroy();
  }
  return true;
}
