//go:build linux

package writeback

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloche/share/internal/names"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a folder with its store, a place for new contents, and a canary outside.
type world struct {
	t                         testing.TB
	base, root, store, source string
	writer                    string
	keep                      time.Duration
	crash                     func(string)
	contents                  int
}

func newWorld(t testing.TB) *world {
	base := t.TempDir()
	w := &world{t: t, base: base, root: filepath.Join(base, "root"), store: filepath.Join(base, "store"), source: filepath.Join(base, "source"), writer: "w-1"}
	for _, dir := range []string{w.root, w.store, w.source} {
		must(t, os.Mkdir(dir, 0o755))
	}
	must(t, os.WriteFile(filepath.Join(base, "canary"), []byte("canary"), 0o644))
	t.Cleanup(func() {
		if got, err := os.ReadFile(filepath.Join(base, "canary")); err != nil || string(got) != "canary" {
			t.Errorf("the canary outside was changed: %q, %v", got, err)
		}
	})
	return w
}

func (w *world) open() (*Folder, error) {
	fd := func(path string) int {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(w.t, err)
		w.t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	return Open(Options{Root: fd(w.root), Store: fd(w.store), Proc: fd("/proc/self/fd"), Writer: w.writer, Keep: w.keep, Crash: w.crash, Wait: 300 * time.Millisecond})
}

func (w *world) folder() *Folder {
	w.t.Helper()
	f, err := w.open()
	must(w.t, err)
	w.t.Cleanup(f.Close)
	return f
}

func (w *world) path(name string) string { return filepath.Join(w.root, name) }

// put makes a file with a mode and a time of its own, and an attribute where the filesystem has them.
func (w *world) put(name, content string, mode os.FileMode) {
	w.t.Helper()
	must(w.t, os.MkdirAll(filepath.Dir(w.path(name)), 0o755))
	must(w.t, os.WriteFile(w.path(name), []byte(content), 0o644))
	must(w.t, os.Chmod(w.path(name), mode))
	_ = unix.Setxattr(w.path(name), "user.kept", []byte(name), 0)
	when := time.Unix(1_600_000_000+int64(len(name)), 123456789)
	must(w.t, os.Chtimes(w.path(name), when, when))
}

func (w *world) content(text string) func() (*os.File, error) {
	w.contents++
	path := filepath.Join(w.source, fmt.Sprint(w.contents))
	must(w.t, os.WriteFile(path, []byte(text), 0o600))
	return func() (*os.File, error) { return os.Open(path) }
}

func (w *world) identity(name string) *Identity {
	w.t.Helper()
	var st unix.Stat_t
	must(w.t, unix.Lstat(w.path(name), &st))
	return identityOf(&st)
}

func (w *world) replace(name, text string) Step {
	return Step{Op: Put, Path: name, Kind: File, Expect: w.identity(name), Attributes: Attributes{Mode: 0o640, MtimeNs: 1_700_000_000_000_000_001}, Content: w.content(text)}
}

func (w *world) create(name, text string) Step {
	return Step{Op: Put, Path: name, Kind: File, Attributes: Attributes{Mode: 0o600, MtimeNs: 1_700_000_000_000_000_002}, Content: w.content(text)}
}

func (w *world) remove(name string) Step {
	return Step{Op: Remove, Path: name, Expect: w.identity(name)}
}

func mkdir(name string) Step {
	return Step{Op: MakeDir, Path: name, Kind: Directory, Attributes: Attributes{Mode: 0o750, MtimeNs: 1_700_000_000_000_000_003}}
}

// groups numbers the steps, each a group of its own.
func groups(steps ...Step) []Step {
	for i := range steps {
		steps[i].Group = i
	}
	return steps
}

// tree describes everything below the folder: bytes, modes, times of files, attributes, links.
func (w *world) tree() map[string]string {
	w.t.Helper()
	found := map[string]string{}
	must(w.t, filepath.Walk(w.root, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(w.root, path)
		switch {
		case name == ".":
		case info.IsDir():
			found[name] = fmt.Sprintf("directory %o", info.Mode().Perm())
		case info.Mode()&os.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			found[name] = "link " + target
		default:
			data, err := os.ReadFile(path)
			must(w.t, err)
			value := make([]byte, 100)
			n, _ := unix.Getxattr(path, "user.kept", value)
			found[name] = fmt.Sprintf("%o %d %q %q", info.Mode().Perm(), info.ModTime().UnixNano(), data, value[:max(n, 0)])
		}
		return nil
	}))
	return found
}

func difference(a, b map[string]string) string {
	var lines []string
	for name, value := range a {
		if b[name] != value {
			lines = append(lines, fmt.Sprintf("%s: %s, other %s", name, value, b[name]))
		}
	}
	for name, value := range b {
		if _, there := a[name]; !there {
			lines = append(lines, fmt.Sprintf("%s: nothing, other %s", name, value))
		}
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

func same(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	if d := difference(got, want); d != "" {
		t.Errorf("%s:\n%s", what, d)
	}
}

func allDone(t *testing.T, results []Result, err error) {
	t.Helper()
	must(t, err)
	for i, r := range results {
		if r.Err != nil {
			t.Fatalf("step %d: %v", i, r.Err)
		}
	}
}

func undoAll(t *testing.T, f *Folder, apply string) []Back {
	t.Helper()
	u, err := f.Undo(apply)
	must(t, err)
	var all []Back
	for u.Remaining() > 0 {
		backs, err := u.Next(3)
		must(t, err)
		all = append(all, backs...)
	}
	return all
}

// everything is one apply with every kind of step in it.
func everything(w *world) []Step {
	w.put("replaced", "old", 0o755)
	w.put("deleted", "gone", 0o644)
	w.put("dir/moved", "moves", 0o600)
	w.put("olddir/a", "a", 0o644)
	w.put("olddir/sub/b", "b", 0o644)
	w.put("touched", "same bytes", 0o644)
	w.put("tofile/x", "x", 0o644)
	w.put("todir", "was a file", 0o644)
	w.put("db", "db old", 0o644)
	w.put("db-wal", "wal old", 0o644)
	must(w.t, os.Symlink("deleted", w.path("link")))
	touched := w.identity("touched")
	link := w.identity("link")
	steps := groups(
		w.replace("replaced", "new"), w.remove("deleted"),
		mkdir("new"), mkdir("new/er"), w.create("new/er/file", "deep"), w.create("new/file", "new"),
		Step{Op: Move, Path: "dir/moved", To: "new/er/moved", Expect: w.identity("dir/moved")},
		w.remove("olddir/a"), w.remove("olddir/sub/b"), w.remove("olddir/sub"), w.remove("olddir"),
		Step{Op: SetAttributes, Path: "touched", Expect: touched, Kind: File, Attributes: Attributes{Mode: 0o700, MtimeNs: 5_000_000_005}},
		Step{Op: Put, Path: "link", Kind: Link, Target: "replaced", Expect: link},
		w.remove("tofile/x"), w.remove("tofile"), w.create("tofile", "a file now"),
		w.remove("todir"), mkdir("todir"), w.create("todir/in", "in"),
		Step{Op: Put, Path: "newlink", Kind: Link, Target: "../canary"},
	)
	for i := range steps { // what changes its kind is one change, so one group, and an undo does not stop in the middle of it
		switch steps[i].Path {
		case "tofile":
			steps[i].Group = 1001
		case "todir":
			steps[i].Group = 1002
		}
	}
	group := len(steps)
	db, wal := w.replace("db", "db new"), w.replace("db-wal", "wal new")
	db.Group, wal.Group = group, group
	return append(steps, db, wal)
}

func TestApplyWrites_UndoReturnsExactBytesModesTimesAndAttributes(t *testing.T) {
	w := newWorld(t)
	steps := everything(w)
	before := w.tree()
	f := w.folder()
	results, err := f.Apply("a1", steps)
	allDone(t, results, err)
	after := w.tree()
	for name, want := range map[string]string{
		"replaced": `640 1700000000000000001 "new" ""`, "new/er/file": `600 1700000000000000002 "deep" ""`, "new": "directory 750",
		"link": "link replaced", "tofile": `600 1700000000000000002 "a file now" ""`, "todir": "directory 750", "newlink": "link ../canary",
		"deleted": "", "olddir": "", "olddir/sub": "", "tofile/x": "", "db-wal": `640 1700000000000000001 "wal new" ""`,
		"new/er/moved": before["dir/moved"],
	} {
		if after[name] != want {
			t.Errorf("%s is %s, want %s", name, after[name], want)
		}
	}
	for name := range after {
		if strings.Contains(name, names.TemporaryPrefix) {
			t.Errorf("%s is left", name)
		}
	}
	if list := f.Applies(); len(list) != 1 || list[0].Files != len(steps) || list[0].Undone {
		t.Errorf("applies: %+v", list)
	}
	// Undone by another process than the one that applied.
	f.Close()
	f = w.folder()
	for _, back := range undoAll(t, f, "a1") {
		if back.Err != nil {
			t.Errorf("%s: %v", back.Path, back.Err)
		}
	}
	same(t, "after undo", w.tree(), before)
	if list := f.Applies(); !list[0].Undone {
		t.Errorf("applies: %+v", list)
	}
	if _, err := f.Undo("a1"); !errors.Is(err, ErrNotUndoable) {
		t.Errorf("undone twice: %v", err)
	}
}

type crashed struct{}

// crashing runs do and crashes at the nth point; it tells whether there was one.
func (w *world) crashing(n int, do func()) (reached bool, at string) {
	count := 0
	w.crash = func(point string) {
		if count++; count == n {
			at = point
			panic(crashed{})
		}
	}
	defer func() {
		w.crash = nil
		if r := recover(); r != nil {
			if _, is := r.(crashed); !is {
				panic(r)
			}
			reached = true
		}
	}()
	do()
	return false, ""
}

// eitherState holds each file against before and after, and each group against one of them.
func eitherState(t *testing.T, what string, got, before, after map[string]string) {
	t.Helper()
	names := map[string]bool{}
	for _, tree := range []map[string]string{got, before, after} {
		for name := range tree {
			names[name] = true
		}
	}
	for name := range names {
		if got[name] != before[name] && got[name] != after[name] {
			t.Errorf("%s: %s is %q, neither %q nor %q", what, name, got[name], before[name], after[name])
		}
	}
	if isNew := got["db"] == after["db"]; isNew != (got["db-wal"] == after["db-wal"]) {
		t.Errorf("%s: half a database", what)
	}
}

func TestACrashAtAnyPointOfApplyLeavesAWholeState_AndUndoAfterItIsExact(t *testing.T) {
	points := map[string]bool{}
	for n := 1; ; n++ {
		w := newWorld(t)
		steps := everything(w)
		before := w.tree()
		reached, at := w.crashing(n, func() { _, _ = w.folder().Apply("a1", steps) })
		points[at] = true
		f := w.folder() // recovers
		got := w.tree()
		applied := len(f.Applies()) == 1
		if !applied {
			same(t, fmt.Sprintf("crash %d (%s), rolled back", n, at), got, before)
		}
		eitherState(t, fmt.Sprintf("crash %d (%s)", n, at), got, before, appliedTree(t))
		if applied {
			same(t, fmt.Sprintf("crash %d (%s), written down as done", n, at), got, appliedTree(t))
			undoAll(t, f, "a1")
			same(t, fmt.Sprintf("crash %d (%s), undone", n, at), w.tree(), before)
		}
		if !reached {
			if !applied || n < 50 {
				t.Errorf("only %d points", n)
			}
			delete(points, "")
			t.Logf("crashed at %d points of %d kinds", n-1, len(points))
			return
		}
	}
}

var afterAll map[string]string

// appliedTree is what everything leads to.
func appliedTree(t *testing.T) map[string]string {
	if afterAll == nil {
		w := newWorld(t)
		steps := everything(w)
		results, err := w.folder().Apply("a1", steps)
		allDone(t, results, err)
		afterAll = w.tree()
	}
	return afterAll
}

func TestACrashAtAnyPointOfUndoLeavesAWholeState_AndItCanBeDoneAgain(t *testing.T) {
	// Every fifth, as they are many; in a long run all.
	stride := 5
	if os.Getenv("CLOCHE_LONG") != "" {
		stride = 1
	}
	for n := 1; ; n += stride {
		w := newWorld(t)
		steps := everything(w)
		before := w.tree()
		f := w.folder()
		results, err := f.Apply("a1", steps)
		allDone(t, results, err)
		after := w.tree()
		f.Close()
		reached, at := w.crashing(n, func() { undoAll(t, w.folder(), "a1") })
		f = w.folder()
		eitherState(t, fmt.Sprintf("crash %d (%s)", n, at), w.tree(), before, after)
		if !reached {
			same(t, "undone", w.tree(), before)
			t.Logf("crashed at each point of about %d, by steps of %d", n-1, stride)
			return
		}
		if u, err := f.Undo("a1"); err == nil {
			for u.Remaining() > 0 {
				backs, err := u.Next(100)
				must(t, err)
				for _, back := range backs {
					if back.Err != nil {
						t.Errorf("crash %d (%s), again: %s: %v", n, at, back.Path, back.Err)
					}
				}
			}
		}
		same(t, fmt.Sprintf("crash %d (%s), undone again", n, at), w.tree(), before)
	}
}

func TestACrashAtAnyPointOfRecoveryIsRecoveredFrom(t *testing.T) {
	// From each crash of apply, at each point of its recovery: some of them, as they are many; in a long run all.
	first, stride := 3, 17
	if os.Getenv("CLOCHE_LONG") != "" {
		first, stride = 1, 1
	}
	for ; ; first += stride {
		for second := 1; ; second++ {
			w := newWorld(t)
			steps := everything(w)
			before := w.tree()
			reached, at := w.crashing(first, func() { _, _ = w.folder().Apply("a1", steps) })
			if !reached {
				return
			}
			again, where := w.crashing(second, func() { w.folder() })
			f := w.folder()
			got := w.tree()
			if len(f.Applies()) == 0 {
				same(t, fmt.Sprintf("crash %d (%s), then %d (%s)", first, at, second, where), got, before)
			} else {
				same(t, fmt.Sprintf("crash %d (%s), then %d (%s)", first, at, second, where), got, appliedTree(t))
			}
			if !again {
				break
			}
		}
	}
}

func TestAnotherTasksCrashIsRecoveredFromToo(t *testing.T) {
	w := newWorld(t)
	steps := everything(w)
	before := w.tree()
	w.crashing(60, func() { _, _ = w.folder().Apply("a1", steps) })
	w.writer = "other-2"
	w.folder()
	same(t, "recovered by another writer", w.tree(), before)
}

func TestAFileThatTheHostChangedIsRefused_AndStaysAsItIs(t *testing.T) {
	for what, change := range map[string]func(w *world){
		"written":          func(w *world) { must(t, os.WriteFile(w.path("f"), []byte("hosts"), 0o644)) },
		"replaced":         func(w *world) { must(t, os.Remove(w.path("f"))); w.put("f", "old", 0o644) },
		"gone":             func(w *world) { must(t, os.Remove(w.path("f"))) },
		"a link now":       func(w *world) { must(t, os.Remove(w.path("f"))); must(t, os.Symlink("../canary", w.path("f"))) },
		"a directory now":  func(w *world) { must(t, os.Remove(w.path("f"))); must(t, os.Mkdir(w.path("f"), 0o755)) },
		"a FIFO now":       func(w *world) { must(t, os.Remove(w.path("f"))); must(t, unix.Mkfifo(w.path("f"), 0o600)) },
		"another mode now": func(w *world) { must(t, os.Chmod(w.path("f"), 0o600)) },
	} {
		for _, op := range []string{"replace", "remove", "move"} {
			t.Run(op+" what was "+what, func(t *testing.T) {
				w := newWorld(t)
				w.put("f", "old", 0o644)
				step := map[string]func() Step{
					"replace": func() Step { return w.replace("f", "new") },
					"remove":  func() Step { return w.remove("f") },
					"move":    func() Step { return Step{Op: Move, Path: "f", To: "g", Expect: w.identity("f")} },
				}[op]()
				change(w)
				f := w.folder()
				names := func() string { list, _ := os.ReadDir(w.root); return fmt.Sprint(list) }
				before := names()
				results, err := f.Apply("a1", []Step{step, {Op: MakeDir, Path: "control", Kind: Directory, Group: 1}})
				must(t, err)
				if !errors.Is(results[0].Err, ErrConflict) {
					t.Errorf("ended with %v", results[0].Err)
				}
				if results[1].Err != nil {
					t.Errorf("control: %v", results[1].Err)
				}
				must(t, os.Remove(w.path("control")))
				if names() != before {
					t.Errorf("the folder has %s, had %s", names(), before)
				}
			})
		}
	}
}

func TestWhatIsThereAlreadyIsNotOverwritten(t *testing.T) {
	w := newWorld(t)
	w.put("there", "hosts", 0o644)
	before := w.tree()
	results, err := w.folder().Apply("a1", groups(w.create("there", "x"), mkdir("there"), Step{Op: Put, Path: "there", Kind: Link, Target: "x"}))
	must(t, err)
	for i, r := range results {
		if !errors.Is(r.Err, ErrConflict) {
			t.Errorf("step %d: %v", i, r.Err)
		}
	}
	same(t, "the folder", w.tree(), before)
}

// The journal is text; names of attributes are bytes.
func TestAttributesWhoseNamesAreNoTextComeBackByAnUndoOfAnotherProcess(t *testing.T) {
	w := newWorld(t)
	names := map[string]string{"user.\xff\xfe": "bytes", "user.\xc3": "half a letter", "user.\u00e9": "text", "user.none": ""}
	for _, way := range []string{"replaced", "removed", "attributes"} {
		w.put(way, way, 0o644)
		for name, value := range names {
			if err := unix.Setxattr(w.path(way), name, []byte(value), 0); err != nil {
				t.Skip("IGNORED: this filesystem has no attributes of users:", err)
			}
		}
	}
	f := w.folder()
	steps := []Step{w.replace("replaced", "new"), w.remove("removed"),
		{Op: SetAttributes, Path: "attributes", Kind: File, Expect: w.identity("attributes"), Attributes: Attributes{Mode: 0o600}}}
	results, err := f.Apply("a", steps)
	must(t, err)
	for i, r := range results {
		if r.Err != nil {
			t.Fatal(steps[i].Path, r.Err)
		}
	}
	if n, err := unix.Getxattr(w.path("replaced"), "user.\xff\xfe", make([]byte, 64)); err == nil {
		t.Errorf("control: the new file has the old one's attribute, %d bytes", n)
	}
	f.Close()
	undo, err := w.folder().Undo("a")
	must(t, err)
	backs, err := undo.Next(100)
	must(t, err)
	for _, back := range backs {
		if back.Err != nil {
			t.Error(back.Path, back.Err)
		}
	}
	for _, way := range []string{"replaced", "removed", "attributes"} {
		for name, want := range names {
			value := make([]byte, 64)
			n, err := unix.Getxattr(w.path(way), name, value)
			if err != nil || string(value[:n]) != want {
				t.Errorf("%s has %q = %q, %v; want %q", way, name, value[:max(n, 0)], err, want)
			}
		}
		list := make([]byte, 1024)
		n, err := unix.Listxattr(w.path(way), list)
		must(t, err)
		if got := bytes.Count(list[:n], []byte("user.")); got != len(names)+1 { // and user.kept
			t.Errorf("%s has %d attributes: %q", way, got, list[:n])
		}
	}
}

func TestAJournalWithAttributesByNameIsStillRead(t *testing.T) {
	var a Attributes
	must(t, json.Unmarshal([]byte(`{"mode":420,"mtimeNs":1,"xattrs":{"user.a":"dg=="}}`), &a))
	if string(a.Xattrs["user.a"]) != "v" || len(a.Xattrs) != 1 {
		t.Errorf("%v", a.Xattrs)
	}
}

func TestUndoRefusesWhatTheHostChangedSince_AndTakesTheRestBack(t *testing.T) {
	w := newWorld(t)
	w.put("a", "old a", 0o644)
	w.put("b", "old b", 0o644)
	before := w.tree()
	f := w.folder()
	results, err := f.Apply("a1", groups(w.replace("a", "new a"), w.replace("b", "new b")))
	allDone(t, results, err)
	must(t, os.WriteFile(w.path("a"), []byte("hosts"), 0o644))
	for _, back := range undoAll(t, f, "a1") {
		if (back.Path == "a") != errors.Is(back.Err, ErrConflict) {
			t.Errorf("%s: %v", back.Path, back.Err)
		}
	}
	got := w.tree()
	if !strings.Contains(got["a"], `"hosts"`) || got["b"] != before["b"] {
		t.Errorf("%v", got)
	}
}

func TestAGroupIsDoneWhollyOrNotAtAll(t *testing.T) {
	w := newWorld(t)
	w.put("db", "old", 0o644)
	w.put("db-wal", "old", 0o644)
	steps := []Step{w.replace("db", "new"), w.create("db-shm", "new"), w.replace("db-wal", "new")}
	must(t, os.WriteFile(w.path("db-wal"), []byte("hosts"), 0o644))
	before := w.tree()
	f := w.folder()
	results, err := f.Apply("a1", steps)
	must(t, err)
	for i, r := range results {
		if r.Err == nil {
			t.Errorf("step %d was done", i)
		}
	}
	same(t, "a refused group", w.tree(), before)
	steps = []Step{w.replace("db", "new"), w.create("db-shm", "new"), w.replace("db-wal", "new")}
	results, err = f.Apply("a2", steps)
	allDone(t, results, err) // control
}

func TestPathsThatLeaveTheFolderAreRefused(t *testing.T) {
	w := newWorld(t)
	must(t, os.Mkdir(filepath.Join(w.base, "outside"), 0o755))
	must(t, os.Symlink("../outside", w.path("out")))
	must(t, os.Symlink(w.base, w.path("absolute")))
	must(t, os.Mkdir(w.path("in"), 0o755))
	must(t, os.Symlink("in", w.path("inside")))
	for _, path := range []string{"out/x", "absolute/x", "inside/x", "../x", "in/../../x", "/x", "in//x", "./x", "", "in/" + names.TemporaryPrefix + "x", "a\x00b", strings.Repeat("n", 256), "in/."} {
		results, err := w.folder().Apply("a1", []Step{w.create(path, "x")})
		if err == nil && results[0].Err == nil {
			t.Errorf("%q was written", path)
		}
	}
	results, err := w.folder().Apply("a1", []Step{w.create("in/x", "x")})
	allDone(t, results, err) // control
	for _, dir := range []string{w.base, filepath.Join(w.base, "outside")} {
		if _, err := os.Lstat(filepath.Join(dir, "x")); err == nil {
			t.Errorf("%s/x was made", dir)
		}
	}
}

func TestASwappedDirectoryNeverLeadsOutside(t *testing.T) {
	w := newWorld(t)
	outside := filepath.Join(w.base, "outside")
	must(t, os.Mkdir(outside, 0o755))
	must(t, os.WriteFile(filepath.Join(outside, "f"), []byte("canary"), 0o644))
	w.put("d/f", "old", 0o644)
	must(t, os.Symlink("../outside", w.path("swap")))
	var stop atomic.Bool
	ended := make(chan int)
	go func() {
		root, err := unix.Open(w.root, unix.O_PATH|unix.O_DIRECTORY, 0)
		swaps := 0
		for err == nil && !stop.Load() {
			if unix.Renameat2(root, "d", root, "swap", unix.RENAME_EXCHANGE) == nil {
				swaps++
			}
		}
		ended <- swaps
	}()
	f := w.folder()
	done, refused := 0, 0
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); {
		var st unix.Stat_t
		expect := (*Identity)(nil)
		if unix.Lstat(w.path("d/f"), &st) == nil {
			expect = identityOf(&st)
		}
		results, err := f.Apply("a1", groups(
			Step{Op: Put, Path: "d/f", Kind: File, Expect: expect, Attributes: Attributes{Mode: 0o644}, Content: w.content("new")},
			Step{Op: Put, Path: "d/made", Kind: File, Attributes: Attributes{Mode: 0o644}, Content: w.content("new")},
			Step{Op: Remove, Path: "d/made", Expect: nil}))
		must(t, err)
		for _, r := range results {
			if r.Err == nil {
				done++
			} else {
				refused++
			}
		}
	}
	stop.Store(true)
	t.Logf("%d swaps, %d steps done, %d refused", <-ended, done, refused)
	if got, err := os.ReadFile(filepath.Join(outside, "f")); err != nil || string(got) != "canary" {
		t.Errorf("outside was written to: %q, %v", got, err)
	}
	list, err := os.ReadDir(outside)
	if err != nil || len(list) != 1 {
		t.Errorf("outside has %v, %v", list, err)
	}
	if done == 0 || refused == 0 {
		t.Error("the race was never run both ways")
	}
}

func TestADirectoryThatIsAnotherOneIsRefused(t *testing.T) {
	w := newWorld(t)
	must(t, os.Mkdir(w.path("d"), 0o755))
	in := w.identity("d").Object
	step := w.create("d/x", "x")
	step.In = &in
	must(t, os.Rename(w.path("d"), w.path("elsewhere")))
	must(t, os.Mkdir(w.path("d"), 0o755))
	f := w.folder()
	results, err := f.Apply("a1", []Step{step})
	must(t, err)
	if !errors.Is(results[0].Err, ErrConflict) {
		t.Errorf("ended with %v", results[0].Err)
	}
	must(t, os.Remove(w.path("d")))
	must(t, os.Rename(w.path("elsewhere"), w.path("d")))
	results, err = f.Apply("a1", []Step{step})
	allDone(t, results, err) // control
}

func TestAnApplyOfAnotherTaskIsWaitedFor_AndThenRefused(t *testing.T) {
	w := newWorld(t)
	f := w.folder()
	w.writer = "other-2"
	other := w.folder()
	unlock, err := other.lock()
	must(t, err)
	if _, err := f.Apply("a1", []Step{mkdir("d")}); !errors.Is(err, ErrBusy) {
		t.Errorf("ended with %v", err)
	}
	go func() { time.Sleep(100 * time.Millisecond); unlock() }()
	results, err := f.Apply("a1", []Step{mkdir("d")})
	allDone(t, results, err)
}

func TestAFailingStillRefusesTheStep(t *testing.T) {
	w := newWorld(t)
	w.put("f", "old", 0o644)
	step := w.replace("f", "new")
	moved := errors.New("moved on")
	step.Still = func() error { return moved }
	before := w.tree()
	results, err := w.folder().Apply("a1", []Step{step})
	must(t, err)
	if !errors.Is(results[0].Err, moved) {
		t.Errorf("ended with %v", results[0].Err)
	}
	same(t, "the folder", w.tree(), before)
}

func TestATornJournalEndIsCut_DamageInItIsSaid(t *testing.T) {
	w := newWorld(t)
	f := w.folder()
	for i := range 3 {
		results, err := f.Apply(fmt.Sprint("a", i), []Step{mkdir(fmt.Sprint("d", i))})
		allDone(t, results, err)
	}
	f.Close()
	log := filepath.Join(w.store, "applies", w.writer+".log")
	whole, err := os.ReadFile(log)
	must(t, err)
	for cut := range whole {
		_, upTo, err := parse("x", whole[:cut])
		if err != nil || upTo > cut || upTo > 0 && whole[upTo-1] != '\n' {
			t.Fatalf("cut at %d: %d, %v", cut, upTo, err)
		}
	}
	damaged := bytes.Clone(whole)
	damaged[len(whole)/2] ^= 1
	must(t, os.WriteFile(log, damaged, 0o600))
	var damage *Damage
	if _, err := w.open(); !errors.As(err, &damage) {
		t.Fatalf("damage in the middle: %v", err)
	}
	if now, _ := os.ReadFile(log); !bytes.Equal(now, damaged) {
		t.Error("the damaged journal was changed")
	}
	must(t, os.WriteFile(log, bytes.Replace(whole, []byte(`"version":1`), []byte(`"version":2`), 1), 0o600))
	if _, err := w.open(); err == nil {
		t.Error("a journal of another format was read")
	}
	must(t, os.WriteFile(log, append(whole, "1234"...), 0o600))
	if n := len(w.folder().Applies()); n != 3 { // control, with a torn end
		t.Errorf("%d applies", n)
	}
}

func TestWhatIsNotNotedAsSettledIsToldAgain(t *testing.T) {
	w := newWorld(t)
	f := w.folder()
	step := mkdir("d")
	step.Note = []byte(`{"node":7}`)
	results, err := f.Apply("a1", []Step{step})
	allDone(t, results, err)
	f.Close()
	f = w.folder()
	if u := f.Unsettled(); len(u) != 1 || string(u[0].Note) != `{"node":7}` || u[0].Made == nil || u[0].Made.Object != w.identity("d").Object {
		t.Fatalf("%+v", u)
	}
	must(t, f.Settled())
	f.Close()
	if u := w.folder().Unsettled(); len(u) != 0 {
		t.Errorf("told again: %+v", u)
	}
}

func TestNoDescriptorIsLeftOpen(t *testing.T) {
	w := newWorld(t)
	w.put("f", "old", 0o644)
	f := w.folder()
	open := func() int { list, _ := os.ReadDir("/proc/self/fd"); return len(list) }
	before := open()
	for i := range 5 {
		results, err := f.Apply(fmt.Sprint("a", i), []Step{w.replace("f", fmt.Sprint(i)), {Op: Put, Group: 1, Path: "nothing/x", Kind: File, Content: w.content("x")}})
		must(t, err)
		if results[0].Err != nil || results[1].Err == nil {
			t.Fatal(results)
		}
		undoAll(t, f, fmt.Sprint("a", i))
	}
	if now := open(); now != before {
		t.Errorf("%d descriptors, were %d", now, before)
	}
}

func TestADirectoryMovedOutOfTheFolderDuringAStepIsRefused_AndNothingIsLeftInIt(t *testing.T) {
	for _, point := range []string{"prepared", "renamed"} {
		t.Run(point, func(t *testing.T) {
			w := newWorld(t)
			w.put("d/f", "old", 0o644)
			outside := filepath.Join(w.base, "outside")
			step, made := w.replace("d/f", "new"), w.create("d/made", "new")
			made.Group = 1
			moved := false
			w.crash = func(at string) {
				if at == point && !moved {
					moved = true
					must(t, os.Rename(w.path("d"), outside))
				}
			}
			results, err := w.folder().Apply("a1", []Step{step, made})
			must(t, err)
			for i, r := range results {
				if !errors.Is(r.Err, ErrConflict) {
					t.Errorf("step %d: %v", i, r.Err)
				}
			}
			list, err := os.ReadDir(outside)
			must(t, err)
			if got, _ := os.ReadFile(filepath.Join(outside, "f")); string(got) != "old" || len(list) != 1 {
				t.Errorf("outside has %v, f holds %q", list, got)
			}
		})
	}
}

func TestAFileThatIsWrittenBetweenTheLookAndTheExchangeIsPutBack(t *testing.T) {
	for _, op := range []string{"replace", "remove", "move"} {
		t.Run(op, func(t *testing.T) {
			w := newWorld(t)
			w.put("f", "old", 0o644)
			step := map[string]Step{
				"replace": w.replace("f", "new"), "remove": w.remove("f"), "move": {Op: Move, Path: "f", To: "g", Expect: w.identity("f")},
			}[op]
			w.crash = func(at string) {
				if at == "prepared" {
					must(t, os.WriteFile(w.path("f"), []byte("the host's"), 0o644))
				}
			}
			results, err := w.folder().Apply("a1", []Step{step})
			must(t, err)
			if !errors.Is(results[0].Err, ErrConflict) {
				t.Errorf("ended with %v", results[0].Err)
			}
			list, err := os.ReadDir(w.root)
			must(t, err)
			if got, _ := os.ReadFile(w.path("f")); string(got) != "the host's" || len(list) != 1 {
				t.Errorf("the folder has %v, f holds %q", list, got)
			}
		})
	}
}

func TestALinkThatIsAnotherOneAtTheExchangeIsPutBack(t *testing.T) {
	w := newWorld(t)
	must(t, os.Symlink("old", w.path("l")))
	step := Step{Op: Put, Path: "l", Kind: Link, Target: "new", Expect: w.identity("l")}
	w.crash = func(at string) {
		if at == "prepared" {
			must(t, os.Remove(w.path("l")))
			must(t, os.Symlink("the host's", w.path("l")))
		}
	}
	results, err := w.folder().Apply("a1", []Step{step})
	must(t, err)
	if target, _ := os.Readlink(w.path("l")); !errors.Is(results[0].Err, ErrConflict) || target != "the host's" {
		t.Errorf("ended with %v, the link leads to %q", results[0].Err, target)
	}
}

func TestADirectoryThatAnUndoMakesIsNotTakenForOneThatHadItsNumber(t *testing.T) {
	directory := func(inode uint64) *Identity { return &Identity{Object: Object{1, inode}, Kind: Directory} }
	applied := func(number int64, undoes bool, expect, made []*Identity) *slice {
		s := &slice{begin: &begin{Slice: number, Apply: "a", Undo: undoes, Steps: make([]writtenStep, len(made))}, done: &done{Slice: number, Applied: map[int]*outcome{}}, undone: map[int]bool{}}
		for i := range made {
			s.begin.Steps[i].Expect = expect[i]
			if undoes {
				s.begin.Steps[i].Undoes = &place{number - 1, i}
			}
			s.done.Applied[i] = &outcome{Made: made[i]}
		}
		return s
	}
	for range 50 { // in whatever order
		f := &Folder{}
		first := applied(1, false, []*Identity{nil}, []*Identity{directory(100)})
		undo := applied(3, true, []*Identity{nil, nil}, []*Identity{directory(300), directory(100)})
		f.remember(first)
		f.remember(applied(2, false, []*Identity{directory(100), directory(200)}, []*Identity{nil, nil}))
		f.remember(undo)
		if made := undo.done.Applied; made[0].Made.Inode != 300 || made[1].Made.Inode != 100 {
			t.Fatalf("the undo made %v and %v", made[0].Made, made[1].Made)
		}
		if made := first.done.Applied[0].Made; made.Inode != 300 { // control
			t.Fatalf("what the first apply made is %v", made)
		}
	}
}
