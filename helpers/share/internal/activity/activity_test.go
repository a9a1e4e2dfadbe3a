//go:build linux

package activity_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloche/share/internal/activity"
	"cloche/share/internal/hostfs"
	"cloche/share/internal/ninep"
	"cloche/share/internal/wire"
)

type log struct {
	mu      sync.Mutex
	entries []activity.Entry
	batches []int
}

func (l *log) tell(_ uint64, entries []activity.Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, entries...)
	l.batches = append(l.batches, len(entries))
}

func (l *log) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []string
	for _, e := range l.entries {
		lines = append(lines, strings.TrimRight(e.What+" "+e.Path+" "+e.To, " "))
	}
	return lines
}

func folder(t *testing.T, readOnly bool) (string, *activity.Tree, *log) {
	t.Helper()
	dir := t.TempDir()
	open := func(path string) int {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	tree, err := hostfs.New(hostfs.Options{Root: open(dir), Proc: open("/proc/self/fd"), ReadOnly: readOnly})
	if err != nil {
		t.Fatal(err)
	}
	l := &log{}
	return dir, activity.Watch(tree, l.tell, nil), l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func walk(t *testing.T, from ninep.Node, names ...string) ninep.Node {
	t.Helper()
	for _, name := range names {
		to, err := from.Walk(name)
		must(t, err)
		from = to
	}
	return from
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestEachActIsToldOnceWithThePathOfThen(t *testing.T) {
	dir, tree, l := folder(t, false)
	must(t, os.WriteFile(filepath.Join(dir, "old"), []byte("x"), 0o600))
	root := tree.Root()
	_, err := root.Mkdir("d", 0o755)
	must(t, err)
	d := walk(t, root, "d")
	n, f, err := d.Create("a", syscall.O_RDWR, 0o644)
	must(t, err)
	for range 100 {
		_, err = f.WriteAt([]byte("0123456789"), 0)
		must(t, err)
	}
	f.Close()
	must(t, n.SetAttr(wire.SetAttr{Valid: wire.SetMode, Mode: 0o600}, nil))
	must(t, d.Rename("a", root, "b"))
	old := walk(t, root, "old")
	f, err = old.Open(syscall.O_RDONLY)
	must(t, err)
	f.Close()
	must(t, root.Unlink("old", false))
	tree.Flush()
	expect(t, l.lines(), "created d", "created d/a", "metadata d/a", "renamed d/a b", "deleted old")
	if made := l.entries[1]; made.Count != 1 || made.Bytes != 1000 {
		t.Errorf("the file was made %d times with %d bytes, not once with 1000", made.Count, made.Bytes)
	}
}

func TestWhatIsRefusedIsToldWithItsReasonAndWhatIsNotThereIsNot(t *testing.T) {
	dir, tree, l := folder(t, true)
	must(t, os.WriteFile(filepath.Join(dir, "a"), []byte("x"), 0o600))
	must(t, os.Symlink("/etc", filepath.Join(dir, "out")))
	root := tree.Root()
	if _, err := root.Walk("none"); err == nil {
		t.Error("a name that is not there was walked")
	}
	for range 3 {
		if _, err := walk(t, root, "a").Open(syscall.O_WRONLY); err == nil {
			t.Error("a file of a read-only folder was opened for writing")
		}
	}
	if _, _, err := root.Create("b", syscall.O_WRONLY, 0o644); err == nil {
		t.Error("a file was made in a read-only folder")
	}
	tree.Flush()
	expect(t, l.lines(), "refused a", "refused b")
	if e := l.entries[0]; e.Count != 3 || e.Reason != syscall.EROFS.Error() {
		t.Errorf("got %+v", e)
	}
}

func TestNothingIsDroppedAndABatchHasItsBounds(t *testing.T) {
	_, tree, l := folder(t, false)
	root := tree.Root()
	const directories = 1000
	for i := range directories {
		_, err := root.Mkdir(strings.Repeat("n", 240)+strconv.Itoa(i), 0o755)
		must(t, err)
	}
	tree.Flush()
	if len(l.entries) != directories {
		t.Errorf("%d directories were told of, %d were made", len(l.entries), directories)
	}
	for _, n := range l.batches {
		if n > 200 {
			t.Errorf("a batch of %d", n)
		}
	}
}

func TestASlowReaderMakesTheGuestWait(t *testing.T) {
	_, inner, _ := folder(t, false)
	told, gate := make(chan struct{}, 100), make(chan struct{})
	tree := activity.Watch(inner.Tree, func(uint64, []activity.Entry) {
		told <- struct{}{}
		<-gate
	}, nil)
	root := tree.Root()
	var made atomic.Int64
	done := make(chan error)
	go func() {
		for i := range 1000 {
			if _, err := root.Mkdir(strconv.Itoa(i), 0o755); err != nil {
				done <- err
				return
			}
			made.Add(1)
		}
		done <- nil
	}()
	<-told // and not taken
	if n := made.Load(); n > 200 {
		t.Errorf("%d directories were made while nobody took what was told of the first", n)
	}
	close(gate)
	must(t, <-done)
}

// A reader that takes what it is told and cannot write it down (a full disk) makes the guest wait as well, and loses nothing.
func TestAReaderThatCannotRecordMakesTheGuestWait_AndThenGetsEverything(t *testing.T) {
	_, inner, _ := folder(t, false)
	var mu sync.Mutex
	told, last := map[string]bool{}, uint64(0)
	eighth := make(chan struct{})
	tree := activity.Watch(inner.Tree, func(batch uint64, entries []activity.Entry) {
		mu.Lock()
		defer mu.Unlock()
		if batch != last+1 {
			t.Errorf("batch %d follows %d", batch, last)
		}
		if last = batch; batch == 8 {
			close(eighth)
		}
		for _, e := range entries {
			told[e.Path] = true
		}
	}, nil)
	root := tree.Root()
	const acts = 4000
	var made atomic.Int64
	done := make(chan error, 1)
	go func() {
		for i := range acts {
			if _, err := root.Mkdir(strconv.Itoa(i), 0o755); err != nil {
				done <- err
				return
			}
			made.Add(1)
		}
		done <- nil
	}()
	<-eighth
	tree.Flush() // a look of the keeper's does not wait
	select {
	case <-done:
		t.Fatal("the guest went on although nothing was written down")
	case <-time.After(400 * time.Millisecond): // longer than a batch is held
	}
	if n := made.Load(); n > 9*200+1 {
		t.Errorf("%d directories were made and eight batches are not written down", n)
	}
	for recorded := uint64(1); ; recorded++ {
		tree.Recorded(recorded)
		select {
		case err := <-done:
			must(t, err)
			tree.Recorded(1 << 40) // more than there are counts for no more than there are
			tree.Flush()
			mu.Lock()
			defer mu.Unlock()
			if len(told) != acts {
				t.Errorf("%d of %d acts were told", len(told), acts)
			}
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestRenamesThatTurnHandlesInACircleEnd(t *testing.T) {
	_, tree, l := folder(t, false)
	root := tree.Root()
	for _, name := range []string{"a", "c"} {
		_, err := root.Mkdir(name, 0o755)
		must(t, err)
	}
	a := walk(t, root, "a")
	_, err := a.Mkdir("b", 0o755)
	must(t, err)
	b := walk(t, a, "b")
	must(t, a.Rename("b", root, "b")) // by the name: the handle b still says a/b
	must(t, a.RenameTo(b, "a"))       // a lies in b now, and both say so of each other
	_, err = a.Mkdir("deep", 0o755)
	must(t, err)
	tree.Flush()
	for _, e := range l.entries {
		if len(e.Path) > 4096 || len(e.To) > 4096 {
			t.Errorf("a path of %d bytes", max(len(e.Path), len(e.To)))
		}
	}
}
