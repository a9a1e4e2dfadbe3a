import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createConnection, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import ssh2, { type ClientChannel, type Connection, type ServerChannel } from "ssh2";
import { describe, expect, it } from "vitest";
import { makeKeyPair, makeKeys, type Patience, SshConnection } from "./ssh.ts";

const readable = ssh2.utils.generateKeyPairSync("ed25519");

it("a private key that cannot be read is made again", () => {
  let calls = 0;
  const pair = makeKeyPair(ssh2.utils, () =>
    ++calls < 4 ? { ...readable, private: readable.private.replace(/\n[A-Za-z0-9+/]{20}/, "\n") } : readable,
  );
  expect(calls).toBe(4);
  expect(pair.private).toBe(readable.private);
});

it("a private key of another public key is made again", () => {
  const other = makeKeyPair(ssh2.utils);
  let calls = 0;
  expect(makeKeyPair(ssh2.utils, () => (++calls < 3 ? { private: readable.private, public: other.public } : readable)).public).toBe(
    readable.public,
  );
});

it("a generator that never makes a readable key is an error", () => {
  expect(() => makeKeyPair(ssh2.utils, () => ({ private: "", public: "" }))).toThrow(/20 tries/);
});

it("every key of a thousand machines is readable", async () => {
  for (let n = 0; n < 500; n++) {
    const keys = await makeKeys();
    for (const key of [keys.hostPrivate, keys.userPrivate]) expect(ssh2.utils.parseKey(key)).not.toBeInstanceOf(Error);
  }
});

describe("G14: a service in the guest that is not what it should be", () => {
  /** The keeper's end of a stream, and what serves the guest's. */
  async function service(serve: (socket: Socket) => void): Promise<Socket> {
    const directory = mkdtempSync(join(tmpdir(), "cloche-ssh-"));
    const server = createServer((socket) => {
      socket.on("error", () => {});
      serve(socket);
    });
    await new Promise<void>((resolve) => server.listen(join(directory, "s"), resolve));
    const socket = createConnection(join(directory, "s"));
    await once(socket, "connect");
    server.close();
    rmSync(directory, { recursive: true });
    return socket;
  }

  /** the keeper's end of the last stream */
  let keeperEnd: Socket | undefined;

  /** One that speaks ssh with the right key, lets the keeper in, and does what `behave` says with each command. */
  async function scripted(behave: (channel: ServerChannel, connection: Connection) => void): Promise<SshConnection> {
    const keys = await makeKeys();
    const sock = await service((socket) => {
      const server = new ssh2.Server({ hostKeys: [keys.hostPrivate] }, (connection) => {
        connection.on("error", () => {});
        connection.on("authentication", (context) => context.accept());
        connection.on("session", (accept) => accept().on("exec", (go) => behave(go(), connection)));
      });
      server.injectSocket(socket);
    });
    keeperEnd = sock;
    return SshConnection.connect(sock, keys, "you");
  }
  /** Writes without an end, as fast as the other side takes it. */
  const endless =
    (chunk: string, first = "") =>
    (socket: Socket) => {
      socket.write(first);
      const more = () => {
        while (!socket.destroyed && socket.write(chunk)) {}
      };
      socket.on("drain", more);
      more();
    };
  const ignored = (connection: Connection) => void connection.on("error", () => {});
  const unread = (channel: ClientChannel) => channel.readableLength + channel.stderr.readableLength;

  it.each<[string, (socket: Socket) => void]>([
    ["its first line has no end", endless("A".repeat(65_536))],
    ["its greeting before that line has none", endless(`${"A".repeat(200)}\r\n`)],
    ["its first packet is of any length", endless("\x7f".repeat(65_536), "SSH-2.0-x\r\n")],
    ["it has another key", (socket) => new ssh2.Server({ hostKeys: [readable.private] }, ignored).injectSocket(socket)],
  ])("is refused, and no longer listened to, when %s", async (_, serve) => {
    const sock = await service(serve);
    await expect(SshConnection.connect(sock, await makeKeys(), "you")).rejects.toMatchObject({ problem: { code: "guest.ssh" } });
    expect(sock.destroyed).toBe(true);
  });

  it("gets no answer to a prompt, and is refused", async () => {
    const keys = await makeKeys();
    let answers = 0;
    const sock = await service((socket) => {
      const server = new ssh2.Server({ hostKeys: [keys.hostPrivate] }, (connection) => {
        connection.on("error", () => {});
        connection.on("authentication", (context) => {
          if (context.method !== "keyboard-interactive") return context.reject(["keyboard-interactive", "password"]);
          answers++;
          context.reject(["keyboard-interactive"]);
        });
      });
      server.injectSocket(socket);
    });
    await expect(SshConnection.connect(sock, keys, "you")).rejects.toMatchObject({ problem: { code: "guest.ssh" } });
    expect(answers).toBe(0);
  });

  it("that sends more than it was given room for is left, and what it made us hold is bounded; on either output", async () => {
    for (const send of ["channelData", "channelExtData"] as const) {
      const connection = await scripted((channel) => {
        const { _client, outgoing } = channel as unknown as Inside;
        const chunk = Buffer.alloc(32_000, "x");
        for (let n = 0; n < 400; n++) _client._protocol[send](outgoing.id, chunk, 1);
      });
      const channel = await connection.exec("true", undefined);
      channel.pause();
      channel.stderr.pause();
      await expect.poll(() => connection.alive, { timeout: 20_000 }).toBe(false);
      expect(unread(channel)).toBeLessThan(9 << 20);
      connection.end();
    }
  }, 40_000);

  it("an honest one is not: it waits for its reader, and then everything arrives (control)", async () => {
    const whole = Buffer.alloc(12 << 20, "y");
    const connection = await scripted((channel) => {
      channel.stderr.write(whole.subarray(0, 4 << 20), () => channel.write(whole, () => channel.end()));
    });
    const channel = await connection.exec("true", undefined);
    let most = 0;
    let received = 0;
    channel.stderr.on("data", (chunk: Buffer) => {
      received += chunk.length;
    });
    channel.on("data", (chunk: Buffer) => {
      received += chunk.length;
      most = Math.max(most, unread(channel));
      channel.pause();
      setTimeout(() => channel.resume(), 1);
    });
    await once(channel, "end");
    expect(received).toBe(16 << 20);
    expect(most, "it did have to wait").toBeGreaterThan(1 << 20);
    expect(connection.alive).toBe(true);
    connection.end();
  }, 40_000);

  it("that opens channels gets none, and one that does not read the refusals is left", async () => {
    const refusals: boolean[] = [];
    let theirs: { readonly _sock: Socket; readonly _protocol: { ping(): void } } | undefined;
    const connection = await scripted((channel, server) => {
      theirs = server as unknown as typeof theirs;
      channel.exit(0);
      channel.end();
      server.forwardOut("127.0.0.1", 1, "127.0.0.1", 2, (error) => refusals.push(error !== undefined));
      server.x11("127.0.0.1", 3, (error) => refusals.push(error !== undefined));
    });
    const channel = await connection.exec("true", undefined);
    await once(channel.resume(), "close");
    await expect.poll(() => refusals).toEqual([true, true]);
    theirs?._sock.pause();
    const asking = setInterval(() => {
      for (let n = 0; n < 300; n++) theirs?._protocol.ping(); // a question that wants an answer: as many as are read until the next
    }, 1);
    await expect.poll(() => connection.alive, { timeout: 30_000 }).toBe(false);
    clearInterval(asking);
  }, 40_000);

  it("an honest one may end a command whose input it has not read yet: the connection stays for the others (control)", async () => {
    let serverEnd: Socket | undefined;
    let end = () => {};
    const connection = await scripted((channel, server) => {
      if (serverEnd) {
        channel.exit(7);
        channel.end();
        return;
      }
      serverEnd = (server as unknown as { _sock: Socket })._sock;
      serverEnd.pause();
      end = () => {
        channel.exit(0);
        channel.end();
        (channel as unknown as Inside)._client._protocol.channelClose((channel as unknown as Inside).outgoing.id);
      };
    });
    const channel = await connection.exec("true", undefined);
    channel.on("error", () => {});
    channel.write(Buffer.alloc(1_900_000));
    await expect.poll(() => keeperEnd?.writableLength).toBeGreaterThan(1 << 20);
    const closed = once(channel.resume(), "close");
    end();
    expect(await closed).toEqual([0]);
    expect(keeperEnd?.writableLength, "it did have to wait").toBeGreaterThan(1 << 20);
    expect(connection.alive).toBe(true);
    serverEnd?.resume();
    const next = await connection.exec("true", undefined);
    expect(await once(next.resume(), "close")).toEqual([7]);
    connection.end();
  }, 40_000);

  it("that offers a window without an end and does not read gets no more than an honest one's", async () => {
    const connection = await scripted((channel, server) => {
      const { _client, outgoing } = channel as unknown as Inside;
      _client._protocol.channelWindowAdjust(outgoing.id, 0x7fff_0000);
      (server as unknown as { _sock: Socket })._sock.pause();
    });
    const channel = await connection.exec("true", undefined);
    const { outgoing } = channel as unknown as { outgoing: { window: number } };
    await expect.poll(() => outgoing.window).toBeLessThanOrEqual(2 << 20);
    const chunk = Buffer.alloc(65_536);
    let written = 0;
    while (written < 64 << 20 && channel.write(chunk)) written += chunk.length;
    expect(written).toBeLessThan(6 << 20);
    connection.end();
  }, 40_000);
});

describe("a guest that leaves a request for a command unanswered", () => {
  /** 60 s become 300 ms */
  const impatient: Patience = { speedFactor: 0.005, paused: () => false };
  const silent = { problem: { code: "guest.silent", evidence: expect.stringMatching(/^nothing came/), next: expect.any(Array) } };

  /** A connection, the lines that began in the guest, what was killed of it, and its service's own stream, which can be held up. */
  async function guest(patience: Patience, answers = true) {
    const keys = await makeKeys();
    const began: string[] = [];
    const seen: string[] = [];
    const listener = createServer();
    listener.listen(0, "127.0.0.1");
    await once(listener, "listening");
    const sock = createConnection((listener.address() as { port: number }).port, "127.0.0.1");
    const [theirs] = (await once(listener, "connection")) as [Socket];
    listener.close();
    const server = new ssh2.Server({ hostKeys: [keys.hostPrivate] }, (connection) => {
      connection.on("error", () => {});
      connection.on("authentication", (context) => context.accept());
      connection.on("session", (accept) => {
        seen.push("opened");
        const session = accept();
        session.on("signal", (_accept, _reject, { name }) => seen.push(`signal ${name}`)).on("close", () => seen.push("closed"));
        session.on("exec", (go, _reject, { command }) => {
          began.push(command);
          if (!answers) return;
          const channel = go();
          channel.exit(0);
          channel.end();
        });
      });
    });
    server.injectSocket(theirs);
    return { connection: await SshConnection.connect(sock, keys, "you", patience), theirs, began, seen, sock };
  }

  it("is told of as silent; the command does not begin when it goes on, and the next one does", async () => {
    const { connection, theirs, began, seen } = await guest(impatient);
    theirs.pause();
    await expect(connection.exec("late", undefined)).rejects.toMatchObject(silent);
    theirs.resume();
    const channel = await connection.exec("next", undefined);
    await once(channel.resume(), "close");
    expect(began).toEqual(["next"]);
    expect(seen.filter((what) => what === "opened")).toHaveLength(2);
    connection.end();
  });

  it("is waited for as long as it is paused", async () => {
    let paused = true;
    const { connection, theirs } = await guest({ ...impatient, paused: () => paused });
    theirs.pause();
    let told = false;
    const asked = connection.exec("slept", undefined).finally(() => {
      told = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 1_000)); // three times the deadline
    expect(told).toBe(false);
    paused = false;
    theirs.resume();
    await once((await asked).resume(), "close");
    connection.end();
  });

  it("is told to kill a command that it had taken and not begun", async () => {
    const { connection, began, seen } = await guest(impatient, false);
    await expect(connection.exec("taken", undefined)).rejects.toMatchObject(silent);
    expect(began).toEqual(["taken"]);
    await expect.poll(() => seen).toEqual(["opened", "signal KILL", "closed"]);
    expect(connection.alive).toBe(true);
    connection.end();
  });

  it("is not asked for what is not wanted any more", async () => {
    const { connection, theirs, began } = await guest({ speedFactor: 1, paused: () => false });
    theirs.pause();
    const wanted = new AbortController();
    const asked = connection.exec("unwanted", undefined, wanted.signal);
    wanted.abort(new Error("not wanted"));
    await expect(asked).rejects.toThrow("not wanted");
    theirs.resume();
    await once((await connection.exec("next", undefined)).resume(), "close");
    await expect(connection.exec("never", undefined, wanted.signal)).rejects.toThrow("not wanted");
    expect(began).toEqual(["next"]);
    connection.end();
  });

  it("gets no more requests than it has room for, until it reads them", async () => {
    const { connection, theirs, began, sock } = await guest(impatient);
    theirs.pause();
    const ask = () => connection.exec("x".repeat(1_000), undefined);
    await Promise.all(Array.from({ length: 16 }, () => expect(ask()).rejects.toMatchObject(silent)));
    const written = sock.bytesWritten;
    const at = performance.now();
    await expect(ask()).rejects.toMatchObject(silent);
    expect(performance.now() - at, "at once").toBeLessThan(250);
    expect(sock.bytesWritten).toBe(written);
    theirs.resume();
    const answered = async () => {
      await once((await ask()).resume(), "close");
      return began.length;
    };
    await expect.poll(() => answered().catch(() => 0), { timeout: 10_000 }).toBe(1);
    connection.end();
  });
});

/** What a service that keeps to no rule uses of ssh2. */
interface Inside {
  readonly outgoing: { readonly id: number };
  readonly _client: {
    readonly _protocol: {
      channelData(id: number, data: Buffer, type: number): void;
      channelExtData(id: number, data: Buffer, type: number): void;
      channelWindowAdjust(id: number, amount: number): void;
      channelClose(id: number): void;
    };
  };
}
