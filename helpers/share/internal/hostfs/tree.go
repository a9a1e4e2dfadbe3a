//go:build linux

package hostfs

import (
	"strings"
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
	// isProcessRoot: the folder is the whole of what this process sees.
	isProcessRoot bool
	spans         atomic.Int64 // of all open files
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
	at, err := o.where(n.number())
	t.isProcessRoot = err == nil && at == "/"
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

// where is a descriptor's path as this process sees it.
func (o *Options) where(number string) (string, error) {
	var text [unix.PathMax]byte
	length := 0
	err := retry(func() (err error) {
		length, err = unix.Readlinkat(o.Proc, number, text[:])
		return err
	})
	return string(text[:max(length, 0)]), err
}

// isAway tells whether what the node holds, or a directory above it, was taken out of the folder. A handle would lead on: what is held
// of a directory is not asked where it is, and newer kernels' Landlock takes what has left its mount for a part of it.
func (n *node) isAway() bool {
	t := n.tree
	root := "/" // the serving process's own
	if !t.isProcessRoot {
		var err error
		if root, err = t.options.where(t.root.number()); err != nil {
			return false
		}
	}
	n.Hold()
	for at := n; ; {
		path, err := t.options.where(at.number())
		if err == nil || at == t.root {
			isRoot := at == t.root
			at.Drop()
			// What was moved out of the process's only mount is told as that mount's root.
			return !isRoot && (path == root || !strings.HasPrefix(path, strings.TrimSuffix(root, "/")+"/"))
		}
		up := at.Parent().(*node) // a path longer than the kernel tells: what is above it counts
		at.Drop()
		at = up
	}
}

// Place tells where in the folder the object is right now, as a path, whatever it was walked by. ENOENT: it has no name, so that only
// what has it open finds it. ESTALE: it has left the folder, or nobody can tell what it is called.
func (n *node) Place() (string, error) {
	t := n.tree
	root := "/"
	if !t.isProcessRoot {
		var err error
		if root, err = t.options.where(t.root.number()); err != nil {
			return "", syscall.ESTALE
		}
		root = strings.TrimSuffix(root, "/") + "/"
	}
	if n.kind != directory && n.isLost() {
		return "", n.isNameless()
	}
	below := ""
	n.Hold()
	at := n
	defer func() { at.Drop() }()
	for at != t.root {
		path, err := t.options.where(at.number())
		if err == nil {
			if !strings.HasPrefix(path, root) || len(path) == len(root) {
				return "", syscall.ESTALE
			}
			if strings.HasSuffix(path, deleted) {
				if err := at.isNameless(); err != syscall.ESTALE {
					return "", err
				}
				// It is called so; or the host folds case, and has no entry yet for what was just made there.
				up, name, err := at.whereabouts()
				if err != nil {
					return "", syscall.ESTALE
				}
				at.Drop()
				at, below = up, "/"+name+below
				continue
			}
			return path[len(root):] + below, nil
		}
		// A path longer than the kernel tells: by the directory above, if it still has the name.
		up, name, err := at.whereabouts()
		if err != nil {
			return "", syscall.ESTALE
		}
		at.Drop()
		at, below = up, "/"+name+below
	}
	return strings.TrimPrefix(below, "/"), nil
}

// isNameless is ENOENT for an object that nothing in the folder leads to, also once the guard has made it so before it is written; ESTALE
// for one that has a name.
func (n *node) isNameless() error {
	var st unix.Stat_t
	if err := n.Stat(&st); err != nil {
		return err
	}
	if st.Nlink == 0 {
		return syscall.ENOENT
	}
	if g := n.tree.guard; g != nil && n.held.Load() != nil && n.isLost() {
		i := g.lock(n)
		defer i.change.Unlock()
		if i.taken || i.foreign {
			return syscall.ENOENT // see change
		}
	}
	return syscall.ESTALE
}

// stay refuses what is about to be done with an object that has left the folder.
func (n *node) stay() error {
	if n != n.tree.root && n.isAway() {
		return syscall.ESTALE
	}
	return nil
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
