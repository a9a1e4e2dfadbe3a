//go:build linux

package layer

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// comesAndGoes makes a file, writes to it and takes it away, as a build does with thousands.
func comesAndGoes(t *testing.T, l *Layer, i int) {
	t.Helper()
	number, f, err := l.NewContent()
	must(t, err)
	if st, err := f.Stat(); err != nil || st.Size() != 0 || time.Since(st.ModTime()) > time.Minute {
		t.Fatalf("a new content has %d bytes and is of %v, %v", st.Size(), st.ModTime(), err)
	}
	n := &Node{ID: l.NewID(), Parent: RootID, Name: fmt.Sprint(i), Kind: File, Made: true, QID: 1<<62 | uint64(i+1), Content: number}
	must(t, l.Change(Put(n)))
	_, err = f.WriteString("bytes of " + n.Name)
	must(t, err)
	must(t, l.Change(Remove(n.ID)))
	l.GiveUp(number, f)
}

func kept(l *Layer) int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.spare.ready)
}

func TestAFileThatComesWhereAnotherWentIsEmptyNewAndUnderANumberOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	seen := map[uint64]bool{}
	renewed := 0
	for i := range 5 * maxSpare {
		// at first beside the sweeps, as a guest works; then after each, so that there is something to use again
		if i >= 4*maxSpare {
			l.sweeps.Wait()
		}
		ready := kept(l)
		comesAndGoes(t, l, i)
		if kept(l) < ready {
			renewed++
		}
	}
	l.sweeps.Wait()
	must(t, l.Sync())
	if renewed == 0 {
		t.Error("no content was used again")
	}
	for _, number := range l.spare.ready {
		if seen[number] {
			t.Errorf("number %d is there twice", number)
		}
		seen[number] = true
	}
	entries, err := os.ReadDir(filepath.Join(dir, contentDir))
	must(t, err)
	if held := len(l.spare.ready); held > maxSpare || len(entries) != held {
		t.Errorf("%d contents are kept and %d are on the disk", held, len(entries))
	}
	l.Close()
	l = open(t, dir)
	if entries, err = os.ReadDir(filepath.Join(dir, contentDir)); err != nil || len(entries) != 0 {
		t.Errorf("%d contents of nobody are left, %v", len(entries), err)
	}
}

// Until the log is durable, what a power failure leaves of it may name the content.
func TestAContentThatWasGivenUpKeepsItsBytesUntilTheLogIsDurable(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	number, f, err := l.NewContent()
	must(t, err)
	_, err = f.WriteString("bytes")
	must(t, err)
	l.GiveUp(number, f)
	for range 100 {
		other, g, err := l.NewContent()
		must(t, err)
		if other == number {
			t.Fatal("it was used again")
		}
		must(t, g.Close())
	}
	path := filepath.Join(dir, contentDir, fmt.Sprint(number))
	if data, err := os.ReadFile(path); err != nil || string(data) != "bytes" {
		t.Errorf("it holds %q, %v", data, err)
	}
	if _, err := l.OpenContent(number); err == nil {
		t.Error("what was given up can be opened")
	}
	must(t, l.Sync())
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("after the log is durable: %v", err)
	}
}

func TestAContentThatSomebodyElseHasOpenIsNeverAnothers(t *testing.T) {
	l := open(t, t.TempDir())
	number, f, err := l.NewContent()
	must(t, err)
	_, err = f.WriteString("bytes")
	must(t, err)
	reader, err := l.OpenContent(number) // a list or a diff
	must(t, err)
	defer reader.Close()
	l.GiveUp(number, f)
	must(t, l.Sync())
	for range 10 {
		_, g, err := l.NewContent()
		must(t, err)
		_, err = g.WriteString("others")
		must(t, err)
		must(t, g.Close())
	}
	if data, err := io.ReadAll(reader); err != nil || string(data) != "bytes" {
		t.Errorf("its reader reads %q, %v", data, err)
	}
}
