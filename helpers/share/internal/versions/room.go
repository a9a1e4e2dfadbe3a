//go:build linux

package versions

import (
	"cmp"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Room is what the user is asked when the limit is reached.
type Room struct {
	NeededBytes, LimitBytes, UsedBytes int64
	Path                               string
}

// Why a write was refused for want of room.
const (
	UserRefused = "refused"
	Unanswered  = "unanswered"
)

// patience is how long a write waits for the user.
const patience = 60 * time.Second

// askAgainAfter is how long a refusal, or no answer, stands before the user is asked once more: a guest must not be
// able to ask without end.
const askAgainAfter = 10 * time.Minute

// room bounds what versions take.
type room struct {
	store *Store

	mu      sync.Mutex
	allowed int64         // the user's own answer; 0: none
	asked   chan struct{} // closed by the answer; nil: nobody is asked
	refused time.Time     // when the last no was said
	why     string        // of that no
	said    bool          // the question under way was answered
}

func (r *room) init(s *Store) { r.store = s }

// limit is what the folder's versions may take.
func (r *room) limit(used int64) (int64, error) {
	r.mu.Lock()
	allowed := r.allowed
	r.mu.Unlock()
	if allowed > 0 {
		return allowed, nil
	}
	if r.store.o.LimitBytes > 0 {
		return r.store.o.LimitBytes, nil
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(r.store.own, &st); err != nil {
		return 0, err
	}
	// What versions use counts as free, else the limit would sink as they grow.
	return min(maxLimit, (int64(st.Bavail)*st.Bsize+used)/10), nil
}

// take reserves bytes, or waits for the user and fails with ENOSPC. release gives them back.
func (r *room) take(path string, bytes int64) (release func(), err error) {
	release = func() { _, _, _ = r.store.count(0, -bytes) }
	for {
		_, used, err := r.store.count(0, bytes)
		if err != nil {
			return nil, err
		}
		limit, err := r.limit(used - bytes)
		if err != nil {
			release()
			return nil, err
		}
		if used <= limit {
			return release, nil
		}
		release()
		if !r.wait(Room{NeededBytes: bytes, LimitBytes: limit, UsedBytes: used - bytes, Path: path}) {
			return nil, unix.ENOSPC
		}
	}
}

// wait asks the user, or joins those who wait already, and tells whether to try again.
func (r *room) wait(about Room) bool {
	r.mu.Lock()
	if r.store.o.Ask == nil || time.Since(r.refused) < askAgainAfter {
		why := cmp.Or(r.why, Unanswered)
		r.mu.Unlock()
		r.tell(about, why)
		return false
	}
	asked := r.asked
	first := asked == nil
	if first {
		asked = make(chan struct{})
		r.asked, r.said = asked, false
	}
	r.mu.Unlock()
	if first {
		r.store.o.Ask(about)
	}
	wait := r.store.o.Patience
	if wait == 0 {
		wait = patience
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-asked:
	case <-timer.C:
	}
	r.mu.Lock()
	if r.asked == asked { // no answer
		r.asked = nil
		close(asked)
	}
	if r.allowed >= about.UsedBytes+about.NeededBytes {
		r.mu.Unlock()
		return true
	}
	if r.why = Unanswered; r.said { // also by a yes to less
		r.why = UserRefused
	}
	r.refused = time.Now()
	if r.allowed > 0 {
		about.LimitBytes = r.allowed
	}
	why := r.why
	r.mu.Unlock()
	r.tell(about, why)
	return false
}

func (r *room) tell(about Room, why string) {
	if r.store.o.Refused != nil {
		r.store.o.Refused(about, why)
	}
}

// Answer is the user's: limitBytes is what all versions may take from now on, 0 is a no.
func (s *Store) Answer(limitBytes int64) {
	r := &s.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if limitBytes > 0 {
		r.allowed, r.refused = limitBytes, time.Time{}
	} else {
		r.refused, r.why = time.Now(), UserRefused
	}
	r.said = true
	if r.asked != nil {
		close(r.asked)
		r.asked = nil
	}
}

// Limit is what the folder's versions may take now.
func (s *Store) Limit() (int64, error) {
	used, err := s.Used()
	if err != nil {
		return 0, err
	}
	return s.room.limit(used)
}
