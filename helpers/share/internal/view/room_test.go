//go:build linux

package view_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"cloche/share/internal/layer"
	"cloche/share/internal/view"
	"cloche/share/internal/wire"
)

// full makes a layer's room end, as a full disk does.
type full struct{ now bool }

func (f *full) room(int64) error {
	if f.now {
		return &layer.Full{Why: layer.Disk}
	}
	return nil
}

func refusedRoom(t *testing.T, what string, err error) {
	t.Helper()
	var why *layer.Full
	if !errors.As(err, &why) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%s: %v, want no space and why", what, err)
	}
}

// The log of a layer is bounded like its contents: changes of names and attributes alone must not fill the host's disk.
func TestWithoutRoomNothingIsAddedToTheLayer_AndTakingAwayGoesOn(t *testing.T) {
	disk := &full{}
	r := newRig(t)
	r.options = func(o *view.Options) { o.Room = disk.room }
	r.mount()
	r.hostWrite("theirs", "theirs")
	r.hostWrite("other", "other")
	r.create("mine", "mine")
	r.create("second", "second")
	r.mkdir("dir")
	root := r.tree.Root()
	defer root.Drop()
	before := r.picture()
	disk.now = true
	_, _, err := root.Create("new", 1, 0o644)
	refusedRoom(t, "an empty file", err)
	_, err = root.Mkdir("newdir", 0o755)
	refusedRoom(t, "a directory", err)
	_, err = root.Symlink("link", "to")
	refusedRoom(t, "a link", err)
	_, err = root.Mknod("node", 0o644)
	refusedRoom(t, "a node", err)
	refusedRoom(t, "a rename of the task's", r.rename("mine", "moved"))
	refusedRoom(t, "a rename of the folder's", r.rename("theirs", "moved"))
	refusedRoom(t, "a deletion of the folder's", r.unlink("theirs"))
	n, err := r.at("theirs")
	must(t, err)
	defer n.Drop()
	refusedRoom(t, "a mode", n.SetAttr(wire.SetAttr{Valid: wire.SetMode, Mode: 0o600}, nil))
	refusedRoom(t, "an attribute", n.SetXattr("user.a", []byte("v"), 0))
	f, err := n.Open(1)
	must(t, err)
	_, err = f.WriteAt([]byte("x"), 0)
	refusedRoom(t, "a first write", err)
	f.Close()
	if after := r.picture(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("what was refused left something:\n%v\n%v", before, after)
	}
	// What the task made it can take away, which makes room.
	must(t, r.unlink("mine"))
	must(t, r.removeAll("dir"))
	if got := r.read("second"); got != "second" {
		t.Errorf("the other file is %q", got)
	}
	disk.now = false
	r.create("new", "new")
	must(t, r.rename("second", "moved"))
}

// What goes into the folder itself leaves the same reserve; what takes nothing more of the disk goes on, and so does what makes room.
func TestInRwWithoutRoomNothingInTheFolderGrows_AndTheRestGoesOn(t *testing.T) {
	disk := &full{}
	r := newRW(t)
	old := r.options
	r.options = func(o *view.Options) { old(o); o.RoomBelow = disk.room }
	r.hostWrite("theirs", "theirs")
	r.hostWrite("there", "there")
	r.hostWrite("gone", "gone")
	sparse, err := os.Create(r.host("sparse"))
	must(t, err)
	must(t, sparse.Truncate(1<<20))
	must(t, sparse.Close())
	r.mount()
	r.mkdir("dir")
	root := r.tree.Root()
	defer root.Drop()
	n, f := r.open("theirs", 2)
	hole, in := r.open("sparse", 2)
	_, end := r.open("there", 2|0o2000)
	before := r.onHost()
	disk.now = true
	_, _, err = root.Create("new", 1, 0o644)
	refusedRoom(t, "a file", err)
	_, err = root.Mkdir("newdir", 0o755)
	refusedRoom(t, "a directory", err)
	_, err = root.Symlink("link", "to")
	refusedRoom(t, "a link", err)
	_, err = root.Mknod("node", 0o644)
	refusedRoom(t, "a node", err)
	refusedRoom(t, "a second name", root.Link("second", n))
	_, err = f.WriteAt([]byte("longer than it was"), 0)
	refusedRoom(t, "a write that goes on behind the end", err)
	_, err = end.WriteAt([]byte("x"), 0)
	refusedRoom(t, "a write at the end", err)
	_, err = in.WriteAt([]byte("x"), 4096)
	refusedRoom(t, "a write into a hole", err)
	refusedRoom(t, "a larger size", hole.SetAttr(wire.SetAttr{Valid: wire.SetSize, Size: 2 << 20}, in))
	refusedRoom(t, "an attribute", n.SetXattr("user.a", []byte("v"), 0))
	if got := r.onHost(); got != before || r.hostRead("theirs") != "theirs" || r.hostRead("there") != "there" {
		t.Errorf("what was refused left something: %s", got)
	}
	// What the folder has is opened, overwritten, cut, renamed and removed.
	again, opened, err := root.Create("theirs", 2, 0o644)
	must(t, err)
	opened.Close()
	again.Drop()
	_, err = f.WriteAt([]byte("THE"), 0)
	must(t, err)
	must(t, n.SetAttr(wire.SetAttr{Valid: wire.SetSize, Size: 4}, f))
	must(t, n.SetAttr(wire.SetAttr{Valid: wire.SetMode, Mode: 0o600}, f))
	must(t, r.rename("theirs", "dir/moved"))
	must(t, r.unlink("gone"))
	if got := r.hostRead("dir/moved"); got != "THEi" {
		t.Errorf("the folder has %q", got)
	}
	r.create(".envrc", "layered") // the layer's disk is another one
	disk.now = false
	_, err = f.WriteAt([]byte("longer than it was"), 0)
	must(t, err)
	r.create("new", "new")
}

// In rw, protected files of the task follow a directory that is moved in the folder, however many there are, and wholly.
func TestADirectoryWithVeryManyLayeredFilesIsMovedInTheFolder_OrNothingIs(t *testing.T) {
	disk := &full{}
	r := newRW(t)
	old := r.options
	r.options = func(o *view.Options) { old(o); o.Room = disk.room }
	r.mount()
	long := strings.Repeat("d", 200)
	const directories, hooks = 60, 100
	for d := range directories {
		at := fmt.Sprintf("project/%s%d", long, d)
		for _, dir := range []string{"", "/.vscode"} {
			must(t, os.MkdirAll(r.host(at+dir), 0o755))
		}
		dir, err := r.at(at + "/.vscode")
		must(t, err)
		for i := range hooks {
			n, f, err := dir.Create(fmt.Sprintf("tasks%d.json", i), 1, 0o644)
			must(t, err)
			f.Close()
			n.Drop()
		}
		dir.Drop()
	}
	place := fmt.Sprintf("%s%d/.vscode/tasks%d.json", long, directories-1, hooks-1)
	if r.node("project/"+place) == nil {
		t.Fatal("control: the file is not the layer's")
	}
	r.hostWrite("project/own", "own")
	disk.now = true
	refusedRoom(t, "moved without room", r.rename("project", "moved"))
	if _, err := os.Lstat(r.host("project/own")); err != nil {
		t.Error("the folder's was moved although the layer had no room: ", err)
	}
	disk.now = false
	must(t, r.rename("project", "moved"))
	for range 2 {
		if r.node("moved/"+place) == nil {
			t.Error("a protected file did not follow")
		}
		if got := r.read("moved/own"); got != "own" {
			t.Errorf("the folder's file is %q", got)
		}
		n, err := r.at("moved/" + place)
		must(t, err)
		n.Drop()
		r.remount()
	}
}
