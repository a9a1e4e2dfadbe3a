//go:build linux

package layer

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// tried makes a change; one that is refused must have left nothing, and the log must open whatever came.
func tried(t *testing.T, l *Layer, dir string, ops ...Op) (*Layer, error) {
	t.Helper()
	before := picture(l)
	log, err := os.ReadFile(filepath.Join(dir, logFile))
	must(t, err)
	refused := l.Change(ops...)
	if refused != nil {
		if now, err := os.ReadFile(filepath.Join(dir, logFile)); err != nil || string(now) != string(log) || !reflect.DeepEqual(picture(l), before) {
			t.Fatalf("refused (%v), and something of it is there", refused)
		}
	}
	before = picture(l)
	l.Close()
	again, err := tryOpen(dir)
	if err != nil {
		t.Fatalf("the change was answered with %v, and then the layer cannot be opened: %v", refused, err)
	}
	t.Cleanup(again.Close)
	if !reflect.DeepEqual(picture(again), before) {
		t.Fatalf("after reopening: %v, want %v", picture(again), before)
	}
	return again, refused
}

func TestAChangeThatNoLogCouldBeReadWithIsRefusedAndNothingOfItIsWritten(t *testing.T) {
	const d, f, other, fresh, second = 10, 11, 12, 100, 101
	file := func(id, parent ID, name string) Op {
		return Put(&Node{ID: id, Parent: parent, Name: name, Kind: File, Made: true, QID: uint64(id)})
	}
	dir := func(id, parent ID, name string) Op {
		return Put(&Node{ID: id, Parent: parent, Name: name, Kind: Directory, Made: true, QID: uint64(id)})
	}
	for name, c := range map[string]struct {
		ops    []Op
		refuse bool
	}{
		"a second node at a name":                             {[]Op{file(fresh, d, "f")}, true},
		"two new nodes at a name":                             {[]Op{file(fresh, d, "new"), file(second, d, "new")}, true},
		"a node moved to a name that is taken":                {[]Op{file(other, d, "f")}, true},
		"one beside it":                                       {[]Op{file(fresh, d, "g")}, false},
		"in the place of one that goes":                       {[]Op{file(fresh, d, "f"), Remove(f)}, false},
		"in the place of one that went":                       {[]Op{Remove(f), file(fresh, d, "f")}, false},
		"in the place of one that moves":                      {[]Op{file(f, d, "g"), file(fresh, d, "f")}, false},
		"two that change places":                              {[]Op{file(f, RootID, "other"), file(other, d, "f")}, false},
		"in a directory that never was":                       {[]Op{file(fresh, 77, "x")}, true},
		"in a file":                                           {[]Op{file(fresh, f, "x")}, true},
		"in a directory that the same change makes":           {[]Op{file(fresh, second, "x"), dir(second, d, "new")}, false},
		"two new directories in each other":                   {[]Op{dir(fresh, second, "x"), dir(second, fresh, "y")}, true},
		"a new directory in itself":                           {[]Op{dir(fresh, fresh, "x")}, true},
		"one moved into a new one that lies in it":            {[]Op{dir(d, fresh, "x"), dir(fresh, d, "y")}, true},
		"one moved beside two new ones in each other":         {[]Op{dir(d, fresh, "x"), dir(fresh, second, "y"), dir(second, fresh, "z")}, true},
		"one moved into a new one that lies beside it":        {[]Op{dir(d, fresh, "x"), dir(fresh, RootID, "y")}, false},
		"a directory that goes without what is in it":         {[]Op{Remove(d)}, true},
		"one that goes and comes back, with what is in it":    {[]Op{Remove(d), dir(d, RootID, "d")}, false},
		"one that goes with it":                               {[]Op{Remove(f), Remove(d)}, false},
		"one that becomes a file":                             {[]Op{file(d, RootID, "d")}, true},
		"a node removed twice":                                {[]Op{Remove(other), Remove(other)}, false},
		"one that stands at another's name between two steps": {[]Op{file(fresh, RootID, "x"), file(other, RootID, "x"), file(other, RootID, "y")}, false},
		"a name longer than a record takes":                   {[]Op{file(fresh, d, strings.Repeat("x", 256))}, true},
		"the longest name":                                    {[]Op{file(fresh, d, strings.Repeat("x", 255))}, false},
		"a link's text longer than a record takes":            {[]Op{Put(&Node{ID: fresh, Parent: d, Name: "l", Kind: Link, Target: strings.Repeat("x", 4097)})}, true},
		"a node of no kind":                                   {[]Op{Put(&Node{ID: fresh, Parent: d, Name: "k"})}, true},
		"a base of no kind":                                   {[]Op{Put(&Node{ID: fresh, Parent: d, Name: "k", Kind: File, Base: &Base{Path: "k"}})}, true},
		"an attribute with a name longer than a record's":     {[]Op{Put(&Node{ID: fresh, Parent: d, Name: "k", Kind: File, Xattrs: map[string][]byte{strings.Repeat("x", 256): nil}})}, true},
	} {
		t.Run(name, func(t *testing.T) {
			at := t.TempDir()
			l := open(t, at)
			must(t, l.Change(dir(d, RootID, "d"), file(f, d, "f"), file(other, RootID, "other")))
			if _, err := tried(t, l, at, c.ops...); (err != nil) != c.refuse {
				t.Errorf("%v", err)
			}
		})
	}
}

// Callers that are wrong in any way: what is answered with no error is read again, what is refused leaves no trace.
func TestWhateverALayerIsAskedToKeepItsLogStaysReadable(t *testing.T) {
	total := 0
	for seed := range seeds(60, 3000) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 4))
			dir := t.TempDir()
			l := open(t, dir)
			for range 60 {
				var ops []Op
				for range 1 + r.IntN(3) {
					id := ID(1 + r.IntN(8))
					if r.IntN(3) == 0 {
						ops = append(ops, Remove(id))
						continue
					}
					n := &Node{ID: id, Parent: ID(1 + r.IntN(8)), Name: string(rune('a' + r.IntN(4))), Kind: Kind(1 + r.IntN(3)), QID: r.Uint64(), Whiteout: r.IntN(4) == 0}
					if r.IntN(2) == 0 {
						n.Kind = Directory
					}
					if r.IntN(2) == 0 {
						n.Parent = RootID
					}
					if r.IntN(3) == 0 {
						n.Base = &Base{Path: n.Name, Kind: Kind(1 + r.IntN(3))}
					}
					ops = append(ops, Put(n))
				}
				var err error
				if l, err = tried(t, l, dir, ops...); err == nil {
					total++
				}
			}
		})
	}
	if total < 300 {
		t.Errorf("control: %d changes were taken", total)
	}
}
