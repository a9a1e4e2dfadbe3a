package ninep

import (
	"sync/atomic"
	"time"
)

const (
	// standbyTick: a request that is still at work after one to two ticks loses the lead. A hand-over costs some
	// microseconds, so anything well above that will do.
	standbyTick = 2 * time.Millisecond
	// standbyRest: after this many ticks without a request the standby sleeps, so that an idle share costs nothing.
	standbyRest = 25
)

// standby watches the leader and gives the lead to a new goroutine when a request takes long.
type standby struct {
	session *session
	resting atomic.Bool
	wake    chan struct{}
}

// notice is called by the leader after it set busy.
func (w *standby) notice() {
	if w.resting.Load() && w.resting.CompareAndSwap(true, false) {
		w.wake <- struct{}{}
	}
}

func (w *standby) run() {
	ticker := time.NewTicker(standbyTick)
	defer ticker.Stop()
	busy := &w.session.busy
	var last uint64 // what busy was a tick ago
	for quiet := 0; ; {
		select {
		case <-w.session.ended:
			return
		case <-ticker.C:
		}
		now := busy.Load()
		if now != 0 && now == last && busy.CompareAndSwap(now, 0) {
			w.session.running.Add(1) // the old leader still counts, so running is not zero here
			go w.session.lead()
			now = 0
		}
		if now == 0 || now == last {
			quiet++
		} else {
			quiet = 0
		}
		last = now
		if quiet < standbyRest {
			continue
		}
		// Say that we rest, then look once more: the leader sets busy first and looks at resting second.
		ticker.Stop()
		w.resting.Store(true)
		if busy.Load() != 0 && w.resting.CompareAndSwap(true, false) {
			ticker.Reset(standbyTick)
			quiet = 0
			continue
		}
		select {
		case <-w.session.ended:
			return
		case <-w.wake:
		}
		ticker.Reset(standbyTick)
		quiet, last = 0, 0
	}
}
