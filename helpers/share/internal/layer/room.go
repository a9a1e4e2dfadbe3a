//go:build linux

package layer

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// A task's changes may fill the host's disk up to this much: 1 GiB, or a twentieth of a smaller disk.
	maxReserve   = 1 << 30
	reserveShare = 20
	// roomStep is how much may be written between two looks at the disk.
	roomStep = 16 << 20
)

// room is what may be written before the disk is looked at again.
type room struct {
	mu   sync.Mutex
	left int64
}

// Room is asked before that many bytes are written to contents; ENOSPC when the host would be left with too little.
func (l *Layer) Room(bytes int64) error {
	l.room.mu.Lock()
	defer l.room.mu.Unlock()
	if bytes <= l.room.left && l.room.left > 0 {
		l.room.left -= bytes
		return nil
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(l.content, &st); err != nil {
		return err
	}
	size := int64(st.Bsize)
	free := int64(st.Bavail)*size - min(maxReserve, int64(st.Blocks)*size/reserveShare)
	if free < max(bytes, 1) {
		l.room.left = 0
		return syscall.ENOSPC
	}
	l.room.left = min(free-bytes, roomStep)
	return nil
}
