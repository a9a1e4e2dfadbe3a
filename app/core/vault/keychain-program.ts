/**
 * The program that talks to the system's keychain, run by `node -e` so that it is the same from source and in a bundle: a line of JSON
 * in, a line of JSON out. It ends when its input does. Its arguments are the library's path and the service's name; a value is never one.
 *
 * On Linux the store is named: by itself the library falls back to the kernel's keyring, which forgets everything at the next start.
 */
export const SERVICE = "cloche";
export const KEYCHAIN_PROGRAM = `
const [, library, service] = process.argv;
const { Entry } = require(library);
const entry = (name) => new Entry(service, name, { linux: { store: "secret-service" } });
const operations = {
  get: (name) => entry(name).getPassword(),
  set: (name, value) => entry(name).setPassword(value),
  delete: (name) => void entry(name).deleteCredential(),
};
const say = (answer) => process.stdout.write(JSON.stringify(answer) + "\\n");
require("node:readline")
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const { id, op, name, value } = JSON.parse(line);
    try {
      say({ id, value: operations[op](name, value) ?? null });
    } catch (error) {
      say({ id, error: error.message });
    }
  });
say({ id: 0 });
`;
