//go:build linux

package hostfs

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"cloche/share/internal/ninep"
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
	return nil
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
	var fd int
	// O_EXCL always: without it the name could be a FIFO or a device, on which even opening acts.
	err := retry(func() (err error) {
		fd, err = unix.Openat(n.fd, name, hostFlags(flags)&^unix.O_TRUNC|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode&permissions)
		return err
	})
	if err == unix.EEXIST && flags&openExcl == 0 {
		return n.openExisting(name, flags)
	}
	if err != nil {
		return nil, nil, err
	}
	child, err := n.tree.adopt(fd)
	if err != nil {
		return nil, nil, err
	}
	n.Hold()
	child.parent, child.name = n, name
	child.Hold() // by the file, which uses the same descriptor
	return child, &file{node: child, fd: fd, shared: true, writable: flags&openAccess != 0, flocked: wire.LockUnlock}, nil
}

func (n *node) openExisting(name string, flags uint32) (ninep.Node, ninep.File, error) {
	child, err := n.walk(name)
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
	return n.found(name)
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
	return retry(func() error {
		return unix.Linkat(n.tree.options.Proc, t.number(), n.fd, name, unix.AT_SYMLINK_FOLLOW)
	})
}

func (n *node) Unlink(name string, isDirectory bool) error {
	if err := n.changeNames(); err != nil {
		return err
	}
	flags := 0
	if isDirectory {
		flags = unix.AT_REMOVEDIR
	}
	return retry(func() error { return unix.Unlinkat(n.fd, name, flags) })
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
	return retry(func() error { return unix.Renameat(n.fd, name, t.fd, newName) })
}

// whereabouts gives the node's directory and name if the node is still there, for the two requests that name
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
	if st.Dev != n.device || st.Ino != n.inode {
		return nil, "", syscall.ENOENT
	}
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
	if err := parent.Rename(name, to, newName); err != nil {
		return err
	}
	to.Hold()
	n.place.Lock()
	n.parent, n.name = to.(*node), newName
	n.place.Unlock()
	parent.Drop()
	return nil
}
