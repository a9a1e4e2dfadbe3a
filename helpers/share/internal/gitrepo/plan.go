package gitrepo

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"sort"
	"strings"
)

// Steps of a plan, in the order in which they are done.
const (
	MakeDir = "make-dir" // nothing to do when it is there
	Create  = "create"   // nothing of that name may be there
	Replace = "replace"
	Remove  = "remove"
)

// Step is one thing to do below the git directory. All steps of a plan are one group: all or none.
type Step struct {
	Do      string
	Path    []string
	Content []byte
	Pack    bool              // the content is what WritePack wrote
	Old     [sha256.Size]byte // of the content that Replace and Remove expect
	Mode    uint32
	// Lock is the name beside the file that git itself takes while it writes: the new content is written there,
	// with O_EXCL, before Old is compared, and renamed to the file. Empty where git takes none.
	Lock string
	// Stays: an undo leaves it. Git may have found meanwhile that it has these objects already, and built on them.
	Stays bool
}

// expectation is a file of the host that a plan was made from.
type expectation struct {
	path []string
	sum  []byte // nil: nothing is there
}

// Plan is what has to be done to take the guest's change over.
type Plan struct {
	r         *Repository
	objects   []taken
	files     []Step // refs, HEAD, index: after the objects
	expect    []expectation
	packName  string
	packIndex []byte
	// Applied names the branches and tags that are set, as they are shown.
	Applied []string
}

// taken is an object that the host lacks.
type taken struct {
	id      ID
	kind    objectType
	special special
	pack    int // which of the guest's, from 1 on; 0 for a file of its own
	offset  int64
}

// special says under which names that git reads a blob is somewhere.
type special uint8

const (
	modulesFile special = 1 << iota
	attributesFile
)

func specialOf(name string) special {
	switch {
	case looksLike(name, "gitmodules"):
		return modulesFile
	case looksLike(name, "gitattributes"):
		return attributesFile
	}
	return 0
}

func sum(b []byte) []byte {
	if b == nil {
		return nil
	}
	s := sha256.Sum256(b)
	return s[:]
}

// ErrConflict is behind the error of a plan that cannot be made where the guest made its change.
var ErrConflict = errors.New("conflict")

// Plan plans the taking over; as a branch, it sets no ref that the host has, neither index nor HEAD.
func (r *Repository) Plan(asBranch bool) (*Plan, error) {
	p := &Plan{r: r}
	var want []taken
	if asBranch {
		if !isBranchName(r.input.Branch) {
			return nil, fmt.Errorf("%q is no name for a branch", shown(r.input.Branch))
		}
		offered := r.offer()
		if len(offered) == 0 {
			return nil, fmt.Errorf("%w: the task made no commit that a branch of that name could have", ErrConflict)
		}
		for _, b := range offered {
			want = append(want, taken{id: b.id, kind: commitType})
			p.setRef(b.name, ref{}, ref{id: b.id, loose: true})
			p.Applied = append(p.Applied, displayName(b.name))
		}
	} else {
		why, err := r.conflict()
		if err != nil {
			return nil, err
		}
		if why != "" {
			return nil, fmt.Errorf("%w: %s", ErrConflict, why)
		}
		if want, err = p.direct(); err != nil {
			return nil, err
		}
	}
	if err := p.closure(want); err != nil {
		return nil, err
	}
	if r.isNew {
		p.found()
		return p, nil
	}
	return p, p.findPlace()
}

// direct adds what makes the guest's refs, index and HEAD the host's.
func (p *Plan) direct() ([]taken, error) {
	r := p.r
	var want []taken
	packed := r.lower.refs.packed
	var setting []Step
	var all []byte // packed-refs of a new repository: one step, however many tags it has
	for _, c := range r.changes {
		p.Applied = append(p.Applied, displayName(c.name))
		if c.kind != Deleted {
			kind := objectType(0)
			if strings.HasPrefix(c.name, heads) {
				kind = commitType
			}
			want = append(want, taken{id: c.new.id, kind: kind})
			if r.isNew {
				all = append(all, c.new.id.String()+" "+c.name+"\n"...)
			} else {
				p.setRef(c.name, c.old, c.new)
			}
			continue
		}
		if c.old.packed != "" {
			packed = withoutPacked(packed, c.name)
		}
		if c.old.loose {
			path := strings.Split(c.name, "/")
			setting = append(setting, Step{Do: Remove, Path: path, Old: p.expectFile(c.old, path...), Lock: path[len(path)-1] + ".lock"})
		}
	}
	if all != nil {
		p.files = append(p.files, Step{Do: Create, Path: []string{"packed-refs"}, Content: append([]byte("# pack-refs with: sorted\n"), all...), Mode: 0o644})
	}
	if len(packed) != len(r.lower.refs.packed) {
		p.files = append(p.files, Step{Do: Replace, Path: []string{"packed-refs"}, Content: packed, Old: sha256.Sum256(r.lower.refs.packed), Mode: 0o644, Lock: "packed-refs.lock"})
	}
	p.files = append(p.files, setting...)

	if r.guestIndex != nil && (r.staged > 0 || r.isNew && len(r.guestIndex.entries) > 0) {
		host := map[ID]bool{}
		for i := range r.hostIndex.entries {
			host[r.hostIndex.entries[i].id] = true
		}
		for i := range r.guestIndex.entries {
			if e := &r.guestIndex.entries[i]; e.mode != treeSub && e.extended&intentToAdd == 0 {
				if special := specialOf(e.path[strings.LastIndexByte(e.path, '/')+1:]); special != 0 || !host[e.id] {
					want = append(want, taken{id: e.id, kind: blobType, special: special})
				}
			}
		}
		step := Step{Do: Create, Path: []string{"index"}, Content: r.format.take(r.hostIndex, r.guestIndex), Mode: 0o644, Lock: "index.lock"}
		if r.indexSum != nil {
			step.Do, step.Old = Replace, [sha256.Size]byte(r.indexSum)
		}
		p.files = append(p.files, step)
		p.expect = append(p.expect, expectation{[]string{"index"}, r.indexSum})
	}

	head := r.merged.refs.head
	if !head.same(r.lower.refs.head) {
		if head.target == "" {
			want = append(want, taken{id: head.id, kind: commitType})
		}
		step := Step{Do: Create, Path: []string{"HEAD"}, Content: head.text(), Mode: 0o644, Lock: "HEAD.lock"}
		if !r.isNew {
			step.Do, step.Old = Replace, p.expectFile(r.lower.refs.head, "HEAD")
		}
		p.files = append(p.files, step)
	} else {
		p.expectFile(r.lower.refs.head, "HEAD")
	}
	return want, nil
}

// setRef adds a ref's file. A ref that stands in packed-refs alone gets a file, which then counts.
func (p *Plan) setRef(name string, old, now ref) {
	path := strings.Split(name, "/")
	for n := 2; n < len(path); n++ {
		p.makeDir(path[:n]...)
	}
	step := Step{Do: Create, Path: path, Content: now.text(), Mode: 0o644, Lock: path[len(path)-1] + ".lock"}
	if old.loose {
		step.Do, step.Old = Replace, p.expectFile(old, path...)
	} else {
		p.expect = append(p.expect, expectation{path, nil})
	}
	p.files = append(p.files, step)
}

func (p *Plan) makeDir(path ...string) {
	for _, s := range p.files {
		if s.Do == MakeDir && strings.Join(s.Path, "/") == strings.Join(path, "/") {
			return
		}
	}
	p.files = append(p.files, Step{Do: MakeDir, Path: path, Mode: 0o755})
}

// expectFile notes that a file has to be what it was when it was read, and gives the sum of that.
func (p *Plan) expectFile(r ref, path ...string) [sha256.Size]byte {
	p.expect = append(p.expect, expectation{path, r.sum})
	if r.sum == nil {
		return [sha256.Size]byte{} // which nothing has
	}
	return [sha256.Size]byte(r.sum)
}

// found adds what makes a new git directory one. Its config is ours: git's defaults and the hash function.
func (p *Plan) found() {
	r := p.r
	first := []Step{{Do: MakeDir, Mode: 0o755}, {Do: MakeDir, Path: []string{"refs"}, Mode: 0o755}, {Do: MakeDir, Path: []string{"refs", "heads"}, Mode: 0o755}}
	config := "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tlogallrefupdates = true\n"
	if r.format != sha1Format {
		config = "[core]\n\trepositoryformatversion = 1\n\tfilemode = true\n\tlogallrefupdates = true\n[extensions]\n\tobjectformat = " + r.format.name + "\n"
	}
	first = append(first, Step{Do: Create, Path: []string{"config"}, Content: []byte(config), Mode: 0o644})
	var lines []string
	for _, o := range p.objects {
		if r.boundary[o.id] {
			lines = append(lines, o.id.String()+"\n")
		}
	}
	if len(lines) > 0 {
		first = append(first, Step{Do: Create, Path: []string{"shallow"}, Content: []byte(strings.Join(lines, "")), Mode: 0o644})
	}
	p.files = append(first, p.files...)
	p.expect = nil
}

// findPlace looks whether the host's git directory has what the steps need.
func (p *Plan) findPlace() error {
	for _, s := range p.files {
		if s.Do != Create {
			continue
		}
		d, err := reach(p.r.lower.dir, s.Path[:len(s.Path)-1]...)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		_, err = d.Kind(s.Path[len(s.Path)-1])
		if d != p.r.lower.dir {
			d.Close()
		}
		if err == nil {
			return fmt.Errorf("%w: %s is in the way", ErrConflict, shown(strings.Join(s.Path, "/")))
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	// A packed value counts as long as there is no file.
	p.expect = append(p.expect, expectation{[]string{"packed-refs"}, sum(p.r.lower.refs.packed)})
	return nil
}

// closure finds every object that the wanted ones reach and the host lacks, and checks commits, trees and tags.
// Blobs are found here and compared with their names when they are written.
func (p *Plan) closure(want []taken) error {
	r := p.r
	seen := map[ID]*taken{}
	var stack []*taken
	push := func(t taken) error {
		if known := seen[t.id]; known != nil {
			if t.kind != 0 && known.kind != 0 && t.kind != known.kind {
				return malformed("%s is named as two types of object", t.id.short())
			}
			known.special |= t.special
			return nil
		}
		if len(t.id) != r.format.size {
			return malformed("a ref without a commit")
		}
		has, err := r.lower.store.has(t.id)
		if err != nil {
			return err
		}
		if has {
			// Taken before, it may have been under a name that means nothing to git.
			return p.checkSpecial(r.lower.store, t)
		}
		if len(seen) == maxTaken {
			return tooMuch("more than %d new objects", maxTaken)
		}
		seen[t.id] = &t
		stack = append(stack, &t)
		return nil
	}
	for _, t := range want {
		if t.kind == commitType {
			// Also one that the host has must be a commit to be a branch's tip.
			if _, err := r.readCommit(t.id); err != nil {
				return err
			}
		}
		if err := push(t); err != nil {
			return err
		}
	}
	for len(stack) > 0 {
		t := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if err := p.locate(t); err != nil {
			return err
		}
		if t.kind == blobType {
			continue
		}
		if t.kind == 0 {
			kind, _, rd, err := r.merged.store.open(t.id)
			if err != nil {
				return err
			}
			if c, ok := rd.(*closing); ok {
				c.abandon()
			}
			if t.kind = kind; kind == blobType {
				continue
			}
		}
		o, err := r.merged.store.read(t.id)
		if err != nil {
			return fmt.Errorf("%s %s: %w", t.kind, t.id.short(), err)
		}
		if o.kind != t.kind {
			return malformed("%s is no %s", t.id.short(), t.kind)
		}
		if err := p.check(o, t.id, push); err != nil {
			return err
		}
	}
	for _, t := range seen {
		p.objects = append(p.objects, *t)
	}
	// In the order of the guest's packs, where an object lies near what it is a delta of.
	sort.Slice(p.objects, func(i, k int) bool {
		a, b := &p.objects[i], &p.objects[k]
		switch {
		case a.pack != b.pack:
			return a.pack < b.pack
		case a.offset != b.offset:
			return a.offset < b.offset
		}
		return a.id < b.id
	})
	return nil
}

// locate finds an object in the guest's repository and remembers where.
func (p *Plan) locate(t *taken) error {
	at, err := p.r.merged.store.find(t.id)
	if err != nil {
		return fmt.Errorf("%s %s: %w", cmpText(t.kind.String(), "object"), t.id.short(), err)
	}
	t.offset = at.offset
	for i, pack := range p.r.merged.store.packs {
		if pack == at.pack {
			t.pack = i + 1
		}
	}
	return nil
}

func (p *Plan) check(o object, id ID, push func(taken) error) error {
	f := p.r.format
	switch o.kind {
	case commitType:
		c, err := f.parseCommit(o.data)
		if err != nil {
			return err
		}
		// An old history has such commits, and they harm nobody; into the user's own nothing comes that fsck minds.
		if c.faults != "" && !p.r.isNew {
			return malformed("commit %s has %s", id.short(), c.faults)
		}
		if err := push(taken{id: c.tree, kind: treeType}); err != nil {
			return err
		}
		if p.r.boundary[id] {
			return nil
		}
		for _, parent := range c.parents {
			if err := push(taken{id: parent, kind: commitType}); err != nil {
				return err
			}
		}
	case treeType:
		entries, err := f.parseTree(o.data)
		if err != nil {
			return err
		}
		names := make(map[string]bool, len(entries))
		for _, e := range entries {
			if why := harmful(e.name, e.mode); why != "" {
				return malformed("tree %s has %s", id.short(), why)
			}
			if e.zero && !p.r.isNew {
				return malformed("tree %s has a mode that begins with a zero", id.short())
			}
			if names[e.name] {
				return malformed("tree %s has a name twice", id.short())
			}
			names[e.name] = true
			kind := blobType
			switch {
			case e.isSub():
				continue
			case e.isDir():
				kind = treeType
			}
			if err := push(taken{id: e.id, kind: kind, special: specialOf(e.name)}); err != nil {
				return err
			}
		}
	case tagType:
		target, kind, err := f.tagTarget(o.data)
		if err != nil {
			return err
		}
		return push(taken{id: target, kind: kind})
	}
	return nil
}

// Objects tells how many the pack will have; without any there is no pack.
func (p *Plan) Objects() int { return len(p.objects) }

// counted writes to a pack: bytes, their hash, and of each entry its checksum.
type counted struct {
	w   *bufio.Writer
	all hash.Hash
	crc hash.Hash32
	n   int64
}

func (c *counted) Write(b []byte) (int, error) {
	if c.n += int64(len(b)); c.n > maxPackBytes {
		return 0, tooMuch("new objects of more than %d bytes", int64(maxPackBytes))
	}
	c.all.Write(b)
	c.crc.Write(b)
	return c.w.Write(b)
}

// WritePack writes the pack of all objects, each read again and compared with its name. It comes before Steps.
func (p *Plan) WritePack(w io.Writer) error {
	if len(p.objects) == 0 {
		return errors.New("there is nothing to pack")
	}
	f := p.r.format
	out := &counted{w: bufio.NewWriterSize(w, 64<<10), all: f.new(), crc: crc32.NewIEEE()}
	head := append([]byte("PACK"), 0, 0, 0, 2)
	if _, err := out.Write(binary.BigEndian.AppendUint32(head, uint32(len(p.objects)))); err != nil {
		return err
	}
	lines := make([]packLine, 0, len(p.objects))
	z := zlib.NewWriter(out)
	for _, t := range p.objects {
		offset := out.n
		out.crc.Reset()
		if err := p.writeObject(out, z, t); err != nil {
			return fmt.Errorf("%s %s: %w", t.kind, t.id.short(), err)
		}
		lines = append(lines, packLine{t.id, offset, out.crc.Sum32()})
	}
	trailer := out.all.Sum(nil)
	if _, err := out.w.Write(trailer); err != nil {
		return err
	}
	if err := out.w.Flush(); err != nil {
		return err
	}
	p.packName = "pack-" + ID(trailer).String()
	p.packIndex = f.writePackIndex(lines, trailer)
	return nil
}

func (p *Plan) writeObject(out *counted, z *zlib.Writer, t taken) error {
	kind, size, r, err := p.r.merged.store.open(t.id)
	if err != nil {
		return err
	}
	if c, ok := r.(*closing); ok {
		defer c.abandon()
	}
	if kind != t.kind {
		return malformed("it is a %s", kind)
	}
	if kind == blobType && t.special != 0 {
		b, err := readSpecial(r, size, t.special)
		if err != nil {
			return err
		}
		r = bytes.NewReader(b)
	}
	head := []byte{byte(kind)<<4 | byte(size&15)}
	for rest := size >> 4; rest > 0; rest >>= 7 {
		head[len(head)-1] |= 0x80
		head = append(head, byte(rest&0x7f))
	}
	if _, err := out.Write(head); err != nil {
		return err
	}
	z.Reset(out)
	h := p.r.format.hasher(kind, size)
	n, err := io.Copy(io.MultiWriter(z, h), r)
	if err != nil {
		return err
	}
	if n != size || ID(h.Sum(nil)) != t.id {
		return malformed("other content than its name says")
	}
	return z.Close()
}

// checkSpecial reads what stands under a name that git obeys.
func (p *Plan) checkSpecial(from *store, t taken) error {
	if t.kind != blobType || t.special == 0 {
		return nil
	}
	kind, size, r, err := from.open(t.id)
	if err != nil {
		return err
	}
	if c, ok := r.(*closing); ok {
		defer c.abandon()
	}
	if kind != blobType {
		return malformed("%s is a %s", t.id.short(), kind)
	}
	_, err = readSpecial(r, size, t.special)
	return err
}

func readSpecial(r io.Reader, size int64, special special) ([]byte, error) {
	if size > 1<<20 {
		return nil, tooMuch(".gitmodules or .gitattributes has more than 1 MiB")
	}
	b, err := readSized(r, size)
	if err != nil {
		return nil, err
	}
	if why := harmfulModules(b); why != "" && special&modulesFile != 0 {
		return nil, malformed(".gitmodules has %s", why)
	}
	if why := harmfulAttributes(b); why != "" && special&attributesFile != 0 {
		return nil, malformed(".gitattributes has %s", why)
	}
	return b, nil
}

type packLine struct {
	id     ID
	offset int64
	crc    uint32
}

// writePackIndex writes version 2 of gitformat-pack's index.
func (f *format) writePackIndex(lines []packLine, trailer []byte) []byte {
	sort.Slice(lines, func(i, k int) bool { return lines[i].id < lines[k].id })
	out := []byte("\xfftOc\x00\x00\x00\x02")
	n := 0
	for first := range 256 {
		for n < len(lines) && int(lines[n].id[0]) == first {
			n++
		}
		out = binary.BigEndian.AppendUint32(out, uint32(n))
	}
	for _, l := range lines {
		out = append(out, l.id...)
	}
	for _, l := range lines {
		out = binary.BigEndian.AppendUint32(out, l.crc)
	}
	var bigger []byte
	for _, l := range lines {
		if l.offset < 1<<31 {
			out = binary.BigEndian.AppendUint32(out, uint32(l.offset))
			continue
		}
		out = binary.BigEndian.AppendUint32(out, 1<<31|uint32(len(bigger)/8))
		bigger = binary.BigEndian.AppendUint64(bigger, uint64(l.offset))
	}
	out = append(append(out, bigger...), trailer...)
	h := f.new()
	h.Write(out)
	return h.Sum(out)
}

// Steps gives what is to be done, objects first, HEAD last.
func (p *Plan) Steps() ([]Step, error) {
	var objects []Step
	if len(p.objects) > 0 {
		if p.packName == "" {
			return nil, errors.New("the pack is not written yet")
		}
		at := func(ext string) []string { return []string{"objects", "pack", p.packName + ext} }
		objects = []Step{
			{Do: Create, Path: at(".pack"), Pack: true, Mode: 0o444, Stays: !p.r.isNew},
			{Do: Create, Path: at(".idx"), Content: p.packIndex, Mode: 0o444, Stays: !p.r.isNew},
		}
	}
	dirs := []Step{{Do: MakeDir, Path: []string{"objects"}, Mode: 0o755}, {Do: MakeDir, Path: []string{"objects", "pack"}, Mode: 0o755}}
	if p.r.isNew {
		// The git directory itself comes first.
		return append(append(append(p.files[:1:1], dirs...), objects...), p.files[1:]...), nil
	}
	return append(append(dirs, objects...), p.files...), nil
}

// Verify compares the host's git directory, opened anew under the folder's lock, with what the plan was made from.
func (p *Plan) Verify(lower Dir) error {
	for _, e := range p.expect {
		b, err := slurp(lower, maxIndex, e.path...)
		if err != nil || !bytes.Equal(sum(b), e.sum) {
			return fmt.Errorf("%w: %s was changed in the folder meanwhile", ErrConflict, shown(strings.Join(e.path, "/")))
		}
	}
	for _, s := range p.files {
		if s.Lock == "" {
			continue
		}
		path := append(append([]string{}, s.Path[:len(s.Path)-1]...), s.Lock)
		d, err := reach(lower, path[:len(path)-1]...)
		if err != nil {
			continue // the folder is made by the plan
		}
		_, err = d.Kind(s.Lock)
		if d != lower {
			d.Close()
		}
		if err == nil {
			return fmt.Errorf("%w: git is at work in the folder: %s is there", ErrConflict, shown(strings.Join(path, "/")))
		}
	}
	return nil
}
