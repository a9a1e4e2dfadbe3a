//go:build linux

package changes_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloche/share/internal/changes"
	"cloche/share/internal/hostfs"
	"cloche/share/internal/layer"
	"cloche/share/internal/ninep"
	"cloche/share/internal/problem"
	"cloche/share/internal/view"
	"cloche/share/internal/wire"
	"cloche/share/internal/writeback"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rig is a folder of the host, a task's layer over it, and the guest that works through the view.
type rig struct {
	t          testing.TB
	base, root string
	layer      *layer.Layer
	lower      ninep.Tree
	tree       *view.Tree
	write      *writeback.Folder
	set        *changes.Set
	crash      func(string)
	// descriptors of the folder that is served, which a process has to its end
	served []int
}

func newRig(t testing.TB) *rig {
	base := t.TempDir()
	r := &rig{t: t, base: base, root: filepath.Join(base, "root")}
	for _, dir := range []string{"root", "layer", "store"} {
		must(t, os.Mkdir(filepath.Join(base, dir), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(base, "canary"), []byte("canary"), 0o644))
	t.Cleanup(func() {
		r.close()
		if got, err := os.ReadFile(filepath.Join(base, "canary")); err != nil || string(got) != "canary" {
			t.Errorf("the canary outside was changed: %q, %v", got, err)
		}
	})
	return r
}

func (r *rig) dir(path string) int {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(r.t, err)
	return fd
}

// open starts everything anew, as a process does.
func (r *rig) open() {
	t := r.t
	t.Helper()
	r.close()
	r.served = []int{r.dir(r.root), r.dir("/proc/self/fd")}
	lower, err := hostfs.New(hostfs.Options{Root: r.served[0], Proc: r.served[1], ReadOnly: true, UID: 1000, GID: 1000})
	must(t, err)
	root := lower.Root().(view.Object)
	defer root.Drop()
	b, err := view.Identity(root, "")
	must(t, err)
	r.layer, err = layer.Open(r.dir(filepath.Join(r.base, "layer")), *b, root.QID().Path)
	must(t, err)
	r.lower = lower
	r.tree, err = view.New(view.Options{Lower: lower, Layer: r.layer, UID: 1000, GID: 1000})
	must(t, err)
	ours := []int{r.dir(r.root), r.dir(filepath.Join(r.base, "store")), r.dir("/proc/self/fd")}
	r.served = append(r.served, ours...)
	r.write, err = writeback.Open(writeback.Options{
		Root: ours[0], Store: ours[1], Proc: ours[2], Writer: "task-1",
		Crash: func(point string) {
			if r.crash != nil {
				r.crash(point)
			}
		},
	})
	must(t, err)
	r.set, err = changes.New(changes.Options{Layer: r.layer, Lower: lower, Merged: r.tree, Write: r.write, Holder: r.tree, Task: "receipts"})
	must(t, err)
}

func (r *rig) close() {
	if r.layer != nil {
		r.layer.Close()
		r.layer = nil
	}
	if r.write != nil {
		r.write.Close()
		r.write = nil
	}
	for _, fd := range r.served {
		unix.Close(fd)
	}
	r.served = nil
}

func (r *rig) host(path string) string { return filepath.Join(r.root, path) }

func (r *rig) put(path, content string) {
	r.t.Helper()
	must(r.t, os.MkdirAll(filepath.Dir(r.host(path)), 0o755))
	must(r.t, os.WriteFile(r.host(path), []byte(content), 0o644))
}

// at walks to what the guest sees at a path.
func (r *rig) at(path string) ninep.Node {
	r.t.Helper()
	n := r.tree.Root()
	for _, name := range layer.Components(path) {
		next, err := n.Walk(name)
		n.Drop()
		if err != nil {
			r.t.Fatalf("%s: %v", path, err)
		}
		n = next
	}
	return n
}

func split(path string) (dir, name string) {
	if at := strings.LastIndexByte(path, '/'); at >= 0 {
		return path[:at], path[at+1:]
	}
	return "", path
}

// guest writes a file as the guest, making it where it is not.
func (r *rig) guest(path, content string) {
	r.t.Helper()
	parent, name := split(path)
	dir := r.at(parent)
	defer dir.Drop()
	n, f, err := dir.Create(name, 1|0o1000, 0o644)
	must(r.t, err)
	_, err = f.WriteAt([]byte(content), 0)
	must(r.t, err)
	f.Close()
	n.Drop()
}

func (r *rig) mkdir(path string) {
	r.t.Helper()
	parent, name := split(path)
	dir := r.at(parent)
	defer dir.Drop()
	_, err := dir.Mkdir(name, 0o755)
	must(r.t, err)
}

func (r *rig) link(path, target string) {
	r.t.Helper()
	parent, name := split(path)
	dir := r.at(parent)
	defer dir.Drop()
	_, err := dir.Symlink(name, target)
	must(r.t, err)
}

func (r *rig) remove(path string, directory bool) {
	r.t.Helper()
	parent, name := split(path)
	dir := r.at(parent)
	defer dir.Drop()
	r.patiently(func() error { return dir.Unlink(name, directory) })
}

func (r *rig) rename(from, to string) {
	r.t.Helper()
	fromDir, fromName := split(from)
	toDir, toName := split(to)
	a, b := r.at(fromDir), r.at(toDir)
	defer a.Drop()
	defer b.Drop()
	r.patiently(func() error { return a.Rename(fromName, b, toName) })
}

func (r *rig) chmod(path string, mode uint32) {
	r.t.Helper()
	n := r.at(path)
	defer n.Drop()
	must(r.t, n.SetAttr(wire.SetAttr{Valid: wire.SetMode, Mode: mode}, nil))
}

func (r *rig) list() []*changes.Change {
	r.t.Helper()
	page, err := r.set.List("", 500)
	must(r.t, err)
	return page.Changes
}

// lines is the list in short.
func (r *rig) lines() []string {
	var lines []string
	for _, c := range r.list() {
		lines = append(lines, lineOf(c))
	}
	return lines
}

func lineOf(c *changes.Change) string {
	line := c.Path + " " + c.Kind + " " + c.Type
	if c.From != "" {
		line += " from " + c.From
	}
	if c.Conflict != "" {
		line += " conflict " + c.Conflict
	}
	if c.Count > 0 {
		line += fmt.Sprint(" of ", c.Count)
	}
	for _, flag := range c.Flags {
		line += " " + flag
	}
	if c.Protected {
		line += " protected"
	}
	if c.Executable {
		line += " executable"
	}
	return line
}

func (r *rig) expect(want ...string) {
	r.t.Helper()
	got := r.lines()
	sort.Strings(want)
	sort.Strings(got)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		r.t.Errorf("the list is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func (r *rig) change(path string) *changes.Change {
	r.t.Helper()
	for _, c := range r.list() {
		if c.Path == path {
			return c
		}
	}
	r.t.Fatalf("%s is no change: %v", path, r.lines())
	return nil
}

func (r *rig) chosen(paths ...string) changes.What {
	r.t.Helper()
	var what changes.What
	for _, path := range paths {
		c := r.change(path)
		what.Changes = append(what.Changes, changes.Chosen{ID: c.ID, Token: c.Token})
	}
	return what
}

// apply takes changes over to the end, and gives what was refused as "path code".
func (r *rig) apply(what changes.What) (batch string, done int, refused []string) {
	r.t.Helper()
	slice, err := r.set.Apply(what)
	for {
		must(r.t, err)
		done += len(slice.Done)
		for _, f := range slice.Refused {
			refused = append(refused, f.Path+" "+f.Code)
		}
		if slice.Remaining == 0 {
			sort.Strings(refused)
			return slice.Batch, done, refused
		}
		slice, err = r.set.ApplyMore(slice.Batch)
	}
}

func (r *rig) all() changes.What {
	page, err := r.set.List("", 1)
	must(r.t, err)
	return changes.What{All: true, Revision: page.Revision}
}

func (r *rig) none(refused []string) {
	r.t.Helper()
	if len(refused) > 0 {
		r.t.Errorf("refused: %v", refused)
	}
}

func (r *rig) undo(apply string) (restored int, refused []string) {
	r.t.Helper()
	slice, _, err := r.set.Undo(apply)
	for {
		must(r.t, err)
		restored += slice.Restored
		for _, f := range slice.Refused {
			refused = append(refused, f.Path+" "+f.Code)
		}
		if slice.Remaining == 0 {
			return restored, refused
		}
		slice, _, err = r.set.UndoMore(slice.Batch)
	}
}

// tree describes what lies below the folder.
func (r *rig) folder() map[string]string {
	r.t.Helper()
	found := map[string]string{}
	must(r.t, filepath.Walk(r.root, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(r.root, path)
		switch {
		case name == ".":
		case info.IsDir():
			found[name] = "directory"
		case info.Mode()&os.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			found[name] = "link " + target
		default:
			data, err := os.ReadFile(path)
			must(r.t, err)
			found[name] = fmt.Sprintf("%o %d %q", info.Mode().Perm(), info.ModTime().UnixNano(), data)
		}
		return nil
	}))
	return found
}

func (r *rig) same(what string, want map[string]string) {
	r.t.Helper()
	got := r.folder()
	for name := range want {
		if got[name] != want[name] {
			r.t.Errorf("%s: %s is %s, want %s", what, name, got[name], want[name])
		}
	}
	for name := range got {
		if _, there := want[name]; !there {
			r.t.Errorf("%s: %s is there: %s", what, name, got[name])
		}
	}
}

func (r *rig) content(path, want string) {
	r.t.Helper()
	got, err := os.ReadFile(r.host(path))
	if err != nil || string(got) != want {
		r.t.Errorf("%s holds %q, %v; want %q", path, got, err, want)
	}
}

func TestEverythingThatAGuestDoesIsListed_Applied_AndGoneFromTheList(t *testing.T) {
	r := newRig(t)
	r.put("modified", "old")
	r.put("deleted", "old")
	r.put("dir/a", "a")
	r.put("dir/sub/b", "b")
	r.put("moved", "moves")
	r.put("movedir/x", "x")
	r.put("movedir/y", "y")
	r.put("tofile/z", "z")
	r.put("todir", "was a file")
	r.put("mode", "same")
	before := r.folder()
	r.open()
	saw := r.view()
	r.guest("modified", "new content")
	r.remove("deleted", false)
	r.guest("new", "new")
	r.mkdir("newdir")
	r.guest("newdir/in", "in")
	r.remove("dir/a", false)
	r.remove("dir/sub/b", false)
	r.remove("dir/sub", true)
	r.remove("dir", true)
	r.rename("moved", "newdir/moved")
	r.rename("movedir", "otherdir")
	r.guest("otherdir/x", "x changed")
	r.remove("tofile/z", false)
	r.remove("tofile", true)
	r.guest("tofile", "a file")
	r.remove("todir", false)
	r.mkdir("todir")
	r.guest("todir/in", "in")
	r.chmod("mode", 0o755)
	r.link("link", "new")
	r.expect("modified modified file", "deleted deleted file", "new new file", "newdir new directory", "newdir/in new file",
		"dir deleted directory", "dir/a deleted file", "dir/sub deleted directory", "dir/sub/b deleted file",
		"newdir/moved moved file from moved", "otherdir moved directory from movedir", "otherdir/x modified file",
		"tofile type-changed file", "tofile/z deleted file", "todir type-changed directory", "todir/in new file",
		"mode attributes file executable", "link new link")
	r.open() // and by another process as well
	count, lines := len(r.list()), r.lines()
	seen := r.view()
	if fmt.Sprint(seen) == fmt.Sprint(saw) {
		t.Error("control: the guest sees nothing of what it did")
	}
	batch, done, refused := r.apply(r.all())
	r.none(refused)
	if done != count {
		t.Errorf("%d of %d were applied", done, count)
	}
	r.expect()
	for path, want := range map[string]string{
		"modified": "new content", "new": "new", "newdir/in": "in", "newdir/moved": "moves", "otherdir/x": "x changed", "otherdir/y": "y",
		"tofile": "a file", "todir/in": "in", "mode": "same",
	} {
		r.content(path, want)
	}
	for _, path := range []string{"deleted", "dir", "moved", "movedir"} {
		if _, err := os.Lstat(r.host(path)); err == nil {
			t.Errorf("%s is still there", path)
		}
	}
	if st, _ := os.Stat(r.host("mode")); st.Mode().Perm() != 0o755 {
		t.Errorf("mode is %v", st.Mode())
	}
	r.open()
	r.expect()
	restored, refused := r.undo(batch)
	r.none(refused)
	if restored < count {
		t.Errorf("%d were restored", restored)
	}
	r.same("after undo", before)
	for range 2 { // it waits again, also for another process
		r.expect(lines...)
		r.alike("the guest's view", r.view(), seen)
		r.open()
	}
	_, done, refused = r.apply(r.all())
	r.none(refused)
	if done != count {
		t.Errorf("once more, %d of %d were applied", done, count)
	}
}

func TestWhatIsShownIsWhatIsApplied(t *testing.T) {
	r := newRig(t)
	r.put("a", "old a")
	r.put("b", "old b")
	r.put("c", "old c")
	r.open()
	r.guest("a", "new a")
	r.guest("b", "new b")
	r.guest("c", "new c")
	shown := r.chosen("a", "b", "c")
	r.guest("a", "another a") // the guest, after it was shown
	r.put("b", "the host's")
	_, done, refused := r.apply(shown)
	if done != 1 || strings.Join(refused, ", ") != "a "+problem.ChangeMovedOn+", b "+problem.ChangeMovedOn {
		t.Errorf("%d done, refused %v", done, refused)
	}
	r.content("a", "old a")
	r.content("b", "the host's")
	r.content("c", "new c") // control
	// As of a revision: what came later is left out.
	revision := r.all()
	r.guest("d", "later")
	_, _, refused = r.apply(revision)
	r.content("a", "another a")
	if _, err := os.Lstat(r.host("d")); err == nil || strings.Join(refused, ", ") != "b "+problem.Conflict+", d "+problem.ChangeMovedOn {
		t.Errorf("refused %v", refused)
	}
}

// All as it was shown: a directory that is somewhere else by now puts nothing of what it holds into the folder.
func TestAllOfAnOldListTakesNothingThatIsAtAnotherPlaceByNow(t *testing.T) {
	for _, reopened := range []bool{false, true} {
		r := newRig(t)
		r.put("own/deep/file", "own")
		r.open()
		r.mkdir("made")
		r.mkdir("made/deep")
		r.guest("made/deep/file", "new")
		r.guest("own/deep/file", "changed")
		r.guest("stays", "stays")
		shown := r.all()
		r.rename("made", "elsewhere")
		r.rename("own", "taken")
		if reopened {
			r.open()
		}
		_, done, refused := r.apply(shown)
		want, applies := "elsewhere share.change-moved-on|elsewhere/deep share.change-moved-on|elsewhere/deep/file share.change-moved-on|", 1
		if reopened { // what else was as now in a list that is not known is not known either
			want, applies = want+"stays share.change-moved-on|", 0
		}
		if want += "taken share.change-moved-on|taken/deep/file share.change-moved-on"; done != applies || strings.Join(refused, "|") != want {
			t.Errorf("reopened %v: %d applied, refused %s", reopened, done, strings.Join(refused, "|"))
		}
		for _, path := range []string{"elsewhere", "made", "taken"} {
			if _, err := os.Lstat(r.host(path)); err == nil {
				t.Errorf("the folder has %s", path)
			}
		}
		if got, err := os.ReadFile(r.host("own/deep/file")); err != nil || string(got) != "own" {
			t.Errorf("%q, %v", got, err)
		}
		// Nor is it discarded by the old list.
		slice, err := r.set.Discard(shown)
		must(t, err)
		if len(slice.Done) != 1-applies || len(slice.Refused) != 5 {
			t.Errorf("discarded %v, refused %v", slice.Done, slice.Refused)
		}
		// Control: as it is shown now, it is applied.
		_, done, refused = r.apply(r.all())
		r.none(refused)
		if got, err := os.ReadFile(r.host("elsewhere/deep/file")); err != nil || string(got) != "new" || done == 0 {
			t.Errorf("%d applied: %q, %v", done, got, err)
		}
		if got, err := os.ReadFile(r.host("taken/deep/file")); err != nil || string(got) != "changed" {
			t.Errorf("%q, %v", got, err)
		}
	}
}

func TestConflictsAreListedAndNeverApplied_TheThreeWayViewHasBothSides(t *testing.T) {
	r := newRig(t)
	for _, name := range []string{"changed", "gone", "kind", "deleted-changed", "moved-changed", "untouched"} {
		r.put(name, "base of "+name+"\n")
	}
	r.open()
	r.guest("changed", "the task's\n")
	r.guest("gone", "the task's\n")
	r.guest("kind", "the task's\n")
	r.guest("exists", "the task's\n")
	r.remove("deleted-changed", false)
	r.rename("moved-changed", "moved-to")
	r.guest("untouched", "the task's\n") // control
	r.put("changed", "the host's\n")
	must(t, os.Remove(r.host("gone")))
	must(t, os.Remove(r.host("kind")))
	must(t, os.Mkdir(r.host("kind"), 0o755))
	r.put("exists", "the host's\n")
	r.put("deleted-changed", "the host's\n")
	r.put("moved-changed", "the host's\n")
	r.expect("changed modified file conflict changed", "gone modified file conflict gone", "kind modified file conflict type-changed",
		"exists new file conflict exists", "deleted-changed deleted file conflict changed", "moved-to moved file from moved-changed conflict changed",
		"untouched modified file")
	for side, want := range map[string]string{"change": "-base of changed\n+the task's\n", "theirs": "-base of changed\n+the host's\n"} {
		d, err := r.set.Diff(r.change("changed").ID, side, 3, 0, 1<<20)
		must(t, err)
		if !strings.Contains(string(d.Bytes), want) {
			t.Errorf("%s: %s", side, d.Bytes)
		}
	}
	before := r.folder()
	for _, path := range []string{"changed", "gone", "kind", "exists", "deleted-changed", "moved-to"} {
		if _, done, refused := r.apply(r.chosen(path)); done != 0 || len(refused) != 1 || !strings.HasSuffix(refused[0], problem.Conflict) {
			t.Errorf("%s: %d done, refused %v", path, done, refused)
		}
	}
	r.same("after refused applies", before)
	r.remove("untouched", false) // what is deleted on both sides is taken over without a step
	must(t, os.Remove(r.host("untouched")))
	_, done, refused := r.apply(r.all())
	if done != 1 || len(refused) != 6 {
		t.Errorf("%d done, refused %v", done, refused)
	}
	r.expect("changed modified file conflict changed", "gone modified file conflict gone", "kind modified file conflict type-changed",
		"exists new file conflict exists", "deleted-changed deleted file conflict changed", "moved-to moved file from moved-changed conflict changed")
}

func TestAFileThatTheHostChangesDuringTheApplyIsRefused(t *testing.T) {
	r := newRig(t)
	r.put("a", "old")
	r.open()
	r.guest("a", "new")
	what := r.chosen("a")
	r.crash = func(point string) {
		if point == "prepared" {
			r.put("a", "the host's, meanwhile")
		}
	}
	_, done, refused := r.apply(what)
	r.crash = nil
	if done != 0 || len(refused) != 1 {
		t.Errorf("%d done, refused %v", done, refused)
	}
	r.content("a", "the host's, meanwhile")
	r.expect("a modified file conflict changed")
}

func TestAWriteOfTheGuestDuringTheApplyIsNotLost(t *testing.T) {
	for _, point := range []string{"begun", "prepared", "renamed", "done", "cleaned"} {
		t.Run(point, func(t *testing.T) {
			r := newRig(t)
			r.put("a", "old")
			r.open()
			r.guest("a", "shown")
			what := r.chosen("a")
			r.crash = func(at string) {
				if at == point {
					r.crash = nil
					time.Sleep(5 * time.Millisecond) // a tick of the filesystem's clock
					r.guest("a", "written meanwhile")
				}
			}
			_, _, _ = r.apply(what)
			r.open()
			n := r.at("a")
			defer n.Drop()
			f, err := n.Open(0)
			must(t, err)
			defer f.Close()
			b := make([]byte, 100)
			size, err := f.ReadAt(b, 0)
			must(t, err)
			if string(b[:size]) != "written meanwhile" {
				t.Errorf("the guest reads %q", b[:size])
			}
			_, done, refused := r.apply(r.chosen("a"))
			r.none(refused)
			if done != 1 {
				t.Error("the later write cannot be applied")
			}
			r.content("a", "written meanwhile")
		})
	}
}

func TestHunksAreAppliedAndDiscardedOneByOne(t *testing.T) {
	r := newRig(t)
	var lines []string
	for i := range 60 {
		lines = append(lines, fmt.Sprintf("line %d\n", i))
	}
	old := strings.Join(lines, "")
	r.put("a", old)
	r.open()
	edit := func(at ...int) string {
		changed := append([]string{}, lines...)
		for _, i := range at {
			changed[i] = fmt.Sprintf("changed %d\n", i)
		}
		return strings.Join(changed, "")
	}
	r.guest("a", edit(5, 30, 55))
	c := r.change("a")
	d, err := r.set.Diff(c.ID, "change", 3, 0, 1<<20)
	must(t, err)
	if len(d.Hunks) != 3 || d.Kind != "text" {
		t.Fatalf("%d hunks: %s", len(d.Hunks), d.Bytes)
	}
	batch, done, refused := r.apply(changes.What{Changes: []changes.Chosen{{ID: c.ID, Token: c.Token, Hunks: []int{1}}}})
	r.none(refused)
	if done != 1 {
		t.Fatal("nothing was applied")
	}
	r.content("a", edit(30))
	c = r.change("a") // the rest still waits, from the folder's new file
	if d, err = r.set.Diff(c.ID, "change", 3, 0, 1<<20); err != nil || len(d.Hunks) != 2 || c.Conflict != "" {
		t.Fatalf("%v: %v %s", err, c, d.Bytes)
	}
	slice, err := r.set.Discard(changes.What{Changes: []changes.Chosen{{ID: c.ID, Token: c.Token, Hunks: []int{0}}}})
	must(t, err)
	if len(slice.Done) != 1 {
		t.Fatalf("%+v", slice)
	}
	r.open()
	_, _, refused = r.apply(r.chosen("a"))
	r.none(refused)
	r.content("a", edit(30, 55))
	r.expect()
	if _, refused := r.undo(batch); len(refused) != 1 { // the file is another one by now
		t.Errorf("refused %v", refused)
	}
	for _, a := range r.set.Applies() {
		if !a.Undone {
			r.undo(a.Apply)
		}
	}
	r.content("a", old)
	// Refusals: what has no hunks, and hunks that are not there.
	r.guest("b", "new\n")
	r.guest("a", edit(3))
	for path, hunks := range map[string][]int{"b": {0}, "a": {7}} {
		c := r.change(path)
		if _, done, refused := r.apply(changes.What{Changes: []changes.Chosen{{ID: c.ID, Token: c.Token, Hunks: hunks}}}); done != 0 || len(refused) != 1 {
			t.Errorf("%s: %v", path, refused)
		}
	}
}

func TestLinksThatMayLeaveTheFolderAreFlagged_AndNeverAppliedByAll(t *testing.T) {
	r := newRig(t)
	r.put("d/f", "f")
	r.open()
	for name, target := range map[string]string{
		"absolute": "/etc/passwd", "up": "../canary", "d/up": "../../canary", "winding": "d/../../canary", "d/trick": "x/..", "inside": "d/f", "d/inside": "../d/f",
	} {
		r.link(name, target)
	}
	r.expect("absolute new link absolute-link", "up new link escaping-link", "d/up new link escaping-link", "winding new link escaping-link",
		"d/trick new link escaping-link", "inside new link", "d/inside new link")
	_, done, refused := r.apply(r.all())
	if done != 2 || len(refused) != 5 {
		t.Errorf("%d done, refused %v", done, refused)
	}
	for _, each := range refused {
		if !strings.HasSuffix(each, problem.LinkEscapes) {
			t.Error(each)
		}
	}
	for _, name := range []string{"absolute", "up", "d/up", "winding", "d/trick"} {
		if _, err := os.Lstat(r.host(name)); err == nil {
			t.Errorf("%s is in the folder after apply --all", name)
		}
	}
	_, _, refused = r.apply(r.chosen("up")) // control: by itself
	r.none(refused)
	if target, _ := os.Readlink(r.host("up")); target != "../canary" {
		t.Errorf("up leads to %q", target)
	}
}

func TestProtectedNamesAreAppliedOneByOneOnly(t *testing.T) {
	r := newRig(t)
	r.put("src/a", "a")
	r.open()
	r.guest(".envrc", "rm -rf ~")
	r.mkdir(".vscode")
	r.guest(".vscode/tasks.json", "{}")
	r.guest("src/a", "changed")
	_, done, refused := r.apply(r.all())
	if done != 1 || len(refused) != 3 {
		t.Errorf("%d done, refused %v", done, refused)
	}
	if _, err := os.Lstat(r.host(".envrc")); err == nil {
		t.Error(".envrc was applied with all")
	}
	_, _, refused = r.apply(r.chosen(".vscode/tasks.json")) // control; its directory comes along
	r.none(refused)
	r.content(".vscode/tasks.json", "{}")
}

func TestIgnoredFilesAreOneLine_AppliedOnlyWhenChosen(t *testing.T) {
	r := newRig(t)
	r.put(".gitignore", "node_modules/\n*.log\n")
	r.put("src/a", "a")
	r.open()
	r.mkdir("node_modules")
	for i := range 20 {
		r.guest(fmt.Sprint("node_modules/f", i), "x")
	}
	r.guest("src/one.log", "x")
	r.guest("src/two.log", "x")
	r.guest("src/a", "changed")
	r.expect("node_modules new ignored of 21", "src new ignored of 2", "src/a modified file")
	_, done, refused := r.apply(r.all())
	if done != 1 || strings.Join(refused, ", ") != "node_modules "+problem.Ignored+", src "+problem.Ignored {
		t.Errorf("%d done, refused %v", done, refused)
	}
	_, _, refused = r.apply(r.chosen("node_modules"))
	r.none(refused)
	r.content("node_modules/f7", "x")
	r.expect("src new ignored of 2")
}

func TestADatabaseIsOneChange_WhollyOrNotAtAll(t *testing.T) {
	r := newRig(t)
	r.put("app.db", sqlite("old"))
	r.put("app.db-wal", wal("old"))
	r.open()
	r.guest("app.db", sqlite("new"))
	r.guest("app.db-wal", wal("new"))
	r.guest("app.db-shm", "\x18\xe2\x2d\x00 new")
	r.guest("x-wal", "is nobody's")
	r.expect("app.db modified database of 3", "x-wal new file")
	what := r.chosen("app.db")
	r.crash = func(point string) {
		if point == "prepared" {
			r.put("app.db-wal", "the host's")
		}
	}
	_, done, refused := r.apply(what)
	r.crash = nil
	if done != 0 || len(refused) != 1 {
		t.Errorf("%d done, refused %v", done, refused)
	}
	r.content("app.db", sqlite("old"))
	if _, err := os.Lstat(r.host("app.db-shm")); err == nil {
		t.Error("half a database was applied")
	}
	r = newRig(t) // control
	r.put("app.db", sqlite("old"))
	r.open()
	r.guest("app.db", sqlite("new"))
	r.guest("app.db-wal", wal("new"))
	_, _, refused = r.apply(r.all())
	r.none(refused)
	r.content("app.db", sqlite("new"))
	r.content("app.db-wal", wal("new"))
	r.expect()
}

func TestARepositoryIsOneLine(t *testing.T) {
	r := newRig(t)
	r.open()
	r.mkdir(".git")
	r.guest(".git/HEAD", "ref: refs/heads/main\n")
	r.mkdir(".git/hooks")
	r.guest(".git/hooks/pre-commit", "#!/bin/sh\nrm -rf ~\n")
	r.mkdir(".git/refs")
	r.mkdir(".git/objects")
	list := r.list()
	if len(list) != 1 || list[0].Type != changes.Repository || list[0].Path != ".git" {
		t.Fatalf("%v", r.lines())
	}
	r.apply(r.all())
	r.apply(r.chosen(".git"))
	if _, err := os.Lstat(r.host(".git/hooks/pre-commit")); err == nil {
		t.Error("a hook was applied")
	}
}

func TestDiscardDropsWhatWasChosen_AndTheFolderStaysAsItIs(t *testing.T) {
	r := newRig(t)
	r.put("a", "old")
	r.put("moved", "m")
	r.put("gone", "g")
	before := r.folder()
	r.open()
	r.guest("a", "new")
	r.mkdir("d")
	r.guest("d/f", "f")
	r.rename("moved", "elsewhere")
	r.remove("gone", false)
	r.guest("kept", "k")
	slice, err := r.set.Discard(r.chosen("a", "d", "d/f", "elsewhere", "gone"))
	must(t, err)
	if len(slice.Done) != 5 || len(slice.Refused) != 0 {
		t.Errorf("%+v", slice)
	}
	r.open()
	r.expect("kept new file")
	r.same("after discard", before)
	for _, path := range []string{"a", "moved", "gone"} { // the guest sees the folder's own again
		r.at(path).Drop()
	}
	if slice, err = r.set.Discard(r.all()); err != nil || len(slice.Done) != 1 {
		t.Errorf("%+v, %v", slice, err)
	}
	r.expect()
	what := r.chosenNone()
	if slice, err := r.set.Discard(what); err != nil || len(slice.Refused) != 1 || slice.Refused[0].Code != problem.ChangeUnknown {
		t.Errorf("%+v, %v", slice, err)
	}
}

func (r *rig) chosenNone() changes.What {
	return changes.What{Changes: []changes.Chosen{{ID: "n999", Token: "x"}}}
}

func TestACrashAtAnyPointBetweenApplyAndLayerIsCaughtUpWith(t *testing.T) {
	type crashed struct{}
	for n := 1; ; n++ {
		r := newRig(t)
		r.put("a", "old a")
		r.put("gone", "g")
		r.put("moved", "m")
		r.open()
		r.guest("a", "new a")
		r.remove("gone", false)
		r.mkdir("d")
		r.guest("d/f", "f")
		r.rename("moved", "d/moved")
		all, count, at := r.all(), 0, ""
		r.crash = func(point string) {
			if count++; count == n {
				at = point
				panic(crashed{})
			}
		}
		reached := func() (reached bool) {
			defer func() {
				if p := recover(); p != nil {
					if _, is := p.(crashed); !is {
						panic(p)
					}
					reached = true
				}
			}()
			r.apply(all)
			return false
		}()
		r.crash = nil
		r.open()
		for _, c := range r.list() {
			if c.Conflict != "" {
				t.Errorf("crash %d (%s): %s is a conflict: %s", n, at, c.Path, c.Conflict)
			}
		}
		_, _, refused := r.apply(r.all())
		r.none(refused)
		r.expect()
		r.content("a", "new a")
		r.content("d/f", "f")
		r.content("d/moved", "m")
		if !reached {
			t.Logf("crashed at %d points", n-1)
			return
		}
	}
}

func TestUndoRestoresExactly_AndRefusesWhatTheHostChangedSince(t *testing.T) {
	r := newRig(t)
	r.put("a", "old a")
	r.put("b", "old b")
	must(t, os.Chmod(r.host("a"), 0o640))
	before := r.folder()
	r.open()
	r.guest("a", "new a")
	r.guest("b", "new b")
	r.apply(r.all())
	r.put("b", "the host's")
	restored, refused := r.undo("")
	if restored != 1 || strings.Join(refused, "") != "b "+problem.NotUndoable {
		t.Errorf("%d restored, refused %v", restored, refused)
	}
	if got := r.folder(); got["a"] != before["a"] {
		t.Errorf("a is %s, was %s", got["a"], before["a"])
	}
	r.content("b", "the host's")
	if _, _, err := r.set.Undo("nonsense"); !errors.Is(err, writeback.ErrNotUndoable) {
		t.Errorf("undo of nothing: %v", err)
	}
}

// everyKind is work of a guest with each kind of change but a move.
func (r *rig) everyKind() {
	r.put("modified", "one\ntwo\nthree\n")
	r.put("deleted", "deleted")
	r.put("mode", "mode")
	r.put("dir/in", "in")
	r.put("dir/sub/deep", "deep")
	must(r.t, os.Symlink("old", r.host("link")))
	must(r.t, os.Chmod(r.host("mode"), 0o640))
	_ = unix.Setxattr(r.host("modified"), "user.theirs", []byte("theirs"), 0)
	r.open()
	r.guest("modified", "one\n2\nthree\n")
	n := r.at("modified")
	must(r.t, n.SetAttr(wire.SetAttr{Valid: wire.SetMtime | wire.SetMtimeTo, Mtime: wire.Time{Sec: 1_600_000_000, Nsec: 5}}, nil))
	_ = n.SetXattr("user.mine", []byte("mine"), 0)
	n.Drop()
	r.remove("deleted", false)
	r.chmod("mode", 0o755)
	r.guest("new", "new")
	r.mkdir("made")
	r.mkdir("made/deeper")
	r.guest("made/deeper/file", "file")
	r.link("madelink", "modified")
	r.remove("link", false)
	r.link("link", "new")
	r.remove("dir/in", false)
	r.remove("dir/sub/deep", false)
	r.remove("dir/sub", true)
	r.remove("dir", true)
}

// view is what the guest sees, in short.
func (r *rig) view() map[string]string {
	r.t.Helper()
	seen := map[string]string{}
	var below func(n ninep.Node, path string)
	below = func(n ninep.Node, path string) {
		must(r.t, ninep.EachName(n, func(d wire.Dirent) bool {
			child, err := n.Walk(d.Name)
			must(r.t, err)
			defer child.Drop()
			a, err := child.Attr()
			must(r.t, err)
			at := layer.Join(path, d.Name)
			line := fmt.Sprintf("%o", a.Mode)
			switch a.Mode & unix.S_IFMT {
			case unix.S_IFDIR:
				below(child, at)
			case unix.S_IFLNK:
				text, _ := child.Readlink()
				line += " " + text
			default:
				f, err := child.Open(0)
				must(r.t, err)
				data := make([]byte, a.Size)
				got, _ := f.ReadAt(data, 0)
				f.Close()
				line += fmt.Sprintf(" %d.%d %s", a.Mtime.Sec, a.Mtime.Nsec, data[:got])
			}
			seen[at] = line
			return true
		}))
	}
	root := r.tree.Root()
	defer root.Drop()
	below(root, "")
	return seen
}

func (r *rig) alike(what string, got, want map[string]string) {
	r.t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		r.t.Errorf("%s is\n%v\nwas\n%v", what, got, want)
	}
}

func TestWhatAnUndoTakesBackWaitsAgain_TheGuestSeesItAsBefore_AndItCanBeAppliedOnceMore(t *testing.T) {
	for _, reopened := range []bool{false, true} {
		for _, held := range []bool{false, true} {
			r := newRig(t)
			r.everyKind()
			var open []ninep.Node
			if held { // the guest has walked to everything and goes on with that
				for _, path := range []string{"modified", "mode", "new", "made", "made/deeper", "made/deeper/file", "link"} {
					open = append(open, r.at(path))
				}
			}
			lines, seen, folder := r.lines(), r.view(), r.folder()
			_, _, refused := r.apply(r.chosen(pathsOf(r.list())...))
			r.none(refused)
			r.expect()
			applied := r.folder()
			if !held && reopened {
				r.open()
			}
			_, refused = r.undo("")
			r.none(refused)
			r.alike("the folder after the undo", r.folder(), folder)
			if !held && reopened {
				r.open()
			}
			r.expect(lines...)
			r.alike("the guest's view after the undo", r.view(), seen)
			for _, n := range open {
				if _, err := n.Attr(); err != nil {
					t.Errorf("a handle from before: %v", err)
				}
			}
			if held { // a write through a handle of before is one more change of the same file
				f, err := open[0].Open(1)
				must(t, err)
				_, err = f.WriteAt([]byte("ONE"), 0)
				must(t, err)
				f.Close()
				r.expect(lines...)
				if got := r.view()["modified"]; !strings.HasSuffix(got, "ONE\n2\nthree\n") {
					t.Errorf("modified is %q", got)
				}
				f, err = open[0].Open(1)
				must(t, err)
				_, err = f.WriteAt([]byte("one"), 0)
				must(t, err)
				f.Close()
				must(t, open[0].SetAttr(wire.SetAttr{Valid: wire.SetMtime | wire.SetMtimeTo, Mtime: wire.Time{Sec: 1_600_000_000, Nsec: 5}}, nil))
			}
			_, _, refused = r.apply(r.chosen(pathsOf(r.list())...))
			r.none(refused)
			r.alike("the folder applied once more", r.folder(), applied)
			_, refused = r.undo("")
			r.none(refused)
			r.discardAll()
			r.expect()
			r.alike("the folder at the end", r.folder(), folder)
			for _, n := range open {
				n.Drop()
			}
		}
	}
}

// The process ends when the folder is as before and the layer does not know it yet.
func TestAfterACrashBetweenAnUndoAndTheLayerItWaitsAgainAllTheSame(t *testing.T) {
	r := newRig(t)
	r.everyKind()
	lines, seen, folder := r.lines(), r.view(), r.folder()
	batch, _, refused := r.apply(r.chosen(pathsOf(r.list())...))
	r.none(refused)
	undo, err := r.write.Undo(batch) // beside the layer's back
	must(t, err)
	for undo.Remaining() > 0 {
		backs, err := undo.Next(3)
		must(t, err)
		for _, back := range backs {
			must(t, back.Err)
		}
	}
	r.expect() // control: the layer knows nothing of it
	for range 2 {
		r.open()
		r.alike("the folder", r.folder(), folder)
		r.expect(lines...)
		r.alike("the guest's view", r.view(), seen)
	}
}

// L06: the layer's disk is full. The folder comes back all the same, and what does not wait again is said.
func TestOnAFullDiskAnUndoStillReturnsTheFolder_AndSaysWhatDoesNotWaitAgain(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("IGNORED: a small filesystem needs root")
	}
	r := newRig(t)
	dir := filepath.Join(r.base, "layer")
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("IGNORED: a small filesystem cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { r.close(); _ = unix.Unmount(dir, unix.MNT_DETACH) })
	r.put("large", "old")
	r.open()
	r.guest("large", strings.Repeat("new", 50_000))
	folder := r.folder()
	_, _, refused := r.apply(r.all())
	r.none(refused)
	filler := filepath.Join(dir, "filler")
	must(t, os.WriteFile(filler, make([]byte, 880<<10), 0o600))
	restored, refused := r.undo("")
	if restored != 1 || strings.Join(refused, "") != "large "+problem.NoRoom {
		t.Errorf("%d restored, refused %v", restored, refused)
	}
	r.alike("the folder", r.folder(), folder)
	r.expect() // nothing half waits
	must(t, os.Remove(filler))
	r.open()
	r.guest("large", "after")
	r.expect("large modified file") // control: with room it goes on
}

func TestWhatTheGuestWentOnWithAfterTheApplyStaysItsOwnByAnUndo(t *testing.T) {
	r := newRig(t)
	r.everyKind()
	folder := r.folder()
	r.apply(r.chosen(pathsOf(r.list())...))
	r.guest("modified", "further")
	r.guest("deleted", "made again")
	r.remove("new", false)
	r.guest("made/more", "more")
	seen := r.view()
	_, refused := r.undo("")
	r.none(refused)
	r.alike("the folder", r.folder(), folder)
	r.alike("the guest's view", r.view(), seen)
	r.open()
	r.alike("the guest's view in another process", r.view(), seen)
	_, _, refused = r.apply(r.chosen(pathsOf(r.list())...))
	r.none(refused)
	r.content("modified", "further")
	r.content("deleted", "made again")
	r.content("made/more", "more")
}

func (r *rig) discardAll() {
	r.t.Helper()
	slice, err := r.set.Discard(r.all())
	must(r.t, err)
	for _, f := range slice.Refused {
		r.t.Errorf("not discarded: %s %s", f.Path, f.Code)
	}
}

func pathsOf(all []*changes.Change) []string {
	var paths []string
	for _, c := range all {
		paths = append(paths, c.Path)
	}
	return paths
}

func TestNamesThatActOnATerminalComeOutAsTheyAre_AndDiffsAreSafe(t *testing.T) {
	r := newRig(t)
	r.open()
	name := "a\x1b[31m\n+++ x\u202e\xff"
	r.guest(name, "x\n")
	c := r.change(name) // bytes; who shows them makes them safe
	d, err := r.set.Diff(c.ID, "change", 3, 0, 1<<20)
	must(t, err)
	if bytes.ContainsAny(d.Bytes, "\x1b\xff") || bytes.Count(d.Bytes, []byte("\n+++ ")) != 1 {
		t.Errorf("%q", d.Bytes)
	}
	_, _, refused := r.apply(r.all())
	r.none(refused)
	r.content(name, "x\n")
}

func TestTenThousandChangesAreListedWithinASecond(t *testing.T) {
	r := newRig(t)
	const count = 10_000
	for i := range count {
		r.put(fmt.Sprintf("d%d/f%d", i%100, i), "old")
	}
	r.open()
	for i := range count {
		r.guest(fmt.Sprintf("d%d/f%d", i%100, i), "new")
	}
	r.open()
	begin := time.Now()
	seen, after := 0, ""
	for {
		page, err := r.set.List(after, 500)
		must(t, err)
		if page.Total != count {
			t.Fatalf("total %d", page.Total)
		}
		seen += len(page.Changes)
		if after = page.Next; after == "" {
			break
		}
	}
	took := time.Since(begin)
	t.Logf("listing %d changes: %d ms", seen, took.Milliseconds())
	if seen != count || took > 8*time.Second { // a second on a quiet machine
		t.Errorf("%d in %v", seen, took)
	}
}

func TestBatchesAnswerInSlices_AndOneBatchIsOneUndo(t *testing.T) {
	r := newRig(t)
	for i := range 450 {
		r.put(fmt.Sprint("f", i), "old")
	}
	before := r.folder()
	r.open()
	for i := range 450 {
		r.guest(fmt.Sprint("f", i), "new")
	}
	slice, err := r.set.Apply(r.all())
	must(t, err)
	if slice.Remaining == 0 || len(slice.Done) > 200 {
		t.Errorf("%d at once, %d remain", len(slice.Done), slice.Remaining)
	}
	for slice.Remaining > 0 {
		slice, err = r.set.ApplyMore(slice.Batch)
		must(t, err)
	}
	if _, err := r.set.ApplyMore(slice.Batch); !errors.Is(err, changes.ErrUnknown) {
		t.Errorf("a batch that is over: %v", err)
	}
	if list := r.set.Applies(); len(list) != 1 || list[0].Files != 450 {
		t.Errorf("%+v", list)
	}
	restored, refused := r.undo("")
	r.none(refused)
	if restored != 450 {
		t.Errorf("%d restored", restored)
	}
	r.same("after undo", before)
}

func TestDiscardedHunksAreGoneForTheGuestToo_WhetherItHasTheFileOpenOrNot(t *testing.T) {
	for _, open := range []bool{false, true} {
		t.Run(fmt.Sprint("open ", open), func(t *testing.T) {
			r := newRig(t)
			old := strings.Repeat("line\n", 40)
			r.put("a", "first\n"+old+"last\n")
			r.open()
			r.guest("a", "FIRST\n"+old+"LAST\n")
			r.open()
			var held ninep.Node
			if open {
				held = r.at("a")
				defer held.Drop()
			}
			c := r.change("a")
			slice, err := r.set.Discard(changes.What{Changes: []changes.Chosen{{ID: c.ID, Token: c.Token, Hunks: []int{0}}}})
			must(t, err)
			if len(slice.Done) != 1 {
				t.Fatalf("%+v", slice)
			}
			n := r.at("a")
			defer n.Drop()
			f, err := n.Open(0)
			must(t, err)
			defer f.Close()
			b := make([]byte, 1000)
			size, err := f.ReadAt(b, 0)
			must(t, err)
			if want := "first\n" + old + "LAST\n"; string(b[:size]) != want {
				t.Errorf("the guest reads %q", b[:size])
			}
			r.content("a", "first\n"+old+"last\n")
		})
	}
}

func TestAModeThatTheGuestSetsDuringTheApplyIsAChangeOfItsOwn(t *testing.T) {
	for _, point := range []string{"prepared", "done"} {
		t.Run(point, func(t *testing.T) {
			r := newRig(t)
			r.put("a", "old")
			r.open()
			r.guest("a", "new")
			what := r.chosen("a")
			r.crash = func(at string) {
				if at == point {
					r.crash = nil
					r.chmod("a", 0o755)
				}
			}
			r.apply(what)
			r.open()
			_, _, refused := r.apply(r.all())
			r.none(refused)
			r.content("a", "new")
			if st, err := os.Stat(r.host("a")); err != nil || st.Mode().Perm() != 0o755 {
				t.Errorf("the mode is %v, %v", st.Mode(), err)
			}
		})
	}
}
