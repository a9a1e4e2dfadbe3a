// Package ninep serves 9P2000.L on one stream at a time: sessions, fids, tags and their bounds.
//
//	stream ──frames──▶ lead ──▶ handle ──▶ Tree, Node, File (tree.go; hostfs implements them)
//	   ▲                 │ more frames are waiting: a goroutine per request
//	   └────replies──────┘ one is waiting: handled right here, which costs no hand-over
//
// A session belongs to the guest: whatever it sends, in whatever order, may cost it its own connection and nothing
// more. Frames are bounded by msize, requests in flight by maxInFlight (then nothing more is read), fids by the
// server's limit. A request holds one buffer, in which its reply is built over it.
//
// One goroutine leads: it reads frames. It handles a request itself when nothing else is waiting in the stream, as
// handing it over would cost more than most requests do. When a request takes long (a disk that spins up, a folder
// on a stalled network mount), the standby takes the lead away from it, so one slow request never blocks the rest.
//
// Nothing here knows the host's filesystem, sockets or modes: `ro` is the Tree's business.
package ninep
