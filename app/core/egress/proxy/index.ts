/** A task's proxy, as its keeper needs it: the process itself is `main.ts`, a program of its own. */
export { type Authority, makeAuthority } from "./certificates.ts";
