//go:build linux

package changes_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"cloche/share/internal/layer"
	"cloche/share/internal/wire"
)

func (r *rig) touch(path string, sec uint64) {
	r.t.Helper()
	n := r.at(path)
	defer n.Drop()
	must(r.t, n.SetAttr(wire.SetAttr{Valid: wire.SetMtime | wire.SetMtimeTo, Mtime: wire.Time{Sec: sec}}, nil))
}

// TestWhatTheTaskRenamedOrChangedSinceAnApply_WaitsWithItsContentAfterTheUndo: whatever the task did to a file between an apply and the
// user's undo, the guest has the same tree after it, and the file waits with the bytes that were applied.
func TestWhatTheTaskRenamedOrChangedSinceAnApply_WaitsWithItsContentAfterTheUndo(t *testing.T) {
	since := map[string]struct {
		do   func(*rig, string)
		path string
	}{
		"control: nothing": {func(*rig, string) {}, "d/f"},
		"another mode": {func(r *rig, kind string) {
			if kind != "link" {
				r.chmod("d/f", 0o755)
			}
		}, "d/f"},
		"another time":                     {func(r *rig, _ string) { r.touch("d/f", 1_000_000_000) }, "d/f"},
		"renamed":                          {func(r *rig, _ string) { r.rename("d/f", "d/g") }, "d/g"},
		"renamed, another time":            {func(r *rig, _ string) { r.rename("d/f", "g"); r.touch("g", 1_000_000_000) }, "g"},
		"renamed, another in its place":    {func(r *rig, _ string) { r.rename("d/f", "g"); r.guest("d/f", "another") }, "g"},
		"renamed over one of the folder's": {func(r *rig, _ string) { r.rename("d/f", "kept") }, "kept"},
		"its directory renamed":            {func(r *rig, _ string) { r.rename("d", "e") }, "e/f"},
		"its directory renamed, then it":   {func(r *rig, _ string) { r.rename("d", "e"); r.rename("e/f", "e/g") }, "e/g"},
	}
	for _, kind := range []string{"new", "modified", "link", "new directory", "mode"} {
		for name, did := range since {
			for _, crash := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, crash %v", kind, name, crash), func(t *testing.T) {
					r := newRig(t)
					r.put("kept", "host")
					if kind != "new directory" {
						r.put("d/x", "host")
					}
					if kind == "modified" || kind == "mode" {
						r.put("d/f", "of the host")
					}
					r.open()
					if kind == "new directory" {
						r.mkdir("d")
					}
					switch kind {
					case "link":
						r.link("d/f", "an-hour-of-work")
					case "mode":
						r.chmod("d/f", 0o750)
					default:
						r.guest("d/f", "an hour of work")
					}
					before := r.picture(r.lower)
					_, _, refused := r.apply(r.all())
					r.none(refused)
					did.do(r, kind)
					saw := r.sees()
					if crash {
						r.crash = func(point string) {
							if point == "let go" { // the folder is as before, and the layer does not know
								panic("killed")
							}
						}
						func() {
							defer func() { _ = recover() }()
							_, _, _ = r.set.Undo("")
						}()
						r.crash = nil
						r.open()
					} else {
						_, refused = r.undo("")
						r.none(refused)
					}
					for _, reopened := range []bool{false, true} {
						if reopened {
							r.open()
						}
						if now := r.sees(); now != saw {
							t.Fatalf("reopened %v: the guest sees\n%s\nnot\n%s\nlist %v", reopened, now, saw, r.lines())
						}
					}
					if folder := r.picture(r.lower); folder != before {
						t.Errorf("the folder is\n%s\nand was\n%s", folder, before)
					}
					waits := false
					for _, c := range r.list() {
						waits = waits || c.Path == did.path && c.Conflict == ""
					}
					if !waits {
						t.Errorf("%s does not wait: %v", did.path, r.lines())
					}
				})
			}
		}
	}
}

// TestAFileThatTheHostTakesAwayWhileItsMoveIsApplied_IsGoneForTheGuestToo: the host moves it on before the layer knows that it went over.
func TestAFileThatTheHostTakesAwayWhileItsMoveIsApplied_IsGoneForTheGuestToo(t *testing.T) {
	for _, taken := range []bool{false, true} {
		for _, what := range []string{"file", "directory"} {
			t.Run(fmt.Sprintf("%s, taken %v", what, taken), func(t *testing.T) {
				r := newRig(t)
				r.put("inbox/x", "host")
				if what == "file" {
					r.put("a", "host")
				} else {
					r.put("a/b", "host")
				}
				r.open()
				r.rename("a", "inbox/b")
				if what == "file" { // as who has it open; a directory that is held is seen until it is let go
					held := r.at("inbox/b")
					defer held.Drop()
				}
				if taken {
					r.crash = func(point string) {
						if point == "acted all" {
							r.crash = nil
							must(t, os.Rename(r.host("inbox/b"), r.host("sorted")))
						}
					}
				}
				_, _, refused := r.apply(r.chosen("inbox/b"))
				r.none(refused)
				for _, reopened := range []bool{false, true} {
					if reopened {
						r.open()
					}
					if saw, folder := r.sees(), r.picture(r.lower); saw != folder {
						t.Errorf("reopened %v: the guest sees\n%s\nthe folder is\n%s", reopened, saw, folder)
					}
					r.expect()
				}
			})
		}
	}
}

// TestAFileOfALayerWithoutAnyBytes_IsListedAndDiscarded_AndEndsNothing: none can be made any more; layers of earlier versions may have one.
func TestAFileOfALayerWithoutAnyBytes_IsListedAndDiscarded_AndEndsNothing(t *testing.T) {
	r := newRig(t)
	r.put("kept", "host")
	r.open()
	r.guest("d", "work")
	n := r.layer.Child(layer.RootID, "d")
	n.Content = 0
	must(t, r.layer.Change(layer.Put(n)))
	r.open()
	r.expect("d new file")
	at := r.at("d")
	if _, err := at.Attr(); !errors.Is(err, unix.EIO) {
		t.Errorf("its attributes: %v", err)
	}
	at.Drop()
	_, done, refused := r.apply(r.all())
	if done != 0 || len(refused) != 1 {
		t.Errorf("applied %d, refused %v", done, refused)
	}
	if _, err := r.set.Discard(r.all()); err != nil {
		t.Error(err)
	}
	r.expect()
	if saw := r.sees(); saw != r.picture(r.lower) {
		t.Errorf("the guest sees %s", saw)
	}
}

// TestAnUndoneMoveOfWhatTheTaskDeletedOrReplacedSince_BringsNothingBackForTheGuest: what it did to the file where the apply had it is a deletion
// where the undo brings it.
func TestAnUndoneMoveOfWhatTheTaskDeletedOrReplacedSince_BringsNothingBackForTheGuest(t *testing.T) {
	for name, since := range map[string]func(*rig){
		"control: nothing":                   func(*rig) {},
		"deleted":                            func(r *rig) { r.remove("d/moved", false) },
		"moved on and deleted":               func(r *rig) { r.rename("d/moved", "on"); r.remove("on", false) },
		"replaced by a file of the task's":   func(r *rig) { r.guest("new", "work"); r.rename("new", "d/moved") },
		"replaced by a file of the folder's": func(r *rig) { r.rename("other", "d/moved") },
	} {
		for _, over := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, moved over one: %v", name, over), func(t *testing.T) {
				r := newRig(t)
				for _, path := range []string{"a", "d/x", "other"} {
					r.put(path, "host "+path)
				}
				if over {
					r.put("d/moved", "host d/moved")
				}
				r.open()
				before := r.picture(r.lower)
				r.rename("a", "d/moved")
				_, _, refused := r.apply(r.all())
				r.none(refused)
				since(r)
				saw := r.sees()
				_, refused = r.undo("")
				r.none(refused)
				for _, reopened := range []bool{false, true} {
					if reopened {
						r.open()
					}
					if now := r.sees(); now != saw {
						t.Errorf("reopened %v: the guest sees\n%s\nnot\n%s\nlist %v", reopened, now, saw, r.lines())
					}
				}
				if folder := r.picture(r.lower); folder != before {
					t.Errorf("the folder is\n%s\nand was\n%s", folder, before)
				}
				_, refused = r.discard(r.all())
				r.none(refused)
				if now := r.sees(); now != before {
					t.Errorf("all discarded, the guest sees\n%s\nnot\n%s", now, before)
				}
			})
		}
	}
}
