//go:build linux

package versions

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Victim is what is about to lose content.
type Victim struct {
	// Path is what it is remembered as.
	Path []string
	// At is where it is in the folder right now, for Move; nil: at Path.
	At []string
	// FD holds it; O_PATH will do.
	FD     int
	Reason Reason
}

func (v *Victim) path() ([]byte, error) {
	joined := strings.Join(v.Path, "/")
	if len(joined) > maxPath {
		return nil, unix.ENAMETOOLONG
	}
	return []byte(joined), nil
}

func kindOf(mode uint32) Kind {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return File
	case unix.S_IFLNK:
		return Link
	case unix.S_IFDIR:
		return Directory
	}
	return ""
}

// keptOf describes a victim as it is.
func (v *Victim) keptOf(st *unix.Stat_t) (*kept, error) {
	p, err := v.path()
	if err != nil {
		return nil, err
	}
	k := &kept{
		Path: p, TimeMs: time.Now().UnixMilli(), Reason: v.Reason, Kind: kindOf(st.Mode), Size: st.Size,
		Mode: st.Mode & 0o7777, MtimeNs: st.Mtim.Nano(), Inode: st.Ino,
	}
	switch k.Kind {
	case "":
		return nil, unix.EINVAL
	case Directory:
		k.Size = 0
	case Link:
		if k.Link, err = readLink(v.FD); err != nil {
			return nil, err
		}
	}
	return k, nil
}

func readLink(fd int) ([]byte, error) {
	var text [maxPath + 1]byte
	n, err := unix.Readlinkat(fd, "", text[:])
	if err != nil {
		return nil, err
	}
	if n > maxPath {
		return nil, unix.ENAMETOOLONG
	}
	return text[:n], nil
}

// Move takes the victim out of the folder: content, name and all. moved is false when that is not possible here (no
// broker, another filesystem) or would keep nothing, as the file has another name by which it is written: the victim is
// where it was, and Keep is the way. With an error nothing was moved.
func (s *Store) Move(v Victim) (moved bool, err error) {
	if s.o.Broker == nil || len(v.Path) == 0 {
		return false, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(v.FD, &st); err != nil {
		return false, err
	}
	k, err := v.keptOf(&st)
	if err != nil {
		return false, err
	}
	if k.Kind == Directory {
		return false, unix.EISDIR
	}
	if k.Kind == File && st.Nlink > 1 {
		return false, nil
	}
	release, err := s.room.take(string(k.Path), cost(k.Size))
	if err != nil {
		return false, err
	}
	name, at := v.Path[len(v.Path)-1], v.At
	parent := string(k.Path[:max(0, len(k.Path)-len(name)-1)])
	if at == nil {
		at = v.Path
	}
	for range 2 {
		if k.In, err = s.directoryFor(parent); err != nil {
			break
		}
		if err = s.step("move"); err != nil {
			break
		}
		err = s.o.Broker.Move(at, st.Dev, st.Ino, k.In, name)
		if !errors.Is(err, unix.EEXIST) {
			break
		}
		s.forgetDirectory(parent, k.In) // something of that name lies there already
	}
	if err != nil {
		release()
		// Whatever the reason is (another filesystem, the name is gone, the broker has ended): nothing was moved.
		return false, nil
	}
	// From here on the content is safe. A missing record is made anew by the next Open.
	number, _, err := s.count(1, 0)
	if err == nil {
		k.Number = number
		_ = s.append(&record{Kept: k})
	}
	return true, nil
}

// directoryFor gives the number of the d<k> for files of one directory; its record is durable.
func (s *Store) directoryFor(parent string) (int64, error) {
	s.mu.Lock()
	d := s.directories[parent]
	if d == nil {
		if len(s.directories) >= maxDirectories {
			for other := range s.directories {
				delete(s.directories, other)
				break
			}
		}
		s.nextDir++
		d = &moved{number: s.nextDir}
		s.directories[parent] = d
	}
	s.mu.Unlock()
	d.once.Do(func() {
		if d.err = s.append(&record{Directory: &directory{Number: d.number, Path: []byte(parent)}}); d.err != nil {
			return
		}
		if d.err = s.step("make directory"); d.err != nil {
			return
		}
		if d.err = unix.Mkdirat(s.own, directoryName(d.number), 0o700); d.err != nil {
			return
		}
		d.err = s.sync.wait()
	})
	if d.err != nil {
		s.forgetDirectory(parent, d.number)
	}
	return d.number, d.err
}

func (s *Store) forgetDirectory(parent string, number int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.directories[parent]; d != nil && d.number == number {
		delete(s.directories, parent)
	}
}

// Keep copies the victim's content, or shares its blocks. When it returns without an error, the version is durable.
func (s *Store) Keep(v Victim) error {
	for try := 0; ; try++ {
		changed, err := s.keep(v, try == 2)
		if err != nil || !changed {
			return err
		}
	}
}

// keep reports changed when the victim was written to meanwhile and nothing was kept.
func (s *Store) keep(v Victim, whatever bool) (changed bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(v.FD, &st); err != nil {
		return false, err
	}
	k, err := v.keptOf(&st)
	if err != nil {
		return false, err
	}
	release, err := s.room.take(string(k.Path), cost(k.Size))
	if err != nil {
		return false, err
	}
	defer func() {
		if err != nil || changed {
			release()
		}
	}()
	if k.Number, _, err = s.count(1, 0); err != nil {
		return false, err
	}
	if k.Kind == File {
		if changed, err = s.copyIn(&v, k, &st, whatever); err != nil || changed {
			return changed, err
		}
	}
	if err := s.append(&record{Kept: k}); err != nil {
		s.drop(k)
		return false, err
	}
	if err := s.sync.wait(); err != nil {
		// The record may be there after all, so that it is said to be void.
		if s.append(&record{Dropped: k.Number}) == nil {
			s.drop(k)
		}
		return false, err
	}
	return false, nil
}

// Note records a directory that is removed. It has no content, so nothing is synced, and nobody is asked for room: after
// a power cut, or without room, its mode and times are unknown.
func (s *Store) Note(v Victim) error {
	var st unix.Stat_t
	if err := unix.Fstat(v.FD, &st); err != nil {
		return err
	}
	k, err := v.keptOf(&st)
	if err != nil {
		return err
	}
	number, used, err := s.count(1, cost(0))
	if err != nil {
		return err
	}
	limit, err := s.room.limit(used)
	if err == nil && used > limit {
		err = unix.ENOSPC
	}
	if err == nil {
		k.Number = number
		err = s.append(&record{Kept: k})
	}
	if err != nil {
		_, _, _ = s.count(0, -cost(0))
	}
	return err
}

// cost is what a version of so many bytes counts. Small ones count too, as a guest may make very many.
func cost(size int64) int64 { return max(size, 4096) }

func (s *Store) drop(k *kept) {
	if k.Kind == File {
		_ = unix.Unlinkat(s.own, strconv.FormatInt(k.Number, 10), 0)
	}
}

func (s *Store) copyIn(v *Victim, k *kept, before *unix.Stat_t, whatever bool) (changed bool, err error) {
	from, err := reopen(s.o.Proc, v.FD, unix.O_RDONLY)
	if err == unix.EACCES {
		// A mode that forbids the owner to read: it is given for this moment, as the content is what counts.
		number := strconv.Itoa(v.FD)
		if err = unix.Fchmodat(s.o.Proc, number, k.Mode|0o400, 0); err == nil {
			from, err = reopen(s.o.Proc, v.FD, unix.O_RDONLY)
			_ = unix.Fchmodat(s.o.Proc, number, k.Mode, 0)
			if statErr := unix.Fstat(v.FD, before); statErr != nil && err == nil {
				unix.Close(from)
				err = statErr
			}
		}
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(from)
	if err := s.step("create content"); err != nil {
		return false, err
	}
	name := strconv.FormatInt(k.Number, 10)
	to, err := openAt(s.own, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return false, err
	}
	defer unix.Close(to)
	defer func() {
		if err != nil || changed {
			s.drop(k)
		}
	}()
	if err := s.step("copy content"); err != nil {
		return false, err
	}
	if err := CopyContent(to, from); err != nil {
		return false, err
	}
	var after unix.Stat_t
	if err := unix.Fstat(from, &after); err != nil {
		return false, err
	}
	if (after.Size != before.Size || after.Mtim != before.Mtim || after.Ctim != before.Ctim) && !whatever {
		return true, nil
	}
	k.Size = after.Size
	if err := s.step("sync content"); err != nil {
		return false, err
	}
	return false, unix.Fdatasync(to)
}

// CopyContent makes the file behind to a copy of the one behind from: content, holes, and user.* attributes where both
// can have them. It shares blocks where the filesystem can.
func CopyContent(to, from int) error {
	if err := copyBytes(to, from); err != nil {
		return err
	}
	copyAttributes(to, from)
	return nil
}

func copyBytes(to, from int) error {
	if unix.IoctlFileClone(to, from) == nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return err
	}
	var buffer []byte
	for at := int64(0); at < st.Size; {
		data, err := unix.Seek(from, at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break // a hole up to the end
		}
		if err != nil {
			data = at // a filesystem that knows no holes
		}
		end, err := unix.Seek(from, data, unix.SEEK_HOLE)
		if err != nil || end <= data {
			end = st.Size
		}
		for data < end {
			inAt, outAt := data, data
			n, err := unix.CopyFileRange(from, &inAt, to, &outAt, int(min(end-data, 1<<30)), 0)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				if err == unix.ENOSPC || err == unix.EDQUOT || err == unix.EIO {
					return err
				}
				if buffer == nil {
					buffer = make([]byte, 1<<20)
				}
				if n, err = copyChunk(to, from, data, buffer[:min(int64(len(buffer)), end-data)]); err != nil {
					return err
				}
			}
			if n == 0 {
				return unix.Ftruncate(to, data) // it became shorter
			}
			data += int64(n)
		}
		at = end
	}
	return unix.Ftruncate(to, st.Size)
}

func copyChunk(to, from int, at int64, buffer []byte) (int, error) {
	n, err := unix.Pread(from, buffer, at)
	if err != nil {
		return 0, err
	}
	for done := 0; done < n; {
		w, err := unix.Pwrite(to, buffer[done:n], at+int64(done))
		if err != nil && err != unix.EINTR {
			return 0, err
		}
		done += max(w, 0)
	}
	return n, nil
}

// copyAttributes is best effort: a filesystem may have none, or no room for them.
func copyAttributes(to, from int) {
	var list [64 << 10]byte
	n, err := unix.Flistxattr(from, list[:])
	if err != nil || n == 0 {
		return
	}
	value := make([]byte, 64<<10)
	for _, name := range strings.Split(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		if !strings.HasPrefix(name, "user.") {
			continue
		}
		if n, err := unix.Fgetxattr(from, name, value); err == nil {
			_ = unix.Fsetxattr(to, name, value[:n], 0)
		}
	}
}

// groupSync lets those who wait at the same time share one sync.
type groupSync struct {
	do   func() error
	mu   sync.Mutex
	next *syncRound // not begun yet
	busy sync.Mutex // held by the round that runs
}

type syncRound struct {
	done chan struct{}
	err  error
}

// wait returns when a sync that began after the call is done.
func (g *groupSync) wait() error {
	g.mu.Lock()
	if r := g.next; r != nil {
		g.mu.Unlock()
		<-r.done
		return r.err
	}
	r := &syncRound{done: make(chan struct{})}
	g.next = r
	g.mu.Unlock()
	g.busy.Lock()
	g.mu.Lock()
	g.next = nil
	g.mu.Unlock()
	r.err = g.do()
	g.busy.Unlock()
	close(r.done)
	return r.err
}

// base gives the last component of a version's path.
func base(p string) string { return p[strings.LastIndexByte(p, '/')+1:] }
