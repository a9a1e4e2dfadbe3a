import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { createConnection, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { NoAnswer } from "../../contract/node/index.ts";
import { dialGuest, FirstConnection } from "./streams.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "cloche-streams-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** How a connection to the socket ends: taken over and answered, closed, or never made. */
async function call(path: string): Promise<string> {
  const socket = createConnection(path);
  let said = "";
  socket.on("data", (chunk) => {
    said += chunk;
  });
  const failed = new Promise<string>((resolve) => socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? "error")));
  const closed = new Promise<string>((resolve) => socket.once("close", () => resolve(said === "" ? "closed" : said)));
  return Promise.race([failed, closed]);
}

describe("G04: the port that a machine's agent calls", () => {
  it("takes the first caller and then is no port any more: who comes later, or comes along, is nobody", async () => {
    const path = join(directory, "v_5000");
    const control = await FirstConnection.listen(path);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const callers = Array.from({ length: 20 }, () => call(path));
    const agent = await control.connection;
    agent.end("you are the agent\n");
    const ends = await Promise.all(callers);
    expect(ends.filter((end) => end === "you are the agent\n")).toHaveLength(1);
    expect(
      ends.filter((end) => end !== "you are the agent\n").every((end) => /^(closed|ECONNREFUSED|ECONNRESET|ENOENT|EPIPE)$/.test(end)),
    ).toBe(true);
    expect(existsSync(path)).toBe(false);
    expect(await call(path)).toBe("ENOENT");
  });
});

describe("a stream into a guest", () => {
  const transport = async (answer: (socket: Socket) => void) => {
    const path = join(directory, "v");
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", () => answer(socket));
    });
    server.listen(path);
    await once(server, "listening");
    return { path, close: () => server.close() };
  };

  it("begins after the transport's answer, and no byte behind that is lost", async () => {
    const { path, close } = await transport((socket) => socket.write("OK 7\nhello"));
    const stream = await dialGuest(path, 22);
    expect(String((await once(stream.resume(), "data"))[0])).toBe("hello");
    stream.destroy();
    close();
  });

  it("that is answered too late is ended then and not before, and no more are asked for than can be waited for", async () => {
    const asked: Socket[] = [];
    const { path, close } = await transport((socket) => asked.push(socket));
    await Promise.all(Array.from({ length: 16 }, () => expect(dialGuest(path, 22, 100)).rejects.toBeInstanceOf(NoAnswer)));
    await expect(dialGuest(path, 22, 100)).rejects.toThrow("the last 16");
    expect(asked).toHaveLength(16);
    expect(
      asked.some((socket) => socket.readableEnded || socket.destroyed),
      "none is lost before it is answered",
    ).toBe(false);
    const closed = asked.map((socket) => once(socket.resume(), "close"));
    for (const socket of asked) socket.write("OK 7\n");
    await Promise.all(closed);
    const next = dialGuest(path, 22);
    await expect.poll(() => asked.length).toBe(17);
    asked[16]?.write("OK 8\n");
    (await next).destroy();
    close();
  });

  it.each([
    ["another word", "NO 7\n"],
    ["a line without an end", "O".repeat(100_000)],
    ["more than the answer in its line", "OK 7 and more\n"],
  ])("G05: is none when the answer is %s", async (_, answer) => {
    const { path, close } = await transport((socket) => socket.write(answer));
    await expect(dialGuest(path, 22)).rejects.toThrow();
    close();
  });
});
