package ninep

import (
	"slices"
	"sync"
	"syscall"
	"time"

	"cloche/share/internal/wire"
)

const (
	// maxWaiting is how many requests of a session may wait for a lock. One more is told that the lock is taken, and
	// the client asks again.
	maxWaiting = 1024
	// Locks that the guest itself gives back wake those who wait. Of the host's nobody tells, so they are tried again
	// after soonest, later ever more rarely.
	soonest = 5 * time.Millisecond
	latest  = 50 * time.Millisecond
)

// lockWaits are the blocking Tlock that were not granted at once, oldest first. One that waits has its tag, its fid and
// nothing else: no goroutine, no buffer, no place among those in flight. It ends when the lock is granted, by a Tflush,
// when its fid is clunked, by a Tversion and with the session.
type lockWaits struct {
	session *session

	mu      sync.Mutex // held while one is tried and answered; before session.flight
	waiting []*lockWait
	pause   time.Duration
	timer   *time.Timer
	ended   bool
}

type lockWait struct {
	request *request
	fid     *fid // holds a reference
	file    File
	lock    wire.Lock
}

// park makes r wait; false when it may not. Its buffer and slot are given back.
func (w *lockWaits) park(r *request, f *fid, file File, l wire.Lock) bool {
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
	wait := &lockWait{request: r, fid: f, file: file, lock: l}
	if flushed {
		w.drop(wait)
		return true
	}
	w.waiting = append(w.waiting, wait)
	w.pause = soonest
	w.schedule(0) // it may have been given back since it was tried
	return true
}

// schedule runs a round after d. The caller holds mu.
func (w *lockWaits) schedule(d time.Duration) {
	if w.timer == nil {
		w.timer = time.AfterFunc(d, w.round)
	} else {
		w.timer.Reset(d)
	}
}

// released is told after a lock of this session was given back or made weaker.
func (w *lockWaits) released() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) > 0 {
		w.schedule(0)
	}
}

// round tries each that waits, the oldest first.
func (w *lockWaits) round() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = slices.DeleteFunc(w.waiting, func(wait *lockWait) bool {
		blocked, err := wait.file.Lock(wait.lock)
		if blocked {
			return false
		}
		var m wire.Message = &wire.Rlock{Status: wire.LockSuccess}
		if err != nil {
			m = &wire.Rlerror{Errno: number(err)}
		}
		w.answer(wait, m)
		return true
	})
	if len(w.waiting) > 0 {
		w.schedule(w.pause)
		w.pause = min(2*w.pause, latest)
	}
}

// flush ends the wait of r without an answer, as 9P has it for what was cancelled. One that has ended already was
// answered, and whoever did it answers the flush too.
func (w *lockWaits) flush(r *request) {
	w.end(func(wait *lockWait) bool { return wait.request == r }, nil)
}

// clunked ends the waits on a fid.
func (w *lockWaits) clunked(f *fid) {
	w.end(func(wait *lockWait) bool { return wait.fid == f }, &wire.Rlerror{Errno: uint32(syscall.EBADF)})
}

// clear ends all waits without an answer.
func (w *lockWaits) clear() { w.end(func(*lockWait) bool { return true }, nil) }

// close ends all waits, and none begins any more.
func (w *lockWaits) close() {
	w.mu.Lock()
	w.ended = true
	if w.timer != nil {
		w.timer.Stop()
	}
	w.mu.Unlock()
	w.clear()
}

func (w *lockWaits) end(which func(*lockWait) bool, m wire.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = slices.DeleteFunc(w.waiting, func(wait *lockWait) bool {
		if !which(wait) {
			return false
		}
		if m == nil {
			w.drop(wait)
		} else {
			w.answer(wait, m)
		}
		return true
	})
}

func (w *lockWaits) answer(wait *lockWait, m wire.Message) {
	wait.fid.release()
	frame, err := wire.Encode(make([]byte, 0, 16), wait.request.tag, m)
	if err != nil {
		panic(err) // both messages have fixed fields
	}
	w.session.finish(wait.request, frame)
}

func (w *lockWaits) drop(wait *lockWait) {
	wait.fid.release()
	w.session.finish(wait.request, nil)
}

// lock tries at once. One that is taken waits when the client asked so, else it is told.
func (s *session) lock(r *request, t *wire.Tlock) {
	m, parked, err := s.tryLock(r, t)
	if parked {
		return
	}
	if err != nil {
		m = &wire.Rlerror{Errno: number(err)}
	}
	s.reply(r, m)
	if err == nil && t.Kind != wire.LockWrite {
		s.locks.released()
	}
}

func (s *session) tryLock(r *request, t *wire.Tlock) (m wire.Message, parked bool, err error) {
	f, err := s.fids.get(t.Fid)
	if err != nil {
		return nil, false, err
	}
	file, err := f.opened()
	if err != nil {
		f.release()
		return nil, false, err
	}
	l := wire.Lock{Type: t.Kind, Start: t.Start, Length: t.Length, ProcID: t.ProcID, ClientID: t.ClientID}
	blocked, err := file.Lock(l)
	if err == nil && !blocked {
		f.locked.Store(true)
	}
	if blocked && t.Flags&wire.LockWaits != 0 {
		f.locked.Store(true) // it may be granted
		if s.locks.park(r, f, file, l) {
			return nil, true, nil
		}
	}
	f.release()
	if blocked {
		return &wire.Rlock{Status: wire.LockBlocked}, false, nil
	}
	return &wire.Rlock{Status: wire.LockSuccess}, false, err
}
