//go:build linux

package view

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"cloche/share/internal/layer"
	"cloche/share/internal/ninep"
	"cloche/share/internal/wire"
)

// Options say what a view is made of.
type Options struct {
	// Lower is the folder. Its nodes must implement Object.
	Lower ninep.Tree
	Layer *layer.Layer
	// UID and GID are what every file shows.
	UID, GID uint32
	// Layered tells whether a change at this path goes into the layer; nil: all do. directory: of a directory itself.
	Layered func(path []string, directory bool, look Look) bool
	// Carries tells whether a directory at this path gives names below it a meaning that Layered looks at; nil: none does. A
	// link there goes into the layer.
	Carries func(path []string, look Look) bool
	// LeadsOut tells whether a link with this text leads out of the folder from a path; nil: none does. Such a link of the guest's goes
	// into the layer. at gives the text of the link that the folder has at a path, see names.LinkAt.
	LeadsOut func(path []string, text string, at func(path []string) (string, error)) bool
	// Hidden names are not there for the guest; nil: none are.
	Hidden func(name string) bool
	// Local are directories that the guest mounts its own disk over, as paths: empty, and nothing can be made in them.
	Local []string
	// ReadOnly makes everything that would change anything fail with EROFS.
	ReadOnly bool
	// Room is asked before a content file or the layer's log grows by that many bytes; an error is the guest's. nil: always.
	Room func(bytes int64) error
	// RoomBelow is Room for the folder itself, before something in it grows by that many bytes. nil: always.
	RoomBelow func(bytes int64) error
}

// Object is what the view needs of the lower's nodes beyond ninep.Node.
type Object interface {
	ninep.Node
	Stat(*unix.Stat_t) error
	// Has tells whether a directory has a name as the host finds it, and of which kind.
	Has(name string) (there, directory bool)
	// Lacks tells whether Walk would find nothing at a name; false also where it cannot say.
	Lacks(name string) (bool, error)
	// Place tells where in the folder it is now, whatever it was walked by. ENOENT: it has no name; any other error: nobody can tell.
	Place() (path string, err error)
	// Found tells which object of the host it is, and how many names that had when the node was made if it is a regular
	// file, without asking the host.
	Found() (device, inode, links uint64)
	// UnlinkHeld removes a name that leads to the regular file that is held; ENOENT when it leads to something else by now.
	UnlinkHeld(name string, held ninep.Node) error
}

// Look tells whether the folder has a name in the directory that the first depth components of a path lead to. A HEAD that is a
// directory does not count.
type Look = func(depth int, name string) bool

// Tree is a folder under a layer; it implements ninep.Tree.
type Tree struct {
	options Options
	layer   *layer.Layer
	local   map[string]bool
	device  uint64 // the folder's
	root    *node

	// names is held by whatever changes names or turns a file into a layered one.
	names  sync.Mutex
	steady steady

	mu    sync.Mutex
	nodes map[uint64]*node // by qid

	// listed is what open listings of mixed directories hold, in bytes.
	listed atomic.Int64
	// locked is how many record locks the layer's files hold.
	locked atomic.Int64
}

var _ ninep.Tree = (*Tree)(nil)

const (
	// newQID marks qids that no object of the folder has; hostfs uses bit 63 for other devices.
	newQID = 1 << 62
	// maxListed bounds the memory of open listings.
	maxListed = 64 << 20
	// maxBaseBytes is how large a file may be for its bytes to be kept at copy-up, for differences.
	maxBaseBytes = 4 << 20
	permissions  = 0o777
	// maxPath bounds a path in the layer, PATH_MAX: a guest could nest directories without end otherwise, and each change is
	// listed with its path.
	maxPath = 4096
)

// Identity tells what a lower object is, as the layer notes it.
func Identity(o Object, path string) (*layer.Base, error) {
	var st unix.Stat_t
	if err := o.Stat(&st); err != nil {
		return nil, err
	}
	return baseOf(&st, path)
}

func baseOf(st *unix.Stat_t, path string) (*layer.Base, error) {
	b := &layer.Base{
		Path: path, Device: st.Dev, Inode: st.Ino, Mode: st.Mode & permissions, Size: st.Size, MtimeNs: st.Mtim.Nano(), CtimeNs: st.Ctim.Nano(),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		b.Kind = layer.File
	case unix.S_IFDIR:
		b.Kind = layer.Directory
	case unix.S_IFLNK:
		b.Kind = layer.Link
	default:
		return nil, syscall.EACCES // FIFOs, sockets and devices are seen and never taken into the layer
	}
	return b, nil
}

// New makes the view. It takes over neither the lower nor the layer.
func New(o Options) (*Tree, error) {
	lower, ok := o.Lower.Root().(Object)
	if !ok {
		return nil, errors.New("the lower tree's nodes tell no identity")
	}
	t := &Tree{options: o, layer: o.Layer, nodes: map[uint64]*node{}, local: map[string]bool{}}
	for _, path := range o.Local {
		t.local[path] = true
	}
	root := o.Layer.Get(layer.RootID)
	if root == nil {
		return nil, errors.New("the layer has no root")
	}
	var st unix.Stat_t
	if err := lower.Stat(&st); err != nil {
		return nil, err
	}
	t.device = st.Dev
	t.root = &node{tree: t, qid: wire.QID{Type: wire.QTDir, Path: root.QID}, low: lower, id: layer.RootID}
	t.root.refs.Store(1)
	t.nodes[root.QID] = t.root
	return t, nil
}

// Root gives the folder.
func (t *Tree) Root() ninep.Node {
	t.root.Hold()
	return t.root
}

// StatFS tells the room of the host's filesystem.
func (t *Tree) StatFS() (wire.StatFS, error) { return t.options.Lower.StatFS() }

// layered tells whether a change of a node itself goes into the layer.
func (n *node) layered(directory bool) bool {
	t := n.tree
	if t.options.Layered == nil {
		return true
	}
	path := n.path()
	return t.options.Layered(path, directory, t.look(n, len(path)))
}

func (p *place) layered(directory bool) bool {
	t := p.dir.tree
	if t.options.Layered == nil {
		return true
	}
	if p.ordinary != nil && !directory {
		return false
	}
	asked, look := false, t.look(p.dir, len(p.path)-1)
	is := t.options.Layered(p.path, directory, func(depth int, name string) bool { asked = true; return look(depth, name) })
	if !is && !asked && !directory {
		path := strings.Join(p.path, "/")
		p.ordinary = &path
	}
	return is
}

func (p *place) carries() bool {
	t := p.dir.tree
	return t.options.Carries != nil && t.options.Carries(p.path, t.look(p.dir, len(p.path)-1))
}

// look answers about the directories above a node, or the node itself, at the given depth. It asks the folder's own handles, so it is
// about the very directories that a change would be made in, whatever is renamed meanwhile.
func (t *Tree) look(from *node, depth int) Look {
	return func(above int, name string) bool {
		t.mu.Lock()
		at := from
		for ; depth > above && at.parent != nil; above++ {
			at = at.parent
		}
		low := at.low
		if low != nil {
			low.Hold()
		}
		t.mu.Unlock()
		if low == nil {
			return false // the task's alone: what is in it is in the layer already
		}
		defer low.Drop()
		there, directory := low.Has(name)
		return there && !(directory && name == "HEAD")
	}
}

func (t *Tree) hidden(name string) bool { return t.options.Hidden != nil && t.options.Hidden(name) }

func (t *Tree) room(bytes int64) error {
	if t.options.Room == nil {
		return nil
	}
	return t.options.Room(bytes)
}

// newName is what a name that is made in the folder may take of its disk: a block of the directory's, and one of its own.
const newName = 8 << 10

func (t *Tree) roomBelow(bytes int64) error {
	if t.options.RoomBelow == nil {
		return nil
	}
	return t.options.RoomBelow(bytes)
}

// change makes a change of the guest's that adds to the layer. What only takes away is made without asking for room, so that a full
// disk can be made emptier.
func (t *Tree) change(steps ...layer.Op) error {
	if err := t.room(layer.Growth(steps...)); err != nil {
		return err
	}
	return t.layer.Change(steps...)
}

// found gives the node of a qid with a reference for the caller, made by make when nobody has one. make must not call the tree.
func (t *Tree) found(qid uint64, same func(*node) bool, create func() *node) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.nodes[qid]; n != nil && !n.dead && same(n) {
		n.refs.Add(1)
		return n
	}
	n := create()
	n.tree = t
	n.refs.Store(1)
	t.nodes[n.qid.Path] = n // the layer has the word over whoever had the number
	return n
}

// resolve finds a lower object by a path of the layer's, whatever it is by now. The caller drops it.
func (t *Tree) resolve(path string) (Object, error) { return t.lowerAt(layer.Components(path)) }

func (t *Tree) lowerAt(path []string) (Object, error) {
	at := t.options.Lower.Root()
	for _, name := range path {
		next, err := at.Walk(name)
		at.Drop()
		if err != nil {
			return nil, err
		}
		at = next
	}
	return at.(Object), nil
}
