/** `cloche forward`: a port of the guest's loopback on this machine's, for as long as the command runs. */
import { createServer, type Socket } from "node:net";
import { parse, usage } from "../args.ts";
import { connectGuest } from "../guest-ssh.ts";
import { note, type Session } from "../session.ts";

/** Connections at once; more wait to be accepted. */
const MAX_CONNECTIONS = 256;

export async function forward(session: Session, args: readonly Buffer[]): Promise<number> {
  const parsed = parse(args, {});
  const [task, ports, ...rest] = parsed.words;
  const match = /^([0-9]{1,5})(?::([0-9]{1,5}))?$/.exec(ports ?? "");
  const guestPort = Number(match?.[1]);
  const hostPort = Number(match?.[2] ?? match?.[1]);
  if (task === undefined || rest.length > 0 || !match || !valid(guestPort) || !valid(hostPort)) {
    throw usage("`cloche forward` takes a task and a port: cloche forward TASK 3000, or 3000:8080 for port 8080 here.");
  }
  const guest = await connectGuest(session, task, "forward");
  const server = createServer((here) => {
    here.on("error", () => here.destroy());
    guest.forwardOut("127.0.0.1", here.remotePort ?? 0, "127.0.0.1", guestPort, (error, there) => {
      if (error) return here.destroy(); // nobody listens in the guest: the connection here is closed, as a refused one would be
      there.on("error", () => here.destroy()).once("close", () => here.destroy());
      here.once("close", () => there.destroy());
      here.pipe(there).pipe(here as Socket);
    });
  });
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    const refusals: Readonly<Record<string, string>> = {
      EADDRINUSE: `Port ${hostPort} of this machine is in use.`,
      EACCES: `Port ${hostPort} of this machine is not yours to open: most systems keep those below 1024 for root.`,
    };
    server.once("error", (error: NodeJS.ErrnoException) => {
      const refusal = refusals[error.code ?? ""];
      reject(refusal === undefined ? error : usage(refusal, `Choose another: cloche forward ${task} ${guestPort}:PORT.`));
    });
    server.listen(hostPort, "127.0.0.1", resolve);
  });
  note(
    `cloche: http://127.0.0.1:${hostPort} leads to port ${guestPort} of ${task} until you press Ctrl-C. Every program of this machine can reach it.`,
  );
  return new Promise((resolve) => {
    const end = (status: number) => {
      server.close();
      guest.destroy();
      resolve(status);
    };
    guest.once("close", () => {
      note("cloche: the task's machine is gone, and the port with it.");
      end(125);
    });
    process.once("SIGINT", () => end(0));
    process.once("SIGTERM", () => end(0));
  });
}

const valid = (port: number) => Number.isInteger(port) && port > 0 && port < 65_536;
