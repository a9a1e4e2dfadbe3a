//go:build linux

package changes_test

import (
	"os"
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
			saw := r.sees()
			_, _, refused := r.apply(r.all())
			r.none(refused)
			r.expect()
			if now := r.sees(); now != saw {
				t.Errorf("the guest sees\n%s\nnot\n%s", now, saw)
			}
			if folder := r.picture(r.lower); folder != saw {
				t.Errorf("the folder has\n%s\nnot\n%s", folder, saw)
			}
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
