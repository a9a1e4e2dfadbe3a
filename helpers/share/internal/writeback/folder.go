//go:build linux

package writeback

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cloche/share/internal/names"
)

// Kind is what stands under a name.
type Kind uint8

const (
	// Other is what is never written or replaced: FIFOs, sockets, devices.
	Other Kind = iota
	File
	Directory
	Link
)

func kindOf(mode uint32) Kind {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return File
	case unix.S_IFDIR:
		return Directory
	case unix.S_IFLNK:
		return Link
	}
	return Other
}

func newTemp() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return names.TemporaryPrefix + "apply-" + hex.EncodeToString(b[:])
}

func identityOf(st *unix.Stat_t) *Identity {
	return &Identity{
		Object: Object{st.Dev, st.Ino}, Kind: kindOf(st.Mode), Mode: st.Mode & 0o7777, Size: st.Size,
		MtimeNs: st.Mtim.Nano(), CtimeNs: st.Ctim.Nano(),
	}
}

// is holds what is there against what was expected. Of directories only the object counts: their times and sizes change
// with every name in them.
func (e *Identity) is(found *Identity, ctime bool) bool {
	if found == nil || !e.same(found.Object) || e.Kind != found.Kind {
		return false
	}
	if e.Kind == Directory {
		return true
	}
	return e.Size == found.Size && e.MtimeNs == found.MtimeNs && e.Mode&0o777 == found.Mode&0o777 &&
		(!ctime || e.CtimeNs == 0 || e.CtimeNs == found.CtimeNs)
}

// look tells what stands under a name of a held directory; nil when nothing does.
func look(dir int, name string) (*Identity, error) {
	var st unix.Stat_t
	err := retry(func() error { return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err == unix.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return identityOf(&st), nil
}

func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// walkHow: one component, which is a directory of this filesystem and no link.
var walkHow = unix.OpenHow{
	Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
	Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
}

func (f *Folder) step(dir int, name string) (int, error) {
	for {
		fd, err := unix.Openat2(dir, name, &walkHow)
		if err == unix.ENOSYS || err == unix.EPERM { // before Linux 5.6, or a filter that does not know the call
			fd, err = unix.Openat(dir, name, int(walkHow.Flags), 0)
		}
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

var errName = errors.New("a name that cannot be")

// split gives a path's directories and its last name.
func split(path string) (dirs []string, name string, err error) {
	parts := strings.Split(path, "/")
	for _, part := range parts {
		if part == "" || part == "." || part == ".." || len(part) > 255 || strings.IndexByte(part, 0) >= 0 || names.Temporary(part) {
			return nil, "", errName
		}
	}
	return parts[:len(parts)-1], parts[len(parts)-1], nil
}

// parent opens the directory in which a path's last name stands.
func (f *Folder) parent(path string) (dir int, name string, err error) {
	dirs, name, err := split(path)
	if err != nil {
		return -1, "", err
	}
	if dir, err = f.step(f.root, "."); err != nil {
		return -1, "", err
	}
	for _, each := range dirs {
		next, err := f.step(dir, each)
		if err == nil {
			var st unix.Stat_t
			if err = unix.Fstat(next, &st); err == nil && st.Dev != f.device {
				err = unix.EXDEV
			}
			if err != nil {
				unix.Close(next)
			}
		}
		unix.Close(dir)
		if err != nil {
			return -1, "", err
		}
		dir = next
	}
	return dir, name, nil
}

func objectOf(fd int) (Object, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return Object{st.Dev, st.Ino}, err
}

// stillThere walks a path's directories once more: the one that is held must be the one that they lead to.
func (f *Folder) stillThere(path string, held int) error {
	again, _, err := f.parent(path)
	if err != nil {
		return err
	}
	defer unix.Close(again)
	a, err := objectOf(again)
	if err != nil {
		return err
	}
	b, err := objectOf(held)
	if err == nil && a != b {
		err = errSwapped
	}
	return err
}

var errSwapped = errors.New("a directory on the way was moved or replaced")

// Xattrs that are kept and set: a user's own. Others are the host's business.
const userXattr = "user."

func readXattrs(fd int) (map[string][]byte, error) {
	buffer := make([]byte, 64<<10)
	n, err := unix.Flistxattr(fd, buffer)
	if err == unix.EOPNOTSUPP {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found map[string][]byte
	for _, name := range strings.Split(string(buffer[:n]), "\x00") {
		if !strings.HasPrefix(name, userXattr) {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Fgetxattr(fd, name, value)
		if err != nil {
			return nil, err
		}
		if found == nil {
			found = map[string][]byte{}
		}
		found[name] = append([]byte{}, value[:n]...)
	}
	return found, nil
}

// setXattrs makes a file's user attributes exactly these.
func setXattrs(fd int, want map[string][]byte) error {
	have, err := readXattrs(fd)
	if err != nil {
		return err
	}
	for name := range have {
		if _, kept := want[name]; !kept {
			if err := unix.Fremovexattr(fd, name); err != nil {
				return err
			}
		}
	}
	for name, value := range want {
		if old, there := have[name]; there && string(old) == string(value) {
			continue
		}
		if err := unix.Fsetxattr(fd, name, value, 0); err != nil {
			return err
		}
	}
	return nil
}

// setAttributes gives an open file or directory its attributes; the time last, as the others change it.
func (f *Folder) setAttributes(fd int, a *Attributes) error {
	if err := setXattrs(fd, a.Xattrs); err != nil {
		return err
	}
	mode := a.Mode & 0o7777
	if mode&setID != 0 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		if a.Owner == nil || *a.Owner != (Owner{st.Uid, st.Gid}) {
			mode &^= setID
		}
	}
	number := strconv.Itoa(fd)
	if err := retry(func() error { return unix.Fchmodat(f.proc, number, mode, 0) }); err != nil {
		return err
	}
	return retry(func() error {
		return unix.UtimesNanoAt(f.proc, number, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(a.MtimeNs)}, 0)
	})
}

// attributesOf reads what setAttributes sets.
func attributesOf(fd int) (*Attributes, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	xattrs, err := readXattrs(fd)
	a := &Attributes{Mode: st.Mode & 0o7777, MtimeNs: st.Mtim.Nano(), Xattrs: xattrs}
	if a.Mode&setID != 0 {
		a.Owner = &Owner{st.Uid, st.Gid}
	}
	return a, err
}

// setID are the bits by which a program runs as the owner or the group of its file.
const setID = unix.S_ISUID | unix.S_ISGID

// openObject opens a file or directory under a name if it is still the given object. Nothing else is ever opened: the
// first look is through O_PATH, which opens nothing.
func (f *Folder) openObject(dir int, name string, want Object, kind Kind) (int, error) {
	path, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(path)
	var st unix.Stat_t
	if err := unix.Fstat(path, &st); err != nil {
		return -1, err
	}
	if !want.same(Object{st.Dev, st.Ino}) || kindOf(st.Mode) != kind || kind != File && kind != Directory || kind == Directory && st.Dev != f.device {
		return -1, errSwapped
	}
	var fd int
	err = retry(func() (err error) {
		fd, err = unix.Openat(f.proc, strconv.Itoa(path), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		return err
	})
	return fd, err
}

// copyContent shares blocks where the filesystem can, and copies what is not a hole elsewhere.
func copyContent(to, from int) error {
	if unix.IoctlFileClone(to, from) == nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return err
	}
	buffer := make([]byte, 1<<20)
	for at := int64(0); ; {
		data, err := unix.Seek(from, at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break // only a hole is left
		}
		if err != nil {
			data = at // a filesystem without holes
		}
		n, err := unix.Pread(from, buffer, data)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		for done := 0; done < n; {
			m, err := unix.Pwrite(to, buffer[done:n], data+int64(done))
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return err
			}
			done += m
		}
		at = data + int64(n)
	}
	var now unix.Stat_t
	if err := unix.Fstat(from, &now); err != nil {
		return err
	}
	return unix.Ftruncate(to, max(st.Size, now.Size))
}

// empty tells whether a directory holds nothing but the given names.
func empty(fd int, but map[string]bool) (bool, error) {
	again, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	dir := os.NewFile(uintptr(again), ".")
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(100)
		for _, name := range names {
			if !but[name] {
				return false, nil
			}
		}
		if err != nil {
			return err == io.EOF, ignoreEnd(err)
		}
	}
}

func ignoreEnd(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// Options say where a Folder works.
type Options struct {
	// Root is the folder, Store its store; both stay the caller's.
	Root, Store int
	// Proc is a directory descriptor of /proc/self/fd.
	Proc int
	// Writer names this process's journal.
	Writer string
	// Keep is how long what applies took out is kept; 0 is for ever.
	Keep time.Duration
	// Version is given what an apply takes out of the folder, before it goes: its path, and a descriptor of it. Nil: nobody
	// keeps a history.
	Version func(path string, fd int, undo bool) error
	// Crash is called at each point at which a crash must do no harm; tests crash there.
	Crash func(point string)
	// Wait is how long another task's apply is waited for.
	Wait time.Duration
}

// ErrBusy is another task's apply that did not end in time.
var ErrBusy = errors.New("another task applies or takes back changes of this folder")

// lock takes the folder's lock.
func (f *Folder) lock() (unlock func(), err error) {
	fd, err := unix.Openat(f.store, "lock", unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the folder's lock: %w", err)
	}
	for end := time.Now().Add(f.wait); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { unix.Close(fd) }, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR || time.Now().After(end) {
			unix.Close(fd)
			if err == unix.EWOULDBLOCK {
				return nil, ErrBusy
			}
			return nil, fmt.Errorf("the folder's lock: %w", err)
		}
	}
}
