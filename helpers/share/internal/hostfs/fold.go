//go:build linux

package hostfs

import (
	"bytes"
	"encoding/binary"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A host's directory may fold case or Unicode forms: `README` then opens `readme`. The guest's programs expect Linux's exact
// names: two that differ are two files, and writing one never changes the other. So in such a directory only the name that
// stands on disk leads to a file; another spelling of it is not there, and cannot be made (EEXIST) as there is no room for it.

// folding tells which directories fold.
type folding struct {
	always, perDirectory bool

	mu    sync.Mutex
	known map[object]bool // whether a directory folds; it can change only while the directory is empty
}

// casefoldFlag is FS_CASEFOLD_FL.
const casefoldFlag = 0x40000000

// maxKnownFolding bounds folding.known; what is forgotten is asked again.
const maxKnownFolding = 1 << 14

// Filesystems by the type that statfs gives; those that x/sys has no name for.
const (
	bcachefsMagic = 0xca451a4e
	hfsPlusMagic  = 0x482b
	hfsPlusXMagic = 0x4858
	ntfs3Magic    = 0x7366746e
)

func (f *folding) learn(root int) {
	var s unix.Statfs_t
	if retry(func() error { return unix.Fstatfs(root, &s) }) != nil {
		return
	}
	switch int64(s.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC, bcachefsMagic:
		f.perDirectory, f.known = true, map[object]bool{}
	case unix.MSDOS_SUPER_MAGIC, unix.EXFAT_SUPER_MAGIC, ntfs3Magic, hfsPlusMagic, hfsPlusXMagic:
		f.always = true
	}
}

// folds tells whether the directory folds. One that may not be read cannot be asked, nor listed, and is taken as exact.
func (n *node) folds() bool {
	f := &n.tree.folding
	if !f.perDirectory {
		return f.always
	}
	key := object{n.device, n.inode}
	f.mu.Lock()
	folds, known := f.known[key]
	f.mu.Unlock()
	if known {
		return folds
	}
	fd, err := n.reopen(unix.O_RDONLY | unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	folds = err == nil && flags&casefoldFlag != 0
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.known) >= maxKnownFolding {
		clear(f.known)
	}
	f.known[key] = folds
	return folds
}

// exact gives ENOENT when the directory has no entry of exactly this name.
func (n *node) exact(name string) error {
	if !n.folds() {
		return nil
	}
	fd, err := n.reopen(unix.O_RDONLY | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	scratch := listBuffers.Get().(*listBuffer)
	defer listBuffers.Put(scratch)
	for {
		var size int
		err := retry(func() (err error) {
			size, err = unix.Getdents(fd, scratch[:])
			return err
		})
		if err != nil {
			return err
		}
		if size == 0 {
			return syscall.ENOENT
		}
		for list := scratch[:size]; len(list) > direntName; {
			length := int(binary.NativeEndian.Uint16(list[direntLength:]))
			entry, _, _ := bytes.Cut(list[direntName:length], []byte{0})
			if string(entry) == name {
				return nil
			}
			list = list[length:]
		}
	}
}

// room refuses a rename to a name of which another spelling is there and stands for another file. respells: it stands for the very
// file that is renamed, so that only its spelling changes.
func (n *node) room(from *node, name, newName string) (respells bool, err error) {
	if !n.folds() || n.exact(newName) == nil {
		return false, nil
	}
	there, err := n.victim(newName)
	if err != nil {
		return false, nil // nothing is there
	}
	defer there.close()
	if there.stillAt(from, name) {
		return true, nil
	}
	return false, syscall.EEXIST
}

// respell changes the spelling of a name. Linux's own rename does nothing then, as both names lead to one file, so it goes over a
// third; should the second step fail, the first is taken back.
func (n *node) respell(name string, to *node, newName string) error {
	between := temporaryName()
	rename := func(from *node, name string, to *node, newName string) error {
		return retry(func() error { return unix.Renameat2(from.fd, name, to.fd, newName, unix.RENAME_NOREPLACE) })
	}
	if err := rename(n, name, to, between); err != nil {
		return err
	}
	if err := rename(to, between, to, newName); err != nil {
		_ = rename(to, between, n, name)
		return err
	}
	if g := n.tree.guard; g != nil {
		if v, err := to.victim(newName); err == nil {
			g.renamed(v, n, name, to, newName)
			v.close()
		}
	}
	return nil
}
