//go:build linux

package layer

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// maxSpare bounds the descriptors of contents that are given up and kept to be others.
	maxSpare = 1024
	// A content is kept only where it took less than this: blocks are given back by an unlink as fast.
	maxSpareBytes = 64 << 10
)

// spare are contents that no node names any more and that become those of new files, empty and under another number: to make and to
// remove a file is by far the dearest a host's filesystem does for a small file that comes and goes. Everything here is under Layer.mu.
type spare struct {
	limit int
	// sole has the contents that whoever made them has alone: true while that one uses it, false once it was given up. One that was
	// ever opened by its number is none.
	sole map[uint64]bool
	// spent ones wait for the log to be durable: until then a power failure could bring the node back, with what it held.
	spent []content
	ready []content
}

type content struct {
	number uint64
	file   *os.File
}

func newSpare() spare {
	s := spare{sole: map[uint64]bool{}}
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil && files.Cur >= 16*maxSpare {
		s.limit = maxSpare
	}
	return s
}

// GiveUp is DropContent by whoever made the content, and takes over its file, which nobody reads or writes any more.
func (l *Layer) GiveUp(number uint64, file *os.File) {
	var st unix.Stat_t
	err := unix.Fstat(int(file.Fd()), &st)
	l.mu.Lock()
	if err != nil || st.Blocks*512 >= maxSpareBytes || !l.spare.sole[number] || len(l.spare.spent)+len(l.spare.ready) >= l.spare.limit {
		l.mu.Unlock()
		file.Close()
		l.DropContent(number)
		return
	}
	l.spare.sole[number] = false
	l.spare.spent = append(l.spare.spent, content{number, file})
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
func (l *Layer) renew(c content) {
	l.mu.Lock()
	number := l.nextContent
	l.nextContent++
	l.mu.Unlock()
	old := strconv.FormatUint(c.number, 10)
	err := c.file.Truncate(0)
	if err == nil {
		err = unix.Renameat(l.content, old, l.content, strconv.FormatUint(number, 10))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.spare.sole, c.number)
	if err != nil {
		c.file.Close()
		_ = unix.Unlinkat(l.content, old, 0)
		return
	}
	l.spare.ready = append(l.spare.ready, content{number, c.file})
}

// takeSpare gives a content that is ready. The caller holds mu.
func (l *Layer) takeSpare() (content, bool) {
	last := len(l.spare.ready) - 1
	if last < 0 {
		return content{}, false
	}
	c := l.spare.ready[last]
	l.spare.ready = l.spare.ready[:last]
	l.spare.sole[c.number] = true
	return c, true
}

// setTimesNow makes a file look as if it had just been made.
func setTimesNow(file *os.File) error {
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, file.Fd(), 0, 0, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
