/** What one task's guest may make its proxy hold. Times are in milliseconds, sizes in bytes. */

/** Streams at once; further ones are closed unread. 1,000 idle connections of a busy task fit with room. */
export const MAX_STREAMS = 2048;
/** Requests at once, of all streams. */
export const MAX_REQUESTS = 2048;

/** `connect <host> <port>\n`: a DNS name has at most 253 bytes. */
export const MAX_FIRST_LINE = 280;
export const FIRST_LINE_MS = 10_000;
/** A client that says nothing at first waits for its server to speak, which only an opaque rule lets pass. */
export const FIRST_BYTE_MS = 10_000;
export const HANDSHAKE_MS = 20_000;

/** Requests of one HTTP/1 connection whose answers are not over: apt sends ten ahead, others one. */
export const MAX_PIPELINED = 32;

/** Of a request: line and headers. */
export const MAX_HEAD = 32 * 1024;
export const MAX_HEADERS = 256;
export const HEAD_MS = 30_000;
/** A kept-alive connection without a request. */
export const KEEP_ALIVE_MS = 300_000;
/** A request or tunnel in which neither side sends: models think for minutes before their first byte. */
export const QUIET_MS = 900_000;
/** Between looks at the clock, while something is under way by a rule with an end: a clock is set, and timers stand still while a computer sleeps. */
export const CLOCK_MS = 30_000;
/** For the rest of a refused request's body to arrive: the client reads its refusal meanwhile. */
export const DRAIN_MS = 10_000;
export const MAX_HTTP2_STREAMS = 128;
/** What may be under way unread on one HTTP/2 stream. Node takes all that a connection's own window would hold back, so this is the bound. */
export const HTTP2_WINDOW = 256 * 1024;
/** The same on connections beyond the first MAX_WIDE_HTTP2 that are open: 64 KiB is the protocol's own. */
export const HTTP2_NARROW_WINDOW = 65_535;
export const MAX_WIDE_HTTP2 = 8;

export const LOOKUP_MS = 10_000;
/** For this computer's own resolver to know a name that an outgoing proxy resolves. */
export const LOCAL_LOOKUP_MS = 2_000;
export const CONNECT_MS = 20_000;
/** Origins whose idle connections are kept. */
export const MAX_POOLS = 256;
export const MAX_IDLE_PER_ORIGIN = 32;
export const UPSTREAM_IDLE_MS = 55_000;

/** For the keeper to write a decision down. */
export const RECORD_MS = 15_000;
/** Decisions in the journal that the keeper has not written down; further ones wait for it. */
export const MAX_AHEAD = 1024;
/** They wait for it too while it is silent for longer than that. */
export const AHEAD_MS = 1_000;
/** For a decision in the journal to find company before it is told. */
export const TELL_MS = 10;
/** Decisions that wait to be told; further requests are refused until some were. */
export const MAX_UNTOLD = 4096;

/** A held request, for its answer. */
export const ASK_MS = 600_000;
/** Held requests in all, of at most MAX_PENDING_ASKS domains. */
export const MAX_HELD = 64;
