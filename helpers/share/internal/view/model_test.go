//go:build linux

package view

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"cloche/share/internal/hostfs"
	"cloche/share/internal/layer"
	"cloche/share/internal/ninep"
	"cloche/share/internal/wire"
)

// world is a folder on the host with a view over it.
type world struct {
	t          testing.TB
	dir, kept  string
	lower      *hostfs.Tree
	layer      *layer.Layer
	tree       *Tree
	options    Options
	lowerWrite bool
	// hashed makes the folder's cookies large.
	hashed bool
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t testing.TB, lowerWrite bool, options Options) *world {
	w := &world{t: t, dir: t.TempDir(), kept: t.TempDir(), lowerWrite: lowerWrite, options: options}
	t.Cleanup(func() { w.close() })
	return w
}

func pathFD(t testing.TB, path string) int {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	return fd
}

// procFD is one for all games: nothing closes it, nor the folder's, and a long run has many games.
var procFD = sync.OnceValue(func() int {
	fd, err := unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	return fd
})

// mount opens the layer, as a server does that begins.
func (w *world) mount() {
	w.t.Helper()
	var err error
	w.lower, err = hostfs.New(hostfs.Options{Root: pathFD(w.t, w.dir), Proc: procFD(), ReadOnly: !w.lowerWrite, UID: 1000, GID: 1000})
	must(w.t, err)
	root := w.lower.Root().(Object)
	defer root.Drop()
	b, err := Identity(root, "")
	must(w.t, err)
	w.layer, err = layer.Open(pathFD(w.t, w.kept), *b, root.QID().Path)
	must(w.t, err)
	o := w.options
	o.Lower, o.Layer, o.UID, o.GID = w.lower, w.layer, 1000, 1000
	if w.hashed {
		o.Lower = hashed{w.lower}
	}
	w.tree, err = New(o)
	must(w.t, err)
}

func (w *world) close() {
	if w.layer != nil {
		w.layer.Close()
		w.layer = nil
	}
}

func (w *world) put(path, content string) {
	w.t.Helper()
	full := filepath.Join(w.dir, path)
	must(w.t, os.MkdirAll(filepath.Dir(full), 0o755))
	must(w.t, os.WriteFile(full, []byte(content), 0o644))
}

// at walks from the root; the caller drops it.
func (w *world) at(path string) (ninep.Node, error) {
	at := w.tree.Root()
	for _, name := range layer.Components(path) {
		next, err := at.Walk(name)
		at.Drop()
		if err != nil {
			return nil, err
		}
		at = next
	}
	return at, nil
}

func (w *world) in(path string, do func(dir ninep.Node, name string) error) error {
	dir, name := filepath.Split(path)
	n, err := w.at(strings.TrimSuffix(dir, "/"))
	if err != nil {
		return err
	}
	defer n.Drop()
	return do(n, name)
}

func (w *world) write(path, content string, flags uint32) error {
	return w.in(path, func(dir ninep.Node, name string) error {
		n, f, err := dir.Create(name, 2|flags, 0o644)
		if err != nil {
			return err
		}
		defer n.Drop()
		defer f.Close()
		_, err = f.WriteAt([]byte(content), 0)
		return err
	})
}

func (w *world) read(path string) (string, error) {
	n, err := w.at(path)
	if err != nil {
		return "", err
	}
	defer n.Drop()
	f, err := n.Open(0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return readAll(f)
}

func readAll(f ninep.File) (string, error) {
	var all []byte
	for b := make([]byte, 4096); ; {
		n, err := f.ReadAt(b, int64(len(all)))
		if err != nil || n == 0 {
			return string(all), err
		}
		all = append(all, b[:n]...)
	}
}

func (w *world) list(path string) (map[string]wire.Dirent, error) {
	n, err := w.at(path)
	if err != nil {
		return nil, err
	}
	defer n.Drop()
	f, err := n.Open(0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := map[string]wire.Dirent{}
	for cookie := uint64(0); ; {
		got, err := f.ReadDir(make([]byte, 0, 200), cookie)
		if err != nil {
			return nil, err
		}
		entries, err := wire.Dirents(got)
		if err != nil || len(entries) == 0 {
			return all, err
		}
		for _, d := range entries {
			if _, twice := all[d.Name]; twice {
				return nil, fmt.Errorf("%s is listed twice in %q", d.Name, path)
			}
			all[d.Name] = d
			cookie = d.Offset
		}
	}
}

// model is what a folder should look like.
type model struct {
	kind     layer.Kind
	mode     uint32
	data     string
	children map[string]*model
	folders  bool // a directory that the folder had from the beginning
}

func (m *model) find(path string) *model {
	for _, name := range layer.Components(path) {
		if m == nil || m.kind != layer.Directory {
			return nil
		}
		m = m.children[name]
	}
	return m
}

func newDirectory() *model {
	return &model{kind: layer.Directory, mode: 0o755, children: map[string]*model{}}
}

// hash is the whole folder of the host: names, kinds, modes, times and contents.
func hash(t testing.TB, dir string) string {
	h := sha256.New()
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(h, path, info.Mode(), info.ModTime().UnixNano())
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			h.Write(data)
		case info.Mode()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			fmt.Fprintln(h, target)
		}
		return nil
	}))
	return fmt.Sprintf("%x", h.Sum(nil))
}

// same compares what the guest sees with the model, and gives every path's qid.
func (w *world) same(m *model, path string, qids map[string]uint64) error {
	n, err := w.at(path)
	if err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	defer n.Drop()
	a, err := n.Attr()
	if err != nil {
		return fmt.Errorf("%q: attributes: %w", path, err)
	}
	qids[path] = a.QID.Path
	if a.QID != n.QID() {
		return fmt.Errorf("%q: two qids", path)
	}
	if m.kind != layer.Link && a.Mode&0o777 != m.mode {
		return fmt.Errorf("%q: mode %o, want %o", path, a.Mode&0o777, m.mode)
	}
	switch m.kind {
	case layer.Link:
		if a.Mode&unix.S_IFMT != unix.S_IFLNK {
			return fmt.Errorf("%q: no link", path)
		}
		if target, err := n.Readlink(); err != nil || target != m.data {
			return fmt.Errorf("%q: link to %q, %v, want %q", path, target, err, m.data)
		}
	case layer.File:
		if a.Mode&unix.S_IFMT != unix.S_IFREG || a.Size != uint64(len(m.data)) {
			return fmt.Errorf("%q: mode %o, size %d, want a file of %d", path, a.Mode, a.Size, len(m.data))
		}
		if got, err := w.read(path); err != nil || got != m.data {
			return fmt.Errorf("%q: %q, %v, want %q", path, got, err, m.data)
		}
	case layer.Directory:
		if a.Mode&unix.S_IFMT != unix.S_IFDIR {
			return fmt.Errorf("%q: no directory", path)
		}
		listed, err := w.list(path)
		if err != nil {
			return fmt.Errorf("%q: listing: %w", path, err)
		}
		delete(listed, ".")
		delete(listed, "..")
		var names []string
		for name := range m.children {
			names = append(names, name)
			d, there := listed[name]
			if !there {
				return fmt.Errorf("%q is not listed", layer.Join(path, name))
			}
			if want := map[layer.Kind]uint8{layer.File: unix.DT_REG, layer.Directory: unix.DT_DIR, layer.Link: unix.DT_LNK}[m.children[name].kind]; d.Type != want {
				return fmt.Errorf("%q is listed as %d", layer.Join(path, name), d.Type)
			}
		}
		if len(listed) != len(names) {
			return fmt.Errorf("%q: listed %v, want %v", path, listed, names)
		}
		sort.Strings(names)
		for _, name := range names {
			if err := w.same(m.children[name], layer.Join(path, name), qids); err != nil {
				return err
			}
		}
	}
	return nil
}

// step does one random thing to both and compares the errors.
func (w *world) step(r *rand.Rand, m *model) (string, error) {
	names := []string{"a", "b", "c", "dir", "sub", "x"}
	path := func() string {
		p := names[r.IntN(len(names))]
		for r.IntN(2) == 0 && len(p) < 12 {
			p = layer.Join(p, names[r.IntN(len(names))])
		}
		return p
	}
	p := path()
	dir, name := filepath.Split(p)
	parent := m.find(strings.TrimSuffix(dir, "/"))
	target := m.find(p)
	parentError := func() error {
		for i, at := 0, m; i < len(layer.Components(strings.TrimSuffix(dir, "/"))); i++ {
			if at.kind != layer.Directory {
				return syscall.ENOTDIR
			}
			if at = at.children[layer.Components(dir[:len(dir)-1])[i]]; at == nil {
				return syscall.ENOENT
			}
		}
		if parent.kind != layer.Directory {
			return syscall.ENOTDIR
		}
		return nil
	}
	content := strings.Repeat(string(rune('a'+r.IntN(26))), r.IntN(50))
	switch kind := r.IntN(10); kind {
	case 0, 1: // write anew, perhaps over something
		var want error
		switch want = parentError(); {
		case want != nil:
		case target == nil:
			parent.children[name] = &model{kind: layer.File, mode: 0o644, data: content}
		case target.kind == layer.Directory:
			want = syscall.EISDIR
		case target.kind == layer.Link:
			want = syscall.ELOOP
		default:
			target.data = content
		}
		return "write " + p, equal(w.write(p, content, openTrunc), want)
	case 2: // overwrite a part
		if target == nil || target.kind != layer.File {
			return "", nil
		}
		at := r.IntN(len(target.data) + 3)
		data := []byte(target.data)
		for len(data) < at+len(content) && len(content) > 0 {
			data = append(data, 0)
		}
		copy(data[min(at, len(data)):], content)
		target.data = string(data)
		return "overwrite " + p, func() error {
			n, err := w.at(p)
			if err != nil {
				return err
			}
			defer n.Drop()
			f, err := n.Open(1)
			if err != nil {
				return err
			}
			defer f.Close()
			if len(content) > 0 {
				_, err = f.WriteAt([]byte(content), int64(at))
			}
			return err
		}()
	case 3:
		var want error
		switch want = parentError(); {
		case want != nil:
		case target != nil:
			want = syscall.EEXIST
		default:
			parent.children[name] = newDirectory()
		}
		return "mkdir " + p, equal(w.in(p, func(dir ninep.Node, name string) error { _, err := dir.Mkdir(name, 0o755); return err }), want)
	case 4:
		var want error
		switch want = parentError(); {
		case want != nil:
		case target != nil:
			want = syscall.EEXIST
		default:
			parent.children[name] = &model{kind: layer.Link, data: "to/" + name}
		}
		return "symlink " + p, equal(w.in(p, func(dir ninep.Node, name string) error { _, err := dir.Symlink(name, "to/"+name); return err }), want)
	case 5, 6: // remove
		var want error
		directory := r.IntN(2) == 0
		switch want = parentError(); {
		case want != nil:
		case target == nil:
			want = syscall.ENOENT
		case target.kind == layer.Directory && !directory:
			want = syscall.EISDIR
		case target.kind != layer.Directory && directory:
			want = syscall.ENOTDIR
		case directory && len(target.children) > 0:
			want = syscall.ENOTEMPTY
		default:
			delete(parent.children, name)
		}
		return fmt.Sprint("remove ", p, directory), equal(w.in(p, func(dir ninep.Node, name string) error { return dir.Unlink(name, directory) }), want)
	case 7, 8: // rename
		q := path()
		qdir, qname := filepath.Split(q)
		to := m.find(strings.TrimSuffix(qdir, "/"))
		over := m.find(q)
		if target == nil || to == nil || to.kind != layer.Directory || strings.HasPrefix(q+"/", p+"/") || strings.HasPrefix(p+"/", q+"/") {
			return "", nil
		}
		var want error
		switch {
		case over == nil:
		case target.kind == layer.Directory && over.kind != layer.Directory:
			want = syscall.ENOTDIR
		case target.kind != layer.Directory && over.kind == layer.Directory:
			want = syscall.EISDIR
		case over.kind == layer.Directory && len(over.children) > 0:
			want = syscall.ENOTEMPTY
		}
		got := w.in(p, func(dir ninep.Node, name string) error {
			return w.in(q, func(qdir ninep.Node, qname string) error { return dir.Rename(name, qdir, qname) })
		})
		if got == syscall.EXDEV && want == nil && target.kind == layer.Directory && target.folders {
			return "refused rename " + p + " " + q, nil // the place has to keep what was deleted there
		}
		if want == nil {
			delete(parent.children, name)
			to.children[qname] = target
		}
		return "rename " + p + " " + q, equal(got, want)
	default: // mode, size
		if target == nil || target.kind == layer.Link {
			return "", nil
		}
		change := wire.SetAttr{Valid: wire.SetMode, Mode: []uint32{0o600, 0o644, 0o755}[r.IntN(3)]}
		if target.kind == layer.Directory {
			change.Mode = 0o700
		}
		target.mode = change.Mode
		if target.kind == layer.File && r.IntN(2) == 0 {
			size := r.IntN(40)
			change.Valid |= wire.SetSize
			change.Size = uint64(size)
			data := append([]byte(target.data), bytes.Repeat([]byte{0}, 40)...)
			target.data = string(data[:size])
		}
		n, err := w.at(p)
		if err != nil {
			return "setattr " + p, err
		}
		defer n.Drop()
		return "setattr " + p, n.SetAttr(change, nil)
	}
}

func equal(got, want error) error {
	if got != want {
		return fmt.Errorf("answered %v, want %v", got, want)
	}
	return nil
}

func (w *world) fill() *model {
	m := newDirectory()
	file := func(data string) *model { return &model{kind: layer.File, mode: 0o644, data: data} }
	for path, data := range map[string]string{"a": "first", "dir/a": "second", "dir/sub/b": "third", "dir/sub/c": "", "sub/x": strings.Repeat("long", 3000)} {
		w.put(path, data)
		at := m
		parts := layer.Components(path)
		for _, part := range parts[:len(parts)-1] {
			if at.children[part] == nil {
				at.children[part] = newDirectory()
				at.children[part].folders = true
			}
			at = at.children[part]
		}
		at.children[parts[len(parts)-1]] = file(data)
	}
	must(w.t, os.Symlink("to/somewhere", filepath.Join(w.dir, "sub/c")))
	m.children["sub"].children["c"] = &model{kind: layer.Link, data: "to/somewhere"}
	must(w.t, os.Chmod(w.dir, 0o755))
	return m
}

// The guest sees what an ordinary filesystem would show it, whatever it does, also after remounts; the folder never changes, and no
// object's qid does.
func TestReviewShowsWhatTheGuestDidAndLeavesTheFolderAlone(t *testing.T) {
	seeds := uint64(6)
	if os.Getenv("CLOCHE_LONG") != "" {
		seeds = 1000
	}
	played := []uint64{933} // a game of a long run that was not answered as it must be
	for seed := range seeds {
		played = append(played, seed)
	}
	for _, seed := range played {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := newWorld(t, false, Options{})
			w.hashed = seed%2 == 1
			m := w.fill()
			before := hash(t, w.dir)
			w.mount()
			r := rand.New(rand.NewPCG(seed, 99))
			var done []string
			qids := map[string]uint64{}
			for i := range 150 {
				what, err := w.step(r, m)
				if what != "" {
					done = append(done, what)
				}
				if err != nil {
					t.Fatalf("seed %d, step %d: %v\nafter %s", seed, i, err, strings.Join(done, "\n"))
				}
				if i%10 != 9 {
					continue
				}
				clear(qids)
				if err := w.same(m, "", qids); err != nil {
					t.Fatalf("seed %d, step %d: %v\nafter %s", seed, i, err, strings.Join(done, "\n"))
				}
				if i%30 == 29 {
					w.close()
					w.mount()
					again := map[string]uint64{}
					if err := w.same(m, "", again); err != nil {
						t.Fatalf("seed %d, step %d, remounted: %v\nafter %s", seed, i, err, strings.Join(done, "\n"))
					}
					for path, qid := range qids {
						if again[path] != qid {
							t.Fatalf("seed %d, step %d: the qid of %q is %x after a remount and was %x", seed, i, path, again[path], qid)
						}
					}
				}
			}
			w.close()
			if hash(t, w.dir) != before {
				t.Fatalf("seed %d: the folder was changed", seed)
			}
		})
	}
}
