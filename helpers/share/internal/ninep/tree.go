package ninep

import "cloche/share/internal/wire"

// What a session needs of the folder. Errors are syscall.Errno; any other error reaches the guest as EIO.
// All methods may run beside each other. Names have been checked by the session: 1 to 255 bytes, no NUL, no slash,
// neither "." nor "..".

// Tree is one shared folder.
type Tree interface {
	// Root gives the folder itself, with a reference that the caller drops.
	Root() Node
	StatFS() (wire.StatFS, error)
}

// Node is a handle on one file, directory or link, bound to the object and not to its path. It is counted:
// whoever gets one drops it once.
type Node interface {
	Hold()
	Drop()
	QID() wire.QID
	Attr() (wire.Attr, error)
	SetAttr(change wire.SetAttr, open File) error // open: the caller's open file on this node, or nil

	Walk(name string) (Node, error)
	// Parent is the directory the node was walked from, with a reference, as a rename may give the node another at any time; the root's
	// is the root.
	Parent() Node
	Open(flags uint32) (File, error)
	// Create makes a regular file, or opens the one that is there unless flags has O_EXCL.
	Create(name string, flags, mode uint32) (Node, File, error)
	Mkdir(name string, mode uint32) (wire.QID, error)
	Mknod(name string, mode uint32) (wire.QID, error)
	Symlink(name, target string) (wire.QID, error)
	Link(name string, target Node) error
	Readlink() (string, error)
	Unlink(name string, directory bool) error
	Rename(name string, to Node, newName string) error
	// Remove and RenameTo act on the name that the node was walked by.
	Remove() error
	RenameTo(to Node, name string) error

	ListXattr() ([]byte, error)
	GetXattr(name string) ([]byte, error)
	SetXattr(name string, value []byte, flags uint32) error
}

// File is an open Node.
type File interface {
	ReadAt(b []byte, offset int64) (int, error) // 0 at the end
	WriteAt(b []byte, offset int64) (int, error)
	// ReadDir appends entries after cookie offset to b within b's capacity; none at the end.
	ReadDir(b []byte, offset uint64) ([]byte, error)
	Sync(dataOnly bool) error
	Lock(l wire.Lock) (blocked bool, err error)
	GetLock(l wire.Lock) (wire.Lock, error)
	Close()
}

// EachName calls use for each name in a directory, without "." and "..", until use gives false.
func EachName(dir Node, use func(wire.Dirent) bool) error {
	f, err := dir.Open(0)
	if err != nil {
		return err
	}
	defer f.Close()
	buffer := make([]byte, 0, 64<<10)
	for cookie := uint64(0); ; {
		got, err := f.ReadDir(buffer, cookie)
		if err != nil {
			return err
		}
		entries, err := wire.Dirents(got)
		if err != nil || len(entries) == 0 {
			return err
		}
		for _, d := range entries {
			if d.Name != "." && d.Name != ".." && !use(d) {
				return nil
			}
		}
		cookie = entries[len(entries)-1].Offset
	}
}
