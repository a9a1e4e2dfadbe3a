//go:build linux

package view

import (
	"errors"
	"syscall"
	"time"

	"cloche/share/internal/layer"
	"cloche/share/internal/ninep"
	"cloche/share/internal/wire"
)

// Hold runs do while nobody changes names, copies up, or writes to the layer's content of the node: what do looks at is what it acts on.
// open tells whether the guest has the node walked or open. do may change the layer in any way, and the folder. What the
// guest has of a node that is gone then goes on as if unlinked; a directory becomes the folder's own.
func (t *Tree) Hold(id layer.ID, do func(open bool) error) error {
	n := t.byID(id)
	if n != nil {
		defer n.Drop()
		n.copying.Lock()
		defer n.copying.Unlock()
	}
	t.names.Lock()
	defer t.names.Unlock()
	if n == nil {
		// Walked to since the first look, but a walk alone changes nothing; whoever would write waits for names at its copy-up or
		// at its first Wrote, and a content that is written is opened by a node that is found now.
		if n = t.byID(id); n != nil {
			defer n.Drop()
		}
	}
	if n != nil {
		n.writing.Lock()
		defer n.writing.Unlock()
	}
	err := do(n != nil)
	if n != nil {
		n.settle()
	}
	return err
}

// patience is how long a guest's removal or rename waits for an apply's run; one that takes longer has it fail with EBUSY.
const patience = 10 * time.Second

// Steady runs do while nothing of the guest's goes or changes its place: removals and renames are told to come again after it. Nothing is
// locked meanwhile, so that do may use Hold and Again, and all else of the guest's goes on.
func (t *Tree) Steady(do func() error) error {
	t.names.Lock()
	if t.steady.asked {
		// Those who were told so in the run before this one come first, or a row of runs would let nobody through.
		t.steady.asked = false
		t.names.Unlock()
		time.Sleep(giveWay)
		t.names.Lock()
	}
	done := make(chan struct{})
	t.steady.done = done
	t.names.Unlock()
	defer func() {
		t.names.Lock()
		t.steady.done = nil
		t.names.Unlock()
		close(done)
	}()
	return do()
}

// giveWay is far more than it takes to ask again.
const giveWay = 10 * time.Millisecond

// steady is guarded by Tree.names.
type steady struct {
	done  chan struct{} // closed at the end of what runs; nil: nothing does
	asked bool          // somebody was told to come again
}

// turn locks names for a removal or a rename, unless that has to wait. The caller unlocks.
func (t *Tree) turn() error {
	t.names.Lock()
	if t.steady.done == nil {
		return nil
	}
	t.steady.asked = true
	later := &ninep.Later{Done: t.steady.done, Patience: patience}
	t.names.Unlock()
	return later
}

// Again runs do while nobody changes names, to put back into the layer what the folder had at a path until an undo: do is told the
// directory's node, the node that the layer has there, and the number by which the guest knows the file. What the guest has of
// it is the layer's from then on. A path that leads nowhere for the guest is ENOENT.
func (t *Tree) Again(path []string, do func(parent layer.ID, entry *layer.Node, qid uint64) ([]layer.Op, *layer.Node, error)) error {
	if len(path) == 0 {
		return syscall.EINVAL
	}
	t.names.Lock()
	defer t.names.Unlock()
	name := path[len(path)-1]
	parent, dir, err := t.directory(path[:len(path)-1])
	if err != nil {
		return err
	}
	var live []*node
	if dir != nil {
		defer dir.Drop()
		t.mu.Lock()
		for _, n := range t.nodes {
			if n.id == 0 && n.parent == dir && n.name == name && !n.gone && !n.dead && !n.local {
				live = append(live, n)
			}
		}
		t.mu.Unlock()
	}
	qid := uint64(0)
	if len(live) == 1 {
		qid = live[0].qid.Path
	}
	ops, made, err := do(parent, t.layer.Child(parent, name), qid)
	if err != nil || len(ops) == 0 {
		return err
	}
	if err := t.layer.Change(ops...); err != nil {
		return err
	}
	if made == nil {
		return nil
	}
	for _, n := range live {
		if !made.Whiteout && n.qid == (wire.QID{Type: qidType(made.Kind), Path: made.QID}) {
			t.mu.Lock()
			n.id = made.ID
			t.mu.Unlock()
		} else {
			t.forget(n)
		}
	}
	return nil
}

// instead tells whether a node stands in the place of a directory of the folder's, below which only deletions are.
func instead(e *layer.Node) bool {
	return e.Base != nil && e.Base.Kind == layer.Directory && (e.Whiteout || e.Kind != layer.Directory)
}

// directory gives the layer's node of a directory, made as a passing one where there is none, and the guest's, with a reference: nil
// for one that the guest deleted or put something else in the place of.
func (t *Tree) directory(path []string) (layer.ID, *node, error) {
	at := t.root
	at.Hold()
	for i, name := range path {
		if e := t.child(at.now().id, name); e != nil && instead(e) {
			at.Drop()
			for _, name := range path[i+1:] {
				if e = t.child(e.ID, name); e == nil || !instead(e) {
					return 0, nil, syscall.ENOENT
				}
			}
			return e.ID, nil, nil
		}
		next, err := at.walk(name)
		at.Drop()
		if err != nil {
			return 0, nil, err
		}
		at = next
	}
	e, err := at.ensure()
	if err != nil || !at.isDir() {
		at.Drop()
		return 0, nil, errors.Join(err, syscall.ENOTDIR)
	}
	return e.ID, at, nil
}

// byID gives the live node of a layer's node, with a reference; nil: none.
func (t *Tree) byID(id layer.ID) *node {
	e := t.layer.Get(id)
	if e == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.nodes[e.QID]
	if n == nil || n.dead || n.id != id {
		return nil
	}
	n.refs.Add(1)
	return n
}

// settle takes in what became of the node's layer node without the view's doing.
func (n *node) settle() {
	t := n.tree
	s := n.peek()
	if s.id == 0 || s.gone || n.local {
		return
	}
	e := t.layer.Get(s.id)
	switch {
	case e != nil && n.isDir():
		// One that the task had made is the folder's by now, and what is not the task's below it shows. The folder may have made it anew
		// since the node met it: an undo takes it away, and another apply brings one.
		if e.Opaque || e.Whiteout || n.parentNode() == nil {
			return
		}
		parent := n.Parent().(*node)
		defer parent.Drop()
		if low := t.lowerOf(parent, parent.now(), e); low != nil {
			n.become(low, s.id)
		}
	case e != nil:
		if e.Content == 0 && n.content.Load() != nil {
			t.forget(n) // the open ones keep the bytes they have
		}
	case n.isDir() && s.low != nil:
		n.become(s.low, 0)
	case !n.isDir() && n.content.Load() == nil && n.stands(s):
		// Only its place or its attributes were the task's: what has it open goes on with the folder's file, and what is written from now on is
		// a change of that.
		n.become(s.low, 0)
	case n.isDir():
		if n.parentNode() != nil {
			parent := n.Parent().(*node)
			defer parent.Drop()
			if at := parent.now(); at.low != nil && !at.gone {
				if walked, err := at.low.Walk(n.name); err == nil {
					n.become(walked.(Object), 0)
					return
				}
			}
		}
		t.forget(n)
	default:
		t.forget(n)
	}
}

// stands tells whether the folder's file that the guest has as n stands at n's name, and is n for whoever walks there.
func (n *node) stands(s state) bool {
	if s.low == nil || n.parentNode() == nil {
		return false
	}
	parent := n.Parent().(*node)
	defer parent.Drop()
	n.tree.mu.Lock()
	name := n.name
	n.tree.mu.Unlock()
	at := parent.now()
	if at.low == nil || at.gone || n.tree.child(at.id, name) != nil {
		return false
	}
	walked, err := at.low.Walk(name)
	if err != nil {
		return false
	}
	low := walked.(Object)
	defer low.Drop()
	return sameObject(low, s.low) && n.tree.lowerQID(low) == n.qid
}

// become takes over the reference on low. Whoever looked before may still use what the node had, so that goes with the node.
func (n *node) become(low Object, id layer.ID) {
	t := n.tree
	t.mu.Lock()
	extra := low
	if n.low == nil || !sameObject(n.low, low) {
		if n.low != nil {
			n.before = append(n.before, n.low)
		}
		n.low, extra = low, nil
	} else if n.low == low {
		extra = nil
	}
	n.id = id
	t.mu.Unlock()
	if extra != nil {
		extra.Drop()
	}
}

func sameObject(a, b Object) bool {
	device, inode, _ := a.Found()
	otherDevice, other, _ := b.Found()
	return device == otherDevice && inode == other
}
