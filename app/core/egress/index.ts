/** What tasks may reach: the door for the keeper and for tasks. */
export { parseHost } from "./policy/index.ts";
export { type MachineNetwork, Networks } from "./service.ts";
export { emptyPolicy, readPolicy } from "./store.ts";
