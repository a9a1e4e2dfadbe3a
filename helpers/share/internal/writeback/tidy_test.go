//go:build linux

package writeback

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

const keepInTests = 24 * time.Hour

// as gives the folder's world to another writer.
func (w *world) as(writer string) *world {
	w.writer = writer
	return w
}

// applied has a writer replace, delete and make files of its own as an apply "a", and end; it gives the folder as it was before that.
func (w *world) applied(writer string, settled bool) (before map[string]string) {
	w.t.Helper()
	for _, name := range []string{"replaced", "deleted"} {
		w.put(writer+"/"+name, writer+"'s "+name, 0o644)
	}
	before = w.tree()
	f := w.as(writer).folder()
	defer f.Close()
	results, err := f.Apply("a", groups(w.replace(writer+"/replaced", "new"), w.remove(writer+"/deleted"), mkdir(writer+"/made")))
	must(w.t, errors.Join(err, results[0].Err, results[1].Err, results[2].Err))
	if settled {
		must(w.t, f.Settled())
	}
	return before
}

// age makes all that a writer's journal tells of older than what is kept.
func (w *world) age(writer string) {
	w.t.Helper()
	path := filepath.Join(w.store, "applies", writer+".log")
	data, err := os.ReadFile(path)
	must(w.t, err)
	records, whole, err := parse(writer, data)
	must(w.t, err)
	var out []byte
	for i := range records {
		if records[i].Begin != nil {
			records[i].Begin.TimeMs -= (keepInTests + time.Hour).Milliseconds()
		}
		line, err := encode(&records[i])
		must(w.t, err)
		out = append(out, line...)
	}
	must(w.t, os.WriteFile(path, append(out, data[whole:]...), 0o600))
}

// stored lists what the store has of a writer.
func (w *world) stored(writer string) (names []string) {
	w.t.Helper()
	for _, pattern := range []string{writer + ".log", writer, writer + "/*"} {
		found, err := filepath.Glob(filepath.Join(w.store, "applies", pattern))
		must(w.t, err)
		for _, path := range found {
			name, err := filepath.Rel(filepath.Join(w.store, "applies"), path)
			must(w.t, err)
			names = append(names, name)
		}
	}
	return names
}

var storedWhole = []string{"gone.log", "gone", "gone/1", "gone/2"}

func TestWhatAnApplyOfARemovedTaskTookOutGoesAfterItsTime(t *testing.T) {
	for what, c := range map[string]struct {
		prepare func(t *testing.T, w *world)
		stays   bool
	}{
		"its time is over": {func(_ *testing.T, w *world) { w.applied("gone", true); w.age("gone") }, false},
		"taken back long ago": {func(t *testing.T, w *world) {
			w.applied("gone", true)
			f := w.folder()
			undoAll(t, f, "a")
			must(t, f.Settled())
			f.Close()
			w.age("gone")
		}, false},
		"its time is not over": {func(_ *testing.T, w *world) { w.applied("gone", true) }, true},
		"only the older of two is over": {func(t *testing.T, w *world) {
			w.applied("gone", true)
			w.age("gone")
			w.keep = 0 // so that this start of its own leaves the older one
			f := w.folder()
			w.keep = keepInTests
			results, err := f.Apply("b", []Step{mkdir("gone/later")})
			allDone(t, results, err)
			must(t, f.Settled())
			f.Close()
		}, true},
		"its task was not told of it yet": {func(_ *testing.T, w *world) { w.applied("gone", false); w.age("gone") }, true},
		"it is kept for ever":             {func(_ *testing.T, w *world) { w.applied("gone", true); w.age("gone"); w.keep = 0 }, true},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			w.keep = keepInTests
			c.prepare(t, w)
			before, folder := w.stored("gone"), w.tree()
			if !slices.Contains(before, "gone.log") || !slices.Contains(before, "gone/1") {
				t.Fatalf("the store has %v before", before)
			}
			w.as("other").folder()
			if got := w.stored("gone"); c.stays && !slices.Equal(got, before) || !c.stays && len(got) > 0 {
				t.Errorf("the store has %v, had %v", got, before)
			}
			same(t, "the folder", w.tree(), folder)
		})
	}
}

func TestWhatAStoppedTaskAppliedLatelyIsTakenBackExactly_AfterOtherTasksStarts(t *testing.T) {
	w := newWorld(t)
	w.keep = keepInTests
	before := w.applied("gone", true)
	for range 2 {
		w.as("other").folder().Close()
	}
	undoAll(t, w.as("gone").folder(), "a")
	same(t, "undone", w.tree(), before)
}

func TestWhatALiveTaskAppliedStaysForItHoweverOld(t *testing.T) {
	w := newWorld(t)
	before := w.applied("gone", true)
	live := w.as("gone").folder() // with Keep 0, as one that began while the apply was young
	w.age("gone")
	w.keep = keepInTests
	w.as("other").folder().Close()
	if got := w.stored("gone"); !slices.Equal(got, storedWhole) {
		t.Errorf("the store has %v, had %v", got, storedWhole)
	}
	undoAll(t, live, "a")
	same(t, "undone", w.tree(), before)
	must(t, live.Settled())
	live.Close()
	w.age("gone")
	w.as("other").folder()
	if got := w.stored("gone"); len(got) > 0 { // control
		t.Errorf("of a task that ended the store has %v", got)
	}
}

func TestAnApplyThatIsHalfDoneIsRecoveredAndItsJournalStays_HoweverOld(t *testing.T) {
	w := newWorld(t)
	w.keep = keepInTests
	steps := everything(w)
	before := w.tree()
	var f *Folder
	reached, _ := w.crashing(60, func() { f = w.as("gone").folder(); _, _ = f.Apply("a", steps) })
	f.Close()
	w.age("gone")
	if !reached || difference(w.tree(), before) == "" {
		t.Fatal("nothing is half-done")
	}
	w.as("other").folder()
	same(t, "recovered", w.tree(), before)
	if got := w.stored("gone"); !slices.Contains(got, "gone.log") {
		t.Errorf("the store has %v", got)
	}
}

func TestATasksOwnOldJournalGoes_AndItAppliesAndUndoesOn(t *testing.T) {
	w := newWorld(t)
	w.keep = keepInTests
	w.applied("gone", true)
	w.age("gone")
	f := w.folder()
	if got := w.stored("gone"); !slices.Equal(got, []string{"gone"}) {
		t.Errorf("the store has %v", got)
	}
	before := w.tree()
	results, err := f.Apply("b", []Step{w.replace("gone/replaced", "newer")})
	allDone(t, results, err)
	must(t, f.Settled())
	f.Close()
	f = w.folder()
	if list := f.Applies(); len(list) != 1 || list[0].Apply != "b" {
		t.Errorf("applies: %+v", list)
	}
	undoAll(t, f, "b")
	same(t, "undone", w.tree(), before)
}

func TestWhatAnUndoTookOutIsThereUntilItsTaskWasTold_HoweverOld(t *testing.T) {
	w := newWorld(t)
	w.keep = keepInTests
	w.applied("gone", true)
	f := w.folder()
	undoAll(t, f, "a")
	f.Close()
	w.age("gone")
	f = w.folder()
	var taken []string
	for _, u := range f.Unsettled() {
		if u.Taken == nil || u.Taken.Kind != File {
			continue
		}
		file, err := u.Taken.Open()
		must(t, err)
		data, err := io.ReadAll(file)
		must(t, errors.Join(err, file.Close()))
		taken = append(taken, string(data))
	}
	if !slices.Equal(taken, []string{"new"}) {
		t.Errorf("taken out was %q", taken)
	}
	must(t, f.Settled())
	f.Close()
	w.folder()
	if got := w.stored("gone"); !slices.Equal(got, []string{"gone"}) { // control
		t.Errorf("the store has %v", got)
	}
}

func TestACrashAtAnyPointOfForgettingIsResumed_AndWhatMayBeTakenBackIs(t *testing.T) {
	points := map[string]bool{}
	for n := 1; ; n++ {
		w := newWorld(t)
		w.keep = keepInTests
		old := []string{"gone", "gone-too", "own"}
		for _, writer := range old {
			w.applied(writer, true)
		}
		before := w.applied("young", true)
		for _, writer := range old {
			w.age(writer)
		}
		folder := w.tree()
		w.as("own")
		reached, at := w.crashing(n, func() { w.folder() })
		points[at] = true
		what := fmt.Sprintf("crash %d (%s)", n, at)
		same(t, what+", the folder", w.tree(), folder)
		if reached { // whoever comes back goes on with what is left of it, and begins anew
			f := w.as("gone").folder()
			results, err := f.Apply("b", []Step{w.replace("gone/replaced", "newer")})
			allDone(t, results, err)
			undoAll(t, f, "b")
			must(t, f.Settled())
			f.Close()
			same(t, what+", applied and undone", w.tree(), folder)
			w.age("gone")
		}
		w.as("own").folder()
		for _, writer := range []string{"gone", "gone-too"} {
			if got := w.stored(writer); len(got) > 0 {
				t.Errorf("%s: the store has %v", what, got)
			}
		}
		if got := w.stored("own"); !slices.Equal(got, []string{"own"}) {
			t.Errorf("%s: the store has %v", what, got)
		}
		undoAll(t, w.as("young").folder(), "a")
		same(t, what+", undone", w.tree(), before)
		if !reached {
			if n < 10 { // three journals and two files of each
				t.Errorf("only %d points", n-1)
			}
			delete(points, "")
			t.Logf("crashed at %d points of %d kinds", n-1, len(points))
			return
		}
	}
}

func TestAStartRemovesABoundedNumberOfOldFiles_AndTheNextOnesTheRest(t *testing.T) {
	w := newWorld(t)
	w.keep = keepInTests
	dir := filepath.Join(w.store, "applies", "gone")
	must(t, os.MkdirAll(dir, 0o700))
	for i := range maxForgotten + 2 {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i+1)), nil, 0o600))
	}
	w.as("other").folder().Close()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("%d files are left, %v", len(left), err)
	}
	w.folder()
	if got := w.stored("gone"); len(got) > 0 {
		t.Errorf("the store has %v", got)
	}
}

func TestADamagedJournalOfAnotherTaskIsNamedAndLeft_WithAllThatIsOld(t *testing.T) {
	w := newWorld(t)
	w.keep = keepInTests
	w.applied("gone", true)
	w.applied("damaged", true)
	w.age("gone")
	w.age("damaged")
	log := filepath.Join(w.store, "applies", "damaged.log")
	whole, err := os.ReadFile(log)
	must(t, err)
	bad := slices.Clone(whole)
	bad[len(bad)/2] ^= 1
	must(t, os.WriteFile(log, bad, 0o600))
	var damage *Damage
	if _, err := w.as("other").open(); !errors.As(err, &damage) || damage.Log != "damaged.log" {
		t.Errorf("ended with %v", err)
	}
	if now, err := os.ReadFile(log); err != nil || !slices.Equal(now, bad) {
		t.Errorf("the damaged journal was changed, %v", err)
	}
	if got := w.stored("gone"); !slices.Equal(got, storedWhole) {
		t.Errorf("the store has %v", got)
	}
	must(t, os.WriteFile(log, whole, 0o600))
	w.folder() // control
}
