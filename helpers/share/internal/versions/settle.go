//go:build linux

package versions

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxOthers bounds how many other writers' versions one Open looks through for what is too old.
const maxOthers = 64

// settleOthers forgets what is too old of writers that do not run. Those that do have their directory locked.
func (s *Store) settleOthers() error {
	writers, err := s.takeTurn()
	if err != nil {
		return err
	}
	for _, writer := range writers {
		own, err := openAt(s.versions, writer, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			continue // its content is gone; History says so when it is asked for
		}
		err = s.settleOther(own, writer)
		unix.Close(own)
		// Damage in another writer's log must not keep this one from working; History tells it.
		var damaged *Damage
		var newer *NewerFormat
		if err != nil && !errors.As(err, &damaged) && !errors.As(err, &newer) {
			return err
		}
	}
	return nil
}

func (s *Store) settleOther(own int, writer string) error {
	err := s.lock(own, writer)
	if err == unix.EAGAIN || err == unix.ESTALE {
		return nil // it runs, or another Open has just removed it
	}
	if err != nil {
		return err
	}
	_, err = s.settle(own, writer, false)
	return err
}

// takeTurn gives the other writers that this Open looks through: those that follow by name on the ones of the Open
// before, so that each has its turn however many there are. The place is moved on before anything is done with them:
// Opens at the same time take different ones, and one that cannot be settled does not hold up those behind it.
func (s *Store) takeTurn() ([]string, error) {
	unlock, err := s.lockCounters()
	if err != nil {
		return nil, err
	}
	defer unlock()
	all, err := names(s.versions)
	if err != nil {
		return nil, err
	}
	var writers []string
	for _, name := range all {
		// One whose removal was not finished has a directory and no log.
		writer, _ := strings.CutSuffix(name, ".log")
		if validWriter(writer) && writer != s.o.Writer && name != "counters" {
			writers = append(writers, writer)
		}
	}
	slices.Sort(writers)
	writers = slices.Compact(writers)
	if len(writers) <= maxOthers {
		return writers, nil
	}
	last, err := readTurn(s.counters)
	if err != nil {
		return nil, err
	}
	next, found := slices.BinarySearch(writers, last)
	if found {
		next++
	}
	writers = slices.Concat(writers[next:], writers[:next])[:maxOthers]
	return writers, writeTurn(s.counters, writers[maxOthers-1])
}

// settle brings a writer's log and directory in accordance: a torn tail is cut, moved files without a record get one,
// copies without a record (their preserving was not finished, so nothing was destroyed) are removed, and so is what
// is too old. An ended writer (create is false) that has nothing left then is removed itself. The caller holds the
// writer's lock. It gives the highest number of a d<k>.
func (s *Store) settle(own int, writer string, create bool) (lastDir int64, err error) {
	oldest := time.Now().AddDate(0, 0, -s.o.KeepDays)
	flags := unix.O_RDWR
	if create {
		flags |= unix.O_CREAT
	}
	log, err := openLog(s.versions, writer, flags)
	if err == unix.ENOENT && !create { // a removal that was not finished
		return 0, s.removeDirectory(writer)
	}
	if err != nil {
		return 0, fmt.Errorf("versions/%s.log: %w", writer, err)
	}
	defer log.Close()
	live := map[string]*kept{} // by where the content is
	var without []*kept        // versions without content
	directories := map[int64]*directory{}
	blocks := map[int64][]*saved{}
	stale := 0
	end, err := read(log, writer, func(r *record) error {
		switch {
		case r.Directory != nil:
			directories[r.Directory.Number] = r.Directory
			lastDir = max(lastDir, r.Directory.Number)
		case r.Kept != nil && r.Kept.Kind != File && r.Kept.In == 0:
			without = append(without, r.Kept)
		case r.Kept != nil:
			live[r.Kept.place()] = r.Kept
		case r.Saved != nil:
			blocks[r.Saved.Number] = append(blocks[r.Saved.Number], r.Saved)
		case r.Dropped != 0:
			stale++
			delete(live, strconv.FormatInt(r.Dropped, 10))
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	size, err := log.Seek(0, 2)
	if err != nil {
		return 0, err
	}
	if end < size {
		if err := log.Truncate(end); err != nil {
			return 0, err
		}
	}
	fresh := end == 0
	var made []*kept
	present := map[string]bool{}
	entries, err := names(own)
	if err != nil {
		return 0, err
	}
	for _, name := range entries {
		number, isDir := strings.CutPrefix(name, "d")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			continue
		}
		if !isDir {
			present[name] = true
			if live[name] == nil {
				if err := unix.Unlinkat(own, name, 0); err != nil {
					return 0, err
				}
			}
			continue
		}
		lastDir = max(lastDir, n)
		d := directories[n]
		if d == nil {
			_ = unix.Unlinkat(own, name, unix.AT_REMOVEDIR) // nothing is moved before the record is durable
			continue
		}
		found, err := s.movedFiles(own, d, present, live)
		if err != nil {
			return 0, err
		}
		made = append(made, found...)
	}
	for _, k := range made {
		live[k.place()] = k
	}
	for place, k := range live {
		switch {
		case !present[place]:
			stale++
			delete(live, place)
		case time.UnixMilli(k.TimeMs).Before(oldest):
			stale++
			delete(live, place)
			if err := remove(own, k); err != nil {
				return 0, err
			}
		}
	}
	current := without[:0]
	for _, k := range without {
		if time.UnixMilli(k.TimeMs).Before(oldest) {
			stale++
		} else {
			current = append(current, k)
		}
	}
	for n := range directories {
		if unix.Unlinkat(own, directoryName(n), unix.AT_REMOVEDIR) == nil { // only an empty one goes
			stale++
		}
	}
	if !create && len(live) == 0 && len(current) == 0 {
		if removed, err := s.removeWriter(own, writer); removed || err != nil {
			return 0, err
		}
	}
	if !fresh && stale == 0 && len(made) == 0 {
		return lastDir, nil
	}
	return lastDir, rewrite(s.versions, own, writer, live, current, directories, blocks)
}

// removeWriter removes an ended writer whose log has no versions left, unless something unknown lies in its directory.
// The directory goes last, as its lock is what keeps the writer from coming back meanwhile: a log that is removed
// after it could be the new one. Each step is durable before the next, so that a power cut leaves neither content nor
// a log that nobody would find again.
func (s *Store) removeWriter(own int, writer string) (removed bool, err error) {
	left, err := names(own)
	if err != nil || len(left) > 0 {
		return false, err
	}
	if err := s.step("sync removed content"); err != nil {
		return false, err
	}
	if err := unix.Fsync(own); err != nil {
		return false, err
	}
	for _, name := range []string{writer + ".log.new", writer + ".log"} {
		if err := s.step("remove " + name); err != nil {
			return false, err
		}
		if err := gone(unix.Unlinkat(s.versions, name, 0)); err != nil {
			return false, err
		}
	}
	if err := s.step("sync removed log"); err != nil {
		return false, err
	}
	if err := syncDirectory(s.versions); err != nil {
		return false, err
	}
	return true, s.removeDirectory(writer)
}

// removeDirectory removes the directory of a writer that has no log, if nothing is in it. The caller holds its lock.
func (s *Store) removeDirectory(writer string) error {
	if err := s.step("remove directory"); err != nil {
		return err
	}
	err := unix.Unlinkat(s.versions, writer, unix.AT_REMOVEDIR)
	if err == unix.ENOTEMPTY || err == unix.EEXIST {
		return nil // content without a log: not ours to judge
	}
	return err
}

func (k *kept) place() string {
	if k.In != 0 {
		return directoryName(k.In) + "/" + base(string(k.Path))
	}
	return strconv.FormatInt(k.Number, 10)
}

// movedFiles notes what lies in a d<k> and makes versions of what has no record: it was moved, and the process or the
// machine ended before the record was written.
func (s *Store) movedFiles(own int, d *directory, present map[string]bool, live map[string]*kept) ([]*kept, error) {
	dir, err := openAt(own, directoryName(d.Number), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	entries, err := names(dir)
	if err != nil {
		return nil, err
	}
	var made []*kept
	for _, name := range entries {
		place := directoryName(d.Number) + "/" + name
		present[place] = true
		if live[place] != nil {
			continue
		}
		fd, err := openAt(dir, name, unix.O_PATH)
		if err != nil {
			return nil, err
		}
		var st unix.Stat_t
		if err = unix.Fstat(fd, &st); err == nil {
			v := Victim{FD: fd, Reason: Deleted, Path: []string{name}}
			var k *kept
			if k, err = v.keptOf(&st); err == nil {
				if len(d.Path) > 0 {
					k.Path = append(append(append([]byte{}, d.Path...), '/'), name...)
				}
				k.In = d.Number
				k.TimeMs = st.Ctim.Nano() / 1e6 // a rename sets it
				k.Number, _, err = s.count(1, 0)
				made = append(made, k)
			}
		}
		unix.Close(fd)
		if err != nil {
			return nil, err
		}
	}
	return made, nil
}

func remove(own int, k *kept) error {
	if k.In == 0 {
		return gone(unix.Unlinkat(own, strconv.FormatInt(k.Number, 10), 0))
	}
	dir, err := openAt(own, directoryName(k.In), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return gone(err)
	}
	defer unix.Close(dir)
	return gone(unix.Unlinkat(dir, base(string(k.Path)), 0))
}

func gone(err error) error {
	if err == unix.ENOENT {
		return nil
	}
	return err
}

// rewrite replaces a log by one with what is left. At any moment the one or the other is whole.
func rewrite(versions, own int, writer string, live map[string]*kept, without []*kept, directories map[int64]*directory, blocks map[int64][]*saved) error {
	name := writer + ".log.new"
	fd, err := openAt(versions, name, unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	all := []*record{{Format: &header{Version: format, Writer: writer}}}
	for n, d := range directories {
		if fd, err := openAt(own, directoryName(n), unix.O_PATH|unix.O_DIRECTORY); err == nil {
			unix.Close(fd)
			all = append(all, &record{Directory: d})
		}
	}
	for _, k := range live {
		all = append(all, &record{Kept: k})
		for _, b := range blocks[k.Number] {
			all = append(all, &record{Saved: b})
		}
	}
	for _, k := range without {
		all = append(all, &record{Kept: k})
	}
	var text []byte
	for _, r := range all {
		line, err := encode(r)
		if err != nil {
			return err
		}
		text = append(text, line...)
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	if err := unix.Fdatasync(fd); err != nil {
		return err
	}
	if err := unix.Renameat(versions, name, versions, writer+".log"); err != nil {
		return err
	}
	return syncDirectory(versions)
}
