//go:build linux

package changes_test

import "testing"

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
			r.crash = func(at string) {
				if at == point {
					r.crash = nil
					r.guest("a", "again")
					r.remove("a", false)
					r.mkdir("d")
					r.guest("d/in", "again")
					r.remove("d/in", false)
					r.remove("d", true)
				}
			}
			_, _, refused := r.apply(what)
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
