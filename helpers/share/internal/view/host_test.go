//go:build linux

package view_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"cloche/share/internal/layer"
	"cloche/share/internal/ninep"
	"cloche/share/internal/versions"
	"cloche/share/internal/wire"
)

// What the host does to a folder while a guest works in it: saves by rename, directories made anew, moved, copied by links. Whatever comes
// of it, the task's work before it stays readable.

func writeTo(f ninep.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// make creates a file in a directory that is held.
func makeIn(dir ninep.Node, name, text string) error {
	n, f, err := dir.Create(name, 2|0o100, 0o644)
	if err != nil {
		return err
	}
	defer n.Drop()
	defer f.Close()
	return writeTo(f, text)
}

// again mounts once more and looks for what the task did.
func (r *rig) again(work map[string]string) {
	r.t.Helper()
	for _, when := range []string{"at once", "at the next start"} {
		for path, want := range work {
			if got := r.read(path); got != want {
				r.t.Errorf("%s: %s has %q, want %q", when, path, got, want)
			}
		}
		if when == "at once" {
			r.remount()
		}
	}
}

func TestAFileThatTheHostSavesWhileTheGuestHoldsItKeepsOneOfTheTasksVersions(t *testing.T) {
	for how, act := range map[string]func(held ninep.Node, f ninep.File) error{
		"write": func(_ ninep.Node, f ninep.File) error { return writeTo(f, "late") },
		"chmod": func(held ninep.Node, f ninep.File) error {
			return held.SetAttr(wire.SetAttr{Valid: wire.SetMode, Mode: 0o600}, f)
		},
		"attribute": func(held ninep.Node, _ ninep.File) error { return held.SetXattr("user.a", []byte("v"), 0) },
	} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t)
			r.hostWrite("f", "host 1")
			r.hostWrite("alone", "host 1")
			r.mount()
			r.create("work", "an hour of work")
			held, f := r.open("f", 2)
			alone, open := r.open("alone", 2)
			for _, path := range []string{"f", "alone"} {
				r.hostWrite("new", "host 2")
				r.hostRename("new", path)
			}
			_, other := r.open("f", 2)
			must(t, writeTo(other, "task's"))
			refused(t, how, act(held, f), syscall.ESTALE)
			must(t, act(alone, open)) // control: nobody else has the place
			r.again(map[string]string{"work": "an hour of work", "f": "task's"})
		})
	}
}

func TestADirectoryThatTheHostMadeAnewIsNotTheOneThatTheGuestIsIn(t *testing.T) {
	for _, first := range []bool{true, false} {
		t.Run(fmt.Sprint("the guest is in it first ", first), func(t *testing.T) {
			r := newRig(t)
			must(t, os.Mkdir(r.host("dist"), 0o755))
			must(t, os.Mkdir(r.host("kept"), 0o755))
			r.hostWrite("dist/old", "host")
			r.mount()
			r.create("work", "an hour of work")
			cwd, err := r.at("dist")
			must(t, err)
			defer cwd.Drop()
			kept, err := r.at("kept")
			must(t, err)
			defer kept.Drop()
			must(t, os.RemoveAll(r.host("dist")))
			must(t, os.Mkdir(r.host("dist"), 0o755))
			r.hostWrite("dist/fresh", "host")
			if first {
				refused(t, "in the old directory", makeIn(cwd, "b", "lost"), syscall.ESTALE)
			}
			r.create("dist/a", "by its path")
			refused(t, "in the old directory", makeIn(cwd, "b", "lost"), syscall.ESTALE)
			must(t, makeIn(kept, "b", "by the working directory")) // control
			r.again(map[string]string{"work": "an hour of work", "dist/a": "by its path", "dist/fresh": "host", "kept/b": "by the working directory"})
		})
	}
}

func TestADirectoryOfWhichADiscardTookTheChangeIsOneForWhoeverHasIt(t *testing.T) {
	r := newRig(t)
	must(t, os.MkdirAll(r.host("d/x"), 0o755))
	r.mount()
	r.create("work", "an hour of work")
	r.create("d/x/f", "task's")
	cwd, err := r.at("d/x")
	must(t, err)
	defer cwd.Drop()
	d := r.l.Child(layer.RootID, "d")
	x := r.l.Child(d.ID, "x")
	must(t, r.l.Change(layer.Remove(r.l.Child(x.ID, "f").ID), layer.Remove(x.ID), layer.Remove(d.ID)))
	again, err := r.at("d/x")
	must(t, err)
	defer again.Drop()
	if cwd.QID() != again.QID() {
		t.Errorf("the directory is %v and %v", cwd.QID(), again.QID())
	}
	must(t, makeIn(cwd, "one", "1"))
	must(t, makeIn(again, "two", "2"))
	r.again(map[string]string{"work": "an hour of work", "d/x/one": "1", "d/x/two": "2"})
}

func TestADirectoryThatTheHostRenamedIsOneForWhoeverHasIt(t *testing.T) {
	for _, rw := range []bool{false, true} {
		t.Run(fmt.Sprint("rw ", rw), func(t *testing.T) {
			r := newRig(t)
			if rw {
				r = newRW(t)
			}
			must(t, os.MkdirAll(r.host("d/sub"), 0o755))
			r.mount()
			r.create(".envrc", "an hour of work")
			old, err := r.at("d")
			must(t, err)
			defer old.Drop()
			below, err := r.at("d/sub")
			must(t, err)
			defer below.Drop()
			r.hostRename("d", "e")
			one, err := r.at("e")
			must(t, err)
			defer one.Drop()
			two, err := r.at("e")
			must(t, err)
			defer two.Drop()
			must(t, makeIn(one, ".envrc", "1"))
			must(t, makeIn(two, ".npmrc", "2"))
			must(t, makeIn(old, ".curlrc", "3"))
			must(t, makeIn(below, ".wgetrc", "4"))
			must(t, makeIn(below, "plain", "5"))
			r.again(map[string]string{".envrc": "an hour of work", "e/.envrc": "1", "e/.npmrc": "2", "e/.curlrc": "3", "e/sub/.wgetrc": "4", "e/sub/plain": "5"})
			// A turn of the host's that leaves what is held in what lies in it.
			sub, err := r.at("e/sub")
			must(t, err)
			defer sub.Drop()
			r.hostRename("e/sub", "sub")
			r.hostRename("e", "sub/e")
			if n, err := sub.Walk("e"); err == nil {
				_ = makeIn(n, "x", "x")
				n.Drop()
			}
			r.remount()
		})
	}
}

// The task has something in the directory above, which stays where the task has it.
func TestWhatIsHeldInADirectoryThatTheHostMovedToAProtectedPlaceIsNoWayIntoIt(t *testing.T) {
	for _, to := range []string{".vscode/b", "plain/b"} {
		t.Run(to, func(t *testing.T) {
			r := newRW(t)
			must(t, os.MkdirAll(r.host("a/b"), 0o755))
			r.mountKept()
			r.create("a/.envrc", "work")
			held, err := r.at("a/b")
			must(t, err)
			defer held.Drop()
			r.hostRename("a", to)
			err = makeIn(held, "made", "text")
			_, there := os.Stat(r.host(to + "/b/made"))
			if protected := to == ".vscode/b"; protected == (there == nil) || !protected && err != nil {
				t.Errorf("%v, %v", err, there)
			}
			r.again(map[string]string{"a/.envrc": "work"})
		})
	}
}

func TestAProtectedFileWithTwoNamesOnTheHostIsTwoFilesForTheTask(t *testing.T) {
	r := newRW(t)
	for _, dir := range []string{"a", "b"} {
		must(t, os.Mkdir(r.host(dir), 0o755))
	}
	r.hostWrite("a/.envrc", "host")
	must(t, os.Link(r.host("a/.envrc"), r.host("b/.envrc")))
	r.mountKept()
	_, first := r.open("a/.envrc", 2)
	_, one := r.open("b/.envrc", 2)
	_, two := r.open("b/.envrc", 2)
	must(t, writeTo(one, "ONE!"))
	must(t, writeTo(two, "TWO!"))
	if got := r.read("a/.envrc"); got != "host" {
		t.Errorf("the other name has %q", got)
	}
	must(t, writeTo(first, "3333"))
	if got := r.hostRead("a/.envrc"); got != "host" {
		t.Errorf("the host has %q", got)
	}
	r.again(map[string]string{"a/.envrc": "3333", "b/.envrc": "TWO!"})
}

// The task deleted something in a directory that the host removed, and then the one above it.
func TestAFileInThePlaceOfADirectoryMovesOn_WhateverTheHostRemovedInThere(t *testing.T) {
	for _, host := range []bool{true, false} {
		t.Run(fmt.Sprint("the host removes it ", host), func(t *testing.T) {
			r := newRig(t)
			must(t, os.MkdirAll(r.host("d/sub"), 0o755))
			r.hostWrite("d/sub/x", "host")
			r.mount()
			must(t, r.unlink("d/sub/x"))
			d, err := r.at("d")
			must(t, err)
			if host {
				must(t, os.RemoveAll(r.host("d/sub")))
			} else {
				must(t, d.Unlink("sub", true))
			}
			d.Drop()
			root := r.tree.Root()
			defer root.Drop()
			must(t, root.Unlink("d", true))
			r.create("d", "a file")
			must(t, r.rename("d", "e"))
			r.again(map[string]string{"e": "a file"})
		})
	}
}

// A guest with many handles and a host that does what hosts do, at random: the layer opens again whatever came, what the task made apart from
// it all is there, and in rw nothing of the guest's is in a protected file of the host's.
func TestWhateverTheHostDoesWhileTheGuestHoldsThingsTheTasksWorkIsThereAtTheNextStart(t *testing.T) {
	games := uint64(20)
	if os.Getenv("CLOCHE_LONG") != "" {
		games = 600
	}
	for seed := range games {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := newRig(t)
			rw := seed%2 == 1
			if rw {
				r = newRW(t)
			}
			h := hostGame{rig: r, rand: rand.New(rand.NewPCG(seed, 21)), rw: rw, work: map[string]string{}}
			h.play()
		})
	}
}

type hostGame struct {
	*rig
	rand  *rand.Rand
	rw    bool
	work  map[string]string
	held  []heldThing
	done  []string
	count int
}

type heldThing struct {
	n ninep.Node
	f ninep.File
}

func (h *hostGame) note(format string, args ...any) {
	h.done = append(h.done, fmt.Sprintf(format, args...))
}

func (h *hostGame) path() string {
	names := []string{"a", "b", ".vscode", ".npmrc"}
	path := names[h.rand.IntN(3)]
	for range h.rand.IntN(3) {
		path += "/" + names[h.rand.IntN(4)]
	}
	return path
}

func (h *hostGame) letGo() {
	for _, k := range h.held {
		if k.f != nil {
			k.f.Close()
		}
		k.n.Drop()
	}
	h.held = nil
}

func (h *hostGame) play() {
	// Nothing else gives the descriptors back, and a long run has many games.
	var fds []int
	var kept *versions.Store
	mount := func() {
		fds = []int{openDir(h.t, h.root), openDir(h.t, "/proc/self/fd")}
		store := -1
		if h.rw { // as it is served: what has another name on the host is separated from it
			store = openDir(h.t, h.t.TempDir())
			fds = append(fds, store)
		}
		kept = h.mountWith(store, fds[0], fds[1])
	}
	unmount := func() {
		h.letGo()
		h.unmount()
		if kept != nil {
			kept.Close()
			kept = nil
		}
		for _, fd := range fds {
			unix.Close(fd)
		}
		fds = nil
	}
	for range 12 {
		h.host1()
	}
	mount()
	defer func() {
		unmount()
		if h.t.Failed() {
			h.t.Logf("after\n\t%s", strings.Join(h.done, "\n\t"))
		}
	}()
	for step := range 250 {
		if h.rand.IntN(4) == 0 {
			h.host1()
		} else {
			h.guest1()
		}
		if h.rw {
			h.clean()
		}
		if step%50 == 49 {
			if h.look(""); h.rand.IntN(2) == 0 {
				h.letGo()
			}
			unmount()
			h.note("mounted again")
			mount()
			h.look("")
			for path, want := range h.work {
				if got := h.read(path); got != want {
					h.t.Fatalf("%s has %q, want %q", path, got, want)
				}
			}
		}
	}
}

// host1 is one thing that a program of the host does.
func (h *hostGame) host1() {
	h.count++
	p, q := h.path(), h.path()
	text := fmt.Sprint("host ", h.count)
	_ = os.MkdirAll(filepath.Dir(h.host(p)), 0o755)
	var err error
	what := ""
	switch h.rand.IntN(7) {
	case 0:
		what = "saves " + p
		_ = os.WriteFile(h.host("beside"), []byte(text), 0o644)
		err = os.Rename(h.host("beside"), h.host(p))
		_ = os.Remove(h.host("beside"))
	case 1:
		what = "writes " + p
		err = os.WriteFile(h.host(p), []byte(text), 0o644)
	case 2:
		what = "makes anew " + p
		_ = os.RemoveAll(h.host(p))
		err = os.Mkdir(h.host(p), 0o755)
	case 3, 4:
		what = "renames " + p + " " + q
		_ = os.MkdirAll(filepath.Dir(h.host(q)), 0o755)
		if h.ofGuest(p) && protectedPath(q) {
			return // what the host itself makes of the guest's files is its own doing
		}
		err = os.Rename(h.host(p), h.host(q))
	case 5:
		what = "links " + p + " " + q
		_ = os.MkdirAll(filepath.Dir(h.host(q)), 0o755)
		if h.ofGuest(p) {
			return
		}
		err = os.Link(h.host(p), h.host(q))
	case 6:
		what = "removes " + p
		err = os.RemoveAll(h.host(p))
	}
	if link, is := err.(*os.LinkError); is {
		err = link.Err
	}
	h.note("host %s: %v", what, err)
}

func protectedPath(path string) bool {
	return strings.Contains(path, ".vscode") || strings.HasSuffix(path, ".npmrc")
}

// ofGuest tells whether something at a path of the folder holds what the guest wrote.
func (h *hostGame) ofGuest(path string) bool {
	found := false
	_ = filepath.WalkDir(h.host(path), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			data, _ := os.ReadFile(path)
			found = found || !strings.HasPrefix(string(data), "host")
		}
		return nil
	})
	return found
}

// clean looks for something of the guest's in the host's protected files.
func (h *hostGame) clean() {
	h.t.Helper()
	must(h.t, filepath.WalkDir(h.root, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(h.root, path)
		if err == nil && !d.IsDir() && protectedPath(rel) && h.ofGuest(rel) {
			h.t.Fatalf("%s on the host is the guest's", rel)
		}
		return nil
	}))
}

// guest1 is one thing that a process of the guest does, by a path or with what it holds.
func (h *hostGame) guest1() {
	h.count++
	text := fmt.Sprint("task ", h.count)
	var held heldThing
	if len(h.held) > 0 {
		held = h.held[h.rand.IntN(len(h.held))]
	}
	var err error
	what := ""
	p := h.path()
	if n, walked := h.at(p); walked == nil && h.rand.IntN(2) == 0 {
		what, held = p, heldThing{n: n}
		if n.QID().Type == wire.QTFile {
			held.f, _ = n.Open(2)
		}
		h.held = append(h.held, held)
	} else if walked == nil {
		n.Drop()
	}
	if held.n == nil {
		return
	}
	names := []string{"a", "b", ".npmrc", ".vscode"}
	name := names[h.rand.IntN(len(names))]
	switch h.rand.IntN(9) {
	case 0, 1:
		what += " write"
		if held.f != nil {
			err = writeTo(held.f, text)
		}
	case 2:
		what += " chmod"
		err = held.n.SetAttr(wire.SetAttr{Valid: wire.SetMode, Mode: 0o700}, held.f)
	case 3:
		what += " create " + name
		if held.f == nil {
			err = makeIn(held.n, name, text)
		}
	case 4:
		what += " mkdir " + name
		_, err = held.n.Mkdir(name, 0o755)
	case 5:
		other := h.held[h.rand.IntN(len(h.held))].n
		to := names[h.rand.IntN(len(names))]
		what += " rename " + name + " to " + to + " in " + fmt.Sprint(other.QID().Path)
		err = held.n.Rename(name, other, to)
	case 6:
		what += " unlink " + name
		if err = held.n.Unlink(name, false); err == syscall.EISDIR {
			err = held.n.Unlink(name, true)
		}
	case 7:
		what += " attribute"
		err = held.n.SetXattr("user.a", []byte(text), 0)
	case 8:
		path := fmt.Sprint(".work/", h.count)
		what = path
		if there, err := h.at(".work"); err != nil {
			h.mkdir(".work")
		} else {
			there.Drop()
		}
		h.create(path, text)
		h.work[path] = text
	}
	h.note("guest %s (%x): %v", what, held.n.QID().Path, err)
	if err != nil && strings.Contains(err.Error(), "cannot be") {

		h.t.Fatalf("%s: %v", what, err)
	}
}

// look walks all that the guest sees: each name that is listed once.
func (h *hostGame) look(path string) {
	h.t.Helper()
	n, err := h.at(path)
	if err != nil {
		h.t.Fatalf("%q: %v", path, err)
	}
	defer n.Drop()
	if _, err := n.Attr(); err != nil {
		h.t.Fatalf("%q: attributes: %v", path, err)
	}
	if n.QID().Type != wire.QTDir {
		return
	}
	listed, err := list(n, 4096)
	if err != nil {
		h.t.Fatalf("%q: %v", path, err)
	}
	var names []string
	for name := range listed {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		h.look(layer.Join(path, name))
	}
}
