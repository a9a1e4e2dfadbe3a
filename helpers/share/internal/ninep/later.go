package ninep

import (
	"slices"
	"sync"
	"syscall"
	"time"

	"cloche/share/internal/wire"
)

// Later is what a node answers instead of doing what cannot be done just now: nothing was done, and it is to be asked again after Done. A
// session makes the request wait; whoever does not wait has EBUSY.
type Later struct {
	Done <-chan struct{}
	// Patience is how long to wait at most.
	Patience time.Duration
}

func (*Later) Error() string { return "it has to wait for something else" }
func (*Later) Unwrap() error { return syscall.EBUSY }

// laterWaits are the requests that wait for another turn. As one that waits for a lock, a request has its tag and nothing else meanwhile: no
// goroutine, no buffer, no place among those in flight, no lock of anybody's. It ends when it was asked again, when its patience is over (EBUSY),
// by a Tflush, by a Tversion and with the session.
type laterWaits struct {
	session *session

	mu      sync.Mutex // before session.flight
	waiting []*laterWait
	awake   bool // a goroutine looks after those that wait
	ended   bool
}

type laterWait struct {
	request *request
	later   *Later
	until   time.Time
	taken   *fid // of a Tremove, which has no number any more; holds a reference
}

// park makes r wait; false when it may not. Its buffer and slot are given back. The caller is counted in session.running.
func (w *laterWaits) park(r *request, later *Later) bool {
	s := w.session
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended || len(w.waiting) >= maxWaiting {
		return false
	}
	s.buffers.put(r.buffer)
	r.buffer = nil
	s.flight.Lock()
	flushed := len(r.flushes) > 0
	r.parked = !flushed
	s.flight.Unlock()
	<-s.slots
	wait := &laterWait{request: r, later: later, until: time.Now().Add(later.Patience), taken: r.taken}
	if flushed {
		w.drop(wait)
		return true
	}
	w.waiting = append(w.waiting, wait)
	if !w.awake {
		w.awake = true
		s.running.Add(1)
		go w.look()
	}
	return true
}

// look waits for what is in the way of the oldest, and asks again, until nothing waits.
func (w *laterWaits) look() {
	s := w.session
	defer s.running.Done()
	for {
		w.mu.Lock()
		if len(w.waiting) == 0 || w.ended {
			w.awake = false
			w.mu.Unlock()
			return
		}
		first := w.waiting[0]
		w.mu.Unlock()
		timer := time.NewTimer(time.Until(first.until))
		select {
		case <-first.later.Done:
		case <-timer.C:
		case <-s.ended:
		}
		timer.Stop()
		w.ask(first)
	}
}

// ask does the request of one that still waits, or ends its wait.
func (w *laterWaits) ask(wait *laterWait) {
	s := w.session
	s.versions.RLock()
	defer s.versions.RUnlock()
	w.mu.Lock()
	at := slices.Index(w.waiting, wait)
	if at < 0 || w.ended {
		w.mu.Unlock()
		return
	}
	w.waiting = slices.Delete(w.waiting, at, at+1)
	w.mu.Unlock()
	r := wait.request
	s.flight.Lock()
	r.parked = false // a flush that comes now is answered after it
	s.flight.Unlock()
	var m wire.Message
	var err error = syscall.EBUSY
	if time.Now().Before(wait.until) {
		m, err = s.answer(r)
	}
	var later *Later
	if again, is := asLater(err); is && time.Now().Before(wait.until) {
		later = again
	}
	if later == nil {
		if wait.taken != nil {
			s.letGo(wait.taken)
		}
		w.reply(r, m, err)
		return
	}
	wait.later = later
	w.mu.Lock()
	s.flight.Lock()
	flushed := len(r.flushes) > 0
	r.parked = !flushed
	s.flight.Unlock()
	if flushed || w.ended {
		w.mu.Unlock()
		w.drop(wait)
		return
	}
	w.waiting = append(w.waiting, wait)
	w.mu.Unlock()
}

func (w *laterWaits) reply(r *request, m wire.Message, err error) {
	if err != nil {
		m = &wire.Rlerror{Errno: number(err)}
	}
	frame, err := wire.Encode(make([]byte, 0, 64), r.tag, m)
	if err != nil {
		panic(err) // all that wait have answers of fixed fields
	}
	w.session.finish(r, frame)
}

// drop ends a wait without an answer.
func (w *laterWaits) drop(wait *laterWait) {
	if wait.taken != nil {
		wait.taken.release()
	}
	w.session.finish(wait.request, nil)
}

// flush ends the wait of r, as 9P has it for what was cancelled: it is not done, and the flush is answered at once.
func (w *laterWaits) flush(r *request) {
	w.end(func(wait *laterWait) bool { return wait.request == r })
}

// clear ends all waits.
func (w *laterWaits) clear() { w.end(func(*laterWait) bool { return true }) }

// close ends all waits, and none begins any more.
func (w *laterWaits) close() {
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	w.clear()
}

func (w *laterWaits) end(which func(*laterWait) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = slices.DeleteFunc(w.waiting, func(wait *laterWait) bool {
		if !which(wait) {
			return false
		}
		w.drop(wait)
		return true
	})
}

func asLater(err error) (*Later, bool) {
	later, is := err.(*Later)
	return later, is
}
