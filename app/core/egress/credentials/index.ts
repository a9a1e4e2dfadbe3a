/**
 * Keys of a task's requests: pure functions over values and bytes. Who sends requests on does, for each that a rule allows:
 * 1. `prepare`. A refusal is answered as one. Else `rawHeaders` and `query` are what is sent.
 * 2. Where `body` is a filter, it is opened, every byte goes through it, and it is closed in every case. While it is `held`, nothing of the request leaves
 *    before its `end`: an `expect: 100-continue` is answered here. Where its `length` changes, the length that the guest told is not sent.
 *    Request trailers are not sent.
 * 3. Of every answer, `withoutLogins` of its head. With `values`, also `scrubHeaders` of head and trailers, `unsearchable`, and its body through a
 *    `ResponseScrubber`.
 * When a task's keys change, `forgetScrubbed`, and `keysGone` of what is under way.
 */
export { type BodyFilter, type BodyPlan, HoldingRoom } from "./body.ts";
export { headerFor } from "./header.ts";
export { makePlaceholder } from "./placeholder.ts";
export { type KeyRule, type KeysInUse, keysGone, type OutgoingRequest, type Passed, prepare, storable } from "./prepare.ts";
export { REFUSALS, type Refusal, type RefusalCode } from "./refusal.ts";
export { forgetScrubbed, ResponseScrubber, scrubHeaders, scrubText, unsearchable, withoutLogins } from "./scrub.ts";
