//go:build linux

package layer

import (
	"fmt"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Why a layer, or a folder that is written directly, takes no more.
const (
	Disk  = "disk"  // the host would be left with too little room
	Files = "files" // the host's filesystem would be left with too few files
	Names = "names" // it holds as many nodes, or as many bytes of names, paths and attributes, as it may
)

// Full is a refusal for want of room: ENOSPC for the guest, and a reason for the user.
type Full struct {
	Why string
	// In bytes; in files for Files, and in nodes or bytes for Names.
	Needed, Limit, Used int64
}

func (f *Full) Error() string {
	return fmt.Sprintf("no room (%s): %d more needed, %d of %d used", f.Why, f.Needed, f.Used, f.Limit)
}

func (f *Full) Unwrap() error { return syscall.ENOSPC }

const (
	// What a task writes may fill the host's disk up to this much: 1 GiB, or a twentieth of a smaller disk. What its user decides
	// (apply, discard, undo) may use it, so that room can be made.
	maxReserve   = 1 << 30
	maxFiles     = 100_000
	reserveShare = 20
	// roomStep and roomAsks are how much may be written, and how often be asked, between two looks at the disk.
	roomStep = 16 << 20
	roomAsks = 256
)

// room is what may be written before the disk is looked at again.
type room struct {
	mu   sync.Mutex
	left int64
	asks int
}

// Growth is what a change adds to the log, at most.
func Growth(steps ...Op) int64 {
	bytes := int64(0)
	for _, step := range steps {
		bytes += op(step).size()
	}
	return bytes
}

// Room is asked before that many bytes are written to contents or the log for the guest, and before each new file; a Full
// when the host would be left with too little.
func (l *Layer) Room(bytes int64) error { return l.room.take(l.content, bytes) }

// RoomAt is a Room for what is written to the disk of a directory beside the layer.
func RoomAt(directory int) func(bytes int64) error {
	r := &room{}
	return func(bytes int64) error { return r.take(directory, bytes) }
}

func (r *room) take(directory int, bytes int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if bytes <= r.left && r.left > 0 && r.asks > 0 {
		r.left -= bytes
		r.asks--
		return nil
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(directory, &st); err != nil {
		return err
	}
	r.left = 0
	size := int64(st.Bsize)
	total, available := int64(st.Blocks)*size, int64(st.Bavail)*size
	reserve := min(maxReserve, total/reserveShare)
	// A filesystem that tells of no blocks at all tells nothing: its own refusal is all there is.
	if st.Blocks > 0 && available-reserve < max(bytes, 1) {
		return &Full{Why: Disk, Needed: bytes, Limit: total - reserve, Used: total - available}
	}
	// Where a filesystem has as many files as there is room for, it tells none, or none that are free.
	if files, free := int64(st.Files), int64(st.Ffree); files > 0 && free > 0 && free < min(maxFiles, files/reserveShare)+1 {
		return &Full{Why: Files, Needed: 1, Limit: files - min(maxFiles, files/reserveShare), Used: files - free}
	}
	r.left, r.asks = min(available-reserve-bytes, roomStep), roomAsks
	return nil
}
