//go:build linux

package hostfs

import (
	"math"
	"syscall"

	"golang.org/x/sys/unix"

	"cloche/share/internal/wire"
)

// Locks are the host's open-file-description locks, so they hold between guest processes (each open file of the
// guest is one of ours) and against programs of the host that use fcntl. 9P cannot tell flock from an fcntl lock of the
// whole file, so a lock of the whole file takes flock(2) too and holds against both kinds. None of them waits here.

func flockOf(l wire.Lock) (unix.Flock_t, error) {
	if l.Start > math.MaxInt64 || l.Length > math.MaxInt64-l.Start {
		return unix.Flock_t{}, syscall.EINVAL
	}
	host := unix.Flock_t{Whence: unix.SEEK_SET, Start: int64(l.Start), Len: int64(l.Length)}
	if l.Type > wire.LockUnlock {
		return host, syscall.EINVAL
	}
	host.Type = fcntlKind(l.Type)
	return host, nil
}

func (f *file) Lock(l wire.Lock) (blocked bool, err error) {
	host, err := flockOf(l)
	if err != nil {
		return false, err
	}
	f.locking.Lock()
	defer f.locking.Unlock()
	whole := l.Start == 0 && l.Length == 0
	if f.node.kind == directory { // fcntl locks files only
		return isBlocked(f.flock(l.Type))
	}
	err = f.fcntl(host)
	switch {
	case err == unix.EBADF && whole && l.Type == wire.LockWrite: // flock(1) opens for reading and locks for writing
		return isBlocked(f.flock(l.Type))
	case err != nil:
		return isBlocked(err)
	case !whole:
		f.ranged = f.ranged || l.Type != wire.LockUnlock
		return false, nil
	case l.Type == wire.LockUnlock:
		f.ranged = false
		_ = f.flock(wire.LockUnlock)
		return false, nil
	case f.ranged: // to take the lock back below would take the ranges along
		return false, nil
	}
	before := f.flocked
	if f.flock(l.Type) != unix.EAGAIN {
		return false, nil // a filesystem without flock(2) has the other kind
	}
	host.Type = fcntlKind(before)
	_ = f.fcntl(host)
	if f.flocked != before { // a conversion that fails loses what was held
		_ = f.flock(before)
	}
	return true, nil
}

func isBlocked(err error) (bool, error) {
	if err == unix.EAGAIN || err == unix.EACCES {
		return true, nil
	}
	return false, err
}

// span is a range of bytes that a file has locked; end is exclusive.
type span struct {
	start, end uint64
	kind       uint8
}

const (
	// maxSpans bounds what one open file may hold, and maxAllSpans all of a folder: each is memory of the host's kernel, and the more
	// there are, the longer it looks through them.
	maxSpans    = 1024
	maxAllSpans = 1 << 16
)

// fcntl sets a lock, and keeps what is held as the kernel does.
func (f *file) fcntl(host unix.Flock_t) error {
	want := span{uint64(host.Start), uint64(host.Start + host.Len), wire.LockUnlock}
	if host.Len == 0 {
		want.end = math.MaxUint64
	}
	switch host.Type {
	case unix.F_RDLCK:
		want.kind = wire.LockRead
	case unix.F_WRLCK:
		want.kind = wire.LockWrite
	}
	next := with(f.spans, want)
	more := int64(len(next) - len(f.spans))
	all := &f.node.tree.spans
	if total := all.Add(more); more > 0 && (len(next) > maxSpans || total > maxAllSpans) {
		all.Add(-more)
		return syscall.ENOLCK
	}
	err := retry(func() error { return unix.FcntlFlock(uintptr(f.fd), unix.F_OFD_SETLK, &host) })
	if err != nil {
		all.Add(-more)
		return err
	}
	f.spans = next
	return nil
}

// with gives the spans after one more was set, in order, those that touch and are of one kind as one.
func with(held []span, s span) []span {
	var next []span
	add := func(h span) {
		if h.start >= h.end || h.kind == wire.LockUnlock {
			return
		}
		if last := len(next) - 1; last >= 0 && next[last].end == h.start && next[last].kind == h.kind {
			next[last].end = h.end
			return
		}
		next = append(next, h)
	}
	placed := false
	place := func() {
		if !placed {
			add(s)
		}
		placed = true
	}
	for _, h := range held {
		if h.end <= s.start {
			add(h)
			continue
		}
		add(span{h.start, min(h.end, s.start), h.kind})
		place()
		add(span{max(h.start, s.end), h.end, h.kind})
	}
	place()
	return next
}

// unlocked takes what a closed file held out of the count.
func (f *file) unlocked() {
	f.locking.Lock()
	defer f.locking.Unlock()
	f.node.tree.spans.Add(-int64(len(f.spans)))
	f.spans = nil
}

// flock takes, converts or drops the flock(2) lock, and keeps what is held.
func (f *file) flock(kind uint8) error {
	if kind == wire.LockUnlock && f.flocked == wire.LockUnlock {
		return nil
	}
	err := retry(func() error { return unix.Flock(f.fd, unix.LOCK_NB|flockKind(kind)) })
	switch {
	case err == nil:
		f.flocked = kind
	case f.flocked != kind:
		f.flocked = wire.LockUnlock
	}
	return err
}

func fcntlKind(kind uint8) int16 {
	switch kind {
	case wire.LockRead:
		return unix.F_RDLCK
	case wire.LockWrite:
		return unix.F_WRLCK
	}
	return unix.F_UNLCK
}

func flockKind(kind uint8) int {
	switch kind {
	case wire.LockRead:
		return unix.LOCK_SH
	case wire.LockWrite:
		return unix.LOCK_EX
	}
	return unix.LOCK_UN
}

func (f *file) GetLock(l wire.Lock) (wire.Lock, error) {
	host, err := flockOf(l)
	if err != nil {
		return l, err
	}
	if err := retry(func() error { return unix.FcntlFlock(uintptr(f.fd), unix.F_OFD_GETLK, &host) }); err != nil {
		return l, err
	}
	switch host.Type {
	case unix.F_UNLCK:
		l.Type = wire.LockUnlock
		return l, nil
	case unix.F_RDLCK:
		l.Type = wire.LockRead
	default:
		l.Type = wire.LockWrite
	}
	l.Start, l.Length = uint64(host.Start), uint64(host.Len)
	l.ProcID = 0 // who holds it on the host is none of the guest's business
	return l, nil
}
