/** Policy: names, addresses, rules and the decision about a request. Pure functions; nothing here resolves, dials or remembers. */
export { type AddressClass, addressClass, inRange, refuseAddress } from "./address.ts";
export { type Decided, decide, opaqueRule, parseUrl, type Spending } from "./decide.ts";
export { type Host, parseHost, registrableDomain } from "./names.ts";
export { fitsPaths, normalPath, type RequestPath } from "./path.ts";
export { presetRules } from "./presets.ts";
export { allowLine, checkDraft, hostAndPort, narrowestRule } from "./rules.ts";
export { exportSettings, importSettings } from "./settings.ts";
export { idleKeys, networkWords } from "./words.ts";
