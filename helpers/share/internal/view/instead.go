//go:build linux

package view

import (
	"errors"
	"strings"
	"syscall"

	"cloche/share/internal/layer"
)

// What the task did in the place of something of the folder's. What was deleted is known file by file: below a directory that was
// removed, below what was made or moved to its place since, however often. So an apply knows what to take away, and a discard what to give back.

// stoodFor is what of the folder is the task's to answer for at a place once its own is gone from there; nil: nothing. A directory that the
// task made shows nothing of the folder's, which is known from the base alone then.
func (p *place) stoodFor() (*layer.Base, error) {
	if p.lower == nil && !p.dir.tree.opaque(p.dir.now().id) {
		return nil, nil
	}
	return p.base()
}

// isIts tells whether what was deleted below a node lies in the folder at the node's own place.
func (p *place) isIts(e *layer.Node) bool {
	return e.Base != nil && e.Base.Kind == layer.Directory && e.Base.Path == p.lowerPath() && !(e.Whiteout && e.Moved)
}

// isAway tells whether something of the folder's is not where the folder has it: in another place, or in a directory that the task made where
// the folder's own was before it was moved.
func (p *place) isAway(e *layer.Node) bool {
	if !stillLower(e) {
		return false
	}
	if e.Base.Path != p.lowerPath() {
		return true
	}
	there := p.dir.tree.layer.StandsAt(e.Base.Path)
	return there != nil && there.ID != e.ID
}

// vanish gives the steps by which a name is gone for the guest: a whiteout where the folder has something, else nothing is left.
func (t *Tree) vanish(p *place) ([]layer.Op, error) {
	b, err := p.stoodFor()
	if err != nil {
		return nil, err
	}
	e := p.entry
	var ops []layer.Op
	switch {
	case e == nil:
	case p.isAway(e):
		ops = t.reallyGone(e)
	case b == nil || !p.isIts(e):
		ops = t.removalBelow(e.ID)
	default:
		for _, below := range t.layer.Children(e.ID) {
			if !below.Whiteout { // see deletedBelow: only what was deleted stays below what is
				ops = append(ops, t.removal(below.ID)...)
			}
		}
	}
	if b == nil {
		return append(ops, layer.Remove(e.ID)), nil
	}
	white := &layer.Node{Name: p.name, Kind: b.Kind, QID: newQID, Whiteout: true, Base: b}
	of := t.layer.Object(b.Path)
	white.Moved = of != 0 && (e == nil || of != e.ID)
	if e != nil {
		white.ID, white.Parent = e.ID, e.Parent
		return append(ops, layer.Put(white)), nil
	}
	dir, err := p.dir.ensure()
	if err != nil {
		return nil, err
	}
	white.ID, white.Parent = t.layer.NewID(), dir.ID
	return append(ops, layer.Put(white)), nil
}

// reallyGone gives the steps by which what was moved and is about to go is deleted where the folder has it, with what was deleted
// below it since. The node itself stays for the caller.
func (t *Tree) reallyGone(moved *layer.Node) []layer.Op {
	there := t.layer.StandsAt(moved.Base.Path)
	switch {
	case there == nil || there.ID == moved.ID:
		return t.removalBelow(moved.ID)
	case there.Whiteout:
		there.Moved = false
		return append([]layer.Op{layer.Put(there)}, t.deletedBelow(moved.ID, there.ID, nil)...)
	case there.Made && there.Base.Kind == layer.Directory:
		return t.deletedBelow(moved.ID, there.ID, nil)
	}
	return t.removalBelow(moved.ID)
}

// replacing gives the steps by which what the layer has at a place makes room for e, which has replaces of the folder for its base then.
// changed are nodes below e that the same change has put before.
func (t *Tree) replacing(dest *place, e *layer.Node, replaces *layer.Base, changed map[layer.ID]*layer.Node) []layer.Op {
	d := dest.entry
	var ops []layer.Op
	switch {
	case dest.isAway(d):
		ops = t.reallyGone(d)
	case !stillLower(e) && replaces != nil && dest.isIts(d):
		ops = t.deletedBelow(d.ID, e.ID, changed)
	default:
		ops = t.removalBelow(d.ID)
	}
	return append(ops, layer.Remove(d.ID))
}

// deletedBelow moves the whiteouts below one node to another, which stands in the place of the same directory: what it has there itself
// stands in the place of what was deleted.
func (t *Tree) deletedBelow(from, to layer.ID, changed map[layer.ID]*layer.Node) []layer.Op {
	var ops []layer.Op
	for _, w := range t.layer.Children(from) {
		if !w.Whiteout { // a directory that the folder has no more, with nothing in it
			ops = append(ops, t.removal(w.ID)...)
			continue
		}
		c := t.layer.Child(to, w.Name)
		if c != nil && changed[c.ID] != nil {
			if c = changed[c.ID]; c.Parent != to {
				c = nil
			}
		}
		switch {
		case c == nil:
			w.Parent = to
			ops = append(ops, layer.Put(w))
			continue
		case c.Made && c.Base == nil:
			c.Base = w.Base
			ops = append(ops, layer.Put(c))
		case stillLower(c) && c.Over == nil && c.Base.Path != w.Base.Path:
			c.Over = w.Base
			ops = append(ops, layer.Put(c))
		}
		if c.Made && w.Base.Kind == layer.Directory {
			ops = append(append(ops, t.deletedBelow(w.ID, c.ID, changed)...), layer.Remove(w.ID))
		} else {
			ops = append(ops, t.removal(w.ID)...)
		}
	}
	return ops
}

// leaveBehind gives the steps by which something of the task's leaves the place of a directory of the folder's: what was deleted there stays
// below white, and what it takes along is new where it goes. changed gets all that it puts.
func (t *Tree) leaveBehind(id layer.ID, white *layer.Node, changed map[layer.ID]*layer.Node) []layer.Op {
	var ops []layer.Op
	put := func(n *layer.Node) {
		changed[n.ID] = n
		ops = append(ops, layer.Put(n))
	}
	for _, e := range t.layer.Children(id) {
		var base *layer.Base
		switch {
		case e.Whiteout:
			e.Parent = white.ID
			put(e)
			continue
		case e.Made:
			base, e.Base = e.Base, nil
		case e.Over != nil:
			base, e.Over = e.Over, nil
		case e.Base != nil && e.Base.Path == layer.Join(white.Base.Path, e.Name):
			own := *e.Base
			own.Content = 0
			base = &own
		}
		if base == nil {
			continue
		}
		below := &layer.Node{
			ID: t.layer.NewID(), Parent: white.ID, Name: e.Name, Kind: base.Kind, QID: newQID, Whiteout: true, Base: base,
			Moved: t.layer.Object(base.Path) != 0,
		}
		put(below)
		put(e)
		if e.Made {
			ops = append(ops, t.leaveBehind(e.ID, below, changed)...)
		}
	}
	return ops
}

// removalBelow takes away all below a node.
func (t *Tree) removalBelow(id layer.ID) []layer.Op {
	var ops []layer.Op
	for _, e := range t.layer.Children(id) {
		ops = append(ops, t.removal(e.ID)...)
	}
	return ops
}

// deletedAt tells whether something is known of what was deleted in the folder's directory at a place. What is the folder's own and is moved
// there cannot keep that: its node stands for what it was made from, and what lies below it for what lay there.
func (t *Tree) deletedAt(dest *place) bool {
	return dest.entry != nil && dest.isIts(dest.entry) && t.layer.HasChildren(dest.entry.ID)
}

// isFolders tells whether what the guest sees is the folder's own, wherever it is, rather than made by the task.
func (t *Tree) isFolders(n *node) bool {
	e := t.layer.Get(n.now().id)
	return e == nil || stillLower(e)
}

// ownFirst is a file that needs a content of its own before it can be renamed. It is held.
type ownFirst struct{ node *node }

func (*ownFirst) Error() string { return "a file that is not the task's own yet" }

// renameTries is how often a rename finds another file in the place of the one that it copied.
const renameTries = 8

// renaming runs do, which renames, with names locked. What it needs a content of is copied up before, with names free, and nobody makes
// that the folder's again until the rename is done.
func (t *Tree) renaming(do func(own *node) error) error {
	var own *node
	letGo := func() {
		if own != nil {
			own.copying.Unlock()
			own.Drop()
			own = nil
		}
	}
	defer letGo()
	for range renameTries {
		if err := t.turn(); err != nil {
			return err
		}
		err := do(own)
		t.names.Unlock()
		var first *ownFirst
		if !errors.As(err, &first) {
			return err
		}
		letGo()
		own = first.node
		own.copying.Lock()
		if _, err := own.copyUp(-1); err != nil {
			return err
		}
	}
	return syscall.EAGAIN
}

// makeOwn makes a file or link of the folder's one that the task made, which is the same for the guest, and a deletion where the folder has it.
// It is a change of its own: the guest sees the same before and after it.
func (t *Tree) makeOwn(from *place, moved, own *node) error {
	if moved.kind() == layer.File && moved != own {
		moved.Hold()
		return &ownFirst{moved}
	}
	e, err := moved.ensure()
	if err != nil {
		return err
	}
	switch {
	case e.Kind == layer.File && e.Content == 0:
		return syscall.EIO
	case e.Kind == layer.Link && e.Target == "":
		if e.Target, err = moved.Readlink(); err != nil {
			return err
		}
		if !e.MtimeSet {
			e.MtimeNs, e.MtimeSet = e.Base.MtimeNs, true
		}
	}
	if !e.ModeSet {
		e.Mode, e.ModeSet = e.Base.Mode, true
	}
	if e.Xattrs, err = moved.allXattrs(); err != nil {
		return err
	}
	var ops []layer.Op
	if from.isAway(e) {
		ops, e.Base = t.reallyGone(e), e.Over
	}
	e.Made, e.Over = true, nil
	if err := t.change(append(ops, layer.Put(e))...); err != nil {
		return err
	}
	from.entry = t.layer.Get(e.ID)
	return nil
}

// allXattrs are a file's attributes, whether the folder's or the task's.
func (n *node) allXattrs() (map[string][]byte, error) {
	list, err := n.ListXattr()
	if err != nil || len(list) == 0 {
		return nil, err
	}
	all, size := map[string][]byte{}, 0
	for _, name := range strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		value, err := n.GetXattr(name)
		if err != nil {
			return nil, err
		}
		if size += len(name) + len(value); size > maxXattrs {
			return nil, syscall.ENOSPC
		}
		all[name] = append([]byte{}, value...)
	}
	return all, nil
}
