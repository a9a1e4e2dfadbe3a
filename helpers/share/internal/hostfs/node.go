//go:build linux

package hostfs

import (
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"cloche/share/internal/ninep"
	"cloche/share/internal/versions"
	"cloche/share/internal/wire"
)

type kind uint8

const (
	other kind = iota // FIFO, socket, device: seen and removed, never opened
	regular
	directory
	symlink
)

// node is a handle on one object.
type node struct {
	tree   *Tree
	fd     int // O_PATH, or the open file itself for one that Create made
	kind   kind
	device uint64 // with inode what the guest knows it by; stays when the guard moves the node to a copy
	inode  uint64
	links  uint64 // names that a regular file had when the node was made
	refs   atomic.Int32
	held   atomic.Pointer[inode] // the guard's, for a regular file

	place  sync.Mutex // guards what follows: where the node was walked to, which may be history by now
	parent *node      // holds a reference; nil for the root
	name   string
	lost   bool               // that name was removed by the guest
	now    object             // what it is on the host
	files  map[*file]struct{} // its open files, when there is a guard
}

var _ ninep.Node = (*node)(nil)

// adopt makes a node of a descriptor, and gives what fstat told of it; on failure the descriptor is closed. The guard's
// swap is held for reading from before the descriptor was opened.
func (t *Tree) adopt(fd int) (*node, unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, st, err
	}
	n := &node{tree: t, fd: fd, kind: kindOf(st.Mode), device: st.Dev, inode: st.Ino}
	if n.kind == regular {
		n.links = uint64(st.Nlink)
	}
	n.refs.Store(1)
	n.now = object{st.Dev, st.Ino}
	if t.guard != nil && n.kind == regular {
		t.guard.enter(n)
	}
	return n, st, nil
}

func kindOf(mode uint32) kind {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return regular
	case unix.S_IFDIR:
		return directory
	case unix.S_IFLNK:
		return symlink
	}
	return other
}

func (n *node) Hold() { n.refs.Add(1) }

// tryHold is for whoever found the node without having a reference: one that is given up stays so.
func (n *node) tryHold() bool {
	for {
		refs := n.refs.Load()
		if refs <= 0 {
			return false
		}
		if n.refs.CompareAndSwap(refs, refs+1) {
			return true
		}
	}
}

// Drop walks up instead of recursing: a guest may nest directories deeper than a stack should be.
func (n *node) Drop() {
	for n != nil && n.refs.Add(-1) == 0 {
		if n.held.Load() != nil {
			n.tree.guard.leave(n)
		}
		unix.Close(n.fd)
		n = n.parent
	}
}

func (n *node) QID() wire.QID {
	return wire.QID{Type: qidType(n.kind), Path: n.tree.qidPath(n.device, n.inode)}
}

func qidType(k kind) uint8 {
	switch k {
	case directory:
		return wire.QTDir
	case symlink:
		return wire.QTSymlink
	}
	return wire.QTFile
}

// qidPath is the inode number. Objects of another device than the root's (subvolumes of btrfs, layers of overlayfs;
// never another mount) have numbers of their own, which are set apart by the device's in the top bits.
func (t *Tree) qidPath(device, inode uint64) uint64 {
	if device == t.device || t.device == 0 {
		return inode
	}
	return inode ^ device*0x9E3779B97F4A7C15 | 1<<63
}

// walkHow: one component, no link, no other mount. With O_PATH|O_NOFOLLOW the last component may be a link, which
// is then itself what is opened.
var walkHow = unix.OpenHow{
	Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
	Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
}

func (n *node) Walk(name string) (ninep.Node, error) {
	child, err := n.walk(name)
	if err != nil {
		return nil, err
	}
	return child, nil
}

func (n *node) walk(name string) (*node, error) {
	if n.kind != directory {
		return nil, syscall.ENOTDIR
	}
	if err := n.stay(); err != nil {
		return nil, err
	}
	defer n.tree.steady()()
	fd, err := n.openPath(name)
	switch err {
	case nil:
	case unix.EXDEV:
		return nil, syscall.EACCES // another filesystem below the root; EXDEV would make `mv` copy
	default:
		return nil, err
	}
	if err := n.exact(name); err != nil {
		unix.Close(fd)
		return nil, err
	}
	child, _, err := n.tree.adopt(fd)
	if err != nil {
		return nil, err
	}
	if n.tree.oldKernel && child.device != n.tree.device {
		unix.Close(fd)
		return nil, syscall.EACCES
	}
	child.walkedFrom(n, name)
	return child, nil
}

// walkedFrom sets a new node's place; the guard knows the node already.
func (n *node) walkedFrom(parent *node, name string) {
	parent.Hold()
	n.place.Lock()
	n.parent, n.name = parent, name
	n.place.Unlock()
}

// openPath opens one component as O_PATH.
func (n *node) openPath(name string) (int, error) {
	for {
		var fd int
		var err error
		if n.tree.oldKernel {
			fd, err = unix.Openat(n.fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		} else {
			fd, err = unix.Openat2(n.fd, name, &walkHow)
		}
		if err == unix.EINTR || err == unix.EAGAIN { // EAGAIN: a rename elsewhere upset RESOLVE_BENEATH
			continue
		}
		return fd, err
	}
}

// steady keeps handles from changing to another inode until its result is called.
func (t *Tree) steady() func() {
	if t.guard == nil {
		return func() {}
	}
	t.guard.swap.RLock()
	return t.guard.swap.RUnlock
}

func (n *node) Parent() ninep.Node {
	n.place.Lock()
	defer n.place.Unlock()
	parent := n
	if n.parent != nil {
		parent = n.parent
	}
	parent.Hold()
	return parent
}

// Found tells which object of the host the node is, and how many names it had when the node was made if it is a regular file;
// the host is not asked.
func (n *node) Found() (device, inode, links uint64) {
	n.place.Lock()
	defer n.place.Unlock()
	return n.now.device, n.now.number, n.links
}

// Stat tells what the object is on the host.
func (n *node) Stat(st *unix.Stat_t) error {
	return retry(func() error { return unix.Fstat(n.fd, st) })
}

// Has tells whether a directory has a name as programs of the host find it: where the host folds case, in any spelling. What cannot be
// looked at counts as there.
func (n *node) Has(name string) (there, isDirectory bool) {
	var st unix.Stat_t
	err := retry(func() error { return unix.Fstatat(n.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	switch err {
	case nil:
		return true, kindOf(st.Mode) == directory
	case unix.ENOENT, unix.ENOTDIR:
		return false, false
	}
	return true, false
}

// Lacks tells whether Walk would find nothing at a name, which costs less where that is so.
func (n *node) Lacks(name string) (bool, error) {
	if n.kind != directory {
		return false, syscall.ENOTDIR
	}
	if err := n.stay(); err != nil {
		return false, err
	}
	var st unix.Stat_t
	err := retry(func() error { return unix.Fstatat(n.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return err == unix.ENOENT, nil
}

// number is the node's name in /proc/self/fd.
func (n *node) number() string { return strconv.Itoa(n.fd) }

func (n *node) Attr() (wire.Attr, error) {
	var st unix.Stat_t
	if err := unix.Fstat(n.fd, &st); err != nil {
		return wire.Attr{}, err
	}
	o := &n.tree.options
	return wire.Attr{
		QID:  n.QID(),
		Mode: st.Mode &^ (unix.S_ISUID | unix.S_ISGID | unix.S_ISVTX),
		UID:  o.UID, GID: o.GID,
		Nlink: uint64(st.Nlink), Size: uint64(st.Size), BlockSize: uint64(st.Blksize), Blocks: uint64(st.Blocks),
		Atime: toTime(st.Atim), Mtime: toTime(st.Mtim), Ctime: toTime(st.Ctim),
	}, nil
}

func toTime(t unix.Timespec) wire.Time { return wire.Time{Sec: uint64(t.Sec), Nsec: uint64(t.Nsec)} }

// permissions are the bits of a mode that reach the host.
const permissions = 0o777

func (n *node) SetAttr(change wire.SetAttr, open ninep.File) error {
	if err := n.tree.mayChange(); err != nil {
		return err
	}
	if n.kind == other {
		return syscall.EACCES
	}
	if n.held.Load() == nil { // else the guard looks
		if err := n.stay(); err != nil {
			return err
		}
	}
	if change.Valid&wire.SetSize != 0 {
		if err := n.truncate(change.Size, open); err != nil {
			return err
		}
	}
	// Owner and group: ours is what every file shows already, and any other is accepted and ignored, as `tar` and
	// `npm` set owners without need.
	if change.Valid&(wire.SetMode|wire.SetAtime|wire.SetMtime) == 0 {
		return nil
	}
	return n.change("", nil, func() error { return n.setModeAndTimes(change) })
}

func (n *node) setModeAndTimes(change wire.SetAttr) error {
	if change.Valid&wire.SetMode != 0 {
		if n.kind == symlink {
			return syscall.EOPNOTSUPP
		}
		err := retry(func() error {
			return unix.Fchmodat(n.tree.options.Proc, n.number(), change.Mode&permissions, 0)
		})
		if err != nil {
			return err
		}
	}
	if change.Valid&(wire.SetAtime|wire.SetMtime) != 0 {
		times := []unix.Timespec{
			timeChange(change.Valid, wire.SetAtime, wire.SetAtimeTo, change.Atime),
			timeChange(change.Valid, wire.SetMtime, wire.SetMtimeTo, change.Mtime),
		}
		set := func() error {
			return retry(func() error { return unix.UtimesNanoAt(n.tree.options.Proc, n.number(), times, 0) })
		}
		if now := times[1]; now.Nsec == unix.UTIME_NOW && n.held.Load() != nil {
			times[1] = unix.NsecToTimespec(time.Now().UnixNano()) // see stamp
			if err := set(); err != unix.EPERM {
				return err
			}
			times[1] = now // of a file of another user's one may set the present time only
		}
		return set()
	}
	return nil
}

func timeChange(valid, set, setTo uint32, to wire.Time) unix.Timespec {
	switch {
	case valid&set == 0:
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	case valid&setTo == 0:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	}
	// A nanosecond value out of range would be one of the two special ones above; the kernel refuses all others.
	if to.Nsec >= 1e9 {
		return unix.Timespec{Nsec: -1}
	}
	return unix.Timespec{Sec: int64(to.Sec), Nsec: int64(to.Nsec)}
}

func (n *node) truncate(size uint64, open ninep.File) error {
	switch {
	case n.kind == directory:
		return syscall.EISDIR
	case n.kind != regular:
		return syscall.EINVAL
	case int64(size) < 0:
		return syscall.EFBIG
	}
	shortens := func(st *unix.Stat_t) (from, to int64) { return int64(size), st.Size }
	return n.change(versions.Overwritten, shortens, func() error {
		// An open file that may be written is cut through itself, as its mode may forbid opening it again.
		f, ok := open.(*file)
		if ok && f.writable && f.node == n {
			return n.truncateFD(f.fd, size)
		}
		fd, err := n.reopen(unix.O_WRONLY)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return n.truncateFD(fd, size)
	})
}

func (n *node) truncateFD(fd int, size uint64) error {
	err := retry(func() error { return unix.Ftruncate(fd, int64(size)) })
	if err == nil && n.held.Load() != nil {
		n.stamp(fd)
	}
	return err
}

// reopen opens the node's object, whatever its name is by now. The node must be a regular file or a directory.
func (n *node) reopen(flags int) (int, error) {
	if n.kind != regular && n.kind != directory {
		return -1, syscall.ENXIO
	}
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Openat(n.tree.options.Proc, n.number(), flags|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
		return err
	})
	return fd, err
}

func (n *node) Readlink() (string, error) {
	if n.kind != symlink {
		return "", syscall.EINVAL
	}
	if err := n.stay(); err != nil {
		return "", err
	}
	var text [wire.MaxText + 1]byte
	var length int
	err := retry(func() (err error) {
		length, err = unix.Readlinkat(n.fd, "", text[:])
		return err
	})
	if err != nil {
		return "", err
	}
	if length > wire.MaxText {
		return "", syscall.ENAMETOOLONG
	}
	return string(text[:length]), nil
}
