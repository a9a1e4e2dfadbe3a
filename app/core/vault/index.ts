/** The user's keys. */
export { type Keychain, systemKeychain } from "./keychain.ts";
export { type Secret, Vault } from "./vault.ts";
