// Package wire is the 9P2000.L codec: functions from bytes to messages and back, with no I/O and no state.
//
// Every byte comes from a guest that is taken to be hostile, so the decoder is strict. A frame decodes only when
// each field lies inside it and nothing is left over; a string is at most MaxText bytes, a walk at most MaxWalk
// names. What fails is ErrMalformed and ends the connection. A frame that is whole but of a type that we do not
// know is ErrUnknown: the stream is still in step, so the session answers it and goes on.
//
// Each message lists its fields once, in `fields`; the same list reads and writes. So decoding and encoding cannot
// drift apart, and the fuzzer's property is simply that what decodes encodes to the same bytes.
//
// Names and link targets are bytes for 9P and for Linux alike: no UTF-8 is asked for, none is lost.
package wire
