export { type BodyFilter, type BodyPlan, HoldingRoom } from "./body.ts";
export { headerFor } from "./header.ts";
export { MIN_SECRET_LENGTH, makePlaceholder } from "./placeholder.ts";
export { type KeyRule, type OutgoingRequest, type Passed, prepare } from "./prepare.ts";
export { knownKey } from "./profiles.ts";
export { REFUSALS, type Refusal, type RefusalCode } from "./refusal.ts";
export { forgetScrubbed, ResponseScrubber, scrubHeaders, scrubText, unsearchable, withoutLogins } from "./scrub.ts";
