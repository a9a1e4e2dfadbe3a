/** Commands against an ssh server that answers as fast as it can: the keeper must not miss how they ended. */
import { once } from "node:events";
import { createConnection, createServer, Socket } from "node:net";
import ssh2 from "ssh2";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Frame, FrameDecoder } from "../../contract/index.ts";
import { makeKeys, SshConnection } from "../guest/index.ts";
import { runExec, sendProblem } from "./exec.ts";
import type { OutputLog } from "./output.ts";

const keys = await makeKeys();
const server = new ssh2.Server({ hostKeys: [keys.hostPrivate] }, (client) => {
  client.on("authentication", (context) => context.accept());
  client.on("session", (accept) => {
    accept().on("subsystem", (acceptCommand, _reject, { name }) => {
      const { argv } = JSON.parse(name.slice("command@cloche ".length)) as { argv: string[] };
      const command = Buffer.from(argv[0] ?? "", "base64").toString();
      if (command === "unanswered") return;
      if (command === "hung") return void acceptCommand();
      // answer, status and close leave in one write, as from a short command behind a slow stream
      const socket = (client as unknown as { _sock: Socket })._sock;
      socket.cork();
      const channel = acceptCommand();
      if (command.includes("broken")) return void socket.destroy();
      if (command.includes("killed")) channel.exit("KILL", false, "");
      else channel.exit(3);
      channel.end();
      setTimeout(() => socket.uncork(), 20);
    });
  });
});
const connected = () => SshConnection.connect(createConnection((server.address() as { port: number }).port, "127.0.0.1"), keys, "you");
let ssh: SshConnection;

beforeAll(async () => {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  ssh = await connected();
});
afterAll(() => {
  ssh.end();
  server.close();
});
const ask = (word: string) => ({
  argv: [Buffer.from(word)],
  workingDirectory: "/",
  makeWorkingDirectory: false,
  env: {},
  terminal: undefined,
  timeoutMs: undefined,
});
/** A client's stream, as the client and as the keeper have it. */
async function stream(): Promise<{ user: Socket; client: Socket }> {
  const listener = createServer({ pauseOnConnect: true });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const user = createConnection((listener.address() as { port: number }).port, "127.0.0.1");
  const [client] = (await once(listener, "connection")) as [Socket];
  listener.close();
  return { user, client };
}
const output = { append() {} } as unknown as OutputLog;

test.each([
  ["fast", { status: 3 }],
  ["killed", { status: 137, signal: "KILL" }],
])("how a %s command ended is told, though it ended before anybody listened", async (word, expected) => {
  const { user, client } = await stream();
  const frames: number[] = [];
  const decoder = new FrameDecoder();
  user.on("data", (chunk: Buffer) => {
    for (const { type } of decoder.push(chunk)) frames.push(type);
  });
  await expect(runExec(ssh, ask(word), client, output)).resolves.toEqual(expected);
  await once(user, "close");
  expect(frames).toEqual([Frame.exit]);
});

test("a guest whose service breaks off is told of as that, and not as a mistake of ours", async () => {
  const other = await connected();
  const client = new Socket();
  await expect(runExec(other, ask("broken"), client, output)).rejects.toMatchObject({ problem: { code: "guest.ssh" } });
  client.destroy();
  other.end();
});

test.each([
  ["is not answered by its guest", "unanswered", { status: 143, signal: "TERM" }, 300],
  ["began, and whose guest hears no signal", "hung", { status: 137, signal: "KILL" }, 4_300],
])(
  "a command that %s ends with its time all the same",
  async (_, word, expected, afterMs) => {
    const { user, client } = await stream();
    const frames: number[] = [];
    const decoder = new FrameDecoder();
    user.on("data", (chunk: Buffer) => {
      for (const { type } of decoder.push(chunk)) frames.push(type);
    });
    const began = performance.now();
    await expect(runExec(ssh, { ...ask(word), timeoutMs: 300 }, client, output)).resolves.toEqual(expected);
    expect(performance.now() - began).toBeGreaterThan(afterMs - 10);
    expect(performance.now() - began).toBeLessThan(afterMs + 3_000);
    await once(user, "close");
    expect(frames).toEqual([Frame.exit]);
    if (!client.destroyed) await once(client, "close");
  },
  15_000,
);

test("a command whose time is up, or whose client is gone, before there is a connection to its guest, does not wait for one", async () => {
  for (const [timeoutMs, expected] of [
    [100, { status: 143, signal: "TERM" }],
    [undefined, { status: 129, signal: "HUP" }],
  ] as const) {
    const { client, user } = await stream();
    const closed = once(user.resume(), "close");
    const connection = Promise.withResolvers<SshConnection>();
    const result = runExec(connection.promise, { ...ask("fast"), timeoutMs }, client, output);
    if (timeoutMs === undefined) client.destroy();
    await expect(result).resolves.toEqual(expected);
    connection.reject(new Error("late, and nobody's any more"));
    await closed;
  }
});

test("a time limit of a month ends no command that takes a moment", async () => {
  const { client, user } = await stream();
  const closed = once(user.resume(), "close");
  // a timer that takes the month for nothing goes off before there is a connection
  const connection = new Promise<SshConnection>((resolve) => setTimeout(() => resolve(ssh), 20));
  await expect(runExec(connection, { ...ask("fast"), timeoutMs: 30 * 86_400_000 }, client, output)).resolves.toEqual({ status: 3 });
  await closed;
});

test("a client that is refused before its command began is gone when it goes, whatever it had sent", async () => {
  const { user, client } = await stream();
  user.write("input that no command takes");
  sendProblem(client, { code: "guest.ssh", message: "Refused.", next: [] });
  await once(user.resume(), "end");
  user.destroy();
  await once(client, "close");
});
