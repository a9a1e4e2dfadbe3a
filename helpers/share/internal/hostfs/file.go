//go:build linux

package hostfs

import (
	"bytes"
	"encoding/binary"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"cloche/share/internal/ninep"
	"cloche/share/internal/versions"
	"cloche/share/internal/wire"
)

// file is an open regular file or directory.
type file struct {
	node     *node // holds a reference
	fd       int
	shared   bool // fd is the node's own
	writable bool
	appends  bool

	locking sync.Mutex // guards flocked, ranged and spans
	flocked uint8      // the flock(2) lock that is held, in wire's kinds
	ranged  bool       // fcntl locks of less than the whole file may be held
	spans   []span     // what fcntl locks cover

	listing sync.Mutex // guards cookie and the descriptor's position, for a directory
	cookie  uint64     // what the position is
}

var _ ninep.File = (*file)(nil)

func (n *node) Open(flags uint32) (ninep.File, error) {
	if flags&openAccess == openAccess {
		return nil, syscall.EINVAL
	}
	writes := flags&openAccess != 0
	if writes || flags&openMutates != 0 {
		if err := n.tree.mayChange(); err != nil {
			return nil, err
		}
	}
	host := hostFlags(flags)
	switch n.kind {
	case directory:
		if writes || flags&openMutates != 0 {
			return nil, syscall.EISDIR
		}
		host = unix.O_RDONLY | unix.O_DIRECTORY
	case regular:
		if flags&openDir != 0 {
			return nil, syscall.ENOTDIR
		}
	case symlink:
		return nil, syscall.ELOOP
	default:
		return nil, syscall.ENXIO
	}
	// Cutting a file is a step of its own for the guard, after the open.
	cut := n.tree.guard != nil && n.kind == regular && flags&openTrunc != 0
	if cut {
		host &^= unix.O_TRUNC
	}
	f, err := n.openFile(host, flags)
	if err != nil {
		return nil, err
	}
	if cut {
		if err := n.truncate(0, f); err != nil {
			f.Close()
			return nil, err
		}
	}
	return f, nil
}

func (n *node) openFile(host int, flags uint32) (*file, error) {
	if err := n.stay(); err != nil {
		return nil, err
	}
	defer n.tree.steady()()
	fd, err := n.reopen(host)
	if err != nil {
		return nil, err
	}
	n.Hold()
	return n.opened(&file{node: n, fd: fd}, flags), nil
}

// opened completes an open file, and makes it known to the guard.
func (n *node) opened(f *file, flags uint32) *file {
	f.writable, f.appends, f.flocked = flags&openAccess != 0, flags&openAppend != 0, wire.LockUnlock
	if n.held.Load() != nil {
		n.place.Lock()
		if n.files == nil {
			n.files = map[*file]struct{}{}
		}
		n.files[f] = struct{}{}
		n.place.Unlock()
	}
	return f
}

// Descriptor is the open file's own, for cloning its blocks; it lives as long as the file is open.
func (f *file) Descriptor() int { return f.fd }

func (f *file) Close() {
	n := f.node
	n.place.Lock() // so that no descriptor is put in the place of the one that is closed
	delete(n.files, f)
	if !f.shared {
		unix.Close(f.fd)
	}
	n.place.Unlock()
	f.unlocked()
	n.Drop()
}

func (f *file) ReadAt(b []byte, offset int64) (int, error) {
	for {
		n, err := unix.Pread(f.fd, b, offset)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

func (f *file) WriteAt(b []byte, offset int64) (done int, err error) {
	if f.node.held.Load() == nil {
		return f.pwrite(b, offset)
	}
	overwrites := func(st *unix.Stat_t) (from, to int64) {
		if f.appends {
			return 0, 0
		}
		return offset, min(offset+int64(len(b)), st.Size)
	}
	err = f.node.change(versions.Overwritten, overwrites, func() (err error) {
		done, err = f.pwrite(b, offset)
		if done > 0 {
			f.node.stamp(f.fd)
		}
		return err
	})
	return done, err
}

func (f *file) pwrite(b []byte, offset int64) (int, error) {
	done := 0
	for done < len(b) {
		n, err := unix.Pwrite(f.fd, b[done:], offset+int64(done))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return done, err
		case n == 0:
			return done, syscall.EIO
		default:
			done += n
		}
	}
	return done, nil
}

func (f *file) Sync(dataOnly bool) error {
	if dataOnly {
		return retry(func() error { return unix.Fdatasync(f.fd) })
	}
	return retry(func() error { return unix.Fsync(f.fd) })
}

// listBuffer holds what getdents gives before it is put into 9P's form, or searched for a name.
type listBuffer [64 << 10]byte

var listBuffers = sync.Pool{New: func() any { return new(listBuffer) }}

// nameMax is more than an entry takes in the kernel's form: what it left free of a buffer that is fuller than this
// was too little for the next one, most likely.
const nameMax = 288

// Layout of linux_dirent64.
const (
	direntInode  = 0
	direntOffset = 8
	direntLength = 16
	direntType   = 18
	direntName   = 19
)

// ReadDir asks the kernel for no more than surely fits: an entry takes 24+n bytes in 9P and 20+n rounded up to 8 in
// the kernel's form, so at worst (n=4) 28 to 24. So nothing is left over between calls and the only state is the
// kernel's own position, to which a cookie can always return. A directory that fills the buffer is asked again while
// the reply has room: each reply that the guest need not ask for is worth more.
func (f *file) ReadDir(b []byte, offset uint64) ([]byte, error) {
	if f.node.kind != directory {
		return nil, syscall.ENOTDIR
	}
	if err := f.node.stay(); err != nil {
		return nil, err
	}
	scratch := listBuffers.Get().(*listBuffer)
	defer listBuffers.Put(scratch)

	f.listing.Lock()
	defer f.listing.Unlock()
	if offset != f.cookie {
		if int64(offset) < 0 {
			return nil, syscall.EINVAL
		}
		if _, err := unix.Seek(f.fd, int64(offset), unix.SEEK_SET); err != nil {
			return nil, err
		}
		f.cookie = offset
	}
	for before := len(b); ; {
		room := min((cap(b)-len(b))*6/7, len(scratch)) &^ 7
		if len(b) > before && room < nameMax {
			return b, nil
		}
		var n int
		err := retry(func() (err error) {
			n, err = unix.Getdents(f.fd, scratch[:room])
			return err
		})
		switch {
		case err != nil && len(b) > before:
			return b, nil // told by the next call
		case err != nil:
			return nil, err
		}
		b = f.appendEntries(b, scratch[:n])
		if n == 0 || n+nameMax < room {
			return b, nil
		}
	}
}

// appendEntries puts what getdents gave into 9P's form.
func (f *file) appendEntries(b, list []byte) []byte {
	for len(list) > direntName {
		length := int(binary.NativeEndian.Uint16(list[direntLength:]))
		entry := list[:length]
		list = list[length:]
		name := entry[direntName:]
		if end := bytes.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
		f.cookie = binary.NativeEndian.Uint64(entry[direntOffset:])
		b = f.appendEntry(b, binary.NativeEndian.Uint64(entry[direntInode:]), entry[direntType], name)
	}
	return b
}

func (f *file) appendEntry(b []byte, inode uint64, kind uint8, name []byte) []byte {
	device := f.node.device
	if string(name) == ".." {
		// The kernel tells the directory above the root too, which is none of the guest's business.
		up := f.node.Parent().(*node)
		device, inode = up.device, up.inode
		up.Drop()
	}
	if kind == unix.DT_UNKNOWN {
		var st unix.Stat_t
		if err := unix.Fstatat(f.node.fd, string(name), &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
			kind = uint8(st.Mode & unix.S_IFMT >> 12)
		}
	}
	q := wire.QID{Path: f.node.tree.qidPath(device, inode)}
	switch kind {
	case unix.DT_DIR:
		q.Type = wire.QTDir
	case unix.DT_LNK:
		q.Type = wire.QTSymlink
	}
	return wire.AppendDirent(b, q, f.cookie, kind, name)
}
