//go:build linux

package hostfs

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"cloche/share/internal/ninep"
	"cloche/share/internal/versions"
	"cloche/share/internal/wire"
)

// What changes a directory's names. Each call names one component of a directory that is held, so none of them
// follows anything.

func (n *node) changeNames() error {
	if err := n.tree.mayChange(); err != nil {
		return err
	}
	if n.kind != directory {
		return syscall.ENOTDIR
	}
	return n.stay()
}

// Flags of Tlopen and Tlcreate are Linux's own (octal, as on x86); these are the ones that count here.
const (
	openAccess  = 0o3
	openCreate  = 0o100
	openExcl    = 0o200
	openTrunc   = 0o1000
	openAppend  = 0o2000
	openDSync   = 0o10000
	openDir     = 0o200000
	openSync    = 0o4000000
	openMutates = openTrunc | openAppend
)

// hostFlags are the flags that an open passes on. Left out on purpose: O_DIRECT and O_NOATIME (the guest's own
// matter), O_NONBLOCK, O_CLOEXEC, O_NOFOLLOW (ours), O_TMPFILE, O_ASYNC and whatever comes later.
func hostFlags(flags uint32) int {
	host := int(flags & openAccess)
	if flags&openTrunc != 0 {
		host |= unix.O_TRUNC
	}
	if flags&openAppend != 0 {
		host |= unix.O_APPEND
	}
	if flags&openSync == openSync {
		host |= unix.O_SYNC
	} else if flags&openDSync != 0 {
		host |= unix.O_DSYNC
	}
	return host
}

func (n *node) Create(name string, flags, mode uint32) (ninep.Node, ninep.File, error) {
	if err := n.changeNames(); err != nil {
		return nil, nil, err
	}
	if flags&openAccess == openAccess {
		return nil, nil, syscall.EINVAL
	}
	child, f, err := n.createNew(name, flags, mode)
	if err == unix.EEXIST && flags&openExcl == 0 {
		return n.openExisting(name, flags)
	}
	if err != nil {
		return nil, nil, err
	}
	return child, f, nil
}

func (n *node) createNew(name string, flags, mode uint32) (*node, *file, error) {
	defer n.tree.steady()()
	var fd int
	// O_EXCL always: without it the name could be a FIFO or a device, on which even opening acts.
	err := retry(func() (err error) {
		fd, err = unix.Openat(n.fd, name, hostFlags(flags)&^unix.O_TRUNC|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode&permissions)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	child, st, err := n.tree.adopt(fd)
	if err != nil {
		return nil, nil, err
	}
	child.walkedFrom(n, name)
	if g := n.tree.guard; g != nil && st.Size == 0 {
		g.remember(&st, true, 1)
	}
	child.Hold() // by the file, which uses the same descriptor
	return child, child.opened(&file{node: child, fd: fd, shared: true}, flags), nil
}

func (n *node) openExisting(name string, flags uint32) (ninep.Node, ninep.File, error) {
	child, err := n.walk(name)
	if err == unix.ENOENT && n.folds() {
		err = syscall.EEXIST // another spelling of the name is there
	}
	if err != nil {
		return nil, nil, err
	}
	f, err := child.Open(flags)
	if err != nil {
		child.Drop()
		return nil, nil, err
	}
	return child, f, nil
}

// found gives the qid of what was just made.
func (n *node) found(name string) (wire.QID, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(n.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return wire.QID{}, err
	}
	return wire.QID{Type: qidType(kindOf(st.Mode)), Path: n.tree.qidPath(st.Dev, st.Ino)}, nil
}

func (n *node) Mkdir(name string, mode uint32) (wire.QID, error) {
	if err := n.changeNames(); err != nil {
		return wire.QID{}, err
	}
	if err := retry(func() error { return unix.Mkdirat(n.fd, name, mode&permissions) }); err != nil {
		return wire.QID{}, err
	}
	n.remade(name)
	return n.found(name)
}

// Mknod makes an empty regular file, whatever type the mode says; the session lets no other pass.
func (n *node) Mknod(name string, mode uint32) (wire.QID, error) {
	if err := n.changeNames(); err != nil {
		return wire.QID{}, err
	}
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Openat(n.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode&permissions)
		return err
	})
	if err != nil {
		return wire.QID{}, err
	}
	unix.Close(fd)
	n.remade(name)
	return n.found(name)
}

// remade tells the guard of what this server made.
func (n *node) remade(name string) {
	if g := n.tree.guard; g != nil {
		g.made(n, name)
	}
}

func (n *node) Symlink(name, target string) (wire.QID, error) {
	if err := n.changeNames(); err != nil {
		return wire.QID{}, err
	}
	if target == "" {
		return wire.QID{}, syscall.ENOENT
	}
	if strings.IndexByte(target, 0) >= 0 {
		return wire.QID{}, syscall.EINVAL
	}
	if err := retry(func() error { return unix.Symlinkat(target, n.fd, name) }); err != nil {
		return wire.QID{}, err
	}
	n.remade(name)
	return n.found(name)
}

// Link gives a held object one more name. It goes through the object's descriptor, so it links that very object.
func (n *node) Link(name string, target ninep.Node) error {
	if err := n.changeNames(); err != nil {
		return err
	}
	t, ok := target.(*node)
	if !ok || t.tree != n.tree {
		return syscall.EXDEV
	}
	switch t.kind {
	case directory:
		return syscall.EPERM
	case other:
		return syscall.EACCES
	}
	link := func() error {
		return retry(func() error {
			return unix.Linkat(n.tree.options.Proc, t.number(), n.fd, name, unix.AT_SYMLINK_FOLLOW)
		})
	}
	g := n.tree.guard
	if g == nil || t.held.Load() == nil {
		return link()
	}
	i := g.lock(t)
	defer i.change.Unlock()
	if i.taken {
		return syscall.ENOENT // it has no name left, only its place in the store
	}
	var before unix.Stat_t
	if err := unix.Fstat(t.fd, &before); err != nil {
		return err
	}
	if before.Nlink > 0 && !t.isLost() && t.isOutside() {
		return syscall.ENOENT
	}
	if err := link(); err != nil {
		return err
	}
	g.linked(i, t.fd, &before)
	return nil
}

func (n *node) Unlink(name string, isDirectory bool) error {
	if err := n.changeNames(); err != nil {
		return err
	}
	if err := n.exact(name); err != nil {
		return err
	}
	if n.tree.guard != nil {
		if isDirectory {
			return n.removeDirectory(name)
		}
		return n.removeName(name)
	}
	flags := 0
	if isDirectory {
		flags = unix.AT_REMOVEDIR
	}
	return retry(func() error { return unix.Unlinkat(n.fd, name, flags) })
}

// UnlinkHeld removes a name that leads to a regular file whose node is given; ENOENT when it leads to something else by now.
func (n *node) UnlinkHeld(name string, held ninep.Node) error {
	if err := n.changeNames(); err != nil {
		return err
	}
	if err := n.exact(name); err != nil {
		return err
	}
	h, ok := held.(*node)
	if !ok || h.tree != n.tree || h.kind != regular {
		return syscall.EINVAL
	}
	if n.tree.guard != nil {
		return n.removeHeld(name, h)
	}
	v := &victim{fd: h.fd}
	v.st.Dev, v.st.Ino, _ = h.Found()
	if !v.stillAt(n, name) {
		return syscall.ENOENT
	}
	return retry(func() error { return unix.Unlinkat(n.fd, name, 0) })
}

func (n *node) Rename(name string, to ninep.Node, newName string) error {
	if err := n.changeNames(); err != nil {
		return err
	}
	t, ok := to.(*node)
	if !ok || t.tree != n.tree {
		return syscall.EXDEV
	}
	if t.kind != directory {
		return syscall.ENOTDIR
	}
	if err := t.stay(); err != nil {
		return err
	}
	if err := n.exact(name); err != nil {
		return err
	}
	if respells, err := t.room(n, name, newName); err != nil {
		return err
	} else if respells {
		return n.respell(name, t, newName)
	}
	if n.tree.guard != nil {
		return n.renameName(name, t, newName, versions.Replaced)
	}
	return retry(func() error { return unix.Renameat(n.fd, name, t.fd, newName) })
}

// whereabouts gives the node's directory, which the caller drops, and name if the node is still there, for the two requests that name
// nothing but the node. Between this look and the use another object could take the name; it lies in the folder too.
func (n *node) whereabouts() (*node, string, error) {
	n.place.Lock()
	defer n.place.Unlock()
	if n.parent == nil {
		return nil, "", syscall.EBUSY // the root
	}
	var st unix.Stat_t
	if err := unix.Fstatat(n.parent.fd, n.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, "", err
	}
	if objectOf(&st) != n.now {
		return nil, "", syscall.ENOENT
	}
	n.parent.Hold()
	return n.parent, n.name, nil
}

func (n *node) Remove() error {
	if err := n.tree.mayChange(); err != nil {
		return err
	}
	parent, name, err := n.whereabouts()
	if err != nil {
		return err
	}
	defer parent.Drop()
	return parent.Unlink(name, n.kind == directory)
}

func (n *node) RenameTo(to ninep.Node, newName string) error {
	if err := n.tree.mayChange(); err != nil {
		return err
	}
	parent, name, err := n.whereabouts()
	if err != nil {
		return err
	}
	defer parent.Drop()
	if err := parent.Rename(name, to, newName); err != nil {
		return err
	}
	n.settle(to.(*node), newName)
	return nil
}
