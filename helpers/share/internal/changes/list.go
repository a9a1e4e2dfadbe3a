//go:build linux

package changes

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"cloche/share/internal/diff"
	"cloche/share/internal/gitrepo"
	"cloche/share/internal/ignore"
	"cloche/share/internal/layer"
	"cloche/share/internal/names"
	"cloche/share/internal/ninep"
	"cloche/share/internal/wire"
	"cloche/share/internal/writeback"
)

// Holder is the view of a folder that is served: do runs while the guest neither writes to the node nor changes its name, and is
// told whether the guest has it open or found.
type Holder interface {
	Hold(id layer.ID, do func(open bool) error) error
	// Steady runs do while nothing of the guest's goes or changes its place; do may use Hold and Again.
	Steady(do func() error) error
	// Again runs do while the guest changes no names, to put back into the layer what the folder had at a path until an undo: do is told
	// the directory's node, the node that the layer has there (nil: none), and the number that the guest knows the file by (0: none).
	// It gives the steps and the node that is the file's.
	Again(path []string, do func(parent layer.ID, entry *layer.Node, qid uint64) ([]layer.Op, *layer.Node, error)) error
}

// Options say what changes are of.
type Options struct {
	Layer *layer.Layer
	// Lower is the folder, Merged what the guest sees of it.
	Lower, Merged ninep.Tree
	Write         *writeback.Folder
	// Holder is nil when nobody is served.
	Holder Holder
	// Rules say what is protected; nil: the table alone.
	Rules func() *names.Rules
	// Task names the branches that are offered.
	Task string
}

// Set is the changes of one task to one folder.
type Set struct {
	options Options

	mu      sync.Mutex // one listing, apply or discard at a time
	listing *listing
	number  int
	batches map[string]*batch
	shown   *shownDiff
	settled map[layer.ID]settledNode
	// repositories are summaries by path, of a moment ago.
	repositories map[string]*summarized
	// rebased are the records that only told nodes of their directory's move, by node.
	rebased map[layer.ID]uint64
	// movedNodes are the moved nodes by where the folder has them, as of movedAt.
	movedNodes map[string]layer.ID
	movedAt    uint64
	// untold are nodes of which something could not be done, to be told with the next batch.
	untold []Refusal
	// told are the revisions of the lists that were shown, and alone the nodes that all would have left alone in one, by the last such.
	told  []uint64
	alone map[layer.ID]uint64
}

// settledNode is a file that the folder has, kept in the layer because the guest had it open: as it was then.
type settledNode struct {
	seq  uint64
	file unix.Stat_t
}

// listing is the changes at one moment.
type listing struct {
	number  int
	seq     uint64
	changes []*Change
	byID    map[string]*Change
}

// New makes the changes of a layer, and catches up with what an earlier process applied and could not note.
func New(o Options) (*Set, error) {
	if o.Rules == nil {
		o.Rules = func() *names.Rules { return &names.Rules{} }
	}
	s := &Set{options: o, batches: map[string]*batch{}, settled: map[layer.ID]settledNode{}, repositories: map[string]*summarized{}, rebased: map[layer.ID]uint64{}}
	return s, s.catchUp()
}

// sniffBytes of a file tell a list whether it is text.
const sniffBytes = 8000

// Page is a part of the list.
type Page struct {
	Revision uint64
	Changes  []*Change
	Next     string
	Total    int
}

// List gives changes in the order of their paths, those after a cursor.
func (s *Set) List(after string, limit int) (*Page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := 0
	l := s.listing
	if after != "" {
		number, offset, err := parseCursor(after)
		if err != nil {
			return nil, err
		}
		if at = offset; l == nil || l.number != number {
			l = nil
		}
	} else {
		l = nil
	}
	if l == nil {
		var err error
		if l, err = s.list(); err != nil {
			return nil, err
		}
		s.tell(l)
	}
	at = min(at, len(l.changes))
	end := min(at+limit, len(l.changes))
	p := &Page{Revision: l.seq, Total: len(l.changes)}
	for _, c := range l.changes[at:end] {
		p.Changes = append(p.Changes, c.named())
	}
	if end < len(l.changes) {
		p.Next = fmt.Sprintf("%d-%d", l.number, end)
	}
	return p, nil
}

// ErrCursor is a cursor that no list gave.
var ErrCursor = errors.New("no cursor of this list")

func parseCursor(cursor string) (number, offset int, err error) {
	a, b, found := strings.Cut(cursor, "-")
	if found {
		if number, err = strconv.Atoi(a); err == nil {
			offset, err = strconv.Atoi(b)
		}
	}
	if !found || err != nil || offset < 0 {
		return 0, 0, ErrCursor
	}
	return number, offset, nil
}

// CursorAt is the cursor behind the given number of changes of a page that began after another cursor.
func CursorAt(p *Page, after string, taken int) string {
	_, offset, err := parseCursor(after)
	if err != nil {
		offset = 0
	}
	if taken == len(p.Changes) {
		return p.Next
	}
	number := 0
	if p.Next != "" {
		number, _, _ = parseCursor(p.Next)
	} else {
		number, _, _ = parseCursor(after)
	}
	return fmt.Sprintf("%d-%d", number, offset+taken)
}

// Count is how many changes there are.
func (s *Set) Count() (total int, revision uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.list()
	if err != nil {
		return 0, 0, err
	}
	return len(l.changes), l.seq, nil
}

// list looks at everything.
func (s *Set) list() (*listing, error) {
	var nodes []part
	all := places{}
	seq := s.options.Layer.Each(func(n *layer.Node) {
		dir, self := all.of(n)
		if !n.Passing() && !(n.Whiteout && n.Moved) {
			nodes = append(nodes, part{node: n, dir: dir, self: self})
		}
	})
	look := newLookout(s.options.Lower)
	defer look.close()
	s.number++
	l := &listing{number: s.number, seq: seq, byID: map[string]*Change{}}
	parts := nodes[:0]
	for i := range nodes {
		p := &nodes[i]
		p.wake()
		differs := s.examine(look, p)
		p.rest()
		if differs {
			parts = append(parts, *p)
		}
	}
	fold := s.folding()
	fold.findDatabases(look, parts)
	links := maxCarried
	for i := range parts {
		p := &parts[i]
		p.wake()
		p.carries = p.kind == MovedTo && p.node.Kind == layer.Directory && strings.Count(p.path, "/") < strings.Count(p.from, "/") && look.leads(p.from, p.path, &links)
		c := fold.into(p)
		if c == nil {
			c = s.single(p)
		}
		p.rest()
		c.Path = ""
		c.parts[len(c.parts)-1].rest()
		if l.byID[c.ID] == nil {
			l.changes = append(l.changes, c)
			l.byID[c.ID] = c
		}
	}
	fold.finish(s, l)
	for _, trouble := range []error{look.trouble, fold.trouble()} {
		if trouble != nil {
			return nil, trouble
		}
	}
	sort.SliceStable(l.changes, func(i, j int) bool {
		a, b := l.changes[i], l.changes[j]
		return comesBefore(a.dir, a.name, b.dir, b.name)
	})
	s.listing = l
	return l, nil
}

// examine compares a node with the folder; false when there is no difference.
func (s *Set) examine(look *lookout, p *part) bool {
	n := p.node
	p.base = n.Base
	at := p.path
	if n.Base != nil {
		at = n.Base.Path
	}
	switch {
	case n.Whiteout:
		p.kind = Deleted
	case n.Made && n.Base == nil:
		p.kind = Added
	case n.Made && n.Base.Kind != n.Kind:
		p.kind = TypeChanged
	case n.Made && n.Kind == layer.Directory:
		switch now := look.base(at); {
		case now == nil:
			p.kind, p.base = Added, nil // the host has removed it, too
		case now.Kind == layer.Directory && (!n.ModeSet || n.Mode == n.Base.Mode) && !s.hides(look, n, at):
			return false
		default:
			p.kind = Attributes // removed and made again: its mode is all that is new, or that it hides what the host put there since
		}
	case n.Made:
		p.kind = Modified
	case n.Elsewhere:
		p.kind, p.from = MovedTo, n.Base.Path
	case n.Kind == layer.File && n.Content != 0:
		p.kind = Modified
	case n.Kind == layer.Link && n.Target != "":
		if look.link(at) == n.Target {
			return false // the folder has it; the guest had it walked when it was applied
		}
		p.kind = Modified
	default:
		p.kind = Attributes
	}
	if n.Kind == layer.File && n.Content != 0 && !n.Whiteout {
		// From here on a write moves the node's number, so that one within the clock's tick, which leaves the times as they are, is not
		// taken for what was shown.
		s.options.Layer.Looked(n.ID)
		var head [sniffBytes]byte
		st, read, err := s.contentLook(n.Content, head[:])
		if err != nil {
			look.note(err)
			p.unread = err
		} else {
			p.file, p.binary = st, !diff.IsText(read)
			copy(p.begins[:], read)
		}
		if was, known := s.settled[n.ID]; known && err == nil && was.seq == n.Seq && was.file.Size == st.Size && was.file.Mtim == st.Mtim && was.file.Ctim == st.Ctim {
			return false
		}
	}
	if len(p.path) > MaxPath {
		p.base = nil
		return true // never taken over: what the folder has there does not matter
	}
	p.now = look.base(at)
	p.protected = s.protected(look, p)
	if n.Kind == layer.Link && !n.Whiteout && n.Target != "" && linkFlag(p.path, n.Target) == "" {
		p.leaves = look.leaves(p.path, n.Target)
	}
	return true
}

// hides tells whether a directory that the task removed and made again stands before something in the folder's that the task knows nothing
// of, so that no line tells of it; also where there is more than can be looked at.
func (s *Set) hides(look *lookout, n *layer.Node, at string) bool {
	if s.isMovedAway(at) {
		return false // the task has it elsewhere, with all that is in it
	}
	dir, err := look.node(at)
	if err != nil {
		look.note(err)
		return false
	}
	defer dir.Drop()
	found := false
	err = ninep.EachName(dir, func(d wire.Dirent) bool {
		look.left--
		found = look.left < 0 || s.options.Layer.Child(n.ID, d.Name) == nil && !s.isMovedAway(layer.Join(at, d.Name))
		return !found
	})
	if err != nil {
		look.note(err)
	}
	return found
}

// contentStat tells what a content file is at this moment.
func (s *Set) contentStat(number uint64) (*unix.Stat_t, error) {
	st, _, err := s.contentLook(number, nil)
	return st, err
}

// contentLook also reads as much of the beginning as head takes. A list does both for each file, with one open.
func (s *Set) contentLook(number uint64, head []byte) (*unix.Stat_t, []byte, error) {
	f, err := s.options.Layer.OpenContent(number)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	st := &unix.Stat_t{}
	if err := unix.Fstat(int(f.Fd()), st); err != nil {
		return nil, nil, err
	}
	n := 0
	if len(head) > 0 {
		if n, err = unix.Pread(int(f.Fd()), head, 0); err != nil {
			n = 0 // then it counts as text until its diff is asked for, which says what is wrong
		}
	}
	return st, head[:max(n, 0)], nil
}

// conflict tells why a part cannot be taken over where it is.
func (p *part) conflict() string {
	if p.base == nil {
		if p.now != nil && !(p.node.Kind == layer.Directory && p.now.Kind == layer.Directory) {
			return ConflictExists
		}
		return ""
	}
	switch {
	case p.now == nil:
		return ConflictGone
	case p.now.Kind != p.base.Kind:
		return ConflictType
	case p.base.Kind == layer.Directory: // its times and size move with every name in it, also by an apply
		if p.base.Inode != p.now.Inode {
			return ConflictChanged
		}
	case !p.base.Same(p.now) || p.base.Mode != p.now.Mode:
		return ConflictChanged
	}
	return ""
}

func typeOf(k layer.Kind) string {
	switch k {
	case layer.Directory:
		return Directory
	case layer.Link:
		return Link
	}
	return File
}

// protected tells whether programs on the host obey what the part would put into the folder, or would take from where it is.
func (s *Set) protected(look *lookout, p *part) bool {
	rules := s.options.Rules()
	ask := rules.Protected
	switch p.node.Kind {
	case layer.Directory: // what it has in it moves along
		if p.from == "" {
			return rules.Protected(layer.Components(p.path), true, s.has(look, p.path, p.node))
		}
		ask = func(path []string, directory bool, look names.Look) bool {
			return rules.Protected(path, true, look) || rules.Carries(path, look)
		}
	case layer.Link:
		ask = func(path []string, _ bool, look names.Look) bool { return rules.ProtectedLink(path, look) }
	}
	return ask(layer.Components(p.path), false, s.has(look, p.path, p.node)) ||
		p.from != "" && ask(layer.Components(p.from), false, s.has(look, p.from, nil))
}

// has tells what the folder's directories on the way to a path have in them: those that are there, and those that the task moved
// there, which are elsewhere still.
func (s *Set) has(look *lookout, path string, n *layer.Node) names.Look {
	parts := layer.Components(path)
	return func(depth int, name string) bool {
		at := strings.Join(parts[:depth], "/")
		if look.has(at, name) {
			return true
		}
		dir := n
		for up := len(parts); dir != nil && up > depth; up-- {
			dir = s.options.Layer.Get(dir.Parent)
		}
		return dir != nil && dir.Base != nil && dir.Base.Path != at && look.has(dir.Base.Path, name)
	}
}

// linkFlag tells of a link that may lead out of the folder.
func (p *part) linkFlag() string {
	n := p.node
	switch {
	case p.carries:
		return EscapingLink
	case n.Kind != layer.Link || n.Whiteout:
		return ""
	case n.Target == "":
		if p.kind == MovedTo {
			return EscapingLink // its text is the folder's own, but means another place from here
		}
		return ""
	}
	if flag := linkFlag(p.path, n.Target); flag != "" || !p.leaves {
		return flag
	}
	return EscapingLink
}

// executable tells whether the folder would have a program of it.
func (p *part) executable() bool {
	return p.node.Kind == layer.File && !p.node.Whiteout && p.mode()&0o111 != 0
}

// mode is what the file would have in the folder.
func (p *part) mode() uint32 {
	switch {
	case p.node.ModeSet:
		return p.node.Mode
	case p.base != nil:
		return p.base.Mode
	case p.node.Kind == layer.Directory:
		return 0o755
	}
	return 0o644
}

func nodeID(id layer.ID) string { return "n" + strconv.FormatUint(uint64(id), 10) }

func (s *Set) single(p *part) *Change {
	n := p.node
	c := &Change{ID: nodeID(n.ID), parts: []part{*p}}
	s.describe(c, p)
	return c
}

// describe fills a change with what its main part is.
func (s *Set) describe(c *Change, p *part) {
	n := p.node
	c.dir, c.name = p.dir, n.Name
	c.Path, c.From, c.Kind, c.Type, c.Seq = p.path, p.from, p.kind, typeOf(n.Kind), n.Seq
	c.Conflict = p.conflict()
	c.Protected = p.protected
	c.Executable = p.executable()
	if p.file != nil {
		c.Size = p.file.Size
		c.Binary = p.binary
	} else if p.base != nil && n.Kind == layer.File {
		c.Size = p.base.Size
	}
	if n.Kind == layer.Link && !n.Whiteout && n.Target != "" {
		c.LinkTarget = n.Target
	}
	c.flag(p.linkFlag())
	if len(p.path) > MaxPath || len(p.from) > MaxPath {
		c.Flags = append(c.Flags, PathTooLong)
	}
	d := newDigest()
	d.part(p)
	c.Token = d.token()
}

// folds gathers parts that are one line.
type folds struct {
	locate  *gitrepo.Locator
	matcher *ignore.Matcher
	close   func()
	seen    *lookout // of what the guest sees
	// within is the topmost ignored directory that the last ignored part lay in
	within string
	made   map[string]*Change
	order  []*Change
	// databases are the paths that are one with something beside them, each with the database's.
	databases map[spot]string
}

func (s *Set) folding() *folds {
	lower, merged := s.options.Lower.Root(), s.options.Merged.Root()
	f := &folds{
		locate: &gitrepo.Locator{Lower: gitrepo.FromNode(lower), Merged: gitrepo.FromNode(merged)},
		made:   map[string]*Change{}, databases: map[spot]string{},
	}
	seen := newLookout(s.options.Merged)
	f.close = func() { f.locate.Close(); seen.close(); lower.Drop(); merged.Drop() }
	f.seen = seen
	f.matcher = ignore.New(func(directory []string) ([]byte, error) {
		data, err := seen.read(layer.Join(strings.Join(directory, "/"), ".gitignore"), 1<<20)
		if err != nil {
			seen.note(err)
			return nil, nil // none, or none that could be one
		}
		return data, nil
	}, nil)
	return f
}

// into finds the line that a part belongs to; nil: one of its own.
func (f *folds) into(p *part) *Change {
	if len(p.path) > MaxPath {
		return nil // never taken over: what it is part of does not matter
	}
	components := layer.Components(p.path)
	directory := p.node.Kind == layer.Directory
	place, is, err := f.locate.Find(components)
	if err != nil {
		f.seen.note(err)
	}
	if err == nil && is && f.broughtInto(p, place.Dir) {
		p.stuck = errMovedIn
		return nil
	}
	if err == nil && is {
		return f.add(p, "g", len(place.Dir), p.node.Name, Repository)
	}
	// The topmost ignored directory stands for all below it, the directory for ignored files in it.
	if yes, err := f.matcher.Ignored(components, directory); err == nil && yes && !f.takenFrom(p) {
		if above := parentOf(p.path); f.within == "" || above != f.within && !strings.HasPrefix(above, f.within+"/") {
			f.within = ""
			for i := 1; i < len(components) && f.within == ""; i++ {
				if yes, err := f.matcher.Ignored(components[:i], true); err == nil && yes {
					f.within = strings.Join(components[:i], "/")
				}
			}
		}
		switch {
		case f.within != "":
			return f.add(p, "i", 1+strings.Count(f.within, "/"), "", Ignored)
		case directory:
			return f.add(p, "i", len(components), p.node.Name, Ignored)
		}
		return f.add(p, "f", len(components)-1, "", Ignored)
	}
	if main, is := f.databases[spot{p.dir, p.node.Name}]; is {
		return f.add(p, "d", len(components), main, Database)
	}
	return nil
}

var errMovedIn = fmt.Errorf("%w: the task moved it into a repository, of which branches and commits alone are taken over; it can be discarded", errNotAppliable)

// broughtInto tells whether the task moved a part into a git directory from elsewhere: no part of what is new in that, and the folder would
// lose it where it was.
func (f *folds) broughtInto(p *part, dir []string) bool {
	if p.kind != MovedTo {
		return false
	}
	from := layer.Components(p.from)
	place, is, err := f.locate.Find(from)
	if err != nil {
		f.seen.note(err)
		return true
	}
	whole := len(place.Dir) == len(from) && len(dir) == strings.Count(p.path, "/")+1 // a git directory that was moved itself
	return !is || !whole && strings.Join(place.Dir, "/") != strings.Join(dir, "/")
}

// takenFrom tells whether the task moved a part away from where nothing is ignored: that the folder would lose it there is a line of its own.
func (f *folds) takenFrom(p *part) bool {
	if p.kind != MovedTo {
		return false
	}
	yes, err := f.matcher.Ignored(layer.Components(p.from), p.node.Kind == layer.Directory)
	return err != nil || !yes
}

func (f *folds) trouble() error { return f.seen.trouble }

// add puts a part into the line of what is at a depth on its way: the name, in its own directory, or a directory above it.
func (f *folds) add(p *part, prefix string, depth int, name, kind string) *Change {
	dir := p.dir
	if depth <= dir.level() {
		at := dir.above(depth)
		if dir, name = nil, ""; at != nil && depth > 0 {
			dir, name = at.up, at.name
		}
	}
	path := pathIn(dir, name)
	sum := sha256.Sum256([]byte(path))
	id := prefix + hex.EncodeToString(sum[:16])
	c := f.made[id]
	if c == nil {
		c = &Change{ID: id, dir: dir, name: name, Type: kind, Kind: Modified}
		f.made[id] = c
		f.order = append(f.order, c)
	}
	c.parts = append(c.parts, *p)
	c.Count++
	return c
}

// finish describes the lines that stand for many parts, and drops repositories in which nothing is new.
func (f *folds) finish(s *Set, l *listing) {
	defer f.close()
	for _, c := range f.order {
		d := newDigest()
		c.Kind = c.parts[0].kind
		c.Path = c.where()
		for i := range c.parts {
			p := &c.parts[i]
			p.wake()
			d.part(p)
			c.Seq = max(c.Seq, p.node.Seq)
			if p.file != nil {
				c.Size += p.file.Size
			}
			if p.kind != c.Kind {
				c.Kind = Modified
			}
			if c.Type == Database && c.Conflict == "" {
				c.Conflict = p.conflict()
			}
			c.Protected = c.Protected || p.protected
			c.Executable = c.Executable || p.executable()
			c.flag(p.linkFlag())
			if len(p.path) > MaxPath {
				c.flag(PathTooLong)
			}
			p.rest()
		}
		c.Token = d.token()
		switch c.Type {
		case Database:
			c.Binary, c.Kind = true, Modified
			for i := range c.parts {
				if p := &c.parts[i]; p.node.Name == c.name {
					c.Kind = p.kind
				}
			}
		case Repository:
			if !s.describeRepository(c) {
				for i, each := range l.changes {
					if each == c {
						l.changes = append(l.changes[:i], l.changes[i+1:]...)
						delete(l.byID, c.ID)
						break
					}
				}
			}
		}
		c.Path = ""
	}
}
