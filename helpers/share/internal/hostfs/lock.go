//go:build linux

package hostfs

import (
	"math"
	"syscall"

	"golang.org/x/sys/unix"

	"cloche/share/internal/wire"
)

// Locks are the host's open-file-description locks, so they hold between guest processes (each open file of the
// guest is one of ours) and against programs of the host that use fcntl. They never wait.

func flockOf(l wire.Lock) (unix.Flock_t, error) {
	if l.Start > math.MaxInt64 || l.Length > math.MaxInt64-l.Start {
		return unix.Flock_t{}, syscall.EINVAL
	}
	host := unix.Flock_t{Whence: unix.SEEK_SET, Start: int64(l.Start), Len: int64(l.Length)}
	switch l.Type {
	case wire.LockRead:
		host.Type = unix.F_RDLCK
	case wire.LockWrite:
		host.Type = unix.F_WRLCK
	case wire.LockUnlock:
		host.Type = unix.F_UNLCK
	default:
		return host, syscall.EINVAL
	}
	return host, nil
}

func (f *file) Lock(l wire.Lock) (blocked bool, err error) {
	host, err := flockOf(l)
	if err != nil {
		return false, err
	}
	whole := l.Start == 0 && l.Length == 0
	err = retry(func() error { return unix.FcntlFlock(uintptr(f.fd), unix.F_OFD_SETLK, &host) })
	switch {
	case err == unix.EBADF && whole && l.Type == wire.LockWrite, // flock(1) opens for reading and locks for writing
		f.node.kind == directory:
		err = retry(func() error { return unix.Flock(f.fd, unix.LOCK_NB|flockKind(l.Type)) })
	case err == nil && whole && l.Type == wire.LockUnlock:
		_ = unix.Flock(f.fd, unix.LOCK_UN) // whichever of the two it was
	}
	if err == unix.EAGAIN || err == unix.EACCES {
		return true, nil
	}
	return false, err
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
