//go:build linux

package view_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"cloche/share/internal/layer"
	"cloche/share/internal/ninep"
	"cloche/share/internal/view"
	"cloche/share/internal/wire"
)

func (r *rig) host(path string) string { return filepath.Join(r.root, path) }

func (r *rig) hostWrite(path, content string) {
	r.t.Helper()
	must(r.t, os.WriteFile(r.host(path), []byte(content), 0o644))
}

// open gives a file of the guest's; flags as of Tlopen.
func (r *rig) open(path string, flags uint32) (ninep.Node, ninep.File) {
	r.t.Helper()
	n, err := r.at(path)
	must(r.t, err)
	f, err := n.Open(flags)
	must(r.t, err)
	r.t.Cleanup(func() { f.Close(); n.Drop() })
	return n, f
}

// create makes a file as the guest does.
func (r *rig) create(path, content string) {
	r.t.Helper()
	dir, err := r.at(filepath.Dir("/" + path)[1:])
	must(r.t, err)
	defer dir.Drop()
	n, f, err := dir.Create(filepath.Base(path), 0o1|0o100|0o1000, 0o644)
	must(r.t, err)
	_, err = f.WriteAt([]byte(content), 0)
	must(r.t, err)
	f.Close()
	n.Drop()
}

func (r *rig) mkdir(path string) {
	r.t.Helper()
	dir, err := r.at(filepath.Dir("/" + path)[1:])
	must(r.t, err)
	defer dir.Drop()
	_, err = dir.Mkdir(filepath.Base(path), 0o755)
	must(r.t, err)
}

// read gives what the guest reads at a path, or the error's text.
func (r *rig) read(path string) string {
	r.t.Helper()
	n, err := r.at(path)
	if err != nil {
		return err.Error()
	}
	defer n.Drop()
	text, err := readFile(n)
	if err != nil {
		return err.Error()
	}
	return text
}

// node gives the layer's node of a path.
func (r *rig) node(path string) *layer.Node {
	r.t.Helper()
	at := r.l.Get(layer.RootID)
	for _, name := range layer.Components(path) {
		if at = r.l.Child(at.ID, name); at == nil {
			r.t.Fatalf("%s has no node in the layer", path)
		}
	}
	return at
}

// baseOf tells what the folder has at a path now.
func (r *rig) baseOf(path string) *layer.Base {
	r.t.Helper()
	at := r.lower.Root()
	for _, name := range layer.Components(path) {
		next, err := at.Walk(name)
		must(r.t, err)
		at.Drop()
		at = next
	}
	defer at.Drop()
	b, err := view.Identity(at.(view.Object), path)
	must(r.t, err)
	return b
}

func TestWhatIsAppliedWhileTheGuestHasItOpenStaysOneFile(t *testing.T) {
	r := newRig(t)
	r.hostWrite("a", "before")
	r.mount()
	n, f := r.open("a", 2)
	_, err := f.WriteAt([]byte("AFTER"), 0)
	must(t, err)
	id := r.node("a").ID
	must(t, r.tree.Hold(id, func(open bool) error {
		if !open {
			t.Error("an open file is told as not open")
		}
		r.hostWrite("new", "AFTERe")
		must(t, os.Rename(r.host("new"), r.host("a")))
		e := r.l.Get(id)
		e.Base = r.baseOf("a")
		return r.l.Change(layer.Put(e))
	}))
	seq := r.node("a").Seq
	r.l.Looked(id)
	if _, err := f.WriteAt([]byte("more"), 6); err != nil {
		t.Fatal(err)
	}
	if r.node("a").Seq == seq {
		t.Error("a write behind the apply does not move the node's number")
	}
	seq = r.node("a").Seq
	_, err = f.WriteAt([]byte("more"), 6)
	must(t, err)
	if r.node("a").Seq != seq {
		t.Error("a second write that nobody has looked before moves the number again")
	}
	again, _ := r.open("a", 0)
	if again.QID() != n.QID() {
		t.Errorf("qid %v, before the apply %v", again.QID(), n.QID())
	}
	if got := r.read("a"); got != "AFTERemore" {
		t.Errorf("the guest reads %q", got)
	}
	if got, _ := os.ReadFile(r.host("a")); string(got) != "AFTERe" {
		t.Errorf("the folder has %q", got)
	}
}

func TestWhatIsDiscardedIsTheFoldersOwnAtTheNextOpen(t *testing.T) {
	r := newRig(t)
	r.hostWrite("a", "host")
	must(t, os.Mkdir(r.host("d"), 0o755))
	r.hostWrite("d/x", "host x")
	r.mount()
	_, f := r.open("a", 2)
	_, err := f.WriteAt([]byte("GUEST"), 0)
	must(t, err)
	d, err := r.at("d")
	must(t, err)
	defer d.Drop()
	r.create("d/x", "guest x")
	for _, path := range []string{"a", "d/x"} {
		e := r.node(path)
		must(t, r.tree.Hold(e.ID, func(bool) error { return r.l.Change(layer.Remove(e.ID)) }))
	}
	passing := r.node("d")
	if !passing.Passing() {
		t.Errorf("%+v is no passing node", passing)
	}
	must(t, r.l.Change(layer.Remove(passing.ID))) // beside the view's back, as a sweep of passing nodes does
	if got := r.read("a"); got != "host" {
		t.Errorf("a reads %q", got)
	}
	if got, err := readOpen(f); got != "GUEST" || err != nil {
		t.Errorf("the open file reads %q, %v", got, err)
	}
	_, err = f.WriteAt([]byte("lost"), 0) // as into an unlinked file
	must(t, err)
	x, err := d.Walk("x")
	must(t, err)
	defer x.Drop()
	if got, err := readFile(x); got != "host x" || err != nil {
		t.Errorf("d/x reads %q, %v", got, err)
	}
	xf, err := x.Open(1 | 0o1000)
	must(t, err)
	_, err = xf.WriteAt([]byte("anew"), 0)
	must(t, err)
	xf.Close()
	if got := r.read("d/x"); got != "anew" || r.node("d/x").Base == nil {
		t.Errorf("written anew, d/x reads %q", got)
	}
	if got := r.read("a"); got != "host" {
		t.Errorf("a reads %q after a write to the discarded file", got)
	}
}

func TestADirectoryThatIsAppliedShowsWhatTheFolderHasInIt(t *testing.T) {
	r := newRig(t)
	r.mount()
	r.mkdir("d")
	r.create("d/x", "guest")
	d, err := r.at("d")
	must(t, err)
	defer d.Drop()
	id := r.node("d").ID
	must(t, r.tree.Hold(id, func(bool) error {
		must(t, os.Mkdir(r.host("d"), 0o755))
		e := r.l.Get(id)
		e.Made, e.Opaque, e.ModeSet, e.MtimeSet, e.Base = false, false, false, false, r.baseOf("d")
		return r.l.Change(layer.Put(e))
	}))
	r.hostWrite("d/y", "host")
	names, err := list(d, 4096)
	if err != nil || len(names) != 2 {
		t.Errorf("%v, %v", names, err)
	}
	if x, y := r.read("d/x"), r.read("d/y"); x != "guest" || y != "host" {
		t.Errorf("x %q, y %q", x, y)
	}
	if a, err := d.Attr(); err != nil || a.QID != (wire.QID{Type: wire.QTDir, Path: d.QID().Path}) {
		t.Errorf("%v, %v", a, err)
	}
}

func TestNobodyWritesWhileAChangeIsHeld(t *testing.T) {
	r := newRig(t)
	r.hostWrite("a", "0000")
	r.mount()
	_, f := r.open("a", 2)
	_, err := f.WriteAt([]byte("1111"), 0)
	must(t, err)
	id := r.node("a").ID
	stop := make(chan struct{})
	var group sync.WaitGroup
	group.Add(1)
	go func() {
		defer group.Done()
		for i := byte(0); ; i++ {
			select {
			case <-stop:
				return
			default:
				_, _ = f.WriteAt([]byte{i, i, i, i}, 0)
			}
		}
	}()
	content := filepath.Join(r.layer, "content")
	for range 200 {
		must(t, r.tree.Hold(id, func(bool) error {
			e := r.l.Get(id)
			c, err := r.l.OpenContent(e.Content)
			must(t, err)
			defer c.Close()
			first, second := make([]byte, 4), make([]byte, 4)
			_, _ = c.ReadAt(first, 0)
			_, _ = os.ReadDir(content) // some time
			_, _ = c.ReadAt(second, 0)
			if string(first) != string(second) {
				t.Errorf("%v became %v", first, second)
			}
			return nil
		}))
	}
	close(stop)
	group.Wait()
}
