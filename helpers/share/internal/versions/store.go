//go:build linux

package versions

import (
	"errors"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Reason says what would have destroyed the content.
type Reason string

const (
	Overwritten Reason = "overwritten"
	Replaced    Reason = "replaced"
	Deleted     Reason = "deleted"
	Applied     Reason = "applied"
	Undone      Reason = "undone"
	Restored    Reason = "restored"
)

// Kind is what a version is of.
type Kind string

const (
	File Kind = "file"
	Link Kind = "link"
	// Directory has no content, only its mode and times.
	Directory Kind = "directory"
)

// Version is one kept content.
type Version struct {
	Path    string // relative to the folder, components joined by slashes
	Number  int64  // of all versions of the folder
	Time    time.Time
	Reason  Reason
	Kind    Kind
	Size    int64
	Mode    uint32 // permission bits
	MtimeNs int64
	Writer  string
	Link    string // a link's text
	Whole   bool   // false: only what was overwritten is kept, see Part

	inode  uint64
	in     int64 // see kept.In
	mark   int64 // see part
	block  int64
	blocks map[int64]bool
}

// Broker moves a file of the folder into the store, which the serving process cannot do itself, as the two are
// different mounts for it.
type Broker interface {
	// Move moves the object of device and inode that path names to versions/<writer>/d<directory>/<as>. It must not
	// replace anything there. An error means that nothing was moved.
	Move(path []string, device, inode uint64, directory int64, as string) error
}

// Options say where and how versions are kept.
type Options struct {
	// Store is a descriptor of the folder's store. Open does not take it over.
	Store int
	// Proc is a directory descriptor of /proc/self/fd, to open what is held by O_PATH. Open does not take it over.
	Proc   int
	Writer string
	// KeepDays is how long a version is kept.
	KeepDays int
	// LimitBytes bounds the folder's versions; 0: 10 % of the free space, at most 5 GB.
	LimitBytes int64
	// Broker may be nil: then everything is copied.
	Broker Broker
	// Ask tells the user that the limit is reached and gives the answer; nil: refused. It returns after Patience.
	Ask func(Room)
	// Refused is told of each write that failed for want of room, and why; nil: nobody is.
	Refused func(about Room, why string)
	// PartsAbove is for tests, and the size of a block too; 0: the package's PartsAbove.
	PartsAbove int64
	// Patience is how long a write waits for an answer; 0: 60 s.
	Patience time.Duration
	// Step is called before each step with its name; an error there is that step's failure. For tests.
	Step func(string) error
}

const maxLimit = 5_000_000_000

// Store is one writer's end of a folder's versions.
type Store struct {
	o        Options
	versions int // versions/
	own      int // versions/<writer>/, locked
	log      *os.File
	counters int

	mu          sync.Mutex // guards what follows
	directories map[string]*moved
	nextDir     int64
	parts       int   // open ones
	broken      error // the log could not be written: nothing may be destroyed any more

	sync groupSync
	room room
}

// moved is an open d<k>.
type moved struct {
	once   sync.Once
	err    error
	number int64
}

// maxDirectories bounds the table of directories that files were moved from; a forgotten one costs a new d<k>.
const maxDirectories = 4096

// inUse is how long Open waits for the writer's process before. Tests wait less.
const inUseWait = 5 * time.Second

var inUse = inUseWait

func validWriter(name string) bool {
	if name == "" || len(name) > 64 {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// Open opens the store for one writer, finishes what a crash left and forgets what is older than KeepDays.
func Open(o Options) (_ *Store, err error) {
	if !validWriter(o.Writer) || o.KeepDays < 1 {
		return nil, unix.EINVAL
	}
	s := &Store{o: o, versions: -1, own: -1, counters: -1, directories: map[string]*moved{}}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.versions, err = subdirectory(o.Store, "versions"); err != nil {
		return nil, fmt.Errorf("versions: %w", err)
	}
	if s.own, err = s.lockOwn(); err != nil {
		return nil, err
	}
	if s.counters, err = openAt(s.versions, "counters", unix.O_RDWR|unix.O_CREAT); err != nil {
		return nil, fmt.Errorf("versions/counters: %w", err)
	}
	if err = s.recount(); err != nil {
		return nil, err
	}
	if s.nextDir, err = s.settle(s.own, o.Writer, true); err != nil {
		return nil, err
	}
	if s.log, err = openLog(s.versions, o.Writer, unix.O_RDWR|unix.O_APPEND); err != nil {
		return nil, err
	}
	if err = s.settleOthers(); err != nil {
		return nil, err
	}
	if err = s.recount(); err != nil {
		return nil, err
	}
	s.sync.do = func() error {
		if err := s.step("sync content's names"); err != nil {
			return err
		}
		if err := s.step("sync log"); err != nil {
			return err
		}
		// Side by side, as a filesystem with a journal does both at the price of one.
		names := make(chan error, 1)
		go func() { names <- unix.Fsync(s.own) }()
		err := unix.Fdatasync(int(s.log.Fd()))
		if failed := <-names; failed != nil {
			return failed
		}
		return err
	}
	s.room.init(s)
	return s, nil
}

// lockOwn makes and locks this writer's directory. The writer of a process that is just ending is waited for, and so is
// an Open that looks through what it kept before, which may remove the directory.
func (s *Store) lockOwn() (int, error) {
	for end := time.Now().Add(inUse); ; time.Sleep(20 * time.Millisecond) {
		own, err := subdirectory(s.versions, s.o.Writer)
		if err == nil {
			if err = s.lock(own, s.o.Writer); err == nil {
				return own, nil
			}
			unix.Close(own)
		}
		again := err == unix.EAGAIN || err == unix.ESTALE || err == unix.ENOENT
		if err != nil && (!again || time.Now().After(end)) {
			if err == unix.EAGAIN {
				return -1, fmt.Errorf("versions/%s is in use: %w", s.o.Writer, err)
			}
			return -1, fmt.Errorf("versions/%s: %w", s.o.Writer, err)
		}
	}
}

// lock locks a writer's directory, until own is closed. EAGAIN: somebody else has it. Who has it may remove the
// directory, so that its name is looked at once more under the lock; ESTALE: it is another one's, or nobody's.
func (s *Store) lock(own int, writer string) error {
	if err := s.step("lock " + writer); err != nil {
		return err
	}
	for {
		err := unix.Flock(own, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return err
		}
	}
	named, err := openAt(s.versions, writer, unix.O_PATH|unix.O_DIRECTORY)
	if err == unix.ENOENT {
		return unix.ESTALE
	}
	if err != nil {
		return err
	}
	defer unix.Close(named)
	var locked, current unix.Stat_t
	if err := unix.Fstat(own, &locked); err != nil {
		return err
	}
	if err := unix.Fstat(named, &current); err != nil {
		return err
	}
	if locked.Dev != current.Dev || locked.Ino != current.Ino {
		return unix.ESTALE
	}
	return nil
}

func (s *Store) step(name string) error {
	if s.o.Step == nil {
		return nil
	}
	return s.o.Step(name)
}

// Close gives up the lock. Nothing may be in progress.
func (s *Store) Close() {
	if s.log != nil {
		s.log.Close()
	}
	for _, fd := range []int{s.counters, s.own, s.versions} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

func subdirectory(dir int, name string) (int, error) {
	if err := unix.Mkdirat(dir, name, 0o700); err == nil {
		if err := syncDirectory(dir); err != nil {
			return -1, err
		}
	} else if err != unix.EEXIST {
		return -1, err
	}
	return openAt(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
}

func syncDirectory(dir int) error {
	fd, err := openAt(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY) // dir may be O_PATH
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fsync(fd)
}

func openAt(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func openLog(versions int, writer string, flags int) (*os.File, error) {
	fd, err := openAt(versions, writer+".log", flags)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), writer+".log"), nil
}

// names lists a directory.
func names(dir int) ([]string, error) {
	fd, err := openAt(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "directory")
	defer f.Close()
	return f.Readdirnames(-1)
}

// append writes a record. It is durable after the next sync only.
func (s *Store) append(r *record) error {
	line, err := encode(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	if err := s.step("append"); err != nil {
		return err
	}
	end, err := s.log.Seek(0, 2)
	if err != nil {
		return err
	}
	if n, err := s.log.Write(line); err != nil {
		// Half a record in the middle of the log would be damage.
		if n > 0 {
			if cut := unix.Ftruncate(int(s.log.Fd()), end); cut != nil {
				s.broken = cut
			}
		}
		return err
	}
	return nil
}

// count takes the next number and adds to the bytes in use, for all writers.
func (s *Store) count(numbers, bytes int64) (number, used int64, err error) {
	unlock, err := s.lockCounters()
	if err != nil {
		return 0, 0, err
	}
	defer unlock()
	next, used, err := readCounters(s.counters)
	if err != nil {
		return 0, 0, err
	}
	used = max(0, used+bytes)
	return next, used, writeCounters(s.counters, next+numbers, used)
}

// lockCounters holds against other processes and against this one's own goroutines, which share the descriptor.
func (s *Store) lockCounters() (func(), error) {
	counting.Lock()
	for {
		err := unix.Flock(s.counters, unix.LOCK_EX)
		if err == nil {
			return func() { _ = unix.Flock(s.counters, unix.LOCK_UN); counting.Unlock() }, nil
		}
		if err != unix.EINTR {
			counting.Unlock()
			return nil, err
		}
	}
}

var counting sync.Mutex

// turnAt is where the counters' second line begins: the last writer that an Open looked through, see takeTurn.
const turnAt = 42

func readCounters(fd int) (next, used int64, err error) {
	var b [turnAt]byte
	n, err := unix.Pread(fd, b[:], 0)
	if err != nil {
		return 0, 0, err
	}
	if _, err := fmt.Sscanf(string(b[:n]), "%d %d\n", &next, &used); err != nil || next < 1 || used < 0 {
		return 1, 0, nil // remade at each open
	}
	return next, used, nil
}

func writeCounters(fd int, next, used int64) error {
	_, err := unix.Pwrite(fd, fmt.Appendf(nil, "%-20d %-20d\n", next, used), 0)
	return err
}

// readTurn gives a name; whatever a crash made of it, it is a place in the order of writers.
func readTurn(fd int) (string, error) {
	var b [64]byte
	n, err := unix.Pread(fd, b[:], turnAt)
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(b[:n]), " \n"), nil
}

func writeTurn(fd int, writer string) error {
	_, err := unix.Pwrite(fd, fmt.Appendf(nil, "%-64s\n", writer), turnAt)
	return err
}

// recount makes the counters anew from what there is.
func (s *Store) recount() error {
	unlock, err := s.lockCounters()
	if err != nil {
		return err
	}
	defer unlock()
	next, _, err := readCounters(s.counters)
	if err != nil {
		return err
	}
	used := int64(0)
	damage := s.each(func(v Version) error {
		next = max(next, v.Number+1)
		used += v.bytes()
		return nil
	})
	var damaged *Damage
	if damage != nil && !errors.As(damage, &damaged) {
		return damage
	}
	return writeCounters(s.counters, next, used)
}

// Used gives the bytes that the folder's versions hold, small ones rounded up.
func (s *Store) Used() (int64, error) {
	_, used, err := s.count(0, 0)
	return used, err
}

// each hands over all versions of all writers, oldest first within a writer.
func (s *Store) each(do func(Version) error) error {
	writers, err := s.writers()
	if err != nil {
		return err
	}
	var damage error
	for _, writer := range writers {
		log, err := openLog(s.versions, writer, unix.O_RDONLY)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return err
		}
		dropped := map[int64]bool{}
		blocks, whole := map[int64]map[int64]bool{}, map[int64]bool{}
		if _, err = read(log, writer, func(r *record) error {
			if r.Dropped != 0 {
				dropped[r.Dropped] = true
			}
			if r.Saved != nil {
				note(r.Saved, blocks, whole)
			}
			return nil
		}); err != nil && damage == nil {
			damage = err
		}
		_, err = read(log, writer, func(r *record) error {
			if r.Kept == nil || dropped[r.Kept.Number] {
				return nil
			}
			v := r.Kept.version(writer)
			if r.Kept.Part != nil {
				v.mark, v.block, v.blocks = r.Kept.Part.Mark, max(1, r.Kept.Part.Block), blocks[v.Number]
				v.Whole = whole[v.Number] || int64(len(v.blocks))*v.block >= v.Size
			}
			return do(v)
		})
		log.Close()
		var damaged *Damage
		if err != nil && !errors.As(err, &damaged) {
			return err
		}
	}
	return damage
}

func (k *kept) version(writer string) Version {
	return Version{
		Path: string(k.Path), Number: k.Number, Time: time.UnixMilli(k.TimeMs), Reason: k.Reason, Kind: k.Kind,
		Size: k.Size, Mode: k.Mode, MtimeNs: k.MtimeNs, Writer: writer, Link: string(k.Link), Whole: true, in: k.In, inode: k.Inode,
	}
}

// note gathers what was saved of parts.
func note(r *saved, blocks map[int64]map[int64]bool, whole map[int64]bool) {
	if r.Whole {
		whole[r.Number] = true
		return
	}
	if blocks[r.Number] == nil {
		blocks[r.Number] = map[int64]bool{}
	}
	blocks[r.Number][r.Block] = true
}

// bytes is what a version takes in the store.
func (v *Version) bytes() int64 {
	if v.Whole {
		return cost(v.Size)
	}
	return cost(0) + int64(len(v.blocks))*v.block
}

// writers lists whose logs there are.
func (s *Store) writers() ([]string, error) {
	all, err := names(s.versions)
	if err != nil {
		return nil, err
	}
	var writers []string
	for _, name := range all {
		if writer, isLog := strings.CutSuffix(name, ".log"); isLog && validWriter(writer) {
			writers = append(writers, writer)
		}
	}
	sort.Strings(writers)
	return writers, nil
}

// History gives the versions of path, and with below also of everything beneath it, newest first. The error may be
// damage in a log: what could be read is given all the same.
func (s *Store) History(path string, below bool) ([]Version, error) {
	var found []Version
	err := s.each(func(v Version) error {
		if v.Path == path || below && (path == "" || strings.HasPrefix(v.Path, path+"/")) {
			found = append(found, v)
		}
		return nil
	})
	sort.Slice(found, func(i, j int) bool { return found[i].Number > found[j].Number })
	return found, err
}

// Content opens a file version's content.
func (s *Store) Content(v Version) (*os.File, error) {
	dir, err := openAt(s.versions, v.Writer, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	name := strconv.FormatInt(v.Number, 10)
	if v.in != 0 {
		inner, err := openAt(dir, directoryName(v.in), unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return nil, err
		}
		defer unix.Close(inner)
		dir, name = inner, base(v.Path)
	}
	fd, err := openAt(dir, name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, unix.EIO
	}
	opened, err := reopen(s.o.Proc, fd, unix.O_RDONLY)
	if err == unix.EACCES && v.in != 0 {
		// A moved file kept its mode, which may forbid reading; the store is ours, and the mode is in the record.
		if err = unix.Fchmodat(s.o.Proc, strconv.Itoa(fd), v.Mode|0o400, 0); err == nil {
			opened, err = reopen(s.o.Proc, fd, unix.O_RDONLY)
			_ = unix.Fchmodat(s.o.Proc, strconv.Itoa(fd), v.Mode, 0)
		}
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(opened), name), nil
}

func directoryName(number int64) string { return "d" + strconv.FormatInt(number, 10) }

// reopen opens what an O_PATH descriptor holds.
func reopen(proc, fd, flags int) (int, error) {
	for {
		opened, err := unix.Openat(proc, strconv.Itoa(fd), flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != unix.EINTR {
			return opened, err
		}
	}
}
