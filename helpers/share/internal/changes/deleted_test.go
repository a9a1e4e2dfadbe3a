//go:build linux

package changes_test

import (
	"errors"
	"fmt"
	"os"
	"sort"
	"syscall"
	"testing"
	"time"

	"cloche/share/internal/wire"
)

func TestWhatWasDeletedStaysKnownFileByFile_WhateverIsMadeOrMovedThereSince(t *testing.T) {
	empty := func(r *rig, d string) {
		r.remove(d+"/f", false)
		r.remove(d+"/g", false)
		r.remove(d, true)
	}
	for name, c := range map[string]struct {
		do   func(r *rig)
		want []string
	}{
		"made again and removed again": {func(r *rig) {
			empty(r, "d")
			r.mkdir("d")
			r.remove("d", true)
		}, []string{"d deleted directory", "d/f deleted file", "d/g deleted file"}},
		"a file made anew in it and deleted": {func(r *rig) {
			empty(r, "d")
			r.mkdir("d")
			r.guest("d/f", "anew")
			r.remove("d/f", false)
			r.guest("d/g", "anew")
		}, []string{"d/f deleted file", "d/g modified file"}},
		"a directory of the task's moved to its name": {func(r *rig) {
			empty(r, "d")
			r.mkdir("n")
			r.guest("n/f", "anew")
			r.rename("n", "d")
		}, []string{"d/f modified file", "d/g deleted file"}},
		"what was made there moved on": {func(r *rig) {
			empty(r, "d")
			r.mkdir("d")
			r.guest("d/f", "anew")
			r.rename("d", "q")
		}, []string{"d deleted directory", "d/f deleted file", "d/g deleted file", "q new directory", "q/f new file"}},
		"a file in its place moved on": {func(r *rig) {
			empty(r, "d")
			r.guest("d", "a file")
			r.rename("d", "q")
		}, []string{"d deleted directory", "d/f deleted file", "d/g deleted file", "q new file"}},
		"moved away and deleted there": {func(r *rig) {
			r.rename("d", "q")
			empty(r, "q")
		}, []string{"d deleted directory", "d/f deleted file", "d/g deleted file"}},
		"moved away and deleted there, with another made in its place": {func(r *rig) {
			r.rename("d", "q")
			r.mkdir("d")
			r.guest("d/f", "anew")
			empty(r, "q")
		}, []string{"d/f modified file", "d/g deleted file"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.put("d/f", "old")
			r.put("d/g", "old")
			r.open()
			c.do(r)
			r.expect(c.want...)
			r.open()
			r.expect(c.want...)
			r.takesAll()
		})
	}
}

func TestADirectoryMadeAgainShowsWhatWasAppliedInItAndWhatTheHostHasThere(t *testing.T) {
	for _, what := range []string{"an apply", "a discard"} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t)
			r.put("d/f", "old")
			r.put("d/g", "old")
			r.open()
			r.remove("d/f", false)
			r.remove("d/g", false)
			r.remove("d", true)
			r.mkdir("d")
			r.chmod("d", 0o700)
			r.guest("d/f", "anew")
			r.put("d/later", "of the host")
			seen := map[string]string{"an apply": `d/f 644 "anew"`, "a discard": `d/f 644 "old"`}[what]
			if what == "an apply" {
				_, _, refused := r.apply(r.chosen("d/f"))
				r.none(refused)
			} else {
				slice, err := r.set.Discard(r.chosen("d/f"))
				must(t, err)
				if len(slice.Done) != 1 {
					t.Errorf("discarded: %v, refused %v", slice.Done, slice.Refused)
				}
			}
			if saw, want := r.sees(), "d/ 700\n"+seen+"\nd/later 644 \"of the host\""; saw != want {
				t.Errorf("the guest sees\n%s\nwant\n%s", saw, want)
			}
			r.expect("d attributes directory", "d/g deleted file") // what is not the host's to decide yet
		})
	}
}

func TestAModeThatTheGuestGivesADirectoryDuringTheApplyIsAChangeOfItsOwn(t *testing.T) {
	for _, point := range []string{"prepared", "renamed", "done"} {
		t.Run(point, func(t *testing.T) {
			r := newRig(t)
			r.put("kept", "old")
			r.open()
			r.mkdir("d")
			r.crash = func(at string) {
				if at == point {
					r.crash = nil
					r.chmod("d", 0o700)
					r.guest("d/f", "made meanwhile")
				}
			}
			_, _, refused := r.apply(r.chosen("d"))
			r.none(refused)
			r.put("d/of-the-host", "x")
			r.expect("d attributes directory", "d/f new file")
			if saw, want := r.sees(), "d/ 700\nd/f 644 \"made meanwhile\"\nd/of-the-host 644 \"x\"\nkept 644 \"old\""; saw != want {
				t.Errorf("the guest sees\n%s\nwant\n%s", saw, want)
			}
			_, _, refused = r.apply(r.all())
			r.none(refused)
			r.expect()
			r.content("d/f", "made meanwhile")
		})
	}
}

// The guest moves one of the user's files to the name of a directory that it removed, removes that too and makes the directory anew.
func TestWhatTheGuestDeletedStaysDeleted_ThoughAFileOfTheFoldersStoodInItsPlace(t *testing.T) {
	for _, kind := range []string{"a file", "a file that was moved before", "a file out of it", "a link"} {
		for _, then := range []string{"its mode", "something in it"} {
			t.Run(kind+", "+then, func(t *testing.T) {
				r := newRig(t)
				r.put("a/b", "of the host")
				r.put("b/c", "old")
				r.put("b/a/b", "old")
				must(t, os.Symlink("b", r.host("a/link")))
				r.open()
				from := "a/b"
				switch kind {
				case "a link":
					from = "a/link"
				case "a file that was moved before":
					from = "moved"
					r.rename("a/b", from)
				case "a file out of it":
					from = "moved"
					r.rename("b/c", from)
				}
				if kind != "a file out of it" {
					r.remove("b/c", false)
				}
				r.remove("b/a/b", false)
				r.remove("b/a", true)
				r.remove("b", true)
				was := r.at(from)
				qid := was.QID()
				r.rename(from, "b")
				now := r.at("b")
				if now.QID() != qid {
					t.Errorf("the file is %v since its rename, and was %v", now.QID(), qid)
				}
				now.Drop()
				was.Drop()
				r.remove("b", false)
				r.mkdir("b")
				r.chmod("b", 0o700)
				r.guest("b/new", "the task's")
				saw := r.sees()
				chosen := map[string]string{"its mode": "b", "something in it": "b/new"}[then]
				_, _, refused := r.apply(r.chosen(chosen))
				r.none(refused)
				if now := r.sees(); now != saw {
					t.Errorf("the guest sees\n%s\nnot\n%s", now, saw)
				}
				r.content("b/a/b", "old") // the user's, until its deletion is applied

				// Control: what the user makes there shows.
				r.put("b/later", "of the host")
				n := r.at("b/later")
				n.Drop()

				r.open()
				_, _, refused = r.apply(r.all())
				r.none(refused)
				r.expect()
				if folder, saw := r.picture(r.lower), r.sees(); folder != saw {
					t.Errorf("the folder has\n%s\nand the guest sees\n%s", folder, saw)
				}
				r.content("b/later", "of the host")
			})
		}
	}
}

// A file that took the place of a directory is the guest's as it was, and is applied once the directory is empty.
func TestAFileOfTheFoldersInTheNameOfARemovedDirectoryIsAsItWas(t *testing.T) {
	r := newRig(t)
	r.put("a/b", "of the host")
	r.put("b/c", "old")
	must(t, os.Chmod(r.host("a/b"), 0o755))
	r.open()
	r.remove("b/c", false)
	r.remove("b", true)
	mtime := func(path string) wire.Time {
		n := r.at(path)
		defer n.Drop()
		a, err := n.Attr()
		must(t, err)
		return a.Mtime
	}
	must(t, os.Chtimes(r.host("a/b"), time.Unix(1_000_000, 5), time.Unix(1_000_000, 5)))
	was := mtime("a/b")
	r.rename("a/b", "b")
	if now := mtime("b"); now != was {
		t.Errorf("its time is %v since its rename, and was %v", now, was)
	}
	saw := r.sees()
	r.expect("a/b deleted file", "b type-changed file executable", "b/c deleted file")
	r.open()
	if now := r.sees(); now != saw {
		t.Errorf("after another start the guest sees\n%s\nnot\n%s", now, saw)
	}
	batch, _, refused := r.apply(r.all())
	r.none(refused)
	if folder := r.picture(r.lower); folder != saw {
		t.Errorf("the folder has\n%s\nnot\n%s", folder, saw)
	}
	r.undo(batch)
	r.content("a/b", "of the host")
	r.content("b/c", "old")
	if now := r.sees(); now != saw {
		t.Errorf("after an undo the guest sees\n%s\nnot\n%s", now, saw)
	}
}

// What the guest moved is one change however often its old name is used since, and what it deletes of it there is known by name.
func TestWhatWasMovedIsOnlyMoved_AndWhatIsDeletedThereIsOfferedWhateverCameAndWentUnderItsOldName(t *testing.T) {
	moved := func(r *rig) { r.rename("d", "q") }
	for name, c := range map[string]struct {
		then func(r *rig)
		want []string
	}{
		"nothing": {func(r *rig) {}, nil},
		"a directory, removed": {func(r *rig) {
			r.mkdir("d")
			r.remove("d", true)
		}, nil},
		"a file, removed": {func(r *rig) {
			r.guest("d", "a file")
			r.remove("d", false)
		}, nil},
		"directories, one after the other": {func(r *rig) {
			for range 2 {
				r.mkdir("d")
				r.guest("d/f", "anew")
				r.remove("d/f", false)
				r.remove("d", true)
			}
		}, nil},
		"a directory, moved on": {func(r *rig) {
			r.mkdir("d")
			r.guest("d/f", "anew")
			r.rename("d", "other")
		}, []string{"other new directory", "other/f new file"}},
		"a directory of the folder's, moved on": {func(r *rig) {
			r.rename("e", "d")
			r.rename("d", "other")
		}, []string{"other moved directory from e"}},
		"a directory of the folder's, removed": {func(r *rig) {
			r.rename("e", "d")
			r.remove("d/h", false)
			r.remove("d", true)
		}, []string{"e deleted directory", "e/h deleted file"}},
	} {
		for _, deleted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, deleted: %v", name, deleted), func(t *testing.T) {
				r := newRig(t)
				r.put("d/f", "old")
				r.put("d/g", "old")
				r.put("e/h", "old")
				r.open()
				moved(r)
				c.then(r)
				want := append([]string{"q moved directory from d"}, c.want...)
				if deleted {
					r.remove("q/f", false)
					r.remove("q/g", false)
					r.remove("q", true)
					want = append([]string{"d deleted directory", "d/f deleted file", "d/g deleted file"}, c.want...)
				}
				sort.Strings(want)
				r.expect(want...)
				r.open()
				r.expect(want...)
				r.takesAll()
			})
		}
	}
}

// The same of a file, out of a directory that is removed and made anew.
func TestAFileThatWasMovedOutOfADirectoryIsNotThereAgain_WhateverCameAndWentUnderItsOldName(t *testing.T) {
	for name, between := range map[string]func(r *rig){
		"nothing": func(r *rig) {},
		"a file":  func(r *rig) { r.guest("d/f", "anew"); r.remove("d/f", false) },
		"a directory": func(r *rig) {
			r.mkdir("d/f")
			r.remove("d/f", true)
		},
		"a file, moved on with the directory": func(r *rig) {
			r.guest("d/f", "anew")
			r.rename("d", "e")
			r.mkdir("d")
		},
	} {
		for _, anew := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, in one made anew: %v", name, anew), func(t *testing.T) {
				r := newRig(t)
				r.put("d/f", "old")
				r.put("d/g", "old")
				r.open()
				r.rename("d/f", "q")
				if anew || name == "a file, moved on with the directory" {
					r.remove("d/g", false)
					r.remove("d", true)
					r.mkdir("d")
					r.chmod("d", 0o700)
				}
				between(r)
				r.guest("d/new", "the task's")
				saw := r.sees()
				_, _, refused := r.apply(r.chosen("d/new"))
				r.none(refused)
				if now := r.sees(); now != saw {
					t.Errorf("the guest sees\n%s\nnot\n%s", now, saw)
				}
				_, _, refused = r.apply(r.all())
				r.none(refused)
				r.expect()
				if folder := r.picture(r.lower); folder != saw {
					t.Errorf("the folder has\n%s\nnot\n%s", folder, saw)
				}
			})
		}
	}
}

// A file that comes back to its name, in a directory that the guest made where the folder's own was before it moved that, is not the folder's there.
func TestWhatLeavesADirectoryMadeInTheOldPlaceOfAMovedOneIsGoneFromWhereTheFolderHasIt(t *testing.T) {
	for name, c := range map[string]struct {
		then func(r *rig)
		want []string
	}{
		"removed": {func(r *rig) { r.remove("d/f", false) }, []string{"q/f deleted file"}},
		"moved to a directory's name that was emptied": {func(r *rig) { r.rename("d/f", "e") }, []string{"q/f deleted file", "e type-changed file", "e/h deleted file"}},
		"moved on":   {func(r *rig) { r.rename("d/f", "z") }, []string{"z moved file from d/f"}},
		"left there": {func(r *rig) {}, []string{"d/f moved file from d/f"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.put("d/f", "old")
			r.put("d/g", "old")
			r.put("e/h", "old")
			r.open()
			want := append([]string{"q moved directory from d"}, c.want...)
			if name == "moved to a directory's name that was emptied" {
				r.remove("e/h", false)
				r.remove("e", true)
			}
			r.rename("d", "q")
			r.mkdir("d")
			r.rename("q/f", "d/f")
			c.then(r)
			r.expect(want...)
			saw := r.sees()
			for range 3 { // what is in a directory that an apply moved is looked at again
				r.apply(r.all())
				if now := r.sees(); now != saw {
					t.Errorf("the guest sees\n%s\nnot\n%s", now, saw)
				}
			}
			r.expect()
			if folder := r.picture(r.lower); folder != saw {
				t.Errorf("the folder has\n%s\nnot\n%s", folder, saw)
			}
		})
	}
}

// A move that is discarded brings the directory back, also where the guest has made another one since.
func TestADiscardedMoveBringsTheDirectoryBack_IntoOneThatTheGuestMadeThere(t *testing.T) {
	for _, made := range []bool{false, true} {
		t.Run(fmt.Sprint("made: ", made), func(t *testing.T) {
			r := newRig(t)
			r.put("d/f", "old")
			r.put("d/in/g", "old")
			r.open()
			r.rename("d", "q")
			saw := "d/ 755\nd/f 644 \"old\"\nd/in/ 755\nd/in/g 644 \"old\""
			if made {
				r.mkdir("d")
				r.guest("d/new", "the task's")
				saw += "\nd/new 644 \"the task's\""
				n := r.at("d")
				defer n.Drop() // as a program has it that works there
			}
			slice, err := r.set.Discard(r.chosen("q"))
			must(t, err)
			if len(slice.Done) != 1 {
				t.Fatalf("discarded: %v, refused %v", slice.Done, slice.Refused)
			}
			for _, reopened := range []bool{false, true} {
				if reopened {
					r.open()
				}
				if now := r.sees(); now != saw {
					t.Errorf("reopened %v: the guest sees\n%s\nwant\n%s", reopened, now, saw)
				}
			}
			_, _, refused := r.apply(r.all())
			r.none(refused)
			r.expect()
			if folder := r.picture(r.lower); folder != saw {
				t.Errorf("the folder has\n%s\nnot\n%s", folder, saw)
			}
		})
	}
}

// What mv does for such a directory, since the rename is refused: all of it can be applied.
func TestADirectoryThatIsCopiedOntoTheNameOfAnEmptiedOneIsAppliedWithAllDeletions(t *testing.T) {
	r := newRig(t)
	r.put("a/x", "of a")
	r.put("a/in/y", "of a")
	r.put("b/x", "of b")
	r.put("b/z", "of b")
	r.open()
	r.remove("b/x", false)
	r.remove("b/z", false)
	r.remove("b", true)
	root := r.tree.Root()
	defer root.Drop()
	if err := root.Rename("a", root, "b"); !errors.Is(err, syscall.EXDEV) {
		t.Fatalf("the rename: %v, want EXDEV", err)
	}
	r.mkdir("b")
	r.mkdir("b/in")
	r.guest("b/x", "of a")
	r.rename("a/in/y", "b/in/y") // file by file, as renames
	r.remove("a/x", false)
	r.remove("a/in", true)
	r.remove("a", true)
	saw := r.sees()
	r.expect("a deleted directory", "a/in deleted directory", "a/x deleted file", "b/in new directory", "b/in/y moved file from a/in/y", "b/x modified file", "b/z deleted file")
	batch, _, refused := r.apply(r.all())
	r.none(refused)
	r.expect()
	if folder := r.picture(r.lower); folder != saw {
		t.Errorf("the folder has\n%s\nnot\n%s", folder, saw)
	}
	r.undo(batch)
	r.content("b/z", "of b")
	r.content("a/in/y", "of a")
	if now := r.sees(); now != saw {
		t.Errorf("after an undo the guest sees\n%s\nnot\n%s", now, saw)
	}
}

// What an undo brings back lies, for the guest, in a directory that it has elsewhere: it goes on seeing the thing where it moved it, and only there.
func TestWhatAnUndoBringsBackIntoADirectoryThatTheGuestHasElsewhereIsSeenOnce(t *testing.T) {
	for what, path := range map[string]string{"a directory": "b/a", "a file": "b/f", "a file that was written to": "b/f"} {
		for _, instead := range []string{"nothing", "a directory of the task's", "one of the folder's"} {
			t.Run(what+", in the old place "+instead, func(t *testing.T) {
				r := newRig(t)
				r.put("b/a/b", "old")
				r.put("b/f", "old")
				r.put("c/x", "old")
				r.put("e/x", "old")
				r.open()
				before := r.folder()
				r.rename("b", "q")
				r.rename("q"+path[1:], "c/moved")
				if what == "a file that was written to" {
					r.guest("c/moved", "the task's")
				}
				switch instead {
				case "a directory of the task's":
					r.mkdir("b")
				case "one of the folder's":
					r.rename("e", "b")
				}
				saw := r.sees()
				batch, _, refused := r.apply(r.chosen("c/moved"))
				r.none(refused)
				if now := r.sees(); now != saw {
					t.Errorf("after the apply the guest sees\n%s\nnot\n%s", now, saw)
				}
				r.undo(batch)
				r.same("after the undo", before)
				for _, reopened := range []bool{false, true} {
					if reopened {
						r.open()
					}
					if now := r.sees(); now != saw {
						t.Errorf("after the undo, reopened %v, the guest sees\n%s\nnot\n%s", reopened, now, saw)
					}
				}
				for range 3 {
					r.apply(r.all())
				}
				r.expect()
				if folder := r.picture(r.lower); folder != saw {
					t.Errorf("the folder has\n%s\nnot\n%s", folder, saw)
				}
			})
		}
	}
}

// takesAll: once everything is applied, the folder is what the guest saw, and the guest sees the same.
func (r *rig) takesAll() {
	r.t.Helper()
	saw := r.sees()
	_, _, refused := r.apply(r.all())
	r.none(refused)
	r.expect()
	if now := r.sees(); now != saw {
		r.t.Errorf("the guest sees\n%s\nnot\n%s", now, saw)
	}
	if folder := r.picture(r.lower); folder != saw {
		r.t.Errorf("the folder has\n%s\nnot\n%s", folder, saw)
	}
}
