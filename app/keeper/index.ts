/** The keeper's door: a process that runs core and serves the contract. */
export { Keeper } from "./keeper.ts";
