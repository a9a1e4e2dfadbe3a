//go:build linux

package view_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloche/share/internal/hostfs"
	"cloche/share/internal/layer"
	"cloche/share/internal/names"
	"cloche/share/internal/ninep"
	"cloche/share/internal/view"
	"cloche/share/internal/wire"
)

var (
	seedFlag  = flag.Uint64("model.seed", 0, "seed of the model test; 0: one of the clock's")
	stepsFlag = flag.Int("model.steps", 4000, "operations of the model test")
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rig is a folder, a layer, and the view of both.
type rig struct {
	t           testing.TB
	root, layer string
	rw          bool
	options     func(*view.Options)
	rules       *names.Rules // of newRW; nil: the table alone

	l     *layer.Layer
	lower *hostfs.Tree
	tree  *view.Tree
	fds   []int // given to lower, whose process would have them for good
}

func newRig(t testing.TB) *rig {
	t.Helper()
	base := t.TempDir()
	r := &rig{t: t, root: filepath.Join(base, "folder"), layer: filepath.Join(base, "layer")}
	must(t, os.Mkdir(r.root, 0o755))
	must(t, os.Mkdir(r.layer, 0o700))
	return r
}

func openDir(t testing.TB, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	return fd
}

// mount opens folder and layer afresh.
func (r *rig) mount() {
	r.t.Helper()
	must(r.t, r.tryMount())
	r.t.Cleanup(r.unmount)
}

func (r *rig) tryMount() error {
	// Read-only where nothing may reach the folder: any attempt is an error that the model does not expect.
	r.fds = []int{openDir(r.t, r.root), openDir(r.t, "/proc/self/fd")}
	lower, err := hostfs.New(hostfs.Options{Root: r.fds[0], Proc: r.fds[1], ReadOnly: !r.rw, UID: 1000, GID: 1000})
	if err != nil {
		return err
	}
	root := lower.Root().(view.Object)
	defer root.Drop()
	base, err := view.Identity(root, "")
	if err != nil {
		return err
	}
	l, err := layer.Open(openDir(r.t, r.layer), *base, root.QID().Path)
	if err != nil {
		return err
	}
	o := view.Options{Lower: lower, Layer: l, UID: 1000, GID: 1000}
	if r.options != nil {
		r.options(&o)
	}
	tree, err := view.New(o)
	if err != nil {
		l.Close()
		return err
	}
	r.lower, r.l, r.tree = lower, l, tree
	return nil
}

func (r *rig) unmount() {
	if r.l != nil {
		r.l.Close()
		r.l = nil
	}
	for _, fd := range r.fds {
		unix.Close(fd)
	}
	r.fds = nil
}

func (r *rig) remount() {
	r.t.Helper()
	r.unmount()
	must(r.t, r.tryMount())
}

// at walks to a path; the caller drops what it gets.
func (r *rig) at(path string) (ninep.Node, error) {
	n := r.tree.Root()
	for _, name := range layer.Components(path) {
		next, err := n.Walk(name)
		n.Drop()
		if err != nil {
			return nil, err
		}
		n = next
	}
	return n, nil
}

// seen is what the guest sees of one object.
type seen struct {
	kind    uint8
	data    string // bytes, or a link's text
	mode    uint32
	mtime   wire.Time
	qid     uint64
	nlink   uint64
	mayFail error
}

func readFile(n ninep.Node) (string, error) {
	f, err := n.Open(0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return readOpen(f)
}

func readOpen(f ninep.File) (string, error) {
	var all []byte
	b := make([]byte, 4096)
	for {
		n, err := f.ReadAt(b, int64(len(all)))
		if err != nil {
			return "", err
		}
		if n == 0 {
			return string(all), nil
		}
		all = append(all, b[:n]...)
	}
}

// list gives a directory's names but the dots, read in pieces of count bytes.
func list(n ninep.Node, count int) (map[string]wire.QID, error) {
	f, err := n.Open(0o200000)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names := map[string]wire.QID{}
	for cookie := uint64(0); ; {
		got, err := f.ReadDir(make([]byte, 0, count), cookie)
		if err != nil {
			return nil, err
		}
		entries, err := wire.Dirents(got)
		if err != nil {
			return nil, err
		}
		if len(entries) == 0 {
			break
		}
		for _, e := range entries {
			if _, twice := names[e.Name]; twice {
				return nil, fmt.Errorf("%s is listed twice", e.Name)
			}
			names[e.Name] = e.QID
			cookie = e.Offset
		}
	}
	for _, dot := range []string{".", ".."} {
		if _, there := names[dot]; !there {
			return nil, fmt.Errorf("%s is not listed", dot)
		}
		delete(names, dot)
	}
	return names, nil
}

// picture is everything that the guest sees, by path.
func (r *rig) picture() map[string]seen {
	r.t.Helper()
	all := map[string]seen{}
	root := r.tree.Root()
	defer root.Drop()
	r.pictureBelow(root, "", all)
	return all
}

func (r *rig) pictureBelow(n ninep.Node, path string, all map[string]seen) {
	r.t.Helper()
	a, err := n.Attr()
	if err != nil {
		r.t.Fatalf("getattr of %q: %v", path, err)
	}
	s := seen{kind: n.QID().Type, mode: a.Mode & 0o777, mtime: a.Mtime, qid: n.QID().Path, nlink: a.Nlink}
	if a.QID != n.QID() {
		r.t.Fatalf("%q: getattr tells qid %v, the walk %v", path, a.QID, n.QID())
	}
	switch s.kind {
	case wire.QTFile:
		if s.data, err = readFile(n); err != nil {
			r.t.Fatalf("read of %q: %v", path, err)
		}
		if uint64(len(s.data)) != a.Size {
			r.t.Fatalf("%q: size %d, %d bytes", path, a.Size, len(s.data))
		}
	case wire.QTSymlink:
		if s.data, err = n.Readlink(); err != nil {
			r.t.Fatalf("readlink of %q: %v", path, err)
		}
	case wire.QTDir:
		names, err := list(n, 400+len(all)%7*1000)
		if err != nil {
			r.t.Fatalf("list of %q: %v", path, err)
		}
		for name, qid := range names {
			child, err := n.Walk(name)
			if err != nil {
				r.t.Fatalf("%q is listed, and its walk says %v", layer.Join(path, name), err)
			}
			if child.QID() != qid {
				r.t.Errorf("%q is listed with qid %v, and walked with %v", layer.Join(path, name), qid, child.QID())
			}
			r.pictureBelow(child, layer.Join(path, name), all)
			child.Drop()
		}
	}
	all[path] = s
}

// hashFolder tells everything about the folder on the host but the times of reading.
func hashFolder(t testing.TB, root string) string {
	t.Helper()
	h := sha256.New()
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		fmt.Fprintln(h, path, st.Ino, st.Mode, st.Size, st.Nlink, st.Mtim, st.Ctim)
		if st.Mode&unix.S_IFMT == unix.S_IFREG {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			h.Write(data)
		}
		return nil
	}))
	return fmt.Sprintf("%x", h.Sum(nil))
}

// thing is an object of the model.
type thing struct {
	kind    uint8
	data    []byte
	text    string
	mode    uint32
	mtime   wire.Time // zero: not known
	names   map[string]*thing
	up      *thing
	qid     uint64 // zero until it was seen
	xattrs  map[string]string
	links   int
	handles int
}

func newThing(kind uint8, mode uint32, up *thing) *thing {
	t := &thing{kind: kind, mode: mode, up: up, links: 1, xattrs: map[string]string{}}
	if kind == wire.QTDir {
		t.names = map[string]*thing{}
	}
	return t
}

func (m *thing) below(other *thing) bool {
	for at := m; at != nil; at = at.up {
		if at == other {
			return true
		}
	}
	return false
}

// modelFromFolder reads what the folder has.
func modelFromFolder(t testing.TB, path string, up *thing) *thing {
	t.Helper()
	info, err := os.Lstat(path)
	must(t, err)
	m := newThing(wire.QTFile, uint32(info.Mode().Perm()), up)
	switch {
	case info.IsDir():
		m.kind, m.names = wire.QTDir, map[string]*thing{}
		entries, err := os.ReadDir(path)
		must(t, err)
		for _, e := range entries {
			m.names[e.Name()] = modelFromFolder(t, filepath.Join(path, e.Name()), m)
		}
	case info.Mode()&fs.ModeSymlink != 0:
		m.kind = wire.QTSymlink
		m.text, err = os.Readlink(path)
		must(t, err)
	default:
		m.data, err = os.ReadFile(path)
		must(t, err)
	}
	return m
}

// game plays the same operations on the view and on the model.
type game struct {
	*rig
	rand *rand.Rand
	top  *thing
	open []*handle
	step int
	last string
}

type handle struct {
	node  ninep.Node
	file  ninep.File
	of    *thing
	write bool
}

func (g *game) fail(format string, args ...any) {
	g.t.Helper()
	g.t.Fatalf("step %d (%s): %s", g.step, g.last, fmt.Sprintf(format, args...))
}

var modelNames = []string{"a", "b", "c", "d", "e", "f", "ä", "long-" + strings.Repeat("x", 200)}

func (g *game) name() string { return modelNames[g.rand.IntN(len(modelNames))] }

func (g *game) bytes() []byte {
	b := make([]byte, g.rand.IntN(6000))
	for i := range b {
		b[i] = byte('a' + g.rand.IntN(26))
	}
	return b
}

// dir picks a directory with its node.
func (g *game) dir() (*thing, ninep.Node, string) {
	at, path := g.top, ""
	n := g.tree.Root()
	for g.rand.IntN(4) > 0 {
		var names []string
		for name, m := range at.names {
			if m.kind == wire.QTDir {
				names = append(names, name)
			}
		}
		if len(names) == 0 {
			break
		}
		sort.Strings(names)
		name := names[g.rand.IntN(len(names))]
		next, err := n.Walk(name)
		if err != nil {
			g.fail("walk to %q: %v", layer.Join(path, name), err)
		}
		n.Drop()
		n, at, path = next, at.names[name], layer.Join(path, name)
	}
	return at, n, path
}

// agree holds a result against the model's.
func (g *game) agree(got, want error) bool {
	g.t.Helper()
	if !errors.Is(got, want) && got != want {
		g.fail("the view says %v, the model %v", got, want)
	}
	return want == nil
}

func (g *game) sawQID(m *thing, qid wire.QID) {
	g.t.Helper()
	if qid.Type != m.kind {
		g.fail("a %x has qid %v", m.kind, qid)
	}
	if m.qid == 0 {
		m.qid = qid.Path
	} else if m.qid != qid.Path {
		g.fail("the qid was %x and is %x", m.qid, qid.Path)
	}
}

func (g *game) play() {
	g.step++
	m, n, path := g.dir()
	defer n.Drop()
	name := g.name()
	there := m.names[name]
	what := g.rand.IntN(100)
	g.last = fmt.Sprintf("%d at %q/%q", what, path, name)
	switch {
	case what < 18: // create
		g.last = "create " + g.last
		flags := uint32(2 | 0o100)
		if g.rand.IntN(3) == 0 {
			flags |= 0o200
		}
		mode := uint32(0o600 | g.rand.IntN(0o200))
		child, f, err := n.Create(name, flags, mode)
		switch {
		case there == nil:
			if g.agree(err, nil) {
				there = newThing(wire.QTFile, mode, m)
				m.names[name] = there
			}
		case flags&0o200 != 0:
			g.agree(err, syscall.EEXIST)
			return
		case there.kind == wire.QTDir:
			g.agree(err, syscall.EISDIR)
			return
		case there.kind == wire.QTSymlink:
			g.agree(err, syscall.ELOOP)
			return
		default:
			g.agree(err, nil)
		}
		g.sawQID(there, child.QID())
		h := &handle{child, f, there, true}
		there.handles++
		if g.rand.IntN(2) == 0 {
			g.write(h)
		}
		g.open = append(g.open, h)
	case what < 30: // open
		g.last = "open " + g.last
		if there == nil || there.kind != wire.QTFile {
			return
		}
		child, err := n.Walk(name)
		g.agree(err, nil)
		g.sawQID(there, child.QID())
		flags := uint32(g.rand.IntN(3))
		if flags == 1 {
			flags = 2
		}
		if flags != 0 && g.rand.IntN(3) == 0 {
			flags |= 0o1000
		}
		f, err := child.Open(flags)
		g.agree(err, nil)
		if flags&0o1000 != 0 {
			there.data = nil
			there.mtime = wire.Time{}
		}
		there.handles++
		g.open = append(g.open, &handle{child, f, there, flags != 0})
	case what < 50: // use of what is open
		g.last = "handle " + g.last
		if len(g.open) == 0 {
			return
		}
		h := g.open[g.rand.IntN(len(g.open))]
		if h.write && g.rand.IntN(3) > 0 {
			g.write(h)
		} else {
			g.read(h)
		}
	case what < 58: // close
		g.last = "close " + g.last
		if len(g.open) > 0 {
			g.close(g.rand.IntN(len(g.open)))
		}
	case what < 65: // mkdir
		g.last = "mkdir " + g.last
		mode := uint32(0o700 | g.rand.IntN(0o100))
		qid, err := n.Mkdir(name, mode)
		if there != nil {
			g.agree(err, syscall.EEXIST)
		} else if g.agree(err, nil) {
			m.names[name] = newThing(wire.QTDir, mode, m)
			g.sawQID(m.names[name], qid)
		}
	case what < 69: // symlink
		g.last = "symlink " + g.last
		text := "../" + string(g.bytes()[:0]) + g.name() + "/" + g.name()
		qid, err := n.Symlink(name, text)
		if there != nil {
			g.agree(err, syscall.EEXIST)
		} else if g.agree(err, nil) {
			m.names[name] = newThing(wire.QTSymlink, 0o777, m)
			m.names[name].text = text
			g.sawQID(m.names[name], qid)
		}
	case what < 79: // unlink, rmdir
		g.last = "unlink " + g.last
		directory := g.rand.IntN(4) == 0
		if there != nil && g.rand.IntN(8) > 0 {
			directory = there.kind == wire.QTDir
		}
		err := n.Unlink(name, directory)
		switch {
		case there == nil:
			g.agree(err, syscall.ENOENT)
		case there.kind == wire.QTDir && !directory:
			g.agree(err, syscall.EISDIR)
		case there.kind != wire.QTDir && directory:
			g.agree(err, syscall.ENOTDIR)
		case directory && len(there.names) > 0:
			g.agree(err, syscall.ENOTEMPTY)
		case g.agree(err, nil):
			delete(m.names, name)
			there.links--
		}
	case what < 90: // rename
		to, toNode, toPath := g.dir()
		defer toNode.Drop()
		newName := g.name()
		g.last = fmt.Sprintf("rename %q/%q to %q/%q", path, name, toPath, newName)
		victim := to.names[newName]
		err := n.Rename(name, toNode, newName)
		switch {
		case there == nil:
			g.agree(err, syscall.ENOENT)
		case there == victim:
			g.agree(err, nil)
		case there.kind == wire.QTDir && to.below(there):
			g.agree(err, syscall.EINVAL)
		case victim != nil && there.kind == wire.QTDir && victim.kind != wire.QTDir:
			g.agree(err, syscall.ENOTDIR)
		case victim != nil && there.kind != wire.QTDir && victim.kind == wire.QTDir:
			g.agree(err, syscall.EISDIR)
		case victim != nil && len(victim.names) > 0:
			g.agree(err, syscall.ENOTEMPTY)
		case err == syscall.EXDEV && there.kind == wire.QTDir && there.qid&(1<<62) == 0:
			// one of the folder's, to a place that has to keep what was deleted there
		case g.agree(err, nil):
			if victim != nil {
				victim.links--
			}
			delete(m.names, name)
			to.names[newName], there.up = there, to
		}
	case what < 95: // attributes
		g.last = "setattr " + g.last
		if there == nil {
			return
		}
		child, err := n.Walk(name)
		g.agree(err, nil)
		defer child.Drop()
		g.sawQID(there, child.QID())
		switch g.rand.IntN(3) {
		case 0:
			if there.kind == wire.QTSymlink {
				g.agree(child.SetAttr(wire.SetAttr{Valid: wire.SetMode, Mode: 0o600}, nil), syscall.EOPNOTSUPP)
				return
			}
			mode := uint32(0o700 &^ (g.rand.IntN(8) << 3))
			g.agree(child.SetAttr(wire.SetAttr{Valid: wire.SetMode, Mode: mode}, nil), nil)
			there.mode = mode
		case 1:
			at := wire.Time{Sec: 1_000_000_000 + uint64(g.rand.IntN(1e8)), Nsec: uint64(g.rand.IntN(1e9))}
			g.agree(child.SetAttr(wire.SetAttr{Valid: wire.SetMtime | wire.SetMtimeTo, Mtime: at}, nil), nil)
			if there.kind != wire.QTDir {
				there.mtime = at
			}
		case 2:
			if there.kind != wire.QTFile {
				return
			}
			size := g.rand.IntN(8000)
			g.agree(child.SetAttr(wire.SetAttr{Valid: wire.SetSize, Size: uint64(size)}, nil), nil)
			there.data = append(append([]byte{}, there.data...), make([]byte, max(0, size-len(there.data)))...)[:size]
			there.mtime = wire.Time{}
		}
	case what < 97: // xattr
		g.last = "xattr " + g.last
		if there == nil || there.kind == wire.QTSymlink {
			return
		}
		child, err := n.Walk(name)
		g.agree(err, nil)
		defer child.Drop()
		value := fmt.Sprint(g.step)
		if err := child.SetXattr("user.model", []byte(value), 0); err == syscall.EOPNOTSUPP {
			return
		} else if g.agree(err, nil) {
			there.xattrs["user.model"] = value
		}
		got, err := child.GetXattr("user.model")
		if err != nil || string(got) != value {
			g.fail("xattr %q, %v", got, err)
		}
	case what < 99:
		g.last = "check"
		if g.step%5 == 0 {
			g.check()
		}
	default:
		g.last = "remount"
		g.reopen()
	}
}

func (g *game) write(h *handle) {
	g.t.Helper()
	data := g.bytes()
	at := g.rand.IntN(len(h.of.data) + 100)
	n, err := h.file.WriteAt(data, int64(at))
	if err != nil || n != len(data) {
		g.fail("write: %d, %v", n, err)
	}
	if len(data) == 0 {
		return
	}
	if grow := at + len(data) - len(h.of.data); grow > 0 {
		h.of.data = append(append([]byte{}, h.of.data...), make([]byte, grow)...)
	}
	copy(h.of.data[at:], data)
	h.of.mtime = wire.Time{}
}

func (g *game) read(h *handle) {
	g.t.Helper()
	got, err := readOpen(h.file)
	if err != nil || got != string(h.of.data) {
		g.fail("an open file (%d names) has %d bytes, %v; the model %d", h.of.links, len(got), err, len(h.of.data))
	}
	a, err := h.node.Attr()
	if err != nil || a.Size != uint64(len(h.of.data)) {
		g.fail("getattr of an open file: %d, %v; the model %d", a.Size, err, len(h.of.data))
	}
}

func (g *game) close(i int) {
	h := g.open[i]
	g.open = append(g.open[:i], g.open[i+1:]...)
	g.read(h)
	h.of.handles--
	h.file.Close()
	h.node.Drop()
}

func (g *game) closeAll() {
	for len(g.open) > 0 {
		g.close(0)
	}
}

func (g *game) reopen() {
	g.t.Helper()
	g.closeAll()
	g.remount()
	g.check()
}

// check compares all that the guest sees with the model.
func (g *game) check() {
	g.t.Helper()
	got := g.picture()
	byQID := map[uint64]string{}
	want := map[string]*thing{}
	var visit func(m *thing, path string)
	visit = func(m *thing, path string) {
		want[path] = m
		for name, child := range m.names {
			visit(child, layer.Join(path, name))
		}
	}
	visit(g.top, "")
	for path, m := range want {
		s, there := got[path]
		if !there {
			g.fail("%q is not there", path)
		}
		if s.kind != m.kind {
			g.fail("%q is %x, in the model %x", path, s.kind, m.kind)
		}
		if m.kind == wire.QTFile && s.data != string(m.data) {
			g.fail("%q has %d bytes, in the model %d, or others", path, len(s.data), len(m.data))
		}
		if m.kind == wire.QTSymlink && s.data != m.text {
			g.fail("%q leads to %q, in the model to %q", path, s.data, m.text)
		}
		if m.kind != wire.QTSymlink && s.mode != m.mode {
			g.fail("%q has mode %o, in the model %o", path, s.mode, m.mode)
		}
		if m.mtime != (wire.Time{}) && s.mtime != m.mtime {
			g.fail("%q is of %v, in the model of %v", path, s.mtime, m.mtime)
		}
		g.sawQID(m, wire.QID{Type: s.kind, Path: s.qid})
		if other, twice := byQID[s.qid]; twice && want[other] != m {
			g.fail("%q and %q have one qid %x", path, other, s.qid)
		}
		byQID[s.qid] = path
		if m.kind == wire.QTFile && s.nlink != uint64(m.links) {
			g.fail("%q has %d links, in the model %d", path, s.nlink, m.links)
		}
		if value, set := m.xattrs["user.model"]; set {
			n, err := g.at(path)
			must(g.t, err)
			got, err := n.GetXattr("user.model")
			n.Drop()
			if err != nil || string(got) != value {
				g.fail("%q: attribute %q, %v; in the model %q", path, got, err, value)
			}
		}
	}
	for path := range got {
		if want[path] == nil {
			g.fail("%q is there, and not in the model", path)
		}
	}
}

// fillFolder gives the folder something of every kind.
func fillFolder(t testing.TB, root string, r *rand.Rand) {
	t.Helper()
	var fill func(dir string, depth int)
	fill = func(dir string, depth int) {
		for _, name := range modelNames {
			path := filepath.Join(dir, name)
			switch k := r.IntN(6); {
			case k < 2:
				must(t, os.WriteFile(path, bytes.Repeat([]byte(name), r.IntN(3000)), 0o644))
			case k == 2:
				must(t, os.Symlink("../x/"+name, path))
			case k < 5 && depth > 0:
				must(t, os.Mkdir(path, 0o755))
				fill(path, depth-1)
			}
		}
	}
	fill(root, 3)
}

func newGame(t *testing.T, seed uint64) *game {
	t.Helper()
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed: -model.seed=%d", seed)
	g := &game{rig: newRig(t), rand: rand.New(rand.NewPCG(seed, 9))}
	fillFolder(t, g.root, g.rand)
	g.top = modelFromFolder(t, g.root, nil)
	return g
}

// rounds is how often a game is played: in a long run more often, each time with another seed.
func rounds(often, long int) int {
	if os.Getenv("CLOCHE_LONG") != "" {
		return long
	}
	return often
}

func TestTheGuestSeesAnOrdinaryFilesystemAndTheFolderStaysAsItIs(t *testing.T) {
	for round := range rounds(2, 200) {
		t.Run(fmt.Sprint("game ", round), func(t *testing.T) {
			g := newGame(t, *seedFlag)
			before := hashFolder(t, g.root)
			g.mount()
			g.check()
			for range *stepsFlag / 4 {
				g.play()
			}
			g.reopen()
			if hashFolder(t, g.root) != before {
				t.Error("the folder was changed")
			}
			g.unmount()
		})
	}
}
