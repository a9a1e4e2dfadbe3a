//go:build linux

package changes_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"cloche/share/internal/changes"
)

func TestAListBelowLongNamesKeepsNoPathForEachChange(t *testing.T) {
	r := newRig(t)
	r.open()
	dir := r.tree.Root()
	for range 15 {
		name := strings.Repeat("d", 255)
		_, err := dir.Mkdir(name, 0o755)
		must(t, err)
		next, err := dir.Walk(name)
		must(t, err)
		dir.Drop()
		dir = next
	}
	defer dir.Drop()
	const nodes = 2000
	for i := range nodes {
		_, err := dir.Mkdir(fmt.Sprint(i), 0o755)
		must(t, err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	page, err := r.set.List("", 1)
	must(t, err)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if page.Total != nodes+15 {
		t.Errorf("%d changes", page.Total)
	}
	if each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / nodes; each > 1500 {
		t.Errorf("%d bytes are kept for each change", each)
	}
	page, err = r.set.List("", 100) // control: the paths are there when they are shown
	must(t, err)
	for i, c := range page.Changes[15:] {
		if len(c.Path) < 15*256 || strings.Count(c.Path, "/") != 15 || i > 0 && c.Path <= page.Changes[15+i-1].Path {
			t.Fatalf("%q", c.Path)
		}
	}
	var what changes.What
	for _, c := range page.Changes[15:35] {
		what.Changes = append(what.Changes, changes.Chosen{ID: c.ID, Token: c.Token})
	}
	_, done, refused := r.apply(what)
	if r.none(refused); done != 20+15 {
		t.Errorf("%d applied", done)
	}
	if page, err = r.set.List("", 1); err != nil || page.Total != nodes-20 {
		t.Errorf("%d changes are left, %v", page.Total, err)
	}
}
