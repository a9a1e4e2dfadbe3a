//go:build linux

package hostfs

import (
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"cloche/share/internal/versions"
)

var _ versions.Folder = (*Tree)(nil)

// Restore puts a version back in its place. The tree must have been made with Versions, as what stands there is kept.
func (t *Tree) Restore(v versions.Version, content *os.File) error {
	if err := t.mayChange(); err != nil {
		return err
	}
	if t.guard == nil {
		return syscall.EOPNOTSUPP
	}
	names := strings.Split(v.Path, "/")
	for _, name := range names {
		if name == "" || name == "." || name == ".." || len(name) > 255 || strings.IndexByte(name, 0) >= 0 {
			return syscall.EINVAL
		}
	}
	if v.Kind == versions.Directory {
		dir, err := t.directory(names, true)
		if err == nil {
			dir.Drop()
		}
		return err
	}
	dir, err := t.directory(names[:len(names)-1], true)
	if err != nil {
		return err
	}
	defer dir.Drop()
	return dir.restore(names[len(names)-1], v, content)
}

// directory walks to a directory and makes what is missing on the way.
func (t *Tree) directory(names []string, make bool) (*node, error) {
	at := t.root
	at.Hold()
	for _, name := range names {
		next, err := at.walk(name)
		if err == unix.ENOENT && make {
			if err = retry(func() error { return unix.Mkdirat(at.fd, name, 0o755) }); err == nil || err == unix.EEXIST {
				next, err = at.walk(name)
			}
		}
		at.Drop()
		if err != nil {
			return nil, err
		}
		at = next
	}
	if at.kind != directory {
		at.Drop()
		return nil, syscall.ENOTDIR
	}
	return at, nil
}

func (n *node) restore(name string, v versions.Version, content *os.File) (err error) {
	temporary := temporaryName()
	there := false
	var st unix.Stat_t
	if unix.Fstatat(n.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
		if kindOf(st.Mode) == directory {
			return syscall.EISDIR
		}
		there = true
		// This task's own last content counts too: the user takes it away, and may want it back.
		n.tree.guard.forget(objectOf(&st))
	}
	defer func() {
		if err != nil {
			_ = unix.Unlinkat(n.fd, temporary, 0)
		}
	}()
	times := [2]unix.Timespec{{Nsec: unix.UTIME_NOW}, unix.NsecToTimespec(v.MtimeNs)}
	switch {
	case v.Kind == versions.Link:
		if err := unix.Symlinkat(v.Link, n.fd, temporary); err != nil {
			return err
		}
		if err := unix.UtimesNanoAt(n.fd, temporary, times[:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	case content == nil:
		return syscall.EINVAL
	default:
		if err := n.writeRestored(temporary, v, content, times, there); err != nil {
			return err
		}
	}
	return n.renameName(temporary, n, name, versions.Restored)
}

func (n *node) writeRestored(name string, v versions.Version, content *os.File, times [2]unix.Timespec, sync bool) error {
	to, err := unix.Openat(n.fd, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	if err := versions.CopyContent(to, int(content.Fd())); err != nil {
		return err
	}
	if err := retry(func() error { return unix.Fchmod(to, v.Mode&permissions) }); err != nil {
		return err
	}
	if err := futimens(to, &times); err != nil {
		return err
	}
	if sync { // it replaces something
		return retry(func() error { return unix.Fdatasync(to) })
	}
	return nil
}

// Current opens the regular file at a path for reading.
func (t *Tree) Current(path string) (*os.File, error) {
	names := strings.Split(path, "/")
	dir, err := t.directory(names[:len(names)-1], false)
	if err != nil {
		return nil, err
	}
	defer dir.Drop()
	n, err := dir.walk(names[len(names)-1])
	if err != nil {
		return nil, err
	}
	defer n.Drop()
	if n.kind != regular {
		return nil, syscall.EINVAL
	}
	fd, err := n.reopen(unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// maxFind bounds how many entries Find looks at.
const maxFind = 1 << 20

// Find looks for a regular file by its inode.
func (t *Tree) Find(inode uint64) (*os.File, error) {
	left := maxFind
	t.root.Hold()
	return t.root.find(inode, &left)
}

// find looks beneath n, which it drops.
func (n *node) find(inode uint64, left *int) (*os.File, error) {
	for todo := []*node{n}; ; {
		if len(todo) == 0 {
			return nil, syscall.ENOENT
		}
		dir := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		found, directories, err := dir.look(inode, left)
		todo = append(todo, directories...)
		dir.Drop()
		if found != nil || err != nil {
			for _, d := range todo {
				d.Drop()
			}
			return found, err
		}
	}
}

// look goes through one directory; what cannot be looked at is passed over.
func (n *node) look(inode uint64, left *int) (found *os.File, directories []*node, err error) {
	fd, err := n.reopen(unix.O_RDONLY | unix.O_DIRECTORY)
	if err != nil {
		return nil, nil, nil
	}
	list := os.NewFile(uintptr(fd), "directory")
	defer list.Close()
	for {
		names, err := list.Readdirnames(1024)
		if err != nil {
			return nil, directories, nil
		}
		for _, name := range names {
			if *left--; *left < 0 {
				return nil, directories, syscall.EFBIG
			}
			child, err := n.walk(name)
			switch {
			case err != nil:
			case child.kind == directory:
				directories = append(directories, child)
				continue
			case child.kind == regular && child.inode == inode:
				fd, err := child.reopen(unix.O_RDONLY)
				if err == nil {
					found = os.NewFile(uintptr(fd), name)
				}
			}
			if child != nil {
				child.Drop()
			}
			if found != nil {
				return found, directories, nil
			}
		}
	}
}

// Finish gives a restored directory its mode and times.
func (t *Tree) Finish(v versions.Version) error {
	dir, err := t.directory(strings.Split(v.Path, "/"), false)
	if err != nil {
		return err
	}
	defer dir.Drop()
	if err := unix.Fchmodat(t.options.Proc, dir.number(), v.Mode&permissions, 0); err != nil {
		return err
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(v.MtimeNs)}
	return unix.UtimesNanoAt(t.options.Proc, dir.number(), times, 0)
}

// Sync makes the folder's filesystem durable as it is now.
func (t *Tree) Sync() error {
	fd, err := t.root.reopen(unix.O_RDONLY | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return retry(func() error { return unix.Syncfs(fd) })
}
