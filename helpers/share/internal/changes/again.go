//go:build linux

package changes

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"cloche/share/internal/layer"
	"cloche/share/internal/writeback"
)

// What an undo takes out of the folder is the task's again: it waits in the layer as it did before it was applied, and the guest
// goes on seeing it. The folder is as before by then; what cannot be put back here (a full disk) is told, and is kept as a version.

// maxBase is how many bytes of what a change was made from are kept for its differences.
const maxBase = 4 << 20

// waitAgain puts every undone step that the layer does not know of yet back into it, and gives those that could not be.
func (s *Set) waitAgain() []Refusal {
	var undone []writeback.Unsettled
	for _, u := range s.options.Write.Unsettled() {
		if u.Undo && u.Op != "" {
			undone = append(undone, u)
		}
	}
	if len(undone) == 0 || s.options.Holder == nil {
		return nil
	}
	// Where the guest has each place is known from the nodes as they are before any of them is changed.
	places := make(map[*writeback.Unsettled]string, len(undone))
	// What lies in a directory comes after it, and after the move that gives it its place for the guest; what marks the places that
	// moves left comes last: a directory above may be one that is deleted again.
	sort.SliceStable(undone, func(i, j int) bool { return undone[i].Path < undone[j].Path })
	for i := range undone {
		places[&undone[i]] = s.guestPath(undone[i].Path)
	}
	gives := func(u *writeback.Unsettled) bool {
		return u.Op == writeback.Move || u.Op == writeback.Remove && u.Taken != nil && u.Taken.Kind == writeback.Directory
	}
	var left []Refusal
	look := newLookout(s.options.Lower)
	defer look.close()
	each := func(which func(*writeback.Unsettled) bool, do func(*writeback.Unsettled) error) {
		for i := range undone {
			if u := &undone[i]; which(u) {
				if err := do(u); err != nil {
					code, message := problemOf(err)
					left = append(left, Refusal{Path: u.Path, Code: code, Message: "It is as before, and does not wait again: " + message})
				}
			}
		}
	}
	each(gives, func(u *writeback.Unsettled) error {
		if u.Op == writeback.Move {
			return s.moveAgain(look, u)
		}
		return s.putBack(look, u, places[u])
	})
	each(func(u *writeback.Unsettled) bool { return !gives(u) }, func(u *writeback.Unsettled) error { return s.putBack(look, u, places[u]) })
	each(func(u *writeback.Unsettled) bool { return u.Op == writeback.Move }, func(u *writeback.Unsettled) error { return s.leftAgain(look, u) })
	return left
}

// lowerPath is where the folder has what the guest has at a path.
func (s *Set) lowerPath(path string) string {
	lower, id := "", layer.RootID
	for _, name := range layer.Components(path) {
		lower = layer.Join(lower, name)
		if id == 0 {
			continue
		}
		n := s.options.Layer.Child(id, name)
		if n == nil {
			id = 0
			continue
		}
		if id = n.ID; n.Base != nil {
			lower = n.Base.Path
		}
	}
	return lower
}

// placeOf is where the folder has the place of that path, whatever the guest has there.
func (s *Set) placeOf(path string) string {
	return layer.Join(s.lowerPath(parentOf(path)), path[strings.LastIndexByte(path, '/')+1:])
}

// returned gives where the folder has what an undone step brought back to a path of the folder's, and where the guest has that place: a
// directory above it may be elsewhere for the guest, or back where it was before it was moved itself.
func (s *Set) returned(look *lookout, path string, made *writeback.Identity) (lower, place string) {
	if now := look.base(path); now != nil && made != nil && now.Inode == made.Inode {
		return path, s.guestPath(path)
	}
	return s.placeOf(path), path
}

// guestPath is where the guest has the place of what the folder has at a path.
func (s *Set) guestPath(lower string) string {
	for above := parentOf(lower); above != ""; above = parentOf(above) {
		if id := s.options.Layer.Object(above); id != 0 {
			if path, there := s.options.Layer.Path(id); there {
				return path + lower[len(above):]
			}
		}
	}
	return lower
}

// moveAgain gives what the folder has under its old name again the place that the guest gave it.
func (s *Set) moveAgain(look *lookout, u *writeback.Unsettled) error {
	if u.Made == nil {
		return nil // a program of the host took it away at once
	}
	from, _ := s.returned(look, u.To, u.Made)
	if n := s.taskHas(u); n != nil {
		if path, _ := s.options.Layer.Path(n.ID); path != u.Path {
			return s.movedOnAgain(n, u, path, from)
		}
	}
	if w := s.options.Layer.StandsAt(u.Path); w != nil && w.Whiteout && !w.Moved && u.Was != nil && w.Base.Inode == u.Was.Inode {
		return s.deletedAgain(look, w, u, from)
	}
	if n := s.nodeAt(u.Path); n != nil && !n.Whiteout && u.Was != nil && (n.Made && isObject(n.Base, u.Was) || isObject(n.Over, u.Was)) {
		return s.replacedAgain(n.ID, u, from)
	}
	components := layer.Components(u.Path)
	return s.options.Holder.Again(components, func(parent layer.ID, n *layer.Node, qid uint64) ([]layer.Op, *layer.Node, error) {
		if n != nil && (n.Whiteout || n.Made || n.Base == nil || n.Base.Path == from || !isObject(n.Base, u.Was)) {
			return nil, nil, nil
		}
		// What was made from something in it knows it by its old path again, wherever that is for the guest.
		var ops []layer.Op
		for _, other := range below(s.options.Layer, u.Path, from) {
			ops = append(ops, layer.Put(other))
		}
		base := baseOf(from, u.Made)
		if n != nil {
			if n.Base != nil {
				base.Content = n.Base.Content
			}
			n.Base = base
			return append(ops, layer.Put(n)), nil, nil
		}
		n = &layer.Node{ID: s.options.Layer.NewID(), Parent: parent, Name: components[len(components)-1], Kind: base.Kind, Base: base, QID: qid}
		if qid == 0 {
			n.QID = s.qidOf(u)
		}
		return append(ops, layer.Put(n)), n, nil
	})
}

// taskHas gives the node that is what an undone step took from its place, wherever the task has it since; nil when there is none.
func (s *Set) taskHas(u *writeback.Unsettled) *layer.Node {
	n := s.options.Layer.Get(s.options.Layer.Object(u.Path))
	if n == nil || n.ID == layer.RootID || u.Was == nil || n.Base.Inode != u.Was.Inode || n.Base.Device != u.Was.Device {
		return nil
	}
	return n
}

// movedOnAgain lets what the task moved on, from where an apply had it until an undo, know by its old name what it is.
func (s *Set) movedOnAgain(n *layer.Node, u *writeback.Unsettled, path, from string) error {
	l := s.options.Layer
	return s.hold(n.ID, func(bool) error {
		if n = l.Get(n.ID); n == nil {
			return nil
		}
		base := baseOf(from, u.Made)
		base.Content = n.Base.Content
		n.Base = base
		var ops []layer.Op
		if path == from && n.Kind != layer.Directory && n.Content == 0 && !n.ModeSet && !n.MtimeSet && len(n.Xattrs) == 0 {
			ops = append(ops, layer.Remove(n.ID), layer.Remember(u.Made.Device, u.Made.Inode, n.QID)) // back where it was
		} else {
			ops = append(ops, layer.Put(n))
		}
		for _, other := range below(l, u.Path, from) {
			ops = append(ops, layer.Put(other))
		}
		if w := l.StandsAt(u.Path); w != nil && w.Whiteout && w.Moved && !l.HasChildren(w.ID) {
			ops = append(ops, layer.Remove(w.ID))
		}
		return l.Decide(ops...)
	})
}

// deletedAgain lets what the task deleted, where an apply had it until an undo, be deleted where the folder has it now.
func (s *Set) deletedAgain(look *lookout, w *layer.Node, u *writeback.Unsettled, from string) error {
	components := layer.Components(s.guestPath(from))
	return unseen(s.options.Holder.Again(components, func(parent layer.ID, entry *layer.Node, _ uint64) ([]layer.Op, *layer.Node, error) {
		if entry != nil {
			return nil, nil, nil // what the task did there since stays as it is
		}
		var ops []layer.Op
		for _, other := range below(s.options.Layer, u.Path, from) {
			if other.ID != w.ID {
				ops = append(ops, layer.Put(other))
			}
		}
		if now := look.base(u.Path); now != nil && now.Kind != 0 { // it had gone over that
			id := s.options.Layer.NewID()
			ops = append(ops, layer.Put(&layer.Node{ID: id, Parent: w.Parent, Name: w.Name, Kind: now.Kind, QID: 1 << 62, Whiteout: true, Base: now}))
		}
		w.Parent, w.Name, w.Base = parent, components[len(components)-1], baseOf(from, u.Made)
		return append([]layer.Op{layer.Put(w)}, ops...), w, nil
	}))
}

func isObject(b *layer.Base, i *writeback.Identity) bool {
	return b != nil && i != nil && b.Inode == i.Inode && b.Device == i.Device
}

// replacedAgain lets what the task put something else in the place of, where an apply had it until an undo, be deleted where the folder has
// it now.
func (s *Set) replacedAgain(by layer.ID, u *writeback.Unsettled, from string) error {
	components := layer.Components(s.guestPath(from))
	return unseen(s.options.Holder.Again(components, func(parent layer.ID, entry *layer.Node, _ uint64) ([]layer.Op, *layer.Node, error) {
		e := s.edit()
		for _, other := range below(s.options.Layer, u.Path, from) {
			e.set(other)
		}
		n := e.get(by)
		if n == nil {
			return nil, nil, nil
		}
		base := baseOf(from, u.Made)
		var made *layer.Node
		switch {
		case entry == nil:
			made = &layer.Node{ID: s.options.Layer.NewID(), Parent: parent, Name: components[len(components)-1], Kind: base.Kind, QID: 1 << 62, Whiteout: true, Base: base}
			e.set(made)
			if base.Kind == layer.Directory {
				e.merge(n, made, true)
			}
		case entry.ID != by && entry.Made && entry.Base == nil:
			there := e.get(entry.ID)
			there.Base = base
			e.set(there)
		}
		if isObject(n.Over, u.Was) {
			n.Over = nil
		} else {
			n.Base = nil
		}
		e.setWhole(n)
		return e.steps(), made, nil
	}))
}

// leftAgain marks the place that a move left.
func (s *Set) leftAgain(look *lookout, u *writeback.Unsettled) error {
	if u.Made == nil {
		return nil
	}
	from, _ := s.returned(look, u.To, u.Made)
	at := s.options.Layer.Get(s.options.Layer.Object(from))
	if at == nil || at.Base.Inode != u.Made.Inode || !at.Elsewhere {
		return nil
	}
	components := layer.Components(s.guestPath(at.Base.Path))
	return unseen(s.options.Holder.Again(components, func(parent layer.ID, entry *layer.Node, _ uint64) ([]layer.Op, *layer.Node, error) {
		base := *at.Base
		base.Content = 0
		switch {
		case entry == nil:
		case entry.Made && entry.Base == nil:
			entry.Base = &base
			return []layer.Op{layer.Put(entry)}, nil, nil
		case !entry.Made && !entry.Whiteout && entry.Over == nil && entry.Base != nil && entry.Base.Path != base.Path:
			entry.Over = &base
			return []layer.Op{layer.Put(entry)}, nil, nil
		default:
			return nil, nil, nil
		}
		n := &layer.Node{ID: s.options.Layer.NewID(), Parent: parent, Name: components[len(components)-1], Kind: base.Kind, QID: 1 << 62, Whiteout: true, Moved: true, Base: &base}
		return []layer.Op{layer.Put(n)}, n, nil
	}))
}

// goOn makes what the task has of something that an undo took out of the folder, and that it renamed or changed since, a change of its own
// again, with what was taken out; false when it has nothing of it.
func (s *Set) goOn(look *lookout, u *writeback.Unsettled) (done bool, err error) {
	l := s.options.Layer
	n := s.taskHas(u)
	if n == nil || u.Taken == nil || baseOf("", &writeback.Identity{Kind: u.Taken.Kind}).Kind != n.Kind {
		return false, nil
	}
	made, err := s.nodeOf(look, u, u.Path)
	if err != nil || made == nil {
		return false, err
	}
	var drop []uint64
	err = s.hold(n.ID, func(bool) error {
		if n = l.Get(n.ID); n == nil || n.Base == nil {
			return nil
		}
		drop = []uint64{n.Base.Content}
		again := *made
		again.ID, again.Parent, again.Name, again.QID = n.ID, n.Parent, n.Name, n.QID
		if n.ModeSet {
			again.Mode, again.ModeSet = n.Mode, true
		}
		switch {
		case n.Kind == layer.File && n.Content != 0:
			again.Content, again.MtimeNs, again.MtimeSet = n.Content, n.MtimeNs, n.MtimeSet
			drop = append(drop, made.Content)
		case n.Kind == layer.File && n.MtimeSet:
			f, err := l.OpenContent(made.Content)
			if err != nil {
				return err
			}
			err = layer.SetMtime(f, n.MtimeNs)
			f.Close()
			if err != nil {
				return err
			}
		case n.Kind == layer.Link && n.Target != "":
			again.Target = n.Target
			fallthrough
		case n.MtimeSet:
			again.MtimeNs, again.MtimeSet = n.MtimeNs, n.MtimeSet
		}
		for name, value := range n.Xattrs {
			if again.Xattrs == nil {
				again.Xattrs = map[string][]byte{}
			}
			again.Xattrs[name] = value
		}
		var ops []layer.Op
		if n.Elsewhere && again.Made {
			// What the task made stands in the place of what the folder has there; where the folder had it until now, what came back is
			// what the task took away.
			if again.Base != nil {
				drop = append(drop, again.Base.Content)
			}
			again.Base = n.Over
			if again.Base == nil {
				again.Mode, again.ModeSet = modeOf(n, made), true
			}
			if w := l.StandsAt(u.Path); w != nil && w.Whiteout && w.Moved {
				switch {
				case u.Made != nil:
					w.Base, w.Moved = baseOf(u.Path, u.Made), false
					ops = append(ops, layer.Put(w))
				case l.HasChildren(w.ID):
					w.Moved = false
					ops = append(ops, layer.Put(w))
				default:
					ops = append(ops, layer.Remove(w.ID))
				}
			}
		} else if n.Elsewhere {
			again.Over = n.Over
		}
		if err := l.Decide(append(ops, layer.Put(&again))...); err != nil {
			return err
		}
		done = true
		return nil
	})
	if !done {
		drop = contentsOf(made)
	}
	l.DropContent(drop...)
	return done, err
}

// modeOf is the mode that the guest sees of something of which the folder had made.
func modeOf(n, made *layer.Node) uint32 {
	if n.ModeSet {
		return n.Mode
	}
	return made.Mode
}

// putBack puts one undone step back. has is where the guest had what the step took out.
func (s *Set) putBack(look *lookout, u *writeback.Unsettled, has string) error {
	var about note
	if len(u.Undone) > 0 {
		if err := json.Unmarshal(u.Undone, &about); err != nil {
			return err
		}
	}
	// A step beside the one that settles a node left the layer as it was; only what it had removed may be of another base now.
	if about.Quiet && (u.Was != nil || u.Made == nil) {
		return nil
	}
	if done, err := s.goOn(look, u); done || err != nil {
		return err
	}
	lower, place := s.placeOf(u.Path), u.Path
	switch {
	case u.Was == nil:
		lower, place = s.returned(look, u.Path, u.Made)
	case u.Op == writeback.SetAttributes && s.taskHas(u) != nil: // wherever that is since
		lower = u.Path
		place, _ = s.options.Layer.Path(s.taskHas(u).ID)
	case has != u.Path: // the task moved a directory above it since
		lower, place = u.Path, has
	}
	made, err := s.nodeOf(look, u, lower)
	if err != nil {
		return err
	}
	used := false
	defer func() {
		if made != nil && !used {
			s.options.Layer.DropContent(made.Content)
			if made.Base != nil {
				s.options.Layer.DropContent(made.Base.Content)
			}
		}
	}()
	components := layer.Components(place)
	err = s.options.Holder.Again(components, func(parent layer.ID, entry *layer.Node, qid uint64) ([]layer.Op, *layer.Node, error) {
		if entry != nil {
			return s.known(u, entry, made, lower), nil, nil
		}
		if made == nil {
			return nil, nil, nil
		}
		dir := s.options.Layer.Get(parent)
		switch {
		case dir == nil || !made.Whiteout && (dir.Whiteout || dir.Kind != layer.Directory):
			return nil, nil, nil // the task deleted the directory since
		case made.Whiteout && dir.Base != nil && !dir.Made && layer.Join(dir.Base.Path, components[len(components)-1]) != lower:
			return nil, nil, nil // it moved another one over that, of whose names this is none
		}
		n := made
		n.ID, n.Parent, n.Name = s.options.Layer.NewID(), parent, components[len(components)-1]
		ops := []layer.Op{layer.Put(n)}
		if n.Whiteout {
			n.QID = 1 << 62
		} else if n.QID = qid; qid == 0 {
			n.QID = s.qidOf(u)
		}
		used = true
		return ops, n, nil
	})
	if made == nil || made.Whiteout {
		return unseen(err)
	}
	return err
}

// unseen is no error where a deletion has no place for the guest: it sees nothing there.
func unseen(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	return err
}

// qidOf is the number that the guest had for what was taken out, where that is known and free.
func (s *Set) qidOf(u *writeback.Unsettled) uint64 {
	if u.Was != nil {
		qid, known := s.options.Layer.QIDOf(u.Was.Device, u.Was.Inode)
		if !known {
			qid = u.Was.Inode
		}
		if !s.options.Layer.QIDTaken(qid, u.Was.Device, u.Was.Inode) {
			return qid
		}
	}
	return 1<<62 | uint64(s.options.Layer.NewID())
}

// known are the steps by which a node that the layer has at the place is right again: it is made from what stands there now. made is
// the node that it would be if there were none; nil: none.
func (s *Set) known(u *writeback.Unsettled, n, made *layer.Node, lower string) []layer.Op {
	switch {
	case u.Op == writeback.SetAttributes && made != nil && !n.Made && !n.Whiteout && n.Base != nil && n.Base.Path == lower:
		made.Base.Content, n.Base = n.Base.Content, made.Base
		if made.ModeSet && !n.ModeSet {
			n.Mode, n.ModeSet = made.Mode, true
		}
		if made.MtimeSet && !n.MtimeSet && n.Content == 0 {
			n.MtimeNs, n.MtimeSet = made.MtimeNs, true
		}
		for name, value := range made.Xattrs {
			if _, set := n.Xattrs[name]; !set {
				if n.Xattrs == nil {
					n.Xattrs = map[string][]byte{}
				}
				n.Xattrs[name] = value
			}
		}
	case u.Was == nil && u.Made != nil && n.Made && !n.Whiteout && n.Base == nil:
		n.Base = baseOf(lower, u.Made) // removed by the apply, and made again by the guest
	case u.Was == nil && u.Made != nil && !n.Made && !n.Whiteout && n.Over == nil && n.Base != nil && n.Base.Path != lower:
		n.Over = baseOf(lower, u.Made) // moved over it
	case u.Op == writeback.Remove && u.Taken != nil && u.Taken.Kind == writeback.Directory && n.Kind == layer.Directory && !n.Made && !n.Whiteout:
		n.Made, n.Opaque, n.Base, n.Mode, n.ModeSet = true, true, nil, u.Taken.Mode&0o777, true
	case u.Was == nil && u.Made != nil && n.Whiteout && !n.Moved && n.Base != nil && n.Base.Inode != u.Made.Inode:
		// The guest deleted what the apply had put there, and with it what came back.
		n.Base = baseOf(lower, u.Made)
		n.Kind = n.Base.Kind
		e := s.edit()
		e.setWhole(n)
		return e.steps()
	case u.Op == writeback.Remove && u.Was != nil && n.Made && n.Base != nil && n.Base.Kind == layer.Directory && n.Base.Inode == u.Was.Inode:
		n.Base = nil // in the place of a directory that there is no more
		e := s.edit()
		e.setWhole(n)
		return e.steps()
	default:
		return nil
	}
	return []layer.Op{layer.Put(n)}
}

// nodeOf makes the node that stands for an undone step; nil: there is none. Its content is on the disk before the layer names it.
func (s *Set) nodeOf(look *lookout, u *writeback.Unsettled, lower string) (*layer.Node, error) {
	var base *layer.Base
	if u.Made != nil {
		base = baseOf(lower, u.Made)
	}
	switch {
	case u.Op == writeback.SetAttributes && base != nil && u.Before != nil && u.After != nil:
		n := &layer.Node{Kind: base.Kind, Base: base}
		if u.Before.Mode&0o777 != base.Mode {
			n.Mode, n.ModeSet = u.Before.Mode&0o777, true
		}
		if u.Before.MtimeNs != u.After.MtimeNs {
			n.MtimeNs, n.MtimeSet = u.Before.MtimeNs, true
		}
		n.Xattrs = differing(u.Before.Xattrs, u.After.Xattrs)
		if n.Passing() || base.Kind != layer.Directory && !n.ModeSet && !n.MtimeSet && len(n.Xattrs) == 0 {
			return nil, nil
		}
		return n, nil
	case u.Was == nil && base != nil: // the apply had removed it
		return &layer.Node{Kind: base.Kind, Whiteout: true, Base: base}, nil
	case u.Taken == nil:
		return nil, nil
	}
	t := u.Taken
	n := &layer.Node{Base: base, Made: base == nil, Mode: t.Mode & 0o777}
	n.ModeSet = base == nil || n.Mode != base.Mode
	var err error
	switch t.Kind {
	case writeback.Directory:
		n.Kind, n.Opaque, n.MtimeNs, n.MtimeSet = layer.Directory, true, t.MtimeNs, true
	case writeback.Link:
		n.Kind, n.Target, n.Mode, n.ModeSet, n.MtimeNs, n.MtimeSet = layer.Link, t.Target, 0o777, base == nil, t.MtimeNs, true
	default:
		n.Kind = layer.File
		if n.Content, err = s.contentOf(t); err != nil {
			return nil, err
		}
	}
	var theirs map[string][]byte
	if base != nil {
		n.Made = base.Kind != n.Kind || n.Kind == layer.Link
		if n.Kind == layer.File && base.Kind == layer.File {
			if theirs, err = lowerXattrs(look, lower); err == nil && base.Size <= maxBase {
				err = s.keepBase(look, base)
			}
			if err != nil {
				s.options.Layer.DropContent(n.Content)
				return nil, err
			}
		}
	}
	n.Xattrs = differing(t.Xattrs, theirs)
	return n, nil
}

// keepBase keeps the bytes of what the change was made from, for its differences. A file that is another one by now has none.
func (s *Set) keepBase(look *lookout, base *layer.Base) error {
	data, err := look.read(base.Path, maxBase)
	if err != nil || int64(len(data)) != base.Size {
		return nil
	}
	base.Content, err = s.temporary(data)
	return err
}

// differing are attributes that are not the others'; nil values are those that only the others have.
func differing(have, others map[string][]byte) map[string][]byte {
	var all map[string][]byte
	set := func(name string, value []byte) {
		if all == nil {
			all = map[string][]byte{}
		}
		all[name] = value
	}
	for name, value := range have {
		if other, there := others[name]; !there || !bytes.Equal(value, other) {
			set(name, append([]byte{}, value...))
		}
	}
	for name := range others {
		if _, there := have[name]; !there && strings.HasPrefix(name, "user.") {
			set(name, nil)
		}
	}
	return all
}

// contentOf makes a content of what an undo took out, with its time, durable.
func (s *Set) contentOf(t *writeback.Taken) (uint64, error) {
	from, err := t.Open()
	if err != nil {
		return 0, err
	}
	defer from.Close()
	number, to, err := s.options.Layer.NewContent()
	if err != nil {
		return 0, err
	}
	defer to.Close()
	if unix.IoctlFileClone(int(to.Fd()), int(from.Fd())) != nil {
		// By hand: the filter knows none of the calls by which io.Copy would do it in the kernel.
		_, err = io.Copy(struct{ io.Writer }{to}, struct{ io.Reader }{from})
	}
	if err == nil {
		err = layer.SetMtime(to, t.MtimeNs)
	}
	if err == nil {
		err = to.Sync()
	}
	if err != nil {
		s.options.Layer.DropContent(number)
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return 0, err
	}
	return number, nil
}
