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
	// flushAfter is how long an entry waits for others.
	flushAfter = 250 * time.Millisecond
	// maxEntries is the protocol's; maxBytes keeps a batch's line below a quarter of the protocol's longest.
	maxEntries = 200
	maxBytes   = 128 << 10
	// maxPath is the protocol's longest path in bytes.
	maxPath = 4096
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
	tell func([]Entry)

	mu      sync.Mutex
	entries []Entry
	at      map[key]int
	bytes   int
	timer   *time.Timer
}

func newRecorder(tell func([]Entry)) *recorder {
	return &recorder{tell: tell, at: map[key]int{}}
}

func (r *recorder) record(e Entry) {
	e.Path, e.To = end(e.Path), end(e.To)
	k := key{e.What, e.Path, e.To, e.Reason}
	r.mu.Lock()
	defer r.mu.Unlock()
	if i, ok := r.at[k]; ok {
		r.entries[i].Count += e.Count
		r.entries[i].Bytes += e.Bytes
		return
	}
	size := len(e.Path) + len(e.To) + len(e.Reason)
	if len(r.entries) == maxEntries || r.bytes+size > maxBytes {
		r.flush()
	}
	if len(r.entries) == 0 {
		r.timer = time.AfterFunc(flushAfter, r.Flush)
	}
	r.at[k] = len(r.entries)
	r.entries = append(r.entries, e)
	r.bytes += size
}

// Flush hands over what has come so far.
func (r *recorder) Flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flush()
}

// flush is called with the lock held, so that whoever has more to tell waits for the one who is told.
func (r *recorder) flush() {
	if len(r.entries) == 0 {
		return
	}
	r.timer.Stop()
	r.tell(r.entries)
	r.entries, r.bytes = nil, 0
	clear(r.at)
}

// end is the part of a path that the protocol takes.
func end(path string) string {
	if len(path) <= maxPath {
		return path
	}
	return path[len(path)-maxPath:]
}
