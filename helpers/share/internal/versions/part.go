//go:build linux

package versions

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// A file above PartsAbove that cannot share blocks is not copied when a task begins to overwrite it. Its version is a
// part: of each block, what was there before the task first wrote to it, and the rest is the file itself as the task
// left it. That is the state before only as long as nobody else wrote to the file. So the task's writes carry a mark:
// the lowest 20 bits of the time of modification in nanoseconds are the part's own random number. A file with that
// mark was last written by this task under this part, and the version is that file with the saved blocks laid over
// it. Without it, nobody else's version of that path having the mark, it is not given back at all, rather than wrong.
//
// Before the task removes, replaces or renames such a file, or sets its times, the rest is copied and the part is whole.

const (
	// PartsAbove is the size from which only overwritten blocks are kept.
	PartsAbove = 64 << 20
	// partBlock is how much is saved at once: large, as each is synced.
	partBlock = 1 << 20
	// MarkMask are the bits of a time in nanoseconds that are a part's mark.
	MarkMask = 1<<20 - 1
	// maxParts bounds how many are open; beyond it files are kept whole.
	maxParts = 256
)

// ErrNotExact: the file was written by somebody else since, so that what it was cannot be put together any more.
var ErrNotExact = errors.New("versions: only overwritten parts were kept, and the rest was changed by somebody else since")

// part says that a version is one; Mark is never 0.
type part struct {
	Mark  int64 `json:"mark"`
	Block int64 `json:"block"` // bytes of each
}

// saved is one block of a part; Whole says that all of it is there now.
type saved struct {
	Number int64 `json:"number"`
	Block  int64 `json:"block,omitempty"`
	Whole  bool  `json:"whole,omitempty"`
}

// Part is a version that grows with what is overwritten.
type Part struct {
	s      *Store
	k      *kept
	from   int // the file, for reading
	to     int
	mu     sync.Mutex // guards blocks and whole
	blocks map[int64]bool
	whole  bool
}

// KeepPart begins a version of a large file; nil without an error when it is to be kept whole.
func (s *Store) KeepPart(v Victim) (*Part, error) {
	var st unix.Stat_t
	if err := unix.Fstat(v.FD, &st); err != nil {
		return nil, err
	}
	if st.Size <= s.partsAbove() || st.Mode&unix.S_IFMT != unix.S_IFREG || s.clones(v.FD) {
		return nil, nil
	}
	s.mu.Lock()
	full := s.parts >= maxParts
	if !full {
		s.parts++
	}
	s.mu.Unlock()
	if full {
		return nil, nil
	}
	p, err := s.beginPart(v, &st)
	if err != nil {
		s.mu.Lock()
		s.parts--
		s.mu.Unlock()
	}
	return p, err
}

func (s *Store) partsAbove() int64 {
	if s.o.PartsAbove > 0 {
		return s.o.PartsAbove
	}
	return PartsAbove
}

// clones tells whether a file can share blocks with one in the store, by sharing none.
func (s *Store) clones(fd int) bool {
	from, err := reopen(s.o.Proc, fd, unix.O_RDONLY)
	if err != nil {
		return false
	}
	defer unix.Close(from)
	to, err := unix.Openat(s.own, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return false
	}
	defer unix.Close(to)
	return unix.IoctlFileClone(to, from) == nil
}

func (s *Store) beginPart(v Victim, st *unix.Stat_t) (p *Part, err error) {
	k, err := v.keptOf(st)
	if err != nil {
		return nil, err
	}
	var b [4]byte
	_, _ = rand.Read(b[:])
	k.Part = &part{Mark: max(1, int64(binary.LittleEndian.Uint32(b[:])&MarkMask)), Block: partBlock}
	if s.o.PartsAbove > 0 {
		k.Part.Block = s.o.PartsAbove
	}
	release, err := s.room.take(string(k.Path), cost(0))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	if k.Number, _, err = s.count(1, 0); err != nil {
		return nil, err
	}
	p = &Part{s: s, k: k, blocks: map[int64]bool{}}
	if p.from, err = reopen(s.o.Proc, v.FD, unix.O_RDONLY); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			unix.Close(p.from)
		}
	}()
	if p.to, err = openAt(s.own, strconv.FormatInt(k.Number, 10), unix.O_RDWR|unix.O_CREAT|unix.O_EXCL); err != nil {
		return nil, err
	}
	if err = unix.Ftruncate(p.to, k.Size); err == nil {
		if err = unix.Fdatasync(p.to); err == nil {
			if err = s.append(&record{Kept: k}); err == nil {
				err = s.sync.wait()
			}
		}
	}
	if err != nil {
		_ = s.append(&record{Dropped: k.Number})
		unix.Close(p.to)
		s.drop(k)
		return nil, err
	}
	return p, nil
}

// Mark is what the lowest bits of the file's time are set to after each write.
func (p *Part) Mark() int64 { return p.k.Part.Mark }

// Path is where the file was, components joined by slashes.
func (p *Part) Path() string { return string(p.k.Path) }

// Save keeps what is about to be destroyed from one offset to another.
func (p *Part) Save(from, to int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	to = min(to, p.k.Size)
	if p.whole || from >= to {
		return nil
	}
	var fresh []int64
	for block := from / p.k.Part.Block; block*p.k.Part.Block < to; block++ {
		if p.blocks[block] {
			continue
		}
		if err := p.copyBlock(block); err != nil {
			return err
		}
		fresh = append(fresh, block)
	}
	if len(fresh) == 0 {
		return nil
	}
	if err := p.s.step("sync blocks"); err != nil {
		return err
	}
	if err := unix.Fdatasync(p.to); err != nil {
		return err
	}
	for _, block := range fresh {
		if err := p.s.append(&record{Saved: &saved{Number: p.k.Number, Block: block}}); err != nil {
			return err
		}
	}
	if err := p.s.sync.wait(); err != nil {
		return err
	}
	for _, block := range fresh {
		p.blocks[block] = true
	}
	return nil
}

func (p *Part) copyBlock(block int64) error {
	at := block * p.k.Part.Block
	length := min(p.k.Part.Block, p.k.Size-at)
	if _, err := p.s.room.take(string(p.k.Path), length); err != nil {
		return err
	}
	buffer := make([]byte, length)
	for done := 0; done < len(buffer); {
		n, err := unix.Pread(p.from, buffer[done:], at+int64(done))
		if err != nil && err != unix.EINTR {
			return err
		}
		if err == nil && n == 0 {
			break // it ends earlier; what was there is destroyed by somebody else, and the mark will tell
		}
		done += max(n, 0)
	}
	for done := 0; done < len(buffer); {
		n, err := unix.Pwrite(p.to, buffer[done:], at+int64(done))
		if err != nil && err != unix.EINTR {
			return err
		}
		done += max(n, 0)
	}
	return nil
}

// Descriptor is the file, for reading; it lives until Close.
func (p *Part) Descriptor() int { return p.from }

// Complete copies all that is not saved yet, so that the version stands by itself; not when somebody writes to the file meanwhile,
// as what was copied need not be what was there.
func (p *Part) Complete() error {
	var before, after unix.Stat_t
	if err := unix.Fstat(p.from, &before); err != nil {
		return err
	}
	if err := p.Save(0, p.k.Size); err != nil {
		return err
	}
	if err := unix.Fstat(p.from, &after); err != nil {
		return err
	}
	if before.Size != after.Size || before.Mtim != after.Mtim {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.whole {
		return nil
	}
	if err := p.s.append(&record{Saved: &saved{Number: p.k.Number, Whole: true}}); err != nil {
		return err
	}
	if err := p.s.sync.wait(); err != nil {
		return err
	}
	p.whole = true
	return nil
}

// Close ends the growing. What is kept stays.
func (p *Part) Close() {
	p.s.mu.Lock()
	p.s.parts--
	p.s.mu.Unlock()
	unix.Close(p.from)
	unix.Close(p.to)
}

// Current finds files as they are now, for reading.
type Current interface {
	Current(path string) (*os.File, error)
	// Find gives a file of the folder by its inode, wherever it was moved to.
	Find(inode uint64) (*os.File, error)
}

// Assemble opens a version's content; for a part it is put together from the file as it is now, or from a later
// version of it.
func (s *Store) Assemble(v Version, current Current) (*os.File, error) {
	if v.Whole {
		return s.Content(v)
	}
	all, err := s.History("", true)
	var damage *Damage
	if err != nil && !errors.As(err, &damage) {
		return nil, err
	}
	tries := maxAssembled
	return s.assemble(v, all, current, &tries)
}

// maxAssembled bounds the versions that are tried for one: a guest may set the times of its files, and so their marks.
const maxAssembled = 64

func (s *Store) assemble(v Version, later []Version, current Current, tries *int) (*os.File, error) {
	if v.Whole {
		return s.Content(v)
	}
	if *tries == 0 {
		return nil, ErrNotExact
	}
	*tries--
	base, err := s.baseOf(v, later, current, tries)
	if err != nil {
		return nil, err
	}
	defer base.Close()
	own, err := s.Content(v)
	if err != nil {
		return nil, err
	}
	defer own.Close()
	fd, err := unix.Openat(s.own, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	whole := os.NewFile(uintptr(fd), "assembled")
	if err := copyBytes(fd, int(base.Fd())); err != nil {
		whole.Close()
		return nil, err
	}
	if err := unix.Ftruncate(fd, v.Size); err != nil {
		whole.Close()
		return nil, err
	}
	buffer := make([]byte, v.block)
	for block := range v.blocks {
		at := block * v.block
		n, err := unix.Pread(int(own.Fd()), buffer[:min(v.block, v.Size-at)], at)
		for done := 0; err == nil && done < n; {
			var w int
			w, err = unix.Pwrite(fd, buffer[done:n], at+int64(done))
			done += max(w, 0)
		}
		if err != nil {
			whole.Close()
			return nil, err
		}
	}
	return whole, nil
}

// baseOf opens what carries the part's mark: the file itself, or a version that was made of it next. Another file with that mark is
// none: the guest sees the mark, and sets its files' times. There may be more than one: a
// part whose server was killed before the first write says nothing, and the version that was begun after it has the content.
func (s *Store) baseOf(v Version, later []Version, current Current, tries *int) (*os.File, error) {
	marked := func(f *os.File, err error) *os.File {
		if err != nil {
			return nil
		}
		var st unix.Stat_t
		if unix.Fstat(int(f.Fd()), &st) == nil && st.Ino == v.inode && st.Mtim.Nano()&MarkMask == v.mark {
			return f
		}
		f.Close()
		return nil
	}
	if f := marked(current.Current(v.Path)); f != nil {
		return f, nil
	}
	for i := len(later) - 1; i >= 0; i-- { // oldest first
		next := later[i]
		if next.Number > v.Number && next.MtimeNs&MarkMask == v.mark && next.inode == v.inode {
			f, err := s.assemble(next, later, current, tries)
			if !errors.Is(err, ErrNotExact) {
				return f, err
			}
		}
	}
	if f := marked(current.Find(v.inode)); f != nil {
		return f, nil
	}
	return nil, ErrNotExact
}
