import { mkdtempSync, rmSync } from "node:fs";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { readFirstLine } from "./first-line.ts";
import { proveAsClient, proveAsServer } from "./proof.ts";

const token = crypto.randomUUID();
let directory: string;
let server: Server;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "proof-"));
});
afterEach(() => {
  server.close();
  rmSync(directory, { recursive: true });
});

/** A listening side with `serverToken`, and everything that it was sent before it accepted. */
async function meet(serverToken: string): Promise<{ client: Socket; accepted: Promise<Socket> }> {
  const path = join(directory, "s");
  let settle: (socket: Promise<Socket>) => void = () => {};
  const accepted = new Promise<Socket>((resolve) => {
    settle = resolve;
  });
  accepted.catch(() => {});
  server = createServer((socket) => {
    socket.on("error", () => {});
    settle(
      proveAsServer(socket, serverToken).then(
        () => socket,
        (error) => {
          socket.destroy();
          throw error;
        },
      ),
    );
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const client = createConnection(path);
  client.on("error", () => {});
  return { client, accepted };
}

describe("both sides of a keeper socket prove the token before any other byte", () => {
  it("two holders of the token meet, and bytes sent at once arrive whole", async () => {
    const { client, accepted } = await meet(token);
    await proveAsClient(client, token);
    client.write("hello\nrest");
    const socket = await accepted;
    expect(await readFirstLine(socket, { maxBytes: 64, deadlineMs: 1000 })).toBe("hello");
    const [rest] = await Promise.all([new Promise((resolve) => socket.once("data", (bytes) => resolve(bytes.toString())))]);
    expect(rest).toBe("rest");
    client.destroy();
  });

  it("a listener without the token gets nothing more than a nonce", async () => {
    const { client, accepted } = await meet("another");
    await expect(proveAsClient(client, token)).rejects.toThrow("does not hold the token");
    client.destroy();
    await expect(accepted).rejects.toThrow();
  });

  it("a caller without the token is refused", async () => {
    const { client, accepted } = await meet(token);
    client.write(`cloche1 ${"a".repeat(64)}\n`);
    const answer = await readFirstLine(client, { maxBytes: 160, deadlineMs: 1000 });
    // the server's own proof sent back is not the client's
    client.write(`${answer.split(" ")[1]}\n`);
    await expect(accepted).rejects.toThrow("does not hold the token");
  });

  it.each([["GET / HTTP/1.1\n"], [`${"x".repeat(200)}\n`], ["cloche1 short\n"]])("another protocol is refused: %j", async (bytes) => {
    const { client, accepted } = await meet(token);
    client.write(bytes);
    await expect(accepted).rejects.toThrow("was not accepted");
    client.destroy();
  });
});
