//go:build linux

package hostfs_test

import (
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloche/share/internal/ninetest"
	"cloche/share/internal/wire"
)

// lockShare serves one file, opened for reading and writing by each fid.
func lockShare(t *testing.T, fids ...uint32) *share {
	s := newShare(t, false)
	s.put("f", "x")
	s.openRW(fids...)
	return s
}

func (s *share) openRW(fids ...uint32) {
	s.t.Helper()
	for _, fid := range fids {
		must(s.t, s.Walk(rootFid, fid, "f"))
		_, err := s.Do(&wire.Tlopen{Fid: fid, Flags: 2})
		must(s.t, err)
	}
}

func (s *share) tryLock(fid uint32, kind uint8, start, length uint64) uint8 {
	s.t.Helper()
	r, err := ninetest.Ask[*wire.Rlock](s.Client, &wire.Tlock{Fid: fid, Kind: kind, Start: start, Length: length})
	must(s.t, err)
	return r.Status
}

func (s *share) waitLock(fid uint32, kind uint8) (uint16, <-chan wire.Message) {
	return s.Start(&wire.Tlock{Fid: fid, Kind: kind, Flags: wire.LockWaits})
}

func answered(t *testing.T, what string, reply <-chan wire.Message) wire.Message {
	t.Helper()
	select {
	case m, ok := <-reply:
		if !ok {
			t.Fatalf("%s: the connection ended", what)
		}
		return m
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: no answer", what)
		return nil
	}
}

func granted(t *testing.T, what string, reply <-chan wire.Message) {
	t.Helper()
	if m, ok := answered(t, what, reply).(*wire.Rlock); !ok || m.Status != wire.LockSuccess {
		t.Errorf("%s: %+v", what, m)
	}
}

// stillWaits: what was asked before is answered, the lock is not.
func (s *share) stillWaits(what string, reply <-chan wire.Message) {
	s.t.Helper()
	_, err := s.Do(&wire.Tgetattr{Fid: rootFid})
	must(s.t, err)
	select {
	case m := <-reply:
		s.t.Fatalf("%s: answered with %+v while the lock was taken", what, m)
	default:
	}
}

func TestABlockingLockIsAnsweredWhenItIsGranted(t *testing.T) {
	s := lockShare(t, 2, 3, 4)
	if s.tryLock(2, wire.LockWrite, 0, 0) != wire.LockSuccess {
		t.Fatal("the first lock")
	}
	_, three := s.waitLock(3, wire.LockWrite)
	s.stillWaits("behind another fid", three)
	if s.tryLock(2, wire.LockUnlock, 0, 0) != wire.LockSuccess {
		t.Fatal("unlock")
	}
	granted(t, "after an unlock", three)

	_, four := s.waitLock(4, wire.LockRead)
	s.stillWaits("a reader behind a writer", four)
	s.clunk(3)
	granted(t, "after a clunk", four)

	s.openRW(5)
	_, five := s.waitLock(5, wire.LockRead)
	granted(t, "two readers", five)
	s.openRW(6)
	_, six := s.waitLock(6, wire.LockWrite)
	s.clunk(4)
	s.stillWaits("a writer behind one of two readers", six)
	s.clunk(5)
	granted(t, "a writer behind no reader", six)
	if s.tryLock(6, wire.LockWrite, 3, 4) != wire.LockSuccess {
		t.Error("the holder's own range")
	}
}

func TestABlockingLockWaitsForTheHostsTwoKindsOfLocks(t *testing.T) {
	s := lockShare(t, 2)
	f, err := os.OpenFile(s.host("f"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	write := unix.Flock_t{Type: unix.F_WRLCK}
	none := unix.Flock_t{Type: unix.F_UNLCK}

	must(t, unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &write))
	_, reply := s.waitLock(2, wire.LockWrite)
	s.stillWaits("behind fcntl of the host", reply)
	must(t, unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &none))
	granted(t, "after the host's fcntl", reply)
	refused(t, "the host's fcntl", unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &write), syscall.EAGAIN)
	refused(t, "the host's flock", unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), syscall.EAGAIN)
	if s.tryLock(2, wire.LockUnlock, 0, 0) != wire.LockSuccess {
		t.Fatal("unlock")
	}

	must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	_, reply = s.waitLock(2, wire.LockWrite)
	s.stillWaits("behind flock of the host", reply)
	must(t, unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &write)) // what waits holds neither kind
	must(t, unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &none))
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_UN))
	granted(t, "after the host's flock", reply)
}

func TestAWholeFileLockThatTheHostRefusesKeepsWhatWasHeld(t *testing.T) {
	s := lockShare(t, 2, 3)
	f, err := os.OpenFile(s.host("f"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_SH))
	if s.tryLock(2, wire.LockRead, 0, 0) != wire.LockSuccess || s.tryLock(2, wire.LockWrite, 0, 0) != wire.LockBlocked {
		t.Fatal("a reader beside the host's, and no writer")
	}
	if s.tryLock(3, wire.LockWrite, 0, 0) != wire.LockBlocked {
		t.Error("the read lock was lost by the failed conversion")
	}
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_UN))
	refused(t, "the host's exclusive flock", unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), syscall.EAGAIN)
	// A range that is held (sqlite) is not lost to a lock of the whole file that the host's flock would refuse.
	if s.tryLock(2, wire.LockUnlock, 0, 0) != wire.LockSuccess || s.tryLock(2, wire.LockWrite, 1, 1) != wire.LockSuccess {
		t.Fatal("a range")
	}
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	s.tryLock(2, wire.LockWrite, 0, 0)
	if s.tryLock(3, wire.LockWrite, 1, 1) != wire.LockBlocked {
		t.Error("the range was lost")
	}
}

func TestLocksThatWaitHoldUpNothingAndEndInEveryWay(t *testing.T) {
	s := lockShare(t, 2, 3)
	if s.tryLock(2, wire.LockWrite, 0, 0) != wire.LockSuccess {
		t.Fatal("the first lock")
	}
	// More than requests in flight: none of them may keep a place.
	var replies []<-chan wire.Message
	var tags []uint16
	for n := range 300 {
		fid := 100 + uint32(n)
		s.openRW(fid)
		tag, reply := s.waitLock(fid, wire.LockWrite)
		tags, replies = append(tags, tag), append(replies, reply)
	}
	s.stillWaits("the last of 300", replies[299])

	// A flush cancels without an answer, and the lock is not taken later.
	_, err := s.Do(&wire.Tflush{OldTag: tags[0]})
	must(t, err)
	s.stillWaits("a flushed one", replies[0])
	// A clunk ends the wait of its own fid.
	s.clunk(101)
	if e, ok := answered(t, "a clunked one", replies[1]).(*wire.Rlerror); !ok || e.Errno != uint32(syscall.EBADF) {
		t.Errorf("a clunked one: %+v", e)
	}
	s.clunk(2)
	granted(t, "the oldest that is left", replies[2])
	s.stillWaits("the next", replies[3])
	s.clunk(102)
	granted(t, "the next", replies[3])

	// A new version starts afresh; the cleanup proves that a session's end ends what waits.
	must(t, s.Attach(rootFid))
	s.openRW(2, 3)
	if s.tryLock(2, wire.LockWrite, 0, 0) != wire.LockSuccess {
		t.Error("locks outlive a version")
	}
	_, last := s.waitLock(3, wire.LockWrite)
	s.stillWaits("the last", last)
}

func TestWaitsForLocksAreBounded(t *testing.T) {
	s := lockShare(t, 2, 3)
	if s.tryLock(2, wire.LockWrite, 0, 0) != wire.LockSuccess {
		t.Fatal("the first lock")
	}
	replies := make(chan wire.Message, 1100)
	for range 1030 {
		_, reply := s.waitLock(3, wire.LockWrite)
		go func() {
			if m, ok := <-reply; ok {
				replies <- m
			}
		}()
	}
	for range 6 {
		if m, ok := answered(t, "those too many", replies).(*wire.Rlock); !ok || m.Status != wire.LockBlocked {
			t.Errorf("those too many: %+v", m)
		}
	}
	s.stillWaits("all others", replies)
}

func TestLocksAndFlushesInAnyOrderLeaveNothing(t *testing.T) {
	s := lockShare(t, 2, 3, 4, 5)
	for n := range 2000 {
		fid := 2 + uint32(n%4)
		tag, reply := s.waitLock(fid, wire.LockWrite)
		_, flushed := s.Start(&wire.Tflush{OldTag: tag})
		answered(t, "flush", flushed)
		select {
		case m := <-reply: // granted before the flush came
			if r, ok := m.(*wire.Rlock); !ok || r.Status != wire.LockSuccess {
				t.Fatalf("%+v", m)
			}
			if s.tryLock(fid, wire.LockUnlock, 0, 0) != wire.LockSuccess {
				t.Fatal("unlock")
			}
		default:
		}
	}
	for _, fid := range []uint32{2, 3, 4, 5} {
		if s.tryLock(fid, wire.LockWrite, 0, 0) != wire.LockSuccess {
			t.Fatalf("a flushed lock is held by another than %d", fid)
		}
		s.tryLock(fid, wire.LockUnlock, 0, 0)
	}
}

// Each range is memory of the host's kernel.
func TestTheRangesThatAGuestLocksAreBounded(t *testing.T) {
	s := lockShare(t, 2, 3)
	lock := func(fid uint32, at uint64) error {
		_, err := s.Do(&wire.Tlock{Fid: fid, Kind: wire.LockWrite, Start: at, Length: 1})
		return err
	}
	held := uint64(0)
	for ; held < 5000; held++ {
		if err := lock(2, 2*held); err != nil {
			refused(t, "one more range", err, syscall.ENOLCK)
			break
		}
	}
	if held < 100 || held == 5000 {
		t.Fatalf("%d ranges were locked", held)
	}
	// Controls: another file, ranges that touch and so are one, and after an unlock.
	for i := range uint64(5000) {
		must(t, lock(3, 1<<20+i))
	}
	must(t, lock(2, 1))
	if s.tryLock(2, wire.LockUnlock, 0, 0) != wire.LockSuccess {
		t.Error("unlock")
	}
	must(t, lock(2, 100))
}
