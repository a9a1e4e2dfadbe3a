//go:build linux

package layer

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

func open(t testing.TB, dir string) *Layer {
	t.Helper()
	l, err := tryOpen(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func tryOpen(dir string) (*Layer, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return Open(fd, Base{Kind: Directory, Device: 1, Inode: 2}, 2)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// picture is all that a layer holds, by path.
func picture(l *Layer) map[string]Node {
	all := map[string]Node{}
	l.Walk(func(n *Node, path string) bool {
		n.Placed = 0 // not kept
		all[path] = *n
		return true
	})
	return all
}

// randomChange does something a view could: make, change, move or take away.
func randomChange(t testing.TB, l *Layer, r *rand.Rand) {
	t.Helper()
	var all []*Node
	l.Walk(func(n *Node, _ string) bool { all = append(all, n); return true })
	var directories = []ID{RootID}
	for _, n := range all {
		if n.Kind == Directory && !n.Whiteout {
			directories = append(directories, n.ID)
		}
	}
	dir := directories[r.IntN(len(directories))]
	name := fmt.Sprintf("n%d", r.IntN(12))
	there := l.Child(dir, name)
	switch r.IntN(6) {
	case 0, 1:
		if there != nil {
			return
		}
		n := &Node{ID: l.NewID(), Parent: dir, Name: name, Kind: Kind(1 + r.IntN(3)), QID: r.Uint64(), Target: "t"}
		if r.IntN(2) == 0 {
			n.Base = &Base{Path: "was/" + name, Kind: n.Kind, Device: 1, Inode: r.Uint64(), Mode: 0o644, Size: r.Int64N(100), MtimeNs: -r.Int64N(1000), CtimeNs: 7}
		}
		must(t, l.Change(Put(n)))
	case 2:
		if there == nil {
			return
		}
		there.MtimeNs, there.MtimeSet, there.Mode, there.ModeSet = r.Int64(), true, 0o600, true
		there.Xattrs = map[string][]byte{"user.a": []byte("v"), "user.gone": nil}
		must(t, l.Change(Put(there)))
	case 3:
		if there == nil || l.HasChildren(there.ID) {
			return
		}
		must(t, l.Change(Remove(there.ID)))
	case 4: // moved, with a whiteout where it was
		if there == nil || there.Kind == Directory || there.Base == nil {
			return
		}
		to := directories[r.IntN(len(directories))]
		if l.Child(to, "moved-"+name) != nil {
			return
		}
		white := &Node{ID: l.NewID(), Parent: dir, Name: name, Kind: there.Kind, Whiteout: true, Moved: true, Base: there.Base}
		there.Parent, there.Name = to, "moved-"+name
		must(t, l.Change(Put(there), Put(white)))
	case 5:
		must(t, l.Change(Remember(r.Uint64N(5), r.Uint64N(5), r.Uint64())))
	}
}

// seeds is how many games are played: more of them in a long run.
func seeds(often, long uint64) uint64 {
	if os.Getenv("CLOCHE_LONG") != "" {
		return long
	}
	return often
}

func TestWhatWasChangedIsThereAfterEveryReopening(t *testing.T) {
	for seed := range seeds(7, 500) {
		dir := t.TempDir()
		r := rand.New(rand.NewPCG(seed, 1))
		l := open(t, dir)
		for range 30 {
			for range r.IntN(40) {
				randomChange(t, l, r)
			}
			before, seq, qids := picture(l), l.Seq(), l.qids
			if r.IntN(3) == 0 {
				l.mu.Lock()
				if l.seq > 100 {
					must(t, l.compact())
				}
				l.mu.Unlock()
			}
			l.Close()
			l = open(t, dir)
			if after := picture(l); !reflect.DeepEqual(before, after) || l.Seq() != seq || !reflect.DeepEqual(qids, l.qids) {
				t.Fatalf("seed %d: after reopening:\n%v\nwant\n%v", seed, after, before)
			}
		}
	}
}

func TestALogCutAnywhereHoldsEveryWholeRecordBeforeTheCut(t *testing.T) {
	for seed := range seeds(1, 10) {
		cutAnywhere(t, seed+5)
	}
}

func cutAnywhere(t *testing.T, seed uint64) {
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(seed, 5))
	l := open(t, dir)
	pictures := []map[string]Node{picture(l)}
	ends := []int64{l.logBytes}
	for l.Seq() < 40 {
		before := l.Seq()
		randomChange(t, l, r)
		if l.Seq() != before {
			pictures, ends = append(pictures, picture(l)), append(ends, l.logBytes)
		}
	}
	l.Close()
	whole, err := os.ReadFile(filepath.Join(dir, logFile))
	must(t, err)
	for cut := ends[0]; cut <= int64(len(whole)); cut++ {
		for _, tail := range [][]byte{nil, make([]byte, 40)} {
			must(t, os.WriteFile(filepath.Join(dir, logFile), append(append([]byte{}, whole[:cut]...), tail...), 0o600))
			l, err := tryOpen(dir)
			if err != nil {
				t.Fatalf("seed %d, cut at %d with %d zeros: %v", seed, cut, len(tail), err)
			}
			want := 0
			for want+1 < len(ends) && ends[want+1] <= cut {
				want++
			}
			if got := picture(l); !reflect.DeepEqual(got, pictures[want]) {
				t.Fatalf("seed %d, cut at %d: %v, want %v", seed, cut, got, pictures[want])
			}
			must(t, l.Change(Put(&Node{ID: l.NewID(), Parent: RootID, Name: "after", Kind: File})))
			l.Close()
			if l, err = tryOpen(dir); err != nil || l.Child(RootID, "after") == nil {
				t.Fatalf("seed %d, cut at %d: what came after the cut is gone: %v", seed, cut, err)
			}
			l.Close()
		}
	}
}

func TestDamageInTheMiddleIsNamedAndNothingIsDropped(t *testing.T) {
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(6, 6))
	l := open(t, dir)
	for l.Seq() < 30 {
		randomChange(t, l, r)
	}
	l.Close()
	whole, err := os.ReadFile(filepath.Join(dir, logFile))
	must(t, err)
	for at := 0; at < len(whole)*2/3; at++ {
		damaged := append([]byte{}, whole...)
		damaged[at] ^= 0x40
		must(t, os.WriteFile(filepath.Join(dir, logFile), damaged, 0o600))
		l, err := tryOpen(dir)
		var corrupt *CorruptError
		if err == nil {
			l.Close()
		}
		if !errors.As(err, &corrupt) {
			t.Fatalf("byte %d of %d flipped: %v", at, len(whole), err)
		}
		if now, _ := os.ReadFile(filepath.Join(dir, logFile)); !reflect.DeepEqual(now, damaged) {
			t.Fatalf("byte %d flipped: the log was changed", at)
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, logFile), whole, 0o600))
	open(t, dir) // the control
}

func TestAContentOfNobodyIsRemovedAndOneThatIsNamedStays(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	kept, f, err := l.NewContent()
	must(t, err)
	f.WriteString("kept")
	f.Close()
	base, f, err := l.NewContent()
	must(t, err)
	f.Close()
	orphan, f, err := l.NewContent()
	must(t, err)
	f.Close()
	must(t, l.Change(Put(&Node{ID: l.NewID(), Parent: RootID, Name: "a", Kind: File, Content: kept, Base: &Base{Kind: File, Content: base}})))
	l.Close()
	l = open(t, dir)
	for number, want := range map[uint64]bool{kept: true, base: true, orphan: false} {
		f, err := l.OpenContent(number)
		if (err == nil) != want {
			t.Errorf("content %d: %v", number, err)
		}
		if f != nil {
			f.Close()
		}
	}
	if number, f, err := l.NewContent(); err != nil || number <= base {
		t.Errorf("a new content is number %d, %v", number, err)
	} else {
		f.Close()
	}
}

func TestAChangeUnderAConditionThatFailsChangesNothing(t *testing.T) {
	l := open(t, t.TempDir())
	id := l.NewID()
	must(t, l.Change(Put(&Node{ID: id, Parent: RootID, Name: "a", Kind: File})))
	seq := l.Seq()
	refuse := errors.New("moved on")
	if err := l.ChangeIf(func(get func(ID) *Node) error { return refuse }, Remove(id)); err != refuse || l.Get(id) == nil || l.Seq() != seq {
		t.Errorf("%v, %v, %d", err, l.Get(id), l.Seq())
	}
	must(t, l.ChangeIf(func(get func(ID) *Node) error { return nil }, Remove(id)))
	if l.Get(id) != nil {
		t.Error("the node is still there")
	}
}

func FuzzLog(f *testing.F) {
	dir := f.TempDir()
	l := open(f, dir)
	r := rand.New(rand.NewPCG(7, 7))
	for l.Seq() < 20 {
		randomChange(f, l, r)
	}
	l.Close()
	whole, err := os.ReadFile(filepath.Join(dir, logFile))
	must(f, err)
	f.Add(whole)
	f.Add([]byte(oldHeader))
	f.Add([]byte(newForm().header()))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, logFile), data, 0o600))
		l, err := tryOpen(dir)
		if err != nil {
			return // named; what counts is that it is no crash
		}
		before := picture(l)
		l.Close()
		l = open(t, dir)
		if !reflect.DeepEqual(picture(l), before) {
			t.Error("a second reading gives another layer")
		}
	})
}

// many is a change of far more than one record: each node moves, and gets attributes.
func many(t *testing.T, l *Layer, nodes int) []Op {
	t.Helper()
	var ops []Op
	for i := range nodes {
		n := l.Child(RootID, fmt.Sprintf("n%d", i))
		if n == nil {
			t.Fatalf("n%d is not there", i)
		}
		n.Name = fmt.Sprintf("moved%d", i)
		n.Xattrs = map[string][]byte{"user.a": make([]byte, 400)}
		ops = append(ops, Put(n))
	}
	return ops
}

func TestAChangeOfMoreThanARecordIsWhollyThereOrNotAtAllWhereverTheLogIsCut(t *testing.T) {
	const nodes = 4000
	dir := t.TempDir()
	l := open(t, dir)
	for i := range nodes {
		must(t, l.Change(Put(&Node{ID: l.NewID(), Parent: RootID, Name: fmt.Sprintf("n%d", i), Kind: File, Made: true, QID: uint64(i)})))
	}
	before, seq := picture(l), l.Seq()
	at := l.logBytes
	must(t, l.Change(many(t, l, nodes)...))
	if l.Seq() != seq+1 {
		t.Errorf("one change counted as %d", l.Seq()-seq)
	}
	if l.logBytes-at <= maxRecord {
		t.Fatalf("control: the change has %d bytes, which are one record", l.logBytes-at)
	}
	after := picture(l)
	l.Close()
	log := filepath.Join(dir, "layer.log")
	whole, err := os.ReadFile(log)
	must(t, err)
	cuts := []int64{at, at + 3, int64(len(whole)) - 1}
	for place := at; place < int64(len(whole)); place += 150_000 {
		cuts = append(cuts, place)
	}
	for _, cut := range cuts {
		must(t, os.WriteFile(log, whole[:cut], 0o600))
		l = open(t, dir)
		if !reflect.DeepEqual(picture(l), before) {
			t.Fatalf("cut at %d of %d, something of the change is there", cut, len(whole))
		}
		must(t, l.Change(Put(&Node{ID: l.NewID(), Parent: RootID, Name: "later", Kind: File, Made: true})))
		l.Close()
		l = open(t, dir) // what came after the cut is read again
		if l.Child(RootID, "later") == nil || l.Child(RootID, "n0") == nil {
			t.Fatalf("cut at %d: the log does not go on", cut)
		}
		l.Close()
	}
	must(t, os.WriteFile(log, whole, 0o600))
	l = open(t, dir)
	if !reflect.DeepEqual(picture(l), after) {
		t.Error("control: the whole change is not there")
	}
	l.Close()
	// Damage in the middle of it, with whole records behind, is told and nothing is cut.
	damaged := bytes.Clone(whole)
	damaged[at+100] ^= 1
	must(t, os.WriteFile(log, damaged, 0o600))
	var corrupt *CorruptError
	if _, err := tryOpen(dir); !errors.As(err, &corrupt) {
		t.Errorf("damage: %v", err)
	}
}

func TestALargeChangeThatCannotBeWrittenLeavesNothingOfItself(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	const nodes = 4000
	for i := range nodes {
		must(t, l.Change(Put(&Node{ID: l.NewID(), Parent: RootID, Name: fmt.Sprintf("n%d", i), Kind: File, Made: true, QID: uint64(i)})))
	}
	before, size := picture(l), l.logBytes
	ops := many(t, l, nodes)
	broken := &Node{ID: 1 << 40, Parent: 1 << 41, Name: "x", Kind: File}
	if err := l.Change(append(ops, Put(broken))...); err == nil {
		t.Error("a node in no directory was taken")
	}
	if !reflect.DeepEqual(picture(l), before) || l.logBytes != size {
		t.Error("something of a refused change is there")
	}
}
