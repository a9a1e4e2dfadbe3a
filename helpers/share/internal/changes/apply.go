//go:build linux

package changes

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cloche/share/internal/layer"
	"cloche/share/internal/problem"
	"cloche/share/internal/writeback"
)

// Chosen is one change that was picked, as it was shown.
type Chosen struct {
	ID, Token string
	// Hunks are those to take over; nil: all of it.
	Hunks []int
	// As is the name of a new branch, for a repository.
	As string
	// Below: it was chosen by the name of a directory above it, and so only as far as All would take it over.
	Below bool
}

// What says what to do: All as of Revision, or Changes.
type What struct {
	All      bool
	Revision uint64
	Changes  []Chosen
	// Shown: Changes, too, are as of Revision. What came after it is left, though its token be of now.
	Shown bool
}

// Refusal is a change that was left as it is.
type Refusal struct {
	ID, Path, Code, Message string
}

// Slice is what one call did.
type Slice struct {
	Batch     string
	Done      []string
	Refused   []Refusal
	Restored  int
	Remaining int
}

// batch is work that was begun.
type batch struct {
	name    string
	kind    string
	todo    []Chosen
	refused []refused
	undo    *writeback.Undoing
	apply   string
	used    time.Time
	// all: it was not chosen one by one
	all bool
	// pulled are changes that were put before others once, as "first before second".
	pulled map[string]bool
	// listing is what a discard's changes are looked up in.
	listing *listing
	// begun is the change that a discard is at, kept why a part of it stays.
	begun string
	kept  error
}

// Bounds of one call: it shall answer before its caller loses patience.
const (
	sliceChanges = 200
	sliceBytes   = 64 << 20
	sliceTime    = 2 * time.Second
	sliceRefused = 100 // a path may take 5 KiB of the answer's line
	maxBatches   = 32
)

func (s *Set) begin(kind string) *batch {
	for name, b := range s.batches {
		if len(s.batches) >= maxBatches || time.Since(b.used) > time.Hour {
			delete(s.batches, name)
		}
	}
	var random [4]byte
	_, _ = rand.Read(random[:])
	b := &batch{name: kind + "-" + strconv.FormatInt(time.Now().UnixMilli(), 36) + "-" + hex.EncodeToString(random[:]), kind: kind, used: time.Now()}
	s.batches[b.name] = b
	for _, r := range s.untold {
		b.refused = append(b.refused, refused{Refusal: r})
	}
	s.untold = nil
	return b
}

func (s *Set) open(kind, name string) (*batch, error) {
	b := s.batches[name]
	if b == nil || b.kind != kind {
		return nil, ErrUnknown
	}
	b.used = time.Now()
	return b, nil
}

// choose makes a list of work of what was asked for. For all, and what a directory's name chose, what needs a choice of its own is refused here.
func (s *Set) choose(b *batch, what What, alone func(*Change) (code, message string)) error {
	if !what.All && !what.Shown && !slices.ContainsFunc(what.Changes, func(c Chosen) bool { return c.Below }) {
		b.todo = what.Changes
		return nil
	}
	l, err := s.list()
	if err != nil {
		return err
	}
	take := func(c *Change, chosen Chosen) {
		if (what.All || what.Shown) && c.movedOn(what.Revision) {
			b.leave(c, problem.ChangeMovedOn, "It was changed after the list was shown.")
			return
		}
		if what.All || chosen.Below {
			if code, message := alone(c); code != "" {
				b.leave(c, code, message)
				return
			}
		}
		b.todo = append(b.todo, chosen)
	}
	if what.All {
		for _, c := range l.changes {
			take(c, Chosen{ID: c.ID, Token: c.Token})
		}
		return nil
	}
	for _, chosen := range what.Changes {
		if c := l.byID[chosen.ID]; c != nil {
			take(c, chosen)
		} else {
			b.todo = append(b.todo, chosen) // it is told that there is none when its turn comes
		}
	}
	return nil
}

// movedOn tells whether anything of the change is not as it was at a revision: what it is, or its place.
func (c *Change) movedOn(since uint64) bool {
	if c.Seq > since {
		return true
	}
	for i := range c.parts {
		if c.parts[i].node.Placed > since {
			return true
		}
	}
	return false
}

// maxTold is how many of the last shown lists are remembered.
const maxTold = 1000

// tell notes what a list that is shown says all would leave alone. A guest makes an ignored file an ordinary one without touching it.
func (s *Set) tell(l *listing) {
	left := map[layer.ID]uint64{}
	for _, c := range l.changes {
		code, _ := notByAll(c)
		for i := range c.parts {
			id := c.parts[i].node.ID
			if code != "" {
				left[id] = l.seq
			} else if before, known := s.alone[id]; known && before < l.seq {
				left[id] = before
			}
		}
	}
	s.alone = left
	if n := len(s.told); n == 0 || s.told[n-1] < l.seq {
		s.told = append(s.told, l.seq)
		s.told = s.told[max(0, len(s.told)-maxTold):]
	}
}

// leftAt tells whether the list that was shown at a revision, or the last one before, had a change as one that all leaves alone; also where
// that list is not known.
func (s *Set) leftAt(c *Change, revision uint64) bool {
	after := sort.Search(len(s.told), func(i int) bool { return s.told[i] > revision })
	if after == 0 {
		return revision < s.options.Layer.Seq()
	}
	for i := range c.parts {
		if left, known := s.alone[c.parts[i].node.ID]; known && left >= s.told[after-1] {
			return true
		}
	}
	return false
}

func (b *batch) refuse(id, path, code, message string) {
	if len(path) > MaxPath {
		path = path[len(path)-MaxPath:]
	}
	b.refused = append(b.refused, refused{Refusal: Refusal{id, path, code, message[:min(len(message), 500)]}})
}

// leave refuses a change of a listing.
func (b *batch) leave(c *Change, code, message string) {
	b.refuse(c.ID, c.Path, code, message)
	if c.Path == "" {
		last := &b.refused[len(b.refused)-1]
		last.dir, last.name = c.dir, c.name
	}
}

// refused is a refusal whose path is made when it is told.
type refused struct {
	Refusal
	dir  *place
	name string
}

// slice gives what a call answers, and closes the batch at its end.
func (s *Set) slice(b *batch, done []string, restored, remaining int) *Slice {
	n := min(len(b.refused), sliceRefused)
	out := &Slice{Batch: b.name, Done: done, Restored: restored, Remaining: remaining + len(b.refused) - n}
	for _, r := range b.refused[:n] {
		if r.name != "" {
			path := pathIn(r.dir, r.name)
			r.Path = path[max(0, len(path)-MaxPath):]
		}
		out.Refused = append(out.Refused, r.Refusal)
	}
	b.refused = b.refused[n:]
	if out.Remaining == 0 {
		delete(s.batches, b.name)
	}
	return out
}

// notByAll says which changes are taken over only when they are chosen by themselves.
func notByAll(c *Change) (code, message string) {
	switch {
	case c.Type == Ignored:
		return problem.Ignored, "The folder's .gitignore names it; choose it by itself."
	case c.Protected && c.Type != Repository:
		return problem.Protected, "Programs on this computer obey this file without asking; choose it by itself."
	case c.is(AbsoluteLink) || c.is(EscapingLink):
		return problem.LinkEscapes, "The link may lead out of the folder; choose it by itself."
	case c.is(PathTooLong):
		return problem.NotAppliable, "Its path is too long."
	case c.never() != nil:
		return problem.NotAppliable, c.never().Error()
	case c.Conflict != "" && c.Summary != nil:
		return problem.Conflict, c.Summary.Conflict
	case c.Conflict != "" && !c.goneToo():
		return problem.Conflict, conflictMessage(c.Conflict)
	}
	return "", ""
}

// goneToo: what the task deleted is gone in the folder as well, so that nothing is left to do.
func (c *Change) goneToo() bool {
	return c.Kind == Deleted && c.Conflict == ConflictGone && c.Count == 0
}

func conflictMessage(kind string) string {
	switch kind {
	case ConflictGone:
		return "The file was removed from the folder since the change was made."
	case ConflictExists:
		return "Something of that name was put into the folder since."
	case ConflictType:
		return "Something of another kind stands in the folder since."
	}
	return "The file in the folder was changed since the change was made."
}

// Apply begins to take changes over.
func (s *Set) Apply(what What) (*Slice, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.begin("apply")
	b.all = what.All
	alone := func(c *Change) (code, message string) {
		if code, message = notByAll(c); code == "" && (what.All || what.Shown) && s.leftAt(c, what.Revision) {
			return problem.ChangeMovedOn, "It was one to be chosen by itself when the list was shown, or that list is not known any more; look at it again."
		}
		return code, message
	}
	if err := s.choose(b, what, alone); err != nil {
		return nil, err
	}
	if err := s.plan(b, what); err != nil {
		return nil, err
	}
	return s.applySome(b)
}

// ApplyMore goes on.
func (s *Set) ApplyMore(name string) (*Slice, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.open("apply", name)
	if err != nil {
		return nil, err
	}
	return s.applySome(b)
}

// phases in which changes are taken over, so that names are free and directories empty when they must be.
func phase(c *Change) int {
	p := &c.parts[0]
	directory := p.node.Kind == layer.Directory
	switch {
	case c.Count > 0:
		return 2
	case p.kind == Deleted && !directory:
		return 1
	case p.kind == MovedTo && directory:
		return 0
	case p.kind == Deleted:
		return 3
	case p.base != nil && p.base.Kind == layer.Directory && !directory, p.node.Over != nil && p.node.Over.Kind == layer.Directory:
		return 4 // in a directory's place, once that is empty
	}
	return 2
}

// plan orders the work and adds the directories that chosen changes lie in and the folder has not. A directory that comes along
// is an empty new one, or one that all would take over: to move the folder's own into a protected place is a choice of its own.
func (s *Set) plan(b *batch, what What) error {
	l, err := s.list()
	if err != nil {
		return err
	}
	byPlace := map[*place]*Change{}
	for _, c := range l.changes {
		if c.Count == 0 && c.parts[0].self != nil {
			byPlace[c.parts[0].self] = c
		}
	}
	taken := map[string]bool{}
	for _, chosen := range b.todo {
		taken[chosen.ID] = true
	}
	ignored := map[*place]bool{} // directories of the task's that ignored lines hold, and whose line is not taken
	for _, c := range l.changes {
		for i := range c.parts {
			if p := &c.parts[i]; c.Type == Ignored && !taken[c.ID] && p.node.Kind == layer.Directory && (p.kind == Added || p.kind == TypeChanged || p.kind == MovedTo) {
				ignored[p.self] = true
			}
		}
	}
	left := func(dir *Change) (code, message string) {
		switch {
		case (what.All || what.Shown) && (dir.movedOn(what.Revision) || s.leftAt(dir, what.Revision)):
			return problem.ChangeMovedOn, "The directory that it lies in was changed after the list was shown."
		case !what.All && dir.Kind == Added:
			return "", ""
		}
		return notByAll(dir)
	}
	var todo []Chosen
	for _, chosen := range b.todo {
		c := l.byID[chosen.ID]
		if c == nil {
			todo = append(todo, chosen)
			continue
		}
		var with []Chosen
		code, message := "", ""
		for above := c.dir; above != nil && code == ""; above = above.up {
			if ignored[above] {
				code, message = problem.Ignored, "The directory that it lies in is one that the folder's .gitignore names; that is chosen by itself."
			}
			dir := byPlace[above]
			if dir != nil && dir.Type == Directory && !taken[dir.ID] && (dir.Kind == Added || dir.Kind == TypeChanged || dir.Kind == MovedTo) {
				code, message = left(dir)
				with = append(with, Chosen{ID: dir.ID, Token: dir.Token})
			}
		}
		if code != "" {
			b.leave(c, code, message)
			continue
		}
		for _, dir := range with {
			taken[dir.ID] = true
		}
		todo = append(append(todo, chosen), with...)
	}
	b.todo = todo
	key := func(chosen Chosen) (int, *Change) {
		c := l.byID[chosen.ID]
		if c == nil {
			return 2, &Change{}
		}
		return phase(c), c
	}
	sort.SliceStable(b.todo, func(i, j int) bool {
		pi, ci := key(b.todo[i])
		pj, cj := key(b.todo[j])
		if pi != pj {
			return pi < pj
		}
		if pi == 1 || pi == 3 {
			ci, cj = cj, ci
		}
		return comesBefore(ci.dir, ci.name, cj.dir, cj.name)
	})
	return nil
}

// note is what the journal keeps of a step for the layer.
type note struct {
	Node layer.ID `json:"node"`
	Seq  uint64   `json:"seq"`
	Size int64    `json:"size"`
	// Mtime and Ctime are the content file's, in ns.
	Mtime int64 `json:"mtime,omitempty"`
	Ctime int64 `json:"ctime,omitempty"`
	// Part: only some hunks went over.
	Part bool `json:"part,omitempty"`
	// Quiet: a step beside the one that settles the node.
	Quiet bool `json:"quiet,omitempty"`
}

// work is one change on its way.
type work struct {
	change *Change
	first  int // of its steps
	count  int
	drop   []uint64 // contents made for it
	kept   uint64   // of a part: what the folder has then
	close  func()
}

// let goes of what was made for the change.
func (s *Set) let(w *work) {
	for _, number := range w.drop {
		if number != w.kept {
			s.options.Layer.DropContent(number)
		}
	}
	if w.close != nil {
		w.close()
		w.close = nil
	}
}

func (s *Set) applySome(b *batch) (*Slice, error) {
	var done []string
	for begin := time.Now(); len(b.todo) > 0 && len(done) < sliceChanges && time.Since(begin) < sliceTime; {
		// What the guest removes or renames meanwhile would be settled at the wrong place.
		err := s.steady(func() error {
			more, err := s.applyRun(b, sliceChanges-len(done), begin.Add(sliceTime))
			done = append(done, more...)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return s.slice(b, done, 0, len(b.todo)), nil
}

// applyRun takes changes of one phase over, as one slice of writeback's. What it has not looked at by a moment is left for the next.
func (s *Set) applyRun(b *batch, most int, until time.Time) ([]string, error) {
	var works []*work
	var steps []writeback.Step
	bytes := int64(0)
	f := s.finder()
	defer f.close()
	look := f.look
	for looked := 0; len(b.todo) > 0 && len(works) < most && bytes < sliceBytes && (looked == 0 || time.Now().Before(until)); looked++ {
		chosen := b.todo[0]
		c, err := f.find(chosen.ID)
		if err == nil && c.Token != chosen.Token {
			err = ErrMovedOn
		}
		if err == nil && (b.all || chosen.Below) {
			if code, message := notByAll(c); code != "" { // since it was chosen
				b.todo = b.todo[1:]
				b.refuse(c.ID, c.Path, code, message)
				continue
			}
		}
		if err == nil && len(works) > 0 && phase(c) != phase(works[0].change) {
			break // what comes next counts on what is settled by then
		}
		if err == nil {
			var first layer.ID
			if first, err = f.inTheWay(c); first != 0 && len(works) > 0 {
				break // it may be one of them
			} else if first != 0 && err == nil {
				l, failed := f.list()
				if failed == nil && b.pull(l, first, chosen.ID) {
					continue
				}
				if err = failed; err == nil {
					to, _ := s.options.Layer.Path(first)
					err = fmt.Errorf("%w: it is at %q for the task, and that is to be applied or discarded first", errInTheWay, to)
				}
			}
		}
		b.todo = b.todo[1:]
		w := &work{change: c, first: len(steps)}
		if err == nil {
			var more []writeback.Step
			if more, err = s.steps(look, w, chosen); err == nil && len(steps)+len(more) > writeback.MaxSteps {
				if len(steps) > 0 {
					b.todo = append([]Chosen{chosen}, b.todo...)
					w.kept = 0
					s.let(w)
					break
				}
				err = fmt.Errorf("%w: it has too many parts", errNotAppliable)
			}
			if err == nil {
				for i := range more {
					more[i].Group = len(works) + 1
				}
				w.count = len(more)
				steps = append(steps, more...)
				works = append(works, w)
				bytes += c.Size
				if phase(c) == 0 {
					break // paths below change with it
				}
				continue
			}
		}
		w.kept = 0
		s.let(w)
		path := ""
		if c != nil {
			path = c.Path
		}
		code, message := problemOf(err)
		b.refuse(chosen.ID, path, code, message)
	}
	var done []string
	if len(works) > 0 {
		moved, err := f.shownBelow(b, works)
		if err != nil {
			return nil, err
		}
		var results []writeback.Result
		if len(steps) > 0 {
			results, err = s.options.Write.Apply(b.name, steps)
		}
		if err != nil {
			for _, w := range works {
				w.kept = 0
				s.let(w)
			}
			delete(s.batches, b.name)
			return nil, err
		}
		for _, w := range works {
			if err := firstError(results[w.first : w.first+w.count]); err != nil {
				code, message := problemOf(err)
				b.refuse(w.change.ID, w.change.Path, code, message)
				w.kept = 0
				s.let(w)
				continue
			}
			done = append(done, w.change.ID)
			if w.count == 0 {
				if err := s.discardPart(&w.change.parts[0]); err != nil {
					code, message := problemOf(err)
					b.refuse(w.change.ID, w.change.Path, code, message)
				}
			}
			for i := w.first; i < w.first+w.count; i++ {
				if err := s.settle(steps[i].Note, results[i].Made, w.kept); err != nil {
					r := s.unsettled(steps[i].Note, err)
					b.refuse(w.change.ID, r.Path, r.Code, r.Message)
				}
			}
			s.let(w)
		}
		if err := s.noteSettled(); err != nil {
			return nil, err
		}
		s.followMove(b, moved)
	}
	return done, nil
}

// inTheWay gives a node of the task's that is what the folder still has at the place of a change, or at that of a directory above it:
// the task moved it, and nothing may take its place, or go into it there, before it went. An error when it is a part of the change itself.
func (f *finder) inTheWay(c *Change) (layer.ID, error) {
	for i := range c.parts {
		p := &c.parts[i]
		id := f.movedFrom(p)
		if id == 0 {
			continue
		}
		for k := range c.parts {
			if c.parts[k].node.ID == id {
				return 0, errInTheWay
			}
		}
		return id, nil
	}
	return 0, nil
}

// movedFrom gives the node that the folder has at a part's place, or above, and that the guest has elsewhere; 0: none.
func (f *finder) movedFrom(p *part) layer.ID {
	if f.moved == nil {
		f.moved = f.set.moved()
	}
	moved := f.moved
	if len(moved) == 0 {
		return 0
	}
	at := p.node
	for path := p.path; path != "" && at != nil; path, at = parentOf(path), f.set.options.Layer.Get(at.Parent) {
		if id := moved[path]; id != 0 && id != at.ID {
			return id
		}
	}
	return 0
}

// moved are the nodes that the task moved by where the folder has them.
func (s *Set) moved() map[string]layer.ID {
	if seq := s.options.Layer.Seq(); s.movedNodes == nil || s.movedAt != seq {
		s.movedNodes, s.movedAt = map[string]layer.ID{}, seq
		s.options.Layer.Each(func(n *layer.Node) {
			if n.Elsewhere && !n.Whiteout && !n.Made && n.Base != nil {
				s.movedNodes[n.Base.Path] = n.ID
			}
		})
	}
	return s.movedNodes
}

var errInTheWay = fmt.Errorf("%w before what the task moved away from there is", errNotAppliable)

// pull puts the change of a node, with the directories above it that are on the list, before all others; false when it is not there or
// was pulled for the same one already.
func (b *batch) pull(l *listing, id layer.ID, before string) bool {
	var wanted *Change
	for _, c := range l.changes {
		if len(c.parts) == 1 && c.parts[0].node.ID == id {
			wanted = c
		}
	}
	key := fmt.Sprint(id, " before ", before)
	if wanted == nil || b.pulled[key] {
		return false
	}
	if b.pulled == nil {
		b.pulled = map[string]bool{}
	}
	b.pulled[key] = true
	var first, rest []Chosen
	there := false
	for _, chosen := range b.todo {
		c := l.byID[chosen.ID]
		switch {
		case c != nil && chosen.ID != before && (c == wanted || c.Type == Directory && c.Kind != Deleted && c.isAbove(wanted)):
			there = there || c == wanted
			first = append(first, chosen)
		default:
			rest = append(rest, chosen)
		}
	}
	if there {
		sort.SliceStable(first, func(i, j int) bool { return l.byID[first[i].ID].dir.level() < l.byID[first[j].ID].dir.level() })
		b.todo = append(first, rest...)
	}
	return there
}

// shownBelow gives the chosen changes that lie, or lay, in a directory which is about to be moved, or stand where something is moved from,
// as they are; those that are not what was shown any more are left out.
func (f *finder) shownBelow(b *batch, works []*work) (map[string]*Change, error) {
	instead := map[string]bool{}
	for _, w := range works {
		for i := range w.change.parts {
			p := &w.change.parts[i]
			if p.kind != MovedTo {
				continue
			}
			if there := f.set.options.Layer.StandsAt(p.from); there != nil && there.ID != p.node.ID {
				instead[nodeID(there.ID)] = true
			}
		}
	}
	below := phase(works[0].change) == 0
	found := map[string]*Change{}
	for _, chosen := range b.todo {
		if !below && !instead[chosen.ID] {
			continue
		}
		c, err := f.find(chosen.ID)
		if errors.Is(err, ErrUnknown) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if c.Token == chosen.Token && (instead[chosen.ID] || strings.HasPrefix(c.Path, works[0].change.Path+"/") || strings.HasPrefix(c.From, works[0].change.From+"/")) {
			found[chosen.ID] = c
		}
	}
	return found, nil
}

// followMove gives them their tokens after it, unless something else than the move has happened to them.
func (s *Set) followMove(b *batch, was map[string]*Change) {
	f := s.finder()
	defer f.close()
	for i := range b.todo {
		old := was[b.todo[i].ID]
		if old == nil {
			continue
		}
		now, err := f.find(old.ID)
		if err != nil || len(now.parts) != len(old.parts) {
			continue
		}
		same := true
		for k := range now.parts {
			a, z := &old.parts[k], &now.parts[k]
			same = same && (freed(a, z) || a.node.ID == z.node.ID && (z.node.Seq == a.node.Seq || z.node.Seq == s.rebased[z.node.ID]) &&
				(a.file == nil) == (z.file == nil) && (a.file == nil || a.file.Mtim == z.file.Mtim && a.file.Ctim == z.file.Ctim && a.file.Size == z.file.Size) &&
				(a.now == nil) == (z.now == nil) && (a.now == nil || a.now.Same(z.now)))
		}
		if same {
			b.todo[i].Token = now.Token
		}
	}
}

// freed tells whether a part is what it was, and no more: what it stood in the place of went away.
func freed(a, z *part) bool {
	if !a.node.Made || a.node.Base == nil || z.node.Base != nil || z.now != nil || a.path != z.path || (a.file == nil) != (z.file == nil) {
		return false
	}
	was := *a.node
	was.Base, was.Seq, was.Placed = nil, z.node.Seq, z.node.Placed
	return reflect.DeepEqual(&was, z.node) && (a.file == nil || a.file.Mtim == z.file.Mtim && a.file.Ctim == z.file.Ctim && a.file.Size == z.file.Size)
}

func firstError(results []writeback.Result) error {
	var found error
	for _, r := range results {
		if r.Err != nil && (found == nil || errors.Is(found, writeback.ErrGroup)) {
			found = r.Err
		}
	}
	return found
}

var errNotAppliable = errors.New("it cannot be written to the folder")

// noteSettled notes what the layer knows of by now.
func (s *Set) noteSettled() error {
	s.listing = nil
	s.adoptAll()
	if err := s.options.Layer.Sync(); err != nil {
		return err
	}
	return s.options.Write.Settled()
}

// problemOf names an error for the list of refusals.
func problemOf(err error) (code, message string) {
	switch {
	case errors.Is(err, ErrUnknown):
		return problem.ChangeUnknown, "There is no such change any more."
	case errors.Is(err, ErrMovedOn):
		return problem.ChangeMovedOn, "It is not what was shown any more; look at it again."
	case errors.Is(err, writeback.ErrConflict):
		return problem.Conflict, "The folder is not as it was when the change was made. " + err.Error()
	case errors.Is(err, errHolds):
		return problem.NotAppliable, "Something in it was not discarded, or came after the list was shown, so it stays."
	case errors.Is(err, errNotAppliable), errors.Is(err, errParts), errors.Is(err, writeback.ErrKind):
		return problem.NotAppliable, err.Error()
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return problem.NoRoom, "There is no room on the disk."
	}
	return problem.Native, err.Error()
}

// identity is a base as writeback expects it.
func identity(b *layer.Base) *writeback.Identity {
	if b == nil {
		return nil
	}
	i := &writeback.Identity{Object: writeback.Object{Device: b.Device, Inode: b.Inode}, Mode: b.Mode, Size: b.Size, MtimeNs: b.MtimeNs, CtimeNs: b.CtimeNs}
	switch b.Kind {
	case layer.File:
		i.Kind = writeback.File
	case layer.Directory:
		i.Kind = writeback.Directory
	case layer.Link:
		i.Kind = writeback.Link
	}
	return i
}

// steps makes of a change what is to be done in the folder.
func (s *Set) steps(look *lookout, w *work, chosen Chosen) ([]writeback.Step, error) {
	c := w.change
	switch {
	case c.is(PathTooLong):
		return nil, errNotAppliable
	case c.never() != nil:
		return nil, c.never()
	case len(c.parts) > writeback.MaxSteps && c.Type != Repository:
		return nil, fmt.Errorf("%w: it has too many parts", errNotAppliable)
	case c.Type == Repository:
		return s.repositorySteps(c, w, chosen)
	case c.goneToo():
		return nil, nil
	case c.Conflict != "":
		return nil, fmt.Errorf("%w: %s", writeback.ErrConflict, conflictMessage(c.Conflict))
	case len(chosen.Hunks) > 0 && (c.Count > 0 || c.Type != File || c.Kind != Modified):
		return nil, errParts
	case chosen.As != "":
		return nil, fmt.Errorf("%w as a branch, as it is no repository", errNotAppliable)
	}
	var all []writeback.Step
	for i := range c.parts {
		p := &c.parts[i]
		if conflict := p.conflict(); conflict != "" {
			return nil, fmt.Errorf("%w: %s: %s", writeback.ErrConflict, p.path, conflictMessage(conflict))
		}
		more, err := s.partSteps(look, w, p, chosen.Hunks)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	return all, nil
}

func (s *Set) partSteps(look *lookout, w *work, p *part, hunks []int) ([]writeback.Step, error) {
	n := p.node
	settles := note{Node: n.ID, Seq: n.Seq}
	if p.file != nil {
		settles.Size, settles.Mtime, settles.Ctime = p.file.Size, p.file.Mtim.Nano(), p.file.Ctim.Nano()
	}
	quiet := noteOf(note{Node: n.ID, Quiet: true})
	expect := identity(p.base)
	main := writeback.Step{Path: p.path, Expect: expect, Attributes: writeback.Attributes{Mode: p.mode()}, Kind: writeback.File}
	main.Still = func() error { return s.still(p) }
	mtime, xattrs, err := s.otherAttributes(look, p)
	if err != nil {
		return nil, err
	}
	main.Attributes.MtimeNs, main.Attributes.Xattrs = mtime, xattrs
	var before []writeback.Step
	switch {
	case p.kind == Deleted:
		main.Op, main.Still = writeback.Remove, nil
	case p.kind == MovedTo:
		if n.Over != nil && look.base(p.path) != nil { // nothing: the task moved it on, and that is applied
			before = append(before, writeback.Step{Op: writeback.Remove, Path: p.path, Expect: identity(n.Over), Note: quiet})
		}
		move := writeback.Step{Op: writeback.Move, Path: p.from, To: p.path, Expect: expect, Note: quiet}
		switch {
		case n.Kind == layer.File && n.Content != 0:
			// Written as it shall be, and the old one taken away: one file has one identity at each of its places.
			main.Op, main.Expect, main.Content = writeback.Put, nil, s.opener(n.Content)
			before = append(before, writeback.Step{Op: writeback.Remove, Path: p.from, Expect: expect, Note: quiet})
		case n.ModeSet || n.MtimeSet || len(n.Xattrs) > 0:
			return nil, fmt.Errorf("%w: moved and of other attributes at once", errNotAppliable)
		default:
			main = move
		}
	case n.Kind == layer.Directory && p.kind == Attributes:
		main.Op, main.Kind = writeback.SetAttributes, writeback.Directory
	case n.Kind == layer.Directory:
		if p.kind == TypeChanged {
			before = append(before, writeback.Step{Op: writeback.Remove, Path: p.path, Expect: expect, Note: quiet})
		}
		if p.base == nil && p.now != nil { // the folder has a directory there by now
			return nil, fmt.Errorf("%w: %s", writeback.ErrConflict, conflictMessage(ConflictExists))
		}
		main.Op, main.Kind, main.Expect = writeback.MakeDir, writeback.Directory, nil
	case n.Kind == layer.Link && n.Target != "":
		main.Op, main.Kind, main.Target = writeback.Put, writeback.Link, n.Target
		before, main.Expect = overDirectory(before, &main, quiet)
	case n.Kind == layer.Link:
		main.Op, main.Kind = writeback.SetAttributes, writeback.Link
		return nil, fmt.Errorf("%w: only attributes of a link changed", errNotAppliable)
	case n.Content == 0 && p.base == nil:
		return nil, fmt.Errorf("%w: its content is lost", errNotAppliable)
	case n.Content == 0:
		main.Op = writeback.SetAttributes
	default:
		main.Op, main.Content = writeback.Put, s.opener(n.Content)
		before, main.Expect = overDirectory(before, &main, quiet)
	}
	if len(hunks) > 0 {
		data, err := s.withHunks(p, hunks)
		if err != nil {
			return nil, err
		}
		number, err := s.temporary(data)
		if err != nil {
			return nil, err
		}
		w.drop, w.kept = append(w.drop, number), number
		main.Content = s.opener(number)
		main.Attributes.Mode = p.base.Mode
		settles.Part = true
	}
	main.Note = noteOf(settles)
	return append(before, main), nil
}

// overDirectory makes a step that puts something in a directory's place remove that first.
func overDirectory(before []writeback.Step, main *writeback.Step, quiet json.RawMessage) ([]writeback.Step, *writeback.Identity) {
	if main.Expect == nil || main.Expect.Kind != writeback.Directory {
		return before, main.Expect
	}
	return append(before, writeback.Step{Op: writeback.Remove, Path: main.Path, Expect: main.Expect, Note: quiet}), nil
}

func noteOf(n note) json.RawMessage {
	b, err := json.Marshal(n)
	if err != nil {
		panic(err) // numbers and bools alone
	}
	return b
}

// otherAttributes gives a file's time and user attributes as the guest sees them.
func (s *Set) otherAttributes(look *lookout, p *part) (mtimeNs int64, xattrs map[string][]byte, err error) {
	n := p.node
	switch {
	case n.MtimeSet:
		mtimeNs = n.MtimeNs
	case p.file != nil:
		mtimeNs = p.file.Mtim.Nano()
	case p.base != nil && !n.Made:
		mtimeNs = p.base.MtimeNs
	default:
		mtimeNs = time.Now().UnixNano()
	}
	if p.base != nil && !n.Made && !n.Whiteout && n.Kind != layer.Link {
		if xattrs, err = lowerXattrs(look, p.base.Path); err != nil {
			return 0, nil, err
		}
	}
	for name, value := range n.Xattrs {
		if xattrs == nil {
			xattrs = map[string][]byte{}
		}
		if value == nil {
			delete(xattrs, name)
		} else {
			xattrs[name] = value
		}
	}
	return mtimeNs, xattrs, nil
}

func lowerXattrs(look *lookout, path string) (map[string][]byte, error) {
	n, err := look.node(path)
	if err != nil && !look.note(err) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s", writeback.ErrConflict, conflictMessage(ConflictGone))
	}
	defer n.Drop()
	list, err := n.ListXattr()
	if short(err) {
		return nil, err
	}
	if err != nil || len(list) == 0 {
		return nil, nil // a filesystem without, or a file that may not be read: there is nothing to carry over
	}
	found := map[string][]byte{}
	for _, name := range strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		value, err := n.GetXattr(name)
		if short(err) {
			return nil, err
		}
		if err == nil {
			found[name] = value
		}
	}
	return found, nil
}

// still tells whether the layer has what is being written, after it was read.
func (s *Set) still(p *part) error {
	n := s.options.Layer.Get(p.node.ID)
	if n == nil || n.Seq != p.node.Seq {
		return ErrMovedOn
	}
	if p.file == nil {
		return nil
	}
	st, err := s.contentStat(n.Content)
	if err != nil {
		return err
	}
	if st.Size != p.file.Size || st.Mtim != p.file.Mtim || st.Ctim != p.file.Ctim {
		return ErrMovedOn
	}
	return nil
}

// Applies lists what was taken over, newest first.
func (s *Set) Applies() []writeback.Applied {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.options.Write.Applies()
}

// Undo begins to take an apply back; the newest that is not, when none is named.
func (s *Set) Undo(apply string) (*Slice, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if apply == "" {
		for _, a := range s.options.Write.Applies() {
			if !a.Undone {
				apply = a.Apply
				break
			}
		}
	}
	undo, err := s.options.Write.Undo(apply)
	if err != nil {
		return nil, "", err
	}
	b := s.begin("undo")
	b.undo, b.apply = undo, apply
	return s.undoSome(b)
}

// UndoMore goes on.
func (s *Set) UndoMore(name string) (*Slice, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.open("undo", name)
	if err != nil {
		return nil, "", err
	}
	return s.undoSome(b)
}

func (s *Set) undoSome(b *batch) (*Slice, string, error) {
	restored := 0
	if b.undo.Remaining() > 0 {
		var backs []writeback.Back
		var left []Refusal
		err := s.steady(func() (err error) {
			if backs, err = b.undo.Next(sliceChanges); err == nil {
				left = s.waitAgain()
			}
			return err
		})
		if err != nil {
			delete(s.batches, b.name)
			return nil, "", err
		}
		for _, back := range backs {
			if back.Err == nil {
				restored++
				continue
			}
			code, message := problem.NotUndoable, "The file in the folder was changed since the apply."
			if !errors.Is(back.Err, writeback.ErrConflict) && !errors.Is(back.Err, writeback.ErrGroup) {
				code, message = problemOf(back.Err)
			}
			b.refuse("", back.Path, code, message)
		}
		for _, r := range left {
			b.refuse("", r.Path, r.Code, r.Message)
		}
		if err := s.noteSettled(); err != nil {
			return nil, "", err
		}
	}
	return s.slice(b, nil, restored, b.undo.Remaining()), b.apply, nil
}
