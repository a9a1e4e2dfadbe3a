//go:build linux

package layer

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// maxSpare bounds the contents that are given up and kept to be others.
	maxSpare = 1024
	// A content is kept only where it took less than this: blocks are given back by an unlink as fast.
	maxSpareBytes = 64 << 10
)

// spare are contents that no node names any more and that become those of new files, empty and under another number: to make and to
// remove a file is by far the dearest a host's filesystem does for a small file that comes and goes. Everything here is under Layer.mu.
type spare struct {
	// sole has the contents that whoever made them has alone: true while that one uses it, false once it was given up. One that was
	// ever opened by its number is none.
	sole map[uint64]bool
	// spent ones wait for the log to be durable: until then a power failure could bring the node back, with what it held.
	spent []uint64
	ready []uint64
}

// GiveUp is DropContent by whoever made the content, and closes its file, which nobody reads or writes any more.
func (l *Layer) GiveUp(number uint64, file *os.File) {
	var st unix.Stat_t
	err := unix.Fstat(int(file.Fd()), &st)
	file.Close()
	l.mu.Lock()
	if err != nil || st.Blocks*512 >= maxSpareBytes || !l.spare.sole[number] || len(l.spare.spent)+len(l.spare.ready) >= maxSpare {
		l.mu.Unlock()
		l.DropContent(number)
		return
	}
	l.spare.sole[number] = false
	l.spare.spent = append(l.spare.spent, number)
	l.droppedBytes += st.Blocks * 512
	l.sweep()
}

// shared notes that a content is about to be opened by its number; false when it was given up.
func (l *Layer) shared(number uint64) bool {
	l.mu.RLock()
	used, is := l.spare.sole[number]
	l.mu.RUnlock()
	if !is {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if used, is = l.spare.sole[number]; is && !used {
		return false
	}
	delete(l.spare.sole, number)
	return true
}

// renew makes an empty content under a number of its own of one that no node names, durably so.
func (l *Layer) renew(spent uint64) {
	l.mu.Lock()
	number := l.nextContent
	l.nextContent++
	l.mu.Unlock()
	old := strconv.FormatUint(spent, 10)
	fd, err := unix.Openat(l.content, old, unix.O_WRONLY|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
		err = unix.Renameat(l.content, old, l.content, strconv.FormatUint(number, 10))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.spare.sole, spent)
	if err != nil {
		_ = unix.Unlinkat(l.content, old, 0)
		return
	}
	l.spare.ready = append(l.spare.ready, number)
}

// takeSpare gives a content that looks as if it had just been made; false when there is none.
func (l *Layer) takeSpare() (uint64, *os.File, bool) {
	l.mu.Lock()
	last := len(l.spare.ready) - 1
	if last < 0 {
		l.mu.Unlock()
		return 0, nil, false
	}
	number := l.spare.ready[last]
	l.spare.ready = l.spare.ready[:last]
	l.mu.Unlock()
	f, err := l.openNumber(number)
	if err == nil {
		if _, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, f.Fd(), 0, 0, 0, 0, 0); errno != 0 {
			f.Close()
			err = errno
		}
	}
	if err != nil {
		l.DropContent(number)
		return 0, nil, false
	}
	return number, f, true
}
