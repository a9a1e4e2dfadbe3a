//go:build linux

package changes_test

import "testing"

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
