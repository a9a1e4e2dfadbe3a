/** An ssh client on a task's machine, for what goes beside commands: copies and forwards. */
import ssh2, { type Client as SshClient } from "ssh2";
import { ProblemError, type SshPurpose, toProblem } from "../contract/index.ts";
import { openStream } from "../contract/node/index.ts";
import type { Session } from "./session.ts";

/** Connects with the machine's key and accepts no other host key than the machine's. */
export async function connectGuest(session: Session, task: string, purpose: SshPurpose): Promise<SshClient> {
  const { ticket, user, privateKey, hostKey } = await (await session.keeper()).call("tasks.ssh", { task, purpose });
  const sock = await openStream(ticket);
  const client = new ssh2.Client();
  client.on("error", () => {}); // what goes over it fails by itself; one that nobody hears would end the command
  const expected = Buffer.from(hostKey.split(" ")[1] ?? "", "base64");
  try {
    await new Promise<void>((resolve, reject) => {
      client.once("ready", resolve).once("error", reject);
      client.once("close", () => reject(new Error("the guest closed the connection")));
      client.connect({
        sock,
        username: user,
        privateKey,
        hostVerifier: (key: Buffer) => key.equals(expected),
        // the guest's faster cipher under emulation, twice as fast as what ssh2 would choose
        algorithms: { cipher: ["chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com"] },
        readyTimeout: 30_000,
      });
    });
  } catch (error) {
    client.destroy();
    // the keeper knows more of it: a guest that answers nothing at all, a machine that is gone
    const why = await (await session.keeper()).call("tasks.stats", { task }).then(() => undefined, toProblem);
    if (why) throw new ProblemError({ ...why, message: `${why.message} Nothing was done.` });
    throw new ProblemError({
      code: "guest.ssh",
      message: "The guest's ssh service did not accept the connection, so nothing was done.",
      evidence: error instanceof Error ? error.message : String(error),
      next: ["Look at `cloche logs TASK --console`."],
    });
  }
  return client;
}
