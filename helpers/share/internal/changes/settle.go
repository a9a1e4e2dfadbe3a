//go:build linux

package changes

import (
	"encoding/json"
	"errors"
	"sort"
	"strings"
	"time"

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
// guest had them open then. A node for which that cannot be stays listed, and is told with the next batch: the others go on.
func (s *Set) catchUp() error {
	for _, u := range s.options.Write.Unsettled() {
		if u.Undo || u.Returned || len(u.Note) == 0 {
			continue
		}
		if err := s.settle(u.Note, u.Made, 0); err != nil {
			s.untold = append(s.untold, s.unsettled(u.Note, err))
		}
	}
	s.untold = append(s.untold, s.waitAgain()...) // what cannot be is in the folder's versions
	s.adoptAll()
	s.forgetSame()
	if err := s.options.Layer.Sync(); err != nil {
		return err
	}
	return s.options.Write.Settled()
}

// unsettled tells of a node that is in the folder, and that the layer could not forget.
func (s *Set) unsettled(raw json.RawMessage, err error) Refusal {
	var about note
	_ = json.Unmarshal(raw, &about)
	path, _ := s.options.Layer.Path(about.Node)
	code, message := problemOf(err)
	return Refusal{Path: path, Code: code, Message: "It is in the folder, and stays listed: " + message}
}

// adoptAll tells the layer what stands in the folder since undos, and of what was taken out and put back.
func (s *Set) adoptAll() {
	for _, u := range s.options.Write.Unsettled() {
		if u.Undo || u.Returned {
			if err := s.adopt(u.Was, u.Made); err != nil {
				code, message := problemOf(err)
				s.untold = append(s.untold, Refusal{Path: u.Path, Code: code, Message: message})
			}
		}
	}
}

// adopt makes changes that were made from one file of the folder changes of what stands in its place since an undo, or of the
// same file that a rename and one back have given another time of change.
func (s *Set) adopt(was, now *writeback.Identity) (failed error) {
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
			if now == nil && b == n.Base && needsBase(n) {
				return b // its bytes could not be taken along: it is what the folder has no more
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
		n.Made = n.Made || n.Base == nil && !n.Whiteout
		if n.Whiteout && n.Base == nil {
			continue // what was deleted is gone; there is nothing more to tell
		}
		if err := s.options.Layer.Decide(layer.Put(n)); err != nil {
			failed = err
			continue
		}
		s.options.Layer.DropContent(old)
	}
	return failed
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
		e := s.edit()
		var rewritten []*layer.Node
		follow := func(was string) {
			rewritten = below(l, was, path)
			for _, child := range rewritten {
				e.set(child)
			}
		}
		moved, was := isAway(n), n.Base
		if moved {
			follow(was.Path)
		}
		remember := []layer.Op(nil)
		gone := func() {
			if made != nil {
				remember = append(remember, layer.Remember(made.Device, made.Inode, n.QID))
			}
			e.remove(n)
		}
		switch {
		case made == nil && n.Whiteout: // also one that the guest made and deleted again meanwhile
			gone()
		case made == nil && !n.Made && n.Base != nil && n.Content == 0 && n.Target == "":
			// A program of the host took it away at once, from where the task has it. What the task has of it is of that place.
			if n.Kind != layer.Directory && !n.ModeSet && !n.MtimeSet && len(n.Xattrs) == 0 {
				gone()
				break
			}
			base := *n.Base
			base.Path = path
			n.Base, n.Over = &base, nil
			e.set(n)
		case made == nil:
			// Removed in the folder, and made again by the guest meanwhile.
			if n.Base != nil {
				e.drop = append(e.drop, n.Base.Content)
			}
			n.Base, n.Made, n.Over = nil, true, nil
			e.set(n)
		case n.Kind == layer.Directory && !n.Whiteout:
			rebase(n, path, made)
			// The folder's own from now on, whatever the guest did meanwhile: a mode that it set then stays its own.
			n.Opaque, n.MtimeSet = false, false
			if same {
				n.Xattrs = nil
			}
			if same || n.Mode == n.Base.Mode {
				n.ModeSet = false
			}
			e.set(n)
		case same && !open && !about.Part, n.Kind == layer.File && n.Content == 0 && !n.Whiteout:
			gone()
		default:
			e.drop = append(e.drop, rebase(n, path, made))
			n.Base.Content = kept
			if same && !about.Part {
				n.ModeSet, n.MtimeSet, n.Xattrs = false, false, nil
			}
			e.set(n)
		}
		if n.Kind != layer.Directory && !e.removed[n.ID] && (n.Base == nil || n.Base.Kind != layer.Directory) {
			// What was deleted in a directory went with it.
			for _, child := range e.children(n.ID) {
				e.remove(child)
			}
		}
		if moved {
			s.left(e, n, was)
		}
		stat, _ := s.contentStat(n.Content)
		if err := e.do(remember...); err != nil {
			return err
		}
		for _, child := range rewritten {
			s.rebased[child.ID] = child.Seq
		}
		if after := l.Get(n.ID); after != nil && same && open && !about.Part && stat != nil {
			s.settled[n.ID] = settledNode{after.Seq, *stat}
		} else {
			delete(s.settled, n.ID)
		}
		return nil
	})
}

// left takes away what marks the place that something moved from, now that the folder has it at its new one: what was deleted in it is
// deleted there, and what the task made in its old place stands in the place of nothing.
func (s *Set) left(e *edit, n *layer.Node, was *layer.Base) {
	there := s.options.Layer.StandsAt(was.Path)
	if there == nil || there.ID == n.ID {
		return
	}
	if there = e.get(there.ID); there == nil {
		return
	}
	switch {
	case there.Whiteout && there.Moved:
		if !e.removed[n.ID] && n.Kind == layer.Directory {
			e.merge(there, n, false)
		}
		if !e.remains(there.ID) {
			e.remove(there)
		}
	case there.Made && there.Base != nil && there.Base.Inode == was.Inode:
		if !e.removed[n.ID] && n.Kind == layer.Directory {
			e.merge(there, n, true)
		}
		e.drop = append(e.drop, there.Base.Content)
		there.Base = nil
		e.setWhole(there)
	}
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
		if err := l.Decide(layer.Put(n)); err != nil {
			return err
		}
		s.rebased[n.ID] = n.Seq
		return nil
	})
}

// needsBase tells whether what the guest sees of a node are the bytes of its base.
func needsBase(n *layer.Node) bool {
	return !n.Made && !n.Whiteout && (n.Kind == layer.File && n.Content == 0 || n.Kind == layer.Link && n.Target == "")
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

func contentsOf(n *layer.Node) []uint64 {
	numbers := []uint64{n.Content}
	if n.Base != nil {
		numbers = append(numbers, n.Base.Content)
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
func (s *Set) forgetSame() {
	look := newLookout(s.options.Lower)
	defer look.close()
	var maybe []*layer.Node
	s.options.Layer.Walk(func(n *layer.Node, path string) bool {
		if n.Kind == layer.File && n.Content != 0 && !n.Made && !n.Whiteout && !n.Elsewhere && n.Base != nil && !n.ModeSet && !n.MtimeSet && len(n.Xattrs) == 0 {
			maybe = append(maybe, n)
		}
		return true
	})
	for _, n := range maybe {
		if st, err := s.contentStat(n.Content); err != nil || st.Size != n.Base.Size || st.Size > maxHashed {
			continue
		}
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
			continue
		}
		ours, err := readAll(f, maxHashed)
		f.Close()
		if err != nil || string(ours) != string(theirs) {
			continue
		}
		if s.options.Layer.Decide(layer.Remove(n.ID), layer.Remember(now.Device, now.Inode, n.QID)) != nil {
			continue // it stays listed
		}
		s.options.Layer.DropContent(n.Content, n.Base.Content)
	}
}

// Discard begins to drop changes.
func (s *Set) Discard(what What) (*Slice, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.begin("discard")
	b.all = what.All
	if err := s.choose(b, what, func(*Change) (string, string) { return "", "" }); err != nil {
		return nil, err
	}
	// All of a batch are looked up in one list: each is looked at again when its turn comes.
	if b.listing = s.listing; !what.All {
		var err error
		if b.listing, err = s.list(); err != nil {
			return nil, err
		}
	}
	// What lies in a directory goes before it.
	nowhere := &Change{}
	place := func(chosen Chosen) *Change {
		if c := b.listing.byID[chosen.ID]; c != nil {
			return c
		}
		return nowhere
	}
	sort.SliceStable(b.todo, func(i, j int) bool {
		ci, cj := place(b.todo[i]), place(b.todo[j])
		return comesBefore(cj.dir, cj.name, ci.dir, ci.name)
	})
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
	f := s.finder()
	defer f.close()
	for begin := time.Now(); len(b.todo) > 0 && len(done) < sliceChanges && time.Since(begin) < sliceTime; {
		chosen := b.todo[0]
		c, left, err := s.discardOne(f, b, chosen, begin.Add(sliceTime))
		if left {
			break // it goes on in the next slice
		}
		b.todo = b.todo[1:]
		if err == nil {
			done = append(done, chosen.ID)
			continue
		}
		path := ""
		if c != nil {
			path = c.where()
		}
		code, message := problemOf(err)
		b.refuse(chosen.ID, path, code, message)
	}
	s.listing = nil
	if b.all && len(b.todo) == 0 && len(b.refused) == 0 {
		if err := s.showAll(); err != nil {
			return nil, err
		}
	}
	return s.slice(b, done, 0, len(b.todo)), s.options.Layer.Sync()
}

// discardOne drops a change if it is still what was shown; left tells that it is not done when the time is over.
func (s *Set) discardOne(f *finder, b *batch, chosen Chosen, until time.Time) (c *Change, left bool, err error) {
	if c = b.listing.byID[chosen.ID]; c == nil {
		return nil, false, ErrUnknown
	}
	shown := c.Token
	if c.Count == 0 && len(c.parts) == 1 {
		if c, err = f.single(c.parts[0].node.ID); err != nil {
			return nil, false, err
		}
		// What was discarded in a directory may have made it the folder's own.
		if is := c.parts[0].node; shown != chosen.Token || is.Seq != s.rebased[is.ID] {
			shown = c.Token
		}
	}
	if shown != chosen.Token {
		return c, false, ErrMovedOn
	}
	if len(chosen.Hunks) > 0 {
		return c, false, s.discardHunks(c, chosen.Hunks)
	}
	if b.begun != chosen.ID {
		b.begun, b.kept = chosen.ID, nil
		for i := range c.parts {
			if is := s.options.Layer.Get(c.parts[i].node.ID); is != nil && is.Seq != c.parts[i].node.Seq && is.Seq != s.rebased[is.ID] {
				return c, false, ErrMovedOn
			}
		}
	}
	for len(c.parts) > 0 {
		// Of many the last lies deepest.
		err := s.discardPart(&c.parts[len(c.parts)-1])
		switch {
		case errors.Is(err, errHolds):
			b.kept = err // and the rest of them goes
		case err != nil:
			return c, false, err
		}
		c.parts = c.parts[:len(c.parts)-1]
		if len(c.parts) > 0 && time.Now().After(until) {
			return c, true, nil
		}
	}
	return c, false, b.kept
}

// showAll makes every directory that the task removed and made again the folder's own: with all of its own discarded nothing else tells of it.
func (s *Set) showAll() error {
	var again []layer.ID
	s.options.Layer.Walk(func(n *layer.Node, _ string) bool {
		if madeAgain(n) {
			again = append(again, n.ID)
		}
		return true
	})
	for i := len(again) - 1; i >= 0; i-- {
		id := again[i]
		if err := s.show(id); err != nil {
			return err
		}
		// The folder has it no more, and nothing of the task's is in it.
		if err := s.hold(id, func(bool) error {
			e := s.edit()
			if n := e.get(id); n != nil && madeAgain(n) && !e.remains(id) && !e.deletes(id) {
				e.remove(n)
			}
			return e.do()
		}); err != nil {
			return err
		}
	}
	return nil
}

// isAway tells whether a node is something of the folder's in another place.
func isAway(n *layer.Node) bool { return n.Base != nil && !n.Made && !n.Whiteout && n.Elsewhere }

// errHolds: a directory goes only with or after all that lies in it.
var errHolds = errors.New("it has something in it that stays")

// discardPart drops what one node is. What lies below it is a change of its own, and stays.
func (s *Set) discardPart(p *part) error {
	l := s.options.Layer
	if err := s.showAbove(p.node.ID); err != nil {
		return err
	}
	n := l.Get(p.node.ID)
	if n != nil && isAway(n) {
		if w := s.mark(n); w != nil { // so that it shows again where it came from
			if err := s.showAbove(w.ID); err != nil {
				return err
			}
		}
	}
	if n != nil && madeAgain(n) && (n.Seq == p.node.Seq || n.Seq == s.rebased[n.ID]) {
		if err := s.show(n.ID); err != nil {
			return err
		}
	}
	var instead *layer.Node
	err := s.hold(p.node.ID, func(bool) error {
		n := l.Get(p.node.ID)
		if n == nil {
			return nil // went with the directory it lay in
		}
		if n.Seq != p.node.Seq && n.Seq != s.rebased[n.ID] {
			return ErrMovedOn
		}
		e := s.edit()
		away := isAway(n)
		inside := e.remains(n.ID) || e.deletes(n.ID)
		switch {
		case away && inside:
			var moved bool
			if instead, moved = s.moveBack(e, n); !moved {
				return errHolds
			}
		case away:
			instead = s.backFrom(e, n)
			e.remove(n)
		case !inside:
			e.remove(n)
		case n.Kind == layer.Directory && !n.Whiteout && !n.Made:
			n.Mode, n.ModeSet, n.MtimeNs, n.MtimeSet, n.Xattrs = 0, false, 0, false, nil
			e.set(n)
		case madeAgain(n): // the folder has it not, and what the task made in it has no other place
			n.Mode, n.ModeSet, n.Xattrs = n.Base.Mode, true, nil
			e.set(n)
		case n.Base != nil && n.Base.Kind == layer.Directory:
			s.showAgain(e, n)
		case e.remains(n.ID):
			return errHolds
		default:
			e.remove(n) // marks of deletions in what the folder never had
		}
		return e.do()
	})
	if err == nil && instead != nil && madeAgain(instead) {
		// The folder's directory is back where the task made another one: nothing in it was deleted.
		err = s.show(instead.ID)
	}
	return err
}

// showAgain makes a deletion of a directory, or what stands in its place, the folder's directory, in which is deleted what was deleted by
// itself.
func (s *Set) showAgain(e *edit, n *layer.Node) {
	dir := &layer.Node{ID: s.options.Layer.NewID(), Parent: n.Parent, Name: n.Name, Kind: layer.Directory, Base: n.Base}
	dir.QID = 1<<62 | uint64(s.options.Layer.NewID())
	e.set(dir)
	for _, c := range e.children(n.ID) {
		c.Parent = dir.ID
		e.set(c)
	}
	e.remove(n)
}

// backFrom takes away what marks the place that a moved node came from, which the folder's own shows at again, and gives what the task has
// there instead.
func (s *Set) backFrom(e *edit, n *layer.Node) *layer.Node {
	if w := s.mark(n); w != nil {
		if e.remains(w.ID) || e.deletes(w.ID) {
			s.showAgain(e, w)
		} else {
			e.remove(w)
		}
	}
	return s.options.Layer.StandsAt(n.Base.Path)
}

// moveBack gives a moved directory, with the task's changes in it, the place that it came from, or those to what the task made there; false when
// that has no room for them.
func (s *Set) moveBack(e *edit, n *layer.Node) (instead *layer.Node, done bool) {
	there := s.options.Layer.StandsAt(n.Base.Path)
	if there == nil {
		return nil, false
	}
	for at := there; at != nil && at.ID != layer.RootID; at = e.get(at.Parent) {
		if at.ID == n.ID || at.ID != there.ID && (at.Whiteout || at.Kind != layer.Directory || at.Opaque) {
			return nil, false // into itself, or to where the guest sees nothing
		}
	}
	switch {
	case there.Whiteout && there.Moved:
		n.Over = nil // what the folder has where it was shows again
		n.Mode, n.ModeSet, n.MtimeNs, n.MtimeSet, n.Xattrs = 0, false, 0, false, nil
		n.Parent, n.Name = there.Parent, there.Name
		e.set(n)
		e.merge(there, n, false)
		if e.remains(there.ID) {
			return nil, false
		}
		e.remove(there)
		return nil, true
	case madeAgain(there):
		e.merge(n, there, false)
		if e.remains(n.ID) {
			return nil, false
		}
		e.remove(n)
		return there, true
	}
	return nil, false
}

// mark is the whiteout at the place that a moved node came from.
func (s *Set) mark(n *layer.Node) *layer.Node {
	if w := s.options.Layer.StandsAt(n.Base.Path); w == nil || w.Whiteout && w.Moved {
		return w
	}
	return nil
}

// deletes tells whether anything is deleted below a node.
func (e *edit) deletes(id layer.ID) bool {
	for _, c := range e.children(id) {
		if c.Whiteout || e.deletes(c.ID) {
			return true
		}
	}
	return false
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
		return s.options.Layer.Decide(layer.Put(n))
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
		err = s.options.Layer.Decide(layer.Put(n))
	}
	if err != nil {
		s.options.Layer.DropContent(number)
		return err
	}
	s.options.Layer.DropContent(old)
	return nil
}
