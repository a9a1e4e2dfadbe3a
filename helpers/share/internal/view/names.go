//go:build linux

package view

import (
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"cloche/share/internal/layer"
	"cloche/share/internal/ninep"
	"cloche/share/internal/wire"
)

// What changes names. Each holds Tree.names throughout, so that what it looks at stays so for the guest; the host may change
// the folder at any time, which the bases tell later.

// place is a name in a directory, looked at under Tree.names.
type place struct {
	dir  *node
	name string
	path []string
	long bool // beyond maxPath
	// entry is the layer's node there, a whiteout too; nil: the layer knows nothing of the name.
	entry *layer.Node
	// lower is what the folder has there, whether it shows or not; nil: nothing. It belongs to the place.
	lower Object
	// ordinary is the path, joined, once it is known that a change of a file there is not the layer's whatever else the folder has.
	ordinary *string
	// vanished: a directory stood here whose last thing of the task's is gone, and the folder's own went before.
	vanished bool
}

func (n *node) place(name string) (*place, error) {
	p, err := n.spot(name)
	if err == nil {
		err = p.look(p.isNew())
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// spot is a place without a look at the folder.
func (n *node) spot(name string) (*place, error) {
	if !n.isDir() {
		return nil, syscall.ENOTDIR
	}
	if n.local || n.tree.options.ReadOnly {
		return nil, syscall.EROFS
	}
	if err := n.follow(); err != nil {
		return nil, err
	}
	s := n.now()
	if s.gone {
		return nil, syscall.ENOENT
	}
	if n.tree.hidden(name) {
		return nil, syscall.EACCES
	}
	if n.tree.isLocal(n, name) {
		return nil, syscall.EBUSY // the guest's disk is mounted there
	}
	p := &place{dir: n, name: name, path: append(n.path(), name), entry: n.tree.child(s.id, name)}
	p.long = length(p.path) > maxPath
	return p, nil
}

// isNew tells whether the task made what the guest sees at the place, where the folder had nothing.
func (p *place) isNew() bool { return p.entry != nil && p.entry.Made && p.entry.Base == nil }

// look finds what the folder has at the place; free says that this is nothing, most likely.
func (p *place) look(free bool) error {
	t, s := p.dir.tree, p.dir.now()
	there := s.low != nil && !t.opaque(s.id)
	if there && free {
		lacks, err := s.low.Lacks(p.name)
		if err != nil {
			return err
		}
		there = !lacks
	}
	if there {
		low, err := s.low.Walk(p.name)
		switch err {
		case nil:
			p.lower = low.(Object)
		case syscall.ENOENT:
		default:
			return err
		}
	}
	if e := p.entry; e != nil && e.Passing() && (p.lower == nil || p.lower.QID().Type != wire.QTDir) && !t.holds(e.ID) {
		// See errNoDirectory. What was deleted in it is gone with it.
		if err := t.layer.Change(t.removal(e.ID)...); err != nil {
			p.drop()
			return err
		}
		p.entry, p.vanished = nil, true
	}
	return nil
}

// node gives what the guest sees at the place, as walk does.
func (p *place) node() (*node, error) {
	if p.entry != nil {
		if child, err := p.dir.fromLayer(p.dir.now(), p.entry); err != errNoDirectory {
			return child, err
		}
	}
	if p.lower == nil {
		return nil, syscall.ENOENT
	}
	return p.dir.fromLower(p.lower, p.name)
}

// length is a path's in bytes.
func length(path []string) int {
	total := len(path)
	for _, part := range path {
		total += len(part)
	}
	return total
}

// height is the length of the longest path below a layer's node.
func (t *Tree) height(id layer.ID) int {
	most := 0
	for _, e := range t.layer.Children(id) {
		most = max(most, 1+len(e.Name)+t.height(e.ID))
	}
	return most
}

func (t *Tree) opaque(id layer.ID) bool {
	if id == 0 {
		return false
	}
	e := t.layer.Get(id)
	return e != nil && e.Opaque
}

func (p *place) drop() {
	if p.lower != nil {
		p.lower.Drop()
	}
}

// taken tells whether the guest sees something there.
func (p *place) taken() bool {
	if p.entry != nil {
		return !p.entry.Whiteout
	}
	return p.lower != nil
}

// inLayer tells whether a change of the name lands in the layer: by its path, because the layer has it already, or because
// the directory itself is the layer's alone.
func (p *place) inLayer(directory bool) bool {
	t := p.dir.tree
	if p.entry != nil && !p.entry.Passing() {
		return true
	}
	s := p.dir.now()
	return s.low == nil || t.opaque(s.id) || p.layered(directory)
}

// base is what of the folder stands at the place, as it was when the task first met it; nil: nothing.
func (p *place) base() (*layer.Base, error) {
	if e := p.entry; e != nil {
		switch {
		case e.Over != nil:
			return e.Over, nil
		case e.Base != nil && e.Base.Path == p.lowerPath() && !(e.Whiteout && e.Moved) && !p.isAway(e):
			return e.Base, nil
		}
	}
	if p.lower == nil {
		if e := p.entry; e != nil && e.Whiteout && p.dir.tree.opaque(p.dir.now().id) && e.Base.Path == p.lowerPath() {
			return e.Base, nil // moved away, out of a directory that was made anew since: the folder has it there as before
		}
		return nil, nil
	}
	return Identity(p.lower, p.lowerPath())
}

// lowerPath is where the folder has the place.
func (p *place) lowerPath() string { return layer.Join(p.dir.lowerPath(), p.name) }

// lowerPath is where the folder has the directory, which is not where the guest sees it after a move.
func (n *node) lowerPath() string {
	s := n.now()
	if s.id != 0 {
		if e := n.tree.layer.Get(s.id); e != nil && e.Base != nil {
			return e.Base.Path
		}
	}
	path := ""
	n.tree.mu.Lock()
	parent, name := n.parent, n.name
	n.tree.mu.Unlock()
	if parent == nil {
		return path
	}
	return layer.Join(parent.lowerPath(), name)
}

// ensure gives the layer's node of n, made as a passing one where there is none, and those of the directories above. The
// caller holds Tree.names.
func (n *node) ensure() (*layer.Node, error) {
	t := n.tree
	s := n.now()
	if s.id != 0 {
		if e := t.layer.Get(s.id); e != nil {
			return e, nil
		}
		return nil, syscall.ENOENT
	}
	if s.gone || n.parent == nil {
		return nil, syscall.ENOENT
	}
	if length(n.path()) > maxPath {
		return nil, syscall.ENAMETOOLONG
	}
	parent, err := n.parent.ensure()
	if err != nil {
		return nil, err
	}
	if t.layer.Child(parent.ID, n.name) != nil || n.isDir() && !n.inPlace() {
		// The host put something else there, or took it elsewhere, while the guest held this one. What has the name now, or may get it, is
		// another node's.
		return nil, syscall.ESTALE
	}
	b, err := Identity(s.low, layer.Join(n.parent.lowerPath(), n.name))
	if err != nil {
		return nil, err
	}
	e := &layer.Node{ID: t.layer.NewID(), Parent: parent.ID, Name: n.name, Kind: b.Kind, QID: n.qid.Path, Base: b}
	if err := t.change(layer.Put(e)); err != nil {
		return nil, err
	}
	t.mu.Lock()
	n.id = e.ID
	t.mu.Unlock()
	return t.layer.Get(e.ID), nil
}

// fresh is a node for something that the guest makes at a place; the folder's own there, if any, is its base.
func (p *place) fresh(kind layer.Kind, mode uint32) (*layer.Node, error) {
	t := p.dir.tree
	if p.long {
		return nil, syscall.ENAMETOOLONG
	}
	dir, err := p.dir.ensure()
	if err != nil {
		return nil, err
	}
	b, err := p.base()
	if err != nil {
		return nil, err
	}
	e := &layer.Node{ID: t.layer.NewID(), Parent: dir.ID, Name: p.name, Kind: kind, Made: true, Base: b, Mode: mode & permissions, ModeSet: true, Opaque: kind == layer.Directory}
	if p.entry != nil {
		e.ID = p.entry.ID // it takes the whiteout's place, and what was deleted below stays so
	}
	e.QID = newQID | uint64(t.layer.NewID())
	return e, nil
}

// touched is the directory's node with its time set, to go into the same change. nil: the directory has none to set.
func (p *place) touched() []layer.Op {
	e := p.dir.tree.layer.Get(p.dir.now().id)
	if e == nil || e.Base != nil {
		return nil // the folder's own directories keep their times until something of them is applied
	}
	e.MtimeNs, e.MtimeSet = time.Now().UnixNano(), true
	return []layer.Op{layer.Put(e)}
}

func (n *node) Create(name string, flags, mode uint32) (ninep.Node, ninep.File, error) {
	if flags&openAccess == openAccess {
		return nil, nil, syscall.EINVAL
	}
	t := n.tree
	if t.options.ReadOnly {
		return nil, nil, syscall.EROFS
	}
	t.names.Lock()
	p, err := n.spot(name)
	if err != nil {
		t.names.Unlock()
		return nil, nil, err
	}
	free := p.entry == nil || p.isNew()
	if p.entry == nil && !p.inLayer(false) && t.roomBelow(newName) == nil {
		// The folder alone says whether the name is free, and does so best by making it.
		child, f, err := n.createBelow(p, flags|openExcl, mode)
		if err != syscall.EEXIST {
			t.names.Unlock()
			return child, f, err
		}
		free = false
	}
	if err := p.look(free); err != nil {
		t.names.Unlock()
		return nil, nil, err
	}
	defer p.drop()
	if p.taken() {
		t.names.Unlock()
		if flags&openExcl != 0 {
			return nil, nil, syscall.EEXIST
		}
		return n.openExisting(name, flags)
	}
	if !p.inLayer(false) {
		defer t.names.Unlock()
		if err := t.roomBelow(newName); err != nil {
			return nil, nil, err
		}
		return n.createBelow(p, flags, mode)
	}
	child, err := n.createFile(p, mode)
	t.names.Unlock()
	if err != nil {
		return nil, nil, err
	}
	f, err := child.open(flags &^ (openTrunc | openCreate | openExcl))
	if err != nil {
		child.Drop()
		return nil, nil, err
	}
	return child, f, nil
}

func (n *node) openExisting(name string, flags uint32) (ninep.Node, ninep.File, error) {
	child, err := n.walk(name)
	if err != nil {
		return nil, nil, err
	}
	f, err := child.open(flags)
	if err != nil {
		child.Drop()
		return nil, nil, err
	}
	return child, f, nil
}

// createBelow makes the file in the folder itself.
func (n *node) createBelow(p *place, flags, mode uint32) (ninep.Node, ninep.File, error) {
	s := n.now()
	made, low, err := s.low.Create(p.name, flags, mode)
	if err != nil {
		return nil, nil, err
	}
	object := made.(Object)
	child, err := n.adopt(object, p.name)
	object.Drop()
	if err != nil {
		low.Close()
		return nil, nil, err
	}
	if p.ordinary != nil {
		child.judged.Store(p.ordinary)
	}
	return child, newFile(child, low, flags), nil
}

// adopt gives the node of a lower object that has just been made.
func (n *node) adopt(low Object, name string) (*node, error) {
	return n.lowerNode(low, name, low.QID())
}

// createFile makes an empty file in the layer.
func (n *node) createFile(p *place, mode uint32) (*node, error) {
	t := n.tree
	e, err := p.fresh(layer.File, mode)
	if err != nil {
		return nil, err
	}
	number, content, err := t.layer.NewContent()
	if err != nil {
		return nil, err
	}
	e.Content = number
	if err := t.change(append(p.touched(), layer.Put(e))...); err != nil {
		content.Close()
		t.layer.DropContent(number)
		return nil, err
	}
	child, err := n.fromLayer(n.now(), t.layer.Get(e.ID))
	if err != nil {
		content.Close()
		return nil, err
	}
	if !child.content.CompareAndSwap(nil, content) {
		content.Close()
	}
	return child, nil
}

// makeNode makes what is no open file: in the layer by fill, or in the folder by below. text is a link's.
func (n *node) makeNode(name, text string, kind layer.Kind, mode uint32, fill func(*layer.Node) error, below func(Object) (wire.QID, error)) (wire.QID, error) {
	t := n.tree
	t.names.Lock()
	defer t.names.Unlock()
	p, err := n.place(name)
	if err != nil {
		return wire.QID{}, err
	}
	defer p.drop()
	if p.taken() {
		return wire.QID{}, syscall.EEXIST
	}
	if !p.inLayer(kind == layer.Directory) && !(kind == layer.Link && p.staysApart(text)) {
		if err := t.roomBelow(newName); err != nil {
			return wire.QID{}, err
		}
		return below(n.now().low)
	}
	e, err := p.fresh(kind, mode)
	if err != nil {
		return wire.QID{}, err
	}
	if kind == layer.Directory {
		e.MtimeNs, e.MtimeSet = time.Now().UnixNano(), true
	}
	if err := fill(e); err != nil {
		return wire.QID{}, err
	}
	if err := t.change(append(p.touched(), layer.Put(e))...); err != nil {
		t.layer.DropContent(e.Content)
		return wire.QID{}, err
	}
	return wire.QID{Type: qidType(kind), Path: e.QID}, nil
}

func (n *node) Mkdir(name string, mode uint32) (wire.QID, error) {
	return n.makeNode(name, "", layer.Directory, mode, func(*layer.Node) error { return nil },
		func(low Object) (wire.QID, error) { return low.Mkdir(name, mode) })
}

func (n *node) Mknod(name string, mode uint32) (wire.QID, error) {
	return n.makeNode(name, "", layer.File, mode, func(e *layer.Node) error {
		number, content, err := n.tree.layer.NewContent()
		if err != nil {
			return err
		}
		e.Content = number
		return content.Close()
	}, func(low Object) (wire.QID, error) { return low.Mknod(name, mode) })
}

func (n *node) Symlink(name, target string) (wire.QID, error) {
	if target == "" {
		return wire.QID{}, syscall.ENOENT
	}
	if strings.IndexByte(target, 0) >= 0 {
		return wire.QID{}, syscall.EINVAL
	}
	if len(target) > wire.MaxText {
		return wire.QID{}, syscall.ENAMETOOLONG
	}
	return n.makeNode(name, target, layer.Link, 0o777, func(e *layer.Node) error {
		e.Target, e.MtimeNs, e.MtimeSet = target, time.Now().UnixNano(), true
		return nil
	}, func(low Object) (wire.QID, error) { return low.Symlink(name, target) })
}

// Link gives a second name in the folder itself. The layer has one name for each file: EPERM, as on filesystems without hard
// links, makes programs copy instead. A protected file gets no second name either, through which it could be written.
func (n *node) Link(name string, target ninep.Node) error {
	of, ok := target.(*node)
	if !ok || of.tree != n.tree {
		return syscall.EXDEV
	}
	t := n.tree
	t.names.Lock()
	defer t.names.Unlock()
	p, err := n.place(name)
	if err != nil {
		return err
	}
	defer p.drop()
	if p.taken() {
		return syscall.EEXIST
	}
	s := of.now()
	if p.inLayer(false) || of.inLayer(s) || s.gone {
		return syscall.EPERM
	}
	if err := of.ordinary(s.low, false); err != nil {
		return err
	}
	if of.isLink() {
		if text, err := of.Readlink(); err != nil || p.staysApart(text) {
			return syscall.EPERM
		}
	}
	if err := t.roomBelow(newName); err != nil {
		return err
	}
	return n.now().low.Link(name, s.low)
}

// empty tells whether the guest sees nothing in a directory.
func (t *Tree) empty(id layer.ID, low Object, opaque bool) (bool, error) {
	if id != 0 {
		for _, e := range t.layer.Children(id) {
			if !e.Whiteout {
				if e.Passing() && !t.holds(e.ID) {
					continue // judged by what the folder has
				}
				return false, nil
			}
		}
	}
	if low == nil || opaque {
		return true, nil
	}
	left := false
	err := ninep.EachName(low, func(d wire.Dirent) bool {
		if e := t.child(id, d.Name); e == nil || !e.Whiteout {
			left = true
		}
		return !left
	})
	return !left, err
}

func (n *node) Unlink(name string, directory bool) error {
	t := n.tree
	if err := t.turn(); err != nil {
		return err
	}
	defer t.names.Unlock()
	return n.unlink(name, directory)
}

func (n *node) unlink(name string, directory bool) error {
	p, err := n.place(name)
	if err != nil {
		return err
	}
	defer p.drop()
	if p.vanished && directory {
		return nil // what is to be removed is gone just so
	}
	return p.unlink(directory, nil)
}

// unlink removes what the guest sees at the place; ENOENT when that is not the one that is meant, unless any is.
func (p *place) unlink(directory bool, meant *node) error {
	n, t := p.dir, p.dir.tree
	if !p.taken() {
		return syscall.ENOENT
	}
	child, err := p.node()
	if err != nil {
		return err
	}
	defer child.Drop()
	if meant != nil && child != meant {
		return syscall.ENOENT
	}
	s := child.now()
	switch {
	case child.isDir() && !directory:
		return syscall.EISDIR
	case !child.isDir() && directory:
		return syscall.ENOTDIR
	}
	if directory {
		if empty, err := t.empty(s.id, s.low, t.opaque(s.id)); err != nil {
			return err
		} else if !empty {
			return syscall.ENOTEMPTY
		}
	}
	if !p.inLayer(directory) {
		if err := n.now().low.Unlink(p.name, directory); err != nil {
			return err
		}
		if p.entry != nil {
			if err := t.layer.Change(t.removal(p.entry.ID)...); err != nil {
				return err
			}
		}
		t.forget(child)
		return nil
	}
	// What is open of it goes on: its bytes stay with the descriptor.
	if p.entry != nil && p.entry.Kind == layer.File && p.entry.Content != 0 {
		if _, err := child.openContent(p.entry); err != nil {
			return err
		}
	}
	ops, err := t.vanish(p)
	if err != nil {
		return err
	}
	change := t.change
	if p.lower == nil || p.entry != nil && p.entry.Content != 0 {
		change = t.layer.Change // nothing is added but a name's end
	}
	if err := change(append(p.touched(), ops...)...); err != nil {
		return err
	}
	t.forget(child)
	if p.entry != nil && p.entry.Kind == layer.File {
		t.unname(child, p.entry.Content)
	}
	return nil
}

// unname gives up the content of a node that has no name any more: with the node, as what is open of it goes on.
func (t *Tree) unname(n *node, content uint64) {
	if content == 0 || n.content.Load() == nil {
		t.layer.DropContent(content)
		return
	}
	t.mu.Lock()
	n.unnamed = content
	t.mu.Unlock()
}

// removal takes a node away with all below it; the deepest first.
func (t *Tree) removal(id layer.ID) []layer.Op {
	var ops []layer.Op
	for _, e := range t.layer.Children(id) {
		ops = append(ops, t.removal(e.ID)...)
	}
	return append(ops, layer.Remove(id))
}

// forget marks a node as unlinked.
func (t *Tree) forget(n *node) {
	t.mu.Lock()
	n.gone = true
	if t.nodes[n.qid.Path] == n {
		delete(t.nodes, n.qid.Path)
	}
	t.mu.Unlock()
}

func (n *node) Rename(name string, to ninep.Node, newName string) error {
	target, ok := to.(*node)
	if !ok || target.tree != n.tree {
		return syscall.EXDEV
	}
	return n.tree.renaming(func(own *node) error { return n.rename(name, target, newName, own) })
}

// rename moves a name; own is a file that has a content of its own already, should it need one (see renaming).
func (n *node) rename(name string, to *node, newName string, own *node) error {
	t := n.tree
	from, err := n.place(name)
	if err != nil {
		return err
	}
	defer from.drop()
	if !from.taken() {
		return syscall.ENOENT
	}
	dest, err := to.place(newName)
	if err != nil {
		return err
	}
	defer dest.drop()
	moved, err := n.walk(name)
	if err != nil {
		return err
	}
	defer moved.Drop()
	if n == to && name == newName {
		return nil
	}
	for at := to; at != nil; at = at.parentNode() {
		if at == moved {
			return syscall.EINVAL // into itself
		}
	}
	var replaced *node
	if dest.taken() {
		if replaced, err = to.walk(newName); err != nil {
			return err
		}
		defer replaced.Drop()
		switch {
		case replaced == moved:
			return nil
		case moved.isDir() && !replaced.isDir():
			return syscall.ENOTDIR
		case !moved.isDir() && replaced.isDir():
			return syscall.EISDIR
		}
		if replaced.isDir() {
			s := replaced.now()
			if empty, err := t.empty(s.id, s.low, t.opaque(s.id)); err != nil {
				return err
			} else if !empty {
				return syscall.ENOTEMPTY
			}
		}
	}
	directory := moved.isDir()
	if id := moved.now().id; dest.long || directory && id != 0 && length(dest.path)+t.height(id) > maxPath {
		return syscall.ENAMETOOLONG
	}
	fromLayer, toLayer := from.inLayer(directory), dest.inLayer(directory)
	if moved.isLink() && !toLayer {
		text, err := moved.Readlink()
		if err != nil {
			return err
		}
		toLayer = dest.staysApart(text)
	}
	if t.options.Layered != nil && directory && (fromLayer != toLayer || from.carries() || dest.carries()) {
		return syscall.EXDEV // across the line, or a name that gives others their meaning: file by file, then
	}
	if directory && !fromLayer && !toLayer && t.leadsOut(from, dest, moved) {
		return syscall.EXDEV // each link by itself
	}
	switch {
	case !fromLayer && !toLayer:
		return t.renameBelow(from, dest, moved, replaced)
	case fromLayer && !toLayer:
		return syscall.EXDEV
	case !fromLayer && t.options.Layered != nil:
		return t.carryUp(from, dest, moved, replaced)
	}
	if t.isFolders(moved) && t.deletedAt(dest) {
		if directory {
			return syscall.EXDEV // file by file, then
		}
		if err := t.makeOwn(from, moved, own); err != nil {
			return err
		}
	}
	return t.renameInLayer(from, dest, moved, replaced)
}

func (n *node) parentNode() *node {
	n.tree.mu.Lock()
	defer n.tree.mu.Unlock()
	return n.parent
}

// renameBelow moves in the folder itself; the passing nodes of a directory follow.
func (t *Tree) renameBelow(from, dest *place, moved, replaced *node) error {
	var ops []layer.Op
	if id := moved.now().id; id != 0 {
		dir, err := dest.dir.ensure()
		if err != nil {
			return err
		}
		e := t.layer.Get(id)
		old, fresh := e.Base.Path, layer.Join(dest.dir.lowerPath(), dest.name)
		e.Parent, e.Name, e.Base.Path = dir.ID, dest.name, fresh
		if dest.entry != nil && dest.entry.ID != id {
			ops = t.removal(dest.entry.ID)
		}
		ops = append(append(ops, layer.Put(e)), t.rebased(id, old, fresh)...)
		// Whether the layer takes it is known before anything of the folder is moved.
		if err := t.room(layer.Growth(ops...)); err != nil {
			return err
		}
		if err := t.layer.Fits(ops...); err != nil {
			return err
		}
	}
	if err := from.dir.now().low.Rename(from.name, dest.dir.now().low, dest.name); err != nil {
		return err
	}
	if replaced != nil {
		t.forget(replaced)
	}
	if len(ops) > 0 {
		if err := t.layer.Change(ops...); err != nil {
			return err
		}
	}
	t.placed(moved, dest)
	return nil
}

// rebased are the steps by which nodes below follow a directory that was moved in the folder itself.
func (t *Tree) rebased(id layer.ID, old, fresh string) []layer.Op {
	var ops []layer.Op
	for _, e := range t.layer.Children(id) {
		if e.Base != nil && strings.HasPrefix(e.Base.Path, old+"/") {
			e.Base.Path = fresh + e.Base.Path[len(old):]
			ops = append(ops, layer.Put(e))
		}
		ops = append(ops, t.rebased(e.ID, old, fresh)...)
	}
	return ops
}

// placed tells a node where it is now.
func (t *Tree) placed(n *node, at *place) {
	at.dir.Hold()
	t.mu.Lock()
	old := n.parent
	n.parent, n.name = at.dir, at.name
	t.mu.Unlock()
	if old != nil {
		old.Drop()
	}
}

// carryUp moves a file of the folder to a place in the layer: its bytes are copied up, then the folder's name is removed.
func (t *Tree) carryUp(from, dest *place, moved, replaced *node) error {
	e, err := dest.fresh(moved.kind(), 0)
	if err != nil {
		return err
	}
	s := moved.now()
	if s.low == nil {
		return syscall.EIO
	}
	was, err := Identity(s.low, "")
	if err != nil {
		return err
	}
	e.Mode = was.Mode
	dropped := uint64(0)
	if dest.entry != nil {
		e.ID, dropped = dest.entry.ID, dest.entry.Content
		if dest.entry.Base != nil {
			e.Base = dest.entry.Base
		}
	}
	var content *os.File
	switch e.Kind {
	case layer.File:
		// Whoever has it open writes to one of the two, never to the one that is about to be removed.
		moved.writing.Lock()
		defer moved.writing.Unlock()
		if was, err = Identity(s.low, ""); err != nil {
			return err
		}
		if e.Content, content, err = t.copyOf(s.low, was.Size); err != nil {
			return err
		}
		if err = layer.SetMtime(content, was.MtimeNs); err == nil {
			err = unix.Fdatasync(int(content.Fd()))
		}
	case layer.Link:
		e.Target, err = s.low.Readlink()
	}
	if err == nil && e.Base != nil && dest.lower != nil {
		err = t.keepBase(e, dest.lower)
	}
	if err == nil {
		err = t.change(append(dest.touched(), layer.Put(e))...)
	}
	if err != nil {
		if content != nil {
			content.Close()
		}
		t.layer.DropContent(e.Content)
		return err
	}
	// From here on the file is there twice rather than not at all.
	if replaced != nil {
		t.forget(replaced)
	}
	if dropped != e.Content {
		t.layer.DropContent(dropped)
	}
	if err := t.layer.Sync(); err != nil {
		return err
	}
	if err := from.dir.now().low.Unlink(from.name, false); err != nil {
		return err
	}
	t.forget(moved)
	if content != nil {
		t.mu.Lock()
		moved.id = e.ID
		t.mu.Unlock()
		if !moved.content.CompareAndSwap(nil, content) {
			content.Close()
		}
	}
	return nil
}

// keepBase keeps the bytes of the folder's file that a node stands in the place of, for differences, where they are few enough.
func (t *Tree) keepBase(e *layer.Node, lower Object) error {
	b := e.Base
	if b.Content != 0 || b.Kind != layer.File || e.Kind != layer.File || b.Size > maxBaseBytes {
		return nil
	}
	number, kept, err := t.copyOf(lower, b.Size)
	if err != nil {
		return err
	}
	kept.Close()
	b.Content = number
	return nil
}

func (n *node) kind() layer.Kind {
	switch {
	case n.isDir():
		return layer.Directory
	case n.isLink():
		return layer.Link
	}
	return layer.File
}

// renameInLayer moves a node: one change of the graph, whatever it is and has below.
func (t *Tree) renameInLayer(from, dest *place, moved, replaced *node) error {
	e, err := moved.ensure()
	if err != nil {
		return err
	}
	// Making it a passing node may have made the place's entry.
	from.entry = t.layer.Get(e.ID)
	dir, err := dest.dir.ensure()
	if err != nil {
		return err
	}
	var ops []layer.Op
	dropped := uint64(0)
	replaces, err := dest.base()
	if err != nil {
		return err
	}
	if d := dest.entry; d != nil {
		if d.Kind == layer.File && !d.Whiteout && d.Content != 0 {
			if replaced != nil { // what is open of it goes on
				if _, err := replaced.openContent(d); err != nil {
					return err
				}
			}
			dropped = d.Content
		}
	}
	changed := map[layer.ID]*layer.Node{}
	left, err := from.stoodFor()
	if err != nil {
		return err
	}
	if left != nil {
		white := &layer.Node{
			ID: t.layer.NewID(), Parent: e.Parent, Name: from.name, Kind: left.Kind, QID: newQID, Whiteout: true, Base: left,
			Moved: t.layer.Object(left.Path) != 0,
		}
		ops = append(ops, layer.Put(white))
		if e.Made {
			ops = append(ops, t.leaveBehind(e.ID, white, changed)...)
		}
	}
	if dest.entry != nil {
		ops = append(ops, t.replacing(dest, e, replaces, changed)...)
	}
	if stillLower(e) {
		e.Over = nil
		if replaces != nil && replaces.Path != e.Base.Path {
			e.Over = replaces
		}
		if back := t.layer.Child(dir.ID, dest.name); back != nil && back.Whiteout && back.Moved && back.Base.Path == e.Base.Path {
			e.Over = nil // it is back where it came from
		}
	} else {
		// What the task made has for its base whatever it stands in the place of.
		e.Base = replaces
		if replaces != nil && dest.lower != nil {
			if err := t.keepBase(e, dest.lower); err != nil {
				return err
			}
		}
	}
	e.Parent, e.Name = dir.ID, dest.name
	ops = append(ops, layer.Put(e))
	if err := t.change(append(dest.touched(), ops...)...); err != nil {
		return err
	}
	if replaced != nil {
		t.forget(replaced)
		t.unname(replaced, dropped)
	} else {
		t.layer.DropContent(dropped)
	}
	t.placed(moved, dest)
	return nil
}

// stillLower tells whether a node is the folder's object in another place, rather than one that took its place.
func stillLower(e *layer.Node) bool { return e.Base != nil && !e.Whiteout && !e.Made }

func (n *node) Remove() error {
	t := n.tree
	if err := t.turn(); err != nil {
		return err
	}
	defer t.names.Unlock()
	parent, name, err := n.lastPlace()
	if err != nil {
		return err
	}
	p, err := parent.spot(name)
	if err != nil {
		return err
	}
	if judged := n.judged.Load(); judged != nil && *judged == strings.Join(p.path, "/") {
		p.ordinary = judged
	}
	if s := n.now(); n.qid.Type == wire.QTFile && s.id == 0 && s.low != nil && p.entry == nil && !p.inLayer(false) {
		err := parent.now().low.UnlinkHeld(name, s.low)
		if err == nil {
			t.forget(n)
		}
		if err != syscall.EINVAL { // no regular file
			return err
		}
	}
	if err := p.look(p.isNew()); err != nil {
		return err
	}
	defer p.drop()
	return p.unlink(n.isDir(), n)
}

func (n *node) RenameTo(to ninep.Node, newName string) error {
	target, ok := to.(*node)
	if !ok || target.tree != n.tree {
		return syscall.EXDEV
	}
	return n.tree.renaming(func(own *node) error {
		parent, name, err := n.whereabouts()
		if err != nil {
			return err
		}
		return parent.rename(name, target, newName, own)
	})
}

// whereabouts gives the node's directory and name if the guest still sees the node there.
func (n *node) whereabouts() (*node, string, error) {
	parent, name, err := n.lastPlace()
	if err != nil {
		return nil, "", err
	}
	at, err := parent.walk(name)
	if err != nil {
		return nil, "", err
	}
	defer at.Drop()
	if at != n {
		return nil, "", syscall.ENOENT
	}
	return parent, name, nil
}

// lastPlace gives the directory and name that the guest knows the node by.
func (n *node) lastPlace() (*node, string, error) {
	n.tree.mu.Lock()
	parent, name, gone := n.parent, n.name, n.gone
	n.tree.mu.Unlock()
	switch {
	case parent == nil:
		return nil, "", syscall.EBUSY // the root
	case gone:
		return nil, "", syscall.ENOENT
	case n.local:
		return nil, "", syscall.EBUSY
	}
	return parent, name, nil
}
