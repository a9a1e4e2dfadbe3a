//go:build linux

package view_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloche/share/internal/layer"
	"cloche/share/internal/ninep"
	"cloche/share/internal/view"
	"cloche/share/internal/wire"
)

// A file of the folder's that is renamed to the name of a directory whose files were deleted becomes the task's own first (instead.go):
// a copy and two changes of the layer, which are one rename for the guest.

// emptied is such a folder: a/f is about to be renamed to b.
func emptied(t *testing.T) *rig {
	r := newRig(t)
	for _, dir := range []string{"a", "b", "b/in"} {
		must(t, os.Mkdir(r.host(dir), 0o755))
	}
	r.hostWrite("a/f", "of the host")
	r.hostWrite("b/x", "deleted")
	r.hostWrite("b/in/y", "deleted")
	return r
}

func (r *rig) renamesToB(from string) error { return r.rename(from, "b") }

// comes are where a file may come from, and what it is.
var comes = map[string]func(r *rig) (from string){
	"from its place": func(r *rig) string { return "a/f" },
	"from another name": func(r *rig) string {
		must(r.t, r.rename("a/f", "moved"))
		return "moved"
	},
	"written before": func(r *rig) string {
		_, f := r.open("a/f", 1)
		_, err := f.WriteAt([]byte("by the task"), 0)
		must(r.t, err)
		return "a/f"
	},
	"a link": func(r *rig) string {
		must(r.t, r.rename("a/link", "moved"))
		return "moved"
	},
}

func TestARenameToTheNameOfAnEmptiedDirectoryIsWholeOrNothing_WhereverTheRoomEnds(t *testing.T) {
	for name, from := range comes {
		t.Run(name, func(t *testing.T) {
			failures := 0
			for left := 0; ; left++ {
				r := emptied(t)
				must(t, os.Symlink("f", r.host("a/link")))
				folder := hashFolder(t, r.root)
				room := -1 // as much as is asked for
				r.options = func(o *view.Options) {
					o.Room = func(int64) error {
						if room == 0 {
							return &layer.Full{Why: layer.Disk}
						}
						room--
						return nil
					}
				}
				r.mount()
				must(t, r.removeAll("b"))
				source := from(r)
				before := r.picture()
				room = left
				err := r.renamesToB(source)
				room = -1
				if err != nil {
					failures++
					refusedRoom(t, fmt.Sprint("with room for ", left), err)
					if after := r.picture(); fmt.Sprint(after) != fmt.Sprint(before) {
						t.Fatalf("with room for %d the refused rename left\n%v\nnot\n%v", left, after, before)
					}
					r.remount()
					if after := r.picture(); fmt.Sprint(after) != fmt.Sprint(before) {
						t.Fatalf("with room for %d and remounted the refused rename left\n%v\nnot\n%v", left, after, before)
					}
					must(t, r.renamesToB(source)) // the control: it is only the room
				}
				moved := before[source]
				if got := r.picture()["b"]; got.data != moved.data || got.kind != moved.kind || got.qid != moved.qid || got.mode != moved.mode {
					t.Fatalf("with room for %d b is %v, and was %v", left, got, moved)
				}
				if hashFolder(t, r.root) != folder {
					t.Fatal("the folder was changed")
				}
				r.unmount()
				if err == nil {
					break
				}
			}
			if failures < 2 {
				t.Errorf("room was asked for %d times", failures)
			}
		})
	}
}

func TestACrashDuringARenameToTheNameOfAnEmptiedDirectoryLeavesTheFileAtOneOfItsNames(t *testing.T) {
	for name, from := range comes {
		t.Run(name, func(t *testing.T) {
			r := emptied(t)
			must(t, os.Symlink("f", r.host("a/link")))
			r.mount()
			must(t, r.removeAll("b"))
			source := from(r)
			log := filepath.Join(r.layer, "layer.log")
			size := func() int64 {
				st, err := os.Stat(log)
				must(t, err)
				return st.Size()
			}
			before, first := r.picture(), size()
			must(t, r.renamesToB(source))
			after, last := r.picture(), size()
			contents, err := filepath.Glob(filepath.Join(r.layer, "content/*"))
			must(t, err)
			saw := map[string]int{}
			for cut := first; cut <= last; cut++ {
				crashed := &rig{t: t, root: r.root, layer: t.TempDir()}
				must(t, os.Mkdir(filepath.Join(crashed.layer, "content"), 0o700))
				data, err := os.ReadFile(log)
				must(t, err)
				must(t, os.WriteFile(filepath.Join(crashed.layer, "layer.log"), data[:cut], 0o600))
				for _, content := range contents {
					data, err := os.ReadFile(content)
					must(t, err)
					copied := filepath.Join(crashed.layer, "content", filepath.Base(content))
					must(t, os.WriteFile(copied, data, 0o600))
					st, err := os.Stat(content)
					must(t, err)
					must(t, os.Chtimes(copied, st.ModTime(), st.ModTime()))
				}
				must(t, crashed.tryMount())
				switch got := fmt.Sprint(crashed.picture()); got {
				case fmt.Sprint(before):
					saw["before"]++
				case fmt.Sprint(after):
					saw["after"]++
				default:
					t.Errorf("cut at byte %d of %d..%d the guest sees\n%v\nneither\n%v\nnor\n%v", cut, first, last, got, before, after)
				}
				crashed.unmount()
			}
			if saw["before"] == 0 || saw["after"] == 0 {
				t.Errorf("seen: %v", saw)
			}
		})
	}
}

// slow is a folder of which a file's bytes come when they may.
type slow struct {
	ninep.Tree
	reading func()
}

func (s slow) Root() ninep.Node { return slowNode{s.Tree.Root().(view.Object), s.reading} }

type slowNode struct {
	view.Object
	reading func()
}

func (n slowNode) Walk(name string) (ninep.Node, error) {
	child, err := n.Object.Walk(name)
	if err != nil {
		return nil, err
	}
	return slowNode{child.(view.Object), n.reading}, nil
}

func (n slowNode) Open(flags uint32) (ninep.File, error) {
	f, err := n.Object.Open(flags)
	if err != nil || n.QID().Type != wire.QTFile {
		return f, err
	}
	return slowFile{f, n.reading}, nil
}

type slowFile struct {
	ninep.File
	reading func()
}

func (f slowFile) ReadAt(b []byte, offset int64) (int, error) {
	f.reading()
	return f.File.ReadAt(b, offset)
}

// stalled is a folder whose files give no byte from halt on until go on; begun says that somebody waits for one.
func stalled(r *rig) (halt, goOn func(), begun chan struct{}) {
	var mu sync.Mutex
	var gate chan struct{}
	begun = make(chan struct{}, 100)
	r.options = func(o *view.Options) {
		o.Lower = slow{o.Lower, func() {
			mu.Lock()
			wait := gate
			mu.Unlock()
			if wait != nil {
				begun <- struct{}{}
				<-wait
			}
		}}
	}
	halt = func() { mu.Lock(); gate = make(chan struct{}); mu.Unlock() }
	goOn = func() { mu.Lock(); close(gate); gate = nil; mu.Unlock() }
	return halt, goOn, begun
}

func TestWhileARenameCopiesAFileTheGuestDoesEverythingElse(t *testing.T) {
	for name, meanwhile := range map[string]struct {
		do   func(r *rig) error
		want error // of the rename
		sees string
	}{
		"nothing": {func(r *rig) error { return nil }, nil, "of the host"},
		"makes a directory": {func(r *rig) error {
			root := r.tree.Root()
			defer root.Drop()
			_, err := root.Mkdir("new", 0o755)
			return err
		}, nil, "of the host"},
		"renames another":  {func(r *rig) error { return r.rename("other", "renamed") }, nil, "of the host"},
		"removes the file": {func(r *rig) error { return r.unlink("a/f") }, syscall.ENOENT, "no such file or directory"},
		"moves the file":   {func(r *rig) error { return r.rename("a/f", "z") }, syscall.ENOENT, "no such file or directory"},
		"takes the name":   {func(r *rig) error { return r.rename("mine", "b") }, nil, "of the host"},
		"makes a directory of the name": {func(r *rig) error {
			root := r.tree.Root()
			defer root.Drop()
			_, err := root.Mkdir("b", 0o755)
			return err
		}, syscall.EISDIR, ""},
		"the host writes to it": {func(r *rig) error {
			// In place, with the size that it had.
			return os.WriteFile(r.host("a/f"), []byte("OF THE HOST"), 0o644)
		}, nil, "OF THE HOST"},
	} {
		t.Run(name, func(t *testing.T) {
			r := emptied(t)
			r.hostWrite("other", "other")
			halt, goOn, begun := stalled(r)
			r.mount()
			must(t, r.removeAll("b"))
			r.create("mine", "the task's")
			halt()
			done := make(chan error, 1)
			go func() { done <- r.renamesToB("a/f") }()
			<-begun
			acted := make(chan error, 1)
			go func() { acted <- meanwhile.do(r) }()
			select {
			case err := <-acted:
				must(t, err)
			case <-time.After(10 * time.Second):
				t.Fatal("it waits for the copy")
			}
			goOn()
			if err := <-done; !errors.Is(err, meanwhile.want) {
				t.Fatalf("the rename: %v, want %v", err, meanwhile.want)
			}
			for _, remounted := range []bool{false, true} {
				if remounted {
					before := r.picture()
					r.remount()
					if after := r.picture(); fmt.Sprint(after) != fmt.Sprint(before) {
						t.Errorf("remounted the guest sees\n%v\nnot\n%v", after, before)
					}
				}
				if meanwhile.want != syscall.EISDIR {
					if got := r.read("b"); got != meanwhile.sees {
						t.Errorf("remounted %v: b is %q, want %q", remounted, got, meanwhile.sees)
					}
				}
			}
		})
	}
}

// An apply or discard begins while the copy is made: neither waits for the other's lock for ever, and the rename comes again after it.
func TestARenameThatCopiesAndAnApplyDoNotHoldEachOtherUp(t *testing.T) {
	r := emptied(t)
	halt, goOn, begun := stalled(r)
	r.mount()
	must(t, r.removeAll("b"))
	must(t, r.rename("a/f", "moved")) // so that the layer knows it
	id := r.node("moved").ID
	halt()
	done := make(chan error, 1)
	go func() { done <- r.renamesToB("moved") }()
	<-begun
	applied := make(chan error, 1)
	go func() {
		applied <- r.tree.Steady(func() error {
			goOn()
			var later *ninep.Later
			if err := <-done; !errors.As(err, &later) {
				return fmt.Errorf("the rename: %v, want to be told to come later", err)
			}
			return r.tree.Hold(id, func(bool) error { return nil })
		})
	}()
	select {
	case err := <-applied:
		must(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("they wait for each other")
	}
	must(t, r.renamesToB("moved"))
	if got := r.read("b"); got != "of the host" {
		t.Errorf("b is %q", got)
	}
}

func TestWhoeverHasAFileOpenThatIsRenamedToTheNameOfAnEmptiedDirectoryGoesOnWithIt(t *testing.T) {
	r := emptied(t)
	must(t, os.Link(r.host("a/f"), r.host("a/second"))) // another name of the host's
	r.mount()
	must(t, r.removeAll("b"))
	_, reader := r.open("a/f", 0)
	_, writer := r.open("a/f", 2)
	folder := hashFolder(t, r.root)
	var writers sync.WaitGroup
	stop := make(chan struct{})
	var last string
	begun := make(chan struct{})
	writers.Add(1)
	go func() {
		defer writers.Done()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			text := fmt.Sprintf("write %06d", i)
			if _, err := writer.WriteAt([]byte(text), 0); err != nil {
				t.Error(err)
				return
			}
			last = text
			if i == 0 {
				close(begun)
			}
		}
	}()
	<-begun
	must(t, r.renamesToB("a/f"))
	close(stop)
	writers.Wait()
	_, err := writer.WriteAt([]byte("!"), int64(len("write 000000")))
	must(t, err)
	last += "!"
	for what, f := range map[string]ninep.File{"who reads": reader, "who writes": writer} {
		if got, err := readOpen(f); err != nil || got != last {
			t.Errorf("%s has %q, %v; want %q", what, got, err, last)
		}
	}
	if got := r.read("b"); got != last {
		t.Errorf("b is %q, want %q", got, last)
	}
	if got := r.read("a/second"); got != "of the host" {
		t.Errorf("the file's other name has %q", got)
	}
	if hashFolder(t, r.root) != folder {
		t.Error("the folder was changed")
	}
	r.remount()
	if got := r.read("b"); got != last {
		t.Errorf("remounted b is %q, want %q", got, last)
	}
}

func TestAFileKeepsItsAttributesInTheNameOfAnEmptiedDirectory(t *testing.T) {
	r := emptied(t)
	must(t, os.Chmod(r.host("a/f"), 0o750))
	if err := unix.Setxattr(r.host("a/f"), "user.kept", []byte("value"), 0); err != nil {
		t.Skipf("IGNORED: no attributes here: %v", err)
	}
	must(t, unix.Setxattr(r.host("a/f"), "user.gone", []byte("value"), 0))
	r.mount()
	must(t, r.removeAll("b"))
	n, err := r.at("a/f")
	must(t, err)
	must(t, n.SetXattr("user.gone", nil, 2))
	must(t, n.SetXattr("user.new", []byte("the task's"), 0))
	n.Drop()
	must(t, r.renamesToB("a/f"))
	for range 2 {
		n, err := r.at("b")
		must(t, err)
		list, err := n.ListXattr()
		must(t, err)
		if got := strings.ReplaceAll(string(list), "\x00", " "); got != "user.kept user.new " {
			t.Errorf("the attributes are %q", got)
		}
		for name, want := range map[string]string{"user.kept": "value", "user.new": "the task's"} {
			if got, err := n.GetXattr(name); err != nil || string(got) != want {
				t.Errorf("%s is %q, %v", name, got, err)
			}
		}
		if a, err := n.Attr(); err != nil || a.Mode&0o777 != 0o750 {
			t.Errorf("mode %o, %v", a.Mode, err)
		}
		n.Drop()
		r.remount()
	}
}

// What the host took away cannot be copied: a rename that could not keep what was deleted is refused.
func TestAFileThatTheHostTookAwayIsNotRenamedToTheNameOfAnEmptiedDirectory(t *testing.T) {
	for _, kind := range []string{"f", "link"} {
		t.Run(kind, func(t *testing.T) {
			r := emptied(t)
			must(t, os.Symlink("f", r.host("a/link")))
			r.mount()
			must(t, r.removeAll("b"))
			must(t, r.rename("a/"+kind, "moved"))
			must(t, os.Remove(r.host("a/"+kind)))
			r.remount()
			if err := r.renamesToB("moved"); err != syscall.EIO {
				t.Errorf("the rename: %v, want EIO", err)
			}
			must(t, r.rename("moved", "elsewhere")) // the control
			for _, deleted := range []string{"b/x", "b/in/y"} {
				if n := r.node(deleted); !n.Whiteout {
					t.Errorf("the deletion of %s is not known", deleted)
				}
			}
		})
	}
}

// In rw the same happens in a protected place: nothing of it reaches the folder, and nothing of it goes there for the guest alone.
func TestInAProtectedPlaceSuchARenameLeavesTheFolderAsItIs_AndBesideItTheFolderIsRenamedIn(t *testing.T) {
	for name, c := range map[string]struct {
		dir       string
		protected bool
	}{"protected": {".vscode", true}, "not": {"plain", false}} {
		t.Run(name, func(t *testing.T) {
			r := newRW(t)
			for _, dir := range []string{c.dir, c.dir + "/sub"} {
				must(t, os.Mkdir(r.host(dir), 0o755))
			}
			r.hostWrite(c.dir+"/settings.json", "of the host")
			r.hostWrite(c.dir+"/sub/x", "deleted")
			before := hashFolder(t, r.root)
			r.mount()
			must(t, r.removeAll(c.dir+"/sub"))
			must(t, r.rename(c.dir+"/settings.json", c.dir+"/sub"))
			for range 2 {
				if got := r.read(c.dir + "/sub"); got != "of the host" {
					t.Errorf("the file is %q", got)
				}
				if got := r.show(c.dir + "/settings.json"); got != "-" {
					t.Errorf("its old name is %q", got)
				}
				r.remount()
			}
			if same := hashFolder(t, r.root) == before; same != c.protected {
				t.Errorf("the folder is as it was: %v", same)
			}
			if c.protected && !r.node(c.dir+"/sub/x").Whiteout {
				t.Error("the deletion is not known")
			}
		})
	}
}
