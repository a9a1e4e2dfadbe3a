//go:build linux

package changes

import (
	"encoding/json"
	"strings"

	"cloche/share/internal/layer"
	"cloche/share/internal/writeback"
)

// hold runs do while the guest leaves a node alone.
func (s *Set) hold(id layer.ID, do func(open bool) error) error {
	if s.options.Holder == nil {
		return do(false)
	}
	return s.options.Holder.Hold(id, do)
}

// steady runs do while the guest's names stay where they are.
func (s *Set) steady(do func() error) error {
	if s.options.Holder == nil {
		return do()
	}
	return s.options.Holder.Steady(do)
}

// catchUp settles what an earlier process applied without noting it, and forgets files that were kept only because the
// guest had them open then.
func (s *Set) catchUp() error {
	for _, u := range s.options.Write.Unsettled() {
		if u.Undo || u.Returned {
			if err := s.adopt(u.Was, u.Made); err != nil {
				return err
			}
			continue
		}
		if len(u.Note) == 0 {
			continue
		}
		if err := s.settle(u.Note, u.Made, 0); err != nil {
			return err
		}
	}
	s.waitAgain() // what cannot be is in the folder's versions
	if err := s.forgetSame(); err != nil {
		return err
	}
	if err := s.options.Layer.Sync(); err != nil {
		return err
	}
	return s.options.Write.Settled()
}

// adopt makes changes that were made from one file of the folder changes of what stands in its place since an undo, or of the
// same file that a rename and one back have given another time of change.
func (s *Set) adopt(was, now *writeback.Identity) error {
	if was == nil {
		return nil
	}
	is := func(b *layer.Base) bool {
		return b != nil && b.Inode == was.Inode && b.Size == was.Size && b.MtimeNs == was.MtimeNs
	}
	var found []layer.ID
	s.options.Layer.Walk(func(n *layer.Node, _ string) bool {
		if n.Kind != layer.Directory && (is(n.Base) || is(n.Over)) {
			found = append(found, n.ID)
		}
		return true
	})
	for _, id := range found {
		n := s.options.Layer.Get(id)
		var old uint64
		again := func(b *layer.Base) *layer.Base {
			if !is(b) {
				return b
			}
			if now == nil {
				return nil
			}
			fresh := baseOf(b.Path, now)
			if now.Inode == was.Inode {
				fresh.Content = b.Content
			} else {
				old = b.Content
			}
			return fresh
		}
		n.Base, n.Over = again(n.Base), again(n.Over)
		n.Made = n.Made || n.Base == nil
		if n.Whiteout && n.Base == nil {
			continue // what was deleted is gone; there is nothing more to tell
		}
		if err := s.options.Layer.Change(layer.Put(n)); err != nil {
			return err
		}
		s.options.Layer.DropContent(old)
	}
	return nil
}

// settle makes the layer forget what the folder has now: the node is removed, or made from the folder's new file where the
// guest has written on or has it open. kept is the content that the folder has, of a file that went over in parts.
func (s *Set) settle(raw json.RawMessage, made *writeback.Identity, kept uint64) error {
	var about note
	if err := json.Unmarshal(raw, &about); err != nil || about.Quiet {
		return err
	}
	l := s.options.Layer
	if err := s.showAbove(about.Node); err != nil {
		return err
	}
	return s.hold(about.Node, func(open bool) error {
		n := l.Get(about.Node)
		if n == nil {
			return nil
		}
		path, _ := l.Path(n.ID)
		same := n.Seq == about.Seq
		if same && n.Kind == layer.File && n.Content != 0 && !n.Whiteout {
			st, err := s.contentStat(n.Content)
			if err != nil {
				return err
			}
			same = st.Size == about.Size && st.Mtim.Nano() == about.Mtime && st.Ctim.Nano() == about.Ctime
		}
		drop := []uint64{n.Content}
		if n.Base != nil {
			drop = append(drop, n.Base.Content)
		}
		var ops []layer.Op
		var rewritten []*layer.Node
		dropped := uint64(0)
		moved := n.Base != nil && !n.Made && n.Elsewhere
		if moved {
			ops = append(ops, s.whiteoutOf(n)...)
			// What the task made in its old place stands in the place of nothing now.
			if there := l.StandsAt(n.Base.Path); there != nil && there.ID != n.ID && there.Made && there.Base.Inode == n.Base.Inode {
				dropped = there.Base.Content
				there.Base = nil
				ops = append(ops, layer.Put(there))
			}
		}
		switch {
		case made == nil && n.Whiteout: // also one that the guest made and deleted again meanwhile
			ops = append(ops, removal(l, n)...)
			drop = contentsOf(l, n)
		case made == nil:
			// Removed in the folder, and made again by the guest meanwhile.
			n.Base, n.Made = nil, true
			ops, drop = append(ops, layer.Put(n)), drop[1:]
		case n.Kind == layer.Directory && !n.Whiteout:
			was := ""
			if moved {
				was = n.Base.Path
			}
			rebase(n, path, made)
			// The folder's own from now on, whatever the guest did meanwhile: a mode that it set then stays its own.
			n.Opaque, n.MtimeSet = false, false
			if same {
				n.Xattrs = nil
			}
			if same || n.Mode == n.Base.Mode {
				n.ModeSet = false
			}
			ops = append(ops, layer.Put(n))
			if was != "" {
				rewritten = below(l, was, path)
				for _, child := range rewritten {
					ops = append(ops, layer.Put(child))
				}
			}
			drop = nil
		case same && !open && !about.Part:
			ops = append(ops, layer.Remove(n.ID), layer.Remember(made.Device, made.Inode, n.QID))
		default:
			old := rebase(n, path, made)
			n.Base.Content = kept
			if same && !about.Part {
				n.ModeSet, n.MtimeSet, n.Xattrs = false, false, nil
			}
			if n.Kind == layer.File && n.Content == 0 && !n.Whiteout {
				ops, drop = append(ops, layer.Remove(n.ID), layer.Remember(made.Device, made.Inode, n.QID)), []uint64{old}
				break
			}
			ops, drop = append(ops, layer.Put(n)), []uint64{old}
		}
		stat, _ := s.contentStat(n.Content)
		if err := l.Change(ops...); err != nil {
			return err
		}
		for _, child := range rewritten {
			s.rebased[child.ID] = child.Seq
		}
		l.DropContent(append(drop, dropped)...)
		if after := l.Get(n.ID); after != nil && same && open && !about.Part && stat != nil {
			s.settled[n.ID] = settledNode{after.Seq, *stat}
		} else {
			delete(s.settled, n.ID)
		}
		return nil
	})
}

// showAbove makes the directories above a node that the task had removed and made again the folder's own, before anything in them is: what
// was deleted in each is known name by name, and what else the folder has there shows.
func (s *Set) showAbove(id layer.ID) error {
	l := s.options.Layer
	var above []layer.ID // the topmost last
	for n := l.Get(id); n != nil && n.ID != layer.RootID; {
		if n = l.Get(n.Parent); n != nil && madeAgain(n) {
			above = append(above, n.ID)
		}
	}
	if len(above) == 0 {
		return nil
	}
	for i := len(above) - 1; i >= 0; i-- {
		if err := s.show(above[i]); err != nil {
			return err
		}
	}
	return nil
}

// show makes a directory that the task had removed and made again the folder's own, if the folder has it there.
func (s *Set) show(id layer.ID) error {
	look := newLookout(s.options.Lower)
	defer look.close()
	l := s.options.Layer
	return s.hold(id, func(bool) error {
		n := l.Get(id)
		if n == nil || !madeAgain(n) || s.isMovedAway(n.Base.Path) {
			return nil
		}
		now := look.base(n.Base.Path)
		if now == nil || now.Kind != layer.Directory {
			return nil
		}
		n.Base, n.Made, n.Opaque, n.MtimeSet = now, false, false, false
		if n.ModeSet = n.ModeSet && n.Mode != now.Mode; !n.ModeSet {
			n.Mode = 0
		}
		return l.Change(layer.Put(n))
	})
}

// madeAgain tells whether a node is a directory in the place of one of the folder's that the task removed.
func madeAgain(n *layer.Node) bool {
	return n.Kind == layer.Directory && n.Made && n.Opaque && n.Base != nil && n.Base.Kind == layer.Directory
}

// isMovedAway tells whether what the folder has at a path is elsewhere for the guest.
func (s *Set) isMovedAway(path string) bool { return s.moved()[path] != 0 }

// rebase makes a node one of the folder's file at its place, and gives the number of the base's content that it had.
func rebase(n *layer.Node, path string, made *writeback.Identity) (old uint64) {
	if n.Base != nil {
		old = n.Base.Content
	}
	n.Base = baseOf(path, made)
	n.Made, n.Over = false, nil
	return old
}

func baseOf(path string, i *writeback.Identity) *layer.Base {
	kinds := map[writeback.Kind]layer.Kind{writeback.File: layer.File, writeback.Directory: layer.Directory, writeback.Link: layer.Link}
	return &layer.Base{
		Path: path, Kind: kinds[i.Kind], Device: i.Device, Inode: i.Inode, Mode: i.Mode & 0o777,
		Size: i.Size, MtimeNs: i.MtimeNs, CtimeNs: i.CtimeNs,
	}
}

// whiteoutOf takes away what marks the place that a moved node came from.
func (s *Set) whiteoutOf(moved *layer.Node) []layer.Op {
	var ops []layer.Op
	s.options.Layer.Walk(func(n *layer.Node, _ string) bool {
		if n.Whiteout && n.Moved && n.Base != nil && n.Base.Path == moved.Base.Path {
			ops = append(ops, layer.Remove(n.ID))
		}
		return true
	})
	return ops
}

// removal removes a node with all below it.
func removal(l *layer.Layer, n *layer.Node) []layer.Op {
	ops := []layer.Op{layer.Remove(n.ID)}
	for _, child := range l.Children(n.ID) {
		ops = append(removal(l, child), ops...)
	}
	return ops
}

func contentsOf(l *layer.Layer, n *layer.Node) []uint64 {
	numbers := []uint64{n.Content}
	if n.Base != nil {
		numbers = append(numbers, n.Base.Content)
	}
	for _, child := range l.Children(n.ID) {
		numbers = append(numbers, contentsOf(l, child)...)
	}
	return numbers
}

// below rewrites where the folder has what lay in a directory that was moved there too now, wherever the task has it.
func below(l *layer.Layer, was, is string) []*layer.Node {
	var ids []layer.ID
	l.Walk(func(n *layer.Node, _ string) bool {
		if n.Base != nil && strings.HasPrefix(n.Base.Path, was+"/") {
			ids = append(ids, n.ID)
		}
		return true
	})
	var nodes []*layer.Node
	for _, id := range ids {
		n := l.Get(id)
		n.Base.Path = is + n.Base.Path[len(was):]
		nodes = append(nodes, n)
	}
	return nodes
}

// forgetSame removes files whose content is the folder's byte for byte and that have nothing else of their own.
func (s *Set) forgetSame() error {
	look := newLookout(s.options.Lower)
	defer look.close()
	var same []*layer.Node
	s.options.Layer.Walk(func(n *layer.Node, path string) bool {
		if n.Kind != layer.File || n.Content == 0 || n.Made || n.Whiteout || n.Elsewhere || n.Base == nil || n.ModeSet || n.MtimeSet || len(n.Xattrs) > 0 {
			return true
		}
		if st, err := s.contentStat(n.Content); err == nil && st.Size == n.Base.Size && st.Size <= maxHashed {
			same = append(same, n)
		}
		return true
	})
	for _, n := range same {
		now := look.base(n.Base.Path)
		if now == nil || !n.Base.Same(now) {
			continue
		}
		theirs, err := look.read(n.Base.Path, maxHashed)
		if err != nil {
			continue
		}
		f, err := s.options.Layer.OpenContent(n.Content)
		if err != nil {
			return err
		}
		ours, err := readAll(f, maxHashed)
		f.Close()
		if err != nil || string(ours) != string(theirs) {
			continue
		}
		if err := s.options.Layer.Change(layer.Remove(n.ID), layer.Remember(now.Device, now.Inode, n.QID)); err != nil {
			return err
		}
		s.options.Layer.DropContent(n.Content, n.Base.Content)
	}
	return nil
}

// Discard begins to drop changes.
func (s *Set) Discard(what What) (*Slice, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.begin("discard")
	if err := s.choose(b, what, func(*Change) (string, string) { return "", "" }); err != nil {
		return nil, err
	}
	// What lies in a directory goes before it.
	for i, j := 0, len(b.todo)-1; i < j && what.All; i, j = i+1, j-1 {
		b.todo[i], b.todo[j] = b.todo[j], b.todo[i]
	}
	return s.discardSome(b)
}

// DiscardMore goes on.
func (s *Set) DiscardMore(name string) (*Slice, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.open("discard", name)
	if err != nil {
		return nil, err
	}
	return s.discardSome(b)
}

func (s *Set) discardSome(b *batch) (*Slice, error) {
	var done []string
	l := s.options.Layer
	for len(b.todo) > 0 && len(done) < sliceChanges {
		chosen := b.todo[0]
		b.todo = b.todo[1:]
		c, err := s.find(chosen.ID)
		switch {
		case err == nil && c.Token != chosen.Token:
			err = ErrMovedOn
		case err == nil && len(chosen.Hunks) > 0:
			err = s.discardHunks(c, chosen.Hunks)
		case err == nil:
			for i := range c.parts {
				if err = s.discardPart(&c.parts[i]); err != nil {
					break
				}
			}
		}
		if err == nil {
			done = append(done, chosen.ID)
			continue
		}
		path := ""
		if c != nil {
			path = c.Path
		}
		code, message := problemOf(err)
		b.refuse(chosen.ID, path, code, message)
	}
	s.listing = nil
	return s.slice(b, done, 0, len(b.todo)), l.Sync()
}

func (s *Set) discardPart(p *part) error {
	l := s.options.Layer
	if err := s.showAbove(p.node.ID); err != nil {
		return err
	}
	var instead *layer.Node
	err := s.hold(p.node.ID, func(bool) error {
		n := l.Get(p.node.ID)
		if n == nil {
			return nil // went with the directory it lay in
		}
		if n.Seq != p.node.Seq {
			return ErrMovedOn
		}
		drop := contentsOf(l, n)
		ops := removal(l, n)
		if n.Base != nil && !n.Made && !n.Whiteout && n.Elsewhere {
			ops = append(ops, s.whiteoutOf(n)...)
			instead = l.StandsAt(n.Base.Path)
		}
		if err := l.Change(ops...); err != nil {
			return err
		}
		l.DropContent(drop...)
		return nil
	})
	if err == nil && instead != nil && madeAgain(instead) {
		// The folder's directory is back where the task made another one: nothing in it was deleted.
		err = s.show(instead.ID)
	}
	return err
}

// discardHunks gives the file a content without the chosen hunks.
func (s *Set) discardHunks(c *Change, hunks []int) error {
	if c.Type != File || c.Kind != Modified || c.Count > 0 {
		return errParts
	}
	p := &c.parts[0]
	rest, err := s.without(p, hunks)
	if err != nil {
		return err
	}
	return s.hold(p.node.ID, func(open bool) error {
		if err := s.still(p); err != nil {
			return err
		}
		n := s.options.Layer.Get(p.node.ID)
		if !open {
			return s.otherContent(n, rest)
		}
		// Into the same file, as the guest has that open. This alone is not safe against a crash: the file may then have the
		// beginning of one state and the end of the other.
		f, err := s.options.Layer.OpenContent(n.Content)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.WriteAt(rest, 0); err != nil {
			return err
		}
		if err := f.Truncate(int64(len(rest))); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		return s.options.Layer.Change(layer.Put(n))
	})
}

// otherContent gives a node a new content, on the disk before the layer names it.
func (s *Set) otherContent(n *layer.Node, data []byte) error {
	number, err := s.temporary(data)
	if err != nil {
		return err
	}
	f, err := s.options.Layer.OpenContent(number)
	if err == nil {
		err = f.Sync()
		f.Close()
	}
	old := n.Content
	n.Content = number
	if err == nil {
		err = s.options.Layer.Change(layer.Put(n))
	}
	if err != nil {
		s.options.Layer.DropContent(number)
		return err
	}
	s.options.Layer.DropContent(old)
	return nil
}
