import ssh2 from "ssh2";
import { expect, it } from "vitest";
import { makeKeyPair, makeKeys } from "./ssh.ts";

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
