//go:build linux

package view

import (
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"cloche/share/internal/layer"
	"cloche/share/internal/ninep"
	"cloche/share/internal/wire"
)

// node is one object as the guest sees it.
type node struct {
	tree *Tree
	qid  wire.QID
	refs atomic.Int32

	// Under Tree.mu.
	parent *node // holds a reference; nil for the root
	name   string
	low    Object   // nil: the folder has nothing of it (any more)
	before []Object // what low was
	id     layer.ID
	gone   bool // unlinked; what is open goes on
	dead   bool // no reference is left
	local  bool // the guest mounts its own disk here
	// judged is a place in the folder at which changes are not the layer's, whatever else the folder has.
	judged atomic.Pointer[string]
	// unnamed is the content's number when no name leads to it any more: it goes with the last that has it open.
	unnamed uint64

	// copying is held while the file is copied up, and guards the making of content.
	copying sync.Mutex
	content atomic.Pointer[os.File] // the layer's file, once it is open; never replaced
	// writing is held shared by each write to content, and whole by Tree.Hold.
	writing sync.RWMutex

	lockTable lockTable
}

var _ ninep.Node = (*node)(nil)

func (n *node) Hold() { n.refs.Add(1) }

// Drop walks up instead of recursing: a guest may nest directories deeper than a stack should be.
func (n *node) Drop() {
	for n != nil {
		if n.refs.Add(-1) > 0 {
			return
		}
		t := n.tree
		t.mu.Lock()
		if n.dead || n.refs.Load() > 0 { // found again meanwhile
			t.mu.Unlock()
			return
		}
		n.dead = true
		if t.nodes[n.qid.Path] == n {
			delete(t.nodes, n.qid.Path)
		}
		parent, lows, unnamed := n.parent, n.before, n.unnamed
		if n.low != nil {
			lows = append(lows, n.low)
		}
		t.mu.Unlock()
		for _, low := range lows {
			low.Drop()
		}
		if c := n.content.Load(); c != nil {
			if unnamed != 0 {
				t.layer.GiveUp(unnamed, c)
			} else {
				c.Close()
			}
		}
		n = parent
	}
}

func (n *node) QID() wire.QID { return n.qid }

// state is what a node is at one moment.
type state struct {
	low  Object // without a reference of its own: the node's holds while the caller holds the node
	id   layer.ID
	gone bool
}

func (n *node) now() state {
	s := n.peek()
	if s.id != 0 && !s.gone && !n.tree.layer.Has(s.id) {
		n.settle() // applied or discarded meanwhile
		s = n.peek()
	}
	return s
}

func (n *node) peek() state {
	n.tree.mu.Lock()
	defer n.tree.mu.Unlock()
	return state{n.low, n.id, n.gone}
}

// path gives the node's place by what the guest named, for Layered.
func (n *node) path() []string {
	n.tree.mu.Lock()
	defer n.tree.mu.Unlock()
	return n.pathLocked()
}

func (n *node) pathLocked() []string {
	var path []string
	for at := n; at.parent != nil; at = at.parent {
		path = append(path, at.name)
	}
	slices.Reverse(path)
	return path
}

func (n *node) Parent() ninep.Node {
	n.tree.mu.Lock()
	defer n.tree.mu.Unlock()
	parent := n
	if n.parent != nil {
		parent = n.parent
	}
	parent.Hold()
	return parent
}

func (n *node) isDir() bool { return n.qid.Type&wire.QTDir != 0 }

func (n *node) isLink() bool { return n.qid.Type&wire.QTSymlink != 0 }

func qidType(k layer.Kind) uint8 {
	switch k {
	case layer.Directory:
		return wire.QTDir
	case layer.Link:
		return wire.QTSymlink
	}
	return wire.QTFile
}

func (n *node) Walk(name string) (ninep.Node, error) {
	child, err := n.walk(name)
	if err != nil {
		return nil, err
	}
	return child, nil
}

func (n *node) walk(name string) (*node, error) {
	if !n.isDir() {
		return nil, syscall.ENOTDIR
	}
	t := n.tree
	if n.local || t.hidden(name) {
		return nil, syscall.ENOENT
	}
	if t.isLocal(n, name) {
		return n.localChild(name), nil
	}
	for sought := false; ; {
		s := n.now()
		e := t.child(s.id, name)
		if e != nil {
			if child, err := n.fromLayer(s, e); err != errNoDirectory {
				return child, err
			}
		}
		if s.gone {
			return nil, syscall.ENOENT
		}
		var walked ninep.Node
		err := error(syscall.ENOENT)
		if s.low != nil {
			walked, err = s.low.Walk(name)
		}
		if err == syscall.ENOENT && s.id != 0 && !sought {
			sought = true
			if n.refind(); n.now().low != s.low {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		child, err := n.fromLower(walked.(Object), name)
		walked.Drop()
		if err != nil {
			return nil, err
		}
		if e != nil {
			return child, nil
		}
		// Copied up, moved or deleted between the two looks: then the layer has the word.
		if s = n.now(); t.child(s.id, name) == nil {
			return child, nil
		}
		child.Drop()
	}
}

func (t *Tree) child(dir layer.ID, name string) *layer.Node {
	if dir == 0 {
		return nil
	}
	return t.layer.Child(dir, name)
}

// fromLower gives the node of what the folder has at a name that the layer knows nothing of.
func (n *node) fromLower(low Object, name string) (*node, error) {
	qid := n.tree.lowerQID(low)
	if qid.Type == wire.QTFile {
		// A file of several names would be one object for the guest, and its names part at the first write: each is a file of
		// its own from the start. Its qid is its place's.
		if _, _, links := low.Found(); links > 1 && n.layeredAt(name) {
			qid.Path = placeQID(n.qid.Path, name)
		}
	}
	return n.lowerNode(low, name, qid)
}

// lowerNode gives the node of a lower object at a name of n, under its own number, or one of its place where another file has that number
// for the guest: the same object under another name, one that the layer has moved elsewhere or copied up, or one that is gone.
func (n *node) lowerNode(low Object, name string, qid wire.QID) (*node, error) {
	t := n.tree
	device, inode, links := low.Found()
	var left *node // with the lock given back
	defer func() { left.Drop() }()
	t.mu.Lock()
	defer t.mu.Unlock()
	for try := uint64(0); ; try++ {
		at := t.nodes[qid.Path]
		if at != nil && (at.dead || at.gone) {
			at = nil
		}
		if at != nil && at.id != 0 && !t.layer.Has(at.id) {
			t.unlocked(at, at.settle) // applied or discarded meanwhile
			if at.id == 0 || at.gone || at.dead {
				try--
				continue
			}
		}
		if at != nil && at.id == 0 && at.parent == n && at.name == name {
			at.refs.Add(1)
			return at, nil
		}
		if at != nil && at.id == 0 && at.low != nil && sameObject(at.low, low) && (qid.Type == wire.QTDir || links == 1) {
			// It has one name, and had another: the host gave it this one, unless the guest did so since the look at the folder.
			still := false
			t.unlocked(at, func() { still = at.inPlace() })
			switch {
			case at.dead || at.gone || at.id != 0:
				try--
				continue
			case still:
			case at.isAbove(n):
				return nil, syscall.ESTALE // n itself is no longer where it was walked to
			default:
				n.Hold()
				left, at.parent, at.name = at.parent, n, name
			}
			at.refs.Add(1)
			return at, nil
		}
		if (at == nil || t.options.Layered != nil && at.id == 0 && at.low != nil && at.low.QID() == low.QID()) &&
			!t.layer.QIDTaken(qid.Path, device, inode) {
			break // in rw a file's second name is the same file
		}
		qid.Path = placeQID(n.qid.Path+try, name)
	}
	n.Hold()
	low.Hold()
	child := &node{tree: t, qid: qid, parent: n, name: name, low: low}
	child.refs.Store(1)
	if at := t.nodes[qid.Path]; at == nil || at.dead || at.gone {
		t.nodes[qid.Path] = child
	}
	return child, nil
}

// unlocked runs do without Tree.mu, which the caller holds, and with a reference on n.
func (t *Tree) unlocked(n *node, do func()) {
	n.refs.Add(1)
	t.mu.Unlock()
	do()
	n.Drop()
	t.mu.Lock()
}

// isAbove tells whether other is n or below it; Tree.mu is held.
func (n *node) isAbove(other *node) bool {
	for ; other != nil; other = other.parent {
		if other == n {
			return true
		}
	}
	return false
}

// layeredAt tells whether a change of a file at a name goes into the layer.
func (n *node) layeredAt(name string) bool {
	t := n.tree
	if t.options.Layered == nil {
		return true
	}
	path := append(n.path(), name)
	return t.options.Layered(path, false, t.look(n, len(path)-1))
}

// lowerQID is the lower's, or the one that an applied node had before.
func (t *Tree) lowerQID(low Object) wire.QID {
	q := low.QID()
	if !t.layer.Remembers() {
		return q
	}
	device, inode, _ := low.Found()
	if qid, known := t.layer.QIDOf(device, inode); known {
		q.Path = qid
	}
	return q
}

// placeQID is a number for a name in a directory.
func placeQID(dir uint64, name string) uint64 {
	h := uint64(14695981039346656037) ^ dir
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	return h&^(1<<63) | newQID | 1<<61
}

// fromLayer gives the node of a name that the layer has.
func (n *node) fromLayer(dir state, e *layer.Node) (*node, error) {
	if e.Whiteout {
		return nil, syscall.ENOENT
	}
	t := n.tree
	qid := wire.QID{Type: qidType(e.Kind), Path: e.QID}
	same := func(at *node) bool { return at.id == e.ID }
	t.mu.Lock()
	known := t.nodes[qid.Path]
	if known != nil && !known.dead && same(known) {
		known.refs.Add(1)
		t.mu.Unlock()
		return known, nil
	}
	t.mu.Unlock()
	low := t.lowerOf(n, dir, e)
	if low == nil && e.Passing() && !t.holds(e.ID) {
		return nil, errNoDirectory
	}
	child := t.found(qid.Path, same, func() *node {
		n.Hold()
		c := &node{qid: qid, parent: n, name: e.Name, id: e.ID}
		if low != nil {
			low.Hold()
			c.low = low
		}
		return c
	})
	if low != nil {
		low.Drop()
	}
	return child, nil
}

// errNoDirectory: the folder has the directory of a passing node no more, and nothing of the task's is in it. The name is as if the
// layer knew nothing of it.
var errNoDirectory = errors.New("a passing node without its directory")

// holds tells whether the task has anything in a directory or below.
func (t *Tree) holds(id layer.ID) bool {
	for _, e := range t.layer.Children(id) {
		if !e.Whiteout && (!e.Passing() || t.holds(e.ID)) {
			return true
		}
	}
	return false
}

// lowerOf finds what stands below a layer's node, if it needs it: a directory that is not opaque, or a file or link whose
// bytes are still the folder's. What has become of another kind since does not count.
func (t *Tree) lowerOf(dir *node, s state, e *layer.Node) Object {
	if e.Base == nil || e.Kind == layer.Directory && e.Opaque || e.Kind == layer.File && e.Content != 0 || e.Kind == layer.Link && e.Target != "" {
		return nil
	}
	if slices.ContainsFunc(layer.Components(e.Base.Path), t.hidden) {
		return nil // it was moved before such names were hidden, and what the folder has there now is none of the task's
	}
	var low Object
	if parent := t.layer.Get(s.id); s.low != nil && parent != nil && parent.Base != nil && e.Base.Path == layer.Join(parent.Base.Path, e.Name) {
		if walked, err := s.low.Walk(e.Name); err == nil {
			low = walked.(Object)
		}
	} else if found, err := t.resolve(e.Base.Path); err == nil {
		low = found
	}
	if low == nil {
		return nil
	}
	if b, err := Identity(low, ""); err != nil || b.Kind != e.Kind {
		low.Drop()
		return nil
	}
	return low
}

// attrOf is what the guest sees of a node.
func (n *node) Attr() (wire.Attr, error) {
	s := n.now()
	if n.local {
		return wire.Attr{QID: n.qid, Mode: unix.S_IFDIR | 0o755, UID: n.tree.options.UID, GID: n.tree.options.GID, Nlink: 2, BlockSize: 4096}, nil
	}
	if s.id == 0 && n.content.Load() == nil {
		a, err := s.low.Attr()
		a.QID = n.qid
		if n.tree.options.Layered == nil && !n.isDir() {
			a.Nlink = min(a.Nlink, 1)
		}
		return a, err
	}
	e := n.tree.layer.Get(s.id)
	a := wire.Attr{QID: n.qid, UID: n.tree.options.UID, GID: n.tree.options.GID, Nlink: 1, BlockSize: 4096}
	switch {
	case e == nil || s.gone:
		// Unlinked: what is open goes on.
		if c := n.content.Load(); c != nil {
			return n.contentAttr(a, c, unix.S_IFREG|0o600)
		}
		if s.low != nil {
			got, err := s.low.Attr()
			got.QID, got.Nlink = n.qid, 0
			return got, err
		}
		return a, syscall.ENOENT
	case e.Kind == layer.File && e.Content != 0:
		c, err := n.openContent(e)
		if err != nil {
			return a, err
		}
		if a, err = n.contentAttr(a, c, unix.S_IFREG|modeOf(e)); err != nil {
			return a, err
		}
	case s.low != nil:
		got, err := s.low.Attr()
		if err != nil {
			return a, err
		}
		a = got
		a.QID = n.qid
		if !n.isDir() {
			a.Nlink = 1
		}
		if e.ModeSet {
			a.Mode = a.Mode&^permissions | e.Mode
		}
	case e.Kind == layer.Directory:
		a.Mode, a.Nlink = unix.S_IFDIR|modeOf(e), 2
	case e.Kind == layer.Link:
		a.Mode, a.Size = unix.S_IFLNK|0o777, uint64(len(e.Target))
	case e.Base == nil:
		return a, syscall.EIO // no such node can be made; a layer that has one all the same is still listed, and discarded
	default:
		// Its bytes were the folder's, and the folder has them no more: it can be seen and removed, and reads as EIO.
		a.Mode, a.Size, a.Mtime = unix.S_IFREG|modeOf(e), uint64(e.Base.Size), timeOf(e.Base.MtimeNs)
		a.Atime, a.Ctime = a.Mtime, a.Mtime
	}
	if e.MtimeSet {
		a.Mtime = timeOf(e.MtimeNs)
		a.Ctime = later(a.Ctime, a.Mtime)
		if a.Atime == (wire.Time{}) {
			a.Atime = a.Mtime
		}
	}
	return a, nil
}

func (n *node) contentAttr(a wire.Attr, c *os.File, mode uint32) (wire.Attr, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(c.Fd()), &st); err != nil {
		return a, err
	}
	a.Mode, a.Size, a.BlockSize, a.Blocks = mode, uint64(st.Size), uint64(st.Blksize), uint64(st.Blocks)
	a.Atime, a.Mtime, a.Ctime = timespec(st.Atim), timespec(st.Mtim), timespec(st.Ctim)
	return a, nil
}

func modeOf(e *layer.Node) uint32 {
	switch {
	case e.ModeSet:
		return e.Mode
	case e.Base != nil:
		return e.Base.Mode
	case e.Kind == layer.Directory:
		return 0o755
	}
	return 0o644
}

func timespec(t unix.Timespec) wire.Time { return wire.Time{Sec: uint64(t.Sec), Nsec: uint64(t.Nsec)} }

func timeOf(ns int64) wire.Time {
	sec, rest := ns/1e9, ns%1e9
	if rest < 0 {
		sec, rest = sec-1, rest+1e9
	}
	return wire.Time{Sec: uint64(sec), Nsec: uint64(rest)}
}

func later(a, b wire.Time) wire.Time {
	if int64(a.Sec) > int64(b.Sec) || a.Sec == b.Sec && a.Nsec >= b.Nsec {
		return a
	}
	return b
}

func (n *node) Readlink() (string, error) {
	s := n.now()
	if !n.isLink() {
		return "", syscall.EINVAL
	}
	if s.id != 0 {
		if e := n.tree.layer.Get(s.id); e != nil && e.Target != "" {
			return e.Target, nil
		}
	}
	if s.low == nil {
		return "", syscall.EIO
	}
	return s.low.Readlink()
}

// isLocal tells whether a name is a place for the guest's own disk.
func (t *Tree) isLocal(dir *node, name string) bool {
	if len(t.local) == 0 {
		return false
	}
	path := ""
	for _, part := range dir.path() {
		path = layer.Join(path, part)
	}
	return t.local[layer.Join(path, name)]
}

// localChild is an empty directory without anything behind it.
func (n *node) localChild(name string) *node {
	qid := wire.QID{Type: wire.QTDir, Path: placeQID(n.qid.Path, name)}
	return n.tree.found(qid.Path, func(at *node) bool { return at.local }, func() *node {
		n.Hold()
		return &node{qid: qid, parent: n, name: name, local: true}
	})
}
