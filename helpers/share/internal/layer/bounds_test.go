//go:build linux

package layer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"
)

func heavy(l *Layer, i int) *Node {
	return &Node{ID: l.NewID(), Parent: RootID, Name: fmt.Sprintf("f%d", i), Kind: File, Made: true, QID: 1<<62 | uint64(i),
		Xattrs: map[string][]byte{"user.a": make([]byte, 60<<10)}}
}

func TestALayerOfLargeAttributesAndManyAppliedFilesIsFoldedAndReadAgain(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	for i := range 300 {
		must(t, l.Change(Put(heavy(l, i))))
	}
	var ops []Op
	for i := range 100_000 {
		if ops = append(ops, Remember(1<<40, uint64(1<<40+i), uint64(1<<61+i))); len(ops) == 1000 {
			must(t, l.Change(ops...))
			ops = nil
		}
	}
	l.mu.Lock()
	err := l.compact()
	l.mu.Unlock()
	must(t, err)
	was := picture(l)
	l.Close()
	l = open(t, dir)
	if !reflect.DeepEqual(was, picture(l)) {
		t.Error("another layer comes back")
	}
	if qid, known := l.QIDOf(1<<40, 1<<40+99_999); !known || qid != 1<<61+99_999 {
		t.Errorf("an applied file's number is %d, %v", qid, known)
	}
}

func TestAChangeIsMadeEvenIfTheLogCannotBeFolded(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	n := heavy(l, 0)
	must(t, l.Change(Put(n)))
	must(t, os.Mkdir(filepath.Join(dir, snapshotNew), 0o700)) // in the way of the snapshot
	for range compactBytes/(60<<10) + 100 {
		must(t, l.Change(Put(l.Get(n.ID))))
	}
	if l.noCompact == 0 {
		t.Error("folding was not tried")
	}
}

func TestOneNodeThatIsChangedAgainAndAgainDoesNotMakeTheLogGrowWithoutEnd(t *testing.T) {
	l := open(t, t.TempDir())
	n := heavy(l, 0)
	must(t, l.Change(Put(n)))
	for range 2 * compactBytes / (60 << 10) {
		must(t, l.Change(Put(l.Get(n.ID))))
		if l.logBytes > compactBytes+maxRecord {
			t.Fatalf("the log has %d bytes", l.logBytes)
		}
	}
}

func TestTheTextsOfAllNodesTogetherAreBounded_AndRoomComesBack(t *testing.T) {
	l := open(t, t.TempDir())
	first := heavy(l, 0)
	must(t, l.Change(Put(first)))
	l.texts += MaxTexts - 70<<10 // as of many others
	if err := l.Change(Put(heavy(l, 1))); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("one more: %v", err)
	}
	must(t, l.Change(Put(l.Get(first.ID)))) // control: no growth
	must(t, l.Change(Op{remove: first.ID}))
	must(t, l.Change(Put(heavy(l, 2))))
}
