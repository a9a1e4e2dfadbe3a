//go:build linux

package view

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"

	"cloche/share/internal/layer"
	"cloche/share/internal/ninep"
	"cloche/share/internal/wire"
)

// large gives a directory of the task's with many names.
func large(t *testing.T, w *world, names int) *file {
	t.Helper()
	must(t, w.in("n", func(dir ninep.Node, name string) error { _, err := dir.Mkdir(name, 0o755); return err }))
	id := w.layer.Child(layer.RootID, "n").ID
	var ops []layer.Op
	for i := range names {
		ops = append(ops, layer.Put(&layer.Node{ID: w.layer.NewID(), Parent: id, Name: fmt.Sprint("name-", i), Kind: layer.Directory, Made: true, Opaque: true, QID: newQID | uint64(w.layer.NewID())}))
	}
	must(t, w.layer.Change(ops...))
	n, err := w.at("n")
	must(t, err)
	t.Cleanup(n.Drop)
	f, err := n.Open(0)
	must(t, err)
	t.Cleanup(f.Close)
	return f.(*file)
}

func count(t *testing.T, f *file) int {
	t.Helper()
	all := 0
	for cookie := uint64(0); ; {
		got, err := f.ReadDir(make([]byte, 0, 32<<10), cookie)
		must(t, err)
		entries, err := wire.Dirents(got)
		must(t, err)
		if len(entries) == 0 {
			return all - 2
		}
		all += len(entries)
		cookie = entries[len(entries)-1].Offset
	}
}

// A guest asks for many listings of a large directory at once.
func TestAListingThatThereIsNoMemoryForIsRefusedBeforeItTakesAny_AndWholeOnceThereIs(t *testing.T) {
	const names = 50_000
	w := newWorld(t, false, Options{})
	w.mount()
	f := large(t, w, names)
	begin := func() (uint64, error) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := f.ReadDir(make([]byte, 0, 4096), 2)
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc, err
	}
	w.tree.listed.Store(maxListed - names)
	if took, err := begin(); err != syscall.ENOMEM || took > 1<<20 {
		t.Errorf("no room for the names: %v, %d bytes", err, took)
	}
	w.tree.listed.Store(maxListed - 2*names*nameBytes) // for the names, and not for what is held of them
	for range 2 {
		if _, err := begin(); err != syscall.ENOMEM {
			t.Errorf("no room for all: %v", err)
		}
	}
	if left := w.tree.listed.Load(); left != maxListed-2*names*nameBytes {
		t.Errorf("%d bytes are counted and not held", left-(maxListed-2*names*nameBytes))
	}
	w.tree.listed.Store(0)
	if got := count(t, f); got != names { // control
		t.Errorf("%d names are listed", got)
	}
}
