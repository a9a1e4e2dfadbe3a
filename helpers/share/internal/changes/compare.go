//go:build linux

package changes

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"cloche/share/internal/diff"
	"cloche/share/internal/layer"
	"cloche/share/internal/writeback"
)

// Diff is a slice of what is shown of one change.
type Diff struct {
	Kind, Token    string // Kind: text, binary, link, none, too-large
	Bytes          []byte
	Next           int64 // 0: this was the end
	Total          int64
	Hunks          []diff.Hunk
	OldSize        int64
	NewSize        int64
	OldSum, NewSum string // SHA-256 in hex; empty where there is nothing, or too much
}

// shownDiff is the last diff that was asked for, since it is fetched in slices.
type shownDiff struct {
	id, token, side string
	context         int
	whole           Diff
}

// MaxHunks are listed; a diff of more can be taken over as a whole.
const MaxHunks = 5000

// maxHashed is how large a file may be to have its hash told.
const maxHashed = 64 << 20

// ErrUnknown: no such change, or not any more. ErrMovedOn: it is not what was shown.
var (
	ErrUnknown = errors.New("there is no such change")
	ErrMovedOn = errors.New("the change is not what was shown any more")
)

// finder finds changes as they are now. One lives for one look at many of them: it lists everything at most once, for those of many parts,
// whose every part is looked at again when it is written. A guest that never stops changing the layer would have it list for ever.
type finder struct {
	set  *Set
	look *lookout
	fold *folds
	all  *listing
	// moved are the nodes that the task moved, while its names stay where they are
	moved map[string]layer.ID
}

func (s *Set) finder() *finder {
	return &finder{set: s, look: newLookout(s.options.Lower), fold: s.folding()}
}

func (f *finder) close() {
	f.look.close()
	f.fold.close()
}

func (f *finder) list() (*listing, error) {
	if f.all == nil {
		l, err := f.set.list()
		if err != nil {
			return nil, err
		}
		f.all = l
	}
	return f.all, nil
}

// find gives a change as it is now.
func (f *finder) find(id string) (*Change, error) {
	if number, is := strings.CutPrefix(id, "n"); is {
		node, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			return nil, ErrUnknown
		}
		return f.single(layer.ID(node))
	}
	l, err := f.list()
	if err != nil {
		return nil, err
	}
	if c := l.byID[id]; c != nil {
		return c.woken(writeback.MaxSteps), nil
	}
	return nil, ErrUnknown
}

// single looks at one node, as a list does.
func (f *finder) single(id layer.ID) (*Change, error) {
	l := f.set.options.Layer
	n := l.Get(id)
	if n == nil || n.Passing() || n.Whiteout && n.Moved || n.ID == layer.RootID {
		return nil, ErrUnknown
	}
	path, there := l.Path(n.ID)
	if !there {
		return nil, ErrUnknown
	}
	p := &part{node: n, path: endOf(path)}
	differs := f.set.examine(f.look, p)
	folded := differs && f.fold.into(p) != nil
	for _, trouble := range []error{f.look.trouble, f.fold.trouble()} {
		if trouble != nil {
			return nil, trouble
		}
	}
	if !differs || folded {
		return nil, ErrUnknown
	}
	return f.set.single(p), nil
}

func (s *Set) find(id string) (*Change, error) {
	f := s.finder()
	defer f.close()
	return f.find(id)
}

// Diff gives a slice of a change's difference. side theirs: what the folder's file became since the change was made.
func (s *Set) Diff(id, side string, context int, offset int64, limit int) (*Diff, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.find(id)
	if err != nil {
		return nil, err
	}
	if d := s.shown; d == nil || d.id != id || d.token != c.Token || d.side != side || d.context != context {
		whole, err := s.compare(c, side, context)
		if err != nil {
			return nil, err
		}
		s.shown = &shownDiff{id, c.Token, side, context, *whole}
	}
	d := s.shown.whole
	all := d.Bytes
	offset = min(offset, int64(len(all)))
	end := min(offset+int64(limit), int64(len(all)))
	d.Bytes = all[offset:end]
	if end < int64(len(all)) {
		d.Next = end
	}
	if offset > 0 {
		d.Hunks = nil
	}
	return &d, nil
}

// side is one of two files that are compared.
type sideOf struct {
	name string // with its a/ or b/, or /dev/null
	data []byte
	link bool
	size int64
	sum  string
	big  bool // its bytes are not at hand
}

var nothing = sideOf{name: "/dev/null"}

func (s *Set) compare(c *Change, side string, context int) (*Diff, error) {
	d := &Diff{Kind: "none", Token: c.Token}
	if c.Type == Repository {
		return d, s.compareRepository(c, d)
	}
	if c.Type == Ignored && side == "change" {
		d.Kind, d.Bytes = "text", partLines(c) // of no hunk, as below
		d.Total = int64(len(d.Bytes))
		return d, nil
	}
	if c.Type == Ignored || len(c.parts) == 0 {
		return d, nil
	}
	p := &c.parts[0]
	for i := range c.parts {
		if c.parts[i].node.Name == c.name {
			p = &c.parts[i]
		}
	}
	look := newLookout(s.options.Lower)
	defer look.close()
	old, err := s.before(look, p)
	if err != nil {
		return nil, err
	}
	var new sideOf
	if side == "theirs" {
		new, err = s.lowerSide(look, p)
	} else {
		new, err = s.after(look, p)
	}
	if err != nil {
		return nil, err
	}
	d.OldSize, d.NewSize, d.OldSum, d.NewSum = old.size, new.size, old.sum, new.sum
	var head []byte
	if side == "change" {
		head = headLines(p)
	}
	if side == "change" && c.Type == Database {
		d.Kind, d.Bytes = "text", partLines(c) // of no hunk, as below
		d.Total = int64(len(d.Bytes))
		return d, nil
	}
	switch {
	case old.big || new.big:
		d.Kind = "too-large"
	case !diff.IsText(old.data) || !diff.IsText(new.data):
		d.Kind = "binary"
		if old.sum == new.sum {
			d.Kind = "none"
		}
	case !diff.Fits(old.data, new.data):
		d.Kind = "too-large"
	default:
		compared := diff.Of(old.data, new.data)
		if !compared.Same() {
			d.Kind = "text"
			if old.link || new.link {
				d.Kind = "link"
			}
			d.Bytes, d.Hunks = compared.Unified(old.name, new.name, context)
			d.Hunks = d.Hunks[:min(len(d.Hunks), MaxHunks)]
		}
	}
	if d.Kind == "none" && len(head) > 0 {
		d.Kind = "text" // of no hunk: whoever shows it shows these lines
	}
	d.Bytes = append(head, d.Bytes...)
	d.Total = int64(len(d.Bytes))
	return d, nil
}

// headLines tell what is no content, as git does above a diff.
func headLines(p *part) []byte {
	var head []byte
	n := p.node
	if p.kind == MovedTo {
		head = fmt.Appendf(head, "rename from %s\nrename to %s\n", diff.Quoted(p.from), diff.Quoted(p.path))
		if n.Over != nil {
			head = fmt.Appendf(head, "replaces what the folder has at %s\n", diff.Quoted(p.path))
		}
	}
	kind := map[layer.Kind]uint32{layer.File: unix.S_IFREG, layer.Directory: unix.S_IFDIR}[n.Kind]
	switch {
	case kind == 0:
	case p.kind == Added:
		head = fmt.Appendf(head, "new file mode %06o\n", kind|p.mode())
	case p.kind == Deleted && p.base != nil:
		head = fmt.Appendf(head, "deleted file mode %06o\n", kind|p.base.Mode)
	case p.base != nil && (p.base.Kind != n.Kind || p.mode() != p.base.Mode):
		was := map[layer.Kind]uint32{layer.File: unix.S_IFREG, layer.Directory: unix.S_IFDIR, layer.Link: unix.S_IFLNK}[p.base.Kind]
		head = fmt.Appendf(head, "old mode %06o\nnew mode %06o\n", was|p.base.Mode, kind|p.mode())
	}
	if p.kind == Deleted {
		return head
	}
	names := make([]string, 0, len(n.Xattrs))
	for name := range n.Xattrs {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		what := fmt.Sprintf("set, %d bytes", len(n.Xattrs[name]))
		if n.Xattrs[name] == nil {
			what = "removed"
		}
		head = fmt.Appendf(head, "attribute %s %s\n", diff.Quoted(name), what)
	}
	return head
}

// before is the file as it was when the change was made: the bytes that were kept, or the folder's while it is still that one.
func (s *Set) before(look *lookout, p *part) (sideOf, error) {
	b := p.base
	if b == nil || b.Kind == layer.Directory {
		return nothing, nil
	}
	side := sideOf{name: "a/" + b.Path, size: b.Size, link: b.Kind == layer.Link, big: true}
	switch {
	case b.Content != 0:
		f, err := s.options.Layer.OpenContent(b.Content)
		if err != nil {
			return side, err
		}
		defer f.Close()
		return side.filled(f)
	case p.now != nil && b.Same(p.now):
		return s.fromLower(look, side, b)
	}
	return side, nil
}

func (s *Set) lowerSide(look *lookout, p *part) (sideOf, error) {
	if p.now == nil || p.now.Kind != layer.File && p.now.Kind != layer.Link {
		return nothing, nil
	}
	return s.fromLower(look, sideOf{name: "b/" + p.now.Path, size: p.now.Size, link: p.now.Kind == layer.Link, big: true}, p.now)
}

func (s *Set) fromLower(look *lookout, side sideOf, b *layer.Base) (sideOf, error) {
	n, err := look.node(b.Path)
	if err != nil && !look.note(err) {
		return side, err
	}
	if err != nil {
		return side, nil // gone between two looks
	}
	defer n.Drop()
	if b.Kind == layer.Link {
		text, err := n.Readlink()
		if err != nil {
			return side, nil
		}
		return side.of([]byte(text)), nil
	}
	f, err := n.Open(0)
	if err != nil {
		return side, err
	}
	defer f.Close()
	return side.filled(readerAt{f})
}

func (s *Set) after(look *lookout, p *part) (sideOf, error) {
	n := p.node
	side := sideOf{name: "b/" + p.path, link: n.Kind == layer.Link, big: true}
	switch {
	case n.Whiteout || n.Kind == layer.Directory:
		return nothing, nil
	case n.Kind == layer.Link && n.Target != "":
		return side.of([]byte(n.Target)), nil
	case n.Content != 0:
		f, err := s.options.Layer.OpenContent(n.Content)
		if err != nil {
			return side, err
		}
		defer f.Close()
		if p.file == nil {
			return side, p.unread
		}
		side.size = p.file.Size
		return side.filled(f)
	}
	before, err := s.before(look, p)
	before.name = side.name
	return before, err
}

func (side sideOf) of(data []byte) sideOf {
	sum := sha256.Sum256(data)
	side.data, side.size, side.sum, side.big = data, int64(len(data)), hex.EncodeToString(sum[:]), false
	return side
}

// filled reads a file, as far as it may be compared; a larger one has its hash told.
func (side sideOf) filled(r io.ReaderAt) (sideOf, error) {
	data, err := readAll(r, diff.MaxBytes/2)
	if errors.Is(err, errTooLarge) {
		if side.size <= maxHashed {
			h := sha256.New()
			if _, err := io.Copy(h, io.NewSectionReader(r, 0, maxHashed)); err != nil {
				return side, err
			}
			side.sum = hex.EncodeToString(h.Sum(nil))
		}
		return side, nil
	}
	if err != nil {
		return side, err
	}
	return side.of(data), nil
}

// withHunks gives a file's bytes with the chosen hunks in them.
func (s *Set) withHunks(p *part, hunks []int) ([]byte, error) {
	look := newLookout(s.options.Lower)
	defer look.close()
	old, err := s.before(look, p)
	if err != nil {
		return nil, err
	}
	new, err := s.after(look, p)
	if err != nil {
		return nil, err
	}
	if old.big || new.big || !diff.IsText(old.data) || !diff.IsText(new.data) || !diff.Fits(old.data, new.data) {
		return nil, errParts
	}
	return diff.Of(old.data, new.data).Apply(hunks)
}

var errParts = errors.New("only text can be taken over in parts")

// temporary puts bytes into a content file that belongs to nobody.
func (s *Set) temporary(data []byte) (uint64, error) {
	number, f, err := s.options.Layer.NewContent()
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		s.options.Layer.DropContent(number)
		return 0, err
	}
	return number, nil
}

func (s *Set) opener(number uint64) func() (*os.File, error) {
	return func() (*os.File, error) { return s.options.Layer.OpenContent(number) }
}

// without gives a file's bytes with all hunks but the chosen ones.
func (s *Set) without(p *part, hunks []int) ([]byte, error) {
	look := newLookout(s.options.Lower)
	defer look.close()
	old, err := s.before(look, p)
	if err != nil {
		return nil, err
	}
	new, err := s.after(look, p)
	if err != nil {
		return nil, err
	}
	if old.big || new.big || !diff.IsText(old.data) || !diff.IsText(new.data) || !diff.Fits(old.data, new.data) {
		return nil, errParts
	}
	compared := diff.Of(old.data, new.data)
	dropped := make([]bool, compared.Hunks())
	for _, i := range hunks {
		if i < 0 || i >= len(dropped) {
			return nil, fmt.Errorf("%w: there is no hunk %d", errParts, i)
		}
		dropped[i] = true
	}
	var rest []int
	for i, drop := range dropped {
		if !drop {
			rest = append(rest, i)
		}
	}
	return compared.Apply(rest)
}
