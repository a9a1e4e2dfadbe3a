//go:build linux

package changes_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"cloche/share/internal/changes"
	"cloche/share/internal/layer"
)

// settles applies all there is, in as many goes as it takes, and wants the guest to see the same throughout, another start to work after each,
// and the folder to be that tree in the end.
func (r *rig) settles() {
	r.t.Helper()
	saw := r.sees()
	for range 4 {
		if len(r.list()) == 0 {
			break
		}
		var what changes.What
		for _, c := range r.list() {
			what.Changes = append(what.Changes, changes.Chosen{ID: c.ID, Token: c.Token})
		}
		r.apply(what)
		for _, reopened := range []bool{false, true} {
			if reopened {
				r.open()
			}
			if now := r.sees(); now != saw {
				r.t.Fatalf("reopened %v: the guest sees\n%s\nnot\n%s", reopened, now, saw)
			}
		}
	}
	r.expect()
	if folder := r.picture(r.lower); folder != saw {
		r.t.Errorf("the folder has\n%s\nnot\n%s", folder, saw)
	}
}

func TestAFileInThePlaceOfADirectoryOfWhichTheHostRemovedAFileIsApplied_AndTheFolderOpensAgain(t *testing.T) {
	for _, ignored := range []bool{false, true} {
		for _, host := range []bool{false, true} {
			t.Run(fmt.Sprintf("ignored %v, removed by the host %v", ignored, host), func(t *testing.T) {
				r := newRig(t)
				if ignored {
					r.put(".gitignore", "*.o\n")
				}
				r.put("d/x.o", "host")
				r.put("other", "host")
				r.open()
				r.guest("other", "an hour of work")
				r.remove("d/x.o", false)
				r.remove("d", true)
				r.guest("d", "a file")
				if host {
					must(t, os.Remove(r.host("d/x.o"))) // `make clean`
					if !ignored {
						_, _, refused := r.apply(r.chosen("d"))
						r.none(refused)
						r.open()
					}
				}
				r.settles()
			})
		}
	}
}

func TestWhatWasMovedOutOfAMovedDirectoryAndOnStaysWhereTheTaskHasIt(t *testing.T) {
	for _, first := range []string{"all", "e", "deleted"} {
		t.Run(first, func(t *testing.T) {
			r := newRig(t)
			r.put("d/x", "host")
			r.put("d/y", "host")
			r.open()
			r.rename("d", "e")
			r.mkdir("d")
			r.rename("e/x", "d/x")
			if first == "deleted" {
				r.remove("d/x", false)
			}
			r.rename("d", "g")
			if first == "e" {
				_, _, refused := r.apply(r.chosen("e"))
				r.none(refused)
			}
			r.settles()
		})
	}
}

func TestAnApplyAcrossADirectoryThatWasMovedSinceAnUndo(t *testing.T) {
	for _, again := range []bool{false, true} {
		for _, reopen := range []bool{false, true} {
			t.Run(fmt.Sprintf("again %v, reopened %v", again, reopen), func(t *testing.T) {
				r := newRig(t)
				r.put("b/c", "host")
				r.put("b/x", "host")
				r.put("c/a/b", "host")
				r.open()
				r.remove("b/c", false)
				r.guest("c/c", "new")
				_, _, refused := r.apply(r.all())
				r.none(refused)
				r.rename("c", "b/b")
				r.undo("")
				if reopen {
					r.open()
				}
				if again {
					r.guest("b/c", "again")
				}
				r.settles()
			})
		}
	}
}

// TestAFullLayerIsNoObstacleToWhatItsUserDecides: the bounds are for what a guest adds.
func TestAFullLayerIsNoObstacleToWhatItsUserDecides(t *testing.T) {
	r := newRig(t)
	r.put("kept", "host")
	r.open()
	long := strings.Repeat("a", 200)
	r.mkdir(long)
	var full []layer.Op
	for i := range layer.MaxTexts>>20 + 1 {
		full = append(full, layer.Put(&layer.Node{
			ID: r.layer.NewID(), Parent: layer.RootID, Name: fmt.Sprint("f", i), Kind: layer.Directory, Made: true, Opaque: true, Mode: 0o755, ModeSet: true,
			QID: 1<<62 | uint64(r.layer.NewID()), Xattrs: map[string][]byte{"user.a": make([]byte, 1<<20-64)},
		}))
	}
	at := 0
	for ; at < len(full) && r.layer.Change(full[at]) == nil; at++ {
	}
	if at == len(full) {
		t.Fatal("the layer is not full")
	}
	root := r.tree.Root()
	defer root.Drop()
	if _, err := root.Mkdir(strings.Repeat("b", 255), 0o755); err == nil {
		for i := 0; err == nil && i < 10_000; i++ {
			_, err = root.Mkdir(fmt.Sprint(strings.Repeat("b", 240), i), 0o755)
		}
	}
	_, done, refused := r.apply(r.chosen(long))
	r.none(refused)
	if _, err := os.Stat(r.host(long)); done != 1 || err != nil {
		t.Errorf("applied %d, %v", done, err)
	}
	r.open()
	for _, c := range r.list() {
		if c.Path == long {
			t.Error("it still waits")
		}
	}
}

// TestANodeThatCannotBeSettledStaysListed_AndTheOthersGoOn: the content cannot be read when the layer is to forget it.
func TestANodeThatCannotBeSettledStaysListed_AndTheOthersGoOn(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprint("at the next start: ", crash), func(t *testing.T) {
			r := newRig(t)
			r.open()
			r.guest("f", "work")
			r.guest("g", "work")
			content := filepath.Join(r.base, "layer", "content", strconv.FormatUint(r.layer.Child(layer.RootID, "f").Content, 10))
			away := func(point string) {
				if point == "acted all" {
					must(t, os.Rename(content, filepath.Join(r.base, "away")))
				}
				if crash && point == "let go" {
					panic("killed")
				}
			}
			r.crash = away
			var refused []string
			func() {
				defer func() {
					if p := recover(); p != nil && p != "killed" {
						panic(p)
					}
				}()
				_, _, refused = r.apply(r.all())
			}()
			r.crash = nil
			if crash {
				r.open()
				slice, err := r.set.Apply(r.chosenNone())
				must(t, err)
				for _, f := range slice.Refused {
					if f.Path != "" {
						refused = append(refused, f.Path+" "+f.Code)
					}
				}
			}
			if len(refused) != 1 || !strings.HasPrefix(refused[0], "f ") {
				t.Errorf("refused: %v", refused)
			}
			must(t, os.Rename(filepath.Join(r.base, "away"), content))
			for range 2 {
				r.expect("f new file conflict exists")
				r.content("g", "work")
				r.open()
			}
		})
	}
}
