// Package console keeps what the guest prints on its serial line: the newest bytes in one file, and their count.
//
//	QEMU --socket--> reader --bounded buffer--> writer --> file (0600, at most `limit` bytes)
//
// The reader never waits for the file, so that a slow disk cannot stop the guest; when the buffer is full the oldest of
// it is dropped. When the file would pass its limit, its newer half moves to the front: the file is always in order,
// and each byte is moved once on average.
package console

import (
	"io"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// maxPendingBytes waits for the file at most. A guest under TCG prints below 1 MB/s, so this is room for a slow moment.
const maxPendingBytes = 1 << 20

// Log is one console. Its methods may be called from any goroutine.
type Log struct {
	count atomic.Int64
	first chan struct{} // closed at the first byte
	more  chan struct{} // a token when bytes came since the last was taken
	done  chan struct{} // closed when everything is written

	lock    sync.Mutex // guards pending, dropped and ended
	wake    *sync.Cond
	pending []byte
	ended   bool

	limit int64
	file  *os.File // the writer's own; nil keeps nothing
	size  int64
}

// Create makes (or empties) the file at path, for its owner only.
func Create(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := file.Chmod(0o600); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// Keep reads source until it ends and keeps its newest bytes in file, which it closes. file may be nil: then bytes are
// only counted.
func Keep(source io.Reader, file *os.File, limit int64) *Log {
	l := &Log{first: make(chan struct{}), more: make(chan struct{}, 1), done: make(chan struct{}), limit: limit, file: file}
	l.wake = sync.NewCond(&l.lock)
	go l.read(source)
	go l.write()
	return l
}

// Bytes is how many bytes the guest has printed so far.
func (l *Log) Bytes() int64 { return l.count.Load() }

// First is closed at the first byte.
func (l *Log) First() <-chan struct{} { return l.first }

// More gives a token when bytes came since the last one was taken.
func (l *Log) More() <-chan struct{} { return l.more }

// Done is closed when the source has ended and all that is kept is in the file.
func (l *Log) Done() <-chan struct{} { return l.done }

func (l *Log) read(source io.Reader) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := source.Read(buffer)
		if n > 0 {
			if l.count.Add(int64(n)) == int64(n) {
				close(l.first)
			}
			select {
			case l.more <- struct{}{}:
			default:
			}
			l.lock.Lock()
			l.pending = append(l.pending, buffer[:n]...)
			if over := len(l.pending) - maxPendingBytes; over > 0 {
				l.pending = append([]byte(nil), l.pending[over:]...)
			}
			l.lock.Unlock()
			l.wake.Signal()
		}
		if err != nil {
			l.lock.Lock()
			l.ended = true
			l.lock.Unlock()
			l.wake.Signal()
			return
		}
	}
}

func (l *Log) write() {
	defer close(l.done)
	for {
		l.lock.Lock()
		for len(l.pending) == 0 && !l.ended {
			l.wake.Wait()
		}
		chunk := l.pending
		l.pending = nil
		ended := l.ended && len(chunk) == 0
		l.lock.Unlock()
		if ended {
			break
		}
		if l.file != nil {
			l.append(chunk)
		}
	}
	if l.file != nil {
		_ = l.file.Close()
	}
}

// append writes one chunk. A full disk costs the log, never the machine: bytes that cannot be written are lost.
func (l *Log) append(chunk []byte) {
	if over := int64(len(chunk)) - l.limit; over > 0 {
		chunk = chunk[over:]
	}
	if l.size+int64(len(chunk)) > l.limit {
		keep := min(l.limit/2, l.limit-int64(len(chunk)), l.size)
		l.shrink(keep)
	}
	n, _ := l.file.WriteAt(chunk, l.size)
	l.size += int64(n)
}

// shrink leaves the newest keep bytes of the file, moved to its front.
func (l *Log) shrink(keep int64) {
	buffer := make([]byte, 64<<10)
	from, to := l.size-keep, int64(0)
	for to < keep {
		n, err := l.file.ReadAt(buffer[:min(int64(len(buffer)), keep-to)], from+to)
		if n > 0 {
			if _, err := l.file.WriteAt(buffer[:n], to); err != nil {
				break
			}
			to += int64(n)
		}
		if err != nil {
			break
		}
	}
	_ = l.file.Truncate(to)
	l.size = to
}
