//go:build linux

package changes_test

import (
	"errors"
	"testing"

	"cloche/share/internal/ninep"
)

// patiently asks again as long as something is in the way, as a session does.
func (r *rig) patiently(do func() error) {
	r.t.Helper()
	for {
		err := do()
		var later *ninep.Later
		if !errors.As(err, &later) {
			must(r.t, err)
			return
		}
		<-later.Done
	}
}

// meanwhile has the guest act when the apply is at a point: with now before it goes on, and with beside next to it. The result waits for
// the guest.
func (r *rig) meanwhile(point string, now, beside func()) (join func()) {
	done := make(chan struct{})
	r.crash = func(at string) {
		if at == point {
			r.crash = nil
			now()
			go func() {
				defer close(done)
				beside()
			}()
		}
	}
	return func() { <-done }
}

func TestWhatTheGuestRenamesOrRemovesDuringAnApplyIsAChangeOfWhatWasApplied(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(r *rig)
		want []string
	}{
		"the file is removed":                 {func(r *rig) { r.remove("d/f", false) }, []string{"d/f deleted file"}},
		"the file is renamed":                 {func(r *rig) { r.rename("d/f", "g") }, []string{"g moved file from d/f"}},
		"the directory above is renamed":      {func(r *rig) { r.rename("d", "q") }, []string{"q moved directory from d"}},
		"another file is renamed to its name": {func(r *rig) { r.rename("kept", "d/f") }, []string{"d/f moved file from kept"}},
	} {
		for _, point := range []string{"begun", "prepared", "renamed", "done"} {
			t.Run(name+" "+point, func(t *testing.T) {
				r := newRig(t)
				r.put("d/f", "old")
				r.put("kept", "of the host")
				r.open()
				r.guest("d/f", "shown")
				what := r.chosen("d/f")
				join := r.meanwhile(point, func() {}, func() { c.do(r) })
				_, _, refused := r.apply(what)
				join()
				r.none(refused)
				r.content("d/f", "shown")
				r.expect(c.want...)
				saw := r.sees()
				r.open()
				if now := r.sees(); now != saw {
					t.Errorf("after another start the guest sees\n%s\nnot\n%s", now, saw)
				}
				_, _, refused = r.apply(r.all())
				r.none(refused)
				if folder := r.picture(r.lower); folder != saw {
					t.Errorf("the folder has\n%s\nnot\n%s", folder, saw)
				}
			})
		}
	}
}

// The guest makes what is being deleted, and deletes it again: nothing is left to tell, and nothing to fall over.
func TestAFileMadeAndDeletedAgainWhileItsDeletionIsAppliedLeavesNothing(t *testing.T) {
	for _, point := range []string{"begun", "renamed", "done", "cleaned"} {
		t.Run(point, func(t *testing.T) {
			r := newRig(t)
			r.put("a", "old")
			r.put("d/in", "old")
			r.open()
			r.remove("a", false)
			r.remove("d/in", false)
			r.remove("d", true)
			what := r.chosen("a", "d/in", "d")
			join := r.meanwhile(point, func() {
				r.guest("a", "again")
			}, func() {
				r.remove("a", false)
				r.mkdir("d")
				r.guest("d/in", "again")
				r.remove("d/in", false)
				r.remove("d", true)
			})
			_, _, refused := r.apply(what)
			join()
			t.Log(refused)
			for _, c := range r.list() {
				if _, err := r.set.Diff(c.ID, "change", 3, 0, 1<<20); err != nil {
					t.Errorf("%s: %v", c.Path, err)
				}
			}
			r.apply(r.all())
			r.expect()
			r.open()
			r.expect()
		})
	}
}
