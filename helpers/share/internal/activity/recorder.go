package activity

import (
	"sync"
	"time"
)

// What happened.
const (
	OpenedForWrite = "opened-for-write"
	Created        = "created"
	Deleted        = "deleted"
	Renamed        = "renamed"
	Refused        = "refused"
	Metadata       = "metadata"
)

const (
	// flushAfter is how long an entry waits for others, slowFlushAfter the same once half of the budget is used: what a guest does
	// again and again is then told every five seconds, with a count.
	flushAfter     = 250 * time.Millisecond
	slowFlushAfter = 5 * time.Second
	// maxEntries is the protocol's; maxBytes keeps a batch's line below a quarter of the protocol's longest.
	maxEntries = 200
	maxBytes   = 128 << 10
	// maxPath is the protocol's longest path in bytes.
	maxPath = 4096
	// maxUnrecorded batches may be under way; the protocol names it.
	maxUnrecorded = 8
	// A guest may make the keeper's log grow by burst at once, which is some 200,000 acts with paths of usual length, and by rate (in
	// bytes a second: some hundred acts) after that. Who has used it up waits for each further act.
	burst = 64 << 20
	rate  = 32 << 10
)

// Entry is one thing that happened Count times. Paths are below the folder, components joined by slashes.
type Entry struct {
	What, Path, To, Reason string
	Count                  uint64
	// Bytes were written; with a Count of 0 they belong to an opening that was told before.
	Bytes uint64
}

type key struct{ what, path, to, reason string }

// recorder gathers entries and hands them over in batches.
type recorder struct {
	tell   func(batch uint64, entries []Entry)
	failed func(err error, path string)

	mu      sync.Mutex
	taken   *sync.Cond // a batch was recorded
	entries []Entry
	at      map[key]int
	bytes   int
	timer   *time.Timer
	due     bool // what has come should be handed over as soon as it may be

	sent, recorded uint64
	budget         budget
}

func newRecorder(tell func(uint64, []Entry)) *recorder {
	r := &recorder{tell: tell, at: map[key]int{}, budget: budget{left: burst, burst: burst, rate: rate, now: time.Now}}
	r.taken = sync.NewCond(&r.mu)
	return r
}

// budget is what may be added to the keeper's log. It fills up with time.
type budget struct {
	left, burst, rate int64 // in bytes, rate per second
	at                time.Time
	now               func() time.Time
}

// wait is how long the next entry has to; 0: it may come.
func (b *budget) wait() time.Duration {
	now := b.now()
	if more := int64(now.Sub(b.at).Seconds() * float64(b.rate)); more > 0 {
		b.left, b.at = min(b.left+more, b.burst), now
	}
	if b.left > 0 {
		return 0
	}
	return time.Duration(1-b.left)*time.Second/time.Duration(b.rate) + time.Millisecond
}

// cost is what an entry takes in the keeper's log, at most: a path as base64, and as text of up to three bytes for each.
func cost(e *Entry) int64 { return 128 + 5*int64(len(e.Path)+len(e.To)) + int64(len(e.Reason)) }

func (r *recorder) record(e Entry) {
	e.Path, e.To = end(e.Path), end(e.To)
	k := key{e.What, e.Path, e.To, e.Reason}
	size := len(e.Path) + len(e.To) + len(e.Reason)
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		if i, ok := r.at[k]; ok {
			r.entries[i].Count += e.Count
			r.entries[i].Bytes += e.Bytes
			return
		}
		if wait := r.budget.wait(); wait > 0 {
			r.mu.Unlock()
			time.Sleep(wait)
			r.mu.Lock()
			continue
		}
		if len(r.entries) < maxEntries && r.bytes+size <= maxBytes {
			break
		}
		if !r.flush() {
			r.taken.Wait()
		}
	}
	r.budget.left -= cost(&e)
	if len(r.entries) == 0 {
		after := flushAfter
		if r.budget.left < r.budget.burst/2 {
			after = slowFlushAfter
		}
		r.timer = time.AfterFunc(after, r.Flush)
	}
	r.at[k] = len(r.entries)
	r.entries = append(r.entries, e)
	r.bytes += size
}

// Flush hands over what has come so far, now or as soon as the keeper has taken earlier batches.
func (r *recorder) Flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.due = !r.flush()
}

// Recorded says that the batches up to this one are written down.
func (r *recorder) Recorded(batch uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recorded = max(r.recorded, min(batch, r.sent))
	if r.due {
		r.due = !r.flush()
	}
	r.taken.Broadcast()
}

// flush is called with the lock held, so that whoever has more to tell waits for the one who is told. False: too many batches are
// under way.
func (r *recorder) flush() bool {
	if len(r.entries) == 0 {
		return true
	}
	if r.sent-r.recorded >= maxUnrecorded {
		return false
	}
	r.timer.Stop()
	r.sent++
	r.tell(r.sent, r.entries)
	r.entries, r.bytes = nil, 0
	clear(r.at)
	return true
}

// end is the part of a path that the protocol takes.
func end(path string) string {
	if len(path) <= maxPath {
		return path
	}
	return path[len(path)-maxPath:]
}
