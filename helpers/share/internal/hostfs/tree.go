//go:build linux

package hostfs

import (
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"cloche/share/internal/ninep"
	"cloche/share/internal/wire"
)

// Options say how a folder is served.
type Options struct {
	// Root is the folder's descriptor (O_PATH will do). The Tree owns it.
	Root int
	// Proc is a directory descriptor of /proc/self/fd. The Tree owns it.
	Proc int
	// ReadOnly makes everything that would change the folder fail with EROFS.
	ReadOnly bool
	// UID and GID are what every file shows.
	UID, GID uint32
	// Versions is where content goes before it is destroyed; nil: nowhere.
	Versions Keeper
}

// Tree is a folder of the host; it implements ninep.Tree.
type Tree struct {
	options Options
	root    *node
	device  uint64
	// oldKernel: there is no openat2 (before Linux 5.6, or a seccomp filter around us that does not know it).
	oldKernel bool
	guard     *guard // nil without Options.Versions
	folding   folding
	spans     atomic.Int64 // of all open files
}

var _ ninep.Tree = (*Tree)(nil)

// New serves the folder behind o.Root.
func New(o Options) (*Tree, error) {
	t := &Tree{options: o}
	if o.Versions != nil && !o.ReadOnly {
		t.guard = newGuard(t, o.Versions)
	}
	n, _, err := t.adopt(o.Root)
	if err != nil {
		return nil, err
	}
	if n.kind != directory {
		return nil, syscall.ENOTDIR
	}
	t.root, t.device = n, n.device
	t.folding.learn(o.Root)
	fd, err := unix.Openat2(o.Root, ".", &walkHow)
	switch err {
	case nil:
		unix.Close(fd)
	case unix.ENOSYS, unix.EPERM:
		t.oldKernel = true
	}
	return t, nil
}

// Root gives the folder.
func (t *Tree) Root() ninep.Node {
	t.root.Hold()
	return t.root
}

// v9fsMagic is the filesystem type that 9P servers tell, as the host's own is none of the guest's business.
const v9fsMagic = 0x01021997

// StatFS tells the room of the host's filesystem.
func (t *Tree) StatFS() (wire.StatFS, error) {
	var s unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(t.root.fd, &s) }); err != nil {
		return wire.StatFS{}, err
	}
	return wire.StatFS{
		Type: v9fsMagic, BlockSize: uint32(s.Bsize), Blocks: s.Blocks, BlocksFree: s.Bfree, BlocksAvl: s.Bavail,
		Files: s.Files, FilesFree: s.Ffree, NameMax: 255,
	}, nil
}

// mayChange is the one gate of read-only shares. Beneath it the mount and Landlock refuse as well.
func (t *Tree) mayChange() error {
	if t.options.ReadOnly {
		return syscall.EROFS
	}
	return nil
}

// retry repeats a call that a signal interrupted; the Go runtime sends itself signals.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
