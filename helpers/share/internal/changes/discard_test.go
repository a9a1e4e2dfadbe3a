//go:build linux

package changes_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"cloche/share/internal/changes"
)

// discard drops changes to the end, and gives what was refused as "path code".
func (r *rig) discard(what changes.What) (done int, refused []string) {
	r.t.Helper()
	slice, err := r.set.Discard(what)
	for {
		must(r.t, err)
		done += len(slice.Done)
		for _, f := range slice.Refused {
			refused = append(refused, f.Path+" "+f.Code)
		}
		if slice.Remaining == 0 {
			return done, refused
		}
		slice, err = r.set.DiscardMore(slice.Batch)
	}
}

// TestADiscardDropsWhatWasChosen_AndAllElseInTheDirectoryStaysListed: each change of a directory that is discarded by itself leaves what
// lies in it to the guest and to the list, and a discard of all then brings the folder's own back, in this and in another process.
func TestADiscardDropsWhatWasChosen_AndAllElseInTheDirectoryStaysListed(t *testing.T) {
	for name, c := range map[string]struct {
		do     func(*rig)
		chosen string
		kept   bool // refused: what lies in it stays
		expect []string
		sees   string
	}{
		"a mode": {
			do: func(r *rig) { r.chmod("d", 0o700); r.guest("d/a", "edited"); r.guest("d/new", "work") }, chosen: "d",
			expect: []string{"d/a modified file", "d/new new file"},
			sees:   "d/ 755\nd/a 644 \"edited\"\nd/b 644 \"host\"\nd/new 644 \"work\"\nz 644 \"host\"",
		},
		"a mode of one made again": {
			do: func(r *rig) {
				r.remove("d/a", false)
				r.remove("d/b", false)
				r.remove("d", true)
				r.mkdir("d")
				r.chmod("d", 0o700)
				r.guest("d/new", "work")
			}, chosen: "d",
			expect: []string{"d/a deleted file", "d/b deleted file", "d/new new file"},
			sees:   "d/ 755\nd/new 644 \"work\"\nz 644 \"host\"",
		},
		"a new one": {
			do: func(r *rig) { r.mkdir("n"); r.guest("n/f", "work") }, chosen: "n", kept: true,
			expect: []string{"n new directory", "n/f new file"},
			sees:   "d/ 755\nd/a 644 \"host\"\nd/b 644 \"host\"\nn/ 755\nn/f 644 \"work\"\nz 644 \"host\"",
		},
		"a new one with a file of the folder's": {
			do: func(r *rig) { r.mkdir("n"); r.rename("z", "n/z") }, chosen: "n", kept: true,
			expect: []string{"n new directory", "n/z moved file from z"},
			sees:   "d/ 755\nd/a 644 \"host\"\nd/b 644 \"host\"\nn/ 755\nn/z 644 \"host\"",
		},
		"a move": {
			do: func(r *rig) {
				r.rename("d", "q")
				r.guest("q/a", "edited")
				r.guest("q/new", "work")
				r.remove("q/b", false)
			}, chosen: "q",
			expect: []string{"d/a modified file", "d/b deleted file", "d/new new file"},
			sees:   "d/ 755\nd/a 644 \"edited\"\nd/new 644 \"work\"\nz 644 \"host\"",
		},
		"a move, with one of its files moved on": {
			do: func(r *rig) { r.rename("d", "q"); r.rename("q/a", "a") }, chosen: "q",
			expect: []string{"a moved file from d/a"},
			sees:   "a 644 \"host\"\nd/ 755\nd/b 644 \"host\"\nz 644 \"host\"",
		},
		"a deletion": {
			do: func(r *rig) { r.remove("d/a", false); r.remove("d/b", false); r.remove("d", true) }, chosen: "d",
			expect: []string{"d/a deleted file", "d/b deleted file"},
			sees:   "d/ 755\nz 644 \"host\"",
		},
		"a file in its place": {
			do: func(r *rig) {
				r.remove("d/a", false)
				r.remove("d/b", false)
				r.remove("d", true)
				r.guest("d", "a file")
			}, chosen: "d",
			expect: []string{"d/a deleted file", "d/b deleted file"},
			sees:   "d/ 755\nz 644 \"host\"",
		},
		"what was moved out of one that was made again": {
			do: func(r *rig) {
				r.rename("d/a", "a")
				r.remove("d/b", false)
				r.remove("d", true)
				r.mkdir("d")
			}, chosen: "a",
			expect: []string{"d/b deleted file"},
			sees:   "d/ 755\nd/a 644 \"host\"\nz 644 \"host\"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			for _, path := range []string{"d/a", "d/b", "z"} {
				r.put(path, "host")
			}
			folder := r.folder()
			r.open()
			c.do(r)
			done, refused := r.discard(r.chosen(c.chosen))
			if c.kept != (len(refused) == 1) || c.kept == (done == 1) {
				t.Errorf("done %d, refused %v", done, refused)
			}
			for _, reopened := range []bool{false, true} {
				if reopened {
					r.open()
				}
				r.expect(c.expect...)
				if saw := r.sees(); saw != c.sees {
					t.Errorf("reopened %v: the guest sees\n%s\nwant\n%s", reopened, saw, c.sees)
				}
			}
			_, refused = r.discard(r.all())
			r.none(refused)
			r.expect()
			if saw := r.sees(); saw != r.picture(r.lower) {
				t.Errorf("all discarded, and the guest sees\n%s", saw)
			}
			r.same("after the discards", folder)
		})
	}
}

// TestWhatCameAfterTheListStays_WithTheDirectoriesThatItLiesIn: "all" is what was shown.
func TestWhatCameAfterTheListStays_WithTheDirectoriesThatItLiesIn(t *testing.T) {
	r := newRig(t)
	r.put("kept", "host")
	r.open()
	r.mkdir("n")
	r.mkdir("n/sub")
	r.mkdir("n/empty")
	r.guest("n/f", "shown")
	r.guest("n/g", "shown")
	what := r.all()
	r.guest("n/f", "written after the list was shown")
	r.guest("n/sub/later", "made after the list was shown")
	done, _ := r.discard(what)
	if done != 2 { // n/empty and n/g
		t.Errorf("discarded %d", done)
	}
	r.expect("n new directory", "n/f new file", "n/sub new directory", "n/sub/later new file")
	_, refused := r.discard(r.all())
	r.none(refused)
	if saw := r.sees(); saw != r.picture(r.lower) {
		t.Errorf("the guest sees\n%s", saw)
	}
}

// TestAnUndoneMoveOutOfADirectoryThatWasMadeAgainIsDiscarded_AndTheFoldersShows
func TestAnUndoneMoveOutOfADirectoryThatWasMadeAgainIsDiscarded_AndTheFoldersShows(t *testing.T) {
	r := newRig(t)
	r.put("c/a/f", "host")
	r.put("b/x", "host")
	r.open()
	r.rename("c/a", "b/b")
	_, _, refused := r.apply(r.all())
	r.none(refused)
	r.remove("c", true)
	r.mkdir("c")
	r.undo("")
	r.expect("b/b moved directory from c/a")
	_, refused = r.discard(r.all())
	r.none(refused)
	r.expect()
	if saw := r.sees(); saw != r.picture(r.lower) {
		t.Errorf("the guest sees\n%s\nthe folder is\n%s", saw, r.picture(r.lower))
	}
}

// TestADiscardOfManyChangesAnswersInSlices_AndInTimeThatGrowsWithTheirNumber: lines of their own, and one line of many.
func TestADiscardOfManyChangesAnswersInSlices_AndInTimeThatGrowsWithTheirNumber(t *testing.T) {
	for _, ignored := range []bool{false, true} {
		t.Run(fmt.Sprint("ignored: ", ignored), func(t *testing.T) {
			r := newRig(t)
			r.put("kept", "host")
			if ignored {
				r.put(".gitignore", "n/\n")
			}
			r.open()
			r.mkdir("n")
			dir := r.at("n")
			for i := range 3000 {
				_, err := dir.Mkdir(fmt.Sprint(i), 0o755)
				must(t, err)
			}
			dir.Drop()
			what, begin := r.all(), time.Now()
			slice, err := r.set.Discard(what)
			for must(t, err); slice.Remaining > 0; must(t, err) {
				if took := time.Since(begin); took > 20*time.Second {
					t.Fatalf("not done after %v", took)
				}
				one := time.Now()
				slice, err = r.set.DiscardMore(slice.Batch)
				if took := time.Since(one); took > 6*time.Second {
					t.Errorf("one slice took %v", took)
				}
			}
			r.none(nil)
			r.expect()
			if saw := r.sees(); saw != r.picture(r.lower) {
				t.Errorf("the guest sees\n%s", saw)
			}
			t.Log(time.Since(begin))
		})
	}
}

// The host may put something into a directory that the task removed and made again, or make that anew: the task does not see it, and nothing
// but the directory's own line tells that.
func TestADirectoryMadeAgainIsListedWhileItHidesWhatTheHostPutThere(t *testing.T) {
	anew := func(r *rig) { must(t, os.Remove(r.host("d"))); must(t, os.Mkdir(r.host("d"), 0o755)) }
	for name, c := range map[string]struct {
		host          func(*rig)
		line, chosen  string
		done, refused int
	}{
		"there, discarded":        {func(*rig) {}, "d attributes directory", "discard", 1, 0},
		"there, applied":          {func(*rig) {}, "d attributes directory", "apply", 1, 0},
		"the host's, discarded":   {anew, "d attributes directory conflict changed", "discard", 1, 0},
		"the host's, not applied": {anew, "d attributes directory conflict changed", "apply", 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			must(t, os.Mkdir(r.host("d"), 0o755))
			r.open()
			r.remove("d", true)
			r.mkdir("d")
			c.host(r)
			r.expect() // control: it hides nothing
			r.put("d/host", "the host's")
			r.expect(c.line)
			seen := func() bool { _, there := r.view()["d/host"]; return there }
			if seen() {
				t.Fatal("it is seen already")
			}
			var done int
			var refused []string
			if c.chosen == "discard" {
				done, refused = r.discard(r.chosen("d"))
			} else {
				_, done, refused = r.apply(r.all())
			}
			if done != c.done || len(refused) != c.refused {
				t.Errorf("%d done, refused %v", done, refused)
			}
			if done > 0 {
				r.expect()
			}
			if seen() != (done > 0) {
				t.Error("its line is gone and it is hidden still, or it shows and its line stays")
			}
			r.content("d/host", "the host's")
		})
	}
}
