//go:build linux

package layer

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestContentsThatAreMadeAndDroppedAgainAndAgainTakeABoundedPartOfTheDisk(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	contents := func() int {
		entries, err := os.ReadDir(filepath.Join(dir, contentDir))
		must(t, err)
		return len(entries)
	}
	kept, f, err := l.NewContent()
	must(t, err)
	must(t, f.Close())
	must(t, l.Change(Put(&Node{ID: l.NewID(), Parent: RootID, Name: "kept", Kind: File, Made: true, QID: 1 << 62, Content: kept})))
	most := 0
	for i := range 3 * maxDropped {
		number, f, err := l.NewContent()
		must(t, err)
		must(t, f.Close())
		n := &Node{ID: l.NewID(), Parent: RootID, Name: fmt.Sprint(i), Kind: File, Made: true, QID: 1<<62 | uint64(i+1), Content: number}
		must(t, l.Change(Put(n)))
		must(t, l.Change(Remove(n.ID)))
		l.DropContent(number)
		if i%512 == 0 {
			most = max(most, contents())
		}
	}
	// What a Sync has taken over to remove may lie there beside as many new ones.
	if most > 2*maxDropped+1 {
		t.Errorf("%d contents that nobody names", most)
	}
	l.sweeps.Wait()
	must(t, l.Sync())
	if left := contents(); left != 1 {
		t.Errorf("%d contents are left, of one file", left)
	}
	l.Close()
	l = open(t, dir)
	if n := l.Child(RootID, "kept"); n == nil || n.Content != kept {
		t.Errorf("what was kept: %+v", n)
	}
}
