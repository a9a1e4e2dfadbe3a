/** What suites that boot machines share: a Cloche of their own, and a look at what is left on the host. */
export { BareGuest, type Ran } from "./bare-guest.ts";
export { Cloche, type Finished, type Going } from "./cloche.ts";
export { type HostState, hostState, mountsOf } from "./host-state.ts";
export { formsOf, Search } from "./search.ts";
export { SecretService } from "./secret-service.ts";
export { Steps } from "./steps.ts";
export { toolChains } from "./tool-chains.ts";
