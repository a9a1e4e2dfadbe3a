//go:build linux

package view

import (
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"cloche/share/internal/layer"
	"cloche/share/internal/ninep"
	"cloche/share/internal/wire"
)

// Flags of Tlopen and Tlcreate are Linux's own; these count here.
const (
	openAccess = 0o3
	openCreate = 0o100
	openExcl   = 0o200
	openTrunc  = 0o1000
	openAppend = 0o2000
	openDir    = 0o200000
)

// file is an open node. Reads and writes go to the layer's content as soon as there is one, and to the folder's file before
// that; a write to a file that belongs into the layer makes one.
type file struct {
	node     *node // holds a reference
	writable bool
	append   bool
	// below: writes go to the folder itself.
	below bool

	mu  sync.Mutex
	low ninep.File // nil for what the layer alone has

	listing *listing
}

var _ ninep.File = (*file)(nil)

func newFile(n *node, low ninep.File, flags uint32) *file {
	n.Hold()
	return &file{node: n, low: low, writable: flags&openAccess != 0, append: flags&openAppend != 0, below: true}
}

func (n *node) Open(flags uint32) (ninep.File, error) {
	f, err := n.open(flags)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (n *node) open(flags uint32) (*file, error) {
	if flags&openAccess == openAccess {
		return nil, syscall.EINVAL
	}
	writes := flags&openAccess != 0
	if n.tree.options.ReadOnly && (writes || flags&(openTrunc|openAppend) != 0) {
		return nil, syscall.EROFS
	}
	s := n.now()
	switch {
	case n.isDir():
		if writes || flags&(openTrunc|openAppend) != 0 {
			return nil, syscall.EISDIR
		}
		n.refind()
		return n.openDir(n.now())
	case n.isLink():
		return nil, syscall.ELOOP
	case flags&openDir != 0:
		return nil, syscall.ENOTDIR
	}
	if !n.inLayer(s) {
		if writes || flags&openTrunc != 0 {
			if err := n.ordinary(s.low, false); err != nil {
				return nil, err
			}
		}
		low, err := s.low.Open(flags)
		if err != nil {
			return nil, err
		}
		return newFile(n, low, flags), nil
	}
	f := &file{node: n, writable: writes, append: flags&openAppend != 0}
	if e := n.entry(s); e != nil && e.Content != 0 {
		if _, err := n.openContent(e); err != nil {
			return nil, err
		}
	} else if n.content.Load() == nil {
		if s.low == nil {
			return nil, syscall.EIO
		}
		low, err := s.low.Open(flags & openDir)
		if err != nil {
			return nil, err
		}
		f.low = low
	}
	if flags&openTrunc != 0 {
		if err := n.truncate(0); err != nil {
			if f.low != nil {
				f.low.Close()
			}
			return nil, err
		}
	}
	n.Hold()
	return f, nil
}

// entry is the layer's node of n; nil: none.
func (n *node) entry(s state) *layer.Node {
	if s.id == 0 || s.gone { // what stands at the name of one that is gone has its number
		return nil
	}
	return n.tree.layer.Get(s.id)
}

// inLayer tells whether a write to a file lands in the layer.
func (n *node) inLayer(s state) bool {
	if s.id != 0 || s.low == nil || n.content.Load() != nil {
		return true
	}
	return n.layered(false)
}

// openContent opens the layer's file of a node once; later calls give the same.
func (n *node) openContent(e *layer.Node) (*os.File, error) {
	if c := n.content.Load(); c != nil {
		return c, nil
	}
	c, err := n.tree.layer.OpenContent(e.Content)
	if err != nil {
		return nil, err
	}
	if !n.content.CompareAndSwap(nil, c) {
		c.Close()
	}
	return n.content.Load(), nil
}

// copyOf makes a content file of the first bytes of a lower file.
func (t *Tree) copyOf(low ninep.Node, size int64) (uint64, *os.File, error) {
	if err := t.room(size); err != nil {
		return 0, nil, err
	}
	from, err := low.Open(0)
	if err != nil {
		return 0, nil, err
	}
	defer from.Close()
	number, content, err := t.layer.NewContent()
	if err != nil {
		return 0, nil, err
	}
	if err := copyBytes(content, from, size); err != nil {
		content.Close()
		t.layer.DropContent(number)
		return 0, nil, err
	}
	return number, content, nil
}

// descriptor is a lower file that can be cloned.
type descriptor interface{ Descriptor() int }

func copyBytes(to *os.File, from ninep.File, size int64) error {
	if d, ok := from.(descriptor); ok && size > 0 {
		// Shared blocks where the filesystem can; anything else is copied below.
		if unix.IoctlFileClone(int(to.Fd()), d.Descriptor()) == nil {
			return to.Truncate(size)
		}
	}
	buffer := make([]byte, min(max(size, 1), 1<<20))
	for at := int64(0); at < size; {
		n, err := from.ReadAt(buffer[:min(int64(len(buffer)), size-at)], at)
		if err != nil {
			return err
		}
		if n == 0 {
			break // it shrank meanwhile
		}
		if _, err := to.WriteAt(buffer[:n], at); err != nil {
			return unwrap(err)
		}
		at += int64(n)
	}
	return nil
}

func unwrap(err error) error {
	if p, ok := err.(*os.PathError); ok {
		return p.Err
	}
	return err
}

// copyUp gives the file a content of its own, which begins with the first `keep` bytes of what it has (-1: all). The caller
// holds n.copying.
func (n *node) copyUp(keep int64) (*os.File, error) {
	if c := n.content.Load(); c != nil {
		return c, nil
	}
	t := n.tree
	s := n.now()
	if e := n.entry(s); e != nil && e.Content != 0 {
		return n.openContent(e)
	}
	if s.low == nil {
		return nil, syscall.EIO
	}
	was, err := Identity(s.low, "")
	if err != nil {
		return nil, err
	}
	size := was.Size
	if keep >= 0 {
		size = min(size, keep)
	}
	number, content, err := t.copyOf(s.low, size)
	if err != nil {
		return nil, err
	}
	if keep < 0 { // a write sets its own time; a rename keeps the one that the guest saw
		mtime := was.MtimeNs
		if e := n.entry(s); e != nil && e.MtimeSet {
			mtime = e.MtimeNs
		}
		if err := layer.SetMtime(content, mtime); err != nil {
			content.Close()
			t.layer.DropContent(number)
			return nil, err
		}
	}
	// The graph must not say that the task has bytes of its own before they are on the disk: after a power failure they would
	// look like its work, and be applied over the folder's.
	if size > 0 {
		if err := unix.Fdatasync(int(content.Fd())); err != nil {
			content.Close()
			t.layer.DropContent(number)
			return nil, err
		}
	}
	base := uint64(0)
	if was.Size <= maxBaseBytes {
		var kept *os.File
		if base, kept, err = t.copyOf(s.low, was.Size); err != nil {
			content.Close()
			t.layer.DropContent(number)
			return nil, err
		}
		kept.Close()
	}
	if err := n.nameContent(number, base, was); err != nil {
		content.Close()
		t.layer.DropContent(number, base)
		return nil, err
	}
	n.content.Store(content)
	return content, nil
}

// nameContent writes into the graph that the file has a content. A file that is unlinked has it without a name, for as long as it
// is open.
func (n *node) nameContent(number, base uint64, was *layer.Base) error {
	t := n.tree
	t.names.Lock()
	defer t.names.Unlock()
	if n.now().gone {
		t.layer.DropContent(number, base)
		return nil
	}
	e, err := n.ensure()
	if err != nil {
		return err
	}
	e.Content = number
	if e.Base != nil {
		if !e.Base.Same(was) { // the host changed it between the node's making and now: this is what the task began with
			was.Path = e.Base.Path
			e.Base = was
		}
		e.Base.Content = base
	}
	if !e.ModeSet {
		e.Mode, e.ModeSet = was.Mode, e.Base == nil
	}
	e.MtimeSet = false // the content's own time from now on
	return t.change(layer.Put(e))
}

// truncate sets a file's size in the layer.
func (n *node) truncate(size int64) error {
	n.copying.Lock()
	defer n.copying.Unlock()
	c, err := n.copyUp(size)
	if err != nil {
		return err
	}
	if grows := size - sizeOf(c); grows > 0 {
		if err := n.tree.room(0); err != nil { // a hole takes nothing, but there must be some room at all
			return err
		}
	}
	n.writing.RLock()
	defer n.writing.RUnlock()
	if err := c.Truncate(size); err != nil {
		return unwrap(err)
	}
	return n.wrote()
}

func sizeOf(f *os.File) int64 {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return 0
	}
	return st.Size
}

func (f *file) ReadAt(b []byte, offset int64) (int, error) {
	if c := f.node.content.Load(); c != nil {
		n, err := c.ReadAt(b, offset)
		if err == io.EOF {
			err = nil
		}
		return n, unwrap(err)
	}
	f.mu.Lock()
	low := f.low
	f.mu.Unlock()
	if low == nil {
		return 0, syscall.EIO
	}
	return low.ReadAt(b, offset)
}

func (f *file) WriteAt(b []byte, offset int64) (int, error) {
	if !f.writable {
		return 0, syscall.EBADF
	}
	n := f.node
	c := n.content.Load()
	if c == nil && f.below {
		n.writing.RLock()
		if c = n.content.Load(); c == nil {
			defer n.writing.RUnlock()
			if err := n.ordinary(n.now().low, false); err != nil {
				return 0, err
			}
			if err := n.tree.roomBelow(int64(len(b))); err != nil && !f.hasBlocks(offset, len(b)) {
				return 0, err
			}
			return f.low.WriteAt(b, offset)
		}
		n.writing.RUnlock() // carried up meanwhile
	}
	if c == nil {
		n.copying.Lock()
		var err error
		c, err = n.copyUp(-1)
		n.copying.Unlock()
		if err != nil {
			return 0, err
		}
	}
	if f.append {
		// Linux's client sends the offset it believes to be the end; two writers would overwrite each other.
		n.copying.Lock()
		defer n.copying.Unlock()
		offset = sizeOf(c)
	}
	// Nearly always there is room for all of it, so how much the file grows is asked only when there is not.
	if err := n.tree.room(int64(len(b))); err != nil {
		grows := offset + int64(len(b)) - sizeOf(c)
		if grows >= int64(len(b)) || grows > 0 && n.tree.room(grows) != nil {
			return 0, err
		}
	}
	n.writing.RLock()
	defer n.writing.RUnlock()
	done, err := c.WriteAt(b, offset)
	if done > 0 {
		if moved := n.wrote(); moved != nil && err == nil {
			err = moved
		}
	}
	return done, unwrap(err)
}

// hasBlocks tells whether a write to the folder's file changes only what the file has on the disk already.
func (f *file) hasBlocks(offset int64, length int) bool {
	var st unix.Stat_t
	if low := f.node.now().low; f.append || low == nil || low.Stat(&st) != nil {
		return false
	}
	return offset+int64(length) <= st.Size && st.Size <= st.Blocks*512
}

// wrote tells the layer that the content has changed.
func (n *node) wrote() error {
	if id := n.peek().id; id != 0 {
		return n.tree.layer.Wrote(id)
	}
	return nil
}

func (f *file) Sync(dataOnly bool) error {
	n := f.node
	if c := n.content.Load(); c != nil {
		if err := unix.Fdatasync(int(c.Fd())); err != nil {
			return err
		}
		return n.tree.layer.Sync()
	}
	if f.below && f.low != nil {
		return f.low.Sync(dataOnly)
	}
	return n.tree.layer.Sync()
}

func (f *file) Close() {
	if f.low != nil {
		f.low.Close()
	}
	if f.listing != nil {
		f.listing.close()
	}
	f.node.locks().drop(&f.node.tree.locked, f)
	f.node.Drop()
}

func (n *node) SetAttr(change wire.SetAttr, open ninep.File) error {
	if n.local || n.tree.options.ReadOnly {
		return syscall.EROFS
	}
	s := n.now()
	own, _ := open.(*file)
	if !n.isDir() && !n.isLink() && !n.inLayer(s) || (n.isDir() || n.isLink()) && s.id == 0 && !n.layered(n.isDir()) {
		if err := n.ordinary(s.low, n.isDir()); err != nil {
			return err
		}
		var low ninep.File
		if own != nil && own.below {
			low = own.low
		}
		if change.Valid&wire.SetSize != 0 {
			var st unix.Stat_t
			if err := s.low.Stat(&st); err != nil {
				return err
			}
			if grows := int64(change.Size) - st.Size; grows > 0 {
				if err := n.tree.roomBelow(0); err != nil { // see truncate
					return err
				}
			}
		}
		return s.low.SetAttr(change, low)
	}
	if change.Valid&wire.SetSize != 0 {
		switch {
		case n.isDir():
			return syscall.EISDIR
		case n.isLink():
			return syscall.EINVAL
		case int64(change.Size) < 0:
			return syscall.EFBIG
		}
		if err := n.truncate(int64(change.Size)); err != nil {
			return err
		}
	}
	if change.Valid&wire.SetMode != 0 && n.isLink() {
		return syscall.EOPNOTSUPP
	}
	if change.Valid&(wire.SetMode|wire.SetMtime) == 0 {
		return nil // owner and group are the share's; the last access is nobody's concern
	}
	t := n.tree
	t.names.Lock()
	defer t.names.Unlock()
	if n.now().gone {
		return nil // nobody will see it
	}
	e, err := n.ensure()
	if err != nil {
		return err
	}
	changed := false
	if change.Valid&wire.SetMode != 0 && change.Mode&permissions != modeOf(e) {
		e.Mode, e.ModeSet, changed = change.Mode&permissions, true, true
	}
	if change.Valid&wire.SetMtime != 0 {
		to := time.Now()
		if change.Valid&wire.SetMtimeTo != 0 {
			if change.Mtime.Nsec >= 1e9 {
				return syscall.EINVAL
			}
			to = time.Unix(int64(change.Mtime.Sec), int64(change.Mtime.Nsec))
		}
		if e.Kind == layer.File && e.Content != 0 {
			c, err := n.openContent(e)
			if err != nil {
				return err
			}
			if err := layer.SetMtime(c, to.UnixNano()); err != nil {
				return err
			}
			changed = true
		} else {
			e.MtimeNs, e.MtimeSet, changed = to.UnixNano(), true, true
		}
	}
	if !changed {
		return nil
	}
	return t.change(layer.Put(e))
}
